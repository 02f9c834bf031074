"""`seqeval run`, and experiments as scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from seqeval.config import PRESETS, Evaluation, Execution, Preset, Protocol, Study
from seqeval.durations import format_duration
from seqeval.errors import PluginError, UserError

from ._terminal import plain_console
from .results import show_results

if TYPE_CHECKING:
    from seqeval.execution.dry_run import Estimate


def run_study(study: Study, out: Path, execution: Execution) -> int:
    """Runs a study, prints the table, draws the curves, and returns the exit code. If jobs fail, table and
    curves show what there is before the failure is raised."""
    import seqeval
    from seqeval.execution.driver import JobsFailed, JobsIncomplete
    from seqeval.execution.storage import frame

    try:
        rows = seqeval.run(study, out, execution, plain_console(stderr=True))
    except (JobsFailed, JobsIncomplete, PluginError):
        with suppress(UserError, OSError):  # no rows yet, or a full disk: the failure itself says more
            show_results(frame([out]), out, out / "curves.png")
        raise
    return 0 if execution.detached else show_results(rows, out, out / "curves.png")


DEFAULTS = Execution()


def run(
    study: Annotated[Study, tyro.conf.arg(name="")],
    out: Path,
    execution: Annotated[Execution, tyro.conf.arg(name="")] = DEFAULTS,
    preset: Preset = "strict",
    config: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Train every algorithm on every dataset as it arrives; then print the table and draw the curves.

    Runs of the same study that OUT already holds are kept, missing ones are added, and interrupted ones are
    resumed.

    Args:
        out: The study directory.
        preset: The defaults of protocol and evaluation. strict: nothing is seen before it arrives. paper: as
            in the released code of the paper, including its leaks of the full dataset. mixed: strict, for
            joined datasets (mix:A+B) that arrive one after the other, seen through a window.
        config: A TOML file with any of these settings, or the study.json of an earlier study. Flags win over
            it, and it wins over the preset.
        dry_run: Print the jobs, and what they will take in time and memory by a short measurement. Nothing is
            written to OUT.
    """
    # `main` reads preset and config before everything else: its values are the defaults of this study.
    study = Study(**{field.name: getattr(study, field.name) for field in dataclasses.fields(Study)})
    return show_estimate(study, out, execution) if dry_run else run_study(study, out, execution)


def show_estimate(study: Study, out: Path, execution: Execution) -> int:
    """Prints the jobs of a study and what they will take; returns the exit code."""
    from seqeval.execution.dry_run import estimate

    messages, result = plain_console(stderr=True), plain_console(stderr=False)

    def report(title: str) -> None:
        messages.print(f"measuring {title}", highlight=False, markup=False)

    found = estimate(study, out, execution, report)
    for note in found.notes:
        messages.print(f"note: {note}", highlight=False, markup=False)
    if not found.jobs:
        print(f"{out}: every run is finished")
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("job", "runs", "updates", "memory", "time"):
        table.add_column(header, justify="left" if header == "job" else "right")
    for job in found.jobs:
        memory = f"{job.memory / 1e9:.1f} GB"
        if job.gpu_memory:
            memory += f", GPU {job.gpu_memory / 1e9:.1f} GB"
        updates = f"{job.updates:,}".replace(",", " ")
        table.add_row(job.title, str(job.runs), updates, memory, format_duration(job.seconds))
    result.print(table)
    for line in _summary(found, execution):
        result.print(line, highlight=False, markup=False)
    return 0


def _summary(found: Estimate, execution: Execution) -> Iterator[str]:
    count = len(found.jobs)
    jobs, total = f"{count} job{'s' * (count > 1)}", f"about {format_duration(found.seconds)}"
    if found.parallel is None:
        yield f"{jobs}, as many in parallel as there is room for: {total} in all, at this machine's speed"
    else:
        at_once, memory = min(found.parallel, count), f"{found.memory / 1e9:.1f} GB of memory"
        yield f"{jobs}, {at_once} in parallel on the {found.device.upper()}: {total}, at most {memory}"
    if execution.keep_policies:
        yield f"policies: {sum(job.policies for job in found.jobs) / 1e6:.1f} MB on disk"
    yield "nothing was written; run the command without --dry-run to start"


def preset_of(arguments: list[str]) -> Preset:
    """The preset that the arguments of `run` name; errors in it are left to the parser."""
    found: list[Preset] = [name for name in PRESETS if f"--preset={name}" in arguments]
    found += [name for name in PRESETS if ("--preset", name) in pairwise(arguments)]
    return found[-1] if found else "strict"


def study_with(preset: Preset) -> type[Study]:
    """A study class with the defaults of a preset, for the parser."""
    protocol, evaluation = PRESETS[preset]
    changed = [
        ("protocol", Protocol, dataclasses.field(default=protocol)),
        ("evaluation", Evaluation, dataclasses.field(default=evaluation)),
    ]
    return dataclasses.make_dataclass("Study", changed, bases=(Study,), frozen=True)
