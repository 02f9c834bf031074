"""The first figure of the paper: five algorithms on twelve datasets of D4RL as they arrive.

    python experiments/figure1.py --out runs/figure1
    python experiments/figure1.py --datasets hopper-replay --seeds 0 1 --out runs/small

Sujit, Braga, Bornschein, Ebrahimi Kahou (arXiv 2212.08131), figure 1, without the leaks of their code. It
takes every flag of `seqeval run`. A job is one algorithm on one dataset with all five seeds. Run the same
command again to resume.
"""

from __future__ import annotations

from pathlib import Path

from seqeval import Study
from seqeval.cli import script

STUDY = Study(
    datasets=tuple(
        f"{task}-{level}-v2"
        for task in ("halfcheetah", "hopper", "walker2d")
        for level in ("random", "medium", "medium-replay", "medium-expert")
    ),
    algorithms=("awac", "bc", "cql", "iql", "td3_bc"),
    seeds=(0, 1, 2, 3, 4),
)

if __name__ == "__main__":
    script(STUDY, Path("runs/figure1"), __doc__)
