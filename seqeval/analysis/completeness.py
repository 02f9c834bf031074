"""Which seeds and lines are complete, and which can be compared over datasets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from seqeval.errors import UserError

from .lines import LINE, RUN, unevaluated_datasets, with_values


def with_planned_end(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with a column `planned`: the n at which their line ends when its study is finished.

    It includes the online phase. `studies` maps a study's name to its study.json. Published runs have no
    planned end, which is then NaN.
    """
    ends = {
        (name, dataset): description["transitions"] + study.get("online", {"steps": math.nan})["steps"]
        for name, study in studies.items()
        for dataset, description in study["datasets"].items()
    }
    return rows.assign(planned=[ends[key] for key in zip(rows["study"], rows["dataset"], strict=True)])


def planned_seeds(study: Mapping[str, Any]) -> dict[tuple[str, str], list[int]]:
    """The seeds that the commands of a study.json asked for, in ascending order, by dataset and variant."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for invocation in study["invocations"]:
        of_sweeps = invocation.get("sweep_seeds") or invocation["seeds"]
        for dataset, variants in invocation["updates"].items():
            for variant in variants:
                in_sweep = "sweep" in study["algorithms"][variant]
                found = seeds.setdefault((dataset, variant), set())
                found.update(of_sweeps if in_sweep else invocation["seeds"])
    return {line: sorted(found) for line, found in seeds.items()}


def invocation_seeds(study: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The seeds and the sweep seeds of all commands of a study.json together, in ascending order.

    There are no sweep seeds where sweeps have the seeds of the other variants.
    """
    seeds = {seed for invocation in study["invocations"] for seed in invocation["seeds"]}
    of_sweeps = {
        seed
        for invocation in study["invocations"]
        for seed in invocation.get("sweep_seeds") or invocation["seeds"]
    }
    return sorted(seeds), sorted(of_sweeps) if of_sweeps != seeds else []


def incomplete_seeds(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """(dataset, variant, study, seed, reason) of each incomplete seed.

    A seed is incomplete if it failed, has a missing value, ends before its line does, has fewer points than
    its line, or was planned but has no rows (`missing_seeds`).
    """
    missing = missing_seeds(rows)
    rows = with_values(rows)
    samples = rows["samples"]
    described = rows.assign(
        failed=samples.where(rows["status"] != "ok"),
        missing=samples.where(rows["value"].isna() & (rows["unit"] != "none")),
    )
    seeds = described.groupby(RUN, sort=False).agg(
        failed=("failed", "min"),
        missing=("missing", "min"),
        end=("samples", "max"),
        points=("samples", "nunique"),
    )
    points_of = rows.groupby(LINE)["samples"].nunique().to_dict()
    found = []
    for line, runs in seeds.reset_index().groupby(LINE, sort=False):
        end, points = runs["end"].max(), points_of[line]
        for seed in runs.to_dict("records"):
            if not math.isnan(seed["failed"]):
                reason = f"failed from n = {seed['failed']:.0f} on"
            elif not math.isnan(seed["missing"]):
                reason = f"no value at n = {seed['missing']:.0f}"
            elif seed["end"] < end:
                reason = f"ends at n = {seed['end']}, others at {end}"
            elif seed["points"] < points:
                reason = f"{points - seed['points']} of {points} points are missing"
            else:
                continue
            found.append((*line, seed["seed"], reason))
    return found + [(*run, "no rows, although the study planned it") for run in missing]


def missing_seeds(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """(dataset, variant, study, seed) of each seed that its study planned and that has no rows.

    Only datasets and variants of which the study has rows count, since others may have been left out on
    purpose. Rows without studies in their attrs, such as published runs, have no plan.
    """
    found = []
    for name, study in _planned(rows).items():
        of_study = rows[rows["study"] == name]
        datasets, variants = set(of_study["dataset"]), set(of_study["variant"])
        present = set(of_study[RUN].drop_duplicates().itertuples(index=False, name=None))
        for (dataset, variant), seeds in planned_seeds(study).items():
            if dataset in datasets and variant in variants:
                runs = [(dataset, variant, name, seed) for seed in seeds]
                found += [run for run in runs if run not in present]
    return found


def _planned(rows: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """The studies of the rows that say what they planned; those of published runs do not."""
    studies = rows.attrs.get("studies", {})
    return {name: study for name, study in studies.items() if "invocations" in study}


def describe_absent(rows: pd.DataFrame) -> list[str]:
    """A sentence for each dataset and variant of the studies that has no rows at all."""
    found = []
    for name, study in _planned(rows).items():
        of_study = rows[rows["study"] == name]
        for key, column in (("datasets", "dataset"), ("algorithms", "variant")):
            present = set(of_study[column])
            found += [
                f"{absent}: no rows, although {name} planned it"
                for absent in study[key]
                if absent not in present
            ]
    return found


def unfinished_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """The lines of which no seed reaches `planned`: [dataset, variant, study, end, planned].

    `end` is the last n of the line. Empty if the rows have no column `planned` (`with_planned_end`).
    """
    planned = rows.assign(planned=rows.get("planned", rows["samples"])).groupby(LINE, sort=False)
    lines = planned.agg(end=("samples", "max"), planned=("planned", "max")).reset_index()
    return lines[lines["end"] < lines["planned"]]


def describe_incomplete(rows: pd.DataFrame) -> list[str]:
    """A sentence for each incomplete seed and each unfinished line."""
    return _describe_seeds(incomplete_seeds(rows)) + _describe_lines(unfinished_lines(rows))


def _describe_seeds(seeds: Iterable[tuple[Any, ...]]) -> list[str]:
    return [f"{dataset}, {variant}, seed {seed}: {reason}" for dataset, variant, _, seed, reason in seeds]


def _describe_lines(lines: pd.DataFrame) -> list[str]:
    return [f"{x.dataset}, {x.variant}: ends at n = {x.end} of {x.planned}" for x in lines.itertuples()]


def complete_rows(rows: pd.DataFrame, leave_out: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The rows that statistics may use, and a note for each dataset, seed and line that is left out.

    Raises UserError for an incomplete seed or an unfinished line unless `leave_out` is set, since the seeds
    that finish are a biased sample if finishing depends on the values; and if nothing is left.
    """
    unevaluated = unevaluated_datasets(rows)
    rows = rows[~rows["dataset"].isin(unevaluated)]
    notes = [f"not evaluated, so not in the statistics: {', '.join(unevaluated)}"] if unevaluated else []
    if rows.empty:
        raise UserError(f"no seed is left for statistics; {'; '.join(notes)}")
    incomplete = incomplete_seeds(rows)
    seeds = _describe_seeds(incomplete)
    if seeds and not leave_out:
        failed = all(reason.startswith("failed") for *_, reason in incomplete)
        raise UserError(
            f"{_first(seeds)}: statistics need every seed; {'' if failed else 'finish the study, or '}leave "
            "out such seeds with --leave-out-incomplete"
        )
    rows = exclude(rows, [seed[:4] for seed in incomplete], RUN)
    if rows.empty:
        raise UserError(f"{seeds[0]}: no seed is left for statistics; finish the study")
    unfinished = unfinished_lines(rows)
    lines = _describe_lines(unfinished)
    if lines and not leave_out:
        raise UserError(
            f"{_first(lines)}: statistics need finished studies; finish the study, or leave out such lines "
            "with --leave-out-incomplete"
        )
    rows = exclude(rows, unfinished[LINE].itertuples(index=False, name=None), LINE)
    if rows.empty:
        raise UserError(f"{lines[0]}: no line is left for statistics; finish the study")
    if "regime" in rows and rows["regime"].nunique() > 1:
        regimes = rows.drop_duplicates("study").set_index("study")["regime"]
        notes.append(f"regimes differ: {', '.join(f'{study} {name}' for study, name in regimes.items())}")
    return rows, [*notes, *(f"left out of the statistics: {text}" for text in [*seeds, *lines])]


def _first(texts: list[str]) -> str:
    return texts[0] + (f" (and {len(texts) - 1} more)" if len(texts) > 1 else "")


def exclude(rows: pd.DataFrame, keys: Iterable[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """The rows whose values in `columns` are none of `keys`."""
    return rows[~pd.MultiIndex.from_frame(rows[columns]).isin(list(keys))]


def on_every_line(table: pd.DataFrame) -> np.ndarray:
    """The datasets of rows or of run values that every (variant, study) in them has."""
    lines = table.drop_duplicates(LINE)["dataset"].value_counts()
    return lines.index[lines == len(table.drop_duplicates(["variant", "study"]))].to_numpy()


def comparable_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The offline rows of the datasets that have scores and that every line has, and notes on what differs.

    Raises UserError if no row is left.
    """
    offline = with_values(rows[rows["phase"] == "offline"])
    scored = offline if "metric" in rows else offline[offline["unit"] == "score"]
    shared = scored[scored["dataset"].isin(on_every_line(scored))]
    names = [set(part["dataset"]) for part in (rows, offline, scored, shared)]
    reasons = ("no offline phase", "no scores", "not in every line")
    notes = [
        f"{reason}, so not in statistics over datasets: {', '.join(sorted(before - after))}"
        for reason, (before, after) in zip(reasons, pairwise(names), strict=True)
        if before - after
    ]
    rows = shared
    if rows.empty:
        raise UserError(f"nothing to compare over datasets: {'; '.join(notes) or 'no offline rows'}")
    seeds = rows.groupby(LINE)["seed"].nunique()
    if seeds.min() < seeds.max() and rows["dataset"].nunique() > 1:
        notes.append(
            f"{seeds.min()} to {seeds.max()} seeds per line: every dataset has the same weight, whatever its "
            "number of seeds"
        )
    for dataset, ends in rows.groupby(LINE)["samples"].max().groupby("dataset"):
        if ends.nunique() > 1:
            values = ", ".join(map(str, sorted(set(ends))))
            notes.append(f"{dataset}: lines end at n = {values}; each is taken at its own end")
    return rows, notes
