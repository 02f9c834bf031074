"""Updates of R agents, one after the other: as Python makes them, or captured as CUDA graphs and replayed.

On a GPU the kernels of an update of small networks run for less time than the host takes to launch them. A
captured update is launched as one (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs), and the
host goes on to the next: it waits for the GPU where a row is due, and not between rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqeval.algorithm import Algorithm
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import ObservationScale
from seqeval.replay.samplers import Draw
from seqeval.types import Batch

WARM_UP = 3  # periods whose updates are made before any is captured, as torch advises


class Meter:
    """Means of metrics for each replica. They stay on the device until they are asked for."""

    def __init__(self) -> None:
        # Changed in place alone: a captured update adds to them. They begin at -0, as x + -0 is x for all x.
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}  # of what has been added since `clear`

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        for name, values in metrics.items():
            if name not in self._sums:
                self._sums[name] = torch.full_like(values, -0.0, dtype=torch.float64)
            self._sums[name].add_(values)
        self.count(metrics)

    def count(self, names: Iterable[str]) -> None:
        """Counts what a replayed update has added."""
        for name in names:
            self._counts[name] = self._counts.get(name, 0) + 1

    def state_of(self, replica: int) -> dict[str, tuple[float, int]]:
        """One replica's sums and counts since the last call of `clear`."""
        return {name: (float(self._sums[name][replica]), count) for name, count in self._counts.items()}

    def load_states(self, states: Sequence[Mapping[str, tuple[float, int]]], device: torch.device) -> None:
        for name, (_, count) in states[0].items():
            sums = [state[name][0] for state in states]
            self._sums[name] = torch.tensor(sums, dtype=torch.float64, device=device)
            self._counts[name] = count

    def means(self, replicas: int) -> list[dict[str, float]]:
        """Each replica's since the last call of `clear`."""
        means = {name: (self._sums[name] / count).tolist() for name, count in self._counts.items()}
        return [{name: values[replica] for name, values in means.items()} for replica in range(replicas)]

    def clear(self) -> None:
        for name in self._counts:
            self._sums[name].fill_(-0.0)
        self._counts = {}


class Share(NamedTuple):
    """Some neighbours among an algorithm's replicas: what they draw from, and where their metrics go."""

    buffer: Buffer
    meter: Meter
    replicas: int


class Drawn(NamedTuple):
    """What a share's replicas draw for one update, and how they see observations."""

    draw: Draw
    scale: ObservationScale | None


class Updater:
    """From what was drawn to a minibatch, the agents' update and its metrics, as Python makes them."""

    def __init__(self, algorithm: Algorithm, shares: Sequence[Share]) -> None:
        """The shares are all of the algorithm's replicas, in their order."""
        self.algorithm, self.shares = algorithm, shares

    def update(self, drawn: Sequence[Drawn]) -> None:
        """Makes one update of what each share has drawn."""
        self._make(drawn)

    def _make(self, drawn: Sequence[Drawn]) -> Iterable[str]:
        """Makes it, and returns the names of its metrics."""
        batches = [
            share.buffer.batch(draw.rows, scale, draw.noise)
            for share, (draw, scale) in zip(self.shares, drawn, strict=True)
        ]
        metrics = self.algorithm.update(_side_by_side(batches))
        first = 0
        for share in self.shares:
            mine = slice(first, first := first + share.replicas)
            share.meter.add({name: values[mine] for name, values in metrics.items()})
        return metrics


def _side_by_side(batches: Sequence[Batch]) -> Batch:
    """Along the replica axis; of one alone nothing is copied."""
    first, *others = batches
    if not others:
        return first
    names = [field.name for field in dataclasses.fields(Batch) if field.name != "noise"]
    return Batch(
        **{name: torch.cat([getattr(batch, name) for batch in batches]) for name in names},
        noise={name: torch.cat([batch.noise[name] for batch in batches]) for name in first.noise},
    )


class CudaGraphs:
    """Work on a stream of its own, captured there as graphs that share their memory.

    They may share it, since none runs beside another and nothing that one leaves there is read by the next.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], None]) -> None:
        """Does the work, on the stream on which it will be captured: autograd and cuBLAS remember theirs."""
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Goes through the work without doing it, and returns what does it, each time that it is called."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph.replay


class ReplayingUpdater(Updater):
    """Captures the updates of an algorithm's period once each, and from then on replays them.

    A graph reads and writes where the captured update did. Data, weights and sums of metrics stay where they
    are; what is drawn, and a new observation normaliser, are copied to where the captured update found them.
    """

    def __init__(
        self, algorithm: Algorithm, shares: Sequence[Share], period: int, graphs: CudaGraphs
    ) -> None:
        super().__init__(algorithm, shares)
        self._period, self._graphs = period, graphs
        self._to_warm_up = WARM_UP * period
        self._placed: list[Placed] = []  # of each share
        self._names: tuple[str, ...] = ()  # of the metrics of the update made last
        # By update modulo period: what replays it, and the names of its metrics.
        self._captured: dict[int, tuple[Callable[[], None], tuple[str, ...]]] = {}

    def update(self, drawn: Sequence[Drawn]) -> None:
        if not self._placed:
            self._placed = [Placed(mine) for mine in drawn]
        for placed, mine in zip(self._placed, drawn, strict=True):
            placed.take(mine)
        phase = self.algorithm.updates % self._period
        if phase in self._captured:
            replay, names = self._captured[phase]
            replay()
            for share in self.shares:
                share.meter.count(names)
            self.algorithm.updates += 1
        elif self._to_warm_up:
            self._to_warm_up -= 1
            self._graphs.run(self._work)
        else:
            replay = self._graphs.capture(self._work)
            self._captured[phase] = replay, self._names
            replay()

    def _work(self) -> None:
        self._names = tuple(self._make([placed.drawn for placed in self._placed]))


class Placed:
    """Where captured updates find what a share has drawn."""

    def __init__(self, drawn: Drawn) -> None:
        (rows, noise), scale = drawn
        self._scale_given = scale  # of which the placed one is a copy
        if scale is not None:
            scale = ObservationScale(scale.mean.clone(), scale.std.clone())
        self.drawn = Drawn(Draw(rows.clone(), {name: each.clone() for name, each in noise.items()}), scale)

    def take(self, drawn: Drawn) -> None:
        """Copies it there."""
        (rows, noise), scale = self.drawn
        rows.copy_(drawn.draw.rows)
        for name, each in drawn.draw.noise.items():
            noise[name].copy_(each)
        if scale is not None and drawn.scale is not None and drawn.scale is not self._scale_given:
            self._scale_given = drawn.scale
            scale.mean.copy_(drawn.scale.mean)
            scale.std.copy_(drawn.scale.std)


def make_updater(algorithm: Algorithm, shares: Sequence[Share]) -> Updater:
    """What makes the algorithm's updates on its device."""
    if algorithm.period is None or algorithm.device.type != "cuda":
        return Updater(algorithm, shares)
    return ReplayingUpdater(algorithm, shares, algorithm.period, CudaGraphs(algorithm.device))
