"""Values of a wrong type are refused when settings are constructed, whatever the field and the type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqeval import algorithm, config, plugins
from seqeval.collect import CollectConfig
from seqeval.config import Evaluation, Execution, Online, Protocol, Ray, Slurm, Study
from seqeval.errors import UserError
from seqeval.figure_options import FigureOptions
from seqeval.validation import convert, describe

BUILT_IN = [plugins.find(name).Config for name in plugins.names()]
CLASSES = [
    *(c for c in vars(config).values() if dataclasses.is_dataclass(c) and c.__module__ == config.__name__),
    *(CollectConfig, algorithm.Config, *dict.fromkeys(BUILT_IN)),
]
REQUIRED: dict[Any, dict[str, Any]] = {
    Study: {"datasets": ("pendulum-replay",), "algorithms": ("bc",)},
    CollectConfig: {"env_id": "Pendulum-v1", "algorithm": "SAC", "steps": 10, "transitions": 10},
}
FIELDS = [
    pytest.param(
        cls, field.name, get_type_hints(cls)[field.name], id=f"{cls.__module__}.{cls.__name__}.{field.name}"
    )
    for cls in CLASSES
    for field in dataclasses.fields(cls)
]
WORD, NUMBER = "no such word", 1.5
WRONG: dict[Any, list[Any]] = {  # values that a type never allows
    int: [WORD, NUMBER, "1000", True, 7.0, np.float64(7), np.bool_(True), (1,), np.array([1, 2])],
    float: [WORD, "0.5", True, float("nan"), np.nan, (0.5,), 1j],
    bool: [WORD, "True", 0, 1, NUMBER, np.int64(1), ()],
    str: [0, NUMBER, True, ("word",), b"word"],
    type(None): [WORD, 0, NUMBER, False],
}
WRONG_ITEMS = {int: [0.5, "1", True, None], str: [0, None], float: ["x", None, float("nan")]}


def wrong_values(hint: Any) -> list[Any]:
    """Values that a hint does not allow."""
    if get_origin(hint) is Literal:
        return [WORD, *(f"{choice}x" for choice in get_args(hint)), 0, NUMBER, True, (get_args(hint)[0],)]
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        items = [(value,) for value in WRONG_ITEMS.get(item, ())]
        return [WORD, 0, NUMBER, True, {}, {"a"}, *items]
    if get_origin(hint) in (Union, type(int | str)):
        options = [wrong_values(choice) for choice in get_args(hint)]
        return [value for value in options[0] if all(any(value is v for v in other) for other in options)]
    return WRONG.get(hint, [WORD, 0, NUMBER, True])


@pytest.mark.parametrize(("cls", "name", "hint"), FIELDS)
def test_every_field_of_every_config_refuses_values_of_a_wrong_type(cls: Any, name: str, hint: Any) -> None:
    given = REQUIRED.get(cls, {})
    assert cls(**given)  # valid before
    for value in [object(), b"bytes", lambda: 1, *wrong_values(hint)]:
        with pytest.raises(UserError) as refused:
            cls(**given | {name: value})
        message = str(refused.value)
        assert f"{name}: must be {describe(hint)}, not " in message, (value, message)
        assert "\n" not in message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Protocol(regime="streem"),
            "protocol.regime: must be 'stream', 'retrain', 'warm' or 'full', not 'streem'; "
            "did you mean 'stream'?",
        ),
        (
            lambda: Protocol(normalizer="ful"),
            "protocol.normalizer: must be 'visible' or 'full', not 'ful'; did you mean 'full'?",
        ),
        (lambda: Protocol(spacing="log"), "protocol.spacing: must be 'linear' or 'geometric', not 'log'"),
        (
            lambda: Protocol(data_rules="qlearn"),
            "protocol.data_rules: must be 'strict' or 'qlearning', not 'qlearn'; did you mean 'qlearning'?",
        ),
        (lambda: Protocol(start=1.5), "protocol.start: must be a whole number, not 1.5"),
        (lambda: Protocol(start=1e5), "protocol.start: must be a whole number, not 100000.0; write 100000"),
        (lambda: Protocol(start="1000"), "protocol.start: must be a whole number, not '1000'; write 1000"),
        (lambda: Protocol(start=0), "protocol.start: must be at least 1, not 0"),
        (lambda: Protocol(grow_by=4000.5), "protocol.grow_by: must be a whole number, not 4000.5"),
        (
            lambda: Protocol(counted_from_zero="true"),
            "protocol.counted_from_zero: must be True or False, not 'true'; write True",
        ),
        (lambda: Protocol(window="all"), "protocol.window: must be a whole number or None, not 'all'"),
        (
            lambda: Online(steps=9, mix="unform"),
            "online.mix: must be 'uniform', a number or None, not 'unform'; did you mean 'uniform'?",
        ),
        (
            lambda: Evaluation(backend="gym"),
            "evaluation.backend: must be 'gymnasium' or 'envpool', not 'gym'",
        ),
        (
            lambda: Evaluation(metrics="episodes"),
            "evaluation.metrics: must be a tuple of strings, not 'episodes'; write ('episodes',)",
        ),
        (lambda: Ray(gpus_per_job="half"), "ray.gpus_per_job: must be a number, not 'half'"),
        (lambda: Slurm(memory="4"), "slurm.memory: must be a number, not '4'; write 4"),
        (lambda: Execution(overlap="yes"), "overlap: must be 'auto', 'on' or 'off', not 'yes'"),
        (lambda: Execution(ray={}), "ray: must be a Ray, not {}"),
        (lambda: Study(("a",), ("bc",), precision="half"), "precision: must be 'full' or 'fast', not 'half'"),
        (
            lambda: Study(("a",), ("bc",), device="gpu"),
            "device: must be 'auto', 'cpu' or 'cuda', not 'gpu'; did you mean 'cuda'?",
        ),
        (
            lambda: Study(("a",), ("bc",), seeds=0),
            "seeds: must be a tuple of whole numbers, not 0; write (0,)",
        ),
        (lambda: Study(("a",), ("bc",), online={}), "online: must be an Online, not {}"),
        (lambda: Study(("a",), ("bc",), protocol=Protocol), "protocol: must be a Protocol, not <class "),
    ],
)
def test_a_refusal_names_field_value_what_is_allowed_and_what_may_be_meant(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_a_misspelled_logger_is_refused() -> None:
    with pytest.raises(UserError, match=r"^log: must be .*'tensorboard'.* or None, not 'wandbb'"):
        Execution(log="wandbb")


@pytest.mark.parametrize("make", [tuple, list, np.array, pd.Series, np.int8])
def test_sequences_and_arrays_become_plain_tuples(make: Callable[[Sequence[int]], Any]) -> None:
    study = Study(["a", Path("b.hdf5")], ["bc"], seeds=make([3, 1, 2]))
    assert (study.datasets, study.algorithms, study.seeds) == (("a", "b.hdf5"), ("bc",), (3, 1, 2))
    assert {type(seed) for seed in study.seeds} == {int}
    assert Study(("a",), ("bc",), range(3)).seeds == (0, 1, 2)


@pytest.mark.parametrize("number", [np.int64(7), np.uint8(7), np.array(7), 7])
def test_integers_of_numpy_become_plain_integers(number: Any) -> None:
    protocol = Protocol(start=number, window=number)
    assert protocol == Protocol(start=7, window=7)
    assert type(protocol.start) is type(protocol.window) is int
    assert type(Execution(save_every=number).save_every) is float
    assert Protocol(counted_from_zero=np.bool_(True)).counted_from_zero is True
    assert type(Online(steps=1, mix=np.float32(0.5)).mix) is float


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.lists(st.integers()),
        st.lists(st.text()).map(tuple),
    ),
    st.sampled_from(
        [
            int,
            float,
            str,
            bool,
            int | None,
            Literal["a", 1],
            Literal["a"] | float,
            tuple[int, ...],
            tuple[str, int],
        ]
    ),
)
def test_a_value_is_converted_to_an_equal_one_or_refused_in_one_line(value: Any, hint: Any) -> None:
    try:
        found = convert(value, hint)
    except ValueError as error:
        text = str(error)
    else:
        text = None
        assert found == (tuple(value) if isinstance(value, list) else value)
        assert convert(found, hint) == found
    assert text is None or (
        text.startswith(f"must be {describe(hint)}, not ") and len(text.splitlines()) == 1
    )


def test_an_algorithm_of_a_user_is_checked_by_its_own_hints() -> None:
    @dataclasses.dataclass(frozen=True)
    class Config(algorithm.Config):
        kind: Literal["soft", "hard"] = "soft"
        clip: float | None = 1.0

        limits = {"clip": (0, 10)}

    assert Config(clip=None).clip is None
    assert Config(clip=3).clip == 3.0
    with pytest.raises(UserError, match="clip must be between 0 and 10, not 11"):
        Config(clip=11)
    with pytest.raises(UserError, match="kind: must be 'soft' or 'hard', not 'sort'; did you mean 'soft'"):
        Config(kind="sort")


def test_the_classes_above_are_all_there_are() -> None:
    assert {Protocol, Online, Evaluation, Ray, Slurm, Execution, Study} <= set(CLASSES)
    assert len(BUILT_IN) > 5


@pytest.mark.parametrize(
    ("cls", "wrong", "near"),
    [(Protocol, "grow", "grow_by"), (Execution, "job", "jobs"), (FigureOptions, "bnd", "band")],
)
def test_a_misspelled_keyword_is_refused_with_the_nearest_setting(cls: Any, wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=f"{cls.__name__}: has no setting '{wrong}'; did you mean '{near}'"):
        cls(**{wrong: 5})


def test_other_words_for_a_choice_are_known() -> None:
    with pytest.raises(UserError, match="did you mean 'cuda'"):
        Study(("pendulum-replay",), ("bc",), device="gpu")  # type: ignore[arg-type]


def test_a_class_that_is_no_algorithm_is_refused() -> None:
    with pytest.raises(UserError, match="algorithms: object is not an algorithm"):
        Study(("pendulum-replay",), (object,))


def test_figure_options_are_checked_and_take_arrays() -> None:
    limits: Any = np.array([-50, 0])
    assert FigureOptions(ylim=limits).ylim == (-50.0, 0.0)
    with pytest.raises(UserError, match=r"smooth: must be a whole number, not 2\.5"):
        FigureOptions(smooth=2.5)  # type: ignore[arg-type]
