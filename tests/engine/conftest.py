import os
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of few megabytes, or a test that cannot be run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=%d", "tmpfs", str(folder)]

    def make(mebibytes, *options):
        command = [part.replace("%d", f"{mebibytes}m") for part in mount]
        if options:
            command[4] += "," + ",".join(options)
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
            pytest.skip("mounting a small disk needs root")
        return folder

    yield make
    subprocess.run(["umount", "--lazy", str(folder)], check=False, stderr=subprocess.DEVNULL)
