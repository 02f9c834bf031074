"""Sweeps as text and from Python, and the variants that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.algos.iql import IQL

from seqeval import plugins
from seqeval.config import Study
from seqeval.errors import UserError
from seqeval.sweeps import LogUniform, Sweep, Uniform


def names(text: str) -> list[str]:
    return [variant.name for variant in plugins.expand(text)]


def test_a_grid_is_every_combination() -> None:
    variants = plugins.expand("iql:expectile=0.5|0.9,temperature=1|3|10,batch_size=64")
    assert [v.name for v in variants][:2] == [
        "iql:expectile=0.5 temperature=1",
        "iql:expectile=0.5 temperature=3",
    ]
    assert len(variants) == 6
    assert {(v.config.expectile, v.config.temperature) for v in variants} == {  # type: ignore[attr-defined]
        (a, b) for a in (0.5, 0.9) for b in (1, 3, 10)
    }
    assert {v.config.batch_size for v in variants} == {64}
    assert {v.sweep for v in variants} == {"iql"}


def test_a_sweep_has_a_name_of_its_own() -> None:
    assert names("iql:expectile=0.5|0.9,name=mine") == ["mine:expectile=0.5", "mine:expectile=0.9"]


def test_tuples_may_be_swept() -> None:
    variants = plugins.expand("iql:hidden=(8,8)|(16,)")
    assert [v.config.hidden for v in variants] == [(8, 8), (16,)]  # type: ignore[attr-defined]


def test_other_texts_are_one_variant() -> None:
    (variant,) = plugins.expand("iql:expectile=0.9,name=high")
    assert variant == plugins.parse("iql:expectile=0.9,name=high")
    assert variant.sweep is None


def test_a_random_search_draws_from_its_ranges() -> None:
    variants = plugins.expand(
        "td3_bc:random(12),alpha=log(0.5,10),policy_delay=uniform(1,3),discount=0.9|0.99"
    )
    configs = [variant.config for variant in variants]
    assert len({variant.name for variant in variants}) == 12
    assert all(0.5 <= c.alpha <= 10 for c in configs)  # type: ignore[attr-defined]
    assert {c.policy_delay for c in configs} <= {1, 2, 3}  # type: ignore[attr-defined]
    assert {c.discount for c in configs} == {0.9, 0.99}  # type: ignore[attr-defined]
    assert names("td3_bc:random(3),alpha=log(0.5,10)") == names("td3_bc:random(3),alpha=log(0.5,10)")
    assert names("td3_bc:random(3)") != names("td3_bc:random(3,seed=1)")


def test_without_ranges_those_of_the_algorithm_are_drawn_from() -> None:
    variants = plugins.expand("iql:random(4),temperature=3")
    assert all(0.5 <= v.config.expectile <= 0.95 for v in variants)  # type: ignore[attr-defined]
    assert {v.config.temperature for v in variants} == {3.0}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in plugins.names() if plugins.find(name).Config.ranges])
def test_declared_ranges_are_valid(name: str) -> None:
    assert len(plugins.expand(f"{name}:random(3)")) == 3


def test_a_sweep_in_python_is_its_text() -> None:
    grid = Sweep("iql", {"expectile": [0.5, 0.9], "hidden": [(8, 8), (16,)]})
    assert str(grid) == "iql:expectile=0.5|0.9,hidden=(8,8)|(16,)"
    search = Sweep("td3_bc", {"alpha": LogUniform(0.5, 10), "policy_delay": Uniform(1, 3)}, random=3, seed=2)
    assert str(search) == "td3_bc:random(3,seed=2),alpha=log(0.5,10),policy_delay=uniform(1,3)"
    study = Study(("d",), ("bc", grid, search))
    assert study.algorithms == ("bc", str(grid), str(search))
    assert len(plugins.parse_all(study.algorithms)) == 1 + 4 + 3


def test_a_sweep_in_python_may_name_a_class() -> None:
    study = Study(("d",), (Sweep(IQL, {"expectile": [0.5, 0.9]}),))
    assert study.algorithms == ("iql:expectile=0.5|0.9",)


def test_spaces_around_values_do_not_matter() -> None:
    assert names("iql:expectile=0.5 | 0.9") == names("iql:expectile=0.5|0.9")


def test_a_name_is_no_setting() -> None:
    assert names("iql:expectile=0.5|0.9,name=a|b") == ["a|b:expectile=0.5", "a|b:expectile=0.9"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sweep("iql"), "give values of a setting, or random=12"),
        (lambda: Sweep("iql", {"expectile": []}), r"must be a list of values, or a range, not \[\]"),
        (lambda: Sweep("iql", {"expectile": 0.5}), "must be a list of values, or a range, not 0.5"),
        (lambda: Sweep("iql", {"expectile": "0.5"}), "must be a list of values, or a range, not '0.5'"),
        (lambda: Uniform("low", 1), "the ends of a range must be finite numbers"),
        (lambda: LogUniform(1, float("inf")), "the ends of a range must be finite numbers"),
    ],
)
def test_invalid_sweeps_in_python_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=4, unique=True))
def test_values_of_a_grid_are_read_back_exactly(values: list[float]) -> None:
    variants = plugins.expand(str(Sweep("iql", {"expectile": values})))
    assert [v.config.expectile for v in variants] == values  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iql:expectil=0.5|0.7", "no setting 'expectil'.*expectile"),
        ("iql:expectile=0.5|", "a value between two | is empty"),
        ("iql:expectile=|", "a value between two | is empty"),
        ("iql:expectile=0.5|0.5", "a value is listed twice"),
        ("iql:expectile=0.5|high", "expectile must be a number, not 'high'"),
        ("iql:expectile=0.5|1.5", "expectile must be between 0 and 1, not 1.5"),
        ("iql:expectile=uniform(0.5,0.9)", "say how many settings to draw: random"),
        ("iql:random(3),expectile=uniform(0.9,0.5)", "the first end of a range must be below the second"),
        ("iql:random(3),temperature=log(0,5)", "must be positive"),
        ("iql:random(3),temperature=log(1)", "a range has two numbers"),
        ("iql:random(3),hidden=log(1,2)", "hidden must be"),
        ("iql:random(0)", "1 to 1000 settings"),
        ("iql:random(x)", "a random search is random"),
        ("iql:random(2),random(3)", "more than once"),
        ("iql:random(5),expectile=0.5|0.7", "only 2 different settings"),
        ("sb3:SAC:random(2)", "declares no ranges"),
        ("iql:expectile=0.5|0.50", "'iql:expectile=0.5' and 'iql:expectile=0.50' are the same setting"),
        ("iql:expectile=0.5|0.7,expectile=0.9", "a setting is given twice"),
        ("iql:expectile=0.5|0.7,name=", "the name of a variant must have"),
        ("iql:random(3),temperature=normal(0,1)", r"a range is uniform\(0.5,10\) or log\(0.5,10\)"),
        ("td3_bc:random(3),alpha=2", "declares no ranges for other settings"),
        ("iql:temperature=" + "|".join(map(str, range(1001))), "a grid of 1001 settings"),
    ],
)
def test_invalid_sweeps_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        plugins.expand(text)
    assert "\n" not in str(refused.value)
