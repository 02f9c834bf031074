"""The made-up batches of the check hold what an algorithm's `sampling` asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqeval import check, plugins
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


@pytest.mark.parametrize("kind", ["n_step", "sequences"])
def test_batches_are_as_those_of_a_study(kind: str) -> None:
    found = plugins.find(f"{FILE}:Summing")
    settings = {"kind": kind, "length": 4, "next_actions": True, "rows": True}
    subject = Subject(found, found.Config(batch_size=64, **settings), "continuous")
    algorithm = subject.make()
    for update in range(7):
        batch = subject.batch(algorithm, update)
        if kind == "n_step":
            assert set(batch.steps.unique().tolist()) == {1, 2, 3, 4}
            continue
        visible = batch.mask.sum(-1)
        assert visible.min() == 1
        assert (batch.mask[..., 1:] <= batch.mask[..., :-1]).all()
        for fields in ("observations", "actions", "rewards", "next_observations", "terminated", "rows"):
            value = getattr(batch, fields)
            last = value.flatten(0, 1)[torch.arange(visible.numel()), visible.flatten().long() - 1]
            padding = batch.mask.flatten(0, 1) == 0
            repeated = last.unsqueeze(1).expand_as(value.flatten(0, 1))
            assert torch.equal(value.flatten(0, 1)[padding], repeated[padding]), "padding repeats the last"
        follows = batch.mask[..., 1:] > 0
        assert torch.equal(
            batch.next_observations[..., :-1, :][follows], batch.observations[..., 1:, :][follows]
        )
        assert not batch.terminated[..., :-1][follows].any(), "a terminal transition is the last"
        assert not (batch.terminated * batch.next_actions_mask).any()


def test_some_batches_have_terminal_transitions_alone_and_some_have_none() -> None:
    found = plugins.find(f"{FILE}:Summing")
    settings = {"next_actions": True, "returns_to_go": True}
    subject = Subject(found, found.Config(batch_size=BATCH_SIZE, **settings), "continuous")
    algorithm = subject.make()
    batches = [subject.batch(algorithm, update) for update in range(8)]
    assert any((batch.terminated == 1).all() for batch in batches)
    (plain,) = (batch for batch in batches if (batch.terminated == 0).all())
    assert (plain.rewards == 0).all()
    assert (plain.returns_to_go == -torch.inf).all()
    assert (plain.next_actions_mask == 0).all()


def test_the_example_algorithm_that_learns_passes() -> None:
    results = list(check.examine(f"{FILE}:Noisy"))
    assert not {result.name: result.message for result in results if result.status != "ok"}
