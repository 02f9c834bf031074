"""Every broken plug-in breaks one rule of `seqeval check`, for a reason of its own; the unbroken pass."""

from __future__ import annotations

from pathlib import Path

import broken_independence
import broken_interface
import broken_measures
import broken_randomness
import broken_saving
import broken_settings
import pytest
import working_plugins
from plugin_faults import Fault, faults

from seqeval import check

MODULES = (
    broken_interface,
    broken_randomness,
    broken_independence,
    broken_measures,
    broken_saving,
    broken_settings,
)
FAULTS = {name: fault for module in MODULES for name, fault in faults(module).items()}
WORKING = [name for name, value in vars(working_plugins).items() if hasattr(value, "act")]
WORKING = [name for name in WORKING if getattr(working_plugins, name).__module__ == "working_plugins"]


@pytest.mark.parametrize("name", WORKING)
def test_an_algorithm_that_keeps_the_contract_passes(name: str) -> None:
    results = list(check.examine(f"{working_plugins.__file__}:{name}"))
    assert [result.name for result in results] == list(check.RULES)
    assert not {result.name: result.message for result in results if result.status != "ok"}


@pytest.mark.parametrize(
    ("name", "fault"), FAULTS.items(), ids=[Path(name).name.partition(":")[2] for name in FAULTS]
)
def test_a_broken_algorithm_fails_in_one_rule_that_says_why(name: str, fault: Fault) -> None:
    results = {result.name: result for result in check.examine(name)}
    assert results.keys() == check.RULES.keys()
    failed = {rule: result.message for rule, result in results.items() if result.status == "failed"}
    assert failed.keys() == {fault.rule}, failed
    assert fault.text in failed[fault.rule]
    assert "\n" not in failed[fault.rule]
    for result in results.values():
        assert (result.cause is not None) == (result.status == "skipped")
        assert result.cause in (None, check.RULES[fault.rule])


def test_there_is_a_broken_algorithm_for_every_rule() -> None:
    untested = {"results_are_on_the_device"}  # differs from others only on a GPU
    assert {fault.rule for fault in FAULTS.values()} == check.RULES.keys() - untested
