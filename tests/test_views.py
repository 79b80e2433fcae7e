"""What may be seen of tasks, types and groups: everything is of bounded size, whatever programs make."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import attrs
import pytest

from tests.support import nothing
from trio_graph_scheduler import Task, TaskGraph, TaskType, at_least
from trio_graph_scheduler.observe.feed.feed import Feed
from trio_graph_scheduler.observe.feed.messages import Detail, TaskView
from trio_graph_scheduler.observe.feed.wire import decode_message, encode

HUGE = "x" * 1_000_000


class Hostile:
    """A value that says nothing of itself."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class Large:
    """A value that says too much."""

    def __repr__(self) -> str:
        return HUGE


async def take_any(*_: object, **__: object) -> object:
    """Be a body that takes whatever it is given."""
    return None


def detail_of(graph: TaskGraph, task: Task[Any], **options: Any) -> Detail:
    """Return the details of a task, which have come through JSON unharmed, and are not large."""
    detail = Feed(graph, **options).detail(task.uid)
    assert isinstance(detail, Detail)
    text = encode(detail)
    assert decode_message(text) == detail
    return detail


def view_of(task: Task[Any]) -> TaskView:
    """Return how a task stands."""
    return Feed(task.graph).views.task(task)


# One task ---------------------------------------------------------------------------------------------------


def test_a_view_has_what_there_is_to_know() -> None:
    """From when a task was added to its end, on the graph's clock."""
    graph = TaskGraph(
        {"take_any": take_any}, worker_loops={"http": 2}, worker_assignments={"take_any": "http"}
    )
    first = graph.add("take_any")
    task = graph.add("take_any", first, name="second")
    blank = TaskView(
        2,
        "second",
        "take_any",
        "http",
        "WAITING",
        None,
        (1,),
        False,
        0,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    )
    assert view_of(task) == blank
    graph.take("http")
    graph.finish(first)
    graph.now = 1.5
    graph.take("http")
    task.worker = "http-1"
    task.progress(1, 4)
    task.note("a")
    task.note("b")
    running = attrs.evolve(
        blank, state="RUNNING", trial=1, began=1.5, worker="http-1", progress=(1, 4), note="b"
    )
    assert view_of(task) == running
    graph.retry(task, KeyError("no"), 0)
    graph.now = 2.0
    graph.take("http")
    graph.fail(task, KeyError("no"))
    failed = attrs.evolve(
        running, state="FAILED", trial=2, began=2.0, ended=2.0, worker=None, progress=None, error="KeyError"
    )
    assert view_of(task) == failed


def test_a_reason_is_there_when_a_task_has_ended() -> None:
    """What a body has declared is not what it has come to."""
    graph = TaskGraph()
    tasks = [graph.add(nothing) for _ in range(3)]
    after = graph.add(nothing, after=tasks[0])
    for _ in tasks:
        graph.take("default")
    tasks[0].fail("no page")
    tasks[1].skip("no need")
    assert [view_of(task).reason for task in tasks] == [None] * 3
    tasks[2].cancel("enough")
    graph.cancelled(tasks[2])
    graph.finish(tasks[0])
    graph.finish(tasks[1])
    assert [view_of(task).reason for task in tasks] == ["no page", "no need", "enough"]
    assert view_of(after).reason == "task 1 'nothing' has FAILED"
    assert (view_of(tasks[0]).error or "").endswith("TaskFailed")
    number: Any = 5
    task = graph.add(nothing)
    graph.take("default")
    task.fail(number)
    graph.finish(task)
    assert view_of(task).reason == "5"


def test_only_the_first_of_many_predecessors_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that waits for a hundred thousand others costs as much as one that waits for a hundred."""
    graph = TaskGraph()
    many = [graph.add(nothing) for _ in range(100_000)]
    seen: list[Task[Any]] = []
    real = Task.iter_predecessors

    def iter_predecessors(self: Task[Any]) -> Any:
        for task in real(self):
            seen.append(task)
            yield task

    waiting = [graph.add(nothing, after=many), graph.add(nothing, after=at_least(5, many))]
    exactly = graph.add(nothing, after=many[:100])
    monkeypatch.setattr(Task, "iter_predecessors", iter_predecessors)
    for task in waiting:
        view = view_of(task)
        assert view.predecessors == tuple(range(1, 101))
        assert view.more_predecessors
        assert len(seen) <= 101
        seen.clear()
    assert view_of(exactly).predecessors == tuple(range(1, 101))
    assert not view_of(exactly).more_predecessors


def test_views_are_small_whatever_the_texts_are() -> None:
    """Names, notes, reasons, workers, types and groups of a million characters are cut."""
    kind = TaskType(nothing, name="t" + HUGE, executor="async")
    error = type("E" + HUGE, (Exception,), {})
    graph = TaskGraph([kind], worker_loops={"g" + HUGE: 1}, worker_assignments={"t" + HUGE: "g" + HUGE})
    graph.name = "n" + HUGE
    task, other = graph.add(kind, name=HUGE), graph.add(kind, name="\ud800\x1b[31m\n<script>")
    graph.take("g" + HUGE)
    task.worker = HUGE
    task.note(HUGE)
    other.cancel(HUGE)
    graph.fail(task, error(HUGE))
    feed = Feed(graph, show_values=True)
    for one in (task, other):
        view = feed.views.task(one)
        assert all(len(text) <= 200 for text in attrs.astuple(view) if isinstance(text, str))
    assert feed.views.task(other).name == "\ud800\x1b[31m\n<script>"
    assert len(encode(detail_of(graph, task, show_values=True))) < 50_000
    for watch in ("tasks", "types"):
        session = Feed(graph, most=5 if watch == "tasks" else 0).session()
        message = session.poll()
        assert message is not None
        assert len(encode(message)) < 6_000
        assert decode_message(encode(message)) == message


def test_a_chatty_task_has_few_of_its_notes_and_trials() -> None:
    """Of long lists there are the last hundred."""

    class Log:
        def lines(self, _: Task[Any]) -> list[str]:
            return [str(number) for number in range(1000)] + [HUGE]

    graph = TaskGraph()
    task = graph.add(nothing)
    for number in range(300):
        graph.take("default")
        task.note(str(number))
        graph.retry(task, ValueError(str(number)), 0)
    detail = detail_of(graph, task, log=Log())
    assert detail.notes == tuple(str(number) for number in range(200, 300))
    assert [trial.number for trial in detail.trials] == list(range(201, 301))
    assert detail.trials[-1].outcome == "ValueError: 299"
    assert detail.log[:99] == tuple(str(number) for number in range(901, 1000))
    assert len(detail.log[99]) == 10_000


# Values -----------------------------------------------------------------------------------------------------


def finished(value: object, *args: object, **options: object) -> tuple[TaskGraph, Task[Any]]:
    """Return a task that has got these arguments and this result."""
    graph = TaskGraph()
    task = graph.add(partial(take_any, *args, **options))
    graph.take("default")
    graph.finish(task, value)
    return graph, task


def test_values_are_shown_only_where_that_is_asked_for() -> None:
    """Arguments and results may be secret; that there was a result is not."""
    graph, task = finished("secret 1", "secret 2", key="secret 3")
    detail = detail_of(graph, task)
    assert (detail.arguments, detail.result, detail.trials[0].outcome) == (None, None, None)
    assert "secret" not in encode(detail)
    detail = detail_of(graph, task, show_values=True)
    assert detail.arguments == "('secret 2', {'key': 'secret 3'})"
    assert detail.result == detail.trials[0].outcome == "'secret 1'"


VALUES: dict[str, object] = {
    "text": HUGE,
    "bytes": HUGE.encode(),
    "bytearray": bytearray(HUGE.encode()),
    "raising": Hostile(),
    "large": Large(),
    "raising within": [Hostile()] * 1000,
    "large within": [Large()] * 1000,
    "set": set(range(100_000)),
    "frozenset": frozenset(range(100_000)),
    "dict": dict.fromkeys(range(100_000), HUGE),
    "wide": [[[[1] * 200] * 200] * 200] * 200,
    "number": 10**100_000,
    "surrogates": "\ud800" * 10,
    "escapes": "\x1b[31m\n",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_values_are_shown_briefly(value: object) -> None:
    """Whatever they are, and however they are made: none is written in full, and none raises."""
    graph, task = finished(value, value, key=value)
    detail = detail_of(graph, task, show_values=True)
    assert detail.arguments
    assert detail.result
    assert len(detail.arguments) <= 10_000
    assert len(detail.result) <= 10_000


def test_only_as_much_of_a_large_value_is_looked_at_as_is_shown() -> None:
    """A matrix of a billion numbers takes no longer than a small one."""

    class Counting:
        made = 0

        def __repr__(self) -> str:
            Counting.made += 1
            return "c"

    one = Counting()
    graph, task = finished([[[[[one] * 100] * 100] * 100] * 100] * 100)
    detail_of(graph, task, show_values=True)
    graph, task = finished(dict.fromkeys(range(1000), [one] * 1000))
    detail_of(graph, task, show_values=True)
    assert Counting.made < 10_000


def test_a_large_dict_is_not_sorted() -> None:
    """Its keys are compared with those that are shown at most."""

    class Key(int):
        compared = 0

        def __lt__(self, other: int) -> bool:
            Key.compared += 1
            return int(self) < int(other)

        __hash__ = int.__hash__

    for value in (dict.fromkeys(map(Key, range(100_000))), set(map(Key, range(100_000)))):
        graph, task = finished(value)
        assert "0" in (detail_of(graph, task, show_values=True).result or "")
    assert Key.compared < 1000


def test_tasks_among_arguments_are_named() -> None:
    """A Task stands there by its uid, name and state."""
    graph = TaskGraph()
    first = graph.add(nothing)
    second = graph.add(take_any, first, [first])
    detail = detail_of(graph, second, show_values=True)
    assert detail.arguments == "(<task 1 'nothing' READY>, [<task 1 'nothing' READY>])"
    assert detail.why == "task 2 'take_any' waits for task 1 'nothing' (READY)"


def test_arguments_that_are_still_to_be_computed_are_named_by_their_function() -> None:
    """So are those of wait tasks, and thresholds have none."""
    graph = TaskGraph({"take_any": take_any})
    first = graph.add("take_any")

    def compute(_: object) -> Any:
        raise AssertionError

    steps = graph.create_wait_task("take_any", compute, [first.uid], True)
    with pytest.raises(StopIteration) as stop:
        steps.send(None)
    detail = detail_of(graph, graph[stop.value.value], show_values=True)
    assert detail.arguments is not None
    assert "compute" in detail.arguments
    threshold = graph.add_threshold([first], target=1)
    detail = detail_of(graph, threshold, show_values=True)
    assert (detail.task.type, detail.task.predecessors, detail.arguments) == ("threshold", (1,), "()")
    graph.take("default")
    graph.finish(first, "value")
    assert detail_of(graph, threshold, show_values=True).result == "['value']"


# Redaction --------------------------------------------------------------------------------------------------

FIELDS = {"name", "note", "reason", "why", "error", "arguments", "result", "log"}


def everything(**options: Any) -> tuple[list[Detail], Feed]:
    """Return the details of tasks that have all that can be redacted, and their feed."""

    class Log:
        def lines(self, _: Task[Any]) -> list[str]:
            return ["secret"]

    graph = TaskGraph()
    names = [graph.add(take_any, "secret", name="secret") for _ in range(3)]
    for task in names:
        graph.take("default")
        task.note("secret")
    graph.finish(names[0], "secret")
    graph.fail(names[1], ValueError("secret"))
    names[2].skip("secret")
    graph.finish(names[2])
    feed = Feed(graph, show_values=True, log=Log(), **options)
    details = [feed.detail(task.uid) for task in names]
    assert all(isinstance(detail, Detail) for detail in details)
    return details, feed  # type: ignore[return-value]  # they are


def test_every_text_that_programs_make_can_be_redacted() -> None:
    """The hook is asked for each, with the task and what it is; what it returns is shown, if not too long."""
    asked: set[str] = set()

    def redact(task: Task[Any], field: str, text: str) -> str:
        assert isinstance(task, Task)
        if "secret" in text:
            asked.add(field)
        return text.replace("secret", "***") + (HUGE if field == "note" else "")

    details, feed = everything(redact=redact)
    texts = [encode(detail) for detail in details]
    message = feed.session().poll()
    assert message is not None
    assert "secret" not in "".join([*texts, encode(message)])
    assert all("***" in text and len(text) < 40_000 for text in texts)
    assert asked == FIELDS
    shown, _ = everything()
    assert all("secret" in encode(detail) for detail in shown)


def test_a_hook_that_fails_shows_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The texts are not shown then, the feed goes on, and the log has the error once."""

    def redact(_: Task[Any], __: str, ___: str) -> str:
        raise ValueError("broken hook")

    with caplog.at_level(logging.ERROR):
        details, feed = everything(redact=redact)
        assert feed.session().poll() is not None
    assert all("secret" not in encode(detail) for detail in details)
    assert details[0].task.name == details[0].result == "<not shown>"
    assert len(caplog.records) == 1
    assert "broken hook" in caplog.text


def test_what_a_hook_returns_is_a_text() -> None:
    """Whatever else it returns is made one."""
    details, _ = everything(redact=lambda *_: None)
    assert details[0].task.name == "None"
    assert decode_message(encode(details[0])) == details[0]


# Types ------------------------------------------------------------------------------------------------------


def test_rare_types_are_summed_up() -> None:
    """Of very many types the most frequent ones are listed, and the last entry is for all others."""
    graph = TaskGraph(worker_loops={"default": 1000})
    for number in range(250):
        kind = TaskType(nothing, name=f"type {number}", executor="async")
        for _ in range(2 if number >= 100 else 1):
            graph.add(kind)
    while task := graph.take("default"):
        graph.now += 1
        if task.uid % 2:
            graph.finish(task)
    views = Feed(graph, most=0).views.types(lambda name, _: name != "type 249")
    assert len(views) == 201
    assert {sum(view.states.values()) for view in views[:149]} == {2}
    rest = views[-1]
    assert (rest.name, rest.group) == (None, None)
    assert sum(rest.states.values()) == 49
    assert rest.mean == pytest.approx(1)
    assert sum(sum(view.states.values()) for view in views) == 398
