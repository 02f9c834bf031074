"""Trained policies, taken from a run directory to act."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from seqeval import plugins, protocol
from seqeval.agents import Agents
from seqeval.errors import UserError
from seqeval.storage import RunDirectory


class Policy:
    """One agent's deterministic policy, in the environment's own units."""

    def __init__(self, agents: Agents, env_id: str) -> None:
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
    env_id = study["datasets"][dataset]["env_id"]
    variant = plugins.restore(algorithm, study["algorithms"][algorithm])
    saved = torch.load(cell.policy, map_location="cpu", weights_only=True)
    agents = protocol.make_agents(
        plugins.find(variant.algorithm), variant.config, env_id, [seed], saved["updates"], torch.device("cpu")
    )
    agents.load_state(saved)
    return Policy(agents, env_id)
