"""Checks of the configuration and of the output folder, made before anything is written."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seqeval import environments
from seqeval.atomic_io import LOCK_FILE
from seqeval.collect import agents
from seqeval.collect.config import LEVELS, CollectConfig
from seqeval.errors import UserError, nearest
from seqeval.types import Image


def validate(config: CollectConfig, levels: Sequence[str]) -> None:
    """Raises UserError for unknown names, invalid values, and an agent that does not fit the environment."""
    for level in levels:
        if level not in LEVELS:
            raise UserError(
                f"level {level!r} is not known{nearest(level, LEVELS)}; known: {', '.join(LEVELS)}"
            )
    if not levels:
        raise UserError(f"--levels: name at least one of {', '.join(LEVELS)}")
    for flag, least in (("steps", 1), ("transitions", 2), ("seed", 0), ("checkpoints", 1)):
        if (value := getattr(config, flag)) < least:
            raise UserError(f"--{flag}: must be at least {least}, not {value}")
    if config.checkpoints > config.steps:
        raise UserError(f"--checkpoints: {config.checkpoints} do not fit into {config.steps} steps")
    described = environments.describe(config.env_id)
    if isinstance(described.observation, Image):
        raise UserError(
            f"environment {config.env_id!r}: observations are images, which cannot be logged; add the option "
            "flatten_observation=True"
        )
    actions = described.actions
    algorithm = agents.find_algorithm(config.algorithm)
    _validate_settings(config, inspect.signature(algorithm).parameters)
    discrete = isinstance(actions, environments.Discrete)
    if discrete != agents.is_discrete(algorithm):
        kinds = {True: "discrete", False: "continuous"}
        raise UserError(
            f"algorithm {config.algorithm!r} is for {kinds[not discrete]} actions, but those of "
            f"{config.env_id} are {kinds[discrete]}; use {'DQN' if discrete else 'SAC, TD3 or DDPG'}"
        )
    if isinstance(actions, environments.Discrete) and actions.first != 0:
        raise UserError(
            f"environment {config.env_id!r}: its actions begin at {actions.first}, but those of "
            f"Stable-Baselines3's {config.algorithm} at 0; wrap it in gymnasium.wrappers.TransformAction"
        )
    with closing(environments.make(config.env_id)) as env:
        try:
            agents.build(config, env, buffer_size=1)
        except Exception as error:  # Stable-Baselines3 and torch raise anything for a bad setting
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{config.algorithm} cannot be built with these --settings: {reason}") from error


def _validate_settings(config: CollectConfig, parameters: Mapping[str, Any]) -> None:
    reserved = {"policy", "env", "_init_setup_model"}
    known = parameters.keys() - reserved - {"seed"} | {"net_arch"}
    for key in config.settings:
        if key == "seed":
            raise UserError("--settings seed: use the flag --seed instead")
        if key in reserved:
            raise UserError(f"--settings {key}: cannot be set, the command sets it itself")
        if key not in known:
            raise UserError(
                f"--settings {key}: {config.algorithm} has no such setting{nearest(key, known)}; "
                f"known: {', '.join(sorted(known))}"
            )
    for key in ("buffer_size", "batch_size"):
        size = config.settings.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"--settings {key}: must be a whole number of at least 1, not {size!r}")
    noise = config.settings.get("action_noise", 0.0)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise UserError(
            f"--settings action_noise: must be a standard deviation as a fraction of half the action range, "
            f"not {noise!r}"
        )


def check_output(config: CollectConfig, paths: dict[str, Path], work: Path) -> None:
    """Raises UserError if `work` belongs to another configuration, or if a file to be written exists."""
    stored = work / "config.json"
    if stored.is_file():
        try:
            before = json.loads(stored.read_text())
        except ValueError as error:
            raise UserError(f"{stored}: damaged, not JSON ({error}); remove {work}") from error
        old, new = _flatten(before), _flatten(json.loads(json.dumps(asdict(config))))
        for key in old | new:
            if old.get(key) != new.get(key):
                raise UserError(
                    f"{work}: was started with {key} {old.get(key)!r}, not {new.get(key)!r}; "
                    "use that value to resume there, or another --out"
                )
    elif work.is_dir() and any(
        path.suffix != ".partial" and path.name != LOCK_FILE for path in work.iterdir()
    ):
        raise UserError(f"{work}: not empty and contains no config.json; use another --out")
    for level, path in paths.items():
        card = path.with_suffix(".json")
        # The card is written before the file: a card without a file is a level whose writing was interrupted.
        existing = next((file for file in (path, card) if file.exists()), None)
        if existing and not (stored.is_file() and _command_of(card) == config.command(level)):
            raise UserError(f"{existing}: exists already; remove it or use another --out")


def _flatten(config: dict[str, Any]) -> dict[str, Any]:
    settings = {f"settings.{key}": value for key, value in config.get("settings", {}).items()}
    return {key: value for key, value in config.items() if key != "settings"} | settings


def _command_of(card: Path) -> str | None:
    with suppress(OSError, ValueError):
        return json.loads(card.read_text()).get("made_by")
    return None
