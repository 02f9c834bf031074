"""Agents in environments of their own, and the transitions that they make there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from seqeval import environments
from seqeval.replay.buffer import Buffer
from seqeval.seeding import stream
from seqeval.training.agents import Agents


class EnvironmentFailed(Exception):
    """A training environment raised: the message says whose and when, the cause is what it raised."""


class TrainingEnvironments:
    """An environment for each of R agents, in which it is never evaluated.

    Everything random in it comes from the agent's own seed, and each episode from a seed of its own, so that
    the running one can be gone through again by its actions.
    """

    def __init__(self, env_id: str, agents: Agents, buffer: Buffer) -> None:
        self.env_id, self.agents, self.buffer = env_id, agents, buffer
        self.steps = 0  # that each agent has made
        self._seeds = agents.algorithm.seeds
        self._noise = [stream(seed, "online", "exploration") for seed in self._seeds]
        self._envs = [environments.make(env_id) for _ in self._seeds]
        self._episodes = [0] * len(self._seeds)  # that each has begun
        self._done: list[list[np.ndarray]] = [[] for _ in self._seeds]  # actions of the running ones
        # (R, observation): where each agent stands
        self._observations = np.stack([self._begin(replica) for replica in range(len(self._seeds))])

    def _begin(self, replica: int) -> np.ndarray:
        """A new episode; its first observation."""
        start = stream(self._seeds[replica], "online", "environment", self._episodes[replica])
        self._episodes[replica] += 1
        self._done[replica] = []
        with self._told(replica):
            return self._envs[replica].reset(seed=int(start.integers(2**31)))[0]

    def state_of(self, replica: int) -> dict[str, Any]:
        """Where one replica stands: its transitions, its noise, and the actions of its running episode."""
        return {
            "steps": self.steps,
            "episodes": self._episodes[replica],
            "actions": torch.from_numpy(np.array(self._done[replica])),
            "observation": torch.from_numpy(self._observations[replica].copy()),
            "noise": self._noise[replica].bit_generator.state,
            "transitions": self.buffer.own(replica, self.steps),
        }

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes what `state_of` gave of each replica after equally many steps, and goes through the running
        episodes again. Raises EnvironmentFailed where that leads elsewhere than before."""
        self.steps = states[0]["steps"]
        for replica, state in enumerate(states):
            self.buffer.restore(replica, state["transitions"])
            self._noise[replica].bit_generator.state = state["noise"]
            self._episodes[replica] = state["episodes"] - 1
            here = self._begin(replica)
            self._done[replica] = list(state["actions"].numpy())
            for action in self._done[replica]:
                with self._told(replica):
                    here = self._envs[replica].step(action)[0]
            if not np.array_equal(here, state["observation"].numpy()):
                raise EnvironmentFailed(
                    f"the training environment {self.env_id} of seed {self._seeds[replica]} does not do the "
                    "same again from the same seed and actions, so its run cannot go on where it stopped"
                )
            self._observations[replica] = here

    def step(self) -> None:
        """Every agent acts once, exploring, and what comes of it is added to the buffer.

        Where an episode ends, the next observation is its last, and the agent goes on in a new one. Raises
        EnvironmentFailed.
        """
        noise = [
            rng.standard_normal((1, self.agents.algorithm.spec.action_size), np.float32)
            for rng in self._noise
        ]
        actions = self.agents.explore(self._observations[:, None], np.stack(noise))[:, 0]
        # An agent whose weights are no longer finite fails at its next row; its environment need not.
        in_units = np.nan_to_num(
            self.agents.actions.to_environment(actions).cpu().numpy(), posinf=0, neginf=0
        )
        rewards, terminated = np.zeros(len(self._seeds)), np.zeros(len(self._seeds), bool)
        following, begins = self._observations.copy(), self._observations.copy()
        self.steps += 1
        for replica, env in enumerate(self._envs):
            with self._told(replica):
                after, reward, over, cut, _ = env.step(in_units[replica])
                following[replica], rewards[replica], terminated[replica] = after, reward, over
            self._done[replica].append(np.array(in_units[replica]))
            begins[replica] = self._begin(replica) if over or cut else after
        # A cut episode's last transition is not terminated: its value goes on.
        self.buffer.add(self.steps - 1, self._observations, actions, rewards, following, terminated)
        self._observations = begins

    @contextmanager
    def _told(self, replica: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise EnvironmentFailed(
                f"the training environment {self.env_id} of seed {self._seeds[replica]} raised "
                f"{type(error).__name__} at online step {self.steps}: {error}"
            ) from error

    def close(self) -> None:
        for env in self._envs:
            env.close()
