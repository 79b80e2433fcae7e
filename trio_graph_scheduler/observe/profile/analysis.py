"""What determined when a run ended, and when places were free: the calculations behind a `Profile`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import attrs

from trio_graph_scheduler.graph.errors import shown

from .causes import SAME, Attempt, Cause
from .history import History

HELD_BACK = "though tasks were READY: a rate, keys, named limits or a pause held them back, or trio was busy"
NO_MORE = "no more tasks came"


@attrs.frozen(eq=False)
class Link:
    """A trial of the critical path: what came before it, and until when it mattered."""

    attempt: Attempt
    delay: float
    until: float


def critical_path(history: History) -> list[Link]:
    """Return the chain of trials that ended last, in order.

    From the trial that ended last it goes back to what made that READY, and so on. Before the first trial of
    a run comes the last one of the run before.
    """
    last_of_run: dict[int, Attempt] = {}
    for attempt in history.attempts:
        last = last_of_run.get(attempt.run)
        if last is None or attempt.end >= last.end:
            last_of_run[attempt.run] = attempt
    run_before = {run: before for before, run in pairwise(sorted(last_of_run))}
    links: list[Link] = []
    current = last_of_run[max(last_of_run)] if last_of_run else None
    until = 0.0 if current is None else current.end
    seen = set()
    while current is not None and current not in seen:
        seen.add(current)
        earlier = current.due_to
        came = history.runs[current.run].began
        if earlier is not None:
            came = current.ready if current.cause is Cause.SPAWNED else earlier.end
        elif current.ready <= came + SAME and current.run in run_before:
            earlier = last_of_run[run_before[current.run]]
            came = earlier.end
        links.append(Link(current, max(0.0, current.ready - came), until))
        current, until = earlier, came
    links.reverse()
    return links


@attrs.frozen(eq=False)
class Stretch:
    """A time in which nothing happened in a group.

    `ready` and `executing` tell how many of its tasks were so, and `coming` which one is READY next in the
    same run.
    """

    begin: float
    end: float
    ready: int
    executing: int
    coming: Attempt | None


def idle_places(history: History, attempts: list[Attempt], limit: int) -> dict[str, float]:
    """Return why the places of a group were free, and for how many place-seconds.

    While no task is READY they are free because of what makes the next one READY.
    """
    reasons: dict[str, float] = defaultdict(float)
    for stretch in stretches(history, attempts):
        free = max(0, limit - stretch.executing) * (stretch.end - stretch.begin)
        if free:
            reasons[HELD_BACK if stretch.ready else _reason(stretch.coming)] += free
    return reasons


def stretches(history: History, attempts: list[Attempt]) -> Iterator[Stretch]:
    """Yield the times between two events of these trials, in order."""
    by_ready = sorted(attempts, key=lambda attempt: attempt.ready)
    events = [(attempt.ready, 1, 0) for attempt in attempts]
    events += [(attempt.start, -1, 1) for attempt in attempts]
    events += [(attempt.end, 0, -1) for attempt in attempts]
    events += [(run.ended, 0, 0) for run in history.runs]
    events.sort()
    now = 0.0
    ready = executing = run = coming = 0
    for when, more_ready, more_executing in events:
        if when > now:
            while history.runs[run].ended <= now:
                run += 1
            while coming < len(by_ready) and by_ready[coming].ready <= now:
                coming += 1
            comes = coming < len(by_ready) and by_ready[coming].run == run
            yield Stretch(now, when, ready, executing, by_ready[coming] if comes else None)
            now = when
        ready += more_ready
        executing += more_executing


def _reason(coming: Attempt | None) -> str:
    """Return in words what a group's places were free for, until this trial was READY."""
    if coming is None:
        return NO_MORE
    name = None if coming.due_to is None else shown(coming.due_to.task.type.name)
    return {
        Cause.PREDECESSOR: f"until one of {name} had ended",
        Cause.SPAWNED: f"until one of {name} added tasks",
        Cause.RETRY: "until it was time for another trial",
        Cause.OUTSIDE: "until tasks were added from outside",
    }[coming.cause]
