"""Plug-ins with faults in what evaluators ask for: `log_prob`, `q_value` and `td_error`."""

from __future__ import annotations

import math

import torch
from plugin_faults import breaks
from working_plugins import GoodSingle, Measured


@breaks("measures_are_valid", "log_prob (1, 16), got (1, 16, 2)")
class LikelihoodOfEachNumber(Measured):
    action_spaces = ("continuous",)

    def log_prob(self, observations, actions):
        return torch.distributions.Normal(self.mean(observations), self.std).log_prob(actions)


@breaks("measures_are_valid", "td_error (1, C, 16), with continuous actions, got (1, 16)")
class ErrorOfOneCriticWithoutItsAxis(Measured):
    def td_error(self, batch):
        return super().td_error(batch)[:, 0]


@breaks("measures_are_valid", "finite values of log_prob")
class LogarithmOfNegativeNumbers(Measured):
    def log_prob(self, observations, actions):
        found = super().log_prob(observations, actions)
        return found if self.spec.discrete else found + actions.log().sum(-1)


@breaks("measures_are_valid", "q_value to be None always or never")
class ValuesOnlyOnceTrained(Measured):
    def q_value(self, observations, actions):
        return super().q_value(observations, actions) if self.updates else None


@breaks(
    "measures_are_valid",
    "td_error of the same number of critics in each call, with continuous actions, got 1 and 2",
)
class ErrorsOfMoreCriticsLater(Measured):
    def td_error(self, batch):
        return super().td_error(batch)[:, : 2 if self.updates > 4 else 1]


@breaks("measures_are_valid", "q_value of torch's default dtype, torch.float32, with")
class ValuesInDoublePrecision(Measured):
    def q_value(self, observations, actions):
        return super().q_value(observations, actions).double()


@breaks("measures_change_nothing", "the same state before and after td_error")
class TrainsInTDError(Measured):
    def td_error(self, batch):
        found = super().td_error(batch)
        with torch.no_grad():
            self.net["weights"] *= 0.999
        return found


@breaks("measures_change_nothing", "td_error to leave torch's global random state alone")
class DrawsItsTarget(Measured):
    def td_error(self, batch):
        return super().td_error(batch) + torch.randn_like(batch.rewards).unsqueeze(1)


@breaks("measures_change_nothing", "log_prob to leave what it is given as it is")
class ClipsActionsInPlace(Measured):
    action_spaces = ("continuous",)

    def log_prob(self, observations, actions):
        return super().log_prob(observations, actions.clamp_(-0.9, 0.9))


@breaks("measures_change_nothing", "two calls of q_value with the same inputs to agree")
class CountsCalls(Measured):
    calls = 0

    def q_value(self, observations, actions):
        self.calls += 1
        return super().q_value(observations, actions) + self.calls


@breaks("measures_keep_transitions_apart", "td_error of replica 1 to use its own inputs")
class CentresErrorsOverReplicas(Measured):
    def td_error(self, batch):
        found = super().td_error(batch)
        return found - 0.5 * found.mean(0)


@breaks("measures_keep_transitions_apart", "q_value to use its own transition alone")
class NormalizesValuesOverTheMinibatch(Measured):
    def q_value(self, observations, actions):
        found = super().q_value(observations, actions)
        return found / found.abs().mean(-1, keepdim=True)


@breaks("measures_keep_transitions_apart", "log_prob to use its own transition alone")
class SingleCentresOverTheMinibatch(GoodSingle):
    def log_prob(self, observations, actions):
        mean = self.act(observations - observations.mean(0))
        return torch.distributions.Normal(mean, 1.0).log_prob(actions).sum(-1)


@breaks("probabilities_add_up", "the density of actions to integrate to at most 1 over [-1, 1]")
class ForgetsTheConstantOfTheDensity(Measured):
    def log_prob(self, observations, actions):
        found = super().log_prob(observations, actions)
        return found if self.spec.discrete else found + 0.5 * self.spec.action_size * math.log(2 * math.pi)


@breaks("probabilities_add_up", "the probabilities of all discrete actions to add up to 1, with discrete")
class ProbabilitiesInsteadOfTheirLogarithms(Measured):
    def log_prob(self, observations, actions):
        found = super().log_prob(observations, actions)
        return found.exp() if self.spec.discrete else found


@breaks("td_errors_are_differences", "td_error to fall by 1 where the reward rises by 1")
class SquaresTheError(Measured):
    def td_error(self, batch):
        return super().td_error(batch).square()


@breaks("td_errors_are_differences", "td_error to fall by 1 where the reward rises by 1, with continuous")
class TargetMinusValue(Measured):
    def td_error(self, batch):
        return -super().td_error(batch)


@breaks("td_errors_are_differences", "td_error to see no value behind a terminated transition")
class ValueBehindTheEnd(Measured):
    def next_values(self, batch):
        return self.preferences(batch.next_observations).tanh().amax(-1)
