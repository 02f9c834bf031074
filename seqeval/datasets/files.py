"""Files given by path: HDF5 in D4RL's layout (arXiv 2004.07219).

Fields `observations`, `actions`, `rewards`, `terminals`, and where they exist `timeouts` and
`next_observations`; the attribute `env_id` names the Gymnasium environment, `behaviour` how it was logged.
The attributes `reference_min`, `reference_max` and `reference_source` are the returns that are scored 0 and
100, where D4RL publishes none for the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seqeval.datasets import _files, _rules
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

ENDINGS = (".hdf5", ".h5")


def names() -> list[str]:
    return []


def handles(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The dataset of a file, called after it without the ending. `env_id` goes before the file's own."""
    path = _files.existing(name)
    with opened(path) as (raw, attributes):
        return _files.assemble(path, raw, attributes, env_id, rules)


@contextmanager
def opened(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """D4RL's fields of an HDF5 file, not read yet, and its attributes.

    Raises UserError where it is no such file and where memory will not hold it.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            raw, attributes = _content(path, file)
        except OSError as error:
            raise UserError(f"{path}: not a readable HDF5 file ({str(error).splitlines()[0]})") from error
        yield raw, attributes


def _content(path: Path, file: h5py.File) -> tuple[dict[str, Any], dict[str, Any]]:
    wanted = (*_rules.REQUIRED, *_rules.OPTIONAL)
    fields = {key: file[key] for key in wanted if isinstance(file.get(key), h5py.Dataset)}
    for key in _rules.OPTIONAL:
        if key in file.keys() - fields.keys():  # as if it were not there is not what was meant
            raise UserError(f"{path}: field {key!r} is there, but is no array of numbers")
    raw = {key: np.zeros(0) if field.shape is None else field for key, field in fields.items()}
    _rules.check_memory(str(path), _rules.size_of({k: (v.shape, v.dtype) for k, v in raw.items()}))
    return raw, {_printable(key): _printable(value) for key, value in file.attrs.items()}


def _printable(value: Any) -> Any:
    """An attribute, or its name, as a plain value; with U+FFFD where text is not UTF-8, which h5py hands on
    as code points that cannot be printed."""
    value = _files.plain(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return (
        value.encode(errors="surrogateescape").decode(errors="replace") if isinstance(value, str) else value
    )
