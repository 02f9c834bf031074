"""Episodes, in an environment whose returns are known (see `Countdown` in conftest)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest

from seqeval.config import Evaluation
from seqeval.evaluation import VisibleData
from seqeval.evaluation.evaluators.episodes import Episodes
from seqeval.seeding import stream

SEEDS, EPISODES = [3, 8], 25
Act = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Policies:
    """Policies that are one function of all observations, and that are asked for some target returns."""

    seeds: tuple[int, ...]
    act: Act
    target_returns: tuple[float, ...] = ()

    def start_episodes(self, count: int, target: int = 0) -> None:
        pass

    def act_in_episodes(self, observations: np.ndarray, rewards: np.ndarray, memory: None) -> np.ndarray:
        assert rewards.shape == observations.shape[:2]
        return self.act(observations)


def lengths_of(seed: int, samples: int) -> list[int]:
    """The length of each episode, from an environment of its own."""
    env = gymnasium.make("Countdown-v0", disable_env_checker=True)
    starts = stream(seed, "evaluation", samples).integers(0, 2**31, EPISODES)
    return [int(env.reset(seed=int(start))[0][0]) for start in starts]


def run_episodes(evaluator: Episodes, act: Act, samples: Sequence[int]) -> Any:
    return evaluator.evaluate(Policies(evaluator.seeds, act), VisibleData(tuple(samples)))


def evaluate(act: Act, samples: int = 500, seeds: Sequence[int] = SEEDS) -> Any:
    evaluator = Episodes("Countdown-v0", seeds, Evaluation(episodes=EPISODES))
    try:
        return run_episodes(evaluator, act, [samples] * len(seeds))
    finally:
        evaluator.close()


def replica(results: Any, place: int) -> dict[str, Any]:
    """The results of one replica."""
    return {name: values[place] for name, values in results.items()}


def zeros(observations: np.ndarray) -> np.ndarray:
    return np.zeros((*observations.shape[:2], 1), np.float32)


def test_no_step_is_missed_or_counted_twice() -> None:
    results = evaluate(zeros)
    for place, seed in enumerate(SEEDS):
        lengths = lengths_of(seed, 500)
        assert len(set(lengths)) > 3  # episodes end at different steps
        assert results["episode_lengths"][place] == lengths
        assert results["episode_returns"][place] == pytest.approx(
            [sum(10.0**-t for t in range(n)) for n in lengths], abs=1e-12
        )
        assert results["episode_successes"][place] == [n % 2 == 1 for n in lengths]


def test_each_replica_acts_on_its_own_observations() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        assert observations.shape == (2, EPISODES, 2)
        actions = zeros(observations)
        actions[1] = 0.5
        return actions

    results, of_zeros = evaluate(act)["episode_returns"], evaluate(zeros)["episode_returns"]
    assert results[0] == of_zeros[0]
    gains = np.array(results[1]) - of_zeros[1]
    np.testing.assert_allclose(gains, 0.5 * np.array(lengths_of(SEEDS[1], 500)), atol=1e-12)


def test_episodes_depend_only_on_seed_and_samples() -> None:
    assert replica(evaluate(zeros), 1) == replica(evaluate(zeros, seeds=[8]), 0)
    assert replica(evaluate(zeros), 0) != replica(evaluate(zeros, samples=501), 0)


def test_an_evaluator_has_no_state_between_evaluations() -> None:
    evaluator = Episodes("Countdown-v0", SEEDS, Evaluation(episodes=EPISODES))
    first = run_episodes(evaluator, zeros, [500, 600])
    run_episodes(evaluator, zeros, [700, 700])
    assert run_episodes(evaluator, zeros, [500, 600]) == first
    evaluator.close()


def test_an_action_that_is_not_finite_fails_only_its_replica() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        actions = zeros(observations)
        actions[0, 2] = np.nan
        return actions

    results = evaluate(act)
    assert np.isnan(results["episode_returns"][0]).any()
    assert replica(results, 1) == replica(evaluate(zeros), 1)


def test_an_environment_that_does_not_report_successes_has_none() -> None:
    evaluator = Episodes("Pendulum-v1", [0], Evaluation(episodes=2))
    results = run_episodes(evaluator, lambda observations: np.zeros((1, 2, 1), np.float32), [0])
    evaluator.close()
    assert results["episode_successes"] == [None]
    assert results["episode_lengths"] == [[200, 200]]


def test_without_an_environment_there_are_no_results() -> None:
    evaluator = Episodes(None, SEEDS, Evaluation())
    assert run_episodes(evaluator, zeros, [500, 500]) == {}
    evaluator.close()
