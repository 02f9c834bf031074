"""CQL for discrete actions, which `cql` is where a dataset has them: double DQN with the conservative term.

The loss is mean L(Q(s, a) - y) + w · mean (log Σₐ′ exp Q(s, a′) - Q(s, a)), with L Huber's loss and
y = r + γ Q'(s', argmax Q(s', ·)) (van Hasselt et al., arXiv 1509.06461). See `cql` for the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm, Batch, Spec, per_replica

from ._discrete import epsilon_greedy, huber_loss, of_actions
from ._encoders import ObservationMLP, network_flops
from ._losses import td_target
from ._optim import Adam, polyak_update, target_copy

WEIGHT = 1.0  # of the conservative term, where the config gives none


@final
class DiscreteCQL(Algorithm):
    action_spaces = ("discrete",)
    image_action_spaces = ("discrete",)
    policy_parts = ("critic",)
    period = 1

    def __init__(
        self, spec: Spec, config: Any, seeds: Sequence[int], total_updates: int, device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, total_updates, device)
        init = "orthogonal" if config.orthogonal_init else "uniform"
        network = (spec, config.hidden, spec.action_size, seeds, device, init, config.encoder)
        self.critic = ObservationMLP("critic", *network, last_gain=1e-2)
        self.target_critic = target_copy(self.critic)
        self.optimizer = Adam(self.critic, config.learning_rate)

    @classmethod
    def depends_on_total_updates(cls, config: Any) -> bool:
        return False

    def update(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        self.updates += 1
        target = self._target(batch)
        q_all = self.critic(batch.observations)
        q = of_actions(q_all, batch.actions)
        critic_loss = huber_loss(q - target)
        conservative_loss = (q_all.logsumexp(-1) - q).mean(-1)
        weight = WEIGHT if c.weight is None else c.weight
        self.optimizer.minimize(critic_loss + per_replica(weight, conservative_loss) * conservative_loss)
        polyak_update([self.target_critic], [self.critic], c.target_rate)
        return {
            "critic_loss": critic_loss.detach(),
            "conservative_loss": conservative_loss.detach(),
            "q": q.detach().mean(-1),
        }

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        next_actions = self.critic(batch.next_observations).argmax(-1)
        next_value = of_actions(self.target_critic(batch.next_observations), next_actions)
        return td_target(batch, next_value, self.config.discount)

    def act(self, observations: Tensor) -> Tensor:
        return self.critic(observations).argmax(-1)

    @property
    def exploration_size(self) -> int:
        return 1 + self.spec.action_size

    def explore(self, observations: Tensor, noise: Tensor) -> Tensor:
        return epsilon_greedy(self.act(observations), noise, self.config.exploration_rate)

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor:
        return of_actions(self.critic(observations), actions)

    def td_error(self, batch: Batch) -> Tensor:
        return (self.q_value(batch.observations, batch.actions) - self._target(batch)).unsqueeze(1)


def flops(spec: Spec, config: Any) -> float:
    """FLOPs of the matrix products and convolutions in one update of one replica."""
    critic, inner = network_flops(spec, config.encoder, config.batch_size, config.hidden, spec.action_size)
    return 2 * critic + inner + 2 * critic
