"""The contract checker: working algorithms pass, and its command reports failures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from contract_examples import WORKING, make_examine
from training_setup import SMALL

from seqeval import check, cli, plugins
from seqeval.errors import UserError
from seqeval.execution.storage import frame

README = Path(__file__).parents[1] / "README.md"

BROKEN = """
class RandomAct(Good):
    def act(self, observations):
        mean = self.mean(observations)
        return (mean + 0.1 * torch.randn_like(mean)).clamp(-1, 1)

class RaisesWhenBuilt(Good):
    def first_weights(self, rng):
        raise ValueError("not for you")
"""


@pytest.mark.parametrize("name", [name for name in plugins.names() if ":" not in name])
def test_every_built_in_algorithm_passes(name: str) -> None:
    settings = SMALL.get(name, {"hidden": (24, 20)})
    results = list(check.examine(f"{name}:{','.join(f'{key}={value}' for key, value in settings.items())}"))
    assert [result.name for result in results] == list(check.RULES)
    assert all(result.status == "ok" and not result.message for result in results), results


@pytest.mark.parametrize("name", ["Good", "GoodSingle", "Replayable", "BothActionSpaces", "DiscreteSingle"])
def test_an_algorithm_that_keeps_the_contract_passes(tmp_path: Path, name: str) -> None:
    results = make_examine(tmp_path)(name)
    assert {result.status for result in results.values()} == {"ok"}, results


def test_an_exception_is_reported_with_its_line(tmp_path: Path) -> None:
    code = WORKING + BROKEN
    line = code[: code.index('raise ValueError("not for you")')].count("\n") + 1
    result = make_examine(tmp_path, BROKEN)("RaisesWhenBuilt")["can_be_built"]
    assert f"examples.py, line {line})" in result.message


def seqeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_prints_one_line_per_rule_and_exits_with_0_or_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "examples.py"
    file.write_text(WORKING + BROKEN)
    assert seqeval("check", f"{file}:Good:learning_rate=0.1") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(check.RULES)
    assert all(line.startswith("ok ") for line in lines)
    assert last == f"{len(lines)} ok"
    assert seqeval("check", f"{file}:RandomAct") == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("failed ")]) == 1
    skipped = len([line for line in lines if line.startswith("skipped ")])
    assert last == f"{len(lines) - 1 - skipped} ok, 1 failed, {skipped} skipped"


@pytest.mark.parametrize(
    ("reference", "text"),
    [("bcc", "did you mean 'bc'"), ("bc:droput=0", "'dropout'"), ("missing.py:Good", "missing.py")],
)
def test_an_algorithm_that_cannot_be_loaded_is_refused(
    capsys: pytest.CaptureFixture[str], reference: str, text: str
) -> None:
    assert seqeval("check", reference) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    with pytest.raises(UserError):
        list(check.examine(reference))


def test_the_algorithm_of_the_readme_passes_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().partition("\n## Your own algorithm\n")[2].partition("\n## ")[0]
    commands, code = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    assert len(code.splitlines()) <= 80
    monkeypatch.chdir(tmp_path)
    Path("crr.py").write_text(code)
    assert "seqeval check crr.py:CRR " in commands
    assert seqeval("check", "crr.py:CRR") == 0, capsys.readouterr().out
    assert "seqeval run --datasets pendulum-replay --algorithms bc crr.py:CRR " in commands
    small = "hidden=(8,8),batch_size=32"
    study = f"run --datasets pendulum-replay --algorithms crr.py:CRR:{small},name=CRR --seeds 0 1 --jobs 1"
    protocol = "--protocol.start 19900 --protocol.grow-by 50 --evaluation.points 2 --evaluation.episodes 1"
    assert seqeval(*study.split(), *protocol.split(), "--out", "out") == 0
    rows = frame([Path("out")])
    assert set(rows["variant"]) == {"CRR"}
    assert rows.groupby("seed")["samples"].max().tolist() == [20000, 20000]
    assert (rows["status"] == "ok").all()
    assert rows["train/better"].between(0, 1).all()
