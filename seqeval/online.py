"""Agents in environments of their own, and the transitions that they make there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from seqeval import environments
from seqeval.agents import Agents
from seqeval.buffer import Buffer
from seqeval.streams import stream


class EnvironmentFailed(Exception):
    """A training environment raised: the message says whose and when, the cause is what it raised."""


class TrainingEnvironments:
    """An environment for each of R agents, in which it is never evaluated.

    Everything random in it comes from the agent's own seed.
    """

    def __init__(self, env_id: str, agents: Agents, buffer: Buffer) -> None:
        self.env_id, self.agents, self.buffer = env_id, agents, buffer
        self.steps = 0  # that each agent has made
        self._seeds = agents.algorithm.seeds
        self._noise = [stream(seed, "online", "exploration") for seed in self._seeds]
        self._envs = [environments.make(env_id) for _ in self._seeds]
        observations = []
        for replica, seed in enumerate(self._seeds):
            with self._told(replica):
                start = int(stream(seed, "online", "environment").integers(2**31))
                observations.append(self._envs[replica].reset(seed=start)[0])
        self._observations = np.stack(observations)  # (R, observation): where each agent stands

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
                begins[replica] = env.reset()[0] if over or cut else after
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
