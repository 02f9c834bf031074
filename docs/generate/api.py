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
    found = {f"api/{name}.rst": _page(name, title) for name, title in MODULES.items()}
    entries = "\n".join(f"   {name}" for name in MODULES)
    index = "API reference\n=============\n\nThe public names of each module.\n\n"
    return {"api/index.rst": f"{index}.. toctree::\n   :maxdepth: 1\n\n{entries}\n", **found}


def _page(name: str, title: str) -> str:
    module = importlib.import_module(name)
    heading = f"{title}: ``{name}``"
    text = [heading, "=" * len(heading), "", f".. automodule:: {name}", "   :no-members:", ""]
    for member in _public(module):
        value = getattr(module, member)
        if inspect.ismodule(value):
            continue
        kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else "data"
        text += [f".. auto{kind}:: {name}.{member}", *(["   :no-value:"] if kind == "data" else []), ""]
    return "\n".join(text)


def _public(module: ModuleType) -> list[str]:
    """`__all__`, otherwise what the module or a file of its folder defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    package = module.__name__
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (getattr(value, "__module__", None) or "").startswith(package)
    )
