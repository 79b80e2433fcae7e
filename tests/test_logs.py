"""Log records that know their tasks, ways to write them, and the last lines of each task."""

from __future__ import annotations

import gc
import json
import logging
import logging.config
import logging.handlers
import math
import queue
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.support import run as run_seeded
from trio_graph_scheduler import (
    BadType,
    BadValue,
    Retry,
    Task,
    TaskGraph,
    TaskType,
    current_graph,
    current_task,
    execute_graph,
    open_graph,
)
from trio_graph_scheduler.graph.task import CURRENT_TASK
from trio_graph_scheduler.observe.logs import (
    LONGEST_PATH,
    JSONFormatter,
    LineFormatter,
    TaskContext,
    TaskLog,
    TreeFormatter,
    add_task_fields,
)

Run = Callable[..., Any]
Logger = logging.Logger
NAMES = ("graph", "task_uid", "task_name", "task_path", "trial", "worker")
PLAIN = "%(levelname)s %(message)s"


class Records(logging.Handler):
    """Keeps all records."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.kept.append(record)

    def of(self, message: str) -> dict[str, Any]:
        """Return the task fields of the one record of this message."""
        (record,) = (record for record in self.kept if record.getMessage() == message)
        return {name: getattr(record, name) for name in NAMES}


@pytest.fixture
def logger() -> Iterator[Logger]:
    """Give a logger whose records go nowhere else."""
    logger = logging.getLogger("test")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture
def records(logger: Logger) -> Records:
    """Collect the records of that logger, with a `TaskContext`."""
    handler = Records()
    handler.addFilter(TaskContext())
    logger.addHandler(handler)
    return handler


def in_task(function: Callable[[], Any], name: str = "work", graph: TaskGraph | None = None) -> Task[Any]:
    """Call a function in the body of a task of this name, and return the task."""

    async def body() -> Any:
        return function()

    graph = graph or TaskGraph()
    task = graph.add(body, name=name)
    trio.run(execute_graph, graph)
    task.result_nowait()
    return task


def written(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return what a formatter writes; it must do nothing to the record but to add the fields."""
    before = vars(record).copy()
    text = formatter.format(record)
    assert {name: vars(record)[name] for name in before} == before
    assert set(vars(record)) == {*before, *NAMES}
    return text


def record_of(
    message: object = "hello", *args: object, error: BaseException | None = None, **more: Any
) -> Any:
    """Return a record."""
    info = None if error is None else (type(error), error, None)
    record = logging.getLogger("shop").makeRecord(
        "shop", logging.INFO, "file.py", 1, message, args, info, extra=more.pop("extra", None)
    )
    vars(record).update(more)
    return record


def raised(error: Exception) -> Exception:
    """Return the exception with a traceback."""
    try:
        raise error
    except type(error):
        return error


# The task fields --------------------------------------------------------------------------------------------


def test_records_know_their_task(run: Run, size: int, logger: Logger, records: Records) -> None:
    """Records made in a body have the fields of its task: at its start, after a wait, in child nurseries, in
    what it spawns, and in each of its trials.
    """

    async def nursed() -> None:
        await trio.sleep(0.5)
        logger.info("in a nursery")

    async def child() -> None:
        await trio.sleep(2)
        logger.info("in the child")

    async def parent() -> None:
        trial = current_task().trial_number
        logger.info("start %d", trial)
        if trial == 1:
            raise ValueError
        current_graph().add(child)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nursed)
            await trio.sleep(1)
        logger.info("end")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size}, name="shop")
        graph.add(TaskType(parent, retry=Retry(2, delay=1)), name="mother")
        await execute_graph(graph)

    run(main)
    mother = {"graph": "shop", "task_uid": 1, "task_name": "mother", "task_path": ("mother",), "trial": 2}
    for message in ("start 2", "in a nursery", "end"):
        found = records.of(message)
        assert found.pop("worker").startswith("default-")
        assert found == mother
    assert records.of("start 1")["trial"] == 1
    found = records.of("in the child")
    assert (found["task_uid"], found["task_path"]) == (2, ("mother", "child"))


def test_records_of_threads(logger: Logger, records: Records) -> None:
    """Records made in a body that runs in a thread, or in a thread that a body starts through trio, have the
    fields of the task.
    """

    def work() -> None:
        logger.info("in the thread")

    async def start() -> None:
        await trio.to_thread.run_sync(logger.info, "through trio")

    async def main() -> None:
        graph = TaskGraph()
        graph.add(work)
        graph.add(start)
        await execute_graph(graph)

    trio.run(main)
    assert records.of("in the thread")["task_name"] == "work"
    assert records.of("through trio")["task_name"] == "start"


def test_records_from_outside(logger: Logger, records: Records) -> None:
    """Records made outside of tasks have the fields too, all of them None, and none is dropped."""

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            graph.add(trio.sleep, 0)
            logger.info("in the block")

    logger.info("before")
    run_seeded(main)
    for message in ("before", "in the block"):
        assert records.of(message) == dict.fromkeys(NAMES)


def test_two_graphs(logger: Logger, records: Records) -> None:
    """A graph that is run in the body of another graph's task has records of its own."""

    async def inner() -> None:
        logger.info("inner")

    async def outer() -> None:
        graph = TaskGraph(name="small")
        graph.add(inner)
        await execute_graph(graph)
        logger.info("outer")

    async def main() -> None:
        graph = TaskGraph(name="large")
        graph.add(outer)
        await execute_graph(graph)

    run_seeded(main)
    assert (records.of("inner")["graph"], records.of("inner")["task_path"]) == ("small", ("inner",))
    assert (records.of("outer")["graph"], records.of("outer")["task_path"]) == ("large", ("outer",))


def test_a_filter_on_a_handler_sees_the_records_of_child_loggers(logger: Logger) -> None:
    """On a handler it completes the records of all loggers below; on a logger it would not."""
    child = logging.getLogger("test.child")
    right, wrong = Records(), Records()
    right.addFilter(TaskContext())
    logger.addHandler(wrong)
    context = TaskContext()
    logger.addFilter(context)
    in_task(partial(child.warning, "hello"))
    logger.removeFilter(context)
    assert not hasattr(wrong.kept[0], "task_uid")
    logger.addHandler(right)
    in_task(partial(child.warning, "hello"))
    assert right.of("hello")["task_name"] == "work"


def test_what_a_record_has_stays(logger: Logger, records: Records) -> None:
    """A field given by `extra=` stays, and the others are added."""
    in_task(partial(logger.info, "hello", extra={"worker": "mine"}))
    assert records.of("hello")["worker"] == "mine"
    assert records.of("hello")["task_uid"] == 1


def test_through_a_queue(logger: Logger) -> None:
    """A queue handler with the filter carries the fields to the thread that writes the records."""
    passing: queue.Queue[Any] = queue.Queue()
    handler = logging.handlers.QueueHandler(passing)
    handler.addFilter(TaskContext())
    logger.addHandler(handler)
    stream = StringIO()
    writer = logging.StreamHandler(stream)
    writer.addFilter(TaskContext())
    writer.setFormatter(TreeFormatter("%(trial)s %(message)s"))
    listener = logging.handlers.QueueListener(passing, writer)
    listener.start()
    in_task(partial(logger.info, "hello"))
    listener.stop()
    assert stream.getvalue() == "1 task 1 'work': hello\n"


def test_deep_paths_are_cut(logger: Logger, records: Records) -> None:
    """Of a long path there are the last names, and a mark that some are missing; one as long as may be is
    whole.
    """

    async def dig(left: int) -> None:
        logger.info("level %d", left)
        if left:
            current_graph().add(dig, left - 1, name=f"level {left - 1}")

    async def main() -> None:
        graph = TaskGraph()
        graph.add(dig, 1_000, name="level 1000")
        await execute_graph(graph)

    run_seeded(main)
    names = tuple(f"level {number}" for number in range(1_000, -1, -1))
    assert records.of("level 0")["task_path"] == ("…", *names[-LONGEST_PATH:])
    assert records.of(f"level {1_001 - LONGEST_PATH}")["task_path"] == names[:LONGEST_PATH]


def test_names_are_raw_and_nothing_raises(logger: Logger, records: Records) -> None:
    """A name is in the record as it is, whatever it is; a worker whose `str` raises is named by its type."""

    class Worker:
        def __str__(self) -> str:
            raise ZeroDivisionError

    name = "a\nb\x1b[31m\ud800" + "x" * 1_000_000
    graph = TaskGraph()
    graph.add(print, name=name)
    task = graph.take("default")
    assert task is not None
    task.worker = Worker()
    token = CURRENT_TASK.set(task)
    try:
        logger.info("hello")
    finally:
        CURRENT_TASK.reset(token)
    assert records.of("hello")["task_name"] == name
    assert records.of("hello")["task_path"] == (name,)
    assert records.of("hello")["worker"] == "<Worker>"


# For people -------------------------------------------------------------------------------------------------


def test_the_tree(logger: Logger) -> None:
    """Lines are indented by the depth of their tasks, with the title of the task and the number of a later
    trial; those from outside bear the name of the logger.
    """
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TreeFormatter(PLAIN))
    logger.addHandler(handler)

    async def fetch(url: str) -> None:
        if current_task().trial_number == 1:
            logger.warning("no answer from %s", url)
            raise ConnectionError
        logger.info("got %s", url)

    fetch_page = TaskType(fetch, retry=Retry(2))

    async def crawl() -> None:
        logger.info("two links\nof three")
        for url in "ab":
            await current_graph().add(fetch_page, url).wait()

    async def main() -> None:
        graph = TaskGraph()
        graph.add(crawl, name="crawl\n\x1b[31m")
        logger.info("go")
        await execute_graph(graph)

    run_seeded(main)
    assert stream.getvalue().splitlines() == [
        "INFO test: go",
        r"INFO task 1 'crawl\n\x1b[31m': two links",
        "       of three",
        "WARNING   task 2 'fetch': no answer from a",
        "INFO   task 2 'fetch' (trial 2): got a",
        "WARNING   task 3 'fetch': no answer from b",
        "INFO   task 3 'fetch' (trial 2): got b",
    ]


def test_tracebacks_stay_below_their_line() -> None:
    """Tracebacks, stacks and further lines are indented below the message, wherever it begins."""
    error = raised(ValueError("two\nlines"))
    fields: dict[str, Any] = {"task_uid": 7, "task_name": "fetch", "task_path": ("a", "b", "c"), "trial": 1}
    record = record_of("failed", error=error, stack_info="Stack:\n  here", **fields)
    first, *rest = written(TreeFormatter("12:00 %(levelname)-8s %(message)s"), record).splitlines()
    assert first == "12:00 INFO         task 7 'fetch': failed"
    assert all(line.startswith(" " * 21) for line in rest)
    texts = [line[21:] for line in rest]
    assert texts[0] == "Traceback (most recent call last):"
    assert texts[-4:] == ["ValueError: two", "lines", "Stack:", "  here"]


def test_the_format_of_the_standard_library(tmp_path: Path) -> None:
    """The formatters can be set up by `logging.config.dictConfig`, with a format and a form of times, and
    without; each style of formats will do.
    """
    path = tmp_path / "log"
    module = "trio_graph_scheduler.observe.logs"
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "tree": {"class": f"{module}.TreeFormatter", "style": "{",
                     "format": "{asctime} {graph} {message}", "datefmt": "at %H"},
            "bare": {"class": f"{module}.TreeFormatter"},
            "json": {"class": f"{module}.JSONFormatter"},
        },
        "filters": {"task": {"()": f"{module}.TaskContext"}},
        "handlers": {
            name: {"class": "logging.FileHandler", "filename": f"{path}.{name}", "formatter": name,
                   "filters": ["task"]}
            for name in ("tree", "bare", "json")
        },
        "loggers": {"test_logs.configured": {"handlers": ["tree", "bare", "json"], "propagate": False}},
    })  # fmt: skip
    logger = logging.getLogger("test_logs.configured")
    in_task(partial(logger.warning, "hello"), graph=TaskGraph(name="shop"))
    for handler in logger.handlers:
        handler.close()
    assert re.fullmatch(r"at \d\d shop task 1 'work': hello\n", Path(f"{path}.tree").read_text())
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING  task 1 'work': hello\n", Path(f"{path}.bare").read_text())
    assert json.loads(Path(f"{path}.json").read_text())["message"] == "hello"


@given(st.text(), st.text(min_size=1), st.text())
def test_nothing_escapes_to_the_terminal(message: str, name: str, logger_name: str) -> None:
    """Whatever names and messages contain, only printable characters, tabs and line breaks come out; each
    line after the first is indented, so that none can pass for another record.
    """
    inside: dict[str, Any] = {"task_uid": 1, "task_name": name, "task_path": (name,), "trial": 1}
    for fields in ({}, inside):
        record = record_of(message.replace("%", ""), name=logger_name, **fields)
        text = written(TreeFormatter("%(levelname)s %(name)s %(task_name)s %(message)s"), record)
        first, *rest = text.split("\n")
        assert first.startswith("INFO ")
        assert all(line.startswith("       ") for line in rest)
        assert all(char.isprintable() or char in "\t\n" for char in text)


class Unspeakable(Exception):
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Unprintable(Exception):
    """Has no attributes that could be asked for."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError


def syntax_error() -> Exception:
    """Return a syntax error of nonsense."""
    error = SyntaxError("nonsense")
    error.filename, error.lineno, error.text = object(), "a", 5  # type: ignore[assignment]  # that is the point
    return error


def nested(depth: int) -> Exception:
    """Return a group in a group in a group."""
    error: Exception = ValueError("deep down")
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    return error


def circular() -> Exception:
    """Return an exception that is the cause of its cause."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize("formatter", [LineFormatter(), TreeFormatter(), JSONFormatter()])
@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (record_of("%d %d", 1), "%d %d (1,)"),
        (record_of(Unspeakable()), "<Unspeakable>"),
        (record_of("%s", Unspeakable()), "%s <tuple>"),
        (record_of("", error=Unspeakable()), "Unspeakable"),
        (record_of("unprintable", error=Unprintable("what")), "Unprintable: what"),
        (record_of("syntax", error=syntax_error()), "SyntaxError: nonsense"),
        (record_of("deep", error=nested(5_000)), "ExceptionGroup"),
        (record_of("round", error=circular()), "second"),
        (record_of("none", exc_info=(None, None, None)), "none"),
        (record_of("from afar", exc_text="Traceback: ..."), "Traceback: ..."),
        (record_of("extra", extra={"task_uid": "\n", "task_path": 7}), "extra"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_record_is_too_odd(formatter: logging.Formatter, record: logging.LogRecord, expected: str) -> None:
    """Messages and exceptions that raise, are nested too deep or circular are written all the same, with what
    can be said of them.
    """
    text = written(formatter, record)
    assert "\x1b" not in text
    assert expected in text


# For machines -----------------------------------------------------------------------------------------------


def test_json() -> None:
    """A record is one object with always the same keys in the same order; outside of tasks they are null."""
    error = raised(KeyError("no\nway"))
    fields: dict[str, Any] = {
        "graph": "shop", "task_uid": 7, "task_name": "a\nb", "task_path": ("c", "a\nb"), "trial": 2,
        "worker": "http-1",
    }  # fmt: skip
    text = written(
        JSONFormatter(),
        record_of("got %d", 3, error=error, created=1_700_000_000.25, extra={"url": "/x"}, **fields),
    )
    assert "\n" not in text
    found = json.loads(text)
    exception = found.pop("exception")
    assert exception.pop("traceback").startswith("Traceback (most recent call last):\n")
    assert exception == {"type": "KeyError", "message": "'no\\nway'"}
    assert found == {
        "time": "2023-11-14T22:13:20.250000+00:00", "level": "INFO", "logger": "shop", "message": "got 3",
        **fields, "task_path": ["c", "a\nb"], "stack": None, "extra": {"url": "/x"},
    }  # fmt: skip
    bare = json.loads(written(JSONFormatter(), record_of()))
    assert list(bare) == list(json.loads(text))
    assert {name: bare[name] for name in (*NAMES, "exception", "stack", "extra")} == {
        **dict.fromkeys(NAMES), "exception": None, "stack": None, "extra": {},
    }  # fmt: skip


def test_extras_that_json_cannot_express() -> None:
    """What JSON has no word for is there as its repr, and harms nothing else."""
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    extra = {
        "fine": {"a": [1, 2.5, None, True, "x"]}, "nan": math.nan, "in it": [math.inf], "object": {1, 2},
        "inside": {"path": Path("x")}, "circle": circle, "deep": deep, "huge": 10**5_000,
        "odd": Unspeakable(), "keys": {(1, 2): 3}, "half\ud800": "\udc00", 7: "number",
    }  # fmt: skip
    text = written(JSONFormatter(), record_of(extra=extra))
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text, parse_constant=pytest.fail)["extra"]
    assert list(found) == [str(name) for name in extra]
    assert found["fine"] == {"a": [1, 2.5, None, True, "x"]}
    assert found["half\ud800"] == "\udc00"
    assert found["nan"] == "nan"
    assert found["in it"] == "[inf]"
    assert found["object"] == "{1, 2}"
    assert found["inside"] == {"path": repr(Path("x"))}
    assert found["circle"] == "[[...]]"
    assert found["keys"] == "{(1, 2): 3}"
    assert found["odd"] == "<Unspeakable>"
    assert all(type(found[name]) is str for name in ("deep", "huge"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.text(st.characters()), JSON)
def test_json_says_all(message: str, value: object) -> None:
    """Messages and extras that JSON can express come back as they were, lone surrogates included."""
    text = written(JSONFormatter(), record_of("%s", message, extra={"value": value}))
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text)
    assert found["message"] == message
    assert found["extra"] == {"value": value}


# structlog --------------------------------------------------------------------------------------------------


def test_structlog(run: Run) -> None:
    """As a processor of structlog it adds the same fields, and leaves those that an event has."""
    events: list[dict[str, Any]] = []

    def last(_logger: object, _method: str, event: Any) -> Any:
        events.append(dict(event))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[add_task_fields, last])

    async def body() -> None:
        await trio.sleep(1)
        logger.info("inside", url="/x")
        logger.info("mine", worker="me")

    async def main() -> None:
        graph = TaskGraph(name="shop")
        graph.add(body)
        logger.info("outside")
        await execute_graph(graph)

    run(main)
    outside, inside, mine = events
    assert outside == {"event": "outside", **dict.fromkeys(NAMES)}
    assert inside == {
        "event": "inside", "url": "/x", "graph": "shop", "task_uid": 1, "task_name": "body",
        "task_path": ("body",), "trial": 1, "worker": "default-1",
    }  # fmt: skip
    assert mine["worker"] == "me"


def test_structlog_and_logging_together(logger: Logger) -> None:
    """In structlog's formatter for the standard library it serves the records of both."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[add_task_fields],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logger.addHandler(handler)
    bound = structlog.wrap_logger(
        logger,
        processors=[add_task_fields, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )

    def say() -> None:
        logger.info("plain")
        bound.info("bound")

    in_task(say, "both")
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["task_name"]) for line in found] == [("plain", "both"), ("bound", "both")]


# The last lines of each task --------------------------------------------------------------------------------


@pytest.fixture
def log(logger: Logger) -> TaskLog:
    """Give a `TaskLog` of that logger that writes messages only."""
    log = TaskLog(lines=3, tasks=4, width=20)
    log.setFormatter(LineFormatter("%(message)s"))
    logger.addHandler(log)
    return log


def test_the_last_lines_of_a_task(run: Run, logger: Logger) -> None:
    """The lines of a task are those of its records, of all its trials, oldest first; a record has several if
    its text has. Records from outside are passed over.
    """
    log = TaskLog()
    logger.addHandler(log)

    async def shaky() -> None:
        logger.info("trial %d\ngo", current_task().trial_number)
        if current_task().trial_number == 1:
            raise ValueError

    async def main() -> None:
        graph = TaskGraph()
        task, other = graph.add(TaskType(shaky, retry=Retry(2))), graph.add(trio.sleep, 0)
        logger.info("outside")
        assert log.lines(task) == ()
        await execute_graph(graph)
        lines = [re.sub(r"^\d\d:\d\d:\d\d ", "12:00:00 ", line) for line in log.lines(task)]
        assert lines == ["12:00:00 INFO     trial 1", f"{'':20}go", "12:00:00 INFO     trial 2", f"{'':20}go"]
        assert log.lines(other) == ()
        assert log.subtree(other) == ()

    run(main)


def test_bounds(logger: Logger, log: TaskLog) -> None:
    """There are at most so many lines of a task, of so many characters, escaped; of so many tasks, of which
    those that have been silent for longest are forgotten.
    """
    graph = TaskGraph()

    def say(*lines: str) -> Callable[[], None]:
        def body() -> None:
            for line in lines:
                logger.info(line)

        return body

    first = in_task(say("1", "2", "3", "4", "x" * 21, "\x1b" * 10), graph=graph)
    assert log.lines(first) == ("4", "x" * 19 + "…", r"\x1b" * 4 + r"\x1…")
    bulk = in_task(say("\n".join("abcdef")), graph=graph)
    assert log.lines(bulk) == ("  d", "  e", "  f")
    more = [in_task(say("hello"), graph=graph) for _ in range(2)]
    graph.rerun(first)
    trio.run(execute_graph, graph)
    last = in_task(say("hello"), graph=graph)
    assert log.lines(bulk) == ()
    assert all(log.lines(task) for task in (first, *more, last))


def test_lines_of_a_subtree(run: Run, logger: Logger) -> None:
    """The lines of a subtree are those of the task and of all that it spawned, in the order of time,
    each with its task; those of others are not among them.
    """
    log = TaskLog()
    log.setFormatter(LineFormatter("%(message)s"))
    logger.addHandler(log)
    said: list[tuple[Task[Any], str]] = []

    async def say(depth: int) -> None:
        for number in range(2):
            said.append((current_task(), f"{depth}.{number}"))
            logger.info("%d.%d", depth, number)
            for _ in range(2 if depth else 0):
                current_graph().add(say, depth - 1)
            await trio.sleep(1)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 3})
        graph.add(say, 2)
        graph.add(say, 2)
        await execute_graph(graph)
        assert log.subtree(graph.root) == tuple(said)
        for task in graph:
            below = {other for other in graph if task in other.path}
            assert log.subtree(task) == tuple(entry for entry in said if entry[0] in below)

    run(main)


def test_a_deep_subtree(logger: Logger) -> None:
    """Lines of many tasks far down in the tree are found in time linear in the tasks, however deep."""
    log = TaskLog(tasks=6_000)
    log.setFormatter(LineFormatter("%(message)s"))
    logger.addHandler(log)

    async def dig(left: int) -> None:
        if left:
            current_graph().add(dig, left - 1)
            return
        for number in range(1_000):
            current_graph().add(say, number)

    async def say(number: int) -> None:
        logger.info("%d", number)

    graph = TaskGraph()
    first, other = graph.add(dig, 1_000), graph.add(say, 7)
    trio.run(execute_graph, graph)
    steps = 0

    def count(_frame: object, event: str, _: object) -> None:
        nonlocal steps
        steps += event == "c_call"

    sys.setprofile(count)
    try:
        found = log.subtree(first)
    finally:
        sys.setprofile(None)
    assert [line for _, line in found] == [str(number) for number in range(1_000)]
    assert steps < 20 * len(graph)
    assert [line for _, line in log.subtree(other)] == ["7"]


def test_removed_tasks_are_passed_over(logger: Logger, log: TaskLog) -> None:
    """Lines of a task that the graph does not know any more are not in its subtree."""
    graph = TaskGraph()
    task = in_task(partial(logger.info, "hello"), graph=graph)
    log._kept[graph][999] = log._kept[graph][task.uid]
    assert log.subtree(graph.root) == ((task, "hello"),)


def test_graphs_are_told_apart_and_not_kept_alive(logger: Logger, log: TaskLog) -> None:
    """Tasks of the same uid in two graphs have their own lines, and a graph that is dropped is freed with its
    lines.
    """
    first, second = TaskGraph(), TaskGraph()
    one = in_task(partial(logger.info, "one"), graph=first)
    two = in_task(partial(logger.info, "two"), graph=second)
    assert (one.uid, log.lines(one), log.lines(two)) == (two.uid, ("one",), ("two",))
    gone = weakref.ref(first)
    del one, first
    gc.collect()
    assert gone() is None
    assert log.lines(two) == ("two",)
    assert len(log._kept) == 1


def test_threads_write_and_read(logger: Logger) -> None:
    """Lines come from many threads and are read meanwhile; none is lost, and each thread's are in order."""
    log = TaskLog(lines=1_000)
    log.setFormatter(LineFormatter("%(message)s"))
    logger.addHandler(log)
    barrier = threading.Barrier(4, timeout=20)

    def work() -> None:
        barrier.wait()
        for number in range(200):
            logger.info("%d", number)
            log.lines(current_task())
            log.subtree(current_graph().root)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 4})
        tasks = [graph.add(work) for _ in range(4)]
        await execute_graph(graph)
        assert len(log.subtree(graph.root)) == 800
        for task in tasks:
            assert log.lines(task) == tuple(str(number) for number in range(200))

    trio.run(main)


def test_lines_of_other_formatters_are_escaped(logger: Logger, log: TaskLog) -> None:
    """Whatever formatter makes them, lines hold nothing that a terminal would act on."""
    log.setFormatter(logging.Formatter("\x1b[31m%(message)s"))
    assert log.lines(in_task(partial(logger.info, "hi"))) == (r"\x1b[31mhi",)


def test_a_formatter_that_raises(logger: Logger, log: TaskLog, capsys: pytest.CaptureFixture[str]) -> None:
    """What a formatter raises is shown as of any handler, and the body goes on."""

    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise ZeroDivisionError(record.msg)

    log.setFormatter(Broken())
    task = in_task(partial(logger.info, "hello"))
    assert log.lines(task) == ()
    assert "ZeroDivisionError: hello" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["lines", "tasks", "width"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_bad_bounds(bound: str, value: Any) -> None:
    """A bound that is not a whole number from 1 on is refused, by name."""
    with pytest.raises(BadValue, match=f"{bound} of a TaskLog is {value!r}; it must be a whole number"):
        TaskLog(**{bound: value})


def test_what_is_no_task(log: TaskLog) -> None:
    """What is asked about must be a task."""
    for ask in (log.lines, log.subtree):
        with pytest.raises(BadType, match="what a TaskLog is asked about is 1; it must be a Task"):
            ask(1)  # type: ignore[arg-type]  # that is the point


def test_no_optional_package_is_imported() -> None:
    """Logs need the standard library only, structlog's processor included."""
    program = (
        "import sys, trio_graph_scheduler.observe.logs\n"
        "print({'structlog', 'opentelemetry'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
