"""An interactive page on one or more studies: curves, statistics, datasets, and how to run them again.

The page is a single file that needs no network. It contains plotly.js, which the Python package brings, and
its security policy forbids loading anything. `page.html` is the Jinja2 template; `page.js` draws the curves
from the data embedded in the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from seqeval import analysis
from seqeval.analysis import Studies
from seqeval.analysis.tables import csv
from seqeval.errors import UserError

from .. import DEFAULTS, _selection, _sizes, style
from .._text import counted, listed
from . import _content, _curves
from ._statistics import statistics
from ._tables import Plot, Table, latex
from ._warnings import warnings


class Rerun(NamedTuple):
    """The command that runs a study again, or None if it cannot be written, and remarks on it."""

    command: str | None
    remarks: Sequence[str] = ()


def page(
    rows: pd.DataFrame,
    studies: Studies,
    reruns: Mapping[str, Rerun],
    leave_out: bool = False,
    title: str | None = None,
    value: str | None = None,
) -> str:
    """The page as HTML. `studies` and `reruns` are by the study's name, which `rows` have in `study`.

    With `leave_out`, statistics leave out incomplete seeds; otherwise lines with such seeds have none.
    `title` is the heading of the page, by default the names of the studies. `value` is what the curves show
    first and the statistics are about, as in `FigureOptions`. Raises UserError if Jinja2 or Plotly is not
    installed, or if there is nothing to draw.
    """
    try:
        import jinja2
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        raise UserError(
            f"report: {package} is not installed; run pip install 'seqeval-rl[report]'"
        ) from error
    rows = _selection.select(analysis.with_studies(rows, studies), DEFAULTS)
    rows = analysis.with_planned_end(rows, studies)
    found = warnings(rows, studies, leave_out)
    shown, notes = _selection.with_value(rows, value)
    shown = shown[~shown["dataset"].isin(analysis.unevaluated_datasets(shown))]
    rows = rows[rows["dataset"].isin(shown["dataset"])]
    if shown.empty:
        raise UserError(f"report: there are no returns and no scores to draw ({found[0]})")
    datasets = analysis.datasets_of(studies)
    curves = _curves.embedded(rows, datasets)
    groups = [
        {"title": title, "sections": {f"table-{i}-{j}": section for j, section in enumerate(sections)}}
        for i, (title, sections) in enumerate(statistics(shown, datasets, leave_out))
    ]
    plotly, script = get_plotlyjs(), _resource("page.js")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"counted": counted, "dataset_facts": _content.dataset_facts}
    return environment.from_string(_resource("page.html")).render(
        policy=_policy(plotly, script),
        title=title or listed(list(studies)),
        value=_sizes.one_line(style.value_label(shown)) if "metric" in shown else None,
        style=Markup(_resource("page.css")),
        lead=_content.lead(rows, datasets),
        warnings=[*found, *notes],
        curves=curves,
        controls=_content.controls(curves, shown["metric"].iloc[0] if "metric" in shown else None),
        caption=_content.caption(curves),
        studies=studies,
        protocols=_content.protocols(studies),
        algorithms=_content.algorithms(studies),
        statistics=groups,
        datasets=datasets,
        environments=_content.environments(studies),
        reruns=reruns,
        data=Markup(_json(curves | _of_sections(groups))),
        plotly=Markup(plotly),
        script=Markup(script),
    )


def _of_sections(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page copies of tables and draws of plots, by the key of the section."""
    sections = [item for group in groups for item in group["sections"].items()]
    tables = {key: part for key, part in sections if isinstance(part, Table)}
    plots = {key: part for key, part in sections if isinstance(part, Plot)}
    return {
        "tables": {key: {"csv": csv(table.tidy), "latex": latex(table)} for key, table in tables.items()},
        "plots": {
            key: {
                "ylabel": plot.ylabel,
                "reversed": plot.reversed,
                "lines": plot.lines,
                "overSizes": plot.over_sizes,
            }
            for key, plot in plots.items()
        },
    }


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy: only these scripts run, and nothing is loaded."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # Plotly sets inline styles, and saves a figure through an image.
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _json(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element: nothing in it ends the script or starts a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
