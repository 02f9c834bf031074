"""Tables for a paper: rows to one tidy table of estimates, and that table to LaTeX, Markdown or CSV.

In each row of a printed table the line with the highest estimate is bold, and so is every line whose 95 %
interval overlaps with its interval. This is not a pairwise test: it is more generous to the other lines.
A row with one line has nothing bold.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from seqeval.errors import UserError

from .completeness import comparable_rows, on_every_line
from .lines import frozen_lines, line_labels, unevaluated_datasets, variants
from .metrics import BY_EPISODES
from .statistics import STATISTICS
from .summaries import aggregate, means_over_seeds

ESTIMATORS = {"mean": "mean", "median": "median", "iqm": "IQM"}  # over datasets, with their printed names
LINE_WIDTH = 92  # characters in a line of a page, in LaTeX's \footnotesize
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a formula begins with in spreadsheet programs
INTERVAL_WIDTH = 10  # characters of that size that are as wide as an interval


def collect(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """All numbers of the tables in one tidy table, and notes on what it leaves out.

    One row per statistic, dataset and line: [statistic, dataset, estimator, variant, study, unit, estimate,
    low, high, runs, datasets, frozen, best]. The estimator is the mean over seeds; rows with an empty
    `dataset` hold mean, median and iqm over datasets, of scores only. Rows with a metric (`with_metric`) have
    the column `better` too. `runs` is the number of seeds, in rows over datasets of
    all of them together. `frozen` marks lines that do not learn in the online phase, `best` what is bold
    (never a frozen line).

    `rows` must be complete (`complete_rows`). Raises UserError if no dataset has values.
    """
    rows = rows[~rows["dataset"].isin(unevaluated_datasets(rows))]
    metric = str(rows["metric"].iloc[0]) if "metric" in rows else "score"
    better = rows["better"].iloc[0] if "better" in rows else "higher"
    if metric not in BY_EPISODES:  # its unit alone would not say what it is
        rows = rows.assign(unit=f"{metric} ({rows['unit'].iloc[0]})".replace(" ()", ""))
    if rows.empty:
        raise UserError("table: no dataset has an environment to evaluate in, so there are no values")
    try:
        comparable, notes = comparable_rows(rows)
    except UserError as error:
        comparable, notes = rows[:0], [str(error)]
    scored = comparable["dataset"].unique()
    printed = {name: s for name, s in STATISTICS.items() if s.of_runs and s.in_tables}
    parts = []
    for name, statistic in printed.items():
        values = statistic.compute(rows)
        means = means_over_seeds(values).rename(columns={"seeds": "runs"})
        parts.append(means.assign(statistic=name, estimator="mean", datasets=1))
        values = values[values["dataset"].isin(scored)]
        values = values[values["dataset"].isin(on_every_line(values))]
        if values["dataset"].nunique() > 1 and set(values["unit"]) == {"score"}:
            over_datasets = aggregate(values).query("estimator in @ESTIMATORS")
            parts.append(over_datasets.assign(statistic=name, dataset="", unit="score"))
    table = pd.concat([part for part in parts if len(part)])
    table["line"] = list(zip(table["variant"], table["study"], strict=True))
    orders: dict[Any, list[Any]] = {
        "statistic": list(printed),
        "dataset": [*rows["dataset"].unique(), ""],
        "estimator": list(ESTIMATORS),
        "line": variants(rows),
    }
    table = table.sort_values(
        list(orders), key=lambda column: column.map(orders[column.name].index), ignore_index=True
    )
    online = table["statistic"].map(lambda name: printed[name].phase == "online")
    table["frozen"] = online & table["line"].isin([line[1:] for line in frozen_lines(rows)])
    for key, lines in table.groupby(["statistic", "dataset", "estimator", "unit"], sort=False):
        # A policy that does not learn online has no gain that could be the best one.
        lower = better == "lower" or printed[str(key[0])].lower_is_better
        chosen = best(lines[~lines["frozen"]], lower)
        bold = chosen.reindex(lines.index, fill_value=False)
        table.loc[lines.index, "best"] = isinstance(better, str) and bold
    columns = ["statistic", "dataset", "estimator", "variant", "study", "unit"]
    columns += ["estimate", "low", "high", "runs", "datasets", "frozen", "best"]
    if "better" in rows:
        table, columns = table.assign(better=better), [*columns, "better"]
    return table.astype({"best": bool})[columns], notes


def best(lines: pd.DataFrame, lower_is_better: bool = False) -> pd.Series:
    """Which lines of a row are bold, by their estimate, low and high.

    The line with the highest (or lowest) estimate and those whose interval overlaps with its interval; none
    if there is one line only, or if that line has no interval.
    """
    if lines.empty:
        return pd.Series(dtype=bool)
    estimates = lines["estimate"]
    top = lines.iloc[int(estimates.argmin() if lower_is_better else estimates.argmax())]
    overlap = (lines["high"] >= top["low"]) & (lines["low"] <= top["high"])
    return overlap & (len(lines) > 1) & pd.notna(top["low"])


def csv(table: pd.DataFrame) -> str:
    """All numbers with all digits, one row each."""
    return without_formulas(table).to_csv(index=False, lineterminator="\n")


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a `'` before texts that spreadsheet programs would run as formulas."""

    def as_text(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value

    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    return table.assign(**{column: table[column].map(as_text) for column in texts}).rename(columns=as_text)


def markdown(table: pd.DataFrame) -> str:
    """A GitHub Markdown table per statistic, with its caption above it."""
    parts = []
    for printed in _printed_tables(table):
        lines = [markdown_text(printed.caption), ""]
        lines += ["| | " + " | ".join(markdown_text(column.label) for column in printed.columns) + " |"]
        lines += ["|:--|" + "--:|" * len(printed.columns)]
        for name, entries in printed.rows:
            texts = [markdown_text(name), *map(_markdown_entry, entries)]
            lines.append(f"| {' | '.join(texts)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(table: pd.DataFrame) -> str:
    """A LaTeX float per statistic, for a document with the package booktabs.

    Intervals stand below their numbers. Lines that do not fit side by side into 5.5 inches, and lines of
    other studies with the same variants, continue in a block below. A comment says if pdfLaTeX cannot print
    a character.
    """
    parts = []
    for printed in _printed_tables(table):
        blocks = list(_blocks(printed))
        caption = printed.caption + (" Rows continue in the block below." if len(blocks) > 1 else "")
        lines = [
            r"\begin{table}[t]  % \usepackage{booktabs}",
            r"\centering",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\label{{tab:{printed.statistic}}}",
            rf"\begin{{tabular}}{{l{'r' * max(map(len, blocks))}}}",
        ]
        for number, places in enumerate(blocks):
            columns = [printed.columns[place] for place in places]
            lines.append(r"\midrule" if number else r"\toprule")
            # The study stands above its lines if their variants alone do not identify them.
            heads = [columns[0].study, *(column.name for column in columns)]
            lines += [latex_row(map(latex_text, heads)), r"\midrule"]
            for row, (name, entries) in enumerate(printed.rows):
                shown = [entries[place] for place in places]
                if row:
                    lines.append(r"\midrule" if row == printed.datasets else r"\addlinespace[1pt]")
                lines.append(latex_row([latex_text(name), *map(_latex_number, shown)]))
                lines.append(latex_row(["", *map(_latex_interval, shown)]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines) + "\n")
    text = "\n".join(parts)
    return latex_engine(text) + text


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"latex": latex, "markdown": markdown, "csv": csv}


class Entry(NamedTuple):
    """A number as it is printed; `low` and `high` are empty if it has no interval."""

    estimate: str
    low: str
    high: str
    best: bool
    seeds: int | None  # if they differ from the number in the caption


class Column(NamedTuple):
    """The heading of a line."""

    label: str  # in one row of headings
    study: str  # in two rows: the study, empty if labels do not need it,
    name: str  # and the variant


class PrintedTable(NamedTuple):
    """The table of one statistic, in plain text."""

    statistic: str
    caption: str
    columns: list[Column]
    rows: list[tuple[str, list[Entry | None]]]
    datasets: int  # number of rows that are datasets; the estimators over datasets follow


def _printed_tables(table: pd.DataFrame) -> Iterator[PrintedTable]:
    for statistic, part in table.groupby("statistic", sort=False):
        frozen = variants(part[part["frozen"]])
        labels = line_labels(variants(part))
        on_datasets = part[part["dataset"] != ""]
        seeds = int(on_datasets["runs"].mode().max())
        several_units = part["unit"].nunique() > 1
        rows = []
        for key, lines in part.groupby(["dataset", "estimator", "unit"], sort=False):
            dataset, estimator, unit = map(str, key)
            name = f"{dataset} ({unit})" if several_units else dataset
            entries = _entries(lines, unit, seeds)
            rows.append((name if dataset else ESTIMATORS[estimator], [entries.get(line) for line in labels]))
        with_study = any(label != variant for (variant, _), label in labels.items())
        columns = []
        for (variant, study), label in labels.items():
            remark = " (frozen)" if (variant, study) in frozen else ""
            columns.append(Column(label + remark, study if with_study else "", variant + remark))
        caption = _caption(part, seeds)
        yield PrintedTable(str(statistic), caption, columns, rows, on_datasets["dataset"].nunique())


def _entries(lines: pd.DataFrame, unit: str, seeds: int) -> dict[tuple[str, str], Entry]:
    """The entries of a row by variant and study, all with the same number of decimals."""
    ends = ["estimate", "low", "high"]
    digits = 1 if unit == "score" else _decimals(lines[ends].abs().max().max())
    entries = {}
    for line in lines.to_dict("records"):
        estimate, low, high = ("" if math.isnan(line[end]) else _number(line[end], digits) for end in ends)
        other_seeds = line["runs"] if line["dataset"] and line["runs"] != seeds else None
        entries[line["variant"], line["study"]] = Entry(estimate, low, high, line["best"], other_seeds)
    return entries


def _decimals(largest: float) -> int:
    """The number of decimals that gives returns of this size four digits."""
    return min(max(3 - math.floor(math.log10(largest)), 0), 9) if largest else 1


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def _caption(part: pd.DataFrame, seeds: int) -> str:
    """What the table of a statistic shows, in sentences; `seeds` is the usual number of seeds."""
    over_datasets = part[part["dataset"] == ""]
    units = " or ".join(sorted(set(part["unit"]), reverse=True))
    units = units if "/" in units else units.capitalize()
    unequal = (part.loc[part["dataset"] != "", "runs"] != seeds).any()
    sentences = [
        f"{units} {STATISTICS[part['statistic'].iloc[0]].description}",
        f"Mean of {seeds} {'seed' if seeds == 1 else 'seeds'}"
        + (" (or of the number in brackets)" if unequal else "")
        + (", without an interval" if seeds == 1 else ", with 95 % bootstrap intervals over seeds"),
    ]
    if len(over_datasets):
        datasets = over_datasets["datasets"].iloc[0]
        sentences.append(f"Below: mean, median and interquartile mean (IQM) over {datasets} datasets")
    if part["frozen"].any():
        sentences.append("Frozen: does not learn online; the same policy is evaluated again")
    if part["best"].any():
        declared = "better" in part and bool((part["better"] == "lower").any())
        lower = declared or STATISTICS[part["statistic"].iloc[0]].lower_is_better
        extreme = "lowest" if lower else "highest"
        sentences.append(
            f"Bold: the {extreme} value of a row and all whose intervals overlap with its interval"
        )
    return ". ".join(sentences) + "."


def _blocks(printed: PrintedTable) -> Iterator[list[int]]:
    """The columns that stand side by side on a page: of one study, in blocks of almost equal width."""
    width = LINE_WIDTH - max(len(name) for name, _ in printed.rows)
    most = max(1, width // (max(INTERVAL_WIDTH, *(len(column.name) for column in printed.columns)) + 2))
    for study in dict.fromkeys(column.study for column in printed.columns):
        places = [place for place, column in enumerate(printed.columns) if column.study == study]
        size = math.ceil(len(places) / math.ceil(len(places) / most))
        yield from (places[first : first + size] for first in range(0, len(places), size))


def latex_row(texts: Iterable[str]) -> str:
    """A row of a LaTeX table."""
    return " & ".join(texts) + r" \\"


def _latex_number(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    estimate = rf"\mathbf{{{entry.estimate}}}" if entry.best else entry.estimate
    return f"${estimate}$" if entry.seeds is None else f"${estimate}^{{({entry.seeds})}}$"


def _latex_interval(entry: Entry | None) -> str:
    return rf"\scriptsize$[{entry.low},\,{entry.high}]$" if entry is not None and entry.low else ""


def _markdown_entry(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    estimate = f"**{entry.estimate}**" if entry.best else entry.estimate
    seeds = "" if entry.seeds is None else f" ({entry.seeds})"
    interval = f" [{entry.low}, {entry.high}]" if entry.low else ""
    return f"{estimate}{interval}{seeds}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ it would begin an option
    "]": "{]}",
    "\n": " ",
    "\u202f": r"\,",  # narrow space between groups of three digits
    "\u2212": "$-$",
    "\u2014": "---",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}
_GREEK = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma sigma tau "
    "upsilon varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
_LATEX |= {
    letter: rf"$\{name}$"
    for letter, name in zip("αβγδεζηθικλμνξπρςστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", _GREEK.split(), strict=True)
}
_PUNCTUATION = "‐‑‒–—―‘’“”†‡•…‰€™←↑→↓"  # printed by LaTeX without a package


def latex_text(text: str) -> str:
    """A name or a sentence, escaped for LaTeX, which may have Greek letters and accented Latin ones."""
    return "".join(_LATEX.get(letter, letter) for letter in unicodedata.normalize("NFC", text))


def latex_engine(latex: str) -> str:
    """A comment line for the top of a table that pdfLaTeX cannot print; else empty."""
    beyond = dict.fromkeys(letter for letter in latex if letter > "\u017f" and letter not in _PUNCTUATION)
    if not beyond:
        return ""
    return f"% pdfLaTeX cannot print {' '.join(beyond)}: use XeLaTeX or LuaLaTeX with a font that has them\n"


def markdown_text(text: str) -> str:
    """A name or a sentence, escaped for GitHub Markdown, also inside tables."""
    return re.sub(r"([\\`*_{}\[\]<>|~$&#])", r"\\\1", text).replace("\n", " ")
