"""Write datasets as HDF5 files in D4RL's layout, or as Minari datasets.

Loading them again gives the same transitions, episodes, terminations, truncations and reference returns.
Notes describe what differs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from gymnasium import spaces

from seqeval import environments, references
from seqeval.atomic_io import replacing
from seqeval.datasets import _files, hdf5, minari
from seqeval.errors import UserError
from seqeval.types import Continuous, Dataset, Image

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer


def write(dataset: Dataset, to: str) -> tuple[Path, list[str]]:
    """Write a dataset to `minari:ID` or to the path of an HDF5 file; return its path, and notes.

    Raises UserError if the target exists, if its name is neither, and for data that the format cannot hold.
    """
    for_minari = minari.SOURCE.owns(to)
    if not for_minari and not hdf5.SOURCE.owns(to):
        endings = " or ".join(hdf5.SOURCE.endings)
        raise UserError(f"{to}: name a file that ends in {endings}, or minari:ID")
    path = minari.path_of(to) if for_minari else Path(os.path.expanduser(to))
    if path.exists():
        raise UserError(f"{path}: exists already; remove it or choose another name")
    if not len(dataset):
        raise UserError(f"{dataset.name}: has no data to write")
    if isinstance(dataset.observation, Image):
        raise UserError(f"{dataset.name}: images cannot be written; copy the files that they come from")
    if dataset.logged_in is not None and dataset.logged_in.name != dataset.env_id:
        raise UserError(
            f"{dataset.name}: was collected in {dataset.environment}, which no file can name, so that the "
            "copy could not be loaded; keep D4RL's own file"
        )
    if dataset.logged_in is not None and for_minari:
        raise UserError(
            f"{dataset.name}: Minari cannot store the bounds of its actions, which {dataset.env_id} does not "
            f"have; write a {hdf5.SOURCE.endings[0]} file"
        )
    last = np.r_[dataset.episode[1:] != dataset.episode[:-1], True]  # the rows at which episodes end
    notes = _losses(dataset, last)
    if for_minari:
        notes += _write_minari(dataset, last, path, to.removeprefix(minari.PREFIX))
    else:
        notes += _write_hdf5(dataset, last, path)
    return path, notes


def _losses(dataset: Dataset, last: np.ndarray) -> list[str]:
    """Notes about what either format loses."""
    notes = []
    ends = dataset.terminated | dataset.truncated
    if dropped := int((last & ~ends).sum()):
        notes.append(
            f"{dropped} episodes lost their last transition during loading because its next observation is "
            "not in the log: they are truncated one transition earlier, and their returns lack its reward"
        )
    if lost := len(dataset.episode_returns) - int(last.sum()):
        notes.append(f"{lost} episodes had no other transition and are omitted")
    if unfinished := int((~dataset.episode_complete[dataset.episode[last]])[:-1].sum()):
        notes.append(f"{unfinished} unfinished episodes before the last one count as truncated by a timeout")
    if len(dataset.segments) > 1:
        notes.append(f"its {len(dataset.segments)} segments become one")
    return notes


def _timeouts(dataset: Dataset, last: np.ndarray) -> np.ndarray:
    """Where episodes were truncated: (N,) bool. An unfinished last episode has no timeout, as in any log."""
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
    attributes: dict[str, Any] = {"env_id": dataset.env_id, "converted_from": dataset.name}
    if "behaviour" in dataset.card:
        attributes["behaviour"] = str(dataset.card["behaviour"])
    if reference := dataset.reference:
        attributes |= zip(_files.REFERENCE_KEYS, astuple(reference), strict=True)
    actions = environments.of(dataset).actions
    if isinstance(actions, Continuous):  # so that the file can be used without the environment
        attributes |= zip(_files.BOUND_KEYS, (actions.low, actions.high), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update(attributes)
        for key, values in fields.items():
            file.create_dataset(key, data=values, compression="gzip", shuffle=True)
    published = references.of_environment(dataset.environment)
    if published is None or published == dataset.reference:
        return []
    return [f"scores of the file will use the published references ({published.source}), not its own"]


def _write_minari(dataset: Dataset, last: np.ndarray, path: Path, dataset_id: str) -> list[str]:
    follows = (dataset.next_observations[:-1] == dataset.observations[1:]).all(axis=1)
    if jumps := int((~last[:-1] & ~follows).sum()):
        raise UserError(
            f"{dataset.name}: the next observation of {jumps} transitions inside episodes is not the "
            f"observation of the next one, but Minari stores only one; write a {hdf5.SOURCE.endings[0]} file"
        )

    from minari import __version__
    from minari.dataset.minari_storage import MinariStorage
    from minari.namespace import create_namespace, list_local_namespaces

    notes = []
    with environments.quiet(), closing(environments.make(dataset.environment)) as env:
        box, actions, spec = env.observation_space, env.action_space, env.spec
        assert isinstance(box, spaces.Box)  # other observations cannot be loaded
        try:
            if spec is not None:
                spec.to_json()
        except (TypeError, ValueError):  # registered with a class, or with objects as arguments
            spec = None
            notes.append(f"Minari cannot record {dataset.env_id}; only seqeval will know the environment")
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        observations = spaces.Box(box.low.astype(np.float32), box.high.astype(np.float32), dtype=np.float32)

    metadata: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": __version__,
        "description": f"Converted by seqeval from {dataset.name}.",
        minari.METADATA_KEY: {"env_id": dataset.env_id},
    }
    if "behaviour" in dataset.card:
        metadata["algorithm_name"] = str(dataset.card["behaviour"])
    if reference := dataset.reference:
        metadata |= {"ref_min_score": reference.minimum, "ref_max_score": reference.maximum}
        metadata[minari.METADATA_KEY]["reference_source"] = reference.source
    namespace = dataset_id.rpartition("/")[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    # Minari ignores hidden folders, so the dataset appears only once it is complete.
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        data = Path(folder, path.name, "data")
        data.parent.mkdir()
        storage = MinariStorage.new(data, observation_space=observations, action_space=actions, env_spec=spec)
        storage.update_metadata(metadata)
        storage.update_episodes(_episodes(dataset, last))
        data.parent.rename(path)
    return notes


def _episodes(dataset: Dataset, last: np.ndarray) -> Iterator[EpisodeBuffer]:
    """The episodes, each with its final observation. Minari's own way to fill a buffer would need JAX."""
    from minari.data_collector import EpisodeBuffer

    timeouts = _timeouts(dataset, last)
    borders = [0, *(np.flatnonzero(last) + 1).tolist()]
    for number, (first, end) in enumerate(pairwise(borders)):
        final = dataset.next_observations[end - 1 : end]
        yield EpisodeBuffer(
            id=number,
            observations=np.concatenate([dataset.observations[first:end], final]),
            actions=dataset.actions[first:end],
            rewards=dataset.rewards[first:end],
            terminations=dataset.terminated[first:end],
            truncations=timeouts[first:end],
        )
