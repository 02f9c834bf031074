"""Plug-ins with faults in random numbers, in initial weights, and in what agents share."""

# ruff: noqa: NPY002 (NumPy's global random state is one of the faults)

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import torch
from plugin_faults import breaks
from working_plugins import BothActionSpaces, Exploring, Good, GoodSingle

from seqeval.algorithm import stream


@breaks("seeds_differ", "")
class IgnoresTheSeed(Good):
    def first_weights(self, rng):
        return super().first_weights(stream(0, "weights"))


@breaks("act_is_deterministic", "")
class RandomAct(Good):
    def act(self, observations):
        mean = self.mean(observations)
        return (mean + 0.1 * torch.randn_like(mean)).clamp(-1, 1)


@breaks("act_changes_nothing", "")
class CountingAct(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.net["calls"] = torch.nn.Parameter(torch.zeros(len(self.seeds)))

    def act(self, observations):
        self.net["calls"] += 1
        return super().act(observations)


@breaks("globals_are_unchanged", "update to leave NumPy's global random state alone")
class GlobalRandomness(Good):
    def losses(self, batch):
        return super().losses(batch) * np.random.uniform(0.5, 1.5)


@breaks("act_is_deterministic", "")
class SingleRandomAct(GoodSingle):
    def act(self, observations):
        return super().act(observations) * torch.rand(())


@breaks("globals_are_unchanged", "update to leave NumPy's global random state alone")
class SingleGlobalRandomness(GoodSingle):
    def update(self, batch):
        rewards = batch.rewards + np.random.uniform(0.5, 1.5)
        return super().update(replace(batch, rewards=rewards))


@breaks("agents_share_nothing", "class attribute SingleSharesState.shared changed")
class SingleSharesState(GoodSingle):
    shared = torch.zeros(())

    def __init__(self, spec, config, seed, *rest):
        super().__init__(spec, config, seed, *rest)
        type(self).shared = torch.zeros(())

    def update(self, batch):
        self.shared += batch.rewards.mean()
        with torch.no_grad():
            self.net.bias += 0.1 * self.shared
        return super().update(batch)


@breaks("exploration_is_valid", "expected actions within [-1, 1], got one of size 1.")
class ExploresOutOfBounds(Good):
    def explore(self, observations, noise):
        return self.act(observations) + 0.1 * noise


@breaks("exploration_is_valid", "actions (1, 64, 2), with continuous actions, got (64, 2)")
class ExploresOneReplica(BothActionSpaces):
    def explore(self, observations, noise):
        return super().explore(observations, noise)[0]


@breaks("exploration_is_valid", "")
class ExploresWithoutNoise(Good):
    def explore(self, observations):
        return self.act(observations)


@breaks("globals_are_unchanged", "explore to leave NumPy's global random state alone")
class ExploresWithGlobalRandomness(Good):
    def explore(self, observations, noise):
        return self.act(observations) * np.random.uniform(0.5, 1)


@breaks("exploration_changes_nothing", "")
class ExploreTrains(Good):
    def explore(self, observations, noise):
        self.net["weights"] *= 0.99
        return self.act(observations)


@breaks("exploration_changes_nothing", "")
class ExploreIsRemembered(Good):
    explored = 0

    def explore(self, observations, noise):
        self.explored += 1
        return self.act(observations)

    def errors(self, batch):
        return super().errors(batch) + self.explored * self.mean(batch.observations)


@breaks("exploration_is_valid", "")
class SingleExploresOutOfBounds(GoodSingle):
    def explore(self, observations):
        return self.act(observations) + 0.1 * torch.randn(self.spec.action_size)


@breaks("globals_are_unchanged", "explore to leave NumPy's global random state alone")
class SingleExploresWithGlobalRandomness(GoodSingle):
    def explore(self, observations):
        return self.act(observations) * np.random.uniform(0.5, 1)


@breaks("exploration_changes_nothing", "")
class SingleExploreCountsUpdates(GoodSingle):
    def explore(self, observations):
        self.updates += 1
        return self.act(observations) * torch.rand(())


@breaks(
    "random_numbers_are_given",
    "update to take its random numbers from `batch.noise`, got others, drawn by aten.randn",
)
class DrawsInUpdate(Good):
    def losses(self, batch):
        return super().losses(batch) * (1 + torch.randn(len(self.seeds)).square())


@breaks("random_numbers_are_given", "drawn by aten.randn")
class ReseedsInUpdate(Good):
    """All replicas draw the same, and torch's random state is restored."""

    def losses(self, batch):
        with torch.random.fork_rng():
            torch.manual_seed(self.updates)
            return super().losses(batch) * (1 + torch.randn(()).square())


@breaks("random_numbers_are_given", "drawn by aten.randn")
class DrawsFromItsGenerator(Good):
    def losses(self, batch):
        generator = torch.Generator().manual_seed(self.updates)
        return super().losses(batch) * (1 + torch.randn((), generator=generator).square())


@breaks("random_numbers_are_given", "drawn by np.random.default_rng")
class MakesGenerators(Good):
    def losses(self, batch):
        return super().losses(batch) * np.random.default_rng(self.updates).uniform(0.5, 1.5)


@breaks(
    "random_numbers_are_given",
    "explore to take its random numbers from `noise`, got others, drawn by aten.randn_like",
)
class ExploresWithItsOwnNoise(Exploring):
    def explore(self, observations, noise):
        return super().explore(observations, torch.randn_like(noise))


@breaks("globals_are_unchanged", "update to leave torch's global random state alone")
class SeedsTorch(Good):
    def losses(self, batch):
        torch.manual_seed(0)
        return super().losses(batch)


@breaks("globals_are_unchanged", "act to leave torch's global random state alone")
class SingleSeedsInAct(GoodSingle):
    def act(self, observations):
        torch.manual_seed(0)
        return super().act(observations)


@breaks(
    "globals_are_unchanged", "update to draw on from the agent's random state, got one that it seeded again"
)
class SingleSeedsInUpdate(GoodSingle):
    def update(self, batch):
        torch.manual_seed(0)
        return super().update(batch)


@breaks("globals_are_unchanged", "got one that it seeded again")
class SingleSeedsByUpdate(GoodSingle):
    def update(self, batch):
        torch.manual_seed(self.seed + self.updates)
        return super().update(batch)


@breaks("globals_are_unchanged", "explore to draw on from the agent's random state")
class SingleSeedsInExplore(GoodSingle):
    def explore(self, observations):
        torch.manual_seed(self.seed)
        return self.act(observations) * torch.rand(())


@breaks("globals_are_unchanged", "update to leave NumPy's global random state alone")
class SingleSeedsNumPy(GoodSingle):
    def update(self, batch):
        np.random.seed(0)
        return super().update(batch)


@breaks("globals_are_unchanged", "update to leave Python's global random state alone")
class SingleDrawsFromPython(GoodSingle):
    def update(self, batch):
        return super().update(replace(batch, rewards=batch.rewards * random.random()))


@breaks("globals_are_unchanged", "update to leave torch's number of threads alone")
class SetsThreads(Good):
    def losses(self, batch):
        torch.set_num_threads(2)
        return super().losses(batch)


@breaks("seeds_draw_differently", "np.random.default_rng")
class SingleDrawsTheSame(GoodSingle):
    def update(self, batch):
        jitter = np.random.default_rng(self.updates).standard_normal()
        loss = (self.net(batch.observations) - jitter).square().mean()
        self.updates += 1
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss}


@breaks("seeds_reproduce", "the same seeds and batches to give the same updates")
class DependsOnTime(Good):
    def losses(self, batch):
        return super().losses(batch) * (1 + time.perf_counter() % 1)


@breaks("seeds_reproduce", "the same seeds and batches to give the same updates")
class DependsOnItsAddress(Good):
    def losses(self, batch):
        return super().losses(batch) * (1 + id(self.net) % 10**9)


CALLS = [0]


@breaks("seeds_reproduce", "(global CALLS.0 changed)")
class SingleCountsInAGlobal(GoodSingle):
    def update(self, batch):
        CALLS[0] += 1
        return super().update(replace(batch, rewards=batch.rewards / CALLS[0]))


@breaks("agents_share_nothing", "class attribute SharesAnAverage.average changed")
class SharesAnAverage(Good):
    average = torch.zeros(())

    def __init__(self, *given):
        super().__init__(*given)
        type(self).average = torch.zeros(())

    def losses(self, batch):
        losses = super().losses(batch)
        type(self).average = 0.9 * self.average + 0.1 * losses.detach().mean()
        return losses * (1 + self.average)

    def state_dict(self):
        return super().state_dict() | {"average": self.average}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        type(self).average = state["average"]


@breaks("agents_share_nothing", "class attribute SingleSharesATarget.target")
class SingleSharesATarget(GoodSingle):
    """A target network that all agents of the class move."""

    target = None

    def __init__(self, *given):
        super().__init__(*given)
        type(self).target = self.net.weight.detach().mean()

    def update(self, batch):
        self.target.lerp_(self.net.weight.detach().mean(), 0.1)
        return super().update(replace(batch, rewards=batch.rewards + self.target))


@breaks("seeds_differ", "two seeds to start with different weights, got the same critic")
class OneCriticForAllSeeds(Good):
    def __init__(self, *given):
        super().__init__(*given)
        rows = [self.first_weights(stream(0, "critic")) for _ in self.seeds]
        self.critic = torch.nn.Parameter(torch.tensor(np.stack(rows), dtype=torch.get_default_dtype()))

    def state_dict(self):
        return super().state_dict() | {"critic": self.critic.detach()}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.critic.data.copy_(state["critic"])


@breaks("seeds_differ", "got the same net.weight")
class SingleSeedsItsWeights(GoodSingle):
    def __init__(self, *given):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(*given)
