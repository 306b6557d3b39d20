"""docs/quickstart.ipynb, run as Jupyter would: Python, and lines of the shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "quickstart.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert len(cells) == 15
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_runs(root, tmp_path):
    """In a process of its own: `!` lines have its variables in braces, as in IPython."""
    program = tmp_path / "notebook.py"
    program.write_text(
        "import subprocess\n"
        + "\n".join(
            f"subprocess.run(f{cell[1:]!r}, shell=True, check=True)" if cell[0] == "!" else cell
            for cell in code_cells()
        )
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DETECTRON2_DATASETS": str(root),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(program)]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "faults: 0" in result.stdout
    assert "AP: " in result.stdout
    assert "detections by onnxruntime" in result.stdout
