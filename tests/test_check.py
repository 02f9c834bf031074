"""The contract checker: working algorithms pass, and its command reports failures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from training_setup import SMALL

from seqeval import check, cli, plugins
from seqeval.check.subject import BATCH_SIZE, LONG, LONGEST_DELAY
from seqeval.errors import UserError
from seqeval.execution.storage import frame

README = Path(__file__).parents[1] / "README.md"

WORKING = Path(__file__).with_name("working_plugins.py")


@pytest.mark.parametrize("name", [name for name in plugins.names() if ":" not in name])
def test_every_built_in_algorithm_passes(name: str) -> None:
    settings = SMALL.get(name, {"hidden": (24, 20)})
    results = list(check.examine(f"{name}:{','.join(f'{key}={value}' for key, value in settings.items())}"))
    assert [result.name for result in results] == list(check.RULES)
    assert all(result.status == "ok" and not result.message for result in results), results


def test_an_exception_is_reported_with_its_line() -> None:
    file = Path(__file__).with_name("broken_interface.py")
    code = file.read_text()
    line = code[: code.index('raise ValueError("not for you")')].count("\n") + 1
    results = {result.name: result for result in check.examine(f"{file}:RaisesWhenBuilt")}
    assert f"broken_interface.py, line {line})" in results["can_be_built"].message


def seqeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_prints_a_line_for_each_rule_that_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert seqeval("check", f"{WORKING}:Good:learning_rate=0.1") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [f"ok      {rule.title}" for rule in check.RULES.values()]
    assert last == f"{len(lines)} ok"


def test_the_command_prints_a_fault_once_and_one_line_for_what_it_keeps_from_being_tested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = WORKING.with_name("broken_randomness.py")
    assert seqeval("check", f"{file}:DrawsInUpdate") == 4
    lines = capsys.readouterr().out.splitlines()
    title = check.RULES["random_numbers_are_given"].title
    place = lines.index(f"FAILED  {title}")
    assert lines[place + 1] == "        expected  update to take its random numbers from `batch.noise`"
    assert lines[place + 2].startswith("        got       others, drawn by aten.randn (")
    assert "broken_randomness.py, line " in lines[place + 2]
    assert lines[place + 3] == "        see       seqeval/algorithm.py, rule 4"
    passed = sum(line.startswith("ok ") for line in lines)
    skipped = len(check.RULES) - passed - 1
    because = f'{skipped} rules were not tested because this one failed: "{title}"'
    assert lines[-2:] == [because, f"{passed} ok, 1 failed, {skipped} not tested"]
    assert len(lines) == passed + 4 + 2


def test_delays_are_shortened_so_that_each_is_passed_three_times() -> None:
    for name, settings in (("td3_bc", {"policy_delay": 100}), ("sb3:DQN", {"target_update_interval": 9})):
        config = plugins.find(name).Config(**settings, batch_size=64)
        short = check.shorten(config)
        for setting, value in settings.items():
            assert getattr(short, setting) == min(value, LONGEST_DELAY)
        assert 3 * LONGEST_DELAY <= LONG
        assert short.batch_size == BATCH_SIZE
        assert replace(short, **settings, batch_size=64) == config


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
