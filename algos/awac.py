"""AWAC: Nair, Gupta, Dalal, Levine, *Accelerating Online Reinforcement Learning with Offline Datasets* (arXiv
2006.09359).

An off-policy critic, and an actor that imitates the data's actions, weighted by their advantage:

- critics: y = r + γ min Q'(s', a′), a′ ~ π(s');
- actor: -Σ w log π(a|s), w = softmax(A/λ) over the minibatch, A = min Q(s, a) - min Q(s, a″), a″ ~ π(s).

The values and the architecture are those of jaxrl, which the paper on sequential evaluation runs: four hidden
layers in the actor, whose last layer starts orthogonal with gain 1 (all other layers √2), λ = 2. The authors'
rlkit differs: minibatches of 1024, pre-training, an initial std of 0.05.

Departures: minibatches of 256, as in all algorithms of that paper; the losses of the twin critics are summed,
not averaged; samples of the policy are not squashed (its mean is); the actor's weight decay is decoupled
(AdamW). Online, as in the paper, actions are sampled from the policy, and clipped to [-1, 1]. `strict`
withholds nothing: all that is used arrives with its transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Noise, Spec

from ._losses import ensemble_loss, softmax_weights, td_target
from ._networks import Critics, GaussianActor, matmul_flops
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "beta": (1e-6, inf),
        "weight_decay": (0, inf),
        "hidden": (1, inf),
        "actor_hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate", "beta", "weight_decay")
    ranges = {"beta": "log(0.3,10)", "learning_rate": "log(1e-4,1e-3)"}  # beta: the paper's 0.3 and jaxrl's 2

    learning_rate: float = 3e-4  # of actor and critics
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    beta: float = 2.0  # temperature λ: advantages are divided by it
    weight_decay: float = 1e-4  # of the actor
    log_std_range: tuple[float, float] = (-10.0, 2.0)  # of the policy
    hidden: tuple[int, ...] = (256, 256)  # widths of the critics' hidden layers
    actor_hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths of the actor's hidden layers


@final
class AWAC(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = (spec.observation_size, spec.action_size)
        self.actor = GaussianActor(
            [sizes[0], *config.actor_hidden, sizes[1]], seeds, device, config.log_std_range, last_gain=1.0
        )
        self.critics = Critics(sizes, config.hidden, seeds, device, "orthogonal")
        self.target_critics = target_copy(self.critics)
        self.actor_optimizer = Adam(self.actor, config.learning_rate, config.weight_decay)
        self.critic_optimizer = Adam(self.critics, config.learning_rate)

    @property
    def noise(self) -> Mapping[str, Noise]:
        normal = Noise("normal", (self.config.batch_size, self.spec.action_size))
        return {"next_action": normal, "action": normal}

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        target = self._target(batch)
        q = self.critics(batch.observations, batch.actions)
        critic_loss = ensemble_loss(q, target)
        self.critic_optimizer.minimize(critic_loss)
        polyak_update([self.target_critics], [self.critics], c.target_rate)

        policy = self.actor.distribution(batch.observations)
        with torch.no_grad():
            actions = policy.sample(batch.noise["action"])
            value = self.critics(batch.observations, actions).amin(1)
            advantage = self.critics(batch.observations, batch.actions).amin(1) - value
            weights = softmax_weights(advantage, c.beta)
        actor_loss = -(weights * policy.log_prob(batch.actions)).sum(-1)
        self.actor_optimizer.minimize(actor_loss)
        return {
            "critic_loss": critic_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "q": q.detach().mean((1, 2)),
            "advantage": advantage.mean(-1),
        }

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        next_actions = self.actor.sample(batch.next_observations, batch.noise["next_action"])
        next_value = self.target_critics(batch.next_observations, next_actions).amin(1)
        return td_target(batch, next_value, self.config.discount)

    def act(self, observations: Tensor) -> Tensor:
        return self.actor.mean(observations)

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return self.actor.sample(observations, noise).clamp(-1, 1)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor.log_prob(observations, actions)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critics(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        return self.critics(batch.observations, batch.actions) - self._target(batch).unsqueeze(1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = matmul_flops(b, o, *config.actor_hidden, a)
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    target_flops, critic_flops = actor + 2 * critic, 2 * (2 * critic + critic_inner)
    advantage_flops, actor_flops = 4 * critic, 2 * actor + actor_inner
    return target_flops + critic_flops + advantage_flops + actor_flops
