"""Which rows a figure shows, in which order, and under which names."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from seqeval import analysis
from seqeval.errors import UserError, nearest
from seqeval.figure_options import FigureOptions

NOUNS = {"dataset": "datasets", "variant": "algorithms"}  # in study.json and in the options, by column


def select(rows: pd.DataFrame, options: FigureOptions) -> pd.DataFrame:
    """The rows of the datasets and variants in `options`, sorted by variant and study (see `order`).

    Raises UserError for a dataset or variant without rows.
    """
    for column in NOUNS:
        rows = rows[rows[column].isin(order(rows, column, options))]
    rows = _sorted(rows, "study", list(analysis.studies_of(rows)))
    return _sorted(rows, "variant", order(rows, "variant", options))


def order(rows: pd.DataFrame, column: str, options: FigureOptions) -> list[str]:
    """The datasets or variants of the rows, in the order of `options`; by default in the order in which the
    studies were loaded and in which their command lines name them."""
    chosen = options.datasets if column == "dataset" else options.algorithms
    present = list(rows[column].unique())
    for name in chosen:
        if name not in present:
            hint = nearest(name, present)
            raise UserError(f"{NOUNS[column]}: no rows of {name!r}{hint}; there are {', '.join(present)}")
    studies = analysis.studies_of(rows).values()
    given = [name for study in studies for name in study.get(NOUNS[column], ())]
    return [name for name in dict.fromkeys(chosen or [*given, *present]) if name in present]


def _sorted(rows: pd.DataFrame, column: str, order: list[str]) -> pd.DataFrame:
    """The rows sorted by the place of a column's values in `order`; equal ones keep their order."""
    places = {name: place for place, name in enumerate(order)}
    return rows.sort_values(column, key=lambda names: names.map(places), kind="stable")


def names(rows: pd.DataFrame, options: FigureOptions) -> dict[str, str]:
    """The text for each name in `options.labels`, which are variants, datasets or studies of the rows.

    Names may contain `=`: the longest known name counts. Raises UserError for an unknown name.
    """
    known = [name for column in ("variant", "dataset", "study") for name in rows[column].unique()]
    found = {}
    for label in options.labels:
        matching = [name for name in known if label.startswith(f"{name}=")]
        if not matching:
            name = label.partition("=")[0]
            raise UserError(
                f"labels: {name!r} is no variant, dataset or study of the figure{nearest(name, known)}; "
                f"there are {', '.join(dict.fromkeys(known))}"
            )
        name = max(matching, key=len)
        found[name] = label[len(name) + 1 :]
    return found


def refuse_useless(options: FigureOptions, accepted: Iterable[str], bands: tuple[str, ...]) -> None:
    """Raises UserError for an option that would change nothing, or for a band that is not one of `bands`."""
    if useless := [option for option in options.given if option not in accepted]:
        flags = " and ".join(f"--{option}" for option in useless)
        raise UserError(f"plot: {flags} would change nothing in this figure; leave {flags} out")
    if options.band not in (None, *bands):
        raise UserError(f"plot: --band {options.band}: this figure draws only {' or '.join(bands)}")
