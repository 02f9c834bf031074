"""Algorithms by name, and the variants that a text describes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from seqeval import plugins
from seqeval.algorithm import Algorithm, Config
from seqeval.errors import UserError
from seqeval.plugins import Variant

BUILT_IN = ("bc", "iql", "td3_bc")


def refusal(text: str) -> str:
    """The one-line message with which a variant is refused."""
    with pytest.raises(UserError) as caught:
        plugins.parse(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def through_json(variant: Variant) -> Variant:
    return plugins.restore(variant.name, json.loads(json.dumps(variant.settings())))


# --- find ---


def test_built_in_algorithms_are_listed() -> None:
    assert set(BUILT_IN) <= set(plugins.names())
    assert not any(name.startswith("_") for name in plugins.names())


@pytest.mark.parametrize("name", plugins.names())
def test_every_algorithm_has_a_frozen_config(name: str) -> None:
    found = plugins.find(name)
    assert issubclass(found, Algorithm)
    assert found is not Algorithm
    config = found.Config()
    assert isinstance(config, Config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 1  # type: ignore[misc]


@pytest.mark.parametrize(("word", "near"), [("iqll", "iql"), ("td3-bc", "td3_bc"), ("td3bc", "td3_bc")])
def test_an_unknown_algorithm_is_refused_with_the_nearest_names(word: str, near: str) -> None:
    with pytest.raises(UserError) as caught:
        plugins.find(word)
    message = str(caught.value)
    assert repr(word) in message
    assert f"did you mean {near!r}" in message
    assert all(name in message for name in plugins.names())


@pytest.mark.parametrize(
    "word", ["_fast_cpu", "_networks", "networks", "__init__", "", "os", "../algos/bc", "quicksort"]
)
def test_a_name_that_is_not_an_algorithm_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="is not known"):
        plugins.find(word)


# --- parse ---


@pytest.mark.parametrize("name", plugins.names())
def test_a_name_without_settings_gives_the_defaults(name: str) -> None:
    variant = plugins.parse(name)
    assert (variant.name, variant.algorithm) == (name, name)
    assert variant.config == plugins.find(name).Config()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("bc:batch_size=64", "batch_size", 64),
        ("bc:dropout=0.25", "dropout", 0.25),
        ("bc:dropout=0", "dropout", 0.0),  # a float given as an int
        ("bc:learning_rate=1e-4", "learning_rate", 1e-4),
        ("iql:temperature=10", "temperature", 10.0),
        ("bc:normalize_observations=True", "normalize_observations", True),
        ("iql:scale_rewards=False", "scale_rewards", False),
        ("bc:hidden=(8,8)", "hidden", (8, 8)),
        ("bc:hidden=(8, 16, 8)", "hidden", (8, 16, 8)),
        ("bc:hidden=(8,)", "hidden", (8,)),
        ("iql:log_std_range=(-4,1.5)", "log_std_range", (-4.0, 1.5)),
    ],
)
def test_a_value_gets_the_type_of_its_field(text: str, key: str, value: Any) -> None:
    variant = plugins.parse(text)
    assert variant.name == text
    found = getattr(variant.config, key)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, tuple):
        assert [type(item) for item in found] == [type(item) for item in value]
    others = dataclasses.asdict(plugins.parse(variant.algorithm).config) | {key: value}
    assert dataclasses.asdict(variant.config) == others


@pytest.mark.parametrize(
    "text",
    [
        "bc:hidden=(8,8),dropout=0,name=small",
        "bc:name=small,hidden=(8,8),dropout=0",
        "bc:dropout=0,name=small,hidden=(8,8)",
    ],
)
def test_settings_and_name_come_in_any_order_and_tuples_may_contain_commas(text: str) -> None:
    variant = plugins.parse(text)
    assert (variant.name, variant.algorithm) == ("small", "bc")
    assert dataclasses.asdict(variant.config) | {"hidden": (8, 8), "dropout": 0.0} == dataclasses.asdict(
        variant.config
    )


def test_a_name_may_contain_spaces_and_symbols() -> None:
    assert plugins.parse("iql:expectile=0.9,name=IQL τ=0.9").name == "IQL τ=0.9"


def test_an_unknown_algorithm_in_a_variant_is_refused() -> None:
    assert "did you mean 'iql'" in refusal("iqll:expectile=0.9")


@pytest.mark.parametrize(
    ("text", "near"), [("iql:expectil=0.9", "'expectile'"), ("bc:batchsize=1", "'batch_size'")]
)
def test_an_unknown_setting_is_refused_with_the_nearest_ones(text: str, near: str) -> None:
    message = refusal(text)
    assert repr(text) in message
    assert "did you mean" in message
    assert near in message
    assert "seqeval algorithms show" in message


@pytest.mark.parametrize("key", ["updates", "Config", "__class__", "hidden ", ""])
def test_a_setting_that_is_not_a_field_of_the_config_is_refused(key: str) -> None:
    assert f"bc has no setting {key!r}" in refusal(f"bc:{key}=1")


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("bc:batch_size=1.5", "batch_size", "a whole number"),
        ("bc:batch_size=64.0", "batch_size", "a whole number"),
        ("bc:batch_size=True", "batch_size", "a whole number"),
        ("bc:batch_size=", "batch_size", "a whole number"),
        ("bc:dropout=True", "dropout", "a number"),
        ("bc:dropout=much", "dropout", "a number"),
        ("bc:dropout='0.1'", "dropout", "a number"),
        ("bc:learning_rate=nan", "learning_rate", "a number"),
        ("bc:learning_rate=1e-3*2", "learning_rate", "a number"),
        ("bc:learning_rate=None", "learning_rate", "a number"),
        ("bc:normalize_observations=1", "normalize_observations", "True or False"),
        ("bc:normalize_observations=true", "normalize_observations", "True or False"),
        ("bc:hidden=8", "hidden", "a tuple of whole numbers"),
        ("bc:hidden=(8)", "hidden", "a tuple of whole numbers"),
        ("bc:hidden=(8.5,8)", "hidden", "a tuple of whole numbers"),
        ("bc:hidden=(8,x)", "hidden", "a tuple of whole numbers"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_the_expected_type(text: str, key: str, wanted: str) -> None:
    message = refusal(text)
    assert repr(text) in message
    assert f"{key} must be {wanted}" in message


@pytest.mark.parametrize("text", ["bc:dropout={[]:1}", "bc:dropout={{}}"])
def test_a_value_that_cannot_be_evaluated_is_refused(text: str) -> None:
    assert "dropout must be a number" in refusal(text)


@pytest.mark.parametrize(
    "text", ["iql:log_std_range=(1,)", "iql:log_std_range=(1,2,3)", "iql:log_std_range=()"]
)
def test_a_tuple_of_a_wrong_length_is_refused(text: str) -> None:
    assert "log_std_range" in refusal(text)


@pytest.mark.parametrize("text", ["bc:dropout=0.1,dropout=0.2", "bc:name=a,name=b"])
def test_a_setting_given_twice_is_refused(text: str) -> None:
    assert text.partition(":")[2].partition("=")[0] in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "bc:learning_rate=-1",
        "bc:dropout=1.5",
        "bc:dropout=-0.1",
        "bc:hidden=(0,)",
        "bc:hidden=(8,-8)",
        "td3_bc:policy_delay=0",
    ],
)
def test_a_value_outside_its_limits_is_refused(text: str) -> None:
    assert text.partition(":")[2].partition("=")[0] in refusal(text)


def test_the_message_of_the_config_is_reported() -> None:
    assert "batch_size must be at least 1, not 0" in refusal("bc:batch_size=0")


@pytest.mark.parametrize(
    ("text", "item"), [("bc:dropout", "'dropout'"), ("bc:dropout=0,0.5", "'0.5'"), ("bc:dropout=0,", "''")]
)
def test_an_item_without_an_equals_sign_is_refused(text: str, item: str) -> None:
    message = refusal(text)
    assert item in message
    assert "key=value" in message


def test_an_empty_name_is_refused() -> None:
    assert "1 to 100 characters" in refusal("bc:name=")
    assert "1 to 100 characters" in refusal("bc:dropout=0,name=")


# --- parse_all ---


def test_variants_keep_their_order() -> None:
    texts = ["td3_bc", "bc", "bc:dropout=0", "bc:dropout=0,name=plain"]
    assert [variant.name for variant in plugins.parse_all(texts)] == ["td3_bc", "bc", "bc:dropout=0", "plain"]


@pytest.mark.parametrize("texts", [["bc", "bc"], ["bc", "iql:name=bc"], ["bc:name=x", "bc:dropout=0,name=x"]])
def test_two_variants_of_the_same_name_are_refused(texts: list[str]) -> None:
    with pytest.raises(UserError, match="two variants are named") as caught:
        plugins.parse_all(texts)
    assert "name=" in str(caught.value)


# --- restore ---


@pytest.mark.parametrize(
    "text",
    [
        *plugins.names(),
        "bc:hidden=(8,),dropout=0,batch_size=7,name=small",
        "iql:log_std_range=(-4,1),scale_rewards=False,expectile=0.9",
        "td3_bc:learning_rate=1e-30,alpha=0.1,policy_delay=3",
    ],
)
def test_a_variant_survives_json(text: str) -> None:
    variant = plugins.parse(text)
    restored = through_json(variant)
    assert restored == variant
    for field in dataclasses.fields(variant.config):
        before, after = getattr(variant.config, field.name), getattr(restored.config, field.name)
        assert type(before) is type(after), field.name


def test_a_variant_with_an_infinite_value_survives_json_or_is_refused() -> None:
    """`max_weight=1e999` removes the cap of IQL's weights."""
    try:
        variant = plugins.parse("iql:max_weight=1e999")
    except UserError:
        return
    assert through_json(variant) == variant
