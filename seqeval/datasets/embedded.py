"""The datasets that ship with the package, each an HDF5 file and a card.

Made by experiments/make_embedded.py.
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any

from seqeval import references
from seqeval.datasets import _rules
from seqeval.datasets.files import opened
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset, Reference

FOLDER = files("seqeval.datasets.data")


def names() -> list[str]:
    return sorted(
        entry.name.removesuffix(".json") for entry in FOLDER.iterdir() if entry.name.endswith(".json")
    )


def handles(name: str) -> bool:
    return name in names()


def card(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    about = card(name)
    if env_id not in (None, about["env_id"]):
        raise UserError(
            f"dataset {name!r} was logged in {about['env_id']}, not in {env_id}; "
            "leave out --env, which is for files"
        )
    own = Reference(about["reference_min"], about["reference_max"], about["reference_source"])
    reference = references.of_environment(about["env_id"]) or own
    with as_file(FOLDER / f"{name}.hdf5") as path, opened(path) as (raw, _):
        return _rules.assemble(name, name, raw, about["env_id"], reference, about, rules)
