"""Checks of the files of a study directory when they are read: each fault is a UserError.

Files may be damaged, and a study directory may come from anybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from seqeval import atomic_io
from seqeval.errors import UserError, one_line
from seqeval.types import Row

REPEAT = "remove its folder and run the study again, which repeats only that seed"
RESTORE = "restore it, or give another --out"
STUDY_TYPES = {
    **dict.fromkeys(("protocol", "online", "evaluation", "evaluators", "matmul"), dict),
    "datasets": dict,
    "algorithms": dict,
    "precision": str,
    "invocations": list,
}
DATASET_TYPES = {"name": str, "given": str, "env_id": str | None, "digest": str, "reference": dict | None}
ALGORITHM_TYPES = {"algorithm": str, "config": dict}
INVOCATION_TYPES = {"began": str, "seeds": list, "updates": dict, "device": str, "versions": dict}
NUMBER = int | float
PROGRESS_TYPES = {
    "updates": NUMBER,
    "of": NUMBER,
    "per_second": NUMBER | None,
    "stopped": bool,
    "time": NUMBER,
}
ROW_TYPES = {
    "str": str,
    "int": int,
    "float": NUMBER,
    "float | None": NUMBER | None,
    "list[float]": list,
    "list[int]": list,
    "list[bool] | None": list | None,
    "dict[str, float]": dict,
}
ROW_FIELDS = {field.name: ROW_TYPES[str(field.type)] for field in fields(Row)}
ROW_REQUIRED = ("dataset", "variant", "seed", "phase", "samples", "status", "metrics", "evaluations")


class StoredObject(dict[str, Any]):
    """An object of study.json. Raises UserError where a key is looked up that it lacks."""

    def __init__(self, values: Mapping[str, Any], file: Path) -> None:
        super().__init__(values)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.file}: {key!r} is missing, so it is damaged or of another version; {RESTORE}")


def read_study(file: Path) -> dict[str, Any]:
    """The content of study.json.

    Raises UserError if it is damaged or an older version wrote it, and later wherever something that it lacks
    is looked up.
    """

    try:
        study = json.loads(file.read_bytes(), object_hook=lambda values: StoredObject(values, file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged, not JSON ({one_line(error)}); {RESTORE}") from error
    if not isinstance(study, dict) or not study:
        raise UserError(f"{file}: damaged, holds no study; {RESTORE}")
    recorded = study.pop("checksum", None)
    if recorded not in (None, checksum(study)):
        raise UserError(f"{file}: damaged, its checksum is not that of its content; {RESTORE}")
    if "invocations" not in study:
        raise UserError(
            f"{file.parent}: written by an older version of seqeval; read it with that, or give another --out"
        )
    if fault := _study_fault(study):
        raise UserError(f"{file}: damaged, {fault}; {RESTORE}")
    return study


def checksum(study: Mapping[str, Any]) -> str:
    """A digest of a study's values, which study.json holds too."""
    return atomic_io.digest(json.dumps(study, sort_keys=True).encode())


def is_progress(values: Any) -> bool:
    """Whether a value is the content of a progress.json."""
    return (
        isinstance(values, dict)
        and values.keys() == PROGRESS_TYPES.keys()
        and all(isinstance(values[key], kind) for key, kind in PROGRESS_TYPES.items())
    )


def _study_fault(study: dict[str, Any]) -> str | None:
    if fault := _type_fault(study, STUDY_TYPES):
        return fault
    entries: list[tuple[Any, Mapping[str, Any]]] = [
        (entry, INVOCATION_TYPES) for entry in study["invocations"]
    ]
    entries += [(entry, DATASET_TYPES) for entry in study.get("datasets", {}).values()]
    entries += [(entry, ALGORITHM_TYPES) for entry in study.get("algorithms", {}).values()]
    return next((fault for entry, types in entries if (fault := _type_fault(entry, types))), None)


def check_row(values: Any) -> str | None:
    """Why a line of rows.jsonl is not a row; None if it is one."""
    if fault := _type_fault(values, ROW_FIELDS):
        return fault
    if missing := [key for key in ROW_REQUIRED if key not in values]:
        return f"{missing[0]!r} is missing"
    for group in ("metrics", "evaluations"):
        if not all(isinstance(value, NUMBER | None) for value in values[group].values()):
            return f"{group!r} holds something other than numbers"
    return None


def finished_record(folder: Path | str, rows_bytes: int) -> dict[str, Any] | None:
    """The content of a run's finished.json if it belongs to a rows.jsonl of this size, otherwise None."""
    try:
        with open(f"{folder}/finished.json", "rb", buffering=0) as file:
            record = json.loads(file.read())
        return record if record["rows_bytes"] == rows_bytes else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):  # none, or it is damaged
        return None


def read_finished(file: Path, finished: Path) -> bytes:
    """The content of a run's file. Raises UserError if it is not what it was when the run finished.

    `finished` is the run's finished.json; without one, or in one of an older version without digests, any
    content is accepted.
    """
    content = file.read_bytes()
    try:
        digests = json.loads(finished.read_bytes()).get("digests", {})
        recorded = digests.get(str(file.relative_to(finished.parent)))
    except FileNotFoundError:
        return content
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{finished}: damaged ({one_line(error)}); {REPEAT}") from error
    if recorded is not None and recorded != atomic_io.digest(content):
        raise UserError(f"{file}: damaged, its content has changed since the run finished; {REPEAT}")
    return content


def refuse_links(folder: Path) -> None:
    """Raises UserError if the folder of a run, or one of the two folders around it, is a symbolic link.

    A run is removed and written again, which must not happen outside the study directory.
    """
    for path in (folder, folder.parent, folder.parent.parent):
        if path.is_symlink():
            raise UserError(f"{path}: a symbolic link; replace it by the folder that it leads to")


def _type_fault(values: Any, types: Mapping[str, Any]) -> str | None:
    if not isinstance(values, dict):
        return f"{values!r:.40} is not an object"
    for key, kind in types.items():
        if key in values and not isinstance(values[key], kind):
            return f"{key!r} is of the type {type(values[key]).__name__}"
    return None
