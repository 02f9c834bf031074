"""Reference returns: between which two returns a score runs from 0 to 100, and who says so."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from seqeval.types import Reference


@cache
def d4rl_table() -> tuple[dict[str, str], ...]:
    """D4RL's datasets: name, address, reference returns, Gymnasium environment."""
    text = (files("seqeval.datasets.data") / "d4rl.csv").read_text()
    return tuple(csv.DictReader(text.splitlines()))


def of_environment(env_id: str) -> Reference | None:
    """D4RL's reference returns of an environment, where all of its datasets share them; else None.

    A published scale goes before a dataset's own: one environment, one scale.
    """
    rows = [row for row in d4rl_table() if row["gymnasium_id"] == env_id]
    scales = {(float(row["ref_min"]), float(row["ref_max"])) for row in rows}
    if len(scales) != 1:
        return None
    return Reference(*scales.pop(), source="D4RL: random policy and SAC expert (arXiv 2004.07219)")
