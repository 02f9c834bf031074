"""The made-up batches of the check hold what an algorithm's `sampling` asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from contract_examples import assert_only_these_fail, make_examine

from seqeval import plugins
from seqeval.check.subject import BATCH_SIZE, SEEDS, Subject

FILE = Path(__file__).with_name("example_algorithms.py")
KINDS = [
    {},
    {"next_actions": True, "returns_to_go": True, "rows": True},
    {"kind": "n_step", "length": 3, "discount": 0.9},
    {"kind": "sequences", "length": 4, "next_actions": True, "returns_to_go": True},
]


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("name", ["Summing", "SingleSumming"])
def test_batches_have_the_fields_that_the_algorithm_asks_for(name: str, settings: dict[str, Any]) -> None:
    found = plugins.find(f"{FILE}:{name}")
    subject = Subject(found, found.Config(batch_size=BATCH_SIZE, **settings), "continuous")
    algorithm = subject.make()
    batch = subject.batch(algorithm, update=2)
    lead = (len(SEEDS), BATCH_SIZE, 4) if settings.get("kind") == "sequences" else (len(SEEDS), BATCH_SIZE)
    asked = {
        "next_actions": settings.get("next_actions"),
        "next_actions_mask": settings.get("next_actions"),
        "returns_to_go": settings.get("returns_to_go"),
        "returns_to_go_mask": settings.get("returns_to_go"),
        "rows": settings.get("rows"),
        "steps": settings.get("kind") == "n_step",
        "mask": settings.get("kind") == "sequences",
    }
    for field, wanted in asked.items():
        value = getattr(batch, field)
        assert (value is not None) == bool(wanted), field
        assert value is None or value.shape[: len(lead)] == lead
    if settings.get("returns_to_go"):
        hidden = batch.returns_to_go_mask == 0
        assert hidden.any()
        assert torch.equal(batch.returns_to_go.isinf(), hidden)
    algorithm.update(batch)
    assert algorithm.updates == 1


SEQUENTIAL = """
from seqeval.algorithm import Sampling

class Sequential(Good):
    noise = {}
    sampling = Sampling("sequences", 4, next_actions=True, returns_to_go=True)

    def errors(self, batch):
        errors = (self.mean(batch.observations.flatten(1, 2)) - batch.actions.flatten(1, 2)).square()
        repeated = (batch.next_actions - batch.actions).square() * batch.next_actions_mask.unsqueeze(-1)
        return batch.mask.flatten(1, 2).unsqueeze(-1) * (errors + 0.1 * repeated.flatten(1, 2))
"""


def test_an_algorithm_that_learns_from_sequences_can_pass_the_check(tmp_path: Path) -> None:
    assert_only_these_fail(make_examine(tmp_path, SEQUENTIAL)("Sequential"), set())
