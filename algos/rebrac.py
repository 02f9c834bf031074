"""ReBRAC: Tarasov, Kurenkov, Nikulin, Kolesnikov, *Revisiting the Minimalist Approach to Offline
Reinforcement Learning* (arXiv 2305.09836).

TD3 (Fujimoto, van Hoof, Meger, arXiv 1802.09477) with a penalty on the distance to the data in both losses:

- critics: y = r + γ (min Q'(s', a″) - β₂ Σ(a″ - a′)²), a″ the target policy's action with clipped noise and
  a′ the next logged action;
- actor: mean of β₁ Σ(π(s) - a)² - λ min Q(s, π(s)), λ = 1/mean|min Q|, through which no gradient flows.

Networks have three hidden layers, those of the critics with layer normalisation after the ReLU; hidden biases
start at 0.1, last layers at U(±1e-3) in the actor and U(±3e-3) in the critics. The penalties and learning
rates are tuned for each dataset: see its recipe; the defaults are those of the authors' configuration class.

Online, as in the authors' code: β₂ is 0, β₁ decays linearly over the phase, normal noise of std
`exploration_noise` is added to actions. Half of each minibatch is online data.

Departures: targets follow actor and critics after their updates, as in TD3 (the authors' target actor follows
the actor of before); their `use_calibration` and `use_tanh`, switched off everywhere, do not exist. A
transition after which the log has no action, because the episode was cut there, has no penalty in its target;
in the authors' data it is dropped. `strict` and `paper` compute the same: a′ arrives with its transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Noise, Sampling, Spec, per_replica

from ._losses import clipped_noise, ensemble_loss, td_target
from ._networks import MLP, Critics, matmul_flops
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "actor_learning_rate": (0, inf),
        "critic_learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "actor_penalty": (0, inf),
        "critic_penalty": (0, inf),
        "policy_noise": (0, inf),
        "noise_clip": (0, inf),
        "policy_delay": (1, inf),
        "exploration_noise": (0, inf),
        "lowest_decay": (0, 1),
        "hidden": (1, inf),
    }
    batchable = (
        *("actor_learning_rate", "critic_learning_rate", "discount", "target_rate"),
        *("actor_penalty", "critic_penalty", "policy_noise", "noise_clip"),
        *("reward_scale", "exploration_noise"),
    )
    # The grids of the paper for Gym-MuJoCo; on AntMaze its weights are smaller.
    ranges = {"actor_penalty": "0.001|0.01|0.05|0.1", "critic_penalty": "0|0.001|0.01|0.1|0.5"}

    batch_size: int = 1024  # transitions in a minibatch
    actor_learning_rate: float = 1e-3
    critic_learning_rate: float = 1e-3
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    actor_penalty: float = 1.0  # β₁: weight of the actor's squared distance to the data
    critic_penalty: float = 1.0  # β₂: weight of the target action's squared distance to the data
    normalize_q: bool = True  # scale the actor's Q by 1/mean|Q|
    policy_noise: float = 0.2  # std of the noise on the target action
    noise_clip: float = 0.5  # bound of that noise
    policy_delay: int = 2  # critic updates per update of actor and targets
    reward_scale: float = 1.0  # factor of all rewards
    exploration_noise: float = 0.03  # std of the noise on actions online
    lowest_decay: float = 0.0  # online, the lowest share of β₁
    actor_layer_norm: bool = False
    critic_layer_norm: bool = True
    hidden: tuple[int, ...] = (256, 256, 256)  # widths of the hidden layers


@final
class ReBRAC(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    mix = 0.5

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        self.actor = MLP(
            "actor",
            [spec.observation_size, *config.hidden, spec.action_size],
            seeds,
            device,
            "uniform",
            hidden_bias=0.1,
            last_bound=1e-3,
            layer_norm="after" if config.actor_layer_norm else None,
        )
        self.critics = Critics(
            (spec.observation_size, spec.action_size),
            config.hidden,
            seeds,
            device,
            "uniform",
            hidden_bias=0.1,
            last_bound=3e-3,
            layer_norm="after" if config.critic_layer_norm else None,
        )
        self.target_actor, self.target_critics = target_copy(self.actor), target_copy(self.critics)
        self.actor_optimizer = Adam(self.actor, config.actor_learning_rate)
        self.critic_optimizer = Adam(self.critics, config.critic_learning_rate)
        self.offline_updates: int | None = None  # those before the online phase, once it has started

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"target_action": Noise("normal", (self.config.batch_size, self.spec.action_size))}

    @property
    def sampling(self) -> Sampling:
        return Sampling(next_actions=True)

    @property
    def period(self) -> int:
        return self.config.policy_delay

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return config.lowest_decay < 1  # β₁ decays until the last update of the online phase

    def start_online(self) -> None:
        if self.offline_updates is None:
            self.offline_updates = self.updates

    def penalties(self) -> tuple[Tensor | float, Tensor | float]:
        """The weights β₁ and β₂ of the present update."""
        c = self.config
        if self.offline_updates is None:
            return c.actor_penalty, c.critic_penalty
        # The number of updates is read from a tensor, so that a CUDA graph does not replay its first value.
        made = self.critic_optimizer.steps - self.offline_updates
        left = 1 - made / max(1, self.total_updates - self.offline_updates)
        return per_replica(c.actor_penalty, left) * left.clamp(min=c.lowest_decay), 0.0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        actor_penalty, critic_penalty = self.penalties()
        self.updates += 1
        target = self._target(batch, critic_penalty)
        q = self.critics(batch.observations, batch.actions)
        critic_loss = ensemble_loss(q, target)
        self.critic_optimizer.minimize(critic_loss)
        metrics = {"critic_loss": critic_loss.detach(), "q": q.detach().mean((1, 2))}

        if self.updates % c.policy_delay == 0:
            actions = self.actor(batch.observations).tanh()
            value = self.critics.forward_frozen(batch.observations, actions).amin(1)
            scale = 1 / value.detach().abs().mean(-1) if c.normalize_q else 1.0
            imitation = (actions - batch.actions).square().sum(-1).mean(-1)
            actor_loss = per_replica(actor_penalty, imitation) * imitation - scale * value.mean(-1)
            self.actor_optimizer.minimize(actor_loss)
            polyak_update((self.target_actor, self.target_critics), (self.actor, self.critics), c.target_rate)
            metrics |= {"actor_loss": actor_loss.detach(), "imitation": imitation.detach()}
        return metrics

    @torch.no_grad()
    def _target(self, batch: Batch, critic_penalty: Tensor | float) -> Tensor:
        c = self.config
        assert batch.next_actions is not None
        assert batch.next_actions_mask is not None
        smoothing = clipped_noise(batch.noise["target_action"], c.policy_noise, c.noise_clip)
        next_actions = (self.target_actor(batch.next_observations).tanh() + smoothing).clamp(-1, 1)
        distance = (next_actions - batch.next_actions).square().sum(-1) * batch.next_actions_mask
        next_value = self.target_critics(batch.next_observations, next_actions).amin(1)
        next_value = next_value - per_replica(critic_penalty, distance) * distance
        return td_target(batch, next_value, c.discount, c.reward_scale)

    def act(self, observations: Tensor) -> Tensor:
        return self.actor(observations).tanh()

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        std = per_replica(self.config.exploration_noise, noise)
        return (self.act(observations) + std * noise).clamp(-1, 1)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        q = self.critics(observations, actions).amin(1)
        return q / per_replica(self.config.reward_scale, q)

    def td_error(self, batch: Batch) -> Tensor:
        target = self._target(batch, self.penalties()[1])
        error = self.critics(batch.observations, batch.actions) - target.unsqueeze(1)
        return error / per_replica(self.config.reward_scale, error)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "offline_updates": self.offline_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.offline_updates = state["offline_updates"]


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica, averaged over the policy's delay."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = matmul_flops(b, o, *config.hidden, a)
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    target_flops, critic_flops = actor + 2 * critic, 2 * (2 * critic + critic_inner)
    actor_flops = 2 * actor + actor_inner + 2 * 2 * critic
    return target_flops + critic_flops + actor_flops / config.policy_delay
