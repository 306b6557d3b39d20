from __future__ import annotations

import pytest
import torch
from cases import DIMS, GRADIENTS


@pytest.fixture(
    scope="session",
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
            ],
        ),
    ],
)
def device(request) -> str:
    return request.param


@pytest.fixture(params=[False, True], ids=["contiguous", "channels_last"])
def channels_last(request) -> bool:
    return request.param


@pytest.fixture(params=DIMS, ids=["1d", "2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(params=GRADIENTS)
def gradient(request) -> str:
    return request.param


@pytest.fixture
def fresh_compiler():
    """Without the graphs of other tests, which count towards the limit on recompilations."""
    torch.compiler.reset()
