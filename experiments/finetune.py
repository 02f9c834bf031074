"""The second figure of the paper: the agents of figure 1 continue online for 500 000 steps, on the same axis.

    python experiments/finetune.py --out runs/finetune
    python experiments/finetune.py --datasets hopper-replay --seeds 0 1 --online.steps 20000 --out runs/small

Sujit, Braga, Bornschein, Ebrahimi Kahou (arXiv 2212.08131), figure 2, without the leaks and bugs of their
code: nothing offline is overwritten, timeouts are bootstrapped, agents explore. It takes every flag of
`seqeval run`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from figure1 import STUDY

from seqeval import Online
from seqeval.cli import script

if __name__ == "__main__":
    script(replace(STUDY, online=Online(steps=500_000)), Path("runs/finetune"), __doc__)
