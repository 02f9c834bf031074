"""Thirteen algorithms on logged data of Hopper and HalfCheetah, two seeds: the table of docs/results.md.

    python experiments/shared_data.py FOLDER --out runs/shared_data

FOLDER holds hopper_medium-zoo.hdf5, hopper_replay-zoo.hdf5, halfcheetah_medium-zoo.hdf5 and
halfcheetah_replay-zoo.hdf5: 100 000 transitions each of trained Stable-Baselines3 agents. Networks are small
(128, 128), minibatches have 128 transitions, and there are about 8 600 updates: not the settings of the
authors, who use larger networks and up to a million updates. OUT/halfcheetah and OUT/hopper are study
directories, and OUT/longer one with four times as many updates of three algorithms. If it is interrupted, run
it again to resume. Needs `pip install 'seqeval-rl[fast]'`.
"""

from __future__ import annotations

from pathlib import Path

import tyro

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study
from seqeval.cli import handle_errors, plain_console
from seqeval.cli.statistics import table

SMALL = "hidden=(128,128),batch_size=128"
SEQUENCES = "batch_size=32,context=10,embedding=64,learning_rate_warmup=1000,learning_rate=1e-3"
PENALTIES = {  # of ReBRAC, for actor and critic
    "hopper": "actor_penalty=0.01,critic_penalty=0.001",
    "halfcheetah": "actor_penalty=0.001,critic_penalty=0.01",
}
TARGETS = {"hopper": 3600.0, "halfcheetah": 6000.0}  # returns that DT is asked for
QUICK = ("bc", "td3_bc", "iql", "rebrac", "awac")
SLOW = ("fql", "edac", "cql", "sac_n")
EPISODES = ("bc10", "dt", "qc_fql", "cal_ql")  # need whole episodes, which halfcheetah_replay-zoo lacks
MEDIUM, REPLAY = ("halfcheetah_medium-zoo",), ("halfcheetah_replay-zoo",)
HOPPER = ("hopper_medium-zoo", "hopper_replay-zoo")
UPDATES, MORE_UPDATES = 100, 400  # after each 1000 transitions
STUDIES = (  # folder, environment, datasets, algorithms, updates; the quick ones first
    ("halfcheetah", "halfcheetah", MEDIUM, (*QUICK, "bc10"), UPDATES),
    ("hopper", "hopper", HOPPER, (*QUICK, "bc10"), UPDATES),
    ("halfcheetah", "halfcheetah", REPLAY, QUICK, UPDATES),
    ("longer", "halfcheetah", MEDIUM, ("td3_bc", "rebrac", "bc"), MORE_UPDATES),
    ("halfcheetah", "halfcheetah", MEDIUM, (*QUICK, *SLOW, *EPISODES), UPDATES),
    ("hopper", "hopper", HOPPER, (*QUICK, *SLOW, *EPISODES), UPDATES),
    ("halfcheetah", "halfcheetah", REPLAY, (*QUICK, *SLOW), UPDATES),
)


def variant(name: str, environment: str) -> str:
    """An algorithm with its settings, as `--algorithms` takes it."""
    settings = {
        "rebrac": f"{SMALL},{PENALTIES[environment]}",
        "awac": f"{SMALL},actor_hidden=(128,128)",
        "fql": f"{SMALL},normalize_q=True",
        "qc_fql": f"{SMALL},normalize_q=True",
        "dt": f"{SEQUENCES},target_returns=({TARGETS[environment]},)",
    }
    return f"{name}:{settings.get(name, SMALL)},name={name}"


def study(
    folder: Path, environment: str, datasets: tuple[str, ...], algorithms: tuple[str, ...], updates: int
) -> Study:
    return Study(
        datasets=tuple(str(folder / f"{name}.hdf5") for name in datasets),
        algorithms=tuple(variant(name, environment) for name in algorithms),
        seeds=(0, 1),
        protocol=Protocol(
            start=5000, grow_by=1000, updates_per_growth=updates, order="episodes", hold_out=0.1
        ),
        evaluation=Evaluation(
            points=8,
            episodes=5,
            backend="envpool",
            metrics=("episodes", "prequential", "initial-value", "held-out", "fqe:updates=200"),
        ),
    )


def main(
    folder: tyro.conf.Positional[Path], out: Path = Path("runs/shared_data"), jobs: int | None = None
) -> None:
    settings = Execution(jobs=jobs, keep_policies=True)
    for name, *about in STUDIES:
        seqeval.run(study(folder, *about), out / name, settings, plain_console(stderr=True))
    table((out / "halfcheetah", out / "hopper"), format="markdown")
    table((out / "longer",), format="markdown")


if __name__ == "__main__":
    with handle_errors("shared_data"):
        tyro.cli(main, description=__doc__)
