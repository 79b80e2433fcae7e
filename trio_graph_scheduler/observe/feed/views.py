"""Views: what observers may see of tasks, types and groups, as plain values of bounded size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import islice
from reprlib import Repr
from typing import Any, Protocol

from trio_graph_scheduler.graph import Task, TaskGraph, TaskState, Trial, TypeStatistics
from trio_graph_scheduler.graph.arguments import Arguments

from .messages import Detail, GroupView, TaskView, TrialView, TypeView
from .rates import Rates
from .safe_text import text_of, traceback_of, type_name

MOST_PREDECESSORS = 100
"""As many predecessors as a `TaskView` lists."""
MOST_TYPES = 200
"""As many types as a view by type lists; the rest are summed up."""
LONGEST_NAME = 200
"""Characters of names and the like in the views of tasks, which there are many of."""
LONGEST_TEXT = 10_000
"""Characters of each text in a `Detail`."""
MOST_ITEMS = 100
"""Trials, notes, and lines of the log in a `Detail`."""

Redact = Callable[[Task[Any], str, str], str]
"""`(task, field, text) -> text`: what may be shown of a text, such as an argument or a message."""

logger = logging.getLogger(__name__)


class Log(Protocol):
    """What keeps the log of tasks, such as `TaskLog`."""

    def lines(self, task: Task[Any]) -> Iterable[str]:
        """Return the last lines of a task."""


class Views:
    """What may be seen of one graph; `Feed` says what the options are."""

    def __init__(
        self, graph: TaskGraph, *, show_values: bool, redact: Redact | None, log: Log | None
    ) -> None:
        self.graph = graph
        self._show_values = show_values
        self._redact = redact
        self._log = log
        self._failed = False
        self._rates = Rates()
        self._repr = Repr()
        self._repr.maxstring = self._repr.maxother = self._repr.maxlong = 1000
        self._repr.maxlist = self._repr.maxtuple = self._repr.maxdict = self._repr.maxset = 50

    # One task -----------------------------------------------------------------------------------------------

    def task(self, task: Task[Any]) -> TaskView:
        """Return how a task stands."""
        first = [one.uid for one in islice(task.iter_predecessors(), MOST_PREDECESSORS + 1)]
        notes = task.notes
        error = task.error
        return TaskView(
            task.uid,
            self._short(task, "name", task.name),
            self._cut(task.type.name),
            self._cut(task.group.name),
            task.state.value,
            task.parent.uid or None,
            tuple(first[:MOST_PREDECESSORS]),
            len(first) > MOST_PREDECESSORS,
            task.trial_number,
            task.began_at,
            task.ended_at,
            None if task.worker is None else str(task.worker),
            task.progress_made,
            self._short(task, "note", notes[-1]) if notes else None,
            None if task.reason is None else self._short(task, "reason", task.reason),
            None if error is None else self._cut(type_name(error)),
        )

    def detail(self, task: Task[Any], time: float) -> Detail:
        """Return all that may be shown of a task."""
        succeeded = task.state is TaskState.SUCCEEDED
        log = () if self._log is None else tuple(self._log.lines(task))[-MOST_ITEMS:]
        return Detail(
            time=time,
            task=self.task(task),
            why=self._text(task, "why", self.graph.why(task)),
            arguments=self._value(task, "arguments", _arguments(task)),
            result=self._value(task, "result", task.result_nowait()) if succeeded else None,
            error=None if task.error is None else self._text(task, "error", traceback_of(task.error)),
            trials=tuple(self._trial(task, trial) for trial in task.trials[-MOST_ITEMS:]),
            notes=tuple(self._text(task, "note", note) for note in task.notes[-MOST_ITEMS:]),
            log=tuple(self._text(task, "log", line) for line in log),
        )

    def _trial(self, task: Task[Any], trial: Trial) -> TrialView:
        worker = None if trial.worker is None else self._cut(trial.worker)
        outcome: str | None
        if trial.error is not None:
            outcome = self._text(task, "error", f"{type_name(trial.error)}: {text_of(trial.error)}")
        elif trial.state is TaskState.SUCCEEDED:
            outcome = self._value(task, "result", trial.outcome)
        else:
            outcome = None if trial.outcome is None else self._text(task, "reason", text_of(trial.outcome))
        state = trial.state.value
        return TrialView(trial.number, state, trial.ready, trial.start, trial.end, worker, outcome)

    # Texts --------------------------------------------------------------------------------------------------

    def _value(self, task: Task[Any], field: str, value: object) -> str | None:
        """Return a value of the program in words, if such may be shown at all."""
        if not self._show_values:
            return None
        try:
            return self._text(task, field, self._repr.repr(value))
        except Exception:  # noqa: BLE001 - whatever a stranger's repr raises
            return f"<{type(value).__name__}>"

    def _short(self, task: Task[Any], field: str, text: str) -> str:
        return self._cut(self._redacted(task, field, text))

    def _text(self, task: Task[Any], field: str, text: str) -> str:
        return self._cut(self._redacted(task, field, text), LONGEST_TEXT)

    def _redacted(self, task: Task[Any], field: str, text: str) -> str:
        if self._redact is None:
            return text
        try:
            return str(self._redact(task, field, text))
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception("The hook that redacts what observers see has raised; they see nothing")
            return "<not shown>"

    @staticmethod
    def _cut(text: str, most: int = LONGEST_NAME) -> str:
        return text if len(text) <= most else text[: most - 1] + "…"

    # All of them --------------------------------------------------------------------------------------------

    def groups(self) -> tuple[GroupView, ...]:
        """Return how the groups stand."""
        return tuple(
            GroupView(self._cut(name), group.limit, group.running, group.suspended, group.ready, group.paused)
            for name, group in self.graph.groups.items()
        )

    def types(self, wanted: Callable[[str, str], bool]) -> tuple[TypeView, ...]:
        """Return how the types stand that are wanted by name and group, the most frequent ones first."""
        everyone = self.graph.statistics().types
        self._rates.look(everyone, self.graph.time())
        kinds = [kind for kind in everyone if wanted(kind.name, kind.group)]
        kinds.sort(key=lambda kind: -kind.total)
        shown, rest = kinds[:MOST_TYPES], kinds[MOST_TYPES:]
        views = [self._type(kind.name, kind.group, [kind]) for kind in shown]
        return (*views, self._type(None, None, rest)) if rest else tuple(views)

    def _type(self, name: str | None, group: str | None, kinds: list[TypeStatistics]) -> TypeView:
        counts = {state.value: sum(kind.states[state] for kind in kinds) for state in TaskState}
        succeeded = counts["SUCCEEDED"]
        return TypeView(
            name and self._cut(name),
            group and self._cut(group),
            {state: count for state, count in counts.items() if count},
            sum(self._rates.of(kind) for kind in kinds),
            sum(kind.seconds for kind in kinds) / succeeded if succeeded else None,
        )


def _arguments(task: Task[Any]) -> object:
    """Return the arguments of a task as they are shown."""
    arguments = task.arguments
    if isinstance(arguments, Arguments):
        return (*arguments.args, arguments.kwargs) if arguments.kwargs else arguments.args
    return arguments if isinstance(arguments, tuple) else arguments.compute
