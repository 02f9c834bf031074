"""HDF5 files in D4RL's layout (arXiv 2004.07219), given by path.

Fields: `observations`, `actions`, `rewards`, `terminals`; optional are `timeouts` and `next_observations`.
Attributes, all optional: `env_id` is the Gymnasium environment; `behaviour` says how the data was
collected; `reference_min`, `reference_max` and `reference_source` are the returns that are scored 0 and
100, used if D4RL publishes none for the environment; `action_low` and `action_high` are the bounds of actions
that the environment does not bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval.datasets import LoadOptions, Source, _files, _rules
from seqeval.errors import UserError, one_line
from seqeval.types import Dataset

MOST_LINKS = 16  # from a field to its numbers


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
        except UserError:
            raise
        except Exception as error:  # h5py raises anything for damaged files
            raise UserError(f"{path}: not a readable HDF5 file ({one_line(error)})") from error
        yield raw, attributes


def _content(path: Path, file: h5py.File) -> tuple[dict[str, Any], dict[str, Any]]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    known = (*_rules.REQUIRED, *_rules.OPTIONAL)
    found = {key: _followed(path, file, key) for key in known if file.id.links.exists(key.encode())}
    fields = {key: item for key, item in found.items() if isinstance(item, h5py.Dataset)}
    for key in _rules.OPTIONAL:
        if key in found.keys() - fields.keys():  # ignoring it silently would change the data
            raise UserError(f"{path}: field {key!r} exists, but is not an array of numbers")
    for key, field in fields.items():
        if field.is_virtual or field.external:
            raise UserError(f"{path}: field {key!r} is stored in other files; save its numbers in this file")
    raw = {key: np.zeros(0) if field.shape is None else field for key, field in fields.items()}
    _rules.check_memory(str(path), _rules.size_of({k: (v.shape, v.dtype) for k, v in raw.items()}))
    attributes = dict(_attributes(path, file))
    _rules.require_fields(path, {*names, *raw})
    return raw, attributes


def _followed(path: Path, file: h5py.File, key: str) -> Any:
    """What a link within the file leads to; None if that does not exist.

    h5py itself would follow links into other files, which may be pipes that never end, and does so even to
    see whether a name exists. Raises UserError for such a link, and for links that lead to each other.
    """
    item, parts, links = file, [key.encode()], 0
    while parts:
        name = parts.pop(0)
        if not isinstance(item, h5py.Group) or not item.id.links.exists(name):
            return None
        kind = item.id.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            item = item[name]
            continue
        links += 1
        if kind != h5py.h5l.TYPE_SOFT:
            raise UserError(f"{path}: {key!r} is a link to another file; copy its target into this file")
        if links > MOST_LINKS:
            raise UserError(f"{path}: {key!r} is a link that leads back to itself")
        target = item.id.links.get_val(name)
        item = file if target.startswith(b"/") else item
        parts = [part for part in target.split(b"/") if part not in (b"", b".")] + parts
    return item


def _attributes(path: Path, file: h5py.File) -> Iterator[tuple[str, Any]]:
    for key in file.attrs:
        stored = file.attrs.get_id(key)
        if math.prod(stored.shape or (0,)) * stored.dtype.itemsize > _files.ATTRIBUTE_BYTES:
            limit = f"{_files.ATTRIBUTE_BYTES >> 20} MiB"
            raise UserError(f"{path}: attribute {_files.plain(key)!r:.80} is larger than {limit}; remove it")
        yield _files.plain(key), _files.plain(file.attrs[key])
