"""The torch operators that an update calls, and whether a CUDA graph of them can be replayed.

Below Python and autograd an update is a sequence of operators on tensors. Captured once and replayed it is
that same sequence with the same numbers on the same memory. So it takes no GPU to see whether replaying makes
the updates that Python would make: theirs must be that sequence too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
MASKS = (torch.bool, torch.uint8)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


@dataclass(frozen=True)
class Operator:
    """One call."""

    called: torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Any
    line: int | None  # of the file that was asked about, where it led to this

    def tensors(self) -> list[Tensor]:
        """Those that go in and come out."""
        return list(filter(_is_tensor, leaves((self.args, self.kwargs, self.results))))

    def waits(self) -> str | None:
        """Why the host would have to wait for a GPU here, in words; None if it would not."""
        if self.called in INDEXING:
            by_mask = any(index.dtype in MASKS for index in filter(_is_tensor, leaves(self.args[1])))
            return "indexes by a mask, which torch.where need not" if by_mask else None
        if torch.Tag.data_dependent_output in self.called.tags:
            return "reads a tensor's value on the host"
        if torch.Tag.dynamic_output_shape in self.called.tags:
            return "has a result whose size hangs on values"
        if self.called in COPIES and len({tensor.device for tensor in self.tensors()}) > 1:
            return "copies from one device to another"
        return None


class Recorder(TorchDispatchMode):
    """Every operator that is called within it, by autograd too, in order; `file`, if given, to tell where."""

    def __init__(self, file: str | None = None) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self._file = file

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        if func.namespace != "profiler":  # torch's optimisers mark where they begin
            self.operators.append(Operator(func, args, kwargs, results, self._line()))
        return results

    def _line(self) -> int | None:
        frame = sys._getframe() if self._file else None
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        return None if frame is None else frame.f_lineno


class Trace:
    """What the operators of an update do, told so that it can be compared with another's.

    A tensor is told by its shape and by where its memory comes from: from a field of the batch, from an
    operator before, or from before the update; that memory is then held, so that no other is taken for it.
    """

    def __init__(self, operators: Sequence[Operator], batch: Mapping[str, Tensor]) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.lines = [operator.line for operator in operators]
        self._held: dict[int, Tensor] = {}
        origins = {_memory(tensor): f"the batch's {name}" for name, tensor in batch.items()}
        for place, operator in enumerate(operators):
            arguments = [self._told(leaf, origins) for leaf in leaves((operator.args, operator.kwargs))]
            results = list(filter(_is_tensor, leaves(operator.results)))
            for number, result in enumerate(results):
                origins.setdefault(_memory(result), f"result {number} of operator {place}")
            self.steps.append((str(operator.called), *arguments, *(self._told(r, origins) for r in results)))

    def _told(self, leaf: Any, origins: Mapping[int, str]) -> Any:
        if not _is_tensor(leaf):
            return repr(leaf)  # NaN is then itself
        memory = _memory(leaf)
        if memory not in origins:
            self._held[memory] = leaf
        origin = origins.get(memory, memory)
        return origin, tuple(leaf.shape), leaf.stride(), leaf.storage_offset(), leaf.dtype, leaf.device

    def difference(self, later: Trace) -> tuple[str, int | None] | None:
        """Where a later one first departs from this, in words, and at which line; None where it does not."""
        for before, now, line in zip(self.steps, later.steps, later.lines, strict=False):
            if before[0] != now[0] or len(before) != len(now):
                return f"calls {now[0]} where it called {before[0]}", line
            for one, other in zip(before, now, strict=True):
                if one != other:
                    return f"calls {now[0]} with {_in_words(other)} where it had {_in_words(one)}", line
        if len(self.steps) != len(later.steps):
            return f"calls {len(later.steps)} operators where it called {len(self.steps)}", None
        return None


def leaves(value: Any) -> Iterator[Any]:
    """What is in nested mappings, lists and tuples."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inside in value:
            yield from leaves(inside)
    else:
        yield value


def _is_tensor(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _in_words(told: Any) -> str:
    if isinstance(told, str):
        return told
    origin, shape, *_ = told
    return f"{origin if isinstance(origin, str) else f'memory {origin:#x}'} {shape}"
