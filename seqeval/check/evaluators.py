"""Rules on evaluators: what `seqeval.evaluation.Evaluator` promises, tested on made-up agents and data."""

from __future__ import annotations

import copy
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from seqeval import evaluation, loading
from seqeval.algorithm import ActionSpace
from seqeval.check.randomness import globals_of_the_process, restored_random_states, set_globals
from seqeval.check.rules import ContractError, Rule, difference, expect, expect_equal
from seqeval.check.stage import ENVIRONMENTS, SHARES, Situation, Stage, made_up_dataset
from seqeval.check.subject import SEEDS, stored
from seqeval.config import Evaluation, Protocol, Study
from seqeval.errors import UserError, nearest, type_and_message
from seqeval.evaluation import EPISODES, Evaluator, Metric
from seqeval.evaluation.evaluators.episodes import Episodes

USUAL = Situation()
POINTS = tuple(range(len(SHARES)))
Values = dict[str, list[Any]]  # by metric, an entry for each replica


class EvaluatorSubject:
    """An evaluator under test with actions of one kind."""

    def __init__(self, text: str, space: ActionSpace) -> None:
        self.text, self.space, self.kind = text, space, f"{space} actions"
        self.found: type[Evaluator] = evaluation.find(text)
        self.settings = Evaluation(episodes=2, metrics=(text,))

    def refusal(self, situation: Situation = USUAL) -> UserError | None:
        """Why the evaluator cannot be used with the made-up data; None if it can."""
        protocol = Protocol(order="episodes", hold_out=situation.hold_out)
        study = Study(("made-up",), ("bc",), (0,), protocol, evaluation=self.settings)
        try:
            self.found.check(made_up_dataset(self.space), study)
        except UserError as error:
            return error
        return None

    def make(self, seeds: Sequence[int]) -> Evaluator:
        uses_data = self.found.uses_data
        (made,) = evaluation.create(ENVIRONMENTS[self.space], seeds, self.settings, uses_data)
        return made

    def measure(self, evaluator: Evaluator, stage: Stage, point: int, with_data: bool = True) -> Values:
        """The results of one point, as plain values."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as NumPy's of a mean over nothing, whose NaN is reported
            found = evaluator.evaluate(*stage.at(point, with_data))
        return {name: [_plain(value) for value in values] for name, values in found.items()}

    def curve(
        self, seeds: Sequence[int] = SEEDS, situation: Situation = USUAL, points: Sequence[int] = POINTS
    ) -> list[Values]:
        """The results of a fresh evaluator at some points."""
        evaluator, stage = self.make(seeds), Stage(self.space, seeds, situation)
        try:
            return [self.measure(evaluator, stage, point) for point in points]
        finally:
            evaluator.close()

    @cached_property
    def usual(self) -> list[Values]:
        """The results of three replicas in the usual situation."""
        return self.curve()

    @property
    def file(self) -> str | None:
        """The file that defines the evaluator."""
        return getattr(sys.modules.get(self.found.__module__), "__file__", None)

    def describe(self, error: Exception) -> str:
        """An exception, with the line of the evaluator's file that it came from."""
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.file]
        return type_and_message(error) + (f" ({self.file}, line {lines[-1]})" if lines else "")


def evaluator_rule(
    title: str, contract: str, *needs: Rule
) -> Callable[[Callable[[EvaluatorSubject], None]], Rule]:
    """Makes a function the check of a rule on evaluators, of the same name."""
    where = f"seqeval/evaluation/__init__.py, {contract}"
    return lambda check: Rule(check.__name__, title, where, needs, check)


@evaluator_rule("uses_data and metrics are valid", "Evaluator and Metric")
def metrics_are_valid(subject: EvaluatorSubject) -> None:
    found = subject.found
    expect(isinstance(found.uses_data, bool), "uses_data to be True or False", repr(found.uses_data))
    expect(isinstance(found.metrics, Mapping), "metrics to be a dict", type(found.metrics).__name__)
    for name, metric in found.metrics.items():
        expect(isinstance(metric, Metric), f"metrics[{name!r}] to be a Metric", type(metric).__name__)
        expect(isinstance(metric.unit, str), f"the unit of {name!r} to be text", repr(metric.unit))
        right = metric.better in ("higher", "lower", None)
        expect(right, f"better of {name!r} to be 'higher', 'lower' or None", repr(metric.better))


@evaluator_rule(
    "evaluate returns a finite number or None for each replica", "Evaluator.evaluate", metrics_are_valid
)
def values_are_valid(subject: EvaluatorSubject) -> None:
    for seeds in (SEEDS[:1], SEEDS):
        evaluator, stage = subject.make(seeds), Stage(subject.space, seeds, USUAL)
        for point in POINTS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = evaluator.evaluate(*stage.at(point))
            _expect_valid(subject, found, len(seeds), _where(point))
        evaluator.close()
    expect(any(subject.usual), "a metric at one of the points at least", "none")


@evaluator_rule("every metric is declared with unit and direction", "Evaluator.metrics", values_are_valid)
def metrics_are_declared(subject: EvaluatorSubject) -> None:
    for values in subject.usual:
        for name in _of_rows(subject, values):
            known = subject.found.metrics
            expected = f"{name!r} in metrics, so that figures know its unit and which values are better"
            hint = nearest(name, known) or f"; declared: {', '.join(known) or 'none'}"
            expect(name in known, expected, f"{name!r}, which is not declared{hint}")


@evaluator_rule("metrics have names of their own", "Evaluator.evaluate", metrics_are_declared)
def names_are_free(subject: EvaluatorSubject) -> None:
    taken = dict.fromkeys(() if subject.found is Episodes else EPISODES, "the episodes of a row")
    for name in loading.names(evaluation.KIND):
        if loading.is_built_in(evaluation.KIND, name) and evaluation.find(name) is not subject.found:
            taken |= dict.fromkeys(evaluation.find(name).metrics, f"the evaluator {name}")
    for name in {*subject.found.metrics, *(name for values in subject.usual for name in values)}:
        expect(
            name not in taken, f"a metric with a name of its own, not {name!r}", f"that of {taken.get(name)}"
        )


@evaluator_rule("evaluate works with agents that have less to say", "Policies", values_are_valid)
def lacking_agents_are_measured(subject: EvaluatorSubject) -> None:
    situations = {
        "agents without critics and likelihood": Situation(bare=True),
        "a study without held-out episodes": Situation(hold_out=0.0),
    }
    for text, situation in situations.items():
        if subject.refusal(situation) is not None:
            continue
        try:
            for point, values in enumerate(subject.curve(situation=situation)):
                _expect_valid(subject, values, len(SEEDS), f"with {text}, {_where(point)}")
        except ContractError:
            raise
        except Exception as error:
            raise ContractError(f"no exception with {text}", subject.describe(error)) from error


@evaluator_rule("evaluate changes neither the agents nor the data", "Evaluator.evaluate", values_are_valid)
def nothing_is_changed(subject: EvaluatorSubject) -> None:
    evaluator, stage = subject.make(SEEDS), Stage(subject.space, SEEDS, USUAL)
    for point in POINTS:
        agents, _ = stage.at(point)
        before = copy.deepcopy(agents.states()), copy.deepcopy(stage.contents())
        subject.measure(evaluator, stage, point)
        after = agents.states(), stage.contents()
        expect_equal(before[0], after[0], f"the same agents before and after evaluate, {_where(point)}")
        for name, value in before[1].items():
            same = difference(torch.as_tensor(value), torch.as_tensor(after[1][name])) is None
            expect(same, f"evaluate to leave {name} as they are", "a change of them")
    evaluator.close()


@evaluator_rule(
    "global random generators and torch's settings are left alone", "Evaluator.evaluate", values_are_valid
)
def process_is_unchanged(subject: EvaluatorSubject) -> None:
    with restored_random_states():
        evaluator, stage = subject.make(SEEDS), Stage(subject.space, SEEDS, USUAL)
        for point in POINTS:
            set_globals()
            before = globals_of_the_process()
            subject.measure(evaluator, stage, point)
            after = globals_of_the_process()
            for name, value in before.items():
                unchanged = difference(value, after[name]) is None
                expect(unchanged, f"evaluate to leave {name} alone", "a change of it")
        evaluator.close()


@evaluator_rule(
    "the same agents and data give the same values",
    "Evaluator.evaluate",
    nothing_is_changed,
    process_is_unchanged,
)
def values_are_reproducible(subject: EvaluatorSubject) -> None:
    _expect_same(subject.usual, subject.curve(), "the same values in a second evaluation")


@evaluator_rule(
    "a replica's values depend on that replica alone", "Evaluator.evaluate", values_are_reproducible
)
def replicas_are_apart(subject: EvaluatorSubject) -> None:
    for replica, seed in enumerate(SEEDS):
        expected = f"replica {replica} of {len(SEEDS)} to have the values of its solo evaluation"
        _expect_same(_part(subject.usual, replica), _part(subject.curve([seed]), 0), expected)


@evaluator_rule(
    "what has not arrived is not used", "VisibleData", values_are_reproducible, replicas_are_apart
)
def future_is_not_used(subject: EvaluatorSubject) -> None:
    for seed in SEEDS:
        clean = _part(subject.usual, SEEDS.index(seed))[:1]
        for value in (40.0, -40.0):
            found = subject.curve([seed], Situation(hidden=value), POINTS[:1])
            expected = "the same values when the data that arrives after `arriving` changes"
            _expect_same(clean, _part(found, 0), expected)


@evaluator_rule(
    "rows are those of the buffer, and lie behind `offset` in the dataset", "VisibleData", future_is_not_used
)
def offset_is_respected(subject: EvaluatorSubject) -> None:
    expected = "the same values when other data lies before the dataset in the buffer"
    _expect_same(subject.usual, subject.curve(situation=Situation(behind_others=True)), expected)


@evaluator_rule(
    "values do not depend on the scale of the algorithm's rewards", "VisibleData", replicas_are_apart
)
def reward_factors_are_respected(subject: EvaluatorSubject) -> None:
    scaled = subject.curve(situation=Situation(reward_factor=4.0))
    expected = "the same values with rewards scaled by 4 (divide by `visible.reward_factors`)"
    for usual, found in zip(subject.usual, scaled, strict=True):
        for name, values in usual.items():
            for one, other in zip(values, found.get(name, values), strict=True):
                close = one == other or (None not in (one, other) and np.allclose(one, other, 1e-4, 1e-6))
                expect(close, expected, f"{name} {other} instead of {one}")


@evaluator_rule(
    "an evaluator with uses_data False needs no data", "Evaluator.uses_data", values_are_reproducible
)
def data_is_declared(subject: EvaluatorSubject) -> None:
    if subject.found.uses_data:
        return
    evaluator, stage = subject.make(SEEDS), Stage(subject.space, SEEDS, USUAL)
    found = [subject.measure(evaluator, stage, point, with_data=False) for point in POINTS]
    evaluator.close()
    expected = "the same values in a process without the data, as uses_data = False says"
    _expect_same(subject.usual, found, expected)


@evaluator_rule(
    "a resumed evaluator continues exactly", "Evaluator.state_of and load_states", values_are_reproducible
)
def resumes_exactly(subject: EvaluatorSubject) -> None:
    for saved_at in POINTS:
        first, stage = subject.make(SEEDS), Stage(subject.space, SEEDS, USUAL)
        for point in POINTS[:saved_at]:
            subject.measure(first, stage, point)
        states = [first.state_of(replica) for replica in range(len(SEEDS))]
        kept = [stored(state) for state in states]
        second = subject.make(SEEDS)
        second.load_states(copy.deepcopy(kept))
        found = [subject.measure(second, stage, point) for point in POINTS[saved_at:]]
        expected = (
            f"the values of an uninterrupted evaluation after saving and loading at point {saved_at + 1}"
        )
        _expect_same(subject.usual[saved_at:], found, expected)
        subject.measure(first, stage, saved_at)
        changed = difference(kept, states)
        expect(changed is None, "state_of to return copies", f"a state that changes later: {changed}")
        first.close()
        second.close()


@evaluator_rule(
    "states of replicas can be split",
    "Evaluator.state_of and load_states",
    resumes_exactly,
    replicas_are_apart,
)
def states_can_be_split(subject: EvaluatorSubject) -> None:
    together, stage = subject.make(SEEDS), Stage(subject.space, SEEDS, USUAL)
    subject.measure(together, stage, 0)
    for replica, seed in enumerate(SEEDS):
        solo, alone = subject.make([seed]), Stage(subject.space, [seed], USUAL)
        solo.load_states([stored(together.state_of(replica))])
        found = [subject.measure(solo, alone, point) for point in POINTS[1:]]
        expected = (
            f"the state of replica {replica} of {len(SEEDS)}, loaded alone, to continue in the same way"
        )
        _expect_same(_part(subject.usual, replica)[1:], _part(found, 0), expected)
        solo.close()
    together.close()


def _expect_valid(subject: EvaluatorSubject, found: Any, replicas: int, where: str) -> None:
    """Checks names, lengths and values of what `evaluate` returned."""
    expect(isinstance(found, Mapping), f"evaluate to return a dict {where}", type(found).__name__)
    for name, values in found.items():
        valid = isinstance(name, str) and bool(name.strip()) and name.isprintable()
        expect(valid, "names of metrics to be text", repr(name))
        listed = hasattr(values, "__len__") and not isinstance(values, str)
        expect(listed, f"a list with {replicas} values of {name!r} {where}", type(values).__name__)
        expect(len(values) == replicas, f"{replicas} values of {name!r} {where}", len(values))
        if name in EPISODES:
            continue
        for value in values:
            number = value is None or (np.ndim(value) == 0 and _is_number(value))
            text = type(value).__name__ if np.ndim(value) == 0 else f"values of the shape {np.shape(value)}"
            expect(number, f"each value of {name!r} to be a number or None {where}", text)
            finite = value is None or math.isfinite(float(value))
            expect(finite, f"finite values of {name!r}, or None where there is nothing {where}", value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)


def _of_rows(subject: EvaluatorSubject, values: Values) -> list[str]:
    """The names of metrics that become columns."""
    return [name for name in values if subject.found is not Episodes or name not in EPISODES]


def _where(point: int) -> str:
    return f"at point {point + 1} of {len(POINTS)}" + (", at the end of the data" * (point == POINTS[-1]))


def _plain(value: Any) -> Any:
    """A value as it is stored: a float, or None; a list for the episodes of a row."""
    if value is None or isinstance(value, list | tuple):
        return value
    return float(value)


def _part(curve: Sequence[Values], replica: int) -> list[dict[str, Any]]:
    """The values of one replica."""
    return [{name: values[replica] for name, values in found.items()} for found in curve]


def _expect_same(one: Sequence[Any], other: Sequence[Any], expected: str) -> None:
    for left, right in zip(one, other, strict=True):
        for name in {**left, **right}:
            a, b = left.get(name), right.get(name)
            expect(difference({"": a}, {"": b}) is None, expected, f"{name} {_text(b)} instead of {_text(a)}")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


RULES = {value.name: value for value in list(vars().values()) if isinstance(value, Rule)}
