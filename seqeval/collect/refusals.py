"""What cannot be made, said before anything is written."""

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
from seqeval.collect.agent import build, find_algorithm, is_discrete
from seqeval.collect.config import LEVELS, Recipe
from seqeval.errors import UserError, nearest


def check(recipe: Recipe, levels: Sequence[str]) -> None:
    """Raises UserError where a recipe names what there is not or means nothing."""
    for level in levels:
        if level not in LEVELS:
            raise UserError(
                f"level {level!r} is not known{nearest(level, LEVELS)}; known: {', '.join(LEVELS)}"
            )
    if not levels:
        raise UserError(f"--levels: name at least one of {', '.join(LEVELS)}")
    for flag, least in (("steps", 1), ("transitions", 2), ("seed", 0), ("checkpoints", 1)):
        if (value := getattr(recipe, flag)) < least:
            raise UserError(f"--{flag}: must be at least {least}, not {value}")
    if recipe.checkpoints > recipe.steps:
        raise UserError(f"--checkpoints: {recipe.checkpoints} do not fit into {recipe.steps} steps")
    actions = environments.describe(recipe.env_id).actions
    cls = find_algorithm(recipe.algorithm)
    _check_settings(recipe, inspect.signature(cls).parameters)
    discrete, for_discrete = isinstance(actions, environments.Discrete), is_discrete(cls)
    if discrete != for_discrete:
        kinds = {True: "discrete", False: "continuous"}
        raise UserError(
            f"algorithm {recipe.algorithm!r} takes {kinds[for_discrete]} actions, those of "
            f"{recipe.env_id} are {kinds[discrete]}; use {'DQN' if discrete else 'SAC, TD3 or DDPG'}"
        )
    if isinstance(actions, environments.Discrete) and actions.first != 0:
        raise UserError(
            f"environment {recipe.env_id!r}: its actions begin at {actions.first}, those of "
            f"Stable-Baselines3's {recipe.algorithm} at 0; wrap it in gymnasium.wrappers.TransformAction"
        )
    with closing(environments.make(recipe.env_id)) as env:
        try:
            build(recipe, env, buffer_size=1)
        except Exception as error:  # whatever Stable-Baselines3 and torch make of a setting's value
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{recipe.algorithm} cannot be built with these --settings: {reason}") from error


def _check_settings(recipe: Recipe, parameters: Mapping[str, Any]) -> None:
    given = {"policy", "env", "_init_setup_model"}
    known = parameters.keys() - given - {"seed"} | {"net_arch"}
    for key in recipe.settings:
        if key == "seed":
            raise UserError("--settings seed: has a flag of its own, --seed")
        if key in given:
            raise UserError(f"--settings {key}: is given by the command itself")
        if key not in known:
            raise UserError(
                f"--settings {key}: {recipe.algorithm} has no such setting{nearest(key, known)}; "
                f"known: {', '.join(sorted(known))}"
            )
    for key in ("buffer_size", "batch_size"):
        size = recipe.settings.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"--settings {key}: must be a whole number of at least 1, not {size!r}")
    noise = recipe.settings.get("action_noise", 0.0)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise UserError(
            f"--settings action_noise: must be a standard deviation as a share of half the action range, "
            f"not {noise!r}"
        )


def admit(recipe: Recipe, paths: dict[str, Path], work: Path) -> None:
    """Raises UserError where `work` is another recipe's, or a file to be written is there already."""
    kept = work / "recipe.json"
    if kept.is_file():
        try:
            before = json.loads(kept.read_text())
        except ValueError as error:
            raise UserError(f"{kept}: damaged, not JSON ({error}); remove {work}") from error
        _same(before, json.loads(json.dumps(asdict(recipe))), work)
    elif work.is_dir() and any(
        path.suffix != ".partial" and path.name != LOCK_FILE for path in work.iterdir()
    ):
        raise UserError(f"{work}: not empty and holds no recipe.json; give another --out")
    for level, path in paths.items():
        card = path.with_suffix(".json")
        # The card is written before the file: a card alone is a level that was cut short.
        here = next((file for file in (path, card) if file.exists()), None)
        if here and not (kept.is_file() and _made_by(card) == recipe.command(level)):
            raise UserError(f"{here}: exists already; remove it or give another --out")


def _same(there: dict[str, Any], here: dict[str, Any], work: Path, group: str = "") -> None:
    for key in [*here, *(there.keys() - here.keys())]:
        before, now = there.get(key), here.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            _same(before, now, work, f"{group}{key}.")
        elif before != now:
            raise UserError(
                f"{work}: begun with {group}{key} {before!r}, not {now!r}; "
                "give that value to go on there, or another --out"
            )


def _made_by(card: Path) -> str | None:
    with suppress(OSError, ValueError):
        return json.loads(card.read_text()).get("made_by")
    return None
