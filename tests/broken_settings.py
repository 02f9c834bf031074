"""Plug-ins with faults in the settings that they declare batchable, or draw at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from plugin_faults import breaks
from working_plugins import Config, Good, GoodSingle, Tuned, TunedConfig

from seqeval.algorithm import per_replica, replica_values

RULE = "batchable_settings_keep_replicas_apart"


@breaks(
    RULE, "replica 1 of 3 that differ in reward_weight to equal that of 3 with reward_weight 0.03, to the"
)
class ReadsTheFirstReplica(Tuned):
    def weight(self):
        return replica_values(self.config.reward_weight, 1)[0]


@breaks(RULE, "replica 0 of 3 that differ in reward_weight to equal that of 3 with reward_weight 0.1, to the")
class AveragesASetting(Tuned):
    def weight(self):
        return sum(replica_values(self.config.reward_weight, 3)) / 3


@breaks(RULE, "replica 1 of 3 that differ in reward_weight")
class IgnoresATensor(Tuned):
    def weight(self):
        weight = self.config.reward_weight
        return 0.1 if isinstance(weight, torch.Tensor) else weight


@breaks(RULE, "replica 0 of 3 that differ in reward_weight")
class ShiftsASetting(Tuned):
    def weight(self):
        weight = self.config.reward_weight
        return weight.roll(1) if isinstance(weight, torch.Tensor) else weight


@breaks(RULE, "replica 0 of 3 that differ in reward_weight to equal that of 3 with reward_weight 0.1, to the")
class RoundsOtherwise(Tuned):
    """Divides a number by a tensor, and a tensor by a tensor."""

    def errors(self, batch):
        shares = per_replica(self.weight(), batch.rewards) / (batch.rewards.abs() + 1)
        return super().errors(batch) * shares.unsqueeze(-1)


@breaks(RULE, "expected no exception, got RuntimeError: ")
class ForgetsTheAxesOfASetting(Tuned):
    def errors(self, batch):
        return super().errors(batch) * (1 + self.config.reward_weight)


@breaks(RULE, "replica 0 of 3 that differ in reward_weight")
class ForgetsTheDtypeOfASetting(Tuned):
    def losses(self, batch):
        return super().losses(batch) * (1 + self.config.reward_weight)


@breaks(RULE, "replica 1 of 3 that differ in learning_rate")
class OneRateForAllReplicas(Tuned):
    def __init__(self, *given):
        super().__init__(*given)
        self.rate = max(replica_values(self.config.learning_rate, 1))

    def descend(self, losses):
        (gradient,) = torch.autograd.grad(losses.sum(), self.net["weights"])
        with torch.no_grad():
            self.net["weights"] -= self.rate * gradient


@breaks(
    RULE, "replica 1 of 3 that differ in spread to equal that of 3 with spread 0.03, to the last bit, got exp"
)
class ExploresByTheFirstReplica(Tuned):
    def explore(self, observations, noise):
        spread = replica_values(self.config.spread, 1)[0]
        return (self.act(observations) + spread * noise).clamp(-1, 1)


@breaks(RULE, "to the last bit, got td_error different by")
class MeasuresByTheFirstReplica(Tuned):
    def td_error(self, batch):
        return super().td_error(batch) + replica_values(self.config.reward_weight, 1)[0]


@breaks(RULE, "replica 1 of 3 that differ in reward_weight")
class ReadsTheFirstReplicaOnline(Tuned):
    def weight(self):
        weight = super().weight()
        return replica_values(weight, 1)[0] if self.online else weight


@breaks(
    RULE,
    "expected the batchable unused to matter, with the other settings as they are, got the same for 1, 0.3",
)
class IgnoresASetting(Tuned):
    @dataclass(frozen=True)
    class Config(TunedConfig):
        batchable = ("unused",)
        unused: float = 1.0


@breaks(RULE, "replica 1 of 3 that differ in steps to equal that of 3 with steps 3, to the last bit")
class CountsWithTheFirstReplica(Tuned):
    @dataclass(frozen=True)
    class Config(TunedConfig):
        batchable = ("steps",)
        steps: int = 2

    def weight(self):
        return 0.1 * replica_values(self.config.steps, 1)[0]


@breaks("config_is_valid", "declares 'learning_rat' batchable, a setting that does not exist")
class BatchableDoesNotExist(Good):
    @dataclass(frozen=True)
    class Config(Config):
        batchable = ("learning_rat",)


@breaks("config_is_valid", "declares 'sizes' batchable, a setting that is not a number")
class BatchableIsATuple(Good):
    @dataclass(frozen=True)
    class Config(Config):
        batchable = ("sizes",)
        sizes: tuple[int, ...] = (8, 8)


@breaks(
    "config_is_valid", "declares 'batch_size' batchable, a setting that is not a number of the algorithm's"
)
class BatchableIsReadByTheSuite(Good):
    @dataclass(frozen=True)
    class Config(Config):
        batchable = ("batch_size",)


@breaks("config_is_valid", "batchable must be a tuple of names, not 'learning_rate'")
class BatchableIsText(Good):
    @dataclass(frozen=True)
    class Config(Config):
        batchable = "learning_rate"


@breaks("config_is_valid", "must not declare batchable settings, since it is a SingleAlgorithm")
class SingleBatchable(GoodSingle):
    Config = TunedConfig


@breaks("config_is_valid", "declares a range of 'learning_rat', a setting that does not exist")
class RangeOfNoSetting(Good):
    @dataclass(frozen=True)
    class Config(Config):
        ranges = {"learning_rat": "log(1e-4,1e-2)"}


@breaks(
    "config_is_valid", "an invalid range: log(0.01,0.0001): the ends of a logarithmic range must be positive"
)
class RangeIsReversed(Good):
    @dataclass(frozen=True)
    class Config(Config):
        ranges = {"learning_rate": "log(1e-2,1e-4)"}
