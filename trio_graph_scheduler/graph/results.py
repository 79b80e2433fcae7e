"""Where the results of tasks are kept."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ResultStore(Protocol):
    """Keeps the value of each task that succeeded, by uid.

    A plain `dict` is the store in memory, and the default. Another store is handed over as
    `TaskGraph(results=store)`; a value that it refuses (its `__setitem__` raises) fails the task, with that
    error, before any dependent has started.
    """

    def __setitem__(self, uid: int, value: object, /) -> None: ...

    def __getitem__(self, uid: int, /) -> object: ...
