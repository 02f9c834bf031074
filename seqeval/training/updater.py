"""Makes one update of R agents: a minibatch, `Algorithm.update`, and the sums of its metrics.

On a GPU the kernels of an update of small networks take less time than the host needs to launch them. A
captured update is launched as a whole (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs), so
the host waits for the GPU only when a row is due.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from seqeval.algorithm import Algorithm
from seqeval.replay.indices import Indices
from seqeval.replay.samplers import Sampler
from seqeval.training.metrics import MetricMeans

WARM_UP = 3  # periods of updates before the first capture, as torch recommends


class Updater:
    """Builds the minibatch of some indices, updates the agents with it and adds up the metrics."""

    def __init__(self, algorithm: Algorithm, sampler: Sampler, metrics: MetricMeans) -> None:
        self.algorithm, self.sampler, self.metrics = algorithm, sampler, metrics

    def update(self, indices: Indices) -> None:
        """Makes one update of every replica."""
        self._update(indices)

    def _update(self, indices: Indices) -> tuple[str, ...]:
        """Makes the update and returns the names of its metrics."""
        metrics = self.algorithm.update(self.sampler.sample(indices))
        self.metrics.add(metrics)
        return tuple(metrics)


class CudaGraphs:
    """Captures work on a CUDA stream as graphs that share one memory pool.

    They may share it because they never run in parallel and none reads what another left there.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], None]) -> None:
        """Runs the work on the stream of the captures: autograd and cuBLAS keep state for each stream."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Records the work without running it; returns a function that runs it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph.replay


class GraphUpdater(Updater):
    """Captures each update of an algorithm's period once, and replays it from then on.

    A graph reads and writes the memory of the captured update. Data, weights, normaliser and sums of metrics
    stay where they are; the indices are copied to where the captured update found them.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        sampler: Sampler,
        metrics: MetricMeans,
        period: int,
        graphs: CudaGraphs,
    ) -> None:
        super().__init__(algorithm, sampler, metrics)
        self._period, self._graphs = period, graphs
        self._warm_up = WARM_UP * period  # updates left before the first capture
        self._inputs: Indices | None = None
        self._names: tuple[str, ...] = ()  # of the metrics of the latest update
        # By update modulo period: the replay, and the names of its metrics.
        self._captured: dict[int, tuple[Callable[[], None], tuple[str, ...]]] = {}

    def update(self, indices: Indices) -> None:
        self._copy_inputs(indices)
        phase = self.algorithm.updates % self._period
        if phase in self._captured:
            replay, names = self._captured[phase]
            replay()
            self.metrics.count(names)
            self.algorithm.updates += 1
        elif self._warm_up:
            self._warm_up -= 1
            self._graphs.run(self._work)
        else:
            replay = self._graphs.capture(self._work)
            self._captured[phase] = replay, self._names
            replay()

    def _work(self) -> None:
        assert self._inputs is not None
        self._names = self._update(self._inputs)

    def _copy_inputs(self, indices: Indices) -> None:
        if self._inputs is None:
            noise = {name: values.clone() for name, values in indices.noise.items()}
            self._inputs = Indices(indices.rows.clone(), indices.visible.clone(), noise)
            return
        self._inputs.rows.copy_(indices.rows)
        self._inputs.visible.copy_(indices.visible)
        for name, values in indices.noise.items():
            self._inputs.noise[name].copy_(values)


def make_updater(algorithm: Algorithm, sampler: Sampler, metrics: MetricMeans) -> Updater:
    """The updater for the algorithm's device."""
    # A graph cannot read images from the host's memory.
    if algorithm.period is None or algorithm.device.type != "cuda" or sampler.buffer.on_host:
        return Updater(algorithm, sampler, metrics)
    graphs = CudaGraphs(algorithm.device)
    return GraphUpdater(algorithm, sampler, metrics, algorithm.period, graphs)
