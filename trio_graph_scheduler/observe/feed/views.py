"""Views: what observers may see of tasks, types and groups, as plain values of bounded size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from reprlib import Repr
from typing import Any, Protocol

from trio_graph_scheduler.graph import Task, TaskGraph, TaskState, Trial, TypeStatistics
from trio_graph_scheduler.graph.arguments import Arguments
from trio_graph_scheduler.observe.pace import Paces, Tally
from trio_graph_scheduler.observe.safe_text import cut, text_of, traceback_of, type_name

from .messages import Detail, GroupView, TaskView, TrialView, TypeView

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
        self._paces = Paces(graph)
        self._repr = _Repr()

    # One task -----------------------------------------------------------------------------------------------

    def task(self, task: Task[Any]) -> TaskView:
        """Return how a task stands."""
        first = [one.uid for one in islice(task.iter_predecessors(), MOST_PREDECESSORS + 1)]
        note = task.last_note
        error = task.error
        reason = task.reason if task.state.ended else None  # until then it is only what it means to end as
        return TaskView(
            task.uid,
            self._short(task, "name", task.name),
            short(task.type.name),
            short(task.group.name),
            task.state.value,
            task.parent.uid or None,
            tuple(first[:MOST_PREDECESSORS]),
            len(first) > MOST_PREDECESSORS,
            task.trial_number,
            task.began_at,
            task.ended_at,
            None if task.worker is None else short(str(task.worker)),
            task.progress_made,
            None if note is None else self._short(task, "note", note),
            None if reason is None else self._short(task, "reason", text_of(reason)),
            None if error is None else short(type_name(error)),
        )

    def detail(self, task: Task[Any], time: float) -> Detail:
        """Return all that may be shown of a task."""
        succeeded = task.state is TaskState.SUCCEEDED
        log = () if self._log is None else tuple(self._log.lines(task))[-MOST_ITEMS:]
        return Detail(
            time=time,
            task=self.task(task),
            why=self._text(task, "why", self.graph.why(task)),
            arguments=self._value(task, "arguments", partial(_arguments, task)),
            result=self._value(task, "result", task.result_nowait) if succeeded else None,
            error=None if task.error is None else self._text(task, "error", traceback_of(task.error)),
            trials=tuple(self._trial(task, trial) for trial in task.trials[-MOST_ITEMS:]),
            notes=tuple(self._text(task, "note", note) for note in task.notes[-MOST_ITEMS:]),
            log=tuple(self._text(task, "log", line) for line in log),
        )

    def _trial(self, task: Task[Any], trial: Trial) -> TrialView:
        worker = None if trial.worker is None else short(trial.worker)
        outcome: str | None
        if trial.error is not None:
            outcome = self._text(task, "error", f"{type_name(trial.error)}: {text_of(trial.error)}")
        elif trial.state is TaskState.SUCCEEDED:
            outcome = self._value(task, "result", lambda: trial.outcome)
        else:
            outcome = None if trial.outcome is None else self._text(task, "reason", text_of(trial.outcome))
        state = trial.state.value
        return TrialView(trial.number, state, trial.ready, trial.start, trial.end, worker, outcome)

    # Texts --------------------------------------------------------------------------------------------------

    def _value(self, task: Task[Any], field: str, get: Callable[[], object]) -> str | None:
        """Return a value of the program in words, if such may be shown at all."""
        if not self._show_values:
            return None
        try:
            shown = self._repr.repr(get())
        except Exception as error:  # noqa: BLE001 - of a stranger's repr, or of the store of results
            shown = f"<not shown: {type_name(error)}>"
        return self._text(task, field, shown)

    def _short(self, task: Task[Any], field: str, text: str) -> str:
        return short(self._redacted(task, field, text))

    def _text(self, task: Task[Any], field: str, text: str) -> str:
        return cut(self._redacted(task, field, text), LONGEST_TEXT)

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

    # All of them --------------------------------------------------------------------------------------------

    def groups(self) -> tuple[GroupView, ...]:
        """Return how the groups stand."""
        return tuple(
            GroupView(short(name), group.limit, group.running, group.suspended, group.ready, group.paused)
            for name, group in self.graph.groups.items()
        )

    def types(self, wanted: Callable[[str, str], bool]) -> tuple[TypeView, ...]:
        """Return how the types stand that are wanted by name and group, the most frequent ones first."""
        kinds = [kind for kind in self.graph.type_statistics() if wanted(kind.name, kind.group)]
        kinds.sort(key=lambda kind: -kind.total)
        shown, rest = kinds[:MOST_TYPES], kinds[MOST_TYPES:]
        views = [self._type(kind.name, kind.group, [kind]) for kind in shown]
        return (*views, self._type(None, None, rest)) if rest else tuple(views)

    def _rate(self, kind: TypeStatistics) -> float:
        pace = self._paces.look((kind.name, kind.group), self.graph.time(), Tally.of(kind))
        return pace.rate or 0.0 if pace is not None else 0.0

    def _type(self, name: str | None, group: str | None, kinds: list[TypeStatistics]) -> TypeView:
        counts = {state.value: sum(kind.states[state] for kind in kinds) for state in TaskState}
        succeeded = counts["SUCCEEDED"]
        return TypeView(
            name and short(name),
            group and short(group),
            {state: count for state, count in counts.items() if count},
            sum(self._rate(kind) for kind in kinds),
            sum(kind.seconds for kind in kinds) / succeeded if succeeded else None,
        )


def short(name: str) -> str:
    """Return a name as views have it."""
    return cut(name, LONGEST_NAME)


class _Repr(Repr):
    """A repr that takes bounded time for built-in values, however large and deep they are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = 1000
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 30
        self.maxarray = self.maxdeque = 30

    # These go only as far as is shown, where those of `Repr` write or sort all of it first.

    def repr_bytes(self, value: bytes, level: int) -> str:
        return self.repr_str(value, level)  # type: ignore[arg-type]  # it can be cut as a string is

    repr_bytearray = repr_bytes

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        return super().repr_dict(dict(islice(value.items(), self.maxdict + 1)), level)

    def repr_set(self, value: set[Any], level: int) -> str:
        return super().repr_set(set(islice(value, self.maxset + 1)), level)

    def repr_frozenset(self, value: frozenset[Any], level: int) -> str:
        return super().repr_frozenset(frozenset(islice(value, self.maxfrozenset + 1)), level)


def _arguments(task: Task[Any]) -> object:
    """Return the arguments of a task as they are shown."""
    arguments = task.arguments
    if isinstance(arguments, Arguments):
        return (*arguments.args, arguments.kwargs) if arguments.kwargs else arguments.args
    return arguments if isinstance(arguments, tuple) else arguments.compute
