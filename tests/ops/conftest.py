from __future__ import annotations

import pytest
import torch


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


@pytest.fixture(
    params=[torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)
def memory_format(request) -> torch.memory_format:
    return request.param
