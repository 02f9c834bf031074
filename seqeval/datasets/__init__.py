"""Where logged data comes from: one file per source, found by being here.

A source is a module of this package (files that start with `_` are shared parts) with three functions:
`names()`, the datasets it knows by name; `handles(name)`, whether a name is its kind; and
`load(name, env_id, rules, trust_pickle)`, which returns a `Dataset` or raises `UserError`; code that is in a
file is run where `trust_pickle` is true, and never else.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from seqeval.errors import UserError, nearest
from seqeval.types import DataRules, Dataset


def sources() -> list[ModuleType]:
    """Those whose names have a `PREFIX` first: behind it may stand what looks like another's."""
    found = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
        if not module.ispkg and not module.name.startswith("_")
    ]
    return sorted(found, key=lambda source: not hasattr(source, "PREFIX"))


def names() -> list[str]:
    """Every dataset known by name."""
    return sorted(name for source in sources() for name in source.names())


def load(
    name: str, env_id: str | None = None, rules: DataRules = "strict", trust_pickle: bool = False
) -> Dataset:
    """The dataset of a name or path. `env_id` names the environment of data that does not name its own, and
    `rules` say which transitions are used (see `_rules.assemble`). Code in a file is run with `trust_pickle`
    alone."""
    for source in sources():
        if source.handles(name):
            return source.load(name, env_id, rules, trust_pickle)
    raise UserError(
        f"dataset {name!r} is not known{nearest(name, names())}; "
        "`seqeval datasets list` prints the names, a file is given by its path (ending in .hdf5, .h5, .npz, "
        ".pkl or .pickle)"
    )
