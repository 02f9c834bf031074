"""Rules on what an update uses of its inputs, and on what it must not use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from seqeval.check.batches import with_other_next_actions, with_other_padding
from seqeval.check.randomness import agents_share_nothing
from seqeval.check.rules import FLOAT32, difference, expect, expect_equal, rule
from seqeval.check.subject import SEEDS, TOTAL_UPDATES, UPDATES, Subject
from seqeval.replay.indices import draw_noise
from seqeval.seeding import stream
from seqeval.types import Batch

Change = Callable[[Batch], Batch]


@rule("masked values of a batch are not used", "Batch", agents_share_nothing)
def masked_values_are_not_used(subject: Subject) -> None:
    sampling = subject.untrained[0].sampling
    masked: dict[str, Change] = {}
    if sampling.next_actions:
        masked["next_actions where next_actions_mask is 0"] = with_other_next_actions
    if sampling.kind == "sequences":
        masked["padding, where mask is 0"] = with_other_padding
    for name, change in masked.items():
        found = _effect(subject, change, FLOAT32)
        expect(found is None, f"the same updates with other values in {name}", found)


@rule("an update that uses next_observations uses terminated", "Batch.terminated", agents_share_nothing)
def terminated_is_used(subject: Subject) -> None:
    uses_next = _effect(subject, lambda b: replace(b, next_observations=-b.next_observations))
    uses_terminated = _effect(subject, lambda b: replace(b, terminated=1 - b.terminated))
    if uses_next is not None:
        expected = "an update that uses next_observations to use terminated: no value follows a terminal"
        expect(uses_terminated is not None, f"{expected} transition", "the same for any terminated")


@rule("every declared noise is used", "Algorithm.noise", agents_share_nothing)
def noise_is_used(subject: Subject) -> None:
    for name, noise in subject.untrained[0].noise.items():

        def change(batch: Batch, name: str = name, noise=noise) -> Batch:  # type: ignore[no-untyped-def]
            drawn = draw_noise(noise, 1, stream(1, "check", "other"))
            other = torch.from_numpy(drawn).to(batch.noise[name].dtype)
            return replace(batch, noise=batch.noise | {name: other})

        expected = f"an update to use its noise {name!r}"
        expect(_effect(subject, change) is not None, expected, "the same for any noise")


@rule(
    "total_updates changes nothing, if so declared",
    "Algorithm.depends_on_total_updates",
    agents_share_nothing,
)
def total_updates_are_declared(subject: Subject) -> None:
    if subject.found.depends_on_total_updates(subject.config):
        return
    declared, total = subject.solo[0], TOTAL_UPDATES + subject.long
    other = subject.make(SEEDS[:1], total_updates=total)
    expected = f"the same with total_updates {TOTAL_UPDATES} and {total}, as depends_on_total_updates says"
    for update, metrics in enumerate(subject.train(other, 0, subject.long)):
        expect_equal(declared.metrics[update], metrics, f"{expected}, in update {update + 1}")
    expect_equal(subject.snapshot(declared.algorithm), subject.snapshot(other), expected)


def _effect(subject: Subject, change: Change, tolerance: tuple[float, float] = (0.0, 0.0)) -> str | None:
    """What differs when the batches of a short training are changed; None if nothing does."""
    plain, changed = subject.make(SEEDS[:1]), subject.make(SEEDS[:1])
    for update in range(max(UPDATES, plain.period or 1)):
        batch = subject.batch(plain, update)
        metrics = plain.update(batch), changed.update(change(subject.batch(changed, update)))
        if found := difference(*metrics, tolerance):
            return found
    return difference(subject.snapshot(plain), subject.snapshot(changed), tolerance)
