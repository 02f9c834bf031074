"""The metrics of evaluators as values of rows: columns `eval/…`, each with a unit and a direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqeval.errors import UserError, nearest

from .lines import LINE, RUN

PREFIX = "eval/"
SQUARED_ERROR = f"{PREFIX}prequential_squared_error"
BY_EPISODES = ("score", "return")  # values of episodes, which no evaluator declares


def declared_metrics(studies: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`unit` and `better` ("higher", "lower" or None) of each column that the evaluators of some studies
    (study.json) declare."""
    return {name: metric for study in studies for name, metric in study.get("metrics", {}).items()}


def with_metric(rows: pd.DataFrame, metric: str, declared: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of the lines that have a metric, with it as their value, which `with_values` keeps.

    `metric` is `score`, `return` or a column of numbers such as `eval/fqe` or `train/critic_loss`. The
    columns `metric`, `value`, `unit` and `better` ("higher", "lower" or None) are added. A line has no row
    where none of its runs has the metric (a prediction at N), nor before all of them have it (FQE before the
    first episodes are visible); its `planned` end, if it has arrived, is its last row. Raises UserError if
    no row has the metric.
    """
    column = {"return": "return_mean"}.get(metric, metric)
    columns = sorted(name for name in map(str, rows.columns) if name.startswith((PREFIX, "train/")))
    known = [name for name in (*BY_EPISODES, *columns) if _has(rows, name)]
    if metric not in known:
        names = rows["variant"].unique()
        variants = ", ".join(names) if len(names) <= 3 else f"{len(names)} variants"
        why = nearest(metric, known)
        if metric in declared and metric.endswith("_nll"):
            why = ", since their policies are deterministic"
        raise UserError(
            f"{metric}: no run of {variants} has this metric{why}; choose one of: "
            f"{', '.join(known) or 'none'}"
        )
    keys = [rows[name] for name in LINE]
    has = rows[column].notna()
    kept = has.groupby([*keys, rows["samples"], rows["phase"]]).transform("any")
    first = rows["samples"].where(has).groupby([*keys, rows["seed"]]).transform("min")
    kept &= rows["samples"] >= first.groupby(keys).transform("max")
    # Runs that failed stay, so that statistics are refused because of them.
    kept |= (rows["status"] != "ok") & has.groupby(keys).transform("any")
    found = rows[kept]
    about = declared.get(metric, {"unit": metric if metric in BY_EPISODES else "", "better": None})
    better = "higher" if metric in BY_EPISODES else about["better"]
    found = found.assign(metric=metric, value=found[column].astype(float), unit=about["unit"], better=better)
    if "planned" in rows:
        ends, last = (part.groupby(LINE)["samples"].max() for part in (rows, found))
        lines = pd.MultiIndex.from_frame(found[LINE])
        arrived = ends.reindex(lines).to_numpy() >= found["planned"].to_numpy()
        found["planned"] = np.where(arrived, last.reindex(lines).to_numpy(), found["planned"])
    return found


def _has(rows: pd.DataFrame, metric: str) -> bool:
    """Whether any row has a metric."""
    column = {"return": "return_mean"}.get(metric, metric)
    return column in rows and bool(rows[column].notna().any())


def late_seeds(rows: pd.DataFrame, metric: str) -> dict[tuple[Any, ...], tuple[int, list[int]]]:
    """For each line (dataset, variant, study) whose seeds do not all have a metric from the same n on: the n
    where it begins in `with_metric`, and the seeds that have no value before."""
    has = rows[{"return": "return_mean"}.get(metric, metric)].notna()
    found: dict[tuple[Any, ...], tuple[int, list[int]]] = {}
    for line, firsts in rows[has].groupby(RUN)["samples"].min().groupby(LINE):
        late = firsts[firsts == firsts.max()].index.get_level_values("seed")
        if firsts.min() < firsts.max():
            found[line] = int(firsts.max()), sorted(late)
    return found


def default_metric(rows: pd.DataFrame, declared: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What is shown of rows without returns: the prediction of what arrives next, by the likelihood of every
    line or, if one has none, by the squared error. If the rows have neither, the first declared metric that
    they have, if possible one with a direction. None if they have no metric."""
    names = [name for name in (f"{PREFIX}prequential_nll", SQUARED_ERROR) if _has(rows, name)]
    for name in names:
        if rows[name].notna().groupby([rows[key] for key in LINE]).any().all():
            return name
    if names:
        return names[-1]
    others = [name for name in declared if _has(rows, name)]
    return min(others, key=lambda name: declared[name]["better"] is None, default=None)


def lower_is_better(rows: pd.DataFrame) -> bool:
    """Whether the value that `with_metric` chose is better where it is lower. Raises UserError if the metric
    has no direction."""
    if "metric" not in rows:
        return False
    if rows["better"].isna().any():
        raise UserError(
            f"{rows['metric'].iloc[0]}: whether higher or lower is better is not declared, so nothing can "
            "be ranked by it; choose another with --value"
        )
    return bool((rows["better"] == "lower").any())


def ascending(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with values of which the higher is the better one: their negatives where lower is better."""
    return rows.assign(value=-rows["value"]) if lower_is_better(rows) else rows


def with_code_length(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `eval/prequential_code_length` (nats), if they have likelihoods.

    At n it is the negative log-likelihood of all actions that arrived from T0 to n, each predicted by the
    agent of the last point before it arrived: the sum of mean times number over the rows before. Bornschein,
    Li, Hutter, *Sequential Learning of Neural Networks for Prequential MDL* (arXiv 2210.07931).
    """
    nll, count = f"{PREFIX}prequential_nll", f"{PREFIX}prequential_transitions"
    if not {nll, count} <= set(rows.columns):
        return rows
    offline = rows[rows["phase"] == "offline"].sort_values([*RUN, "samples"])
    keys = [offline[key] for key in RUN]
    # A run has no likelihood at its last point, where nothing arrives any more, or has none at all.
    nats = (offline[nll] * offline[count]).where(offline[count].notna(), 0.0)
    total = nats.groupby(keys).cumsum() - nats
    broken = nats.isna().groupby(keys).cumsum() > 0
    missing = offline[nll].isna().groupby(keys).transform("all")
    return rows.assign(**{f"{PREFIX}prequential_code_length": total.mask(broken | missing)})
