"""Reference scores: one number per source, dataset, algorithm and statistic, for tables and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import pandas as pd

from .runs import runs
from .sources import OUR_NAMES, PAPER, SOURCES, curves, require_dataset, settings, table_scores

STATISTICS: Mapping[str, str] = {
    "last": "the last evaluation of offline training",
    "best": "the mean over seeds of each seed's highest evaluation, which is optimistic",
    "before": "the last evaluation of offline training, before fine-tuning",
    "after": "the last evaluation of fine-tuning",
    "regret": "the share of online training episodes without success (0 to 1), over the whole online phase",
    "one setting": "the expected score of one setting, drawn at random from the sweep",
    "best setting": "the highest score of all settings of the sweep",
}
COLUMNS = ["source", "dataset", "algorithm", "statistic", "mean", "std", "low", "high", "seeds"]


def reference_scores(datasets: Sequence[str] = (), sources: Sequence[str] = tuple(SOURCES)) -> pd.DataFrame:
    """The published scores on these datasets (default: all): [source, dataset, algorithm, statistic, mean,
    std, low, high, seeds].

    `statistic` is one of `STATISTICS`, `algorithm` the published name. `std` divides by the number of seeds;
    it is NaN, as are the ends of the 95 % interval and the number of seeds, where the source has none. Raises
    UserError if a source or a dataset is not known.
    """
    table = pd.concat([_scores_of(name) for name in sources], ignore_index=True)
    for name in datasets:
        require_dataset(name, table["dataset"])
    if datasets:
        table = table[table["dataset"].isin(datasets)]
    orders = {"statistic": list(STATISTICS), "source": list(sources), "dataset": list(datasets)}
    orders["dataset"] = orders["dataset"] or sorted(table["dataset"].unique())
    return table.sort_values(
        ["dataset", "source", "algorithm", "statistic"],
        key=lambda column: column.map(orders[column.name].index) if column.name in orders else column,
        ignore_index=True,
    )


@cache
def _scores_of(name: str) -> pd.DataFrame:
    """The reference scores of a source. Cached, so not to be modified."""
    parts = [table_scores(name), _of_curves(curves(name)), _of_settings(settings(name))]
    if name == PAPER:
        parts.append(_of_paper())
    found = pd.concat([part for part in parts if len(part)])
    return found.assign(source=name).reindex(columns=COLUMNS)


def _of_curves(table: pd.DataFrame) -> pd.DataFrame:
    """The ends of both phases of learning curves that continue online."""
    keys = ["dataset", "algorithm", "phase"]
    last = table[table["x"] == table.groupby(keys)["x"].transform("max")]
    ends = last.groupby(keys, as_index=False).agg(
        mean=("score", "mean"),
        std=("score", _std),
        low=("low", "mean"),
        high=("high", "mean"),
        seeds=("seed", "count"),
    )
    without_seeds = ends["seeds"] == 0
    ends = ends.assign(
        statistic=ends["phase"].map({"offline": "before", "online": "after"}),
        std=ends["std"].mask(without_seeds),
        seeds=ends["seeds"].mask(without_seeds),
    )
    return ends.drop(columns="phase")


def _of_settings(table: pd.DataFrame) -> pd.DataFrame:
    """The expected score of one setting, and the highest of all."""
    found = []
    for key, part in table.groupby(["dataset", "algorithm"]):
        found.append((*key, "one setting", part["score"].mean()))
        found.append((*key, "best setting", part["score"].max()))
    return pd.DataFrame(found, columns=["dataset", "algorithm", "statistic", "mean"])


def _of_paper() -> pd.DataFrame:
    """The last points of the paper's runs that reach the end of their line."""
    names = {ours: published for published, ours in OUR_NAMES.items()}
    parts = []
    for figure, statistic in (
        ("fig1", "last"),
        ("mixed", "last"),
        ("finetune", "before"),
        ("finetune", "after"),
    ):
        rows = runs(figure)
        rows = rows[rows["phase"] == ("online" if statistic == "after" else "offline")]
        keys = ["dataset", "algorithm"]
        last = rows[rows["samples"] == rows.groupby(keys)["samples"].transform("max")]
        ends = last.groupby(keys, as_index=False).agg(
            mean=("score", "mean"), std=("score", _std), seeds=("seed", "size")
        )
        parts.append(ends.assign(statistic=statistic))
    table = pd.concat(parts)
    return table.assign(algorithm=table["algorithm"].map(names))


def _std(values: pd.Series) -> float:
    return float(values.std(ddof=0))
