"""`seqeval run`, and experiments as scripts."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seqeval.config import PRESETS, Evaluation, Preset, Protocol, Ray, Slurm, Study
from seqeval.errors import UserError

from ._terminal import plain_console
from .results import show_results


@dataclass(frozen=True)
class How:
    """How a study is run; no number hangs on it."""

    jobs: int | None = None
    """Pieces of work beside each other; by default one a core, on a GPU one, on a Ray cluster as many as
    there is room for, in Slurm's queue all at once."""
    group: bool = False
    """Agents on datasets with the same sizes of observations and actions, as D4RL's of one environment, make
    each update together, in one piece of work: to fill a GPU, which a few agents cannot. All these datasets
    are in memory at once."""
    save_every: float = 60.0
    """Seconds from one checkpoint of each piece to the next."""
    launcher: Literal["local", "ray", "slurm"] = "local"
    """Where the pieces run: on this machine or on a cluster, whose every machine sees OUT."""
    ray: Ray = field(default_factory=Ray)
    slurm: Slurm = field(default_factory=Slurm)
    overlap: Literal["auto", "on", "off"] = "auto"
    """on: each piece evaluates in a process beside it while it trains, on the CPU. auto: on a GPU, and where
    there are more cores than pieces, there once evaluations take more than some seconds; on a cluster
    where a piece has more than one CPU."""
    log: Literal["tensorboard"] | None = None
    """tensorboard: also write scores, returns and losses for TensorBoard as they come, into
    OUT/tensorboard."""

    def __post_init__(self) -> None:
        for name, settings, default in (("ray", self.ray, Ray()), ("slurm", self.slurm, Slurm())):
            if self.launcher != name and settings != default:
                raise UserError(f"{name}: its settings mean nothing without --launcher {name}")

    def run(self, study: Study, out: Path) -> int:
        """Runs a study, prints the table, draws the curves, and returns the exit code. Where pieces fail,
        table and curves are of what there is, and what it raises comes after them."""
        from seqeval import execution
        from seqeval.execution.storage import frame

        where = {"local": None, "ray": self.ray, "slurm": self.slurm}[self.launcher]
        console = plain_console(stderr=True)
        how = self.save_every, where, self.log, self.overlap, self.group
        try:
            rows = execution.run(study, out, self.jobs, console, *how)
        except (execution.WorkFailed, execution.WorkUndone):
            with suppress(UserError, OSError):  # no rows yet, or a full disk: the failure itself says more
                show_results(frame([out]), out, out / "curves.png")
            raise
        if where is self.slurm and self.slurm.detach:
            return 0
        return show_results(rows, out, out / "curves.png")


HERE = How()


def run(
    study: Annotated[Study, tyro.conf.arg(name="")],
    out: Path,
    how: Annotated[How, tyro.conf.arg(name="")] = HERE,
    preset: Preset = "strict",
) -> int:
    """Train every algorithm on every dataset as it arrives; then print the table and draw the curves.

    What OUT holds already of the same study is left alone, what is missing is added, and what was stopped
    goes on where it was saved.

    Args:
        out: The run directory.
        preset: Where the protocol's and the evaluation's defaults come from. strict: nothing is seen before
            it arrives. paper: as in the released code of the paper, its leaks of the full dataset included.
            mixed: strict, for datasets joined (mix:A+B): they arrive in turn, seen through a window.
    """
    # The preset was read before all else (see `main`): its values are the defaults of this very study.
    study = Study(**{field.name: getattr(study, field.name) for field in dataclasses.fields(Study)})
    return how.run(study, out)


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
