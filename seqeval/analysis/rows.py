"""Lines of a figure: what each is worth at every x, and whether all its seeds are there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqeval.errors import UserError

LINE = ["dataset", "variant", "study"]  # what makes a line of a figure


def variants(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Each (variant, study) of rows, or of a table of statistics, in the order of first sight."""
    return list(rows[["variant", "study"]].drop_duplicates().itertuples(index=False, name=None))


def with_values(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `value`: the score where the dataset has reference returns, else the return.

    A dataset has one unit, named in `unit`: where any row of it that is ok has no score, or none is ok, all
    of it is in returns. The unit is `none` where there is no environment to evaluate in, and so no value.
    """
    scored = rows["score"].notna()
    in_scores = (scored | (rows["status"] != "ok")).groupby(rows["dataset"]).transform("all")
    in_scores &= scored.groupby(rows["dataset"]).transform("any")
    value = rows["score"].where(in_scores, rows["return_mean"]).astype(float)
    unit = in_scores.map({True: "score", False: "return"})
    return rows.assign(value=value, unit=unit.mask(rows["dataset"].isin(unevaluated(rows)), "none"))


def unevaluated(rows: pd.DataFrame) -> list[str]:
    """The datasets without an environment to evaluate in: rows that are ok, none with a return or a score."""
    valued = rows.loc[rows["score"].notna() | rows["return_mean"].notna(), "dataset"].unique()
    return [name for name in rows.loc[rows["status"] == "ok", "dataset"].unique() if name not in valued]


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and range over seeds at every x of every line.

    Columns: `study`, `dataset`, `variant`, `phase`, `samples`, `unit`, `mean`, `low` and `high` (lowest and
    highest seed), `seeds` (that have a value here) and `of` (seeds that the line has at all). A seed that
    failed, or that has not come this far, counts in `of` and not in `seeds`.
    """
    rows = with_values(rows)
    points = rows.groupby([*LINE, "phase", "samples", "unit"], sort=False)["value"]
    table = points.agg(mean="mean", low="min", high="max", seeds="count").reset_index()
    of = rows.groupby(LINE)["seed"].nunique().rename("of").reset_index()
    return table.merge(of, on=LINE).sort_values([*LINE, "samples"], ignore_index=True)


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """The last point of every line in each of its phases: the columns of `curves`, and `std` over seeds (n -
    1; NaN for one)."""
    rows = with_values(rows)
    each = [*LINE, "phase"]
    last = rows["samples"] == rows.groupby(each)["samples"].transform("max")
    std = rows[last].groupby(each)["value"].std().rename("std").reset_index()
    table = curves(rows).groupby(each, sort=False).tail(1)
    return table.merge(std, on=each).reset_index(drop=True)


def frozen(rows: pd.DataFrame) -> set[tuple[str, str, str]]:
    """The lines (dataset, variant, study) that go on online without learning: updates end with the data."""
    last = rows.groupby([*LINE, "phase"])["updates"].max().unstack("phase")
    if not {"offline", "online"} <= set(last.columns):
        return set()
    return set(last.index[last["online"] == last["offline"]])


def shortfalls(rows: pd.DataFrame) -> list[str]:
    """In words, each seed that is not all there (`incomplete`), and each line that is not (`unfinished`)."""
    return _seeds_in_words(incomplete(rows)) + _lines_in_words(unfinished(rows))


def _seeds_in_words(seeds: list[tuple[Any, ...]]) -> list[str]:
    return [f"{dataset}, {variant}, seed {seed}: {why}" for dataset, variant, _, seed, why in seeds]


def _lines_in_words(lines: pd.DataFrame) -> list[str]:
    return [
        f"{line['dataset']}, {line['variant']}: ends at n = {line['end']} of {line['planned']}"
        for line in lines.to_dict("records")
    ]


def incomplete(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """(dataset, variant, study, seed, why) of each seed that failed, has a value missing, does not come as
    far as its line does, or lacks points on the way that others of its line have."""
    rows = with_values(rows)
    n, lines = rows["samples"], rows.groupby(LINE, sort=False)
    of_line = rows.assign(
        place=lines.ngroup(),
        points=lines["samples"].transform("nunique"),
        end=lines["samples"].transform("max"),
        failed=n.where(rows["status"] != "ok"),
        missing=n.where(rows["value"].isna() & (rows["unit"] != "none")),
    )
    seeds = of_line.groupby(["place", *LINE, "seed"], sort=False).agg(
        points=("points", "first"),
        end=("end", "first"),
        failed=("failed", "min"),
        missing=("missing", "min"),
        reached=("samples", "max"),
        has=("samples", "nunique"),
    )
    found = []
    for seed in seeds.reset_index().sort_values("place", kind="stable").to_dict("records"):
        if not math.isnan(seed["failed"]):
            why = f"failed from n = {seed['failed']:.0f} on"
        elif not math.isnan(seed["missing"]):
            why = f"no value at n = {seed['missing']:.0f}"
        elif seed["reached"] < seed["end"]:
            why = f"ends at n = {seed['reached']}, others at {seed['end']}"
        elif seed["has"] < seed["points"]:
            why = f"lacks {seed['points'] - seed['has']} of {seed['points']} points"
        else:
            continue
        found.append((*(seed[name] for name in LINE), seed["seed"], why))
    return found


def with_planned(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with a column `planned`: the n at which their line ends when its study is finished, with the
    data or with the online phase behind it. `studies` are what study.json holds, by the study's name."""
    ends = {
        (name, dataset): about["transitions"] + study.get("online", {}).get("steps", 0)
        for name, study in studies.items()
        for dataset, about in study["datasets"].items()
    }
    each = ["study", "dataset"]
    planned = [ends[key] for key in rows[each].drop_duplicates().itertuples(index=False, name=None)]
    return rows.assign(planned=np.take(planned, rows.groupby(each, sort=False).ngroup()))


def unfinished(rows: pd.DataFrame) -> pd.DataFrame:
    """The lines of which no seed comes as far as `planned`: [dataset, variant, study, end, planned], `end`
    the last n there is. None where the rows have no such column (`with_planned`)."""
    planned = rows.get("planned", rows["samples"])
    each = rows.assign(planned=planned).groupby(LINE, sort=False)
    lines = each.agg(end=("samples", "max"), planned=("planned", "max")).reset_index()
    return lines[lines["end"] < lines["planned"]]


def complete(rows: pd.DataFrame, leave_out: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The rows for statistics, and a note for each seed (`incomplete`) and line (`unfinished`) that was left
    out, and for datasets without values.

    Raises UserError where a seed or a line is not all there and none is to be left out: those that get
    through are not a fair sample of all, if getting through has to do with the values.
    """
    without = unevaluated(rows)
    rows = rows[~rows["dataset"].isin(without)]
    notes = [f"not evaluated, so not in the statistics: {', '.join(without)}"] if without else []
    if rows.empty:
        raise UserError(f"no seed is left for statistics; {'; '.join(notes)}")
    wrong = incomplete(rows)
    seeds = _seeds_in_words(wrong)
    if seeds and not leave_out:
        finish = "" if all(each[4].startswith("failed") for each in wrong) else "finish the study, or "
        raise UserError(
            f"{_first(seeds)}: statistics want every seed; {finish}leave such seeds out with "
            "--leave-out-incomplete"
        )
    rows = without_those(rows, [each[:4] for each in wrong], [*LINE, "seed"])
    if rows.empty:
        raise UserError(f"{seeds[0]}: no seed is left for statistics; finish the study")
    short = unfinished(rows)
    lines = _lines_in_words(short)
    if lines and not leave_out:
        raise UserError(
            f"{_first(lines)}: statistics want finished studies; finish it, or leave such lines out with "
            "--leave-out-incomplete"
        )
    rows = without_those(rows, short[LINE].itertuples(index=False, name=None), LINE)
    if rows.empty:
        raise UserError(f"{lines[0]}: no line is left for statistics; finish the study")
    if "regime" in rows and rows["regime"].nunique() > 1:
        regimes = rows.drop_duplicates("study").set_index("study")["regime"]
        notes.append(f"regimes differ: {', '.join(f'{study} {name}' for study, name in regimes.items())}")
    return rows, [*notes, *(f"left out of the statistics: {each}" for each in [*seeds, *lines])]


def without_those(rows: pd.DataFrame, those: Iterable[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """The rows whose values in these columns are none of `those`."""
    return rows[~pd.MultiIndex.from_frame(rows[columns]).isin(list(those))]


def _first(told: list[str]) -> str:
    return told[0] + (f" (and {len(told) - 1} more)" if len(told) > 1 else "")


def comparable(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The offline rows for statistics over datasets, and a note for each thing to know: those of the datasets
    that have scores and that every line is on. Raises UserError where none is left."""
    notes = []
    offline = rows[rows["phase"] == "offline"]
    if online_alone := sorted({*rows["dataset"].unique()} - {*offline["dataset"].unique()}):
        notes.append(f"no offline phase, so not in statistics over datasets: {', '.join(online_alone)}")
    rows = with_values(offline)
    unscored = sorted(rows.loc[rows["unit"] != "score", "dataset"].unique())
    if unscored:
        notes.append(f"no scores, so not in statistics over datasets: {', '.join(unscored)}")
    rows = rows[rows["unit"] == "score"]
    lines = rows.groupby(["variant", "study"]).ngroups
    on = rows.drop_duplicates(LINE).groupby("dataset").size()
    partial = sorted(on.index[on < lines])
    if partial:
        notes.append(f"not of every line, so not in statistics over datasets: {', '.join(partial)}")
    rows = rows[~rows["dataset"].isin(partial)]
    if rows.empty:
        raise UserError(
            f"nothing to compare over datasets: {'; '.join(notes) if notes else 'no offline rows'}"
        )
    seeds = rows.groupby(LINE)["seed"].nunique()
    if seeds.min() < seeds.max() and rows["dataset"].nunique() > 1:
        notes.append(
            f"{seeds.min()} to {seeds.max()} seeds a line: every dataset weighs the same, whatever its seeds"
        )
    ends = rows.groupby(LINE)["samples"].max()
    differ = ends.groupby("dataset").nunique()
    notes += [
        f"{dataset}: lines end at n = {', '.join(map(str, sorted(set(ends[dataset]))))}, "
        "each is taken at its own end"
        for dataset in differ.index[differ > 1]
    ]
    return rows, notes
