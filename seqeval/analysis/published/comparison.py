"""A study beside the paper's runs: which of them belong to it, and whether its curves lie among theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seqeval import analysis
from seqeval.config import PRESETS, Protocol
from seqeval.errors import UserError

from .runs import LEVELS, TASKS, WIDTH, datasets, runs, seen, updates_at

CLOSE = 0.01  # of the number of transitions: the rules for data differ in a few
UNKNOWN = f"not a dataset of the paper, which has {', '.join(TASKS)}: {', '.join(LEVELS)}"

# In the paper's runs, and copied by no preset.
BUGS = {
    "td3_bc": "TD3+BC's target noise is N(0, 1) and its first weights are the same for all seeds",
    "cql": "CQL's actions are clipped at 0.999",
}
ONLINE_BUGS = "online, a ring buffer overwrites the data, timeouts count as terminals and no noise explores"


class Counterpart(NamedTuple):
    """The published runs that belong to a dataset of a study."""

    figure: str
    size: int  # transitions that the paper has of it
    rows: pd.DataFrame  # of the algorithms that the study has too, under the study's name of the dataset


def counterparts(
    rows: pd.DataFrame, about: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Counterpart], dict[str, str]]:
    """The published runs of each dataset of `rows`, by its name there, and why each other has none.

    `about` is what the run directory says of the datasets. Data of D4RL have runs by their names: those that
    go on online, if any of `rows` does, else those of fig1. Mixed data have them where they are joined from
    the paper's parts, in the paper's sizes, and arrive in turn. What is learnt without data is left out.
    """
    rows = analysis.with_values(rows)
    found: dict[str, Counterpart] = {}
    without: dict[str, str] = {}
    for name in rows["dataset"].unique():
        mine = rows[rows["dataset"] == name]
        if not about[name]["transitions"]:
            continue
        known = _published(name, about[name], "online" in set(mine["phase"]))
        if known is None:
            without[name] = UNKNOWN
            continue
        figure, called = known
        theirs = datasets(figure)[called]
        if mine["unit"].iloc[0] != "score" or not _same_scale(about[name]["reference"], theirs["reference"]):
            without[name] = "not in scores between D4RL's reference returns"
            continue
        here, there = about[name]["transitions"], theirs["transitions"]
        if abs(here - there) > CLOSE * there:
            without[name] = f"has {here} transitions, and the paper's data {there}"
            continue
        published = runs(figure)
        published = published[
            (published["dataset"] == called) & published["algorithm"].isin(mine["algorithm"])
        ]
        if published.empty:
            without[name] = f"none of its algorithms is the paper's ({', '.join(mine['algorithm'].unique())})"
            continue
        found[name] = Counterpart(figure, theirs["transitions"], published.assign(dataset=name))
    return found, without


def averaged(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    """Rows of one dataset with values as the paper has its own: a row of each seed for every 50 000 updates.

    `samples` is the end of the 50 000 on our x axis, `size` the transitions that the paper has of the data,
    and `evaluations` how many rows the score is the mean of. A seed has no row where it did not come as far
    as `samples`, where it was not evaluated in the 50 000, or where one of its values there is missing.
    """
    end = np.ceil(updates_at(rows["samples"].to_numpy(), size) / WIDTH).astype(int) * WIDTH
    each = [*analysis.LINE, "seed"]
    placed = rows.assign(
        samples=seen(end, size),
        updates=end,
        reached=rows.groupby(each)["samples"].transform("max"),
        missing=rows["value"].isna(),
    )
    points = placed[placed["updates"] > 0].groupby([*each, "updates", "samples", "reached"], sort=False)
    table = points.agg(
        score=("score", "mean"),
        return_mean=("return_mean", "mean"),
        evaluations=("seed", "size"),
        missing=("missing", "any"),
    ).reset_index()
    whole = (table["reached"] >= table["samples"]) & ~table["missing"]
    return table[whole].drop(columns=["reached", "missing"]).assign(status="ok").reset_index(drop=True)


def compare(
    rows: pd.DataFrame, about: Mapping[str, Mapping[str, Any]]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every line of a study against the published runs of its algorithm, and why datasets or lines are not in
    the table.

    Ours is averaged as theirs, and both are taken at the x where every seed of both has a value. Columns:
    `dataset`, `variant`, `algorithm`, `figure`; `compared` of their `points` x, at `inside` of which the mean
    of ours lies between the lowest and the highest of their seeds; the area of ours less that of theirs
    (`estimate`, in points of score; NaN where there is a single x) with its 95 % interval, `low` and `high`,
    over the `seeds` of ours and the `published_seeds`; `evaluations` that a value of ours is the mean of, on
    average. Raises UserError where no line can be compared.
    """
    found, without = counterparts(rows, about)
    rows = analysis.with_values(rows)
    lines = []
    for name, (figure, size, published) in found.items():
        mine = rows[rows["dataset"] == name]
        first = published["samples"].min()
        if mine["samples"].max() < first:
            without[name] = f"ends at n = {mine['samples'].max()}, before the first published point, {first}"
            continue
        for variant, ours in mine.groupby("variant", sort=False):
            algorithm = ours["algorithm"].iloc[0]
            theirs = published[published["algorithm"] == algorithm].assign(variant=variant)
            line = {"dataset": name, "variant": variant, "algorithm": algorithm, "figure": figure}
            if theirs.empty:
                without[f"{name} with {variant}"] = "not an algorithm of the paper"
            elif compared := _line(averaged(ours, size), theirs, ours["seed"].nunique()):
                lines.append(line | compared)
            else:
                without[f"{name} with {variant}"] = "no published point where every seed has a value"
    if not lines:
        raise UserError(f"nothing to compare with the published runs: {in_words(without)}")
    return pd.DataFrame(lines), without


def differences(study: Mapping[str, Any], figure: str, algorithms: set[str]) -> list[str]:
    """What a resolved study does otherwise than the runs of a figure, and what of theirs no preset copies."""
    theirs = PRESETS["paper"][0]
    if figure == "mixed":
        theirs = replace(theirs, order=PRESETS["mixed"][0].order, window=PRESETS["mixed"][0].window)
    if figure == "finetune":
        theirs = replace(theirs, learning_rate_decay=False)  # they have none where an online phase follows
    ours = asdict(Protocol()) | study["protocol"]
    otherwise = [
        f"{key} {ours[key]} ({value})" for key, value in asdict(theirs).items() if ours[key] != value
    ]
    evaluation = study["evaluation"]
    every = f"every {evaluation['every']}" if evaluation["every"] else f"at {evaluation['points']} points"
    otherwise.append(
        f"evaluations {every}, of {evaluation['episodes']} episodes (every 5000, CQL's 10000, of 5 episodes, "
        "IQL's 10)"
    )
    bugs = [BUGS[name] for name in BUGS if name in algorithms] + [ONLINE_BUGS] * (figure == "finetune")
    lines = [f"{figure}: settings, the paper's in brackets: {', '.join(otherwise)}"]
    return lines + [f"{figure}: in the paper's runs, and in no preset: {'; '.join(bugs)}"] * bool(bugs)


def in_words(without: Mapping[str, str]) -> str:
    """Reasons in one line, each with all the names that it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in without.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(each)}: {reason}" for reason, each in names.items())


def _published(name: str, about: Mapping[str, Any], online: bool) -> tuple[str, str] | None:
    """Figure and name of a dataset in the paper; None where it is not there."""
    parts = about.get("segments_in_turn", ())
    for mixed, known in datasets("mixed").items():
        if [*parts] == known["segments_in_turn"] and about["segments"] == known["segments"]:
            return "mixed", mixed
    return ("finetune" if online else "fig1", name) if name in datasets("fig1") else None


def _same_scale(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return all(ours[end] == theirs[end] for end in ("minimum", "maximum"))


def _line(ours: pd.DataFrame, theirs: pd.DataFrame, seeds: int) -> dict[str, Any] | None:
    """The numbers of a line of `compare`; None without an x at which every seed of both has a value."""
    x = sorted(_of_all(ours, seeds) & _of_all(theirs, theirs["seed"].nunique()))
    if not x:
        return None
    sides = [side[side["samples"].isin(x)].assign(phase="offline") for side in (ours, theirs)]  # one curve
    mean = sides[0].groupby("samples")["score"].mean()
    spread = sides[1].groupby("samples")["score"].agg(["min", "max"])
    inside = (spread["min"] <= mean) & (mean <= spread["max"])
    area = analysis.difference(analysis.areas(sides[0]), analysis.areas(sides[1])).to_dict("records")
    ends = ("estimate", "low", "high")
    return {
        "compared": len(x),
        "points": theirs["samples"].nunique(),
        "inside": int(inside.sum()),
        **{end: area[0][end] if area else np.nan for end in ends},
        "seeds": seeds,
        "published_seeds": theirs["seed"].nunique(),
        "evaluations": sides[0]["evaluations"].mean(),
    }


def _of_all(table: pd.DataFrame, seeds: int) -> set[int]:
    """The x at which as many seeds have a value."""
    counts = table.groupby("samples")["seed"].nunique()
    return set(counts.index[counts == seeds])
