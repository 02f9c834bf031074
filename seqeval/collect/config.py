"""The configuration of a data collection, and the parser of its `--settings`."""

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
from seqeval.validation import check_fields

LEVELS = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")


@dataclass(frozen=True)
class CollectConfig:
    """Everything that determines the content of the collected files."""

    env_id: str
    algorithm: str  # an off-policy class of stable_baselines3 or sb3_contrib
    steps: int  # of training
    transitions: int  # of each file of rollouts
    seed: int = 0
    checkpoints: int = 20  # evaluations during training, evenly spaced, the last one at its end
    settings: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the class

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def checkpoint_steps(self) -> set[int]:
        """The training steps at which the agent is evaluated."""
        return {round(self.steps * (k + 1) / self.checkpoints) for k in range(self.checkpoints)}

    def file(self, out: Path, level: str) -> Path:
        """`<env>-<level>.hdf5` in `out`; the environment's name in lower case, without version or options."""
        env_id = self.env_id.partition("?")[0].rpartition(":")[2]
        namespace, name, _ = gymnasium.envs.registration.parse_env_id(env_id)
        return out / f"{namespace + '-' if namespace else ''}{name}-{level}.hdf5".lower()

    def command(self, level: str) -> str:
        """The shell command that makes the file of one level."""
        words = ["seqeval", "datasets", "make", "--env", self.env_id, "--algorithm", self.algorithm]
        for flag in ("steps", "transitions", "seed", "checkpoints"):
            words += [f"--{flag}", str(getattr(self, flag))]
        if self.settings:
            words += ["--settings", *(f"{key}={value!r}" for key, value in sorted(self.settings.items()))]
        return shlex.join([*words, "--levels", level])


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Parses settings of the form `key=value`, whose values are Python literals.

    Raises UserError for a text of another form, a repeated key, or a value that JSON cannot store.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--settings {text!r}: not of the form key=value")
        if key in settings:
            raise UserError(f"--settings {key}: given twice")
        try:
            settings[key] = ast.literal_eval(value)
            json.dumps(settings[key])  # the work folder and the card store it as JSON
        except (ValueError, SyntaxError, TypeError):
            raise UserError(
                f"--settings {text}: {value!r} is not a Python number, string, tuple, list or dict; "
                f"a string needs two pairs of quotes, as in {key}=\"'auto'\""
            ) from None
    return settings
