"""Minari's datasets (minari.farama.org), e.g. `minari:mujoco/hopper/medium-v0`, downloaded if necessary.

They are stored where Minari keeps them: in $MINARI_DATASETS_PATH, by default ~/.minari/datasets. Minari is
imported only to load or write one of them.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from seqeval import environments, references
from seqeval.datasets import Listing, LoadOptions, Source, _images, _rules
from seqeval.environments.images import is_image
from seqeval.errors import UserError, nearest, one_line
from seqeval.references import without_module
from seqeval.types import Dataset, Reference

if TYPE_CHECKING:
    from minari import MinariDataset

PREFIX = "minari:"
ID = re.compile(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+")  # Minari's names: namespaces, a name, a version
METADATA_KEY = "seqeval"  # holds metadata that Minari has no key for

# Raised by Minari and its storages for data that is not as they expect.
UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, AssertionError, ImportError),
    *(AttributeError, RuntimeError, ArithmeticError),
    gymnasium.error.Error,
)


def names() -> list[str]:
    """The datasets on this machine."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
    folders = (data.parent.relative_to(root).as_posix() for data in root.rglob("data"))
    return sorted(PREFIX + folder for folder in folders if ID.fullmatch(folder))


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a name, downloaded by Minari if it is not on this machine.

    The environment is `options.env_id`, otherwise the one that the dataset records for evaluation,
    otherwise the one it was collected in. Observations that are not vectors are flattened in the same order
    as the environment's by Gymnasium's FlattenObservation, which the environment option
    `flatten_observation=True` applies. Scores use the dataset's own reference returns if it has them for
    that environment.

    Images stay images; they are flattened only if `options.env_id` has that option.

    Raises UserError if there is no such dataset or it cannot be read, and if its environment cannot be
    named or is not supported.
    """
    env_id, stored = options.env_id, _open(name)
    metadata = stored.storage.metadata
    notes: list[str] = []
    try:
        recorded = _recorded(name, metadata, notes) or env_id
    except UserError:
        if env_id is None:
            raise
        recorded = None
    reference = None
    # The references hold for the recorded environment only.
    if env_id is None or (recorded and without_module(env_id) == without_module(recorded)):
        reference = _reference(metadata, notes)
    else:
        notes.clear()  # they are about the recorded environment
    env_id = env_id or recorded
    if env_id is None:
        raise UserError(f"dataset {name!r} records no environment; pass --env, e.g. --env Hopper-v5")
    reference = reference or references.of_environment(env_id)

    env_id, space = _flattened(name, env_id, stored.observation_space)
    as_images = is_image(space) and not _flattens(env_id)
    environments.describe(env_id)  # refuses an unsupported environment before anything is read
    parts = list(_parts(name, space))
    if [path for path, _ in parts] != [()]:
        keys = ", ".join(f"{'.'.join(map(str, path))} ({spaces.flatdim(part)})" for path, part in parts)
        notes.append(f"observations are flattened in this order: {keys}")
    with _readable(name):
        raw = _read(name, stored, parts, as_images, notes)
    dataset = _rules.assemble(name, name, raw, env_id, reference, _card(metadata), options.rules)
    return replace(dataset, notes=(*dataset.notes, *notes))


def listing(name: str) -> Listing:
    try:
        stored = _open(name)
        env_id = _recorded(name, stored.storage.metadata, [])
        if env_id is None:
            return Listing("on disk", reason="no: it records no environment; name one with --env")
        return Listing("on disk", _flattened(name, env_id, stored.observation_space)[0])
    except UserError as error:
        return Listing("on disk", reason=f"no: {error}")


SOURCE = Source(load, names, prefix=PREFIX, listing=listing)


def path_of(name: str) -> Path:
    """The folder of a dataset. Raises UserError if Minari does not allow the name."""
    from minari.storage import get_dataset_path

    dataset_id = name.removeprefix(PREFIX)
    if not ID.fullmatch(dataset_id):
        raise UserError(
            f"dataset {name!r}: Minari's names look like minari:mujoco/hopper/medium-v0: letters, digits, "
            f"'-' and '_', with a version{nearest(name, names())}"
        )
    return get_dataset_path(dataset_id)


def _open(name: str) -> MinariDataset:
    import minari

    folder, dataset_id = path_of(name), name.removeprefix(PREFIX)
    if not folder.exists():
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results
                minari.download_dataset(dataset_id)
        except Exception as error:  # each remote storage raises its own exceptions
            raise UserError(
                f"dataset {name!r} is not in {folder}, and its download failed: {one_line(error)}"
                f"{nearest(name, names())}; `minari list remote` prints the names"
            ) from error
    with _readable(name), environments.quiet():
        return minari.load_dataset(dataset_id)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raises UserError for what Minari raises while it reads a dataset."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(
            f"dataset {name!r}: Minari cannot read it: {one_line(error)}; "
            f"if {path_of(name)} is incomplete, remove it to have it downloaded"
        ) from error


def _recorded(name: str, metadata: Mapping[str, Any], notes: list[str]) -> str | None:
    """The environment that a dataset records, with the options in which it differs from the registered one.

    None if it records none. Raises UserError if the environment is not registered here, or if a name with
    options cannot describe it.
    """
    if METADATA_KEY in metadata:
        if env_id := metadata[METADATA_KEY]["env_id"]:
            environments.refuse_import(f"dataset {name!r}", str(env_id))
        return env_id
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if text is None:
        return None
    if "eval_env_spec" in metadata and metadata["eval_env_spec"] != metadata.get("env_spec"):
        notes.append(
            "the environment is the recorded one for evaluation, not the one the data was collected in"
        )
    spec = json.loads(text)

    # The package that defines an environment registers it, unless Gymnasium does.
    package = (spec["entry_point"] or "gymnasium").partition(":")[0].partition(".")[0] or "gymnasium"
    if find_spec(package) is not None:
        environments.refuse_import(f"dataset {name!r}", f"{package}:{spec['id']}")
    with suppress(ImportError):
        importlib.import_module(package)
    registered = gymnasium.registry.get(spec["id"])
    if registered is None:
        raise UserError(
            f"dataset {name!r} was collected in {spec['id']}, which is not registered here"
            f"{nearest(spec['id'], gymnasium.registry)}; install {package} in a version that has it, "
            "or name another environment with --env"
        )
    env_id = spec["id"] if package == "gymnasium" else f"{package}:{spec['id']}"

    defaults = json.loads(json.dumps(registered.kwargs, default=repr))  # lists instead of tuples, as recorded
    for kwargs in (defaults, spec["kwargs"]):
        kwargs.pop("render_mode", None)  # does not affect observations
    options = {k: v for k, v in spec["kwargs"].items() if k not in defaults or defaults[k] != v}
    if missing := defaults.keys() - spec["kwargs"].keys():
        notes.append(
            f"{env_id} is registered with {', '.join(sorted(missing))}, which the dataset does not record"
        )
    if (limit := spec["max_episode_steps"]) != registered.max_episode_steps:
        options["max_episode_steps"] = -1 if limit is None else int(limit)
    wrappers = [wrapper["name"] for wrapper in spec["additional_wrappers"]]
    if wrappers == ["FlattenObservation"]:
        options["flatten_observation"] = True
    elif wrappers:
        raise UserError(
            f"dataset {name!r} was collected in {env_id} wrapped in {', '.join(wrappers)}, which a name "
            "cannot express; register an environment with these wrappers and name it with --env"
        )
    return environments.with_options(env_id, options)


def _reference(metadata: Mapping[str, Any], notes: list[str]) -> Reference | None:
    """The returns that Minari's get_normalized_score maps to 0 and 1, if the dataset has them."""
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is None or high is None:
        return None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        notes.append(f"no scores: its ref_min_score {low} and ref_max_score {high} are not a valid scale")
        return None
    source = metadata.get(METADATA_KEY, {}).get("reference_source")
    return Reference(
        float(low), float(high), source or f"Minari: ref_min_score, ref_max_score of {metadata['dataset_id']}"
    )


def _card(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """How the data was collected, as far as it is recorded."""
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
    """The environment with flat observations, and the space that defines the order of flattening.

    `space` is the dataset's. The order is the environment's, because Minari sorts the keys of dicts and not
    every environment does.
    """
    if _is_flat(space) or (is_image(space) and not _flattens(env_id)):
        return env_id, space
    with closing(environments.make(env_id)) as env:
        nested = env.observation_space
        if isinstance(env, gymnasium.wrappers.FlattenObservation):
            nested = env.env.observation_space
        elif _is_flat(nested):  # it flattens in an unknown order, for which the dataset's is the best guess
            return env_id, space
        else:
            env_id = environments.with_options(env_id, {"flatten_observation": True})
    logged = {path: spaces.flatdim(part) for path, part in _parts(name, space)}
    if logged != {path: spaces.flatdim(part) for path, part in _parts(name, nested)}:
        raise UserError(
            f"dataset {name!r} holds observations {space}, but those of {env_id} are {nested}; "
            "name the right environment with --env"
        )
    return env_id, nested


def _flattens(env_id: str) -> bool:
    """Whether an environment is asked for vectors in place of images."""
    return bool(environments.split(env_id)[1].get("flatten_observation"))


def _is_flat(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _parts(name: str, space: spaces.Space, path: tuple = ()) -> Iterator[tuple[tuple, spaces.Space]]:
    """The parts of a nested space and their keys, in the order in which Gymnasium flattens them.

    Raises UserError for a part that holds no numbers.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in named:
            yield from _parts(name, part, (*path, key))
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        yield path, space
    else:
        raise UserError(f"dataset {name!r}: its observations hold {space}, which cannot be flattened")


def _vectors(space: spaces.Space, values: Any) -> np.ndarray:
    """Values of a space as (n, size), as gymnasium.spaces.flatten does for each of them."""
    values = np.asarray(values)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):  # one-hot
        return np.array([spaces.flatten(space, value) for value in values])
    return values.reshape(len(values), -1)


def _read(
    name: str,
    stored: MinariDataset,
    parts: list[tuple[tuple, spaces.Space]],
    as_images: bool,
    notes: list[str],
) -> dict[str, Any]:
    """D4RL's fields of all episodes, filled in one by one so that nothing is in memory twice.

    An episode of T steps has T + 1 observations, so every next observation is known. Raises UserError if
    there are no episodes and, before any is read, if they do not fit into memory.
    """
    size, ends = stored.total_steps, np.cumsum([spaces.flatdim(part) for _, part in parts])
    if not size:
        raise UserError(f"dataset {name!r} is empty")
    arrays: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        "actions": ((size, *(stored.action_space.shape or ())), np.dtype(np.float32)),
        "rewards": ((size,), np.dtype(np.float32)),
        "terminals": ((size,), np.dtype(bool)),
        "timeouts": ((size,), np.dtype(bool)),
    }
    images = parts[0][1] if as_images else None
    if images is not None:
        frames = (size + stored.total_episodes, *(images.shape or ()))
        arrays |= {"frames": (frames, np.dtype(images.dtype))}
        arrays |= dict.fromkeys(_images.FIELDS, ((size,), np.dtype(np.int32)))
    else:
        arrays |= dict.fromkeys(_images.FIELDS, ((size, int(ends[-1])), np.dtype(np.float32)))
    _rules.check_memory(name, _rules.size_of(arrays))
    raw = {field: np.empty(shape, dtype) for field, (shape, dtype) in arrays.items()}
    row, last = 0, []
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which is refused
        for number, episode in enumerate(stored.iterate_episodes()):
            rows = slice(row, row + len(episode.rewards))
            if images is not None:
                _check_length(number, episode, episode.observations)
                raw["frames"][rows.start + number : rows.stop + number + 1] = episode.observations
                raw["observations"][rows] = np.arange(rows.start, rows.stop) + number
                raw["next_observations"][rows] = raw["observations"][rows] + 1
            for (path, part), end in zip(parts, ends, strict=True) if images is None else ():
                values = episode.observations
                for key in path:
                    values = values[key]
                vectors = _vectors(part, values)
                _check_length(number, episode, vectors)
                columns = slice(end - vectors.shape[1], end)
                raw["observations"][rows, columns] = vectors[:-1]
                raw["next_observations"][rows, columns] = vectors[1:]
            raw["actions"][rows] = episode.actions
            raw["rewards"][rows] = episode.rewards
            raw["terminals"][rows] = episode.terminations
            raw["timeouts"][rows] = episode.truncations
            row = rows.stop
            last += [row - 1] * (len(episode.rewards) > 0)
    if row != size:
        raise ValueError(f"it has {row} steps, but {size} according to its metadata")
    # The end of the data truncates anyway.
    if cut := [end for end in last[:-1] if not (raw["terminals"][end] or raw["timeouts"][end])]:
        raw["timeouts"][cut] = True
        notes.append(f"{len(cut)} episodes end neither terminated nor truncated: taken as truncated")
    return raw if images is None else raw | {"frames": [raw["frames"]]}


def _check_length(number: int, episode: Any, observations: Any) -> None:
    """Raises ValueError if an episode does not have one observation more than rewards."""
    if len(observations) != len(episode.rewards) + 1:
        raise ValueError(
            f"episode {number} has {len(observations)} observations and {len(episode.rewards)} rewards, but "
            "must have one observation more than rewards"
        )
