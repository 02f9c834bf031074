"""How fast the suite is, against what the machine allows.

    python experiments/benchmark.py [--parts a b] [--algorithms td3_bc] [--out bench.json]

Seven parts, each a table headed by the command that makes it again, and all of it as JSON:

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
(f) statistics: every figure, the table and the report of a large study that nobody trained, each as a whole
    process; and in one process its rows loaded, the IQM along x with 500 repetitions, and this drawn. Once.
(g) cores: seed-updates per second of wall time of two processes at once, against one's alone.

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
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args
from unittest import mock

import gymnasium
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from seqeval.plots import style
from seqeval.plots.aggregate import plot

from seqeval import aggregate, arithmetic, environments, evaluation, plugins, published, storage, study
from seqeval.buffer import Buffer
from seqeval.cli import plain_console
from seqeval.cli.results import figures
from seqeval.errors import UserError
from seqeval.protocol import make_agents
from seqeval.sampling import Minibatches
from seqeval.scaling import RewardScale
from seqeval.settings import Evaluation, Protocol, Study
from seqeval.slicing import Steps
from seqeval.types import Dataset, Precision, Reference, Row, Spec
from seqeval.updater import Meter, make_updater

Part = Literal["a", "b", "c", "d", "e", "f", "g"]
Algorithm = Literal["bc", "td3_bc", "iql", "awac", "cql"]
Backend = Literal["gymnasium", "envpool"]
Result = dict[str, Any]
SPEC, TRANSITIONS = Spec(11, 3), 100_000
PRODUCTS = {"cpu": (256, 1024), "cuda": (1024, 8192)}  # sizes of the square matrices
ENVIRONMENTS = ("Hopper-v4?terminate_when_unhealthy=False", "Pendulum-v1?")
BACKENDS: tuple[Backend, ...] = ("gymnasium", "envpool")
EPISODES = 10
SEEDS = 5  # of each process of part g
FIGURE = 322_000_000  # updates of the paper's first figure, a fifth of them each algorithm's
STUDY = ("--datasets", "hopper-replay", "--algorithms", "bc", "td3_bc", "iql", "--seeds", "0", "1", "2")
STARTS = {  # arguments of Python, and seconds that they may take
    "seqeval --help": (("-m", "seqeval.cli", "--help"), 0.5),
    "import seqeval": (("-c", "import seqeval"), 0.3),
}


@dataclass(frozen=True)
class Options:
    parts: tuple[Part, ...] = ("a", "b", "c", "d", "e", "f", "g")
    algorithms: tuple[Algorithm, ...] = ("bc", "td3_bc", "iql", "awac", "cql")
    """Of the parts a, d and g."""
    replicas: tuple[int, ...] = (1, 5, 20, 60)
    """R, in the parts a, b and d."""
    precision: Precision = "full"
    """Of part a; the machine's rate stays that of float32 on the CPU."""
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
    shape: tuple[int, int, int, int] = (12, 5, 5, 200)
    """Datasets, algorithms, seeds and points of the study of part f."""
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
    draws, updater = minibatches.until(schedule.updates), make_updater(algorithm, buffer, Meter())
    return lambda: updater.update(next(draws), agents.observations)


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
    with arithmetic.using(arithmetic.of_this_machine(device, options.precision)):
        return _updates_in_turns(name, replicas, device, options)


def _updates_in_turns(name: str, replicas: int, device: str, options: Options) -> Result:
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
    how = {"precision": options.precision} | arithmetic.current().plain()
    about = {"algorithm": name, "replicas": replicas, "device": device, "flops_per_update": flops} | how
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
        grown = ("--protocol.grow-by", str(options.grow_by), "--evaluation.points", "5")
        run = ["run", *STUDY, *grown, "--jobs", "1", "--overlap", "off", "--device", "cpu"]
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


def cores(options: Options) -> Iterator[Result]:
    for name in options.algorithms:
        with ExitStack() as processes:
            one, other = (
                processes.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _prepare, (name,)))
                for _ in range(2)
            )
            for process in (one, other):
                process.submit(_pace, options.seconds).result()
            rounds = []
            for _ in range(options.rounds):
                single = one.submit(_pace, options.seconds).result()
                both = [process.submit(_pace, options.seconds) for process in (one, other)]
                turn = {"alone": single, "together": sum(pace.result() for pace in both)}
                rounds.append(turn | {"times": turn["together"] / single})
        about = {"algorithm": name, "replicas": SEEDS}
        yield about | medians(rounds, "alone", "together", "times") | {"rounds": rounds}


_work: Callable[[], None]  # of a process of part g


def _prepare(name: str) -> None:
    global _work
    torch.set_num_threads(1)
    _work = training(name, SEEDS, TRANSITIONS, "cpu")


def _pace(seconds: float) -> float:
    """Seed-updates per second of wall time."""
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < seconds:
        _work()
        count += 1
    return SEEDS * count / (time.perf_counter() - began)


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


def drawing(options: Options) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        made, slower, out = (Path(folder) / name for name in ("made-up", "slower", "out"))
        make_up(made, *options.shape, grow_by=1)
        make_up(slower, *options.shape, grow_by=2)
        for what, cpu, wall in alone(_stages, made, out):
            yield _seconds(what, cpu, wall, made)
        commands: dict[str, list[Path | str]] = {
            f"plot --figure {name}": [made, "--out", out / f"{name}.png"] for name in ("curves", *figures())
        }
        commands["plot --figure sensitivity"].insert(1, slower)  # which compares studies
        commands |= {"table": [made], "report": [made, "--out", out / "page.html"]}
        for what, arguments in commands.items():
            child = [sys.executable, "-m", "seqeval.cli", *what.split(), *map(str, arguments)]
            before, began = os.times(), time.perf_counter()
            subprocess.run(child, stdout=subprocess.DEVNULL, check=True)
            wall, after = time.perf_counter() - began, os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            yield _seconds(f"seqeval {what}", cpu, wall, made)


def _seconds(what: str, cpu: float, wall: float, made: Path) -> Result:
    runs, rows = 0, 0
    for file in made.glob("cells/*/*/*/rows.jsonl"):
        runs, rows = runs + 1, rows + file.read_text().count("\n")
    return {"what": what, "cpu_seconds": cpu, "seconds": wall, "runs": runs, "rows": rows}


def _stages(made: Path, out: Path) -> list[tuple[str, float, float]]:
    """CPU seconds and seconds of what makes up a figure, in turn."""
    found = []

    def timed(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
        cpu, began = time.process_time(), time.perf_counter()
        result = work(*arguments)
        found.append((what, time.process_time() - cpu, time.perf_counter() - began))
        return result

    sizes = style.transitions({"": storage.RunDirectory(made).study()})
    rows = timed("load", storage.frame, [made])
    table = timed("IQM along x", aggregate.along, rows, sizes, ["iqm"])
    looks = style.lines_over_datasets(rows)
    timed("draw it", lambda: style.save(style.panel(plot, table, looks, style.counts(rows)), out / "iqm.png"))
    return found


def make_up(out: Path, datasets: int, algorithms: int, seeds: int, points: int, grow_by: int) -> None:
    """A run directory as if a study on D4RL's datasets had been run: its curves rise, with noise."""
    abouts = {
        name: about
        | {"name": name, "given": name, "logged_in": None, "episodes": 1000, "digest": name, "notes": []}
        for name, about in list(published.datasets("fig1").items())[:datasets]
    }
    asked = Study(
        tuple(abouts),
        ("bc", "td3_bc", "iql", "awac", "cql")[:algorithms],
        tuple(range(seeds)),
        Protocol(grow_by=grow_by),
        evaluation=Evaluation(points=points - 1),
    )
    variants = plugins.parse_all(asked.algorithms)
    resolved = study.Resolved(asked, abouts, variants, "cpu", arithmetic.of_this_machine("cpu"))
    directory = storage.RunDirectory(out)
    directory.admit(resolved.describe())
    rng = np.random.default_rng(0)
    with mock.patch.object(os, "fsync"):  # it may be lost in a power cut
        for name, about in abouts.items():
            scale, size = Reference(**about["reference"]), about["transitions"]
            seen = 5000 + np.rint(np.linspace(0, 1, points) * (size - 5000)).astype(int)
            for variant in resolved.variants:
                level = rng.uniform(20, 100)
                for seed in asked.seeds:
                    cell = directory.cell(name, variant.name, seed)
                    cell.begin()
                    for n in map(int, seen):
                        score = level * (1 - np.exp(-5 * n / size)) + rng.normal(0, 5, EPISODES)
                        returns = scale.minimum + score / 100 * (scale.maximum - scale.minimum)
                        cell.append(
                            Row(
                                study=out.name,
                                dataset=name,
                                algorithm=variant.algorithm,
                                variant=variant.name,
                                seed=seed,
                                phase="offline",
                                regime="stream",
                                samples=n,
                                env_steps=0,
                                updates=n // grow_by,
                                episode_returns=returns.tolist(),
                                episode_lengths=[1000] * EPISODES,
                                episode_successes=None,
                                return_mean=float(returns.mean()),
                                score=scale.score(float(returns.mean())),
                                status="ok",
                                train_seconds=rng.random(),
                                eval_seconds=rng.random(),
                                metrics={f"metric_{i}": rng.random() for i in range(5)},
                            )
                        )
                    cell.finish({})


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
    "f": (
        "statistics",
        drawing,
        (
            ("work", lambda r: r["what"]),
            ("CPU seconds", lambda r: f"{r['cpu_seconds']:.2f}"),
            ("seconds", lambda r: f"{r['seconds']:.2f}"),
            ("runs", lambda r: f"{r['runs']}"),
            ("rows", lambda r: f"{r['rows']}"),
        ),
    ),
    "g": (
        "two processes at once",
        cores,
        (
            ("algorithm", lambda r: r["algorithm"]),
            ("R", lambda r: str(r["replicas"])),
            ("updates/s alone", lambda r: f"{r['alone']:.0f}"),
            ("both", lambda r: f"{r['together']:.0f}"),
            ("times", lambda r: f"{r['times']:.2f}"),
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
            figure = f"the {FIGURE / 1e6:.0f} million updates of the paper's first figure"
            console.print(f"{figure}, on this GPU: {hours:.1f} h", highlight=False)
        options.out.write_text(json.dumps(about, indent=2) + "\n")
    console.print(f"all of it: {options.out}", highlight=False)


if __name__ == "__main__":
    main()
