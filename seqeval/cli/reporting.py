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

    datasets = [dataset["given"] for dataset in study["datasets"].values()]
    seeds = analysis.planned_seeds(study)
    if len({tuple(of_variant) for of_variant in seeds.values()}) > 1:
        raise UserError("the variants of its sweeps have other seeds than the other variants")
    words = ["seqeval", "run", "--datasets", *datasets, "--algorithms"]
    words += [_algorithm_text(variant, settings) for variant, settings in study["algorithms"].items()]
    words += ["--seeds", *map(str, next(iter(seeds.values())))]
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
    """The value for --env, needed if a dataset is `none`, or a file, which may not name its environment."""
    from seqeval.datasets import file_endings

    datasets = study["datasets"].values()
    environments = {dataset["env_id"] for dataset in datasets}
    endings = file_endings()
    needed = any(
        dataset["given"] == "none" or dataset["given"].lower().endswith(endings) for dataset in datasets
    )
    minari = any(dataset["given"].startswith("minari:") for dataset in datasets)
    return environments.pop() if needed and len(environments) == 1 and not minari else None


def _algorithm_text(name: str, settings: dict[str, Any]) -> str:
    """The argument of `--algorithms` that gives a variant: the shortest, if the algorithm is built in.

    A plug-in is not imported, since a study that others made may name any file: its argument states every
    setting. Raises UserError if the algorithm has changed, or if no text gives these settings.
    """
    from seqeval import loading, plugins

    if not loading.is_built_in(plugins.ALGORITHMS, settings["algorithm"]):
        plugins.refuse_changed(name, settings)
        return _plugin_text(name, settings)
    variant = plugins.restore(name, settings)
    default = plugins.find(variant.algorithm).Config()
    changed = [
        f"{field.name}={getattr(variant.config, field.name)}"
        for field in dataclasses.fields(variant.config)
        if getattr(variant.config, field.name) != getattr(default, field.name)
    ]
    full = f"{variant.algorithm}:{','.join([*changed, f'name={name}'])}"
    for text in (name, variant.algorithm, full):
        try:
            if plugins.parse(text) == dataclasses.replace(variant, sweep=None):
                return text
        except UserError:
            continue
    raise UserError(f"no text for --algorithms gives {name!r} with its recorded settings")


def _plugin_text(name: str, settings: dict[str, Any]) -> str:
    """The argument of `--algorithms` that gives a variant of a plug-in, by its recorded settings.

    Raises UserError if a setting cannot be written in it.
    """
    from seqeval import sweeps

    algorithm = settings["algorithm"]
    if len(sweeps.ITEMS.split(name)) > 1:  # not possible with name=, so it is the text that was given
        return name if name.startswith(f"{algorithm}:") else f"{algorithm.rpartition(':')[0]}:{name}"
    items = [f"{key}={_value_text(key, value)}" for key, value in settings["config"].items()]
    return f"{algorithm}:{','.join([*items, f'name={name}'])}"


def _value_text(key: str, value: Any) -> str:
    """A setting as `plugins.parse` reads it. Raises UserError if it cannot be written."""
    if isinstance(value, list):
        return f"({''.join(f'{_value_text(key, part)},' for part in value)})"
    unwritable = set("'\"\\,()")
    if isinstance(value, str) and (unwritable.intersection(value) or not value.isprintable()):
        raise UserError(f"the setting {key} is {value!r}, which --algorithms cannot express")
    return repr(value)
