"""Rules on reproducibility and side effects: broken examples fail in the right ones."""

from __future__ import annotations

import pytest
from contract_examples import Examine, assert_only_these_fail, make_examine

BROKEN = {
    "IgnoresTheSeed": (
        """
class IgnoresTheSeed(Good):
    def first_weights(self, rng):
        return super().first_weights(stream(0, "weights"))
""",
        {"seeds_differ"},
    ),
    "RandomAct": (
        """
class RandomAct(Good):
    def act(self, observations):
        mean = self.mean(observations)
        return (mean + 0.1 * torch.randn_like(mean)).clamp(-1, 1)
""",
        {"act_is_deterministic"},
    ),
    "CountingAct": (
        """
class CountingAct(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.net["calls"] = torch.nn.Parameter(torch.zeros(len(self.seeds)))
    def act(self, observations):
        self.net["calls"] += 1
        return super().act(observations)
""",
        {"act_changes_nothing"},
    ),
    "GlobalRandomness": (
        """
class GlobalRandomness(Good):
    def losses(self, batch):
        return super().losses(batch) * np.random.uniform(0.5, 1.5)
""",
        {"seeds_reproduce"},
    ),
    "SingleRandomAct": (
        """
class SingleRandomAct(GoodSingle):
    def act(self, observations):
        return super().act(observations) * torch.rand(())
""",
        {"act_is_deterministic"},
    ),
    "SingleGlobalRandomness": (
        """
class SingleGlobalRandomness(GoodSingle):
    def update(self, batch):
        batch.observations[0] += np.random.uniform(0.5, 1.5)
        return super().update(batch)
""",
        {"batch_is_unchanged", "seeds_reproduce"},
    ),
    "SingleSharesState": (
        """
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
""",
        {"seeds_reproduce"},
    ),
    "ExploresOutOfBounds": (
        """
class ExploresOutOfBounds(Good):
    def explore(self, observations, noise):
        return self.act(observations) + 0.1 * noise
""",
        {"exploration_is_valid"},
    ),
    "ExploresOneReplica": (
        """
class ExploresOneReplica(BothActionSpaces):
    def explore(self, observations, noise):
        return super().explore(observations, noise)[0]
""",
        {"exploration_is_valid"},
    ),
    "ExploresWithoutNoise": (
        """
class ExploresWithoutNoise(Good):
    def explore(self, observations):
        return self.act(observations)
""",
        {"exploration_is_valid"},
    ),
    "ExploresWithGlobalRandomness": (
        """
class ExploresWithGlobalRandomness(Good):
    def explore(self, observations, noise):
        return self.act(observations) * np.random.uniform(0.5, 1)
""",
        {"exploration_is_reproducible"},
    ),
    "ExploreTrains": (
        """
class ExploreTrains(Good):
    def explore(self, observations, noise):
        self.net["weights"] *= 0.99
        return self.act(observations)
""",
        {"exploration_changes_nothing"},
    ),
    "ExploreIsRemembered": (
        """
class ExploreIsRemembered(Good):
    explored = 0
    def explore(self, observations, noise):
        self.explored += 1
        return self.act(observations)
    def errors(self, batch):
        return super().errors(batch) + self.explored * self.mean(batch.observations)
""",
        {"exploration_changes_nothing"},
    ),
    "SingleExploresOutOfBounds": (
        """
class SingleExploresOutOfBounds(GoodSingle):
    def explore(self, observations):
        return self.act(observations) + 0.1 * torch.randn(self.spec.action_size)
""",
        {"exploration_is_valid"},
    ),
    "SingleExploresWithGlobalRandomness": (
        """
class SingleExploresWithGlobalRandomness(GoodSingle):
    def explore(self, observations):
        return self.act(observations) * np.random.uniform(0.5, 1)
""",
        {"exploration_is_reproducible"},
    ),
    "SingleExploreCountsUpdates": (
        """
class SingleExploreCountsUpdates(GoodSingle):
    def explore(self, observations):
        self.updates += 1
        return self.act(observations) * torch.rand(())
""",
        {"exploration_changes_nothing"},
    ),
}


@pytest.fixture(scope="module")
def examine(tmp_path_factory: pytest.TempPathFactory) -> Examine:
    return make_examine(tmp_path_factory.mktemp("examples"), *(code for code, _ in BROKEN.values()))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_algorithm_fails_in_the_right_rules(examine: Examine, name: str) -> None:
    assert_only_these_fail(examine(name), BROKEN[name][1])


@pytest.mark.parametrize(
    ("name", "rule", "text"),
    [
        (
            "ExploresOutOfBounds",
            "exploration_is_valid",
            "expected actions within [-1, 1], got one of size 1.",
        ),
        (
            "ExploresOneReplica",
            "exploration_is_valid",
            "with continuous actions expected actions (1, 64, 2), got (64, 2)",
        ),
    ],
)
def test_a_failure_says_what_was_expected_and_found(
    examine: Examine, name: str, rule: str, text: str
) -> None:
    assert text in examine(name)[rule].message
