"""Read pickles of numbers without running code.

A pickle is a program that may call anything it can name. This reader lets it name only NumPy's arrays,
dtypes and scalars, and replaces even those by stand-ins: NumPy's own `__setstate__` does not validate its
input, and a forged state can turn an array of numbers into one of pointers. The stand-ins accept only
arrays of plain numbers and build them with NumPy's checked constructor.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqeval.errors import UserError, one_line


class UnsafePickleError(UserError):
    """A pickle names something other than arrays of numbers."""


def load(path: Path) -> Any:
    """The content of a pickle; its arrays are of type `Array`.

    Raises UnsafePickleError if it names anything other than arrays of numbers, and UserError if it is not a
    complete pickle.
    """
    with path.open("rb") as file:
        try:
            return _Unpickler(file).load()
        except UnsafePickleError as error:
            raise UnsafePickleError(f"{path}: {error}") from error
        except Exception as error:  # unpickling damaged data is documented to raise anything
            raise UserError(f"{path}: not a readable pickle ({one_line(error)})") from error


class Array:
    """Stands for a NumPy array. `values` holds the numbers, read-only; None for a scalar."""

    values: np.ndarray | None = None

    def __init__(self, *_: Any) -> None:
        """Accepts and ignores the arguments of NumPy's `_reconstruct` and `scalar`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.values = _array(content, dtype, shape, "F" if is_fortran else "C")


class _Buffered(Array):
    """Stands for an array written with pickle protocol 5."""

    def __init__(self, content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.values = _array(content, dtype, shape, order)


class _Dtype:
    """Stands for a dtype of numbers. Raises UnsafePickleError for any other dtype."""

    def __init__(self, code: str, *_: Any) -> None:
        if type(code) is not str:
            raise ValueError("a dtype without a name")
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "fiub":
            raise UnsafePickleError(f"holds an array of dtype {code!r}; only arrays of numbers are supported")

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


HASHING = {  # opcodes that hash: where their keys are on the stack
    pickle.SETITEM: slice(-2, -1),
    pickle.SETITEMS: slice(None, None, 2),
    pickle.DICT: slice(None, None, 2),
    pickle.ADDITEMS: slice(None),
    pickle.FROZENSET: slice(None),
}


def _with_checked_keys(opcode: bytes, keys: slice) -> Callable[[Any], None]:
    """What an opcode does, unless a key is a tuple in a tuple: hashing tuples, each of which holds the one
    before it twice, takes exponential time."""
    load = pickle._Unpickler.dispatch[opcode[0]]

    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[keys]:
            if type(key) is tuple and any(type(item) is tuple for item in key):
                raise ValueError("a key is a tuple of tuples")
        load(unpickler)

    return checked


class _Unpickler(pickle._Unpickler):
    """The unpickler written in Python.

    The one written in C allocates whatever size a damaged file states. So does this one for a bytearray,
    which is therefore read as bytes: both are written in the same way.
    """

    dispatch = (
        pickle._Unpickler.dispatch
        | {pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]]}
        | {opcode[0]: _with_checked_keys(opcode, keys) for opcode, keys in HASHING.items()}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise UnsafePickleError(
                f"holds {f'{module}.{name}'!r:.200}; a pickle of anything but NumPy arrays in lists and "
                "dicts runs code when it is loaded; if you trust its author, add --trust-pickle"
            )
        return STAND_INS[module, name]
