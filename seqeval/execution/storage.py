"""The run directory: the resolved study, and for each cell its rows and its final policy.

DIR/study.json                                what was asked, resolved, and with which versions
DIR/cells/<dataset>/<variant>/seed-<n>/
    rows.jsonl                                a row a line, as they came
    policy.pt                                 the agent at the last row; there once the cell is finished
    progress.json                             how far it is, for people; till then
    checkpoint.pt                             all that the rest of it hangs on; till then
    error.txt                                 why it was not finished, where it failed; till it begins again
DIR/driver.json                               what pieces on other machines are told (launch.elsewhere)
DIR/slurm/, DIR/tensorboard/                  what submitit and TensorBoard keep there
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from seqeval import atomic_io
from seqeval.errors import UserError
from seqeval.types import Row

if TYPE_CHECKING:
    import pandas as pd


class Cell:
    """Where one seed of one variant on one dataset is kept."""

    def __init__(self, root: Path, dataset: str, variant: str, seed: int) -> None:
        self.seed = seed
        self.folder = root / "cells" / _safe(dataset) / _safe(variant) / f"seed-{seed}"
        self.rows, self.policy = self.folder / "rows.jsonl", self.folder / "policy.pt"
        self.checkpoint = self.folder / "checkpoint.pt"
        self.progress = self.folder / "progress.json"
        self.error = self.folder / "error.txt"
        self._mark = self.folder / "finished.json"
        self._file: IO[str] | None = None

    @property
    def finished(self) -> bool:
        if not (self._mark.exists() and self.policy.exists() and self.rows.exists()):
            return False
        try:
            return json.loads(self._mark.read_text())["rows_bytes"] == self.rows.stat().st_size
        except (ValueError, KeyError, TypeError):  # the mark is damaged
            return False

    def saved(self) -> dict[str, Any] | None:
        """What `save` wrote last, its tensors still on the disk; None where there is nothing to go on from,
        because it never came to that or because the file is damaged.

        Raises UserError where other versions wrote it, whose numbers may differ from this one's.
        """
        import torch

        if not (self.checkpoint.exists() and self.rows.exists()):
            return None
        try:
            with zipfile.ZipFile(self.checkpoint) as parts:
                if parts.testzip() is not None:  # torch itself looks at no checksum
                    return None
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError):
            return None
        if saved["versions"] != _versions():
            there, here = (
                ", ".join(f"{name} {number}" for name, number in versions.items())
                for versions in (saved["versions"], _versions())
            )
            raise UserError(
                f"{self.checkpoint}: saved by {there}, and here is {here}; go on with those, or delete the "
                "file to begin this seed again"
            )
        return saved if saved["rows_bytes"] <= self.rows.stat().st_size else None

    def begin(self, saved: Mapping[str, Any] | None = None) -> None:
        """Empty, whatever an unfinished run has left, or as it was when `saved` was."""
        if saved is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            # On NFS what another process has open stays for a while, under another name.
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            os.truncate(self.rows, saved["rows_bytes"])
            self.error.unlink(missing_ok=True)
        self._file = self.rows.open("a")

    def save(self, updates: int, states: list[dict[str, Any]]) -> None:
        """Writes down all that the rest of the cell hangs on, the states of its replicas after so many
        updates, and takes the place of what was saved before in one step."""
        assert self._file is not None, "begin() comes first"
        size = self.rows.stat().st_size
        what = {"versions": _versions(), "updates": updates, "rows_bytes": size, "states": states}
        atomic_io.save_tensors(self.checkpoint, what)

    def append(self, row: Row) -> None:
        """Writes a row down, to stay: it is on the disk when this returns."""
        assert self._file is not None, "begin() comes first"
        values = asdict(row)
        # JSON has no NaN: a metric that is not finite is null, and the row's status says failed.
        values["metrics"] = {k: v if math.isfinite(v) else None for k, v in row.metrics.items()}
        self._file.write(json.dumps(values, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def tell(self, updates: int, of: int, per_second: float | None, every: float | None) -> None:
        """Leaves word of how far it is, for people who ask: there will be news in about `every` seconds, or
        none, where that is None: it has been stopped."""
        word = {"updates": updates, "of": of, "per_second": per_second, "every": every, "time": time.time()}
        partial = self.progress.with_name("progress.json.partial")
        partial.write_text(json.dumps(word) + "\n")
        partial.replace(self.progress)

    def told(self) -> dict[str, Any] | None:
        """What `tell` left last; None where there is nothing."""
        try:
            return json.loads(self.progress.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def fail(self, why: str) -> None:
        """Leaves word of why it could not be finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.error.write_text(why + "\n")

    def close(self) -> None:
        """Closes the file of rows."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self, policy: dict[str, Any]) -> None:
        """Stores the policy, and then in one step the mark that the cell is finished."""
        self.close()
        atomic_io.save_tensors(self.policy, policy)
        atomic_io.save_json(self._mark, {"rows_bytes": self.rows.stat().st_size})
        for path in (self.checkpoint, self.progress):
            path.unlink(missing_ok=True)


class RunDirectory:
    """A folder with a study in it. Cells may be added to it; what defines its numbers may not change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study_file = path / "study.json"

    def cell(self, dataset: str, variant: str, seed: int) -> Cell:
        return Cell(self.path, dataset, variant, seed)

    def study(self) -> dict[str, Any]:
        """The resolved study. Raises UserError where the folder holds none."""
        if not self.study_file.is_file():
            raise UserError(
                f"{self.path}: no study here (no study.json); give the --out of an earlier `seqeval run`"
            )
        try:
            return json.loads(self.study_file.read_text())
        except ValueError as error:
            raise UserError(
                f"{self.study_file}: damaged, not JSON ({error}); restore it, or give another --out"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from running the same study.

        The folder is made if need be. Raises UserError where another process has the lock, or where the path
        is a file's or a folder's that holds something else.
        """
        self._claim()
        with atomic_io.locked(self.path, "another process is running this study"):
            yield

    def _claim(self) -> None:
        """Makes the folder. Raises UserError where the path is not ours to use."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: a file, not a folder; give another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.study_file.exists() and any(p.name != atomic_io.LOCK_FILE for p in self.path.iterdir()):
            raise UserError(f"{self.path}: not empty and holds no study; give another --out")

    def admit(self, study: dict[str, Any]) -> None:
        """Writes the resolved study down, joined with what is here already.

        `protocol`, `online`, `evaluation` and `precision` must be the same, and so must every dataset and
        algorithm that is known here by the same name; new ones are added. What is here already of
        `arithmetic` stays. Raises UserError that names the first value that differs.
        """
        self._claim()
        if self.study_file.exists():
            before = self.study()
            before["evaluation"].setdefault("backend", "gymnasium")  # older directories lack it
            for group in ("protocol", "online", "evaluation"):
                self._same(before.get(group, {}), study[group], group)
            same = {"precision": before.get("precision", "full")}  # older folders lack it
            self._same(same, {"precision": study["precision"]})
            for kind in ("datasets", "algorithms"):
                for name in before[kind].keys() & study[kind].keys():
                    self._same(_identity(before[kind][name]), _identity(study[kind][name]), name)
            study = study | {
                "datasets": before["datasets"] | study["datasets"],
                "algorithms": before["algorithms"] | study["algorithms"],
                "arithmetic": study["arithmetic"] | before.get("arithmetic", {}),
                "runs": before["runs"] + study["runs"],
            }
        atomic_io.save_json(self.study_file, study)

    def _same(self, there: Mapping[str, Any], here: Mapping[str, Any], group: str = "") -> None:
        # Both sides as JSON has them: a tuple is a list there.
        here = json.loads(json.dumps(here))
        # An algorithm's code first: where its file has changed, that explains whatever else differs.
        for key in sorted(there.keys() | here.keys(), key=lambda key: (key != "code", key)):
            if there.get(key) != here.get(key):
                if key == "digest":
                    raise UserError(
                        f"{self.path}: {group!r} was other data there; rename one, or give another --out"
                    )
                same = "the file as it was" if key == "code" else "the same value"
                name = f"{group}.{key}" if group else key
                raise UserError(
                    f"{self.path}: {name} is {there.get(key)!r} there and {here.get(key)!r} now; "
                    f"give another --out, or {same}"
                )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row of every cell, finished or not, as plain values. A last line that is torn is left out."""
        for file in sorted(self.path.glob("cells/*/*/seed-*/rows.jsonl"), key=_natural):
            for number, line in enumerate(file.read_text().splitlines(keepends=True), 1):
                if not line.endswith("\n"):
                    continue
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(
                        f"{file}: line {number} is damaged; remove its folder and run the study again, which "
                        "redoes that seed alone"
                    ) from error


def frame(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of run directories as one table, a column for each field and metric (`train/…`).

    `study` is the folder's name as it is now, so that a copy under another name is another study. Raises
    UserError where a folder holds no study or no rows yet, or where two folders have one name.
    """
    import pandas as pd

    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        which = " and ".join(str(path) for path, name in zip(paths, names, strict=True) if name == twice)
        raise UserError(f"{which} have one name, by which studies are told apart; rename or leave out one")
    columns = _columns(flat for path, name in zip(paths, names, strict=True) for flat in _flat(path, name))
    return pd.DataFrame(columns).astype({"score": float, "return_mean": float})


def _flat(path: Path, study: str) -> Iterator[dict[str, Any]]:
    """The rows of a run directory, metrics beside the fields. Raises UserError where there are none."""
    directory = RunDirectory(path)
    directory.study()
    row = None
    for row in directory.rows():
        metrics = row.pop("metrics")
        row["study"] = study
        yield row | {f"train/{key}": math.nan if v is None else v for key, v in metrics.items()}
    if row is None:
        raise UserError(f"{path}: no rows yet")


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows turned round, NaN where one lacks a column. No row is kept: so many small objects take the garbage
    collector longer than what is done with them."""
    columns: dict[str, list[Any]] = {}
    size = 0
    for row in rows:
        for key, value in row.items():
            column = columns.setdefault(key, [])
            if len(column) < size:
                column += [math.nan] * (size - len(column))
            column.append(value)
        size += 1
    for column in columns.values():
        column += [math.nan] * (size - len(column))
    return columns


def export_table(directory: Path, to: Path) -> int:
    """Writes the rows of a run directory as CSV or Parquet, lists as JSON text; returns how many.

    Raises UserError for another ending, or where Parquet's library is missing.
    """
    if to.suffix not in (".csv", ".parquet"):
        raise UserError(f"{to}: a table's name ends in .csv or .parquet")
    rows = frame([directory])
    for column in ("episode_returns", "episode_lengths", "episode_successes"):
        rows[column] = rows[column].map(json.dumps)
    if to.is_dir():
        raise UserError(f"{to}: a folder; name a file that ends in .csv or .parquet")
    to.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.replacing(to) as partial:
        if to.suffix == ".csv":
            rows.to_csv(partial, index=False)
            return len(rows)
        try:
            rows.to_parquet(partial, index=False)
        except ImportError as error:
            raise UserError(
                f"{to}: Parquet needs pyarrow; pip install 'seqeval-rl[parquet]', or take .csv"
            ) from error
    return len(rows)


def _versions() -> dict[str, str]:
    """Of what a run's numbers hang on to the last bit."""
    return {name: version(name) for name in ("seqeval-rl", "torch", "numpy")}


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a dataset or an algorithm what it is, one level deep; the rest is for people."""
    if "digest" in settings:
        return {key: settings[key] for key in ("env_id", "digest", "reference")}
    if "code" in settings:  # of a class in a file: what the file holds counts, not where it lies
        name = settings["algorithm"].rpartition(":")[2]
        return {"algorithm": name, "code": settings["code"]} | dict(settings["config"])
    return {"algorithm": settings["algorithm"]} | dict(settings["config"])


def _safe(name: str) -> str:
    """A name as a folder's: reversible, so that two names never meet in one folder, and never hidden."""
    encoded = quote(name, safe=" =,+()[]")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded


def _natural(path: Path) -> list[Any]:
    """Sorts seed-9 before seed-10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
