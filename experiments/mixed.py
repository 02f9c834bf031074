"""The third figure of the paper: data whose distribution changes along the way.

    python experiments/mixed.py --out runs/mixed
    python experiments/mixed.py --datasets mix:pendulum-replay:4000+pendulum-replay --protocol.window 4000 \
        --seeds 0 1 --out runs/small

The first 333 000 transitions of D4RL's random data, then of medium, then of expert, where minibatches are
sampled from the newest 200 000. Sujit, Braga, Bornschein, Ebrahimi Kahou (arXiv 2212.08131), figure 3,
without the leaks of their code. It takes every flag of `seqeval run`.
"""

from __future__ import annotations

from pathlib import Path

from seqeval import Study
from seqeval.cli import script
from seqeval.config import PRESETS

TASKS = ("halfcheetah", "hopper", "walker2d")
PROTOCOL, EVALUATION = PRESETS["mixed"]
STUDY = Study(
    datasets=tuple(
        f"mix:{task}-random-v2:333000+{task}-medium-v2:333000+{task}-expert-v2:333000,name={task}-mixed"
        for task in TASKS
    ),
    algorithms=("awac", "bc", "cql", "iql", "td3_bc"),
    seeds=(0, 1, 2, 3, 4),
    protocol=PROTOCOL,
    evaluation=EVALUATION,
)

if __name__ == "__main__":
    script(STUDY, Path("runs/mixed"), __doc__)
