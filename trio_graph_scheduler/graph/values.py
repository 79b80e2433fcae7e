"""What numbers may be that are given to a graph."""

from __future__ import annotations

import sys
from typing import TypeGuard


def is_whole(value: object, least: int = 0) -> TypeGuard[int]:
    """Return whether this is a whole number, and not below the least."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_seconds(value: object) -> TypeGuard[float]:
    """Return whether this is a number of seconds: 0 or more, and not beyond what a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max
