"""HDF5 files in D4RL's layout (arXiv 2004.07219), given by path.

Fields: `observations`, `actions`, `rewards`, `terminals`; optional are `timeouts` and `next_observations`.
Attributes, all optional: `env_id` is the Gymnasium environment; `behaviour` says how the data was
collected; `reference_min`, `reference_max` and `reference_source` are the returns that are scored 0 and
100, used if D4RL publishes none for the environment; `action_low` and `action_high` are the bounds of actions
that the environment does not bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval.datasets import LoadOptions, Source, _files, _rules
from seqeval.errors import UserError, one_line
from seqeval.types import Dataset


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a file."""
    path = _files.existing(name)
    with opened(path) as (raw, attributes):
        return _files.assemble(path, raw, attributes, options)


SOURCE = Source(load, endings=(".hdf5", ".h5"))


@contextmanager
def opened(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """D4RL's fields of an HDF5 file, not read yet, and its attributes.

    Raises UserError if it is not such a file or does not fit into memory.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            raw, attributes = _content(path, file)
        except OSError as error:
            raise UserError(f"{path}: not a readable HDF5 file ({one_line(error)})") from error
        yield raw, attributes


def _content(path: Path, file: h5py.File) -> tuple[dict[str, Any], dict[str, Any]]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    _rules.require_fields(path, names)
    known = (*_rules.REQUIRED, *_rules.OPTIONAL)
    fields = {key: file[key] for key in known if isinstance(file.get(key), h5py.Dataset)}
    for key in _rules.OPTIONAL:
        if key in file.keys() - fields.keys():  # ignoring it silently would change the data
            raise UserError(f"{path}: field {key!r} exists, but is not an array of numbers")
    raw = {key: np.zeros(0) if field.shape is None else field for key, field in fields.items()}
    _rules.check_memory(str(path), _rules.size_of({k: (v.shape, v.dtype) for k, v in raw.items()}))
    return raw, {_files.plain(key): _files.plain(value) for key, value in file.attrs.items()}
