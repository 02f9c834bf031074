"""Parts a, d and g: updates, by algorithm, replicas, dataset size and parallel processes."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing import get_context
from typing import Any

import torch

from seqeval import plugins
from seqeval.training import matmul

from .measuring import devices, in_fresh_process, machine, medians, peak_bytes, rate, training
from .options import OF_THE_PAPER, SPEC, TRANSITIONS, Options, Result

SEEDS = 5  # per process of part g
FIGURE = 322_000_000  # updates of the paper's first figure, a fifth of them by each of five algorithms


def updates(options: Options) -> Iterator[Result]:
    for device in devices():
        for name in options.algorithms:
            for replicas in options.replicas:
                yield in_fresh_process(_updates, name, replicas, device, options)


def _updates(name: str, replicas: int, device: str, options: Options) -> Result:
    with matmul.using(matmul.default_backend(device, options.precision)):
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
    backend = {"precision": options.precision} | asdict(matmul.current())
    about = {"algorithm": name, "replicas": replicas, "device": device, "flops_per_update": flops} | backend
    keys = "updates_per_second", "machine_flops_per_second", "share"
    return about | medians(rounds, *keys) | {"peak_bytes": peak_bytes(device), "rounds": rounds}


def figure_hours(results: Sequence[Result]) -> float | None:
    """Hours for the updates of the paper's first figure on a GPU; None unless all five were measured."""
    best: dict[str, float] = {}
    for result in results:
        if result["device"] == "cuda" and result["algorithm"] in OF_THE_PAPER:
            name, speed = result["algorithm"], result["updates_per_second"]
            best[name] = max(speed, best.get(name, 0.0))
    if best.keys() != set(OF_THE_PAPER):
        return None
    return sum(FIGURE / len(best) / speed for speed in best.values()) / 3600


def growth(options: Options) -> Iterator[Result]:
    for device in devices():
        for name in options.algorithms:
            by_size = [(1, size) for size in options.sizes]
            by_replicas = [(replicas, TRANSITIONS) for replicas in options.replicas]
            for along, cases in (("transitions", by_size), ("replicas", by_replicas)):
                results = in_fresh_process(_growth, name, cases, device, options)
                yield from ({"along": along} | result for result in results)


def _growth(name: str, cases: Sequence[tuple[int, int]], device: str, options: Options) -> list[Result]:
    """Measure the cases in turns, since the load of the machine changes."""
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
            "seconds_per_update": statistics.median(turn[index] for turn in rounds),
            "times_the_first": statistics.median(turn[index] / turn[0] for turn in rounds),
            "rounds": [turn[index] for turn in rounds],
        }
        for index, (replicas, transitions) in enumerate(cases)
    ]


def cores(options: Options) -> Iterator[Result]:
    for name in options.algorithms:
        with ExitStack() as processes:
            first, second = (
                processes.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _prepare, (name,)))
                for _ in range(2)
            )
            for process in (first, second):
                process.submit(_speed, options.seconds).result()
            rounds = []
            for _ in range(options.rounds):
                single = first.submit(_speed, options.seconds).result()
                both = [process.submit(_speed, options.seconds) for process in (first, second)]
                turn = {"alone": single, "together": sum(speed.result() for speed in both)}
                rounds.append(turn | {"times": turn["together"] / single})
        about = {"algorithm": name, "replicas": SEEDS}
        yield about | medians(rounds, "alone", "together", "times") | {"rounds": rounds}


_update: Callable[[], None]  # in a process of part g


def _prepare(name: str) -> None:
    global _update
    torch.set_num_threads(1)
    _update = training(name, SEEDS, TRANSITIONS, "cpu")


def _speed(seconds: float) -> float:
    """Updates per second of wall time, summed over the replicas."""
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < seconds:
        _update()
        count += 1
    return SEEDS * count / (time.perf_counter() - began)
