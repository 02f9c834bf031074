"""How fast the suite is, against what the machine allows.

    python experiments/benchmark.py [--parts a b] [--algorithms td3_bc] [--out bench.json]

Five parts, each a table headed by the command that makes it again, and all of it as JSON:

(a) updates: seed-updates per second of R replicas at Hopper's sizes, drawing the minibatches and their noise
    included; FLOPs of an update's matrix products; the rate that these make, as a share of the machine's; and
    the most memory that the process held (on a GPU, the most that torch did). On a GPU it also prints how
    long the updates of the paper's first figure would take there, each algorithm's at the best R measured.
(b) evaluation: steps per second of R × E episodes in Gymnasium's environments, and in EnvPool's where it is
    installed and has them, against those of Gymnasium's bare environment that is given the same actions.
    Every episode has the same length, and the policy is a fresh TD3+BC actor. EnvPool has threads on as many
    processors as there are: its steps per second of wall time stand beside.
(c) end to end: `seqeval run` on a small study; what of its time are updates, evaluation, everything else.
(d) growth: seconds of a seed-update against the dataset's size, all of it visible, and against R.
(e) start-up: `seqeval --help` and `import seqeval`, the best of some processes, and whether torch is loaded.

The machine's rate is that of the best float32 product that torch has by any path: `torch.mm` and oneDNN's
operator, each at a small and a large size. It is measured in turns with the updates, so that both see the
same machine, and a share is the median of the turns' shares. One thread; on the CPU the seconds of (a), (b)
and (d) are those that the process computed in, so that turns of other processes are not counted.
In (c) evaluation does not overlap training, so that shares of time add up.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from seqeval import arithmetic, environments, evaluation, plugins, storage, study
from seqeval.buffer import Buffer
from seqeval.cli import plain_console
from seqeval.errors import UserError
from seqeval.protocol import make_agents
from seqeval.sampling import Minibatches
from seqeval.scaling import RewardScale
from seqeval.settings import Evaluation
from seqeval.slicing import Steps
from seqeval.types import Dataset, Spec
from seqeval.updater import Drawn, Meter, Share, make_updater

Part = Literal["a", "b", "c", "d", "e"]
Algorithm = Literal["bc", "td3_bc", "iql", "awac", "cql"]
Backend = Literal["gymnasium", "envpool"]
Result = dict[str, Any]
SPEC, TRANSITIONS = Spec(11, 3), 100_000
PRODUCTS = {"cpu": (256, 1024), "cuda": (1024, 8192)}  # sizes of the square matrices
ENVIRONMENTS = ("Hopper-v4?terminate_when_unhealthy=False", "Pendulum-v1?")
BACKENDS: tuple[Backend, ...] = ("gymnasium", "envpool")
EPISODES = 10
FIGURE = 322_000_000  # updates of the paper's first figure, a fifth of them each algorithm's
STUDY = ("--datasets", "hopper-replay", "--algorithms", "bc", "td3_bc", "iql", "--seeds", "0", "1", "2")
STARTS = {  # arguments of Python, and seconds that they may take
    "seqeval --help": (("-m", "seqeval.cli", "--help"), 0.5),
    "import seqeval": (("-c", "import seqeval"), 0.3),
}


@dataclass(frozen=True)
class Options:
    parts: tuple[Part, ...] = ("a", "b", "c", "d", "e")
    algorithms: tuple[Algorithm, ...] = ("bc", "td3_bc", "iql", "awac", "cql")
    """Of the parts a and d."""
    replicas: tuple[int, ...] = (1, 5, 20, 60)
    """R, in the parts a, b and d."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 2_000_000)
    """Transitions of the datasets of part d."""
    rounds: int = 5
    """Turns of measuring; medians are reported, and the best start-up."""
    seconds: float = 1.0
    """Of each measurement, at least; the machine's own take a tenth."""
    episode_steps: int = 200
    """Length of the episodes of part b."""
    grow_by: int = 16
    """γ of the study of part c: the larger, the shorter it is."""
    out: Path = Path("runs/benchmark.json")


def rate(work: Callable[[], Any], seconds: float, device: str = "cpu") -> float:
    """How often the work is done in a second; two at a time, since TD3+BC's actor learns every other time."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    began, count = clock(), 0
    while not count or clock() - began < seconds:
        work()
        work()
        count += 2
    if device == "cuda":
        torch.cuda.synchronize()
    return count / (clock() - began)


def machine(seconds: float, device: str) -> dict[str, float]:
    """FLOP/s of float32 matrix products, by path and size."""
    onednn = arithmetic.ONEDNN and device == "cpu"
    rates = {}
    for size in PRODUCTS[device]:
        a, b, c = (torch.randn(size, size, device=device) for _ in range(3))
        paths: dict[str, Callable[[], Any]] = {"torch.mm": partial(torch.mm, a, b, out=c)}
        if onednn:
            multiply = torch.ops.mkldnn._linear_pointwise
            paths["oneDNN"] = partial(multiply, a, b, None, "none", [], "")
        for path, work in paths.items():
            work()
            rates[f"{path} {size}"] = 2.0 * size**3 * rate(work, seconds, device)
    return rates


def training(name: str, replicas: int, transitions: int, device: str) -> Callable[[], None]:
    """One update of R replicas as the protocol makes it, its minibatch drawn from all of a random dataset."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((2, transitions, SPEC.observation_size), np.float32)
    dataset = Dataset(
        name="random",
        env_id="Hopper-v4",
        observations=normal[0],
        next_observations=normal[1],
        actions=2 * rng.random((transitions, SPEC.action_size), np.float32) - 1,
        rewards=rng.random(transitions, np.float32),
        terminated=rng.random(transitions) < 0.01,
        truncated=np.zeros(transitions, bool),
        episode=np.zeros(transitions, np.int32),
        episode_returns=np.zeros(1),
        episode_complete=np.ones(1, bool),
        segments=(transitions,),
        reference=None,
        digest="",
    )
    found, seeds = plugins.find(name), list(range(replicas))
    schedule = Steps((transitions,), 10**9, window=None)
    agents = make_agents(
        found, found.Config(), environments.of(dataset), seeds, schedule.updates, torch.device(device)
    )
    algorithm = agents.algorithm
    buffer = Buffer(dataset, agents.actions, RewardScale(), algorithm.device)
    orders = [rng.permutation(transitions).astype(np.int32) for _ in seeds]
    minibatches = Minibatches(
        algorithm.device, [schedule] * replicas, orders, seeds, algorithm.config.batch_size, algorithm.noise
    )
    draws = minibatches.until(schedule.updates)
    updater = make_updater(algorithm, [Share(buffer, Meter(), replicas)])
    return lambda: updater.update([Drawn(next(draws), agents.observations)])


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a fresh process with one thread: no other part's memory is in its way."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *arguments).result()


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def peak_bytes(device: str) -> int | None:
    """The most that this process has held, or torch on its GPU; None where the platform does not tell."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def medians(rounds: Sequence[dict[str, float]], *keys: str) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in rounds) for key in keys}


def updates(options: Options) -> Iterator[Result]:
    for device in devices():
        for name in options.algorithms:
            for replicas in options.replicas:
                yield alone(_updates, name, replicas, device, options)


def _updates(name: str, replicas: int, device: str, options: Options) -> Result:
    flops = importlib.import_module(f"seqeval.algos.{name}").flops(SPEC, plugins.find(name).Config())
    update = training(name, replicas, TRANSITIONS, device)
    rate(update, options.seconds / 2, device)
    rounds: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        before = machine(options.seconds / 10, device)
        speed = replicas * rate(update, options.seconds, device)
        after = machine(options.seconds / 10, device)
        products = {key: (before[key] + after[key]) / 2 for key in before}
        best = max(products.values())
        turn = {"updates_per_second": speed, "machine_flops_per_second": best}
        rounds.append(turn | {"share": speed * flops / best, "products": products})
    about = {"algorithm": name, "replicas": replicas, "device": device, "flops_per_update": flops}
    keys = "updates_per_second", "machine_flops_per_second", "share"
    return about | medians(rounds, *keys) | {"peak_bytes": peak_bytes(device), "rounds": rounds}


def figure_hours(results: Sequence[Result]) -> float | None:
    """Hours of updates of the paper's first figure on a GPU; None unless all five algorithms ran on one."""
    best: dict[str, float] = {}
    for result in results:
        if result["device"] == "cuda":
            name, speed = result["algorithm"], result["updates_per_second"]
            best[name] = max(speed, best.get(name, 0.0))
    if best.keys() != set(get_args(Algorithm)):
        return None
    return sum(FIGURE / len(best) / speed for speed in best.values()) / 3600


def evaluate(options: Options) -> Iterator[Result]:
    for name in ENVIRONMENTS:
        env_id = f"{name}{'' if name.endswith('?') else '&'}max_episode_steps={options.episode_steps}"
        for backend in BACKENDS:
            try:
                evaluation.check(env_id, Evaluation(backend=backend))
            except UserError:
                continue
            for replicas in options.replicas:
                yield alone(_evaluate, env_id, backend, replicas, options)


def _evaluate(env_id: str, backend: Backend, replicas: int, options: Options) -> Result:
    found, seeds = plugins.find("td3_bc"), list(range(replicas))
    agents = make_agents(found, found.Config(), environments.describe(env_id), seeds, 1, torch.device("cpu"))
    how = Evaluation(episodes=EPISODES, backend=backend)
    evaluator, env = evaluation.evaluator(env_id, seeds, how), environments.make(env_id)
    actions: list[np.ndarray] = []  # of the first episode

    def act(observations: np.ndarray) -> np.ndarray:
        chosen = agents.act(observations)
        actions.append(chosen[0, 0])
        return chosen

    rounds = []
    for turn in range(options.rounds):
        actions.clear()
        began, began_wall = time.process_time(), time.perf_counter()
        steps = sum(sum(episodes.lengths) for episodes in evaluator(act, [turn] * replicas))
        speed, wall = steps / (time.process_time() - began), steps / (time.perf_counter() - began_wall)
        bare = len(actions) * rate(partial(_play, env, actions), options.seconds / 2)
        pace = {"steps_per_second": speed, "bare_steps_per_second": bare, "share": speed / bare}
        rounds.append(pace | {"steps_per_second_of_wall_time": wall, "steps": steps})
    about = {"environment": env_id, "backend": backend, "replicas": replicas, "episodes": EPISODES}
    keys = "steps_per_second", "bare_steps_per_second", "share", "steps_per_second_of_wall_time"
    return about | medians(rounds, *keys) | {"rounds": rounds}


def _play(env: gymnasium.Env, actions: Sequence[np.ndarray]) -> None:
    env.reset(seed=0)
    for action in actions:
        env.step(action)


def end_to_end(options: Options) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--protocol.grow-by", str(options.grow_by), "--evaluation.points", "5", "--jobs", "1")
        flags += ("--overlap", "off")
        run = ["run", *STUDY, *flags, "--device", "cpu"]
        began = time.perf_counter()
        child = [sys.executable, "-m", "seqeval.cli", *run, "--out", folder]
        subprocess.run(child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - began
        rows = storage.frame([Path(folder)])
    seconds = {"updates": float(rows["train_seconds"].sum()), "evaluation": float(rows["eval_seconds"].sum())}
    seconds["everything else"] = wall - sum(seconds.values())
    for what, value in seconds.items():
        yield {"what": what, "seconds": value, "share": value / wall, "study": f"seqeval {' '.join(run)}"}


def growth(options: Options) -> Iterator[Result]:
    for device in devices():
        for name in options.algorithms:
            by_size = [(1, size) for size in options.sizes]
            by_replicas = [(replicas, TRANSITIONS) for replicas in options.replicas]
            for along, cases in (("transitions", by_size), ("replicas", by_replicas)):
                results = alone(_growth, name, cases, device, options)
                yield from ({"along": along} | result for result in results)


def _growth(name: str, cases: Sequence[tuple[int, int]], device: str, options: Options) -> list[Result]:
    """In turns, so that each case sees the same machine."""
    works = [training(name, *case, device) for case in cases]
    for work in works:
        rate(work, options.seconds / 2, device)
    rounds = [
        [
            1 / (replicas * rate(work, options.seconds, device))
            for (replicas, _), work in zip(cases, works, strict=True)
        ]
        for _ in range(options.rounds)
    ]
    return [
        {
            "algorithm": name,
            "device": device,
            "replicas": replicas,
            "transitions": transitions,
            "seconds_per_update": statistics.median(turn[place] for turn in rounds),
            "times_the_first": statistics.median(turn[place] / turn[0] for turn in rounds),
            "rounds": [turn[place] for turn in rounds],
        }
        for place, (replicas, transitions) in enumerate(cases)
    ]


def start_up(options: Options) -> Iterator[Result]:
    for what, (arguments, target) in STARTS.items():
        rounds = []
        for _ in range(options.rounds):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            rounds.append(time.perf_counter() - began)
        told = subprocess.run(
            [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
        )
        modules = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
        best = {"seconds": min(rounds), "target": target, "met": min(rounds) < target}
        yield {"what": what} | best | {"loads_torch": "torch" in modules, "rounds": rounds}


# Of each part: its name, how it is measured, and the columns of its table.
Column = tuple[str, Callable[[Result], str]]
WORK: tuple[Column, ...] = (
    ("algorithm", lambda r: r["algorithm"]),
    ("device", lambda r: r["device"]),
    ("R", lambda r: str(r["replicas"])),
)
SHARE: Column = ("share", lambda r: f"{r['share']:.0%}")
PARTS: dict[str, tuple[str, Callable[[Options], Iterator[Result]], tuple[Column, ...]]] = {
    "a": (
        "updates, one seed's each",
        updates,
        (
            *WORK,
            ("updates/s", lambda r: f"{r['updates_per_second']:.0f}"),
            ("MFLOP each", lambda r: f"{r['flops_per_update'] / 1e6:.0f}"),
            ("GFLOP/s", lambda r: f"{r['updates_per_second'] * r['flops_per_update'] / 1e9:.0f}"),
            ("the machine's", lambda r: f"{r['machine_flops_per_second'] / 1e9:.0f}"),
            SHARE,
            ("peak MB", lambda r: "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.0f}"),
        ),
    ),
    "b": (
        "evaluation",
        evaluate,
        (
            ("environment", lambda r: r["environment"]),
            ("backend", lambda r: r["backend"]),
            ("R × E", lambda r: f"{r['replicas']} × {r['episodes']}"),
            ("steps/s", lambda r: f"{r['steps_per_second']:.0f}"),
            ("bare steps/s", lambda r: f"{r['bare_steps_per_second']:.0f}"),
            SHARE,
            ("of wall time", lambda r: f"{r['steps_per_second_of_wall_time']:.0f}"),
        ),
    ),
    "c": (
        "end to end",
        end_to_end,
        (("time in", lambda r: r["what"]), ("seconds", lambda r: f"{r['seconds']:.2f}"), SHARE),
    ),
    "d": (
        "growth",
        growth,
        (
            ("along", lambda r: r["along"]),
            *WORK,
            ("transitions", lambda r: f"{r['transitions']}"),
            ("µs per seed-update", lambda r: f"{r['seconds_per_update'] * 1e6:.0f}"),
            ("times the first", lambda r: f"{r['times_the_first']:.2f}"),
        ),
    ),
    "e": (
        "start-up",
        start_up,
        (
            ("process", lambda r: r["what"]),
            ("seconds", lambda r: f"{r['seconds']:.3f}"),
            ("target", lambda r: f"{r['target']}"),
            ("met", lambda r: "yes" if r["met"] else "no"),
            ("loads torch", lambda r: "yes" if r["loads_torch"] else "no"),
        ),
    ),
}


def command(part: str, options: Options) -> str:
    """What makes a part's numbers again."""
    words = ["python experiments/benchmark.py --parts", part]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in ("parts", "out") and value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return " ".join(words)


def measure(part: str, options: Options, console: Console) -> Result:
    title, measurements, columns = PARTS[part]
    table = Table(box=None, header_style="bold")
    for place, (header, _) in enumerate(columns):
        table.add_column(header, justify="right" if place else "left")
    load, results = os.getloadavg()[0], []
    with console.status(f"({part}) {title}") as status:
        for result in measurements(options):
            results.append(result)
            table.add_row(*(shown(result) for _, shown in columns))
            status.update(f"({part}) {title}: {len(results)} measured")
    made_by = command(part, options)
    console.print(f"({part}) {title}; load {load:.1f} before it: {made_by}", highlight=False, soft_wrap=True)
    console.print(table)
    return {"command": made_by, "load": load, "results": results}


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    console = plain_console(stderr=False)
    about: Result = {"processor": study.processor(), "torch": torch.__version__, "threads": 1}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    console.print(*(f"{key} {value}" for key, value in about.items()), sep=", ", highlight=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about["parts"] = {}
    for part in options.parts:
        found = about["parts"][part] = measure(part, options, console)
        if part == "a" and (hours := figure_hours(found["results"])) is not None:
            found["figure_hours"] = hours
            told = (
                f"updates of the paper's first figure, {FIGURE / 1e6:.0f} million, on this GPU: {hours:.1f} h"
            )
            console.print(told, highlight=False)
        options.out.write_text(json.dumps(about, indent=2) + "\n")
    console.print(f"all of it: {options.out}", highlight=False)


if __name__ == "__main__":
    main()
