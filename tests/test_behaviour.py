"""The maker of datasets: what its files hold, what it refuses, and that it goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import runpy
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from stable_baselines3.common.logger import Logger

from seqeval import cli, collect, datasets
from seqeval.atomic_io import locked
from seqeval.collect.agent import build, find_algorithm
from seqeval.collect.config import LEVELS, Recipe
from seqeval.collect.log import Log, Logged
from seqeval.collect.training import Training
from seqeval.errors import UserError


class Push(gymnasium.Env):
    """The reward is the action times `sign`; 5 to 8 steps, terminated where odd, else truncated.

    The observation is the steps left and the length, so the same ones come again.
    """

    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space: gymnasium.Space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.length = self.left = int(self.np_random.integers(5, 9))
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return np.array([self.left, self.length], np.float32)

    def reward(self, action: Any) -> float:
        assert self.action_space.contains(action)
        return self.sign * float(action[0])

    def step(self, action):
        reward = self.reward(action)
        self.left -= 1
        over, odd = self.left == 0, self.length % 2 == 1
        return self._observe(), reward, over and odd, over and not odd, {}


class Choose(Push):
    """The same with three actions, worth -1, 0 and 1."""

    action_space = gymnasium.spaces.Discrete(3)

    def reward(self, action: Any) -> float:
        return self.sign * (int(action) - 1.0)


class FromOne(Choose):
    action_space = gymnasium.spaces.Discrete(3, start=1)


gymnasium.register("Push-v0", entry_point=Push)
gymnasium.register("Idle-v0", entry_point=Push, kwargs={"sign": 0.0})
gymnasium.register("Choose-v0", entry_point=Choose)
gymnasium.register("FromOne-v0", entry_point=FromOne)

SMALL = {"net_arch": (8, 8), "learning_rate": 1e-2, "batch_size": 16, "learning_starts": 60}
SAC = Recipe("Push-v0", "SAC", steps=240, transitions=101, checkpoints=3, settings=SMALL)
DQN = Recipe(
    *("Choose-v0", "DQN"),
    steps=200,
    transitions=600,
    checkpoints=2,
    settings=SMALL | {"train_freq": 48, "gradient_steps": 48, "exploration_final_eps": 0.3},
)
TD3 = Recipe("Push-v0", "TD3", steps=150, transitions=80, checkpoints=1, settings=SMALL)
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
Arrays = dict[str, np.ndarray]


def read(path: Path) -> Arrays:
    with h5py.File(path) as file:
        return {key: values[...] for key, values in file.items()}


def card_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every level of a SAC agent; to be read."""
    return collect.make(SAC, LEVELS, tmp_path_factory.mktemp("made"))


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """The one line with which the command refuses its arguments, having written nothing."""

    def call(*arguments: object) -> str:
        out = tmp_path / "refused"
        usual = ["--env", "Push-v0", "--algorithm", "SAC", "--steps", "60", "--checkpoints", "2"]
        with pytest.raises(SystemExit) as ended:
            cli.main(["datasets", "make", "--out", str(out), *usual, *map(str, arguments)])
        error = capsys.readouterr().err
        assert ended.value.code == 2
        assert error.count("\n") == 1
        assert not out.exists()
        return error

    return call


def test_a_training_leaves_no_folder_of_a_logger_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    collect.make(TD3, ["random"], tmp_path / "out")
    assert list(tmp_path.glob("SB3-*")) == []


# --- what the files hold ---


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_has_d4rls_layout_and_a_card(made: dict[str, Path], level: str) -> None:
    path = made[level]
    assert path.name == f"push-{level}.hdf5"
    fields, card = read(path), card_of(path)
    size = {"full-replay": 240, "medium-replay": card["transitions"]}.get(level, 101)
    assert set(fields) == set(FIELDS)
    for key, width in (
        ("observations", (2,)),
        ("next_observations", (2,)),
        ("actions", (1,)),
        ("rewards", ()),
    ):
        assert fields[key].dtype == np.float32
        assert fields[key].shape == (size, *width)
    assert fields["terminals"].dtype == fields["timeouts"].dtype == bool
    with h5py.File(path) as file:
        assert set(file.attrs) == {
            "env_id",
            "behaviour",
            "reference_min",
            "reference_max",
            "reference_source",
        }
        assert all(file.attrs[key] == card[key] for key in file.attrs)
        assert all(v.compression == "gzip" and v.compression_opts == 9 and v.shuffle for v in file.values())
    about = {"name": path.stem, "env_id": "Push-v0", "level": level, "algorithm": "SAC", "steps": 240}
    assert about.items() <= card.items()
    assert card["behaviour_settings"] == SMALL | {"net_arch": [8, 8]}
    assert card["transitions"] == size
    assert card["episodes"] == (fields["terminals"] | fields["timeouts"]).sum()
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["resumed_at"] == []
    assert not list(path.parent.glob("*.partial"))
    assert not (path.parent / "making").exists()


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_what_the_environment_received_and_gave_back(made: dict[str, Path], level: str) -> None:
    fields = read(made[level])
    assert np.array_equal(fields["rewards"], fields["actions"][:, 0])  # the reward is the action in its units
    assert np.abs(fields["actions"]).max() <= 2
    left, length = fields["observations"].T
    over = left == 1
    assert np.array_equal(fields["next_observations"], np.c_[left - 1, length])  # of the end, not of a reset
    assert np.array_equal(fields["terminals"], over & (length % 2 == 1))
    joint = [49] if level == "medium-expert" else []  # where the one file ends and the other begins
    timeouts = over & (length % 2 == 0)
    timeouts[joint] = ~fields["terminals"][joint]
    assert np.array_equal(fields["timeouts"], timeouts)
    inside = ~(fields["terminals"] | fields["timeouts"])[:-1]
    assert np.array_equal(fields["next_observations"][:-1][inside], fields["observations"][1:][inside])


def test_the_training_is_logged_in_the_units_of_the_environment(made: dict[str, Path]) -> None:
    assert np.abs(read(made["full-replay"])["actions"]).max() > 1.5  # Stable-Baselines3's own end at 1


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_loaded_with_the_references_of_its_file(made: dict[str, Path], level: str) -> None:
    dataset = datasets.load(str(made[level]))
    card = card_of(made[level])
    assert dataset.env_id == "Push-v0"
    assert len(dataset) == card["transitions"]
    assert dataset.notes == ()
    assert dataset.reference is not None
    assert dataset.reference.minimum == card["reference_min"]
    assert dataset.reference.maximum == card["reference_max"]
    assert "100 episodes" in dataset.reference.source


def test_references_are_the_returns_of_random_actions_and_of_the_best_checkpoint(
    made: dict[str, Path],
) -> None:
    card = card_of(made["expert"])
    # Mean length 6.5; uniform actions between -2 and 2 have mean 0 and a standard deviation of 1.15.
    assert abs(card["reference_min"]) < 1.5
    assert 10 < card["reference_max"] <= 2 * 8
    returns = dict(card["checkpoint_returns"])
    assert list(returns) == [80, 160, 240]
    best = max(returns, key=lambda step: returns[step])
    assert f"(step {best}, deterministic)" in card["reference_source"]
    assert f"at step {best}, its best checkpoint" in card["behaviour"]


def test_medium_is_the_first_checkpoint_a_third_of_the_way(made: dict[str, Path]) -> None:
    card = card_of(made["medium"])
    low, returns = card["reference_min"], dict(card["checkpoint_returns"])
    third = low + (max(returns.values()) - low) / 3
    first = next(step for step, value in returns.items() if value >= third)
    assert f"at step {first}, the first checkpoint" in card["behaviour"]
    assert len(read(made["medium-replay"])["rewards"]) == first


def test_levels_rise_from_random_to_expert(made: dict[str, Path]) -> None:
    mean = {level: float(read(path)["rewards"].mean()) for level, path in made.items()}
    assert abs(mean["random"]) < 0.7
    assert mean["random"] < mean["medium"] <= mean["expert"]
    assert mean["expert"] > 1.2
    assert mean["expert"] > mean["full-replay"] > mean["random"]


def test_medium_replay_is_the_head_of_the_training(made: dict[str, Path]) -> None:
    head, whole = read(made["medium-replay"]), read(made["full-replay"])
    assert len(head["rewards"]) < len(whole["rewards"])
    assert same(head, {key: values[: len(head["rewards"])] for key, values in whole.items()})


def test_medium_expert_is_half_and_half_medium_first(made: dict[str, Path]) -> None:
    joined, medium, expert = (read(made[level]) for level in ("medium-expert", "medium", "expert"))
    for key in ("observations", "actions", "rewards", "next_observations", "terminals"):
        assert np.array_equal(joined[key][:50], medium[key][:50])
        assert np.array_equal(joined[key][50:], expert[key][:51])
    assert joined["timeouts"][49] != joined["terminals"][49]  # no transition runs from the one into the other


def test_the_same_recipe_makes_the_same_files_whatever_is_made_beside_them(
    made: dict[str, Path], tmp_path: Path
) -> None:
    again = collect.make(SAC, ["expert"], tmp_path)
    assert list(again) == ["expert"]
    assert same(read(again["expert"]), read(made["expert"]))
    other = collect.make(replace(SAC, seed=1), ["expert"], tmp_path / "other")
    assert not same(read(other["expert"]), read(made["expert"]))


def test_dqn_writes_numbers_and_explores_at_its_final_rate(tmp_path: Path) -> None:
    made = collect.make(DQN, ["expert", "full-replay"], tmp_path)
    log, expert = read(made["full-replay"]), read(made["expert"])
    assert len(log["actions"]) == 200  # train_freq does not divide it
    for fields in (log, expert):
        assert fields["actions"].dtype == np.int64
        assert fields["actions"].ndim == 1
        assert np.array_equal(fields["rewards"], fields["actions"] - 1.0)
    assert set(log["actions"]) == {0, 1, 2}
    # Of the 30 % that are drawn at random two thirds are not the best: 20 %, here ± three standard errors.
    assert 0.15 < (expert["actions"] != 2).mean() < 0.25
    card = card_of(made["expert"])
    assert "ε-greedy with ε = 0.3" in card["behaviour"]
    assert card["reference_max"] == pytest.approx(
        6.5, abs=0.4
    )  # greedy: a reward of 1 at each of 5 to 8 steps
    loaded = datasets.load(str(made["expert"]))
    assert loaded.actions.shape == (600,)


@pytest.mark.parametrize("noise", [None, 0.0])
def test_td3_is_given_noise_unless_told_otherwise(tmp_path: Path, noise: float | None) -> None:
    more = {} if noise is None else {"action_noise": noise}
    made = collect.make(replace(TD3, settings=SMALL | more), ["random"], tmp_path)
    fields, card = read(made["random"]), card_of(made["random"])
    _, state = np.unique(fields["observations"], axis=0, return_inverse=True)
    spread = np.array([np.ptp(fields["actions"][state == s]) for s in range(state.max() + 1)])
    # Half the range is 2, so the default is 0.2, and what comes twice differs by about as much.
    assert (spread == 0).all() if noise == 0 else 0.1 < np.median(spread) < 1.0
    assert card["behaviour_settings"].get("action_noise") == (noise if noise == 0 else 0.1)
    assert ("noise of 0.1" in card["behaviour"]) == (noise is None)


@pytest.mark.parametrize(
    ("algorithm", "env_id", "words"),
    [("QRDQN", "Choose-v0", "ε-greedy with ε = 0.01"), ("TQC", "Push-v0", "stochastic")],
)
def test_algorithms_of_sb3_contrib_are_known_where_it_is_installed(
    tmp_path: Path, algorithm: str, env_id: str, words: str
) -> None:
    pytest.importorskip("sb3_contrib")
    recipe = replace(TD3, env_id=env_id, algorithm=algorithm, settings=SMALL | {"learning_starts": 20})
    made = collect.make(recipe, ["expert"], tmp_path)
    card = card_of(made["expert"])
    assert card["behaviour"].startswith(f"sb3-contrib {algorithm} at step 150")
    assert words in card["behaviour"]
    assert "sb3-contrib" in card["versions"]
    assert len(read(made["expert"])["rewards"]) == 80


def test_algorithms_of_sb3_contrib_are_refused_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(UserError, match="pip install sb3-contrib"):
        find_algorithm("TQC")
    assert find_algorithm("SAC").__name__ == "SAC"


# --- going on ---


class Killed(BaseException):
    """Like KeyboardInterrupt, nobody's to catch."""


def stop_at(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, call: int) -> None:
    """Makes a function that a module calls raise when it is called for that many times."""
    real, calls = getattr(module, name), []

    def stopping(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return real(*arguments, **more)

    monkeypatch.setattr(module, name, stopping)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves that is stopped on its way to the third of three checkpoints."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, collect.training, "episode_returns", 3)
        with pytest.raises(Killed):
            collect.make(SAC, ["full-replay", "medium-replay"], out)
    return out


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


def test_an_interrupted_training_goes_on_from_its_last_checkpoint(
    stopped: Path, made: dict[str, Path]
) -> None:
    assert [path.name for path in stopped.iterdir()] == ["making"]
    again = collect.make(SAC, ["full-replay", "medium-replay"], stopped)
    fields, whole, card = read(again["full-replay"]), read(made["full-replay"]), card_of(again["full-replay"])
    assert card["resumed_at"] == [160]
    assert [step for step, _ in card["checkpoint_returns"]] == [80, 160, 240]
    assert len(fields["rewards"]) == 240
    assert same(
        {key: values[:159] for key, values in fields.items()},
        {key: values[:159] for key, values in whole.items()},
    )
    assert fields["terminals"][159] or fields["timeouts"][159]
    assert fields["observations"][160, 0] == fields["observations"][160, 1]  # an episode begins
    assert fields["actions"][160:].mean() > 1  # and the agent has not forgotten
    assert not same(  # nor does it live the beginning again
        {key: values[160:230] for key, values in fields.items()},
        {key: values[:70] for key, values in fields.items()},
    )
    assert not (stopped / "making").exists()


def test_a_resumed_agent_has_its_schedules_its_weights_and_its_replay_buffer(stopped: Path) -> None:
    training = Training(SAC, stopped / "making")
    env = gymnasium.make("Push-v0")
    resumed = training.agent(env)
    assert training.log.size == resumed.num_timesteps == 160
    assert resumed._n_updates == 100  # 160 steps less the 60 before learning starts
    weights = {key: value.numpy() for key, value in resumed.policy.state_dict().items()}
    assert not all(
        np.array_equal(v, w) for v, w in zip(weights.values(), _initial(env).values(), strict=True)
    )

    buffer, log = resumed.replay_buffer, training.log.fields
    assert buffer is not None
    assert buffer.pos == 160
    assert np.array_equal(buffer.observations[:160, 0], log["observations"][:160])
    assert np.array_equal(buffer.next_observations[:160, 0], log["next_observations"][:160])
    assert np.array_equal(buffer.rewards[:160, 0], log["rewards"][:160])
    np.testing.assert_allclose(buffer.actions[:160, 0] * 2, log["actions"][:160], atol=1e-6)
    # What it learns from: done only where the episode terminated, so a value follows every timeout.
    done = buffer.dones[:160, 0] * (1 - buffer.timeouts[:160, 0])
    assert np.array_equal(done, log["terminals"][:160])
    env.close()


def _initial(env: gymnasium.Env) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in build(SAC, env).policy.state_dict().items()}


def test_a_replay_buffer_is_filled_as_the_agent_fills_it(tmp_path: Path) -> None:
    log = Log("Push-v0", 100)
    env = Logged(gymnasium.make("Push-v0"), log)
    recipe = replace(SAC, settings=SMALL | {"buffer_size": 70})
    agent = build(recipe, env)
    agent.set_logger(Logger(None, []))
    agent.learn(100)
    other = build(recipe, gymnasium.make("Push-v0"))
    collect.training._fill(other, log)
    one, two = agent.replay_buffer, other.replay_buffer
    assert one is not None
    assert two is not None
    assert two.full
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        newest = np.roll(getattr(one, name), -one.pos, axis=0)
        np.testing.assert_allclose(np.roll(getattr(two, name), -two.pos, axis=0), newest, atol=1e-6)


def test_levels_that_are_written_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        stop_at(context, collect.levels, "rollout", 2)
        with pytest.raises(Killed):
            collect.make(SAC, ["random", "expert"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"push-random.hdf5", "push-random.json", "making"}
    before = (tmp_path / "push-random.hdf5").stat()
    monkeypatch.setattr(collect.training, "build", _no_training(build))
    collect.make(SAC, ["random", "expert"], tmp_path)
    after = (tmp_path / "push-random.hdf5").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(read(tmp_path / "push-expert.hdf5")["rewards"]) == 101
    assert not (tmp_path / "making").exists()


def _no_training(build: Any) -> Any:
    def building(*arguments: Any, **more: Any) -> Any:
        agent = build(*arguments, **more)
        agent.learn = None  # to be called by nobody
        return agent

    return building


def test_a_level_cut_between_its_card_and_its_file_is_written_again(
    stopped: Path, made: dict[str, Path]
) -> None:
    shutil.copy(made["full-replay"].with_suffix(".json"), stopped)
    collect.make(SAC, ["full-replay"], stopped)
    assert card_of(stopped / "push-full-replay.hdf5")["resumed_at"] == [160]


# --- refusals ---


def test_a_file_that_is_there_is_not_overwritten(made: dict[str, Path], refusal: Callable[..., str]) -> None:
    folder = made["expert"].parent
    before = snapshot(folder)
    with pytest.raises(
        UserError, match=r"push-expert\.hdf5: exists already; remove it or give another --out"
    ):
        collect.make(SAC, ["expert"], folder)
    assert snapshot(folder) == before
    assert not (folder / "making").exists()


def test_a_file_of_another_recipe_is_not_taken_for_a_level_that_is_written(
    stopped: Path, made: dict[str, Path]
) -> None:
    collect.make(replace(SAC, seed=3), ["expert"], stopped.parent / "foreign")
    for path in (stopped.parent / "foreign").iterdir():
        shutil.copy(path, stopped)
    before = snapshot(stopped)
    with pytest.raises(UserError, match=r"push-expert\.hdf5: exists already"):
        collect.make(SAC, ["expert"], stopped)
    assert snapshot(stopped) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"steps": 250, "transitions": 250}, "steps 240, not 250"),
        ({"settings": SMALL | {"gamma": 0.9}}, "settings.gamma None, not 0.9"),
        ({"settings": SMALL | {"batch_size": 8}}, "settings.batch_size 16, not 8"),
    ],
)
def test_another_recipe_is_refused(stopped: Path, changes: dict[str, Any], message: str) -> None:
    before = snapshot(stopped)
    with pytest.raises(UserError) as caught:
        collect.make(replace(SAC, **changes), ["full-replay"], stopped)
    assert f"making: begun with {message};" in str(caught.value)
    assert snapshot(stopped) == before


def test_a_folder_that_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "making").mkdir()
    (tmp_path / "making" / "coffee.txt").write_text("two sugars")
    with pytest.raises(UserError, match=r"making: not empty and holds no recipe\.json"):
        collect.make(SAC, ["expert"], tmp_path)
    assert (tmp_path / "making" / "coffee.txt").read_text() == "two sugars"


def test_two_processes_do_not_share_the_work(stopped: Path) -> None:
    with locked(stopped / "making", "busy"):
        with pytest.raises(UserError, match="another process is at work there"):
            collect.make(SAC, ["full-replay"], stopped)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--algorithm", "PPO"), ("'PPO' is on-policy and has no replay buffer", "SAC, TD3")),
        (("--algorithm", "A2C"), ("'A2C' is on-policy and has no replay buffer",)),
        (("--algorithm", "SAK"), ("'SAK' is not known", "did you mean 'SAC'?")),
        (("--algorithm", "sac"), ("'sac' is not known", "did you mean 'SAC'?")),
        (("--algorithm", "DQN"), ("'DQN' takes discrete actions", "Push-v0 are continuous", "SAC")),
        (("--env", "Choose-v0"), ("'SAC' takes continuous actions", "Choose-v0 are discrete", "use DQN")),
        (("--env", "FromOne-v0", "--algorithm", "DQN"), ("begin at 1",)),
        (("--env", "Pusch-v0"), ("environment 'Pusch-v0' cannot be made", "did you mean")),
        (("--levels", "random", "expertt"), ("level 'expertt'", "did you mean 'expert'", "full-replay")),
        (("--levels",), ("--levels: name at least one",)),
        (("--settings", "learning_rat=1e-3"), ("no such setting", "did you mean 'learning_rate'")),
        (("--settings", "seed=3"), ("--seed",)),
        (("--settings", "policy='CnnPolicy'"), ("policy", "given by the command")),
        (("--settings", "gamma"), ("'gamma'", "key=value")),
        (("--settings", "ent_coef=auto"), ("'auto'", "quoted twice")),
        (("--settings", "gamma=0.9", "gamma=0.8"), ("gamma: given twice",)),
        (("--settings", "learning_rate='fast'"), ("SAC cannot be built with these --settings",)),
        (("--settings", "action_noise=-1"), ("action_noise: must be", "-1")),
        (("--settings", "buffer_size=0"), ("buffer_size: must be a whole number of at least 1, not 0",)),
        (("--steps", "0"), ("--steps: must be at least 1, not 0",)),
        (("--transitions", "1"), ("--transitions: must be at least 2, not 1",)),
        (("--checkpoints", "61"), ("--checkpoints: 61 do not fit into 60 steps",)),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(
    refusal: Callable[..., str], arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    message = refusal(*arguments)
    for part in parts:
        assert part in message


def test_an_agent_that_does_not_learn_has_no_levels_but_keeps_its_training(tmp_path: Path) -> None:
    recipe = replace(SAC, env_id="Idle-v0", steps=70, checkpoints=1)
    with pytest.raises(UserError) as caught:
        collect.make(recipe, ["full-replay"], tmp_path)
    message = str(caught.value)
    assert "no better than random in 70 steps" in message
    assert "(step 70) has a mean return of 0.00" in message
    assert "random actions have 0.00" in message
    assert [path.name for path in tmp_path.iterdir()] == ["making"]
    assert Training(recipe, tmp_path / "making").over
    assert (tmp_path / "making" / "model-70.zip").stat().st_size > 1000


# --- the command, and references of files ---


def test_the_command_prints_the_files_and_its_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"{key}={value!r}" for key, value in SMALL.items()]
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                *("datasets", "make", "--env", "Push-v0", "--algorithm", "SAC", "--steps", "150"),
                *("--checkpoints", "1", "--levels", "random", "full-replay", "--out", str(tmp_path / "new")),
                *("--settings", *settings),
            ]
        )
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    paths = [tmp_path / "new" / "push-random.hdf5", tmp_path / "new" / "push-full-replay.hdf5"]
    assert out.splitlines() == [str(path) for path in paths]
    assert [len(read(path)["rewards"]) for path in paths] == [150, 150]
    assert "100%  training SAC in Push-v0: 150 of 150" in err
    assert "100%  rolling out random: 150 of 150" in err


def test_the_command_of_a_card_makes_the_recipe_it_is_of() -> None:
    assert SAC.command("expert") == (
        "seqeval datasets make --env Push-v0 --algorithm SAC --steps 240 --transitions 101 --seed 0 "
        "--checkpoints 3 --settings batch_size=16 learning_rate=0.01 learning_starts=60 'net_arch=(8, 8)' "
        "--levels expert"
    )
    texts = [f"{key}={value!r}" for key, value in SMALL.items()]
    assert collect.parse_settings(texts) == SMALL


def test_a_stopped_command_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "make", stop)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["datasets", "make", "--env", "a", "--algorithm", "b", "--steps", "1", "--out", str(tmp_path)]
        )
    assert ended.value.code == 130
    assert "run the same command again to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("Hopper-v4", "hopper-medium.hdf5"),
        ("CartPole-v1", "cartpole-medium.hdf5"),
        ("package:space/Big-Walker-v12", "space-big-walker-medium.hdf5"),
    ],
)
def test_files_are_called_after_the_environment_and_the_level(env_id: str, name: str) -> None:
    recipe = replace(SAC, env_id=env_id)
    assert recipe.file(Path("out"), "medium") == Path("out") / name


@pytest.mark.parametrize(("steps", "checkpoints"), [(240, 3), (100, 7), (5, 5), (1, 1)])
def test_checkpoints_are_evenly_spaced_and_the_last_is_at_the_end(steps: int, checkpoints: int) -> None:
    marks = sorted(replace(SAC, steps=steps, checkpoints=checkpoints).marks)
    assert len(marks) == checkpoints
    assert marks[-1] == steps
    assert np.ptp(np.diff([0, *marks])) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_max": None}, "'reference_max' is missing"),
        ({"reference_source": None}, "'reference_source' is missing"),
        ({"reference_min": np.inf}, "'reference_min' must be a finite number, not inf"),
        ({"reference_max": "high"}, "'reference_max' must be a finite number, not 'high'"),
        ({"reference_max": -5.0}, "'reference_max' is -5.0, not above 'reference_min'"),
    ],
)
def test_references_in_a_file_that_make_no_scale_are_refused(
    made: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = Path(shutil.copy(made["random"], tmp_path))
    with h5py.File(path, "r+") as file:
        for key, value in changes.items():
            del file.attrs[key]
            if value is not None:
                file.attrs[key] = value
    with pytest.raises(UserError) as caught:
        datasets.load(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_references_of_a_file_do_not_go_before_d4rls_nor_into_another_environment(
    made: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(made["random"], tmp_path))
    assert datasets.load(str(path), "Countdown-v0").reference is None
    with h5py.File(path, "r+") as file:
        for key in ("observations", "next_observations", "actions"):
            values = file[key][...]
            del file[key]
            file[key] = np.tile(values[:, :1], 3 if key == "actions" else 11)
        file.attrs["env_id"] = "Hopper-v4"
    reference = datasets.load(str(path)).reference
    assert reference is not None
    assert "D4RL" in reference.source


# --- the embedded datasets ---

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "make_embedded.py"))


def test_an_embedded_dataset_is_a_full_replay_under_a_name_of_its_own(
    tmp_path: Path, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCRIPT["RECIPES"], "push-replay", SAC)
    SCRIPT["make"]("push-replay", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"push-replay.hdf5", "push-replay.json"}
    assert same(read(tmp_path / "push-replay.hdf5"), read(made["full-replay"]))
    card = card_of(tmp_path / "push-replay.hdf5")
    assert (card["name"], card["licence"]) == ("push-replay", "Apache-2.0")
    assert card["made_by"] == "experiments/make_embedded.py push-replay"
    assert card["sha256"] == hashlib.sha256((tmp_path / "push-replay.hdf5").read_bytes()).hexdigest()
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"push-replay\.hdf5: exists already"):
        SCRIPT["make"]("push-replay", tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", sorted(SCRIPT["RECIPES"]))
def test_the_card_of_an_embedded_dataset_is_of_its_recipe(name: str) -> None:
    recipe, card = SCRIPT["RECIPES"][name], card_of(SCRIPT["OUT"] / f"{name}.hdf5")
    assert card["env_id"] == recipe.env_id
    assert card["transitions"] == recipe.steps
    assert card["behaviour_settings"] == json.loads(json.dumps(recipe.settings))
    assert (
        f"{recipe.algorithm} while it learns, steps 0 to {recipe.steps}, seed {recipe.seed}"
        in card["behaviour"]
    )


def test_cartpole_replay_is_of_an_agent_that_learns_to_balance() -> None:
    card, dataset = card_of(SCRIPT["OUT"] / "cartpole-replay.hdf5"), datasets.load("cartpole-replay")
    assert len(dataset) >= 10_000
    assert dataset.actions.shape == (len(dataset),)
    assert card["reference_min"] < 30
    assert card["reference_max"] >= 400
    lengths = np.bincount(dataset.episode)
    assert np.array_equal(dataset.episode_returns, lengths)  # a reward of 1 a step
    assert lengths[-20:].mean() > 4 * lengths[:20].mean()


def test_an_environment_with_options_has_a_plain_file_and_a_command_that_a_shell_takes(
    tmp_path: Path,
) -> None:
    recipe = Recipe("Pendulum-v1?g=5.0&max_episode_steps=20", "SAC", 10, 10)
    assert recipe.file(tmp_path, "random") == tmp_path / "pendulum-random.hdf5"
    assert shlex.split(recipe.command("random"))[4] == recipe.env_id
