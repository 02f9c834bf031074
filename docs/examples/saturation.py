"""An evaluator: the share of the policy's actions that are at a bound, on observations that it has seen."""

from dataclasses import dataclass

import numpy as np
import torch

from seqeval import UserError
from seqeval.evaluation import Evaluator, Metric


@dataclass(frozen=True)
class Config:
    count: int = 256  # observations


class Saturation(Evaluator):
    Config = Config
    metrics = {"saturation": Metric("share of actions", None)}  # neither higher nor lower is better

    @classmethod
    def check(cls, dataset, study):
        if dataset.actions.ndim == 1:
            raise UserError(
                "saturation: discrete actions have no bounds; remove it from --evaluation.metrics"
            )

    def evaluate(self, agents, visible):
        rows = [visible.rows(replica) for replica in range(len(self.seeds))]  # in their order of arrival
        chosen = [r[np.linspace(0, len(r) - 1, self.config.count).astype(int)] for r in rows]
        observations = torch.stack([visible.buffer.observations[c] for c in chosen])
        actions = agents.policy_actions(observations)  # (R, count, action), in [-1, 1]
        at_bound = actions.abs() > 0.99
        return {"saturation": at_bound.float().mean((1, 2)).tolist()}  # a number for each replica
