"""`seqeval published`: list, show, tabulate and draw published results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ._terminal import plain_console, print_facts, print_notes
from .results import check_figure, text_table, write

if TYPE_CHECKING:
    import pandas as pd


def list_sources() -> None:
    """List the sources of published results that are part of the package."""
    from seqeval.analysis import published

    width = max(map(len, published.SOURCES))
    for name, source in published.SOURCES.items():
        print(f"{name:{width}}  {source.content}")


def show_source(name: tyro.conf.Positional[str]) -> None:
    """Show the citation, the licence, the unit and the meaning of the x axis of a source, and what it has.

    Args:
        name: A name that `seqeval published list` prints.
    """
    from seqeval.analysis import published

    source = published.find(name)
    scores = published.reference_scores(sources=[name])
    facts = {
        "content": source.content,
        "citation": source.citation,
        "from": f"{source.address}: {source.file}",
        "licence": source.licence,
        "unit": source.unit,
        "x axis": source.x,
        "spread": source.spread or "not released",
        "scores": ", ".join(s for s in published.STATISTICS if s in set(scores["statistic"])),
        "algorithms": ", ".join(sorted(scores["algorithm"].unique(), key=str.lower)),
        "datasets": ", ".join(scores["dataset"].unique()),
    }
    print_facts(facts)


def table_of_scores(
    datasets: tyro.conf.Positional[tuple[str, ...]],
    source: tuple[str, ...] = (),
    out: Path | None = None,
) -> None:
    """Print the published scores on datasets: the last and the best score, those before and after
    fine-tuning, and regret, by source and algorithm.

    Args:
        datasets: Names of datasets, such as hopper-medium-v2 (default: all).
        source: Only these sources (default: all).
        out: Write all numbers with all digits to this CSV file instead of printing.
    """
    from seqeval.analysis import published, tables

    for name in source:
        published.find(name)
    table = published.reference_scores(datasets, source or tuple(published.SOURCES))
    if out is not None:
        write(tables.csv(table), out)
        return
    statistics = [name for name in published.STATISTICS if name in set(table["statistic"])]
    records = []
    for (dataset, of_source, algorithm), part in table.groupby(
        ["dataset", "source", "algorithm"], sort=False
    ):
        cells = {row["statistic"]: _cell(row) for row in part.to_dict("records")}
        record = {"dataset": str(dataset), "source": str(of_source), "algorithm": str(algorithm)}
        records.append(record | {name: cells.get(name, "") for name in statistics} | {"seeds": _seeds(part)})
    plain_console(stderr=False).print(text_table(records, 3))
    print()
    for name in statistics:
        print(f"{name}: {published.STATISTICS[name]}")
    for name in table["source"].unique():
        about = published.SOURCES[name]
        spread = f"; next to it: {about.spread}" if about.spread else ""
        print(f"{name}: {about.unit}{spread}. {about.x} {about.citation}")


def _cell(row: Mapping[Any, Any]) -> str:
    """A mean, and next to it its standard deviation or its interval."""
    digits = 2 if row["statistic"] == "regret" else 1
    mean = f"{row['mean'] + 0.0:.{digits}f}"
    if not math.isnan(row["std"]):
        return f"{mean} ± {row['std']:.{digits}f}"
    return mean if math.isnan(row["low"]) else f"{mean} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def _seeds(part: pd.DataFrame) -> str:
    """The numbers of seeds of an algorithm's scores; empty where the source does not state them."""
    return ", ".join(f"{seeds:.0f}" for seeds in part["seeds"].dropna().unique())


def plot_figure(figure: Literal["fig1", "finetune", "mixed"], out: Path) -> None:
    """Draw a figure of the paper from its own runs (Sujit et al., arXiv 2212.08131).

    Args:
        figure: fig1: five algorithms on twelve D4RL datasets. finetune: the same agents continue online for
            500 000 steps. mixed: random, medium and expert data in turn.
        out: File of the figure. .png and .pdf write both files, .svg writes one.
    """
    from seqeval import analysis
    from seqeval.analysis import published
    from seqeval.plots import curves, style

    check_figure(out)
    rows = published.runs(figure)
    print_notes(analysis.describe_incomplete(rows))
    print_notes(["a point is the mean of a seed's evaluations in the 50 000 updates up to it"])
    for path in style.save(curves.FIGURE.render(rows), out):
        print(path)


app = tyro.extras.SubcommandApp()
app.command(name="list")(list_sources)
app.command(name="show")(show_source)
app.command(name="table")(table_of_scores)
app.command(name="plot")(plot_figure)
