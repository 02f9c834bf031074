"""TD3+BC: Fujimoto, Gu, *A Minimalist Approach to Offline Reinforcement Learning* (arXiv 2106.06860).

TD3 (Fujimoto, van Hoof, Meger, arXiv 1802.09477) whose actor also imitates the data:

- critics: y = r + γ min Q'(s', a′), a′ the target policy's action with clipped noise;
- actor, at every second update: mean (π(s) - a)² - λ mean Q₁(s, π(s)), λ = α/mean|Q₁|.

Where the paper and the authors' code differ, this follows the code: Q is normalised by the minibatch's mean
|Q₁| at the policy's actions, not at the data's. Online, the same updates continue, imitation included, with
normal noise of std 0.1 on the policy's action, as in TD3.

Observations are normalised: under `strict` by mean and std of what is visible, refreshed at 20 even steps of
n, so early ones are estimates from little data; the authors, and `--preset paper`, take the full dataset.
Departure from the runs of the paper on sequential evaluation: their target noise is N(0, 1), ours N(0, 0.2²)
as in TD3, both clipped at 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Noise, Spec, per_replica

from ._losses import clipped_noise, ensemble_loss, td_target
from ._networks import MLP, Critics, matmul_flops
from ._optim import Adam, polyak_update, target_copy


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
    batchable = (
        *("learning_rate", "discount", "target_rate", "alpha"),
        *("policy_noise", "noise_clip", "exploration_noise"),
    )
    ranges = {"alpha": "log(1,10)"}  # around the paper's 1 to 4, and to 1/0.1 as tuned in arXiv 2305.09836

    normalize_observations: bool = True  # by mean and std of the visible data
    learning_rate: float = 3e-4  # of actor and critics
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    alpha: float = 2.5  # weight of the normalized Q against imitation
    policy_noise: float = 0.2  # std of the noise on the target action
    noise_clip: float = 0.5  # bound of that noise
    policy_delay: int = 2  # critic updates per update of actor and targets
    exploration_noise: float = 0.1  # std of the noise on actions online
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


@final
class TD3BC(Algorithm):
    Config = Config
    policy_parts = ("actor",)

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = [spec.observation_size, *config.hidden, spec.action_size]
        self.actor = MLP("actor", sizes, seeds, device, "uniform")
        self.critics = Critics(
            (spec.observation_size, spec.action_size), config.hidden, seeds, device, "uniform"
        )
        self.target_actor, self.target_critics = target_copy(self.actor), target_copy(self.critics)
        self.actor_optimizer = Adam(self.actor, config.learning_rate)
        self.critic_optimizer = Adam(self.critics, config.learning_rate)

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"target_action": Noise("normal", (self.config.batch_size, self.spec.action_size))}

    @property
    def period(self) -> int:
        return self.config.policy_delay

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
        metrics = {"critic_loss": critic_loss.detach(), "q": q.detach().mean((1, 2))}

        if self.updates % c.policy_delay == 0:
            actions = self.actor(batch.observations).tanh()
            q = self.critics.q1_forward_frozen(batch.observations, actions)
            scale = q.detach().abs().mean(-1).reciprocal()
            scale = per_replica(c.alpha, scale) * scale
            imitation = (actions - batch.actions).square().mean((1, 2))
            actor_loss = imitation - scale * q.mean(-1)
            self.actor_optimizer.minimize(actor_loss)
            polyak_update((self.target_actor, self.target_critics), (self.actor, self.critics), c.target_rate)
            metrics |= {"actor_loss": actor_loss.detach(), "imitation": imitation.detach()}
        return metrics

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        c = self.config
        smoothing = clipped_noise(batch.noise["target_action"], c.policy_noise, c.noise_clip)
        next_actions = (self.target_actor(batch.next_observations).tanh() + smoothing).clamp(-1, 1)
        next_value = self.target_critics(batch.next_observations, next_actions).amin(1)
        return td_target(batch, next_value, c.discount)

    def act(self, observations: Tensor) -> Tensor:
        return self.actor(observations).tanh()

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        std = per_replica(self.config.exploration_noise, noise)
        return (self.act(observations) + std * noise).clamp(-1, 1)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critics(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        return self.critics(batch.observations, batch.actions) - self._target(batch).unsqueeze(1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica, averaged over the policy's delay."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = matmul_flops(b, o, *config.hidden, a)
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    target_flops, critic_flops = actor + 2 * critic, 2 * (2 * critic + critic_inner)
    actor_flops = 2 * actor + actor_inner + 2 * critic
    return target_flops + critic_flops + actor_flops / config.policy_delay
