"""One page to explore run directories with: curves, statistics, datasets, and how it all came about.

The page is one file that needs nothing else: plotly.js, which the Python package brings along, is in it, and
its security policy lets it load nothing. `page.js` draws from the data, which is embedded once; tables and
words are there without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from seqeval import analysis
from seqeval.analysis.tables import csv
from seqeval.errors import UserError
from seqeval.types import Reference

from . import _curves, _words
from ._statistics import Section, statistics
from ._tables import Table, html, latex
from ._words import counted, listed, spaced

Study = Mapping[str, Any]  # as study.json holds it
WARNINGS = 5  # that are seen at once


class Rerun(NamedTuple):
    """The command that does a study again; None where it cannot be written, and what there is to say."""

    command: str | None
    remarks: Sequence[str] = ()


def page(
    rows: pd.DataFrame,
    studies: Mapping[str, Study],
    reruns: Mapping[str, Rerun],
    leave_out: bool = False,
) -> str:
    """The whole page. `studies` and `reruns` are by the names that `rows` have in `study`. With `leave_out`
    seeds that are not all there are left out of statistics, else their lines have none.

    Raises UserError where plotly is not installed, or where there is nothing to draw.
    """
    library = _plotly()
    rows = analysis.with_planned_end(rows, studies)
    warnings = _words.warnings(rows, studies, leave_out)
    rows = rows[~rows["dataset"].isin(analysis.unevaluated_datasets(rows))]
    if rows.empty:
        raise UserError(f"report: there are no returns and no scores to draw ({warnings[0]})")
    datasets = {name: about for study in studies.values() for name, about in study["datasets"].items()}
    drawn = _curves.embedded(rows, datasets)
    sections = statistics(rows, datasets, leave_out)
    tables = {
        f"table-{place}-{number}": table
        for place, (_, found) in enumerate(sections)
        for number, table in enumerate(found)
        if isinstance(table, Table)
    }
    copies = {key: {"csv": csv(table.tidy), "latex": latex(table)} for key, table in tables.items()}
    script = _own("page.js")
    title = listed(list(studies))
    body = [
        _header(title, rows, datasets),
        _warnings(warnings),
        _figure(drawn),
        _protocols(studies),
        _statistics(sections),
        _datasets(datasets),
        _environments(studies),
        _reruns(reruns),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(library, script)}">',
            f"<title>{escape(title)} · seqeval</title>",
            f"<style>{_own('page.css')}</style>",
            "</head>",
            "<body>",
            f"<main>{''.join(body)}</main>",
            _dialog(),
            f'<script type="application/json" id="data">{_json(drawn | {"copies": copies})}</script>',
            f"<script>{library}</script>",
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _plotly() -> str:
    """The library. Raises UserError where it is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError("report: plotly draws it; pip install 'seqeval-rl[report]'") from error
    return get_plotlyjs()


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy: these scripts alone run, and nothing is loaded from anywhere."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    # Plotly sets styles as it draws, and saves a figure by way of an image.
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _json(data: Mapping[str, Any]) -> str:
    """As it may stand inside of a script: nothing in it ends the script or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _header(title: str, rows: pd.DataFrame, datasets: Mapping[str, Study]) -> str:
    seeds = rows.groupby(["dataset", "variant", "study"])["seed"].nunique()
    each = counted(int(seeds.max()), "seed")
    many = each if seeds.min() == seeds.max() else f"{seeds.min()} to {each}"
    of = counted(rows["variant"].nunique(), "algorithm")
    data = [name for name, about in datasets.items() if about["transitions"]]
    on = f" on {counted(len(data), 'dataset')}" if data else ""
    said = "how well each does, as a function of how much it has seen" + (
        " of the data, and then online" if data and {*rows["phase"].unique()} == {"offline", "online"} else ""
    )
    links = (
        ("curves", "Curves"),
        ("protocol", "Protocol"),
        ("statistics", "Statistics"),
        ("datasets", "Datasets"),
        ("environment", "Environment"),
        ("rerun", "Rerun"),
    )
    contents = "".join(f'<a href="#{key}">{name}</a>' for key, name in links)
    return (
        f'<header><p class="eyebrow">Sequential evaluation</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{of}{on}, {many} each: {said}.</p>'
        f'<nav aria-label="Contents">{contents}</nav></header>'
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    lines = [f"<li>{escape(line)}</li>" for line in warnings]
    first, more = lines[:WARNINGS], lines[WARNINGS:]
    hidden = f"<details><summary>{len(more)} more</summary><ul>{''.join(more)}</ul></details>" if more else ""
    return (
        f'<aside class="warnings" aria-label="Warnings"><h2>{counted(len(warnings), "warning")}</h2>'
        f"<ul>{''.join(first)}</ul>{hidden}</aside>"
    )


def _figure(drawn: Mapping[str, Any]) -> str:
    """The controls, which offer what there is a choice of, and an empty place for each dataset."""
    datasets, lines = drawn["datasets"], drawn["lines"]
    seeds = sorted({run[0] for line in lines for run in line["runs"]})
    phases = {
        phase
        for line in lines
        for _, grid, online, _ in line["runs"]
        for phase, has in (("offline", online > 0), ("online", online < len(drawn["grids"][grid])))
        if has
    }
    controls = []
    if len(datasets) > 1:
        names = [("all", "all"), *((str(i), each["name"]) for i, each in enumerate(datasets))]
        controls.append(_select("dataset", "Dataset", names))
    if len(seeds) > 1:
        alone = [(str(seed), f"seed {seed} alone") for seed in seeds]
        controls.append(
            _select("seeds", "Seeds", [("mean", "mean and range"), ("each", "and each seed"), *alone])
        )
    if len(phases) > 1:
        controls.append(
            _choice("phase", "Phase", [("both", "both"), ("offline", "offline"), ("online", "online")])
        )
    if any(each["reference"] for each in datasets):
        controls.append(_choice("unit", "Value", [("score", "score"), ("return", "return")]))
    if any(each["transitions"] for each in datasets):
        controls.append(_choice("axis", "Seen", [("samples", "transitions"), ("share", "share of N")]))
    chips = "".join(_chip(number, look) for number, look in enumerate(drawn["looks"]))
    panels = "".join(
        f'<figure class="panel" data-dataset="{number}">'
        f"<figcaption>{_name(each['name'], len(datasets))}</figcaption>"
        f'<div class="plot" role="img" aria-label="Curves on {escape(each["name"])}"></div></figure>'
        for number, each in enumerate(datasets)
    )
    return (
        '<section id="curves" aria-label="Curves"><form class="bar" id="bar">'
        f'<div class="chips" role="group" aria-label="Algorithms">{chips}</div>'
        f'<div class="controls">{"".join(controls)}</div></form>'
        f'<div class="panels{" one" if len(datasets) == 1 else ""}" id="panels">{panels}</div>'
        f'<p class="caption">{_caption(drawn, phases, len(seeds))}</p></section>'
    )


def _name(name: str, datasets: int) -> str:
    if datasets == 1:
        return f"<span>{escape(name)}</span>"
    return f'<button type="button" class="name" title="Alone, and back to all">{escape(name)}</button>'


def _chip(number: int, look: Mapping[str, Any]) -> str:
    dashes = f' stroke-dasharray="{look["dash"]}"' if look["dash"] else ""
    return (
        f'<button type="button" class="chip" aria-pressed="true" data-look="{number}" '
        f'style="--light:{look["colour"]};--dark:{look["dark"]}">'
        '<svg width="22" height="8" aria-hidden="true">'
        f'<line x1="1" x2="21" y1="4" y2="4" stroke="currentColor" stroke-width="2.5"{dashes}/></svg>'
        f"<span>{escape(look['label'])}</span></button>"
    )


def _select(key: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<label class="control"><span>{label}</span><select name="{key}">{items}</select></label>'


def _choice(key: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    items = "".join(
        f'<label><input type="radio" name="{key}" value="{value}"{" checked" if not place else ""}>'
        f"<span>{escape(text)}</span></label>"
        for place, (value, text) in enumerate(options)
    )
    return f'<fieldset class="control"><legend>{label}</legend><div class="choice">{items}</div></fieldset>'


def _caption(drawn: Mapping[str, Any], phases: set[str], seeds: int) -> str:
    said = ["Lines are means over seeds, bands run from the lowest seed to the highest"] if seeds > 1 else []
    short = any(len({run[1] for run in line["runs"]}) > 1 for line in drawn["lines"])
    failed = any(value is None for line in drawn["lines"] for run in line["runs"] for value in run[3])
    if short or failed:
        said.append("a dotted mean lacks seeds that failed or ended before")
    if any(each["mean"] is not None for each in drawn["datasets"]):
        said.append("the dashed grey line is the data’s own mean")
    if len(phases) > 1:
        said.append("the upright one is where the data ends and the online phase begins")
    frozen = {drawn["looks"][line["look"]]["label"] for line in drawn["lines"] if line["frozen"]}
    if frozen:
        said.append(
            f"{escape(listed(sorted(frozen)))} learns nothing online: its points there are evaluations"
        )
    said.append("click on an algorithm to hide it, twice to see it alone")
    text = "; ".join(said)
    mouse = "Drag over the curves to zoom in; click there twice to come back."
    return f'{text[0].upper()}{text[1:]}. <span class="mouse">{mouse}</span>'


def _protocols(studies: Mapping[str, Study]) -> str:
    """In words; studies of the same words together."""
    groups: dict[str, list[str]] = {}
    for name, study in studies.items():
        groups.setdefault(" ".join(_words.protocol(study)), []).append(name)
    told = "".join(
        f"<p>{_of(names) if len(studies) > 1 else ''}{escape(words)}</p>" for words, names in groups.items()
    )
    scale = (
        "<p>Scores are 100 · (return − minimum) / (maximum − minimum), with the reference returns of each "
        "dataset below. At n = N all of a dataset has been seen; x goes on from there by a step in the "
        "environment.</p>"
    )
    algorithms = "".join(
        f"<tr><th scope='row'>{escape(variant)}</th><td>{escape(_settings(settings))}</td></tr>"
        for variant, settings in _algorithms(studies)
    )
    return (
        f'<section id="protocol"><h2>Protocol</h2>{told}{scale}<details><summary>Settings of the '
        'algorithms</summary><div class="scroll" tabindex="0" role="region" aria-label="Settings">'
        f'<table class="plain"><tbody>{algorithms}</tbody></table></div></details></section>'
    )


def _of(names: Sequence[str]) -> str:
    return f"<b>{escape(listed(names))}.</b> "


def _algorithms(studies: Mapping[str, Study]) -> list[tuple[str, Study]]:
    """Variants of all studies; the study's name behind that of one which is not the same everywhere."""
    every = [(v, name, s) for name, study in studies.items() for v, s in study["algorithms"].items()]
    found: dict[str, Study] = {}
    for variant, name, settings in every:
        same = all(other == settings for called, _, other in every if called == variant)
        found[variant if same else f"{variant} ({name})"] = settings
    return list(found.items())


def _settings(settings: Study) -> str:
    values = ", ".join(f"{key} {_plain(value)}" for key, value in settings["config"].items())
    return f"{settings['algorithm']}: {values}"


def _plain(value: Any) -> str:
    return "(" + ", ".join(map(_plain, value)) + ")" if isinstance(value, list) else str(value)


def _statistics(sections: Sequence[tuple[str, Sequence[Section]]]) -> str:
    parts = ['<section id="statistics"><h2>Statistics</h2>']
    for place, (title, found) in enumerate(sections):
        parts.append(f'<p class="group">{escape(title)}</p>')
        for number, table in enumerate(found):
            if isinstance(table, Table):
                parts.append(html(f"table-{place}-{number}", table))
            else:
                parts.append(
                    f'<div class="statistic"><div class="heading"><h3>{escape(table.title)}</h3></div>'
                    f'<p class="reason">{escape(table.why)}</p></div>'
                )
    return "".join([*parts, "</section>"])


def _datasets(datasets: Mapping[str, Study]) -> str:
    cards = "".join(_card(name, about) for name, about in datasets.items())
    return f'<section id="datasets"><h2>Datasets</h2><div class="cards">{cards}</div></section>'


def _card(name: str, about: Study) -> str:
    facts = {"environment": about["env_id"] or f"none here; logged in {about['logged_in']['name']}"}
    reference = about["reference"] and Reference(**about["reference"])
    if about["given"] != name:
        facts["given as"] = about["given"]
    if about["transitions"]:
        mean = about["behaviour_return"]
        facts["transitions"] = spaced(about["transitions"])
        facts["episodes"] = spaced(about["episodes"])
        facts["mean return"] = f"{mean:.1f}" + (f", score {reference.score(mean):.1f}" if reference else "")
    if parts := about.get("segments_in_turn"):
        sizes = zip(parts, about["segments"], strict=True)
        facts["parts, in turn"] = ", ".join(f"{part} ({spaced(size)})" for part, size in sizes)
    facts["reference"] = (
        f"{reference.minimum:g} to {reference.maximum:g}, {reference.source}"
        if reference
        else "none: returns, no scores"
    )
    facts |= {f"note {place}" if place > 1 else "note": n for place, n in enumerate(about["notes"], 1)}
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    digest = f'<dt>digest</dt><dd class="digest">{escape(about["digest"])}</dd>'
    return f'<article class="card"><h3>{escape(name)}</h3><dl>{items}{digest}</dl></article>'


def _environments(studies: Mapping[str, Study]) -> str:
    """Where and with what rows were made; runs in the same surroundings together."""
    groups: dict[str, list[str]] = {}
    for name, study in studies.items():
        for run in study["runs"]:
            versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
            facts = {
                "device": run["device"],
                "processor": run["processor"],
                "platform": run["platform"],
                "commit": run["git_commit"] or "not from a checkout",
                "versions": versions,
            }
            items = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
            seeds = listed([str(seed) for seed in run["seeds"]])
            which = "seed" if len(run["seeds"]) == 1 else "seeds"
            groups.setdefault(items, []).append(f"{name}, {which} {seeds}, began {run['began']}")
    told = "".join(
        f'<div class="card"><dl><dt>runs</dt><dd>{"<br>".join(map(escape, runs))}</dd>{items}</dl></div>'
        for items, runs in groups.items()
    )
    return f'<section id="environment"><h2>Environment</h2>{told}</section>'


def _reruns(reruns: Mapping[str, Rerun]) -> str:
    parts = ['<section id="rerun"><h2>Rerun</h2>']
    for place, (name, rerun) in enumerate(reruns.items()):
        if len(reruns) > 1:
            parts.append(f"<h3>{escape(name)}</h3>")
        if rerun.command:
            words = " ".join(f"<span>{escape(word)}</span>" for word in rerun.command.split(" "))
            parts.append(
                f'<div class="command"><pre id="command-{place}" tabindex="0">{words}</pre>'
                '<span class="copies"><span class="said" role="status"></span>'
                f'<button type="button" class="copy" data-from="command-{place}" '
                'aria-label="Copy the command">Copy</button></span></div>'
            )
        parts += [f'<p class="note">{escape(remark)}</p>' for remark in rerun.remarks]
    return "".join([*parts, "</section>"])


def _dialog() -> str:
    """Where the browser lets nobody write to its clipboard, the text to copy by hand."""
    return (
        '<dialog id="by-hand" aria-label="Copy by hand"><p>Copy this by hand:</p>'
        '<textarea readonly rows="14" aria-label="Text to copy"></textarea>'
        '<form method="dialog"><button>Close</button></form></dialog>'
    )
