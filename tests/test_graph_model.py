"""The graph against a naive model, which counts nothing and looks at everything anew after every step."""

from __future__ import annotations

import contextvars
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support import examples
from trio_graph_scheduler.graph import (
    Change,
    Condition,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    WorkerGroup,
    all_of,
    any_of,
    at_least,
    done,
    failed,
    settled,
    skipped,
    succeeded,
)
from trio_graph_scheduler.graph.driver import NoDriver
from trio_graph_scheduler.graph.errors import (
    AlreadyStarted,
    BadType,
    ForeignTask,
    IllegalTransition,
    NotConnected,
    ResultNeeded,
    WouldCloseCycle,
)
from trio_graph_scheduler.graph.task import (
    CANCELLED,
    CURRENT_TASK,
    FAILED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    SUSPENDED,
    WAITING,
)

T = TypeVar("T")

# What is known of kinds only saves looking up again what has been looked up once.
KNOWN_OF_KINDS = {"_known", "_cohorts"}
ENDED = {SUCCEEDED, FAILED, CANCELLED, SKIPPED}
EXECUTING = {RUNNING, SUSPENDED}
STARTED = ENDED | EXECUTING

# The model ----------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Twin:
    """What the model knows of a task."""

    real: Task[Any]
    group: str
    parent: Twin | None
    inputs: list[Twin | Wish]
    arguments: set[Twin]
    priority: float = 0
    key: str | None = None
    state: TaskState = WAITING
    cancelling: bool = False
    awaited: list[Twin] = attrs.field(factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.state in ENDED

    @property
    def ancestors(self) -> list[Twin]:
        """Itself and whose child it is, up to the root."""
        line = [self]
        while line[-1].parent is not None:
            line.append(line[-1].parent)
        return line


@attrs.define(eq=False)
class Wish:
    """What the model knows of a condition: how many of its operands (None: all) are to come true."""

    real: Condition
    verb: str
    operands: list[Twin | Wish]
    needed: int | None = None


VERBS: dict[str, Callable[..., Condition]] = {
    "succeeded": succeeded,
    "failed": failed,
    "done": done,
    "skipped": skipped,
    "settled": settled,
}
# The end states that these verbs are true of; `settled` is about more than one task.
JUDGED = {
    "succeeded": {SUCCEEDED},
    "failed": {FAILED},
    "done": ENDED,
    "skipped": {SKIPPED},
}


@attrs.define(eq=False)
class Model:
    """The rules of DESIGN, by scanning."""

    root: Twin
    limits: dict[str, int]
    twins: dict[int, Twin] = attrs.field(factory=dict)
    wishes: list[Wish] = attrs.field(factory=list)
    returning: dict[str, list[Twin]] = attrs.field(factory=dict)
    deduped: dict[tuple[str, int], Twin] = attrs.field(factory=dict)
    # What the driver must have been told in this step.
    resumed: list[Twin] = attrs.field(factory=list)
    stopped: list[Twin] = attrs.field(factory=list)

    def of(self, group: str, *states: TaskState) -> list[Twin]:
        """Return the tasks of a group in these states."""
        return [twin for twin in self.twins.values() if twin.group == group and twin.state in states]

    def family(self, top: Twin) -> list[Twin]:
        """Return a task and all that it spawned."""
        return [twin for twin in self.twins.values() if top in twin.ancestors]

    def settled(self, top: Twin) -> bool:
        """Return whether all of a family have ended; the root's never has, for more may be added."""
        return top is not self.root and all(twin.ended for twin in self.family(top))

    def holds(self, item: Twin | Wish) -> bool | None:
        """Return whether an input has come true, can no longer, or (None) is open."""
        if isinstance(item, Twin):
            return item.state is SUCCEEDED if item.ended else None
        votes = [self.vote(item, operand) for operand in item.operands]
        needed = len(votes) if item.needed is None else item.needed
        if votes.count(True) >= needed:
            return True
        return False if len(votes) - votes.count(False) < needed else None

    def vote(self, wish: Wish, operand: Twin | Wish) -> bool | None:
        """Return whether an operand of a condition has come true, can no longer, or (None) is open."""
        if isinstance(operand, Wish):
            return self.holds(operand)
        if wish.verb == "settled":
            return self.settled(operand) or None
        return operand.state in JUDGED[wish.verb] if operand.ended else None

    def parent_of_new(self, actor: Twin | None) -> Twin:
        """Return whose child a task is that is added now."""
        parent = actor or self.root
        while parent is not self.root and self.settled(parent):
            assert parent.parent is not None
            parent = parent.parent
        return parent

    def end(self, twin: Twin, state: TaskState) -> None:
        """Let a task end."""
        twin.state = state
        twin.awaited.clear()
        self.leave_line(twin)

    def leave_line(self, twin: Twin) -> None:
        """Let a body go on without its place."""
        if twin in self.returning[twin.group]:
            self.returning[twin.group].remove(twin)
            self.resumed.append(twin)

    def cancel(self, top: Twin) -> None:
        """Cancel a task and what it spawned."""
        if self.settled(top) or top.cancelling:
            return
        if top is self.root:
            top.cancelling = True
        for twin in self.family(top):
            if self.settled(twin) or any(
                above.cancelling for above in twin.ancestors if above is not top and above is not self.root
            ):
                continue  # as it is, or being cancelled already
            if twin.state in EXECUTING:
                self.stopped.append(twin)
        family = [twin for twin in self.family(top) if not self.settled(twin)]
        for twin in family:
            twin.cancelling = True
            if twin.state in EXECUTING:
                self.leave_line(twin)
        for twin in family:
            if twin.state in {WAITING, READY}:
                self.end(twin, CANCELLED)

    def remove(self, gone: Twin) -> None:
        """Take a task out, as if it had never been."""
        del self.twins[gone.real.uid]
        for other in self.twins.values():
            other.inputs = [item for item in other.inputs if item is not gone]
            if other.parent is gone:
                other.parent = gone.parent
        for wish in self.wishes:
            wish.operands = [item for item in wish.operands if item is not gone]
        for label in [label for label, twin in self.deduped.items() if twin is gone]:
            del self.deduped[label]

    def follow(self) -> None:
        """Bring about all that follows, until nothing more does."""
        for group, line in self.returning.items():
            while line and len(self.of(group, RUNNING)) < self.limits[group]:
                line[0].state = RUNNING
                self.resumed.append(line.pop(0))
        before = None
        while before != (before := {twin: twin.state for twin in self.twins.values()}):
            for twin in self.twins.values():
                if twin.state in {WAITING, READY}:
                    holding = [self.holds(item) for item in twin.inputs]
                    twin.state = SKIPPED if False in holding else WAITING if None in holding else READY

    def blocked_by(self, then: Twin) -> tuple[set[Twin], Callable[[Twin | Wish], bool]]:
        """Return what cannot end if `then` never does: the open tasks, and a test for inputs."""
        blocked = {then}

        def is_blocked(item: Twin | Wish) -> bool:
            if isinstance(item, Twin):
                return item in blocked
            if self.holds(item) is not None:
                return False
            possible = 0
            for operand in item.operands:
                if isinstance(operand, Twin) and item.verb == "settled":
                    possible += not any(twin in blocked for twin in self.family(operand))
                else:
                    possible += self.vote(item, operand) is not False and not is_blocked(operand)
            return possible < (len(item.operands) if item.needed is None else item.needed)

        size = 0
        while size != len(blocked):
            size = len(blocked)
            for twin in self.twins.values():
                waits = (
                    twin.inputs if twin.state is WAITING else twin.awaited if twin.state is SUSPENDED else []
                )
                if any(is_blocked(item) for item in waits):
                    blocked.add(twin)
        return blocked, is_blocked


# The graph under test -----------------------------------------------------------------------------------


class NotingDriver(NoDriver):
    """A driver that runs nothing and takes note of what it is told."""

    def __init__(self) -> None:
        self.stopped: list[Task[Any]] = []
        self.resumed_tasks: list[Task[Any]] = []
        self.standstills = 0

    async def wait(self, task: Task[Any]) -> None:
        """Wait for nothing."""

    async def checkpoint(self) -> None:
        """Let nobody else run."""

    def cancel(self, task: Task[Any]) -> None:
        """Note it."""
        self.stopped.append(task)

    def resumed(self, task: Task[Any]) -> None:
        """Note it."""
        self.resumed_tasks.append(task)

    def ended(self, task: Task[Any]) -> None:
        """Wait for nothing."""

    def standstill(self) -> None:
        """Note it."""
        self.standstills += 1


def _copied(value: object) -> object:
    """Return a value to compare with later: lists, queues, sets and mappings are copied."""
    if isinstance(value, dict):
        return [(key, _copied(item)) for key, item in value.items()]
    return type(value)(value) if isinstance(value, list | set | deque) else value


def at_once(steps: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine does that waits for nothing."""
    try:
        steps.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it has waited")


async def work(*args: object, **kwargs: object) -> None:
    """Stand for the function of a task; it is never called."""


async def other_work(*args: object, **kwargs: object) -> None:
    """Stand for the function of another kind."""


KINDS = {
    "default": TaskType(work, name="one"),
    "a": TaskType(work, name="two", group="a"),
    "b": TaskType(other_work, name="three", group="b"),
}

picks = st.integers(0, 60)
groups = st.sampled_from(["default", "a", "b"])
limits = st.integers(0, 3)
# Trees of what to wait for; numbers stand for tasks and for conditions made before.
bare = st.tuples(st.just("task"), picks)
verbs = st.tuples(
    st.sampled_from(["succeeded", "failed", "done", "skipped", "settled"]), st.lists(picks, max_size=3)
)
shared = st.tuples(st.just("shared"), picks)
wishes: st.SearchStrategy[Any] = st.recursive(
    st.one_of(bare, verbs, shared),
    lambda inner: st.one_of(
        st.tuples(st.just("at_least"), st.lists(inner, min_size=1, max_size=4), picks),
        st.tuples(st.sampled_from(["any_of", "all_of", "&", "|"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)
# Trees of arguments.
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(bare, st.just(("value", 7))),
    lambda inner: st.tuples(
        st.sampled_from(["list", "tuple", "dict", "partial"]), st.lists(inner, max_size=3)
    ),
    max_leaves=4,
)


class GraphAgainstModel(RuleBasedStateMachine):
    """Everything that can be done to a graph, in any order."""

    graph: TaskGraph
    model: Model

    @initialize(sizes=st.tuples(limits, limits, limits), listening=st.booleans(), attached=st.booleans())
    def begin(self, sizes: tuple[int, int, int], listening: bool, attached: bool) -> None:  # noqa: FBT001 - drawn by name
        """Make a graph, with or without a listener, run by a driver or not."""
        self.limits = dict(zip(("default", "a", "b"), sizes, strict=True))
        self.graph = TaskGraph(list(KINDS.values()), self.limits)
        self.root = Twin(self.graph.root, "default", None, [], set(), state=SUCCEEDED)
        self.model = Model(self.root, self.limits, returning={name: [] for name in self.limits})
        self.driver = NotingDriver()
        self.attached = attached
        if attached:
            self.graph.attach(self.driver)
        else:
            self.graph.driver = self.driver
        self.rung: set[str] = set()
        for group in self.graph.groups.values():
            group.bell = self._ring
        # READY tasks, in the order in which they became so.
        self.order: list[Twin] = []
        self.fresh: list[Task[Any]] = []
        self.elsewhere = TaskGraph().add(work)
        self.gone: list[Task[Any]] = []
        self.listening = listening
        self.replayed: dict[Task[Any], TaskState] = {}
        self.been_ready: set[Task[Any]] = set()
        self.complaints: list[BaseException] = []
        if listening:
            self.graph.subscribe(self._hear)
        self._remember()

    def _ring(self, group: WorkerGroup) -> None:
        self.rung.add(group.name)
        known = {twin.real for twin in self.order}
        self.fresh += [task for task in self.graph.ready if task not in known and task not in self.fresh]

    def _hear(self, change: Change) -> None:
        try:
            self.graph.check()
            assert self.replayed.get(change.task) is change.before
            if change.after is READY:
                assert change.task not in self.been_ready
                self.been_ready.add(change.task)
            if (change.before, change.after) == (READY, WAITING):
                self.been_ready.remove(change.task)
            if change.after is None:
                del self.replayed[change.task]
            else:
                self.replayed[change.task] = change.after
        except AssertionError as complaint:
            self.complaints.append(complaint)

    def _remember(self) -> None:
        """Begin a step."""
        self.rung.clear()
        self.fresh.clear()
        self.driver.stopped.clear()
        self.driver.resumed_tasks.clear()
        self.driver.standstills = 0
        self.model.resumed.clear()
        self.model.stopped.clear()
        self.was_awake = not self.graph.at_standstill
        self.had_work = {name for name, group in self.graph.groups.items() if group.free and group.ready}

    # Comparing ------------------------------------------------------------------------------------------

    def _verify(self, ended_in: str | None = None) -> None:
        """End a step: the graph agrees with itself, and with the model."""
        graph, model = self.graph, self.model
        model.follow()
        graph.check()
        assert [(task.uid, task.state) for task in graph] == [
            (uid, twin.state) for uid, twin in model.twins.items()
        ]
        for uid, twin in model.twins.items():
            self._verify_task(graph[uid], twin)
        for wish in model.wishes:
            assert wish.real.holds is model.holds(wish)
        for name, group in graph.groups.items():
            counts = [len(model.of(name, state)) for state in (RUNNING, SUSPENDED, READY)]
            assert [group.running, group.suspended, group.ready] == counts
            assert group.limit == model.limits[name]
            assert group.returning == len(model.returning[name])
            if group.free and group.ready and name not in self.had_work and name != ended_in:
                assert name in self.rung
        statistics = graph.statistics()
        assert statistics.total == len(graph) == len(model.twins)
        assert Counter(dict(statistics.states)) == Counter(dict.fromkeys(TaskState, 0)) + Counter(
            twin.state for twin in model.twins.values()
        )
        active = [twin for twin in model.twins.values() if twin.state in {READY, RUNNING, SUSPENDED}]
        assert graph.active == len(active)
        assert graph.at_standstill == all(twin.state is SUSPENDED for twin in active)
        self._verify_driver()
        self._verify_order()
        if self.listening:
            assert not self.complaints
            assert self.replayed == {task: task.state for task in graph}
        self._remember()

    def _verify_task(self, task: Task[Any], twin: Twin) -> None:
        assert task is twin.real
        assert task.settled == self.model.settled(twin)
        assert task.parent is (None if twin.parent is None else twin.parent.real)
        assert set(task.children) == {
            child.real for child in self.model.twins.values() if child.parent is twin
        }
        assert task.state is not SUCCEEDED or task.result_nowait() == task.uid
        assert (self.graph.why(task) == "") is False
        wanted: set[Task[Any]] = set()
        below = list(twin.inputs)
        for item in below:
            if isinstance(item, Twin):
                wanted.add(item.real)
            else:
                below += [operand for operand in item.operands if operand not in below]
        assert set(task.predecessors) == wanted
        assert len(task.predecessors) == len(wanted)

    def _verify_driver(self) -> None:
        driver, model = self.driver, self.model
        if self.was_awake and self.graph.at_standstill:
            assert driver.standstills
        assert driver.standstills == 0 or self.graph.at_standstill
        assert Counter(driver.stopped) == Counter(twin.real for twin in model.stopped)
        assert Counter(driver.resumed_tasks) == Counter(twin.real for twin in model.resumed)

    def _verify_order(self) -> None:
        ready = [twin for twin in self.model.twins.values() if twin.state is READY]
        self.order = [twin for twin in self.order if twin.state is READY]
        self.order += [self.model.twins[task.uid] for task in self.fresh if task.state is READY]
        assert len(self.order) == len(ready)
        assert set(self.order) == set(ready)
        assert set(self.graph.ready) == {twin.real for twin in ready}

    def _fingerprint(self) -> object:
        """Return all that an operation which is refused must leave alone."""
        graph = self.graph
        nodes: dict[Condition, None] = {}
        for task in graph:
            for item in task._inputs:
                nodes.update(dict.fromkeys(item.nodes() if isinstance(item, Condition) else ()))
        tasks = [
            _copied(getattr(task, field.name))
            for task in graph._tasks.values()
            for field in attrs.fields(Task)
        ]
        queues = [
            _copied(getattr(group, field.name))
            for group in graph.groups.values()
            for field in attrs.fields(WorkerGroup)
        ]
        counts = [_copied(getattr(node, name)) for node in nodes for name in Condition.__slots__]
        rest = [(name, _copied(value)) for name, value in vars(graph).items() if name not in KNOWN_OF_KINDS]
        return tasks, queues, counts, rest, graph.statistics().types, dict(self.replayed)

    def _refused(self, error: type[Exception], operation: Callable[..., object], *args: Any) -> None:
        before = self._fingerprint()
        with pytest.raises(error):
            operation(*args)
        assert self._fingerprint() == before
        assert not self.rung
        assert not self.driver.stopped
        assert not self.driver.resumed_tasks
        self._verify()

    # Finding --------------------------------------------------------------------------------------------

    def _twins(self, *states: TaskState) -> list[Twin]:
        return [twin for twin in self.model.twins.values() if twin.state in states or not states]

    def _some(self, pick: int, *states: TaskState) -> Twin:
        found = self._twins(*states)
        return found[pick % len(found)]

    def _wish(self, tree: Any) -> Twin | Wish | None:
        """Make a condition, and its twin, of a tree; None where that cannot be."""
        verb, rest = tree[0], tree[1]
        twins = list(self.model.twins.values())
        if verb in {"task", "shared"}:
            found: list[Any] = twins if verb == "task" else self.model.wishes
            return found[rest % len(found)] if found else None
        if verb in VERBS:
            those = list(dict.fromkeys(twins[pick % len(twins)] for pick in rest)) if twins else []
            return Wish(VERBS[verb](*(twin.real for twin in those)), verb, list(those))
        operands = list(dict.fromkeys(item for item in map(self._wish, rest) if item is not None))
        return self._combined(verb, operands, *tree[2:])

    def _combined(self, verb: str, operands: list[Twin | Wish], n: int = 0) -> Wish | None:
        reals: list[Any] = [item.real for item in operands]
        if verb == "at_least":
            n %= len(operands) + 1
            return Wish(at_least(n, reals), "succeeded", operands, n)
        if verb == "all_of":
            return Wish(all_of(*reals), "succeeded", operands)
        if verb == "any_of":
            return Wish(any_of(*reals), "succeeded", operands, 1) if operands else None
        wish = next((item for item in operands if isinstance(item, Wish)), None)
        for item in operands:
            if wish is not None and item is not wish:
                together: Any = wish.real & item.real if verb == "&" else item.real | wish.real
                wish = Wish(together, "succeeded", [wish, item], None if verb == "&" else 1)
        return wish

    def _used(self, item: Twin | Wish) -> None:
        """Remember the conditions in an input that the graph has taken."""
        below = [item]
        for found in below:
            if isinstance(found, Wish):
                if found not in self.model.wishes:
                    self.model.wishes.append(found)
                below += [operand for operand in found.operands if operand not in below]

    def _value(self, tree: Any, found: list[Twin]) -> Any:
        """Make an argument of a tree, and list the tasks in it."""
        verb, rest = tree
        if verb == "task":
            twins = self._twins()
            if not twins:
                return None
            found.append(twins[rest % len(twins)])
            return found[-1].real
        if verb == "value":
            return rest
        inner = [self._value(part, found) for part in rest]
        if verb == "dict":
            return dict(enumerate(inner))
        if verb == "partial":
            return partial(work, *inner, option=inner)
        return inner if verb == "list" else tuple(inner)

    # Adding ---------------------------------------------------------------------------------------------

    @rule(
        group=groups,
        arguments=st.lists(values, max_size=2),
        after=st.lists(wishes, max_size=2),
        actor=st.none() | picks,
        priority=st.sampled_from([None, 0, 1, -1.5]),
        key=st.sampled_from([None, None, "x", "y"]),
        dedupe=st.sampled_from([None, None, None, 1, 2]),
    )
    def add(
        self,
        *,
        group: str,
        arguments: list[Any],
        after: list[Any],
        actor: int | None,
        priority: float | None,
        key: str | None,
        dedupe: int | None,
    ) -> None:
        """Add a task with all that can be said about it, as the child of one that has started or not."""
        used: list[Twin] = []
        args = [self._value(tree, used) for tree in arguments]
        waits = [item for item in map(self._wish, after) if item is not None]
        spawner = self._some(actor, *STARTED) if actor is not None and self._twins(*STARTED) else None
        kind = KINDS[group] if priority is None else KINDS[group].but(executor="async")

        def call() -> Task[Any]:
            CURRENT_TASK.set(None if spawner is None else spawner.real)
            return self.graph.add(
                kind, *args, after=[item.real for item in waits], priority=priority, key=key, dedupe=dedupe
            )

        task = contextvars.copy_context().run(call)
        label = (group, dedupe or 0)
        if dedupe and label in self.model.deduped:
            assert task is self.model.deduped[label].real
        else:
            twin = self._new(task, group, spawner, list(dict.fromkeys([*used, *waits])), used)
            twin.priority, twin.key = priority or 0, key
            if dedupe:
                self.model.deduped[label] = twin
        self._verify()

    def _new(
        self,
        task: Task[Any],
        group: str,
        spawner: Twin | None,
        inputs: list[Twin | Wish],
        used: Iterable[Twin] = (),
    ) -> Twin:
        parent = self.model.parent_of_new(spawner)
        twin = self.model.twins[task.uid] = Twin(task, group, parent, inputs, set(used))
        for item in inputs:
            self._used(item)
        if parent.cancelling:
            twin.cancelling = True
            twin.state = CANCELLED
        return twin

    @rule(group=groups, scheduler=picks)
    def create_task(self, group: str, scheduler: int) -> None:
        """Add a task by name that another one is recorded to have scheduled, which need not have started."""
        twins = [self.root, *self._twins()]
        spawner = twins[scheduler % len(twins)]
        uid = at_once(self.graph.create_task(KINDS[group].name, None, spawner.real.uid))
        self._new(self.graph[uid], group, spawner, [])
        self._verify()

    @rule(
        group=groups,
        uids=st.lists(picks, max_size=4),
        mode=st.sampled_from([True, False, "SUCCESS", "COMPLETE"]),
        n=picks,
    )
    def create_wait_task(self, group: str, uids: list[int], mode: bool | str, n: int) -> None:  # noqa: FBT001 - as it is there
        """Add a wait task in each of its modes."""
        those = list(dict.fromkeys(self._some(pick) for pick in uids)) if self._twins() else []
        needed = None if isinstance(mode, bool) else n % (len(those) + 1)
        word = mode if isinstance(mode, bool) else f"{mode}__{needed}"
        steps = self.graph.create_wait_task(KINDS[group].name, None, [twin.real.uid for twin in those], word)
        task = self.graph[at_once(steps)]
        condition = task._inputs[0]
        assert isinstance(condition, Condition)
        verb = "done" if mode in {True, "COMPLETE"} else "succeeded"
        self._new(task, group, None, [Wish(condition, verb, list(those), needed)])
        self._verify()

    # Surgery --------------------------------------------------------------------------------------------

    @precondition(lambda self: self._twins(WAITING, READY))
    @rule(tree=wishes, pick=picks)
    def connect(self, tree: Any, pick: int) -> None:
        """Let a task wait for more; a running graph refuses exactly what could never come true then."""
        then = self._some(pick, WAITING, READY)
        first = self._wish(tree)
        if first is None:
            return
        if first not in then.inputs and self.attached:
            _, is_blocked = self.model.blocked_by(then)
            if is_blocked(first):
                self._refused(WouldCloseCycle, self.graph.connect, first.real, then.real)
                return
        self.graph.connect(first.real, then.real)
        if first not in then.inputs:
            then.inputs.append(first)
            self._used(first)
        self._verify()

    @precondition(lambda self: self._twins(WAITING, READY))
    @rule(pick=picks, which=picks)
    def disconnect(self, pick: int, which: int) -> None:
        """Let a task no longer wait for one of its inputs; for an argument that is refused."""
        then = self._some(pick, WAITING, READY)
        if not then.inputs:
            return
        first = then.inputs[which % len(then.inputs)]
        if first in then.arguments:
            self._refused(ResultNeeded, self.graph.disconnect, first.real, then.real)
            return
        self.graph.disconnect(first.real, then.real)
        then.inputs.remove(first)
        self._verify()

    @precondition(lambda self: self._twins(WAITING, READY))
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        """Take a task out; one whose result others use is refused."""
        gone = self._some(pick, WAITING, READY)
        if any(gone in other.arguments and other.state in {WAITING, READY} for other in self._twins()):
            self._refused(ResultNeeded, self.graph.remove, gone.real)
            return
        self.graph.remove(gone.real)
        self.model.remove(gone)
        self.order = [twin for twin in self.order if twin is not gone]
        self.gone.append(gone.real)
        assert gone.real.state is CANCELLED
        assert gone.real not in self.graph
        self._verify()

    @precondition(lambda self: self._twins(*STARTED) and self._twins(WAITING, READY))
    @rule(
        pick=picks,
        other=picks,
        attempt=st.sampled_from(["connect", "disconnect", "remove", "foreign", "unconnected", "type"]),
    )
    def bad_surgery(self, pick: int, other: int, attempt: str) -> None:
        """Refuse what cannot be, with nothing changed."""
        started, then = self._some(pick, *STARTED), self._some(other, WAITING, READY)
        graph = self.graph
        foreign = self.gone[-1] if self.gone and pick % 2 else self.elsewhere
        if attempt == "connect":
            self._refused(AlreadyStarted, graph.connect, then.real, started.real)
        elif attempt == "disconnect":
            self._refused(AlreadyStarted, graph.disconnect, then.real, started.real)
        elif attempt == "remove":
            self._refused(AlreadyStarted, graph.remove, started.real)
        elif attempt == "foreign":
            self._refused(ForeignTask, graph.connect, foreign, then.real)
            self._refused(ForeignTask, graph.connect, then.real, foreign)
            self._refused(ForeignTask, graph.connect, done(then.real) & foreign, then.real)
            self._refused(ForeignTask, graph.remove, foreign)
            self._refused(ForeignTask, partial(graph.add, work, foreign, after=settled(then.real), dedupe=3))
        elif attempt == "type":
            self._refused(BadType, graph.connect, "a", then.real)
            self._refused(BadType, graph.connect, then.real, "b")
        elif started not in then.inputs:
            self._refused(NotConnected, graph.disconnect, started.real, then.real)
            self._refused(NotConnected, graph.disconnect, done(started.real), then.real)

    # The driver -----------------------------------------------------------------------------------------

    @rule(group=groups)
    def take(self, group: str) -> None:
        """Take the next: of the highest priority, and the first of its key; none without a place."""
        ready = [twin for twin in self.order if twin.group == group]
        task = self.graph.take(group)
        if len(self.model.of(group, RUNNING)) >= self.limits[group] or not ready:
            assert task is None
        else:
            assert task is not None
            twin = self.model.twins[task.uid]
            highest = max(other.priority for other in ready)
            assert twin.priority == highest
            assert twin is next(
                other for other in ready if (other.priority, other.key) == (highest, twin.key)
            )
            twin.state = RUNNING
        self._verify(group)

    @precondition(lambda self: self._twins(READY))
    @rule(pick=picks)
    def start(self, pick: int) -> None:
        """Start a task ahead of its turn, if there is a place."""
        twin = self._some(pick, READY)
        if len(self.model.of(twin.group, RUNNING)) >= self.limits[twin.group]:
            self._refused(IllegalTransition, self.graph.start, twin.real)
            return
        self.graph.start(twin.real)
        twin.state = RUNNING
        self._verify(twin.group)

    @precondition(lambda self: self._twins(*EXECUTING))
    @rule(pick=picks, how=st.sampled_from(["finish", "finish", "fail", "declare", "cancelled"]))
    def end(self, pick: int, how: str) -> None:
        """Let a body end, in whatever way."""
        twin = self._some(pick, *EXECUTING)
        task = twin.real
        if how == "finish":
            self.graph.finish(task, task.uid)
        elif how == "fail":
            self.graph.fail(task, ValueError("no"))
        elif how == "declare":
            task.fail("no")
            assert task.state is twin.state
            self.graph.finish(task, task.uid)
        else:
            self.graph.cancelled(task)
        self.model.end(twin, {"finish": SUCCEEDED, "cancelled": CANCELLED}.get(how, FAILED))
        self._verify(twin.group)

    @precondition(lambda self: self._twins(*EXECUTING) and len(self._twins()) > 1)
    @rule(pick=picks, other=picks)
    def suspend(self, pick: int, other: int) -> None:
        """Let a body wait for another task; one that waits may begin a second wait."""
        twin = self._some(pick, *EXECUTING)
        target = self._some(other)
        if target is twin or target.ended:
            return
        self.graph.suspend(twin.real, target.real)
        if twin.state is SUSPENDED:
            self.model.leave_line(twin)
        twin.state = SUSPENDED
        twin.awaited.append(target)
        self._verify()

    @precondition(lambda self: any(twin.awaited for twin in self._twins(SUSPENDED)))
    @rule(pick=picks, which=picks)
    def resume(self, pick: int, which: int) -> None:
        """Let a wait be over: after the last, a body needs its place, unless it is being cancelled."""
        found = [twin for twin in self._twins(SUSPENDED) if twin.awaited]
        twin = found[pick % len(found)]
        target = twin.awaited.pop(which % len(twin.awaited))
        goes_on = self.graph.resume(twin.real, target.real)
        if twin.awaited or twin.cancelling:
            assert goes_on
        elif len(self.model.of(twin.group, RUNNING)) < self.limits[twin.group]:
            assert goes_on
            twin.state = RUNNING
        else:
            assert not goes_on
            self.model.returning[twin.group].append(twin)
        self._verify()

    @rule(group=groups, limit=limits)
    def resize(self, group: str, limit: int) -> None:
        """Change a limit: those that run stay, those that wait for their places come first."""
        self.graph.groups[group].resize(limit)
        self.limits[group] = limit
        self._verify()

    @precondition(lambda self: self._twins())
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        """Cancel a task and what it spawned."""
        twin = self._some(pick)
        twin.real.cancel("enough")
        self.model.cancel(twin)
        self._verify()

    @rule(rarely=st.integers(0, 9))
    def cancel_all(self, rarely: int) -> None:
        """Cancel the graph: for good while it runs, else only what there is."""
        if rarely:
            return
        self.graph.cancel()
        self.model.cancel(self.root)
        if not self.attached:
            self.root.cancelling = False
        self._verify()

    @precondition(lambda self: self._twins())
    @rule(
        pick=picks,
        event=st.sampled_from(["start", "finish", "fail", "cancelled", "suspend", "resume", "declare"]),
    )
    def illegal(self, pick: int, event: str) -> None:
        """Refuse an event that cannot come in the state a task is in."""
        twin = self._some(pick)
        legal = {"start": {READY}, "resume": {SUSPENDED}}.get(event, EXECUTING)
        if twin.state in legal:
            return
        graph, task = self.graph, twin.real
        calls: dict[str, Callable[[], object]] = {
            "start": lambda: graph.start(task),
            "finish": lambda: graph.finish(task, 1),
            "fail": lambda: graph.fail(task, ValueError()),
            "cancelled": lambda: graph.cancelled(task),
            "suspend": lambda: graph.suspend(task, graph.root),
            "resume": lambda: graph.resume(task, graph.root),
            "declare": lambda: task.fail("no"),
        }
        self._refused(IllegalTransition, calls[event])


GraphAgainstModel.TestCase.settings = settings(
    max_examples=examples(200), stateful_step_count=50, deadline=None
)
TestGraphAgainstModel = GraphAgainstModel.TestCase

# Steps that change edges and families, more often than a walk through all rules would.
SURGERY = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(wishes, min_size=1, max_size=2), st.none() | picks),
        st.tuples(st.just("schedule"), picks, picks),
        st.tuples(st.sampled_from(["connect", "connect", "connect"]), wishes, picks),
        st.tuples(st.sampled_from(["disconnect", "remove", "end", "start", "suspend"]), picks, picks),
    ),
    min_size=12,
    max_size=40,
)


@settings(max_examples=examples(150), deadline=None)
@given(steps=SURGERY, attached=st.booleans())
def test_surgery_agrees_with_the_model(steps: list[tuple[str, Any, Any]], attached: bool) -> None:  # noqa: FBT001 - drawn by name
    """However edges are made and cut and tasks removed, graph and model agree, on refused cycles too."""
    machine = GraphAgainstModel()
    machine.begin(sizes=(9, 9, 9), listening=False, attached=attached)
    machine.create_task(group="default", scheduler=0)
    for step, one, two in steps:
        if step == "add":
            machine.add(
                group="default", arguments=[], after=one, actor=two, priority=None, key=None, dedupe=None
            )
        elif step == "schedule":
            machine.create_task(group="default", scheduler=one)
        elif step in {"connect", "disconnect", "remove"} and machine._twins(WAITING, READY):
            more = {"connect": {"tree": one, "pick": two}, "disconnect": {"pick": one, "which": two}}
            getattr(machine, step)(**more.get(step, {"pick": one}))
        elif step == "start" and machine._twins(READY):
            machine.start(pick=one)
        elif step == "end" and machine._twins(RUNNING, SUSPENDED):
            machine.end(pick=one, how="finish" if two % 4 else "fail")
        elif step == "suspend" and machine._twins(RUNNING):
            machine.suspend(pick=one, other=two)


# The order in which tasks are taken ---------------------------------------------------------------------

ADDED = st.tuples(st.just("add"), st.sampled_from([0, 0, 0, 1, -1.5]), st.sampled_from([None, "x", "y", "z"]))
DONE_TO_IT = st.tuples(
    st.sampled_from(["take", "take", "cancel", "remove", "hold", "release", "start"]), picks, st.none()
)
ORDERLY = st.lists(ADDED | DONE_TO_IT, min_size=12, max_size=40)


@attrs.define
class Turns:
    """READY tasks by priority; of each its keys in the order of their turns, with their tasks."""

    lanes: dict[float, list[tuple[object, list[Task[Any]]]]] = attrs.field(factory=dict)

    def add(self, task: Task[Any]) -> None:
        """Put a task at the end of its key's line, and a key without a line at the end of the round."""
        lane = self.lanes.setdefault(task.priority, [])
        line = next((line for key, line in lane if key == task.key), None)
        if line is None:
            lane.append((task.key, [task]))
        else:
            line.append(task)

    def drop(self, task: Task[Any]) -> None:
        """Take a task out; a key without tasks is in no round."""
        for priority, lane in self.lanes.items():
            self.lanes[priority] = [
                (key, [t for t in line if t is not task]) for key, line in lane if line != [task]
            ]

    def take(self) -> Task[Any] | None:
        """Take the first of the key whose turn it is; then it is the turn of the other keys."""
        for _, lane in sorted(self.lanes.items(), reverse=True):
            if lane:
                key, line = lane.pop(0)
                task = line.pop(0)
                if line:
                    lane.append((key, line))
                return task
        return None


def play(steps: list[tuple[str, Any, Any]], *, withdrawals: bool) -> None:
    """Do these steps to a graph, and compare every task taken with a naive simulation."""
    graph = TaskGraph(worker_loops={"default": 1000})
    gate = graph.add(work)
    graph.take("default")  # the gate runs, and does not end
    turns = Turns()
    held: list[Task[Any]] = []
    for step, one, two in steps:
        ready = graph.ready
        if step == "add":
            turns.add(graph.add(work, priority=one, key=two))
        elif step == "take":
            assert graph.take("default") is turns.take()
        elif step == "release" and held:
            task = held.pop(one % len(held))
            graph.disconnect(gate, task)
            turns.add(task)
        elif step in {"cancel", "remove", "hold", "start"} and ready and withdrawals:
            task = ready[one % len(ready)]
            turns.drop(task)
            if step == "hold":
                graph.connect(gate, task)
                held.append(task)
            elif step == "cancel":
                task.cancel()
            else:
                (graph.remove if step == "remove" else graph.start)(task)
        graph.check()
    while (last := turns.take()) is not None:
        assert graph.take("default") is last
    assert graph.take("default") is None


@settings(max_examples=examples(150), deadline=None)
@given(ORDERLY)
def test_order_is_by_priority_then_round_robin_over_keys_then_first_ready(
    steps: list[tuple[str, Any, Any]],
) -> None:
    """Higher priority is taken first, then keys in turn, then what was ready first."""
    play(steps, withdrawals=False)


@settings(max_examples=examples(150), deadline=None)
@given(ORDERLY)
def test_tasks_that_are_withdrawn_take_no_turn_of_their_key(steps: list[tuple[str, Any, Any]]) -> None:
    """Tasks that are withdrawn, or started out of turn, leave the order of the others as it is."""
    play(steps, withdrawals=True)
