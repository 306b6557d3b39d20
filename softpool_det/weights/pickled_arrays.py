"""Pickles of NumPy arrays and plain values, read by this code and not by NumPy's.

NumPy's own types trust a pickle: a dtype whose flags say that it holds no references makes of bytes
pointers to Python objects. Python's readers trust it, too: nine bytes can ask for gigabytes.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# bool, integers, floating and complex numbers, bytes: any content is a value.
_KINDS = "biufcS"
_MODULES = ("core", "_core")  # before NumPy 2 and since
_MAX_DIMENSIONS = 64  # NumPy's own limit
# What protocols 0 to 5 need for arrays and plain values: no objects, sets or buffers. Keys of
# dicts are checked before they are hashed.
_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT GLOBAL STACK_GLOBAL
"""


def load_arrays(path: Path) -> Any:
    """Read a pickle of NumPy arrays and plain values.

    Takes no more memory than a fixed multiple of the file's size, whatever the file claims.

    Raises:
        pickle.UnpicklingError: the file needs anything else, of which nothing has run; or it is
            damaged.
    """
    try:
        return _arrays(_Unpickler(path.read_bytes()).load(), {})
    except (pickle.UnpicklingError, OSError):
        raise
    except Exception as error:  # whatever bytes lead to
        raise pickle.UnpicklingError(f"it is damaged ({error!r:.200})") from error


class _Dispatch(dict):
    def __missing__(self, opcode: int) -> Any:
        raise pickle.UnpicklingError(
            f"it has the opcode {bytes([opcode])!r}, which arrays and plain values do not need"
        )


# The reader in Python: the one in C makes its memo as large as the largest index in the file.
class _Unpickler(pickle._Unpickler):
    stack: list[Any]
    append: Any
    pop_mark: Any
    read: Any

    def __init__(self, content: bytes) -> None:
        stream = io.BytesIO(content)

        def read(size: int) -> bytes:
            data = stream.read(size)
            if len(data) < size:
                raise EOFError(f"{size} bytes were expected, {len(data)} are left")
            return data

        file: Any = SimpleNamespace(read=read, readline=stream.readline)
        super().__init__(file, encoding="latin1")
        # For what calls make, in bytes and entries. In protocol 2 bytes come from text, and arrays
        # from these bytes, so it is twice the file.
        self._room = 2 * len(content)

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(
                f"the checkpoint calls {module:.60}.{name:.60}; a .pkl of weights holds NumPy "
                "arrays and plain values only. Load it where you trust it, and save its state dict "
                "with torch.save as .pth"
            )
        return known

    def load_bytearray8(self) -> None:
        # pickle's own makes room before it reads.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_dict(zip(items[::2], items[1::2], strict=True)))

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._top(dict).update(_dict(zip(items[::2], items[1::2], strict=True)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict).update(_dict([(key, value)]))

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        value = function(*arguments)
        self._count(value)
        self.append(value)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self._top(_Dtype, _Array, dict)
        if type(target) is not dict:  # attributes of a state dict do not matter
            target.__setstate__(state)
            self._count(target)

    def _top(self, *kinds: type) -> Any:
        if type(self.stack[-1]) not in kinds:
            raise pickle.UnpicklingError("it gives content to a value that cannot have it")
        return self.stack[-1]

    def _count(self, value: Any) -> None:
        """Bound what calls make: a small file can make the same large value many times."""
        made = value.array if isinstance(value, _Array) else value
        if isinstance(made, np.ndarray | np.generic):
            self._room -= made.nbytes
        elif isinstance(made, bytes | dict):
            self._room -= len(made)
        if self._room < 0:
            raise pickle.UnpicklingError("it unpacks to more than it has")

    dispatch = _Dispatch(
        {
            opcode: pickle._Unpickler.dispatch[opcode]
            for opcode in (getattr(pickle, name)[0] for name in _OPCODES.split())
        }
        | {
            pickle.BYTEARRAY8[0]: load_bytearray8,
            pickle.DICT[0]: load_dict,
            pickle.SETITEMS[0]: load_setitems,
            pickle.SETITEM[0]: load_setitem,
            pickle.REDUCE[0]: load_reduce,
            pickle.BUILD[0]: load_build,
        }
    )


class _Dtype:
    """Stands in for `numpy.dtype`."""

    def __init__(self, text: object, align: object = False, copy: object = False) -> None:
        if not re.fullmatch(r"[<>|=]?[A-Za-z?]\d{0,6}", _text(text)):
            raise pickle.UnpicklingError(f"the dtype {text!r:.60} does not hold plain values")
        self.dtype = np.dtype(_text(text))
        if self.dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"the dtype {text!r:.60} does not hold plain values")

    def __setstate__(self, state: tuple) -> None:
        version, order, *rest = state
        symbol: Any = _text(order)
        dtype = self.dtype.newbyteorder(symbol)
        sizes = {-1, dtype.itemsize}, {-1, dtype.alignment}, {dtype.flags, 0}
        if (
            type(version) is not int
            or version != 3
            or len(rest) != 6
            or any(part is not None for part in rest[:3])
            or any(type(value) is not int for value in rest[3:])
            or any(value not in allowed for value, allowed in zip(rest[3:], sizes, strict=True))
        ):
            raise pickle.UnpicklingError(
                f"the dtype {dtype} has the state {reprlib.repr(state):.90}"
            )
        self.dtype = dtype


class _Array:
    """In the place of an array that `numpy.ndarray.__setstate__` would fill."""

    def __init__(self, kind: object, shape: object, typecode: object) -> None:
        if kind is not _NDARRAY:
            raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if is_fortran else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array without dtype or shape")
    if not isinstance(data, str | bytes | bytearray):  # bytes() of a number is as many zeros
        raise pickle.UnpicklingError(f"an array of {reprlib.repr(data):.90}")
    content = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise pickle.UnpicklingError(f"an array of the shape {reprlib.repr(shape):.90}")
    if len(content) != math.prod(shape) * dtype.dtype.itemsize:
        raise pickle.UnpicklingError(f"{len(content)} bytes for an array of the shape {shape}")
    array = np.frombuffer(content, dtype.dtype) if content else np.zeros(0, dtype.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, dtype, (1,), "C")[0]


def _encode(text: object, encoding: object) -> bytes:
    """How protocol 2 spells bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"text in the encoding {reprlib.repr(encoding):.90}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 spells none of them."""
    return b""


def _text(value: object) -> str:
    if not isinstance(value, str | bytes):
        raise pickle.UnpicklingError(f"{reprlib.repr(value):.90} instead of text")
    return value.decode("latin1") if isinstance(value, bytes) else value


def _dict(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    """Build a dict of plain keys: hashing tuples of tuples can take arbitrarily long."""
    found = {}
    for key, value in pairs:
        if not isinstance(key, str | bytes | int | float | None):
            raise pickle.UnpicklingError(f"a dict has the key {reprlib.repr(key):.90}")
        found[key] = value
    return found


_NDARRAY = object()  # not callable: an array made by its class alone is unset memory
_KNOWN: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in _MODULES},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in _MODULES},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_bytes for core in _MODULES},
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _dict,
}


def _arrays(value: Any, done: dict[int, Any]) -> Any:
    """Replace placeholders by their arrays; each shared value is converted once."""
    if isinstance(value, _Array):
        if value.array is None:
            raise pickle.UnpicklingError("an array without content")
        return value.array
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: _arrays(part, done) for key, part in value.items()}
        elif isinstance(value, list | tuple):
            done[id(value)] = type(value)(_arrays(part, done) for part in value)
        else:
            return value
    return done[id(value)]
