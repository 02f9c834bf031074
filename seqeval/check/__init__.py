"""Checks that an algorithm follows the contract of `seqeval.algorithm`, rule by rule.

Like Gymnasium's `check_env`: a few updates on made-up minibatches, and nothing that depends on how well the
algorithm learns. An algorithm for continuous and discrete actions is checked with both, and with vectors and
images as observations where it supports both.

interface     what is declared, and what `update` and `act` accept and return
randomness    random numbers, reproducibility, and what agents share
acting        what an action of `act` and `explore` may depend on
replicas      independence of the R agents
inputs        what an update uses of its batch
saving        saving, loading, splitting and joining states
devices       CUDA graphs, and the device of results
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from seqeval import plugins
from seqeval.algorithm import Config
from seqeval.check import acting, devices, inputs, interface, randomness, replicas, saving
from seqeval.check.rules import ContractError, Result, Rule
from seqeval.check.subject import BATCH_SIZE, LONGEST_DELAY, Subject
from seqeval.errors import UserError

__all__ = ["RULES", "Result", "examine"]

RULES = {  # by name, in the order in which they are checked
    value.name: value
    for module in (interface, randomness, acting, replicas, inputs, saving, devices)
    for value in vars(module).values()
    if isinstance(value, Rule)
}
DELAY = re.compile("delay|interval|period|every|freq")  # in the name of a setting that counts updates


def examine(text: str) -> Iterator[Result]:
    """The result of every rule for an algorithm, which is named as in a study, with settings if you like.

    Settings that count updates, such as `policy_delay`, are shortened so that the check passes each at least
    three times. Raises UserError if there is no such algorithm, or if its settings are invalid.
    """
    found = plugins.find(plugins.split(text)[0])
    config = Config() if plugins.config_fault(found) else shorten(plugins.parse(text).config)
    if interface.has_valid_action_spaces(found):
        subjects = [Subject(found, config, space) for space in found.action_spaces]
        subjects += [Subject(found, config, space, images=True) for space in found.image_action_spaces]
    else:
        subjects = [Subject(found, config, "continuous")]
    causes: dict[str, Rule] = {}  # of each rule that failed or was skipped: the rule that failed first
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a study
    try:
        for name, rule in RULES.items():
            cause = next((causes[needed.name] for needed in rule.needs if needed.name in causes), None)
            result = Result(rule, "skipped", cause=cause) if cause is not None else _apply(rule, subjects)
            if result.status != "ok":
                causes[name] = cause or rule
            yield result
    finally:
        torch.set_num_threads(threads)


def shorten(config: Config) -> Config:
    """The config with small minibatches and short delays, as far as it accepts them."""
    for field in fields(config):
        value = getattr(config, field.name)
        most = BATCH_SIZE if field.name == "batch_size" else LONGEST_DELAY
        if (field.name == "batch_size" or DELAY.search(field.name)) and type(value) is int and value > most:
            change: dict[str, Any] = {field.name: most}
            try:
                config = replace(config, **change)
            except UserError:
                continue  # other settings do not allow it
    return config


def _apply(rule: Rule, subjects: Sequence[Subject]) -> Result:
    for subject in subjects:
        try:
            rule.check(subject)
            continue
        except ContractError as error:
            expected, got = error.expected, error.got
        except Exception as error:
            expected, got = "no exception", subject.describe(error)
        where = f", with {subject.kind}" if len(subjects) > 1 else ""
        return Result(rule, "failed", expected + where, got)
    return Result(rule, "ok")
