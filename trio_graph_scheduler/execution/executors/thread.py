"""Bodies that are plain functions, in worker threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trio_graph_scheduler.execution.cancelled import without_cancelled
from trio_graph_scheduler.graph.task import Task


async def run_in_thread(task: Task[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call the function in a thread and return its value; always checkpoint.

    A cancellation waits for the thread, which notices it through `trio.from_thread.check_cancelled()`. With
    `abandon_after` of the type it waits that many seconds and then leaves the thread to itself; the run
    reports such tasks.
    """

    def call() -> tuple[Any]:
        # In a tuple, for trio would refuse a coroutine with a message that cannot name the task.
        return (function(*args),)

    run = task.worker.run
    grace = task.type.abandon_after
    if grace is None:
        return (await trio.to_thread.run_sync(call, limiter=run.thread_limiter))[0]
    value: tuple[Any] = (None,)
    error: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as patience:  # noqa: ASYNC912 - run_sync is a cancel point
                # Outside of the shield, to notice the cancellation; a deadline set too late does nothing.
                nursery.start_soon(_lose_patience, patience, grace)  # noqa: ASYNC111 - see above
                try:
                    value = await trio.to_thread.run_sync(
                        call, limiter=run.thread_limiter, abandon_on_cancel=True
                    )
                except Exception as raised:  # noqa: BLE001 - the body's own error, not to be grouped with a Cancelled
                    error = raised
            if patience.cancelled_caught:
                run.abandoned.append(task)
            nursery.cancel_scope.cancel()
    except BaseException as raised:  # noqa: ASYNC103 - the body's own error goes before a Cancelled
        if error is None or without_cancelled(raised) is not None:
            raise
    if error is not None:
        raise error
    return value[0]  # noqa: ASYNC910 - run_sync has checkpointed


async def _lose_patience(patience: trio.CancelScope, grace: float) -> None:
    """Once cancelled, leave the thread the grace, in seconds."""
    try:
        await trio.sleep_forever()
    finally:
        patience.deadline = trio.current_time() + grace
