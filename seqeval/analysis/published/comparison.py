"""Comparison of a study with the paper's runs: which match it, and whether its curves lie within theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seqeval import analysis
from seqeval.config import PRESETS, Protocol
from seqeval.errors import UserError

from ..statistics import areas
from ..summaries import mean_difference
from .runs import LEVELS, TASKS, UPDATES_PER_POINT, datasets, runs, samples_at, updates_at

TOLERANCE = 0.01  # relative difference in transitions: dataset rules differ in a few of them
UNKNOWN = f"not a dataset of the paper, which has {', '.join(TASKS)}: {', '.join(LEVELS)}"

# Properties of the paper's runs that no preset copies.
BUGS = {
    "td3_bc": "TD3+BC's target noise is N(0, 1) and its initial weights are the same for all seeds",
    "cql": "CQL's actions are clipped at 0.999",
}
ONLINE_BUGS = (
    "online, a ring buffer overwrites the data, timeouts count as terminals and there is no exploration noise"
)

Descriptions = Mapping[str, Mapping[str, Any]]  # the datasets of study.json, by name


class PublishedRuns(NamedTuple):
    """The published runs that match a dataset of a study."""

    figure: str
    size: int  # transitions of the paper's dataset
    rows: pd.DataFrame  # of the study's algorithms, under the study's name of the dataset


def matching_runs(
    rows: pd.DataFrame, descriptions: Descriptions
) -> tuple[dict[str, PublishedRuns], dict[str, str]]:
    """The published runs for each dataset of `rows`, and for other datasets the reason why there are none.

    D4RL datasets match by name: the runs of finetune if any row of theirs is online, else those of fig1.
    Mixed datasets match if they join the paper's parts, in the paper's sizes, and these arrive in turn.
    Datasets without transitions (`--datasets none`) are skipped.
    """
    rows = analysis.with_values(rows)
    found: dict[str, PublishedRuns] = {}
    reasons: dict[str, str] = {}
    for name in rows["dataset"].unique():
        ours, description = rows[rows["dataset"] == name], descriptions[name]
        if not description["transitions"]:
            continue
        match = _figure_and_name(name, description, "online" in set(ours["phase"]))
        if match is None:
            reasons[name] = UNKNOWN
            continue
        figure, published_name = match
        published = datasets(figure)[published_name]
        size, published_size = description["transitions"], published["transitions"]
        theirs = runs(figure)
        theirs = theirs[(theirs["dataset"] == published_name) & theirs["algorithm"].isin(ours["algorithm"])]
        if ours["unit"].iloc[0] != "score" or any(
            description["reference"][end] != published["reference"][end] for end in ("minimum", "maximum")
        ):
            reasons[name] = "not in scores between D4RL's reference returns"
        elif abs(size - published_size) > TOLERANCE * published_size:
            reasons[name] = f"has {size} transitions, and the paper's dataset {published_size}"
        elif theirs.empty:
            reasons[name] = f"the paper has none of its algorithms ({', '.join(ours['algorithm'].unique())})"
        else:
            found[name] = PublishedRuns(figure, published_size, theirs.assign(dataset=name))
    return found, reasons


def average_as_published(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    """Rows of one dataset, `with_values`, averaged as the published ones: a row per seed and 50 000 updates.

    `size` is the number of transitions of the paper's dataset. `samples` is the end of the 50 000 updates on
    our x axis, and `evaluations` the number of rows in the mean. A seed has no row if it did not reach
    `samples`, was not evaluated in these updates, or has a missing value there.
    """
    width = UPDATES_PER_POINT
    end = np.ceil(updates_at(rows["samples"].to_numpy(), size) / width).astype(int) * width
    run = [*analysis.LINE, "seed"]
    placed = rows.assign(
        samples=samples_at(end, size),
        updates=end,
        reached=rows.groupby(run)["samples"].transform("max"),
        missing=rows["value"].isna(),
    )
    points = placed[placed["updates"] > 0].groupby([*run, "updates", "samples", "reached"], sort=False)
    table = points.agg(
        score=("score", "mean"),
        return_mean=("return_mean", "mean"),
        evaluations=("seed", "size"),
        missing=("missing", "any"),
    ).reset_index()
    whole = (table["reached"] >= table["samples"]) & ~table["missing"]
    return table[whole].drop(columns=["reached", "missing"]).assign(status="ok").reset_index(drop=True)


def compare(rows: pd.DataFrame, descriptions: Descriptions) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every line of a study against the published runs of its algorithm, and why other lines are left out.

    Our curves are averaged as the published ones, and both are taken at the x at which every seed of both has
    a value. Columns:

    - `dataset`, `variant`, `algorithm`, `figure`
    - `compared`: the number of these x, out of `points` published ones
    - `inside`: at how many of them our mean lies between the lowest and the highest published seed
    - `estimate`, `low`, `high`: our area less theirs with its 95 % interval; NaN if there is one x only
    - `seeds`, `published_seeds`, and `evaluations`: how many are averaged in one of our values, on average

    Raises UserError if no line can be compared.
    """
    found, reasons = matching_runs(rows, descriptions)
    rows = analysis.with_values(rows)
    lines = []
    for name, (figure, size, published) in found.items():
        ours = rows[rows["dataset"] == name]
        first = published["samples"].min()
        if ours["samples"].max() < first:
            reasons[name] = f"ends at n = {ours['samples'].max()}, before the first published point, {first}"
            continue
        for variant, line in ours.groupby("variant", sort=False):
            algorithm = line["algorithm"].iloc[0]
            theirs = published[published["algorithm"] == algorithm].assign(variant=variant)
            key = {"dataset": name, "variant": variant, "algorithm": algorithm, "figure": figure}
            if theirs.empty:
                reasons[f"{name} with {variant}"] = "not an algorithm of the paper"
            elif compared := _compare_line(average_as_published(line, size), theirs, line["seed"].nunique()):
                lines.append(key | compared)
            else:
                reasons[f"{name} with {variant}"] = "no published point where every seed has a value"
    if not lines:
        raise UserError(f"nothing to compare with the published runs: {format_reasons(reasons)}")
    return pd.DataFrame(lines), reasons


def protocol_differences(study: Mapping[str, Any], figure: str, algorithms: set[str]) -> list[str]:
    """How the settings of a study differ from those of a figure, and the bugs of the figure's runs."""
    theirs = PRESETS["paper"][0]
    if figure == "mixed":
        theirs = replace(theirs, order=PRESETS["mixed"][0].order, window=PRESETS["mixed"][0].window)
    if figure == "finetune":
        theirs = replace(theirs, learning_rate_decay=False)  # none if an online phase follows
    ours = asdict(Protocol()) | study["protocol"]
    different = [
        f"{key} {ours[key]} ({value})" for key, value in asdict(theirs).items() if ours[key] != value
    ]
    evaluation = study["evaluation"]
    every = f"every {evaluation['every']}" if evaluation["every"] else f"at {evaluation['points']} points"
    different.append(
        f"evaluations {every}, of {evaluation['episodes']} episodes (every 5000, CQL's 10000, of 5 episodes, "
        "IQL's 10)"
    )
    different.append("initial weights from our own generator (other numbers of the same distributions)")
    bugs = [BUGS[name] for name in BUGS if name in algorithms] + [ONLINE_BUGS] * (figure == "finetune")
    lines = [f"{figure}: settings, the paper's in brackets: {', '.join(different)}"]
    return lines + [f"{figure}: in the paper's runs, and in no preset: {'; '.join(bugs)}"] * bool(bugs)


def format_reasons(reasons: Mapping[str, str]) -> str:
    """Reasons by name as one line: each reason once, after all the names it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(group)}: {reason}" for reason, group in names.items())


def _figure_and_name(name: str, description: Mapping[str, Any], online: bool) -> tuple[str, str] | None:
    """The figure and the paper's name of a dataset; None if the paper does not have it."""
    for mixed, known in datasets("mixed").items():
        if all(description[key] == known[key] for key in ("segments_in_turn", "segments")):
            return "mixed", mixed
    return ("finetune" if online else "fig1", name) if name in datasets("fig1") else None


def _compare_line(ours: pd.DataFrame, theirs: pd.DataFrame, seeds: int) -> dict[str, Any] | None:
    """The numbers of a line of `compare`; None if there is no x at which every seed of both has a value."""
    published_seeds = theirs["seed"].nunique()
    x = _shared_samples(ours, seeds) & _shared_samples(theirs, published_seeds)
    if not x:
        return None
    ours, theirs_at_x = (side[side["samples"].isin(x)].assign(phase="offline") for side in (ours, theirs))
    mean = ours.groupby("samples")["score"].mean()
    spread = theirs_at_x.groupby("samples")["score"].agg(["min", "max"])
    difference: Iterable[Any] = [np.nan] * 3
    if len(x) > 1:  # otherwise there is no area
        difference = mean_difference(areas(ours), areas(theirs_at_x))
    return {
        "compared": len(x),
        "points": theirs["samples"].nunique(),
        "inside": int(((spread["min"] <= mean) & (mean <= spread["max"])).sum()),
        **dict(zip(("estimate", "low", "high"), difference, strict=True)),
        "seeds": seeds,
        "published_seeds": published_seeds,
        "evaluations": ours["evaluations"].mean(),
    }


def _shared_samples(table: pd.DataFrame, seeds: int) -> set[int]:
    """The x at which this many seeds have a value."""
    counts = table.groupby("samples")["seed"].nunique()
    return set(counts.index[counts == seeds])
