"""A sweep of 9 settings of each of three algorithms on two logs, two seeds: the figures of docs/tuning.md.

    python experiments/sweep.py FOLDER --out runs/sweep

FOLDER holds hopper_replay-zoo.hdf5 and halfcheetah_replay-zoo.hdf5: 100 000 transitions each of trained
Stable-Baselines3 agents. Networks are small (64, 64), minibatches have 128 transitions, and there are about
3 800 updates: not the settings of the authors, who use larger networks and up to a million updates. OUT is
one study directory, with the policy of every point, so that `seqeval choose OUT` can run episodes with them.
If it is interrupted, run it again to resume. Needs `pip install 'seqeval-rl[fast]'`.
"""

from __future__ import annotations

from pathlib import Path

import tyro

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, Sweep
from seqeval.cli import handle_errors, plain_console

DATASETS = ("hopper_replay-zoo", "halfcheetah_replay-zoo")
SMALL = {"hidden": [(64, 64)], "batch_size": [128]}
FQE = "fqe:updates=300,hidden=(64,64),batch_size=128,learning_rate=1e-3,target_rate=0.05"
SWEEPS = (
    Sweep("td3_bc", {**SMALL, "alpha": [1.0, 2.5, 10.0], "learning_rate": [1e-4, 3e-4, 1e-3]}),
    Sweep("iql", {**SMALL, "expectile": [0.5, 0.7, 0.9], "temperature": [1.0, 3.0, 10.0]}),
    Sweep("rebrac", {**SMALL, "actor_penalty": [0.001, 0.01, 0.1], "critic_penalty": [0.0, 0.01, 0.1]}),
)


def study(folder: Path) -> Study:
    return Study(
        datasets=tuple(str(folder / f"{name}.hdf5") for name in DATASETS),
        algorithms=SWEEPS,
        seeds=(0, 1),
        protocol=Protocol(start=5000, grow_by=1000, updates_per_growth=40, order="episodes"),
        evaluation=Evaluation(
            points=6,
            episodes=5,
            backend="envpool",
            metrics=("episodes", "prequential", "initial-value", FQE),
        ),
    )


def main(folder: tyro.conf.Positional[Path], out: Path = Path("runs/sweep"), jobs: int | None = None) -> None:
    settings = Execution(jobs=jobs, keep_policies=True)
    seqeval.run(study(folder), out, settings, plain_console(stderr=True))


if __name__ == "__main__":
    with handle_errors("sweep"):
        tyro.cli(main, description=__doc__)
