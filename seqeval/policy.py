"""Trained policies, loaded from a study directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from seqeval import environments, plugins
from seqeval.errors import UserError
from seqeval.execution.storage import StudyDirectory
from seqeval.training.agents import Agents
from seqeval.types import Environment


class Policy:
    """One agent's deterministic policy, in the units of the environment; `env_id` is None if no environment
    fits."""

    def __init__(self, agents: Agents, env_id: str | None) -> None:
        self.env_id = env_id
        self._agents = agents

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """(..., observation) -> (..., action), or (...) where actions are discrete; as at the start of an
        episode where the policy remembers the episode (`start_episodes`)."""
        observations = np.asarray(observations)
        size = self._agents.algorithm.spec.observation_size
        if observations.shape[-1:] != (size,):
            raise ValueError(f"observations must be (..., {size}), not {observations.shape}")
        shape = observations.shape[:-1]
        actions = self._agents.act(observations.reshape(1, -1, size))
        return actions.reshape((*shape, *actions.shape[2:]))

    def start_episodes(self, count: int = 1, target: int = 0) -> Callable[..., np.ndarray]:
        """A function that acts step by step in `count` episodes, for policies that remember what they did.

        It takes observations (count, observation) and the rewards (count,) of the previous step, 0 at the
        first, and returns actions (count, action). `target` is a place in the algorithm's target returns.
        """
        memory = self._agents.start_episodes(count, target)

        def act(observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
            return self._agents.act_in_episodes(
                np.asarray(observations)[None], np.asarray(rewards)[None], memory
            )[0]

        return act


def load_policy(directory: str | Path, dataset: str, algorithm: str, seed: int) -> Policy:
    """The final policy of a finished run; `algorithm` is the variant's name.

    Raises UserError if there is no such run or it has not finished.
    """
    study_directory = StudyDirectory(Path(directory))
    study = study_directory.study()
    for kind, name in (("datasets", dataset), ("algorithms", algorithm)):
        if name not in study[kind]:
            raise UserError(f"{directory}: no {name!r} among its {kind}: {', '.join(study[kind])}")
    run = study_directory.run(dataset, algorithm, seed)
    if not run.finished:
        raise UserError(f"{directory}: {dataset}, {algorithm}, seed {seed} is missing or has not finished")
    entry = study["datasets"][dataset]
    environment = (
        Environment.from_json(entry["logged_in"])
        if entry["logged_in"]
        else environments.describe(entry["env_id"])
    )
    settings = study["algorithms"][algorithm]
    if recipe := study.get("recipes", {}).get(dataset, {}).get(algorithm):
        settings = settings | {"config": recipe["config"]}
    variant = plugins.restore(algorithm, settings)
    try:
        saved = torch.load(run.policy, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError) as error:
        raise UserError(
            f"{run.policy}: damaged; remove its folder and run the study again, which repeats only that seed"
        ) from error
    found, device = plugins.find(variant.algorithm), torch.device("cpu")
    agents = Agents(found, variant.config, [environment], [seed], saved["updates"], device)
    agents.load_states([saved])
    return Policy(agents, entry["env_id"])
