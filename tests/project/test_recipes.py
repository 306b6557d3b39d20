"""docs/recipes: scripts that parse, and torchrun lines that torchrun takes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"
SLURM = RECIPES / "slurm.sh"
KUBERNETES = RECIPES / "kubernetes.yaml"


def torchrun(text):
    """Options of the torchrun command in a shell script, its first."""
    command = re.search(r"torchrun ((?:.*\\\n)*.*)", text)[1].replace("\\\n", " ")
    words = shlex.split(command.rstrip(" &"))
    # Numbers that Slurm fills in.
    return get_args_parser().parse_args([re.sub(r"^\$\w+$", "2", word) for word in words])


def documents():
    return {document["kind"]: document for document in yaml.safe_load_all(KUBERNETES.read_text())}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(path):
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_slurm():
    text = SLURM.read_text()
    args = torchrun(text)
    assert args.training_script == "tools/train_net.py"
    assert "--resume" in args.training_script_args
    assert args.max_restarts == 3
    # What Slurm sends has to be what torchrun hands on.
    sent = re.search(r"^#SBATCH --signal=(\w+)@\d+$", text, re.MULTILINE)[1]
    assert f"SIG{sent}" in args.signals_to_handle.split(",")
    assert "SIGTERM" in args.signals_to_handle.split(",")


def test_kubernetes():
    service, job = documents()["Service"], documents()["Job"]
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    script = container["args"][0]
    subprocess.run(["bash", "-n", "-c", script], check=True)
    args = torchrun(script)
    assert int(args.nnodes) == spec["completions"] == spec["parallelism"]
    assert int(args.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    # The first pod's name: job, index, and the service that gives names.
    host = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert args.rdzv_endpoint.split(":")[0] == host
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    # torchrun waits 30 seconds for its processes.
    assert pod["terminationGracePeriodSeconds"] > 30
