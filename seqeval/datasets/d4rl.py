"""D4RL's datasets by name (arXiv 2004.07219): found where they lie already, else downloaded.

A file is looked for in the folder $SEQEVAL_DATA, in D4RL's own cache and in ours; a download goes to the
first where that is set, else to ours. The names, addresses, reference returns and environments are those of
data/d4rl.csv.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from seqeval import scores
from seqeval.datasets import _download, _rules
from seqeval.datasets.files import read_hdf5
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

ANT_STATE = 27  # numbers of an observation in front of the contact forces

# How scores still differ from D4RL's, as of gymnasium-robotics 1.4.2.
APPROACH = (
    "the hand's distance to the {} is rewarded, by 0.1 of it a step, where D4RL's environment punishes it"
)
DIFFERENCES = {
    "AdroitHandPen-v1": "an episode goes on after the pen has fallen, at about -5 a step; D4RL's ends there",
    "AdroitHandDoor-v1": APPROACH.format("handle"),
    "AdroitHandHammer-v1": APPROACH.format("hammer"),
    "AdroitHandRelocate-v1": APPROACH.format("ball"),
}

# Why a family has no environment to compute a score in.
WITHOUT = {
    "antmaze": "its observations are 29 numbers, Gymnasium-Robotics' AntMaze observes a dict of 27 or 105 "
    "and two goals of 2",
    "maze2d": "its observations are 4 numbers, Gymnasium-Robotics' PointMaze observes a dict of 4 and two "
    "goals of 2",
    "kitchen": "its observations are 60 numbers, Gymnasium-Robotics' FrankaKitchen observes a dict of 59 and "
    "the goals of each task",
}


def names() -> list[str]:
    return [row["dataset"] for row in scores.d4rl_table()]


def handles(name: str) -> bool:
    return name in names()


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The dataset of a name, downloaded where it lies in none of the folders.

    Raises UserError where its environment is missing or another is wanted, where it cannot be downloaded, and
    for a file that is not the dataset; such a file is left as it is.
    """
    row = next(row for row in scores.d4rl_table() if row["dataset"] == name)
    environment = _environment(row)
    if env_id not in (None, environment):
        raise UserError(
            f"dataset {name!r} was logged in {environment}, not in {env_id}; "
            "leave out --env, which is for files"
        )
    path = _file(row["url"])
    try:
        raw = _read(path)
        notes = _notes(row, raw)
        reference, card = scores.of_row(row), {"url": row["url"]}
        dataset = _rules.assemble(str(path), name, raw, environment, reference, card, rules)
    except UserError as error:
        raise UserError(
            f"{error}; put a whole {path.name} in its place, or move it away to have {name} downloaded"
        ) from error
    expected = row["usable_transitions"]
    if rules == "qlearning" and expected and len(dataset) != int(expected):
        notes.append(f"{len(dataset)} transitions, D4RL has {expected} of {name}")
    return replace(dataset, notes=(*dataset.notes, *notes))


def _environment(row: dict[str, str]) -> str:
    """The environment of a dataset, for `environments.make`. Raises UserError where there is none."""
    name, known = row["dataset"], row["gymnasium_id"]
    if not known:
        reason = WITHOUT[name.partition("-")[0]]
        raise UserError(f"dataset {name!r} cannot be scored, so it is not loaded: {reason}")
    env_id = scores.environment_of(row)
    if not known.startswith("Adroit"):
        return env_id
    if find_spec("gymnasium_robotics") is None:
        raise UserError(
            f"dataset {name!r}: {known} needs a further package; pip install 'seqeval-rl[adroit]'"
        )
    return f"gymnasium_robotics:{env_id}"  # Gymnasium imports the module, which registers its environments


def _file(url: str) -> Path:
    """Where the file of an address lies, downloaded if need be. Raises UserError where it does not come."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "seqeval" / "datasets"
    d4rl = Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets")
    own = os.environ.get("SEQEVAL_DATA")
    folders = [Path(own), d4rl, cache] if own else [d4rl, cache]
    paths = [folder.expanduser() / url.rpartition("/")[2] for folder in folders]
    for path in paths:
        if path.is_file():
            return path
    path = paths[0] if own else paths[-1]
    _download.fetch(url, path, _read)
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    """D4RL's fields, each number of a row that has one only by itself, as D4RL's own loader takes it.

    Raises UserError where it is no HDF5 file, cannot be read to its end, or lacks a field.
    """
    raw, _ = read_hdf5(path)
    for field in _rules.REQUIRED:
        if field not in raw:
            raise UserError(f"{path}: field {field!r} is missing")
    for field, values in raw.items():
        if field not in _rules.VECTORS and values.shape[1:] == (1,):
            raw[field] = values[:, 0]
    return raw


def _notes(row: dict[str, str], raw: dict[str, np.ndarray]) -> list[str]:
    """What people should know when they compare scores with D4RL's."""
    known, observations = row["gymnasium_id"], raw["observations"]
    notes = [f"{known}: {DIFFERENCES[known]}"] if known in DIFFERENCES else []
    if known == "Ant-v4" and observations.ndim == 2 and observations[:, ANT_STATE:].any():
        notes.append("there are contact forces in the observations; those of the environment are 0")
    return notes
