"""Evaluation against an environment whose every return is known (see `Countdown` in conftest)."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from seqeval.config import Evaluation
from seqeval.evaluation import VisibleData
from seqeval.evaluation.episodes import Episodes

from seqeval.seeding import stream

SEEDS, EPISODES = [3, 8], 25


def lengths_of(seed: int, samples: int) -> list[int]:
    """The length of each episode, told by the environment on its own."""
    env = gymnasium.make("Countdown-v0", disable_env_checker=True)
    starts = stream(seed, "evaluation", samples).integers(0, 2**31, EPISODES)
    return [int(env.reset(seed=int(start))[0][0]) for start in starts]


def evaluate(act, samples: int = 500, seeds: list[int] = SEEDS):
    evaluator = Evaluator("Countdown-v0", seeds, EPISODES)
    try:
        return evaluator(act, [samples] * len(seeds))
    finally:
        evaluator.close()


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros((*observations.shape[:2], 1), np.float32)


def test_no_step_is_lost_or_counted_twice() -> None:
    for seed, episodes in zip(SEEDS, evaluate(still), strict=True):
        lengths = lengths_of(seed, 500)
        assert len(set(lengths)) > 3  # episodes end at different steps
        assert episodes.lengths == lengths
        assert episodes.returns == pytest.approx(
            [sum(10.0**-t for t in range(n)) for n in lengths], abs=1e-12
        )
        assert episodes.successes == [n % 2 == 1 for n in lengths]
        assert episodes.finite


def test_each_replica_acts_on_its_own_observations() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        assert observations.shape == (2, EPISODES, 2)
        actions = still(observations)
        actions[1] = 0.5
        return actions

    first, second = evaluate(act)
    assert first.returns == evaluate(still)[0].returns
    gains = np.array(second.returns) - evaluate(still)[1].returns
    np.testing.assert_allclose(gains, 0.5 * np.array(second.lengths), atol=1e-12)


def test_episodes_depend_on_seed_and_point_alone() -> None:
    assert evaluate(still)[1] == evaluate(still, seeds=[8])[0]
    assert evaluate(still)[0] != evaluate(still, samples=501)[0]


def test_an_evaluator_used_twice_starts_afresh() -> None:
    evaluator = Evaluator("Countdown-v0", SEEDS, EPISODES)
    first = evaluator(still, [500, 600])
    evaluator(still, [700, 700])
    assert evaluator(still, [500, 600]) == first
    evaluator.close()


def test_an_action_that_is_not_finite_fails_its_own_replica_alone() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        actions = still(observations)
        actions[0, 2] = np.nan
        return actions

    first, second = evaluate(act)
    assert (first.finite, second.finite) == (False, True)
    assert second == evaluate(still)[1]


def test_an_environment_that_reports_no_success_has_none() -> None:
    evaluator = Evaluator("Pendulum-v1", [0], 2)
    (episodes,) = evaluator(lambda observations: np.zeros((1, 2, 1), np.float32), [0])
    evaluator.close()
    assert episodes.successes is None
    assert episodes.lengths == [200, 200]
