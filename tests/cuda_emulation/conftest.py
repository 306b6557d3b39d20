from __future__ import annotations

import emulated
import pytest


@pytest.fixture(scope="session", autouse=True)
def library():
    if emulated.can_build():
        emulated.load()
