"""Minari's datasets (minari.farama.org): `minari:mujoco/hopper/medium-v0`, found locally, else downloaded.

They lie in the folder $MINARI_DATASETS_PATH, by default ~/.minari/datasets, where Minari itself keeps them.
Minari is imported only where one is loaded.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from seqeval import environments, references
from seqeval.datasets import _rules
from seqeval.errors import UserError, nearest
from seqeval.types import DataRules, Dataset, Reference

if TYPE_CHECKING:
    from minari import MinariDataset

PREFIX = "minari:"
ID = re.compile(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+")  # what Minari takes: namespaces, a name, a version
OWN = "seqeval"  # the key of Minari's metadata that holds what `_write` has to say and Minari has no key for

# What Minari and the storages below it raise for data that is not as they expect.
UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, AssertionError, ImportError),
    gymnasium.error.Error,
)


def names() -> list[str]:
    """The datasets that are here already."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
    found = []
    for folder, inner, _ in os.walk(root):
        if "data" in inner:
            found.append(PREFIX + Path(folder).relative_to(root).as_posix())
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".")]
    return sorted(found)


def handles(name: str) -> bool:
    return name.startswith(PREFIX)


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The dataset of a name, downloaded by Minari where it is not here.

    The environment is `env_id`, else the one that the dataset records for evaluation, else the one it was
    logged in. Observations that are no vectors are flattened as that environment's are by Gymnasium's
    FlattenObservation, which its option `flatten_observation=True` puts on. Scores are between the dataset's
    own reference returns, where it has them for that environment.
    Raises UserError where there is no such dataset or it cannot be read, and where its environment cannot be
    named or is not one for the suite.
    """
    stored = _open(name)
    metadata = stored.storage.metadata
    notes: list[str] = []
    try:
        recorded = _recorded(name, metadata, notes) or env_id
    except UserError:
        if env_id is None:
            raise
        recorded = None
    reference = None
    if env_id in (None, recorded):  # its references are not another's
        reference = _reference(name, metadata, notes)
    else:
        notes.clear()  # which are about the environment that is not taken
    env_id = env_id or recorded
    if env_id is None:
        raise UserError(f"dataset {name!r} records no environment; pass --env, e.g. --env Hopper-v5")
    reference = reference or references.of_environment(env_id)

    env_id, space = _flattened(name, env_id, stored.observation_space)
    environments.describe(env_id)  # an environment that will not do is refused before anything is read
    parts = list(_parts(name, space))
    if [path for path, _ in parts] != [()]:
        keys = ", ".join(f"{'.'.join(map(str, path))} ({spaces.flatdim(part)})" for path, part in parts)
        notes.append(f"observations are flattened in this order: {keys}")
    try:
        raw = _read(name, stored, parts, notes)
    except UNREADABLE as error:
        raise _unreadable(name, error) from error
    dataset = _rules.assemble(name, name, raw, env_id, reference, _card(metadata), rules)
    return replace(dataset, notes=(*dataset.notes, *notes))


def path_of(name: str) -> Path:
    """The folder of a dataset. Raises UserError for what Minari takes for no name."""
    from minari.storage import get_dataset_path

    dataset_id = name.removeprefix(PREFIX)
    if not ID.fullmatch(dataset_id):
        raise UserError(
            f"dataset {name!r}: Minari's names are written as in minari:mujoco/hopper/medium-v0, of letters, "
            f"digits, '-' and '_', with a version{nearest(name, names())}"
        )
    return get_dataset_path(dataset_id)


def _open(name: str) -> MinariDataset:
    import minari

    folder, dataset_id = path_of(name), name.removeprefix(PREFIX)
    if not folder.exists():
        try:
            with redirect_stdout(sys.stderr):  # where the progress of all that we do goes
                minari.download_dataset(dataset_id)
        except Exception as error:  # from one of several remote storages, each with exceptions of its own
            raise UserError(
                f"dataset {name!r} is not in {folder}, and its download failed: {_line(error)}"
                f"{nearest(name, names())}; put it there, or see `minari list remote` for the names"
            ) from error
    try:
        with environments.quiet():
            return minari.load_dataset(dataset_id)
    except UNREADABLE as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(
        f"dataset {name!r}: Minari cannot read it: {_line(error)}; "
        f"if {path_of(name)} is not whole, move it away to have it downloaded"
    )


def _line(error: Exception) -> str:
    """An exception in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _recorded(name: str, metadata: Mapping[str, Any], notes: list[str]) -> str | None:
    """The environment that a dataset records, with the options that make it differ from what is registered
    under its name; None where it records none.

    Raises UserError where it is not registered here and where a name with options does not say all of it.
    """
    if OWN in metadata:
        return metadata[OWN]["env_id"]
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if text is None:
        return None
    if "eval_env_spec" in metadata and metadata["eval_env_spec"] != metadata.get("env_spec"):
        notes.append("the environment is the one it records for evaluation, not the one it was logged in")
    spec = json.loads(text)

    # Where an environment is defined tells which package registers it, as far as Gymnasium does not itself.
    package = (spec["entry_point"] or "gymnasium").partition(":")[0].partition(".")[0]
    with suppress(ImportError):
        importlib.import_module(package)
    registered = gymnasium.registry.get(spec["id"])
    if registered is None:
        raise UserError(
            f"dataset {name!r} was logged in {spec['id']}, which is not registered here"
            f"{nearest(spec['id'], gymnasium.registry)}; install {package} as it was then, "
            "or name another environment with --env"
        )
    env_id = spec["id"] if package == "gymnasium" else f"{package}:{spec['id']}"

    usual = json.loads(json.dumps(registered.kwargs, default=repr))  # as the record is: lists for tuples
    for kwargs in (usual, spec["kwargs"]):
        kwargs.pop("render_mode", None)  # changes nothing that is observed
    options = {k: v for k, v in spec["kwargs"].items() if k not in usual or usual[k] != v}
    if lacking := usual.keys() - spec["kwargs"].keys():
        notes.append(f"{env_id} is registered with {', '.join(sorted(lacking))} here, not in its record")
    if (limit := spec["max_episode_steps"]) != registered.max_episode_steps:
        options["max_episode_steps"] = -1 if limit is None else int(limit)
    wrappers = [wrapper["name"] for wrapper in spec["additional_wrappers"]]
    if wrappers == ["FlattenObservation"]:
        options["flatten_observation"] = True
    elif wrappers:
        raise UserError(
            f"dataset {name!r} was logged in {env_id} inside of {', '.join(wrappers)}, which a name cannot "
            "say; register an environment that has them on and name it with --env"
        )
    return environments.with_options(env_id, options)


def _reference(name: str, metadata: Mapping[str, Any], notes: list[str]) -> Reference | None:
    """The returns that Minari's get_normalized_score takes for 0 and 1, where the dataset has them."""
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is None or high is None:
        return None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        notes.append(f"its ref_min_score and ref_max_score, {low} and {high}, make no scale")
        return None
    source = metadata.get(OWN, {}).get("reference_source")
    return Reference(
        float(low), float(high), source or f"Minari: ref_min_score, ref_max_score of {metadata['dataset_id']}"
    )


def _card(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """How the data came about, as far as it says."""
    keys = {
        "algorithm_name": "behaviour",
        "author": "author",
        "code_permalink": "code",
        "requirements": "requirements",
        "minari_version": "minari_version",
    }
    card = {keys[key]: metadata[key] for key in keys if metadata.get(key)}
    return {k: ", ".join(sorted(v)) if isinstance(v, set | list) else v for k, v in card.items()}


def _flattened(name: str, env_id: str, space: spaces.Space) -> tuple[str, spaces.Space]:
    """The environment that observes vectors where the dataset, whose space is given, does not; and the space
    that says in which order they are made: the environment's, since Minari sorts the keys of dicts and not
    every environment does."""
    if _is_flat(space):
        return env_id, space
    with closing(environments.make(env_id)) as env:
        own = env.observation_space
        if isinstance(env, gymnasium.wrappers.FlattenObservation):
            own = env.env.observation_space
        elif _is_flat(own):  # in a way of its own, of which the dataset's is the best guess
            return env_id, space
        else:
            env_id = environments.with_options(env_id, {"flatten_observation": True})
    logged = {path: spaces.flatdim(part) for path, part in _parts(name, space)}
    if logged != {path: spaces.flatdim(part) for path, part in _parts(name, own)}:
        raise UserError(
            f"dataset {name!r} holds observations {space}, but those of {env_id} are {own}; "
            "name the right environment with --env"
        )
    return env_id, own


def _is_flat(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _parts(name: str, space: spaces.Space, path: tuple = ()) -> Iterator[tuple[tuple, spaces.Space]]:
    """The spaces that a nested one is made of, in the order in which Gymnasium flattens it, each with the
    keys that lead to it. Raises UserError for one that holds no numbers."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _parts(name, part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _parts(name, part, (*path, index))
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        yield path, space
    else:
        raise UserError(f"dataset {name!r}: its observations hold {space}, which cannot be made a vector")


def _vectors(space: spaces.Space, values: Any) -> np.ndarray:
    """So many values of a space, as (n, size): what gymnasium.spaces.flatten makes of each, but at once."""
    values = np.asarray(values)
    if isinstance(space, spaces.Discrete):
        return values.reshape(-1, 1) == space.start + np.arange(space.n)
    values = values.reshape(len(values), -1)
    if isinstance(space, spaces.MultiDiscrete):
        starts, sizes = space.start.ravel(), space.nvec.ravel()
        each = zip(values.T, starts, sizes, strict=True)
        return np.concatenate([column[:, None] == start + np.arange(n) for column, start, n in each], axis=1)
    return values


def _read(
    name: str, stored: MinariDataset, parts: list[tuple[tuple, spaces.Space]], notes: list[str]
) -> dict[str, np.ndarray]:
    """D4RL's fields of all episodes, filled in one after the other so that nothing is in memory twice.

    An episode of T steps has T + 1 observations, so that every next observation is known. Raises UserError
    where there are no episodes and, before any is read, where memory will not hold them.
    """
    size, ends = stored.total_steps, np.cumsum([spaces.flatdim(part) for _, part in parts])
    if not size:
        raise UserError(f"dataset {name!r} is empty")
    about: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        "observations": ((size, int(ends[-1])), np.dtype(np.float32)),
        "actions": ((size, *(stored.action_space.shape or ())), np.dtype(np.float32)),
        "rewards": ((size,), np.dtype(np.float32)),
        "next_observations": ((size, int(ends[-1])), np.dtype(np.float32)),
        "terminals": ((size,), np.dtype(bool)),
        "timeouts": ((size,), np.dtype(bool)),
    }
    _rules.check_memory(name, _rules.size_of(about))
    raw = {field: np.empty(shape, dtype) for field, (shape, dtype) in about.items()}
    row, cut = 0, []
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused
        for number, episode in enumerate(stored.iterate_episodes()):
            rows = slice(row, row + len(episode.rewards))
            for (path, part), end in zip(parts, ends, strict=True):
                values = episode.observations
                for key in path:
                    values = values[key]
                vectors = _vectors(part, values)
                if len(vectors) != len(episode.rewards) + 1:
                    raise ValueError(
                        f"episode {number} has {len(vectors)} observations and {len(episode.rewards)} "
                        "rewards, not one observation more"
                    )
                columns = slice(end - vectors.shape[1], end)
                raw["observations"][rows, columns] = vectors[:-1]
                raw["next_observations"][rows, columns] = vectors[1:]
            raw["actions"][rows] = episode.actions
            raw["rewards"][rows] = episode.rewards
            raw["terminals"][rows] = episode.terminations
            raw["timeouts"][rows] = episode.truncations
            row = rows.stop
            if len(episode.rewards) and not (raw["terminals"][row - 1] or raw["timeouts"][row - 1]):
                cut.append(row - 1)
    if row != size:
        raise ValueError(f"it has {row} steps, its metadata say {size}")
    if cut := [last for last in cut if last != size - 1]:  # the end of all cuts as it is, as that of a file
        raw["timeouts"][cut] = True
        notes.append(f"{len(cut)} episodes end neither terminated nor truncated: taken as truncated")
    return raw
