"""The installed version, which pyproject.toml has set."""

import importlib.metadata

try:
    __version__ = importlib.metadata.version("softpool_det")
except importlib.metadata.PackageNotFoundError:
    __version__ = "not installed"
