"""Sequential evaluation of offline reinforcement learning: the score as a function of the data seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqeval.config import Evaluation, Online, Protocol, Ray, Slurm, Study
    from seqeval.datasets import load as load_dataset
    from seqeval.errors import UserError
    from seqeval.policy import load_policy

__all__ = [
    "Evaluation",
    "Online",
    "Protocol",
    "Ray",
    "Slurm",
    "Study",
    "UserError",
    "load_dataset",
    "load_policy",
]

_HOMES = {
    "Evaluation": "config",
    "Online": "config",
    "Protocol": "config",
    "Ray": "config",
    "Slurm": "config",
    "Study": "config",
    "UserError": "errors",
    "load_dataset": "datasets",
    "load_policy": "policy",
}


def __getattr__(name: str) -> Any:
    """What the package offers at its top, imported when asked for: torch takes its seconds only then."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, "load" if name == "load_dataset" else name)
