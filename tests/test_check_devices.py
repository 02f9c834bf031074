"""Rules on CUDA graphs: broken examples fail in the right ones."""

from __future__ import annotations

import pytest
from contract_examples import Examine, assert_only_these_fail, make_examine

BROKEN = {
    "PeriodOfZero": (
        """
class PeriodOfZero(Replayable):
    period = 0
""",
        {"updates_can_be_replayed"},
    ),
    "WrongPeriod": (
        """
class WrongPeriod(Replayable):
    period = 3
""",
        {"updates_can_be_replayed"},
    ),
    "ReadsALossOnTheHost": (
        """
class ReadsALossOnTheHost(Replayable):
    def descend(self, losses):
        if losses.sum() != 1e9:
            super().descend(losses)
""",
        {"updates_can_be_replayed"},
    ),
    "IndexesWithAMask": (
        """
class IndexesWithAMask(Replayable):
    def losses(self, batch):
        weights = self.net["weights"]
        return super().losses(batch) + 0 * weights[weights > 9].sum()
""",
        {"updates_can_be_replayed"},
    ),
    "DecaysALossOnTheHost": (
        """
class DecaysALossOnTheHost(Replayable):
    def losses(self, batch):
        return super().losses(batch) / self.updates
""",
        {"updates_can_be_replayed"},
    ),
    "DecaysTheOptimizerOnTheHost": (
        """
class DecaysTheOptimizerOnTheHost(Replayable):
    def descend(self, losses):
        self.optimizer.param_groups[0]["weight_decay"] = 0.1 / self.updates
        super().descend(losses)
""",
        {"updates_can_be_replayed"},
    ),
    "ReplacesATensor": (
        """
class ReplacesATensor(Replayable):
    def keep(self):
        kept = self.slow["weights"].lerp(self.net["weights"].detach(), 0.1)
        self.slow["weights"] = torch.nn.Parameter(kept, requires_grad=False)
""",
        {"updates_can_be_replayed"},
    ),
    "CreatesATensor": (
        """
class CreatesATensor(Replayable):
    def losses(self, batch):
        return super().losses(batch) * torch.tensor(0.5)
""",
        {"updates_can_be_replayed"},
    ),
    "ChangesItsMetrics": (
        """
class ChangesItsMetrics(Replayable):
    def update(self, batch):
        found = super().update(batch)
        return found if self.updates % 3 else {"third": next(iter(found.values()))}
""",
        {"updates_can_be_replayed"},
    ),
    "CountsOnTheHost": (
        """
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
""",
        {"updates_can_be_replayed"},
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
            "PeriodOfZero",
            "updates_can_be_replayed",
            "expected period to be None or an integer of at least 1, got 0",
        ),
        (
            "WrongPeriod",
            "updates_can_be_replayed",
            "expected update 13 to repeat update 10, got one that calls aten.",
        ),
        (
            "ReadsALossOnTheHost",
            "updates_can_be_replayed",
            "aten._local_scalar_dense.default, which reads the value of a tensor on",
        ),
        ("IndexesWithAMask", "updates_can_be_replayed", "aten.index.Tensor, which indexes with a mask"),
        ("DecaysALossOnTheHost", "updates_can_be_replayed", "aten.div.Tensor with 9 instead of 7 ("),
        (
            "DecaysTheOptimizerOnTheHost",
            "updates_can_be_replayed",
            "update 10 to repeat update 8, got one that calls aten._fused_adam",
        ),
        ("ReplacesATensor", "updates_can_be_replayed", "aten.lerp.Scalar with memory 0x"),
        ("CreatesATensor", "updates_can_be_replayed", "aten.lift_fresh.default with memory 0x"),
        (
            "ChangesItsMetrics",
            "updates_can_be_replayed",
            "to repeat update 7 with its metrics ['first'], got ['third']",
        ),
        (
            "CountsOnTheHost",
            "updates_can_be_replayed",
            "no number on the host to change, except updates, got made 3 and 8",
        ),
    ],
)
def test_a_failure_says_what_was_expected_and_found(
    examine: Examine, name: str, rule: str, text: str
) -> None:
    assert text in examine(name)[rule].message
