"""The online phase: each agent acts in a training environment of its own and stores the transitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from seqeval import environments
from seqeval.algorithm import select_replica
from seqeval.replay.buffer import Buffer
from seqeval.seeding import stream
from seqeval.training.agents import Agents

SUCCESS = ("success", "is_success")  # entries of a step's info


class EnvironmentFailed(Exception):
    """A training environment raised: the message says which and when, the cause is the exception."""


class TrainingEnvironments:
    """One environment for each of R agents, never used for evaluation.

    All of its random numbers come from the agent's own seed, and each episode has a seed of its own, so that
    a resumed run can replay the current episode from its actions.
    """

    def __init__(self, env_ids: Sequence[str], agents: Agents, buffer: Buffer) -> None:
        self.agents, self.buffer = agents, buffer
        self.steps = 0  # made by each agent
        self._env_ids, self._seeds = tuple(env_ids), agents.algorithm.seeds
        self._noise = [stream(seed, "online", "exploration") for seed in self._seeds]
        self._envs = [environments.make(env_id) for env_id in env_ids]
        self._episodes = [0] * len(self._seeds)  # started by each agent
        self._successes: list[bool | None] = [None] * len(self._seeds)  # of current episodes, if reported
        # (R, 2): finished episodes that reported success or failure, and those of them without success
        self._outcomes = np.zeros((len(self._seeds), 2), np.int64)
        self._actions: list[list[np.ndarray]] = [[] for _ in self._seeds]  # of the current episodes
        self._memory = agents.start_episodes(1)  # of the policies in their current episodes
        self._rewards = np.zeros(len(self._seeds))  # of the previous step; 0 at the first of an episode
        # (R, observation): the current observation of each agent
        self._observations = np.stack([self._reset(replica) for replica in range(len(self._seeds))])

    def _reset(self, replica: int) -> np.ndarray:
        """Starts an episode; returns its first observation."""
        rng = stream(self._seeds[replica], "online", "environment", self._episodes[replica])
        self._episodes[replica] += 1
        self._actions[replica] = []
        self._rewards[replica] = 0
        self._successes[replica] = None
        for name, start in self.agents.start_episodes(1).items():
            self._memory[name][replica] = start[replica]
        with self._failures_named(replica):
            return self._envs[replica].reset(seed=int(rng.integers(2**31)))[0]

    def state_of(self, replica: int) -> dict[str, Any]:
        """One replica's transitions, random state and the actions of its current episode."""
        return {
            "steps": self.steps,
            "episodes": self._episodes[replica],
            "actions": torch.from_numpy(np.array(self._actions[replica])),
            "observation": torch.from_numpy(self._observations[replica].copy()),
            "memory": select_replica(self._memory, replica),
            "reward": float(self._rewards[replica]),
            "outcomes": self._outcomes[replica].tolist(),
            "noise": self._noise[replica].bit_generator.state,
            "transitions": self.buffer.online_transitions(replica, self.steps),
        }

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads the states of all replicas, saved after equal numbers of steps, and replays their current
        episodes. Raises EnvironmentFailed if a replay ends in another observation."""
        self.steps = states[0]["steps"]
        for replica, state in enumerate(states):
            self.buffer.restore(replica, state["transitions"])
            self._noise[replica].bit_generator.state = state["noise"]
            self._episodes[replica] = state["episodes"] - 1
            observation = self._reset(replica)
            self._actions[replica] = list(state["actions"].numpy())
            for action in self._actions[replica]:
                with self._failures_named(replica):
                    observation, *_, info = self._envs[replica].step(action)
                self._note_success(replica, info)
            if not np.array_equal(observation, state["observation"].numpy()):
                raise EnvironmentFailed(
                    f"the training environment {self._env_ids[replica]} of seed {self._seeds[replica]} does "
                    "not repeat itself from the same seed and actions, so its run cannot be resumed"
                )
            self._observations[replica] = observation
            self._rewards[replica] = state["reward"]
            self._outcomes[replica] = state["outcomes"]
            for name, values in state["memory"].items():
                self._memory[name][replica] = values[0].to(self._memory[name].device)

    def step(self) -> None:
        """Every agent explores for one step, and the transitions are added to the buffer.

        At the end of an episode the next observation is its last one, and the agent starts a new episode.
        Raises EnvironmentFailed.
        """
        size = self.agents.algorithm.exploration_size
        noise = [rng.standard_normal((1, size), np.float32) for rng in self._noise]
        actions = self.agents.explore_in_episodes(
            self._observations[:, None], np.stack(noise), self._rewards[:, None], self._memory
        )
        # A replica whose weights are not finite fails at its next row; its environment must not raise before.
        in_units = np.nan_to_num(
            self.agents.actions.to_environment(actions).cpu().numpy(), posinf=0, neginf=0
        )[:, 0]
        rewards, terminated = np.zeros(len(self._seeds)), np.zeros(len(self._seeds), bool)
        next_observations, current = self._observations.copy(), self._observations.copy()
        starts = np.array([not taken for taken in self._actions])
        self.steps += 1
        for replica, env in enumerate(self._envs):
            with self._failures_named(replica):
                observation, reward, ended, cut, info = env.step(in_units[replica])
                next_observations[replica], rewards[replica], terminated[replica] = observation, reward, ended
            self._actions[replica].append(np.array(in_units[replica]))
            self._rewards[replica] = rewards[replica]
            self._note_success(replica, info)
            if (ended or cut) and self._successes[replica] is not None:
                self._outcomes[replica] += 1, not self._successes[replica]
            current[replica] = self._reset(replica) if ended or cut else observation
        # A cut episode's last transition is not terminated: its value continues.
        self.buffer.add(
            self.steps - 1,
            self._observations,
            actions[:, 0],
            rewards,
            next_observations,
            terminated,
            starts,
        )
        self._observations = current

    def _note_success(self, replica: int, info: Mapping[str, Any]) -> None:
        """An episode is successful if any of its steps reports success, as in evaluations."""
        reported = [bool(info[name]) for name in SUCCESS if name in info]
        if reported:
            self._successes[replica] = any(reported) or bool(self._successes[replica])

    def regrets(self, replicas: slice) -> list[dict[str, float]]:
        """The regret of these replicas up to now, as a metric: the share of all finished training episodes
        without success. Empty before the first one, and where the environment reports no success.

        Source: CORL (arXiv 2210.07105), `train/regret` of its fine-tuning algorithms.
        """
        return [
            {"regret": failed / count} if count else {} for count, failed in self._outcomes[replicas].tolist()
        ]

    @contextmanager
    def _failures_named(self, replica: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise EnvironmentFailed(
                f"the training environment {self._env_ids[replica]} of seed {self._seeds[replica]} raised "
                f"{type(error).__name__} at online step {self.steps}: {error}"
            ) from error

    def close(self) -> None:
        for env in self._envs:
            env.close()
