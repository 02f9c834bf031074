"""Rules on saving and loading: broken examples fail in the right ones."""

from __future__ import annotations

import pytest
from contract_examples import Examine, assert_only_these_fail, make_examine

BROKEN = {
    "ForgetsTheOptimizer": (
        """
class ForgetsTheOptimizer(Good):
    def state_dict(self):
        return {"updates": self.updates, "net": self.net.state_dict()}
    def load_state_dict(self, state):
        self.updates = state["updates"]
        self.net.load_state_dict(state["net"])
""",
        {"resumes_exactly"},
    ),
    "ForgetsThePolicy": (
        """
class ForgetsThePolicy(Good):
    def _stateful(self):
        return {}
""",
        {"resumes_exactly"},
    ),
    "NamesTheWrongPolicyParts": (
        """
class NamesTheWrongPolicyParts(Good):
    policy_parts = ()
""",
        {"policies_act_alike"},
    ),
    "SingleForgetsTheOptimizer": (
        """
class SingleForgetsTheOptimizer(GoodSingle):
    def _stateful(self):
        return {"net": self.net}
""",
        {"resumes_exactly"},
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
        ("ForgetsTheOptimizer", "resumes_exactly", "the loaded algorithm to continue as the saved one, got "),
    ],
)
def test_a_failure_says_what_was_expected_and_found(
    examine: Examine, name: str, rule: str, text: str
) -> None:
    assert text in examine(name)[rule].message
