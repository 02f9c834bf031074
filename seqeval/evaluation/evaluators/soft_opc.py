"""Soft off-policy classification: whether the critics value transitions of successful episodes more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqeval.evaluation import Evaluator, Metric, Policies, Results, VisibleData
from seqeval.evaluation.evaluators._means import complete_episodes, mean_q
from seqeval.types import Dataset


@dataclass(frozen=True)
class Config:
    success_return: float = 0.0
    """An episode is successful if its return is higher."""


class SoftOPC(Evaluator):
    """Mean Q of the logged actions on visible transitions of successful episodes, minus that on all visible
    transitions.

    Irpan et al., *Off-Policy Evaluation via Off-Policy Classification* (arXiv 1906.01624). An episode counts
    once it is complete and all of its transitions are visible: its return is not known before.
    """

    Config = Config
    metrics = {"soft_opc": Metric("discounted return", "higher")}

    @classmethod
    def notes(cls, dataset: Dataset, config: Any) -> list[str]:
        returns = dataset.episode_returns[dataset.episode_complete]
        if not len(returns) or returns.max() > config.success_return:
            return []
        return [
            f"no episode of {dataset.name} has a return above {config.success_return:g} (the best: "
            f"{returns.max():.4g}), so there is no eval/soft_opc; give a lower "
            "soft-opc:success_return=NUMBER in --evaluation.metrics"
        ]

    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        rows = visible.rows
        assert rows is not None
        successful = mean_q(agents, visible, lambda place: self._successful(visible, rows(place)), True)
        everything = mean_q(agents, visible, rows, True)
        if successful is None or everything is None:
            return {}
        pairs = zip(successful, everything, strict=True)
        return {"soft_opc": [None if s is None or e is None else s - e for s, e in pairs]}

    def _successful(self, visible: VisibleData, rows: np.ndarray) -> np.ndarray:
        """The rows of successful episodes."""
        dataset, offset = visible.dataset, visible.offset
        assert dataset is not None
        successful = complete_episodes(dataset, offset, rows)
        successful &= dataset.episode_returns > self.config.success_return
        logged = rows[(rows >= offset) & (rows < offset + len(dataset))]
        return logged[successful[dataset.episode[logged - offset]]]
