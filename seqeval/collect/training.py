"""The training of an agent: logged, evaluated at checkpoints, and gone on with where it was stopped."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from rich.console import Console

from seqeval import environments
from seqeval.atomic_io import replacing, save_json
from seqeval.collect.agent import CHECKPOINT_SEED, build, episode_returns, find_algorithm, greedy
from seqeval.collect.config import Recipe
from seqeval.collect.log import Log, Logged
from seqeval.collect.progress import Tell, progress
from seqeval.seeding import stream

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

EPISODES = 10  # of an evaluation


class Training:
    """A training and what is kept of it in a folder.

    progress.json               the last state that was saved; it names the files that count
    model-<step>.zip            the agent there, as Stable-Baselines3 saves it
    log-<first>-<last>.npz      parts of the log, one behind the other
    weights-<step>.pt           of the policy: before training, and at each checkpoint
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.log = Log(recipe.env_id, recipe.steps)
        self.returns: dict[int, float] = {}  # of the checkpoints, by step: means over deterministic episodes
        self.resumed_at: list[int] = []  # steps
        self._parts: list[tuple[int, int]] = []
        self._state = folder / "progress.json"
        if self._state.exists():
            self._read()

    def _read(self) -> None:
        state = json.loads(self._state.read_text())
        self.returns = dict(state["returns"])
        self.resumed_at, self._parts = state["resumed_at"], [tuple(part) for part in state["parts"]]
        for first, last in self._parts:
            with np.load(self._part(first, last)) as part:
                for key, values in self.log.fields.items():
                    values[first:last] = part[key]
            self.log.size = last
        for step in self.resumed_at:
            self.log.cut(step - 1)

    def _part(self, first: int, last: int) -> Path:
        return self.folder / f"log-{first}-{last}.npz"

    def weights(self, step: int) -> Path:
        return self.folder / f"weights-{step}.pt"

    def _model(self, step: int) -> Path:
        return self.folder / f"model-{step}.zip"

    @property
    def over(self) -> bool:
        return self.log.size == self.recipe.steps

    @property
    def best(self) -> int:
        """The step of the checkpoint with the highest return, the first of them."""
        return max(self.returns, key=lambda step: self.returns[step])

    def agent(self, env: gymnasium.Env) -> OffPolicyAlgorithm:
        """The agent to go on with: a new one, or the one last saved with its replay buffer filled again."""
        if self.log.size == 0:
            agent = build(self.recipe, env)
            self.keep_weights(agent, 0)
            return agent
        step = self.log.size
        device = self.recipe.settings.get("device", "cpu")
        agent = find_algorithm(self.recipe.algorithm).load(self._model(step), env=env, device=device)
        # Its own seed again would repeat the initial states and the noise that the log has already.
        agent.set_random_seed(int(stream(self.recipe.seed, "resumed", step).integers(2**31)))
        self.resumed_at.append(step)
        self.log.cut(step - 1)
        _fill(agent, self.log)
        return agent

    def keep_weights(self, agent: OffPolicyAlgorithm, step: int) -> None:
        import torch

        with replacing(self.weights(step)) as partial:
            torch.save(agent.policy.state_dict(), partial)

    def save(self, agent: OffPolicyAlgorithm) -> None:
        """Keeps the state of now, in one step."""
        first, last = self._parts[-1][1] if self._parts else 0, self.log.size
        part: Any = self.log.rows(first, last)
        with replacing(self._part(first, last)) as partial, partial.open("wb") as file:
            np.savez(file, **part)
        with replacing(self._model(last)) as partial, partial.open("wb") as file:
            agent.save(file)
        self._parts.append((first, last))
        state = {"returns": [*self.returns.items()], "resumed_at": self.resumed_at, "parts": self._parts}
        save_json(self._state, state)
        for model in self.folder.glob("model-*.zip"):
            if model != self._model(last):
                model.unlink()


def train(recipe: Recipe, folder: Path, console: Console) -> Training:
    """Trains the agent of a recipe to its last step, from wherever `folder` says that it is."""
    from stable_baselines3.common.logger import Logger

    training = Training(recipe, folder)
    if not training.over:
        title = f"training {recipe.algorithm} in {recipe.env_id}"
        with progress(console, title, recipe.steps) as tell, closing(environments.make(recipe.env_id)) as env:
            done = training.log.size
            agent = training.agent(Logged(env, training.log))
            if not recipe.settings.keys() & {"verbose", "tensorboard_log"}:
                agent.set_logger(Logger(None, []))  # its own would leave an empty folder SB3-… behind in /tmp
            # Stable-Baselines3 adds the steps already done to those asked for: schedules stay as they were.
            agent.learn(recipe.steps - done, _watch(training, agent, tell), reset_num_timesteps=done == 0)
            training.save(agent)
    return training


def _watch(training: Training, agent: OffPolicyAlgorithm, tell: Tell) -> BaseCallback:
    """What happens beside the learning: evaluation and weights at checkpoints, then the saving."""
    from stable_baselines3.common.callbacks import BaseCallback

    recipe, marks = training.recipe, training.recipe.marks

    class Watch(BaseCallback):
        unsaved, note = False, ""

        def _on_rollout_start(self) -> None:
            # Only here is the last step in the replay buffer and learnt from, and the next not yet taken.
            if self.unsaved:
                training.save(agent)
                self.unsaved = False

        def _on_step(self) -> bool:
            step = training.log.size
            if step in marks:
                returns = episode_returns(recipe.env_id, greedy(agent), CHECKPOINT_SEED, EPISODES)
                training.returns[step] = float(returns.mean())
                training.keep_weights(agent, step)
                self.unsaved = True
                self.note = f"last return {training.returns[step]:.1f}"
            tell(step, self.note)
            return step < recipe.steps  # Stable-Baselines3 would go on to the end of its train_freq

    return Watch()


def _fill(agent: OffPolicyAlgorithm, log: Log) -> None:
    """Puts the newest transitions of a log into the agent's replay buffer, as the agent itself would have."""
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
            # An episode that was cut is done and timed out: the value of what follows counts.
            np.array([fields["terminals"][row] or fields["timeouts"][row]]),
            [{"TimeLimit.truncated": bool(fields["timeouts"][row])}],
        )
