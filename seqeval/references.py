"""Reference returns, which are scored 0 and 100, as published by D4RL."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from seqeval.types import Reference

EQUAL_RETURNS = {  # contact forces of 0 cost nothing
    "Ant-v4": "Ant-v4?use_contact_forces=True&contact_force_range=(0,0)"
}


@cache
def d4rl_table() -> tuple[dict[str, str], ...]:
    """D4RL's datasets: name, URL, reference returns, Gymnasium environment.

    The environment has the options that make it equal to D4RL's. Ant was collected with a MuJoCo that left
    the contact forces at 0 (github.com/Farama-Foundation/D4RL/issues/143); D4RL truncates pen at 100 steps,
    not at 200.
    """
    text = (files("seqeval.datasets.data") / "d4rl.csv").read_text()
    return tuple(csv.DictReader(text.splitlines()))


def of_row(row: Mapping[str, str]) -> Reference:
    """The reference returns of one of D4RL's datasets."""
    expert = "SAC expert" if "/gym_mujoco" in row["url"] else "the domain's expert"
    return Reference(
        float(row["ref_min"]), float(row["ref_max"]), f"D4RL: random policy and {expert} (arXiv 2004.07219)"
    )


def of_environment(env_id: str) -> Reference | None:
    """D4RL's reference returns of an environment; None if it has none, or if its datasets differ in them.

    They take precedence over a dataset's own, so that an environment has one scale. They do not hold for
    the same environment with other options, which change its returns.
    """
    name = without_module(env_id)
    name = EQUAL_RETURNS.get(name, name)
    found = {of_row(row) for row in d4rl_table() if row["gymnasium_id"] == name}
    return found.pop() if len(found) == 1 else None


def without_module(env_id: str) -> str:
    """The environment's name without the module that registers it, as in `module:Name-v0`."""
    name, question, options = env_id.partition("?")
    return name.rpartition(":")[2] + question + options
