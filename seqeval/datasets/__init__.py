"""Datasets of logged transitions: `load` finds the source that owns a name or path and loads it.

Each file of this folder is a source and defines `SOURCE`; files whose names begin with `_` hold code that
sources share. Installed packages add sources through the entry-point group `seqeval.datasets`, e.g.

    [project.entry-points."seqeval.datasets"]
    robots = "my_package.robots:SOURCE"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from seqeval.errors import UserError, nearest
from seqeval.types import DataRules, Dataset

GROUP = "seqeval.datasets"


@dataclass(frozen=True)
class LoadOptions:
    """How to load a dataset, whatever its source.

    `env_id` is the Gymnasium environment, for data that does not name its own. `rules` decide which
    transitions are used (see `_rules.assemble`). Code inside a file runs only if `trust_pickle` is set.
    """

    env_id: str | None = None
    rules: DataRules = "strict"
    trust_pickle: bool = False


@dataclass(frozen=True)
class Listing:
    """What `seqeval datasets list` says of a name."""

    location: str  # embedded, on disk, downloadable, or what else the source calls it
    env_id: str | None = None  # the environment of evaluation; None if no environment fits
    reason: str = ""  # why there is none


@dataclass(frozen=True)
class Source:
    """A source of datasets, and the names that belong to it.

    A source owns every name that begins with its `prefix`; a source without one owns the paths that end in
    one of its `endings` (lower case, with the dot) and the names in `names()`. `names()` is what `seqeval
    datasets list` prints of the source, prefix included. `load` takes a name that the source owns and
    raises UserError if it cannot be loaded. `listing` takes one of `names()` and neither loads nor downloads.
    """

    load: Callable[[str, LoadOptions], Dataset]
    names: Callable[[], Collection[str]] = tuple
    endings: tuple[str, ...] = ()
    prefix: str = ""
    listing: Callable[[str], Listing] = lambda name: Listing("")

    def owns(self, name: str) -> bool:
        """Whether a name or path belongs to this source."""
        if self.prefix:
            return name.startswith(self.prefix)
        return name.lower().endswith(self.endings) or name in self.names()


def built_in() -> list[Source]:
    """The sources of this folder, in the order of their files. Imports nothing of installed packages."""
    modules = [m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and not m.name.startswith("_")]
    return [importlib.import_module(f"{__name__}.{module}").SOURCE for module in modules]


@cache
def sources() -> tuple[Source, ...]:
    """All sources, in the order in which they are tried.

    Sources with a prefix come first, since anything may follow a prefix, a path for example. Raises UserError
    if an installed package registers a source that cannot be used.
    """
    found = built_in()
    for point in entry_points(group=GROUP):
        try:
            source = point.load()
            if not isinstance(source, Source):
                raise TypeError("not a seqeval.datasets.Source")
        except Exception as error:  # importing a package runs its code, which may raise anything
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise UserError(
                f"dataset source {point.name!r} ({point.value}): {reason}; "
                "repair or uninstall the package that registers it"
            ) from error
        found.append(source)
    return tuple(sorted(found, key=lambda source: not source.prefix))


def names() -> list[str]:
    """Every dataset known by name."""
    return sorted(name for source in sources() for name in source.names())


def listings() -> dict[str, Listing]:
    """What is known of every dataset known by name, in the order of `names`."""
    found = {name: source for source in sources() for name in source.names()}
    return {name: found[name].listing(name) for name in sorted(found)}


def file_endings() -> tuple[str, ...]:
    """The endings of all files that can be loaded by path."""
    return tuple(sorted(ending for source in sources() for ending in source.endings))


def find(name: str) -> Source:
    """The source that owns a name or path. Raises UserError if there is none."""
    for source in sources():
        if source.owns(name):
            return source
    raise UserError(
        f"dataset {name!r} is not known{nearest(name, names())}; `seqeval datasets list` prints the known "
        f"names; the path of a file must end in one of {', '.join(file_endings())}"
    )


def load(
    name: str, env_id: str | None = None, rules: DataRules = "strict", trust_pickle: bool = False
) -> Dataset:
    """Load the dataset of a name or path.

    The options are those of `LoadOptions`. Raises UserError if no source owns the name or if the data
    cannot be loaded.
    """
    try:
        return find(name).load(name, LoadOptions(env_id, rules, trust_pickle))
    except MemoryError as error:
        raise UserError(
            f"{name}: does not fit into the memory that is free; save fewer transitions, or free some memory"
        ) from error
