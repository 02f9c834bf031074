"""The levels: their reference returns, their transitions, and their files with JSON cards."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console

from seqeval import datasets, environments
from seqeval.atomic_io import replacing, save_json
from seqeval.collect import agents
from seqeval.collect.config import CollectConfig
from seqeval.collect.log import LoggingEnv, TransitionLog
from seqeval.collect.progress import Report, progress_bar
from seqeval.collect.training import Training
from seqeval.errors import UserError
from seqeval.seeding import stream

REFERENCE_EPISODES = 100


@dataclass(frozen=True)
class References:
    """The returns that score 0 (random) and 100 (best), and the step of the medium checkpoint."""

    random: np.ndarray  # (REFERENCE_EPISODES,) float64
    best: np.ndarray  # (REFERENCE_EPISODES,) float64
    medium_step: int


def measure_references(training: Training, console: Console) -> References:
    """Evaluates random actions and the best checkpoint. Raises UserError if the latter is no better."""
    config, step = training.config, training.best_step

    def returns(title: str, policy: agents.Policy, seed: int) -> np.ndarray:
        with progress_bar(console, f"reference returns, {title}", REFERENCE_EPISODES) as report:
            return agents.episode_returns(config.env_id, policy, seed, REFERENCE_EPISODES, report)

    with agents.load(config, training.weights_file(step)) as agent:
        best = returns("best checkpoint", agents.deterministic_policy(agent), agents.BEST_SEED)
    random = returns("random actions", agents.random_policy, agents.RANDOM_SEED)
    low, high = float(random.mean()), training.returns[step]
    if not (high > low and best.mean() > low):
        raise UserError(
            f"{config.algorithm} in {config.env_id} is no better than random after {config.steps} steps: its "
            f"best checkpoint (step {step}) has a mean return of {high:.2f} in training and "
            f"{best.mean():.2f} over {REFERENCE_EPISODES} further episodes, random actions have {low:.2f}; "
            f"the training is kept in {training.folder}; use other --settings or more --steps, "
            "and another --out"
        )
    reached = [s for s, value in training.returns.items() if value >= low + (high - low) / 3]
    return References(random, best, min(reached))


def expert_fault(training: Training, references: References, files: Mapping[str, Path]) -> str | None:
    """Why the level expert is not better than medium, by their checkpoints and by the episodes in `files`;
    None if it is, or if the two have not been written."""
    if not {"medium", "expert"} <= files.keys() and "medium-expert" not in files:
        return None
    advice = "train longer (--steps) or with other --settings, into another --out"
    if references.medium_step == training.best_step:
        step = training.best_step
        return f"expert is not better than medium: both are the checkpoint at step {step}; {advice}"
    if not {"medium", "expert"} <= files.keys():
        return None
    medium, expert = (
        datasets.load(str(files[level])).behaviour_return or 0.0 for level in ("medium", "expert")
    )
    if expert > medium:
        return None
    return (
        f"expert is not better than medium: its episodes have a mean return of {expert:.2f}, those of medium "
        f"{medium:.2f}; {advice}"
    )


def rollout(
    config: CollectConfig, weights: Path, purpose: str, transitions: int, report: Report
) -> dict[str, np.ndarray]:
    """Fields of `transitions` transitions of the exploring agent. Deterministic in its arguments."""
    log = TransitionLog(config.env_id, transitions)
    env = LoggingEnv(environments.make(config.env_id), log)
    with closing(env), agents.load(config, weights) as agent:
        seed = int(stream(config.seed, "rollout", purpose).integers(2**31))
        agent.set_random_seed(seed)
        policy, episode_ended = agents.exploring_policy(agent), True
        while log.size < transitions:
            if episode_ended:
                observation, _ = env.reset(seed=None if log.size else seed)
                if agent.use_sde:
                    agent.policy.reset_noise()  # type: ignore[operator]
            observation, _, terminated, truncated, _ = env.step(policy(env, observation))
            episode_ended = terminated or truncated
            report(log.size, "")
    return log.fields


def _collect_level(
    training: Training, level: str, medium_step: int, console: Console
) -> tuple[dict[str, np.ndarray], str]:
    """The fields of a level, and a description of the behaviour policy."""
    config = training.config
    agent = f"{agents.package_name(config)} {config.algorithm}"
    if level in ("medium-replay", "full-replay"):
        last = medium_step if level == "medium-replay" else config.steps
        return training.log.rows(0, last), f"{agent} while it learns, steps 0 to {last}, seed {config.seed}"
    steps = {"random": 0, "medium": medium_step, "expert": training.best_step}
    descriptions = {
        "random": "before training",
        "medium": f"at step {medium_step}, the first checkpoint a third of the way from random to best",
        "expert": f"at step {training.best_step}, its best checkpoint",
    }
    half = config.transitions // 2
    joined = {"medium": half, "expert": config.transitions - half}
    sizes = joined if level == "medium-expert" else {level: config.transitions}
    parts: list[dict[str, np.ndarray]] = []
    for name, size in sizes.items():
        title = f"rolling out {level}" + (f", {name}" if len(sizes) > 1 else "")
        with progress_bar(console, title, size) as report:
            parts.append(rollout(config, training.weights_file(steps[name]), name, size, report))
    for part in parts[:-1]:
        part["timeouts"][-1] = not part["terminals"][-1]
    description = ", then ".join(descriptions[name] for name in sizes)
    return (
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]},
        f"{agent} {description}, {agents.describe_exploration(config)}, seed {config.seed}",
    )


def write_level(training: Training, references: References, level: str, path: Path, console: Console) -> None:
    """Writes the card and the file of a level. The file appears last, so if it exists, both are complete."""
    config = training.config
    fields, behaviour = _collect_level(training, level, references.medium_step, console)
    attributes = {
        "env_id": config.env_id,
        "behaviour": behaviour,
        "reference_min": float(references.random.mean()),
        "reference_max": float(references.best.mean()),
        "reference_source": (
            f"mean return over {REFERENCE_EPISODES} episodes of a uniformly random policy and of the "
            f"best checkpoint of the behaviour agent (step {training.best_step}, deterministic)"
        ),
    }
    noise = agents.action_noise(config)
    package = agents.package_name(config).lower()
    packages = ("gymnasium", "mujoco", "numpy", "stable-baselines3", "torch", package)
    with replacing(path) as partial:
        with h5py.File(partial, "w") as file:
            file.attrs.update(attributes)
            for key, values in fields.items():
                file.create_dataset(key, data=values, compression="gzip", compression_opts=9, shuffle=True)
        card = {
            "name": path.stem,
            "level": level,
            "algorithm": config.algorithm,
            "steps": config.steps,
            **attributes,
            "behaviour_settings": config.settings | ({"action_noise": noise} if noise else {}),
            "transitions": len(fields["rewards"]),
            "episodes": int((fields["terminals"] | fields["timeouts"]).sum()),
            "reference_std": [float(references.random.std()), float(references.best.std())],
            "checkpoint_returns": [[step, value] for step, value in training.returns.items()],
            "resumed_at": training.resumed_at,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
            "made_by": config.command(level),
            "sha256": hashlib.sha256(partial.read_bytes()).hexdigest(),
        }
        save_json(path.with_suffix(".json"), card)
