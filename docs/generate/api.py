"""The pages of the API reference: all public names of the modules that others import."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

MODULES = {  # module -> what it is for
    "seqeval": "Define, run and read studies",
    "seqeval.types": "Data types",
    "seqeval.algorithm": "The contract of algorithms",
    "seqeval.algos.networks": "Networks, optimiser and losses for your algorithms",
    "seqeval.evaluation": "The contract of evaluators",
    "seqeval.datasets": "Datasets and the contract of sources",
    "seqeval.plots": "Figures and their contract",
    "seqeval.figure_options": "Options of figures",
    "seqeval.analysis": "Statistics of curves",
    "seqeval.analysis.published": "The paper's own runs",
    "seqeval.execution.launchers": "The contract of launchers",
    "seqeval.collect": "Collecting datasets",
}


def pages() -> dict[str, str]:
    seen: list[object] = []  # an object is described where it comes first
    found = {f"api/{name}.rst": _page(name, title, seen) for name, title in MODULES.items()}
    entries = "\n".join(f"   {name}" for name in MODULES)
    index = "API reference\n=============\n\nThe public names of each module.\n\n"
    return {"api/index.rst": f"{index}.. toctree::\n   :maxdepth: 1\n\n{entries}\n", **found}


def _page(name: str, title: str, seen: list[object]) -> str:
    module = importlib.import_module(name)
    heading = f"{title}: ``{name}``"
    text = [heading, "=" * len(heading), "", f".. automodule:: {name}", "   :no-members:", ""]
    for member in _public(module):
        value = getattr(module, member)
        if any(value is other for other in seen):
            continue
        seen.append(value)
        kind = "class" if inspect.isclass(value) else "function"
        text += [f".. auto{kind}:: {name}.{member}", ""]
    return "\n".join(text)


def _public(module: ModuleType) -> list[str]:
    """The classes and functions of `__all__`, otherwise those that the module or its folder defines."""
    listed = getattr(module, "__all__", None)
    package = module.__name__ if listed is None else "seqeval"
    names = sorted(name for name in vars(module) if not name.startswith("_")) if listed is None else listed
    objects = {name: getattr(module, name) for name in names}
    return [
        name
        for name, value in objects.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__.startswith(package)
    ]
