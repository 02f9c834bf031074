"""The training of the agent: logged, evaluated at checkpoints, and resumable from the last of them."""

from __future__ import annotations

import json
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

    progress.json               the state at the last checkpoint; it determines which other files count
    model-<step>.zip            the agent at that step, as Stable-Baselines3 saves it
    log-<first>-<last>.npz      consecutive parts of the log
    weights-<step>.pt           weights of the policy, before training and at each checkpoint
    """

    def __init__(self, config: CollectConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.log = TransitionLog(config.env_id, config.steps)
        self.returns: dict[int, float] = {}  # mean return of each checkpoint, by step
        self.resumed_at: list[int] = []  # steps
        self._parts: list[tuple[int, int]] = []
        self._progress_file = folder / "progress.json"
        if self._progress_file.exists():
            self._load()

    def _load(self) -> None:
        state = json.loads(self._progress_file.read_text())
        self.returns = dict(state["returns"])
        self.resumed_at, self._parts = state["resumed_at"], [tuple(part) for part in state["parts"]]
        for first, last in self._parts:
            with np.load(self._part_file(first, last)) as part:
                for key, values in self.log.fields.items():
                    values[first:last] = part[key]
            self.log.size = last
        for step in self.resumed_at:
            self.log.end_episode(step - 1)

    def _part_file(self, first: int, last: int) -> Path:
        return self.folder / f"log-{first}-{last}.npz"

    def _model_file(self, step: int) -> Path:
        return self.folder / f"model-{step}.zip"

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
        agent = agents.find_algorithm(self.config.algorithm).load(
            self._model_file(step), env=env, device=device
        )
        # With the seed of the start, initial states and noise that are already in the log would repeat.
        agent.set_random_seed(int(stream(self.config.seed, "resumed", step).integers(2**31)))
        self.resumed_at.append(step)
        self.log.end_episode(step - 1)
        _fill_replay_buffer(agent, self.log)
        return agent

    def save_weights(self, agent: OffPolicyAlgorithm, step: int) -> None:
        with replacing(self.weights_file(step)) as partial:
            torch.save(agent.policy.state_dict(), partial)

    def save(self, agent: OffPolicyAlgorithm) -> None:
        """Saves the current state; writing progress.json makes it count."""
        first, last = self._parts[-1][1] if self._parts else 0, self.log.size
        part: Any = self.log.rows(first, last)
        with replacing(self._part_file(first, last)) as partial, partial.open("wb") as file:
            np.savez(file, **part)
        with replacing(self._model_file(last)) as partial, partial.open("wb") as file:
            agent.save(file)
        self._parts.append((first, last))
        state = {"returns": [*self.returns.items()], "resumed_at": self.resumed_at, "parts": self._parts}
        save_json(self._progress_file, state)
        for model in self.folder.glob("model-*.zip"):
            if model != self._model_file(last):
                model.unlink()


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


def _fill_replay_buffer(agent: OffPolicyAlgorithm, log: TransitionLog) -> None:
    """Adds the newest transitions of a log to the agent's replay buffer, as the agent does in training."""
    buffer, fields = agent.replay_buffer, log.fields
    assert buffer is not None
    continuous = isinstance(agent.action_space, gymnasium.spaces.Box)
    for row in range(max(0, log.size - buffer.buffer_size), log.size):
        action = fields["actions"][row]
        buffer.add(
            fields["observations"][row][None],
            fields["next_observations"][row][None],
            agent.policy.scale_action(action)[None] if continuous else np.array([action]),
            fields["rewards"][row][None],
            # The buffer stores a timeout as done and flags it, so that learning bootstraps from it.
            np.array([fields["terminals"][row] or fields["timeouts"][row]]),
            [{"TimeLimit.truncated": bool(fields["timeouts"][row])}],
        )
