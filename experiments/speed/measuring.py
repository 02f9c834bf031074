"""Measurements that several parts use: of updates, of the machine, of memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seqeval.algos._fast_cpu import onednn_linear

from seqeval import environments, plugins
from seqeval.algorithm import Config, Sampling
from seqeval.replay.buffer import Buffer
from seqeval.replay.episodes import BestEpisodes
from seqeval.replay.indices import IndexSampler
from seqeval.replay.normalization import RewardScale, action_mapping
from seqeval.replay.samplers import make_sampler
from seqeval.slicing import Steps
from seqeval.training import matmul
from seqeval.training.agents import Agents
from seqeval.training.metrics import MetricMeans
from seqeval.training.updater import Updater, make_updater
from seqeval.types import Dataset

from .options import SPEC

PRODUCTS = {"cpu": (256, 1024), "cuda": (1024, 8192)}  # sizes of the square matrices


def rate(work: Callable[[], Any], seconds: float, device: str = "cpu") -> float:
    """Calls per second of `work`; in pairs, since TD3+BC updates its actor at every second call."""
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
    """FLOP/s of float32 matrix products, by operator and size."""
    rates = {}
    for size in PRODUCTS[device]:
        a, b, c = (torch.randn(size, size, device=device) for _ in range(3))
        operators: dict[str, Callable[[], Any]] = {"torch.mm": partial(torch.mm, a, b, out=c)}
        if matmul.HAS_ONEDNN and device == "cpu":
            operators["oneDNN"] = partial(onednn_linear, a, b)
        for operator, work in operators.items():
            work()
            rates[f"{operator} {size}"] = 2.0 * size**3 * rate(work, seconds, device)
    return rates


def training(name: str, replicas: int, transitions: int, device: str) -> Callable[[], None]:
    """One update of R replicas as in a study, with minibatches from a random dataset, all of it visible."""
    indices, updater = training_loop(name, replicas, random_dataset(transitions), device)
    return lambda: updater.update(indices.draw())


def random_dataset(transitions: int) -> Dataset:
    """Normal observations, uniform actions, and episodes of 100 transitions on average."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((2, transitions, SPEC.observation_size), np.float32)
    ends = rng.random(transitions) < 0.01
    episode = np.cumsum(np.concatenate([[0], ends[:-1]])).astype(np.int32)
    return Dataset(
        name="random",
        env_id="Hopper-v4",
        observations=normal[0],
        next_observations=normal[1],
        actions=2 * rng.random((transitions, SPEC.action_size), np.float32) - 1,
        rewards=rng.random(transitions, np.float32),
        terminated=ends,
        truncated=np.zeros(transitions, bool),
        episode=episode,
        episode_returns=rng.random(episode[-1] + 1),
        episode_complete=np.ones(episode[-1] + 1, bool),
        segments=(transitions,),
        reference=None,
        digest="",
    )


def training_loop(
    name: str, replicas: int, dataset: Dataset, device: str, config: Config | None = None
) -> tuple[IndexSampler, Updater]:
    """What draws the indices of each update of R replicas, and what makes the update."""
    algorithm_class, seeds = plugins.find(name), list(range(replicas))
    schedule = Steps((len(dataset),), 10**6, window=None)
    environment, target = environments.of(dataset), torch.device(device)
    agents = Agents(
        algorithm_class,
        [config or algorithm_class.Config()] * replicas,
        [environment] * replicas,
        seeds,
        schedule.updates,
        target,
    )
    algorithm = agents.algorithm
    sampling, mapping = algorithm.sampling, action_mapping(environment.actions, target)
    buffer = Buffer([dataset], [mapping], target, episodes=sampling != Sampling())
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(dataset)).astype(np.int32) for _ in seeds]
    share, episodes = sampling.best_episodes, []
    if share is not None:
        episodes = [BestEpisodes(share, schedule, order, dataset) for order in orders]
    indices = IndexSampler(
        target,
        [schedule] * replicas,
        orders,
        seeds,
        algorithm.config.batch_size,
        algorithm.noise,
        episodes=episodes,
    )
    rewards = [RewardScale()] * replicas
    sampler = make_sampler(buffer, sampling, rewards, agents.normalizer, orders, [dataset])
    return indices, make_updater(algorithm, sampler, MetricMeans(replicas))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function in a new process with one thread, so that no other part's memory affects it."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *arguments).result()


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def peak_bytes(device: str) -> int | None:
    """Peak memory of this process, or of torch on its GPU; None if the platform does not report it."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def medians(rounds: Sequence[dict[str, float]], *keys: str) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in rounds) for key in keys}
