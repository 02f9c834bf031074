"""Trained policies, loaded from a study directory."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from seqeval import environments, plugins
from seqeval.errors import UserError, one_line
from seqeval.execution.storage import Run, StudyDirectory
from seqeval.execution.validation import REPEAT, read_finished
from seqeval.training.agents import Agents
from seqeval.types import Environment


class Policy:
    """One agent's deterministic policy, in the units of the environment; `env_id` is None if no environment
    fits."""

    def __init__(self, agents: Agents, env_id: str | None) -> None:
        self.env_id = env_id
        self._agents = agents

    def __call__(self, observations: ArrayLike) -> np.ndarray:
        """(..., observation) -> (..., action), or (...) where actions are discrete; as at the start of an
        episode where the policy remembers the episode (`start_episodes`). Images are stacks of frames, (...,
        stack·channels, height, width) of uint8."""
        states, expected = np.asarray(observations), self._agents.algorithm.spec.observation.shape
        split = max(states.ndim - len(expected), 0)
        shape = states.shape[:split]
        if states.shape[split:] != expected:
            raise ValueError(
                f"observations must be (..., {', '.join(map(str, expected))}), not {states.shape}"
            )
        actions = self._agents.act(states.reshape(1, -1, *expected))
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


def load_policy(
    directory: str | Path, dataset: str, algorithm: str, seed: int, samples: int | None = None
) -> Policy:
    """The final policy of a finished run, or the one at `samples`, a point of its curve.

    `algorithm` is the variant's name. Policies at points are there if the study ran with `keep_policies`,
    also before the run has finished.

    It trusts whoever wrote the study directory: it imports the algorithm's file or package that study.json
    names, if the file is the recorded one, and makes the environment that it names, which may import a
    module too. Raises UserError if there is no such policy, and if it or the algorithm's file is not the
    recorded one.
    """
    study, run = _find(directory, dataset, algorithm, seed)
    if samples is not None:
        kept = run.kept_policies()
        if samples not in kept:
            there = ", ".join(map(str, kept)) or (
                "none; only runs that are trained with --keep-policies keep them, so train this one again, "
                "in a new study directory or with --redo"
            )
            raise UserError(
                f"{directory}: no policy of {dataset}, {algorithm}, seed {seed} at {samples} samples; "
                f"policies are stored at: {there}"
            )
        return _Saved(study, run, dataset, algorithm, seed).load(kept[samples], whole_agent=False)
    if not run.finished:
        raise UserError(f"{directory}: {dataset}, {algorithm}, seed {seed} is missing or has not finished")
    return _Saved(study, run, dataset, algorithm, seed).load(run.policy, whole_agent=True)


def load_policies(directory: str | Path, dataset: str, algorithm: str, seed: int) -> dict[int, Policy]:
    """The policies at all points of a run's curve, by samples in ascending order.

    They are stored if the study runs with `keep_policies`; otherwise there are none. Raises UserError if the
    study has no such dataset or algorithm.
    """
    study, run = _find(directory, dataset, algorithm, seed)
    saved = _Saved(study, run, dataset, algorithm, seed)
    return {samples: saved.load(path, whole_agent=False) for samples, path in run.kept_policies().items()}


def _find(directory: str | Path, dataset: str, algorithm: str, seed: int) -> tuple[dict[str, Any], Run]:
    """The study in a directory, and the files of a run."""
    study_directory = StudyDirectory(Path(directory))
    study = study_directory.study()
    for kind, name in (("datasets", dataset), ("algorithms", algorithm)):
        if name not in study[kind]:
            raise UserError(f"{directory}: no {name!r} among its {kind}: {', '.join(study[kind])}")
    return study, study_directory.run(dataset, algorithm, seed)


class _Saved:
    """The saved policies of a run."""

    def __init__(self, study: dict[str, Any], run: Run, dataset: str, algorithm: str, seed: int) -> None:
        self._run, entry = run, study["datasets"][dataset]
        self._env_id, self._seed = entry["env_id"], seed
        self._environment = (
            Environment.from_json(entry["logged_in"])
            if entry["logged_in"]
            else environments.describe(entry["env_id"])
        )
        settings = study["algorithms"][algorithm]
        if recipe := study.get("recipes", {}).get(dataset, {}).get(algorithm):
            settings = settings | {"config": recipe["config"]}
        self._variant = plugins.restore(algorithm, settings)

    def load(self, path: Path, whole_agent: bool) -> Policy:
        """The policy in a file, which holds all that an agent has learned or the policy alone."""
        content = read_finished(path, self._run.finished_record)
        try:
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling other content is documented to raise anything
            raise UserError(f"{path}: damaged ({one_line(error)}); {REPEAT}") from error
        try:
            agents = Agents(
                plugins.find(self._variant.algorithm),
                [self._variant.config],
                [self._environment],
                [self._seed],
                saved["updates"] if whole_agent else saved["algorithm"]["updates"],
                torch.device("cpu"),
            )
            if whole_agent:
                agents.load_states([saved])
            else:
                agents.load_policy(saved)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path}: holds no policy of {self._variant.name} ({one_line(error)}); {REPEAT}"
            ) from error
        return Policy(agents, self._env_id)
