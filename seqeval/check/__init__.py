"""Checks that an algorithm follows the contract of `seqeval.algorithm`, rule by rule.

Like Gymnasium's `check_env`: a few updates on made-up minibatches, and nothing that depends on how well the
algorithm learns. An algorithm for continuous and discrete actions is checked with both.

interface     what is declared, and what `update` and `act` accept and return
randomness    reproducibility and side effects of `act`, `update` and `explore`
replicas      independence of the R agents
saving        saving, loading, splitting and joining states
devices       CUDA graphs, and the device of results
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from seqeval import plugins
from seqeval.algorithm import Config
from seqeval.check import devices, interface, randomness, replicas, saving
from seqeval.check.rules import ContractError, Result, Rule, Status
from seqeval.check.subject import BATCH_SIZE, Subject

__all__ = ["RULES", "Result", "examine"]

RULES = {  # by name, in the order in which they are checked
    value.name: value
    for module in (interface, randomness, replicas, saving, devices)
    for value in vars(module).values()
    if isinstance(value, Rule)
}


def examine(text: str) -> Iterator[Result]:
    """The result of every rule for an algorithm, which is named as in a study, with settings if you like.

    Raises UserError if there is no such algorithm, or if its settings are invalid.
    """
    found = plugins.find(plugins.split(text)[0])
    config = Config() if plugins.config_fault(found) else plugins.parse(text).config
    config = replace(config, batch_size=min(config.batch_size, BATCH_SIZE))
    spaces = found.action_spaces if interface.has_valid_action_spaces(found) else ("continuous",)
    subjects = [Subject(found, config, space) for space in spaces]
    passed: set[str] = set()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a study
    try:
        for name, rule in RULES.items():
            status, message = _apply(rule, subjects, passed)
            if status == "ok":
                passed.add(name)
            yield Result(name, rule.title, status, message)
    finally:
        torch.set_num_threads(threads)


def _apply(rule: Rule, subjects: Sequence[Subject], passed: set[str]) -> tuple[Status, str]:
    for needed in rule.needs:
        if needed.name not in passed:
            return "skipped", f"cannot be checked until this holds: {needed.title}"
    for subject in subjects:
        try:
            rule.check(subject)
            continue
        except ContractError as error:
            message = str(error)
        except Exception as error:
            message = f"expected no exception, got {subject.describe(error)}"
        space = f"with {subject.space} actions " if len(subjects) > 1 else ""
        return "failed", f"{space}{message}; see seqeval/algorithm.py, {rule.contract}"
    return "ok", ""
