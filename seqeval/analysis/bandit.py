"""Choice among policies with a budget of episodes, by a UCB bandit.

As in Jackson et al., *A Clean Slate for Offline Reinforcement Learning* (arXiv 2504.11453): arms are
policies, a pull is an episode. Unlike in their code, only an arm that was pulled can be deployed: there, arms
without a pull count as mean 0, so where returns are negative such an arm is deployed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ALPHA = 2.0  # inside the square root, as in their code


class Bandit:
    """T independent trials among P arms each. Index: mean + √(alpha · ln k / pulls); arms without a pull come
    first."""

    def __init__(self, trials: int, arms: int, alpha: float = ALPHA) -> None:
        self.counts, self._sums = np.zeros((trials, arms), int), np.zeros((trials, arms))
        self._every, self._alpha, self._pulls = np.arange(trials), alpha, 0

    def choose(self, ties: np.ndarray) -> np.ndarray:
        """The arm (T,) to pull next; `ties` (T,), uniform in [0, 1), chooses among those of equal index."""
        self._pulls += 1
        pulls = np.maximum(self.counts, 1)
        index = self._sums / pulls + np.sqrt(self._alpha * np.log(self._pulls) / pulls)
        if self._alpha > 0:
            index[self.counts == 0] = np.inf
        greatest = index == index.max(axis=1, keepdims=True)
        place = np.floor(ties * greatest.sum(axis=1))
        return np.argmax(np.cumsum(greatest, axis=1) > place[:, None], axis=1)

    def observe(self, arm: np.ndarray, returns: np.ndarray) -> None:
        """The returns (T,) of the episodes of the pulled arms (T,)."""
        self.counts[self._every, arm] += 1
        self._sums[self._every, arm] += returns

    def best(self) -> np.ndarray:
        """The arm (T,) that would be deployed: the best mean of those that were pulled."""
        means = np.where(self.counts > 0, self._sums / np.maximum(self.counts, 1), -np.inf)
        return means.argmax(axis=1)


def pull_order(
    returns: np.ndarray, ties: np.ndarray, episodes: np.ndarray, alpha: float = ALPHA
) -> tuple[np.ndarray, np.ndarray]:
    """The arm that each pull pulls, and the arm that would be deployed after it: (T, K) int each.

    `returns` (T, P, M) holds M episodes of P arms in T independent trials; `ties` (T, K) is uniform in [0, 1)
    and chooses among the arms with the greatest index, `episodes` (T, K) is the episode observed by a pull.
    """
    trials, arms, _ = returns.shape
    bandit, every = Bandit(trials, arms, alpha), np.arange(trials)
    pulled, best = np.empty(ties.shape, int), np.empty(ties.shape, int)
    for k in range(ties.shape[1]):
        pulled[:, k] = arm = bandit.choose(ties[:, k])
        bandit.observe(arm, returns[every, arm, episodes[:, k]])
        best[:, k] = bandit.best()
    return pulled, best


def deployed_values(
    returns: np.ndarray, pulls: int, trials: int, rng: np.random.Generator, candidates: int | None = None
) -> np.ndarray:
    """The true value, the mean of all M episodes, of the arm deployed after each pull: (trials, pulls).

    `returns` (P, M). Each trial draws `candidates` of the P policies without replacement (None: all), and
    episodes of a policy with replacement.
    """
    arms, episodes = returns.shape
    order = rng.random((trials, arms)).argsort(axis=1)[:, :candidates]
    drawn = returns[order]
    ties = rng.random((trials, pulls))
    _, best = pull_order(drawn, ties, rng.integers(0, episodes, (trials, pulls)))
    return np.take_along_axis(drawn.mean(axis=2), best, axis=1)


def deployed_on_demand(
    values: np.ndarray,
    episode: Callable[[int, int], float],
    pulls: int,
    trials: int,
    rng: np.random.Generator,
    candidates: int | None = None,
) -> np.ndarray:
    """As `deployed_values`, with episodes that are made when a pull needs them: (trials, pulls).

    `values` (P,) are the true values, `episode(arm, number)` is the return of an arm's episode. The first
    pull of an arm is its episode 0, and so on: no episode is observed twice in a trial.
    """
    order = rng.random((trials, len(values))).argsort(axis=1)[:, :candidates]
    bandit, every = Bandit(trials, order.shape[1]), np.arange(trials)
    deployed = np.empty((trials, pulls))
    for k, ties in enumerate(rng.random((pulls, trials))):
        arm = bandit.choose(ties)
        numbers = bandit.counts[every, arm]
        pulled = zip(order[every, arm], numbers, strict=True)
        bandit.observe(arm, np.array([episode(int(a), int(n)) for a, n in pulled]))
        deployed[:, k] = values[order[every, bandit.best()]]
    return deployed
