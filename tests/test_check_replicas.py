"""Rules on the independence of replicas: broken examples fail in the right ones."""

from __future__ import annotations

import pytest
from contract_examples import Examine, assert_only_these_fail, make_examine

BROKEN = {
    "ScaledByAllReplicas": (
        """
class ScaledByAllReplicas(Good):
    def losses(self, batch):
        errors = self.errors(batch)
        return errors.mean((1, 2)) / errors.detach().mean() + 0.1 * self.net["weights"].square().mean((1, 2))
""",
        {"replicas_are_independent", "nan_stays_in_its_replica"},
    ),
    "MeanOverReplicas": (
        """
class MeanOverReplicas(Good):
    def descend(self, losses):
        super().descend(losses / len(self.seeds))
""",
        {"replicas_are_independent"},
    ),
    "ClippedTogether": (
        """
class ClippedTogether(Good):
    def descend(self, losses):
        self.optimizer.zero_grad()
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1e-3)
        self.optimizer.step()
""",
        {"replicas_are_independent", "nan_stays_in_its_replica"},
    ),
    "OneSeedForAllReplicas": (
        """
class OneSeedForAllReplicas(Good):
    def first_weights(self, rng):
        return super().first_weights(stream(self.seeds[0], "weights"))
""",
        {"replicas_are_independent"},
    ),
    "ChoosesWithSharedLoss": (
        """
class ChoosesWithSharedLoss(BothActionSpaces):
    def losses(self, batch):
        losses = super().losses(batch)
        return losses * losses.detach().mean() if self.spec.discrete else losses
""",
        {"replicas_are_independent", "nan_stays_in_its_replica"},
    ),
    "ExploresWithSharedNoise": (
        """
class ExploresWithSharedNoise(BothActionSpaces):
    def explore(self, observations, noise):
        return super().explore(observations, noise.mean(0))
""",
        {"exploration_is_independent"},
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
            "ExploresWithSharedNoise",
            "exploration_is_independent",
            "expected replica 0 of 3 to explore as it does solo, got values different by",
        ),
    ],
)
def test_a_failure_says_what_was_expected_and_found(
    examine: Examine, name: str, rule: str, text: str
) -> None:
    assert text in examine(name)[rule].message
