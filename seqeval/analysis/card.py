"""What is in a dataset, in figures, and what in it looks wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqeval.types import Dataset, Reference

CHUNK = 8_192  # rows that are looked at together: beside the data there is little more than their memory
BINS = 40
AT_BOUND = 1e-3  # an action that is this near to a bound, in units of its half range, is at the bound
SATURATED = 0.1  # share of numbers at a bound from which on there is a finding
NAMED = 8  # numbers of dimensions or actions that a finding names before it counts them


class Histogram(NamedTuple):
    counts: np.ndarray  # (bins,) int64
    edges: np.ndarray  # (bins + 1,) float64


@dataclass(frozen=True, eq=False)
class Card:
    """Figures of a dataset of N transitions and E episodes. Shares are between 0 and 1."""

    name: str
    env_id: str | None  # None where there is no environment to evaluate in
    transitions: int
    observation_size: int
    terminated: int
    truncated: int
    dropped: int  # logged transitions that are not used, as their next observation is not known
    returns: np.ndarray  # (E,) float64, in the order of the file
    lengths: np.ndarray  # (E,) int64: steps as logged, dropped ones included
    complete: np.ndarray  # (E,) bool: ended by a terminal or a timeout
    rewards: Histogram
    reward_range: tuple[float, float]
    actions: tuple[Histogram, ...]  # one a dimension, between its bounds; of discrete actions one, a bin each
    discrete: bool
    saturation: tuple[float, ...]  # share of actions at a bound, one a dimension; empty where discrete
    followed: float | None  # share of next observations inside episodes that are the next row's; None of none
    duplicates: int  # transitions that are an exact copy of an earlier one
    reference: Reference | None
    findings: tuple[str, ...]  # what looks wrong, a line each

    @property
    def counted(self) -> np.ndarray:
        """(E,) bool: the episodes that statistics are of, the complete ones, or all where none is."""
        return self.complete if self.complete.any() else np.ones_like(self.complete)

    @property
    def scores(self) -> np.ndarray | None:
        """(E,) float64; None without reference returns."""
        if self.reference is None:
            return None
        low, high = self.reference.minimum, self.reference.maximum
        return 100.0 * (self.returns - low) / (high - low)


def examine(dataset: Dataset, actions: range | tuple[np.ndarray, np.ndarray], time_limit: int | None) -> Card:
    """The card of a dataset with transitions.

    `actions` are the numbers that the environment's discrete actions have, or the lowest and the highest of
    its vectors, (action,) each. `time_limit` is the environment's, in steps.
    """
    ends = dataset.terminated | dataset.truncated
    lengths = _lengths(dataset, ends)
    terminal = np.zeros(len(lengths), bool)  # of each episode
    terminal[dataset.episode[dataset.terminated]] = True
    low, high = _extremes(dataset.rewards)
    lowest, highest = _extremes(dataset.observations)
    followed, still = _steps(dataset, ends)
    duplicates = _duplicates(dataset)
    if isinstance(actions, range):
        counts = np.bincount(dataset.actions - actions.start, minlength=len(actions))
        histograms: tuple[Histogram, ...] = (
            Histogram(counts, np.arange(actions.start, actions.stop + 1) - 0.5),
        )
        saturation: tuple[float, ...] = ()
        of_actions = _of_discrete(counts, actions)
    else:
        columns = list(zip(dataset.actions.T, *actions, strict=True))
        histograms = tuple(_histogram(values, float(a), float(b)) for values, a, b in columns)
        saturation = tuple(_at_bound(values, float(a), float(b)) for values, a, b in columns)
        of_actions = _of_continuous(dataset.actions, saturation)
    found = [
        *_of_rewards(float(low), float(high)),
        *_of_episodes(lengths, terminal, dataset.episode_complete, time_limit),
        *_of_observations(lowest, highest, still),
        *of_actions,
    ]
    if duplicates:
        share = percent(duplicates / len(dataset))
        found.append(f"{counted(duplicates, 'transition')} ({share}) are exact copies of another")
    return Card(
        name=dataset.name,
        env_id=dataset.env_id,
        transitions=len(dataset),
        observation_size=dataset.observation_size,
        terminated=int(dataset.terminated.sum()),
        truncated=int(dataset.truncated.sum()),
        dropped=int(lengths.sum()) - len(dataset),
        returns=dataset.episode_returns,
        lengths=lengths,
        complete=dataset.episode_complete,
        rewards=_histogram(dataset.rewards, float(low), float(high)),
        reward_range=(float(low), float(high)),
        actions=histograms,
        discrete=isinstance(actions, range),
        saturation=saturation,
        followed=followed,
        duplicates=duplicates,
        reference=dataset.reference,
        findings=tuple(found),
    )


def facts(about: Card) -> dict[str, str]:
    """What the card says, for people: a line each, without the findings."""
    returns, lengths = about.returns, about.lengths[about.counted]
    mean, best = returns[about.counted].mean(), returns.max()
    inside = "none inside an episode"
    if about.followed is not None:
        inside = f"{percent(about.followed)} of those inside episodes are what the next row observes"
    if about.discrete:
        shares = about.actions[0].counts / about.transitions
        named = zip(about.actions[0].edges[:-1] + 0.5, shares, strict=True)
        actions = ", ".join(f"{number:g}: {percent(share)}" for number, share in named)
    else:
        each = [percent(share) for share in about.saturation]
        actions = f"{percent(float(np.mean(about.saturation)))} of their numbers are at a bound"
        actions += f" ({', '.join(each)})" * (len(set(each)) > 1)
    found = {
        "environment": about.env_id or "none",
        "transitions": f"{about.transitions}",
        "observation": counted(about.observation_size, "number"),
        "action": f"one of {len(shares)}" if about.discrete else counted(len(about.actions), "number"),
        "episodes": f"{len(returns)}, {int(about.complete.sum())} of them complete",
        "lengths": f"median {np.median(lengths):g}, from {lengths.min()} to {lengths.max()} steps",
        "terminated, truncated": f"{about.terminated}, {about.truncated} transitions",
        "not used": counted(about.dropped, "logged transition"),
        "next observations": inside,
        "exact copies": counted(about.duplicates, "transition"),
        "actions": actions,
        "rewards": "from {:.4g} to {:.4g}".format(*about.reward_range),
        "returns": f"mean {mean:.2f}, from {returns.min():.2f} to {best:.2f}",
    }
    if about.env_id is None:
        return found | {"scores": "none: there is no environment to evaluate in"}
    if about.reference is None:
        return found | {"scores": "none: no reference returns are known"}
    score, low, high = about.reference.score, about.reference.minimum, about.reference.maximum
    return found | {
        "scores": f"mean {score(mean):.2f}, highest {score(best):.2f}",
        "score 0 and 100": f"returns {low:.2f} and {high:.2f}",
        "after": about.reference.source,
    }


def chart(values: np.ndarray, bins: int = 8, width: int = 40) -> list[str]:
    """A histogram of (n,) numbers in block characters, a line a bin."""
    counts, edges = histogram(values, bins)
    lines = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        whole, eighths = divmod(round(8 * width * int(count) / int(counts.max())), 8)
        bar = "█" * whole + " ▏▎▍▌▋▊▉"[eighths] * (eighths > 0)
        if count and not bar:  # a few are not none
            bar = "▏"
        lines.append(f"{low:10.4g} … {high:10.4g}  {bar}{' ' * bool(bar)}{count}")
    return lines


def histogram(values: np.ndarray, bins: int = BINS) -> Histogram:
    """Of (n,) numbers, n > 0, from the lowest to the highest."""
    return _histogram(values, float(values.min()), float(values.max()), bins)


def percent(share: float) -> str:
    """A share as people read it: neither a few nor all but a few are rounded to none or all."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.3g} %"


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _chunks(length: int) -> Iterator[slice]:
    return (slice(begin, min(begin + CHUNK, length)) for begin in range(0, length, CHUNK))


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column, or of (n,) numbers; in chunks, since NumPy is several times as slow along all rows."""
    parts = [values[rows] for rows in _chunks(len(values))]
    return np.min([part.min(axis=0) for part in parts], 0), np.max([part.max(axis=0) for part in parts], 0)


def _histogram(values: np.ndarray, low: float, high: float, bins: int = BINS) -> Histogram:
    """What lies outside of `low` and `high` is counted at the borders. What is all but one number has one bin
    for it in the middle."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300):
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
        bins += 1 - bins % 2
    counts = np.zeros(bins, np.int64)
    for rows in _chunks(len(values)):
        places = (values[rows].astype(np.float64) - low) * (bins / (high - low))
        counts += np.bincount(places.clip(0, bins - 1).astype(np.int64), minlength=bins)
    return Histogram(counts, np.linspace(low, high, bins + 1))


def _lengths(dataset: Dataset, ends: np.ndarray) -> np.ndarray:
    """Steps of each episode as logged: (E,) int64.

    The data rules drop no more than the last transition of an episode, which is the one that has an end; so
    where the last that is left has none, there was one more.
    """
    lengths = np.bincount(dataset.episode, minlength=len(dataset.episode_returns))
    has_end = np.zeros(len(lengths), bool)
    has_end[dataset.episode[ends]] = True
    return lengths + ~has_end


def _steps(dataset: Dataset, ends: np.ndarray) -> tuple[float | None, int]:
    """Share of next observations inside episodes that are the observation of the next row, and how many
    transitions end in the observation they began with.

    A terminal transition is not among these: where its next observation is not logged it has its own.
    """
    inside = (dataset.episode[1:] == dataset.episode[:-1]) & ~ends[:-1]
    followed = still = 0
    for rows in _chunks(len(dataset)):
        next_observations = dataset.next_observations[rows]
        behind = dataset.observations[rows.start + 1 : rows.stop + 1]
        same = (next_observations[: len(behind)] == behind).all(axis=1)
        followed += int((same & inside[rows]).sum())
        unmoved = (next_observations == dataset.observations[rows]).all(axis=1)
        still += int((unmoved & ~dataset.terminated[rows]).sum())
    return (followed / int(inside.sum()) if inside.any() else None), still


def _duplicates(dataset: Dataset) -> int:
    """Transitions whose every number is that of an earlier one.

    Told by 64 bits for each, mixed from all its numbers: among two million different transitions the chance
    that any two are taken for the same is one in nine million.
    """
    marks = np.zeros(len(dataset), np.uint64)
    fields = (dataset.observations, dataset.actions, dataset.rewards, dataset.next_observations)
    for rows in _chunks(len(dataset)):
        mark = dataset.terminated[rows].astype(np.uint64)
        for values in fields:
            for words in np.ascontiguousarray(values[rows]).view(np.uint32).reshape(len(mark), -1).T:
                mark = (mark ^ words) * np.uint64(0x9E3779B97F4A7C15)  # odd, so that nothing is lost
                mark ^= mark >> np.uint64(32)  # products mix upward only
        marks[rows] = mark
    marks.sort()
    return int((marks[1:] == marks[:-1]).sum())


def _at_bound(values: np.ndarray, low: float, high: float) -> float:
    """Share of the values (n,) that are at a bound or beyond it."""
    margin = AT_BOUND * (high - low) / 2
    return float(((values <= low + margin) | (values >= high - margin)).mean())


def _of_rewards(low: float, high: float) -> list[str]:
    return [f"every reward is {low:g}"] if low == high else []


def _of_episodes(
    lengths: np.ndarray, terminal: np.ndarray, complete: np.ndarray, time_limit: int | None
) -> list[str]:
    """`terminal` is (E,) bool, whether an episode ended in a terminal."""
    found, count = [], len(lengths)
    if not complete.any():
        found.append("no episode is complete: there is neither a terminal nor a timeout")
    elif not complete[:-1].all():
        found.append(f"{int((~complete[:-1]).sum())} episodes before the last are not complete")
    if time_limit is None:
        return found
    if longer := int((lengths > time_limit).sum()):
        found.append(
            f"{longer} of {counted(count, 'episode')} are longer than the environment's limit of "
            f"{time_limit} steps: are timeouts missing?"
        )
    early = int((complete & (lengths < time_limit)).sum())
    if early and not terminal.any():
        found.append(
            f"no transition is terminal, yet {early} of {counted(count, 'episode')} end before the "
            f"environment's limit of {time_limit} steps: are terminals missing?"
        )
    at_limit = int((terminal & (lengths == time_limit)).sum())
    if at_limit > terminal.sum() / 2:
        found.append(
            f"{at_limit} of {counted(int(terminal.sum()), 'terminal')} are at the environment's limit of "
            f"{time_limit} steps: are they timeouts? No value is counted beyond a terminal"
        )
    return found


def _of_observations(lowest: np.ndarray, highest: np.ndarray, still: int) -> list[str]:
    """`lowest` and `highest` are (observation,), `still` the transitions that change nothing."""
    found = []
    if constant := np.flatnonzero(lowest == highest).tolist():
        found.append(f"of {counted(len(lowest), 'number')} in an observation {_never(constant, 'change')}")
    if still:
        found.append(f"{counted(still, 'transition')} that are not terminal leave the observation as it was")
    return found


def _of_discrete(counts: np.ndarray, numbers: range) -> list[str]:
    unused = [numbers[place] for place in np.flatnonzero(counts == 0)]
    return [f"of {counted(len(numbers), 'action')} {_never(unused, 'taken')}"] if unused else []


def _of_continuous(actions: np.ndarray, saturation: Sequence[float]) -> list[str]:
    found = []
    mean, most = float(np.mean(saturation)), int(np.argmax(saturation))
    if mean >= SATURATED:
        of_most = f", most of all in number {most}: {percent(saturation[most])}" * (len(saturation) > 1)
        found.append(f"{percent(mean)} of the numbers in actions are at a bound{of_most}")
    lowest, highest = _extremes(actions)
    if constant := np.flatnonzero(lowest == highest).tolist():
        found.append(f"of {counted(len(saturation), 'number')} in an action {_never(constant, 'change')}")
    return found


def _never(numbers: Sequence[int], verb: str) -> str:
    """`numbers 3 and 5 never change`, counted where they are many; dimensions are counted from 0."""
    is_are = {"taken": ("is never taken", "are never taken"), "change": ("never changes", "never change")}
    singular, plural = is_are[verb]
    if len(numbers) == 1:
        return f"number {numbers[0]} {singular}"
    if len(numbers) > NAMED:
        return f"{len(numbers)} {plural}"
    return f"numbers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} {plural}"
