"""Arrays that stay in their files and are mapped into memory, for data that does not fit there.

A mapped array is a NumPy array whose pages are read from the file when they are needed and given up when
memory is short. Rows are gathered from it as from any other array, at the speed of the disk.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from seqeval.datasets import _memory


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
