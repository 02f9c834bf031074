"""What to make: the recipe, and the settings as the command line gives them."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from seqeval.errors import UserError

LEVELS = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers of the files."""

    env_id: str
    algorithm: str  # an off-policy class of stable_baselines3 or sb3_contrib
    steps: int  # of training
    transitions: int  # of each file that is rolled out
    seed: int = 0
    checkpoints: int = 20  # evaluations while training, evenly spaced, the last at its end
    settings: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the class

    @property
    def marks(self) -> set[int]:
        """The steps at which the agent is evaluated."""
        return {round(self.steps * (k + 1) / self.checkpoints) for k in range(self.checkpoints)}

    def file(self, out: Path, level: str) -> Path:
        """`<env>-<level>.hdf5` in `out`; the environment's name in lower case, without version or options."""
        plain = self.env_id.partition("?")[0].rpartition(":")[2]
        namespace, name, _ = gymnasium.envs.registration.parse_env_id(plain)
        return out / f"{namespace + '-' if namespace else ''}{name}-{level}.hdf5".lower()

    def command(self, level: str) -> str:
        """The command that makes one level of it."""
        command = (
            f"seqeval datasets make --env {shlex.quote(self.env_id)} --algorithm {self.algorithm} "
            f"--steps {self.steps} --transitions {self.transitions} --seed {self.seed} "
            f"--checkpoints {self.checkpoints}"
        )
        if self.settings:
            texts = (shlex.quote(f"{key}={value!r}") for key, value in sorted(self.settings.items()))
            command += f" --settings {' '.join(texts)}"
        return f"{command} --levels {level}"


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """The settings given as `key=value`, values as Python literals. Raises UserError where one is not."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--settings {text!r}: not of the form key=value")
        if key in settings:
            raise UserError(f"--settings {key}: given twice")
        try:
            settings[key] = ast.literal_eval(value)
            json.dumps(settings[key])  # so that it can be kept with the work and on the card
        except (ValueError, SyntaxError, TypeError):
            raise UserError(
                f"--settings {text}: {value!r} is no Python number, string, tuple, list or dict; "
                f"a string is quoted twice, as in {key}=\"'auto'\""
            ) from None
    return settings
