"""The hosts' own libraries are in an environment of their own: `make test-hosts`."""

import os
import tempfile
from importlib.util import find_spec

# Elsewhere there is nothing to collect.
if any(find_spec(host) is None for host in ("mayaku", "timm", "transformers", "ultralytics")):
    collect_ignore_glob = ["test_*.py"]

# Nothing is looked for in the network, and Ultralytics' settings do not go to the home folder.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": tempfile.mkdtemp(prefix="ultralytics"),
        "YOLO_OFFLINE": "true",
    }
)
