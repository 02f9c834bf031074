"""`seqeval datasets`: list, show, make and convert datasets."""

from __future__ import annotations

import io
import sys
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import tyro

from seqeval.errors import UserError

from ._terminal import plain_console, print_facts
from .results import check_figure


def list_datasets() -> None:
    """List the datasets known by name: where they are, and the environment that evaluates them here.

    Other Minari datasets are listed by `minari list remote`.
    """
    from seqeval import datasets

    rows = [("dataset", "data", "evaluated in")]
    for name, listing in datasets.listings().items():
        rows.append((name, listing.location, listing.reason or _evaluated_in(listing.env_id)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, location, evaluated in rows:
        print(f"{name:{widths[0]}}  {location:{widths[1]}}  {evaluated}".rstrip())


def _evaluated_in(env_id: str | None) -> str:
    """The environment, if it can be made here; otherwise why not."""
    from seqeval import environments

    if env_id is None:
        return ""
    try:
        # A package of environments may print warnings about all of them.
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            environments.spaces(env_id)
    except UserError as error:
        return f"no: {error}"
    return env_id


def show_dataset(
    name: tyro.conf.Positional[str],
    env: str | None = None,
    trust_pickle: bool = False,
    figure: Path | None = None,
) -> None:
    """Show statistics of a dataset, and warnings about suspicious data.

    Args:
        name: A name that `seqeval datasets list` prints, or the path of a file.
        env: The Gymnasium environment, for a file that does not name its own.
        trust_pickle: Allow a pickle to run code, as replay buffers of Stable-Baselines3 do.
        figure: Also draw the statistics: .png or .pdf (both are written) or .svg.
    """
    from seqeval import datasets, environments
    from seqeval.analysis import card

    if figure is not None:
        check_figure(figure)
    dataset = datasets.load(name, env, trust_pickle=trust_pickle)
    if not len(dataset):
        raise UserError(f"{name}: has no data to show")
    about = card.examine(dataset, environments.of(dataset))
    facts: dict[str, Any] = card.facts(about)
    for key, value in dataset.card.items():
        if key not in ("name", "env_id", "transitions", "episodes"):  # which the facts contain already
            nested = isinstance(value, dict) and value
            facts[key] = ", ".join(f"{k} {v}" for k, v in value.items()) if nested else value
    facts |= {f"note {i}": note for i, note in enumerate(dataset.notes, 1)}
    facts |= {f"suspicious {i}": finding for i, finding in enumerate(about.findings, 1)}
    print_facts(facts)
    print(f"\nReturns of {card.counted(int(about.counted.sum()), 'episode')}:")
    print(*card.chart(dataset.episode_returns[about.counted]), sep="\n")
    if figure is not None:
        from seqeval.plots import card as drawing
        from seqeval.plots import style

        print(f"\nfigure: {' and '.join(map(str, style.save(drawing.figure(about), figure)))}")


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
    """Train an agent of Stable-Baselines3 and write datasets of D4RL's levels, a file and a card per level.

    If it is interrupted, run the same command again to resume from the last checkpoint.

    Args:
        env: The Gymnasium environment.
        algorithm: An off-policy algorithm of Stable-Baselines3: SAC, TD3, DDPG or DQN; with sb3_contrib
            installed also TQC, CrossQ or QRDQN.
        steps: Training steps.
        out: The folder of the files. Its subfolder making holds intermediate results until all are written.
        levels: Any of random, medium, expert, medium-replay, medium-expert and full-replay.
        transitions: Transitions of each level that is rolled out (default: the number of training steps).
        seed: The seed of the agent and the rollouts.
        settings: Arguments of the agent's class in Stable-Baselines3, as key=value. net_arch=(256,256) sets
            the widths of its networks; action_noise=0.1 sets the standard deviation of Gaussian noise, as a
            share of half the action range.
        checkpoints: Evaluations during training.
    """
    from seqeval import collect

    size = steps if transitions is None else transitions
    parsed = collect.parse_settings(settings)
    config = collect.CollectConfig(env, algorithm, steps, size, seed, checkpoints, parsed)
    files = collect.make(config, levels, out, plain_console(stderr=True))
    for path in files.values():
        print(path)
    return 0


def convert_dataset(
    name: tyro.conf.Positional[str], to: str, env: str | None = None, trust_pickle: bool = False
) -> None:
    """Write a dataset as an HDF5 file in D4RL's layout or as a Minari dataset. Existing data is never
    overwritten.

    Args:
        name: A name or a path, as in `seqeval datasets show`.
        to: The path of an HDF5 file, or a Minari name such as minari:hopper/mine-v0.
        env: The Gymnasium environment, for a file that does not name its own.
        trust_pickle: Allow a pickle to run code, as replay buffers of Stable-Baselines3 do.
    """
    from seqeval import datasets
    from seqeval.datasets import _write

    path, notes = _write.write(datasets.load(name, env, trust_pickle=trust_pickle), to)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(path)


app = tyro.extras.SubcommandApp()
app.command(name="list")(list_datasets)
app.command(name="show")(show_dataset)
app.command(name="make")(make_datasets)
app.command(name="convert")(convert_dataset)
