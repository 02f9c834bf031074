"""What is made of run directories: tables and figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.table import Table

from seqeval.errors import UserError

from ._terminal import plain_console

if TYPE_CHECKING:
    import pandas as pd

FAILED_SEEDS = 3  # exit code: everything ran, but some seeds' numbers were not finite


def show_results(rows: pd.DataFrame, out: Path, figure: Path) -> int:
    """Prints the table of the last points, draws the figure, and returns the exit code."""
    from seqeval import analysis
    from seqeval.execution.storage import StudyDirectory
    from seqeval.plots import curves, style

    console = plain_console(stderr=False)
    study = StudyDirectory(out).study()
    about, rows = study["datasets"], analysis.with_planned(rows, {out.resolve().name: study})
    console.print(final_table(analysis.final(rows), about, analysis.frozen(rows)))
    for line in analysis.shortfalls(rows):
        console.print(f"note: {line}", highlight=False, markup=False)
    shown, left_out = drawable(rows)
    if left_out:
        print(f"not drawn: {left_out}")
    if len(shown):
        paths = style.save(curves.figure(shown, {out.name: study}), figure)
        print(f"figure: {' and '.join(map(str, paths))}")
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
        if line["unit"] == "none":
            mean, of_range, data, line["seeds"] = "not evaluated", "", None, line["of"]
        else:
            mean = f"{line['mean']:.1f}" + (f" ± {line['std']:.1f}" if line["seeds"] > 1 else "")
            of_range = f"{line['low']:.1f} … {line['high']:.1f}"
        table.add_row(
            line["dataset"],
            line["variant"],
            "online, frozen" if is_frozen and line["phase"] == "online" else line["phase"],
            line["unit"],
            mean,
            of_range,
            f"{line['seeds']}" if line["seeds"] == line["of"] else f"{line['seeds']} of {line['of']}",
            str(line["samples"]),
            "" if data is None else f"{data:.1f}",
        )
    return table


def drawable(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of datasets that were evaluated, and in words which were not, empty where all were."""
    from seqeval import analysis

    without = analysis.unevaluated(rows)
    why = f"{', '.join(without)} (no environment, so no returns and no scores)" if without else ""
    return rows[~rows["dataset"].isin(without)], why


def check_figure(path: Path) -> None:
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"{path}: a figure's name ends in .png, .pdf or .svg")


def read(command: str, directories: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The rows of run directories, and what is in the study.json of each, by the study's name.

    Raises UserError, which begins with the command's name, where there is no directory, and where a dataset's
    name stands for other data in another one.
    """
    from seqeval.execution.storage import StudyDirectory, frame

    if not directories:
        raise UserError(f"{command}: name at least one run directory")
    rows = frame(directories)
    studies = {directory.resolve().name: StudyDirectory(directory).study() for directory in directories}
    data: dict[str, tuple[str, Path]] = {}
    for directory, study in zip(directories, studies.values(), strict=True):
        for name, dataset in study["datasets"].items():
            digest, first = data.setdefault(name, (dataset["digest"], directory))
            if digest != dataset["digest"]:
                raise UserError(
                    f"{directory}: its data called {name!r} are not those of {first}, by their digests in "
                    "study.json; draw them apart, or run one of them again on the same data"
                )
    return rows, studies


def write(text: str, out: Path) -> None:
    """Writes a file in whole, with the folders above it, and says where it is."""
    from seqeval import atomic_io

    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.replacing(out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(out)


def plot(
    directories: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    figure: str = "curves",
    published: bool = False,
    leave_out_incomplete: bool = False,
) -> None:
    """Draw one figure of one or more study directories.

    Args:
        directories: Study directories.
        out: The figure file. .png or .pdf writes both PNG and PDF; .svg writes SVG.
        figure: curves: score against data, one panel per dataset. aggregate, ranks: over all datasets,
            against the share of data seen. intervals, profile, improvement: over all datasets, at the end of
            the data. sensitivity: over K and γ, from studies that differ only in these. Or
            path/to/file.py:NAME for a figure of your own.
        published: Draw the paper's own runs of the same algorithms and datasets behind the curves.
        leave_out_incomplete: Leave out seeds that failed or are not finished. Otherwise curves show them as
            far as they go, and other figures are refused.
    """
    from seqeval import plots
    from seqeval.plots import style

    check_figure(out)
    kind = plots.find(figure)
    if published and not kind.published:
        raise UserError("plot: --published works only with --figure curves")
    rows, studies = read("plot", directories)
    rows, notes = kind.prepare(rows, studies, leave_out_incomplete)
    rows, left_out = drawable(rows)
    if rows.empty:
        raise UserError(f"plot: there is nothing to draw for {left_out}")
    if left_out:
        notes.append(f"not drawn: {left_out}")
    extra = {"published": behind(rows, plots.datasets_of(studies))} if published else {}
    paths = style.save(kind.draw(rows, studies, **extra), out)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for path in paths:
        print(path)


def behind(rows: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame | None:
    """The published runs that belong behind a figure of `rows`; says which panels have none."""
    import pandas as pd

    from seqeval.analysis import published as paper

    found, without = paper.counterparts(rows, about)
    if without:
        print(f"note: no published runs: {paper.in_words(without)}", file=sys.stderr)
    return pd.concat([each.rows for each in found.values()]) if found else None


def plot_published(figure: Literal["fig1", "finetune", "mixed"], out: Path) -> None:
    """Draw a figure of the paper from its own runs (Sujit et al., arXiv 2212.08131).

    Args:
        figure: fig1: five algorithms on twelve datasets of D4RL. finetune: they go on online, for 500 000
            steps. mixed: random, medium and expert data in turn.
        out: The figure; PNG and PDF are written beside each other, SVG alone.
    """
    from seqeval import analysis
    from seqeval.analysis import published as paper
    from seqeval.plots import curves, style

    check_figure(out)
    rows = paper.runs(figure)
    for line in analysis.shortfalls(rows):
        print(f"note: {line}", file=sys.stderr)
    print("note: a point is the mean of a seed's evaluations in the 50 000 updates up to it", file=sys.stderr)
    for path in style.save(curves.figure(rows, {"published": {"datasets": paper.datasets(figure)}}), out):
        print(path)


def compare(directory: tyro.conf.Positional[Path], published: bool = False) -> None:
    """Say whether a study's curves lie within the spread of the paper's own seeds.

    Args:
        directory: A run directory.
        published: Compare with the paper's runs (Sujit et al., arXiv 2212.08131); there is nothing else yet.
    """
    from seqeval import analysis
    from seqeval.analysis import published as paper
    from seqeval.execution.storage import StudyDirectory, frame

    if not published:
        raise UserError("compare: say what with; --published is the paper's own runs")
    rows, study = frame([directory]), StudyDirectory(directory).study()
    table, without = paper.compare(rows, study["datasets"])
    plain_console(stderr=False).print(comparison_table(table))
    print(
        "\nBoth are means of the evaluations in the 50 000 transitions up to x (theirs of 10, CQL's of 5), at"
        " the x that every seed of both has.\n"
        "inside: x at which the mean of ours lies between their lowest and highest seed."
    )
    for figure in table["figure"].unique():
        algorithms = set(table.loc[table["figure"] == figure, "algorithm"])
        for line in paper.differences(study, figure, algorithms):
            print(line)
    if without:
        print(f"not compared: {paper.in_words(without)}")
    for line in analysis.shortfalls(rows):
        print(f"note: {line}", file=sys.stderr)


def comparison_table(compared: pd.DataFrame) -> Table:
    """A line of our study against the published runs a line, as people read it."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("dataset", "algorithm", "figure"):
        table.add_column(header, no_wrap=True)
    for header in (
        "seeds",
        "theirs",
        "x compared",
        "evals/x",
        "inside",
        "area, ours less theirs",
        "95 % interval",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for line in compared.to_dict("records"):
        several = line["compared"] > 1
        same = line["variant"] == line["algorithm"]
        table.add_row(
            line["dataset"],
            line["variant"] if same else f"{line['variant']} ({line['algorithm']})",
            line["figure"],
            f"{line['seeds']}",
            f"{line['published_seeds']}",
            f"{line['compared']} of {line['points']}",
            f"{line['evaluations']:.1f}",
            f"{line['inside'] / line['compared']:.0%} ({line['inside']})",
            f"{line['estimate']:+.1f}" if several else "",
            f"{line['low']:+.1f} … {line['high']:+.1f}" if several else "",
        )
    return table


def export(directory: tyro.conf.Positional[Path], to: Path) -> None:
    """Write every row of a run directory into one table, a column a field, lists as JSON.

    Args:
        directory: A run directory.
        to: A file that ends in .csv or .parquet.
    """
    from seqeval.execution.storage import export_table

    print(f"{export_table(directory, to)} rows in {to}")
