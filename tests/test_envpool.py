"""EnvPool's environments equal Gymnasium's: step by step, and in the distribution of returns and lengths."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from conftest import Seqeval, refused
from test_evaluation import Act, Policies

from seqeval import Evaluation, Study, UserError, environments
from seqeval.evaluation import VisibleData
from seqeval.evaluation.evaluators.episodes import Episodes
from seqeval.execution.jobs import resolve
from seqeval.execution.storage import StudyDirectory

envpool = pytest.importorskip("envpool")
backend = pytest.importorskip("seqeval.evaluation.backends.envpool")

ENDING_EARLY = ("Ant", "Hopper", "InvertedPendulum", "Walker2d")  # whose episodes may end before their limit
BACKENDS = ("gymnasium", "envpool")
CLIPPED = ("Hopper", "Walker2d")  # whose observations have velocities up to 10
# For two samples of one distribution, sqrt(n·m / (n + m)) times the largest difference between the
# empirical distributions exceeds this once in a thousand times (Kolmogorov and Smirnov), or less often.
LEVEL = math.sqrt(-math.log(0.001 / 2) / 2)


class Differences(NamedTuple):
    """The largest differences between steps from the same states with the same actions."""

    observations: float
    rewards: float
    one_ended: int  # steps that ended the episode in only one of the two
    both_ended: int
    compared: int


def step_by_step(name: str, steps: int = 600, **options: Any) -> Differences:
    """Gymnasium's environment is set to every fifth state of EnvPool's, and both continue from it."""
    env: Any = environments.make(name).unwrapped
    env.reset(seed=0)
    positions, size = env.model.nq, env.model.nq + env.model.nv
    # The first positions are not observed and do not affect the step.
    unobserved = 2 if name.startswith("Ant") else size - env.observation_space.shape[0]
    with backend._quiet():
        pool = envpool.make_gymnasium(name, num_envs=1, seed=[3], **options)
        dtype = pool.action_space.dtype
    rng, largest, compared, since = np.random.default_rng(0), np.zeros(4), 0, None
    observed = pool.reset()[0][0]
    for _ in range(steps):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        state = np.concatenate([np.zeros(unobserved), observed])[:size]
        known = not (name.startswith(CLIPPED) and (np.abs(state[positions:]) >= 10).any())
        if known and since in (None, 5):
            env.set_state(state[:positions], state[positions:])
            since = 0
        following, reward, terminated, _, info = pool.step(action[None].astype(dtype))
        observed = following[0]
        if not info["elapsed_step"][0]:  # a new episode has started
            since = None
        elif since is not None:
            expected, expected_reward, expected_terminated, _, _ = env.step(action)
            largest[0] = max(largest[0], np.abs(expected - observed).max())
            if since:  # Ant's depends on its previous position, which is not part of the state
                largest[1] = max(largest[1], abs(expected_reward - reward[0]))
            largest[2:] += [
                bool(expected_terminated) != bool(terminated[0]),
                bool(expected_terminated) and bool(terminated[0]),
            ]
            compared, since = compared + 1, since + 1 if since < 5 else None
    env.close()
    pool.close()
    return Differences(*largest, compared)


@pytest.mark.parametrize("name", backend.VERIFIED)
def test_equal_actions_in_equal_states_have_equal_results(name: str) -> None:
    found = step_by_step(name)
    assert found.observations < 1e-9
    assert found.rewards < 1e-6  # EnvPool's are float32
    assert found.one_ended == 0
    assert (found.both_ended > 0) == name.startswith(ENDING_EARLY)
    assert found.compared > 100


def test_another_frame_skip_is_noticed() -> None:
    assert step_by_step("HalfCheetah-v4", 20, frame_skip=6).observations > 0.01
    assert step_by_step("Hopper-v4", 100, healthy_angle_min=-0.05).one_ended > 0


def kolmogorov_smirnov(one: list[float], other: list[float]) -> float:
    points = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(values), points, "right") / len(values) for values in (one, other)]
    size = len(one) * len(other) / (len(one) + len(other))
    return math.sqrt(size) * float(np.abs(shares[0] - shares[1]).max())


class Case(NamedTuple):
    """An environment, and the seed of a linear policy that is among the best of 300 random ones."""

    env_id: str
    better: int
    limit: int


CASES = [
    Case("Hopper-v4", 113, 1000),
    Case("Walker2d-v4", 243, 1000),
    Case("HalfCheetah-v4?max_episode_steps=100", 152, 100),
]
IDS = [case.env_id.partition("?")[0] for case in CASES]


def linear(env_id: str, seed: int) -> Act:
    environment = environments.describe(env_id)
    size = environment.observation_size, environment.actions.size
    weights = np.random.default_rng(seed).standard_normal(size)
    return lambda observations: np.tanh(observations @ weights).astype(np.float32)


def evaluate(
    name: Any, env_id: str, act: Act, seeds: Sequence[int], samples: Sequence[int], episodes: int
) -> Any:
    """The results of episodes with a backend, gymnasium or envpool."""
    evaluator = Episodes(env_id, seeds, Evaluation(episodes=episodes, backend=name))
    results = evaluator.evaluate(Policies(evaluator.seeds, act), VisibleData(tuple(samples)))
    evaluator.close()
    return results


def returns_and_lengths(name: str, env_id: str, act: Act, samples: int) -> tuple[list[float], list[int]]:
    """Of 80 episodes."""
    results = evaluate(name, env_id, act, [0, 1], [samples] * 2, 40)
    assert np.isfinite(results["episode_returns"]).all()
    assert results["episode_successes"] == [None, None]
    return [*chain(*results["episode_returns"])], [*chain(*results["episode_lengths"])]


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("good", [False, True], ids=["a random policy", "a mediocre one"])
def test_returns_and_lengths_agree_in_distribution(case: Case, good: bool) -> None:
    act = linear(case.env_id, case.better if good else 0)
    returns, lengths = zip(
        *(returns_and_lengths(name, case.env_id, act, n) for n, name in enumerate(BACKENDS)), strict=True
    )
    assert kolmogorov_smirnov(*returns) < LEVEL
    assert kolmogorov_smirnov(*lengths) < LEVEL
    assert max(map(max, lengths)) <= case.limit
    # The means differ by less than four standard errors.
    error = math.sqrt(sum(np.var(values) / len(values) for values in returns))
    assert abs(np.mean(returns[0]) - np.mean(returns[1])) < 4 * error
    if good:
        assert np.mean(returns[0]) > {"Hopper-v4": 80, "Walker2d-v4": 50}.get(case.env_id, 20)


@pytest.mark.parametrize(
    "other", [{"frame_skip": 6}, {"ctrl_cost_weight": 0.2}, {"max_episode_steps": 101}], ids=str
)
def test_a_different_environment_does_not_agree(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    case, make = CASES[2], backend._make
    act = linear(case.env_id, case.better)
    expected = returns_and_lengths("gymnasium", case.env_id, act, 0)
    monkeypatch.setattr(backend, "_make", lambda name, options, *more: make(name, options | other, *more))
    found = returns_and_lengths("envpool", case.env_id, act, 1)
    which = int("max_episode_steps" in other)  # lengths, else returns
    assert kolmogorov_smirnov(expected[which], found[which]) > LEVEL


@pytest.mark.parametrize("name", ["HalfCheetah-v4", "HalfCheetah-v4?max_episode_steps=7"])
def test_episodes_stop_at_the_limit(name: str) -> None:
    act = linear(name, 0)
    for each in BACKENDS:
        lengths = evaluate(each, name, act, [0], [0], 2)["episode_lengths"]
        assert lengths == [[environments.describe(name).time_limit] * 2]


def test_an_option_has_the_same_effect() -> None:
    name = "Hopper-v4?terminate_when_unhealthy=False&max_episode_steps=50"
    for each in BACKENDS:
        assert evaluate(each, name, linear(name, 0), [0], [0], 3)["episode_lengths"] == [[50] * 3]


def test_a_replicas_episodes_depend_only_on_its_seed_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    act = linear("Hopper-v4", 165)

    def returns(seeds: list[int], samples: list[int]) -> list[list[float]]:
        return evaluate("envpool", "Hopper-v4", act, seeds, samples, 3)["episode_returns"]

    together = returns([4, 9, 2], [10, 10, 20])
    assert returns([9], [10]) == [together[1]]
    assert returns([2, 4], [20, 10]) == [together[2], together[0]]
    assert returns([9], [11]) != [together[1]]
    assert len({r for each in together for r in each}) == 9
    monkeypatch.setattr(backend, "_processors", lambda: 1)
    assert returns([4, 9, 2], [10, 10, 20]) == together


def test_an_action_that_is_not_finite_fails_only_its_replica() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        actions = np.zeros((*observations.shape[:2], 3), np.float32)
        actions[0, 1] = np.nan
        return actions

    first, second = evaluate("envpool", "Hopper-v4", act, [0, 1], [0, 0], 2)["episode_returns"]
    assert np.isnan(first[1])
    assert np.isfinite(second).all()


def test_pendulum_differs_in_envpool() -> None:
    """EnvPool's uses the speed before it is limited. If this test fails, the two may have become equal."""
    env: Any = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    with backend._quiet():
        pool = envpool.make_gymnasium("Pendulum-v1", num_envs=1, seed=[0])
        observed, largest = pool.reset()[0][0], {False: 0.0, True: 0.0}
    for _ in range(100):
        angle, speed = np.arctan2(observed[1], observed[0]), observed[2]
        env.state = np.array([angle, speed], np.float64)
        push = np.array([2.0 if speed >= 0 else -2.0], np.float32)
        limited = abs(speed + (15 * np.sin(angle) + 3 * push[0]) * 0.05) > 8
        expected, observed = env.step(push)[0], pool.step(push[None])[0][0]
        largest[bool(limited)] = max(largest[bool(limited)], float(np.abs(expected - observed).max()))
    assert largest[False] < 1e-5
    assert largest[True] > 0.01


STUDY = Study(
    datasets=("hopper-replay",),
    algorithms=("bc:hidden=(16,16)",),
    evaluation=Evaluation(points=1, episodes=1, backend="envpool"),
)


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ("Pendulum-v1", "Pendulum-v1 is not among the environments that are verified to behave as Gymnasium"),
        (
            "Hopper-v4?reset_noise_scale=0.0",
            "the option reset_noise_scale of Hopper-v4 is not verified to have the same",
        ),
    ],
)
def test_environments_that_are_not_verified_are_refused_in_one_line(
    seqeval: Seqeval, tmp_path: Path, env: str, why: str
) -> None:
    study = ("run", "--datasets", "none", "--env", env, "--algorithms", "iql", "--online.steps", 9)
    line = refused(seqeval(*study, "--evaluation.backend", "envpool", "--out", tmp_path / "out"))
    assert line.startswith(f"seqeval: evaluation.backend envpool: {why}")
    assert line.endswith("; use the default, evaluation.backend gymnasium\n")
    assert not (tmp_path / "out").exists()


def test_other_spaces_and_another_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    make = envpool.make_spec
    for other, options, why in (
        (
            "Walker2d-v4",
            {},
            r"Hopper-v4 has Box\(-inf, inf, \(17,\).* in EnvPool and Box\(-inf, inf, \(11,\)",
        ),
        ("InvertedPendulum-v4", {}, r"Hopper-v4 has Box"),
        ("Hopper-v4", {"max_episode_steps": 999}, "up to 999 steps in EnvPool and 1000 in Gymnasium"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(envpool, "make_spec", lambda _, i=other, o=options: make(i, **o))
            with pytest.raises(UserError, match=why):
                backend.Environments.check("Hopper-v4")
    box = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    assert backend._same(box, gymnasium.spaces.Box(-1, 1, (3,), np.float64))
    assert not backend._same(box, gymnasium.spaces.Box(-2, 1, (3,), np.float32))


def test_if_envpool_is_missing_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    monkeypatch.delitem(sys.modules, "seqeval.evaluation.backends.envpool")
    with pytest.raises(UserError, match=r"EnvPool is not installed; pip install 'seqeval-rl\[fast\]'$"):
        resolve(STUDY)


def test_the_backend_is_recorded_and_may_not_change(tmp_path: Path) -> None:
    out = StudyDirectory(tmp_path / "out")
    described = resolve(STUDY).describe()
    assert described["evaluation"]["backend"] == "envpool"
    assert described["invocations"][0]["versions"]["envpool"] == envpool.__version__
    out.admit(described)
    with pytest.raises(UserError, match=r"evaluation\.backend is 'envpool' there and 'gymnasium' now"):
        out.admit(resolve(replace(STUDY, evaluation=Evaluation(points=1, episodes=1))).describe())
