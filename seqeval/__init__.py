"""Sequential evaluation of offline reinforcement learning: the score as a function of the data seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import seqeval.algos as algos
    import seqeval.plots as plots
    from seqeval import algorithm, analysis, evaluation
    from seqeval.choosing import choose
    from seqeval.config import Evaluation, Execution, Online, Protocol, Ray, Slurm, Study
    from seqeval.datasets import load as load_dataset
    from seqeval.errors import PluginError, UserError
    from seqeval.execution.driver import rows, run
    from seqeval.execution.storage import load
    from seqeval.policy import load_policies, load_policy
    from seqeval.policy_episodes import evaluate
    from seqeval.sweeps import LogUniform, Sweep, Uniform

    __version__: str

__all__ = [
    "Evaluation",
    "Execution",
    "LogUniform",
    "Online",
    "PluginError",
    "Protocol",
    "Ray",
    "Slurm",
    "Study",
    "Sweep",
    "Uniform",
    "UserError",
    "__version__",
    "algorithm",
    "algos",
    "analysis",
    "choose",
    "evaluate",
    "evaluation",
    "load",
    "load_dataset",
    "load_policies",
    "load_policy",
    "plots",
    "rows",
    "run",
]

_MODULES = {  # of each name that is not itself a module
    **dict.fromkeys(("Evaluation", "Execution", "Online", "Protocol", "Ray", "Slurm", "Study"), "config"),
    **dict.fromkeys(("PluginError", "UserError"), "errors"),
    **dict.fromkeys(("LogUniform", "Sweep", "Uniform"), "sweeps"),
    "choose": "choosing",
    "evaluate": "policy_episodes",
    "load": "execution.storage",
    "load_dataset": "datasets",
    "load_policies": "policy",
    "load_policy": "policy",
    "rows": "execution.driver",
    "run": "execution.driver",
}


def __dir__() -> list[str]:
    return list(__all__)


def __getattr__(name: str) -> Any:
    """The names in `__all__`, imported on first use, since importing torch takes seconds."""
    import importlib
    import importlib.metadata

    if name == "__version__":
        return importlib.metadata.version("seqeval-rl")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, "load" if name == "load_dataset" else name)
