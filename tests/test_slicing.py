"""Orders of arrival and the schedule of `stream`: cases worked out by hand, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqeval.config import Protocol
from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.slicing import Stream, arrival_order

EPISODE = np.array([0, 0, 1, 1, 1, 2, 3, 3], np.int32)
RETURNS = np.array([5.0, -1.0, 7.0, -1.0])
SEGMENTS = (3, 5)


class Fixed:
    """A generator whose permutations are reversals and whose uniforms are all the same number."""

    def __init__(self, uniform: float = 0.0) -> None:
        self.uniform = uniform

    def permutation(self, size: int) -> np.ndarray:
        return np.arange(size)[::-1]

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.uniform)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("shuffled", [7, 6, 5, 4, 3, 2, 1, 0]),
        ("logged", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("segments", [2, 1, 0, 7, 6, 5, 4, 3]),
        ("segments-by-episode", [2, 0, 1, 6, 7, 5, 3, 4]),  # episode 1 lies in both segments
        ("episodes", [6, 7, 5, 2, 3, 4, 0, 1]),  # episodes in the order 3, 2, 1, 0
        ("return", [2, 3, 4, 6, 7, 0, 1, 5]),  # returns -1, -1 (as in the file), 5, 7
    ],
)
def test_orders_by_hand(order, expected: list[int]) -> None:
    found = arrival_order(order, Fixed(), EPISODE, RETURNS, SEGMENTS)  # type: ignore[arg-type]
    assert found.tolist() == expected
    assert found.dtype == np.int32


episode_lengths = st.lists(st.integers(1, 6), min_size=1, max_size=8)
any_order = st.sampled_from(["shuffled", "episodes", "logged", "segments", "segments-by-episode", "return"])


@given(lengths=episode_lengths, order=any_order, seed=st.integers(0, 2**32), data=st.data())
def test_an_order_is_a_permutation_that_depends_only_on_the_seed(lengths, order, seed, data) -> None:
    size = sum(lengths)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    returns = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(lengths), max_size=len(lengths))))
    cut = data.draw(st.integers(0, size))
    arguments = (episode, returns, (cut, size - cut))
    found = arrival_order(order, stream(seed, "order"), *arguments)
    assert sorted(found) == list(range(size))
    other = stream(seed + 1, "order")
    other.permutation(size)  # another seed is used in between
    assert np.array_equal(found, arrival_order(order, stream(seed, "order"), *arguments))
    if order in ("episodes", "return"):
        borders = np.flatnonzero(np.diff(episode[found])) + 1
        assert len(borders) == len(lengths) - 1  # no episode is divided
        assert all((np.diff(part) == 1).all() for part in np.split(found, borders))
    if order == "segments-by-episode":
        for part in (found[found < cut], found[found >= cut]):
            ends = np.flatnonzero(np.diff(episode[part])) + 1
            assert all((np.diff(rows) == 1).all() for rows in np.split(part, ends))
            assert len(ends) + 1 == max(1, len(set(episode[part])))
    if order == "return":
        assert (np.diff(returns[episode[found]]) >= 0).all()
    if order in ("segments", "segments-by-episode"):
        assert set(found[:cut]) == set(range(cut))


def test_shuffled_is_uniform_over_the_orders() -> None:
    counts: dict[tuple, int] = {}
    for seed in range(1200):
        key = tuple(arrival_order("shuffled", stream(seed, "order"), np.zeros(3, int), np.zeros(1), (3,)))
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6
    assert all(150 < count < 250 for count in counts.values())  # 200 ± 4 standard deviations


def test_stream_by_hand() -> None:
    # N = 10, T0 = 3, γ = 4: arrivals of 4 and of 3, K = 2 updates at 3, 7 and 10.
    schedule = Stream(size=10, start=3, grow_by=4, updates_per_growth=2, window=None)
    assert (schedule.arrivals, schedule.updates) == (2, 6)
    lowest = schedule.positions(0, 6, Fixed(0.0), batch_size=5)
    assert lowest.tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 3, 4, 5, 6],  # the four arrivals, oldest first, at the tail
        [0, 0, 0, 0, 0],
        [0, 0, 7, 8, 9],
        [0, 0, 0, 0, 0],
    ]
    highest = schedule.positions(0, 6, Fixed(1 - 2**-53), batch_size=5)
    assert highest[:, 0].tolist() == [2, 2, 6, 6, 9, 9]


def test_arrivals_larger_than_a_batch_fill_the_following_batches() -> None:
    schedule = Stream(size=8, start=1, grow_by=7, updates_per_growth=3, window=None)
    drawn = schedule.positions(3, 6, Fixed(0.0), batch_size=3)
    assert drawn.tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 7]]


def test_a_window_restricts_sampling_to_the_newest_transitions() -> None:
    schedule = Stream(size=12, start=6, grow_by=2, updates_per_growth=1, window=3)
    assert schedule.positions(0, 4, Fixed(0.0), 4)[:, 0].tolist() == [3, 5, 7, 9]
    assert schedule.positions(0, 4, Fixed(1 - 2**-53), 4)[:, 0].tolist() == [5, 7, 9, 11]


def test_points_by_hand() -> None:
    # x = 3, 3 + round(2.33) = 5, 3 + round(4.67) = 8, 10; n is 3, 7, 11 → 10
    schedule = Stream(size=10, start=3, grow_by=4, updates_per_growth=2, window=None)
    assert schedule.points(3) == [(2, 3), (4, 7), (6, 10)]
    assert Stream(10, 10, 1, 5, None).points(20) == [(5, 10)]
    assert Stream(1_000_000, 5000, 1, 1, None).points(20)[1] == (49_751, 54_750)


schedules = st.builds(
    lambda start, more, grow_by, updates, extra: Stream(
        start + more, start, grow_by, updates, None if extra is None else grow_by + extra
    ),
    st.integers(1, 30),
    st.integers(0, 60),
    st.integers(1, 25),
    st.integers(1, 4),
    st.none() | st.integers(0, 30),
)


@given(schedule=schedules, batch_size=st.integers(1, 12), seed=st.integers(0, 9))
def test_only_visible_transitions_are_sampled_and_every_arrival_is_used(schedule, batch_size, seed) -> None:
    drawn = schedule.positions(0, schedule.updates, stream(seed, "minibatch"), batch_size)
    visible, low, before = schedule.start, 0, 0
    for update, positions in enumerate(drawn):  # the protocol step by step
        arrival = update // schedule.updates_per_growth
        visible = min(schedule.size, schedule.start + arrival * schedule.grow_by)
        low = 0 if schedule.window is None else max(0, visible - schedule.window)
        assert visible >= before  # prefixes are nested
        assert ((positions >= low) & (positions < visible)).all()
        before = visible
    assert visible == schedule.size
    if schedule.updates_per_growth * batch_size >= schedule.grow_by:
        assert set(range(schedule.start, schedule.size)) <= set(drawn.ravel().tolist())


@given(schedule=schedules, cut=st.floats(0, 1), seed=st.integers(0, 9))
def test_samples_do_not_depend_on_how_updates_are_divided(schedule, cut, seed) -> None:
    middle, rng = int(cut * schedule.updates), stream(seed, "minibatch")
    parts = [schedule.positions(0, middle, rng, 7), schedule.positions(middle, schedule.updates, rng, 7)]
    whole = schedule.positions(0, schedule.updates, stream(seed, "minibatch"), 7)
    assert np.array_equal(np.concatenate(parts), whole)


@given(schedule=schedules, count=st.integers(1, 30))
def test_points_follow_their_definition(schedule, count) -> None:
    points = schedule.points(count)
    expected = []
    for i in range(count + 1):
        mark = schedule.start + round(i * (schedule.size - schedule.start) / count)
        n, made = schedule.start, schedule.updates_per_growth
        while n < mark:
            n, made = min(schedule.size, n + schedule.grow_by), made + schedule.updates_per_growth
        if (made, n) not in expected:
            expected.append((made, n))
    assert points == expected
    assert points[-1] == (schedule.updates, schedule.size)


def test_samples_are_uniform_over_the_window() -> None:
    schedule = Stream(size=10, start=10, grow_by=1, updates_per_growth=2000, window=8)
    counts = np.bincount(schedule.positions(0, 2000, stream(0, "minibatch"), 20).ravel(), minlength=10)
    assert counts[:2].tolist() == [0, 0]
    assert abs(counts[2:] - 5000).max() < 300  # 4.5 standard deviations


def test_an_invalid_start_or_window_is_refused() -> None:
    with pytest.raises(UserError, match=r"protocol\.start: 11 .* has 10"):
        Stream(10, 11, 1, 1, None)
    with pytest.raises(UserError, match=r"protocol\.start: 11 .* --protocol\.hold-out 0\.5 leaves 10 of"):
        Protocol(start=11, hold_out=0.5).schedules(10)
    with pytest.raises(UserError, match=r"protocol\.window: 3 is less than grow_by = 4"):
        Stream(10, 5, 4, 1, 3)
