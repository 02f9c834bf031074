"""BCQ: Fujimoto, Conti, Ghavamzadeh, Pineau, *Benchmarking Batch Deep Reinforcement Learning Algorithms*
(arXiv 1910.01708); for discrete actions.

Double DQN that considers only actions which an imitation policy G finds likely enough,
A(s) = {a : G(a|s) / max G(·|s) > threshold}:

- y = r + γ Q'(s', a′), a′ = argmax of Q(s', ·) over A(s');
- loss: mean L(Q(s, a) - y) - mean log G(a|s) + penalty · mean of squared logits of G, L Huber's loss.

Settings and the penalty on logits are those of the authors' code for tasks that are not Atari games: two
layers of 256 for each of Q and G, learning rate 3e-4, Polyak averaging. As there, Q and G have no common
layers with vectors; from images each has an encoder of its own here, while theirs share the convolutions.

Departures: theirs act at random with probability 0.001 when they are evaluated, here evaluation is
deterministic; their batch size is 64. Online, actions are random with probability `exploration_rate`, as in
DQN, and the same updates continue. `strict` withholds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Spec, per_replica

from ._discrete import epsilon_greedy, huber_loss, log_prob, of_actions
from ._encoders import EncoderName, ObservationMLP, network_flops
from ._losses import td_target
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "threshold": (0, 1),
        "logit_penalty": (0, inf),
        "exploration_rate": (0, 1),
        "hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate", "threshold", "logit_penalty")
    ranges = {"threshold": "0|0.1|0.3|0.5|0.9", "learning_rate": "log(5e-5,1e-3)"}  # 0 is DQN

    learning_rate: float = 3e-4  # of critic and imitation policy
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    threshold: float = 0.3  # of an action's probability, relative to that of the most probable one
    logit_penalty: float = 1e-2  # weight of the squared logits of the imitation policy
    exploration_rate: float = 0.05  # probability of random actions online
    encoder: EncoderName = "auto"  # of images: minatar below 32 pixels, otherwise drq
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


@final
class BCQ(Algorithm):
    Config = Config
    policy_parts = ("critic", "imitation")
    action_spaces = ("discrete",)
    image_action_spaces = ("discrete",)
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        c = config
        network = (spec, c.hidden, spec.action_size, seeds, device, "uniform", c.encoder)
        self.critic = ObservationMLP("critic", *network)
        self.imitation = ObservationMLP("imitation", *network)
        self.target_critic = target_copy(self.critic)
        self.critic_optimizer = Adam(self.critic, c.learning_rate)
        self.imitation_optimizer = Adam(self.imitation, c.learning_rate)

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        target = self._target(batch)
        q = of_actions(self.critic(batch.observations), batch.actions)
        critic_loss = huber_loss(q - target)
        logits = self.imitation(batch.observations)
        imitation_loss = -log_prob(logits, batch.actions).mean(-1)
        penalty = logits.square().mean((1, 2))

        self.critic_optimizer.minimize(critic_loss)
        self.imitation_optimizer.minimize(imitation_loss + per_replica(c.logit_penalty, penalty) * penalty)
        polyak_update([self.target_critic], [self.critic], c.target_rate)
        return {
            "critic_loss": critic_loss.detach(),
            "imitation_loss": imitation_loss.detach(),
            "q": q.detach().mean(-1),
        }

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        next_actions = self.act(batch.next_observations)
        next_value = of_actions(self.target_critic(batch.next_observations), next_actions)
        return td_target(batch, next_value, self.config.discount)

    def act(self, observations: Tensor) -> Tensor:
        logits = self.imitation(observations)
        # The ratio of probabilities is exp of the difference of logits.
        ratio = (logits - logits.amax(-1, keepdim=True)).exp()
        likely = ratio > per_replica(self.config.threshold, ratio)
        # The most probable action always counts, also with a threshold of 1.
        likely = likely | (ratio == 1)
        return self.critic(observations).where(likely, -torch.inf).argmax(-1)

    @property
    def exploration_size(self) -> int:
        return 1 + self.spec.action_size

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return epsilon_greedy(self.act(observations), noise, self.config.exploration_rate)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return of_actions(self.critic(observations), actions)

    def td_error(self, batch: Batch) -> Tensor:
        return (self.q_value(batch.observations, batch.actions) - self._target(batch)).unsqueeze(1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products and convolutions in one update of one replica."""
    network, inner = network_flops(spec, config.encoder, config.batch_size, config.hidden, spec.action_size)
    return 2 * (2 * network + inner) + 3 * network
