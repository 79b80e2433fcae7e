"""OpenTelemetry: a span for each trial of a task.

    with spans(graph, trace.get_tracer("crawler")):
        await execute_graph(graph)

Needs the package `opentelemetry-api` (the extra `otel`); where spans go is the business of its SDK.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from itertools import islice
from typing import Any

import attrs
from opentelemetry import context as current
from opentelemetry import trace

from trio_graph_scheduler.graph import BadType, Change, Task, TaskGraph, TaskState
from trio_graph_scheduler.graph.task import CANCELLED, EXECUTING, RUNNING, SUCCEEDED

from .safe_text import encodable, text_of, traceback_of, type_name

MOST_LINKS = 128
"""As many links as a span has; the SDK too keeps no more unless told otherwise."""
LONGEST_TEXT = 10_000
"""Characters of a name, a message or a traceback in a span."""


@contextmanager
def spans(graph: TaskGraph, tracer: trace.Tracer | None = None) -> Iterator[None]:
    """Make a span for each trial that begins within the block.

        with tracer.start_as_current_span("crawl"), spans(graph, tracer):
            start = graph.add(crawl, url)
            await execute_graph(graph)

    - `tracer`: by default that of the global provider under the name of this package.

    A span has the name of the task's type and lasts, on the clock of the tracer, from when the body starts
    until it has ended. In the body it is the current span, so spans that the body opens are its children. Its
    own parent is what was current where the task was added: in a body, the span of the trial that spawned it,
    or a span within that. It has links to the spans of the last trials of the tasks that its own waited for,
    of the first `MOST_LINKS` of them.

    Attributes are `task_graph.name` and, below `task_graph.task.`: `uid`, `name`, `type`, `group`, `trial`,
    `worker`, at the end `state` (that of the task: RETRYING after a trial that is followed by another one)
    and `reason`, if there is one. The status is

    - unset if the trial SUCCEEDED or was SKIPPED;
    - ERROR if it failed, with the exception as an event, and its type as `error.type`;
    - ERROR if it was CANCELLED, with `error.type` "cancelled" and the reason as description. OpenTelemetry
      has no status of its own for that, and without a status a span counts as completed.

    Spans that are open at the end of the block end with it; what runs then goes on. A tracer that raises
    harms neither the graph nor the block: no more spans are begun, and what it raised is shown. To hand spans
    on without delaying the graph, give the SDK a `BatchSpanProcessor`.

    Raises `BadType` for what is no graph or no tracer.
    """
    if tracer is None:
        tracer = trace.get_tracer("trio_graph_scheduler")
    _check(graph, tracer)
    recorder = Recorder(tracer)
    try:
        with graph.subscribe(recorder.hear):
            yield
    finally:
        recorder.close()


def _check(graph: object, tracer: object) -> None:
    if not isinstance(graph, TaskGraph):
        raise BadType("the graph of spans()", graph, "it must be a TaskGraph")
    if not isinstance(tracer, trace.Tracer):
        rule = 'it must be a Tracer of OpenTelemetry: opentelemetry.trace.get_tracer("name")'
        raise BadType("the tracer of spans()", tracer, rule)


@attrs.frozen
class OpenSpan:
    """The span of a trial that has not ended."""

    span: trace.Span
    context: Context
    """The task's context, which each of its trials gets a copy of; the span is current in it meanwhile."""
    before: current.Context
    """What is to be current in that again when the trial has ended."""


class Recorder:
    """Turns changes of state into spans."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer
        self.open: dict[Task[Any], OpenSpan] = {}
        # uid -> the span of the last trial that has begun, of every task of the graph: who will wait for it
        # in the future is not known.
        self.last: dict[int, trace.SpanContext] = {}

    def hear(self, change: Change) -> None:
        """Begin or end the span of a trial."""
        if change.before in EXECUTING:
            if change.after not in EXECUTING and change.task in self.open:
                self.end(change.task, change.after)
        elif change.after is RUNNING:
            self.begin(change.task)

    def begin(self, task: Task[Any]) -> None:
        """Begin the span of the trial that has just begun, before its body gets a copy of the context."""
        context = Context() if task.context is None else task.context
        self.open[task] = opened = context.run(self._begin_here, task, context)
        self.last[task.uid] = opened.span.get_span_context()

    def _begin_here(self, task: Task[Any], context: Context) -> OpenSpan:
        before = current.get_current()
        predecessors = islice(task.iter_predecessors(), MOST_LINKS)
        linked = [self.last[predecessor.uid] for predecessor in predecessors if predecessor.uid in self.last]
        span = self.tracer.start_span(
            encodable(task.type.name, LONGEST_TEXT),
            context=before,
            attributes={
                "task_graph.name": encodable(task.graph.name, LONGEST_TEXT),
                "task_graph.task.uid": task.uid,
                "task_graph.task.name": encodable(task.name, LONGEST_TEXT),
                "task_graph.task.type": encodable(task.type.name, LONGEST_TEXT),
                "task_graph.task.group": encodable(task.group.name, LONGEST_TEXT),
                "task_graph.task.trial": task.trial_number,
            },
            links=[trace.Link(span_context) for span_context in linked],
        )
        current.attach(trace.set_span_in_context(span, before))
        return OpenSpan(span, context, before)

    def end(self, task: Task[Any], state: TaskState | None) -> None:
        """End the span of a trial, after which the task is in this state."""
        opened = self.open.pop(task)
        opened.context.run(current.attach, opened.before)
        span = opened.span
        # The value of a task that succeeded is not asked for: its store may have to fetch it from afar.
        trial = None if state is SUCCEEDED else task.trials[-1]
        worker = task.worker if trial is None else trial.worker
        span.set_attribute("task_graph.task.state", str(state))
        if worker is not None:
            span.set_attribute("task_graph.task.worker", encodable(text_of(worker), LONGEST_TEXT))
        outcome = None if trial is None else trial.outcome
        if isinstance(outcome, str):
            span.set_attribute("task_graph.task.reason", encodable(outcome, LONGEST_TEXT))
        if isinstance(outcome, Exception):
            _record_error(span, outcome)
        elif state is CANCELLED:
            _set_error(span, "cancelled", "cancelled" if outcome is None else f"cancelled: {outcome}")
        span.end()

    def close(self) -> None:
        """End all spans that are open; if the tracer raises, log that and stop."""
        try:
            for task in tuple(self.open):
                self.end(task, task.state)
        except Exception:
            logging.getLogger(__name__).exception("OpenTelemetry's tracer failed; spans may be missing")


def _record_error(span: trace.Span, error: Exception) -> None:
    """Record an exception as `span.record_exception` does, but whatever it says or contains."""
    message = text_of(error)
    event = {
        "exception.type": type_name(error),
        "exception.message": message,
        "exception.stacktrace": traceback_of(error)[-LONGEST_TEXT:],  # what matters most stands last
    }
    span.add_event("exception", {name: encodable(text, LONGEST_TEXT) for name, text in event.items()})
    _set_error(span, type_name(error), f"{type(error).__name__}: {message}")


def _set_error(span: trace.Span, kind: str, description: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR, encodable(description, LONGEST_TEXT))
