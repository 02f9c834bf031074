"""The curves of the paper's figures: curves.csv.gz and dataset_scores.csv in this folder, from its authors.

Known facts: K = γ = 1 and T0 = 5000. `samples` in the file counts updates, N of them offline, so the last
5000 are made with all of the data. A score is the mean of the evaluations in the 50 000 updates up to its x;
there is none for a last interval that is not complete. N is D4RL's number of transitions (d4rl.csv); mixed
datasets are the first 333 000 transitions of random, of medium and of expert.

Derived: after u offline updates, n = min(N, u + 5000). Online there is one update per step, so after e steps
u = N + e and n = N + e = u. The file agrees: its last points are the last multiples of 50 000 up to N +
500 000, which u + 5000 would exceed. N determines which points are online; the first of them also averages
evaluations at the end of the offline phase.

A line has 3 to 8 seeds. Some seeds end before the others of their line, and in fig1 the seeds of TD3+BC on
medium-replay end one point before those of the other algorithms. The file does not hold the evaluations that
a point averages.
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
from seqeval.analysis.provenance import with_studies

FIGURES = ("fig1", "finetune", "mixed")
START = 5000  # T0
UPDATES_PER_POINT = 50_000  # that the mean of a point covers
TASKS = ("halfcheetah", "hopper", "walker2d")
LEVELS = ("random", "medium", "medium-replay", "medium-expert")
MIXED_LEVELS, MIXED_SIZE = ("random", "medium", "expert"), 333_000  # of mixed data; transitions of each part


@cache
def datasets(figure: str) -> dict[str, dict[str, Any]]:
    """Descriptions of the datasets of a figure as in study.json, in the order of its panels.

    For mixed datasets `segment_returns` holds the mean return of each part's whole dataset, since that of its
    first 333 000 transitions is not published, and `behaviour_return` is None.
    """
    if figure == "mixed":
        return {f"{task}-mixed-v2": _mixed(task) for task in TASKS}
    names = [f"{task}-{level}-v2" for level in LEVELS for task in TASKS]
    return {name: _single(name) for name in names}


def runs(figure: str) -> pd.DataFrame:
    """The runs of a figure as rows: study, dataset, algorithm, variant (the same), seed, phase, regime,
    samples (n, our x axis), updates, score, return_mean, status.

    The study is called `published`; it has datasets only.
    """
    table = _curves()[_curves()["figure"] == figure].rename(columns={"samples": "updates"})
    panels = pd.DataFrame(
        {"dataset": name, "panel": panel, "size": about["transitions"]} | about["reference"]
        for panel, (name, about) in enumerate(datasets(figure).items())
    )
    table = table.merge(panels, on="dataset")
    table = table.sort_values(["panel", "algorithm", "seed", "updates"], ignore_index=True)
    rows = pd.DataFrame(
        {
            "study": "published",
            "dataset": table["dataset"],
            "algorithm": table["algorithm"],
            "variant": table["algorithm"],
            "seed": table["seed"],
            "phase": np.where(table["updates"] > table["size"], "online", "offline"),
            "regime": "stream",
            "samples": samples_at(table["updates"].to_numpy(), table["size"].to_numpy()),
            "updates": table["updates"],
            "score": table["score"],
            "return_mean": table["minimum"] + table["score"] / 100 * (table["maximum"] - table["minimum"]),
            "status": "ok",
        }
    )
    return with_studies(rows, {"published": {"datasets": datasets(figure)}})


def samples_at(updates: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """n, the transitions seen, after this many of the paper's updates on a dataset of `size` transitions."""
    return np.minimum(updates + START, np.maximum(size, updates))


def updates_at(samples: np.ndarray, size: int) -> np.ndarray:
    """The number of the paper's updates after which n is first `samples`; the inverse of `samples_at`."""
    return np.where(samples > size, samples, samples - START)


@cache
def _curves() -> pd.DataFrame:
    """The published file: figure, dataset, algorithm, seed, samples, score. Cached, so not to be modified."""
    with (files("seqeval.analysis.published") / "curves.csv.gz").open("rb") as file:
        return pd.read_csv(file, compression="gzip")


def _d4rl_row(name: str) -> dict[str, str]:
    return next(row for row in references.d4rl_table() if row["dataset"] == name)


@cache
def _mean_returns() -> dict[str, float]:
    """The mean return of each dataset, from the scores in the published file."""
    text = (files("seqeval.analysis.published") / "dataset_scores.csv").read_text()
    returns = {}
    for row in csv.DictReader(text.splitlines()):
        scale = references.of_row(_d4rl_row(row["dataset"]))
        share = float(row["behaviour_score"]) / 100
        returns[row["dataset"]] = scale.minimum + share * (scale.maximum - scale.minimum)
    return returns


def _single(name: str) -> dict[str, Any]:
    row = _d4rl_row(name)
    size = int(row["usable_transitions"])
    return {
        "env_id": row["gymnasium_id"],
        "transitions": size,
        "behaviour_return": _mean_returns()[name],
        "reference": asdict(references.of_row(row)),
        "segments": [size],
        "segments_in_turn": [],
    }


def _mixed(task: str) -> dict[str, Any]:
    names = [f"{task}-{level}-v2" for level in MIXED_LEVELS]
    return _single(names[0]) | {
        "transitions": len(names) * MIXED_SIZE,
        "behaviour_return": None,
        "segments": [MIXED_SIZE] * len(names),
        "segments_in_turn": names,
        "segment_returns": [_mean_returns()[name] for name in names],
    }
