"""Arrays of files: read, or left in their files and mapped into memory if they do not fit there.

A mapped array is a NumPy array whose pages are read from the file when they are needed and given up when
memory is short. Rows are gathered from it as from any other array, at the speed of the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval.datasets import _memory
from seqeval.errors import UserError, one_line


def read(source: str, field: str, values: Any) -> np.ndarray:
    """The array of a field of an open file. Raises UserError if it cannot be read completely."""
    try:
        return values if isinstance(values, np.ndarray) else values[...]
    except Exception as error:  # h5py raises anything for damaged data
        raise UserError(f"{source}: field {field!r} cannot be read completely ({one_line(error)})") from error


def mapped(path: Path, field: h5py.Dataset) -> np.ndarray | None:
    """A field of an HDF5 file as a mapped array; None if it is compressed or stored in chunks."""
    offset = field.id.get_offset()
    if offset is None or field.chunks is not None or not field.dtype.isnative:
        return None
    return np.memmap(path, field.dtype, "r", offset, field.shape)


def note(field: str, size: int) -> str:
    """Says that a field stays in its file."""
    free = _memory.free_memory() or 0
    return (
        f"{field} ({size / 1e9:.1f} GB) do not fit into the {free / 1e9:.1f} GB of free memory: "
        "they are read from the file whenever they are sampled, at the speed of the disk"
    )
