"""Cal-QL: Nakamoto, Zhai, Singh, Mark, Ma, Finn, Kumar, Levine, *Cal-QL: Calibrated Offline RL Pre-Training
for Efficient Online Fine-Tuning* (arXiv 2303.05479).

CQL whose conservative term does not push Q below the value of the behaviour (equation 5.1): where Q at the
policy's actions is below the logged return-to-go R, that term sees R instead, max(Q(s, a), R(s)). As in the
authors' code the bound applies to the policy's actions at s and at s', not to the uniform ones, and the
target uses the best of the sampled next actions (`max_target_backup`). Everything else is `cql`.

Online, half of each minibatch is online data, and the conservative term has the weight `weight_online`;
calibration is off, as in CORL. The authors' code leaves it on: it adds whole online episodes, whose returns
are then known. Further departures: actor and critics share `hidden` and one learning rate (the authors: 1e-4
for the actor, deeper critics for AntMaze); no Lagrange multiplier; the return-to-go of an episode that was
cut ends there.

Under `strict` the return-to-go is known once the episode is complete and wholly visible, and -∞ before: there
Cal-QL is CQL. In the order `shuffled` that is nearly all of the curve, since an episode of length L is
complete only when about a share (1/2)^(1/L) of the data has arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
from torch import Tensor

from seqeval.algorithm import Batch, Dataset, Noise, Order, Sampling, Spec

from . import cql
from ._networks import matmul_flops, squashed_sample
from .cql import CQL


@dataclass(frozen=True)
class Config(cql.ContinuousConfig):
    limits = {"weight_online": (0, inf)}
    batchable = (*cql.ContinuousConfig.batchable, "weight_online")

    orthogonal_init: bool = True  # orthogonal initial weights, those of the last layers scaled by 0.01
    weight_online: float = 5.0  # of the conservative term in the online phase
    max_target_backup: bool = True  # the target uses the best of `sampled_actions` next actions


@final
class CalQL(CQL):
    Config = Config
    action_spaces = ("continuous",)
    image_action_spaces = ()
    mix = 0.5
    online = False  # whether the online phase has started

    @classmethod
    def check_data(cls, config: Any, dataset: Dataset, order: Order) -> list[str]:
        if order in ("shuffled", "segments"):
            return [
                f"in the order {order} the return-to-go of most transitions becomes known late, and until "
                "then cal_ql is cql; --protocol.order episodes lets episodes arrive in one piece"
            ]
        return []

    @property
    def sampling(self) -> Sampling:
        discount = self.config.discount
        if isinstance(discount, Tensor):
            discount = tuple(discount.tolist())
        return Sampling(returns_to_go=True, discount=discount)

    @property
    def noise(self) -> Mapping[str, Noise]:
        noise = dict(super().noise)
        if self.config.max_target_backup:
            noise["next_action"] = noise["next_sampled"]
        return noise

    @property
    def weight(self) -> float:
        return self.config.weight_online if self.online else super().weight

    def start_online(self) -> None:
        self.online = True

    def next_value(self, batch: Batch, mean: Tensor, log_std: Tensor) -> Tensor:
        if not self.config.max_target_backup:
            return super().next_value(batch, mean, log_std)
        actions, _ = squashed_sample(mean.unsqueeze(2), log_std.unsqueeze(2), batch.noise["next_action"])
        return self.target_critics.forward_many_actions(batch.next_observations, actions).amin(1).amax(-1)

    def calibrated(self, q: Tensor, batch: Batch) -> Tensor:
        if self.online:
            return q
        assert batch.returns_to_go is not None
        uniform, policy = q.split([self.config.sampled_actions, 2 * self.config.sampled_actions], -1)
        return torch.cat([uniform, policy.maximum(batch.returns_to_go[:, None, :, None])], -1)


def flops(spec: Spec, config: Config) -> float:
    """FLOPs of the matrix products in one update of one replica."""
    if not config.max_target_backup:
        return cql.flops(spec, config)
    b, o, a = config.batch_size, spec.observation_size, spec.action_size
    one, _ = matmul_flops(b, o + a, *config.hidden, 1)
    states, _ = matmul_flops(b, o, config.hidden[0])
    pairs, _ = matmul_flops(b * config.sampled_actions, a, *config.hidden, 1)
    return cql.flops(spec, config) + 2 * (states + pairs - one)
