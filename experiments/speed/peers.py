"""Part i: updates per second of seqeval, CORL and d3rlpy, in turns, at equal widths and batch size.

CORL's classes are those of a checkout of https://github.com/tinkoff-ai/CORL; d3rlpy is measured if it can be
imported. Each samples its minibatches from the same data in its own way. The widths are those of CORL's
networks; nobody drops units out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import nn

from seqeval import plugins
from seqeval.errors import UserError
from seqeval.training import matmul
from seqeval.types import Dataset

from .measuring import random_dataset, rate, training_loop
from .options import SPEC, TRANSITIONS, Options, Result

Update = Callable[[], Any]
UNUSED = "d4rl", "gym", "pyrallis", "wandb", "tqdm"  # that CORL's files import; no class uses them
BATCH, SIZES = 256, (SPEC.observation_size, SPEC.action_size)


@dataclass(frozen=True)
class Trainer:
    """How CORL's `train` functions build an algorithm."""

    file: str
    name: str
    networks: Mapping[str, tuple[str, tuple[Any, ...]]]  # argument: class, and what it is built from
    arguments: Mapping[str, Any]
    optimizers: Mapping[str, str]  # argument: that of its network
    heads: int = 1  # output layers of the actor


def _twins(network: str, arguments: tuple[Any, ...] = SIZES) -> dict[str, tuple[str, tuple[Any, ...]]]:
    return {"critic_1": (network, arguments), "critic_2": (network, arguments)}


def _optimizers(*networks: str) -> dict[str, str]:
    return {f"{network}_optimizer": network for network in networks}


TRAINERS = {
    "bc": Trainer(
        "any_percent_bc", "BC", {"actor": ("Actor", (*SIZES, 1.0))}, {"max_action": 1.0}, _optimizers("actor")
    ),
    "td3_bc": Trainer(
        "td3_bc",
        "TD3_BC",
        {"actor": ("Actor", (*SIZES, 1.0))} | _twins("Critic"),
        {"max_action": 1.0},
        _optimizers("actor", "critic_1", "critic_2"),
    ),
    "iql": Trainer(
        "iql",
        "ImplicitQLearning",
        {
            "actor": ("GaussianPolicy", (*SIZES, 1.0)),
            "q_network": ("TwinQ", SIZES),
            "v_network": ("ValueFunction", SIZES[:1]),
        },
        {"max_action": 1.0},
        {"actor_optimizer": "actor", "q_optimizer": "q_network", "v_optimizer": "v_network"},
    ),
    "awac": Trainer(
        "awac",
        "AdvantageWeightedActorCritic",
        {"actor": ("Actor", (*SIZES, 256))} | _twins("Critic", (*SIZES, 256)),
        {},
        _optimizers("actor", "critic_1", "critic_2"),
    ),
    "cql": Trainer(
        "cql",
        "ContinuousCQL",
        {"actor": ("TanhGaussianPolicy", (*SIZES, 1.0))} | _twins("FullyConnectedQFunction"),
        {"target_entropy": -float(SIZES[1]), "bc_steps": 0},
        _optimizers("actor", "critic_1", "critic_2"),
    ),
    "edac": Trainer(
        "edac",
        "EDAC",
        {"actor": ("Actor", (*SIZES, 256)), "critic": ("VectorizedCritic", (*SIZES, 256, 10))},
        {},
        _optimizers("actor", "critic"),
        heads=2,
    ),
}


def corl(algorithm: str, folder: Path, dataset: Dataset) -> tuple[Update, tuple[int, ...]]:
    """An update of CORL's class, and the widths of its hidden layers."""
    trainer = TRAINERS[algorithm]
    module = _load(folder / "algorithms" / "offline" / f"{trainer.file}.py")
    networks = {name: getattr(module, cls)(*inputs) for name, (cls, inputs) in trainer.networks.items()}
    optimizers = {
        name: torch.optim.Adam(networks[network].parameters(), lr=3e-4)
        for name, network in trainer.optimizers.items()
    }
    agent = getattr(module, trainer.name)(**networks, **optimizers, **trainer.arguments)
    buffer = module.ReplayBuffer(*SIZES, len(dataset), "cpu")
    values = {name: getattr(dataset, name) for name in ("observations", "actions", "rewards")}
    with contextlib.redirect_stdout(io.StringIO()):
        buffer.load_d4rl_dataset(
            values | {"next_observations": dataset.next_observations, "terminals": dataset.terminated}
        )
    train = agent.update if hasattr(agent, "update") else agent.train
    layers = [layer for layer in networks["actor"].modules() if isinstance(layer, nn.Linear)]
    return lambda: train(buffer.sample(BATCH)), tuple(
        layer.out_features for layer in layers[: -trainer.heads]
    )


def _load(path: Path) -> ModuleType:
    """A file of CORL, with stand-ins for what it imports and is not installed."""
    if not path.is_file():
        raise UserError(f"--peers: {path} does not exist; give a checkout of github.com/tinkoff-ai/CORL")
    for name in UNUSED:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = MagicMock()
    spec = importlib.util.spec_from_file_location(f"corl_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def d3rlpy(algorithm: str, hidden: tuple[int, ...], dataset: Dataset) -> Update | None:
    """An update of d3rlpy's algorithm; None if it cannot be imported."""
    try:
        import d3rlpy as package
    except ImportError:
        return None
    package.logging.LOG.disabled = True
    logging.disable()
    names = {"bc": "BC", "td3_bc": "TD3PlusBC", "iql": "IQL", "awac": "AWAC", "cql": "CQL"}
    if algorithm not in names:
        return None
    config = getattr(package.algos, f"{names[algorithm]}Config")
    encoder = package.models.VectorEncoderFactory(list(hidden))
    encoders = {field.name: encoder for field in fields(config) if field.name.endswith("encoder_factory")}
    agent = config(batch_size=BATCH, **encoders).create(device=False)
    ends = dataset.terminated.astype(np.float32)
    data = package.dataset.MDPDataset(dataset.observations, dataset.actions, dataset.rewards, ends)
    agent.build_with_dataset(data)
    return lambda: agent.update(data.sample_transition_batch(BATCH))


def ours(algorithm: str, hidden: tuple[int, ...], replicas: int, dataset: Dataset) -> Update:
    """An update of R agents of seqeval."""
    kind = plugins.find(algorithm).Config
    names = {field.name for field in fields(kind)}
    widths = {name: hidden for name in ("hidden", "actor_hidden") if name in names}
    dropout = {"dropout": 0.0} if "dropout" in names else {}
    indices, updater = training_loop(algorithm, replicas, dataset, "cpu", kind(**widths, **dropout))
    return lambda: updater.update(indices.draw())


_updates: dict[str, tuple[int, Update]]  # in a process: agents and update of each contender


def _prepare(algorithm: str, options: Options) -> None:
    global _updates
    torch.set_num_threads(1)
    assert options.peers is not None
    dataset = random_dataset(TRANSITIONS)
    update, hidden = corl(algorithm, options.peers, dataset)
    _updates = {f"seqeval R={r}": (r, ours(algorithm, hidden, r, dataset)) for r in options.replicas}
    _updates["CORL"] = 1, update
    if (other := d3rlpy(algorithm, hidden, dataset)) is not None:
        _updates["d3rlpy"] = 1, other


def _contenders() -> list[str]:
    return list(_updates)


def _speed(contender: str, options: Options) -> float:
    """Updates per second of CPU time, summed over the replicas."""
    replicas, update = _updates[contender]
    with matmul.using(matmul.default_backend("cpu", options.precision)):
        return replicas * rate(update, options.seconds)


def peers(options: Options) -> Iterator[Result]:
    for name in (name for name in options.algorithms if name in TRAINERS):
        with ExitStack() as stack:
            processes = [
                stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _prepare, (name, options)))
                for _ in range(options.processes)
            ]
            contenders = processes[0].submit(_contenders).result()
            rounds = [_turn(processes, contenders, turn, options) for turn in range(options.rounds + 1)][1:]
        yield from _ratios(name, contenders, rounds, options)


def _turn(
    processes: Sequence[ProcessPoolExecutor], contenders: Sequence[str], turn: int, options: Options
) -> dict[str, float]:
    """The speed of each contender, all processes at once; every second turn in reverse order."""
    speeds = {}
    for contender in contenders[:: -1 if turn % 2 else 1]:
        measured = [process.submit(_speed, contender, options) for process in processes]
        speeds[contender] = sum(speed.result() for speed in measured)
    return speeds


def _ratios(
    name: str, contenders: Sequence[str], rounds: Sequence[Mapping[str, float]], options: Options
) -> Iterator[Result]:
    """Each of ours against each peer: the median of the ratios of a turn."""
    about = {"algorithm": name, "processes": options.processes, "precision": options.precision}
    about |= asdict(matmul.default_backend("cpu", options.precision))
    for own in (c for c in contenders if c.startswith("seqeval")):
        for peer in (c for c in contenders if not c.startswith("seqeval")):
            yield about | {
                "contender": own,
                "peer": peer,
                "updates_per_second": statistics.median(turn[own] for turn in rounds),
                "peer_updates_per_second": statistics.median(turn[peer] for turn in rounds),
                "ratio": statistics.median(turn[own] / turn[peer] for turn in rounds),
                "rounds": [{own: turn[own], peer: turn[peer]} for turn in rounds],
            }
