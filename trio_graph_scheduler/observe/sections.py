"""Sections: a task together with all that it spawned."""

from __future__ import annotations

from typing import Any

from trio_graph_scheduler.graph import Task


class Section:
    """The task of a uid and all that it spawned, as they are now: `task in section`.

    What it has found out it keeps, so that each task is climbed from once, however deep they are. It is for
    the tasks of one graph, and to be made anew when its own task has been removed.
    """

    def __init__(self, uid: int) -> None:
        # uid -> whether that is in it. The root of a graph, which spawned all, has 0.
        self._known = {0: False, uid: True}

    def __len__(self) -> int:
        """Return of how many tasks it is known whether they are in it."""
        return len(self._known)

    def __contains__(self, task: Task[Any]) -> bool:
        climbed = []
        node = task
        while node.uid not in self._known:
            climbed.append(node.uid)
            node = node.parent
        self._known.update(dict.fromkeys(climbed, self._known[node.uid]))
        return self._known[task.uid]
