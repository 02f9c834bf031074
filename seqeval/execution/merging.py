"""Merges a study with the one that its directory holds: what may be added, and what must be the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqeval.errors import UserError, nearest


def merge(
    stored: Mapping[str, Any], study: Mapping[str, Any], redo: Sequence[str], path: Path
) -> dict[str, Any]:
    """The resolved study of a command, merged with the one in the directory `path`.

    `protocol`, `online`, `evaluation`, `precision` and the code of evaluators must be the same, and so must
    every dataset, algorithm and recipe of the same name, except the variants in `redo`; new ones are added.
    The stored `matmul` backends are kept. Raises UserError that names the first value that differs.
    """
    for group in ("protocol", "online", "evaluation", "evaluators"):
        _require_same(stored[group], study[group], path, group)
    _require_same({"precision": stored["precision"]}, {"precision": study["precision"]}, path)
    for kind, changed in (("datasets", ()), ("algorithms", redo)):
        for name in (stored[kind].keys() & study[kind].keys()).difference(changed):
            _require_same(_identity(stored[kind][name]), _identity(study[kind][name]), path, name)
    recipes = _merged_recipes(stored.get("recipes", {}), study.get("recipes", {}), redo, path)
    return {
        **study,
        "recipes": recipes,
        "datasets": stored["datasets"] | study["datasets"],
        "algorithms": stored["algorithms"] | study["algorithms"],
        "matmul": study["matmul"] | stored["matmul"],
        "invocations": stored["invocations"] + study["invocations"],
    }


def _merged_recipes(
    stored: Mapping[str, Any], given: Mapping[str, Any], redo: Sequence[str], path: Path
) -> dict[str, Any]:
    """The recipes of both, by dataset and variant. Raises UserError if one has changed."""
    for dataset in stored.keys() & given.keys():
        before, now = stored[dataset], given[dataset]
        for name in (before.keys() & now.keys()).difference(redo):
            _require_same(before[name]["config"], now[name]["config"], path, f"{name} on {dataset}")
    return {name: stored.get(name, {}) | given.get(name, {}) for name in {**stored, **given}}


def check_redo(
    study: Mapping[str, Any],
    redo: Sequence[str],
    present: Mapping[str, Sequence[tuple[str, int]]],
    path: Path,
) -> None:
    """Raises UserError if `redo` names a variant that the study lacks, or one with runs that it lacks.

    `present` holds dataset and seed of the runs that the directory has of each variant.
    """
    names = study["algorithms"]
    for variant in redo:
        if variant not in names:
            raise UserError(
                f"redo: {variant!r} is not among the algorithms of this command{nearest(variant, names)}; "
                f"they are {', '.join(names)}"
            )
        seeds = study["invocations"][-1]["seeds"]
        lost = [run for run in present[variant] if run[0] not in study["datasets"] or run[1] not in seeds]
        if lost:
            runs = "; ".join(f"{dataset}, seed {seed}" for dataset, seed in lost)
            raise UserError(
                f"{path}: --redo {shlex.quote(variant)} would also remove runs that this command does not "
                f"train again ({runs}); add their datasets and seeds to the command"
            )


def _require_same(stored: Mapping[str, Any], given: Mapping[str, Any], path: Path, group: str = "") -> None:
    given = json.loads(json.dumps(given))  # as JSON stores it: a tuple becomes a list
    # The code of an algorithm comes first, since a changed file explains all other differences.
    for key in sorted(stored.keys() | given.keys(), key=lambda key: (key != "code", key)):
        if stored.get(key) != given.get(key):
            if key == "digest":
                raise UserError(
                    f"{path}: {group!r} is other data there; rename one of them, or give another --out"
                )
            advice = "use the same value"
            if key == "code":
                advice = f"restore the file, or train its runs again with --redo {shlex.quote(group)}"
            elif group == "evaluators":
                advice = "restore the file"
            name = f"{group}.{key}" if group else key
            raise UserError(
                f"{path}: {name} is {stored.get(key)!r} there and {given.get(key)!r} now; "
                f"give another --out, or {advice}"
            )


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a dataset's or algorithm's entry that defines its numbers, one level deep."""
    if "digest" in settings:
        return {key: settings[key] for key in ("env_id", "digest", "reference")}
    if "code" in settings:  # an algorithm in a file: its content counts, not its path
        name = settings["algorithm"].rpartition(":")[2]
        return {"algorithm": name, "code": settings["code"]} | dict(settings["config"])
    return {"algorithm": settings["algorithm"]} | dict(settings["config"])
