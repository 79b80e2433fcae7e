"""Spans of OpenTelemetry, made with its real SDK."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.support import fail, give, give_later, nothing
from trio_graph_scheduler import (
    BadType,
    Retry,
    TaskGraph,
    TaskState,
    TaskType,
    WorkerGroup,
    at_least,
    current_task,
    done,
    execute_graph,
    open_graph,
)
from trio_graph_scheduler.observe import telemetry
from trio_graph_scheduler.observe.telemetry import MOST_LINKS, spans

Run = Callable[..., Any]


class Spans:
    """A tracer, and the spans that have ended, in the order in which they did."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        """Return them."""
        return tuple(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """Return the one span of this name, or of a task of this name."""
        (found,) = (span for span in self.ended if name in (span.name, fields(span).get("name")))
        return found


def fields(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes about the task, without their prefix."""
    prefix = "task_graph.task."
    attributes = cast("Mapping[str, Any]", span.attributes)
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}


def id_of(span: ReadableSpan) -> int | None:
    """Return what other spans call it."""
    return span.context.span_id if span.context else None


def parent_of(span: ReadableSpan) -> int | None:
    """Return the id of its parent."""
    return None if span.parent is None else span.parent.span_id


def linked(span: ReadableSpan) -> list[int]:
    """Return the ids of the spans that it has links to."""
    return [link.context.span_id for link in span.links]


def test_a_span_for_a_trial(run: Run) -> None:
    """A trial that succeeds has one span, of the name of its type, that says which task it was; it has no
    status, and lasts as long as the body on the system's clock.
    """
    made = Spans()

    async def work() -> None:
        with made.tracer.start_as_current_span("inside"):
            await trio.sleep(1)

    async def main() -> None:
        graph = TaskGraph({"work": work}, {"few": 1}, {"work": "few"}, name="shop")
        with spans(graph, made.tracer):
            graph.add("work", name="the first")
            await execute_graph(graph)

    run(main)
    inside, span = made.ended
    assert span.name == "work"
    assert span.attributes == {
        "task_graph.name": "shop", "task_graph.task.uid": 1, "task_graph.task.name": "the first",
        "task_graph.task.type": "work", "task_graph.task.group": "few", "task_graph.task.trial": 1,
        "task_graph.task.worker": "few-1", "task_graph.task.state": "SUCCEEDED",
    }  # fmt: skip
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert span.parent is None
    assert parent_of(inside) == id_of(span)
    times = [span.start_time, inside.start_time, inside.end_time, span.end_time]
    assert times == sorted(times, key=lambda time: time or 0)


def test_the_parent_is_who_added_it(run: Run, size: int) -> None:
    """A span's parent is what was current where the task was added: outside, in a body, or within a span that
    a body opened; a span that was current elsewhere at the time the task starts does not matter.
    """
    made = Spans()

    async def outer() -> None:
        current_task().graph.add(nothing, name="child")
        with made.tracer.start_as_current_span("inner"):
            current_task().graph.add(nothing, name="grandchild")
        await trio.sleep(1)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        with spans(graph, made.tracer):
            with made.tracer.start_as_current_span("outside"):
                graph.add(outer)
            graph.add(nothing, name="alone")
            with made.tracer.start_as_current_span("elsewhere"):
                await execute_graph(graph)

    run(main)
    assert parent_of(made.named("outer")) == id_of(made.named("outside"))
    assert parent_of(made.named("child")) == id_of(made.named("outer"))
    assert parent_of(made.named("inner")) == id_of(made.named("outer"))
    assert parent_of(made.named("grandchild")) == id_of(made.named("inner"))
    assert made.named("alone").parent is None
    assert len({span.context.trace_id for span in made.ended if span.context}) == 3


def test_a_task_added_in_an_empty_context() -> None:
    """The span is current in the body also if there was not a single context variable where the task was
    added.
    """
    made = Spans()
    graph = TaskGraph()

    async def work() -> int:
        return trace.get_current_span().get_span_context().span_id

    task = contextvars.Context().run(graph.add, work)
    with spans(graph, made.tracer):
        trio.run(execute_graph, graph)
    assert task.result_nowait() == id_of(made.named("work"))


def test_in_threads() -> None:
    """In a body that runs in a thread the span is current too."""
    made = Spans()

    def work() -> bool:
        with made.tracer.start_as_current_span("inside"):
            return threading.current_thread() is threading.main_thread()

    async def main() -> None:
        graph = TaskGraph()
        with spans(graph, made.tracer):
            task = graph.add(work)
            await execute_graph(graph)
        assert not task.result_nowait()

    trio.run(main)
    assert parent_of(made.named("inside")) == id_of(made.named("work"))


def test_links_to_predecessors(run: Run, size: int) -> None:
    """A span has a link to the span of the last trial of each task that its own waited for, in their order;
    none to those that never ran.
    """
    made = Spans()

    async def shaky() -> int:
        assert current_task().trial_number == 2
        return 2

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        with spans(graph, made.tracer):
            first = graph.add(TaskType(shaky, retry=Retry(3, delay=0)))
            broken = graph.add(fail)
            skipped = graph.add(nothing, after=broken, name="skipped")
            second = graph.add(give_later, 5, name="second")
            graph.add(max, second, first, after=done(skipped, broken), name="last")
            await execute_graph(graph)

    run(main)
    again = next(span for span in made.ended if span.name == "shaky" and fields(span)["trial"] == 2)
    expected = [id_of(span) for span in (made.named("second"), again, made.named("fail"))]
    assert linked(made.named("last")) == expected
    assert linked(made.named("second")) == []


def test_links_are_bounded(run: Run) -> None:
    """A fan-in has as many links as may be, to the first of its predecessors."""
    made = Spans()

    async def main() -> None:
        graph = TaskGraph()
        with spans(graph, made.tracer):
            tasks = [graph.add(give, number) for number in range(MOST_LINKS + 72)]
            graph.add(nothing, after=at_least(len(tasks), tasks), name="last")
            await execute_graph(graph)
        by_uid = {fields(span)["uid"]: id_of(span) for span in made.ended}
        assert linked(made.named("last")) == [by_uid[task.uid] for task in tasks[:MOST_LINKS]]

    run(main)


def test_trials_that_fail(run: Run) -> None:
    """Each trial has a span with the same parent; one that fails has the status ERROR, the exception as an
    event and its type, also if another trial follows.
    """
    made = Spans()

    async def shaky() -> None:
        await trio.sleep(1)
        if current_task().trial_number < 3:
            raise LookupError("nothing there")

    async def main() -> None:
        graph = TaskGraph()
        with made.tracer.start_as_current_span("all"), spans(graph, made.tracer):
            graph.add(TaskType(shaky, retry=Retry(3, delay=1)))
            graph.add(fail, "for good")
            await execute_graph(graph, raise_failures=False)

    run(main)
    trials = [span for span in made.ended if span.name == "shaky"]
    assert [(fields(span)["trial"], fields(span)["state"]) for span in trials] == [
        (1, "RETRYING"), (2, "RETRYING"), (3, "SUCCEEDED"),
    ]  # fmt: skip
    assert {parent_of(span) for span in trials} == {id_of(made.named("all"))}
    assert all(fields(span)["worker"].startswith("default-") for span in trials)
    for span, name, message in (
        (trials[0], "LookupError", "nothing there"),
        (trials[1], "LookupError", "nothing there"),
        (made.named("fail"), "ValueError", "for good"),
    ):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, f"{name}: {message}")
        assert span.attributes is not None
        assert span.attributes["error.type"] == name
        (event,) = span.events
        assert event.name == "exception"
        assert event.attributes is not None
        assert event.attributes["exception.type"] == name
        assert event.attributes["exception.message"] == message
        stack = event.attributes["exception.stacktrace"]
        assert isinstance(stack, str)
        assert stack.endswith(f"{name}: {message}")
        assert "Traceback" in stack
    assert trials[2].status.status_code is StatusCode.UNSET
    assert trials[2].events == ()


def test_cancelled_skipped_and_declared(run: Run) -> None:
    """A cancelled trial has the status ERROR, its reason as description, and the type "cancelled"; one that
    skips itself has no status, but its reason; one that declares itself failed is an error. What never ran
    has no span.
    """
    made = Spans()

    async def body(what: str) -> None:
        if what == "skip":
            current_task().skip("not modified")
        if what == "fail":
            current_task().fail("no such page")
        if what.startswith("sleep"):
            await trio.sleep_forever()

    async def main() -> None:
        graph = TaskGraph()
        with spans(graph, made.tracer):
            async with open_graph(graph, raise_failures=False):
                for name in ("skip", "fail", "sleep", "sleep on"):
                    graph.add(body, name, name=name)
                slow, slower = graph.tasks()[2:]
                graph.add(nothing, after=slow, name="never")
                await trio.sleep(1)
                slow.cancel("out of time")
                slower.cancel()

    run(main)
    assert len(made.ended) == 4
    sleep, sleep_on, skip, failed = (made.named(name) for name in ("sleep", "sleep on", "skip", "fail"))
    assert (sleep.status.status_code, sleep.status.description) == (
        StatusCode.ERROR,
        "cancelled: out of time",
    )
    assert (sleep_on.status.status_code, sleep_on.status.description) == (StatusCode.ERROR, "cancelled")
    assert sleep.attributes is not None
    assert sleep.attributes["error.type"] == "cancelled"
    assert (fields(sleep)["state"], fields(sleep)["reason"]) == ("CANCELLED", "out of time")
    assert sleep.events == ()
    assert skip.status.status_code is StatusCode.UNSET
    assert (fields(skip)["state"], fields(skip)["reason"]) == ("SKIPPED", "not modified")
    assert failed.status.status_code is StatusCode.ERROR
    assert "no such page" in (failed.status.description or "")


def test_suspended_tasks_keep_their_span(run: Run, size: int) -> None:
    """A body that waits for another task has one span, which lasts until the body ends."""
    made = Spans()

    async def outer() -> int:
        value: int = await current_task().graph.add(give_later, 7).result()
        return value

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        with spans(graph, made.tracer):
            task = graph.add(outer)
            await execute_graph(graph)
        assert task.result_nowait() == 7

    run(main)
    assert [span.name for span in made.ended] == ["give_later", "outer"]
    assert parent_of(made.named("give_later")) == id_of(made.named("outer"))


def test_open_spans_end_with_the_block(run: Run) -> None:
    """Leaving the block ends the spans of bodies that run; what they do afterwards makes no spans, and the
    parent of a next trial is as if there had been no spans.
    """
    made, later = Spans(), Spans()

    async def shaky() -> None:
        await trio.sleep(2)
        assert current_task().trial_number == 2

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            with spans(graph, made.tracer):
                graph.add(TaskType(shaky, retry=Retry(2, delay=1)))
                await trio.sleep(1)
            graph.add(nothing)
            await trio.sleep(1.5)
            with spans(graph, later.tracer):
                await trio.sleep(3)

    run(main)
    (span,) = made.ended
    assert fields(span)["state"] == "RUNNING"
    assert span.status.status_code is StatusCode.UNSET
    assert [(fields(span)["trial"], span.parent) for span in later.ended] == [(2, None)]


def test_tasks_that_run_already_have_no_span(run: Run) -> None:
    """Trials that began before the block have no span, and their end is passed over."""
    made = Spans()

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            graph.add(give_later, 1)
            await trio.sleep(0.5)
            with spans(graph, made.tracer):
                await trio.sleep(1)

    run(main)
    assert made.ended == ()


def test_reruns(run: Run) -> None:
    """A rerun has a span for its trial, with the number of that and the parent of the call."""
    made = Spans()

    async def main() -> None:
        graph = TaskGraph()
        with spans(graph, made.tracer):
            task = graph.add(nothing)
            await execute_graph(graph)
            with made.tracer.start_as_current_span("again"):
                graph.rerun(task)
            await execute_graph(graph)

    run(main)
    first, again, second = made.ended
    assert [fields(first)["trial"], fields(second)["trial"]] == [1, 2]
    assert first.parent is None
    assert parent_of(second) == id_of(again)


def test_a_listener_that_reruns_first(run: Run) -> None:
    """What another listener has done with the task before does not matter for how a trial is told."""
    made = Spans()

    async def main() -> None:
        graph = TaskGraph()

        def rerun(change: Any) -> None:
            if change.after is TaskState.FAILED and change.task.trial_number == 1:
                graph.rerun(change.task)

        with graph.subscribe(rerun), spans(graph, made.tracer):
            graph.add(fail, "no")
            await execute_graph(graph, raise_failures=False)

    run(main)
    assert [(fields(span)["trial"], fields(span)["state"]) for span in made.ended] == [
        (1, "FAILED"), (2, "FAILED"),
    ]  # fmt: skip
    assert [span.status.description for span in made.ended] == ["ValueError: no"] * 2
    assert [span.parent for span in made.ended] == [None, None]


NASTY = "a\n\x1b[31m\ud800" + "x" * 1_000_000


class Odd(Exception):
    """An exception that does not even have a message."""

    def __str__(self) -> str:
        raise ZeroDivisionError


async def odd() -> None:
    """Raise it."""
    raise Odd


async def nested() -> None:
    """Raise what Python itself cannot print."""
    error: Exception = ValueError(NASTY)
    for _ in range(5_000):
        error = ExceptionGroup("group", [error])
    raise error


async def circular() -> None:
    """Raise two exceptions that are the cause of each other."""
    first, second = ValueError(NASTY), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def texts_of(span: ReadableSpan) -> list[str]:
    """Return all that it says."""
    attributes = [span.attributes, *(event.attributes for event in span.events)]
    values = [str(value) for some in attributes for value in (some or {}).values()]
    return [span.name, span.status.description or "", *values]


def test_names_and_errors_of_any_kind(run: Run) -> None:
    """Whatever names and exceptions contain, what is in a span is bounded, and can be encoded in UTF-8."""
    made = Spans()

    async def main() -> None:
        graph = TaskGraph({NASTY: nothing}, {NASTY: WorkerGroup(1)}, {NASTY: NASTY}, name=NASTY)
        with spans(graph, made.tracer):
            async with open_graph(graph, raise_failures=False):
                for kind in (NASTY, odd, nested, circular):
                    graph.add(kind)
                stopped = graph.add(give_later, 1, name=NASTY)
                await trio.sleep(0.5)
                stopped.cancel(NASTY)

    run(main)
    assert len(made.ended) == 5
    texts = [text for span in made.ended for text in texts_of(span)]
    assert max(len(text) for text in texts) < 2 * telemetry.LONGEST_TEXT
    assert all(text.encode().decode() == text for text in texts)
    assert made.named("odd").status.description == "Odd: <Odd>"
    assert "\\ud800" in fields(made.named("give_later"))["name"]


class Rude(SpanProcessor):
    """Raises at the start or at the end of the span of this name."""

    def __init__(self, at: str, name: str) -> None:
        self.at, self.name = at, name

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Raise, maybe."""
        del parent_context
        if (self.at, self.name) == ("start", span.name):
            raise ZeroDivisionError

    def on_end(self, span: ReadableSpan) -> None:
        """Raise, maybe."""
        if (self.at, self.name) == ("end", span.name):
            raise ZeroDivisionError


@contextmanager
def unraisable() -> Any:
    """Collect what is shown through `sys.unraisablehook`."""
    shown: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", shown.append)
        yield shown


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_tracer_that_raises(at: str, run: Run) -> None:
    """A tracer that raises harms neither the graph nor the block; that is shown once, and no more spans are
    begun, but those that are open are ended.
    """
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Rude(at, "fail"))
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def main() -> None:
        graph = TaskGraph()
        with spans(graph, provider.get_tracer("rude")):
            slow = graph.add(give_later, 1, 2.0)
            graph.add(fail)
            late = graph.add(give, 2, after=slow)
            await execute_graph(graph, raise_failures=False)
            graph.check()
        assert (slow.result_nowait(), late.result_nowait()) == (1, 2)

    with unraisable() as shown:
        run(main)
    assert [type(item.exc_value) for item in shown] == [ZeroDivisionError]
    assert [span.name for span in exporter.get_finished_spans()] == ["give_later"]


def test_a_tracer_that_raises_when_the_block_is_left(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """What a tracer raises at the end of the block is logged, and the block is left as if it had not."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Rude("end", "give_later"))

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            with spans(graph, provider.get_tracer("rude")):
                task = graph.add(give_later, 1)
                await trio.sleep(0.5)
        assert task.result_nowait() == 1

    with caplog.at_level(logging.ERROR):
        run(main)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_an_error_in_the_block_comes_out(run: Run) -> None:
    """An exception leaves the block as it is, and spans are ended."""
    made = Spans()

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            with pytest.raises(KeyError, match="mine"), spans(graph, made.tracer):
                graph.add(give_later, 1)
                await trio.sleep(0.5)
                raise KeyError("mine")
            graph.add(nothing)

    run(main)
    assert [(span.name, fields(span)["state"]) for span in made.ended] == [("give_later", "RUNNING")]


def test_without_an_sdk(run: Run) -> None:
    """Without a tracer the global provider is asked; if no SDK is set up, nothing happens."""

    async def main() -> None:
        graph = TaskGraph()
        with spans(graph):
            tasks = [graph.add(give, 1), graph.add(give, 2)]
            await execute_graph(graph)
        assert [task.result_nowait() for task in tasks] == [1, 2]

    run(main)


def test_what_is_no_graph_or_no_tracer() -> None:
    """Something else in their places is refused with an error that says what is right."""
    graph: Any = "graph"
    with (
        pytest.raises(BadType, match=r"the graph of spans\(\) is 'graph'; it must be a TaskGraph"),
        spans(graph),
    ):
        pass
    tracer: Any = trace
    with pytest.raises(BadType, match="get_tracer"), spans(TaskGraph(), tracer):
        pass


def test_what_is_kept() -> None:
    """Nothing is kept of trials that have ended but what links need, nor of tasks that never ran."""
    made = Spans()
    graph = TaskGraph()
    recorder = telemetry.Recorder(made.tracer)
    with graph.subscribe(recorder.hear):
        task, other = graph.add(nothing), graph.add(nothing)
        assert graph.take("default") is task
        graph.finish(task)
        graph.remove(other)
    assert not recorder.open
    assert list(recorder.last) == [task.uid]


@pytest.mark.parametrize("stop", [0.5, 1.5, 2.5, 3.5, 9])
def test_every_trial_has_one_span(run: Run, size: int, stop: float) -> None:
    """Whenever a run with retries, waits, skips, timeouts and failures is cancelled from outside, each trial
    has one span, which ends as that did.
    """
    made = Spans()
    graph = TaskGraph(worker_loops={"default": size})

    async def shaky() -> None:
        await trio.sleep(0.7)
        if current_task().trial_number < 3:
            raise ValueError

    async def outer(depth: int) -> None:
        await trio.sleep(0.2)
        for _ in range(2 if depth else 0):
            await current_task().graph.add(outer, depth - 1).wait()
        if depth == 1:
            current_task().skip("enough")

    async def main() -> None:
        kinds = (TaskType(shaky, retry=Retry(3)), TaskType(trio.sleep_forever, name="slow", timeout=1))
        with trio.move_on_after(stop):
            for kind in kinds:
                graph.add(nothing, after=graph.add(kind))
            graph.add(outer, 2)
            graph.add(give_later, 1, 3.0)
            await execute_graph(graph, raise_failures=False)

    with spans(graph, made.tracer):
        run(main)
    trials = {(task.uid, trial.number): (task, trial) for task in graph for trial in task.trials}
    found = {(fields(span)["uid"], fields(span)["trial"]): fields(span) for span in made.ended}
    assert len(made.ended) == len(found)
    assert found.keys() == trials.keys()
    for number, (task, trial) in trials.items():
        last = task.state is TaskState.FAILED and trial.number == task.trial_number
        retried = trial.state is TaskState.FAILED and not last
        assert found[number]["state"] == ("RETRYING" if retried else str(trial.state))
        assert found[number]["worker"] == trial.worker
