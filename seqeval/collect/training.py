"""The training of the agent: logged, evaluated at checkpoints, and resumable from the last of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from seqeval import environments
from seqeval.atomic_io import replacing, save_json
from seqeval.collect import agents
from seqeval.collect.config import CollectConfig
from seqeval.collect.log import LoggingEnv, TransitionLog
from seqeval.collect.progress import Report, progress_bar
from seqeval.seeding import stream

EPISODES = 10  # of the evaluation at a checkpoint


class Training:
    """The state of a training, stored in a folder.

    progress.json       the state at the last checkpoint; it determines which other files count
    model-<step>.zip    the agent at that step, as Stable-Baselines3 saves it
    buffer-<step>.pkl   its replay buffer, likewise
    log-<step>.npz      the log up to that step
    weights-<step>.pt   weights of the policy, before training and at each checkpoint
    """

    def __init__(self, config: CollectConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.log = TransitionLog(config.env_id, config.steps)
        self.returns: dict[int, float] = {}  # mean return of each checkpoint, by step
        self.resumed_at: list[int] = []  # steps
        self._progress_file = folder / "progress.json"
        if self._progress_file.exists():
            state = json.loads(self._progress_file.read_text())
            self.returns, self.resumed_at = dict(state["returns"]), state["resumed_at"]
            self.log.size = state["step"]
            with np.load(folder / f"log-{self.log.size}.npz") as stored:
                for key, values in self.log.fields.items():
                    values[: self.log.size] = stored[key]

    def weights_file(self, step: int) -> Path:
        return self.folder / f"weights-{step}.pt"

    @property
    def finished(self) -> bool:
        return self.log.size == self.config.steps

    @property
    def best_step(self) -> int:
        """The first step among the checkpoints with the highest return."""
        return max(self.returns, key=lambda step: self.returns[step])

    def start_agent(self, env: gymnasium.Env) -> OffPolicyAlgorithm:
        """A new agent, or the saved one with its replay buffer refilled from the log."""
        step = self.log.size
        if step == 0:
            agent = agents.build(self.config, env)
            self.save_weights(agent, 0)
            return agent
        device = self.config.settings.get("device", "cpu")
        algorithm = agents.find_algorithm(self.config.algorithm)
        agent = algorithm.load(self.folder / f"model-{step}.zip", env=env, device=device)
        agent.load_replay_buffer(self.folder / f"buffer-{step}.pkl")
        # With the seed of the start, initial states and noise that are already in the log would repeat.
        agent.set_random_seed(int(stream(self.config.seed, "resumed", step).integers(2**31)))
        self.resumed_at.append(step)
        self.log.end_episode(step - 1)
        return agent

    def save_weights(self, agent: OffPolicyAlgorithm, step: int) -> None:
        with replacing(self.weights_file(step)) as partial:
            torch.save(agent.policy.state_dict(), partial)

    def save(self, agent: OffPolicyAlgorithm) -> None:
        """Saves the current state; writing progress.json makes it count."""
        step = self.log.size
        log: Any = self.log.rows(0, step)
        writers: dict[str, Callable[..., Any]] = {
            f"model-{step}.zip": agent.save,
            f"buffer-{step}.pkl": agent.save_replay_buffer,
            f"log-{step}.npz": lambda file: np.savez(file, **log),
        }
        for name, write in writers.items():
            with replacing(self.folder / name) as partial, partial.open("wb") as file:
                write(file)
        state = {"step": step, "returns": [*self.returns.items()], "resumed_at": self.resumed_at}
        save_json(self._progress_file, state)
        for path in self.folder.iterdir():
            if path.name.startswith(("model-", "buffer-", "log-")) and path.name not in writers:
                path.unlink()


def train(config: CollectConfig, folder: Path, console: Console) -> Training:
    """Trains the agent to its last step, starting from the state in `folder`, if there is one."""
    training = Training(config, folder)
    if training.finished:
        return training
    title = f"training {config.algorithm} in {config.env_id}"
    with (
        progress_bar(console, title, config.steps) as report,
        closing(environments.make(config.env_id)) as env,
    ):
        done = training.log.size
        agent = training.start_agent(LoggingEnv(env, training.log))
        if not config.settings.keys() & {"verbose", "tensorboard_log"}:
            agent.set_logger(Logger(None, []))  # the default logger leaves an empty folder SB3-… in /tmp
        # Stable-Baselines3 adds the steps already done to those requested, so schedules are unaffected.
        agent.learn(config.steps - done, _Checkpoints(training, report), reset_num_timesteps=done == 0)
        training.save(agent)
    return training


class _Checkpoints(BaseCallback):
    """Evaluates the agent and saves its weights at each checkpoint, then saves the training."""

    model: OffPolicyAlgorithm

    def __init__(self, training: Training, report: Report) -> None:
        super().__init__()
        self._training, self._report = training, report
        self._steps, self._unsaved, self._note = training.config.checkpoint_steps, False, ""

    def _on_rollout_start(self) -> None:
        # Only now is the agent updated on the last logged step, and the next step is not yet taken.
        if self._unsaved:
            self._training.save(self.model)
            self._unsaved = False

    def _on_step(self) -> bool:
        training, step = self._training, self._training.log.size
        if step in self._steps:
            policy = agents.deterministic_policy(self.model)
            returns = agents.episode_returns(training.config.env_id, policy, agents.CHECKPOINT_SEED, EPISODES)
            training.returns[step] = float(returns.mean())
            training.save_weights(self.model, step)
            self._unsaved = True
            self._note = f"last return {training.returns[step]:.1f}"
        self._report(step, self._note)
        return step < training.config.steps  # otherwise the agent would train until the end of its train_freq
