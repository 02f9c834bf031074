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

from .._text import counted, listed
from . import _content, _curves
from ._statistics import statistics
from ._tables import Table, latex
from ._warnings import warnings


class Rerun(NamedTuple):
    """The command that runs a study again, or None if it cannot be written, and remarks on it."""

    command: str | None
    remarks: Sequence[str] = ()


def page(rows: pd.DataFrame, studies: Studies, reruns: Mapping[str, Rerun], leave_out: bool = False) -> str:
    """The page as HTML. `studies` and `reruns` are by the study's name, which `rows` have in `study`.

    With `leave_out`, statistics leave out incomplete seeds; otherwise lines with such seeds have none. Raises
    UserError if Jinja2 or Plotly is not installed, or if there is nothing to draw.
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
    rows = analysis.with_planned_end(rows, studies)
    found = warnings(rows, studies, leave_out)
    rows = rows[~rows["dataset"].isin(analysis.unevaluated_datasets(rows))]
    if rows.empty:
        raise UserError(f"report: there are no returns and no scores to draw ({found[0]})")
    datasets = analysis.datasets_of(studies)
    curves = _curves.embedded(rows, datasets)
    groups = [
        {"title": title, "sections": {f"table-{i}-{j}": section for j, section in enumerate(sections)}}
        for i, (title, sections) in enumerate(statistics(rows, datasets, leave_out))
    ]
    tables = {
        key: {"csv": csv(table.tidy), "latex": latex(table)}
        for group in groups
        for key, table in group["sections"].items()
        if isinstance(table, Table)
    }
    plotly, script = get_plotlyjs(), _resource("page.js")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"counted": counted, "dataset_facts": _content.dataset_facts}
    return environment.from_string(_resource("page.html")).render(
        policy=_policy(plotly, script),
        title=listed(list(studies)),
        style=Markup(_resource("page.css")),
        lead=_content.lead(rows, datasets),
        warnings=found,
        curves=curves,
        controls=_content.controls(curves),
        caption=_content.caption(curves),
        studies=studies,
        protocols=_content.protocols(studies),
        algorithms=_content.algorithms(studies),
        statistics=groups,
        datasets=datasets,
        environments=_content.environments(studies),
        reruns=reruns,
        data=Markup(_json(curves | {"tables": tables})),
        plotly=Markup(plotly),
        script=Markup(script),
    )


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
