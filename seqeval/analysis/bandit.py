"""Choice among policies with a budget of episodes, by a UCB bandit.

As in Jackson et al., *A Clean Slate for Offline Reinforcement Learning* (arXiv 2504.11453): arms are
policies, a pull is an episode. Unlike in their code, only an arm that was pulled can be deployed: there, arms
without a pull count as mean 0, so where returns are negative such an arm is deployed.
"""

from __future__ import annotations

import numpy as np

ALPHA = 2.0  # inside the square root, as in their code


def pull_order(
    returns: np.ndarray, ties: np.ndarray, episodes: np.ndarray, alpha: float = ALPHA
) -> tuple[np.ndarray, np.ndarray]:
    """The arm that each pull pulls, and the arm that would be deployed after it: (T, K) int each.

    `returns` (T, P, M) holds M episodes of P arms in T independent trials; `ties` (T, K) is uniform in [0, 1)
    and chooses among the arms with the greatest index, `episodes` (T, K) is the episode observed by a pull.
    Index: mean + √(alpha · ln k / pulls); arms without a pull come first.
    """
    trials, arms, _ = returns.shape
    every = np.arange(trials)
    counts, sums = np.zeros((trials, arms)), np.zeros((trials, arms))
    pulled, best = np.empty(ties.shape, int), np.empty(ties.shape, int)
    for k in range(ties.shape[1]):
        means = sums / np.maximum(counts, 1)
        index = means + np.sqrt(alpha * np.log(k + 1) / np.maximum(counts, 1))
        if alpha > 0:
            index[counts == 0] = np.inf
        greatest = index == index.max(axis=1, keepdims=True)
        place = np.floor(ties[:, k] * greatest.sum(axis=1))
        arm = np.argmax(np.cumsum(greatest, axis=1) > place[:, None], axis=1)
        pulled[:, k] = arm
        counts[every, arm] += 1
        sums[every, arm] += returns[every, arm, episodes[:, k]]
        observed = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
        best[:, k] = observed.argmax(axis=1)
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
