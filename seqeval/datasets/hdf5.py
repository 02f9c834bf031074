"""HDF5 files in D4RL's layout (arXiv 2004.07219), given by path.

Fields: `observations`, `actions`, `rewards`, `terminals`; optional are `timeouts` and `next_observations`.
Attributes, all optional: `env_id` is the Gymnasium environment; `behaviour` says how the data was
collected; `reference_min`, `reference_max` and `reference_source` are the returns that are scored 0 and
100, used if D4RL publishes none for the environment; `action_low` and `action_high` are the bounds of actions
that the environment does not bound.

Observations may be images: single frames of uint8, (N, channels, height, width) or with channels last; the
environment, or without one the attribute `frame_stack`, says how many make an observation. Images of on and
off may be stored as bits (numpy.packbits), (N, bytes), with their shape in the field's attribute
`bit_packed_shape`. Images that do not fit into memory stay in the file if it stores them without chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval.datasets import LoadOptions, Source, _files, _images, _mapping, _rules
from seqeval.errors import UserError, one_line
from seqeval.types import Dataset

PACKED = "bit_packed_shape"  # attribute of a field whose images are stored as bits
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
    raw: dict[str, Any] = {
        key: np.zeros(0) if field.shape is None else field for key, field in fields.items()
    }
    for key in _images.FIELDS:
        if key in raw and PACKED in getattr(raw[key], "attrs", ()):
            raw[key] = _unpacked(path, key, raw[key])
    _map_images(path, raw)
    _rules.check_memory(str(path), _rules.size_of(_shapes(raw)))
    attributes = dict(_attributes(path, file))
    _rules.require_fields(path, {*names, *raw})
    return raw, attributes


def _shapes(raw: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of the fields that have to be read."""
    return {k: (v.shape, v.dtype) for k, v in raw.items() if not isinstance(v, np.memmap)}


def _map_images(path: Path, raw: dict[str, Any]) -> None:
    """Replace images that do not fit into memory by mapped arrays. Raises UserError if that is impossible."""
    if _rules.fits(_rules.size_of(_shapes(raw))):
        return
    for key in _images.FIELDS:
        if key not in raw or isinstance(raw[key], np.ndarray) or not _images.holds_images(raw[key]):
            continue
        if (values := _mapping.mapped(path, raw[key])) is None:
            raise UserError(
                f"{path}: the images of {key!r} do not fit into memory and cannot be read from the file as "
                "they are needed, since it stores them in chunks; write it again without chunks and "
                "compression: file.create_dataset(name, data=images) of h5py"
            )
        raw[key] = values


def _unpacked(path: Path, key: str, field: Any) -> np.ndarray:
    """Images of on and off that are stored as bits. Raises UserError if their shape is another one."""
    shape = tuple(int(size) for size in np.ravel(field.attrs[PACKED]))
    bits = math.prod(shape)
    if field.dtype != np.uint8 or field.ndim != 2 or field.shape[1] != -(-bits // 8) or len(shape) != 3:
        raise UserError(
            f"{path}: field {key!r} has shape {field.shape}, but its attribute {PACKED} is {shape}: images "
            f"of three dimensions, {-(-bits // 8)} bytes of bits each"
        )
    packed = _rules.read(str(path), key, field)
    return np.unpackbits(packed, axis=1, count=bits).view(np.bool_).reshape(-1, *shape)


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
