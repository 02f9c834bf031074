"""`seqeval run`."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import tyro

from seqeval.settings import PRESETS, Evaluation, Preset, Protocol, Study

from ._terminal import plain_console
from .results import show_results


def run(
    study: Annotated[Study, tyro.conf.arg(name="")],
    out: Path,
    jobs: int | None = None,
    preset: Preset = "strict",
    save_every: float = 60.0,
) -> int:
    """Train every algorithm on every dataset as it arrives; then print the table and draw the curves.

    What OUT holds already of the same study is left alone, what is missing is added, and what was stopped
    goes on where it was saved.

    Args:
        out: The run directory.
        jobs: Pieces of work beside each other; by default one a core, on a GPU one.
        preset: Where the protocol's and the evaluation's defaults come from. strict: nothing is seen before
            it arrives. paper: as in the released code of the paper, its leaks of the full dataset included.
            mixed: strict, for datasets joined (mix:A+B): they arrive in turn, seen through a window.
        save_every: Seconds from one checkpoint of each piece to the next.
    """
    from seqeval import launch

    # The preset was read before all else (see `main`): its values are the defaults of this very study.
    study = Study(**{field.name: getattr(study, field.name) for field in dataclasses.fields(Study)})
    rows = launch.run(study, out, jobs, plain_console(stderr=True), save_every)
    return show_results(rows, out, out / "curves.png")


def preset_of(arguments: list[str]) -> Preset:
    """The preset that the arguments of `run` name; what is wrong with it is left for the parser to say."""
    found: list[Preset] = [name for name in PRESETS if f"--preset={name}" in arguments]
    found += [name for name in PRESETS if ("--preset", name) in pairwise(arguments)]
    return found[-1] if found else "strict"


def study_with(preset: Preset) -> type[Study]:
    """A study whose defaults are a preset's, for the parser to fill in."""
    protocol, evaluation = PRESETS[preset]
    changed = [
        ("protocol", Protocol, dataclasses.field(default=protocol)),
        ("evaluation", Evaluation, dataclasses.field(default=evaluation)),
    ]
    return dataclasses.make_dataclass("Study", changed, bases=(Study,), frozen=True)
