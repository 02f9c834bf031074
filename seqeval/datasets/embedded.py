"""The datasets that are part of the package, each an HDF5 file and a card.

They are made by experiments/make_embedded.py.
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any

from seqeval.datasets import Listing, LoadOptions, Source, _files, hdf5
from seqeval.errors import UserError
from seqeval.types import Dataset

FOLDER = files("seqeval.datasets.data")


def names() -> list[str]:
    """The names of the embedded datasets."""
    return sorted(
        entry.name.removesuffix(".json") for entry in FOLDER.iterdir() if entry.name.endswith(".json")
    )


def card(name: str) -> dict[str, Any]:
    """The card of an embedded dataset."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a name. Raises UserError if `options` name another environment than its own."""
    about = card(name)
    if options.env_id == _files.NO_ENVIRONMENT:
        raise UserError(
            f"dataset {name!r}: --env none is for files; leave it out, or make a file with "
            f"`seqeval datasets convert {name} --to {name}.hdf5`"
        )
    if options.env_id not in (None, about["env_id"]):
        raise UserError(
            f"dataset {name!r} was collected in {about['env_id']}, not in {options.env_id}; "
            "leave out --env, which is for files"
        )
    with as_file(FOLDER / f"{name}.hdf5") as path, hdf5.opened(path) as (raw, _):
        return _files.assemble(path, raw, about, options)


def listing(name: str) -> Listing:
    return Listing("embedded", card(name)["env_id"])


SOURCE = Source(load, names, listing=listing)
