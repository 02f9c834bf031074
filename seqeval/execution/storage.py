"""The study directory: the resolved study, and for each run its rows and its final policy.

DIR/study.json                                the study, resolved, with the versions it was run with
DIR/runs/<dataset>/<variant>/seed-<n>/
    rows.jsonl                                one row per line, in order
    policy.pt                                 the agent at the last row, once the run has finished
    policies/<samples>.pt                     the policy at each point of the curve (--keep-policies)
    progress.json                             the progress of a run that has not finished
    checkpoint.pt                             everything that the rest of an unfinished run depends on
    finished.json                             the mark of a finished run, with digests of its files
    episodes.jsonl                            episodes that were run later (execution.episodes)
    error.txt                                 why the run failed, until it is resumed
DIR/driver.json                               requests of the driver to its jobs (execution.driver_state)
DIR/slurm/, DIR/tensorboard/, DIR/wandb/      files of submitit, TensorBoard and wandb
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from seqeval import atomic_io
from seqeval.errors import UserError, one_line
from seqeval.execution import merging
from seqeval.execution.episodes import EpisodesOfStudy
from seqeval.execution.validation import (
    REPEAT,
    check_row,
    checksum,
    finished_record,
    is_progress,
    read_finished,
    read_study,
    refuse_links,
)
from seqeval.types import Row

if TYPE_CHECKING:
    import pandas as pd


FAILED = b'"status": "failed"'  # in a line of rows.jsonl
CHECKPOINT_KEYS = {"versions", "updates", "rows_bytes", "states"}


class Run:
    """The files of one run: a seed of a variant on a dataset."""

    def __init__(self, root: Path, dataset: str, variant: str, seed: int) -> None:
        self.seed = seed
        self.folder = root / run_folder(dataset, variant, seed)
        self.rows, self.policy = self.folder / "rows.jsonl", self.folder / "policy.pt"
        self.checkpoint = self.folder / "checkpoint.pt"
        self.progress = self.folder / "progress.json"
        self.error = self.folder / "error.txt"
        self.finished_record = self.folder / "finished.json"
        self._policies = self.folder / "policies"
        self._file: IO[str] | None = None

    @property
    def finished(self) -> bool:
        try:
            size = self.rows.stat().st_size
        except FileNotFoundError:
            return False
        return self.policy.exists() and finished_record(self.folder, size) is not None

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, with memory-mapped tensors; None if there is none or it is damaged.

        Raises UserError if other versions wrote it, whose numbers may differ.
        """
        import torch

        if not (self.checkpoint.exists() and self.rows.exists()):
            return None
        try:
            with zipfile.ZipFile(self.checkpoint) as parts:
                if parts.testzip() is not None:  # torch itself checks no checksum
                    return None
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # unpickling other content is documented to raise anything
            return None
        if not (isinstance(saved, dict) and saved.keys() == CHECKPOINT_KEYS):
            return None
        if saved["versions"] != _versions():
            before, now = (
                ", ".join(f"{name} {number}" for name, number in versions.items())
                for versions in (saved["versions"], _versions())
            )
            raise UserError(
                f"{self.checkpoint}: saved by {before}, but {now} is installed; install the former to "
                "resume, or delete the file to start this seed again"
            )
        return saved if saved["rows_bytes"] <= self.rows.stat().st_size else None

    def open(self, checkpoint: Mapping[str, Any] | None) -> None:
        """Prepares the run for new rows: empty, or as it was at a checkpoint.

        Raises UserError if its folder is a symbolic link.
        """
        refuse_links(self.folder)
        if checkpoint is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            # On NFS a file that another process has open survives for a while under another name.
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            os.truncate(self.rows, checkpoint["rows_bytes"])
            evaluated = {json.loads(line)["samples"] for line in self.rows.read_text().splitlines()}
            for samples, path in self.kept_policies().items():
                if samples not in evaluated:
                    path.unlink()
            self.error.unlink(missing_ok=True)
        self._file = self.rows.open("a")

    def save_checkpoint(self, updates: int, states: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the checkpoint by the states of the run's replicas after so many updates."""
        assert self._file is not None, "open() comes first"
        size = self.rows.stat().st_size
        values = {"versions": _versions(), "updates": updates, "rows_bytes": size, "states": list(states)}
        atomic_io.save_tensors(self.checkpoint, values)

    def keep_policy(self, samples: int, policy: Mapping[str, Any]) -> None:
        """Stores the policy at a point of the curve."""
        self._policies.mkdir(exist_ok=True)
        atomic_io.save_tensors(self._policies / f"{samples}.pt", policy)

    def kept_policies(self) -> dict[int, Path]:
        """The files of the stored policies by their samples, in ascending order."""
        return {
            int(path.stem): path for path in sorted(self._policies.glob("*.pt"), key=lambda p: int(p.stem))
        }

    def append(self, row: Row) -> None:
        """Stores a row; it is on the disk when this returns."""
        assert self._file is not None, "open() comes first"
        values = asdict(row)
        for group in ("metrics", "evaluations"):  # JSON has no NaN
            values[group] = {k: v if math.isfinite(v) else None for k, v in values[group].items()}
        self._file.write(json.dumps(values, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def write_progress(
        self, updates: int, total: int, per_second: float | None, stopped: bool = False
    ) -> None:
        """Records the progress for `seqeval status` and the driver."""
        values = {"updates": updates, "of": total, "per_second": per_second, "stopped": stopped}
        partial = self.progress.with_name("progress.json.partial")
        partial.write_text(json.dumps(values | {"time": time.time()}) + "\n")
        partial.replace(self.progress)

    def read_progress(self) -> dict[str, Any] | None:
        """What `write_progress` recorded last; None if there is nothing."""
        try:
            values = json.loads(self.progress.read_text())
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return values if is_progress(values) else None

    def write_error(self, text: str) -> None:
        """Records why the run failed."""
        refuse_links(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.error.write_text(text + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self, policy: Mapping[str, Any]) -> None:
        """Stores the policy and marks the run as finished, in one step."""
        self.close()
        rows = self.rows.read_bytes()
        digests = {
            self.rows.name: atomic_io.digest(rows),
            self.policy.name: atomic_io.save_tensors(self.policy, policy),
        } | {
            str(path.relative_to(self.folder)): atomic_io.digest(path.read_bytes())
            for path in self.kept_policies().values()
        }
        record = {"rows_bytes": len(rows), "failed": FAILED in rows, "digests": digests}
        atomic_io.save_json(self.finished_record, record)
        for path in (self.checkpoint, self.progress):
            path.unlink(missing_ok=True)


class StudyDirectory:
    """The folder of a study. Runs may be added to it; settings that define its numbers may not change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study_file = path / "study.json"

    def run(self, dataset: str, variant: str, seed: int) -> Run:
        return Run(self.path, dataset, variant, seed)

    def study(self) -> dict[str, Any]:
        """The resolved study. Raises UserError if the folder holds none that this version can read."""
        if not self.study_file.is_file():
            raise UserError(
                f"{self.path}: no study here (no study.json); give the --out of an earlier `seqeval run`"
            )
        return read_study(self.study_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Prevents other processes from running the same study; creates the folder if necessary.

        Raises UserError if another process has the lock, if the path is a file, or if the folder holds
        something else.
        """
        self._claim()
        with atomic_io.locked(self.path, "another process is running this study"):
            yield

    def _claim(self) -> None:
        """Creates the folder. Raises UserError if something else is there."""
        self._refuse_others()
        self.path.mkdir(parents=True, exist_ok=True)

    def _refuse_others(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise UserError(f"{self.path}: a file, not a folder; give another --out")
        if not self.study_file.exists() and any(p.name != atomic_io.LOCK_FILE for p in self.path.iterdir()):
            raise UserError(f"{self.path}: not empty and holds no study; give another --out")

    def admit(self, study: dict[str, Any], redo: Sequence[str] = ()) -> None:
        """Stores the resolved study, merged with what is stored already; removes the runs of the variants in
        `redo`, which may have changed. Raises UserError as `merged` does."""
        self._claim()
        study = self.merged(study, redo)
        # The runs go first: stored with the new study, they would pass for runs of the changed code.
        for name in redo:
            for folder in self.path.glob(f"runs/*/{glob.escape(_safe(name))}"):
                shutil.rmtree(folder)
        atomic_io.save_json(self.study_file, study | {"checksum": checksum(study)})

    def merged(self, study: dict[str, Any], redo: Sequence[str] = ()) -> dict[str, Any]:
        """The resolved study, merged with what is stored already; changes nothing.

        Raises UserError if the two do not fit together (see `merging.merge`), if `redo` names another variant
        than the study's, or one with runs that the study lacks.
        """
        self._refuse_others()
        merging.check_redo(study, redo, {name: self._runs_of(name) for name in redo}, self.path)
        stored = self.study() if self.study_file.exists() else None
        return study if stored is None else merging.merge(stored, study, redo, self.path)

    def _runs_of(self, variant: str) -> list[tuple[str, int]]:
        """Dataset and seed of each run of a variant that has a folder."""
        folders = self.path.glob(f"runs/*/{glob.escape(_safe(variant))}/seed-*")
        return [
            (unquote(folder.parts[-3]), int(folder.name.removeprefix("seed-")))
            for folder in sorted(folders, key=_natural)
        ]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row of every run, finished or not, as plain values. An incomplete last line is left out."""
        for file in sorted(self.path.glob("runs/*/*/seed-*/rows.jsonl"), key=_natural):
            refuse_links(file.parent)
            content = read_finished(file, file.with_name("finished.json"))
            for number, line in enumerate(content.split(b"\n")[:-1], 1):
                try:
                    row = json.loads(line)
                    fault = check_row(row)
                except (ValueError, RecursionError) as error:
                    fault = one_line(error)
                if fault:
                    raise UserError(f"{file}: line {number} is damaged ({fault}); {REPEAT}")
                yield row


def load(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """The rows of one or more study directories, finished or not: what figures and `analysis` take.

    Raises UserError as `frame` does, and if there is no path.
    """
    directories = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not directories:
        raise UserError("load: give at least one study directory")
    return frame(directories)


def frame(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of study directories as one table: a column for each field, and for each metric (`train/…` of
    the algorithm, `eval/…` of evaluators).

    `study` is the present name of the folder, so a copy under another name is another study. The content of
    each study.json is in `attrs["studies"]`, where figures look for it. Raises UserError if a folder holds no
    study or no rows yet, if two have the same name, or if two hold different data under one dataset name.
    """
    import pandas as pd

    from seqeval.analysis import in_study_order, with_code_length, with_studies

    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        which = " and ".join(str(path) for path, name in zip(paths, names, strict=True) if name == twice)
        raise UserError(
            f"{which} have the same name, which identifies a study; rename or leave out one of them"
        )
    columns = _columns(flat for path, name in zip(paths, names, strict=True) for flat in _flat(path, name))
    rows = with_code_length(pd.DataFrame(columns).astype({"score": float, "return_mean": float}))
    studies = dict(zip(names, _studies(paths), strict=True))
    return with_studies(in_study_order(rows, studies), studies)


def _studies(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The content of each study.json. Raises UserError if two hold different data under one dataset name."""
    studies = [StudyDirectory(path).study() for path in paths]
    seen: dict[str, tuple[str, Path]] = {}
    for path, study in zip(paths, studies, strict=True):
        for name, dataset in study["datasets"].items():
            digest, first = seen.setdefault(name, (dataset["digest"], path))
            if digest != dataset["digest"]:
                raise UserError(
                    f"{path}: its data called {name!r} are not those of {first}: their digests in "
                    "study.json differ; use the directories separately, or run one of them again on the same "
                    "data"
                )
    return studies


def _flat(path: Path, study: str) -> Iterator[dict[str, Any]]:
    """The rows of a study directory, metrics next to the fields. Raises UserError if there are none."""
    directory = StudyDirectory(path)
    later, row = EpisodesOfStudy(directory.study()), None
    for row in directory.rows():
        row |= later.added(row, directory.run(row["dataset"], row["variant"], row["seed"]).folder)
        metrics, evaluations = row.pop("metrics"), row.pop("evaluations")
        row["study"] = study
        columns = {f"train/{key}": value for key, value in metrics.items()}
        columns |= {f"eval/{key}": value for key, value in evaluations.items()}
        yield row | {key: math.nan if value is None else value for key, value in columns.items()}
    if row is None:
        raise UserError(f"{path}: no rows yet")


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, NaN where a row lacks one. The rows are not kept: so many small objects would slow the
    garbage collector down."""
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
    """Writes the rows of a study directory as CSV or Parquet, lists as JSON text; returns their number.

    Raises UserError for another ending, or if Parquet's library is missing.
    """
    if to.suffix not in (".csv", ".parquet"):
        raise UserError(f"{to}: a table's name ends in .csv or .parquet")
    from seqeval.analysis.tables import without_formulas

    rows = frame([directory])
    for column in ("episode_returns", "episode_lengths", "episode_successes"):
        rows[column] = rows[column].map(json.dumps)
    if to.is_dir():
        raise UserError(f"{to}: a folder; name a file that ends in .csv or .parquet")
    to.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.replacing(to) as partial:
        if to.suffix == ".csv":
            without_formulas(rows).to_csv(partial, index=False)
            return len(rows)
        try:
            rows.to_parquet(partial, index=False)
        except ImportError as error:
            raise UserError(
                f"{to}: Parquet needs pyarrow; pip install 'seqeval-rl[parquet]', or write .csv"
            ) from error
    return len(rows)


def _versions() -> dict[str, str]:
    """Versions of what affects a run's numbers to the last bit."""
    return {name: version(name) for name in ("seqeval-rl", "torch", "numpy")}


def run_folder(dataset: str, variant: str, seed: int) -> str:
    """The folder of a run in a study directory."""
    return f"runs/{_safe(dataset)}/{_safe(variant)}/seed-{seed}"


@cache
def _safe(name: str) -> str:
    """A name as the name of a folder: reversible, so that names do not collide, and never hidden."""
    encoded = quote(name, safe=" =,+()[]")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded


def _natural(path: Path) -> list[Any]:
    """Sorts seed-9 before seed-10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
