"""`seqeval datasets make`: its output, its file names, and the errors it reports."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from collect_setup import SAC, SMALL, read, snapshot

from seqeval import cli, collect
from seqeval.collect import agents
from seqeval.collect.config import CollectConfig
from seqeval.collect.levels import expert_fault
from seqeval.collect.training import Training
from seqeval.errors import UserError


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs the command with invalid arguments and returns its one-line message; nothing may be written."""

    def call(*arguments: object) -> str:
        out = tmp_path / "refused"
        defaults = ["--env", "Push-v0", "--algorithm", "SAC", "--steps", "60", "--checkpoints", "2"]
        with pytest.raises(SystemExit) as ended:
            cli.main(["datasets", "make", "--out", str(out), *defaults, *map(str, arguments)])
        error = capsys.readouterr().err
        assert ended.value.code == 2
        assert error.count("\n") == 1
        assert not out.exists()
        return error

    return call


def test_an_existing_file_is_not_overwritten(collected: dict[str, Path], refusal: Callable[..., str]) -> None:
    folder = collected["expert"].parent
    before = snapshot(folder)
    with pytest.raises(UserError, match=r"push-expert\.hdf5: exists already; remove it or use another --out"):
        collect.make(SAC, ["expert"], folder)
    assert snapshot(folder) == before
    assert not (folder / "making").exists()


def test_a_work_folder_with_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "making").mkdir()
    (tmp_path / "making" / "notes.txt").write_text("unrelated")
    with pytest.raises(UserError, match=r"making: not empty and contains no config\.json"):
        collect.make(SAC, ["expert"], tmp_path)
    assert (tmp_path / "making" / "notes.txt").read_text() == "unrelated"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--algorithm", "PPO"), ("'PPO' is on-policy and has no replay buffer", "SAC, TD3")),
        (("--algorithm", "A2C"), ("'A2C' is on-policy and has no replay buffer",)),
        (("--algorithm", "SAK"), ("'SAK' is not known", "did you mean 'SAC'?")),
        (("--algorithm", "sac"), ("'sac' is not known", "did you mean 'SAC'?")),
        (("--algorithm", "DQN"), ("'DQN' is for discrete actions", "Push-v0 are continuous", "SAC")),
        (("--env", "Choose-v0"), ("'SAC' is for continuous actions", "Choose-v0 are discrete", "use DQN")),
        (("--env", "FromOne-v0", "--algorithm", "DQN"), ("begin at 1",)),
        (("--env", "Pusch-v0"), ("environment 'Pusch-v0' cannot be made", "did you mean")),
        (("--levels", "random", "expertt"), ("level 'expertt'", "did you mean 'expert'", "full-replay")),
        (("--levels",), ("--levels: name at least one",)),
        (("--settings", "learning_rat=1e-3"), ("no such setting", "did you mean 'learning_rate'")),
        (("--settings", "seed=3"), ("--seed",)),
        (("--settings", "policy='CnnPolicy'"), ("policy", "cannot be set, the command sets it itself")),
        (("--settings", "gamma"), ("'gamma'", "key=value")),
        (("--settings", "ent_coef=auto"), ("'auto'", "two pairs of quotes")),
        (("--settings", "gamma=0.9", "gamma=0.8"), ("gamma: given twice",)),
        (("--settings", "learning_rate='fast'"), ("SAC cannot be built with these --settings",)),
        (("--settings", "action_noise=-1"), ("action_noise: must be", "-1")),
        (("--settings", "buffer_size=0"), ("buffer_size: must be a whole number of at least 1, not 0",)),
        (("--steps", "0"), ("--steps: must be at least 1, not 0",)),
        (("--transitions", "1"), ("--transitions: must be at least 2, not 1",)),
        (("--checkpoints", "61"), ("--checkpoints: 61 do not fit into 60 steps",)),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(
    refusal: Callable[..., str], arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    message = refusal(*arguments)
    for part in parts:
        assert part in message


def test_an_agent_no_better_than_random_is_refused_but_its_training_is_kept(tmp_path: Path) -> None:
    config = replace(SAC, env_id="Idle-v0", steps=70, checkpoints=1)
    with pytest.raises(UserError) as caught:
        collect.make(config, ["full-replay"], tmp_path)
    message = str(caught.value)
    assert "no better than random after 70 steps" in message
    assert "(step 70) has a mean return of 0.00" in message
    assert "random actions have 0.00" in message
    assert [path.name for path in tmp_path.iterdir()] == ["making"]
    assert Training(config, tmp_path / "making").finished
    assert (tmp_path / "making" / "model-70.zip").stat().st_size > 1000


def test_sb3_contrib_algorithms_are_refused_if_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(UserError, match="pip install sb3-contrib"):
        agents.find_algorithm("TQC")
    assert agents.find_algorithm("SAC").__name__ == "SAC"


def test_make_prints_its_progress_and_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_make_warns_if_expert_is_not_better_than_medium(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"{key}={value!r}" for key, value in SMALL.items()]

    def make(out: str, *levels: str, checkpoints: int) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(
                [
                    *("datasets", "make", "--env", "Push-v0", "--algorithm", "SAC", "--steps", "240"),
                    *("--checkpoints", str(checkpoints), "--levels", *levels, "--out", str(tmp_path / out)),
                    *("--settings", *settings),
                ]
            )
        err = capsys.readouterr().err
        assert ended.value.code == 0, err
        return " ".join(err.split())

    # With a single checkpoint, medium is the best one too.
    warned = "warning: expert is not better than medium: both are the checkpoint at step 240; train longer"
    assert warned in make("one", "medium", "expert", checkpoints=1)
    assert warned in make("joined", "medium-expert", checkpoints=1)
    assert "warning" not in make("alone", "expert", checkpoints=1)


def test_expert_and_medium_are_compared_by_their_episodes(collected: dict[str, Path]) -> None:
    training = SimpleNamespace(best_step=200)
    references = SimpleNamespace(medium_step=100)
    better = {"medium": collected["random"], "expert": collected["expert"]}
    assert expert_fault(training, references, better) is None
    worse = {"medium": collected["expert"], "expert": collected["random"]}
    fault = expert_fault(training, references, worse)
    assert fault is not None
    assert re.match(r"expert is not better .*: its episodes have a mean return of -?\d+\.\d\d, those", fault)
    assert expert_fault(training, references, {"expert": collected["random"]}) is None


def test_the_command_on_a_card_reproduces_the_configuration() -> None:
    assert SAC.command("expert") == (
        "seqeval datasets make --env Push-v0 --algorithm SAC --steps 240 --transitions 101 --seed 0 "
        "--checkpoints 3 --settings batch_size=16 learning_rate=0.01 learning_starts=60 'net_arch=(8, 8)' "
        "--levels expert"
    )
    texts = [f"{key}={value!r}" for key, value in SMALL.items()]
    assert collect.parse_settings(texts) == SMALL


def test_an_interrupted_command_says_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "make", interrupt)
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
def test_files_are_named_after_environment_and_level(env_id: str, name: str) -> None:
    config = replace(SAC, env_id=env_id)
    assert config.file(Path("out"), "medium") == Path("out") / name


@pytest.mark.parametrize(("steps", "checkpoints"), [(240, 3), (100, 7), (5, 5), (1, 1)])
def test_checkpoints_are_evenly_spaced_and_the_last_is_at_the_end(steps: int, checkpoints: int) -> None:
    checkpoint_steps = sorted(replace(SAC, steps=steps, checkpoints=checkpoints).checkpoint_steps)
    assert len(checkpoint_steps) == checkpoints
    assert checkpoint_steps[-1] == steps
    assert np.ptp(np.diff([0, *checkpoint_steps])) <= 1


def test_environment_options_are_left_out_of_file_names_and_quoted_in_commands(
    tmp_path: Path,
) -> None:
    config = CollectConfig("Pendulum-v1?g=5.0&max_episode_steps=20", "SAC", 10, 10)
    assert config.file(tmp_path, "random") == tmp_path / "pendulum-random.hdf5"
    assert shlex.split(config.command("random"))[4] == config.env_id
