"""`seqeval report`: run directories as one page."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from seqeval.config import Evaluation, Online, Protocol
from seqeval.errors import UserError

from .results import read, write

if TYPE_CHECKING:
    from seqeval.plots.report import Rerun


def report(
    directories: tyro.conf.Positional[tuple[Path, ...]], out: Path, leave_out_incomplete: bool = False
) -> None:
    """Write one page to explore run directories with: curves, statistics, datasets. It needs no network.

    Args:
        directories: Run directories.
        out: The page, a file that ends in .html.
        leave_out_incomplete: Leave seeds that failed or ended early out of the statistics. Without it, lines
            that have such seeds have none.
    """
    from seqeval.plots import report as drawing

    if out.suffix != ".html":
        raise UserError(f"{out}: a report's name ends in .html")
    rows, studies = read("report", directories)
    reruns = {name: _rerun(study, name) for name, study in studies.items()}
    write(drawing.page(rows, studies, reruns, leave_out_incomplete), out)


def _rerun(study: dict[str, Any], name: str) -> Rerun:
    """The command of a study, or why there is none, and what else to know."""
    from seqeval.plots.report import Rerun

    remarks = []
    if any(about["given"].lower().endswith((".pkl", ".pickle")) for about in study["datasets"].values()):
        remarks.append("Add --trust-pickle where a pickle is a replay buffer of Stable-Baselines3.")
    if len({run["device"] for run in study["runs"]}) > 1:
        remarks.append("Its runs were on different devices; as written it runs on whatever there is.")
    try:
        return Rerun(command(study, name), remarks)
    except UserError as error:
        return Rerun(None, [f"The command cannot be written: {error}."])


def command(study: dict[str, Any], name: str) -> str:
    """The `seqeval run` that does again, beside it, what the run directory called `name` holds.

    Of the settings it names those that are not the defaults. Raises UserError where an algorithm is not there
    any more, or has become another.
    """
    given = [about["given"] for about in study["datasets"].values()]
    seeds = sorted({seed for run in study["runs"] for seed in run["seeds"]})
    words = ["seqeval", "run", "--datasets", *given, "--algorithms"]
    words += [_text(variant, settings) for variant, settings in study["algorithms"].items()]
    words += ["--seeds", *map(str, seeds)]
    for group, defaults in (("protocol", Protocol()), ("online", Online()), ("evaluation", Evaluation())):
        words += _flags(group, study.get(group, {}), defaults)
    if environment := _environment(study):
        words += ["--env", environment]
    devices = {run["device"] for run in study["runs"]}
    if len(devices) == 1:
        words += ["--device", *devices]
    if study.get("precision", "full") != "full":  # older directories lack it
        words += ["--precision", study["precision"]]
    return shlex.join([*words, "--out", f"{name}-again"])


def _flags(group: str, values: dict[str, Any], defaults: Any) -> list[str]:
    """Those of a group of settings that are not the defaults."""
    words = []
    for field in dataclasses.fields(defaults):
        default = getattr(defaults, field.name)
        value = values.get(field.name, default)  # older directories lack what was not there then
        if value != default:
            flag = field.name.replace("_", "-")
            words += [f"--{group}.{flag}"] if value is True else [f"--{group}.{flag}", str(value)]
    return words


def _environment(study: dict[str, Any]) -> str | None:
    """What --env was or might have been: it is for files, which need not name their own, and for none, and
    goes for all of them."""
    from seqeval.datasets import file_endings

    abouts = study["datasets"].values()
    environments = {about["env_id"] for about in abouts}
    wanted = [about["given"] == "none" or about["given"].lower().endswith(file_endings()) for about in abouts]
    minari = any(about["given"].startswith("minari:") for about in abouts)
    return environments.pop() if any(wanted) and len(environments) == 1 and not minari else None


def _text(name: str, settings: dict[str, Any]) -> str:
    """What `--algorithms` takes for a variant, as short as it goes.

    Raises UserError where the algorithm is not what it was, or where its settings are no text that says them.
    """
    from seqeval import plugins

    variant = plugins.restore(name, settings)
    default = plugins.find(variant.algorithm).Config()
    changed = [
        f"{field.name}={getattr(variant.config, field.name)}"
        for field in dataclasses.fields(variant.config)
        if getattr(variant.config, field.name) != getattr(default, field.name)
    ]
    long = f"{variant.algorithm}:{','.join([*changed, f'name={name}'])}"
    for text in (name, variant.algorithm, long):
        try:
            if plugins.parse(text) == variant:
                return text
        except UserError:
            continue
    raise UserError(f"no text for --algorithms gives {name!r} with the settings that it has there")
