"""The suite in three minutes: BC, TD3+BC and IQL, 3 seeds each, on the embedded dataset `pendulum-replay`.

    make demo        or        python experiments/demo.py [--out runs/demo]

The data arrives four transitions at a time (γ = 4) and each arrival is followed by one update.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqeval import Evaluation, Protocol, Study

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc", "td3_bc", "iql"),
    seeds=(0, 1, 2),
    protocol=Protocol(start=1000, grow_by=4),
    evaluation=Evaluation(points=20, episodes=10),
)


@dataclass
class Options:
    out: Path = Path("runs/demo")
