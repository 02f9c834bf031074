"""What minibatches hold, for each kind of sampling, against a slow reference that uses the dataset's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conftest import make_dataset
from hypothesis import given
from hypothesis import strategies as st
from training_setup import (
    EXAMPLES,
    POINTS,
    STREAM,
    Training,
    equal_tensors,
    make_job,
    small_dataset,
    train,
    without_seconds,
)

from seqeval import Evaluation, Execution, Online, Protocol, Study, environments, run
from seqeval.algorithm import Sampling
from seqeval.replay.buffer import Buffer
from seqeval.replay.indices import Indices
from seqeval.replay.normalization import ObservationNormalizer, RewardScale, action_mapping
from seqeval.replay.samplers import make_sampler
from seqeval.seeding import stream
from seqeval.slicing import arrival_order
from seqeval.types import Batch, Dataset

CPU = torch.device("cpu")
UNSCALED = RewardScale()
EVERYTHING = {"next_actions": True, "returns_to_go": True, "rows": True, "times": True}
SUMMING, SINGLE = f"{EXAMPLES}:Summing", f"{EXAMPLES}:SingleSumming"


@contextmanager
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def episodes(lengths: Sequence[int], ends: Sequence[str], seed: int = 0, name: str = "made") -> Dataset:
    """Random episodes. Their ends are `terminated`, `truncated`, or `open`: without a mark, as at the end of
    a file."""
    size, last = sum(lengths), np.cumsum(lengths) - 1
    terminated, truncated = np.zeros(size, bool), np.zeros(size, bool)
    terminated[[row for row, end in zip(last, ends, strict=True) if end == "terminated"]] = True
    truncated[[row for row, end in zip(last, ends, strict=True) if end == "truncated"]] = True
    plain = make_dataset(episodes=1, length=size, seed=seed)
    episode = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return replace(plain, name=name, terminated=terminated, truncated=truncated, episode=episode)


def make_buffer(datasets: Sequence[Dataset], room: int = 0, replicas: int = 0) -> Buffer:
    mapping = action_mapping(environments.describe("Pendulum-v1").actions, CPU)
    return Buffer(datasets, [mapping] * len(datasets), CPU, room, replicas, episodes=True)


def make_indices(rows: Sequence[Sequence[int]], visible: Sequence[int]) -> Indices:
    return Indices(torch.tensor(rows, dtype=torch.int32), torch.tensor(visible, dtype=torch.int32), {})


def build(
    datasets: Sequence[Dataset],
    sampling: Sampling,
    orders: Sequence[np.ndarray],
    rows: Sequence[Sequence[int]],
    visible: Sequence[int],
    scales: Sequence[RewardScale] | None = None,
) -> Batch:
    scales = [UNSCALED] * len(orders) if scales is None else scales
    sampler = make_sampler(make_buffer(datasets), sampling, scales, None, orders, datasets)
    return sampler.sample(make_indices(rows, visible))


@dataclass
class SlowReference:
    """One replica's view of a buffer of datasets, in plain Python."""

    datasets: Sequence[Dataset]
    arrived: set[int]  # rows of the buffer
    scale: RewardScale
    sampling: Sampling

    def transition(self, row: int) -> tuple[Dataset, int]:
        """The dataset that a row of the buffer belongs to, and its place there."""
        for dataset in self.datasets:
            if row < len(dataset):
                return dataset, row
            row -= len(dataset)
        raise IndexError(row)

    def ends(self, row: int) -> bool:
        dataset, place = self.transition(row)
        return bool(dataset.terminated[place] or dataset.truncated[place])

    def following(self, row: int) -> int | None:
        """The row of the next transition of the same episode."""
        dataset, place = self.transition(row)
        if self.ends(row) or place + 1 == len(dataset):
            return None
        return row + 1 if dataset.episode[place + 1] == dataset.episode[place] else None

    def time(self, row: int) -> int:
        """The steps of the episode that come before."""
        dataset, place = self.transition(row)
        return place - int(np.flatnonzero(dataset.episode == dataset.episode[place])[0])

    def reward(self, row: int) -> float:
        dataset, place = self.transition(row)
        return self.scale.factor * float(dataset.rewards[place]) + self.scale.offset

    def consecutive(self, row: int) -> list[int]:
        rows = [row]
        while len(rows) < self.sampling.length:
            following = self.following(rows[-1])
            if following is None or following not in self.arrived:
                break
            rows.append(following)
        return rows

    def n_step_reward(self, row: int) -> float:
        rows = self.consecutive(row)
        return sum(self.sampling.discount**k * self.reward(row) for k, row in enumerate(rows))

    def return_to_go(self, row: int) -> float | None:
        """None where it is not known yet."""
        rows = [row]
        while (following := self.following(rows[-1])) is not None:
            rows.append(following)
        if not self.ends(rows[-1]) or not self.arrived.issuperset(rows):
            return None
        return sum(self.sampling.discount**k * self.reward(row) for k, row in enumerate(rows))

    def value(self, name: str, row: int) -> np.ndarray:
        dataset, place = self.transition(row)
        values = getattr(dataset, name)[place].astype(np.float64)
        return np.clip(values / 2, -1 + 1e-5, 1 - 1e-5) if name == "actions" else values


def check_extras(reference: SlowReference, batch: Batch, at: tuple, row: int) -> None:
    """Compares the optional fields of one transition."""
    assert batch.rows[at].item() == reference.transition(row)[1]
    assert batch.times[at].item() == reference.time(row)
    following = reference.following(row)
    assert batch.next_actions_mask[at].item() == (following is not None)
    source = row if following is None else following
    np.testing.assert_allclose(batch.next_actions[at], reference.value("actions", source), rtol=1e-14)
    expected = reference.return_to_go(row)
    assert batch.returns_to_go_mask[at].item() == (expected is not None)
    assert batch.returns_to_go[at].item() == pytest.approx(
        -np.inf if expected is None else expected, rel=1e-12, abs=1e-12
    )


def check_transition(reference: SlowReference, batch: Batch, at: tuple, row: int, last: int) -> None:
    """Compares the fields that every batch has; `last` is the row that the next observation is from."""
    for name, source in (("observations", row), ("next_observations", last), ("actions", row)):
        np.testing.assert_array_equal(getattr(batch, name)[at], reference.value(name, source))
    dataset, place = reference.transition(last)
    assert batch.terminated[at].item() == dataset.terminated[place]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Dataset], list[np.ndarray], list[int], list[list[int]], list, dict]:
    """Datasets, orders, numbers of visible transitions, sampled rows, reward scales, settings."""
    datasets = []
    for number in range(draw(st.integers(1, 3))):
        lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
        ends = [draw(st.sampled_from(["terminated", "truncated", "open"])) for _ in lengths]
        datasets.append(episodes(lengths, ends, seed=number))
    offsets = np.cumsum([0, *map(len, datasets)])
    orders, visible, rows, scales = [], [], [], []
    for seed in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(datasets) - 1))
        kind, size = draw(st.sampled_from(["shuffled", "episodes", "logged"])), len(datasets[number])
        data = datasets[number]
        returns = np.zeros(data.episode[-1] + 1)
        order = arrival_order(kind, stream(seed, "order"), data.episode, returns, (size,))
        orders.append(order + np.int32(offsets[number]))
        visible.append(draw(st.integers(1, size)))
        positions = st.integers(0, visible[-1] - 1)
        rows.append([int(orders[-1][draw(positions)]) for _ in range(4)])
        scales.append(RewardScale(draw(st.sampled_from([1.0, 2.5])), draw(st.sampled_from([0.0, -1.0]))))
    settings = {"length": draw(st.integers(1, 5)), "discount": draw(st.sampled_from([1.0, 0.9]))}
    return datasets, orders, visible, rows, scales, settings


@given(cases())
def test_batches_of_single_transitions_equal_the_reference(case) -> None:
    datasets, orders, visible, rows, scales, settings = case
    sampling = Sampling("transitions", **(settings | {"length": 1}), **EVERYTHING)
    with in_float64():
        batch = build(datasets, sampling, orders, rows, visible, scales)
    assert (batch.steps, batch.mask) == (None, None)
    for replica, sampled in enumerate(rows):
        arrived = set(orders[replica][: visible[replica]].tolist())
        reference = SlowReference(datasets, arrived, scales[replica], sampling)
        for place, row in enumerate(sampled):
            at = (replica, place)
            check_transition(reference, batch, at, row, row)
            check_extras(reference, batch, at, row)
            assert batch.rewards[at].item() == pytest.approx(reference.reward(row), rel=1e-14)


@given(cases())
def test_n_step_batches_equal_the_reference(case) -> None:
    datasets, orders, visible, rows, scales, settings = case
    sampling = Sampling("n_step", **settings, **EVERYTHING)
    with in_float64():
        batch = build(datasets, sampling, orders, rows, visible, scales)
    for replica, sampled in enumerate(rows):
        arrived = set(orders[replica][: visible[replica]].tolist())
        reference = SlowReference(datasets, arrived, scales[replica], sampling)
        for place, row in enumerate(sampled):
            at, consecutive = (replica, place), reference.consecutive(row)
            check_transition(reference, batch, at, row, consecutive[-1])
            check_extras(reference, batch, at, row)
            assert batch.steps[at].item() == len(consecutive)
            assert batch.rewards[at].item() == pytest.approx(
                reference.n_step_reward(row), rel=1e-12, abs=1e-12
            )


@given(cases())
def test_sequences_equal_the_reference(case) -> None:
    datasets, orders, visible, rows, scales, settings = case
    sampling = Sampling("sequences", **settings, **EVERYTHING)
    with in_float64():
        batch = build(datasets, sampling, orders, rows, visible, scales)
    assert batch.observations.shape == (len(orders), 4, sampling.length, 3)
    assert batch.actions.shape == (len(orders), 4, sampling.length, 1)
    for replica, sampled in enumerate(rows):
        arrived = set(orders[replica][: visible[replica]].tolist())
        reference = SlowReference(datasets, arrived, scales[replica], sampling)
        for place, first in enumerate(sampled):
            consecutive = reference.consecutive(first)
            padding = [consecutive[-1]] * (sampling.length - len(consecutive))
            for step, row in enumerate(consecutive + padding):
                at = (replica, place, step)
                check_transition(reference, batch, at, row, row)
                check_extras(reference, batch, at, row)
                assert batch.rewards[at].item() == pytest.approx(reference.reward(row), rel=1e-14)
                assert batch.mask[at].item() == (step < len(consecutive))


def by_hand() -> Dataset:
    """Three episodes: rows 0-2 terminate, rows 3-5 are truncated, rows 6-7 have no end."""
    data = episodes([3, 3, 2], ["terminated", "truncated", "open"])
    rewards = np.array([1, 2, 4, 8, 16, 32, 64, 128], np.float32)
    actions = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    return replace(data, rewards=rewards, actions=actions)


LOGGED = np.arange(8, dtype=np.int32)


def test_n_step_rewards_by_hand(float64: None) -> None:
    sampling = Sampling("n_step", length=3, discount=0.5)
    batch = build([by_hand()], sampling, [LOGGED], [[0, 1, 2, 4, 5, 6]], [8])
    assert batch.rewards.tolist() == [[1 + 1 + 1, 2 + 2, 4, 16 + 16, 32, 64 + 64]]
    assert batch.steps.tolist() == [[3, 2, 1, 2, 1, 2]]
    # A truncated episode bootstraps from its last observation, a terminated one does not.
    assert batch.terminated.tolist() == [[1, 1, 1, 0, 0, 0]]
    last = by_hand().next_observations[[2, 2, 2, 5, 5, 7]].astype(np.float64)
    np.testing.assert_array_equal(batch.next_observations[0], last)
    # Six transitions have arrived: the episode of row 4 ends, that of row 6 has not started.
    fewer = build([by_hand()], sampling, [LOGGED], [[0, 3, 4]], [5])
    assert fewer.steps.tolist() == [[3, 2, 1]]
    assert fewer.rewards.tolist() == [[3, 8 + 8, 16]]


def test_n_step_rewards_are_scaled_step_by_step(float64: None) -> None:
    sampling, scales = Sampling("n_step", length=2, discount=0.5), [RewardScale(10.0, -1.0), UNSCALED]
    batch = build([by_hand()], sampling, [LOGGED] * 2, [[0, 2]] * 2, [8, 8], scales)
    assert batch.rewards.tolist() == [[9 + 0.5 * 19, 39], [2, 4]]


def test_sequences_by_hand(float64: None) -> None:
    sampling = Sampling("sequences", length=4, rows=True)
    order = np.array([1, 2, 0, 6, 3, 5, 4, 7], np.int32)
    batch = build([by_hand()], sampling, [order] * 2, [[0, 1, 3], [0, 3, 6]], [5, 8])
    # Five have arrived: 1, 2, 0, 6 and 3.
    assert batch.rows.tolist() == [
        [[0, 1, 2, 2], [1, 2, 2, 2], [3, 3, 3, 3]],
        [[0, 1, 2, 2], [3, 4, 5, 5], [6, 7, 7, 7]],
    ]
    assert batch.mask.tolist() == [
        [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]],
        [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0]],
    ]


def test_returns_to_go_by_hand(float64: None) -> None:
    sampling = Sampling(discount=0.5, returns_to_go=True)
    order = np.array([1, 2, 0, 6, 3, 5, 4, 7], np.int32)
    expected = {0: 1 + 1 + 1, 1: 2 + 2, 2: 4, 3: 8 + 8 + 8, 4: 16 + 16, 5: 32}
    first_known = {1: 2, 2: 2, 0: 3, 5: 6, 4: 7, 3: 7}  # number of visible transitions
    for visible in range(1, 9):
        rows = order[:visible].tolist()
        batch = build([by_hand()], sampling, [order], [rows], [visible])
        known = [first_known.get(row, 99) <= visible for row in rows]
        assert batch.returns_to_go_mask.tolist() == [list(map(float, known))]
        values = [expected[row] if k else -np.inf for row, k in zip(rows, known, strict=True)]
        assert batch.returns_to_go.tolist() == [values]


def test_next_actions_by_hand(float64: None) -> None:
    sampling = Sampling(next_actions=True)
    batch = build([by_hand()], sampling, [LOGGED], [[0, 1, 2, 4, 5, 6, 7]], [8])
    assert batch.next_actions_mask.tolist() == [[1, 1, 0, 1, 0, 1, 0]]
    actions = batch.actions.new_tensor(by_hand().actions / 2)
    assert torch.equal(batch.next_actions[0], actions[[1, 2, 2, 5, 5, 7, 7]])


def test_fields_that_are_not_asked_for_are_none() -> None:
    batch = build([by_hand()], Sampling(), [LOGGED], [[0, 1]], [8])
    for name in ("next_actions", "next_actions_mask", "returns_to_go", "returns_to_go_mask", "rows", "times"):
        assert getattr(batch, name) is None


def test_observations_of_sequences_are_normalized(float64: None) -> None:
    normalizer = ObservationNormalizer(2, 3, CPU)
    normalizer.set(1, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 4.0]))
    buffer, sampling = make_buffer([by_hand()]), Sampling("sequences", length=2)
    sampler = make_sampler(buffer, sampling, [UNSCALED] * 2, normalizer, [LOGGED] * 2, [by_hand()])
    batch = sampler.sample(make_indices([[0, 4], [0, 4]], [8, 8]))
    plain = by_hand().observations[[[0, 1], [4, 5]]].astype(np.float64)
    np.testing.assert_array_equal(batch.observations[0], plain)
    np.testing.assert_allclose(batch.observations[1], (plain - [1, 2, 3]) / [2, 2, 4], rtol=1e-14)


def test_online_transitions_are_extended_when_the_next_one_arrives() -> None:
    """Two replicas after the same data; the second episode starts with the third online transition."""
    data, room, pushes = by_hand(), 4, 0.25
    buffer = make_buffer([data], room, replicas=2)
    orders = [np.concatenate([LOGGED, buffer.online_rows(replica)]) for replica in range(2)]
    sampling = Sampling("n_step", length=3, discount=0.5, **EVERYTHING)
    sampler = make_sampler(buffer, sampling, [UNSCALED] * 2, None, orders, [data])
    steps, masks = [], []
    for place in range(room):
        observations = np.full((2, 3), place, np.float32)
        rewards, starts = np.array([1.0, 10.0]), np.array([place in (0, 2)] * 2)
        actions = torch.full((2, 1), pushes * place)
        buffer.add(place, observations, actions, rewards, observations + 1, np.zeros(2, bool), starts)
        rows = [
            buffer.online_rows(replica)[: place + 1].tolist() + [7] * (room - place) for replica in range(2)
        ]
        batch = sampler.sample(make_indices(rows, [9 + place] * 2))
        stored = place + 1
        assert torch.equal(batch.steps[0], batch.steps[1])
        steps.append(batch.steps[0, :stored].tolist())
        masks.append(batch.next_actions_mask[0, :stored].int().tolist())
        np.testing.assert_allclose(batch.rewards[1, :stored], 10 * batch.rewards[0, :stored])
        # Where nothing follows yet, there is no next action; the last row of the data continues nowhere.
        following = [pushes * (k + mask) for k, mask in enumerate(masks[-1])]
        np.testing.assert_allclose(batch.next_actions[0, :stored, 0], following)
        assert batch.steps[0, stored:].tolist() == [1] * (room - place)
        assert batch.times[0, :stored].tolist() == [0, 1, 0, 1][:stored]
        # The return of an online episode is not known.
        assert not batch.returns_to_go_mask[:, :stored].any()
    assert steps == [[1], [2, 1], [2, 1, 1], [2, 1, 2, 1]]
    assert masks == [[0], [1, 0], [1, 0, 0], [1, 0, 1, 0]]


# --- in a study ---

SETTINGS = [
    {"next_actions": True},
    {"returns_to_go": True, "discount": 0.9},
    {"rows": True, "times": True},
    {"kind": "n_step", "length": 3, "discount": 0.9, **EVERYTHING},
    {"kind": "sequences", "length": 4, **EVERYTHING},
]
IDS = ["next_actions", "returns_to_go", "rows", "n_step", "sequences"]


@pytest.mark.parametrize("poison", [np.nan, 1e30])
@pytest.mark.parametrize("order", ["shuffled", "episodes", "logged", "return"])
@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_transitions_that_have_not_arrived_change_nothing(settings: dict, order, poison: float) -> None:
    """The leak audit. A next logged action arrives with the transition itself: it is not overwritten. Metrics
    that are about the transitions that arrive next are left out."""
    protocol = replace(STREAM, order=order, window=45 if order == "logged" else None)
    clean = small_dataset()
    arrival = arrival_order(order, stream(3, "order"), clean.episode, clean.episode_returns, clean.segments)

    def until(dataset: Dataset, count: int | None) -> list:
        evaluation = replace(POINTS, metrics=("episodes",))
        job, found = make_job(SUMMING, [(dataset, [3])], protocol, evaluation=evaluation, **settings), []
        with Training(job, [dataset]).trainer() as trainer:
            for row in trainer.train():
                found.append((without_seconds(row), trainer.agents.state_of(0)))
                if len(found) == count:
                    break
        return found

    expected = until(clean, None)
    for index in range(len(expected) - 1):
        samples = expected[index][0]["samples"]
        seen, unseen = arrival[:samples], arrival[samples:]
        fields = {}
        for name in ("observations", "actions", "rewards", "next_observations"):
            rows = unseen
            if name == "actions" and settings.get("next_actions"):
                rows = np.setdiff1d(unseen, seen[~(clean.terminated | clean.truncated)[seen]] + 1)
            fields[name] = getattr(clean, name).copy()
            fields[name][rows] = poison
        for name in ("terminated", "truncated"):
            fields[name] = getattr(clean, name).copy()
            fields[name][unseen] ^= True
        found = until(replace(clean, **fields), index + 2)
        assert found[index][0] == expected[index][0]
        assert equal_tensors(found[index][1], expected[index][1])
    assert found[-1][0] != expected[-1][0]


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
@pytest.mark.parametrize("name", [SUMMING, SINGLE], ids=["batched", "single"])
def test_a_run_does_not_depend_on_seeds_datasets_or_interruptions(name: str, settings: dict) -> None:
    """With several datasets of different sizes in one buffer, a window, and an online phase."""
    datasets = [small_dataset("long", 12, 1), small_dataset("short", 9, 2)]
    options = {"protocol": replace(STREAM, window=50), "online": Online(steps=6, mix=0.5)}
    if name == SINGLE:  # may depend on the total number of updates
        datasets[1] = small_dataset("short", 12, 2)
    runs = list(zip(datasets, ([3, 1], [0]), strict=True))
    together = Training(make_job(name, runs, **options, **settings), datasets).train()
    resumed = Training(make_job(name, runs, **options, **settings), datasets)
    assert resumed.train({5, 44, 45, 63}).outcome() == together.outcome()
    for dataset, seeds in runs:
        for seed in seeds:
            alone = train(name, [seed], dataset, **options, **settings)
            assert together.outcome(alone.job.runs[0]) == alone.outcome()


@pytest.mark.parametrize("name", ["Summing", "SingleSumming"])
@pytest.mark.parametrize("kind", ["transitions", "n_step", "sequences"])
def test_a_study_runs_with_every_kind_of_sampling(tmp_path, name: str, kind: str) -> None:
    asked = f"kind={kind},length=3,next_actions=True,returns_to_go=True,rows=True"
    study = Study(
        datasets=("pendulum-replay",),
        algorithms=(f"{EXAMPLES}:{name}:{asked},batch_size=8,name=summing",),
        seeds=(0, 1),
        protocol=Protocol(start=1000, grow_by=500, order="episodes"),
        evaluation=Evaluation(points=2, episodes=1),
    )
    rows = run(study, tmp_path / "study", Execution(jobs=1))
    assert len(rows) == 2 * 3
    assert (rows["status"] == "ok").all()
    expected = {"next_actions_mask", "returns_to_go", "rows"}
    expected |= {"n_step": {"steps"}, "sequences": {"mask"}}.get(kind, set())
    assert {f"train/{metric}" for metric in expected} <= set(rows.columns)
