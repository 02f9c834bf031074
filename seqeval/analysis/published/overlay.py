"""Published learning curves on the x axis of a study, to be drawn behind its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd

from seqeval import analysis, references
from seqeval.errors import UserError
from seqeval.types import Reference

from .comparison import Descriptions, matching_runs
from .sources import OUR_NAMES, PAPER, SUCCESS_RATE, Source, curves, find


def overlay(
    rows: pd.DataFrame, descriptions: Descriptions, name: str
) -> tuple[pd.DataFrame | None, dict[str, str]]:
    """The published curves of a source to draw behind the rows of studies, and for datasets without any the
    reason. None if there are none at all. Raises UserError if the source has no learning curves.

    The paper's own runs have our x axis. Other sources learn offline from the full dataset, for
    `full_data_updates` updates (a column): these are spread evenly over the offline part of our axis, so that
    both offline phases end at the same place; nothing else in them is at the same x. Their online steps are
    those of our axis, as far as our rows go.
    """
    source = find(name)
    if name == PAPER:
        found, reasons = matching_runs(rows, descriptions)
        parts = [match.rows for match in found.values()]
        return (pd.concat(parts) if parts else None), reasons
    theirs = curves(name)
    if theirs.empty:
        raise UserError(
            f"--published {name}: has no learning curves to draw; seqeval compare takes its scores"
        )
    parts, reasons = [], {}
    rows = analysis.with_values(rows)
    for dataset in rows["dataset"].unique():
        ours = rows[rows["dataset"] == dataset]
        part = theirs[theirs["dataset"] == name_without_prefix(dataset)]
        if not descriptions[dataset]["transitions"]:
            continue
        if reason := mismatch(source, dataset, ours, descriptions[dataset], part):
            reasons[dataset] = reason
        elif ours["samples"].min() >= descriptions[dataset]["transitions"]:
            reasons[dataset] = "has one offline point only, so no axis for theirs"
        else:
            parts.append(_on_our_axis(part, ours, dataset, descriptions[dataset]["transitions"]))
    return (pd.concat(parts).assign(source=name) if parts else None), reasons


def name_without_prefix(dataset: str) -> str:
    """The name under which other projects know a dataset: `ogbench:NAME` without `ogbench:`."""
    return dataset.rpartition(":")[2]


def mismatch(
    source: Source, dataset: str, ours: pd.DataFrame, description: Mapping[str, Any], theirs: pd.DataFrame
) -> str | None:
    """Why what a source has on a dataset (`theirs`) cannot be compared with our rows; None if it can.

    `ours` are rows `with_values`. Success rates can be compared with scores that are success rates.
    """
    shared = set(ours["algorithm"]) & {OUR_NAMES.get(label) for label in theirs["algorithm"].unique()}
    if theirs.empty:
        return f"not a dataset of {source.name}"
    if not shared:
        return f"{source.name} has none of its algorithms ({', '.join(ours['algorithm'].unique())}) there"
    if source.unit == SUCCESS_RATE:
        return None if _are_success_rates(ours) else "its scores are not success rates"
    row = next((row for row in references.d4rl_table() if row["dataset"] == theirs["dataset"].iloc[0]), None)
    reference = description["reference"]
    scored = (ours["unit"] == "score").all() and reference is not None
    if row is None or not scored:
        same = False
    else:
        same = astuple(Reference(**reference))[:2] == astuple(references.of_row(row))[:2]
    return None if same else "not in scores between D4RL's reference returns"


def _are_success_rates(rows: pd.DataFrame) -> bool:
    """Whether the score of every row is the share of its successful episodes, in percent."""
    ok = rows[rows["status"] == "ok"]
    rates = [
        100 * np.mean(each) if isinstance(each, list) and each else np.nan for each in ok["episode_successes"]
    ]
    return len(ok) > 0 and bool(np.isclose(np.array(rates), ok["score"].astype(float)).all())


def _on_our_axis(theirs: pd.DataFrame, ours: pd.DataFrame, dataset: str, size: int) -> pd.DataFrame:
    """The curves of our algorithms, with `samples` in place of their x."""
    theirs = theirs.assign(algorithm=theirs["algorithm"].map(OUR_NAMES), dataset=dataset)
    theirs = theirs[theirs["algorithm"].isin(ours["algorithm"])]
    first, last = ours["samples"].min(), ours["samples"].max()
    offline = theirs["phase"] == "offline"
    updates = theirs.loc[offline, "x"].max()
    places = np.where(offline, first + theirs["x"] / updates * (size - first), size + theirs["x"])
    placed = theirs.assign(samples=places, full_data_updates=updates, seed=theirs["seed"].fillna(0))
    return placed[placed["samples"] <= max(last, size)].drop(columns="x")
