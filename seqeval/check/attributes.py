"""Looks into the attributes of an algorithm: what it holds, by names that its author knows."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqeval.algorithm import Algorithm
from seqeval.replicated import Replicated

GIVEN = {"spec", "config", "seeds", "seed", "total_updates", "device", "updates"}  # by the suite
OF_TORCH = vars(nn.Module()).keys()  # how torch keeps parameters, buffers and hooks
PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ndarray, Tensor)


def attributes(algorithm: Algorithm) -> dict[str, Any]:
    """Tensors, arrays and plain values in the attributes of the first agent, by path: `actor.weights.0`.

    Those of modules, optimizers and containers, and of objects of classes in the algorithm's own file.
    """
    owner: Any = algorithm._agents[0] if isinstance(algorithm, Replicated) else algorithm
    found: dict[str, Any] = {}
    inside = {name: value for name, value in vars(owner).items() if name not in GIVEN}
    _collect(inside, "", type(owner).__module__, found, {})
    return found


def parameters(algorithm: Algorithm) -> dict[str, nn.Parameter]:
    """The trainable parameters among the attributes of the first agent."""
    found = attributes(algorithm)
    return {name: p for name, p in found.items() if isinstance(p, nn.Parameter) and p.requires_grad}


def shared_values(found: type[Algorithm]) -> dict[str, Any]:
    """Values that all agents share: attributes of the algorithm's classes, and globals of their files."""
    values: dict[str, Any] = {}
    own = [
        cls
        for cls in (getattr(found, "single", found)).__mro__
        if cls.__module__.partition(".")[0] not in ("seqeval", "builtins", "abc")
    ]
    for cls in own:
        path = f"class attribute {cls.__name__}"
        _collect(_data(vars(cls)), path, cls.__module__, values, {})
    for name in {cls.__module__ for cls in own}:
        _collect(_data(vars(sys.modules.get(name, ModuleType(name)))), "global", name, values, {})
    return {path.replace(".", " ", 1) if path.startswith("global") else path: v for path, v in values.items()}


def memory(tensor: Tensor) -> int:
    """A number that tensors which share memory have in common."""
    return tensor.untyped_storage()._cdata


def _data(namespace: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("__") and not name.startswith("_abc")
    }


def _collect(value: Any, path: str, module: str, found: dict[str, Any], seen: dict[int, Any]) -> None:
    """Adds the plain values inside `value`, each object once."""
    if isinstance(value, PLAIN):
        found[path] = value
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object gets its id
    for name, part in _parts(value, module).items():
        _collect(part, f"{path}.{name}" if path else str(name), module, found, seen)


def _parts(value: Any, module: str) -> Mapping[Any, Any]:
    """What an object holds, by name; nothing if it is of no interest."""
    if isinstance(value, nn.Module):
        other = {name: part for name, part in vars(value).items() if name not in OF_TORCH}
        return {**value._parameters, **value._buffers, **value._modules, **other}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(value))
    if isinstance(value, set | frozenset):
        return {"size": len(value)}
    if isinstance(value, np.random.Generator):
        return {"state": value.bit_generator.state}
    if isinstance(value, np.random.RandomState):
        return {"state": value.get_state()}
    if isinstance(value, torch.Generator):
        return {"state": value.get_state()}
    if isinstance(value, random.Random):
        return {"state": value.getstate()}
    if isinstance(value, type):
        return {}
    if hasattr(value, "state_dict"):
        return value.state_dict()
    return vars(value) if type(value).__module__ == module and hasattr(value, "__dict__") else {}
