#!/usr/bin/env python3
"""Look for known vulnerabilities of locked packages: pip-audit with OSV's advisories.

`make audit` runs it in .venv-audit. Without --database it asks OSV's service over the network. With
it, it reads a dump of the advisories and needs none: a zip of one JSON file each, as OSV publishes.

Exit status: 0 nothing known, 1 vulnerabilities, 2 wrong arguments or a dump that cannot be read,
3 nothing was audited, because the service cannot be reached.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

DUMP = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
ECOSYSTEM = "PyPI"
FOUND, UNUSABLE, UNREACHABLE = 1, 2, 3
WITHOUT_NETWORK = f"without network: AUDIT_DB=all.zip, a copy of {DUMP}"


def read_database(path: Path) -> dict[str, list[dict]]:
    """OSV advisories by the canonical names of the packages that they are about.

    Args:
        path: a zip of JSON files, one advisory each.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: no such file, no zip, or no advisories in it.
    """
    found: dict[str, list[dict]] = defaultdict(list)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if entry.endswith(".json"):
                advisory = json.loads(archive.read(entry))
                packages = [a.get("package", {}) for a in advisory.get("affected", ())]
                names = {p["name"] for p in packages if p.get("ecosystem") == ECOSYSTEM}
                for name in {canonicalize_name(name) for name in names}:
                    found[name].append(advisory)
    if not found:
        raise ValueError(f"no advisory about a package of {ECOSYSTEM} in it")
    return dict(found)


def is_affected(advisory: dict, name: str, version: str) -> bool:
    """Whether an OSV advisory is about this version, by its list of versions or its ranges.

    Args:
        advisory: in OSV's schema; its git ranges are not looked at.
        name: canonical name of the package.
        version: a PEP 440 version.
    """
    for affected in advisory.get("affected", ()):
        package = affected.get("package", {})
        if package.get("ecosystem") != ECOSYSTEM or canonicalize_name(package["name"]) != name:
            continue
        if any(_is_same(listed, version) for listed in affected.get("versions", ())):
            return True
        ranges = [r for r in affected.get("ranges", ()) if r["type"] == "ECOSYSTEM"]
        if any(_is_inside(r["events"], Version(version)) for r in ranges):
            return True
    return False


def _is_same(listed: str, version: str) -> bool:
    try:
        return Version(listed) == Version(version)
    except InvalidVersion:
        # Of before PEP 440. Lock files have none such.
        return False


def _is_inside(events: list[dict], version: Version) -> bool:
    inside = False
    steps = [(Version(at), kind) for event in events for kind, at in event.items()]
    for at, kind in sorted(steps):
        if kind == "introduced" and at <= version:
            inside = True
        elif (kind == "fixed" and at <= version) or (kind == "last_affected" and at < version):
            inside = False
    return inside


@contextlib.contextmanager
def serving(database: dict[str, list[dict]]) -> Iterator[str]:
    """Answer as OSV's /v1/query does, on a free local port, out of a database; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = query["package"]["name"], query["version"]
            found = [a for a in database.get(name, ()) if is_affected(a, name, version)]
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()


def audit(requirements: list[Path], url: str | None) -> int:
    """Run pip-audit on each file and print what it finds; gives the exit status.

    Args:
        requirements: with a hash for each package.
        url: of OSV's query or of something that answers like it; None for pip-audit's own.
    """
    status = 0
    for path in requirements:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table"
            command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv"]
            command += ["--osv-url", url] if url else []
            command += ["--disable-pip", "--require-hashes", "--progress-spinner", "off"]
            command += ["--output", str(table), "--requirement", str(path)]
            result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            lines = result.stderr.strip().splitlines() or ["no reason given"]
            # Findings end pip-audit with the same status as a failure, but only they leave a table.
            if result.returncode and not table.exists():
                reason = f"error: nothing was audited: {lines[-1]}; {WITHOUT_NETWORK}"
                print(reason, file=sys.stderr)
                return UNREACHABLE
            print(f"{path}: {lines[-1]}")
            if result.returncode:
                print(table.read_text())
                status = FOUND
    return status


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("requirements", nargs="+", type=Path)
    parser.add_argument("--database", type=Path, metavar="ZIP", help=f"copy of {DUMP}")
    parser.add_argument("--service-url", metavar="URL", help="in place of OSV's own query")
    args = parser.parse_args()
    if not args.database:
        return audit(args.requirements, args.service_url)
    try:
        database = read_database(args.database)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        print(f"error: {args.database}: {error}; {WITHOUT_NETWORK}", file=sys.stderr)
        return UNUSABLE
    print(f"{args.database}: advisories about {len(database):,} packages")
    with serving(database) as url:
        return audit(args.requirements, url)


if __name__ == "__main__":
    sys.exit(main())
