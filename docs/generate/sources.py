"""A page for each source of datasets, from its docstring and its `SOURCE`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from seqeval import datasets

from .docstrings import table


def pages() -> dict[str, str]:
    names = [m.name for m in pkgutil.iter_modules(datasets.__path__) if not m.name.startswith("_")]
    found = {name: _page(name) for name in names if hasattr(_module(name), "SOURCE")}
    return {f"sources/{name}.md": text for name, text in found.items()}


def _module(name: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"seqeval.datasets.{name}")


def _page(name: str) -> str:
    module = _module(name)
    source = module.SOURCE
    rows = []
    if source.prefix:
        rows.append(["names that begin with", f"`{source.prefix}`"])
    if source.endings:
        rows.append(["paths that end in", ", ".join(f"`{ending}`" for ending in source.endings)])
    known = [] if source.prefix else sorted(source.names())
    if known:
        rows.append(
            ["names", f"{len(known)}, listed below" if len(known) > 5 else ", ".join(map(_code, known))]
        )
    text = [f"# Source `{name}`", "", inspect.cleandoc(module.__doc__ or ""), ""]
    text += ["## How to name it", "", table(["belongs to this source", ""], rows), ""]
    if len(known) > 5:
        listed = [(key, source.listing(key)) for key in known]
        lines = [[_code(key), entry.env_id or entry.reason or "no environment fits"] for key, entry in listed]
        text += ["## Names", "", table(["name", "evaluated in"], lines), ""]
    text += [f"The code is in `seqeval/datasets/{name}.py`. See also [](/guide/datasets.md).", ""]
    return "\n".join(text)


def _code(text: str) -> str:
    return f"`{text}`"
