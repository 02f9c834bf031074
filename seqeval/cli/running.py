"""`seqeval run`, and experiments as scripts."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import tyro

from seqeval.config import PRESETS, Evaluation, Execution, Preset, Protocol, Study
from seqeval.errors import PluginError, UserError

from ._terminal import plain_console
from .results import show_results


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
) -> int:
    """Train every algorithm on every dataset as it arrives; then print the table and draw the curves.

    Runs of the same study that OUT already holds are kept, missing ones are added, and interrupted ones are
    resumed.

    Args:
        out: The study directory.
        preset: The defaults of protocol and evaluation. strict: nothing is seen before it arrives. paper: as
            in the released code of the paper, including its leaks of the full dataset. mixed: strict, for
            joined datasets (mix:A+B) that arrive one after the other, seen through a window.
    """
    # `main` reads the preset before everything else: its values are the defaults of this study.
    study = Study(**{field.name: getattr(study, field.name) for field in dataclasses.fields(Study)})
    return run_study(study, out, execution)


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
