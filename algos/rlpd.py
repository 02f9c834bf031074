"""RLPD: Ball, Smith, Kostrikov, Levine, *Efficient Online Reinforcement Learning with Offline Data* (arXiv
2302.02948).

Soft actor-critic that learns online from minibatches of which half is logged data, with an ensemble of
critics with layer normalisation and 20 updates after each environment step. It does not learn offline: its
curve starts at N with a fresh agent, and all of the data may be sampled from there on, so `strict` withholds
nothing. Each update is one of all critics; targets are the minimum of a random `min_critics` of them, minus
the policy's entropy term if `backup_entropy`. After every `actor_delay` updates, once a step in the authors'
code, actor and temperature follow, on the last minibatch and with the mean of all critics. The target entropy
is -|A|/2.

Departures: the authors' first 5 000 or 10 000 steps are uniformly random and without updates, here the
untrained policy acts and learns from the first step on. On AntMaze they subtract 1 from the rewards, which
`scale_rewards` does here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Noise, Spec, UserError

from ._losses import td_target
from ._networks import Critics, Scalar, TanhGaussianActor, matmul_flops, squashed_sample
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "critics": (1, inf),
        "min_critics": (1, inf),
        "actor_delay": (1, inf),
        "hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate")
    ranges = {"min_critics": "1|2", "backup_entropy": "True|False"}  # what the paper tunes, in section 4.4

    learning_rate: float = 3e-4  # of actor, critics and temperature
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    critics: int = 10  # in the ensemble
    min_critics: int = 2  # random critics whose minimum is the target; AntMaze 1
    backup_entropy: bool = True  # the target has the entropy term; AntMaze and Adroit False
    layer_norm: bool = True  # of the critics
    actor_delay: int = 20  # updates of the critics per update of actor and temperature
    log_std_range: tuple[float, float] = (-20.0, 2.0)  # of the policy
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_critics > self.critics:
            raise UserError(f"min_critics must be at most critics = {self.critics}, not {self.min_critics}")


@final
class RLPD(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    learns_offline = False
    updates_per_step = 20
    mix = 0.5

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = (spec.observation_size, spec.action_size)
        self.actor = TanhGaussianActor(
            [sizes[0], *config.hidden, sizes[1]], seeds, device, config.log_std_range, "xavier"
        )
        norm = "before" if config.layer_norm else None
        self.critics = Critics(sizes, config.hidden, seeds, device, "xavier", config.critics, layer_norm=norm)
        self.target_critics = target_copy(self.critics)
        self.log_temperature = Scalar(0.0, seeds, device)
        self.actor_optimizer = Adam(self.actor, config.learning_rate)
        self.critic_optimizer = Adam(self.critics, config.learning_rate)
        self.temperature_optimizer = Adam(self.log_temperature, config.learning_rate)

    @property
    def noise(self) -> Mapping[str, Noise]:
        one = (self.config.batch_size, self.spec.action_size)
        return {
            "next_action": Noise("normal", one),
            "action": Noise("normal", one),
            "subset": Noise("uniform", (self.config.critics,)),
        }

    @property
    def period(self) -> int:
        return self.config.actor_delay

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c, noise = self.config, batch.noise
        self.updates += 1
        temperature = self.log_temperature.value.detach().exp()
        target = self._target(batch)
        q = self.critics(batch.observations, batch.actions)
        critic_loss = (q - target.unsqueeze(1)).square().mean((1, 2))
        self.critic_optimizer.minimize(critic_loss)
        polyak_update([self.target_critics], [self.critics], c.target_rate)
        metrics = {"critic_loss": critic_loss.detach(), "q": q.detach().mean((1, 2))}

        if self.updates % c.actor_delay == 0:
            actions, log_prob = squashed_sample(*self.actor(batch.observations), noise["action"])
            value = self.critics.forward_frozen(batch.observations, actions).mean(1)
            actor_loss = (temperature.unsqueeze(-1) * log_prob - value).mean(-1)
            self.actor_optimizer.minimize(actor_loss)
            entropy = -log_prob.detach().mean(-1)
            entropy_gap = entropy + self.spec.action_size / 2  # above the target entropy, -|A|/2
            self.temperature_optimizer.minimize(self.log_temperature.value.exp() * entropy_gap)
            metrics |= {"actor_loss": actor_loss.detach(), "entropy": entropy, "temperature": temperature}
        return metrics

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        c, noise = self.config, batch.noise
        next_actions, log_prob = squashed_sample(*self.actor(batch.next_observations), noise["next_action"])
        subset = noise["subset"].topk(c.min_critics, -1).indices
        next_value = self.target_critics.forward_subset(batch.next_observations, next_actions, subset)
        next_value = next_value.amin(1)
        if c.backup_entropy:
            next_value = next_value - self.log_temperature.value.exp().unsqueeze(-1) * log_prob
        return td_target(batch, next_value, c.discount)

    def act(self, observations: Tensor) -> Tensor:
        return self.actor(observations)[0].tanh()

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return squashed_sample(*self.actor(observations), noise)[0]

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor.log_prob(observations, actions)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critics(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        return self.critics(batch.observations, batch.actions) - self._target(batch).unsqueeze(1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica, averaged over the actor's delay."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = matmul_flops(b, o, *config.hidden, 2 * a)
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    target_flops = actor + config.min_critics * critic
    critic_flops = config.critics * (2 * critic + critic_inner)
    actor_flops = 2 * actor + actor_inner + config.critics * 2 * critic
    return target_flops + critic_flops + actor_flops / config.actor_delay
