"""Minari's datasets as a source, and datasets written for Minari and as files; nothing is downloaded."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from conftest import PER_TRANSITION, make_dataset
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from seqeval import cli, datasets, environments
from seqeval.config import Evaluation
from seqeval.datasets import _write
from seqeval.errors import UserError
from seqeval.evaluation import VisibleData
from seqeval.evaluation.evaluators.episodes import Episodes
from seqeval.types import Dataset, Image, Vector


class Errand(gymnasium.Env):
    """Observes a dict within a dict, whose keys are not in the order of the alphabet."""

    observation_space = spaces.Dict(
        [
            ("where", spaces.Box(-1.0, 1.0, (2,), np.float64)),
            (
                "bag",
                spaces.Dict(
                    {"eggs": spaces.Discrete(3, start=1), "at": spaces.Box(0, 9, (1, 2), np.float32)}
                ),
            ),
            ("doors", spaces.Tuple([spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3])])),
        ]
    )
    action_space = spaces.Discrete(2)

    def __init__(
        self, speed: float = 1.0, way: tuple[int, ...] = (1, 2), render_mode: str | None = None
    ) -> None:
        self.speed, self.way = speed, way

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), self.speed, False, False, {}


KEYS = "where (2), bag.at (2), bag.eggs (3), doors.0 (2), doors.1 (5)"
gymnasium.register("Errand-v0", entry_point="test_minari:Errand", max_episode_steps=5, kwargs={"way": (1, 2)})


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Minari's datasets; downloads fail."""

    def download(dataset_id: str) -> None:
        print("Downloading")
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(minari, "download_dataset", download)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "minari").mkdir()
    return tmp_path / "minari"


def episodes(env: gymnasium.Env, ends: str, steps: int = 4) -> list[EpisodeBuffer]:
    """Random episodes, each ending as its letter says: terminated (t), truncated (c) or neither (-)."""
    env.observation_space.seed(0)
    env.action_space.seed(0)

    def stacked(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: stacked([value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], tuple):
            return tuple(stacked(list(part)) for part in zip(*values, strict=True))
        return np.array(values)

    last = np.arange(steps) == steps - 1
    return [
        EpisodeBuffer(
            observations=stacked([env.observation_space.sample() for _ in range(steps + 1)]),
            actions=np.array([env.action_space.sample() for _ in range(steps)]),
            rewards=np.arange(steps) + 10.0 * number,
            terminations=last & (end == "t"),
            truncations=last & (end == "c"),
        )
        for number, end in enumerate(ends)
    ]


def store(
    root: Path,
    env: gymnasium.Env,
    ends: str = "tc",
    name: str = "small/made-v0",
    buffers: Iterable[EpisodeBuffer] | None = None,
    env_spec: bool = True,
    **metadata: Any,
) -> str:
    """A dataset as Minari's DataCollector stores it; returns its name in seqeval."""
    folder = root / name
    folder.mkdir(parents=True)
    spec, here = env.spec, {"observation_space": env.observation_space, "action_space": env.action_space}
    storage = MinariStorage.new(folder / "data", env_spec=spec if env_spec else None, **here)
    storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__} | metadata)
    storage.update_episodes(episodes(env, ends) if buffers is None else buffers)
    return f"minari:{name}"


def refusal(name: str, env_id: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        datasets.load(name, env_id)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(name) in message
    return message


# --- reading ---


def test_a_continuous_dataset_is_read_completely_with_next_observations(root: Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    name = store(root, env, "tct", algorithm_name="dice", author={"B", "A"})
    dataset = datasets.load(name)
    logged = episodes(env, "tct")
    assert (dataset.name, dataset.env_id, len(dataset)) == (name, "Pendulum-v1", 12)
    assert (dataset.observations == np.concatenate([e.observations[:-1] for e in logged])).all()
    assert (dataset.next_observations == np.concatenate([e.observations[1:] for e in logged])).all()
    assert (dataset.actions == np.concatenate([e.actions for e in logged])).all()
    assert np.flatnonzero(dataset.terminated).tolist() == [3, 11]
    assert np.flatnonzero(dataset.truncated).tolist() == [7]
    assert dataset.episode.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.episode_returns.tolist() == [6, 46, 86]
    assert dataset.episode_complete.all()
    assert dataset.reference is None
    assert dataset.notes == ()
    assert dataset.card == {"behaviour": "dice", "author": "A, B", "minari_version": minari.__version__}


def test_discrete_actions_are_integers(root: Path) -> None:
    env = gymnasium.make("CartPole-v1")
    logged = episodes(env, "t")
    dataset = datasets.load(store(root, env, buffers=logged))
    assert dataset.actions.dtype == np.int64
    assert dataset.actions.tolist() == logged[0].actions.tolist()


def test_an_episode_without_an_end_is_truncated_and_the_last_one_incomplete(root: Path) -> None:
    dataset = datasets.load(store(root, gymnasium.make("Pendulum-v1"), "-t-"))
    assert np.flatnonzero(dataset.truncated).tolist() == [3, 11]
    assert dataset.episode_complete.tolist() == [True, True, False]
    assert dataset.notes == ("1 episodes end neither terminated nor truncated: taken as truncated",)


def test_dicts_are_flattened_in_the_order_of_the_evaluation_environment(root: Path) -> None:
    env = gymnasium.make("Errand-v0")
    logged = episodes(env, "cc")
    dataset = datasets.load(store(root, env, buffers=logged))
    assert dataset.env_id == "test_minari:Errand-v0?flatten_observation=True"
    assert dataset.notes == (f"observations are flattened in this order: {KEYS}",)
    at = logged[1].observations
    first = {
        "where": at["where"][0],
        "bag": {key: at["bag"][key][0] for key in at["bag"]},
        "doors": tuple(part[0] for part in at["doors"]),
    }
    made = environments.make(dataset.env_id)
    assert made.observation_space.shape == (14,)
    assert (dataset.observations[4] == made.observation(first).astype(np.float32)).all()
    assert (dataset.next_observations[:3] == dataset.observations[1:4]).all()
    evaluator = Episodes(dataset.env_id, [0], Evaluation(episodes=2))
    policies = SimpleNamespace(
        target_returns=(),
        start_episodes=lambda count, target=0: None,
        act_in_episodes=lambda observations, rewards, memory: np.zeros(observations.shape[:2], np.int64),
    )
    assert evaluator.evaluate(policies, VisibleData((1,)))["episode_returns"] == [[5.0, 5.0]]


def test_an_environment_that_flattens_already_is_not_wrapped_again(root: Path) -> None:
    name = store(root, gymnasium.make("Errand-v0"))
    flat = "test_minari:Errand-v0?flatten_observation=True"
    assert datasets.load(name, flat).digest == datasets.load(name).digest


def test_a_recorded_flatten_wrapper_is_recognized(root: Path) -> None:
    env = gymnasium.wrappers.FlattenObservation(gymnasium.make("Errand-v0"))
    dataset = datasets.load(store(root, env))
    assert dataset.env_id == "test_minari:Errand-v0?flatten_observation=True"
    assert dataset.notes == ()


def test_observations_with_other_keys_than_the_environments_are_refused(root: Path) -> None:
    gymnasium.register("Errands-v0", entry_point="test_minari:Errand")
    try:
        env = gymnasium.make("Errand-v0")
        env = gymnasium.wrappers.TransformObservation(env, None, spaces.Dict({"x": spaces.Discrete(2)}))
        logged = [
            dataclasses.replace(e, observations={"x": np.zeros(5, np.int64)}, actions=np.zeros(4, np.int64))
            for e in episodes(gymnasium.make("CartPole-v1"), "t")
        ]
        message = refusal(store(root, env, buffers=logged, env_spec=False), "test_minari:Errands-v0")
    finally:
        gymnasium.registry.pop("Errands-v0")
    assert "--env" in message


# --- environments ---


def test_differences_from_the_registered_environment_become_options(root: Path) -> None:
    env = gymnasium.make("Pendulum-v1", g=9.5, max_episode_steps=50, render_mode="rgb_array")
    dataset = datasets.load(store(root, env))
    assert dataset.env_id == "Pendulum-v1?g=9.5&max_episode_steps=50"
    made = environments.make(dataset.env_id)
    assert (made.unwrapped.g, made.spec.max_episode_steps, made.render_mode) == (9.5, 50, None)


def test_a_removed_time_limit_stays_removed(root: Path) -> None:
    dataset = datasets.load(store(root, gymnasium.make("Pendulum-v1", max_episode_steps=-1)))
    assert environments.describe(dataset.env_id).time_limit is None


def test_the_recorded_evaluation_environment_takes_precedence(root: Path) -> None:
    spec = gymnasium.make("Pendulum-v1", max_episode_steps=30).spec
    dataset = datasets.load(store(root, gymnasium.make("Pendulum-v1"), eval_env_spec=spec.to_json()))
    assert dataset.env_id == "Pendulum-v1?max_episode_steps=30"
    assert "for evaluation" in dataset.notes[0]


def test_a_given_environment_takes_precedence_without_the_recorded_references(root: Path) -> None:
    name = store(root, gymnasium.make("Pendulum-v1"), ref_min_score=-1000.0, ref_max_score=-100.0)
    dataset = datasets.load(name, "Pendulum-v1?g=5.0")
    assert (dataset.env_id, dataset.reference) == ("Pendulum-v1?g=5.0", None)
    assert datasets.load(name, "Pendulum-v1").reference is not None


def test_recorded_wrappers_are_refused_unless_an_environment_is_given(root: Path) -> None:
    env = gymnasium.wrappers.ClipAction(
        gymnasium.wrappers.RescaleAction(gymnasium.make("Pendulum-v1"), -1, 1)
    )
    name = store(root, env)
    message = refusal(name)
    assert all(part in message for part in ("Pendulum-v1", "RescaleAction, ClipAction", "--env"))
    assert datasets.load(name, "Pendulum-v1").env_id == "Pendulum-v1"


def test_an_unregistered_environment_is_refused_with_its_package(root: Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    name = store(root, env, env_spec=False)
    path = root / "small/made-v0/data/metadata.json"
    spec = json.loads(env.spec.to_json()) | {"id": "Far-v3", "entry_point": "far_away.envs:Far"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_spec": json.dumps(spec)}))
    message = refusal(name)
    assert all(part in message for part in ("Far-v3", "install far_away", "--env"))


def test_a_dataset_without_an_environment_needs_one_and_keeps_its_references(root: Path) -> None:
    name = store(root, gymnasium.make("Pendulum-v1"), env_spec=False, ref_min_score=0, ref_max_score=1)
    assert "--env" in refusal(name)
    assert datasets.load(name, "Pendulum-v1").reference is not None


def test_an_argument_missing_from_the_record_is_noted(root: Path) -> None:
    env = gymnasium.make("Errand-v0")
    env.unwrapped.spec.kwargs.clear()
    assert any("registered with way" in note for note in datasets.load(store(root, env)).notes)


def test_non_vector_observations_are_refused_with_the_option_to_use() -> None:
    with pytest.raises(UserError, match="add the option flatten_observation=True"):
        environments.describe("FrozenLake-v1")
    assert environments.describe("FrozenLake-v1?flatten_observation=True").observation_size == 16


def test_an_environment_that_cannot_be_flattened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Errand, "observation_space", gymnasium.Space())
    with pytest.raises(
        UserError, match=r"Errand-v0\?flatten_observation=True' cannot be made: Unknown space"
    ):
        environments.make("Errand-v0?flatten_observation=True")


def test_options_are_appended_to_a_name_unless_they_cannot_be_written() -> None:
    assert environments.with_options("A-v0", {}) == "A-v0"
    assert environments.with_options("A-v0?b=1", {"c": [1], "d": "e"}) == "A-v0?b=1&c=[1]&d='e'"
    for bad in (float("nan"), "this&that", object()):
        with pytest.raises(UserError, match="is not an option"):
            environments.with_options("A-v0", {"b": bad})


# --- scores ---


def test_own_references_give_minaris_normalized_score(root: Path) -> None:
    name = store(root, gymnasium.make("Hopper-v5"), ref_min_score=10.0, ref_max_score=3000.0)
    reference = datasets.load(name).reference
    assert reference is not None
    assert reference.source == "Minari: ref_min_score, ref_max_score of small/made-v0"
    returns = np.array([50.0, 700.0])
    expected = 100 * minari.get_normalized_score(minari.load_dataset("small/made-v0"), returns)
    assert [reference.score(value) for value in returns] == pytest.approx(expected.tolist())


def test_without_own_references_the_published_ones_are_used(root: Path) -> None:
    with environments.quiet():
        name = store(root, gymnasium.make("Hopper-v4"))
    reference = datasets.load(name).reference
    assert reference is not None
    assert reference.maximum == 3234.3


def test_invalid_references_are_ignored_with_a_note(root: Path) -> None:
    name = store(root, gymnasium.make("Pendulum-v1"), ref_min_score=5.0, ref_max_score=5.0)
    dataset = datasets.load(name)
    assert dataset.reference is None
    assert "not a valid scale" in dataset.notes[0]


# --- refused datasets ---


def test_an_unknown_name_is_refused_with_similar_names_and_the_download_error(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(root, gymnasium.make("Pendulum-v1"))
    message = refusal("minari:smal/made-v0")
    assert "did you mean 'minari:small/made-v0'" in message
    assert "Name or service not known" in message
    assert str(root / "smal/made-v0") in message
    assert capsys.readouterr() == ("", "Downloading\n")
    assert datasets.names().count("minari:small/made-v0") == 1


@pytest.mark.parametrize("bad", ["made", "small/made", "../made-v0", "a b-v0", "", "hf://x/made-v0"])
def test_an_invalid_minari_name_is_refused_with_an_example(bad: str) -> None:
    assert "minari:mujoco/hopper/medium-v0" in refusal(f"minari:{bad}")


@pytest.mark.parametrize("damage", ["metadata.json", "main_data.hdf5", "cut", "version", "group"])
def test_a_damaged_dataset_is_refused(root: Path, damage: str) -> None:
    name = store(root, gymnasium.make("Pendulum-v1"))
    data = root / "small/made-v0/data"
    file = data / "main_data.hdf5"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:3000])
    elif damage == "version":
        metadata = json.loads((data / "metadata.json").read_text())
        (data / "metadata.json").write_text(json.dumps(metadata | {"minari_version": "0.1.0"}))
    elif damage == "group":
        with h5py.File(file, "a") as opened:
            del opened["episode_1"]["rewards"]
    else:
        (data / damage).unlink()
    message = refusal(name)
    assert str(root / "small/made-v0") in message
    assert damage != "version" or "0.1.0" in message


def test_an_episode_without_its_last_observation_is_refused(root: Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    logged = episodes(env, "tt")
    logged[1] = dataclasses.replace(logged[1], observations=logged[1].observations[:-1])
    assert "episode 1 has 4 observations and 4 rewards" in refusal(store(root, env, buffers=logged))


def test_text_observations_are_refused(root: Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    env = gymnasium.wrappers.TransformObservation(env, None, spaces.Text(3))
    logged = [
        dataclasses.replace(e, observations=["a"] * 5) for e in episodes(gymnasium.make("Pendulum-v1"), "t")
    ]
    assert "Text" in refusal(store(root, env, buffers=logged, env_spec=False), "test_minari:Errand-v0")


def test_an_infinite_value_is_refused_with_its_row(root: Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    logged = episodes(env, "tt")
    logged[1].rewards[2] = 1e300
    with pytest.raises(UserError, match=r"minari:small/made-v0: field 'rewards' is not finite in row 6"):
        datasets.load(store(root, env, buffers=logged))


# --- conversion ---


def same(one: Dataset, two: Dataset, but: tuple[str, ...] = ()) -> None:
    arrays = (*PER_TRANSITION, "episode_returns", "episode_complete")
    for field in (*arrays, "env_id", "reference"):
        if field not in but:
            assert np.array_equal(getattr(one, field), getattr(two, field)), field


@pytest.fixture(params=["minari:there/and-back-v0", "file"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "new/file.hdf5") if request.param == "file" else request.param


@pytest.mark.parametrize("name", ["pendulum-replay", "cartpole-replay", "hopper-replay"])
def test_an_embedded_dataset_survives_the_round_trip(
    name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for heavy in ("jax", "jax.tree_util"):
        monkeypatch.setitem(sys.modules, heavy, None)
    dataset = datasets.load(name)
    _, notes = _write.write(dataset, target)
    back = datasets.load(target)
    same(dataset, back)
    assert notes == []
    assert back.digest == dataset.digest
    assert back.card["behaviour"] == dataset.card["behaviour"]


def test_a_minari_dataset_survives_the_round_trip(root: Path, target: str) -> None:
    env = gymnasium.make("Errand-v0", speed=2.0, way=(3, 4))
    dataset = datasets.load(store(root, env, "ctc-", ref_min_score=0.0, ref_max_score=9.0))
    _, notes = _write.write(dataset, target)
    assert notes == []
    same(dataset, datasets.load(target))
    assert not dataset.episode_complete[-1]


def test_a_written_dataset_can_be_used_by_minari_itself(root: Path) -> None:
    """Minari's library finds the dataset and its environment, which is made with options."""
    env_id = "Pendulum-v1?g=9.5&max_episode_steps=20"
    path, _ = _write.write(made(make_dataset(env_id=env_id)), "minari:deep/down/made-v3")
    assert path == root / "deep/down/made-v3"
    assert [entry.name for entry in root.rglob(".*")] == []
    assert list(minari.list_local_datasets()) == ["deep/down/made-v3"]
    stored = minari.load_dataset("deep/down/made-v3")
    assert (stored.total_episodes, stored.total_steps) == (12, 120)
    env = stored.recover_environment()
    assert (env.unwrapped.g, env.spec.max_episode_steps) == (9.5, 20)
    assert minari.get_normalized_score(stored, np.array([-100.0])) == 1
    assert stored[0].observations.shape == (11, 3)
    assert stored[0].terminations.tolist() == [False] * 9 + [True]


def made(dataset: Dataset) -> Dataset:
    """The dataset with consistent next observations, as Minari requires."""
    following = np.concatenate([dataset.observations[1:], dataset.observations[:1]])
    return dataclasses.replace(dataset, next_observations=following)


def test_an_environment_registered_with_a_class_is_recorded_for_seqeval_only(root: Path) -> None:
    pendulum = made(make_dataset())
    dataset = dataclasses.replace(
        pendulum,
        env_id="Countdown-v0",
        observations=pendulum.observations[:, :2],
        next_observations=pendulum.next_observations[:, :2],
    )
    _, notes = _write.write(dataset, "minari:count-v0")
    assert "Minari cannot record Countdown-v0" in notes[0]
    assert datasets.load("minari:count-v0").env_id == "Countdown-v0"
    assert minari.load_dataset("count-v0").env_spec is None


def test_dropped_transitions_are_noted_and_their_episodes_end_one_step_earlier(
    tmp_path: Path, target: str
) -> None:
    logged = make_dataset()  # episodes 0, 3, 6 and 9 of 12 terminate
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        file.attrs["env_id"] = "Pendulum-v1"
        for field in ("observations", "actions", "rewards"):
            file[field] = getattr(logged, field)
        file["terminals"], file["timeouts"] = logged.terminated, logged.truncated
    dataset = datasets.load(str(tmp_path / "log.hdf5"))
    assert len(dataset) == 120 - 8
    _, notes = _write.write(dataset, target)
    assert [note[:38] for note in notes] == ["8 episodes lost their last transition "]
    back = datasets.load(target)
    same(dataset, back, but=("truncated", "episode_returns"))
    assert back.truncated.sum() == 8


def test_segments_and_unfinished_episodes_between_them_are_noted(target: str) -> None:
    dataset = datasets.load("mix:pendulum-replay:250+pendulum-replay:150")
    _, notes = _write.write(dataset, target)
    assert notes == [
        "1 unfinished episodes before the last one count as truncated by a timeout",
        "its 2 segments become one",
    ]
    same(dataset, datasets.load(target), but=("episode_complete",))


def test_inconsistent_next_observations_can_be_written_to_hdf5_only(tmp_path: Path, root: Path) -> None:
    dataset = make_dataset()
    with pytest.raises(UserError, match=r"tiny: the next observation of 108 transitions .* \.hdf5"):
        _write.write(dataset, "minari:jump-v0")
    assert list(root.iterdir()) == []
    _write.write(dataset, str(tmp_path / "jump.hdf5"))
    same(dataset, datasets.load(str(tmp_path / "jump.hdf5")))


def test_references_that_a_file_cannot_keep_are_noted(tmp_path: Path) -> None:
    env_id = "Hopper-v4"
    dataset = dataclasses.replace(datasets.load("hopper-replay"), reference=make_dataset().reference)
    assert dataset.env_id == env_id
    _, notes = _write.write(dataset, str(tmp_path / "x.h5"))
    assert "D4RL" in notes[0]


def test_an_interrupted_conversion_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_write, "_episodes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _write.write(made(make_dataset()), "minari:half-v0")
    assert list(root.iterdir()) == []


def convert(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["datasets", "convert", *map(str, arguments)])
    return int(ended.value.code or 0), *capsys.readouterr()


def test_the_convert_command_never_overwrites(capsys, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "pendulum.hdf5"
    assert convert(capsys, "pendulum-replay", "--to", path) == (0, f"{path}\n", "")
    before = path.read_bytes()
    code, out, err = convert(capsys, "cartpole-replay", "--to", path)
    assert (code, out) == (2, "")
    assert f"{path}: exists already" in err
    assert path.read_bytes() == before
    assert convert(capsys, path, "--to", "minari:pendulum-v0")[:2] == (0, f"{root / 'pendulum-v0'}\n")
    assert convert(capsys, path, "--to", "minari:pendulum-v0")[0] == 2
    assert datasets.load("minari:pendulum-v0").digest == datasets.load("pendulum-replay").digest


@pytest.mark.parametrize(
    ("name", "to", "what"),
    [
        ("pendulum-replay", "somewhere.csv", ".hdf5 or .h5, or minari:ID"),
        ("pendulum-replay", "minari:somewhere", "with a version"),
        ("none", "nothing.hdf5", "no data"),
    ],
)
def test_invalid_conversions_are_refused(capsys, name: str, to: str, what: str) -> None:
    code, out, err = convert(capsys, name, "--to", to, "--env", "Pendulum-v1")
    assert (code, out) == (2, "")
    assert what in err
    assert err.count("\n") == 1


def test_minari_is_imported_only_for_its_own_datasets() -> None:
    code = "import sys; from seqeval import datasets; datasets.load('pendulum-replay'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"minari", "jax"} & set(done.stdout.split())


# --- images ---


class Camera(gymnasium.Env):
    observation_space = spaces.Box(0, 255, (6, 5, 3), np.uint8)
    action_space = spaces.Discrete(3)


def test_images_stay_images_and_are_stored_once(root: Path) -> None:
    gymnasium.register("Camera-v0", Camera, disable_env_checker=True)
    try:
        env = gymnasium.make("Camera-v0")
        made = episodes(env, "tc-")
        name = store(root, env, buffers=made, env_spec=False)
        dataset = datasets.load(name, "Camera-v0?frame_stack=2")
        assert dataset.observation == Image(3, 6, 5, 2)
        assert len(dataset.observations.frames.parts[0]) == 15
        for number, episode in enumerate(made):
            frames = np.moveaxis(np.asarray(episode.observations), -1, 1)
            rows = slice(4 * number, 4 * number + 4)
            assert (dataset.observations[rows][:, 3:] == frames[:-1]).all()
            assert (dataset.next_observations[rows][:, 3:] == frames[1:]).all()
            assert (dataset.next_observations[rows][:, :3] == frames[:-1]).all()
            assert (dataset.observations[4 * number] == np.concatenate([frames[0]] * 2)).all()
        assert "images have their channels last, 6×5×3: taken as 3×6×5" in dataset.notes
        flat = datasets.load(name, "Camera-v0?flatten_observation=True")
        assert flat.observation == Vector(90)
        assert (flat.observations[:4] == np.asarray(made[0].observations)[:-1].reshape(4, -1)).all()
    finally:
        del gymnasium.registry["Camera-v0"]
