"""Records the torch operators that an update calls, to tell whether a CUDA graph of them can be replayed.

Below Python and autograd an update is a sequence of operators on tensors. A CUDA graph repeats that sequence
with the same numbers on the same memory. So no GPU is needed to tell whether replayed updates equal those
that Python makes: those must be the same sequence too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
MASKS = (torch.bool, torch.uint8)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


@dataclass(frozen=True)
class Operator:
    """One call of a torch operator."""

    overload: torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Any
    line: int | None  # that led to the call, in the recorder's file

    def tensors(self) -> list[Tensor]:
        """The tensors among arguments and results."""
        return _tensors_in((self.args, self.kwargs, self.results))

    def blocks_host(self) -> str | None:
        """Why the host would have to wait for a GPU; None if it would not."""
        if self.overload in INDEXING:
            by_mask = any(index.dtype in MASKS for index in _tensors_in(self.args[1]))
            return "indexes with a mask; use torch.where" if by_mask else None
        if torch.Tag.data_dependent_output in self.overload.tags:
            return "reads the value of a tensor on the host"
        if torch.Tag.dynamic_output_shape in self.overload.tags:
            return "has a result whose size depends on values"
        if self.overload in COPIES and len({tensor.device for tensor in self.tensors()}) > 1:
            return "copies between devices"
        return None


class Recorder(TorchDispatchMode):
    """Records every operator that is called inside it, in order, including those of autograd.

    `file` is the source file whose lines the operators refer to.
    """

    def __init__(self, file: str | None = None) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self._file = file

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        if func.namespace != "profiler":  # torch's optimizers mark their steps with these
            self.operators.append(Operator(func, args, kwargs, results, self._line()))
        return results

    def _line(self) -> int | None:
        frame = sys._getframe() if self._file else None
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        return None if frame is None else frame.f_lineno


class DrawFinder(Recorder):
    """Finds what draws random numbers inside it: torch's operators, and new generators of NumPy."""

    def __init__(self, file: str | None = None) -> None:
        super().__init__(file)
        self.found: list[str] = []  # each with its line
        self.private: list[str] = []  # those among them that do not use torch's global random state

    def __enter__(self) -> Self:
        self._patch = mock.patch.object(np.random, "default_rng", self._make_generator)
        self._patch.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._patch.stop()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        before = torch.get_rng_state()  # attention and dropout draw nothing if their probability is 0
        results = func(*args, **(kwargs or {}))
        with_generator = any(isinstance(value, torch.Generator) for value in (kwargs or {}).values())
        if with_generator or not torch.equal(before, torch.get_rng_state()):
            self._add(str(func.overloadpacket), private=with_generator)
        return results

    def _make_generator(self, *args: Any, **kwargs: Any) -> np.random.Generator:
        self._add("np.random.default_rng", private=True)
        return np.random.Generator(np.random.PCG64(*args, **kwargs))

    def _add(self, name: str, private: bool) -> None:
        line = self._line()
        self.found.append(name if line is None else f"{name} ({self._file}, line {line})")
        if private:
            self.private.append(self.found[-1])


class Trace:
    """The operators of an update, in a form that can be compared with another update.

    A tensor is described by its shape and by the origin of its memory: a field of the batch, an earlier
    operator, or memory from before the update. Such memory is kept alive, so that it is not reused.
    """

    def __init__(self, operators: Sequence[Operator], batch: Mapping[str, Tensor]) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.lines = [operator.line for operator in operators]
        self._kept: dict[int, Tensor] = {}
        origins = {_memory(tensor): f"the batch's {name}" for name, tensor in batch.items()}
        for position, operator in enumerate(operators):
            arguments = leaves((operator.args, operator.kwargs)).values()
            before = [self._describe(argument, origins) for argument in arguments]
            results = _tensors_in(operator.results)
            for number, result in enumerate(results):
                origins.setdefault(_memory(result), f"result {number} of operator {position}")
            after = [self._describe(result, origins) for result in results]
            self.steps.append((str(operator.overload), *before, *after))

    def _describe(self, value: Any, origins: Mapping[int, str]) -> Any:
        if not isinstance(value, Tensor):
            return repr(value)  # so that NaN equals itself
        memory = _memory(value)
        if memory not in origins:
            self._kept[memory] = value
        origin = origins.get(memory, f"memory {memory:#x}")
        return origin, tuple(value.shape), value.stride(), value.storage_offset(), value.dtype, value.device

    def difference(self, later: Trace) -> tuple[str, int | None] | None:
        """Describes the first operator in which a later trace differs, with its line; None if they agree."""
        for before, now, line in zip(self.steps, later.steps, later.lines, strict=False):
            if before[0] != now[0] or len(before) != len(now):
                return f"calls {now[0]} instead of {before[0]}", line
            for one, other in zip(before, now, strict=True):
                if one != other:
                    return f"calls {now[0]} with {_to_text(other)} instead of {_to_text(one)}", line
        if len(self.steps) != len(later.steps):
            return f"calls {len(later.steps)} operators instead of {len(self.steps)}", None
        return None


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """What nested mappings, lists and tuples contain, by its path, such as `net.weights.0`."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {path.removeprefix("."): value}
    return {p: v for key, inside in value.items() for p, v in leaves(inside, f"{path}.{key}").items()}


def _tensors_in(value: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(value).values() if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _to_text(described: Any) -> str:
    return described if isinstance(described, str) else f"{described[0]} {described[1]}"
