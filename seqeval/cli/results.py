"""What is made of run directories: tables and figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.table import Table

from seqeval.errors import UserError

from ._terminal import plain_console

if TYPE_CHECKING:
    import pandas as pd

FAILED_SEEDS = 3  # exit code: everything ran, but some seeds' numbers were not finite


def show_results(rows: pd.DataFrame, out: Path, figure: Path) -> int:
    """Prints the table of the last points, draws the figure, and returns the exit code."""
    from seqeval import aggregate
    from seqeval.storage import RunDirectory

    console = plain_console(stderr=False)
    about = RunDirectory(out).study()["datasets"]
    console.print(final_table(aggregate.final(rows), about, aggregate.frozen(rows)))
    for line in aggregate.shortfalls(rows):
        console.print(f"note: {line}", highlight=False, markup=False)
    print(f"figure: {' and '.join(map(str, draw(rows, about, figure)))}")
    return FAILED_SEEDS if (rows["status"] != "ok").any() else 0


def final_table(final: pd.DataFrame, about: dict[str, Any], frozen: set[tuple[str, str, str]]) -> Table:
    """The last point of every line in each phase, as people read it; `frozen` are lines that do not learn
    online."""
    from seqeval.types import Reference

    headers = (
        "dataset",
        "algorithm",
        "phase",
        "unit",
        "mean ± std",
        "range over seeds",
        "seeds",
        "at n",
        "data's mean",
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        left = header in ("dataset", "algorithm", "phase", "unit")
        table.add_column(header, justify="left" if left else "right", no_wrap=True)
    for line in final.to_dict("records"):
        is_frozen = (line["dataset"], line["variant"], line["study"]) in frozen
        data = about[line["dataset"]]["behaviour_return"]
        if data is not None and line["unit"] == "score":
            data = Reference(**about[line["dataset"]]["reference"]).score(data)
        table.add_row(
            line["dataset"],
            line["variant"],
            "online, frozen" if is_frozen and line["phase"] == "online" else line["phase"],
            line["unit"],
            f"{line['mean']:.1f}" + (f" ± {line['std']:.1f}" if line["seeds"] > 1 else ""),
            f"{line['low']:.1f} … {line['high']:.1f}",
            f"{line['seeds']}" if line["seeds"] == line["of"] else f"{line['seeds']} of {line['of']}",
            str(line["samples"]),
            "" if data is None else f"{data:.1f}",
        )
    return table


def draw(rows: pd.DataFrame, about: dict[str, Any], path: Path) -> list[Path]:
    """Draws the curves into a file."""
    from seqeval.plots import curves, style

    check_figure(path)
    return style.save(curves.figure(rows, about), path)


def check_figure(path: Path) -> None:
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"{path}: a figure's name ends in .png, .pdf or .svg")


def plot(directories: tyro.conf.Positional[tuple[Path, ...]], out: Path) -> None:
    """Draw the curves of run directories, together in one figure.

    Args:
        directories: Run directories.
        out: The figure; PNG and PDF are written beside each other, SVG alone.
    """
    from seqeval import aggregate
    from seqeval.storage import RunDirectory, frame

    if not directories:
        raise UserError("plot: name at least one run directory")
    rows = frame(directories)
    about: dict[str, Any] = {}
    for directory in directories:
        for name, dataset in RunDirectory(directory).study()["datasets"].items():
            if about.setdefault(name, dataset)["digest"] != dataset["digest"]:
                raise UserError(
                    f"{directory}: its {name!r} is not the data of that name in another directory"
                )
    for line in aggregate.shortfalls(rows):
        print(f"note: {line}", file=sys.stderr)
    for path in draw(rows, about, out):
        print(path)


def export(directory: tyro.conf.Positional[Path], to: Path) -> None:
    """Write every row of a run directory into one table, a column a field, lists as JSON.

    Args:
        directory: A run directory.
        to: A file that ends in .csv or .parquet.
    """
    from seqeval.storage import export_table

    print(f"{export_table(directory, to)} rows in {to}")
