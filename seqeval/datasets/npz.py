"""NumPy's .npz files given by path, in either of two layouts, told apart by their fields.

D4RL's, as in HDF5 files: `observations`, `actions`, `rewards`, `terminals`, and where they exist `timeouts`
and `next_observations`. Strings and numbers called `env_id`, `behaviour`, `reference_min`, `reference_max`
and `reference_source` are what an HDF5 file has as attributes, in the other layout too.

OGBench's (Park et al., arXiv 2410.20092; github.com/seohongpark/ogbench), which has no `timeouts`.
`terminals` there marks the last row of a trajectory of a set length: a cut, which terminates nothing. A file
is taken for OGBench's by
  `masks`: the data of a single task, as OGBench makes it while it loads. A transition is terminal where
    `masks` is 0; an episode ends there, even where the trajectory goes on, as it does at a goal. With
    `valids`, OGBench's compact form, `terminals` marks two rows of each trajectory: refused;
  `qpos`, without `masks`: what OGBench publishes. It has no rewards, and where somebody has added them,
    nothing says what is terminal. Both are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from seqeval.datasets import _files, _rules
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

HEADERS = {  # of the versions of NumPy's format that hold numbers
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
ATTRIBUTES = ("env_id", "behaviour", "reference_min", "reference_max", "reference_source")


def names() -> list[str]:
    return []


def handles(name: str) -> bool:
    return name.lower().endswith(".npz")


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The dataset of a file, called after it without the ending. `env_id` goes before the file's own.

    Raises UserError for what cannot be read, and for OGBench's data where rewards or what is terminal is not
    in it.
    """
    path = _files.existing(name)
    raw, there = _read(path)
    attributes = {key: _files.plain(raw.pop(key)) for key in ATTRIBUTES if key in raw}
    masks, notes = raw.pop("masks", None), []
    if set(_rules.REQUIRED) - raw.keys() == {"rewards"}:
        raise UserError(
            f"{path}: field 'rewards' is missing, and offline RL learns from rewards; of OGBench's data save "
            "what its make_env_and_datasets returns for a single task, …-singletask-…"
        )
    if raw.keys() >= set(_rules.REQUIRED) and "timeouts" not in raw:
        if masks is not None:
            if "valids" in there:
                raise UserError(f"{path}: OGBench's compact form; save it as of compact_dataset=False")
            notes.append(_end_by_masks(path, raw, masks))
        elif "qpos" in there:
            raise UserError(
                f"{path}: by its 'qpos' it is OGBench's, where 'terminals' are cuts; add 'masks', 0 where a "
                "transition is terminal and else 1, or 'timeouts', if 'terminals' are what they are called"
            )
    dataset = _files.assemble(path, raw, attributes, env_id, rules)
    return replace(dataset, notes=(*notes, *dataset.notes))


def _read(path: Path) -> tuple[dict[str, np.ndarray], set[str]]:
    """The fields and attributes of either layout, and the names of all that is there. Raises UserError where
    it is no such file and, before anything is read, where memory will not hold it."""
    wanted = (*_rules.REQUIRED, *_rules.OPTIONAL, "masks", *ATTRIBUTES)
    try:
        # Opened here: where it is no archive, np.load would leave it open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            _rules.check_memory(str(path), _rules.size_of(_headers(path, wanted)))
            return {key: np.asarray(file[key]) for key in wanted if key in file}, set(file)
    # What NumPy raises for damaged archives, damaged arrays in them, arrays of objects, a single array.
    except (OSError, ValueError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable .npz file of numbers ({reason})") from error


def _headers(path: Path, keys: Iterable[str]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shapes and types of arrays in an archive, of which no more is read."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for key in keys:
            if f"{key}.npy" not in archive.namelist():
                continue
            with archive.open(f"{key}.npy") as member:
                version = np.lib.format.read_magic(member)
                if version not in HEADERS:
                    raise ValueError(f"{key!r} is an array of format {version[0]}.{version[1]}")
                shape, _, dtype = HEADERS[version](member)
            found[key] = shape, dtype
    return found


def _end_by_masks(path: Path, raw: dict[str, np.ndarray], masks: np.ndarray) -> str:
    """Turns OGBench's `terminals` and `masks` into D4RL's `terminals` and `timeouts`, in place; returns a
    note that says so. Raises UserError where they are no flags."""
    for field, values in (("terminals", raw["terminals"]), ("masks", masks)):
        if values.dtype.kind not in "fiub" or values.shape != raw["rewards"].shape:
            raise UserError(f"{path}: field {field!r} must be a number for each transition, like 'rewards'")
        if (bad := np.ravel((values != 0) & (values != 1))).any():
            row = int(bad.argmax())
            raise UserError(f"{path}: field {field!r} is neither 0 nor 1 in row {row}: {values[row]}")
    terminal, ends = masks == 0, raw["terminals"] == 1
    raw |= {"terminals": terminal, "timeouts": ends & ~terminal}
    return (
        f"OGBench's layout: {int(terminal.sum())} transitions are terminal by 'masks', "
        f"{int(raw['timeouts'].sum())} cut by 'terminals'"
    )
