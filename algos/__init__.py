"""One file per algorithm; files that start with `_` are shared parts."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def __dir__() -> list[str]:
    """The files of algorithms."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__) if not file.name.startswith("_"))


def __getattr__(name: str) -> ModuleType:
    """A file, imported on first use."""
    if name.startswith("_") or name not in __dir__():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
