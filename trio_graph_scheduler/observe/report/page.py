"""Reports: what became of a graph, as one HTML file that needs no network: `await write(graph, path)`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from functools import cache
from heapq import nlargest
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import attrs
import trio

from trio_graph_scheduler.graph import Task, TaskGraph, TaskState
from trio_graph_scheduler.graph.errors import title
from trio_graph_scheduler.observe.drawing.picture import MOST_TASKS, Node, picture
from trio_graph_scheduler.observe.palette import COLOURS
from trio_graph_scheduler.observe.profile.causes import Attempt, Cause
from trio_graph_scheduler.observe.profile.history import History, Track, tracks
from trio_graph_scheduler.observe.profile.profiling import Profile, Step, profile_of, seconds
from trio_graph_scheduler.observe.safe_text import plain, text_of

from .layers import layout

MOST_ROWS = 2000
"""As many tasks are in the table."""
MOST_SLICES = 20_000
"""With more trials than about this the timeline shows short ones together."""
MOST_LANES = 100
"""As many worker loops are in the timeline."""
MOST_STEPS = 200
"""As many steps of the critical path are shown."""
LONGEST_NAME = 120
LONGEST_MESSAGE = 300

Data = dict[str, Any]


async def write(graph: TaskGraph, path: str | os.PathLike[str]) -> None:
    """Write a report about a graph to an HTML file, which is overwritten.

        await report.write(graph, "run.html")
        trio.run(report.write, graph, "run.html")       # when the run is over, outside of trio

    It shows the figures, the graph (by type if it is large), a timeline of the worker loops, the `Profile`,
    and a table of tasks, which can be searched and sorted. All is in the one file, which a content security
    policy forbids to load anything or to run any other script. Names, exceptions with their messages, and
    reasons are in it; arguments and results are not. However large the graph, the file has a few megabytes
    at most: it tells then what it leaves out.

    The graph is read at once, so that a report made in the middle of a run is consistent; this takes as
    long as `profile`. The file is written by a thread. Always checkpoints. A cancellation comes before the
    file is touched, or when it is complete. Raises `BadType` for what is no graph, and `OSError`.
    """
    page = html(graph)
    await trio.to_thread.run_sync(_write, page, path)


def html(graph: TaskGraph) -> str:
    """Return the report that `write` writes. Raises `BadType`."""
    style, script = _asset("report.css"), _asset("report.js")
    return Template(_asset("report.html")).substitute(
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_embedded(_data(History(graph))),
    )


def _write(page: str, path: str | os.PathLike[str]) -> None:
    Path(path).write_text(page, encoding="utf-8")


@cache
def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(block: str) -> str:
    """Return what names a block of the page in its content security policy."""
    return base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()


def _embedded(value: Data) -> str:
    """Return JSON that cannot end the element it stands in, or begin another one."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(history: History) -> Data:
    profile = profile_of(history)
    counts = history.graph.statistics().states
    return {
        "name": plain(history.graph.name, LONGEST_NAME),
        "figures": _figures(history, profile),
        "states": {
            str(state): {**attrs.asdict(look), "count": counts[state]} for state, look in COLOURS.items()
        },
        "graph": _graph(history.graph),
        "timeline": _timeline(history, profile),
        "profile": _profile(profile),
        "tasks": _tasks(history),
    }


def _figures(history: History, profile: Profile) -> list[tuple[str, str]]:
    runs = len(history.graph.runs)
    figures = [
        ("tasks", f"{profile.tasks:,}"),
        ("trials", f"{profile.trials:,}"),
        ("duration" if runs == 1 else f"duration of {runs:,} runs", seconds(profile.duration)),
        ("work", seconds(sum(attempt.ran for attempt in history.attempts))),
        ("worker groups", f"{len(profile.groups):,}"),
    ]
    return figures + ([("so far", "still running")] if history.graph.running else [])


# The graph --------------------------------------------------------------------------------------------------


def _graph(graph: TaskGraph) -> Data:
    drawn = picture(graph, None, MOST_TASKS)
    nodes = [*drawn.loose, *(node for section in drawn.sections for node in section.nodes)]
    sizes = {node.key: _size(node) for node in nodes}
    placed = layout(sizes, ((edge.first, edge.then) for edge in drawn.edges))
    boxes = {
        node.key: {
            "x": round(placed.boxes[node.key][0], 1),
            "y": round(placed.boxes[node.key][1], 1),
            "w": sizes[node.key][0],
            "h": sizes[node.key][1],
            "lines": node.lines,
            "state": None if node.state is None else str(node.state),
        }
        for node in nodes
    }
    arrows = [
        {
            "first": edge.first,
            "then": edge.then,
            "points": [(round(x, 1), round(y, 1)) for x, y in placed.arrows[edge.first, edge.then]],
            "lines": edge.lines,
            "spawned": edge.spawned,
        }
        for edge in drawn.edges
    ]
    note = f"{drawn.title}. Arrows lead to what waits; dashed ones to what was added by a running task."
    return {"note": note, "boxes": boxes, "arrows": arrows, "width": placed.width, "height": placed.height}


def _size(node: Node) -> tuple[float, float]:
    return 18 + 7.0 * max(len(line) for line in node.lines), 10 + 14 * len(node.lines)


# The timeline -----------------------------------------------------------------------------------------------


def _timeline(history: History, profile: Profile) -> Data:
    lanes = tracks(history)
    critical = {(step.task, step.trial) for step in profile.critical_path}
    kept = lanes[:MOST_LANES]
    trials = sum(len(lane.attempts) for lane in kept)
    # Trials of a lane that begin within this time are shown as one, if there are too many.
    blur = history.duration * len(kept) / MOST_SLICES if trials > MOST_SLICES else 0.0
    notes = ["What each worker loop ran, and when; underlined: the critical path."]
    if blur:
        notes.append(f"Trials that follow each other within {seconds(blur)} are shown as one.")
    if len(lanes) > len(kept):
        notes.append(f"{len(lanes) - len(kept):,} more worker loops are left out.")
    return {
        "note": " ".join(notes),
        "duration": history.duration,
        "runs": [run.began for run in history.runs],
        "lanes": [
            {"name": plain(lane.name, LONGEST_NAME), "slices": _slices(lane, blur, critical)} for lane in kept
        ],
    }


def _slices(lane: Track, blur: float, critical: set[tuple[Task[Any], int]]) -> list[tuple[object, ...]]:
    """Return the slices of a lane: start, end, state, text, detail, whether it is on the critical path."""
    found: list[list[Attempt]] = []
    for attempt in lane.attempts:
        if found and attempt.end < found[-1][0].start + blur:
            found[-1].append(attempt)
        else:
            found.append([attempt])
    return [_slice(together, critical) for together in found]


def _slice(together: list[Attempt], critical: set[tuple[Task[Any], int]]) -> tuple[object, ...]:
    states = {attempt.state for attempt in together}
    first = together[0]
    text, detail = f"{len(together):,} trials", ""
    if len(together) == 1:
        text = plain(first.task.name, LONGEST_NAME)
        detail = f"task {first.task.uid}, trial {first.number}" + (f", {first.error}" if first.error else "")
    return (
        round(first.start, 6),
        round(together[-1].end, 6),
        str(next(state for state in COLOURS if state in states)),
        text,
        plain(detail, LONGEST_NAME),
        int(any((attempt.task, attempt.number) in critical for attempt in together)),
    )


# The profile ------------------------------------------------------------------------------------------------

CAUSES = {
    Cause.PREDECESSOR: "a predecessor had ended",
    Cause.SPAWNED: "it was added by a task",
    Cause.RETRY: "it was tried again",
    Cause.OUTSIDE: "it was there",
}


def _profile(profile: Profile) -> Data:
    path = profile.critical_path
    longest = nlargest(MOST_STEPS, range(len(path)), key=lambda index: path[index].share)
    return {
        "path": [_step(path[index]) for index in sorted(longest)],
        "left_out": len(path) - len(longest),
        "groups": [
            {
                "name": plain(group.name, LONGEST_NAME),
                "limit": group.limit,
                "share": group.share,
                "idle": group.idle,
                "reasons": group.reasons[:6],
            }
            for group in nlargest(20, profile.groups, key=lambda group: group.idle)
        ],
        "waits": [
            (wait.seconds, title(wait.task), plain(wait.task.group.name, LONGEST_NAME))
            for wait in profile.longest_waits
        ],
        "replay": _replay(profile),
    }


def _step(step: Step) -> tuple[object, ...]:
    name = title(step.task) + (f", trial {step.trial}" if step.trial > 1 else "")
    return step.share, name, CAUSES[step.cause], step.delay, step.waited, step.ran


def _replay(profile: Profile) -> Data:
    if not profile.larger_limits:
        return {"note": "No task has waited for a place: nothing.", "rows": []}
    note = (
        f"By a replay (list scheduling) of the trials as long as they took, which takes"
        f" {seconds(profile.replayed)} with the limits as they are. It knows nothing of rates, keys and named"
        " limits."
    )
    if not profile.reliable:
        return {"note": f"{note} That is too far off the run to tell anything.", "rows": []}
    rows = [
        (plain(larger.group, LONGEST_NAME), larger.limit, larger.duration, larger.gain)
        for larger in profile.larger_limits
    ]
    return {"note": note, "rows": rows}


# The tasks --------------------------------------------------------------------------------------------------


def _tasks(history: History) -> Data:
    tasks: Iterable[Task[Any]] = history.tasks
    note = "All of them."
    if len(history.tasks) > MOST_ROWS:
        tasks = nlargest(MOST_ROWS, history.tasks, key=lambda task: _weight(history, task))
        note = (
            f"{MOST_ROWS:,} of {len(history.tasks):,}: first those that failed, then those that took longest."
        )
    return {"note": note, "rows": [_row(history, task) for task in tasks]}


def _weight(history: History, task: Task[Any]) -> tuple[bool, float]:
    return task.state is TaskState.FAILED, sum(attempt.ran for attempt in history.of.get(task, ()))


def _row(history: History, task: Task[Any]) -> tuple[object, ...]:
    attempts = history.of.get(task, [])
    why = task.reason or ""
    if task.error is not None:
        why = f"{type(task.error).__name__}: {text_of(task.error)}"
    return (
        task.uid,
        plain(task.name, LONGEST_NAME),
        plain(task.type.name, LONGEST_NAME),
        plain(task.group.name, LONGEST_NAME),
        str(task.state),
        len(attempts),
        round(sum(attempt.waited for attempt in attempts), 6) if attempts else None,
        round(attempts[0].start, 6) if attempts else None,
        round(sum(attempt.ran for attempt in attempts), 6) if attempts else None,
        plain(why, LONGEST_MESSAGE),
    )
