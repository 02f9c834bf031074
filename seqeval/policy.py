"""Trained policies, taken from a run directory to act."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from seqeval import environments, plugins
from seqeval.errors import UserError
from seqeval.execution.storage import RunDirectory
from seqeval.training import trainer
from seqeval.training.agents import Agents
from seqeval.types import Environment


class Policy:
    """One agent's deterministic policy, in the environment's own units; `env_id` is None where there is no
    environment to play it in."""

    def __init__(self, agents: Agents, env_id: str | None) -> None:
        self.env_id = env_id
        self._agents = agents

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """(..., observation) -> (..., action), or (...) where actions are discrete."""
        observations = np.asarray(observations)
        size = self._agents.algorithm.spec.observation_size
        if observations.shape[-1:] != (size,):
            raise ValueError(f"observations must be (..., {size}), not {observations.shape}")
        lead = observations.shape[:-1]
        actions = self._agents.act(observations.reshape(1, -1, size))
        return actions.reshape((*lead, *actions.shape[2:]))


def load_policy(directory: str | Path, dataset: str, algorithm: str, seed: int) -> Policy:
    """The final policy of a finished cell; `algorithm` is the variant's name.

    Raises UserError where there is no such cell or it is not finished.
    """
    run = RunDirectory(Path(directory))
    study = run.study()
    for kind, name in (("datasets", dataset), ("algorithms", algorithm)):
        if name not in study[kind]:
            raise UserError(f"{directory}: no {name!r} among its {kind}: {', '.join(study[kind])}")
    cell = run.cell(dataset, algorithm, seed)
    if not cell.finished:
        raise UserError(f"{directory}: {dataset}, {algorithm}, seed {seed} is not there or not finished")
    about = study["datasets"][dataset]
    if about.get("logged_in"):  # older directories lack it
        environment = Environment.restored(about["logged_in"])
    else:
        environment = environments.describe(about["env_id"])
    variant = plugins.restore(algorithm, study["algorithms"][algorithm])
    try:
        saved = torch.load(cell.policy, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError) as error:
        raise UserError(
            f"{cell.policy}: damaged; remove its folder and run the study again, which redoes that seed alone"
        ) from error
    found, device = plugins.find(variant.algorithm), torch.device("cpu")
    agents = trainer.make_agents(found, variant.config, environment, [seed], saved["updates"], device)
    agents.load_states([saved])
    return Policy(agents, about["env_id"])
