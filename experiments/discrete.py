"""Curves of the algorithms for discrete actions, three seeds: on embedded data from images, and from vectors.

    python experiments/discrete.py                    # both
    python experiments/discrete.py cartpole-replay    # vectors only

Draws OUT/figures/<dataset>.png, the figures of docs/algorithms.md. Networks are small and updates few, so
each takes less than half an hour on two cores. Evaluations on `breakout-replay` need the extra `minatar`. If
it is interrupted, run it again to resume.
"""

from __future__ import annotations

from pathlib import Path

import tyro

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, UserError
from seqeval.cli import handle_errors, plain_console
from seqeval.figure_options import FigureOptions

NAMES = ("bc", "cql", "iql", "bcq", "sb3:DQN")


def algorithms(settings: str, dqn: str) -> tuple[str, ...]:
    """All algorithms with common settings, and those of DQN."""
    return tuple(
        f"{name}:{dqn if name.startswith('sb3') else settings},name={name.removeprefix('sb3:').lower()}"
        for name in NAMES
    )


STUDIES = {  # target networks of DQN are copied, those of the others averaged
    "breakout-replay": Study(
        ("breakout-replay",),
        # The encoder is the whole network, as in the experiments of MinAtar's authors.
        algorithms(
            "hidden=(),batch_size=64,learning_rate=3e-4",
            "net_arch=(),batch_size=64,learning_rate=3e-4,target_update_interval=200",
        ),
        seeds=(0, 1, 2),
        protocol=Protocol(start=2_000, grow_by=4),
        evaluation=Evaluation(points=8, episodes=10),
    ),
    "cartpole-replay": Study(
        ("cartpole-replay",),
        algorithms(
            "hidden=(64,64),batch_size=64,learning_rate=1e-3",
            "net_arch=(64,64),batch_size=64,learning_rate=1e-3,target_update_interval=200",
        ),
        seeds=(0, 1, 2),
        protocol=Protocol(start=1_000, grow_by=4),
        evaluation=Evaluation(points=8, episodes=10),
    ),
}


def main(
    datasets: tyro.conf.Positional[tuple[str, ...]] = tuple(STUDIES),
    out: Path = Path("runs/discrete"),
    jobs: int | None = None,
) -> None:
    if unknown := [name for name in datasets if name not in STUDIES]:
        raise UserError(f"{unknown[0]}: no study of this dataset; choose from {', '.join(STUDIES)}")
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name in datasets:
        execution = Execution(jobs=jobs)
        rows = seqeval.run(STUDIES[name], out / name, execution, plain_console(stderr=True))
        path = out / "figures" / f"{name}.png"
        seqeval.plots.draw(rows, options=FigureOptions(width="column")).savefig(path, dpi=105)
        print(path)


if __name__ == "__main__":
    with handle_errors("discrete"):
        tyro.cli(main, description=__doc__)
