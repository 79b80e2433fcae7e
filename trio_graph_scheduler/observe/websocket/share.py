"""The share of the time that observers may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Share:
    """Keeps what is done for others to a share of the time of trio's loop.

        await share.turn()
        with share.spending():
            text = encode(message)

    Whoever does something takes a turn before it. The next turn comes when so much time has passed that what
    was spent is no more than the share of it. So a flood of requests is answered slowly, and all else in the
    program goes on at its pace. Those who wait at the same time get their turns together: in a queue each of
    them would wait for a turn of trio's scheduler, which takes long where much is going on.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._free_at = 0.0

    async def turn(self) -> None:
        """Wait until something may be done; always checkpoint."""
        await trio.sleep_until(self._free_at)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count the time that the block takes, which must not wait for anything."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spend(time.perf_counter() - began)

    def spend(self, seconds: float) -> None:
        """Count so much time."""
        self._free_at = max(self._free_at, trio.current_time()) + seconds * (1 / self._share - 1)
