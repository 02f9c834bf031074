"""Checks that an algorithm follows the contract of `seqeval.algorithm`, or an evaluator that of
`seqeval.evaluation`, rule by rule.

Like Gymnasium's `check_env`: a few updates on made-up minibatches, and nothing that depends on how well the
algorithm learns. What accepts continuous and discrete actions is checked with both, and an algorithm with
vectors and images as observations where it supports both.

interface     what is declared, and what `update` and `act` accept and return
randomness    random numbers, reproducibility, and what agents share
acting        what an action of `act` and `explore` may depend on
replicas      independence of the R agents
measures      what evaluators ask for: `log_prob`, `q_value` and `td_error`
inputs        what an update uses of its batch
saving        saving, loading, splitting and joining states
settings      replicas that differ in a batchable setting
devices       CUDA graphs, and the device of results
evaluators    everything about evaluators; `stage` has their made-up agents and data
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args

import torch

from seqeval import evaluation, loading, plugins
from seqeval.algorithm import ActionSpace, Algorithm, Config, SingleAlgorithm
from seqeval.check import (
    acting,
    devices,
    evaluators,
    inputs,
    interface,
    measures,
    randomness,
    replicas,
    saving,
    settings,
)
from seqeval.check.rules import ContractError, Result, Rule
from seqeval.check.subject import BATCH_SIZE, LONGEST_DELAY, Subject
from seqeval.errors import UserError, nearest

__all__ = ["RULES", "Result", "examine"]

RULES = {  # by name, in the order in which they are checked
    value.name: value
    for module in (interface, randomness, acting, replicas, measures, inputs, saving, settings, devices)
    for value in vars(module).values()
    if isinstance(value, Rule)
}
ALL_KINDS = loading.class_kind(
    "plug-in",
    plugins.ALGORITHMS.package,
    plugins.ALGORITHMS.group,
    Algorithm | SingleAlgorithm | evaluation.Evaluator,
    "an Algorithm, a SingleAlgorithm or an Evaluator",
)
DELAY = re.compile("delay|interval|period|every|freq")  # in the name of a setting that counts updates


def examine(text: str) -> Iterator[Result]:
    """The result of every rule for an algorithm or an evaluator, which is named as in a study, with settings
    if you like.

    Settings of an algorithm that count updates, such as `policy_delay`, are shortened so that the check
    passes each at least three times. Raises UserError if there is nothing of that name, or if its settings
    are invalid.
    """
    if _is_evaluator(text):
        return _examine(evaluators.RULES, _evaluator_subjects(text))
    return _examine(RULES, _algorithm_subjects(text))


def _algorithm_subjects(text: str) -> list[Subject]:
    """The algorithm with actions of each kind that it supports."""
    found = plugins.find(plugins.split(text)[0])
    config = Config() if plugins.config_fault(found) else shorten(plugins.parse(text).config)
    if not interface.has_valid_action_spaces(found):
        return [Subject(found, config, "continuous")]
    subjects = [Subject(found, config, space) for space in found.action_spaces]
    return subjects + [Subject(found, config, space, images=True) for space in found.image_action_spaces]


def _evaluator_subjects(text: str) -> list[evaluators.EvaluatorSubject]:
    """The evaluator with actions of each kind that it accepts."""
    evaluation.validate(text)
    subjects = [evaluators.EvaluatorSubject(text, space) for space in get_args(ActionSpace)]
    refusals = [subject.refusal() for subject in subjects]
    if all(refusals):
        raise UserError(f"{text}: its `check` refuses the data that the rules are tested with: {refusals[0]}")
    return [subject for subject, refusal in zip(subjects, refusals, strict=True) if refusal is None]


def _is_evaluator(text: str) -> bool:
    """Whether a text names an evaluator; an unknown name is one if it resembles those of evaluators only."""
    if path := loading.split_path(text):
        name = f"{path[0]}:{path[1].partition(':')[0]}"
        return issubclass(loading.load(ALL_KINDS, name), evaluation.Evaluator)
    name = text.partition(":")[0]
    known, algorithms = loading.names(evaluation.KIND), loading.names(plugins.ALGORITHMS)
    families = [algorithm.partition(":")[0] for algorithm in algorithms]
    if name in families:
        return False
    return name in known or (bool(nearest(name, known)) and not nearest(name, families))


def _examine(
    rules: Mapping[str, Rule], subjects: Sequence[Subject | evaluators.EvaluatorSubject]
) -> Iterator[Result]:
    causes: dict[str, Rule] = {}  # of each rule that failed or was skipped: the rule that failed first
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a study
    try:
        for name, rule in rules.items():
            cause = next((causes[needed.name] for needed in rule.needs if needed.name in causes), None)
            with torch.set_grad_enabled(True):  # a plug-in may switch it off
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


def _apply(rule: Rule, subjects: Sequence[Subject | evaluators.EvaluatorSubject]) -> Result:
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
