"""Thresholds: so many of these candidates are to succeed, and no more are started than that takes.

    pages = graph.add_threshold([partial(fetch, mirror) for mirror in mirrors], target=3)

`TaskGraph.add_threshold` says what they do; here is how. A threshold is a condition that counts successes,
and a task without a body whose value it gives. Candidates that are not to start yet, the *spares*, wait for
a `Gate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .adding import check_labels
from .conditions import Condition, Operand, Verb
from .errors import BadType, BadValue, ThresholdMissed, title
from .groups import DEFAULT
from .task import END_STATES, EXECUTING, READY, RETRYING, SUCCEEDED, WAITING, Label, Task
from .task_type import TaskType
from .values import is_seconds, is_whole

if TYPE_CHECKING:
    from .task_graph import TaskGraph
    from .timetable import Timer

Candidate = Task[Any] | Callable[..., Any] | str
REACH = Verb("succeeded", frozenset({SUCCEEDED}), handles_failure=True)


class Gate(Condition):
    """What a spare waits for: that it is started."""

    __slots__ = ("threshold",)

    def __init__(self, threshold: Threshold) -> None:
        super().__init__(REACH, ())
        self.threshold = threshold

    def decide(self) -> bool:
        """Leave it to the threshold, which sets `holds`."""
        return False

    def describe(self, *, only_open: bool = False, depth: int = 3) -> str:  # noqa: ARG002 - as Condition has it
        """Return in words what it is."""
        return f"its turn as a spare of {title(self.threshold.task)}"


class Threshold(Condition):
    """That enough of the candidates have succeeded; it starts them, and stops those that are not needed."""

    __slots__ = ("_came", "_cancel_running", "_gates", "_hedge_after", "_hedging", "_target", "task")

    task: Task[Any]
    """Whose value this gives."""

    def __init__(
        self,
        candidates: Iterable[Task[Any]],
        target: int,
        minimum: int | None,
        hedge_after: float | None,
        *,
        cancel_running: bool,
    ) -> None:
        super().__init__(REACH, candidates, target if minimum is None else minimum)
        self._target = target
        self._hedge_after = hedge_after
        self._cancel_running = cancel_running
        # The candidates that have succeeded, in the order in which they did.
        self._came: list[Task[Any]] = []
        # The spares that have not been started, in order.
        self._gates: dict[Task[Any], Gate] = {}
        # Runs while the next spare is to be started at a certain time, and keeps the graph awake.
        self._hedging: Timer | None = None

    def begin(self, graph: TaskGraph) -> None:
        """Hold back all but the first candidates, as far as they have not started."""
        came = [task for task in self.tasks if task.state is SUCCEEDED and task not in self._came]
        self._came += sorted(came, key=lambda task: task._over or 0.0)
        unstarted = [task for task in self.tasks if task.state is WAITING or task.state is READY]
        failed = sum(task.state in END_STATES and task.state is not SUCCEEDED for task in self.tasks)
        in_play = len(self.operands) - len(unstarted) - failed
        for task in unstarted[max(0, self._target - in_play) :]:
            gate = self._gates[task] = Gate(self)
            task._inputs = (*task._inputs, gate)
            graph._wait_for(task, gate)
            graph._take_back(task)
        if self._hedge_after is not None:
            for task in self.tasks:
                course = graph._course_of(task)
                course.candidate_of = (*[other for other in course.candidate_of if other is not self], self)

    def hear(self, source: Operand) -> bool:
        """Take note of the end of a candidate; start a spare for one that has failed."""
        self._gates.pop(source, None)  # type: ignore[arg-type]  # operands of a threshold are Tasks
        if isinstance(source, Task) and source.state is SUCCEEDED:
            self._came.append(source)
        decided = super().hear(source)
        self._start_spares()
        return decided

    def drop(self, operand: Task[Any]) -> bool:
        """Do without a candidate that is removed from the graph."""
        self._gates.pop(operand, None)
        decided = super().drop(operand)
        self._start_spares()
        return decided

    def reopen(self) -> None:
        """Forget what it has counted."""
        super().reopen()
        self._came = [task for task in self._came if task.state is SUCCEEDED]

    def _start_spares(self) -> None:
        while (
            self.holds is None
            and self._gates
            and len(self.operands) - len(self._gates) - self.impossible < self._target
        ):
            self._start_spare()
        if not self._gates:
            self._stop_hedging()

    def _start_spare(self) -> None:
        self._let_start(next(iter(self._gates)))

    def _let_start(self, spare: Task[Any]) -> None:
        gate = self._gates.pop(spare)
        gate.holds = True
        self._graph._news.append(gate)

    # Hedging ------------------------------------------------------------------------------------------------

    @property
    def hedging(self) -> bool:
        """Whether the next spare is to be started at a certain time."""
        return self._hedging is not None

    def candidate_began(self) -> None:
        """Start the next spare when this much time has passed and no other candidate has begun."""
        if self._hedge_after is None:
            return
        self._stop_hedging()
        if self.holds is None and self._gates:
            graph = self._graph
            graph._awake += 1
            self._hedging = graph.timetable.at(graph.time() + self._hedge_after, self._hedge)

    def _hedge(self) -> None:
        graph = self._graph
        self._hedging = None
        if self._gates:
            self._start_spare()
        graph._awake -= 1
        graph._propagate()

    def _stop_hedging(self) -> None:
        if self._hedging is not None:
            self._graph.timetable.cancel(self._hedging)
            self._graph._awake -= 1
            self._hedging = None

    # Its end ------------------------------------------------------------------------------------------------

    def results(self) -> list[object]:
        """Return the results of those that came first, in the order they came."""
        store = self._graph.results
        return [store[task.uid] for task in self._came[: self.needed]]

    def missed(self, task: Task[Any]) -> ThresholdMissed:
        """Return the error of a threshold that can no longer be reached."""
        ended = [candidate for candidate in self.tasks if candidate.state in END_STATES]
        failures = [candidate for candidate in ended if candidate.state is not SUCCEEDED]
        return ThresholdMissed(task, self.needed, self.fulfilled, failures)

    def over(self) -> None:
        """Stop the candidates that are not needed any more, as its task has ended."""
        self._stop_hedging()
        for task in self.tasks:
            if _is_wanted(task):
                if task in self._gates:
                    self._let_start(task)
            elif task.state in (WAITING, READY, RETRYING) or (
                task.state in EXECUTING and self._cancel_running
            ):
                self._graph._stop(task, f"{title(self.task)} does not need it")

    def abandon(self) -> None:
        """Let all spares start, as its task is removed from the graph."""
        self._stop_hedging()
        while self._gates:
            self._start_spare()

    @property
    def _graph(self) -> TaskGraph:
        return self.task.graph


def add_threshold(
    graph: TaskGraph,
    candidates: Iterable[Candidate],
    target: int,
    minimum: int | None,
    hedge_after: float | None,
    *,
    cancel_running: bool,
    name: str | None,
) -> Task[list[Any]]:
    """Add a threshold; `TaskGraph.add_threshold` is the public form."""
    graph._check_thread("add_threshold")
    check_labels(name=name)
    if isinstance(candidates, str | bytes) or not isinstance(candidates, Iterable):
        rule = "they must be an iterable of Tasks and kinds: [partial(fetch, mirror) for mirror in mirrors]"
        raise BadType("the candidates of a threshold", candidates, rule)
    listed = _each_task_once(candidates)
    _check_counts(target, minimum, len(listed))
    if hedge_after is not None and (not is_seconds(hedge_after) or not hedge_after):
        raise BadValue("hedge_after", hedge_after, "it must be a number of seconds above 0, or None")
    graph._checked(tuple(candidate for candidate in listed if isinstance(candidate, Task)))
    # All kinds are looked at before the first one is added.
    described = [item if isinstance(item, Task) else graph.describe(item) for item in listed]
    tasks = [item if isinstance(item, Task) else graph.admit(item) for item in described]
    threshold = Threshold(tasks, target, minimum, hedge_after, cancel_running=cancel_running)
    cohort = graph._kinds.cohort(THRESHOLD.name, graph.groups[DEFAULT])
    threshold.task = task = graph._new_task(THRESHOLD, cohort, (), (threshold,))
    graph._course_of(task).threshold = threshold
    if name is not None:
        task.label = Label(name)
    threshold.begin(graph)
    graph._insert(task)
    if any(candidate.state in EXECUTING for candidate in tasks):
        threshold.candidate_began()
    return task


def _check_counts(target: object, minimum: object, most: int) -> None:
    if not is_whole(target, 1) or target > most:
        rule = f"it must be a whole number from 1 to {most}, for there are {most} different candidates"
        raise BadValue("the target of a threshold", target, rule)
    if minimum is not None and (not is_whole(minimum, 1) or minimum > target):
        raise BadValue("the minimum of a threshold", minimum, f"it must be from 1 to the target, {target}")


def _each_task_once(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates; of kinds, unlike Tasks, there may be several that are equal."""
    seen: set[Task[Any]] = set()
    listed = []
    for candidate in candidates:
        if not isinstance(candidate, Task) or candidate not in seen:
            listed.append(candidate)
        if isinstance(candidate, Task):
            seen.add(candidate)
    return listed


def _is_wanted(candidate: Task[Any]) -> bool:
    """Return whether a threshold that is open counts on a candidate."""
    others = candidate._dependents or ()
    return any(isinstance(other, Threshold) and not other.task.state.ended for other in others)


def _no_body() -> None:
    """Be the function of thresholds, which are never run."""


THRESHOLD: TaskType[[], Any] = TaskType(_no_body, name="threshold", executor="async")
