"""Sequential tests of how many seeds a comparison needs: AdaStop.

Mathieu, Della Vecchia, Shilova, Centa de Medeiros, Kohler, Maillard, Preux, *AdaStop: adaptive statistical
testing for sound comparisons of Deep RL agents* (arXiv 2306.10882): permutation tests after each of K
interims of n scores per agent, with a family-wise error over all comparisons and interims of at most alpha.

The observed |T| is compared with the permutation distribution of the maximum of |T|. The package adastop
0.1.3 compares it with the signed maximum, so that its error is about twice its alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

Decision = Literal["larger", "smaller", "equal", "continue"]
Pair = tuple[int, int]
MAX_HISTORIES = 400_000  # beyond it, as many random permutations are drawn instead of all


@dataclass(frozen=True)
class Interim:
    """The state of all comparisons after an interim."""

    statistics: tuple[float | None, ...]  # T of each comparison; None if it was decided earlier
    boundary: float
    level_spent: float  # of alpha, up to now
    decisions: tuple[Decision, ...]  # `larger`: the first of the pair has higher scores


def adastop(
    scores: Sequence[np.ndarray],
    comparisons: Sequence[Pair],
    per_interim: int,
    interims: int,
    alpha: float,
    rng: np.random.Generator,
) -> list[Interim]:
    """The interims that the scores suffice for, up to the one that decides every comparison.

    `scores` holds the scores of each agent in the order in which they were drawn, `comparisons` the pairs of
    agents. After interim `interims` the comparisons that are still open are decided as equal. `rng` is used
    only where there are too many permutations to enumerate them.
    """
    permutations = _Permutations(per_interim, interims, rng)
    open_pairs = list(range(len(comparisons)))
    decisions: list[Decision] = ["continue"] * len(comparisons)
    spent, found = 0.0, []
    for k in range(1, min(interims, min(map(len, scores)) // per_interim) + 1):
        if not open_pairs:
            break
        drawn = [s[(k - 1) * per_interim : k * per_interim] for s in scores]
        permutations.extend(np.array([np.concatenate([drawn[i], drawn[j]]) for i, j in comparisons]))
        sums = [s[: k * per_interim].mean() * k for s in scores]
        statistics = np.array([sums[i] - sums[j] for i, j in comparisons])
        tested = list(open_pairs)
        while True:  # the step-down of Romano and Wolf: the clearest pair first
            boundary, level = permutations.boundary(open_pairs, spent, alpha * k / interims)
            clearest = max(open_pairs, key=lambda pair: abs(statistics[pair]))
            if abs(statistics[clearest]) <= boundary:
                break
            decisions[clearest] = "larger" if statistics[clearest] > 0 else "smaller"
            open_pairs.remove(clearest)
            if not open_pairs:
                break
        spent = level
        permutations.keep_below(boundary, open_pairs)
        if k == interims:
            for pair in open_pairs:
                decisions[pair] = "equal"
        shown = tuple(float(t) if pair in tested else None for pair, t in enumerate(statistics))
        found.append(Interim(shown, boundary, spent, tuple(decisions)))
    return found


class _Permutations:
    """The values of all comparisons under permutations of the scores of each interim.

    A history is one choice per interim of which n of a pair's 2n scores are called those of the first agent;
    the same choices serve every pair.
    """

    def __init__(self, n: int, interims: int, rng: np.random.Generator) -> None:
        self.n, self.rng = n, rng
        self.enumerated = math.comb(2 * n, n) ** interims <= MAX_HISTORIES
        self.total = 1 if self.enumerated else MAX_HISTORIES  # histories, with those that were dropped
        self.values: np.ndarray | None = None  # (histories, pairs)

    def extend(self, pooled: np.ndarray) -> None:
        """Adds the choices of an interim with `pooled` scores (pairs, 2n)."""
        pairs = len(pooled)
        if self.values is None:
            self.values = np.zeros((self.total, pairs))
        if self.enumerated:
            chosen = np.array(list(combinations(range(2 * self.n), self.n)))
            added = self._differences(chosen, pooled)
            self.values = (self.values[:, None] + added).reshape(-1, pairs)
            self.total *= len(added)
            return
        order = self.rng.random((len(self.values), 2 * self.n)).argsort(axis=1)
        self.values += self._differences(order[:, : self.n], pooled)

    def _differences(self, chosen: np.ndarray, pooled: np.ndarray) -> np.ndarray:
        """Mean of the chosen scores less the mean of the others, (choices, pairs)."""
        first = np.zeros((len(chosen), 2 * self.n))
        np.put_along_axis(first, chosen, 1.0, axis=1)
        return (2 * first - 1) @ pooled.T / self.n

    def _greatest(self, pairs: Sequence[int]) -> np.ndarray:
        assert self.values is not None
        return np.abs(self.values[:, list(pairs)]).max(axis=1)

    def boundary(self, pairs: Sequence[int], spent: float, level: float) -> tuple[float, float]:
        """The smallest value that so few histories exceed that no more than `level` is spent, and what is."""
        values = np.sort(self._greatest(pairs))
        behind = np.arange(len(values))[::-1] / self.total
        first = int(np.argmax(spent + behind <= level))
        return float(values[first]), spent + float(behind[first])

    def keep_below(self, boundary: float, pairs: Sequence[int]) -> None:
        """Drops the histories under which the test would have ended."""
        if pairs:
            assert self.values is not None
            self.values = self.values[self._greatest(pairs) <= boundary]
