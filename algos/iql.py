"""IQL: Kostrikov, Nair, Levine, *Offline Reinforcement Learning with Implicit Q-Learning* (arXiv 2110.06169).

Values by expectile regression on the data's actions, a policy by advantage-weighted regression:

- value: mean |τ - 1(u < 0)| u², u = min Q'(s, a) - V(s);
- actor: -mean min(exp(β A), 100) log π(a|s), A = min Q'(s, a) - V(s);
- critics: y = r + γ V(s').

As in the authors' code: the policy is normal with a tanh mean and a std that does not depend on the state;
value, actor, critics and targets are updated in this order, each using the ones before it. Their settings by
family are its recipes: AntMaze has `expectile` 0.9 and `temperature` 10, Adroit and Kitchen `temperature` 0.5
and `actor_dropout` 0.1. Online, as in their code, actions are sampled from the policy.

With discrete actions, from vectors or images, critics give Q of all actions and the policy is a softmax over
them, online too; all else is the same. From images, value, actor and critics each have an encoder. The paper
has no such experiments.

Departures under `strict`: the actor's learning rate does not decay (theirs by a cosine over all updates), and
rewards of hopper, halfcheetah and walker2d are scaled by 1000/(expert's - random's reference return), known
before any data. Theirs is 1000/(best - worst return of the full dataset), a leak that `--preset paper` has.
The two differ most where a dataset's returns span little: on data of our own collection by 0.9 to 15 times.
Since β multiplies advantages, a scale that is too small makes the policy imitate more.
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

from ._discrete import CategoricalActor, DiscreteCritics
from ._encoders import EncoderName, ObservationMLP, network_flops
from ._losses import ensemble_loss, expectile_loss, exponential_weights, td_target
from ._networks import Critics, GaussianActor, dropout_masks, matmul_flops
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "expectile": (0, 1),
        "temperature": (0, inf),
        "max_weight": (0, inf),
        "actor_dropout": (0, 0.99),
        "hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate", "expectile", "temperature", "max_weight")
    ranges = {"expectile": "uniform(0.5,0.95)", "temperature": "log(0.5,10)"}  # as tuned in arXiv 2305.09836

    scale_rewards: bool = True  # locomotion to returns of about 1000, AntMaze r - 1
    learning_rate: float = 3e-4  # of value, actor and critics
    decay_learning_rate: bool = False  # of the actor, to 0 by a cosine; set by protocol.learning_rate_decay
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    expectile: float = 0.7  # of Q that V estimates
    temperature: float = 3.0  # inverse temperature β: advantages are multiplied by it
    max_weight: float = 100.0  # upper bound of the imitation weights
    actor_dropout: float = 0.0  # probability of leaving out a hidden unit of the actor in an update
    log_std_range: tuple[float, float] = (-5.0, 2.0)  # of the policy, with continuous actions
    encoder: EncoderName = "auto"  # of images: minatar below 32 pixels, otherwise drq
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


@final
class IQL(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    action_spaces = ("continuous", "discrete")
    image_action_spaces = ("discrete",)
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        c = config
        self.value = ObservationMLP("value", spec, c.hidden, 1, seeds, device, "orthogonal", c.encoder)
        self.actor: CategoricalActor | GaussianActor
        self.critics: DiscreteCritics | Critics
        if spec.discrete:
            self.actor = CategoricalActor(spec, c.hidden, seeds, device, c.encoder)
            self.critics = DiscreteCritics(spec, c.hidden, seeds, device, "orthogonal", c.encoder)
        else:
            sizes = (spec.observation_size, spec.action_size)
            self.actor = GaussianActor([sizes[0], *c.hidden, sizes[1]], seeds, device, c.log_std_range)
            self.critics = Critics(sizes, c.hidden, seeds, device, "orthogonal")
        self.target_critics = target_copy(self.critics)
        decay_over = total_updates if config.decay_learning_rate else None
        self.value_optimizer = Adam(self.value, config.learning_rate)
        self.actor_optimizer = Adam(self.actor, config.learning_rate, decay_over=decay_over)
        self.critic_optimizer = Adam(self.critics, config.learning_rate)

    @property
    def noise(self) -> Mapping[str, Noise]:
        return dropout_masks(self.config.batch_size, self.config.hidden, self.config.actor_dropout)

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return config.decay_learning_rate

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        with torch.no_grad():
            target_q = self.target_critics(batch.observations, batch.actions).amin(1)

        value = self.value(batch.observations).squeeze(-1)
        value_loss = expectile_loss(target_q - value, c.expectile)
        self.value_optimizer.minimize(value_loss)

        with torch.no_grad():
            new_value = self.value(batch.observations).squeeze(-1)
            advantage = target_q - new_value
            weights = exponential_weights(advantage, c.temperature, c.max_weight)
        masks, gain = [batch.noise[name] for name in self.noise], 1 / (1 - c.actor_dropout)
        log_prob = self.actor.log_prob(batch.observations, batch.actions, masks, gain)
        actor_loss = -(weights * log_prob).mean(-1)
        self.actor_optimizer.minimize(actor_loss)

        target = self._target(batch)
        q = self.critics(batch.observations, batch.actions)
        critic_loss = ensemble_loss(q, target)
        self.critic_optimizer.minimize(critic_loss)
        polyak_update([self.target_critics], [self.critics], c.target_rate)
        return {
            "value_loss": value_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "critic_loss": critic_loss.detach(),
            "q": q.detach().mean((1, 2)),
            "advantage": advantage.mean(-1),
        }

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        next_value = self.value(batch.next_observations).squeeze(-1)
        return td_target(batch, next_value, self.config.discount)

    def act(self, observations: Tensor) -> Tensor:
        if isinstance(self.actor, CategoricalActor):
            return self.actor.mode(observations)
        return self.actor.mean(observations)

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        actions = self.actor.sample(observations, noise)
        return actions if self.spec.discrete else actions.clamp(-1, 1)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor.log_prob(observations, actions)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critics(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        return self.critics(batch.observations, batch.actions) - self._target(batch).unsqueeze(1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products and convolutions in one update of one replica."""
    b, a = config.batch_size, spec.action_size
    network = (spec, config.encoder, b, config.hidden)
    value, value_inner = network_flops(*network, 1)
    actor, actor_inner = network_flops(*network, a)
    if spec.discrete:
        critics, critics_inner = network_flops(*network, a, copies=2)
    else:
        critics, critics_inner = (
            2 * n for n in matmul_flops(b, spec.observation_size + a, *config.hidden, 1)
        )
    value_flops, actor_flops = 2 * value + value_inner, 2 * actor + actor_inner
    critic_flops, target_flops = 2 * critics + critics_inner, critics + 2 * value
    return value_flops + actor_flops + critic_flops + target_flops
