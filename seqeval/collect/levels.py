"""The levels: rolled out or taken from the log, and written as files with their cards."""

from __future__ import annotations

import hashlib
import platform
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console

from seqeval import environments
from seqeval.atomic_io import replacing, save_json
from seqeval.collect.agent import exploration, exploring, noise_of, package, player
from seqeval.collect.config import Recipe
from seqeval.collect.log import Log, Logged
from seqeval.collect.progress import Tell, progress
from seqeval.collect.references import References
from seqeval.collect.training import Training
from seqeval.seeding import stream


def rollout(
    recipe: Recipe, weights: Path, purpose: str, transitions: int, tell: Tell
) -> dict[str, np.ndarray]:
    """The fields of so many transitions of an agent that explores; the same whenever it is asked for."""
    log = Log(recipe.env_id, transitions)
    with closing(environments.make(recipe.env_id)) as env, player(recipe, weights) as agent:
        seed = int(stream(recipe.seed, "rollout", purpose).integers(2**31))
        agent.set_random_seed(seed)
        logged, act, over = Logged(env, log), exploring(agent), True
        observation, _ = logged.reset(seed=seed)
        while log.size < transitions:
            if over and log.size:
                observation, _ = logged.reset()
            if over and agent.use_sde:
                agent.policy.reset_noise()  # type: ignore[operator]
            observation, _, terminated, truncated, _ = logged.step(act(logged, observation))
            over = terminated or truncated
            tell(log.size, "")
    return log.fields


def _level(
    training: Training, level: str, medium: int, console: Console
) -> tuple[dict[str, np.ndarray], str]:
    """The fields of a level, and what it is in words."""
    recipe = training.recipe
    agent = f"{package(recipe)} {recipe.algorithm}"
    if level in ("medium-replay", "full-replay"):
        last = medium if level == "medium-replay" else recipe.steps
        return training.log.rows(0, last), f"{agent} while it learns, steps 0 to {last}, seed {recipe.seed}"
    steps = {"random": 0, "medium": medium, "expert": training.best}
    words = {
        "random": "before training",
        "medium": f"at step {medium}, the first checkpoint a third of the way from random to best",
        "expert": f"at step {training.best}, its best checkpoint",
    }
    half = recipe.transitions // 2
    parts = {"medium": half, "expert": recipe.transitions - half}
    parts = parts if level == "medium-expert" else {level: recipe.transitions}
    fields: list[dict[str, np.ndarray]] = []
    for part, size in parts.items():
        title = f"rolling out {level}" + (f", {part}" if len(parts) > 1 else "")
        with progress(console, title, size) as tell:
            fields.append(rollout(recipe, training.weights(steps[part]), part, size, tell))
    for joined in fields[:-1]:
        joined["timeouts"][-1] = not joined["terminals"][-1]
    behaviour = ", then ".join(words[part] for part in parts)
    return (
        {key: np.concatenate([part[key] for part in fields]) for key in fields[0]},
        f"{agent} {behaviour}, {exploration(recipe)}, seed {recipe.seed}",
    )


def write_level(training: Training, references: References, level: str, path: Path, console: Console) -> None:
    """Writes the file of a level and its card; the file is there once both are."""
    recipe = training.recipe
    fields, behaviour = _level(training, level, references.medium, console)
    facts = references.facts(training.best)
    with replacing(path) as partial:
        with h5py.File(partial, "w") as file:
            file.attrs.update({"env_id": recipe.env_id, "behaviour": behaviour, **facts})
            for key, values in fields.items():
                file.create_dataset(key, data=values, compression="gzip", compression_opts=9, shuffle=True)
        card = {
            "name": path.stem,
            "env_id": recipe.env_id,
            "level": level,
            "algorithm": recipe.algorithm,
            "steps": recipe.steps,
            "behaviour": behaviour,
            "behaviour_settings": _settings(recipe),
            "transitions": len(fields["rewards"]),
            "episodes": int((fields["terminals"] | fields["timeouts"]).sum()),
            **facts,
            "reference_std": [float(references.random.std()), float(references.best.std())],
            "checkpoint_returns": [[step, value] for step, value in training.returns.items()],
            "resumed_at": training.resumed_at,
            "versions": _versions(recipe),
            "made_by": recipe.command(level),
            "sha256": hashlib.sha256(partial.read_bytes()).hexdigest(),
        }
        save_json(path.with_suffix(".json"), card)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What was set about the agent, its noise included where that is not Stable-Baselines3's default."""
    noise = noise_of(recipe)
    return recipe.settings | ({"action_noise": noise} if noise else {})


def _versions(recipe: Recipe) -> dict[str, str]:
    packages = ["gymnasium", "mujoco", "stable-baselines3", "torch", "numpy"]
    if package(recipe) == "sb3-contrib":
        packages.append("sb3-contrib")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
