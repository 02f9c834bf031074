"""How the broken plug-ins of the tests say which rule of `seqeval check` each of them breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Fault:
    """The rule that a plug-in breaks, and a part of the message."""

    rule: str
    text: str


def breaks(rule: str, text: str) -> Callable[[type], type]:
    """Marks a class as one that breaks this rule and no other."""

    def mark(plugin: type) -> type:
        plugin.fault = Fault(rule, text)  # type: ignore[attr-defined]
        return plugin

    return mark


def faults(module: ModuleType) -> dict[str, Fault]:
    """The faults of the plug-ins in a module, by the name that `seqeval check` takes."""
    plugins = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    return {
        f"{Path(str(module.__file__))}:{name}": vars(plugin)["fault"]
        for name, plugin in plugins.items()
        if "fault" in vars(plugin)
    }
