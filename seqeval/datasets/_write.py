"""Datasets written out again: as a file in D4RL's layout, or for Minari.

Loaded from there they have the same transitions, episodes, ends and reference returns. What that cannot be
said of is told in notes: an episode that lost its last transition when it was loaded, because its next
observation was not logged, now ends where it was cut.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from gymnasium import spaces

from seqeval import environments, references
from seqeval.atomic_io import replacing
from seqeval.datasets import files, minari
from seqeval.errors import UserError
from seqeval.types import Dataset

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer


def write(dataset: Dataset, to: str) -> tuple[Path, list[str]]:
    """Writes a dataset to `minari:ID` or to a path that ends in .hdf5 or .h5; the path of it, and the notes.

    Raises UserError where there is something already, for a name that is neither, and for data that the
    format cannot hold.
    """
    for_minari = minari.handles(to)
    if not for_minari and not files.handles(to):
        raise UserError(f"{to}: name a file that ends in {' or '.join(files.ENDINGS)}, or minari:ID")
    path = minari.path_of(to) if for_minari else Path(os.path.expanduser(to))
    if path.exists():
        raise UserError(f"{path}: exists already; remove it or choose another name")
    if not len(dataset):
        raise UserError(f"{dataset.name}: stands for no data; there is nothing to write")
    if dataset.logged_in is not None:
        raise UserError(
            f"{dataset.name}: was logged in {dataset.environment}, which no file can name so that it loads "
            "again; keep it as D4RL has it, in HDF5"
        )
    last = np.r_[dataset.episode[1:] != dataset.episode[:-1], True]  # the rows at which episodes end
    notes = _losses(dataset, last)
    if for_minari:
        notes += _write_minari(dataset, last, path, to.removeprefix(minari.PREFIX))
    else:
        notes += _write_hdf5(dataset, last, path)
    return path, notes


def _losses(dataset: Dataset, last: np.ndarray) -> list[str]:
    """What will not be as it was in either format."""
    notes = []
    ends = dataset.terminated | dataset.truncated
    if dropped := int((last & ~ends).sum()):
        notes.append(
            f"{dropped} episodes lost their last transition when they were loaded, its next observation not "
            "being in the log: they end one transition earlier, cut there, and their returns are without it"
        )
    if gone := len(dataset.episode_returns) - int(last.sum()):
        notes.append(f"{gone} episodes had no other transition and are gone")
    if cut := int((~dataset.episode_complete[dataset.episode[last]])[:-1].sum()):
        notes.append(f"{cut} unfinished episodes before the last count as cut by a timeout")
    if len(dataset.segments) > 1:
        notes.append(f"its {len(dataset.segments)} parts are one")
    return notes


def _timeouts(dataset: Dataset, last: np.ndarray) -> np.ndarray:
    """Where episodes were cut: (N,) bool. An unfinished last one is left open, as in any log that ends."""
    timeouts = last & ~dataset.terminated
    timeouts[-1] &= dataset.episode_complete[dataset.episode[-1]]
    return timeouts


def _write_hdf5(dataset: Dataset, last: np.ndarray, path: Path) -> list[str]:
    fields = {
        "observations": dataset.observations,
        "actions": dataset.actions,
        "rewards": dataset.rewards,
        "next_observations": dataset.next_observations,
        "terminals": dataset.terminated,
        "timeouts": _timeouts(dataset, last),
    }
    about: dict[str, Any] = {"env_id": dataset.env_id, "converted_from": dataset.name}
    if "behaviour" in dataset.card:
        about["behaviour"] = str(dataset.card["behaviour"])
    if reference := dataset.reference:
        about |= {
            "reference_min": reference.minimum,
            "reference_max": reference.maximum,
            "reference_source": reference.source,
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update(about)
        for key, values in fields.items():
            file.create_dataset(key, data=values, compression="gzip", shuffle=True)
    published = references.of_environment(dataset.environment)
    if published is None or published == dataset.reference:
        return []
    return [f"scores will be {published.source}, which go before a file's own"]


def _write_minari(dataset: Dataset, last: np.ndarray, path: Path, dataset_id: str) -> list[str]:
    follows = (dataset.next_observations[:-1] == dataset.observations[1:]).all(axis=1)
    if jumps := int((~last[:-1] & ~follows).sum()):
        raise UserError(
            f"{dataset.name}: the next observation of {jumps} transitions inside episodes is not the "
            "observation of the next one, and Minari keeps it only once; convert it to a file in .hdf5"
        )

    from minari import __version__
    from minari.dataset.minari_storage import MinariStorage
    from minari.namespace import create_namespace, list_local_namespaces

    notes = []
    with environments.quiet(), closing(environments.make(dataset.environment)) as env:
        box, actions, spec = env.observation_space, env.action_space, env.spec
        assert isinstance(box, spaces.Box)  # or it would have been no dataset
        try:
            if spec is not None:
                spec.to_json()
        except (TypeError, ValueError):  # it is registered with a class, or made with objects
            spec = None
            notes.append(f"Minari cannot record {dataset.env_id}; the suite alone will know its environment")
    with np.errstate(over="ignore"):  # bounds beyond float32 are none
        observations = spaces.Box(box.low.astype(np.float32), box.high.astype(np.float32), dtype=np.float32)

    about: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": __version__,
        "description": f"Converted by seqeval from {dataset.name}.",
        minari.OWN: {"env_id": dataset.env_id},
    }
    if "behaviour" in dataset.card:
        about["algorithm_name"] = str(dataset.card["behaviour"])
    if reference := dataset.reference:
        about |= {"ref_min_score": reference.minimum, "ref_max_score": reference.maximum}
        about[minari.OWN]["reference_source"] = reference.source
    namespace = dataset_id.rpartition("/")[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    # Beside the others and hidden from Minari until all of it is there.
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        data = Path(folder, path.name, "data")
        data.parent.mkdir()
        storage = MinariStorage.new(data, observation_space=observations, action_space=actions, env_spec=spec)
        storage.update_metadata(about)
        storage.update_episodes(_episodes(dataset, last))
        data.parent.rename(path)
    return notes


def _episodes(dataset: Dataset, last: np.ndarray) -> Iterator[EpisodeBuffer]:
    """The episodes one after the other, the observation behind each step included. Minari's own way to fill
    such a buffer, step by step, would need JAX."""
    from minari.data_collector import EpisodeBuffer

    timeouts = _timeouts(dataset, last)
    borders = [0, *(np.flatnonzero(last) + 1).tolist()]
    for number, (first, end) in enumerate(pairwise(borders)):
        behind = dataset.next_observations[end - 1 : end]
        yield EpisodeBuffer(
            id=number,
            observations=np.concatenate([dataset.observations[first:end], behind]),
            actions=dataset.actions[first:end],
            rewards=dataset.rewards[first:end],
            terminations=dataset.terminated[first:end],
            truncations=timeouts[first:end],
        )
