"""Pickles of arrays that only NumPy should have written."""

import contextlib
import json
import pickle
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct

from softpool_det.training.checkpointer import SafeCheckpointer
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


def mutated():
    """A file with one changed byte: a reference became the order to remember a value as 2**30."""
    data = bytearray(pickle.dumps(CONTENT, 2))
    place = data.index(b"h", 640)
    data[place] = ord("r")
    assert struct.unpack_from("<I", data, place + 1) == (1064404489,)
    return bytes(data)


def doubled(opcodes, times):
    """A value that holds the one before twice, again and again: 2**times, were they copied."""
    first = b"N\x94"
    steps = (b"(" + b"h" + bytes([i]) + b"h" + bytes([i]) + opcodes + b"\x94" for i in range(times))
    return b"\x80\x04" + first + b"".join(steps)


def large(opcode, size, form="<Q"):
    return b"\x80\x05" + opcode + struct.pack(form, size) + b"."


def call(module, name, *arguments):
    """The opcodes of a call; arguments are opcodes, too."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


SIDE = b"J" + struct.pack("<i", 2**20)
DTYPE = call("numpy", "dtype", b"Vu1\n")
# A megabyte, which ten thousand calls make anew.
MEGABYTE = b"\x80\x04B" + struct.pack("<I", 2**20) + bytes(2**20) + b"\x940" + DTYPE + b"\x940("
ARRAY = call("numpy.core.numeric", "_frombuffer", b"h\0h\1", SIDE + b"\x85", b"VC\n")


def buffer(data, shape):
    return call("numpy.core.numeric", "_frombuffer", data, DTYPE, shape, b"VC\n")


BOMBS = {
    "mutated": mutated(),
    "nine bytes": b"\x80\2Nr\xff\xff\xff\x0f.",
    "largest index": b"\x80\2Nr\xff\xff\xff\xff.",
    "bytearray": large(pickle.BYTEARRAY8, 2**34),
    "bytes": large(pickle.BINBYTES8, 2**34),
    "text": large(pickle.BINUNICODE8, 2**34),
    "number": large(pickle.LONG4, 2**31 - 1, "<i"),
    "frame": large(pickle.FRAME, 2**34),
    "zeros": b"\x80\2" + buffer(large(b"\x8a\5", 2**34)[2:9], b")") + b".",
    "lists": doubled(b"l", 60) + b".",
    "text of lists": doubled(b"l", 60) + b"0" + call("numpy", "dtype", b"h<") + b".",
    "key": doubled(b"t", 60) + b"0}h<Ns.",
    "state": doubled(b"t", 60) + b"0" + DTYPE + b"(K\3" + b"h<" * 7 + b"tb.",
    "arrays": MEGABYTE + ARRAY * 10_000 + b"l.",
    "shape": b"\x80\2" + buffer(b"C\0", b"(" + SIDE * 9 + b"t") + b".",
    "deep": b"\x80\2N" + b"\x85" * 10**5 + b".",
}
# What a file may take: some hundred bytes for each of its own. Modules that are already there are
# not counted.
CHILD = """
import json, pickle, resource, sys
from pathlib import Path
from softpool_det.weights.pickled_arrays import load_arrays
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + 2**28 + 128 * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        load_arrays(path)
        found[path.stem] = "read"
    except pickle.UnpicklingError as error:
        found[path.stem] = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each bomb in a process that may hardly take more memory than it has."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, content in BOMBS.items():
        (folder / f"{name}.pkl").write_bytes(content)
    command = [sys.executable, "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_take_little_memory(name, outcomes):
    assert "MemoryError" not in outcomes[name]
    harmless = ("nine bytes", "largest index", "lists")
    assert (outcomes[name] == "read") == (name in harmless)


def test_opcodes_of_objects_are_refused(write):
    with pytest.raises(pickle.UnpicklingError, match=r"opcode b'\\x81', which arrays .* not need"):
        load_arrays(write(b"\x80\2ccollections\nOrderedDict\n)\x81."))


@pytest.mark.parametrize("name", ["w#.pkl", "d;x.pkl", "w.pkl#x", "w.PKL", "w.pkl?x=1", "x?y.pkl"])
def test_other_names_of_pickles(name):
    for path in (name, f"https://localhost/{name}"):
        with pytest.raises(PermissionError, match="is a pickle from outside"):
            check_origin(path)


def test_checkpointer_takes_none_by_another_name(write, tmp_path):
    path = write(CONTENT).rename(tmp_path / "w#.pkl")
    with pytest.raises(PermissionError, match="is a pickle from outside"):
        SafeCheckpointer(None).load(str(path))
