"""Data collection: the content of the files and their references."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from collect_setup import DQN, FIELDS, SAC, SMALL, TD3, card_of, read, same, snapshot

from seqeval import collect, datasets
from seqeval.collect.config import LEVELS
from seqeval.errors import UserError


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_has_d4rl_layout_and_a_card(collected: dict[str, Path], level: str) -> None:
    path = collected[level]
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
    expected = {"name": path.stem, "env_id": "Push-v0", "level": level, "algorithm": "SAC", "steps": 240}
    assert expected.items() <= card.items()
    assert card["behaviour_settings"] == SMALL | {"net_arch": [8, 8]}
    assert card["transitions"] == size
    assert card["episodes"] == (fields["terminals"] | fields["timeouts"]).sum()
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["resumed_at"] == []
    assert not list(path.parent.glob("*.partial"))
    assert not (path.parent / "making").exists()


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_contains_what_the_environment_received_and_returned(
    collected: dict[str, Path], level: str
) -> None:
    fields = read(collected[level])
    assert np.array_equal(fields["rewards"], fields["actions"][:, 0])  # in the environment's units
    assert np.abs(fields["actions"]).max() <= 2
    left, length = fields["observations"].T
    last = left == 1
    assert np.array_equal(
        fields["next_observations"], np.c_[left - 1, length]
    )  # the last observation, not that after the reset
    assert np.array_equal(fields["terminals"], last & (length % 2 == 1))
    joint = [49] if level == "medium-expert" else []  # the last medium transition
    timeouts = last & (length % 2 == 0)
    timeouts[joint] = ~fields["terminals"][joint]
    assert np.array_equal(fields["timeouts"], timeouts)
    inside = ~(fields["terminals"] | fields["timeouts"])[:-1]
    assert np.array_equal(fields["next_observations"][:-1][inside], fields["observations"][1:][inside])


def test_actions_are_logged_in_the_units_of_the_environment(collected: dict[str, Path]) -> None:
    assert (
        np.abs(read(collected["full-replay"])["actions"]).max() > 1.5
    )  # Stable-Baselines3 scales actions to [-1, 1]


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_loads_with_the_references_in_its_file(collected: dict[str, Path], level: str) -> None:
    dataset = datasets.load(str(collected[level]))
    card = card_of(collected[level])
    assert dataset.env_id == "Push-v0"
    assert len(dataset) == card["transitions"]
    assert dataset.notes == ()
    assert dataset.reference is not None
    assert dataset.reference.minimum == card["reference_min"]
    assert dataset.reference.maximum == card["reference_max"]
    assert "100 episodes" in dataset.reference.source


def test_references_are_returns_of_random_actions_and_of_the_best_checkpoint(
    collected: dict[str, Path],
) -> None:
    card = card_of(collected["expert"])
    # Mean length 6.5; uniform actions between -2 and 2 have mean 0 and a standard deviation of 1.15.
    assert abs(card["reference_min"]) < 1.5
    assert 10 < card["reference_max"] <= 2 * 8
    returns = dict(card["checkpoint_returns"])
    assert list(returns) == [80, 160, 240]
    best = max(returns, key=lambda step: returns[step])
    assert f"(step {best}, deterministic)" in card["reference_source"]
    assert f"at step {best}, its best checkpoint" in card["behaviour"]


def test_medium_is_the_first_checkpoint_a_third_of_the_way(collected: dict[str, Path]) -> None:
    card = card_of(collected["medium"])
    low, returns = card["reference_min"], dict(card["checkpoint_returns"])
    third = low + (max(returns.values()) - low) / 3
    first = next(step for step, value in returns.items() if value >= third)
    assert f"at step {first}, the first checkpoint" in card["behaviour"]
    assert len(read(collected["medium-replay"])["rewards"]) == first


def test_levels_rise_from_random_to_expert(collected: dict[str, Path]) -> None:
    mean = {level: float(read(path)["rewards"].mean()) for level, path in collected.items()}
    assert abs(mean["random"]) < 0.7
    assert mean["random"] < mean["medium"] <= mean["expert"]
    assert mean["expert"] > 1.2
    assert mean["expert"] > mean["full-replay"] > mean["random"]


def test_medium_replay_is_the_beginning_of_the_training_log(collected: dict[str, Path]) -> None:
    beginning, whole = read(collected["medium-replay"]), read(collected["full-replay"])
    assert len(beginning["rewards"]) < len(whole["rewards"])
    assert same(beginning, {key: values[: len(beginning["rewards"])] for key, values in whole.items()})


def test_medium_expert_is_half_medium_then_half_expert(collected: dict[str, Path]) -> None:
    joined, medium, expert = (read(collected[level]) for level in ("medium-expert", "medium", "expert"))
    for key in ("observations", "actions", "rewards", "next_observations", "terminals"):
        assert np.array_equal(joined[key][:50], medium[key][:50])
        assert np.array_equal(joined[key][50:], expert[key][:51])
    assert joined["timeouts"][49] != joined["terminals"][49]  # the medium part ends with a timeout


def test_files_depend_on_the_configuration_and_not_on_the_other_levels(
    collected: dict[str, Path], tmp_path: Path
) -> None:
    again = collect.make(SAC, ["expert"], tmp_path)
    assert list(again) == ["expert"]
    assert same(read(again["expert"]), read(collected["expert"]))
    other = collect.make(replace(SAC, seed=1), ["expert"], tmp_path / "other")
    assert not same(read(other["expert"]), read(collected["expert"]))


def test_dqn_writes_integer_actions_and_explores_at_its_final_rate(tmp_path: Path) -> None:
    files = collect.make(DQN, ["expert", "full-replay"], tmp_path)
    log, expert = read(files["full-replay"]), read(files["expert"])
    assert len(log["actions"]) == 200  # train_freq does not divide it
    for fields in (log, expert):
        assert fields["actions"].dtype == np.int64
        assert fields["actions"].ndim == 1
        assert np.array_equal(fields["rewards"], fields["actions"] - 1.0)
    assert set(log["actions"]) == {0, 1, 2}
    # 30 % of the actions are random and two thirds of these are not optimal: 20 % ± three standard errors.
    assert 0.15 < (expert["actions"] != 2).mean() < 0.25
    card = card_of(files["expert"])
    assert "ε-greedy with ε = 0.3" in card["behaviour"]
    # Without exploration the reward is 1 in each of 5 to 8 steps.
    assert card["reference_max"] == pytest.approx(6.5, abs=0.4)
    loaded = datasets.load(str(files["expert"]))
    assert loaded.actions.shape == (600,)


@pytest.mark.parametrize("noise", [None, 0.0])
def test_td3_has_action_noise_by_default(tmp_path: Path, noise: float | None) -> None:
    more = {} if noise is None else {"action_noise": noise}
    files = collect.make(replace(TD3, settings=SMALL | more), ["random"], tmp_path)
    fields, card = read(files["random"]), card_of(files["random"])
    _, state = np.unique(fields["observations"], axis=0, return_inverse=True)
    spread = np.array([np.ptp(fields["actions"][state == s]) for s in range(state.max() + 1)])
    # Half the action range is 2, so the default standard deviation is 0.2.
    assert (spread == 0).all() if noise == 0 else 0.1 < np.median(spread) < 1.0
    assert card["behaviour_settings"].get("action_noise") == (noise if noise == 0 else 0.1)
    assert ("noise of 0.1" in card["behaviour"]) == (noise is None)


@pytest.mark.parametrize(
    ("algorithm", "env_id", "words"),
    [("QRDQN", "Choose-v0", "ε-greedy with ε = 0.01"), ("TQC", "Push-v0", "stochastic")],
)
def test_sb3_contrib_algorithms_work_if_it_is_installed(
    tmp_path: Path, algorithm: str, env_id: str, words: str
) -> None:
    pytest.importorskip("sb3_contrib")
    config = replace(TD3, env_id=env_id, algorithm=algorithm, settings=SMALL | {"learning_starts": 20})
    files = collect.make(config, ["expert"], tmp_path)
    card = card_of(files["expert"])
    assert card["behaviour"].startswith(f"sb3-contrib {algorithm} at step 150")
    assert words in card["behaviour"]
    assert "sb3-contrib" in card["versions"]
    assert len(read(files["expert"])["rewards"]) == 80


def test_training_leaves_no_logger_folder_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    collect.make(TD3, ["random"], tmp_path / "out")
    assert list(tmp_path.glob("SB3-*")) == []


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
def test_invalid_references_in_a_file_are_refused(
    collected: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = Path(shutil.copy(collected["random"], tmp_path))
    with h5py.File(path, "r+") as file:
        for key, value in changes.items():
            del file.attrs[key]
            if value is not None:
                file.attrs[key] = value
    with pytest.raises(UserError) as caught:
        datasets.load(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_file_references_are_not_used_for_d4rl_or_another_environment(
    collected: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(collected["random"], tmp_path))
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


SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "make_embedded.py"))


def test_an_embedded_dataset_is_a_renamed_full_replay(
    tmp_path: Path, collected: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCRIPT["RECIPES"], "push-replay", SAC)
    SCRIPT["make"]("push-replay", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"push-replay.hdf5", "push-replay.json"}
    assert same(read(tmp_path / "push-replay.hdf5"), read(collected["full-replay"]))
    card = card_of(tmp_path / "push-replay.hdf5")
    assert (card["name"], card["licence"]) == ("push-replay", "Apache-2.0")
    assert card["made_by"] == "experiments/make_embedded.py push-replay"
    assert card["sha256"] == hashlib.sha256((tmp_path / "push-replay.hdf5").read_bytes()).hexdigest()
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"push-replay\.hdf5: exists already"):
        SCRIPT["make"]("push-replay", tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", sorted(SCRIPT["RECIPES"]))
def test_the_card_of_an_embedded_dataset_matches_its_configuration(name: str) -> None:
    config, card = SCRIPT["RECIPES"][name], card_of(SCRIPT["OUT"] / f"{name}.hdf5")
    assert card["env_id"] == config.env_id
    assert card["transitions"] == config.steps
    assert card["behaviour_settings"] == json.loads(json.dumps(config.settings))
    assert (
        f"{config.algorithm} while it learns, steps 0 to {config.steps}, seed {config.seed}"
        in card["behaviour"]
    )


def test_cartpole_replay_logs_an_agent_that_learns_to_balance() -> None:
    card, dataset = card_of(SCRIPT["OUT"] / "cartpole-replay.hdf5"), datasets.load("cartpole-replay")
    assert len(dataset) >= 10_000
    assert dataset.actions.shape == (len(dataset),)
    assert card["reference_min"] < 30
    assert card["reference_max"] >= 400
    lengths = np.bincount(dataset.episode)
    assert np.array_equal(dataset.episode_returns, lengths)  # the reward is 1 in each step
    assert lengths[-20:].mean() > 4 * lengths[:20].mean()
