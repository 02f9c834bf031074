"""Part b: environment steps per second of evaluations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch

from seqeval import environments, plugins
from seqeval.config import Evaluation
from seqeval.errors import UserError
from seqeval.evaluation import VisibleData, backends
from seqeval.evaluation.evaluators.episodes import Episodes
from seqeval.training.agents import Agents

from .measuring import in_fresh_process, medians, rate
from .options import EPISODES, Backend, Options, Result

ENVIRONMENTS = ("Hopper-v4?terminate_when_unhealthy=False", "Pendulum-v1?")
BACKENDS: tuple[Backend, ...] = ("gymnasium", "envpool")


class RecordingAgents(Agents):
    """Agents that keep the actions of the first episode."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.recorded: list[np.ndarray] = []

    def act_in_episodes(self, observations: np.ndarray, rewards: np.ndarray, memory: Any) -> np.ndarray:
        actions = super().act_in_episodes(observations, rewards, memory)
        self.recorded.append(actions[0, 0])
        return actions


def evaluate(options: Options) -> Iterator[Result]:
    for name in ENVIRONMENTS:
        env_id = f"{name}{'' if name.endswith('?') else '&'}max_episode_steps={options.episode_steps}"
        for backend in BACKENDS:
            try:
                backends.find(backend).check(env_id)
            except UserError:
                continue
            for replicas in options.replicas:
                yield in_fresh_process(_evaluate, env_id, backend, replicas, options)


def _evaluate(env_id: str, backend: Backend, replicas: int, options: Options) -> Result:
    algorithm, seeds = plugins.find("td3_bc"), list(range(replicas))
    agents = RecordingAgents(
        algorithm,
        [algorithm.Config()] * replicas,
        [environments.describe(env_id)] * replicas,
        seeds,
        total_updates=1,
        device=torch.device("cpu"),
    )
    settings = Evaluation(episodes=EPISODES, backend=backend)
    evaluator, env = Episodes(env_id, seeds, settings), environments.make(env_id)
    actions = agents.recorded

    rounds = []
    for turn in range(options.rounds):
        actions.clear()
        began, began_wall = time.process_time(), time.perf_counter()
        results = evaluator.evaluate(agents, VisibleData((turn,) * replicas))
        steps = sum(map(sum, results["episode_lengths"]))
        speed, wall = steps / (time.process_time() - began), steps / (time.perf_counter() - began_wall)
        bare = len(actions) * rate(partial(_play, env, actions), options.seconds / 2)
        speeds = {"steps_per_second": speed, "bare_steps_per_second": bare, "share": speed / bare}
        rounds.append(speeds | {"steps_per_second_of_wall_time": wall, "steps": steps})
    about = {"environment": env_id, "backend": backend, "replicas": replicas, "episodes": EPISODES}
    keys = "steps_per_second", "bare_steps_per_second", "share", "steps_per_second_of_wall_time"
    return about | medians(rounds, *keys) | {"rounds": rounds}


def _play(env: gymnasium.Env, actions: Sequence[np.ndarray]) -> None:
    env.reset(seed=0)
    for action in actions:
        env.step(action)
