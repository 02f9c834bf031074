"""Reference returns: between which two returns a score runs from 0 to 100, and who says so."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from seqeval.types import Reference

# What makes Gymnasium's environment the one that was logged. In Ant it was logged with a MuJoCo that left the
# contact forces at 0 (github.com/Farama-Foundation/D4RL/issues/143); D4RL cuts pen at 100 steps, not at 200.
OPTIONS = {
    "Ant-v4": "?use_contact_forces=True&contact_force_range=(0,0)",
    "AdroitHandPen-v1": "?max_episode_steps=100",
}
OF_THE_SAME_RETURNS = {"Ant-v4": "Ant-v4" + OPTIONS["Ant-v4"]}  # forces of 0 cost nothing


@cache
def d4rl_table() -> tuple[dict[str, str], ...]:
    """D4RL's datasets: name, address, reference returns, Gymnasium environment."""
    text = (files("seqeval.datasets.data") / "d4rl.csv").read_text()
    return tuple(csv.DictReader(text.splitlines()))


def of_row(row: Mapping[str, str]) -> Reference:
    """The reference returns of one of D4RL's datasets."""
    expert = "SAC expert" if "/gym_mujoco" in row["url"] else "the domain's expert"
    return Reference(
        float(row["ref_min"]), float(row["ref_max"]), f"D4RL: random policy and {expert} (arXiv 2004.07219)"
    )


def environment_of(row: Mapping[str, str]) -> str:
    """The environment of one of D4RL's datasets, with the options that make it the one that was logged."""
    return row["gymnasium_id"] + OPTIONS.get(row["gymnasium_id"], "")


def of_environment(env_id: str) -> Reference | None:
    """D4RL's reference returns of an environment, where all of its datasets share them; else None.

    A published scale goes before a dataset's own: one environment, one scale. It is not that of the same
    environment with other options, whose returns are others.
    """
    name, question, options = env_id.partition("?")
    name = name.rpartition(":")[2] + question + options  # without the module that registers it
    name = OF_THE_SAME_RETURNS.get(name, name)
    found = {of_row(row) for row in d4rl_table() if environment_of(row) == name}
    return found.pop() if len(found) == 1 else None
