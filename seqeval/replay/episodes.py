"""Episodes as they become complete: which are the best of those that are visible."""

from __future__ import annotations

import numpy as np

from seqeval.errors import UserError
from seqeval.slicing import Schedule, window_start
from seqeval.types import Dataset


def ended_episodes(dataset: Dataset) -> list[tuple[int, int]]:
    """First row and the row behind the last of the episodes whose end is in the data: a terminal or a cut
    transition. The return of others is unknown."""
    changes = np.flatnonzero(dataset.episode[1:] != dataset.episode[:-1]) + 1
    starts = [0, *changes][: len(dataset)]
    ends = [*changes, len(dataset)][: len(dataset)]
    ended = dataset.terminated | dataset.truncated
    return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True) if ended[b - 1]]


class BestEpisodes:
    """Samples the transitions of the best complete episodes that one replica sees.

    Of the m complete episodes whose transitions are all visible, within the window, the max(1, ⌊share·m⌋) of
    highest undiscounted return are sampled, their transitions uniformly; of equal returns the earlier one in
    the file comes first.
    """

    def __init__(
        self, share: float, schedule: Schedule, order: np.ndarray, dataset: Dataset, first_row: int = 0
    ) -> None:
        """`order` has the row of each position, in a buffer where the dataset begins at `first_row`.

        Raises UserError if there is a time at which no episode is complete.
        """
        self.share, self.schedule = share, schedule
        place = np.full(len(dataset), -1)
        place[order - first_row] = np.arange(len(order))
        spans = [span for span in ended_episodes(dataset) if (place[slice(*span)] >= 0).all()]  # not held out
        self._positions = [np.sort(place[first:last]) for first, last in spans]
        self._first = np.array([positions[0] for positions in self._positions], np.int64)
        self._last = np.array([positions[-1] for positions in self._positions], np.int64)
        returns = np.array([dataset.episode_returns[dataset.episode[first]] for first, _ in spans])
        self._ranking = np.argsort(-returns, kind="stable")
        self._key, self._candidates = (-1, -1), np.zeros(0, np.int64)
        self._require_episodes(dataset)

    def positions(self, first: int, last: int, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        """As `Schedule.positions`: (last - first, batch_size) int32. New transitions are not forced."""
        uniform = rng.random((last - first, batch_size))
        positions = np.empty(uniform.shape, np.int32)
        visible = self.schedule.visible_at(np.arange(first, last))
        for update, key in enumerate(zip(*self._counts(visible), visible.tolist(), strict=True)):
            if key[:2] != self._key:
                self._key, self._candidates = key[:2], self._best(key[2])
            chosen = uniform[update] * len(self._candidates)
            positions[update] = self._candidates[chosen.astype(np.int64)]
        return positions

    def _counts(self, visible: np.ndarray) -> tuple[list[int], list[int]]:
        """How many episodes have arrived, and how many have left the window, at these numbers of visible
        transitions: the two numbers say which episodes are visible."""
        low = window_start(visible, self.schedule.window)
        arrived = np.searchsorted(np.sort(self._last), visible)
        return arrived.tolist(), np.searchsorted(np.sort(self._first), low).tolist()

    def _complete(self, visible: int) -> np.ndarray:
        """(E,) bool: the episodes that are wholly visible within the window."""
        low = window_start(visible, self.schedule.window)
        return (self._last < visible) & (self._first >= low)

    def _best(self, visible: int) -> np.ndarray:
        """The positions of the best episodes' transitions."""
        ranked = self._ranking[self._complete(visible)[self._ranking]]
        best = ranked[: max(1, int(self.share * len(ranked)))]
        return np.concatenate([self._positions[episode] for episode in best])

    def _require_episodes(self, dataset: Dataset) -> None:
        visible = np.unique(self.schedule.visible_at(np.arange(self.schedule.updates)))
        keys = dict(zip(zip(*self._counts(visible), strict=True), visible.tolist(), strict=True))
        for n in keys.values():
            if not self._complete(n).any():
                advice = (
                    f"raise protocol.start above {n}"
                    if self.schedule.window is None
                    else "raise protocol.start or protocol.window"
                )
                if not len(self._last):
                    advice = (
                        "the data has no end of an episode, since transitions at a timeout are dropped where "
                        "their next observation is unknown: where the file has no next_observations, or with "
                        "data_rules qlearning; add next_observations to the file and use data_rules strict"
                    )
                raise UserError(
                    f"{dataset.name}: no complete episode is visible at {n} transitions; {advice}"
                )
