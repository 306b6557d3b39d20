"""tools/audit.py: the exit statuses that docs/building.md lists, with pip-audit itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-audit" / "bin" / "python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make audit makes .venv-audit")


class Service(BaseHTTPRequestHandler):
    """Knows one vulnerability, of pillow, whatever its version, in OSV's format."""

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package = query["package"]
        one = {"id": "TEST-1", "summary": "Text.", "affected": [{"package": package}]}
        found = {"vulns": [one]} if package["name"] == "pillow" else {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def service():
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def run(url, *names):
    command = [PYTHON, ROOT / "tools" / "audit.py"]
    command += [ROOT / "requirements" / f"{name}.txt" for name in names]
    environment = {**os.environ, "PIP_AUDIT_OSV_URL": url}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_findings_are_printed_and_fail(service):
    result = run(service, "lock", "detectron2")
    assert result.returncode == 1, result.stderr
    assert "lock.txt: Found 1 known vulnerability in 1 package" in result.stdout
    assert "detectron2.txt: No known vulnerabilities found" in result.stdout
    assert "TEST-1" in next(x for x in result.stdout.splitlines() if x.startswith("pillow "))


def test_nothing_found(service):
    result = run(service, "uv")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("uv.txt: No known vulnerabilities found\n")


def test_a_service_out_of_reach_is_not_a_clean_result():
    # No server listens on port 9 (discard).
    result = run("http://127.0.0.1:9/v1/query", "uv", "audit")
    assert (result.returncode, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1
    assert "uv.txt was not audited: " in result.stderr
    assert "docs/building.md" in result.stderr


def test_make_audits_all_lock_files():
    command = ["make", "--dry-run", "--always-make", "audit"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    audited = re.findall(r"requirements/\S+", printed[printed.index("tools/audit.py") :])
    files = (f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt"))
    assert sorted(audited) == sorted(set(files) - {"requirements/constraints.txt"})
