"""Pickles that hold numbers, read without running what is in them.

A pickle is a program: it may call whatever it can name. Here it can name NumPy's arrays, dtypes and scalars
alone, and even those are stand-ins. NumPy's own `__setstate__` takes any state for true, and with a forged
one an array of numbers becomes one of pointers; the stand-ins take arrays of plain numbers and build them by
NumPy's checked constructor.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from seqeval.errors import UserError


class NotPlain(UserError):
    """A pickle names something that is neither a number's type nor an array."""


def load(path: Path) -> Any:
    """What a pickle holds; its arrays are `Array`. Raises NotPlain where it names anything else than arrays,
    and UserError where it is no whole pickle."""
    with path.open("rb") as file:
        try:
            return _Unpickler(file).load()
        except NotPlain as error:
            raise NotPlain(f"{path}: {error}") from error
        except Exception as error:  # unpickling is documented to raise anything for data that is damaged
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{path}: not a readable pickle ({reason})") from error


class Array:
    """Stands for a NumPy array. `values` holds the numbers: read-only, and None for a scalar."""

    values: np.ndarray | None = None

    def __init__(self, *_: Any) -> None:
        """Takes the arguments of NumPy's `_reconstruct`, which say nothing, and of `scalar`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, content = state
        self.values = _array(content, dtype, shape, "F" if by_columns else "C")


class _Buffered(Array):
    """Stands for an array as protocol 5 writes it."""

    def __init__(self, content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.values = _array(content, dtype, shape, order)


class _Dtype:
    """Stands for a dtype: the kind, size and byte order of a number. Raises NotPlain for any other."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "fiub":
            raise NotPlain(f"holds an array of dtype {code!r}; only arrays of numbers are read")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _array(content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.ndarray(shape, dtype.dtype, content, order=order)


STAND_INS = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Dtype,
    **{  # NumPy 2 and NumPy 1
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("_core", "core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", Array),
            ("multiarray", "scalar", Array),
            ("numeric", "_frombuffer", _Buffered),
        )
    },
}


class _Unpickler(pickle._Unpickler):
    """The one written in Python. That in C fills as much memory as the numbers in a damaged file ask for, and
    so does this one for a bytearray: it reads one as bytes, which are written in the same way."""

    dispatch = pickle._Unpickler.dispatch | {
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]]
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            what = f"{module}.{name}"
            raise NotPlain(
                f"holds {what!r}, and a pickle of more than NumPy arrays in lists and dicts runs code when "
                "it is loaded; if you trust whoever made it, add --trust-pickle"
            )
        return STAND_INS[module, name]
