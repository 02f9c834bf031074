"""Evaluators that keep the contract; broken ones of the tests extend them."""

from __future__ import annotations

import numpy as np
import torch

from seqeval.evaluation import Evaluator, Metric
from seqeval.seeding import stream


class Rewards(Evaluator):
    """The mean reward of the visible transitions, with noise of the seed."""

    metrics = {"seen_reward": Metric("reward", "higher")}

    def rewards(self, visible, rows):
        return float(visible.buffer.rewards[torch.from_numpy(rows)].double().mean())

    def values(self, agents, visible):
        replicas = range(len(self.seeds))
        return [self.rewards(visible, visible.rows(replica)) for replica in replicas]

    def evaluate(self, agents, visible):
        jitter = [
            0.01 * stream(seed, "jitter", n).random()
            for seed, n in zip(self.seeds, visible.samples, strict=True)
        ]
        pairs = zip(self.values(agents, visible), jitter, strict=True)
        return {"seen_reward": [value + draw for value, draw in pairs]}


class Values(Evaluator):
    """The mean Q of the first visible transition, where there are critics."""

    metrics = {"first_q": Metric("discounted return", "higher")}

    def q(self, agents, visible):
        """(R,), or None."""
        rows = torch.stack(
            [torch.from_numpy(visible.rows(replica)[:1]) for replica in range(len(self.seeds))]
        )
        return agents.q_value(visible.buffer.observations[rows.long()], visible.buffer.actions[rows.long()])

    def evaluate(self, agents, visible):
        found = self.q(agents, visible)
        if found is None:
            return {}
        values = zip(found[:, 0].tolist(), visible.reward_factors, strict=True)
        return {"first_q": [value / factor for value, factor in values]}


class Running(Rewards):
    """The mean over points of what `Rewards` finds, with a state."""

    metrics = {"running": Metric("reward", "higher")}

    def __init__(self, *given):
        super().__init__(*given)
        self.totals, self.calls = torch.zeros(len(self.seeds), dtype=torch.float64), 0

    def evaluate(self, agents, visible):
        self.totals += torch.tensor(self.values(agents, visible), dtype=torch.float64)
        self.calls += 1
        return {"running": (self.totals / self.calls).tolist()}

    def state_of(self, replica):
        return {"total": self.totals[replica].clone(), "calls": self.calls}

    def load_states(self, states):
        self.totals = torch.stack([state["total"] for state in states]).clone()
        self.calls = states[0]["calls"]


class AtZero(Evaluator):
    """The action for the observation zero; needs no data."""

    uses_data = False
    metrics = {"at_zero": Metric("actions", None)}

    def evaluate(self, agents, visible):
        size = agents.algorithm.spec.observation_size
        actions = agents.act(np.zeros((len(self.seeds), 1, size)))
        return {"at_zero": actions.reshape(len(self.seeds), -1)[:, 0].tolist()}
