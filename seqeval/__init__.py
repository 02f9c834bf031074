"""Sequential evaluation of offline reinforcement learning: the score as a function of the data seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqeval.config import Evaluation, Execution, Online, Protocol, Ray, Slurm, Study
    from seqeval.datasets import load as load_dataset
    from seqeval.errors import UserError
    from seqeval.execution.driver import rows, run
    from seqeval.execution.storage import load
    from seqeval.policy import load_policy

__all__ = [
    "Evaluation",
    "Execution",
    "Online",
    "Protocol",
    "Ray",
    "Slurm",
    "Study",
    "UserError",
    "load",
    "load_dataset",
    "load_policy",
    "rows",
    "run",
]

_MODULES = {
    **dict.fromkeys(("Evaluation", "Execution", "Online", "Protocol", "Ray", "Slurm", "Study"), "config"),
    "UserError": "errors",
    "load": "execution.storage",
    "load_dataset": "datasets",
    "load_policy": "policy",
    "rows": "execution.driver",
    "run": "execution.driver",
}


def __getattr__(name: str) -> Any:
    """The names in `__all__`, imported on first use, since importing torch takes seconds."""
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, "load" if name == "load_dataset" else name)
