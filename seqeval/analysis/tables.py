"""Tables for a paper: rows to one tidy table of estimates, and that to LaTeX, Markdown or CSV.

The best of a row is the line with the highest estimate. It is bold, and so is every line whose 95 % interval
overlaps with its. This is no test of a pair: it says what the intervals beside the numbers say anyway, and is
the more generous to those behind. A row with one line has nothing bold.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from seqeval import analysis
from seqeval.analysis import LINE
from seqeval.errors import UserError

MEASURES = {
    "final": "at the end of the data",
    "area": "averaged over the data seen (area under the offline curve, divided by its width)",
    "online": "at the end of the online phase",
    "gain": "gained in the online phase: its end less the end of the data",
}
ONLINE = ("online", "gain")
STATISTICS = {"mean": "mean", "median": "median", "iqm": "IQM"}
PAGE = 92  # letters that fit into a line of a page in LaTeX's \\footnotesize
INTERVAL = 10  # letters of that size that are as wide as an interval

_ROW = ["measure", "dataset", "statistic", "unit"]  # what makes a row of a printed table


def collect(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Every number of the tables, and a note for each thing to know of what is in them.

    One row for each measure, dataset and line: [measure, dataset, statistic, variant, study, unit, estimate,
    low, high, runs, datasets, frozen, best]. The statistic is the mean over seeds; mean, median and iqm over
    datasets have an empty `dataset`. `runs` are the seeds, over datasets those of all. `frozen`: in measures
    of the online phase, does not learn there. `best` is what is bold.

    `rows` are complete (`analysis.complete`). Raises UserError where there is nothing to tabulate.
    """
    rows = rows[~rows["dataset"].isin(analysis.unevaluated(rows))]
    if rows.empty:
        raise UserError("table: no dataset has an environment to evaluate in, so there are no values")
    measures = {
        "final": analysis.finals(rows),
        "area": analysis.areas(rows),
        "online": analysis.finals(rows, "online"),
        "gain": analysis.gains(rows),
    }
    try:
        same, notes = analysis.comparable(rows)
    except UserError as error:
        same, notes = rows[:0], [str(error)]
    parts = []
    for name, measure in measures.items():
        each = analysis.means(measure).rename(columns={"seeds": "runs"})
        parts.append(each.assign(measure=name, statistic="mean", datasets=1))
        shared = _of_every_line(measure[measure["dataset"].isin(same["dataset"].unique())])
        if shared["dataset"].nunique() > 1:
            over = analysis.across(shared)
            over = over[over["statistic"].isin(STATISTICS)]
            parts.append(over.assign(measure=name, dataset="", unit="score"))
    table = _in_order_of(rows, pd.concat([part for part in parts if len(part)]))
    frozen = {(variant, study) for _, variant, study in analysis.frozen(rows)}
    pairs = zip(table["variant"], table["study"], strict=True)
    table["frozen"] = pd.Series([pair in frozen for pair in pairs]) & table["measure"].isin(ONLINE)
    table["best"] = False
    for _, lines in table.groupby(_ROW, sort=False):
        table.loc[lines.index, "best"] = best(lines)
    columns = ["variant", "study", "estimate", "low", "high", "runs", "datasets", "frozen", "best"]
    return table[[*_ROW[:3], *columns[:2], "unit", *columns[2:]]], notes


def _in_order_of(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Datasets and lines as they first come in the rows, the statistics over datasets behind these."""
    datasets, lines = [*rows["dataset"].unique(), ""], analysis.variants(rows)
    places = [
        (
            list(MEASURES).index(each["measure"]),
            datasets.index(each["dataset"]),
            list(STATISTICS).index(each["statistic"]),
            lines.index((each["variant"], each["study"])),
        )
        for each in table.to_dict("records")
    ]
    return table.iloc[sorted(range(len(table)), key=places.__getitem__)].reset_index(drop=True)


def best(lines: pd.DataFrame) -> pd.Series:
    """Which lines of a row are bold, by their estimate, low and high: the one with the highest estimate and
    those whose interval overlaps with its; none where there is but one line, or where the highest has no
    interval."""
    top = lines.iloc[int(lines["estimate"].argmax())]
    overlap = (lines["high"] >= top["low"]) & (lines["low"] <= top["high"])
    return overlap & (len(lines) > 1) & pd.notna(top["low"])


def _of_every_line(measure: pd.DataFrame) -> pd.DataFrame:
    """A measure on the datasets that each of its lines is on."""
    lines = measure.groupby(["variant", "study"]).ngroups
    on = measure.drop_duplicates(LINE).groupby("dataset").size()
    return measure[measure["dataset"].isin(on.index[on == lines])]


def csv(table: pd.DataFrame) -> str:
    """All numbers in full, a row each."""
    return table.to_csv(index=False, lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """A table of GitHub's Markdown a measure, with its caption above it."""
    parts = []
    for printed in _printed(table):
        lines = [_markdown(printed.caption), ""]
        lines += ["| | " + " | ".join(_markdown(column.label) for column in printed.columns) + " |"]
        lines += ["|:--|" + "--:|" * len(printed.columns)]
        for name, cells in printed.rows:
            texts = [_markdown_cell(cell) for cell in cells]
            lines.append(f"| {_markdown(name)} | " + " | ".join(texts) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(table: pd.DataFrame) -> str:
    """A float a measure, for a document with the package booktabs; a comment where it needs another engine.

    Intervals stand beneath their numbers. Lines that do not fit side by side into 5.5 inches, and those of
    another study with the same variants, go on below.
    """
    parts = []
    for printed in _printed(table):
        blocks = list(_blocks(printed))
        more = " A row goes on in the block below." if len(blocks) > 1 else ""
        lines = [
            r"\begin{table}[t]  % \usepackage{booktabs}",
            r"\centering",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{latex_text(printed.caption + more)}}}",
            rf"\label{{tab:{printed.measure}}}",
            rf"\begin{{tabular}}{{l{'r' * max(map(len, blocks))}}}",
        ]
        for number, places in enumerate(blocks):
            columns = [printed.columns[place] for place in places]
            lines.append(r"\midrule" if number else r"\toprule")
            # A study is named above its lines where their own names do not tell it.
            heads = [columns[0].study, *(column.name for column in columns)]
            lines += [latex_row(map(latex_text, heads)), r"\midrule"]
            for row, (name, cells) in enumerate(printed.rows):
                shown = [cells[place] for place in places]
                if row:
                    lines.append(r"\midrule" if row == printed.datasets else r"\addlinespace[1pt]")
                lines.append(latex_row([latex_text(name), *map(_latex_number, shown)]))
                lines.append(latex_row(["", *map(_latex_interval, shown)]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines) + "\n")
    text = "\n".join(parts)
    return latex_engine(text) + text


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"latex": latex, "markdown": markdown, "csv": csv}


class Cell(NamedTuple):
    """A number as it is printed; without ends where it has no interval."""

    estimate: str
    low: str
    high: str
    best: bool
    seeds: int | None  # where they are not as many as the caption says


class Column(NamedTuple):
    """What a line is called."""

    label: str  # in one
    study: str  # and in two, this one empty where it tells nothing
    name: str


class Printed(NamedTuple):
    """A measure's table as people read it, in plain text."""

    measure: str
    caption: str
    columns: list[Column]
    rows: list[tuple[str, list[Cell | None]]]
    datasets: int  # how many of its rows are datasets, before the statistics over them


def _printed(table: pd.DataFrame) -> Iterator[Printed]:
    for measure, part in table.groupby("measure", sort=False):
        frozen = {(each.variant, each.study) for each in part[part["frozen"]].itertuples()}
        called = analysis.labels(analysis.variants(part))
        on_datasets = part[part["dataset"] != ""]
        seeds = int(on_datasets["runs"].mode().max())
        several = part["unit"].nunique() > 1
        rows = []
        for key, line in part.groupby(["dataset", "statistic", "unit"], sort=False):
            dataset, statistic, unit = map(str, key)
            name = (f"{dataset} ({unit})" if several else dataset) if dataset else STATISTICS[statistic]
            cells = _cells(line, unit, seeds)
            rows.append((name, [cells.get(pair) for pair in called]))
        told = any(label != variant for (variant, _), label in called.items())
        columns = []
        for (variant, study), label in called.items():
            remark = " (frozen)" if (variant, study) in frozen else ""
            columns.append(Column(label + remark, study if told else "", variant + remark))
        yield Printed(str(measure), _caption(part, seeds), columns, rows, on_datasets["dataset"].nunique())


def _cells(line: pd.DataFrame, unit: str, seeds: int) -> dict[tuple[str, str], Cell]:
    """The cells of a row by variant and study, all with as many decimals."""
    digits = 1 if unit == "score" else _decimals(line[["estimate", "low", "high"]].abs().max().max())
    cells = {}
    for each in line.to_dict("records"):
        ends = ("estimate", "low", "high")
        estimate, low, high = ("" if math.isnan(each[name]) else _number(each[name], digits) for name in ends)
        others = each["runs"] if each["dataset"] and each["runs"] != seeds else None
        cells[each["variant"], each["study"]] = Cell(estimate, low, high, each["best"], others)
    return cells


def _decimals(largest: float) -> int:
    """Decimals with which returns as large as this have four digits."""
    return min(max(3 - math.floor(math.log10(largest)), 0), 9) if largest else 1


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def _caption(part: pd.DataFrame, common: int) -> str:
    """What a measure's table shows, in sentences."""
    measure, over = part["measure"].iloc[0], part[part["dataset"] == ""]
    what = " or ".join(sorted(set(part["unit"]), reverse=True)).capitalize()
    unequal = (part.loc[part["dataset"] != "", "runs"] != common).any()
    sentences = [
        f"{what} {MEASURES[measure]}",
        f"Mean of {common} {'seed' if common == 1 else 'seeds'}"
        + (" or of as many as stand in brackets," if unequal else "")
        + (", which has no interval" if common == 1 else " and 95 % bootstrap interval over seeds"),
    ]
    if len(over):
        datasets = over["datasets"].iloc[0]
        sentences.append(f"Below: mean, median and interquartile mean (IQM) over {datasets} datasets")
    if part["frozen"].any():
        sentences.append("Frozen: does not learn online, the same policy evaluated again")
    if part["best"].any():
        sentences.append("Bold: the highest of a row and all whose intervals overlap with its")
    return ". ".join(sentences) + "."


def _blocks(printed: Printed) -> Iterator[list[int]]:
    """The columns that stand side by side on a page: of one study, and as evenly as they can."""
    left = PAGE - max(len(name) for name, _ in printed.rows)
    most = max(1, left // (max(INTERVAL, *(len(column.name) for column in printed.columns)) + 2))
    for study in dict.fromkeys(column.study for column in printed.columns):
        places = [place for place, column in enumerate(printed.columns) if column.study == study]
        wide = math.ceil(len(places) / math.ceil(len(places) / most))
        yield from (places[first : first + wide] for first in range(0, len(places), wide))


def latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_number(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    estimate = rf"\mathbf{{{cell.estimate}}}" if cell.best else cell.estimate
    return f"${estimate}$" if cell.seeds is None else f"${estimate}^{{({cell.seeds})}}$"


def _latex_interval(cell: Cell | None) -> str:
    return rf"\scriptsize$[{cell.low},\,{cell.high}]$" if cell is not None and cell.low else ""


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    estimate = f"**{cell.estimate}**" if cell.best else cell.estimate
    seeds = "" if cell.seeds is None else f" ({cell.seeds})"
    ends = f" [{cell.low}, {cell.high}]" if cell.low else ""
    return f"{estimate}{ends}{seeds}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # behind a \\ it would begin an option
    "]": "{]}",
    "\n": " ",
    "\u202f": r"\,",  # the narrow space between every three digits
    "\u2212": "$-$",
    "\u2014": "---",
} | {each: f"\\{each}" for each in "&%$#_{}"}
_GREEK = {
    "αβγδεζηθικλμ": "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu",
    "νξπρςστυφχψω": "nu xi pi rho varsigma sigma tau upsilon varphi chi psi omega",
    "ΓΔΘΛΞΠΣΥΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega",
}
_LATEX |= {
    letter: rf"$\{name}$"
    for letters, names in _GREEK.items()
    for letter, name in zip(letters, names.split(), strict=True)
}
_PUNCTUATION = "‐‑‒–—―‘’“”†‡•…‰€™←↑→↓"  # that LaTeX has without a package


def latex_text(text: str) -> str:
    """A name or a sentence as LaTeX prints it: Greek letters too, and Latin ones with whatever accents."""
    return "".join(_LATEX.get(letter, letter) for letter in unicodedata.normalize("NFC", text))


def latex_engine(latex: str) -> str:
    """A line to stand above a table, a comment, where pdfLaTeX cannot print what is in it; else empty."""
    beyond = dict.fromkeys(letter for letter in latex if letter > "\u017f" and letter not in _PUNCTUATION)
    if not beyond:
        return ""
    return f"% pdfLaTeX has no {' '.join(beyond)}: take XeLaTeX or LuaLaTeX, and a font that has them\n"


def _markdown(text: str) -> str:
    """A name or a sentence as GitHub shows it, in the cell of a table too."""
    return re.sub(r"([\\`*_{}\[\]<>|~$&#])", r"\\\1", text).replace("\n", " ")
