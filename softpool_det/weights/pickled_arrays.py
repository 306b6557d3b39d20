"""Pickles of NumPy arrays and plain values, read by this code and not by NumPy's.

NumPy's own types trust a pickle: a dtype whose flags say that it holds no references makes of bytes
pointers to Python objects.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# bool, integers, floating and complex numbers, bytes: any content is a value.
_KINDS = "biufcS"
_MODULES = ("core", "_core")  # before NumPy 2 and since


def load_arrays(path: Path) -> Any:
    """Read a pickle of NumPy arrays and plain values.

    Raises:
        pickle.UnpicklingError: the file needs anything else, of which nothing has run; or it is
            damaged.
    """
    try:
        content = io.BytesIO(path.read_bytes())
        # Without readinto, for which room is made for as many bytes as the pickle says that it has.
        source: Any = SimpleNamespace(read=content.read, readline=content.readline)
        return _arrays(_Unpickler(source, encoding="latin1").load())
    except (pickle.UnpicklingError, OSError):
        raise
    except Exception as error:  # whatever bytes lead to
        raise pickle.UnpicklingError(f"it is damaged ({error!r:.200})") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(
                f"the checkpoint calls {module}.{name}; a .pkl of weights holds NumPy arrays and "
                "plain values only. Load it where you trust it, and save its state dict with "
                "torch.save as .pth"
            )
        return known


class _Dtype:
    """In the place of `numpy.dtype`."""

    def __init__(self, text: str, align: object = False, copy: object = False) -> None:
        if not re.fullmatch(r"[<>|=]?[A-Za-z?]\d{0,6}", _text(text)):
            raise pickle.UnpicklingError(f"the dtype {text!r:.60} is none of plain values")
        self.dtype = np.dtype(_text(text))
        if self.dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"the dtype {text!r:.60} is none of plain values")

    def __setstate__(self, state: tuple) -> None:
        version, order, *rest = state
        symbol: Any = _text(order)
        dtype = self.dtype.newbyteorder(symbol)
        sizes = {-1, dtype.itemsize}, {-1, dtype.alignment}, {dtype.flags, 0}
        whole = [None, None, None]
        if (
            version != 3
            or rest[:3] != whole
            or len(rest) != 6
            or any(value not in allowed for value, allowed in zip(rest[3:], sizes, strict=True))
        ):
            raise pickle.UnpicklingError(f"the dtype {dtype} has the state {state!r:.90}")
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
    content = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if any(type(side) is not int or side < 0 for side in shape):
        raise pickle.UnpicklingError(f"an array of the shape {shape!r:.60}")
    if len(content) != math.prod(shape) * dtype.dtype.itemsize:
        raise pickle.UnpicklingError(f"{len(content)} bytes for an array of the shape {shape}")
    array = np.frombuffer(content, dtype.dtype) if content else np.zeros(0, dtype.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, dtype, (1,), "C")[0]


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in the encoding {encoding!r:.40}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 spells none of them."""
    return b""


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


_NDARRAY = object()  # not callable: an array made by its class alone is unset memory
_KNOWN: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in _MODULES},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in _MODULES},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_bytes for core in _MODULES},
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
}


def _arrays(value: Any) -> Any:
    """With arrays in the place of what stood for them."""
    if isinstance(value, _Array):
        if value.array is None:
            raise pickle.UnpicklingError("an array without content")
        return value.array
    if isinstance(value, dict):
        return {_arrays(key): _arrays(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_arrays, value))
    return value
