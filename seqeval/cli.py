"""Sequential evaluation of offline reinforcement learning: score against data.  (seqeval --version)"""

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqeval.errors import UserError
from seqeval.settings import PRESETS, Evaluation, Preset, Protocol, Study

if TYPE_CHECKING:
    import pandas as pd

app = tyro.extras.SubcommandApp()
datasets_app = tyro.extras.SubcommandApp()
algorithms_app = tyro.extras.SubcommandApp()
app.command(datasets_app, name="datasets")
app.command(algorithms_app, name="algorithms")

# What a user's paths can meet.
FILE_TROUBLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}
FAILED_SEEDS = 3  # exit code: everything ran, but some seeds' numbers were not finite


@app.command
def run(
    study: Annotated[Study, tyro.conf.arg(name="")],
    out: Path,
    jobs: int | None = None,
    preset: Preset = "strict",
) -> int:
    """Train every algorithm on every dataset as it arrives; then print the table and draw the curves.

    What OUT holds already of the same study is left alone, what is missing is added.

    Args:
        out: The run directory.
        jobs: Pieces of work beside each other; by default one a core, on a GPU one.
        preset: Where the protocol's and the evaluation's defaults come from. strict: nothing is seen before
            it arrives. paper: as in the released code of the paper, its leaks of the full dataset included.
            mixed: strict, for datasets joined (mix:A+B): they arrive in turn, seen through a window.
    """
    from seqeval import launch

    # The preset was read before all else (see `main`): its values are the defaults of this very study.
    study = Study(**{field.name: getattr(study, field.name) for field in dataclasses.fields(Study)})
    rows = launch.run(study, out, jobs, plain_console(stderr=True))
    return show_results(rows, out, out / "curves.png")


def plain_console(stderr: bool) -> Console:
    """A console that does not squeeze what is piped or logged into 80 columns."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


def show_results(rows: pd.DataFrame, out: Path, figure: Path) -> int:
    """Prints the table of the last points, draws the figure, and returns the exit code."""
    from seqeval import aggregate
    from seqeval.storage import RunDirectory

    console = plain_console(stderr=False)
    about = RunDirectory(out).study()["datasets"]
    console.print(final_table(aggregate.final(rows), about, aggregate.frozen(rows)))
    for line in aggregate.shortfalls(rows):
        console.print(f"note: {line}", highlight=False, markup=False)
    print(f"figure: {' and '.join(map(str, draw(rows, about, figure)))}")
    return FAILED_SEEDS if (rows["status"] != "ok").any() else 0


def final_table(final: pd.DataFrame, about: dict[str, Any], frozen: set[tuple[str, str, str]]) -> Table:
    """The last point of every line in each phase, as people read it; `frozen` are lines that do not learn
    online."""
    from seqeval.types import Reference

    headers = (
        "dataset",
        "algorithm",
        "phase",
        "unit",
        "mean ± std",
        "range over seeds",
        "seeds",
        "at n",
        "data's mean",
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        left = header in ("dataset", "algorithm", "phase", "unit")
        table.add_column(header, justify="left" if left else "right", no_wrap=True)
    for line in final.to_dict("records"):
        is_frozen = (line["dataset"], line["variant"], line["study"]) in frozen
        data = about[line["dataset"]]["behaviour_return"]
        if data is not None and line["unit"] == "score":
            data = Reference(**about[line["dataset"]]["reference"]).score(data)
        table.add_row(
            line["dataset"],
            line["variant"],
            "online, frozen" if is_frozen and line["phase"] == "online" else line["phase"],
            line["unit"],
            f"{line['mean']:.1f}" + (f" ± {line['std']:.1f}" if line["seeds"] > 1 else ""),
            f"{line['low']:.1f} … {line['high']:.1f}",
            f"{line['seeds']}" if line["seeds"] == line["of"] else f"{line['seeds']} of {line['of']}",
            str(line["samples"]),
            "" if data is None else f"{data:.1f}",
        )
    return table


def draw(rows: pd.DataFrame, about: dict[str, Any], path: Path) -> list[Path]:
    """Draws the curves into a file."""
    from seqeval.plots import curves, style

    _check_figure(path)
    return style.save(curves.figure(rows, about), path)


def _check_figure(path: Path) -> None:
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"{path}: a figure's name ends in .png, .pdf or .svg")


@app.command
def plot(directories: tyro.conf.Positional[tuple[Path, ...]], out: Path) -> None:
    """Draw the curves of run directories, together in one figure.

    Args:
        directories: Run directories.
        out: The figure; PNG and PDF are written beside each other, SVG alone.
    """
    from seqeval import aggregate
    from seqeval.storage import RunDirectory, frame

    if not directories:
        raise UserError("plot: name at least one run directory")
    rows = frame(directories)
    about: dict[str, Any] = {}
    for directory in directories:
        for name, dataset in RunDirectory(directory).study()["datasets"].items():
            if about.setdefault(name, dataset)["digest"] != dataset["digest"]:
                raise UserError(
                    f"{directory}: its {name!r} is not the data of that name in another directory"
                )
    for line in aggregate.shortfalls(rows):
        print(f"note: {line}", file=sys.stderr)
    for path in draw(rows, about, out):
        print(path)


@app.command
def export(directory: tyro.conf.Positional[Path], to: Path) -> None:
    """Write every row of a run directory into one table, a column a field, lists as JSON.

    Args:
        directory: A run directory.
        to: A file that ends in .csv or .parquet.
    """
    from seqeval.storage import export_table

    print(f"{export_table(directory, to)} rows in {to}")


@datasets_app.command(name="list")
def list_datasets() -> None:
    """The datasets known by name."""
    from seqeval import datasets

    for name in datasets.names():
        print(name)


@datasets_app.command(name="show")
def show_dataset(
    name: tyro.conf.Positional[str],
    env: str | None = None,
    trust_pickle: bool = False,
    figure: Path | None = None,
) -> None:
    """What is in a dataset, and what in it looks wrong.

    Args:
        name: A name, or the path of a file (.hdf5, .h5, .npz, .pkl, .pickle).
        env: Gymnasium environment of a file that names none.
        trust_pickle: Load a pickle that runs code when it is loaded, as a replay buffer of Stable-Baselines3
            does.
        figure: Where to draw it too; PNG and PDF are written beside each other, SVG alone.
    """
    from seqeval import card, datasets, environments

    if figure is not None:
        _check_figure(figure)
    dataset = datasets.load(name, env, trust_pickle=trust_pickle)
    if not len(dataset):
        raise UserError(f"{name}: stands for no data; there is nothing to show")
    environment = environments.describe(dataset.env_id)
    space = environment.actions
    actions = (
        range(space.first, space.first + space.size)
        if isinstance(space, environments.Discrete)
        else (space.low, space.high)
    )
    about = card.examine(dataset, actions, environment.time_limit)
    facts: dict[str, Any] = card.facts(about)
    known = ("name", "env_id", "transitions", "episodes")
    for key, value in dataset.card.items():
        if key not in known:
            plain = value.items() if isinstance(value, dict) else None
            facts[key] = ", ".join(f"{k} {v}" for k, v in plain) if plain else value
    facts |= {f"note {i}": note for i, note in enumerate(dataset.notes, 1)}
    facts |= {f"suspicious {i}": finding for i, finding in enumerate(about.findings, 1)}
    _print_facts(facts)
    print(f"\nReturns of {card.counted(int(about.counted.sum()), 'episode')}:")
    print(*card.chart(about.returns[about.counted]), sep="\n")
    if figure is not None:
        from seqeval.plots import card as drawing
        from seqeval.plots import style

        print(f"\nfigure: {' and '.join(map(str, style.save(drawing.figure(about), figure)))}")


@datasets_app.command(name="make")
def make_datasets(
    env: str,
    algorithm: str,
    steps: int,
    out: Path,
    levels: tuple[str, ...] = ("random", "medium", "expert", "medium-replay", "medium-expert"),
    transitions: int | None = None,
    seed: int = 0,
    settings: tuple[str, ...] = (),
    checkpoints: int = 20,
) -> int:
    """Train an agent of Stable-Baselines3 and log it at D4RL's levels, a file and a card each.

    An interrupted command, given again, goes on from its last checkpoint.

    Args:
        env: Gymnasium environment.
        algorithm: An off-policy class of Stable-Baselines3: SAC, TD3, DDPG or DQN; with sb3_contrib
            installed TQC, CrossQ or QRDQN.
        steps: Steps of training.
        out: The folder of the files. The work is kept in its folder making until they are written.
        levels: Of random, medium, expert, medium-replay, medium-expert and full-replay.
        transitions: Size of each file that is rolled out; by default as many as steps of training.
        seed: Of the agent and of all that is drawn.
        settings: The agent's own, key=value, as of its class in Stable-Baselines3. net_arch=(256,256): the
            widths of its networks. action_noise=0.1: standard deviation, in half action ranges, of Gaussian
            noise.
        checkpoints: Evaluations during training.
    """
    from seqeval import behaviour

    size = steps if transitions is None else transitions
    parsed = behaviour.parse_settings(settings)
    recipe = behaviour.Recipe(env, algorithm, steps, size, seed, checkpoints, parsed)
    try:
        files = behaviour.make(recipe, levels, out, plain_console(stderr=True))
    except KeyboardInterrupt:
        print("seqeval: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    for path in files.values():
        print(path)
    return 0


@datasets_app.command(name="convert")
def convert_dataset(
    name: tyro.conf.Positional[str], to: str, env: str | None = None, trust_pickle: bool = False
) -> None:
    """Write a dataset as a file in D4RL's layout or as one of Minari's. What is there is never overwritten.

    Args:
        name: A name or a path, as of `show`.
        to: A path that ends in .hdf5 or .h5, or minari:ID, a name as in minari:hopper/mine-v0.
        env: Gymnasium environment of a file that names none.
        trust_pickle: As of `show`.
    """
    from seqeval import datasets
    from seqeval.datasets import _write

    path, notes = _write.write(datasets.load(name, env, trust_pickle=trust_pickle), to)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(path)


@algorithms_app.command(name="list")
def list_algorithms() -> None:
    """The algorithms known by name, of the suite and of installed packages, and the actions they learn."""
    from seqeval import plugins

    for name in plugins.names():
        try:
            found = plugins.find(name)
            first_line = _about_algorithm(found).partition("\n")[0]
            about = f"{', '.join(found.action_spaces):20}  {first_line}"
        except UserError as error:  # a package that is broken hides no other
            about = f"cannot be used: {error}"
        print(f"{name:10} {about}")


@algorithms_app.command(name="show")
def show_algorithm(name: tyro.conf.Positional[str]) -> None:
    """What an algorithm is and what can be set about it.

    Args:
        name: Its name, or path/to/file.py:Class.
    """
    from seqeval import plugins

    found = plugins.find(name)
    if fault := plugins.config_fault(found):
        raise UserError(f"algorithm {name!r}: {fault}")
    print(_about_algorithm(found))
    when = "offline and online" if found.learns_online else "offline alone"
    print(f"\nLearns {' or '.join(found.action_spaces)} actions, {when}.")
    print(f'\nSettings, as in "{name}:key=value,key=value,name=what-to-call-it":')
    comments = {key: text for cls in reversed(found.Config.__mro__) for key, text in _comments(cls).items()}
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    defaults = found.Config()
    for field in dataclasses.fields(defaults):
        kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        default = repr(getattr(defaults, field.name))
        table.add_row(*map(escape, (f"  {field.name}", kind, default, comments.get(field.name, ""))))
    plain_console(stderr=False).print(table)


@app.command(name="check")
def check_algorithm(algorithm: tyro.conf.Positional[str]) -> int:
    """Check that an algorithm keeps to the contract of seqeval.algorithm, in a few seconds, without data.

    Args:
        algorithm: path/to/file.py:Class, or a name; with settings, if wanted, as in `run`.
    """
    from seqeval import check

    results = []
    for result in check.examine(algorithm):
        results.append(result.status)
        print(f"{result.status:8} {result.title}{result.message and ': '}{result.message}", flush=True)
    print(", ".join(f"{results.count(status)} {status}" for status in dict.fromkeys(results)))
    return int("failed" in results)


def _about_algorithm(found: type) -> str:
    """What an algorithm's class says of it, or else its file."""
    return inspect.cleandoc(found.__doc__ or getattr(inspect.getmodule(found), "__doc__", None) or "")


def _comments(config: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, from its source; where it has none, as the fields have it
    in their metadata."""
    if config is object:
        return {}
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):  # it was made by a function
        return {f.name: f.metadata["comment"] for f in dataclasses.fields(config) if "comment" in f.metadata}
    return dict(re.findall(r"^    (\w+): .*?  # (.*)$", source, re.MULTILINE))


def _print_facts(facts: dict[str, Any]) -> None:
    """A fact a line; where people read it on a terminal, in lines that fit there."""
    width = max(map(len, facts))
    console = Console()
    for key, value in facts.items():
        line = f"{key:{width}}  {value}"
        if console.is_terminal:
            line = textwrap.fill(line, console.width, subsequent_indent=" " * (width + 2))
        print(line)


def _preset_of(arguments: list[str]) -> Preset:
    """The preset that the arguments of `run` name; what is wrong with it is left for the parser to say."""
    found: list[Preset] = [name for name in PRESETS if f"--preset={name}" in arguments]
    found += [name for name in PRESETS if ("--preset", name) in pairwise(arguments)]
    return found[-1] if found else "strict"


def _study_with(preset: Preset) -> type[Study]:
    """A study whose defaults are a preset's, for the parser to fill in."""
    protocol, evaluation = PRESETS[preset]
    changed = [
        ("protocol", Protocol, dataclasses.field(default=protocol)),
        ("evaluation", Evaluation, dataclasses.field(default=evaluation)),
    ]
    return dataclasses.make_dataclass("Study", changed, bases=(Study,), frozen=True)


def main(arguments: list[str] | None = None) -> None:
    """The entry point of `seqeval`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"seqeval {version('seqeval-rl')}")
        return
    with exits("seqeval"):
        if arguments[:1] == ["run"]:
            study = _study_with(_preset_of(arguments))
            run.__annotations__["study"] = Annotated[study, tyro.conf.arg(name="")]
        code = app.cli(prog="seqeval", description=__doc__, args=arguments)
    sys.exit(code or 0)


def script(study: Study, out: Path, description: str | None) -> None:
    """The whole of an experiment that is a study with other defaults: its file, run, is this call.

    Every flag of `seqeval run` but the preset can be given to it, and beside them `--out` and `--jobs`.
    """

    def main(
        study: Annotated[Study, tyro.conf.arg(name="")] = study, out: Path = out, jobs: int | None = None
    ) -> int:
        from seqeval import launch

        return show_results(launch.run(study, out, jobs, plain_console(stderr=True)), out, out / "curves.png")

    with exits(Path(sys.argv[0]).stem):
        code = tyro.cli(main, description=description)
    sys.exit(code)


@contextmanager
def exits(name: str) -> Iterator[None]:
    """Ends with exit code 2 and one line, which begins with `name`, for what the user can put right."""
    try:
        yield
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None or error.errno not in FILE_TROUBLE:
            raise
        print(f"{name}: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            f"{name}: stopped; the same command goes on with the cells that are not finished", file=sys.stderr
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
