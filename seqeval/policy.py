"""Trained policies, loaded from a study directory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from seqeval import environments, plugins
from seqeval.errors import UserError, one_line
from seqeval.execution.storage import StudyDirectory
from seqeval.execution.validation import REPEAT, read_finished
from seqeval.training.agents import Agents
from seqeval.types import Environment


class Policy:
    """One agent's deterministic policy, in the units of the environment; `env_id` is None if no environment
    fits."""

    def __init__(self, agents: Agents, env_id: str | None) -> None:
        self.env_id = env_id
        self._agents = agents

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """(..., observation) -> (..., action), or (...) where actions are discrete."""
        observations = np.asarray(observations)
        size = self._agents.algorithm.spec.observation_size
        if observations.shape[-1:] != (size,):
            raise ValueError(f"observations must be (..., {size}), not {observations.shape}")
        shape = observations.shape[:-1]
        actions = self._agents.act(observations.reshape(1, -1, size))
        return actions.reshape((*shape, *actions.shape[2:]))


def load_policy(directory: str | Path, dataset: str, algorithm: str, seed: int) -> Policy:
    """The final policy of a finished run; `algorithm` is the variant's name.

    It trusts whoever wrote the study directory: it imports the algorithm's file or package that study.json
    names, if the file is the recorded one, and makes the environment that it names, which may import a
    module too. Raises UserError if there is no such run, if it has not finished, and if its policy or the
    algorithm's file is not the recorded one.
    """
    study_directory = StudyDirectory(Path(directory))
    study = study_directory.study()
    for kind, name in (("datasets", dataset), ("algorithms", algorithm)):
        if name not in study[kind]:
            raise UserError(f"{directory}: no {name!r} among its {kind}: {', '.join(study[kind])}")
    run = study_directory.run(dataset, algorithm, seed)
    if not run.finished:
        raise UserError(f"{directory}: {dataset}, {algorithm}, seed {seed} is missing or has not finished")
    content = read_finished(run.policy, run.finished_record)
    entry = study["datasets"][dataset]
    environment = (
        Environment.from_json(entry["logged_in"])
        if entry["logged_in"]
        else environments.describe(entry["env_id"])
    )
    variant = plugins.restore(algorithm, study["algorithms"][algorithm])
    try:
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling other content is documented to raise anything
        raise UserError(f"{run.policy}: damaged ({one_line(error)}); {REPEAT}") from error
    found, device = plugins.find(variant.algorithm), torch.device("cpu")
    try:
        agents = Agents(found, [variant.config], [environment], [seed], saved["updates"], device)
        agents.load_states([saved])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{run.policy}: holds no policy of {algorithm} ({one_line(error)}); {REPEAT}"
        ) from error
    return Policy(agents, entry["env_id"])
