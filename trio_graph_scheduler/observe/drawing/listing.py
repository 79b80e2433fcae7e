"""What a graph consists of and how it stands, as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trio_graph_scheduler.graph import Condition, Task, TaskGraph, TaskState

from .picture import few, members, uses_of
from .summary import Input, summary

VERSION = 1
"""Of the shape of the JSON. It rises when something in it changes its meaning, not when more is added."""


def to_json(graph: TaskGraph, *, section: Task[Any] | None = None, most: float = math.inf) -> str:
    """Return the tasks, what each waits for, and how they stand, as JSON.

    All objects have `version` (1), `graph` (its name), `section` (a uid or null), `total`, `states` (state ->
    count), and `runs`: when each began and ended, as `[seconds, seconds or null]` on trio's clock. Times of
    different runs cannot be compared.

    Up to `most` tasks, by default all, are listed one by one:

    - `tasks`: objects with `uid`, `name`, `type`, `group`, `state`, `parent` (the uid of who added it, or
      null), `waits_for` (uids of tasks that must succeed, and ids of conditions) and `trials`, which have
      `number`, `state`, `ready`, `start` and `end` (seconds on trio's clock; `end` may be null) and `worker`.
    - `conditions`: objects with `id` (such as `"c0"`), `verb` (what is asked of tasks: `"succeeded"`,
      `"failed"`, `"done"`, `"skipped"` or `"settled"`), `of` (uids, and ids of conditions, which are to
      hold), `needed` (of how many of these) and `holds` (true, false: it no longer can, or null: open).

    More are counted by type:

    - `types`: objects with `name`, `group`, `states`, and `types`: 1, or how many rare types were counted
      together, without a name and a group.
    - `links`: objects with `first` and `then` (indices of types), `tasks` (how many of `then`), `spawned`
      (true: tasks of `first` added them; false: they wait for some of `first`) and `verb` (what they ask of
      these: `""` is success).

    Arguments, results, errors and reasons are not in it. What of a name is no Unicode becomes `?`. The
    options are those of all drawings; raises as `to_dot` does.
    """
    tasks = members(graph, section)
    listed = _one_by_one(tasks) if few(tasks, most) else _by_type(tasks)
    head = {
        "version": VERSION,
        "graph": _text(graph.name),
        "section": None if section is None else section.uid,
        "total": len(tasks),
        "states": _counts(Counter(task.state for task in tasks)),
        "runs": graph.runs,
    }
    return json.dumps({**head, **listed}, ensure_ascii=False)


def _one_by_one(tasks: list[Task[Any]]) -> dict[str, object]:
    ids = {condition: f"c{number}" for number, condition in enumerate(uses_of(tasks))}

    def references(items: Mapping[Input, None] | tuple[Input, ...]) -> list[int | str]:
        return [ids[item] if isinstance(item, Condition) else item.uid for item in items]

    return {
        "tasks": [
            {
                "uid": task.uid,
                "name": _text(task.name),
                "type": _text(task.type.name),
                "group": _text(task.group.name),
                "state": str(task.state),
                "parent": None if task.parent is task.graph.root else task.parent.uid,
                "waits_for": references(task.inputs),
                "trials": [
                    {
                        "number": trial.number,
                        "state": str(trial.state),
                        "ready": trial.ready,
                        "start": trial.start,
                        "end": trial.end,
                        "worker": None if trial.worker is None else _text(trial.worker),
                    }
                    for trial in task.trials
                ],
            }
            for task in tasks
        ],
        "conditions": [
            {
                "id": key,
                "verb": condition.verb.name,
                "of": references(condition.operands),
                "needed": condition.needed,
                "holds": condition.holds,
            }
            for condition, key in ids.items()
        ],
    }


def _by_type(tasks: list[Task[Any]]) -> dict[str, object]:
    total = summary(tasks)
    return {
        "types": [
            {
                "name": None if kind.name is None else _text(kind.name),
                "group": None if kind.group is None else _text(kind.group),
                "types": kind.types,
                "states": _counts(kind.states),
            }
            for kind in total.kinds
        ],
        "links": [
            {
                "first": link.first,
                "then": link.then,
                "tasks": link.tasks,
                "spawned": link.spawned,
                "verb": link.verb,
            }
            for link in total.links
        ],
    }


def _counts(states: Mapping[TaskState, int]) -> dict[str, int]:
    return {str(state): states[state] for state in TaskState}


def _text(name: str) -> str:
    """Return a name that every reader of JSON takes: some stumble over lone surrogates, even escaped ones."""
    return name.encode(errors="replace").decode()
