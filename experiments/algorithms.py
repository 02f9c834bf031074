"""One curve for each built-in algorithm beside BC, on the embedded `pendulum-replay`, three seeds.

    python experiments/algorithms.py               # all of them
    python experiments/algorithms.py fql qc_fql    # only these, and BC

Draws OUT/figures/<algorithm>.png, the figures of docs/algorithms.md. All algorithms have small networks and
few updates, so the whole takes minutes. Episodes arrive one after the other, as `bc10`, `dt` and `qc_fql`
require; when the data is used up, the agents continue online. If it is interrupted, run it again to resume.
"""

from __future__ import annotations

from pathlib import Path

import tyro

import seqeval
from seqeval import Evaluation, Execution, Online, Protocol, Study, UserError
from seqeval.cli import handle_errors, plain_console
from seqeval.figure_options import FigureOptions

SMALL = "hidden=(64,64),batch_size=128"
SETTINGS = {  # learning rates are higher than the defaults, since updates are few
    "bc": SMALL,
    "bc10": SMALL,
    "td3_bc": f"{SMALL},learning_rate=1e-3",
    "iql": f"{SMALL},learning_rate=1e-3",
    "awac": f"{SMALL},actor_hidden=(64,64),learning_rate=1e-3",
    "cql": f"{SMALL},sampled_actions=4,learning_rate=1e-3",
    "cal_ql": f"{SMALL},sampled_actions=4,learning_rate=1e-3",
    "rebrac": f"{SMALL},actor_penalty=0.01,critic_penalty=0.01",
    "sac_n": f"{SMALL},critics=5,actor_learning_rate=1e-3,critic_learning_rate=1e-3",
    "edac": f"{SMALL},critics=5,actor_learning_rate=1e-3,critic_learning_rate=1e-3",
    "rlpd": f"{SMALL},critics=5,learning_rate=1e-3",
    "fql": f"{SMALL},normalize_q=True,learning_rate=1e-3",
    "qc_fql": f"{SMALL},normalize_q=True,chunk_length=3,alpha=10,learning_rate=1e-3",
    "dt": (
        "batch_size=32,context=10,layers=2,embedding=32,learning_rate=1e-3,learning_rate_warmup=500,"
        "target_returns=(-150,)"
    ),
}
PROTOCOL = Protocol(start=1000, grow_by=8, order="episodes")
ONLINE = Online(steps=400)
EVALUATION = Evaluation(points=10, episodes=10)


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    seeds: tuple[int, ...] = (0, 1, 2),
    protocol: Protocol = PROTOCOL,
    online: Online = ONLINE,
    evaluation: Evaluation = EVALUATION,
    out: Path = Path("runs/algorithms"),
    jobs: int | None = None,
) -> None:
    if unknown := [name for name in names if name not in SETTINGS]:
        raise UserError(f"{unknown[0]}: no algorithm of this name; choose from {', '.join(SETTINGS)}")
    chosen = dict.fromkeys(("bc", *(names or SETTINGS)))
    study = Study(
        datasets=("pendulum-replay",),
        algorithms=tuple(f"{name}:{SETTINGS[name]},name={name}" for name in chosen),
        seeds=seeds,
        protocol=protocol,
        online=online,
        evaluation=evaluation,
    )
    rows = seqeval.run(study, out, Execution(jobs=jobs), plain_console(stderr=True))
    (out / "figures").mkdir(exist_ok=True)
    for name in chosen:
        options = FigureOptions(algorithms=tuple(dict.fromkeys((name, "bc"))), width="column")
        path = out / "figures" / f"{name}.png"
        seqeval.plots.draw(rows, options=options).savefig(path, dpi=105)
        print(path)


if __name__ == "__main__":
    with handle_errors("algorithms"):
        tyro.cli(main, description=__doc__)
