"""A one-minute demonstration: BC, TD3+BC and ReBRAC, three seeds each, on the embedded `pendulum-replay`.

    make demo

Four transitions arrive at a time (γ = 4), with one update after each arrival. When all the data has arrived,
the same agents continue online. Networks and minibatches are small and learning rates high, so that few
updates are enough. The script accepts every flag of `seqeval run` except --preset.
"""

from __future__ import annotations

from pathlib import Path

from seqeval import Evaluation, Online, Protocol, Study
from seqeval.cli import script

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(
        "bc:hidden=(64,64),batch_size=128,name=bc",
        "td3_bc:hidden=(64,64),batch_size=128,learning_rate=1e-3,name=td3_bc",
        "rebrac:hidden=(64,64),batch_size=128,actor_penalty=0.3,critic_penalty=0.01,name=rebrac",
    ),
    seeds=(0, 1, 2),
    protocol=Protocol(start=1000, grow_by=4),
    online=Online(steps=600),
    evaluation=Evaluation(points=10, episodes=10),
)

if __name__ == "__main__":
    script(STUDY, Path("runs/demo"), __doc__)
