"""The curves of the paper's figures: curves.csv.gz and dataset_scores.csv beside this file, its authors' own.

What is known: K = γ = 1 and T0 = 5000; `samples` in the file counts updates, N of them offline, so that the
last 5000 are made with all of the data; a score is the mean of the evaluations in the 50 000 updates up to
its x, and there is none for a last 50 000 that is not whole. N is D4RL's number of transitions (d4rl.csv);
mixed data are the first 333 000 of random, of medium and of expert.

What is derived: after u updates offline n = min(N, u + 5000). Online there is an update a step, so after e
steps u = N + e, and n = N + e = u. The file agrees: its last points are the last multiples of 50 000 up to
N + 500 000, which u + 5000 would pass. Which points are online follows from N; the first of them is a mean
over the end of the offline phase too.

A line has 3 to 8 seeds. Some seeds end before the others of their line, and on medium-replay data in fig1
those of TD3+BC end one point before the other algorithms'. The evaluations that a point is the mean of are
not in the file.
"""

from __future__ import annotations

import csv
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from seqeval import references
from seqeval.types import Reference

FIGURES = ("fig1", "finetune", "mixed")
START = 5000  # T0
WIDTH = 50_000  # updates that a point is the mean over
TASKS = ("halfcheetah", "hopper", "walker2d")
LEVELS = ("random", "medium", "medium-replay", "medium-expert")
PARTS, PART = ("random", "medium", "expert"), 333_000  # of mixed data, and transitions of each


@cache
def datasets(figure: str) -> dict[str, dict[str, Any]]:
    """What a run directory says of each dataset, in the order of panels: a line a level, a column a task.

    Of mixed data `segment_returns` has the mean return of each part's whole dataset, since that of its first
    333 000 transitions is not published, and `behaviour_return` is None.
    """
    if figure == "mixed":
        return {f"{task}-mixed-v2": _mixed(task) for task in TASKS}
    return {f"{task}-{level}-v2": _single(f"{task}-{level}-v2") for level in LEVELS for task in TASKS}


def runs(figure: str) -> pd.DataFrame:
    """The runs of a figure as rows: study, dataset, algorithm, variant (the same), seed, phase, regime,
    samples (n, our x axis), updates, score, return_mean, status."""
    about, table = datasets(figure), _curves()
    table = table[table["figure"] == figure].rename(columns={"samples": "updates"})
    place = table["dataset"].map({name: place for place, name in enumerate(about)})
    order = table.assign(place=place).sort_values(["place", "algorithm", "seed", "updates"]).index
    table = table.loc[order].reset_index(drop=True)
    size = table["dataset"].map({name: each["transitions"] for name, each in about.items()})
    scale = {name: Reference(**each["reference"]) for name, each in about.items()}
    low = table["dataset"].map({name: each.minimum for name, each in scale.items()})
    high = table["dataset"].map({name: each.maximum for name, each in scale.items()})
    return pd.DataFrame(
        {
            "study": "published",
            "dataset": table["dataset"],
            "algorithm": table["algorithm"],
            "variant": table["algorithm"],
            "seed": table["seed"],
            "phase": np.where(table["updates"] > size, "online", "offline"),
            "regime": "stream",
            "samples": seen(table["updates"].to_numpy(), size.to_numpy()),
            "updates": table["updates"],
            "score": table["score"],
            "return_mean": low + table["score"] / 100 * (high - low),
            "status": "ok",
        }
    )


def seen(updates: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """n, the transitions seen, after so many updates of theirs on `size` transitions of data."""
    return np.minimum(updates + START, np.maximum(size, updates))


def updates_at(samples: np.ndarray, size: int) -> np.ndarray:
    """The updates of theirs after which n was first `samples`: what `seen` turns back."""
    return np.where(samples > size, samples, samples - START)


@cache
def _curves() -> pd.DataFrame:
    """The file as it is: figure, dataset, algorithm, seed, samples, score. To be read, not changed."""
    with (files("seqeval.analysis.published") / "curves.csv.gz").open("rb") as file:
        return pd.read_csv(file, compression="gzip")


@cache
def _table() -> dict[str, dict[str, str]]:
    return {row["dataset"]: row for row in references.d4rl_table()}


@cache
def _mean_returns() -> dict[str, float]:
    """The mean return of each dataset; the file has it as a score."""
    text = (files("seqeval.analysis.published") / "dataset_scores.csv").read_text()
    found = {}
    for row in csv.DictReader(text.splitlines()):
        scale = references.of_row(_table()[row["dataset"]])
        share = float(row["behaviour_score"]) / 100
        found[row["dataset"]] = scale.minimum + share * (scale.maximum - scale.minimum)
    return found


def _single(name: str) -> dict[str, Any]:
    row = _table()[name]
    size = int(row["usable_transitions"])
    return {
        "env_id": references.environment_of(row),
        "transitions": size,
        "behaviour_return": _mean_returns()[name],
        "reference": asdict(references.of_row(row)),
        "segments": [size],
        "segments_in_turn": [],
    }


def _mixed(task: str) -> dict[str, Any]:
    names = [f"{task}-{part}-v2" for part in PARTS]
    return _single(names[0]) | {
        "transitions": len(names) * PART,
        "behaviour_return": None,
        "segments": [PART] * len(names),
        "segments_in_turn": names,
        "segment_returns": [_mean_returns()[name] for name in names],
    }
