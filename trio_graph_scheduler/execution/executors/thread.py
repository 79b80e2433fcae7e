"""Bodies that are plain functions, in worker threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trio_graph_scheduler.execution.cancelled import without_cancelled
from trio_graph_scheduler.graph.task import Task


async def run_in_thread(task: Task[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call the function in a thread and return its value.

    A cancellation waits for the thread, which notices it through `trio.from_thread.check_cancelled()`. With
    `abandon_after` of the type it waits that many seconds and then leaves the thread to itself; the run
    reports such tasks. Always checkpoints."""

    def call() -> tuple[Any]:
        # In a tuple, for trio would refuse a coroutine with a message that cannot name the task.
        return (function(*args),)

    run = task.execution.run
    grace = task.type.abandon_after
    if grace is None:
        return (await trio.to_thread.run_sync(call, limiter=run.thread_limiter))[0]
    value, error = (None,), None
    try:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as patience:
                nursery.start_soon(_lose_patience, patience, grace)
                try:
                    value = await trio.to_thread.run_sync(
                        call, limiter=run.thread_limiter, abandon_on_cancel=True
                    )
                except Exception as raised:  # noqa: BLE001 - the body's own error, not to be grouped with a Cancelled
                    error = raised
            if patience.cancelled_caught:
                run.abandoned.append(task)
            nursery.cancel_scope.cancel()
    except BaseException as raised:
        if error is None or without_cancelled(raised) is not None:
            raise
    if error is not None:
        raise error
    return value[0]


async def _lose_patience(patience: trio.CancelScope, grace: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        patience.deadline = trio.current_time() + grace
