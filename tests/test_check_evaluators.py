"""Every broken evaluator breaks one rule of `seqeval check`, for a reason of its own; the unbroken pass."""

from __future__ import annotations

from pathlib import Path

import broken_evaluators
import pytest
import working_evaluators
from conftest import Seqeval, refused
from plugin_faults import Fault, faults

from seqeval import check, evaluation, loading
from seqeval.check.evaluators import RULES

FAULTS = faults(broken_evaluators)
SETTINGS = {"fqe": ":updates=3,hidden=(8,),batch_size=8"}


@pytest.mark.parametrize("name", loading.names(evaluation.KIND))
def test_every_built_in_evaluator_passes(name: str) -> None:
    results = list(check.examine(name + SETTINGS.get(name, "")))
    assert [result.name for result in results] == list(RULES)
    assert not {result.name: result.message for result in results if result.status != "ok"}


@pytest.mark.parametrize("name", ["Rewards", "Values", "Running", "AtZero"])
def test_an_evaluator_that_keeps_the_contract_passes(name: str) -> None:
    results = list(check.examine(f"{working_evaluators.__file__}:{name}"))
    assert [result.name for result in results] == list(RULES)
    assert not {result.name: result.message for result in results if result.status != "ok"}


@pytest.mark.parametrize(
    ("name", "fault"), FAULTS.items(), ids=[Path(name).name.partition(":")[2] for name in FAULTS]
)
def test_a_broken_evaluator_fails_in_one_rule_that_says_why(name: str, fault: Fault) -> None:
    results = {result.name: result for result in check.examine(name)}
    assert results.keys() == RULES.keys()
    failed = {rule: result.message for rule, result in results.items() if result.status == "failed"}
    assert failed.keys() == {fault.rule}, failed
    assert fault.text in failed[fault.rule]
    assert "\n" not in failed[fault.rule]
    for result in results.values():
        assert (result.cause is not None) == (result.status == "skipped")


def test_there_is_a_broken_evaluator_for_every_rule() -> None:
    assert {fault.rule for fault in FAULTS.values()} == RULES.keys()


def test_the_command_prints_the_rules_of_evaluators(seqeval: Seqeval) -> None:
    done = seqeval("check", f"{working_evaluators.__file__}:AtZero")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"ok      {rule.title}" for rule in RULES.values()] + [
        f"{len(RULES)} ok"
    ]
    done = seqeval("check", f"{broken_evaluators.__file__}:Misspelt")
    assert done.code == 4
    assert "see       seqeval/evaluation/__init__.py, Evaluator.metrics" in done.out


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("prequentiel", "evaluator 'prequentiel' is not known; did you mean 'prequential'?"),
        ("fqe:update=3", "fqe has no setting 'update'; did you mean 'updates'?"),
        ("working_evaluators.py:Nothing", "there is no 'Nothing' in this file"),
        ("working_evaluators.py:stream", "is not an Algorithm, a SingleAlgorithm or an Evaluator"),
    ],
)
def test_an_evaluator_that_cannot_be_loaded_is_refused(
    seqeval: Seqeval, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert part in refused(seqeval("check", name))


def test_an_evaluator_that_refuses_the_made_up_data_is_not_checked(seqeval: Seqeval, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from seqeval import UserError\nfrom seqeval.evaluation import Evaluator\n"
        "class Mine(Evaluator):\n"
        "    @classmethod\n    def check(cls, dataset, study):\n        raise UserError('needs images')\n"
        "    def evaluate(self, agents, visible):\n        return {}\n"
    )
    message = refused(seqeval("check", f"{file}:Mine"))
    assert "its `check` refuses the data that the rules are tested with: needs images" in message
