"""D4RL's datasets by name (arXiv 2004.07219): found where they lie already, else downloaded.

A file is looked for in the folder $SEQEVAL_DATA, in D4RL's own cache and in ours; a download goes to the
first where that is set, else to ours. The names, addresses, reference returns and environments are those of
data/d4rl.csv.

AntMaze, Maze2d and Kitchen were logged in environments of D4RL's own that Gymnasium has none like: what they
observe and where they cut episodes is said here. Nothing is scored then, not even with an environment of the
user's: it would be another's return on D4RL's scale.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from seqeval import environments, references
from seqeval.datasets import _download, _rules
from seqeval.datasets.files import opened
from seqeval.errors import UserError
from seqeval.types import Continuous, DataRules, Dataset, Discrete, Environment

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

# Families without an environment: numbers in an observation and in an action, which are between -1 and 1, and
# what Gymnasium-Robotics has instead.
WITHOUT = {
    "antmaze": (29, 8, "AntMaze observes a dict of 27 or 105 and two goals of 2"),
    "maze2d": (4, 2, "PointMaze observes a dict of 4 and two goals of 2"),
    "kitchen": (60, 9, "FrankaKitchen observes a dict of 59 and the goals of each task"),
}

# Steps after which D4RL's own environments cut an episode, in evaluation (d4rl/locomotion, pointmaze and
# kitchen, __init__.py). That counts where a file has no timeouts, as Kitchen's do not. Where it has some they
# are elsewhere: AntMaze was logged for 1000 steps and one, and in Maze2d, one long trajectory, they mark the
# goals that were reached (github.com/Farama-Foundation/D4RL/wiki/Tasks).
LIMITS = {
    "antmaze-umaze": 700,
    "antmaze-medium": 1000,
    "antmaze-large": 1000,
    "maze2d-umaze": 300,
    "maze2d-medium": 600,
    "maze2d-large": 800,
    "kitchen-complete": 280,
    "kitchen-partial": 280,
    "kitchen-mixed": 280,
}


def names() -> list[str]:
    return [row["dataset"] for row in references.d4rl_table()]


def handles(name: str) -> bool:
    return name in names()


def load(name: str, env_id: str | None, rules: DataRules, trust_pickle: bool) -> Dataset:
    """The dataset of a name, downloaded where it lies in none of the folders.

    `env_id` is for those families that have no environment: one of the user's, with the same sizes.
    Raises UserError where its environment is missing or another is wanted, where it cannot be downloaded, and
    for a file that is not the dataset; such a file is left as it is.
    """
    row = next(row for row in references.d4rl_table() if row["dataset"] == name)
    own, reference = _own_environment(row), None
    if own is None:
        env_id, reference = _environment(row, env_id), references.of_row(row)
    elif env_id is not None:
        _check_fit(name, own, env_id)
    path, card = _file(row["url"]), {"url": row["url"]}
    try:
        with _opened(path) as raw:
            if own is not None and "timeouts" in raw:
                own = replace(own, time_limit=None)
            dataset = _rules.assemble(str(path), name, raw, env_id, reference, card, rules, own)
    except UserError as error:
        raise UserError(
            f"{error}; put a whole {path.name} in its place, or move it away to have {name} downloaded"
        ) from error
    notes = _notes(row, dataset) if own is None else _notes_without(name, own, env_id)
    expected = row["usable_transitions"]
    if rules == "qlearning" and expected and len(dataset) != int(expected):
        notes.append(f"{len(dataset)} transitions, D4RL has {expected} of {name}")
    return replace(dataset, notes=(*dataset.notes, *notes))


def _environment(row: dict[str, str], wanted: str | None) -> str:
    """The environment of a dataset, for `environments.make`. Raises UserError where its package is missing,
    and where another is wanted."""
    name, known = row["dataset"], row["gymnasium_id"]
    env_id = references.environment_of(row)
    if known.startswith("Adroit"):
        if find_spec("gymnasium_robotics") is None:
            raise UserError(
                f"dataset {name!r}: {known} needs a further package; pip install 'seqeval-rl[adroit]'"
            )
        env_id = f"gymnasium_robotics:{env_id}"  # Gymnasium imports it, which registers its environments
    if wanted not in (None, env_id):
        raise UserError(
            f"dataset {name!r} was logged in {env_id}, not in {wanted}; leave out --env, which is for files"
        )
    return env_id


def _own_environment(row: dict[str, str]) -> Environment | None:
    """What a dataset was logged in where Gymnasium has nothing like it; else None."""
    if row["gymnasium_id"]:
        return None
    family, *words, _ = row["dataset"].split("-")
    name = "-".join([family, *(word for word in words if word not in ("play", "diverse"))])
    observation, action, _ = WITHOUT[family]
    bound = np.ones(action, np.float32)
    limit = LIMITS[name.removesuffix("-dense")]
    return Environment(name, observation, Continuous(-bound, bound), limit)


def _check_fit(name: str, own: Environment, env_id: str) -> None:
    """Raises UserError where the policies that learn from a dataset could not act in an environment."""
    other = environments.describe(env_id)
    if _spaces(other) != _spaces(own):
        raise UserError(
            f"dataset {name!r} has {_spaces(own)}, but {env_id} has {_spaces(other)}; without --env it is "
            "trained and not evaluated"
        )


def _spaces(environment: Environment) -> str:
    """What an environment observes and takes, in words."""
    space = environment.actions
    observed = f"observations of {environment.observation_size} numbers"
    if isinstance(space, Discrete):
        return f"{observed} and {space.size} numbered actions"
    low, high = (" ".join(f"{x:g}" for x in np.unique(bound)) for bound in (space.low, space.high))
    return f"{observed} and actions of {space.size} from {low} to {high}"


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
    _download.fetch(url, path, _check)
    return path


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """D4RL's fields, not read yet but for columns, which become a number a row as D4RL's own loader has it.

    Raises UserError where it is no HDF5 file or lacks a field.
    """
    with opened(path) as (raw, _):
        for field in _rules.REQUIRED:
            if field not in raw:
                raise UserError(f"{path}: field {field!r} is missing")
        for field, values in raw.items():
            if field not in _rules.VECTORS and values.shape[1:] == (1,):
                raw[field] = _rules.read(str(path), field, values)[:, 0]
        yield raw


def _check(path: Path) -> None:
    """Raises UserError where a file is not one of D4RL's, or cannot be read to its end."""
    with _opened(path) as raw:
        for field, values in raw.items():
            _rules.read(str(path), field, values)


def _notes(row: dict[str, str], dataset: Dataset) -> list[str]:
    """What people should know when they compare scores with D4RL's."""
    known = row["gymnasium_id"]
    notes = [f"{known}: {DIFFERENCES[known]}"] if known in DIFFERENCES else []
    if known == "Ant-v4" and dataset.observations[:, ANT_STATE:].any():
        notes.append("there are contact forces in the observations; those of the environment are 0")
    return notes


def _notes_without(name: str, own: Environment, env_id: str | None) -> list[str]:
    """What people should know of a dataset that D4RL scores and the suite does not."""
    family = name.partition("-")[0]
    *_, instead = WITHOUT[family]
    if env_id is None:
        notes = [
            "trained without evaluation, so there are no returns and no scores: no environment here has its "
            f"observations, which are {own.observation_size} numbers; Gymnasium-Robotics' {instead}"
        ]
    else:
        notes = [f"evaluated in {env_id}, not in D4RL's {own.name}: returns, but no scores"]
    if family == "kitchen":
        notes.append("a terminal is where a demonstration ends, whether or not its tasks are done")
    return notes
