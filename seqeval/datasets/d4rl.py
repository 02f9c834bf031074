"""D4RL's datasets by name (arXiv 2004.07219), downloaded if they are not on this machine.

Files are searched in the folder $SEQEVAL_DATA, in D4RL's own cache and in seqeval's cache. Downloads go to
$SEQEVAL_DATA if set, otherwise to seqeval's cache. Names, URLs, reference returns and environments are
listed in data/d4rl.csv.

AntMaze, Maze2d and Kitchen were collected in D4RL's own environments, which Gymnasium does not have; the
table lists their names, sizes (actions are in [-1, 1]) and D4RL's time limits in evaluation (its
d4rl/locomotion, pointmaze and kitchen, __init__.py). The limits apply if a file has no timeouts, as
Kitchen's. Timeouts in a file differ from them: AntMaze was logged with 1001 steps, and in Maze2d, one long
trajectory, timeouts mark the goals that were reached (github.com/Farama-Foundation/D4RL/wiki/Tasks). These
datasets have no scores, not even with an environment of the user's, whose returns would not be on D4RL's
scale.
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
from seqeval.datasets import Listing, LoadOptions, Source, _rules, hdf5
from seqeval.errors import UserError
from seqeval.types import Continuous, Dataset, Environment, Vector

ANT_STATE = 27  # numbers of an observation of Ant before the contact forces

# How environments of Gymnasium-Robotics 1.4.2 differ from D4RL's.
APPROACH = "each step rewards 0.1 times the hand's distance to the {}, which D4RL's environment penalizes"
DIFFERENCES = {
    "AdroitHandPen-v1": "after the pen has fallen an episode continues with about -5 per step; D4RL's ends",
    "AdroitHandDoor-v1": APPROACH.format("handle"),
    "AdroitHandHammer-v1": APPROACH.format("hammer"),
    "AdroitHandRelocate-v1": APPROACH.format("ball"),
    "antmaze": "AntMaze observes a dict of 27 or 105 and two goals of 2",
    "maze2d": "PointMaze observes a dict of 4 and two goals of 2",
    "kitchen": "FrankaKitchen observes a dict of 59 and the goals of each task",
}


def names() -> list[str]:
    """The names of D4RL's datasets."""
    return [row["dataset"] for row in references.d4rl_table()]


def load(name: str, options: LoadOptions) -> Dataset:
    """The dataset of a name, downloaded if it is in none of the folders.

    `options.env_id` is for the families without an environment: one of the user's, with the same sizes.
    Raises UserError if its environment is not installed or another is requested, if it cannot be
    downloaded, and if a file is not the dataset; such a file is left unchanged.
    """
    row = next(row for row in references.d4rl_table() if row["dataset"] == name)
    env_id, logged_in, reference = options.env_id, _logged_in(row), None
    if logged_in is None:
        env_id, reference = _environment(row, env_id), references.of_row(row)
    elif env_id is not None:
        have, need = (
            environments.spaces_text(environment)
            for environment in (environments.describe(env_id), logged_in)
        )
        if have != need:
            raise UserError(
                f"dataset {name!r} has {need}, but {env_id} has {have}; leave out --env to train without "
                "evaluation"
            )
    path, card = _file(row["url"]), {"url": row["url"]}
    try:
        with _opened(path) as raw:
            if logged_in is not None and "timeouts" in raw:
                logged_in = replace(logged_in, time_limit=None)
            dataset = _rules.assemble(str(path), name, raw, env_id, reference, card, options.rules, logged_in)
    except UserError as error:
        raise UserError(
            f"{error}; replace it by a complete {path.name}, or remove it to have {name} downloaded"
        ) from error
    notes = _notes(row, dataset, logged_in, env_id)
    expected = row["usable_transitions"]
    if options.rules == "qlearning" and expected and len(dataset) != int(expected):
        notes.append(f"{len(dataset)} transitions, but {expected} in D4RL's {name}")
    return replace(dataset, notes=(*dataset.notes, *notes))


def listing(name: str) -> Listing:
    row = next(row for row in references.d4rl_table() if row["dataset"] == name)
    location = "on disk" if any(path.is_file() for path in _places(row["url"])) else "downloadable"
    if _logged_in(row) is not None:
        return Listing(location, reason="no: no installed environment has its observations")
    try:
        return Listing(location, _environment(row, None))
    except UserError as error:
        return Listing(location, reason=f"no: {str(error).partition('; ')[2]}")


SOURCE = Source(load, names, listing=listing)


def _environment(row: dict[str, str], requested: str | None) -> str:
    """The environment of a dataset, for `environments.make`.

    Raises UserError if its package is not installed or another environment is requested.
    """
    name, env_id = row["dataset"], row["gymnasium_id"]
    if env_id.startswith("Adroit"):
        if find_spec("gymnasium_robotics") is None:
            raise UserError(
                f"dataset {name!r}: {env_id} needs another package; pip install 'seqeval-rl[adroit]'"
            )
        env_id = f"gymnasium_robotics:{env_id}"  # Gymnasium then imports the package
    if requested not in (None, env_id):
        raise UserError(
            f"dataset {name!r} was collected in {env_id}, not in {requested}; leave out --env, which is for "
            "files"
        )
    return env_id


def _logged_in(row: dict[str, str]) -> Environment | None:
    """D4RL's own environment that a dataset was collected in; None if Gymnasium has it."""
    if row["gymnasium_id"]:
        return None
    bound = np.ones(int(row["action_size"]), np.float32)
    size, limit = int(row["observation_size"]), int(row["time_limit"])
    return Environment(row["d4rl_environment"], Vector(size), Continuous(-bound, bound), limit)


def _file(url: str) -> Path:
    """The path of the file of a URL, downloaded if necessary. Raises UserError if the download fails, or
    if a downloaded file has changed."""
    from seqeval.datasets import _download  # imports requests, which listing the names does not need

    paths = _places(url)
    for path in paths:
        if path.is_file():
            _download.verify(path)
            return path
    path = paths[0] if os.environ.get("SEQEVAL_DATA") else paths[-1]
    _download.fetch(url, path, _check)
    return path


def _places(url: str) -> list[Path]:
    """Where the file of a URL may be on this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "seqeval" / "datasets"
    d4rl = Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets")
    chosen = os.environ.get("SEQEVAL_DATA")
    folders = [Path(chosen), d4rl, cache] if chosen else [d4rl, cache]
    return [folder.expanduser() / url.rpartition("/")[2] for folder in folders]


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """D4RL's fields, not read yet, except columns, which become vectors as in D4RL's own loader.

    Raises UserError if it is not an HDF5 file or lacks a field.
    """
    with hdf5.opened(path) as (raw, _):
        for field, values in raw.items():
            if field in ("rewards", *_rules.FLAGS) and values.shape[1:] == (1,):
                raw[field] = _rules.read(str(path), field, values)[:, 0]
        yield raw


def _check(path: Path) -> None:
    """Raises UserError if a file is not one of D4RL's or cannot be read completely."""
    with _opened(path) as raw:
        for field, values in raw.items():
            _rules.read(str(path), field, values)


def _notes(
    row: dict[str, str], dataset: Dataset, logged_in: Environment | None, env_id: str | None
) -> list[str]:
    """Notes for comparing scores with D4RL's, or about the lack of scores."""
    known, family = row["gymnasium_id"].partition("?")[0], row["dataset"].partition("-")[0]
    notes = [f"{known}: {DIFFERENCES[known]}"] if known in DIFFERENCES else []
    if known == "Ant-v4" and dataset.observations[:, ANT_STATE:].any():
        notes.append("observations contain contact forces, but those of the environment are 0")
    if logged_in is not None and env_id is None:
        notes.append(
            "trained without evaluation, so there are no returns and no scores: no installed environment has "
            f"its observations of {logged_in.observation_size} numbers; Gymnasium-Robotics' "
            f"{DIFFERENCES[family]}"
        )
    elif logged_in is not None:
        notes.append(f"evaluated in {env_id}, not in D4RL's {logged_in.name}: returns, but no scores")
    if family == "kitchen":
        notes.append("a terminal marks the end of a demonstration, whether or not its tasks are completed")
    return notes
