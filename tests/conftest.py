"""Fixtures: every scenario of execution runs at several group sizes and in several orders of trio tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support import SEEDS, SIZES
from tests.support import run as run_seeded


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed{seed}")
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run an async function on trio with a mock clock, under each of a few scheduler seeds."""
    return partial(run_seeded, seed=request.param)


@pytest.fixture(params=SIZES, ids=lambda size: f"size{size}")
def size(request: pytest.FixtureRequest) -> int:
    """Give the limit of the default group."""
    limit: int = request.param
    return limit
