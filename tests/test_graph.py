"""The graph by itself: what may be put in, what follows from each end, and what it costs."""

from __future__ import annotations

import contextvars
import math
import subprocess
import sys
from collections import UserDict, namedtuple
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest
import trio

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
    errors,
    failed,
    settled,
    skipped,
    succeeded,
    task_type,
)
from trio_graph_scheduler.graph.arguments import Arguments, ComputedArguments
from trio_graph_scheduler.graph.driver import NoDriver
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
ROOT = Path(__file__).parents[1]


async def work(*args: object, **kwargs: object) -> None:
    """Stand for an async function; it is never called."""


async def other(*args: object, **kwargs: object) -> None:
    """Stand for another one."""


def plain(*args: object, **kwargs: object) -> None:
    """Stand for a plain function."""


def at_once(steps: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine does that waits for nothing."""
    try:
        steps.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it has waited")


def inside(task: Task[Any], call: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call as the body of a task would."""

    def body() -> T:
        CURRENT_TASK.set(task)
        return call(*args, **options)

    return contextvars.copy_context().run(body)


def wide(**options: Any) -> TaskGraph:
    """Return a graph in which everything that is ready can run."""
    return TaskGraph(worker_loops={"default": 10**9}, **options)


def started(graph: TaskGraph, *tasks: Task[Any]) -> None:
    """Start these tasks."""
    for task in tasks:
        graph.start(task)


def finish(graph: TaskGraph, *tasks: Task[Any], value: object = None) -> None:
    """Start and finish these tasks."""
    for task in tasks:
        graph.start(task)
        graph.finish(task, value)


def fail(graph: TaskGraph, *tasks: Task[Any]) -> None:
    """Start these tasks and let them fail."""
    for task in tasks:
        graph.start(task)
        graph.fail(task, ValueError("no"))


def unhandled(graph: TaskGraph) -> tuple[Task[Any], ...]:
    """Return the tasks whose failures nobody took note of."""
    return tuple(task for task in graph.failures if not task.handled)


def picture(graph: TaskGraph) -> object:
    """Return all that can be seen of a graph."""
    tasks = [
        (
            task,
            task.state,
            task.predecessors,
            task.children,
            task.parent,
            task.reason,
            task.error,
            task.settled,
            task.name,
        )
        for task in (graph.root, *graph)
    ]
    groups = [(name, group, group.limit, group.running, group.ready) for name, group in graph.groups.items()]
    return (
        tasks,
        groups,
        dict(graph._kinds.registered),
        dict(graph._deduped),
        graph._next_uid,
        repr(graph.results),
        graph.running,
    )


@contextmanager
def refused(graph: TaskGraph, error: type[Exception], match: str | None = None) -> Iterator[Any]:
    """Expect an error of this package, after which everything is as it was."""
    before = picture(graph)
    with pytest.raises(error, match=match) as caught:
        yield caught
    assert isinstance(caught.value, errors.GraphError)
    assert picture(graph) == before
    assert max(map(len, str(caught.value).splitlines())) < 1000
    str(caught.value).encode()  # printable anywhere
    graph.check()


class Stub(NoDriver):
    """A driver that does nothing."""


# What is refused ----------------------------------------------------------------------------------------


def test_an_unknown_type_is_named_with_the_nearest_known_ones() -> None:
    """A misspelt name of a type is refused, and the right one shown."""
    graph = TaskGraph({"fetch_page": work, "count_words": other})
    with refused(graph, errors.UnknownType, "'fetch_pgae'; did you mean 'fetch_page'") as caught:
        graph.add("fetch_pgae")
    assert caught.value.unknown == ("fetch_pgae",)
    assert set(caught.value.known) == {"fetch_page", "count_words"}
    assert isinstance(caught.value, LookupError)
    for steps in (graph.create_task("nope", None, 0), graph.create_wait_task("nope", None, [], True)):
        with refused(graph, errors.UnknownType, "'nope'"):
            at_once(steps)


def test_an_unknown_type_in_a_graph_without_types_says_so() -> None:
    """Where nothing is registered the message says that, and how to do it."""
    graph = TaskGraph()
    with refused(graph, errors.UnknownType, "known: none"):
        graph.add("fetch")


def test_all_unknown_groups_are_in_one_error() -> None:
    """Groups that assignments name and the graph has not are listed together, each with the nearest match."""
    with pytest.raises(errors.UnknownGroup) as caught:
        TaskGraph(
            worker_loops={"http": 1, "disk": 2}, worker_assignments={"a": "htp", "b": "http", "c": "disc"}
        )
    assert caught.value.unknown == ("htp", "disc")
    assert "did you mean 'http'" in str(caught.value)
    assert "did you mean 'disk'" in str(caught.value)


def test_unknown_groups_of_types_lookups_and_takes_are_refused() -> None:
    """A group that is not there is refused wherever it is named, and nothing has changed."""
    graph = TaskGraph(worker_loops={"http": 1})
    lost = TaskType(work, name="lost", group="htp")
    with refused(graph, errors.UnknownGroup, "did you mean 'http'"):
        graph.add(lost)
    with refused(graph, errors.UnknownGroup):
        graph.register(lost)
    with refused(graph, errors.UnknownGroup):
        graph.take("htp")
    with refused(graph, errors.UnknownGroup):
        graph.tasks(group="htp")
    with pytest.raises(errors.UnknownGroup):
        TaskGraph([lost])


@pytest.mark.parametrize("limit", [True, 1.5, -1, "3", None, math.nan])
def test_limits_that_are_not_whole_numbers_are_refused(limit: Any) -> None:
    """A limit is a whole number from 0 on, in a graph, a description, and at a resize."""
    with pytest.raises(errors.BadValue, match="limit"):
        WorkerGroup(limit)
    with pytest.raises(errors.BadValue, match="limit"):
        TaskGraph(worker_loops={"default": limit})
    graph = TaskGraph()
    with refused(graph, errors.BadValue, "limit"):
        graph.groups["default"].resize(limit)


def test_bad_options_of_a_graph_are_refused() -> None:
    """What a graph cannot be made of is refused with a typed error."""
    with pytest.raises(errors.BadValue, match="on_failure"):
        TaskGraph(on_failure="explode")
    bad: Any = [work]
    with pytest.raises(errors.BadType, match="task function"):
        TaskGraph(bad)
    bad = {"name": 5}
    with pytest.raises(errors.BadType, match="callable"):
        TaskGraph(bad)
    context: Any = 5
    with pytest.raises(errors.BadType, match="context"):
        WorkerGroup(1, context=context)


def test_kinds_that_cannot_be_called_are_refused() -> None:
    """What is neither function, type nor name is no kind of task."""
    graph = TaskGraph()
    kind: Any
    for kind in (5, None, [work], graph.root, done()):
        with refused(graph, errors.BadType, "kind of a task"):
            graph.add(kind)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"executor": "procces"}, errors.BadValue),
        ({"executor": "thread"}, errors.BadType),
        ({"name": ""}, errors.BadType),
        ({"name": 3}, errors.BadType),
        ({"group": 3}, errors.BadType),
        ({"abandon_after": 1.0}, errors.BadValue),
    ],
)
def test_bad_options_of_a_type_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """A type of an async function refuses an unknown executor, threads, and names that are none.

    A variation does so too.
    """
    with pytest.raises(error):
        TaskType(work, **options)
    with pytest.raises(error):
        task_type(**options)(work)
    if "name" not in options:
        with pytest.raises(error):
            TaskType(work).but(**options)


def test_a_variation_refuses_unknown_options_all_in_one_error() -> None:
    """All unknown options of a variation are named in one error."""
    with pytest.raises(errors.BadType, match="colour, size"):
        TaskType(work).but(size=1, colour=2)
    function: Any = 5
    with pytest.raises(errors.BadType, match="callable"):
        TaskType(function, name="five", executor="async")


@pytest.mark.parametrize("abandon_after", [-1, math.nan, math.inf, "3"])
def test_a_thread_is_abandoned_after_a_number_of_seconds(abandon_after: Any) -> None:
    """The time after which a thread is abandoned is a number of seconds from 0 on."""
    with pytest.raises(errors.BadValue, match="abandon_after"):
        TaskType(plain, abandon_after=abandon_after)
    assert TaskType(plain, abandon_after=0).abandon_after == 0


@pytest.mark.parametrize("after", [5, "a", b"a", [5], [None], [[done()]], {"a": 1}, work])
def test_after_takes_tasks_and_conditions_only(after: Any) -> None:
    """Whatever else is given as after= is refused."""
    graph = TaskGraph()
    with refused(graph, errors.BadType, "after"):
        graph.add(work, after=after)


def test_after_takes_a_task_a_condition_or_any_iterable_of_them() -> None:
    """Tasks and conditions are taken alone, and from lists, tuples, sets, generators and dicts."""
    graph = TaskGraph()
    task = graph.add(work)
    many: list[Any] = [[task], (task,), {task}, {task: 1}, (item for item in [task]), [task, task]]
    for after in (task, done(task), *many):
        waiting = graph.add(work, after=after)
        assert waiting.predecessors == (task,)
        assert waiting.state is WAITING
    assert graph.add(work, after=[]).state is READY


def test_foreign_and_removed_tasks_are_refused_everywhere() -> None:
    """A task of another graph, or a removed one, is neither waited for, rewired nor asked about."""
    graph, elsewhere = TaskGraph(), TaskGraph()
    here, gone = graph.add(work), graph.add(work)
    graph.remove(gone)
    for stranger in (elsewhere.add(work), gone):
        attempts: list[Callable[[], object]] = [
            partial(graph.add, work, stranger),
            partial(graph.add, work, [{"deep": (stranger,)}]),
            partial(graph.add, partial(work, option=stranger)),
            partial(graph.add, work, after=stranger),
            partial(graph.add, work, after=any_of(here, done(stranger) | here)),
            partial(graph.connect, stranger, here),
            partial(graph.connect, settled(stranger), here),
            partial(graph.connect, here, stranger),
            partial(graph.disconnect, here, stranger),
            partial(graph.remove, stranger),
            partial(graph.why, stranger),
        ]
        for attempt in attempts:
            with refused(graph, errors.ForeignTask, "not in this graph"):
                attempt()
        assert stranger not in graph
        with refused(graph, errors.NotConnected):
            graph.disconnect(stranger, here)


def test_a_refused_task_leaves_its_type_unregistered() -> None:
    """What add() refuses because of an argument or option has not registered the type either."""
    graph = TaskGraph()
    kind = TaskType(work, name="mine")
    stranger = TaskGraph().add(work)
    with refused(graph, errors.ForeignTask):
        graph.add(kind, stranger)
    with refused(graph, errors.BadType):
        graph.add(kind, dedupe=[])


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": 5},
        {"priority": math.nan},
        {"priority": "high"},
        {"priority": Fraction(1, 2)},
        {"key": []},
        {"dedupe": {}},
        {"dedupe": ([],)},
    ],
)
def test_bad_labels_are_refused(options: dict[str, Any]) -> None:
    """Names are strings, priorities numbers, keys and dedupe values hashable."""
    graph = TaskGraph()
    with refused(graph, errors.BadType):
        graph.add(work, **options)


def test_an_argument_whose_repr_raises_does_not_spoil_an_error() -> None:
    """The message of an error comes out whatever the repr of the value does."""

    class Rude:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    graph = TaskGraph()
    value: Any = Rude()
    with refused(graph, errors.BadType, "Rude"):
        graph.add(value)
    with refused(graph, errors.BadType, "Rude"):
        graph.add(work, after=value)
    with refused(graph, errors.UnknownTask):
        graph[value]


@pytest.mark.parametrize("n", [True, -1, 1.0, "1", None])
def test_n_of_m_takes_a_whole_number(n: Any) -> None:
    """At least n of m is counted with a whole number n from 0 on."""
    graph = TaskGraph()
    with pytest.raises(errors.BadValue):
        at_least(n, [graph.add(work), graph.add(work)])


def test_more_than_there_are_is_refused() -> None:
    """At least n of m with n > m could never hold, and is refused; an item given twice counts once."""
    graph = TaskGraph()
    a, b, c = (graph.add(work) for _ in range(3))
    with pytest.raises(errors.BadValue, match="only 3"):
        at_least(5, [a, b, c])
    with pytest.raises(errors.BadValue, match="only 1"):
        at_least(2, [a, a])
    with pytest.raises(errors.BadValue):
        any_of()
    operand: Any
    for operand in (5, "ab", None, [a]):
        with pytest.raises(errors.BadType):
            any_of(operand)
        with pytest.raises(errors.BadType):
            at_least(0, [operand])
        for verb in (succeeded, failed, done, skipped, settled):
            with pytest.raises(errors.BadType, match=verb.__name__):
                verb(operand)
    bad: Any = done(a)
    with pytest.raises(errors.BadType):
        succeeded(bad)
    with pytest.raises(TypeError):
        bad & 5


def test_a_condition_is_no_truth_value() -> None:
    """Using a condition as a boolean raises an error that names & and |."""
    graph = TaskGraph()
    a, b = done(graph.add(work)), failed(graph.add(work))
    attempts: list[Callable[[], object]] = [lambda: bool(a), lambda: not a, lambda: a and b, lambda: a or b]
    for attempt in attempts:
        with pytest.raises(errors.ConditionAsBoolean, match=r"& and \|"):
            attempt()


@pytest.mark.parametrize("state", [RUNNING, SUSPENDED, SUCCEEDED, FAILED, CANCELLED, SKIPPED])
def test_what_has_started_cannot_be_rewired(state: TaskState) -> None:
    """A task that has started or ended is neither connected, disconnected nor removed."""
    graph = wide()
    first, bad, task = graph.add(work), graph.add(work), graph.add(work)
    fail(graph, bad)
    if state is SKIPPED:
        graph.connect(bad, task)
    elif state is CANCELLED:
        task.cancel()
    else:
        graph.start(task)
        if state is SUSPENDED:
            graph.suspend(task, first)
        elif state is SUCCEEDED:
            graph.finish(task)
        elif state is FAILED:
            graph.fail(task, ValueError())
    assert task.state is state
    for attempt in (
        partial(graph.connect, first, task),
        partial(graph.disconnect, first, task),
        partial(graph.remove, task),
    ):
        with refused(graph, errors.AlreadyStarted, str(state)):
            attempt()
    with refused(graph, errors.AlreadyStarted):
        graph.create_wait_link(first.uid, task.uid)


def test_the_root_is_fixed() -> None:
    """The root can be waited for, and neither removed nor rewired."""
    graph = TaskGraph()
    task = graph.add(work, after=graph.root)
    assert task.state is READY
    with refused(graph, errors.AlreadyStarted):
        graph.remove(graph.root)
    with refused(graph, errors.AlreadyStarted):
        graph.connect(task, graph.root)
    assert graph.root.result_nowait() is None
    assert graph.root.name == "root"
    assert graph[0] is graph.root


def test_wrong_things_for_surgery_are_refused() -> None:
    """What is no task cannot be rewired, and what is neither task nor condition not be waited for."""
    graph = TaskGraph()
    task = graph.add(work)
    bad: Any
    for bad in (5, "a", None, work):
        for attempt in (
            partial(graph.connect, bad, task),
            partial(graph.connect, task, bad),
            partial(graph.disconnect, task, bad),
            partial(graph.remove, bad),
            partial(graph.why, bad),
        ):
            with refused(graph, errors.BadType):
                attempt()
    condition: Any = done(task)
    with refused(graph, errors.BadType):
        graph.why(condition)


def test_a_running_graph_is_changed_from_its_own_thread_only() -> None:
    """While a graph runs, every change from another thread is refused."""
    graph = TaskGraph({"work": work})
    task, first = graph.add(work), graph.add(work)
    graph.attach(Stub())
    caught: list[BaseException] = []

    def attempts() -> None:
        calls: list[Callable[[], object]] = [
            lambda: graph.add(work),
            lambda: graph.connect(first, task),
            lambda: graph.disconnect(first, task),
            lambda: graph.remove(task),
            task.cancel,
            graph.cancel,
            lambda: graph.groups["default"].resize(1),
            lambda: at_once(graph.create_task("work", None, 0)),
        ]
        for call in calls:
            try:
                call()
            except errors.WrongThread as error:
                caught.append(error)

    before = picture(graph)
    thread = Thread(target=attempts)
    thread.start()
    thread.join()
    assert len(caught) == 8
    assert "from_thread" in str(caught[0])
    assert picture(graph) == before
    with refused(graph, errors.AlreadyRunning):
        graph.attach(Stub())
    graph.detach()
    graph.attach(Stub())


@pytest.mark.parametrize("uid", [1, -1, "1", None, 1.5, [], "x" * 10**6, "\ud800\n"])
def test_an_unknown_uid_is_refused(uid: Any) -> None:
    """What is no uid of a task is refused, in a message of readable length."""
    graph = TaskGraph({"work": work})
    with refused(graph, errors.UnknownTask):
        graph[uid]
    with refused(graph, errors.UnknownTask):
        at_once(graph.create_task("work", None, uid))
    with refused(graph, errors.UnknownTask):
        at_once(graph.create_wait_task("work", None, [uid], True))
    with refused(graph, errors.UnknownTask):
        graph.create_wait_link(uid, 0)


# Types and names ----------------------------------------------------------------------------------------


def test_functions_may_share_a_name_but_registered_types_may_not() -> None:
    """Two lambdas are two kinds of one name; two registered types of one name are refused."""
    graph = TaskGraph()
    first, second = graph.add(lambda: 1), graph.add(lambda: 2)
    assert first.name == second.name == "<lambda>"
    assert first.type is not second.type
    graph.add(TaskType(work, name="same"))
    with refused(graph, errors.DuplicateType, "'same'"):
        graph.add(TaskType(work, name="same"))
    with refused(graph, errors.DuplicateType, "'same'"):
        graph.register(TaskType(other, name="same"))
    with pytest.raises(errors.DuplicateType):
        TaskGraph([TaskType(work, name="same"), TaskType(other, name="same")])


def test_variations_are_of_the_same_kind() -> None:
    """A variation keeps the name and the identity of its type, unless it is given a name of its own."""
    graph = TaskGraph(worker_loops={"slow": 1})
    kind = TaskType(work, name="kind")
    slow = kind.but(group="slow")
    first = graph.add(slow, dedupe=1)
    assert graph.add(kind, dedupe=1) is first
    assert graph.add(slow.but(group=None), dedupe=1) is first
    assert first.group is graph.groups["slow"]
    assert graph.add("kind").group is graph.groups["default"]
    named = slow.but(name="named")
    second = graph.add(named, dedupe=1)
    assert second is not first
    assert second.group is graph.groups["slow"]
    assert (
        graph.tasks(type=kind)
        == graph.tasks(type="kind")
        == tuple(task for task in graph if task is not second)
    )
    assert graph.tasks(type=named) == (second,)


def test_a_mapping_of_functions_names_types() -> None:
    """Functions, types and partials in a mapping are registered under its names."""
    kind = TaskType(work, name="kind")
    functions: dict[str, Callable[..., Any]]
    functions = {"a": work, "kind": kind, "b": kind, "c": partial(plain, 1)}
    graph = TaskGraph(functions, {"g": 1}, {"a": "g"})
    assert graph.add("a").group is graph.groups["g"]
    assert graph.add("kind").type is kind
    assert graph.add("b").type.name == "b"
    assert graph.add("c").type.executor == "thread"


def test_a_type_may_be_called_as_if_there_were_no_graph() -> None:
    """A decorated function stays callable."""

    @task_type(group="http")
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8
    assert (double.name, double.group, double.executor) == ("double", "http", "thread")


def test_callables_of_all_sorts_are_kinds() -> None:
    """Methods, instances with __call__ (hashable or not) and builtins get a fitting executor."""

    class Caller:
        __hash__ = None  # type: ignore[assignment]  # that is what is tried

        async def __call__(self) -> None:
            """Be async."""

        def method(self) -> None:
            """Be plain."""

    graph = TaskGraph()
    caller = Caller()
    assert graph.add(caller).type.executor == "async"
    assert graph.add(caller).name == "Caller"
    assert graph.add(caller.method).type.executor == "thread"
    assert graph.add(print, 1).name == "print"


def test_dedupe_returns_the_task_that_is_there() -> None:
    """A second task of the same kind and value is not added; another kind, or none after removal, is."""
    graph = TaskGraph({"work": work})
    first = graph.add(work, 1, dedupe=("a", 1))
    assert graph.add(work, 2, dedupe=("a", 1), name="else") is first
    assert first.name == "work"
    assert graph.add(other, dedupe=("a", 1)) is not first
    assert graph.add(work, dedupe=("a", 2)) is not first
    assert graph.add(work) is not graph.add(work)
    assert len(graph) == 5
    graph.remove(first)
    assert graph.add(work, dedupe=("a", 1)) is not first
    graph.check()


HORRIBLE = [
    "line\nbreak",
    "nul\0",
    "x" * 10**6,
    "\u202eright to left",
    "\ud800 lone",
    "a/b",
    "<script>",
    "'quote",
]


@pytest.mark.parametrize("name", HORRIBLE, ids=range(len(HORRIBLE)))
def test_any_string_may_be_a_name(name: str) -> None:
    """Names of any kind are kept as they are, and are shown escaped and short in every message."""
    graph = TaskGraph({name: work}, {name: 0, "default": 9}, {name: name})
    task = graph.add(name, name=name)
    first = graph.add(other, name=name)
    waiting = graph.add(other, first, after=done(task) & skipped(task), name=name)
    assert task.name == task.type.name == name
    messages = [
        graph.why(task),
        graph.why(waiting),
        repr(task),
        repr(done(task)),
        repr(graph.groups[name]),
        str(graph.statistics()),
    ]
    calls: list[Callable[[], object]] = [
        lambda: graph.start(task),
        lambda: graph.add(name + "?"),
        lambda: graph.take(name + "?"),
        lambda: graph.remove(first),
        lambda: graph.disconnect(task, waiting),
        lambda: graph.finish(task),
        task.result_nowait,
        lambda: graph.add(TaskType(other, name=name)),
        lambda: TaskGraph().add(work, task),
        lambda: TaskType(work, name=name, executor="thread"),
        lambda: bool(done(task)),
    ]
    for call in calls:
        with pytest.raises((errors.GraphError, trio.WouldBlock)) as caught:
            call()
        messages.append(str(caught.value))
    finish(graph, first)
    task.cancel("enough")
    messages += [graph.why(waiting), graph.why(task), str(waiting.reason)]
    for ended in (task, waiting):
        with pytest.raises(errors.GraphError) as end:
            ended.result_nowait()
        messages.append(str(end.value))
    graph.connect(graph.add(other, name=name), graph.add(other, name=name))
    for message in messages:
        assert len(message) < 2000
        message.encode()
        assert "\0" not in message
        assert "\u202e" not in message


def test_states_print_as_their_names_and_parse_in_any_case() -> None:
    """A state prints as its name and is found by it in any case; other words are refused."""
    for state in TaskState:
        assert str(state) == state.value == state.name
        assert TaskState(str(state).lower()) is TaskState(state) is TaskState(str(state).title()) is state
    for word in ("redy", "", 5, None):
        with pytest.raises(ValueError, match="is not a valid TaskState"):
            TaskState(word)
    assert [state for state in TaskState if state.ended] == [SUCCEEDED, FAILED, CANCELLED, SKIPPED]


# Arguments ----------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - an untyped one must work too


def given(task: Task[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the function of a task would be called with."""
    arguments: Any = task.arguments
    if isinstance(arguments, tuple):
        return arguments, {}
    filled: tuple[tuple[Any, ...], dict[str, Any]] = arguments.filled(task.graph.results)
    return filled


def test_results_take_the_places_of_tasks_in_nested_containers() -> None:
    """Tasks in containers of all kinds, keys included, and in partials are waited for and replaced."""
    graph = wide()
    one, two = graph.add(work, name="one"), graph.add(work, name="two")
    kind = partial(work, 0, option=[two])
    nested = {"list": [one, [(two,)]], one: Pair(one, {two}), "frozen": frozenset({one})}
    task = graph.add(kind, nested, partial(plain, one, key={"k": two}), "plain")
    assert set(task.predecessors) == {one, two}
    assert task.predecessors[0] is one
    finish(graph, one, value=1)
    assert task.state is WAITING
    finish(graph, two, value=2)
    assert task.state is READY
    args, kwargs = given(task)
    inner = args[2]
    assert args[:2] == (0, {"list": [1, [(2,)]], 1: Pair(1, {2}), "frozen": frozenset({1})})
    assert type(args[1][1]) is Pair
    assert (inner.func, inner.args, inner.keywords) == (plain, (1,), {"key": {"k": 2}})
    assert kwargs == {"option": [2]}
    assert nested["list"] == [one, [(two,)]]


def test_partials_of_partials_and_types_give_their_arguments() -> None:
    """A partial as kind gives its arguments first and its keywords, the outer one winning.

    The kind is what is inside.
    """
    graph = TaskGraph()
    kind = TaskType(work, name="kind")
    inner = partial(kind, 1, a=1, b=1)
    task = graph.add(partial(inner, 2, b=2), 3)
    assert given(task) == ((1, 2, 3), {"a": 1, "b": 2})
    assert task.type is kind


def test_containers_with_tasks_are_copied_and_all_others_are_shared() -> None:
    """A list that holds a task is copied when the task is added.

    Any other value is shared with the caller, as documented.
    """
    graph = wide()
    first = graph.add(work)
    shared: list[Any] = [1]
    copied: list[Any] = [first, shared]
    task = graph.add(work, shared, copied)
    shared.append(2)
    copied.append(graph.add(work))
    finish(graph, first, value="x")
    args, _ = given(task)
    assert args == ([1, 2], ["x", [1, 2]])
    assert args[0] is shared
    assert args[1][1] is shared


def test_a_container_that_holds_itself_is_fine_unless_it_holds_a_task() -> None:
    """A self-containing list is passed on as it is.

    With a task in it, it is refused, for it cannot be copied.
    """
    graph = TaskGraph()
    first = graph.add(work)
    loop: list[Any] = [1]
    loop.append(loop)
    assert given(graph.add(work, loop))[0][0] is loop
    loop.append(first)
    with refused(graph, errors.BadValue, "contain itself"):
        graph.add(work, loop)


def test_deeply_nested_values_are_fine_unless_they_hold_a_task() -> None:
    """Depth does not matter to values without tasks; with a task deep inside, an error says so."""
    graph = TaskGraph()
    first = graph.add(work)
    plain_deep: list[Any] = []
    task_deep: list[Any] = [first]
    for _ in range(2_000):
        plain_deep, task_deep = [plain_deep], [task_deep]
    assert graph.add(work, plain_deep).state is READY
    with refused(graph, errors.BadValue, "nested"):
        graph.add(work, task_deep)


class Counting(list[Any]):
    """A list that counts how often it is looked through."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        Counting.looks += 1
        return super().__iter__()


def test_a_container_used_many_times_over_costs_once() -> None:
    """Containers that share their parts take time linear in the parts, not in the ways to them."""
    graph = wide()
    first = graph.add(work)
    value: list[Any] = Counting([first])
    for _ in range(14):
        value = Counting([value, value])
    Counting.looks = 0
    task = graph.add(work, value)
    finish(graph, first, value=1)
    given(task)
    assert Counting.looks < 1000


def test_tasks_in_values_made_on_the_fly_are_found() -> None:
    """A mapping that makes its values when asked gives up its tasks, as often as it is given."""

    class Fresh(UserDict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return [super().__getitem__(key)]

    graph = TaskGraph()
    tasks = [graph.add(work) for _ in range(10)]
    task = graph.add(work, *(Fresh({"key": first}) for first in tasks))
    assert task.predecessors == tuple(tasks)


def test_an_argument_is_waited_for_once() -> None:
    """A task that is given twice, and after= too, is one predecessor, in the order first declared."""
    graph = wide()
    one, two, three = (graph.add(work) for _ in range(3))
    task = graph.add(work, two, [one, two], after=[one, three, done(two)])
    assert task.predecessors == (two, one, three)
    finish(graph, two, one)
    assert task.state is WAITING
    finish(graph, three)
    assert task.state is READY


# Conditions ---------------------------------------------------------------------------------------------


def ends(graph: TaskGraph) -> dict[str, Task[Any]]:
    """Return one task in each end state, and one that is open."""
    good, bad, off, skip, still = (graph.add(work) for _ in range(5))
    finish(graph, good)
    fail(graph, bad)
    off.cancel()
    graph.connect(bad, skip)
    return {"SUCCEEDED": good, "FAILED": bad, "CANCELLED": off, "SKIPPED": skip, "READY": still}


@pytest.mark.parametrize(
    ("verb", "true_of"),
    [
        (succeeded, {"SUCCEEDED"}),
        (failed, {"FAILED"}),
        (done, {"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED"}),
        (settled, {"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED"}),
        (skipped, {"SKIPPED"}),
    ],
)
def test_verbs_judge_each_state(verb: Callable[..., Condition], true_of: set[str]) -> None:
    """Each verb is true of some end states, false of the others, and open before.

    On what has ended it is decided at once.
    """
    graph = wide()
    for state, task in ends(graph).items():
        condition = verb(task)
        assert condition.holds is None
        waiting = graph.add(work, after=condition)
        assert condition.holds is (None if state == "READY" else state in true_of)
        assert waiting.state is {None: WAITING, True: READY, False: SKIPPED}[condition.holds]
    graph.check()


@pytest.mark.parametrize("n", range(7))
@pytest.mark.parametrize("repeats", [1, 2])
def test_n_of_m_is_decided_at_n_successes_or_at_m_minus_n_plus_1_failures(n: int, repeats: int) -> None:
    """At least n of m is decided at the n-th success or the (m-n+1)-th failure; repeats count once."""
    for successes_first in (True, False):
        graph = wide()
        tasks = [graph.add(work) for _ in range(6)]
        condition = at_least(n, tasks * repeats)
        waiting = graph.add(work, after=condition)
        for count, task in enumerate(tasks):
            assert condition.holds is (True if n == 0 else None)
            (finish if successes_first else fail)(graph, task)
            if successes_first and count + 1 >= n:
                break
            if not successes_first and count + 1 == 6 - n + 1:
                break
        assert condition.holds is (successes_first or n == 0)
        assert waiting.state is (READY if successes_first or n == 0 else SKIPPED)
        for task in graph.ready:
            if task is not waiting:
                fail(graph, task)
        assert waiting.state is (READY if successes_first or n == 0 else SKIPPED)
        graph.check()


def test_removal_shrinks_conditions() -> None:
    """A condition counts without what was removed.

    All of fewer may hold at once, n of fewer can become impossible, with a reason.
    """
    graph = wide()
    a, b, c = (graph.add(work) for _ in range(3))
    everything = graph.add(work, after=succeeded(a, b))
    bare = graph.add(work, after=[a, b])
    two = graph.add(work, after=at_least(2, [a, b, c]))
    end = graph.add(work, after=settled(b))
    finish(graph, a)
    graph.remove(b)
    assert everything.state is bare.state is end.state is READY
    assert two.state is WAITING
    graph.remove(c)
    assert two.state is SKIPPED
    assert two.reason is not None
    assert "can no longer hold" in two.reason
    graph.check()


def test_conditions_may_share_parts_and_be_used_by_many_tasks() -> None:
    """A condition that is part of two others and used for many tasks releases all of them."""
    graph = wide()
    a, b, c = (graph.add(work) for _ in range(3))
    part = succeeded(a, b)
    left, right = part | c, part & failed(c)
    crowd = [graph.add(work, after=item) for item in (left, right, part) for _ in range(20)]
    for task in crowd[20:40]:
        graph.connect(left, task)
    finish(graph, a)
    assert {task.state for task in crowd} == {WAITING}
    finish(graph, b)
    assert [task.state for task in crowd] == [READY] * 20 + [WAITING] * 20 + [READY] * 20
    fail(graph, c)
    assert {task.state for task in crowd} == {READY}
    graph.check()


def test_a_bare_task_combines_with_conditions_from_both_sides() -> None:
    """In & and | a bare task beside a condition means its success."""
    graph = wide()
    a, b = graph.add(work), graph.add(work)
    both, either = graph.add(work, after=a & done(b)), graph.add(work, after=done(b) | a)
    finish(graph, a)
    assert (both.state, either.state) == (WAITING, READY)
    fail(graph, b)
    assert both.state is READY


@pytest.mark.parametrize("holds", [True, False])
def test_a_condition_of_great_depth_does_not_recurse(holds: bool) -> None:  # noqa: FBT001 - drawn by name
    """50,000 conditions inside each other are followed, decided and described."""
    graph = wide()
    task, spare = graph.add(work), graph.add(work)
    condition = done(task)
    with shallow():
        for number in range(50_000):
            condition = (
                condition & spare if number % 2 else (all_of(condition) if holds else condition & task)
            )
        waiting = graph.add(work, after=condition)
        assert set(waiting.predecessors) == {task, spare}
        assert len(graph.why(waiting)) < 1000
        assert graph.find_cycle() == ()
        (finish if holds else fail)(graph, task)
        assert waiting.state is (WAITING if holds else SKIPPED)
        finish(graph, spare)
        assert waiting.state is (READY if holds else SKIPPED)
        assert condition.holds is holds
        del condition, waiting


@pytest.mark.parametrize("items", ["ab", b"ab", 3])
def test_what_at_least_counts_is_listed(items: Any) -> None:
    """A text or what cannot be iterated over is refused where items to count are asked for."""
    with pytest.raises(errors.BadType, match=r"at_least\(2, \[a, b, c\]\)"):
        at_least(2, items)


def test_an_empty_condition_holds_at_once() -> None:
    """All of nothing, and at least none, hold."""
    graph = TaskGraph()
    for condition in (
        succeeded(),
        done(),
        failed(),
        skipped(),
        settled(),
        all_of(),
        at_least(0, []),
        all_of(all_of()),
    ):
        assert graph.add(work, after=condition).state is READY
        assert condition.holds is True


# What follows from ends ---------------------------------------------------------------------------------


def test_failure_isolates_its_branch() -> None:
    """Dependents on success are skipped, transitively, with a reason.

    Those on the end run, and what is unrelated goes on.
    """
    graph = wide()
    bad = graph.add(work, name="bad")
    direct = graph.add(work, bad)
    indirect = graph.add(work, direct)
    after_all = graph.add(work, after=done(indirect))
    on_skip = graph.add(work, after=skipped(direct))
    unrelated = graph.add(work)
    fail(graph, bad)
    assert [task.state for task in (direct, indirect)] == [SKIPPED, SKIPPED]
    assert [task.state for task in (after_all, on_skip, unrelated)] == [READY] * 3
    assert direct.reason is not None
    assert "'bad'" in direct.reason
    assert "FAILED" in direct.reason
    with pytest.raises(errors.TaskSkipped, match="FAILED"):
        direct.result_nowait()


def test_results_errors_and_reasons_are_kept() -> None:
    """A value, an exception, a declared failure and a cancellation can be read after the end."""
    graph = wide()
    good, bad, declared, off, open_ = (graph.add(work) for _ in range(5))
    finish(graph, good, value=[1])
    error = ValueError("no")
    started(graph, bad, declared, off)
    graph.fail(bad, error)
    declared.fail("no such page")
    declared.fail("the first reason counts")
    assert declared.reason == "no such page"
    graph.finish(declared, "ignored")
    off.cancel("enough")
    assert off.state is RUNNING
    graph.cancelled(off)
    assert good.result_nowait() == [1]
    assert bad.error is error
    with pytest.raises(ValueError, match="no"):
        bad.result_nowait()
    with pytest.raises(errors.TaskFailed, match="no such page"):
        declared.result_nowait()
    with pytest.raises(errors.TaskCancelled, match="enough"):
        off.result_nowait()
    with pytest.raises(trio.WouldBlock):
        open_.result_nowait()
    assert (declared.state, declared.reason, off.reason, good.reason, good.error) == (
        FAILED,
        "no such page",
        "enough",
        None,
        None,
    )
    graph.check()


def test_only_exceptions_are_outcomes() -> None:
    """KeyboardInterrupt and what is no exception are refused as outcomes, and the task is as it was."""
    graph = wide()
    task = graph.add(work)
    graph.start(task)
    bad: Any
    for bad in (KeyboardInterrupt(), "no", ValueError):
        with refused(graph, errors.BadType):
            graph.fail(task, bad)
    assert task.state is RUNNING


def test_a_store_that_refuses_a_value_leaves_the_task_running() -> None:
    """What a result store raises comes out of finish(), and then the task can fail."""

    class Picky(dict[int, object]):
        def __setitem__(self, uid: int, value: object) -> None:
            if value == "bad":
                raise OSError(value)
            super().__setitem__(uid, value)

    for listening in (True, False):
        graph = wide(results=Picky())
        if listening:
            graph.subscribe(lambda _: None)
        task = graph.add(work)
        graph.start(task)
        with pytest.raises(OSError, match="bad"):
            graph.finish(task, "bad")
        assert task.state is RUNNING
        graph.check()
        graph.fail(task, OSError("bad"))
        assert task.state is FAILED
        graph.check()


def test_failures_are_handled_by_conditions_on_them_and_by_reading_them() -> None:
    """A failure is handled by a condition on it, made before or after, and by asking for it."""
    graph = wide()
    before, later, read, nobody = (
        graph.add(work, name=name) for name in ("before", "later", "read", "nobody")
    )
    graph.add(work, after=done(before) | succeeded(nobody))
    fail(graph, before, later, read, nobody)
    graph.add(work, after=failed(later))
    graph.add(work, after=succeeded(nobody))
    assert unhandled(graph) == (read, nobody)
    with pytest.raises(ValueError, match="no"):
        read.result_nowait()
    assert unhandled(graph) == (nobody,)


def test_who_was_removed_handles_no_failure() -> None:
    """When all that waited for a failure is removed or disconnected, nobody handles it."""
    graph = wide()
    one, two = graph.add(work), graph.add(work)
    handler, condition = graph.add(work, after=done(one)), failed(two)
    rewired = graph.add(work, after=condition)
    graph.remove(handler)
    graph.disconnect(condition, rewired)
    fail(graph, one, two)
    assert unhandled(graph) == (one, two)


def test_the_first_unhandled_failure_can_cancel_the_graph() -> None:
    """With on_failure="cancel" a failure that nobody handles cancels all, and a handled one nothing."""
    graph = wide(on_failure="cancel")
    first, second, third = (graph.add(work) for _ in range(3))
    graph.add(work, after=done(first))
    fail(graph, first)
    assert third.state is READY
    fail(graph, second)
    assert third.state is CANCELLED
    assert third.reason is not None
    assert "has failed" in third.reason
    graph.check()


def test_a_graph_that_does_not_run_takes_tasks_after_it_was_cancelled() -> None:
    """Without a run, cancelling is over when it is done, however it came about.

    What is added later is for the next run.
    """
    graph = wide()
    old = graph.add(work)
    graph.cancel()
    assert (old.state, graph.add(work).state) == (CANCELLED, READY)
    graph.root.cancel()
    assert graph.add(work).state is READY
    graph = wide(on_failure="cancel")
    fail(graph, graph.add(work))
    assert graph.add(work).state is READY


def test_a_running_graph_that_is_cancelled_takes_nothing_until_its_end() -> None:
    """While a cancelled run goes on, what is added to it is cancelled with its reason.

    The next run takes tasks again.
    """
    graph = wide()
    graph.attach(Stub())
    graph.cancel("enough")
    late = graph.add(work)
    assert (late.state, late.reason) == (CANCELLED, "enough")
    graph.detach()
    assert graph.add(work).state is READY


def test_cancelling_covers_what_is_spawned_later() -> None:
    """All of a subtree is cancelled, what it adds afterwards too.

    What has ended stays, and twice is as once.
    """
    graph = wide()
    top, bystander = graph.add(work), graph.add(work)
    graph.start(top)
    ended, running, ready = (inside(top, graph.add, work) for _ in range(3))
    finish(graph, ended)
    graph.start(running)
    below = inside(running, graph.add, work)
    waiting = graph.add(work, after=done(ready))
    graph.finish(top)
    top.cancel("enough")
    assert [task.state for task in (top, ended, running, ready, below)] == [
        SUCCEEDED,
        SUCCEEDED,
        RUNNING,
        CANCELLED,
        CANCELLED,
    ]
    assert (ready.reason, bystander.state, waiting.state) == ("enough", READY, READY)
    late = inside(running, graph.add, work)
    assert (late.state, late.reason, late.parent) == (CANCELLED, "enough", running)
    top.cancel("again")
    graph.cancelled(running)
    assert running.reason == "enough"
    assert top.settled
    running.cancel()
    graph.check()


def test_none_of_a_cancelled_subtree_starts_because_another_was_cancelled() -> None:
    """A sibling that waits for the end of a cancelled task is cancelled too, and never READY."""
    graph = wide()
    top = graph.add(work)
    graph.start(top)
    first = inside(top, graph.add, work)
    second = inside(top, graph.add, work, after=done(first))
    third = inside(top, graph.add, work, first)
    seen: list[Change] = []
    graph.subscribe(seen.append)
    top.cancel()
    assert [(change.task, change.after) for change in seen] == [
        (task, CANCELLED) for task in (first, second, third)
    ]


def test_settled_waits_for_all_that_was_spawned() -> None:
    """A task has settled when it and all below it have ended; an end in between settles nothing."""
    graph = wide()
    top = graph.add(work)
    index = graph.add(work, after=settled(top))
    graph.start(top)
    child = inside(top, graph.add, work)
    graph.finish(top)
    assert index.state is WAITING
    graph.start(child)
    grandchild = inside(child, graph.add, work)
    graph.fail(child, ValueError())
    assert (top.settled, child.settled, index.state) == (False, False, WAITING)
    skip = inside(grandchild, graph.add, work, after=child)
    assert skip.state is SKIPPED
    grandchild.cancel()
    assert top.settled
    assert child.settled
    assert index.state is READY
    assert [task.uid for task in skip.path] == [top.uid, child.uid, grandchild.uid, skip.uid]
    graph.check()


def test_left_overs_of_an_unsettled_task_still_count_for_it() -> None:
    """What a left-over of an ended task adds belongs to it, as long as something else of it is open."""
    graph = wide()
    top = graph.add(work)
    graph.start(top)
    child = inside(top, graph.add, work)
    graph.finish(top)
    late = inside(top, graph.add, work)
    assert late.parent is top
    finish(graph, child)
    assert [top.settled] == [False]
    finish(graph, late)
    assert top.settled
    graph.check()


def test_left_overs_of_a_settled_task_do_not_unsettle_it() -> None:
    """Once settled is settled: what it still adds belongs to the first ancestor that has not settled."""
    graph = wide()
    top = graph.add(work)
    graph.start(top)
    child = inside(top, graph.add, work)
    index = graph.add(work, after=settled(child))
    finish(graph, child)
    late = inside(child, graph.add, work)
    assert (child.settled, index.state, late.parent) == (True, READY, top)
    graph.finish(top)
    finish(graph, late)
    assert top.settled
    assert inside(late, graph.add, work).parent is graph.root
    graph.check()


def test_a_task_of_another_graph_is_no_parent() -> None:
    """What the body of one graph's task adds to another graph belongs to that graph's root."""
    graph, elsewhere = wide(), wide()
    task = elsewhere.add(work)
    assert inside(task, graph.add, work).parent is graph.root
    assert task.children == ()


def test_the_children_of_a_removed_task_become_its_parent_s() -> None:
    """Tasks that a removed one had scheduled are adopted, and keep whoever adopts them unsettled."""
    graph = TaskGraph({"work": work})
    top = graph.add(work)
    graph.start(top)
    middle = inside(top, graph.add, work, after=top)
    child = graph[at_once(graph.create_task("work", None, middle.uid))]
    over = graph[at_once(graph.create_task("work", None, middle.uid))]
    finish(graph, over)
    end = graph.add(work, after=settled(middle) & settled(top))
    graph.remove(middle)
    assert child.parent is over.parent is top
    assert top.children == (child, over)
    graph.check()
    graph.finish(top)
    assert end.state is WAITING
    finish(graph, child)
    assert end.state is READY
    graph.check()


def test_many_removals_leave_no_traces() -> None:
    """Children that are removed are not listed, however many; those that stay keep their order."""
    graph = wide()
    tasks = [graph.add(work, dedupe=number) for number in range(300)]
    for number, task in enumerate(tasks):
        if number % 10:
            graph.remove(task)
    assert list(graph.root.children) == list(graph) == tasks[::10]
    graph.check()


def test_bodies_that_wait_give_their_places_back_and_go_first_afterwards() -> None:
    """A task that waits holds no place.

    When its wait is over it comes before newcomers, and the limit is never exceeded.
    """
    graph = TaskGraph(worker_loops={"default": 1})
    parent, child, third = (graph.add(work) for _ in range(3))
    assert graph.take("default") is parent
    assert graph.take("default") is None
    graph.suspend(parent, child)
    assert graph.take("default") is child
    assert graph.resume(parent, child) is False
    assert graph.take("default") is None
    graph.finish(child)
    assert parent.state is RUNNING
    assert graph.take("default") is None
    graph.finish(parent)
    assert graph.take("default") is third
    graph.check()


def test_a_wait_that_is_not_there_cannot_be_over() -> None:
    """Resuming a body from a wait that it does not make is refused, and changes nothing."""
    graph = wide()
    task, first, second = (graph.add(work) for _ in range(3))
    graph.start(task)
    graph.suspend(task, first)
    with refused(graph, errors.IllegalTransition):
        graph.resume(task, second)
    assert graph.resume(task, first)


@pytest.mark.parametrize("event", ["start", "finish", "fail", "cancelled", "suspend"])
def test_a_driver_s_events_are_for_tasks_of_this_graph(event: str) -> None:
    """An event for a task of another graph is refused, and neither graph has changed."""
    graph, elsewhere = wide(), wide()
    here, there = graph.add(work), elsewhere.add(work)
    if event != "start":
        elsewhere.start(there)
    more: dict[str, tuple[Any, ...]] = {"fail": (ValueError(),), "suspend": (here,)}
    before = picture(elsewhere)
    with refused(graph, errors.GraphError):
        getattr(graph, event)(there, *more.get(event, ()))
    assert picture(elsewhere) == before
    elsewhere.check()


def test_a_paused_group_holds_its_tasks_until_it_is_resized() -> None:
    """A group of size 0 gives nothing, and what runs when a limit is lowered runs on."""
    graph = TaskGraph(worker_loops={"default": 0})
    tasks = [graph.add(work) for _ in range(3)]
    assert graph.take("default") is None
    graph.groups["default"].resize(2)
    assert [graph.take("default") for _ in range(3)] == [*tasks[:2], None]
    graph.groups["default"].resize(0)
    assert graph.groups["default"].running == 2
    graph.finish(tasks[0])
    assert graph.take("default") is None
    graph.check()


def test_one_description_of_a_group_serves_many_graphs() -> None:
    """A graph makes its own groups, and resizing those leaves the description as it is."""
    description = WorkerGroup(2)
    one, two = TaskGraph(worker_loops={"g": description}), TaskGraph(worker_loops={"g": description})
    one.groups["g"].resize(5)
    assert (description.limit, two.groups["g"].limit) == (2, 2)
    description.resize(7)
    assert description.limit == 7


# Surgery ------------------------------------------------------------------------------------------------


def test_a_new_task_can_be_put_in_front_of_one_that_is_ready() -> None:
    """A READY task that is connected to an open one waits again; twice connected is one edge."""
    graph = wide()
    task, first = graph.add(work), graph.add(work)
    graph.connect(first, task)
    graph.connect(first, task)
    assert task.state is WAITING
    assert task.predecessors == (first,)
    finish(graph, first)
    assert task.state is READY
    graph.connect(first, task)
    graph.connect(done(first), task)
    assert task.state is READY
    graph.check()


def test_connecting_to_what_has_ended_decides_at_once() -> None:
    """A task connected to a failure is skipped, READY or not, and its dependents with it."""
    graph = wide()
    bad, task = graph.add(work), graph.add(work)
    dependent = graph.add(work, task)
    fail(graph, bad)
    graph.connect(bad, task)
    assert (task.state, dependent.state) == (SKIPPED, SKIPPED)
    graph.check()


@pytest.mark.parametrize(
    "make", [succeeded, any_of, all_of, skipped, lambda task: done(task) & succeeded(task)]
)
def test_connecting_what_can_no_longer_hold_skips_on_a_running_graph(
    make: Callable[[Task[Any]], Condition],
) -> None:
    """A new condition that can no longer hold closes no cycle: the task is skipped, running graph or not."""
    for running in (False, True):
        graph = wide()
        bad, task = graph.add(work), graph.add(work)
        fail(graph, bad)
        if running:
            graph.attach(Stub())
        graph.connect(make(bad), task)
        assert task.state is SKIPPED
        graph.check()


def test_a_cycle_may_be_built_before_a_run_and_is_refused_during_one() -> None:
    """connect() closes cycles before a run, which are found.

    On a running graph it refuses them and changes nothing.
    """
    graph = wide()
    a, b = graph.add(work), graph.add(work)
    c = graph.add(work, after=done(b))
    graph.connect(a, b)
    assert graph.find_cycle() == ()
    graph.attach(Stub())
    for first in (c, settled(c), any_of(c), any_of(c, done(b)), a):
        with refused(graph, errors.WouldCloseCycle, "close a cycle"):
            graph.connect(first, a)
    graph.connect(any_of(c, graph.add(work)), a)
    graph.detach()
    graph.connect(c, a)
    assert set(graph.find_cycle()) == {a, b, c}
    graph.check()


def test_a_child_cannot_wait_until_its_family_has_settled() -> None:
    """On a running graph a task cannot be made to wait for what settles only after it."""
    graph = wide()
    top = graph.add(work)
    graph.start(top)
    middle = inside(top, graph.add, work)
    graph.start(middle)
    child = inside(middle, graph.add, work)
    after_all = graph.add(work, after=settled(top) & done(top))
    graph.attach(Stub())
    for first in (after_all, settled(top), settled(middle), done(child) | settled(top)):
        with refused(graph, errors.WouldCloseCycle):
            graph.connect(first, child)
    graph.connect(done(middle), child)
    graph.check()


def test_a_task_may_wait_for_itself_until_that_is_undone() -> None:
    """A task connected to itself is a cycle of one, which disconnecting, removing and cancelling undo."""
    graph = wide()
    for undo in (lambda task: graph.disconnect(task, task), graph.remove, Task.cancel):
        task = graph.add(work)
        dependent = graph.add(work, after=done(task))
        graph.connect(task, task)
        assert task.state is WAITING
        assert graph.find_cycle() == (task,)
        graph.check()
        undo(task)
        assert graph.find_cycle() == ()
        assert dependent.state is (READY if task.state.ended else WAITING)
        graph.check()


def test_an_argument_can_be_neither_disconnected_nor_removed() -> None:
    """A task whose result another one takes stays, and the error names who takes it."""
    graph = wide()
    first = graph.add(work)
    user = graph.add(work, [first], name="user")
    with refused(graph, errors.ResultNeeded, "'user'"):
        graph.disconnect(first, user)
    with refused(graph, errors.ResultNeeded, "'user'"):
        graph.remove(first)
    user.cancel()
    graph.remove(first)
    assert (first.state, first.reason) == (CANCELLED, "removed from the graph")
    graph.check()


def watch(graph: TaskGraph, task: Task[Any], callback: Callable[[Task[Any]], object]) -> None:
    """Have a callback called when a driver is told that a task has ended."""

    class Watcher(Stub):
        def ended(self, task: Task[Any]) -> None:
            callback(task)

    graph.driver = Watcher()
    graph.watch(task)


def test_watchers_of_a_removed_task_are_told_when_all_is_done() -> None:
    """A driver is told that a task it watches was removed after all that follows from the removal."""
    graph = wide()
    task = graph.add(work)
    seen: list[object] = []

    def watcher(gone: Task[Any]) -> None:
        graph.check()
        seen.extend([gone, dependent.state, end.state])

    watch(graph, task, watcher)
    dependent, end = graph.add(work, after=task), graph.add(work, after=settled(task))
    graph.remove(task)
    assert seen == [task, READY, READY]


def test_watchers_are_told_in_the_order_of_the_ends() -> None:
    """Tasks that end together are told to a driver in the order of their ends, whatever their hashes."""
    graph = wide()
    told: list[Task[Any]] = []
    tasks = [graph.add(work) for _ in range(100)]
    for task in reversed(tasks):
        watch(graph, task, told.append)
    graph.cancel()
    assert told == tasks


@pytest.mark.parametrize("good", [True, False])
def test_watchers_are_told_of_an_end_when_all_is_done(good: bool) -> None:  # noqa: FBT001 - drawn by name
    """A driver is told of the end of a task it watches once the dependents know of it."""
    graph = wide()
    task = graph.add(work)
    seen: list[object] = []
    watch(graph, task, lambda gone: seen.append((gone, dependent.state)))
    dependent = graph.add(work, after=done(task))
    (finish if good else fail)(graph, task)
    assert seen == [(task, READY)]


# Listeners ----------------------------------------------------------------------------------------------


def test_a_listener_is_told_every_change_in_order_until_it_is_closed() -> None:
    """Adding, starting, suspending, ending, skipping and removing are told in order.

    After closing nothing is.
    """
    graph = wide()
    seen: list[tuple[int, TaskState | None, TaskState | None]] = []
    with graph.subscribe(
        lambda change: seen.append((change.task.uid, change.before, change.after))
    ) as subscription:
        task = graph.add(work)
        waiting = graph.add(work, task)
        graph.start(task)
        graph.suspend(task, waiting)
        graph.resume(task, waiting)
        graph.fail(task, ValueError())
        gone = graph.add(work)
        graph.remove(gone)
    graph.add(work)
    subscription.close()
    assert seen == [
        (1, None, WAITING),
        (1, WAITING, READY),
        (2, None, WAITING),
        (1, READY, RUNNING),
        (1, RUNNING, SUSPENDED),
        (1, SUSPENDED, RUNNING),
        (1, RUNNING, FAILED),
        (2, WAITING, SKIPPED),
        (3, None, WAITING),
        (3, WAITING, READY),
        (3, READY, None),
    ]


def test_a_listener_that_raises_is_closed_and_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listener raises closes it, is kept and shown, and the graph and other listeners go on."""
    shown: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    graph = wide()
    seen: list[Change] = []

    def rude(_: Change) -> None:
        raise ZeroDivisionError

    broken = graph.subscribe(rude)
    graph.subscribe(seen.append)
    finish(graph, graph.add(work))
    assert isinstance(broken.error, ZeroDivisionError)
    assert [type(item.exc_value) for item in shown] == [ZeroDivisionError]
    assert len(seen) == 4
    graph.check()


def test_a_listener_may_change_the_graph() -> None:
    """What a listener does is announced after what it was told, to all, in order."""
    graph = wide()
    seen: list[tuple[int, TaskState | None]] = []

    def react(change: Change) -> None:
        graph.check()
        if change.after is FAILED:
            graph.add(work)

    graph.subscribe(react)
    graph.subscribe(lambda change: seen.append((change.task.uid, change.after)))
    task = graph.add(work)
    graph.add(work, task)
    fail(graph, task)
    assert seen[-4:] == [(1, FAILED), (2, SKIPPED), (3, WAITING), (3, READY)]


def test_who_subscribes_while_changes_are_told_hears_only_of_later_ones() -> None:
    """Who subscribes in the middle of an announcement is not told what had happened already."""
    graph = wide()
    replayed: dict[Task[Any], TaskState | None] = {}

    def late(change: Change) -> None:
        assert replayed.get(change.task) is change.before
        replayed[change.task] = change.after

    def early(_: Change) -> None:
        if not replayed:
            replayed.update({task: task.state for task in graph})
            subscriptions.append(graph.subscribe(late))

    task = graph.add(work)
    dependent = graph.add(work, task)
    graph.start(task)
    subscriptions = [graph.subscribe(early)]
    graph.fail(task, ValueError())
    finish(graph, graph.add(work, after=done(dependent)))
    assert [subscription.error for subscription in subscriptions] == [None, None]
    assert replayed == {task: task.state for task in graph}


# Looking ------------------------------------------------------------------------------------------------


def test_tasks_are_found_by_state_type_group_and_name() -> None:
    """Queries combine, take words or objects, and give tasks in the order they were added."""
    graph = TaskGraph({"work": work}, {"http": 2}, {"other": "http"})
    a, b = graph.add("work", name="mine"), graph.add(other)
    c = graph.add(other, a, name="mine")
    assert graph.tasks() == tuple(graph) == (a, b, c)
    assert graph.tasks(state="ready") == graph.tasks(state=READY) == (a, b)
    assert graph.tasks(type="work") == graph.tasks(type=work) == (a,)
    assert (
        graph.tasks(type=other)
        == graph.tasks(group="http")
        == graph.tasks(group=graph.groups["http"])
        == (b, c)
    )
    assert graph.tasks(name="mine") == (a, c)
    assert graph.tasks(name="mine", state=WAITING, type="other", group="http") == (c,)
    assert graph.tasks(name="nobody") == ()
    with pytest.raises(ValueError, match="redy"):
        graph.tasks(state="redy")
    assert (graph[a.uid], len(graph), bool(TaskGraph()), a in graph, 1 in graph) == (a, 3, True, True, False)
    assert [task.uid for task in graph] == [1, 2, 3]


def test_statistics_are_the_figures_of_the_graph() -> None:
    """States and groups are counted, and print in one line."""
    graph = TaskGraph(worker_loops={"default": 3})
    tasks = [graph.add(work) for _ in range(4)]
    graph.add(work, tasks[3])
    started(graph, *tasks[:3])
    graph.suspend(tasks[0], tasks[3])
    graph.finish(tasks[1])
    figures = graph.statistics()
    assert (figures.total, figures.waiting, figures.states[READY], figures.states[SUCCEEDED]) == (5, 1, 1, 1)
    group = figures.groups["default"]
    assert (group.limit, group.running, group.suspended, group.waiting) == (3, 1, 1, 1)
    assert str(figures) == "5 tasks: 1 WAITING, 1 READY, 1 RUNNING, 1 SUSPENDED, 1 SUCCEEDED"
    assert str(TaskGraph().statistics()) == "0 tasks"


def test_why_says_why_a_task_is_not_running() -> None:
    """Unmet conditions, paused and full groups, a missing run, and ends are all put in words."""
    graph = TaskGraph(worker_loops={"default": 1, "off": 0}, worker_assignments={"other": "off"})
    a, b = graph.add(work, name="a"), graph.add(work, name="b")
    c = graph.add(work, a, after=at_least(1, [b, failed(a)]), name="c")
    paused = graph.add(other)
    assert "nothing runs" in graph.why(a)
    graph.attach(Stub())
    assert "about to start" in graph.why(a)
    graph.start(a)
    assert "is running" in graph.why(a)
    assert "full (limit 1): task 1 'a'" in graph.why(b)
    assert "task 1 'a' (RUNNING)" in graph.why(c)
    assert "task 2 'b' (READY)" in graph.why(c)
    assert "paused" in graph.why(paused)
    graph.suspend(a, b)
    assert "task 2 'b' (READY)" in graph.why(a)
    graph.start(b)
    graph.resume(a, b)
    assert "its place in group 'default'" in graph.why(a)
    graph.fail(b, ValueError())
    assert "FAILED (ValueError)" in graph.why(b)
    graph.cancel("enough")
    assert "CANCELLED (enough)" in graph.why(c)
    graph.finish(a)
    assert graph.why(a).endswith("SUCCEEDED")
    crowd = [graph.root, *(TaskGraph().root for _ in range(0))]
    assert graph.why(crowd[0]).endswith("SUCCEEDED")


def test_waiting_without_a_driver_ends_at_once() -> None:
    """Without a run an ended task gives its result.

    Waiting for an open one is an error instead of a hang.
    """
    graph = wide()
    task, open_ = graph.add(work), graph.add(work)
    finish(graph, task, value=5)
    assert at_once(task.result()) == 5
    with refused(graph, errors.NotRunning, "nothing drives"):
        at_once(open_.wait())


# The explicit form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "ready_at"),
    [
        (True, "fsc"),
        (False, None),
        ("COMPLETE__ALL", "fsc"),
        ("SUCCESS__ALL", None),
        ("SUCCESS__1", "fs"),
        ("COMPLETE__1", "f"),
        ("COMPLETE__2", "fs"),
        ("SUCCESS__0", ""),
        ("SUCCESS__2", None),
    ],
)
def test_wait_tasks_start_in_their_mode(mode: bool | str, ready_at: str | None) -> None:  # noqa: FBT001 - it is the interface
    """Each mode is met exactly when it should be, of a failure, then a success, then a cancellation."""
    graph = TaskGraph({"work": work})
    a, b, c = (at_once(graph.create_task("work", ((1,), {"x": 2}), graph.root.uid)) for _ in range(3))
    uid = at_once(graph.create_wait_task("work", None, [a, b, c, a], mode))
    task = graph[uid]
    assert task.predecessors == (graph[a], graph[b], graph[c])
    met = [""] if task.state is READY else []
    fail(graph, graph[a])
    met += ["f"] if task.state is READY else []
    finish(graph, graph[b])
    met += ["fs"] if task.state is READY else []
    graph[c].cancel()
    met += ["fsc"] if task.state is READY else []
    assert met[:1] == ([] if ready_at is None else [ready_at])
    assert task.state is (SKIPPED if ready_at is None else READY)
    graph.check()


@pytest.mark.parametrize(
    "mode",
    [
        1,
        0,
        None,
        "",
        "SUCCESS",
        "success__ALL",
        "SUCCESS__-1",
        "COMPLETE__",
        "SUCCESS__3",
        "SUCCESS__" + "9" * 5000,
    ],
)
def test_modes_that_cannot_be_are_refused(mode: Any) -> None:
    """What is no mode, or asks for more than there are, is refused and nothing is added."""
    graph = TaskGraph({"work": work})
    uids = [graph.add(work).uid for _ in range(2)]
    with refused(graph, errors.BadValue, "mode"):
        at_once(graph.create_wait_task("work", None, uids, mode))


@pytest.mark.parametrize(
    "arguments", [5, (), ((1,),), [(1,), {}], (1, {}), ((1,), [2]), ("ab", {}), ((), {}, 1)]
)
def test_arguments_of_the_explicit_form_are_args_and_kwargs(arguments: Any) -> None:
    """Arguments that are no pair of positional and keyword arguments are refused and nothing is added."""
    graph = TaskGraph({"work": work})
    with refused(graph, errors.BadType, "args, kwargs"):
        at_once(graph.create_task("work", arguments, 0))
    with refused(graph, errors.BadType, "args, kwargs"):
        at_once(graph.create_wait_task("work", arguments, [], True))


def test_arguments_of_wait_tasks_are_given_listed_or_computed() -> None:
    """A wait task gets what is given, the list of its predecessors, or what a function makes of that list."""
    graph = TaskGraph({"work": work})
    one, two = graph.add(work), graph.add(work)
    uids = [one.uid, two.uid]
    listed = graph[at_once(graph.create_wait_task("work", None, uids, True))]
    computed = graph[at_once(graph.create_wait_task("work", lambda tasks: ((len(tasks),), {}), uids, True))]
    fixed = graph[at_once(graph.create_wait_task("work", ((one, 7), {"k": [two]}), uids, True))]
    graph.create_wait_link(listed.uid, computed.uid)
    finish(graph, one, value=1)
    finish(graph, two, value=2)
    assert isinstance(listed.arguments, ComputedArguments)
    assert isinstance(fixed.arguments, Arguments)
    assert given(listed) == (([one, two],), {})
    assert given(computed) == ((3,), {})
    assert given(fixed) == ((1, 7), {"k": [2]})


def test_create_task_records_who_scheduled_it_and_waits_for_nobody() -> None:
    """A task is ready at once, whatever its recorded predecessor does."""
    graph = TaskGraph({"work": work})
    first = graph.add(work, after=graph.add(work))
    task = graph[at_once(graph.create_task("work", None, first.uid))]
    assert (task.state, task.parent, first.children) == (READY, first, (task,))


def test_links_join_the_mode_of_a_wait_task() -> None:
    """A link to a wait task counts in its mode and is listed.

    One to another task is a plain connection; twice is once.
    """
    graph = TaskGraph({"work": work})
    first, late, other_late = (graph.add(work) for _ in range(3))
    uid = at_once(graph.create_wait_task("work", None, [first.uid], True))
    graph.create_wait_link(late.uid, uid)
    graph.create_wait_link(late.uid, uid)
    plain_task = graph.add(work)
    graph.create_wait_link(other_late.uid, plain_task.uid)
    assert graph[uid].predecessors == (first, late)
    fail(graph, first)
    assert graph[uid].state is WAITING
    fail(graph, late, other_late)
    assert graph[uid].state is READY
    assert plain_task.state is SKIPPED
    assert unhandled(graph) == (other_late,)
    graph.check()


def test_a_link_to_an_open_task_takes_a_ready_wait_task_back() -> None:
    """A wait task that is READY waits again for what it is linked to."""
    graph = TaskGraph({"work": work})
    uid = at_once(graph.create_wait_task("work", None, [], True))
    late = graph.add(work)
    graph.create_wait_link(late.uid, uid)
    assert graph[uid].state is WAITING
    graph.check()
    finish(graph, late)
    assert graph[uid].state is READY
    graph.check()


def test_a_link_to_what_has_come_true_already_changes_no_state() -> None:
    """Linking a READY wait task to a task that is done leaves it READY, and at its place in the order."""
    graph = TaskGraph({"work": work})
    ended = graph.add(work)
    finish(graph, ended)
    task = graph[at_once(graph.create_wait_task("work", None, [], True))]
    graph.add(work)
    seen: list[Change] = []
    graph.subscribe(seen.append)
    graph.create_wait_link(ended.uid, task.uid)
    assert task.predecessors == (ended,)
    assert seen == []
    assert graph.take("default") is task


def test_a_link_on_success_to_a_failure_skips() -> None:
    """A READY wait task on success that is linked to a failed one is skipped."""
    graph = TaskGraph({"work": work})
    bad = graph.add(work)
    fail(graph, bad)
    task = graph[at_once(graph.create_wait_task("work", None, [], False))]
    dependent = graph.add(work, task)
    assert task.state is READY
    graph.create_wait_link(bad.uid, task.uid)
    assert (task.state, dependent.state) == (SKIPPED, SKIPPED)
    graph.check()


# Scale --------------------------------------------------------------------------------------------------

MANY = 100_000


@contextmanager
def shallow() -> Iterator[None]:
    """Allow few nested calls, so that what recurses with the size of a graph fails."""
    limit = sys.getrecursionlimit()
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(depth + 200)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def chain(graph: TaskGraph, length: int) -> list[Task[Any]]:
    """Return a chain of tasks."""
    tasks = [graph.add(work)]
    for _ in range(length - 1):
        tasks.append(graph.add(work, after=tasks[-1]))
    return tasks


@pytest.mark.parametrize(("size", "listening"), [(300, True), (300, False), (MANY, False)])
def test_a_long_chain_fails_is_cancelled_or_succeeds_without_recursion(size: int, listening: bool) -> None:  # noqa: FBT001
    """A chain is skipped, cancelled, worked off and searched for cycles at constant depth."""
    heard: list[Change] = []
    with shallow():
        for how in ("fail", "cancel", "succeed"):
            graph = wide()
            if listening:
                graph.subscribe(heard.append)
            tasks = chain(graph, size)
            end = graph.add(work, after=settled(*tasks))
            assert graph.find_cycle() == ()
            if how == "fail":
                fail(graph, tasks[0])
                assert graph.statistics().states[SKIPPED] == size - 1
            elif how == "cancel":
                tasks[0].cancel()
                assert graph.statistics().states[SKIPPED] == size - 1
            else:
                while (task := graph.take("default")) is not end:
                    assert task is not None
                    graph.finish(task)
            assert tasks[-1].state is (SUCCEEDED if how == "succeed" else SKIPPED)
            assert end.settled is False
            if size < MANY:
                graph.check()
            graph.cancel()
            del graph, tasks, end, heard[:]


def test_a_long_line_of_descendants_settles_and_is_cancelled_without_recursion() -> None:
    """A task that adds a task that adds a task, and so on, settles and is cancelled at constant depth."""
    with shallow():
        graph = wide()
        line = [graph.add(work)]
        end = graph.add(work, after=settled(line[0]))
        for _ in range(20_000):
            graph.start(line[-1])
            line.append(inside(line[-1], graph.add, work))
            graph.finish(line[-2])
        assert [line[0].settled] == [False]
        assert len(line[-1].path) == len(line)
        line[0].cancel()
        assert line[-1].state is CANCELLED
        assert line[0].settled
        assert end.state is READY
        del line, graph


@pytest.mark.parametrize("size", [300, MANY])
def test_a_wide_fan_in_costs_its_edges(size: int) -> None:
    """One task after very many is released by the last of them, or skipped by the first."""
    with shallow():
        graph = wide()
        tasks = [graph.add(work) for _ in range(size)]
        as_arguments = graph.add(work, tasks)
        by_condition = graph.add(work, after=at_least(size - 1, tasks))
        on_end = graph.add(work, after=done(*tasks))
        for task in tasks[:-1]:
            graph.start(task)
            graph.finish(task)
        assert [task.state for task in (as_arguments, by_condition, on_end)] == [WAITING, READY, WAITING]
        fail(graph, tasks[-1])
        assert [task.state for task in (as_arguments, by_condition, on_end)] == [SKIPPED, READY, READY]
        assert len(graph.why(as_arguments)) < 1000
        if size < MANY:
            graph.check()


def test_a_complete_bipartite_graph_costs_its_edges() -> None:
    """300 tasks after each of 300 tasks become ready together, and each once."""
    graph = wide()
    ready: list[Task[Any]] = []
    firsts = [graph.add(work) for _ in range(300)]
    seconds = [graph.add(work, after=firsts) for _ in range(300)]
    graph.subscribe(lambda change: ready.append(change.task) if change.after is READY else None)
    finish(graph, *firsts)
    assert ready == seconds
    graph.check()


def test_an_ended_task_keeps_no_context() -> None:
    """However a task ends, the context that its body would run in is let go."""
    graph = wide()
    for task in (*ends(graph).values(), gone := graph.add(work)):
        assert (task.context is None) == task.state.ended
    graph.remove(gone)
    assert gone.context is None


# Without trio, and with any hash seed -------------------------------------------------------------------


def python(program: str, **environment: str) -> str:
    """Return what a program prints in a new interpreter."""
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(
        command, capture_output=True, check=True, cwd=ROOT, env=environment, text=True
    ).stdout


def test_a_graph_works_where_trio_is_not() -> None:
    """`trio_graph_scheduler.graph` is imported and driven without trio, and has its own WouldBlock there."""
    program = """
import sys
sys.modules["trio"] = None
from trio_graph_scheduler.graph import TaskGraph, errors
graph = TaskGraph()
task = graph.add(print)
try:
    task.result_nowait()
except errors.WouldBlock as error:
    print(type(error).__name__)
graph.start(task)
graph.finish(task, 5)
print(task.result_nowait())
"""
    assert python(program).split() == ["WouldBlock", "5"]


def test_too_early_is_trio_s_would_block_where_trio_is() -> None:
    """Where trio is in the program, asking too early raises trio.WouldBlock itself."""
    program = """
import trio
from trio_graph_scheduler.graph import TaskGraph
try:
    TaskGraph().add(print).result_nowait()
except trio.WouldBlock as error:
    print(type(error) is trio.WouldBlock)
"""
    assert python(program).split() == ["True"]


def test_the_ready_order_does_not_depend_on_hash_seeds() -> None:
    """With any hash seed the same tasks are ready in the same order, and are skipped in the same order."""
    program = """
from trio_graph_scheduler.graph import TaskGraph, any_of, done, settled
graph = TaskGraph(worker_loops={"default": 10**9})
seen = []
graph.subscribe(lambda change: seen.append((change.task.uid, str(change.after))))
first = [graph.add(print, name=name, key=name, dedupe=name) for name in ("x", "yy", "zzz")]
for name in ("a", "b", "c", "d"):
    after = {*first} if name == "d" else any_of(*first)
    graph.add(print, name=name, key=name, after=after, priority=len(name))
    graph.add(print, {name: first[1], "other": first[0]}, after=[settled(first[2]), done(first[0])])
while (task := graph.take("default")) is not None:
    (graph.fail(task, ValueError()) if task.name == "yy" else graph.finish(task))
print(seen)
"""
    assert len({python(program, PYTHONHASHSEED=seed) for seed in ("1", "2", "31415")}) == 1


def test_a_partial_is_of_the_kind_of_its_function() -> None:
    """Arguments bound by a partial make no other kind of a task: dedupe and queries treat it alike."""
    graph = wide()
    plain = graph.add(work, dedupe="k")
    assert graph.add(partial(work), dedupe="k") is plain
    assert graph.add(work, dedupe="k") is plain
    other = graph.add(partial(work))
    assert other.type is plain.type
    assert graph.tasks(type=work) == (plain, other)


def test_a_removed_parent_leaves_nothing_behind() -> None:
    """Removing children, then the task that had scheduled them, keeps no note of either."""
    graph = TaskGraph({"work": work})
    top = graph.add(work)
    children = [graph[at_once(graph.create_task("work", None, top.uid))] for _ in range(4)]
    graph.remove(children[0])
    graph.remove(top)
    assert top not in graph._gaps
    graph.check()
