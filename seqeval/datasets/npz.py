"""NumPy's .npz files, given by path, in one of two layouts that differ in their fields.

D4RL's layout, as in HDF5 files: `observations`, `actions`, `rewards`, `terminals`, optionally `timeouts` and
`next_observations`. Strings and numbers named `env_id`, `behaviour`, `reference_min`, `reference_max`,
`reference_source`, `action_low`, `action_high` and `frame_stack` correspond to the attributes of an HDF5
file. They are allowed in both layouts.

OGBench's layout (Park et al., arXiv 2410.20092; github.com/seohongpark/ogbench) has no `timeouts`. Its
`terminals` mark the last row of a trajectory of fixed length: a truncation, not a termination. A file is
taken to be OGBench's if it has
- `masks`: the data of a single task, as OGBench creates it during loading. A transition is terminal if its
  `masks` is 0. An episode ends there, even if the trajectory continues after reaching a goal. With `valids`
  (OGBench's compact form) `terminals` mark two rows of each trajectory; such a file is refused;
- `qpos` without `masks`: the published files. They have no rewards, and if rewards have been added, nothing
  says which transitions are terminal. Such a file is refused.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from seqeval.datasets import LoadOptions, Source, _files, _rules
from seqeval.errors import UserError, one_line
from seqeval.types import Dataset

ATTRIBUTES = ("env_id", "behaviour", "frame_stack", *_files.REFERENCE_KEYS, *_files.BOUND_KEYS)


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a file.

    Raises UserError if it cannot be read, and for files of OGBench without rewards or without terminations.
    """
    path = _files.existing(name)
    raw, stored = _read(path)
    attributes = {key: _files.plain(raw.pop(key)) for key in ATTRIBUTES if key in raw}
    masks, notes = raw.pop("masks", None), []
    if set(_rules.REQUIRED) - raw.keys() == {"rewards"}:
        raise UserError(
            f"{_rules.missing_field(path, 'rewards', stored)}; if this is OGBench's data, save what its "
            "make_env_and_datasets returns for a single task (...-singletask-...)"
        )
    _rules.require_fields(path, stored)
    if raw.keys() >= set(_rules.REQUIRED) and "timeouts" not in raw:
        if masks is not None:
            if "valids" in stored:
                raise UserError(
                    f"{path}: is in OGBench's compact form; save it with compact_dataset=False instead"
                )
            notes.append(_end_by_masks(path, raw, masks))
        elif "qpos" in stored:
            raise UserError(
                f"{path}: has OGBench's field 'qpos', and 'terminals' are truncations in OGBench's files; "
                "add 'masks' (0 for terminal transitions, otherwise 1), or add 'timeouts' if 'terminals' are "
                "terminations"
            )
    dataset = _files.assemble(path, raw, attributes, options)
    return _rules.with_notes(dataset, notes)


SOURCE = Source(load, endings=(".npz",))


def _read(path: Path) -> tuple[dict[str, np.ndarray], set[str]]:
    """The known fields and attributes of a file, and the names of everything in it.

    Raises UserError if it is not such a file and, before any array is read, if they do not fit into memory.
    """
    known = (*_rules.REQUIRED, *_rules.OPTIONAL, "masks", *ATTRIBUTES)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            chosen = {key: members[key] for key in known if key in members}
            _rules.check_memory(
                str(path), _rules.size_of({key: _header(archive, info) for key, info in chosen.items()})
            )
            return {key: _array(archive, info) for key, info in chosen.items()}, set(members)
    except UserError:
        raise
    except Exception as error:  # zipfile and NumPy raise anything for damaged files
        raise UserError(f"{path}: not a readable .npz file of numbers ({one_line(error)})") from error


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and type of an array in an archive, without reading the array.

    Raises ValueError if the member is not as large as an array of this shape and type.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Python decompresses the others in one piece, however much a few bytes may become.
        raise ValueError(f"{info.filename!r:.80} is compressed in another way than NumPy does")
    with archive.open(info) as member:
        # Versions 2 and 3 of NumPy's format differ in encoding only.
        first = np.lib.format.read_magic(member) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
        begin = member.tell()
    if begin + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{info.filename!r:.80} does not have the size that it declares")
    if info.filename.removesuffix(".npy") in ATTRIBUTES and info.file_size > _files.ATTRIBUTE_BYTES:
        raise ValueError(f"{info.filename!r} is larger than {_files.ATTRIBUTE_BYTES >> 20} MiB")
    return shape, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _end_by_masks(path: Path, raw: dict[str, np.ndarray], masks: np.ndarray) -> str:
    """Replace OGBench's `terminals` and `masks` by D4RL's `terminals` and `timeouts`; return a note about it.

    Raises UserError if the values are not flags.
    """
    for field, values in (("terminals", raw["terminals"]), ("masks", masks)):
        if values.dtype.kind not in "fiub" or values.shape != raw["rewards"].shape:
            raise UserError(f"{path}: field {field!r} must hold one number per transition, as 'rewards' does")
        if (bad := np.ravel((values != 0) & (values != 1))).any():
            row = int(bad.argmax())
            raise UserError(f"{path}: field {field!r} is neither 0 nor 1 in row {row}: {values[row]}")
    terminal, ends = masks == 0, raw["terminals"] == 1
    raw |= {"terminals": terminal, "timeouts": ends & ~terminal}
    return (
        f"OGBench's layout: {int(terminal.sum())} transitions terminate according to 'masks', "
        f"{int(raw['timeouts'].sum())} are truncated according to 'terminals'"
    )
