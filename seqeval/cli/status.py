"""`seqeval status`: the progress of a study, read from its study directory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro

from seqeval import atomic_io
from seqeval.durations import format_duration
from seqeval.errors import UserError, printable
from seqeval.execution.storage import FAILED, Run, StudyDirectory, run_folder
from seqeval.execution.validation import finished_record

from ._terminal import plain_console

if TYPE_CHECKING:
    from rich.console import Group

REFRESH_SECONDS = 2.0  # with --watch
STALE_SECONDS = 60.0  # a run counts as stopped after this time without a progress report

State = Literal["finished", "running", "waiting", "stopped", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """The progress of one run: one seed of an algorithm on a dataset."""

    dataset: str
    variant: str
    seed: int
    state: State
    updates: float
    total_updates: float
    updates_per_second: float  # 0 unless the run is running and its speed is known
    error: Path | None  # the file with the reason of a failure
    diverged: bool  # a row has the status failed: losses or actions are not finite

    @property
    def title(self) -> str:
        return f"{self.dataset} · {self.variant} · seed {self.seed}"


def status(directory: Annotated[Path, tyro.conf.Positional], watch: bool = False) -> int:
    """Show the progress of a study: its runs by state, the time left and the disk space used.

    A run is one seed of an algorithm on a dataset. Its state is one of: finished; running; waiting for its
    turn; stopped, if it was started and no process works on it any more; failed, if an error ended it. The
    same "seqeval run" command resumes stopped and failed runs.

    Args:
        directory: The study directory.
        watch: Refresh every two seconds until all runs are finished or failed. Ctrl-C ends it.
    """
    console = plain_console(stderr=False)
    if not watch:
        console.print(render(*study_status(directory)))
        return 0
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            runs, size = study_status(directory)
            live.update(render(runs, size), refresh=True)
            if all(run.state in ("finished", "failed") for run in runs):
                break
            time.sleep(REFRESH_SECONDS)
    return 0


def study_status(directory: Path) -> tuple[list[RunStatus], int]:
    """The status of every requested run, and the size of all files in bytes.

    Raises UserError if the directory contains no study.
    """
    study_directory = StudyDirectory(directory)
    study = study_directory.study()
    invocations = study["invocations"]
    try:
        began = datetime.fromisoformat(invocations[-1]["began"]).timestamp()
    except (ValueError, IndexError) as error:
        raise UserError(f"{study_directory.study_file}: damaged ({error}); restore it") from error
    locked, now = atomic_io.is_locked(directory), time.time()
    totals: dict[tuple[str, str, int], float] = {}
    for invocation in invocations:
        for dataset, variants in invocation["updates"].items():
            for variant, total in variants.items():
                in_sweep = "sweep" in study["algorithms"][variant]
                seeds = (in_sweep and invocation.get("sweep_seeds")) or invocation["seeds"]
                totals |= {(dataset, variant, seed): total for seed in seeds}
    sizes = _file_sizes(directory)
    runs = [
        _finished(directory, *key, total, sizes)
        or _unfinished(study_directory.run(*key), *key, total, locked, began, now)
        for key, total in totals.items()
    ]
    return runs, sum(sum(files.values()) for files in sizes.values())


def _finished(
    directory: Path,
    dataset: str,
    variant: str,
    seed: int,
    total: float,
    sizes: Mapping[str, Mapping[str, int]],
) -> RunStatus | None:
    """The status of a run if it has finished, from the sizes of its files and its finished.json alone, since
    a study may have thousands."""
    folder = os.path.join(directory, run_folder(dataset, variant, seed))
    files = sizes.get(folder, {})
    if not {"rows.jsonl", "policy.pt", "finished.json"} <= files.keys():
        return None
    record = finished_record(folder, files["rows.jsonl"])
    if record is None:
        return None
    failed = record["failed"] if "failed" in record else _has_failed_rows(Path(folder, "rows.jsonl"))
    return RunStatus(dataset, variant, seed, "finished", total, total, 0.0, None, bool(failed))


def _unfinished(
    files: Run, dataset: str, variant: str, seed: int, total: float, locked: bool, began: float, now: float
) -> RunStatus:
    """The status of a run that has not finished; `locked` and `began` as in `_state`."""
    progress = files.read_progress()
    state = _state(files, progress, locked, began, now)
    per_second = progress["per_second"] if progress and state == "running" else None
    return RunStatus(
        dataset,
        variant,
        seed,
        state,
        updates=progress["updates"] if progress else 0,
        total_updates=progress["of"] if progress else total,
        updates_per_second=per_second or 0.0,
        error=files.error if state == "failed" else None,
        diverged=_has_failed_rows(files.rows),
    )


def _state(
    files: Run, progress: Mapping[str, Any] | None, locked: bool, began: float, now: float
) -> Literal["running", "waiting", "stopped", "failed"]:
    """The state of a run that has not finished.

    `locked`: a `seqeval run` is working in the directory; the latest one started at `began`. Without a lock,
    jobs on Slurm or on other machines may still be running; the age of their last report decides.
    """
    if files.error.exists():
        return "failed"
    if progress is None:
        return "waiting"
    if not progress["stopped"]:
        recent = now - progress["time"] <= STALE_SECONDS
        if (progress["time"] >= began) if locked else recent:
            return "running"
    return "waiting" if locked else "stopped"


def _has_failed_rows(rows: Path) -> bool:
    try:
        return FAILED in rows.read_bytes()
    except FileNotFoundError:
        return False


def render(runs: Sequence[RunStatus], size: int) -> Group:
    """The table of states by dataset and algorithm, and the notes below it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("dataset", "algorithm", *get_args(State), "updates", "time left"):
        table.add_column(header, justify="left" if header in ("dataset", "algorithm") else "right")
    groups: dict[tuple[str, str], list[RunStatus]] = {}
    for run in runs:
        groups.setdefault((run.dataset, run.variant), []).append(run)
    for (dataset, variant), group in groups.items():
        table.add_row(Text(printable(dataset)), Text(printable(variant)), *_summary(group))
    if len(groups) > 1:
        table.add_row("all", "", *_summary(runs), style="bold")
    return Group(table, *(Text(printable(line)) for line in _notes(runs, size)))


def _summary(runs: Sequence[RunStatus]) -> list[str]:
    counts = [sum(run.state == state for run in runs) for state in get_args(State)]
    share = sum(run.updates for run in runs) / sum(run.total_updates for run in runs)
    left = _seconds_left(runs)
    time_left = "" if left is None else format_duration(left)
    return [*(str(count or "") for count in counts), f"{share:.0%}", time_left]


def _seconds_left(runs: Sequence[RunStatus]) -> float | None:
    """The estimated time until all running and waiting runs are finished; None if it is not known.

    Assumes that running runs keep their speed and that waiting runs take their place when they finish.
    """
    unfinished = [run for run in runs if run.state in ("running", "waiting")]
    speed = sum(run.updates_per_second for run in unfinished)
    if not speed:
        return None
    updates_left = sum(run.total_updates - run.updates for run in unfinished)
    running = (run for run in unfinished if run.updates_per_second)
    return max(
        updates_left / speed, *((run.total_updates - run.updates) / run.updates_per_second for run in running)
    )


def _notes(runs: Sequence[RunStatus], size: int) -> Iterator[str]:
    finished = sum(run.state == "finished" for run in runs)
    yield f"{finished} of {len(runs)} runs finished, {_disk_space(size)} on disk"
    for run in runs:
        if run.error is not None:
            yield f"{run.title} failed: see {run.error}"
        elif run.diverged:
            yield f"{run.title}: losses or actions are not finite; rows have the status failed"
    if any(run.state == "stopped" for run in runs):
        yield "run the same `seqeval run` command again to resume stopped runs"


def _disk_space(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _file_sizes(folder: Path | str) -> dict[str, dict[str, int]]:
    """The sizes of all files in a folder and below it, in bytes, by the path of their folder and their name.

    os.scandir asks the system less often than pathlib does.
    """
    found: dict[str, dict[str, int]] = {}
    folders = [os.fspath(folder)]
    while folders:
        path = folders.pop()
        files = found[path] = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                try:
                    files[entry.name] = entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:  # removed in the meantime
                    continue
    return found
