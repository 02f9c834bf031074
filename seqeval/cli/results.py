"""The commands that print, draw and export the results of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from seqeval.errors import UserError, printable
from seqeval.figure_options import FigureOptions

from . import _exit_codes
from ._terminal import plain_console, print_notes

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def show_results(rows: pd.DataFrame, out: Path, figure: Path) -> int:
    """Prints the last points of a study, draws its curves, and returns the exit code."""
    from seqeval import analysis
    from seqeval.execution.storage import StudyDirectory
    from seqeval.plots import curves, style

    console = plain_console(stderr=False)
    study = StudyDirectory(out).study()
    about, rows = study["datasets"], analysis.with_planned_end(rows, {out.resolve().name: study})
    shown, notes = curves.FIGURE.prepare(rows)
    # Without an environment the table is about the metric that the figure shows.
    points, recipes = analysis.last_points(shown if "metric" in shown else rows), study.get("recipes", {})
    metric = shown["metric"].iloc[0] if "metric" in shown else None
    console.print(final_table(points, about, analysis.frozen_lines(rows), recipes, metric))
    for note in notes:
        console.print(f"note: {printable(note)}", highlight=False, markup=False)
    if len(shown):
        paths = style.save(curves.FIGURE.render(shown), figure)
        print(f"figure: {' and '.join(map(str, paths))}")
    return _exit_codes.FAILED_RUNS if (rows["status"] != "ok").any() else _exit_codes.SUCCESS


def final_table(
    points: pd.DataFrame,
    about: dict[str, Any],
    frozen: set[tuple[str, str, str]],
    recipes: Mapping[str, Mapping[str, Any]],
    metric: str | None = None,
) -> Table:
    """A printable table of `analysis.last_points`; `frozen` are the lines that do not learn online, `recipes`
    those of a study. `metric` is the column that the points are about, if not scores or returns."""
    from seqeval.types import Reference

    records = []
    for line in points.to_dict("records"):
        is_frozen = (line["dataset"], line["variant"], line["study"]) in frozen
        data = about[line["dataset"]]["behaviour_return"] if metric is None else None
        if data is not None and line["unit"] == "score":
            data = Reference(**about[line["dataset"]]["reference"]).score(data)
        seeds, total = line["seeds"], line["total_seeds"]
        if line["unit"] == "none":
            mean, seed_range, data, seeds = "not evaluated", "", None, total
        else:
            digits = ".1f" if metric is None else ".4g"
            mean = f"{line['mean']:{digits}}" + (f" ± {line['std']:{digits}}" if seeds > 1 else "")
            seed_range = f"{line['low']:{digits}} … {line['high']:{digits}}"
        recipe = recipes.get(line["dataset"], {}).get(line["variant"])
        settings = {"recipe": recipe["source"] if recipe else "none"} if any(recipes.values()) else {}
        records.append(
            {
                "dataset": line["dataset"],
                "algorithm": line["variant"],
                **settings,
                "phase": "online, frozen" if is_frozen and line["phase"] == "online" else line["phase"],
                "unit": metric or line["unit"],
                "mean ± std": mean,
                "range over seeds": seed_range,
                "seeds": f"{seeds}" if seeds == total else f"{seeds} of {total}",
                "at n": str(line["samples"]),
                "data's mean": "" if data is None else f"{data:.1f}",
            }
        )
    return text_table(records, 5 if any(recipes.values()) else 4)


def text_table(records: Sequence[dict[str, str]], text_columns: int) -> Table:
    """A printable table of rows by heading; all columns after the first `text_columns` hold numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, heading in enumerate(records[0]):
        table.add_column(heading, justify="left" if place < text_columns else "right", no_wrap=True)
    for record in records:
        table.add_row(*(Text(printable(cell)) for cell in record.values()))
    return table


def check_figure(path: Path) -> None:
    """Raises UserError unless the file name ends in .png, .pdf or .svg."""
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"{path}: the file name of a figure must end in .png, .pdf or .svg")


def read(command: str, directories: Sequence[Path]) -> pd.DataFrame:
    """The rows of study directories. Raises UserError, which names the command, if there is no directory."""
    from seqeval.execution.storage import frame

    if not directories:
        raise UserError(f"{command}: give at least one study directory")
    return frame(directories)


def write(text: str, out: Path) -> None:
    """Writes a whole file atomically, creates its folders, and prints its path."""
    from seqeval import atomic_io

    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.replacing(out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(out)


OPTIONS = FigureOptions()


def plot(
    directories: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    figure: str = "curves",
    published: tuple[str, ...] | None = None,
    leave_out_incomplete: bool = False,
    options: Annotated[FigureOptions, tyro.conf.arg(name="")] = OPTIONS,
) -> None:
    """Draw one figure of one or more study directories.

    Args:
        directories: Study directories.
        out: The figure file. .png or .pdf writes both PNG and PDF; .svg writes SVG.
        figure: curves: score against data, one panel per dataset. aggregate, ranks: over all datasets,
            against the share of data seen. intervals, profile, improvement: over all datasets, at the end of
            the data. sensitivity: over K and γ, from studies that differ only in these. best-of-k,
            tuning-map, setting, choice: what tuning is worth, from a study with a sweep. agreement: which
            metric could have chosen. Or path/to/file.py:NAME for a figure of your own.
        published: Draw published runs of the same algorithms and datasets behind the curves: those of a
            source that `seqeval published list` prints, or without a name those of the paper.
        leave_out_incomplete: Leave out seeds that failed or are not finished. Otherwise curves show them as
            far as they go, and other figures are refused.
    """
    from seqeval import analysis, plots
    from seqeval.plots import style

    check_figure(out)
    kind = plots.find(figure)
    if published is not None and not kind.published:
        raise UserError("plot: --published works only with --figure curves")
    source = None if published is None else source_of("plot", published)
    rows = read("plot", directories)
    if not (options.datasets or options.algorithms):
        print_notes(analysis.describe_absent(rows))
    rows, notes = kind.prepare(rows, options, leave_out_incomplete)
    if rows.empty:
        raise UserError(f"plot: {plots.nothing_to_draw(notes)}")
    extra = {} if source is None else {"published": published_runs(rows, source)}
    paths = style.save(kind.render(rows, options, **extra), out, options)
    print_notes(notes)
    for path in paths:
        print(path)


def source_of(command: str, names: tuple[str, ...]) -> str:
    """The source that --published names; the paper's own runs if it names none."""
    from seqeval.analysis import published

    if len(names) > 1:
        raise UserError(f"{command}: --published takes one source, not {', '.join(names)}")
    return published.find(names[0]).name if names else published.PAPER


def published_runs(rows: pd.DataFrame, source: str) -> pd.DataFrame | None:
    """The published runs to draw behind `rows`; prints which datasets have none, and what their x means."""
    from seqeval import analysis
    from seqeval.analysis import published

    found, reasons = published.overlay(rows, analysis.datasets_of(analysis.studies_of(rows)), source)
    if reasons:
        print_notes([f"no published runs: {published.format_reasons(reasons)}"])
    if found is not None and source != published.PAPER:
        print_notes([f"{source}: {published.find(source).x}"])
    return found


def compare(directory: tyro.conf.Positional[Path], published: tuple[str, ...] | None = None) -> None:
    """Check whether the curves of a study lie within the spread of the paper's own seeds, or compare the ends
    of its phases with another source of published results.

    Args:
        directory: Study directory.
        published: A source that `seqeval published list` prints, or without a name the paper's own runs
            (Sujit et al., arXiv 2212.08131). Required: there is nothing else to compare with.
    """
    from seqeval import analysis
    from seqeval.analysis import published as paper
    from seqeval.execution.storage import StudyDirectory, frame

    if published is None:
        raise UserError(
            "compare: add --published to compare with the paper's own runs, or --published SOURCE"
        )
    source = source_of("compare", published)
    rows, study = frame([directory]), StudyDirectory(directory).study()
    if source != paper.PAPER:
        print_ends(rows, source)
        return
    table, reasons = paper.compare(rows, study["datasets"])
    plain_console(stderr=False).print(comparison_table(table))
    print(
        "\nBoth are means of the evaluations in the 50 000 transitions up to x (10 of the paper's, CQL's 5),"
        " at the x at which every seed of both has a value.\n"
        "inside: the x at which our mean lies between the paper's lowest and highest seed."
    )
    for figure in table["figure"].unique():
        algorithms = set(table.loc[table["figure"] == figure, "algorithm"])
        for line in paper.protocol_differences(study, figure, algorithms):
            print(line)
    if reasons:
        print(f"not compared: {paper.format_reasons(reasons)}")
    print_notes(analysis.describe_incomplete(rows))


def print_ends(rows: pd.DataFrame, name: str) -> None:
    """Prints the ends of a study's phases next to the reference scores of a source."""
    from seqeval import analysis
    from seqeval.analysis import published

    studies, source = analysis.studies_of(rows), published.find(name)
    rows, notes = analysis.complete_rows(analysis.with_planned_end(rows, studies), leave_out=True)
    table, reasons = published.compare_ends(rows, analysis.datasets_of(studies), name)
    records = []
    for line in table.to_dict("records"):
        digits = 2 if line["statistic"] == "regret" else 1
        low, high, std = (line[key] for key in ("published_low", "published_high", "std"))
        spread = f" ± {std:.{digits}f}" if not isnan(std) else ""
        spread = f" [{low:.{digits}f}, {high:.{digits}f}]" if not isnan(low) else spread
        interval = f"{line['low']:.{digits}f} … {line['high']:.{digits}f}" if not isnan(line["low"]) else ""
        records.append(
            {
                "dataset": line["dataset"],
                "algorithm": line["variant"],
                "published statistic": line["statistic"],
                "ours": f"{line['estimate']:.{digits}f}",
                "95 % interval": interval,
                "seeds": f"{line['seeds']}",
                "our end": line["end"],
                "published": f"{line['published']:.{digits}f}{spread}",
                "their seeds": "" if isnan(line["published_seeds"]) else f"{line['published_seeds']:.0f}",
                "their end": line["published_end"],
                "ours less published": f"{line['estimate'] - line['published']:+.{digits}f}",
            }
        )
    plain_console(stderr=False).print(text_table(records, 3))
    print("\nOurs: at the end of the data; for `after` at the end of our online phase, for `regret` over it.")
    for statistic in table["statistic"].unique():
        print(f"{statistic}: {published.STATISTICS[statistic]}")
    spread = f"; next to it: {source.spread}" if source.spread else ""
    print(f"{name}: {source.unit}{spread}. {source.x} Its settings are its own.")
    if reasons:
        print(f"not compared: {published.format_reasons(reasons)}")
    print_notes(notes)


def comparison_table(compared: pd.DataFrame) -> Table:
    """A printable table of `published.compare`, one row per line of the study."""
    records = []
    for line in compared.to_dict("records"):
        has_area = line["compared"] > 1
        same = line["variant"] == line["algorithm"]
        records.append(
            {
                "dataset": line["dataset"],
                "algorithm": line["variant"] if same else f"{line['variant']} ({line['algorithm']})",
                "figure": line["figure"],
                "seeds": f"{line['seeds']}",
                "paper's": f"{line['published_seeds']}",
                "x compared": f"{line['compared']} of {line['points']}",
                "evals/x": f"{line['evaluations']:.1f}",
                "inside": f"{line['inside'] / line['compared']:.0%} ({line['inside']})",
                "area, ours less paper's": f"{line['estimate']:+.1f}" if has_area else "",
                "95 % interval": f"{line['low']:+.1f} … {line['high']:+.1f}" if has_area else "",
            }
        )
    return text_table(records, 3)


def export(directory: tyro.conf.Positional[Path], to: Path) -> None:
    """Write all rows of a study into one table, with a column per field and lists as JSON.

    Args:
        directory: Study directory.
        to: File that ends in .csv or .parquet.
    """
    from seqeval.execution.storage import export_table

    print(f"{export_table(directory, to)} rows in {to}")
