"""`seqeval report`: studies as an interactive page."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from seqeval.config import Evaluation, Online, Protocol
from seqeval.errors import UserError

from .results import read, write

if TYPE_CHECKING:
    from seqeval.plots.report import Rerun


def report(
    directories: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    leave_out_incomplete: bool = False,
    title: str | None = None,
    value: str | None = None,
) -> None:
    """Write an interactive page on one or more studies: curves, statistics, datasets. It works offline.

    Args:
        directories: Study directories.
        out: The page, a file that ends in .html.
        leave_out_incomplete: Leave seeds that failed or ended early out of the statistics. Otherwise lines
            with such seeds have no statistics.
        title: Heading of the page. Default: the names of the studies.
        value: What the statistics are about and the curves show first, such as eval/fqe; as in seqeval plot.
    """
    from seqeval import analysis
    from seqeval.plots.report import page

    if out.suffix != ".html":
        raise UserError(f"{out}: the name of a report must end in .html")
    rows = read("report", directories)
    studies = analysis.studies_of(rows)
    reruns = {name: _rerun(study, name) for name, study in studies.items()}
    write(page(rows, studies, reruns, leave_out_incomplete, title, value), out)


def _rerun(study: Mapping[str, Any], name: str) -> Rerun:
    """The command that runs a study again, or the reason why there is none, with remarks."""
    from seqeval.plots.report import Rerun

    remarks = []
    if any(data["given"].lower().endswith((".pkl", ".pickle")) for data in study["datasets"].values()):
        remarks.append("Add --trust-pickle if a pickle is a replay buffer of Stable-Baselines3.")
    if len({invocation["device"] for invocation in study["invocations"]}) > 1:
        remarks.append("The study was run on several devices; this command chooses one automatically.")
    try:
        return Rerun(rerun_command(study, name), remarks)
    except UserError as error:
        return Rerun(None, [f"The command cannot be written: {error}."])


def rerun_command(study: Mapping[str, Any], name: str) -> str:
    """The `seqeval run` command that repeats the study called `name` in a new study directory.

    It names only the settings that differ from the defaults. Raises UserError if an algorithm is missing or
    has changed.
    """
    from seqeval import analysis

    from ._variant_texts import variant_texts

    datasets = [dataset["given"] for dataset in study["datasets"].values()]
    words = ["seqeval", "run", "--datasets", *datasets, "--algorithms", *variant_texts(study)]
    seeds, sweep_seeds = analysis.invocation_seeds(study)
    words += ["--seeds", *map(str, seeds)]
    if sweep_seeds:
        words += ["--sweep-seeds", *map(str, sweep_seeds)]
    for group, defaults in (("protocol", Protocol()), ("online", Online()), ("evaluation", Evaluation())):
        words += _flags(group, study[group], defaults)
    if environment := _environment(study):
        words += ["--env", environment]
    devices = {invocation["device"] for invocation in study["invocations"]}
    if len(devices) == 1:
        words += ["--device", *devices]
    if study["precision"] != "full":
        words += ["--precision", study["precision"]]
    return shlex.join([*words, "--out", f"{name}-again"])


def _flags(group: str, values: dict[str, Any], defaults: Any) -> list[str]:
    """The flags of the settings in a group that differ from the defaults."""
    words = []
    for field in dataclasses.fields(defaults):
        value, default = values[field.name], getattr(defaults, field.name)
        several = isinstance(default, tuple)  # JSON makes it a list
        if (tuple(value) if several else value) != default:
            words.append(f"--{group}.{field.name.replace('_', '-')}")
            words += map(str, value if several else [value] * (value is not True))
    return words


def _environment(study: Mapping[str, Any]) -> str | None:
    """The value for --env, needed if a dataset is `none`, or a file, which may not name its environment.

    The sources of installed packages are not imported; datasets of theirs may not name it either.
    """
    from seqeval.datasets import built_in

    given = [dataset["given"] for dataset in study["datasets"].values()]
    environments = {dataset["env_id"] for dataset in study["datasets"].values()}
    sources = built_in()
    endings = tuple(ending for source in sources for ending in source.endings)
    needed = any(
        name == "none" or name.lower().endswith(endings) or not any(source.owns(name) for source in sources)
        for name in given
    )
    minari = any(name.startswith("minari:") for name in given)
    return environments.pop() if needed and len(environments) == 1 and not minari else None
