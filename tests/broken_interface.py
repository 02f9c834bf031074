"""Plug-ins with faults in what they declare, accept and return."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from plugin_faults import breaks
from working_plugins import Bootstrapping, BothActionSpaces, DiscreteSingle, Good, GoodSingle

from seqeval import algorithm
from seqeval.algorithm import Noise, Sampling


@breaks("actions_are_in_bounds", "expected actions within [-1, 1], got one of size")
class OutOfBounds(Good):
    def act(self, observations):
        return observations @ self.net["weights"]


@breaks("actions_have_shape", "expected actions (1, 4, 1), got (1, 4)")
class FlatActions(Good):
    def act(self, observations):
        return self.mean(observations).squeeze(-1)


@breaks("metrics_are_valid", "expected metric 'losses' to be (1,), got (1, 16)")
class MetricPerTransition(Good):
    def update(self, batch):
        losses = self.errors(batch).mean(-1).detach()
        return super().update(batch) | {"losses": losses}


@breaks("metrics_are_valid", "")
class MetricOverReplicas(Good):
    def update(self, batch):
        return {"loss": super().update(batch)["loss"].mean()}


@breaks("metrics_are_valid", "")
class MetricWithGradients(Good):
    def update(self, batch):
        return super().update(batch) | {"size": self.net["weights"].square().mean((1, 2))}


@breaks("updates_are_counted", "expected updates to be 1 after update 1, got 0")
class DoesNotCountUpdates(Good):
    def update(self, batch):
        found = super().update(batch)
        self.updates -= 1
        return found


@breaks("batch_is_unchanged", "expected an unchanged batch, got rewards different by")
class ChangesTheBatch(Good):
    def losses(self, batch):
        batch.rewards.mul_(0.5)
        return super().losses(batch)


@breaks("noise_is_valid", "(1, 16, 2)")
class NoiseOfAllReplicas(Good):
    @property
    def noise(self):
        return {"jitter": Noise("normal", (len(self.seeds), self.config.batch_size, self.spec.action_size))}


@breaks("noise_is_valid", "")
class UnknownNoise(Good):
    @property
    def noise(self):
        return {"jitter": Noise("gamma", (self.config.batch_size, self.spec.action_size))}


@breaks("can_be_updated", "KeyError: 'undeclared'")
class RaisesInUpdate(Good):
    def update(self, batch):
        return super().update(batch) | {"other": batch.noise["undeclared"]}


@breaks("can_be_built", "expected no exception, got ValueError: not for you (")
class RaisesWhenBuilt(Good):
    def first_weights(self, rng):
        raise ValueError("not for you")


@breaks("config_is_valid", "decorated with @dataclass(frozen=True)")
class ConfigWithoutDataclass(Good):
    class Config(algorithm.Config):
        learning_rate: float = 1e-2


@breaks("config_is_valid", "must extend seqeval.algorithm.Config")
class ConfigWithoutBase(Good):
    @dataclass(frozen=True)
    class Config:
        batch_size: int = 8


@breaks("config_is_valid", "without arguments")
class ConfigWithRequiredField(Good):
    @dataclass(frozen=True, kw_only=True)
    class Config(algorithm.Config):
        alpha: float


@breaks("metrics_are_valid", "'rewards' to be () from each of 1 agents, (1,) together, got")
class SingleMetricPerTransition(GoodSingle):
    def update(self, batch):
        return super().update(batch) | {"rewards": batch.rewards}


@breaks("actions_are_in_bounds", "")
class SingleOutOfBounds(GoodSingle):
    def act(self, observations):
        return self.net(observations)


@breaks("actions_have_shape", "")
class SingleHalfPrecision(GoodSingle):
    def act(self, observations):
        return super().act(observations).half()


@breaks("declarations_are_valid", "action_spaces to be a tuple of 'continuous' or 'discrete', got ()")
class NoActionSpaces(Good):
    action_spaces = ()


@breaks("declarations_are_valid", "got 'discrete'")
class ActionSpaceNotInATuple(BothActionSpaces):
    action_spaces = "discrete"


@breaks("declarations_are_valid", "")
class UnknownActionSpace(GoodSingle):
    action_spaces = ("continuous", "Discrete")


@breaks("declarations_are_valid", "expected learns_online to be True or False, got 'yes'")
class LearnsOnlineIsText(GoodSingle):
    learns_online = "yes"


@breaks("can_be_updated", "no exception, with discrete actions, got RuntimeError: ")
class FailsWithDiscreteActions(Good):
    action_spaces = ("continuous", "discrete")


@breaks("actions_have_shape", "actions of torch.int64, because they are discrete, with discrete")
class ChoosesFloats(BothActionSpaces):
    def act(self, observations):
        return super().act(observations).float()


@breaks("actions_have_shape", "(1, 4) together, got (1, 4, 3)")
class ChoosesOneHot(DiscreteSingle):
    def act(self, observations):
        return torch.nn.functional.one_hot(super().act(observations), self.spec.action_size)


@breaks("actions_are_in_bounds", "expected actions from 0 to 2, got one that is 3")
class ChoosesFromOneUp(DiscreteSingle):
    def act(self, observations):
        return super().act(observations) + 1


@breaks("metrics_are_valid", "metric 'loss' to be a tensor, got float")
class MetricIsANumber(Good):
    def update(self, batch):
        return {"loss": super().update(batch)["loss"].mean().item()}


@breaks("metrics_are_valid", "metric 'loss' to be on cpu, got meta")
class MetricOnAnotherDevice(Good):
    def update(self, batch):
        return {"loss": super().update(batch)["loss"].to("meta")}


@breaks("metrics_are_valid", "metric 'spread' to be finite")
class DividesByTheSpreadOfRewards(Good):
    """Rewards may all be 0."""

    def update(self, batch):
        spread = (batch.rewards / batch.rewards.std(-1, keepdim=True)).mean(-1)
        return super().update(batch) | {"spread": spread}


@breaks("metrics_are_valid", "metric 'value' to be finite")
class AveragesOverNothing(Good):
    """All transitions of a batch may be terminal."""

    def update(self, batch):
        left = 1 - batch.terminated
        return super().update(batch) | {"value": (left * batch.rewards).sum(-1) / left.sum(-1)}


@breaks("metrics_are_valid", "metric 'loss' to be finite")
class UsesUnknownReturns(Bootstrapping):
    def returns(self, batch):
        return batch.returns_to_go


@breaks("metrics_are_valid", "metric 'loss' to be finite")
class MultipliesUnknownReturns(Bootstrapping):
    def returns(self, batch):
        return batch.returns_to_go_mask * batch.returns_to_go


@breaks("weights_stay_finite", "finite net.scale after 8 updates, got NaN")
class LosesItsWeights(GoodSingle):
    def __init__(self, *given):
        super().__init__(*given)
        self.net.scale = torch.nn.Parameter(torch.ones(1))

    def update(self, batch):
        metrics = super().update(batch)
        with torch.no_grad():
            self.net.scale /= batch.rewards.abs().sum()
            self.net.scale -= self.net.scale
        return metrics


@breaks("metrics_keep_their_names", "such as ['loss_1']")
class NumbersItsMetrics(Good):
    def update(self, batch):
        metrics = super().update(batch)
        return {f"loss_{self.updates}": metrics["loss"]}


@breaks(
    "weights_have_default_dtype", "weights to be of torch's default dtype, torch.float32, got torch.float64"
)
class DoubleWeights(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.net = self.net.double()

    def mean(self, observations):
        return (observations.double() @ self.net["weights"]).tanh().to(observations.dtype)


@breaks("sampling_is_valid", "transitions, n_step, sequences, got trajectories")
class UnknownSampling(Good):
    sampling = Sampling("trajectories", 4)


@breaks("batch_is_unchanged", "an unchanged batch, got observations different by")
class SingleNormalizesInPlace(GoodSingle):
    def update(self, batch):
        batch.observations.sub_(batch.observations.mean(0))
        return super().update(batch)


@breaks("batch_is_released", "attribute last to be a copy of the batch's observations")
class KeepsTheBatch(Good):
    def losses(self, batch):
        self.last = batch.observations[:, :1]
        return super().losses(batch)


@breaks("batch_is_released", "attribute recent.0 to be a copy of the batch's rewards")
class SingleKeepsRewards(GoodSingle):
    def update(self, batch):
        self.recent = [batch.rewards]
        return super().update(batch)


@breaks("actions_have_shape", "finite actions, got some that are not")
class ActsWithNaN(Good):
    def act(self, observations):
        return self.mean(observations).sqrt()


@breaks("actions_have_shape", "actions of torch.int64, because they are discrete, got torch.int32")
class ChoosesShortIntegers(DiscreteSingle):
    def act(self, observations):
        return super().act(observations).int()
