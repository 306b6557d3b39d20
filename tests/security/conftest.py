"""Files of an attacker's, each with a harmless payload: it would make a file, the marker."""

import runpy
import struct
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def marker(tmp_path):
    """The path that a payload would make; at the end of every test it is not there."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the payload ran"


@pytest.fixture
def refusal(monkeypatch):
    """Runs a program of tools/ in this process and gives the error with which it ends.

    A new process would take seconds to import what the program needs.
    """

    def run(program, *arguments):
        path = str(ROOT / "tools" / program)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        with pytest.raises((SystemExit, OSError, ValueError)) as error:
            runpy.run_path(path, run_name="__main__")
        return str(error.value)

    return run


@pytest.fixture
def forged_png():
    """Writes a PNG of 100 bytes whose header claims any size."""

    def write(path, width, height):
        def chunk(kind, data):
            crc = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + crc

        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
        return path

    return write
