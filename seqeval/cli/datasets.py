"""`seqeval datasets ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tyro

from seqeval.errors import UserError

from ._terminal import plain_console, print_facts
from .results import check_figure


def list_datasets() -> None:
    """The datasets known by name."""
    from seqeval import datasets

    for name in datasets.names():
        print(name)


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
    from seqeval import datasets, environments
    from seqeval.analysis import card

    if figure is not None:
        check_figure(figure)
    dataset = datasets.load(name, env, trust_pickle=trust_pickle)
    if not len(dataset):
        raise UserError(f"{name}: stands for no data; there is nothing to show")
    environment = environments.of(dataset)
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
    print_facts(facts)
    print(f"\nReturns of {card.counted(int(about.counted.sum()), 'episode')}:")
    print(*card.chart(about.returns[about.counted]), sep="\n")
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
    from seqeval import collect

    size = steps if transitions is None else transitions
    parsed = collect.parse_settings(settings)
    config = collect.CollectConfig(env, algorithm, steps, size, seed, checkpoints, parsed)
    try:
        files = collect.make(config, levels, out, plain_console(stderr=True))
    except KeyboardInterrupt:
        print("seqeval: interrupted; run the same command again to resume", file=sys.stderr)
        return 130
    for path in files.values():
        print(path)
    return 0


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


app = tyro.extras.SubcommandApp()
app.command(name="list")(list_datasets)
app.command(name="show")(show_dataset)
app.command(name="make")(make_datasets)
app.command(name="convert")(convert_dataset)
