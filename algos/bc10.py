"""10% BC: behavioral cloning of the best tenth of the episodes.

The baseline of Chen et al., *Decision Transformer* (arXiv 2106.01345): BC on the X % of the
episodes with the highest return, here with the network and the loss of `bc`. Of the m complete episodes that
are visible, the best max(1, ⌊share · m⌋) are imitated, by undiscounted return, and their transitions are
sampled uniformly. The `any_percent_bc.py` of CORL splits episodes after 1000 steps, and has no dropout and a
learning rate of 3e-4; its settings are the recipe here.

Under `strict` an episode counts from its last transition on: before that its return is not known. So the set
of imitated episodes changes along the curve, a transition may leave it when better episodes arrive, and new
transitions are not forced into the next minibatch. As BC it does not learn online.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from seqeval.algorithm import Sampling

from . import bc
from .bc import BC, flops

__all__ = ["BC10", "Config", "flops"]


@dataclass(frozen=True)
class Config(bc.Config):
    limits = {"share": (0, 1)}
    ranges = {"share": "0.1|0.25|0.4|1"}  # the shares in the paper's comparison

    share: float = 0.1  # of the visible complete episodes, those of highest return


@final
class BC10(BC):
    Config = Config
    needs_episodes = "complete"

    @property
    def sampling(self) -> Sampling:
        return Sampling(best_episodes=self.config.share)
