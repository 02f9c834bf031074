"""Behavioral cloning: a deterministic policy by regression on the data's actions; for discrete actions, a
classifier.

Pomerleau, *ALVINN* (NeurIPS 1988). The loss is the mean squared error of tanh π(s), or the cross-entropy for
discrete actions.

Learning rate 1e-3 and dropout 0.1 are those of the BC baseline in the code of IQL (arXiv 2110.06169), which
the paper on sequential evaluation runs. Departures from it: that baseline maximises a likelihood; its
learning rate decays by a cosine, here with `protocol.learning_rate_decay` only, since `strict` keeps the rate
constant: a curve must not depend on how much data is still to come. BC does not learn online, where it would
imitate itself: its online points re-evaluate the policy learned offline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Noise, Spec

from ._networks import MLP, dropout_masks, matmul_flops
from ._optim import Adam


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {"learning_rate": (0, inf), "dropout": (0, 0.99), "hidden": (1, inf)}
    batchable = ("learning_rate",)
    ranges = {"learning_rate": "log(1e-4,3e-3)"}

    learning_rate: float = 1e-3
    decay_learning_rate: bool = False  # to 0 by a cosine; set by protocol.learning_rate_decay
    dropout: float = 0.1  # probability of leaving out a hidden unit in an update
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


class BC(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    action_spaces = ("continuous", "discrete")
    learns_online = False
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = [spec.observation_size, *config.hidden, spec.action_size]
        self.actor = MLP("actor", sizes, seeds, device, "orthogonal")
        decay_over = total_updates if config.decay_learning_rate else None
        self.optimizer = Adam(self.actor, config.learning_rate, decay_over=decay_over)

    @property
    def noise(self) -> Mapping[str, Noise]:
        return dropout_masks(self.config.batch_size, self.config.hidden, self.config.dropout)

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return config.decay_learning_rate

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.updates += 1
        masks = [batch.noise[name] for name in self.noise]
        outputs = self.actor(batch.observations, masks, gain=1 / (1 - self.config.dropout))
        if self.spec.discrete:
            chosen = outputs.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
            loss = (outputs.logsumexp(-1) - chosen).mean(-1)
        else:
            loss = (outputs.tanh() - batch.actions).square().mean((1, 2))
        self.optimizer.minimize(loss)
        return {"loss": loss.detach()}

    def act(self, observations: Tensor) -> Tensor:
        outputs = self.actor(observations)
        return outputs.argmax(-1) if self.spec.discrete else outputs.tanh()

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        if not self.spec.discrete:
            return None
        return self.actor(observations).log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    actor, inner = matmul_flops(config.batch_size, spec.observation_size, *config.hidden, spec.action_size)
    return 2 * actor + inner
