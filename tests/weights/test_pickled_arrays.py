"""Pickles of arrays that only NumPy should have written."""

import contextlib
import pickle
import random

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct

from softpool_det.engine.checkpoint import SafeCheckpointer
from softpool_det.weights.pickled_arrays import load_arrays
from softpool_det.weights.pickles import check_origin

CONTENT = {
    "model": {
        "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float16),
        "scalar": np.float64(0.5),
        "bytes": np.array([b"ab", b"c"]),
        "no dimension": np.array(3),
    },
    "__author__": "me",
    "list": [1, (2.5, None)],
}


def equal(left, right):
    if isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in right)
    if isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return left == right


@pytest.fixture
def write(tmp_path):
    def write(content, protocol=2):
        path = tmp_path / "model.pkl"
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_come_back(protocol, write):
    assert equal(load_arrays(write(CONTENT, protocol)), CONTENT)


class Called:
    """Pickled as the call of `function`, and then the state."""

    def __init__(self, function, *args, state=None):
        self.value = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.value


def array(dtype, data, shape=(1,)):
    state = (1, shape, dtype, False, data)
    return Called(_reconstruct, np.ndarray, (0,), b"b", state=state)


def state(**changes):
    parts = {"order": "|", "names": None, "fields": None, "size": -1, "alignment": -1, "flags": 0}
    parts |= changes
    order, names, fields, *rest = parts.values()
    return (3, order, None, names, fields, *rest)


# Without references, so it says: its bytes would be pointers.
POINTERS = Called(np.dtype, "O8", False, True, state=state())
HOSTILE = {
    "pointers": array(POINTERS, b"\x41" * 8),
    "text": array(np.dtype("U2"), b"\xff" * 8),
    "objects": array(Called(np.dtype, "O"), b"\x41" * 8),
    "fields": array(Called(np.dtype, "f8,O"), b"\x41" * 16),
    "void": array(Called(np.dtype, "V8"), b"\x41" * 8),
    "fields of the state": array(
        Called(np.dtype, "f8", False, True, state=state(names=("a",), fields={})), b"\x41" * 8
    ),
    "flags": array(Called(np.dtype, "f8", False, True, state=state(flags=63)), b"\x41" * 8),
    "size of the state": array(
        Called(np.dtype, "f8", False, True, state=state(size=2**30)), b"\x41" * 8
    ),
    "fewer bytes": array(np.dtype("f8"), b"\x41" * 8, (2,)),
    "negative": array(np.dtype("f8"), b"\x41" * 8, (-1,)),
    "unset memory": Called(np.ndarray, (99,)),
    "no content": Called(_reconstruct, np.ndarray, (0,), b"b"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_else_comes(name, write):
    with pytest.raises(pickle.UnpicklingError):
        load_arrays(write({"model": {}, "__author__": HOSTILE[name]}))


def test_changed_bytes_are_values_or_an_error(write):
    """NumPy's own reader ends the process with some of them."""
    whole, draw = pickle.dumps(CONTENT, 2), random.Random(0)
    for _ in range(100):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 2, 4])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        with contextlib.suppress(pickle.UnpicklingError):
            repr(load_arrays(write(bytes(changed[: draw.choice([None, draw.randrange(900)])]))))


@pytest.mark.parametrize("name", ["w#.pkl", "d;x.pkl", "w.pkl#x", "w.PKL", "w.pkl?x=1", "x?y.pkl"])
def test_other_names_of_pickles(name):
    for path in (name, f"https://localhost/{name}"):
        with pytest.raises(PermissionError, match="is a pickle from outside"):
            check_origin(path)


def test_checkpointer_takes_none_by_another_name(write, tmp_path):
    path = write(CONTENT).rename(tmp_path / "w#.pkl")
    with pytest.raises(PermissionError, match="is a pickle from outside"):
        SafeCheckpointer(None).load(str(path))
