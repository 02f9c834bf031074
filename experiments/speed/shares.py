"""Part h: the share of an update's time that each kind of work takes, on the CPU."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from seqeval.training import matmul

from .measuring import in_fresh_process, random_dataset, rate, training_loop
from .options import TRANSITIONS, Options, Result

KINDS = "products", "element-wise", "optimizer", "gather", "noise", "dispatch"
PRODUCTS = "mm", "addmm", "addmm_", "bmm", "baddbmm", "_linear_pointwise", "linear"
OPTIMIZER = "_fused_adamw_", "_foreach_lerp_", "lerp_"
UPDATES = 40  # profiled between two measurements


class OperatorTimes(TorchDispatchMode):
    """Adds up the CPU seconds of torch's operators by kind of work."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.kind = "element-wise"  # of operators that are no products and not the optimiser's

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        kind = "products" if name in PRODUCTS else "optimizer" if name in OPTIMIZER else self.kind
        began = time.thread_time()
        result = func(*args, **(kwargs or {}))
        self.seconds[kind] += time.thread_time() - began
        return result


def shares(options: Options) -> Iterator[Result]:
    for name in options.algorithms:
        for replicas in options.replicas:
            yield in_fresh_process(_shares, name, replicas, options)


def _shares(name: str, replicas: int, options: Options) -> Result:
    with matmul.using(matmul.default_backend("cpu", options.precision)):
        indices, updater = training_loop(name, replicas, random_dataset(TRANSITIONS), "cpu")

        def work() -> None:
            updater.update(indices.draw())

        rate(work, options.seconds / 2)
        rounds = []
        for _ in range(options.rounds):
            seconds = 1 / rate(work, options.seconds)
            rounds.append(_shares_of_time(partial(_profile, indices, updater), seconds))
    about = {"algorithm": name, "replicas": replicas, "precision": options.precision}
    return about | _medians(rounds) | {"rounds": rounds}


def _shares_of_time(profile: Callable[[], Mapping[str, float]], seconds: float) -> dict[str, float]:
    """The share of each kind in an update of so many seconds; the rest is Python, autograd and dispatch."""
    times = {kind: value / UPDATES / seconds for kind, value in profile().items()}
    times["dispatch"] = 1 - sum(times.values())
    return {kind: times.get(kind, 0.0) for kind in KINDS} | {"seconds": seconds}


def _profile(indices: Any, updater: Any) -> Mapping[str, float]:
    """CPU seconds of `UPDATES` updates by kind of work, measured around each operator."""
    times, drawing = OperatorTimes(), 0.0
    for _ in range(UPDATES):
        began = time.thread_time()
        drawn = indices.draw()
        drawing += time.thread_time() - began
        with times:
            times.kind = "gather"
            batch = updater.sampler.sample(drawn)
            times.kind = "element-wise"
            updater.metrics.add(updater.algorithm.update(batch))
    return {**times.seconds, "noise": drawing}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in rounds) for key in rounds[0]}
