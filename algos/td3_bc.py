"""TD3+BC: Fujimoto, Gu, *A Minimalist Approach to Offline Reinforcement Learning* (arXiv 2106.06860).

TD3 whose actor also imitates the data. Where the paper and its authors' code differ this follows the code:
Q is normalised by the minibatch's mean |Q₁| at the policy's actions, not at the data's. Online it goes on as
it is, imitation included, and explores as TD3 does (Fujimoto, van Hoof, Meger, arXiv 1802.09477): with normal
noise of std 0.1 on the policy's action.
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

from ._networks import MLP, Adam, Critics, follow, products, target_of


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "alpha": (0, inf),
        "policy_noise": (0, inf),
        "noise_clip": (0, inf),
        "policy_delay": (1, inf),
        "exploration_noise": (0, inf),
        "hidden": (1, inf),
    }

    normalize_observations: bool = True  # by mean and std of the visible data
    learning_rate: float = 3e-4  # of actor and critics
    discount: float = 0.99
    target_rate: float = 0.005  # share of the way that targets move at an update
    alpha: float = 2.5  # weight of the normalised Q against imitation
    policy_noise: float = 0.2  # std of the noise on the target action
    noise_clip: float = 0.5  # bound of that noise
    policy_delay: int = 2  # critic updates to one of actor and targets
    exploration_noise: float = 0.1  # std of the noise on actions online
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


@final
class TD3BC(Algorithm):
    Config = Config

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = [spec.observation_size, *config.hidden, spec.action_size]
        self.actor = MLP("actor", sizes, seeds, device, "uniform")
        self.critics = Critics(
            (spec.observation_size, spec.action_size), config.hidden, seeds, device, "uniform"
        )
        self.target_actor, self.target_critics = target_of(self.actor), target_of(self.critics)
        self.actor_optimiser = Adam(self.actor, config.learning_rate)
        self.critic_optimiser = Adam(self.critics, config.learning_rate)

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"target_action": Noise("normal", (self.config.batch_size, self.spec.action_size))}

    @property
    def period(self) -> int:
        return self.config.policy_delay

    @classmethod
    def counts_down(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        with torch.no_grad():
            smoothing = (batch.noise["target_action"] * c.policy_noise).clamp(-c.noise_clip, c.noise_clip)
            next_actions = (self.target_actor(batch.next_observations).tanh() + smoothing).clamp(-1, 1)
            next_value = self.target_critics(batch.next_observations, next_actions).amin(1)
            target = batch.rewards + c.discount * (1 - batch.terminated) * next_value
        q = self.critics(batch.observations, batch.actions)
        critic_loss = (q - target.unsqueeze(1)).square().mean(-1).sum(-1)
        self.critic_optimiser.descend(critic_loss)
        metrics = {"critic_loss": critic_loss.detach(), "q": q.detach().mean((1, 2))}

        if self.updates % c.policy_delay == 0:
            actions = self.actor(batch.observations).tanh()
            q = self.critics.first(batch.observations, actions)
            scale = c.alpha / q.detach().abs().mean(-1)
            imitation = (actions - batch.actions).square().mean((1, 2))
            actor_loss = imitation - scale * q.mean(-1)
            self.actor_optimiser.descend(actor_loss)
            follow((self.target_actor, self.target_critics), (self.actor, self.critics), c.target_rate)
            metrics |= {"actor_loss": actor_loss.detach(), "imitation": imitation.detach()}
        return metrics

    def act(self, observations: Tensor) -> Tensor:
        return self.actor(observations).tanh()

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return (self.act(observations) + self.config.exploration_noise * noise).clamp(-1, 1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica, on the average of the policy's delay."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = products(b, o, *config.hidden, a)
    critic, critic_inner = products(b, o + a, *config.hidden, 1)
    of_targets, of_critics = actor + 2 * critic, 2 * (2 * critic + critic_inner)
    of_actor = 2 * actor + actor_inner + 2 * critic
    return of_targets + of_critics + of_actor / config.policy_delay
