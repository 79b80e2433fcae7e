"""What else is in an exception beside Cancelled."""

from __future__ import annotations

import trio


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return what of an exception is not Cancelled, out of its group if it is one exception."""
    if isinstance(error, trio.Cancelled):
        return None
    if isinstance(error, Exception) or not isinstance(error, BaseExceptionGroup):
        return error
    rest = error.split(trio.Cancelled)[1]
    return rest.exceptions[0] if rest is not None and len(rest.exceptions) == 1 else rest
