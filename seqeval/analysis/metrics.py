"""The metrics of evaluators as values of rows: columns `eval/…`, each with a unit and a direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from seqeval.errors import UserError, nearest

from .lines import RUN

PREFIX = "eval/"


def declared_metrics(studies: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`unit` and `better` ("higher", "lower" or None) of each column that the evaluators of some studies
    (study.json) declare."""
    return {name: metric for study in studies for name, metric in study.get("metrics", {}).items()}


def with_metric(rows: pd.DataFrame, metric: str, declared: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows that have a metric, with it in the columns `value` and `unit`, as `with_values` for scores.

    Raises UserError if no row has it.
    """
    found = rows[rows[metric].notna()] if metric in rows else rows[:0]
    if found.empty:
        columns = map(str, rows.columns)
        known = sorted(c for c in columns if c.startswith(PREFIX) and rows[c].notna().any())
        variants, choice = ", ".join(rows["variant"].unique()), ", ".join(known) or "none"
        why = nearest(metric, known)
        if metric in declared and metric.endswith("_nll"):
            why = ", since their policies are deterministic"
        raise UserError(f"{metric}: no run of {variants} has this metric{why}; choose one of: {choice}")
    return found.assign(value=found[metric].astype(float), unit=declared.get(metric, {}).get("unit", ""))


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
