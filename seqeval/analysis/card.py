"""The card of a dataset: statistics of its episodes, rewards and actions, and warnings about suspicious
data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from seqeval.frames import FrameStacks
from seqeval.types import Dataset, Discrete, Environment, Image, Vector

CHUNK = 8_192  # rows hashed together, to use little memory
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # of the hash; odd, so that the product is reversible
BINS = 40
AT_BOUND = 1e-3  # an action counts as at a bound if it is this close to it, in units of half its range
SATURATED = 0.1  # share of action values at a bound from which a finding is reported
NAMED = 8  # dimensions or actions that a finding lists; more are only counted


class Histogram(NamedTuple):
    counts: np.ndarray  # (bins,) int64
    edges: np.ndarray  # (bins + 1,) float64


@dataclass(frozen=True, eq=False)
class Card:
    """Statistics of a dataset of N transitions and E episodes. Shares are between 0 and 1."""

    dataset: Dataset
    lengths: np.ndarray  # (E,) int64: logged steps of each episode, including dropped ones
    rewards: Histogram
    reward_range: tuple[float, float]
    actions: tuple[Histogram, ...]  # per dimension, between its bounds; a single one if discrete
    saturation: tuple[float, ...]  # share of actions at a bound per dimension; empty if discrete
    consistent: float | None  # share of next observations inside episodes equal to the next row's observation
    duplicates: int  # transitions that are an exact copy of an earlier one
    findings: tuple[str, ...]  # suspicious properties, one line each

    @property
    def discrete(self) -> bool:
        return not self.saturation

    @property
    def dropped(self) -> int:
        """Logged transitions that are not used because their next observation is unknown."""
        return int(self.lengths.sum()) - len(self.dataset)

    @property
    def counted(self) -> np.ndarray:
        """(E,) bool: the episodes that statistics use: the complete ones, or all if none is complete."""
        complete = self.dataset.episode_complete
        return complete if complete.any() else ~complete

    @property
    def scores(self) -> np.ndarray | None:
        """The episodes' scores, (E,) float64; None without reference returns."""
        reference = self.dataset.reference
        if reference is None:
            return None
        low, high = reference.minimum, reference.maximum
        return 100.0 * (self.dataset.episode_returns - low) / (high - low)


def examine(dataset: Dataset, environment: Environment) -> Card:
    """The card of a dataset that has transitions; `environment` is the one it was collected in."""
    ends = dataset.terminated | dataset.truncated
    lengths = _lengths(dataset, ends)
    terminal = np.zeros(len(lengths), bool)  # per episode
    terminal[dataset.episode[dataset.terminated]] = True
    low, high = float(dataset.rewards.min()), float(dataset.rewards.max())
    consistent, unchanged = _steps(dataset, ends)
    duplicates = _duplicates(dataset)
    histograms: tuple[Histogram, ...]
    saturation: tuple[float, ...] = ()
    space = environment.actions
    if isinstance(space, Discrete):
        counts = np.bincount(dataset.actions - space.first, minlength=space.size)
        histograms = (Histogram(counts, np.arange(space.size + 1) + space.first - 0.5),)
        action_findings = _discrete_findings(counts, space.first)
    else:
        columns = list(zip(dataset.actions.T, space.low, space.high, strict=True))
        histograms = tuple(_histogram(values, float(a), float(b)) for values, a, b in columns)
        saturation = tuple(_at_bound(values, float(a), float(b)) for values, a, b in columns)
        action_findings = _continuous_findings(dataset.actions, saturation)
    findings = [f"every reward is {low:g}"] if low == high else []
    findings += _episode_findings(lengths, terminal, dataset.episode_complete, environment.time_limit)
    findings += _observation_findings(dataset.observations, unchanged) + action_findings
    if duplicates:
        share = percent(duplicates / len(dataset))
        findings.append(f"{counted(duplicates, 'transition')} ({share}) are exact copies of another")
    return Card(
        dataset=dataset,
        lengths=lengths,
        rewards=_histogram(dataset.rewards, low, high),
        reward_range=(low, high),
        actions=histograms,
        saturation=saturation,
        consistent=consistent,
        duplicates=duplicates,
        findings=tuple(findings),
    )


def facts(card: Card) -> dict[str, str]:
    """The card as text, one line per entry, without the findings."""
    dataset, lengths = card.dataset, card.lengths[card.counted]
    returns, reference = dataset.episode_returns, dataset.reference
    mean, best = returns[card.counted].mean(), returns.max()
    consistent = "none inside an episode"
    if card.consistent is not None:
        consistent = f"{percent(card.consistent)} inside episodes equal the next row's observation"
    if card.discrete:
        shares = card.actions[0].counts / len(dataset)
        numbers = card.actions[0].edges[:-1] + 0.5
        actions = ", ".join(f"{n:g}: {percent(share)}" for n, share in zip(numbers, shares, strict=True))
    else:
        saturation = [percent(share) for share in card.saturation]
        actions = f"{percent(float(np.mean(card.saturation)))} of their numbers are at a bound"
        actions += f" ({', '.join(saturation)})" * (len(set(saturation)) > 1)
    lines = {
        "environment": dataset.env_id or "none",
        "transitions": f"{len(dataset)}",
        "observation": _observation_text(dataset.observation),
        "action": f"one of {len(shares)}" if card.discrete else counted(len(card.actions), "number"),
        "episodes": f"{len(returns)}, {dataset.episode_complete.sum()} of them complete",
        "lengths": f"median {np.median(lengths):g}, from {lengths.min()} to {lengths.max()} steps",
        "terminated, truncated": f"{dataset.terminated.sum()}, {dataset.truncated.sum()} transitions",
        "not used": counted(card.dropped, "logged transition"),
        "next observations": consistent,
        "exact copies": counted(card.duplicates, "transition"),
        "actions": actions,
        "rewards": "from {:.4g} to {:.4g}".format(*card.reward_range),
        "returns": f"mean {mean:.2f}, from {returns.min():.2f} to {best:.2f}",
    }
    if dataset.env_id is None:
        return lines | {"scores": "none: there is no environment to evaluate in"}
    if reference is None:
        return lines | {"scores": "none: no reference returns are known"}
    return lines | {
        "scores": f"mean {reference.score(mean):.2f}, highest {reference.score(best):.2f}",
        "score 0 and 100": f"returns {reference.minimum:.2f} and {reference.maximum:.2f}",
        "references": reference.source,
    }


def _observation_text(seen: Vector | Image) -> str:
    if isinstance(seen, Vector):
        return counted(seen.size, "number")
    return f"{counted(seen.stack, 'frame')} of {seen.channels}×{seen.height}×{seen.width}, channels first"


def chart(values: np.ndarray, bins: int = 8, width: int = 40) -> list[str]:
    """A histogram of (n,) numbers in block characters, one line per bin."""
    counts, edges = histogram(values, bins)
    lines = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        whole, eighths = divmod(round(8 * width * int(count) / int(counts.max())), 8)
        bar = "█" * whole + " ▏▎▍▌▋▊▉"[eighths] * (eighths > 0)
        if count and not bar:  # a small count stays visible
            bar = "▏"
        lines.append(f"{low:10.4g} … {high:10.4g}  {bar}{' ' * bool(bar)}{count}")
    return lines


def histogram(values: np.ndarray, bins: int = BINS) -> Histogram:
    """The histogram of (n,) numbers, n > 0, from the lowest to the highest."""
    return _histogram(values, float(values.min()), float(values.max()), bins)


def percent(share: float) -> str:
    """A share as text; only 0 and 1 are shown as 0 % and 100 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.3g} %"


def counted(count: int, noun: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _histogram(values: np.ndarray, low: float, high: float, bins: int = BINS) -> Histogram:
    """Values outside `low` and `high` count in the outermost bins. A (nearly) constant gets a bin in the
    middle."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300):
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
        bins += 1 - bins % 2
    places = (values.astype(np.float64) - low) * (bins / (high - low))
    counts = np.bincount(places.clip(0, bins - 1).astype(np.uint8), minlength=bins)
    return Histogram(counts, np.linspace(low, high, bins + 1))


def _lengths(dataset: Dataset, ends: np.ndarray) -> np.ndarray:
    """Logged steps of each episode: (E,) int64.

    The data rules drop at most the last transition of an episode, which is the one that has an end. So if
    the last remaining one has no end, there was one more.
    """
    lengths = np.bincount(dataset.episode, minlength=len(dataset.episode_returns))
    has_end = np.zeros(len(lengths), bool)
    has_end[dataset.episode[ends]] = True
    return lengths + ~has_end


def _steps(dataset: Dataset, ends: np.ndarray) -> tuple[float | None, int]:
    """How next observations relate to observations.

    Returns the share of next observations inside episodes that equal the observation of the next row, and
    the number of transitions that do not change the observation. Terminal transitions do not count, because
    without a logged next observation they have their own.
    """
    inside = (dataset.episode[1:] == dataset.episode[:-1]) & ~ends[:-1]
    observations, following = _numbers(dataset.observations), _numbers(dataset.next_observations)
    consistent = (following[:-1] == observations[1:]).all(axis=1)
    unchanged = (following == observations).all(axis=1) & ~dataset.terminated
    return (float(consistent[inside].mean()) if inside.any() else None), int(unchanged.sum())


def _duplicates(dataset: Dataset) -> int:
    """The number of transitions that equal an earlier one in every number.

    They are compared by 64-bit hashes: among two million different transitions the probability of any
    collision is one in nine million.
    """
    observations, following = _numbers(dataset.observations), _numbers(dataset.next_observations)
    fields = (observations, dataset.actions, dataset.rewards, following)
    hashes = dataset.terminated.astype(np.uint64)
    for begin in range(0, len(dataset), CHUNK):
        part = hashes[begin : begin + CHUNK]
        for values in fields:
            for words in values[begin : begin + CHUNK].view(np.uint32).reshape(len(part), -1).T:
                part ^= words
                part *= FACTOR
                part ^= part >> np.uint64(32)  # products mix towards higher bits only
    hashes.sort()
    return int((hashes[1:] == hashes[:-1]).sum())


def _numbers(observations: np.ndarray | FrameStacks) -> np.ndarray:
    """Observations (N, …) that are equal where they are; of images 64-bit hashes, one for each frame."""
    if isinstance(observations, np.ndarray):
        return observations
    parts = observations.frames.parts
    digests = [blake2b(frame.tobytes(), digest_size=8).digest() for part in parts for frame in part]
    return np.frombuffer(b"".join(digests), np.uint64)[observations.numbers(np.arange(len(observations)))]


def _at_bound(values: np.ndarray, low: float, high: float) -> float:
    """The share of values (n,) at or beyond a bound."""
    margin = AT_BOUND * (high - low) / 2
    return float(((values <= low + margin) | (values >= high - margin)).mean())


def _episode_findings(
    lengths: np.ndarray, terminal: np.ndarray, complete: np.ndarray, time_limit: int | None
) -> list[str]:
    """`terminal` (E,) bool: whether an episode ended in a terminal."""
    found, count = [], len(lengths)
    if not complete.any():
        found.append("no episode is complete: there are neither terminals nor timeouts")
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
            f"{time_limit} steps: are they timeouts? A terminal has no future value"
        )
    return found


def _observation_findings(observations: np.ndarray | FrameStacks, unchanged: int) -> list[str]:
    """`unchanged` counts transitions that change nothing."""
    found = []
    # Of images many numbers are constant, as a rule.
    if isinstance(observations, np.ndarray) and (constant := _constant(observations)):
        found.append(
            f"of {counted(observations.shape[1], 'number')} in an observation {_never(constant, 'change')}"
        )
    if unchanged:
        found.append(f"{counted(unchanged, 'non-terminal transition')} leave the observation unchanged")
    return found


def _discrete_findings(counts: np.ndarray, first: int) -> list[str]:
    unused = (np.flatnonzero(counts == 0) + first).tolist()
    return [f"of {counted(len(counts), 'action')} {_never(unused, 'taken')}"] if unused else []


def _continuous_findings(actions: np.ndarray, saturation: Sequence[float]) -> list[str]:
    found = []
    mean, worst = float(np.mean(saturation)), int(np.argmax(saturation))
    if mean >= SATURATED:
        most = f", most of all in number {worst}: {percent(saturation[worst])}"
        found.append(
            f"{percent(mean)} of the numbers in actions are at a bound{most * (len(saturation) > 1)}"
        )
    if constant := _constant(actions):
        found.append(f"of {counted(len(saturation), 'number')} in an action {_never(constant, 'change')}")
    return found


def _constant(values: np.ndarray) -> list[int]:
    """The columns of `values` that never change."""
    return [number for number, column in enumerate(values.T) if column.min() == column.max()]


def _never(numbers: Sequence[int], verb: str) -> str:
    """`numbers 3 and 5 never change`, or only their count if there are many. Dimensions are counted from
    0."""
    forms = {"taken": ("is never taken", "are never taken"), "change": ("never changes", "never change")}
    singular, plural = forms[verb]
    if len(numbers) == 1:
        return f"number {numbers[0]} {singular}"
    if len(numbers) > NAMED:
        return f"{len(numbers)} {plural}"
    return f"numbers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} {plural}"
