"""Arrays in several parts, some of them files mapped into memory, from which rows are gathered."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def tensor_of(values: np.ndarray) -> Tensor:
    """A view of an array on the CPU; of a mapped file too, whose pages are then read when they are needed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


class RowParts:
    """Rows of equal shape and type that are numbered through, from one part to the next.

    On the CPU parts are not joined, so that neither datasets nor mapped files are copied. With `on_host` they
    stay in the host's memory, and the rows that are gathered go to the device.
    """

    def __init__(self, parts: Sequence[Tensor], device: torch.device, on_host: bool = False) -> None:
        self.device, self.on_host = device, on_host
        if device.type != "cpu" and not on_host:
            whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]), device=device)
            first = 0
            for part in parts:
                whole[first : (first := first + len(part))] = part
            parts = [whole]
        self.parts = list(parts)
        self._starts = [sum(map(len, parts[:place])) for place in range(len(parts))]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of some numbers (n,) on the device: (n, ...)."""
        if self.on_host:
            return self._gather(rows.cpu()).to(self.device)
        return self._gather(rows)

    def _gather(self, rows: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self.parts[0].index_select(0, rows)
        found = self.parts[0].new_empty((len(rows), *self.parts[0].shape[1:]))
        places = torch.bucketize(rows, torch.tensor(self._starts[1:], dtype=rows.dtype), right=True)
        for place, part in enumerate(self.parts):
            chosen = (places == place).nonzero().squeeze(-1)
            if len(chosen):
                found[chosen] = part.index_select(0, rows[chosen] - self._starts[place])
        return found

    def write(self, first: int, values: Tensor) -> None:
        """Writes rows of one part from number `first` on."""
        part, own = self._part(first)
        part[own : own + len(values)] = values

    def read(self, first: int, last: int) -> Tensor:
        """A copy of the rows of one part from number `first` to `last` - 1."""
        part, own = self._part(first)
        return part[own : own + last - first].clone()

    def _part(self, number: int) -> tuple[Tensor, int]:
        """The part of a row, and the row's number in it."""
        place = bisect_right(self._starts, number) - 1
        return self.parts[place], number - self._starts[place]
