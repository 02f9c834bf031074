"""EnvPool's environments are Gymnasium's: step by step, and in the distribution of what episodes give."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from conftest import Seqeval, refused

from seqeval import Evaluation, Study, UserError, environments
from seqeval.evaluation import gymnasium as ours
from seqeval.execution.jobs import resolve
from seqeval.execution.storage import RunDirectory

envpool = pytest.importorskip("envpool")
theirs = pytest.importorskip("seqeval.evaluation.envpool")

ENDING = ("Ant", "Hopper", "InvertedPendulum", "Walker2d")  # whose episodes may end before their limit
CLIPPED = ("Hopper", "Walker2d")  # whose observations have velocities up to 10
# sqrt(n·m / (n + m)) times the largest difference between two empirical distributions of one law exceeds this
# in one case of a thousand (Kolmogorov and Smirnov), and less often where values repeat.
LEVEL = math.sqrt(-math.log(0.001 / 2) / 2)


class Largest(NamedTuple):
    """How far steps from the same states with the same actions lie apart at most."""

    observations: float
    rewards: float
    ends: int  # steps after which only one of the two was over
    over: int  # steps after which both were
    compared: int


def step_by_step(name: str, steps: int = 600, **options: Any) -> Largest:
    """Every fifth state that EnvPool comes to is given to Gymnasium's environment, and both go on from it."""
    env: Any = environments.make(name).unwrapped
    env.reset(seed=0)
    positions, size = env.model.nq, env.model.nq + env.model.nv
    # The first positions are not observed, and nothing hangs on them.
    unseen = 2 if name.startswith("Ant") else size - env.observation_space.shape[0]
    with theirs._quiet():
        pool = envpool.make_gymnasium(name, num_envs=1, seed=[3], **options)
        dtype = pool.action_space.dtype
    rng, apart, compared, since = np.random.default_rng(0), np.zeros(4), 0, None
    here = pool.reset()[0][0]
    for _ in range(steps):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        state = np.concatenate([np.zeros(unseen), here])[:size]
        known = not (name.startswith(CLIPPED) and (np.abs(state[positions:]) >= 10).any())
        if known and since in (None, 5):
            env.set_state(state[:positions], state[positions:])
            since = 0
        following, reward, over, _, info = pool.step(action[None].astype(dtype))
        here = following[0]
        if not info["elapsed_step"][0]:  # it has begun a new episode
            since = None
        elif since is not None:
            expected, expected_reward, expected_over, _, _ = env.step(action)
            apart[0] = max(apart[0], np.abs(expected - here).max())
            if since:  # Ant's is by where it was a step before, and that is not part of the state
                apart[1] = max(apart[1], abs(expected_reward - reward[0]))
            apart[2:] += [bool(expected_over) != bool(over[0]), bool(expected_over) and bool(over[0])]
            compared, since = compared + 1, since + 1 if since < 5 else None
    env.close()
    pool.close()
    return Largest(*apart, compared)


@pytest.mark.parametrize("name", theirs.ALIKE)
def test_from_the_same_states_the_same_actions_do_the_same(name: str) -> None:
    apart = step_by_step(name)
    assert apart.observations < 1e-9
    assert apart.rewards < 1e-6  # theirs are float32
    assert apart.ends == 0
    assert (apart.over > 0) == name.startswith(ENDING)
    assert apart.compared > 100


def test_another_frame_skip_would_be_noticed() -> None:
    assert step_by_step("HalfCheetah-v4", 20, frame_skip=6).observations > 0.01
    assert step_by_step("Hopper-v4", 100, healthy_angle_min=-0.05).ends > 0


def kolmogorov_smirnov(one: list[float], other: list[float]) -> float:
    points = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(values), points, "right") / len(values) for values in (one, other)]
    size = len(one) * len(other) / (len(one) + len(other))
    return math.sqrt(size) * float(np.abs(shares[0] - shares[1]).max())


class Case(NamedTuple):
    """An environment, and a linear policy in it that is among the best of 300 random ones."""

    env_id: str
    better: int  # its seed
    limit: int


CASES = [
    Case("Hopper-v4", 113, 1000),
    Case("Walker2d-v4", 243, 1000),
    Case("HalfCheetah-v4?max_episode_steps=100", 152, 100),
]
IDS = [case.env_id.partition("?")[0] for case in CASES]


def linear(env_id: str, seed: int):
    about = environments.describe(env_id)
    weights = np.random.default_rng(seed).standard_normal((about.observation_size, about.actions.size))
    return lambda observations: np.tanh(observations @ weights).astype(np.float32)


def episodes(backend: Any, env_id: str, act: Any, samples: int) -> tuple[list[float], list[int]]:
    """Returns and lengths of 80 episodes."""
    evaluator = backend.Evaluator(env_id, [0, 1], 40)
    found = evaluator(act, [samples] * 2)
    evaluator.close()
    assert all(each.finite and each.successes is None for each in found)
    return [r for each in found for r in each.returns], [n for each in found for n in each.lengths]


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("good", [False, True], ids=["a random policy", "a mediocre one"])
def test_returns_and_lengths_agree_in_distribution(case: Case, good: bool) -> None:
    act = linear(case.env_id, case.better if good else 0)
    returns, lengths = zip(
        *(episodes(backend, case.env_id, act, n) for n, backend in enumerate((ours, theirs))), strict=True
    )
    assert kolmogorov_smirnov(*returns) < LEVEL
    assert kolmogorov_smirnov(*lengths) < LEVEL
    assert max(map(max, lengths)) <= case.limit
    # Means too, by four standard errors of their difference.
    error = math.sqrt(sum(np.var(values) / len(values) for values in returns))
    assert abs(np.mean(returns[0]) - np.mean(returns[1])) < 4 * error
    if good:
        assert np.mean(returns[0]) > {"Hopper-v4": 80, "Walker2d-v4": 50}.get(case.env_id, 20)


@pytest.mark.parametrize(
    "other", [{"frame_skip": 6}, {"ctrl_cost_weight": 0.2}, {"max_episode_steps": 101}], ids=str
)
def test_another_environment_would_not_agree(monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]) -> None:
    case, make = CASES[2], theirs._make
    act = linear(case.env_id, case.better)
    expected = episodes(ours, case.env_id, act, 0)
    monkeypatch.setattr(theirs, "_make", lambda name, options, *more: make(name, options | other, *more))
    found = episodes(theirs, case.env_id, act, 1)
    which = "max_episode_steps" in other  # lengths, else returns
    assert kolmogorov_smirnov(expected[which], found[which]) > LEVEL


@pytest.mark.parametrize("name", ["HalfCheetah-v4", "HalfCheetah-v4?max_episode_steps=7"])
def test_episodes_stop_at_the_limit(name: str) -> None:
    act = linear(name, 0)
    found = [backend.Evaluator(name, [0], 2)(act, [0])[0].lengths for backend in (ours, theirs)]
    assert found[0] == found[1] == [environments.describe(name).time_limit] * 2


def test_an_option_does_the_same() -> None:
    name = "Hopper-v4?terminate_when_unhealthy=False&max_episode_steps=50"
    for backend in (ours, theirs):
        assert backend.Evaluator(name, [0], 3)(linear(name, 0), [0])[0].lengths == [50] * 3


def test_a_replicas_episodes_hang_on_its_seed_and_samples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    act = linear("Hopper-v4", 165)

    def returns(seeds: list[int], samples: list[int]) -> list[list[float]]:
        return [each.returns for each in theirs.Evaluator("Hopper-v4", seeds, 3)(act, samples)]

    together = returns([4, 9, 2], [10, 10, 20])
    assert returns([9], [10]) == [together[1]]
    assert returns([2, 4], [20, 10]) == [together[2], together[0]]
    assert returns([9], [11]) != [together[1]]
    assert len({r for each in together for r in each}) == 9
    monkeypatch.setattr(theirs, "_processors", lambda: 1)
    assert returns([4, 9, 2], [10, 10, 20]) == together


def test_an_action_that_is_not_finite_fails_its_own_replica_alone() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        actions = np.zeros((*observations.shape[:2], 3), np.float32)
        actions[0, 1] = np.nan
        return actions

    first, second = theirs.Evaluator("Hopper-v4", [0, 1], 2)(act, [0, 0])
    assert (first.finite, second.finite) == (False, True)


def test_pendulum_is_another_one_there() -> None:
    """Theirs goes on with the speed before it is limited. Once this fails, it may be taken in."""
    env: Any = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    with theirs._quiet():
        pool = envpool.make_gymnasium("Pendulum-v1", num_envs=1, seed=[0])
        here, apart = pool.reset()[0][0], {False: 0.0, True: 0.0}
    for _ in range(100):
        angle, speed = np.arctan2(here[1], here[0]), here[2]
        env.state = np.array([angle, speed], np.float64)
        push = np.array([2.0 if speed >= 0 else -2.0], np.float32)
        limited = abs(speed + (15 * np.sin(angle) + 3 * push[0]) * 0.05) > 8
        expected, here = env.step(push)[0], pool.step(push[None])[0][0]
        apart[bool(limited)] = max(apart[bool(limited)], float(np.abs(expected - here).max()))
    assert apart[False] < 1e-5
    assert apart[True] > 0.01


STUDY = Study(
    datasets=("hopper-replay",),
    algorithms=("bc:hidden=(16,16)",),
    evaluation=Evaluation(points=1, episodes=1, backend="envpool"),
)


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ("Pendulum-v1", "Pendulum-v1 is not among the environments that it is known to have as Gymnasium"),
        ("Hopper-v4?reset_noise_scale=0.0", "the option reset_noise_scale of Hopper-v4 is not known to do"),
    ],
)
def test_what_is_not_known_to_be_alike_is_one_line(
    seqeval: Seqeval, tmp_path: Path, env: str, why: str
) -> None:
    study = ("run", "--datasets", "none", "--env", env, "--algorithms", "iql", "--online.steps", 9)
    line = refused(seqeval(*study, "--evaluation.backend", "envpool", "--out", tmp_path / "out"))
    assert line.startswith(f"seqeval: evaluation.backend envpool: {why}")
    assert line.endswith("; leave evaluation.backend out\n")
    assert not (tmp_path / "out").exists()


def test_other_spaces_and_another_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    make = envpool.make_spec
    for instead, options, why in (
        ("Walker2d-v4", {}, r"Hopper-v4 has Box\(-inf, inf, \(17,\).* there, and Box\(-inf, inf, \(11,\)"),
        ("InvertedPendulum-v4", {}, r"Hopper-v4 has Box"),
        ("Hopper-v4", {"max_episode_steps": 999}, "up to 999 steps there, and up to 1000 in Gymnasium"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(envpool, "make_spec", lambda _, i=instead, o=options: make(i, **o))
            with pytest.raises(UserError, match=why):
                theirs.check("Hopper-v4")
    box = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    assert theirs._same(box, gymnasium.spaces.Box(-1, 1, (3,), np.float64))
    assert not theirs._same(box, gymnasium.spaces.Box(-2, 1, (3,), np.float32))


def test_without_envpool_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    monkeypatch.delitem(sys.modules, "seqeval.evaluation.envpool")
    with pytest.raises(UserError, match=r"EnvPool is not installed; pip install 'seqeval-rl\[fast\]'$"):
        resolve(STUDY)


def test_the_backend_is_recorded_and_may_not_change(tmp_path: Path) -> None:
    out = RunDirectory(tmp_path / "out")
    described = resolve(STUDY).describe()
    assert described["evaluation"]["backend"] == "envpool"
    assert described["runs"][0]["versions"]["envpool"] == envpool.__version__
    out.admit(described)
    with pytest.raises(UserError, match=r"evaluation\.backend is 'envpool' there and 'gymnasium' now"):
        out.admit(resolve(replace(STUDY, evaluation=Evaluation(points=1, episodes=1))).describe())


def test_directories_that_are_older_than_the_setting_had_gymnasium(tmp_path: Path) -> None:
    out = RunDirectory(tmp_path / "out")
    described = resolve(replace(STUDY, evaluation=Evaluation())).describe()
    older = described | {"evaluation": {k: v for k, v in described["evaluation"].items() if k != "backend"}}
    out.admit(older)
    out.admit(described)
    with pytest.raises(UserError, match=r"evaluation\.backend is 'gymnasium' there and 'envpool' now"):
        out.admit(resolve(replace(STUDY, evaluation=Evaluation(backend="envpool"))).describe())
