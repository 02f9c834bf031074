"""A page for each algorithm, from its docstring, its `Config`, its recipes and its figure."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import fields
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any

import torch

from seqeval import plugins
from seqeval.algorithm import Algorithm, Config, Image, Spec, Vector
from seqeval.cli.algorithms import describe, field_comments

from .docstrings import table

FIGURES = Path(__file__).parents[1] / "figures"
ARRIVALS = {  # what a minibatch may hold besides a transition, and when it may be used
    "next_actions": "the next logged action: with its transition, masked where the episode was cut",
    "returns_to_go": "the return-to-go: once the rest of the episode is visible and the episode is complete",
    "times": "the step of the episode: with its transition",
    "best_episodes": "the rank of an episode by its return: with the last transition of the episode",
}
METRICS = {
    "log_prob": "log-likelihood of logged actions",
    "q_value": "values of its critics",
    "td_error": "TD errors",
}


def pages() -> dict[str, str]:
    built_in = [
        name for name in plugins.names() if plugins.find(name).__module__.startswith("seqeval.algos.")
    ]
    return {f"algorithms/{name.replace(':', '_')}.md": _page(name) for name in built_in}


def _page(name: str) -> str:
    found = plugins.find(name)
    first, _, rest = describe(found).partition("\n\n")
    title, colon, _ = first.partition(":")
    heading = f"{title} (`{name}`)" if colon and ":" not in name else f"`{name}`"
    text = [f"# {heading}", "", first, "", rest, ""]
    text += ["## What it supports", "", table(["", ""], _facts(found)), ""]
    text += ["## Settings", "", _settings(name, found.Config), ""]
    if recipes := _recipes(name):
        text += [*recipes, ""]
    if (FIGURES / f"{name}.png").exists():
        text += [
            "## A curve",
            "",
            f"![Score of {name} and bc against transitions seen](/figures/{name}.png)",
            "",
        ]
        text += ["The figure shows how a curve looks, with small networks and few updates; it does not rank "]
        text += ["algorithms. [](/algorithms.md) says how it was made.", ""]
    return "\n".join(text)


def _facts(found: type[Algorithm]) -> list[list[str]]:
    agent = _small_agent(found)
    has = [text for name, text in METRICS.items() if getattr(found, name) is not getattr(Algorithm, name)]
    rows = [
        ["actions, with vectors as observations", " and ".join(found.action_spaces) or "–"],
        ["actions, with images as observations", " and ".join(found.image_action_spaces) or "–"],
        ["learns from the data", _yes(found.learns_offline)],
        ["learns online", _yes(found.learns_online)],
        ["metrics without an environment", ", ".join(has) or "the squared error of its actions only"],
    ]
    if found.needs_episodes:
        words = {"parts": "consecutive transitions", "complete": "complete episodes"}[found.needs_episodes]
        rows.append(["needs", f"{words}: `--protocol.order` episodes, logged, return or segments-by-episode"])
    if found.learns_online:
        rows.append(["updates per online step", str(found.updates_per_step)])
        rows.append(["online share of a minibatch", str(found.mix)])
    return rows + _sampling(agent)


def _sampling(agent: Algorithm) -> list[list[str]]:
    """What a minibatch holds, and when each part of it may be used."""
    chosen = agent.sampling
    kind = {
        "transitions": "single transitions",
        "n_step": f"up to {chosen.length} consecutive visible transitions, summed",
        "sequences": f"sequences of up to {chosen.length} visible transitions of one episode",
    }[chosen.kind]
    extra = [text for name, text in ARRIVALS.items() if getattr(chosen, name)]
    return [["a minibatch holds", kind], *([["it may also see", "; ".join(extra)]] if extra else [])]


def _small_agent(found: type[Algorithm]) -> Algorithm:
    spaces = found.action_spaces or found.image_action_spaces
    observation = Vector(3) if found.action_spaces else Image(3, 32, 32)
    spec = Spec(observation, 2, discrete="continuous" not in spaces)
    return found(spec, found.Config(), (0,), 2, torch.device("cpu"))


def _settings(name: str, config: type[Config]) -> str:
    defaults: Any = config()
    limits = _merged(getattr(cls, "limits", {}) for cls in reversed(config.__mro__))
    comments = _merged(field_comments(cls) for cls in reversed(config.__mro__))
    rows = []
    for field in fields(defaults):
        kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        rows.append(
            [
                f"`{field.name}`",
                f"`{kind}`",
                f"`{getattr(defaults, field.name)!r}`",
                _limits(*limits[field.name]) if field.name in limits else "",
                "yes" if field.name in config.batchable else "",
                f"`{config.ranges[field.name]}`" if field.name in config.ranges else "",
                comments.get(field.name, ""),
            ]
        )
    note = (
        f'Set them in the name: `"{name}:key=value,key=value,name=label"`. Variants that differ only in '
        "*batchable* settings are trained together. `random(12)` draws from the *range*."
    )
    return f"{note}\n\n" + table(
        ["setting", "type", "default", "limits", "batchable", "range", "meaning"], rows
    )


def _recipes(name: str) -> list[str]:
    """The published settings: a line for each dataset of each source."""
    path = files("seqeval.recipes") / f"{name}.csv"
    if ":" in name or not path.is_file():
        return []
    lines: dict[tuple[str, str, str], list[str]] = {}
    for row in csv.DictReader(path.read_text().splitlines()):
        if row["setting"]:
            key = (row["dataset"], row["phase"], row["source"].partition(":")[0])
            lines.setdefault(key, []).append(f"`{row['setting']}={row['value']}`")
    rows = [
        [f"`{dataset}`", phase, ", ".join(settings), source]
        for (dataset, phase, source), settings in lines.items()
    ]
    note = (
        "Settings that authors publish, by dataset; a study takes them by default. `*` stands for any text. "
        f"`seqeval algorithms show {name} --dataset NAME` says what a study takes on one dataset, and why."
    )
    return ["## Recipes", "", note, "", table(["dataset", "phase", "settings", "source"], rows)]


def _limits(low: float, high: float) -> str:
    return f"at least {low:g}" if high == inf else f"{low:g} to {high:g}"


def _merged(parts: Iterable[Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _yes(value: bool) -> str:
    return "yes" if value else "no"
