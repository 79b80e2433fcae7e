"""Log records that know the task they come from, ways to write them, and the last lines of each task.

    handler = logging.StreamHandler()
    handler.setFormatter(TreeFormatter())
    log = TaskLog()
    logging.basicConfig(level=logging.INFO, handlers=[handler, log])

Which task a record comes from says its context: it is right also in threads and child nurseries of a body.
The names in a record are what they are, and may hold anything; whoever writes them escapes them.
"""

from __future__ import annotations

import copy
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from itertools import count
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Literal
from weakref import WeakKeyDictionary

from trio_graph_scheduler.graph import BadType, BadValue, Task, TaskGraph, UnknownTask
from trio_graph_scheduler.graph.errors import shown, shown_value
from trio_graph_scheduler.graph.task import CURRENT_TASK
from trio_graph_scheduler.graph.values import is_whole

from .safe_text import plain, printable, text_of, traceback_of, type_name
from .sections import Section

LONGEST_PATH = 20
"""As many names as `task_path` has. Of longer paths it has the last ones, and "…" in front."""
OUTSIDE: dict[str, Any] = dict.fromkeys(("graph", "task_uid", "task_name", "task_path", "trial", "worker"))
"""The task fields of a record that was made outside of all tasks."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
"""The attributes that `logging` itself gives records; further ones came by `extra=`."""
INDENT = "  "
ENCODER = json.JSONEncoder(default=shown_value, allow_nan=False)

Lines = deque[tuple[int, str]]
NO_LINES: Mapping[int, Lines] = MappingProxyType({})


def task_fields() -> dict[str, Any]:
    """Return the task fields for a record that is made here and now: of the task whose body this is.

    - `graph`: the name of its graph; `task_uid`, `task_name`: its own.
    - `task_path`: a tuple of names, from the task that was added from outside of all down to this one (see
      `LONGEST_PATH`).
    - `trial`: the number of the trial; `worker`: the name of the worker loop, such as `"http-3"`.

    Outside of all tasks each of them is None. Never raises.
    """
    task = CURRENT_TASK.get()
    if task is None:
        return OUTSIDE.copy()
    return {
        "graph": task.graph.name,
        "task_uid": task.uid,
        "task_name": task.name,
        "task_path": _path_of(task),
        "trial": task.trial_number,
        "worker": None if task.worker is None else text_of(task.worker),
    }


def _path_of(task: Task[Any]) -> tuple[str, ...]:
    names: list[str] = []
    while task.parent is not None:
        if len(names) == LONGEST_PATH:
            names.append("…")
            break
        names.append(task.name)
        task = task.parent
    return tuple(reversed(names))


def _complete(record: logging.LogRecord) -> None:
    """Give a record the task fields that it has not got.

    What it has stays: it is from `extra=`, or was added before the record passed a queue to another thread.
    """
    for name, value in task_fields().items():
        vars(record).setdefault(name, value)


class TaskContext(logging.Filter):
    """Add the task fields to each record, as attributes; see `task_fields`. Drops none.

        handler.addFilter(TaskContext())
        handler.setFormatter(logging.Formatter("%(task_name)s: %(message)s"))

    Add it to handlers, not to loggers: a logger's filters do not see the records of its children. A
    `QueueHandler` needs it, for behind the queue the context is another one. The formatters of this module
    and `TaskLog` add the fields by themselves.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields that the record has not got, and return True."""
        _complete(record)
        return True


def add_task_fields(
    _logger: object, _method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the task fields to an event of structlog, but for those it has; see `task_fields`.

    structlog.configure(processors=[add_task_fields, structlog.processors.JSONRenderer()])
    """
    for name, value in task_fields().items():
        event_dict.setdefault(name, value)
    return event_dict


# Ways to write a record -------------------------------------------------------------------------------------


def _message_of(record: logging.LogRecord) -> str:
    """Return the message, or what it was to be made of if that raises."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - its arguments do not fit, or raise themselves
        return f"{text_of(record.msg)} {shown_value(record.args)}"


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _traceback_of(record: logging.LogRecord) -> str | None:
    """Return the traceback in a record, or what is left of it in one that has come from elsewhere."""
    error = _error_of(record)
    return record.exc_text if error is None else traceback_of(error)


def _lines_of(record: logging.LogRecord) -> list[str]:
    """Return the message, the traceback and the stack in a record, in lines that are safe to show."""
    lines = _message_of(record).splitlines() or [""]
    for text in (_traceback_of(record), record.stack_info):
        lines += (text or "").splitlines()
    return [printable(line) for line in lines]


class LineFormatter(logging.Formatter):
    """Write records for people: a line each, and below it, indented, further lines and tracebacks.

    Takes what `logging.Formatter` takes; the format must be of one line, and may use the task fields. What
    a terminal would act on is escaped, in whatever part of a record it is.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        validate: bool = True,  # noqa: FBT001, FBT002 - the signature of logging.Formatter, which dictConfig uses
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        if fmt is None:
            fmt, style = "%(asctime)s %(levelname)-8s %(message)s", "%"
        super().__init__(fmt, datefmt or "%H:%M:%S", style, validate, defaults=defaults)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record. The record gets the task fields, and is else left as it is."""
        _complete(record)
        indent, lead = self.lead(record)
        first, *rest = _lines_of(record)
        message = f"{indent}{lead}{first}"
        # Changes to a record are seen by all handlers, and what is set here is meant for this formatter only.
        copied = copy.copy(record)
        copied.message = message
        if self.usesTime():
            copied.asctime = self.formatTime(record, self.datefmt)
        line = printable(self.formatMessage(copied))
        margin = " " * (len(line) - len(message)) + indent + INDENT
        return "\n".join([line, *(margin + more for more in rest)])

    def lead(self, record: logging.LogRecord) -> tuple[str, str]:  # noqa: ARG002 - for those who inherit
        """Return by what the message is indented, and what stands between that and the message."""
        return "", ""


class TreeFormatter(LineFormatter):
    """Write records for people as `LineFormatter` does, indented by how deep their tasks are in the tree.

        12:00:00 INFO     task 1 'crawl': found 2 links
        12:00:01 WARNING    task 3 'fetch' (trial 2): still no answer

    In front of the message stands the title of the task; outside of tasks, the name of the logger.
    """

    def lead(self, record: logging.LogRecord) -> tuple[str, str]:
        """Return the indentation for the depth of the task, and its title."""
        fields = vars(record)
        uid, trial, path = fields["task_uid"], fields["trial"], fields["task_path"]
        if uid is None:
            return "", f"{printable(record.name)}: "
        again = f" (trial {trial})" if isinstance(trial, int) and trial > 1 else ""
        depth = len(path) - 1 if isinstance(path, tuple | list) else 0
        return INDENT * depth, f"task {printable(text_of(uid))} {shown(fields['task_name'])}{again}: "


class JSONFormatter(logging.Formatter):
    """Write records for machines: one JSON object a line, in ASCII, always with the same keys.

    - `time` (ISO 8601, UTC), `level`, `logger`, `message`.
    - The task fields; see `task_fields`.
    - `exception`: null, or an object with `type`, `message` and `traceback`; `stack`: null or a string.
    - `extra`: an object of what was given by `extra=`. What JSON cannot express, such as NaN, a circular list
      or an object, is there as its repr, cut if long.

    Strings come out as they are, lone surrogates included: as escapes. Never raises for what is in a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. The record gets the task fields, and is else left as it is."""
        _complete(record)
        fields = vars(record)
        known: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message_of(record),
            **{name: fields[name] for name in OUTSIDE},
            "exception": _exception_in(record),
            "stack": record.stack_info,
        }
        extra = {
            text_of(name): _encoded(value)
            for name, value in fields.items()
            if name not in STANDARD and name not in OUTSIDE
        }
        return _object({name: _encoded(value) for name, value in known.items()} | {"extra": _object(extra)})


def _exception_in(record: logging.LogRecord) -> dict[str, str | None] | None:
    error, text = _error_of(record), _traceback_of(record)
    if error is None:
        return None if text is None else {"type": None, "message": None, "traceback": text}
    return {"type": type_name(error), "message": text_of(error), "traceback": text}


def _object(members: Mapping[str, str]) -> str:
    """Return a JSON object of values that are JSON."""
    return "{" + ", ".join(f"{ENCODER.encode(name)}: {value}" for name, value in members.items()) + "}"


def _encoded(value: object) -> str:
    """Return a value as JSON, or its repr if JSON cannot express it."""
    try:
        return ENCODER.encode(value)
    except Exception:  # noqa: BLE001 - NaN, a circle, too deep, odd keys, code of strangers
        return ENCODER.encode(shown_value(value))


# The last lines of each task --------------------------------------------------------------------------------


class TaskLog(logging.Handler):
    """Keep the last lines of each task, to be read while the graph runs and afterwards.

        log = TaskLog()
        logging.getLogger().addHandler(log)
        ...
        log.lines(task)             # ("12:00:01 INFO     found 2 links", ...)
        log.subtree(task)           # ((task, "12:00:01 INFO     found 2 links"), (child, ...), ...)

    - `lines`: how many lines it keeps of a task; a traceback has many.
    - `tasks`: of how many tasks of a graph; those that have been silent for longest are forgotten.
    - `width`: how many characters of a line.

    Lines are made by its formatter, by default a `LineFormatter`, and escaped as that does. One log may serve
    several graphs; it keeps none of them alive, nor their tasks. Records from outside of tasks are passed
    over. It must not be put behind a queue, where the context is another one. It may be read from any thread.

    Raises `BadValue` for a bound that is not a whole number from 1 on.
    """

    def __init__(
        self, level: int | str = logging.NOTSET, *, lines: int = 100, tasks: int = 2_000, width: int = 500
    ) -> None:
        for name, bound in (("lines", lines), ("tasks", tasks), ("width", width)):
            if not is_whole(bound, 1):
                raise BadValue(f"{name} of a TaskLog", bound, "it must be a whole number from 1 on")
        super().__init__(level)
        self.setFormatter(LineFormatter())
        self._bounds = lines, tasks, width
        self._numbers = count()
        # By uid, as tasks would keep their graph alive; those that wrote last are last. Of each line also the
        # number, which counts over all tasks.
        self._kept: WeakKeyDictionary[TaskGraph, OrderedDict[int, Lines]] = WeakKeyDictionary()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the lines of a record, as lines of the task whose body this is."""
        task = CURRENT_TASK.get()
        if task is None:
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - as every handler does; a formatter may be of strangers
            self.handleError(record)
            return
        most_lines, most_tasks, width = self._bounds
        kept = self._kept.setdefault(task.graph, OrderedDict())
        lines = kept.setdefault(task.uid, deque(maxlen=most_lines))
        kept.move_to_end(task.uid)
        if len(kept) > most_tasks:
            kept.popitem(last=False)
        for line in text.splitlines():
            lines.append((next(self._numbers), plain(line, width)))

    def lines(self, task: Task[Any]) -> tuple[str, ...]:
        """Return the last lines of a task, of all its trials, oldest first. Raises `BadType`."""
        _check(task)
        self.acquire()
        try:
            return tuple(line for _, line in self._kept.get(task.graph, NO_LINES).get(task.uid, ()))
        finally:
            self.release()

    def subtree(self, task: Task[Any]) -> tuple[tuple[Task[Any], str], ...]:
        """Return the last lines of a task and of all that it spawned, each with its task, oldest first.

        Takes time in the number of tasks that it keeps lines of, and of those above them. Raises `BadType`.
        """
        _check(task)
        self.acquire()
        try:
            kept = {uid: tuple(lines) for uid, lines in self._kept.get(task.graph, NO_LINES).items()}
        finally:
            self.release()
        found = [
            (number, member, line) for member in _members(task, kept) for number, line in kept[member.uid]
        ]
        return tuple((member, line) for _, member, line in sorted(found, key=itemgetter(0)))


def _check(task: object) -> None:
    if not isinstance(task, Task):
        raise BadType("what a TaskLog is asked about", task, "it must be a Task")


def _members(top: Task[Any], uids: Mapping[int, object]) -> Iterator[Task[Any]]:
    """Yield those of the tasks of these uids that are the top one or below it."""
    section = Section(top.uid)
    for uid in uids:
        try:
            member = top.graph[uid]
        except UnknownTask:  # it has been removed from the graph meanwhile
            continue
        if member in section:
            yield member
