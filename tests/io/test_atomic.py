"""Temporary folders of processes that were killed, and of those that were not."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from softpool_det.io.atomic import partial_folder, replacing, replacing_within

# Ends as a killed process does: between the new name and the temporary folder's removal.
KILLED = """
import os, signal, sys
from pathlib import Path
from softpool_det.io.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("whole")
    os.replace(temporary, sys.argv[1])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def partial(folder):
    return sorted(path.name for path in folder.glob(".partial-*"))


def test_next_file_removes_what_a_killed_process_left(tmp_path):
    """Whatever the name: a training that goes on does not write the same checkpoint again."""
    path = tmp_path / "model_0000007.pth"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_text() == "whole"
    assert len(partial(tmp_path)) == 1
    with replacing(tmp_path / "model_0000009.pth") as temporary:
        temporary.write_text("next")
    assert partial(tmp_path) == []


@pytest.mark.parametrize("host", ["another-machine", "machine"])
def test_folders_of_others_stay(tmp_path, host, monkeypatch):
    """Of a process that runs, and of another machine, whose processes cannot be seen."""
    monkeypatch.setattr("socket.gethostname", lambda: "machine")
    with partial_folder(tmp_path / "a-b.json"):
        mine = partial(tmp_path)
        process = os.getpid() if host == "machine" else 2**22 + 1
        other = tmp_path / f".partial-result-1.json@{host}@{process}@x1y2_z3a"
        other.mkdir()
        with partial_folder(tmp_path / "c.json"):
            assert {*mine, other.name} < set(partial(tmp_path))
    assert partial(tmp_path) == [other.name]


def test_files_of_a_folder_are_replaced_one_by_one(tmp_path):
    folder = tmp_path / "new"
    with replacing_within(folder) as temporary:
        (temporary / "a").write_text("1")
        (temporary / "b").write_text("1")
        assert not folder.exists()
    with contextlib.suppress(KeyboardInterrupt), replacing_within(folder) as temporary:
        (temporary / "a").write_text("half")
        raise KeyboardInterrupt
    with replacing_within(folder) as temporary:
        (temporary / "b").write_text("2")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "1", "b": "2"}
    assert partial(tmp_path) == []


def test_an_error_names_the_file_not_its_temporary_folder():
    path = Path("/proc/name")  # where nobody can write, not even root
    with pytest.raises(FileNotFoundError) as error, partial_folder(path):
        pass
    assert error.value.filename == str(path)
