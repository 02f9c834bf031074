"""SAC-N: An, Moon, Kim, Song, *Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble*
(arXiv 2110.01548).

Soft actor-critic (Haarnoja et al., arXiv 1812.05905) with N critics instead of two:

- critics: y = r + γ (min Q'ᵢ(s', a′) - α log π(a′|s')), a′ ~ π(s'); the loss is Σᵢ mean (Qᵢ - y)²;
- actor: mean of α log π(a|s) - min Qᵢ(s, a), a ~ π(s);
- temperature: α such that the entropy is |A|, the number of action dimensions, from below.

As in the authors' code, all losses use the weights before the update. Networks have three hidden layers whose
biases start at 0.1; last layers start at U(±1e-3) in the actor and U(±3e-3) in the critics. The authors
choose N for each dataset (10 to 500): see its recipe. Online, actions are sampled from the policy and the
updates stay the same.

Departures: the actor's hidden weights start at U(±1/√fan_in) (the authors' code, by an oversight, takes the
layer's number of outputs); actor and temperature share a learning rate as theirs do, but `max_q_backup` and
rewards standardised over the whole dataset, which they use for Adroit, do not exist: the latter would be a
leak. Nothing is withheld under `strict`: all that is used arrives with its transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from seqeval import algorithm
from seqeval.algorithm import Algorithm, Batch, Noise, Spec

from ._losses import ensemble_loss, td_target
from ._networks import Critics, Scalar, TanhGaussianActor, matmul_flops, squashed_sample
from ._optim import Adam, polyak_update, target_copy


@dataclass(frozen=True)
class Config(algorithm.Config):
    limits = {
        "actor_learning_rate": (0, inf),
        "critic_learning_rate": (0, inf),
        "discount": (0, 1),
        "target_rate": (0, 1),
        "critics": (1, inf),
        "hidden": (1, inf),
    }
    batchable = ("actor_learning_rate", "critic_learning_rate", "discount", "target_rate")
    ranges = {"critics": "10|20|50|100|200|500"}  # what the authors chose is 10 to 500

    actor_learning_rate: float = 3e-4  # of actor and temperature
    critic_learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak averaging: weight of the new parameters
    critics: int = 10  # N
    log_std_range: tuple[float, float] = (-5.0, 2.0)  # of the policy
    hidden: tuple[int, ...] = (256, 256, 256)  # widths of the hidden layers


class SACN(Algorithm):
    Config = Config
    policy_parts = ("actor",)
    period = 1

    def __init__(
        self, spec: Spec, config: Config, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        sizes = (spec.observation_size, spec.action_size)
        self.actor = TanhGaussianActor(
            [sizes[0], *config.hidden, sizes[1]],
            seeds,
            device,
            config.log_std_range,
            "uniform",
            hidden_bias=0.1,
            last_bound=1e-3,
        )
        self.critics = Critics(
            sizes, config.hidden, seeds, device, "uniform", config.critics, hidden_bias=0.1, last_bound=3e-3
        )
        self.target_critics = target_copy(self.critics)
        self.log_temperature = Scalar(0.0, seeds, device)
        self.actor_optimizer = Adam(self.actor, config.actor_learning_rate)
        self.critic_optimizer = Adam(self.critics, config.critic_learning_rate)
        self.temperature_optimizer = Adam(self.log_temperature, config.actor_learning_rate)

    @property
    def noise(self) -> Mapping[str, Noise]:
        shape = (self.config.batch_size, self.spec.action_size)
        return {"action": Noise("normal", shape), "next_action": Noise("normal", shape)}

    @classmethod
    def depends_on_total_updates(cls, config: Config) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        actions, log_prob = squashed_sample(*self.actor(batch.observations), batch.noise["action"])
        entropy_gap = (log_prob.detach() - self.spec.action_size).mean(-1)  # the target entropy is -|A|
        temperature_loss = -self.log_temperature.value * entropy_gap
        temperature = self.log_temperature.value.detach().exp()
        value = self.critics.forward_frozen(batch.observations, actions).amin(1)
        actor_loss = (temperature.unsqueeze(-1) * log_prob - value).mean(-1)

        critic_loss, metrics = self.critic_loss(batch, self._target(batch))

        self.temperature_optimizer.minimize(temperature_loss)
        self.actor_optimizer.minimize(actor_loss)
        self.critic_optimizer.minimize(critic_loss)
        polyak_update([self.target_critics], [self.critics], c.target_rate)
        return metrics | {
            "critic_loss": critic_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "entropy": -log_prob.detach().mean(-1),
            "temperature": temperature,
        }

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        next_policy = self.actor(batch.next_observations)
        next_actions, next_log_prob = squashed_sample(*next_policy, batch.noise["next_action"])
        next_value = self.target_critics(batch.next_observations, next_actions).amin(1)
        temperature = self.log_temperature.value.exp()
        next_value = next_value - temperature.unsqueeze(-1) * next_log_prob
        return td_target(batch, next_value, self.config.discount)

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the critics (R,) to the target (R, B), and its metrics."""
        q = self.critics(batch.observations, batch.actions)
        return ensemble_loss(q, target), value_metrics(q)

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


def value_metrics(q: Tensor) -> dict[str, Tensor]:
    """Mean of the critics' values (R, N, B), and their std over the critics, each (R,)."""
    values = q.detach()
    return {"q": values.mean((1, 2)), "q_std": values.std(1, correction=0).mean(-1)}


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    actor, actor_inner = matmul_flops(b, o, *config.hidden, 2 * a)
    critic, critic_inner = matmul_flops(b, o + a, *config.hidden, 1)
    actor_flops = 2 * actor + actor_inner + actor  # at s with gradients, at s' without
    value_flops = 2 * critic + critic  # of the actor's action, with gradients to it; of the target
    return actor_flops + config.critics * (value_flops + 2 * critic + critic_inner)
