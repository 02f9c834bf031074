"""Training one variant of a study again, after its file has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import CommandResult, Seqeval, refused

from seqeval import UserError
from seqeval.execution.storage import StudyDirectory

PLUGIN = """
import torch
from seqeval.algorithm import SingleAlgorithm

class Mine(SingleAlgorithm):
    def __init__(self, spec, config, seed, total_updates, device):
        super().__init__(spec, config, seed, total_updates, device)
        self.net = torch.nn.Linear(spec.observation_size, spec.action_size)

    def update(self, batch):
        self.updates += 1
        return {"loss": torch.tensor(1.0)}

    def act(self, observations):
        return self.net(observations).tanh()
"""
CHANGED = PLUGIN.replace("1.0", "2.0")


class Command:
    """A small study of `bc` and of an algorithm in a file."""

    def __init__(self, seqeval: Seqeval, folder: Path) -> None:
        self._seqeval, self.out, self.file = seqeval, folder / "out", folder / "mine.py"
        self.file.write_text(PLUGIN)

    def __call__(self, *more: object) -> CommandResult:
        return self._seqeval(
            *("run", "--datasets", "pendulum-replay", "--algorithms", "bc:hidden=(8,8),name=bc"),
            *(f"{self.file}:Mine:name=mine", "--seeds", 0, 1, "--out", self.out, "--jobs", 1),
            *("--protocol.start", 19_900, "--protocol.grow-by", 50),
            *("--evaluation.points", 1, "--evaluation.episodes", 1, *more),
        )

    def losses(self) -> dict[str, set[float]]:
        found: dict[str, set[float]] = {}
        for row in StudyDirectory(self.out).rows():
            found.setdefault(row["variant"], set()).add(row["metrics"]["loss"])
        return found

    def states(self) -> dict[str, tuple[bytes, int]]:
        """Content and modification time of the files of runs."""
        files = [file for file in self.out.glob("runs/**/*") if file.is_file()]
        return {
            str(file.relative_to(self.out)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files
        }


@pytest.fixture
def command(seqeval: Seqeval, tmp_path: Path) -> Command:
    """The command, whose study has finished once and whose file has changed since then."""
    command = Command(seqeval, tmp_path)
    assert command().code == 0
    assert command.losses()["mine"] == {1.0}
    command.file.write_text(CHANGED)
    return command


@pytest.fixture(autouse=True)
def fresh_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are loaded anew for each command, as in a new process."""
    from seqeval import cli, loading

    def main(arguments: list[str], original=cli.main) -> None:
        monkeypatch.setattr(loading, "_executed", {})
        original(arguments)

    monkeypatch.setattr(cli, "main", main)


def test_a_changed_file_is_refused_with_the_flag_that_trains_it_again(command: Command) -> None:
    before = command.states()
    text = refused(command())
    assert "mine.code is" in text
    assert text.endswith("restore the file, or train its runs again with --redo mine\n")
    assert command.states() == before


def test_redo_trains_the_runs_of_one_variant_again_and_touches_nothing_else(command: Command) -> None:
    before = command.states()
    bc = command.losses()["bc"]
    assert command("--redo", "mine").code == 0
    after = command.states()
    assert command.losses() == {"bc": bc, "mine": {2.0}}
    assert after.keys() == before.keys()
    changed = {file.split("/")[2] for file in before if before[file] != after[file]}
    assert changed == {"mine"}
    study = json.loads((command.out / "study.json").read_text())
    assert len(study["invocations"]) == 2
    assert command().code == 0  # without the flag there is nothing left to do
    assert command.states() == after


def test_redo_of_an_unknown_variant_is_refused(command: Command) -> None:
    before = command.states()
    assert "redo: 'mini' is not among the algorithms of this command; did you mean 'mine'?" in refused(
        command("--redo", "mini")
    )
    assert command.states() == before


def test_redo_refuses_to_remove_runs_that_the_command_does_not_train(command: Command) -> None:
    before = command.states()
    text = refused(command("--redo", "mine", "--seeds", "1"))
    assert "would also remove runs that this command does not train again (pendulum-replay, seed 0)" in text
    text = refused(command("--redo", "mine", "--datasets", "hopper-replay", "--protocol.grow-by", 50))
    assert "pendulum-replay, seed 0; pendulum-replay, seed 1" in text
    assert command.states() == before


def test_redo_does_not_excuse_another_change(command: Command) -> None:
    before = command.states()
    assert "protocol.start is 19900 there" in refused(command("--redo", "mine", "--protocol.start", 19_800))
    other = command(
        "--redo", "mine", "--algorithms", f"{command.file}:Mine:name=mine", "bc:hidden=(4,4),name=bc"
    )
    assert "bc.hidden is [8, 8] there and [4, 4] now" in refused(other)
    assert command.states() == before


def test_runs_are_removed_before_the_changed_code_is_recorded(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a kill between the two would leave runs of the earlier code under the hash of the new one."""
    from seqeval import atomic_io

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    recorded = (command.out / "study.json").read_text()
    monkeypatch.setattr(atomic_io, "save_json", killed)
    assert command("--redo", "mine").code == 130
    monkeypatch.undo()
    assert (command.out / "study.json").read_text() == recorded
    assert "mine" not in command.losses()


def test_a_variant_named_as_a_dataset_does_not_excuse_the_dataset(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "out")
    entry = {"env_id": "a", "digest": "1", "reference": None}
    study = {
        **{group: {} for group in ("protocol", "online", "evaluation", "evaluators", "matmul")},
        "precision": "full",
        "datasets": {"x": entry},
        "algorithms": {"x": {"algorithm": "bc", "config": {}}},
        "invocations": [{"seeds": [0]}],
    }
    directory.admit(study)
    directory.admit(study, ("x",))
    other = {**study, "datasets": {"x": {**entry, "digest": "2"}}}
    with pytest.raises(UserError, match="'x' is other data there"):
        directory.admit(other, ("x",))
