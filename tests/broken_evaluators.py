"""Evaluators with a fault each, and the rule of `seqeval check` that finds it."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch
from plugin_faults import breaks
from working_evaluators import AtZero, Rewards, Running, Values

from seqeval.evaluation import Metric
from seqeval.evaluation.evaluators._means import first_rows


@breaks("metrics_are_valid", "better of 'seen_reward' to be 'higher', 'lower' or None, with")
class UnknownDirection(Rewards):
    metrics = {"seen_reward": Metric("reward", "more")}


@breaks("metrics_are_valid", "metrics['seen_reward'] to be a Metric, with continuous actions, got str")
class UnitAlone(Rewards):
    metrics = {"seen_reward": "reward"}


@breaks("metrics_are_valid", "uses_data to be True or False")
class NeedsDataByName(Rewards):
    uses_data = "yes"


@breaks("values_are_valid", "3 values of 'seen_reward' at point 1 of 3")
class TooFewValues(Rewards):
    def evaluate(self, agents, visible):
        return {"seen_reward": [1.0]}


@breaks("values_are_valid", "a list with 1 values of 'seen_reward'")
class OneNumberForAll(Rewards):
    def evaluate(self, agents, visible):
        return {"seen_reward": 1.0}


@breaks("values_are_valid", "finite values of 'seen_reward', or None where there is nothing at point 3 of 3")
class MeanOverNothing(Rewards):
    def values(self, agents, visible):
        replicas = range(len(self.seeds))
        return [self.rewards(visible, visible.arriving(replica)) for replica in replicas]


@breaks("values_are_valid", "each value of 'seen_reward' to be a number or None at point 1 of 3")
class ValuesOfEpisodes(Rewards):
    def evaluate(self, agents, visible):
        return {"seen_reward": np.ones((len(self.seeds), 2))}


@breaks("values_are_valid", "a metric at one of the points at least")
class ReturnsNothing(Rewards):
    def evaluate(self, agents, visible):
        return {}


@breaks("values_are_valid", "AttributeError: 'Tensor' object has no attribute 'average'")
class Raises(Rewards):
    def rewards(self, visible, rows):
        return visible.buffer.rewards.average()


@breaks("metrics_are_declared", "'seen_rewards', which is not declared; did you mean 'seen_reward'?")
class Misspelt(Rewards):
    def evaluate(self, agents, visible):
        return {"seen_rewards": super().evaluate(agents, visible)["seen_reward"]}


@breaks("metrics_are_declared", "which is not declared; declared: none")
class Undeclared(Rewards):
    metrics = MappingProxyType({})


@breaks("names_are_free", "got that of the evaluator fqe")
class NamedAsAnother(Rewards):
    metrics = {"fqe": Metric("discounted return", "higher")}

    def evaluate(self, agents, visible):
        return {"fqe": super().evaluate(agents, visible)["seen_reward"]}


@breaks("names_are_free", "got that of the episodes of a row")
class NamedAsEpisodes(Rewards):
    metrics = {"episode_returns": Metric("return", "higher"), "seen_reward": Metric("reward", "higher")}


@breaks("lacking_agents_are_measured", "no exception with agents without critics and likelihood")
class ExpectsCritics(Values):
    def q(self, agents, visible):
        return super().q(agents, visible) + 0.0


@breaks("lacking_agents_are_measured", "with a study without held-out episodes")
class ExpectsHeldOutEpisodes(Rewards):
    def values(self, agents, visible):
        return [self.rewards(visible, visible.held_out(replica)) for replica in range(len(self.seeds))]


@breaks("nothing_is_changed", "the same agents before and after evaluate")
class TrainsTheAgents(Values):
    def q(self, agents, visible):
        found = super().q(agents, visible)
        with torch.no_grad():
            for parameter in agents.algorithm.net.parameters():
                parameter *= 0.9
        return found


@breaks("nothing_is_changed", "evaluate to leave the rows of replica 0 as they are")
class SortsTheRows(Rewards):
    def rewards(self, visible, rows):
        rows.sort()
        return super().rewards(visible, rows)


@breaks("nothing_is_changed", "evaluate to leave the buffer's rewards as they are")
class NormalizesTheBuffer(Rewards):
    def rewards(self, visible, rows):
        visible.buffer.rewards.sub_(visible.buffer.rewards.mean())
        return super().rewards(visible, rows)


@breaks("process_is_unchanged", "evaluate to leave NumPy's global random state alone")
class DrawsGlobally(Rewards):
    def rewards(self, visible, rows):
        return super().rewards(visible, np.random.choice(rows, 3))  # noqa: NPY002


@breaks("process_is_unchanged", "evaluate to leave torch's global random state alone")
class SeedsTorch(Rewards):
    def rewards(self, visible, rows):
        torch.manual_seed(self.seeds[0])
        return super().rewards(visible, rows[torch.randperm(len(rows))[:3].numpy()])


@breaks("process_is_unchanged", "evaluate to leave torch's recording of gradients alone")
class SwitchesGradientsOff(Rewards):
    def rewards(self, visible, rows):
        torch.set_grad_enabled(False)
        return super().rewards(visible, rows)


@breaks("values_are_reproducible", "the same values in a second evaluation")
class DrawsWithoutSeed(Rewards):
    def rewards(self, visible, rows):
        return super().rewards(visible, np.random.default_rng().choice(rows, 3))


@breaks("values_are_reproducible", "the same values in a second evaluation")
class CountsEvaluations(Rewards):
    made = 0

    def rewards(self, visible, rows):
        CountsEvaluations.made += 1
        return super().rewards(visible, rows) + self.made


@breaks("replicas_are_apart", "replica 0 of 3 to have the values of its solo evaluation")
class PoolsOverReplicas(Rewards):
    def values(self, agents, visible):
        found = super().values(agents, visible)
        return [sum(found) / len(found)] * len(found)


@breaks("replicas_are_apart", "replica 0 of 3 to have the values of its solo evaluation")
class RanksReplicas(Rewards):
    def values(self, agents, visible):
        return np.argsort(np.argsort(super().values(agents, visible))).tolist()


@breaks("replicas_are_apart", "replica 1 of 3 to have the values of its solo evaluation")
class DrawsWithTheFirstSeed(Rewards):
    def rewards(self, visible, rows):
        return super().rewards(visible, np.random.default_rng(self.seeds[0]).choice(rows, 3))


@breaks("replicas_are_apart", "replica 1 of 3 to have the values of its solo evaluation")
class ReadsRowsOfTheFirstReplica(Rewards):
    def values(self, agents, visible):
        return [self.rewards(visible, visible.rows(0)) for _ in self.seeds]


@breaks("replicas_are_apart", "replica 1 of 3 to have the values of its solo evaluation")
class DrawsOneAfterTheOther(Rewards):
    def values(self, agents, visible):
        rng = np.random.default_rng(0)
        replicas = range(len(self.seeds))
        return [self.rewards(visible, rng.choice(visible.rows(replica), 3)) for replica in replicas]


@breaks("future_is_not_used", "the same values when the data that arrives after `arriving` changes")
class ReadsTheWholeBuffer(Rewards):
    def rewards(self, visible, rows):
        first = visible.offset
        return float(visible.buffer.rewards[first : first + len(visible.dataset)].double().mean())


@breaks("future_is_not_used", "the same values when the data that arrives after `arriving` changes")
class ReadsReturnsOfUnfinishedEpisodes(Rewards):
    def rewards(self, visible, rows):
        return float(visible.dataset.episode_returns.max())


@breaks("future_is_not_used", "the same values when the data that arrives after `arriving` changes")
class NormalizesByAllData(Rewards):
    def rewards(self, visible, rows):
        return super().rewards(visible, rows) / float(visible.dataset.rewards.std())


@breaks("future_is_not_used", "the same values when the data that arrives after `arriving` changes")
class ReadsTheRowBehind(Rewards):
    def rewards(self, visible, rows):
        return super().rewards(visible, (rows + 1) % len(visible.buffer.rewards))


@breaks("offset_is_respected", "the same values when other data lies before the dataset in the buffer")
class RowsOfTheDataset(Rewards):
    def rewards(self, visible, rows):
        return float(visible.dataset.rewards[rows % len(visible.dataset)].mean(dtype=np.float64))


@breaks("offset_is_respected", "the same values when other data lies before the dataset in the buffer")
class FirstRowsWithoutOffset(Rewards):
    def rewards(self, visible, rows):
        found = first_rows(visible.dataset, 0, rows)
        return super().rewards(visible, found if len(found) else rows)


@breaks("reward_factors_are_respected", "the same values with rewards scaled by 4")
class UnitsOfTheAlgorithm(Values):
    def evaluate(self, agents, visible):
        found = self.q(agents, visible)
        return {} if found is None else {"first_q": found[:, 0].tolist()}


@breaks("data_is_declared", "TypeError: 'NoneType' object is not callable")
class ReadsDataUndeclared(Rewards):
    uses_data = False


@breaks("data_is_declared", "the same values in a process without the data, as uses_data = False says")
class ReadsDataWhereThereIsSome(AtZero):
    def evaluate(self, agents, visible):
        found = super().evaluate(agents, visible)["at_zero"]
        return {"at_zero": found if visible.rows is None else [value + 1 for value in found]}


@breaks("resumes_exactly", "the values of an uninterrupted evaluation after saving and loading at point 2")
class ForgetsToSave(Running):
    def state_of(self, replica):
        return {}

    def load_states(self, states):
        return


@breaks("resumes_exactly", "the values of an uninterrupted evaluation after saving and loading at point 2")
class SavesAPart(Running):
    def load_states(self, states):
        self.calls = states[0]["calls"]


@breaks("resumes_exactly", "state_of to return copies")
class SavesItsOwnTensor(Running):
    def state_of(self, replica):
        return {"total": self.totals[replica], "calls": self.calls}


@breaks("resumes_exactly", "the values of an uninterrupted evaluation after saving and loading at point 2")
class RemembersWithoutData(AtZero):
    calls = 0

    def evaluate(self, agents, visible):
        self.calls += 1
        return {"at_zero": [value + self.calls for value in super().evaluate(agents, visible)["at_zero"]]}


@breaks("states_can_be_split", "the state of replica 1 of 3, loaded alone, to continue in the same way")
class SavesAllReplicasInEach(Running):
    def state_of(self, replica):
        return {"totals": self.totals.clone(), "calls": self.calls}

    def load_states(self, states):
        self.totals = states[0]["totals"][: len(self.seeds)].clone()
        self.calls = states[0]["calls"]
