"""Plug-ins with faults in saving and loading, and in the repetition of updates on a GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from plugin_faults import breaks
from working_plugins import Good, GoodSingle, Replayable, Restored

from seqeval.algorithm import stream


@breaks("resumes_exactly", "got one that leaves out attribute optimizer.state.0.exp_avg and")
class ForgetsTheOptimizer(Good):
    def state_dict(self):
        return {"updates": self.updates, "net": self.net.state_dict()}

    def load_state_dict(self, state):
        self.updates = state["updates"]
        self.net.load_state_dict(state["net"])


@breaks("training_changes_the_state", "53 updates to change the state_dict, got the same one")
class ForgetsThePolicy(Good):
    def _stateful(self):
        return {}


@breaks("policies_act_alike", "fresh agents with the stored policies to act in the same way")
class NamesTheWrongPolicyParts(Good):
    policy_parts = ()


@breaks("resumes_exactly", "")
class SingleForgetsTheOptimizer(GoodSingle):
    def _stateful(self):
        return {"net": self.net}


@breaks("updates_can_be_replayed", "expected period to be None or an integer of at least 1, got 0")
class PeriodOfZero(Replayable):
    period = 0


@breaks("updates_can_be_replayed", "expected update 13 to repeat update 10, got one that calls aten.")
class WrongPeriod(Replayable):
    period = 3


@breaks("updates_can_be_replayed", "aten._local_scalar_dense.default, which reads the value of a tensor on")
class ReadsALossOnTheHost(Replayable):
    def descend(self, losses):
        if losses.sum() != 1e9:
            super().descend(losses)


@breaks("updates_can_be_replayed", "aten.index.Tensor, which indexes with a mask")
class IndexesWithAMask(Replayable):
    def losses(self, batch):
        weights = self.net["weights"]
        return super().losses(batch) + 0 * weights[weights > 9].sum()


@breaks("updates_can_be_replayed", "aten.div.Tensor with 9 instead of 7 (")
class DecaysALossOnTheHost(Replayable):
    def losses(self, batch):
        return super().losses(batch) / self.updates


@breaks("updates_can_be_replayed", "update 10 to repeat update 8, got one that calls aten._fused_adam")
class DecaysTheOptimizerOnTheHost(Replayable):
    def descend(self, losses):
        self.optimizer.param_groups[0]["weight_decay"] = 0.1 / self.updates
        super().descend(losses)


@breaks("updates_can_be_replayed", "aten.lerp.Scalar with memory 0x")
class ReplacesATensor(Replayable):
    def keep(self):
        kept = self.slow["weights"].lerp(self.net["weights"].detach(), 0.1)
        self.slow["weights"] = torch.nn.Parameter(kept, requires_grad=False)


@breaks("updates_can_be_replayed", "aten.lift_fresh.default with memory 0x")
class CreatesATensor(Replayable):
    def losses(self, batch):
        return super().losses(batch) * torch.tensor(0.5)


@breaks("updates_can_be_replayed", "to repeat update 7 with its metrics ['first'], got ['third']")
class ChangesItsMetrics(Replayable):
    def update(self, batch):
        found = super().update(batch)
        return found if self.updates % 3 else {"third": next(iter(found.values()))}


@breaks("updates_can_be_replayed", "no number on the host to change, except updates, got made 3 and 8")
class CountsOnTheHost(Replayable):
    made = 0

    def keep(self):
        super().keep()
        self.made += 1

    def state_dict(self):
        return super().state_dict() | {"made": self.made}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.made = state["made"]


@breaks("state_is_plain", "mean in state_dict to be a tensor, a number or text, got ndarray")
class StateWithAnArray(Good):
    def state_dict(self):
        return super().state_dict() | {"mean": np.zeros(len(self.seeds))}


@breaks("training_changes_the_state", "53 updates to change the state_dict, got the same one")
class LearnsNothing(Good):
    def descend(self, losses):
        pass


class Forgetful(Restored):
    """Saves only what `Good` saves."""

    state_dict = Good.state_dict
    load_state_dict = Good.load_state_dict


@breaks("resumes_exactly", "got one that leaves out attribute rate and recent.0 and recent.1")
class ForgetsALot(Forgetful):
    def losses(self, batch):
        return super().losses(batch)


@breaks("resumes_exactly", "got one that leaves out attribute temperature")
class ForgetsAParameter(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.temperature = torch.nn.Parameter(torch.ones(len(self.seeds)))

    def losses(self, batch):
        with torch.no_grad():
            self.temperature *= 0.99
        return super().losses(batch) * self.temperature.detach()


@breaks("resumes_exactly", "got one that leaves out attribute mean")
class ForgetsATensor(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.mean_reward = torch.zeros(len(self.seeds))

    def losses(self, batch):
        self.mean_reward = 0.9 * self.mean_reward + 0.1 * batch.rewards.mean(-1)
        return super().losses(replace(batch, rewards=batch.rewards - self.mean_reward.unsqueeze(-1)))


@breaks("resumes_exactly", "got one that leaves out attribute rate")
class SingleForgetsANumber(GoodSingle):
    rate = 1.0

    def update(self, batch):
        self.rate *= 0.99
        return super().update(replace(batch, rewards=batch.rewards * self.rate))


@breaks("resumes_exactly", "got one that leaves out attribute counts.made")
class ForgetsWhatMattersLater(Good):
    """What it forgets changes no update of the check, but the thousandth."""

    def __init__(self, *given):
        super().__init__(*given)
        self.counts = {"made": 0}

    def losses(self, batch):
        self.counts["made"] += 1
        return super().losses(batch) * (2 if self.counts["made"] == 1000 else 1)


@breaks("resumes_exactly", "got one that leaves out attribute nets.0.bias and nets.0.weight")
class SingleForgetsAList(GoodSingle):
    """A list of networks has no state_dict."""

    def __init__(self, *given):
        super().__init__(*given)
        self.nets = [self.net]
        del self.net

    def __getattr__(self, name):
        if name == "net":
            return self.nets[0]
        raise AttributeError(name)


@breaks("resumes_exactly", "got one that leaves out attribute rng.state.state.state")
class SingleForgetsItsGenerator(GoodSingle):
    def __init__(self, *given):
        super().__init__(*given)
        self.rng = stream(self.seed, "jitter")

    def update(self, batch):
        return super().update(replace(batch, rewards=batch.rewards + self.rng.standard_normal()))


@breaks("resumes_exactly", "the loaded algorithm to continue as the saved one")
class LoadsAnotherAverage(Restored):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.optimizer.param_groups[0]["lr"] *= 0.5

    def state_dict(self):
        state = super().state_dict()
        state["optimizer"]["param_groups"][0]["lr"] = self.config.learning_rate
        return state


@breaks("states_start_with_replicas", "shared in state_dict to start with R = 3, got (1, 4)")
class StateWithoutReplicas(Good):
    def state_dict(self):
        return super().state_dict() | {"shared": torch.zeros(1, 4)}


@breaks("states_can_be_split_and_joined", "joined states of replicas to continue in the same way")
class JoinsInAnotherOrder(Good):
    def load_states(self, states):
        super().load_states(states[::-1])


@breaks("states_can_be_split_and_joined", "state_of to return copies")
class ReturnsViews(Good):
    def state_of(self, replica):
        state = super().state_of(replica)
        state["net"]["weights"] = self.net["weights"].detach()[replica : replica + 1]
        return state


@breaks("states_can_be_split_and_joined", "load_states to copy what it loads")
class KeepsWhatItLoads(Good):
    loaded = ()

    def load_states(self, states):
        super().load_states(states)
        self.loaded = [state["net"]["weights"] for state in states]

    def losses(self, batch):
        for weights in self.loaded:
            weights *= 0.9
        return super().losses(batch)
