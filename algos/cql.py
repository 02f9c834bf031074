"""CQL: Kumar, Zhou, Tucker, Levine, *Conservative Q-Learning for Offline RL* (arXiv 2006.04779).

CQL(H) on soft actor-critic (Haarnoja et al., arXiv 1812.05905): Q is lowered at random actions and at the
policy's, and raised at the data's actions. The critics' loss is

    Σᵢ mean (Qᵢ(s, a) - y)² + w · Σᵢ mean (log Σⱼ exp(Qᵢ(s, aⱼ) - log pⱼ) - Qᵢ(s, a)),

with y = r + γ min Q'(s', a′), a′ ~ π(s'), and aⱼ from the uniform distribution, π(s) and π(s'), ten each, of
density pⱼ (importance sampling, the paper's appendix F). The actor maximises min Q(s, a) - α log π(a|s).

As in the implementation that most papers run (young-geng/CQL): the policy's actions at s' are evaluated at s,
the target has no entropy term, the policy's log std is scaled and shifted by two learned numbers, and all
losses use the weights before the update. Initial weights are the framework's default, as the scripts of the
paper on sequential evaluation run it; `orthogonal_init` is that implementation's other choice.

With discrete actions (`_discrete_cql`) it is double DQN with the same term, whose sum over actions is exact:
mean L(Q(s, a) - y) + w · mean (log Σₐ′ exp Q(s, a′) - Q(s, a)), L Huber's loss, w = 1, and
y = r + γ Q'(s', argmax Q(s', ·)); from vectors or images. Online, actions are random with probability
`exploration_rate`. The authors' code for Atari instead has quantile regression (QR-DQN), and copies the
target network at intervals.

Departures from Kumar et al. with continuous actions: two hidden layers, not three of 256; actor and critics
share the learning rate 3e-4, theirs is 1e-4 for the actor; no start with imitation alone (their warm start);
no Lagrange multiplier. Online, actions are sampled from the policy as in soft actor-critic, and the
conservative term stays. `strict` withholds nothing: all that is used arrives with its transition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Dataset, Noise, Order, Spec, per_replica

from ._discrete_cql import DiscreteCQL
from ._discrete_cql import flops as discrete_flops
from ._encoders import EncoderName
from ._losses import ensemble_loss, td_target
from ._networks import Critics, Init, Scalar, TanhGaussianActor, matmul_flops, squashed_sample
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class ContinuousConfig(algorithm.Config):
    limits = {
        "learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "weight": (0, inf),
        "sampled_actions": (1, inf),
        "hidden": (1, inf),
    }
    batchable = ("learning_rate", "discount", "target_rate", "weight")
    ranges = {"weight": "log(0.5,20)", "learning_rate": "log(3e-5,3e-4)"}  # around the paper's 5 and 10

    learning_rate: float = 3e-4  # of actor, critics and temperature
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    weight: float | None = None  # of the conservative term; None: 5, with discrete actions 1
    sampled_actions: int = 10  # per state from each of: uniform, policy at s, policy at s'
    log_std_range: tuple[float, float] = (-20.0, 2.0)  # of the policy
    orthogonal_init: bool = False  # orthogonal initial weights, those of the last layers scaled by 0.01
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers


@dataclass(frozen=True)
class Config(ContinuousConfig):
    limits = {"exploration_rate": (0, 1)}

    exploration_rate: float = 0.05  # probability of random actions online, with discrete actions
    encoder: EncoderName = "auto"  # of images: minatar below 32 pixels, otherwise drq


WEIGHT = 5.0  # of the conservative term, where the config gives none
# Settings that only one kind of actions has.
CONTINUOUS = ("sampled_actions", "log_std_range")
DISCRETE = ("exploration_rate", "encoder")


class CQL(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    action_spaces = ("continuous", "discrete")
    image_action_spaces = ("discrete",)
    period = 1

    def __new__(cls, spec: Spec, *arguments: Any, **named: Any) -> Any:
        """Agents for discrete actions are of another class, since the two share nothing but the paper."""
        return DiscreteCQL(spec, *arguments, **named) if spec.discrete else super().__new__(cls)

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = (spec.observation_size, spec.action_size)
        init: Init = "orthogonal" if config.orthogonal_init else "uniform"
        self.actor = TanhGaussianActor(
            [sizes[0], *config.hidden, sizes[1]],
            seeds,
            device,
            config.log_std_range,
            init,
            learned_scale=True,
            last_gain=1e-2,
        )
        self.critics = Critics(sizes, config.hidden, seeds, device, init, last_gain=1e-2)
        self.target_critics = target_copy(self.critics)
        self.log_temperature = Scalar(0.0, seeds, device)
        self.actor_optimizer = Adam(self.actor, config.learning_rate)
        self.critic_optimizer = Adam(self.critics, config.learning_rate)
        self.temperature_optimizer = Adam(self.log_temperature, config.learning_rate)

    @classmethod
    def check_data(cls, config: Any, dataset: Dataset, order: Order) -> list[str]:
        discrete = dataset.actions.ndim == 1
        without_effect, kind = (CONTINUOUS, "discrete") if discrete else (DISCRETE, "continuous")
        default = cls.Config()
        changed = [name for name in without_effect if getattr(config, name) != getattr(default, name)]
        return [f"{name} has no effect with {kind} actions" for name in changed]

    @property
    def weight(self) -> float:
        """Of the conservative term."""
        return WEIGHT if self.config.weight is None else self.config.weight

    def next_value(self, batch: Batch, mean: Tensor, log_std: Tensor) -> Tensor:
        """The value of the next state, (R, B), for the policy there."""
        actions, _ = squashed_sample(mean, log_std, batch.noise["next_action"])
        return self.target_critics(batch.next_observations, actions).amin(1)

    def calibrated(self, q: Tensor, batch: Batch) -> Tensor:
        """Q of the sampled actions, (R, 2, B, 3 · sampled): uniform, policy at s, policy at s'."""
        return q

    @property
    def noise(self) -> Mapping[str, Noise]:
        one = (self.config.batch_size, self.spec.action_size)
        many = (self.config.batch_size, self.config.sampled_actions, self.spec.action_size)
        return {
            "action": Noise("normal", one),
            "next_action": Noise("normal", one),
            "sampled": Noise("normal", many),
            "next_sampled": Noise("normal", many),
            "uniform": Noise("uniform", many),
        }

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c, noise = self.config, batch.noise
        self.updates += 1
        mean, log_std = self.actor(batch.observations)
        with torch.no_grad():
            next_mean, next_log_std = self.actor(batch.next_observations)

        actions, log_prob = squashed_sample(mean, log_std, noise["action"])
        entropy_gap = (log_prob.detach() - self.spec.action_size).mean(-1)  # the target entropy is -|A|
        temperature_loss = -self.log_temperature.value * entropy_gap
        temperature = self.log_temperature.value.detach().exp()
        value = self.critics.forward_frozen(batch.observations, actions).amin(1)
        actor_loss = (temperature.unsqueeze(-1) * log_prob - value).mean(-1)

        with torch.no_grad():
            target = self._target(batch, next_mean, next_log_std)
            sampled, density = squashed_sample(mean.unsqueeze(2), log_std.unsqueeze(2), noise["sampled"])
            next_sampled, next_density = squashed_sample(
                next_mean.unsqueeze(2), next_log_std.unsqueeze(2), noise["next_sampled"]
            )
            uniform = 2 * noise["uniform"] - 1
            uniform_density = torch.full_like(density, -self.spec.action_size * math.log(2))
            proposals = torch.cat([uniform, sampled, next_sampled, batch.actions.unsqueeze(2)], 2)
            densities = torch.cat([uniform_density, density, next_density], -1)
        q_all = self.critics.forward_many_actions(batch.observations, proposals)  # (R, 2, B, 3 · sampled + 1)
        q = q_all[..., -1]
        critic_loss = ensemble_loss(q, target)
        soft_maximum = (self.calibrated(q_all[..., :-1], batch) - densities.unsqueeze(1)).logsumexp(-1)
        conservative_loss = (soft_maximum - q).mean(-1).sum(-1)

        self.temperature_optimizer.minimize(temperature_loss)
        self.actor_optimizer.minimize(actor_loss)
        weighted = per_replica(self.weight, conservative_loss) * conservative_loss
        self.critic_optimizer.minimize(critic_loss + weighted)
        polyak_update([self.target_critics], [self.critics], c.target_rate)
        return {
            "critic_loss": critic_loss.detach(),
            "conservative_loss": conservative_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "q": q.detach().mean((1, 2)),
            "entropy": -log_prob.detach().mean(-1),
            "temperature": temperature,
        }

    def _target(self, batch: Batch, next_mean: Tensor, next_log_std: Tensor) -> Tensor:
        next_value = self.next_value(batch, next_mean, next_log_std)
        return td_target(batch, next_value, self.config.discount)

    def act(self, observations: Tensor) -> Tensor:
        return self.actor(observations)[0].tanh()

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return squashed_sample(*self.actor(observations), noise)[0]

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor.log_prob(observations, actions)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critics(observations, actions).amin(1)

    def td_error(self, batch: Batch) -> Tensor:
        target = self._target(batch, *self.actor(batch.next_observations))
        return self.critics(batch.observations, batch.actions) - target.unsqueeze(1)


def flops(spec: Spec, config: ContinuousConfig) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    if spec.discrete:
        return discrete_flops(spec, config)
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = matmul_flops(b, o, *config.hidden, 2 * a)
    critic, _ = matmul_flops(b, o + a, *config.hidden, 1)
    actor_flops = 2 * actor + actor_inner + actor  # at s with gradients, at s' without
    value_flops = 2 * critic + 2 * 2 * critic  # of the target; of the actor's action, with gradients to it
    states, _ = matmul_flops(b, o, config.hidden[0])
    pairs, inner = matmul_flops(b * (3 * config.sampled_actions + 1), a, *config.hidden, 1)
    critic_flops = 2 * (2 * states + 2 * pairs + inner)
    return actor_flops + value_flops + critic_flops
