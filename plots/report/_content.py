"""What the page shows around the curves, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from seqeval.analysis import Studies, Study
from seqeval.types import Reference

from .. import style
from .._text import capitalized, counted, listed, spaced
from . import _protocol

Datasets = Mapping[str, Mapping[str, Any]]


class Control(NamedTuple):
    """A control of the curves: its options as (value, text), shown as a drop-down or as radio buttons."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    is_select: bool = False


def lead(rows: pd.DataFrame, datasets: Datasets) -> str:
    """One sentence below the title."""
    sizes = [dataset["transitions"] for dataset in datasets.values() if dataset["transitions"]]
    on = f" on {counted(len(sizes), 'dataset')}" if sizes else ""
    both_phases = {*rows["phase"].unique()} == {"offline", "online"}
    seen = "the data seen" if sizes else "the environment steps seen"
    online = ", and then of online steps" if sizes and both_phases else ""
    algorithms = counted(rows["variant"].nunique(), "algorithm")
    return f"{algorithms}{on}, {style.seed_count(rows)} each: performance as a function of {seen}{online}."


def controls(curves: Mapping[str, Any], value: str | None = None) -> list[Control]:
    """The controls that offer a choice on these curves; `value` is the metric that they show first."""
    datasets = curves["datasets"]
    seeds = _seeds(curves)
    found = []
    if len(datasets) > 1:
        names = [("all", "all"), *((str(i), dataset["name"]) for i, dataset in enumerate(datasets))]
        found.append(Control("dataset", "Dataset", names, is_select=True))
    if len(seeds) > 1:
        single = [(str(seed), f"only seed {seed}") for seed in seeds]
        options = [("mean", "mean and range"), ("each", "plus each seed"), *single]
        found.append(Control("seeds", "Seeds", options, is_select=True))
    if _phases(curves) == {"offline", "online"}:
        phases = [("both", "both"), ("offline", "offline"), ("online", "online")]
        found.append(Control("phase", "Phase", phases))
    values = [("score", "score")] if any(dataset["reference"] for dataset in datasets) else []
    if any(number is not None for line in curves["lines"] for run in line["runs"] for number in run[3]):
        values.append(("return", "return"))
    values += [(f"metric-{index}", name) for index, name in enumerate(curves["metrics"])]
    values.sort(key=lambda option: option[1] != value)  # keeps the order of the others
    if len(values) > 1 or value is not None:
        found.append(Control("unit", "Value", values, is_select=len(values) > 2))
    if any(dataset["transitions"] for dataset in datasets):
        found.append(Control("axis", "Seen", [("samples", "transitions"), ("share", "share of N")]))
    return found


def _seeds(curves: Mapping[str, Any]) -> list[int]:
    return sorted({run[0] for line in curves["lines"] for run in line["runs"]})


def _phases(curves: Mapping[str, Any]) -> set[str]:
    runs = [
        (curves["grids"][grid], online) for line in curves["lines"] for _, grid, online, *_ in line["runs"]
    ]
    offline = {"offline"} if any(online > 0 for _, online in runs) else set()
    return offline | ({"online"} if any(online < len(grid) for grid, online in runs) else set())


def caption(curves: Mapping[str, Any]) -> str:
    """How to read and use the curves."""
    lines = curves["lines"]
    parts = []
    if len(_seeds(curves)) > 1:
        parts.append("Lines are means over seeds, and bands show the range over seeds")
    ends_early = any(len({run[1] for run in line["runs"]}) > 1 for line in lines)
    if ends_early or any(value is None for line in lines for run in line["runs"] for value in run[3]):
        parts.append("a dotted mean lacks seeds that failed or ended early")
    if any(dataset["mean"] is not None for dataset in curves["datasets"]):
        parts.append("the dashed grey line is the mean of the data")
    if _phases(curves) == {"offline", "online"}:
        parts.append("the vertical line marks the end of the data, where the online phase begins")
    if frozen := {curves["styles"][line["style"]]["label"] for line in lines if line["frozen"]}:
        verb = "does" if len(frozen) == 1 else "do"
        parts.append(f"{listed(sorted(frozen))} {verb} not learn online: one policy is re-evaluated")
    if curves["hidden"]:
        parts.append(
            "of each large sweep only the best setting at the end is shown at first; "
            f"{len(curves['hidden'])} others are hidden"
        )
    parts.append("click an algorithm to hide or show it, double-click to show only it")
    return f"{capitalized('; '.join(parts))}."


def protocols(studies: Studies) -> list[tuple[str, str]]:
    """Study names and the description of their protocol; studies with the same description together."""
    groups: dict[str, list[str]] = {}
    for name, study in studies.items():
        groups.setdefault(_protocol.describe(study), []).append(name)
    return [(listed(names), text) for text, names in groups.items()]


def algorithms(studies: Studies) -> list[tuple[str, str]]:
    """Variants of all studies and their settings; a variant that differs between studies names its study."""
    variants = [(v, name, s) for name, study in studies.items() for v, s in study["algorithms"].items()]
    found: dict[str, str] = {}
    for variant, name, settings in variants:
        same = all(other == settings for called, _, other in variants if called == variant)
        values = ", ".join(f"{key} {_plain(value)}" for key, value in settings["config"].items())
        found[variant if same else f"{variant} ({name})"] = f"{settings['algorithm']}: {values}"
    return list(found.items())


def _plain(value: Any) -> str:
    return "(" + ", ".join(map(_plain, value)) + ")" if isinstance(value, list) else str(value)


def dataset_facts(dataset: Study, name: str) -> dict[str, str]:
    """What a dataset's card says, except the digest."""
    facts = {"environment": dataset["env_id"] or f"none (logged in {dataset['logged_in']['name']})"}
    reference = dataset["reference"] and Reference(**dataset["reference"])
    if dataset["given"] != name:
        facts["given as"] = dataset["given"]
    if dataset["transitions"]:
        mean = dataset["behaviour_return"]
        facts["transitions"] = spaced(dataset["transitions"])
        facts["episodes"] = spaced(dataset["episodes"])
        facts["mean return"] = f"{mean:.1f}" + (f", score {reference.score(mean):.1f}" if reference else "")
    if names := dataset["segments_in_turn"]:
        sizes = zip(names, dataset["segments"], strict=True)
        facts["segments, in turn"] = ", ".join(f"{segment} ({spaced(size)})" for segment, size in sizes)
    facts["reference"] = (
        f"{reference.minimum:g} to {reference.maximum:g}, {reference.source}"
        if reference
        else "none: returns instead of scores"
    )
    return facts | {f"note {i}" if i > 1 else "note": note for i, note in enumerate(dataset["notes"], 1)}


def environments(studies: Studies) -> list[tuple[list[str], dict[str, str]]]:
    """Hardware and software of each invocation; invocations with the same environment together."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, study in studies.items():
        for invocation in study["invocations"]:
            packages = invocation["versions"].items()
            facts = {
                "device": invocation["device"],
                "processor": invocation["processor"],
                "platform": invocation["platform"],
                "commit": invocation["git_commit"] or "not a git checkout",
                "versions": ", ".join(f"{package} {version}" for package, version in packages),
            }
            seeds = listed([str(seed) for seed in invocation["seeds"]])
            noun = "seed" if len(invocation["seeds"]) == 1 else "seeds"
            text = f"{name}, {noun} {seeds}, started {invocation['began']}"
            groups.setdefault(tuple(facts.items()), []).append(text)
    return [(invocations, dict(facts)) for facts, invocations in groups.items()]
