"""Compares the rows and policies of two study directories, to the last bit.

Nothing here depends on the version of seqeval that wrote them: runs are found by their files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

IGNORED = ("study", "train_seconds", "eval_seconds")  # columns


def differences(old: Path, new: Path, tensor_names: bool = True) -> list[str]:
    """How the runs in two study directories differ: one line for each difference, with both values.

    Rows are compared exactly, except for the columns in IGNORED and those that only `new` has. Policies are
    compared bit by bit; with `tensor_names` False, as collections of tensors without names.
    """
    old_runs, new_runs = run_folders(old), run_folders(new)
    found = [
        f"{run}: only in {old if run in old_runs else new}"
        for run in sorted(old_runs.keys() ^ new_runs.keys())
    ]
    for run in sorted(old_runs.keys() & new_runs.keys()):
        old_rows, new_rows = rows_of(old_runs[run]), rows_of(new_runs[run])
        for line, (old_row, new_row) in enumerate(zip(old_rows, new_rows, strict=False), start=1):
            for column in old_row:
                first, second = json.dumps(old_row[column]), json.dumps(new_row.get(column))
                if first != second:
                    found.append(f"{run}, row {line}, {column}: {first} and {second}")
        if len(old_rows) != len(new_rows):
            found.append(f"{run}: {len(old_rows)} rows and {len(new_rows)}")
        if policy_of(old_runs[run], tensor_names) != policy_of(new_runs[run], tensor_names):
            found.append(f"{run}: policy.pt differs")
    return found


def run_folders(study: Path) -> dict[str, Path]:
    """The folder of each run in a study directory, by its name `<dataset>/<variant>/seed-<n>`."""
    files = study.glob("*/*/*/seed-*/rows.jsonl")
    return {"/".join(file.parts[-4:-1]): file.parent for file in files}


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run without the columns in IGNORED; a metric's column is `train/` and its name."""
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {f"train/{name}": value for name, value in row.pop("metrics", {}).items()}
    return [{column: row[column] for column in row if column not in IGNORED} for row in rows]


def policy_of(run: Path, tensor_names: bool) -> list[tuple[str, str]] | None:
    """All values in a run's policy as sorted pairs of name and content; None if it has no policy.

    With `tensor_names` False, only the tensors, each under the name "".
    """
    file = run / "policy.pt"
    if not file.exists():
        return None
    values = _flatten("", torch.load(file, map_location="cpu", weights_only=True))
    if tensor_names:
        return sorted((name, _content(value)) for name, value in values)
    return sorted(("", _content(value)) for _, value in values if isinstance(value, torch.Tensor))


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flatten(f"{name}/{key}", item)
    else:
        yield name, value


def _content(value: Any) -> str:
    """A text that is the same for the same value alone; for tensors, to the last bit."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    bits = value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(bits).hexdigest()}"
