"""How fast the algorithms learn, against what the machine's matrix products allow.

    python experiments/benchmark.py [--algorithms td3_bc] [--out runs/benchmark.json]

For each algorithm and number of replicas R: seed-updates per second of the whole training loop (drawing the
minibatches and their noise included) at Hopper's sizes, the FLOPs of an update's matrix products, and the
rate that these make as a share of the machine's own. That rate is measured in turns with the training, so
that both see the same machine: `torch.mm` at 256 × 256 × 256, `torch.mm` at 2048, and the best product
that torch has at 256 by any path. One thread.
"""

from __future__ import annotations

import importlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.table import Table

from seqeval import environments, plugins, study
from seqeval.buffer import Buffer
from seqeval.cli import plain_console
from seqeval.protocol import make_agents
from seqeval.sampling import Minibatches
from seqeval.scaling import RewardScale
from seqeval.slicing import Stream
from seqeval.types import Dataset, Spec

ENV_ID, SPEC = "Hopper-v4", Spec(11, 3)
TRANSITIONS = 100_000


@dataclass
class Options:
    algorithms: tuple[str, ...] = ("bc", "td3_bc", "iql", "awac", "cql")
    replicas: tuple[int, ...] = (1, 5)
    rounds: int = 7
    """Turns of measuring the machine and the algorithm; medians are reported."""
    seconds: float = 2.0
    """Training in each turn."""
    out: Path = Path("runs/benchmark.json")


def rate(work: Callable[[], Any], each: float, seconds: float) -> float:
    """How much of `each` unit the work does in a second."""
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(8):
            work()
        count += 8
    return count * each / passed


def machine(seconds: float = 0.15) -> dict[str, float]:
    """FLOP/s of float32 matrix products."""

    def square(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)

    a, b, c = square(256)
    large = square(2048)
    flops = 2.0 * 256**3
    rates = {
        "mm 256": rate(lambda: torch.mm(a, b, out=c), flops, seconds),
        "mm 2048": rate(lambda: torch.mm(large[0], large[1], out=large[2]), 2.0 * 2048**3, seconds),
    }
    onednn = 0.0
    if importlib.import_module("seqeval.algos._mlp").ONEDNN:
        multiply = torch.ops.mkldnn._linear_pointwise
        onednn = rate(lambda: multiply(a, b, None, "none", [], ""), flops, seconds)
    return rates | {"best 256": max(rates["mm 256"], onednn)}


def training(name: str, replicas: int) -> Callable[[], None]:
    """One update of R replicas, its minibatch drawn as the protocol draws it."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((2, TRANSITIONS, SPEC.observation_size)).astype(np.float32)
    dataset = Dataset(
        name="random",
        env_id=ENV_ID,
        observations=normal[0],
        next_observations=normal[1],
        actions=rng.uniform(-1, 1, (TRANSITIONS, SPEC.action_size)).astype(np.float32),
        rewards=rng.random(TRANSITIONS, np.float32),
        terminated=rng.random(TRANSITIONS) < 0.01,
        truncated=np.zeros(TRANSITIONS, bool),
        episode=np.zeros(TRANSITIONS, np.int32),
        episode_returns=np.zeros(1),
        episode_complete=np.ones(1, bool),
        segments=(TRANSITIONS,),
        reference=None,
        digest="",
    )
    found, seeds = plugins.find(name), list(range(replicas))
    schedule = Stream(TRANSITIONS, start=5000, grow_by=1, updates_per_growth=100, window=None)
    environment, device = environments.of(dataset), torch.device("cpu")
    agents = make_agents(found, found.Config(), environment, seeds, schedule.updates, device)
    algorithm = agents.algorithm
    buffer = Buffer(dataset, agents.actions, RewardScale(), algorithm.device)
    orders = np.stack([rng.permutation(TRANSITIONS).astype(np.int32) for _ in seeds])
    minibatches = Minibatches(
        buffer, [schedule] * replicas, orders, seeds, algorithm.config.batch_size, algorithm.noise
    )
    batches = minibatches.until(schedule.updates, agents.observations)
    return lambda: algorithm.update(next(batches)) and None


def measure(name: str, replicas: int, options: Options) -> dict[str, Any]:
    module = importlib.import_module(f"seqeval.algos.{name}")
    flops = module.flops(SPEC, plugins.find(name).Config())
    update = training(name, replicas)
    rate(update, 1, options.seconds / 2)
    rounds = []
    for _ in range(options.rounds):
        before, speed, after = machine(), rate(update, replicas, options.seconds), machine()
        own = {key: (before[key] + after[key]) / 2 for key in before}
        rounds.append({"speed": speed} | own | {f"share of {k}": speed * flops / v for k, v in own.items()})
    medians = {key: statistics.median(turn[key] for turn in rounds) for key in rounds[0]}
    return {"algorithm": name, "replicas": replicas, "flops": flops, "rounds": rounds} | medians


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(1)
    environments.describe(ENV_ID)
    table = Table(box=None, header_style="bold")
    headers = "algorithm", "R", "updates/s", "MFLOP", "GFLOP/s", "mm 256", "mm 2048", "best 256"
    for header in (*headers, "% of mm", "% of best"):
        table.add_column(header, justify="left" if header == "algorithm" else "right")
    results = []
    console = plain_console(stderr=False)
    with console.status("measuring") as status:
        for name in options.algorithms:
            for replicas in options.replicas:
                status.update(f"measuring {name}, R = {replicas}")
                found = measure(name, replicas, options)
                results.append(found)
                table.add_row(
                    name,
                    str(replicas),
                    f"{found['speed']:.0f}",
                    f"{found['flops'] / 1e6:.0f}",
                    f"{found['speed'] * found['flops'] / 1e9:.0f}",
                    *(f"{found[key] / 1e9:.0f}" for key in ("mm 256", "mm 2048", "best 256")),
                    f"{found['share of mm 256']:.0%}",
                    f"{found['share of best 256']:.0%}",
                )
    about = {"processor": study.processor(), "torch": torch.__version__}
    console.print(f"{about['processor']}, one thread; an update is one seed's; rates in GFLOP/s")
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(about | {"results": results}, indent=2) + "\n")
    console.print(f"all of it: {options.out}", highlight=False)


if __name__ == "__main__":
    main()
