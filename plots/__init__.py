"""Figures: one file each, behind one contract, `FigureKind`.

To add a figure, add a file that defines `FIGURE`:

    from matplotlib.figure import Figure
    from seqeval.plots import FigureKind

    def figure(rows, options):
        drawn = Figure()
        ...
        return drawn

    FIGURE = FigureKind(figure, scores=True)

`seqeval plot --figure wins` draws the one in `plots/wins.py`. A figure may also be given as
`path/to/file.py:FIGURE`, or be registered by an installed package in the entry-point group `seqeval.figures`
as `wins = "package.module:FIGURE"`. `style.py` holds what figures share.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis, loading
from seqeval.analysis.size_tables import SizeTable
from seqeval.errors import UserError
from seqeval.figure_options import FigureOptions

from . import _selection, style

DEFAULTS = FigureOptions()
ALWAYS = ("datasets", "algorithms", "title", "style")  # options that are followed for every figure

__all__ = ["FigureKind", "draw", "find", "names"]


def __dir__() -> list[str]:
    """The contract of figures, and the files that draw them."""
    files = (file.name for file in pkgutil.iter_modules(__path__) if not file.name.startswith("_"))
    return sorted([*__all__, *files])


def __getattr__(name: str) -> ModuleType:
    """A file of this folder, imported on first use."""
    if name.startswith("_") or name not in __dir__():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


@dataclass(frozen=True)
class FigureKind:
    """A function that draws a figure, and what it needs.

    `draw(rows, options)` returns a matplotlib Figure; `rows` have been through `prepare`, and their studies
    are `analysis.studies_of(rows)`.
    `complete`: only seeds that reached the end of their study without failing. Others are refused, or left
    out on request.
    `scores`: of these only offline rows with scores, of the datasets that every line has.
    `differ_in`: settings (`protocol.grow_by`) by the symbol that the figure uses. Studies must differ in
    these, and in nothing else.
    `published`: `draw` also takes `published=`, rows of published runs to draw behind the others.
    `accepts`: the options that `draw` follows, besides those in `ALWAYS`; all others are refused.
    `bands`: the values of the option `band` that it draws, the default first.
    `tables`: the numbers that it draws, at each size of the data, for `seqeval table --figure`.
    """

    draw: Callable[..., Figure]
    complete: bool = True
    scores: bool = False
    differ_in: Mapping[str, str] = field(default_factory=dict)
    published: bool = False
    accepts: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    tables: Callable[[pd.DataFrame, FigureOptions], Sequence[SizeTable]] | None = None

    def prepare(
        self, rows: pd.DataFrame, options: FigureOptions = DEFAULTS, leave_out: bool = False
    ) -> tuple[pd.DataFrame, list[str]]:
        """The rows to draw, of datasets that were evaluated, and notes on what is missing or was left out.

        All choices of rows and values are made here. `leave_out` leaves incomplete seeds out. Raises
        UserError if the figure cannot be drawn.
        """
        accepted = (*ALWAYS, *self.accepts, *(["band"] if self.bands else []))
        _selection.refuse_useless(options, accepted, self.bands)
        rows = _selection.select(rows, options)
        _selection.names(rows, options)  # refuses unknown names before anything is computed
        studies = analysis.studies_of(rows)
        if (self.complete or leave_out) and "metric" not in rows:  # a metric has an end of its own
            rows = analysis.with_planned_end(rows, studies)
        chosen: list[str] = []
        if "value" in self.accepts:
            rows, chosen = _selection.with_value(rows, options.value)
        columns = ["value"] if "metric" in rows else ["score", "return_mean"]
        rows = analysis.smoothed(rows, options.smooth, columns)
        if self.differ_in:
            _check_differences(studies, self.differ_in)
        if not self.complete and not leave_out:
            notes, names = analysis.describe_incomplete(rows), analysis.unevaluated_datasets(rows)
            if names:
                notes.append(f"not drawn: {', '.join(names)} (no environment, so no returns and no scores)")
            return rows[~rows["dataset"].isin(names)], [*chosen, *notes]
        rows, notes = analysis.complete_rows(rows, leave_out)
        if self.scores:
            rows, more = analysis.comparable_rows(rows)
            notes += more
        return analysis.with_studies(rows, studies), [*chosen, *notes]

    def render(self, rows: pd.DataFrame, options: FigureOptions = DEFAULTS, **published: Any) -> Figure:
        """Draws rows that have been through `prepare`, and adds what all figures have in common."""
        with style.context(options):
            drawn = self.draw(rows, options, **published)
            if options.title:
                style.add_title(drawn, options.title)
        return drawn


LINES = FigureKind(lambda rows, options: Figure(), accepts=("value",))  # how `seqeval table` prepares rows


def draw(
    rows: pd.DataFrame,
    figure: str = "curves",
    options: FigureOptions = DEFAULTS,
    leave_out_incomplete: bool = False,
    published: pd.DataFrame | None = None,
) -> Figure:
    """Draws a figure of rows that `seqeval.load` or `seqeval.run` returned.

    `figure` is a name for `find`; `options` say how it is drawn. `leave_out_incomplete` leaves out seeds that
    failed or are not finished; otherwise curves show them as far as they go, and other figures are refused.
    Curves draw the rows in `published` behind the others. A warning says what is not drawn. Raises UserError
    if the figure cannot be drawn.
    """
    if not isinstance(rows, pd.DataFrame) or not {*analysis.LINE, "seed"} <= set(rows.columns):
        raise UserError(
            "draw: rows must be a frame of seqeval.load or seqeval.run; write "
            'seqeval.plots.draw(seqeval.load("runs/one"))'
        )
    kind = find(figure)
    if published is not None and not kind.published:
        raise UserError(f"published: {figure} does not draw published runs, only curves do")
    rows, notes = kind.prepare(rows, options, leave_out_incomplete)
    if rows.empty:
        raise UserError(nothing_to_draw(notes))
    if notes:
        warnings.warn("\n".join(notes), stacklevel=2)
    return kind.render(rows, options, **({} if published is None else {"published": published}))


def nothing_to_draw(notes: Sequence[str]) -> str:
    """The message for rows of which none can be drawn."""
    return f"there is nothing to draw{': ' if notes else ''}{'; '.join(notes) or ', since there are no rows'}"


def names() -> list[str]:
    """The figures of the suite and those that installed packages register."""
    return loading.names(FIGURES)


def find(name: str) -> FigureKind:
    """The figure with a name, or the one that `path/to/file.py:NAME` refers to.

    Raises UserError if there is none, if it cannot be loaded, or if it is not a `FigureKind`.
    """
    loading.refuse_shadowed(FIGURES, name)
    return loading.load(FIGURES, name)


def _defined_in(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, FigureKind)}


def _fault(value: Any) -> str | None:
    return None if isinstance(value, FigureKind) else "is not a FigureKind of seqeval.plots"


FIGURES = loading.Kind("figure", "seqeval.plots", "seqeval.figures", _defined_in, _fault, hyphens=True)


def _check_differences(studies: analysis.Studies, symbols: Mapping[str, str]) -> None:
    """Raises UserError unless the studies differ in these settings, and in no other."""
    axes = " and ".join(symbols)
    if len(studies) < 2:
        raise UserError(f"plot: give several study directories, one for each combination of {axes}")
    (first, expected), *others = ((name, _settings(study)) for name, study in studies.items())
    seen = {tuple(expected[key] for key in symbols.values()): first}
    for name, settings in others:
        for key in expected | settings:
            if key not in symbols.values() and expected.get(key) != settings.get(key):
                left, right = (repr(s[key]) if key in s else "missing" for s in (expected, settings))
                raise UserError(
                    f"plot: {key} is {left} in {first} and {right} in {name}; "
                    f"studies may differ only in {axes}"
                )
        values = tuple(settings[key] for key in symbols.values())
        if values in seen:
            same = ", ".join(f"{symbol} = {value}" for symbol, value in zip(symbols, values, strict=True))
            raise UserError(f"plot: {seen[values]} and {name} both have {same}")
        seen[values] = name


def _settings(study: analysis.Study) -> dict[str, Any]:
    """All settings that determine a study's numbers, by dotted name."""
    groups = {group: study[group] for group in ("protocol", "online", "evaluation")}
    for name, dataset in study["datasets"].items():
        groups[name] = {"digest": dataset["digest"], "reference": dataset["reference"]}
    for name, algorithm in study["algorithms"].items():
        # A class in a file is identified by the file's content, not its path.
        source = {key: algorithm[key] for key in ("code" if "code" in algorithm else "algorithm",)}
        groups[name] = source | algorithm["config"]
    return {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
