"""`seqeval status`: how far a study is, by what its run directory says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from seqeval import atomic_io
from seqeval.execution.storage import Cell, RunDirectory

from ._terminal import plain_console

EVERY = 2.0  # seconds between two looks
PATIENCE = 60.0  # seconds without news, at least, after which nobody works at a cell any more

State = Literal["done", "running", "waiting", "stopped", "failed"]


@dataclass(frozen=True)
class Standing:
    """How far one seed of an algorithm on a dataset is."""

    dataset: str
    variant: str
    seed: int
    state: State
    updates: float
    of: float  # not a number where it is not known
    per_second: float  # updates; 0 unless it is running, and until that is known
    error: Path | None  # the file that says why it failed
    diverged: bool  # its rows say failed: its losses or actions are not finite

    @property
    def title(self) -> str:
        return f"{self.dataset} · {self.variant} · seed {self.seed}"


def status(directory: Annotated[Path, tyro.conf.Positional], watch: bool = False) -> int:
    """Say how far a study is: cells done, running, waiting, stopped and failed, time left, disc used.

    A cell is one seed of an algorithm on a dataset. It is running while there is news of it, waiting while
    its turn is to come, stopped where it was begun and nobody goes on with it, failed where it could not go
    on. The same `seqeval run` again goes on with what is stopped or failed.

    Args:
        directory: The run directory.
        watch: Look again every two seconds until each cell is done or failed, or until Ctrl-C.
    """
    console = plain_console(stderr=False)
    if not watch:
        console.print(picture(directory, standings(directory)))
        return 0
    with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            found = standings(directory)
            live.update(picture(directory, found), refresh=True)
            if all(cell.state in ("done", "failed") for cell in found):
                break
            time.sleep(EVERY)
    return 0


def standings(directory: Path) -> list[Standing]:
    """Of every cell that was asked for. Raises UserError where there is no study."""
    out = RunDirectory(directory)
    study = out.study()
    began = datetime.fromisoformat(study["runs"][-1]["began"]).timestamp()
    locked, now = atomic_io.is_locked(directory), time.time()
    found = []
    for (dataset, variant, seed), of in _asked_for(study).items():
        cell = out.cell(dataset, variant, seed)
        told = cell.told() or {"updates": 0, "of": of, "per_second": None}
        state = _state(cell, locked, began, now)
        found.append(
            Standing(
                dataset,
                variant,
                seed,
                state,
                updates=of if state == "done" else told["updates"],
                of=told["of"],
                per_second=(told["per_second"] or 0.0) if state == "running" else 0.0,
                error=cell.error if state == "failed" else None,
                diverged=cell.rows.exists() and b'"status": "failed"' in cell.rows.read_bytes(),
            )
        )
    return found


def _asked_for(study: dict[str, Any]) -> dict[tuple[str, str, int], float]:
    """The cells of a study and how many updates each makes, which old studies do not tell."""
    cells: dict[tuple[str, str, int], float] = {}
    for run in study["runs"]:
        of_all = {dataset: dict.fromkeys(study["algorithms"], math.nan) for dataset in study["datasets"]}
        for dataset, variants in run.get("updates", of_all).items():
            for variant, updates in variants.items():
                cells |= {(dataset, variant, seed): updates for seed in run["seeds"]}
    return cells


def _state(cell: Cell, locked: bool, began: float, now: float) -> State:
    """`locked`: a driver is at work here. It `began` last at that time, and asked Slurm or other machines
    maybe, whose pieces may go on without it."""
    if cell.finished:
        return "done"
    if cell.error.exists():
        return "failed"
    told = cell.told()
    if told is None:
        return "waiting"
    if told["every"] is not None:  # which it is where the cell has been stopped
        fresh = now - told["time"] <= max(3 * told["every"], PATIENCE)
        if (told["time"] >= began) if locked else fresh:
            return "running"
    return "waiting" if locked else "stopped"


def picture(directory: Path, cells: Sequence[Standing]) -> Group:
    """The table, and beneath it what else there is to say."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("dataset", "algorithm", *get_args(State), "updates", "time left"):
        table.add_column(header, justify="left" if header in ("dataset", "algorithm") else "right")
    groups: dict[tuple[str, str], list[Standing]] = {}
    for cell in cells:
        groups.setdefault((cell.dataset, cell.variant), []).append(cell)
    for (dataset, variant), group in groups.items():
        table.add_row(dataset, variant, *_line(group))
    if len(groups) > 1:
        table.add_row("all", "", *_line(cells), style="bold")
    return Group(table, *(Text(line) for line in _remarks(directory, cells)))


def _line(cells: Sequence[Standing]) -> list[str]:
    counts = [sum(cell.state == state for cell in cells) for state in get_args(State)]
    share = sum(cell.updates for cell in cells) / sum(cell.of for cell in cells)
    return [
        *(str(count or "") for count in counts),
        "" if math.isnan(share) else f"{share:.0%}",
        _words(_left(cells)),
    ]


def _left(cells: Sequence[Standing]) -> float | None:
    """Seconds until what runs and waits is done, if the cells that run go on as fast and hand over to those
    that wait; None where that cannot be said."""
    ahead = [cell for cell in cells if cell.state in ("running", "waiting")]
    speed = sum(cell.per_second for cell in ahead)
    if not speed:
        return None
    alone = [(cell.of - cell.updates) / cell.per_second for cell in ahead if cell.per_second]
    return max(sum(cell.of - cell.updates for cell in ahead) / speed, *alone)


def _words(seconds: float | None) -> str:
    if seconds is None or math.isnan(seconds):
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _remarks(directory: Path, cells: Sequence[Standing]) -> Iterator[str]:
    done = sum(cell.state == "done" for cell in cells)
    yield f"{done} of {len(cells)} cells done, {_disc_used(directory)} on disc"
    for cell in cells:
        if cell.error is not None:
            yield f"{cell.title} failed: see {cell.error}"
        elif cell.diverged:
            yield f"{cell.title}: its numbers are not finite, and its rows say failed"
    if any(cell.state == "stopped" for cell in cells):
        yield "what is stopped goes on with the same `seqeval run`"


def _disc_used(directory: Path) -> str:
    size = 0.0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # since then
            size += path.lstat().st_size
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
