"""The graph: tasks come in, are connected, looked at and cancelled."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from typing import Any, TypedDict, TypeVar, Unpack, overload

from . import checking, cycles, inspection, wait_tasks
from .arguments import ATOMS, Arguments, ComputedArguments, packed
from .conditions import Condition
from .errors import BadType, BadValue, UnknownTask
from .groups import DEFAULT, DEFAULT_LIMIT, WorkerGroup
from .kinds import Kinds, as_types, is_kind, without_partial
from .lifecycle import Input
from .results import ResultStore
from .task import CANCELLED, CURRENT_TASK, READY, SUCCEEDED, WAITING, Label, Task, TaskState
from .task_type import TaskType
from .wiring import After, Wiring, as_inputs

T = TypeVar("T")
ON_FAILURE = ("continue", "cancel")


class AddOptions(TypedDict, total=False):
    """What `TaskGraph.add` takes by name, for type checkers; what each means is said there."""

    after: After
    name: str | None
    priority: float | None
    key: object
    dedupe: object


class TaskGraph(Wiring):
    """Tasks, what each waits for, and what came out.

        graph = TaskGraph(worker_loops={"default": 4, "http": 10}, worker_assignments={"fetch": "http"})
        page = graph.add(fetch, "https://example.org")
        words = graph.add(count_words, page)
        await execute_graph(graph)
        words.result_nowait()

    - `task_functions`: name -> function or `TaskType`, or an iterable of TaskTypes: what `add` and
      `create_task` know by name.
    - `worker_loops`: group name -> limit or `WorkerGroup`. There always is a group `"default"`, with a limit
      of 10 if not given.
    - `worker_assignments`: name of a function or type -> group name, for types that name no group themselves.
    - `on_failure`: `"continue"`, or `"cancel"` to cancel the graph at the first failure that nobody handles.
    - `results`: the `ResultStore`, by default a dict.

    It is a plain synchronous structure that knows nothing of trio. Raises `UnknownGroup`, `DuplicateType`,
    `BadValue` or `BadType` for what cannot be.
    """

    def __init__(
        self,
        task_functions: Mapping[str, Callable[..., Any]] | Iterable[TaskType[..., Any]] | None = None,
        worker_loops: Mapping[str, int | WorkerGroup] | None = None,
        worker_assignments: Mapping[str, str] | None = None,
        *,
        on_failure: str = "continue",
        results: ResultStore | None = None,
    ) -> None:
        if on_failure not in ON_FAILURE:
            raise BadValue("on_failure", on_failure, f"it must be one of {', '.join(ON_FAILURE)}")
        super().__init__({} if results is None else results, cancel_on_failure=on_failure == "cancel")
        for name, group in {DEFAULT: DEFAULT_LIMIT, **(worker_loops or {})}.items():
            description = group if isinstance(group, WorkerGroup) else WorkerGroup(group)
            self.groups[name] = description.made_for(self, name)
        self._kinds = Kinds(self.groups, worker_assignments or {})
        self._known = self._kinds.known
        for kind in as_types(task_functions):
            self.register(kind)
        self._next_uid = 1
        self.root: Task[None] = Task(
            uid=0,
            type=TaskType(_root, name="root", executor="async"),
            group=self.groups[DEFAULT],
            parent=None,
            state=SUCCEEDED,
            arguments=(),
            context=None,
            inputs=(),
        )
        """The parent of what is added from outside of a task: SUCCEEDED, and not counted as a task."""
        self._tasks[0] = self.root
        self.results[0] = None

    # Adding -------------------------------------------------------------------------------------------------

    def register(self, kind: TaskType[..., Any]) -> None:
        """Make a type known by its name.

        Using a TaskType in `add` does so too. Raises `DuplicateType` or `UnknownGroup`.
        """
        self._kinds.remember(kind, *self._kinds.find(kind))

    @overload
    def add(
        self, kind: Callable[..., Awaitable[T]], *args: object, **options: Unpack[AddOptions]
    ) -> Task[T]: ...
    @overload
    def add(self, kind: Callable[..., T], *args: object, **options: Unpack[AddOptions]) -> Task[T]: ...
    @overload
    def add(self, kind: str, *args: object, **options: Unpack[AddOptions]) -> Task[Any]: ...
    def add(  # noqa: C901 - the common case passes straight through, without a call
        self,
        kind: Callable[..., Any] | str,
        *args: object,
        after: After = None,
        name: str | None = None,
        priority: float | None = None,
        key: object = None,
        dedupe: object = None,
    ) -> Task[Any]:
        """Add a task and return it, before a run or during one, from inside of tasks or outside.

            page = graph.add(fetch, url)
            words = graph.add(count_words, page, after=done(other), priority=1)

        - `kind`: a function, a `TaskType`, or the name of a registered one; in a `functools.partial` with
          some of its arguments.
        - `args`: its arguments. A Task among them, or in a list, tuple, set, mapping or partial there, must
          succeed first; its result takes its place. A container that holds Tasks is copied now, all other
          values are shared.
        - `after`: more to wait for: a Task (which must succeed), a condition, or an iterable of them.
        - `name`: a name for this task, by default that of its type.
        - `priority`: higher ones are taken first within the group; 0 by default.
        - `key`: within a priority, keys are served in turn.
        - `dedupe`: if the graph has a task of the same kind and of the same value here, that one is returned
          and nothing is added.

        Added in the body of a task of this graph it is that task's child, and does not block it. Its own body
        will run in a copy of the context of this call.

        Raises `UnknownType`, `UnknownGroup`, `DuplicateType`, `ForeignTask`, `BadType`, `BadValue`, or
        `WrongThread` while the graph runs in another thread, before anything has changed.
        """
        if self._thread is not None:
            self._check_thread("add")
        arguments: tuple[Any, ...] | Arguments = args
        unknown = None
        try:
            task_type, group = self._known[kind]
        except (KeyError, TypeError):
            kind, args, keywords = without_partial(kind, args)
            task_type, group = self._kinds.find(kind)
            unknown = kind
            arguments = packed(args, keywords)
        else:
            for value in args:
                if type(value) not in ATOMS:
                    arguments = packed(args, {})
                    break
        inputs: tuple[Input, ...] = () if type(arguments) is tuple else arguments.results_of  # type: ignore[union-attr]  # not a tuple
        if after is not None:
            inputs += as_inputs(after)
        if inputs:
            inputs = self._checked(inputs)
        labelled = name is not None or priority is not None or key is not None or dedupe is not None
        if labelled:
            _check_labels(name, priority, key, dedupe)
            if dedupe is not None and (task_type.origin, dedupe) in self._deduped:
                return self._deduped[task_type.origin, dedupe]
        if unknown is not None:
            self._kinds.remember(unknown, task_type, group)
        parent = CURRENT_TASK.get()
        if parent is None or parent.group.graph is not self:
            parent = self.root
        task: Task[Any] = Task(
            self._next_uid, task_type, group, parent, WAITING, arguments, copy_context(), inputs
        )
        if labelled:
            self._label(task, Label(name, priority or 0, key, dedupe))
        self._insert(task)
        return task

    async def create_task(
        self, name: str, arguments: tuple[Iterable[Any], Mapping[str, Any]] | None, predecessor_uid: int
    ) -> int:
        """Add a task of a registered type that is ready at once, and return its uid.

        `arguments` is `(args, kwargs)`, or None for none. The predecessor only records who scheduled it, as
        the parent (or, once it and all that it spawned have ended, its closest ancestor that is still open).
        Checkpoints while the graph runs. Raises `UnknownType`, `UnknownTask`, `BadType` for
        other arguments, and what `add` does.
        """
        return await wait_tasks.create_task(self, name, arguments, predecessor_uid)

    async def create_wait_task(
        self,
        name: str,
        arguments: wait_tasks.WaitArguments,
        predecessor_uids: Iterable[int],
        mode: bool | str,  # noqa: FBT001 - callers of this form give it by position
    ) -> int:
        """Add a task of a registered type that waits for others, and return its uid.

        - `arguments`: `(args, kwargs)`; or None: the function gets the list of predecessor Tasks; or a
          function of that list, sync or async, that gives `(args, kwargs)` when the task starts. If it
          raises, the task fails.
        - `mode`: True: run when all are done (have ended in whatever way); False: when all succeeded;
          `'SUCCESS__ALL'`, `'COMPLETE__ALL'`, `'SUCCESS__n'`, `'COMPLETE__n'`: when all or n have succeeded
          or are done.

        Checkpoints while the graph runs. Raises `UnknownType`, `UnknownTask`, `BadValue` and what `add` does.
        """
        return await wait_tasks.create_wait_task(self, name, arguments, predecessor_uids, mode)

    def create_wait_link(self, predecessor_uid: int, uid: int) -> None:
        """Let a task wait for one more.

        A wait task counts it as one more predecessor, in its own mode; any other task waits for its success.
        Raises as `connect` does, and `UnknownTask`.
        """
        wait_tasks.create_wait_link(self, predecessor_uid, uid)

    # Cancelling and looking ---------------------------------------------------------------------------------

    def cancel(self, reason: str | None = None) -> None:
        """Cancel every task that has not ended, and while a run goes on also those that are still added.

        Doing so twice is fine. Raises `WrongThread` while the graph runs in another thread.
        """
        self.cancel_subtree(self.root, reason)

    def __getitem__(self, uid: int) -> Task[Any]:
        try:
            return self._tasks[uid]
        except (KeyError, TypeError):
            raise UnknownTask(uid) from None

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and self._tasks.get(task.uid) is task

    def __iter__(self) -> Iterator[Task[Any]]:
        """Yield the tasks in the order they were added."""
        return iter(self.tasks())

    def __len__(self) -> int:
        return len(self._tasks) - 1

    def __bool__(self) -> bool:
        return True

    def tasks(
        self,
        *,
        state: TaskState | str | None = None,
        type: TaskType[..., Any] | Callable[..., Any] | str | None = None,  # noqa: A002 - the field's own word
        group: WorkerGroup | str | None = None,
        name: str | None = None,
    ) -> tuple[Task[Any], ...]:
        """Return the tasks that match all that is given, in the order they were added. Looks at every task.

        A type is named by its name, or is a TaskType (its variations included) or a function. Raises
        `UnknownGroup`, and `ValueError` for what names no state.
        """
        found: Iterable[Task[Any]] = (task for task in self._tasks.values() if task is not self.root)
        if state is not None:
            wanted = TaskState(state)
            found = (task for task in found if task.state is wanted)
        if type is not None:
            found = (task for task in found if is_kind(task.type, type))
        if group is not None:
            its_group = group if isinstance(group, WorkerGroup) else self.group(group)
            found = (task for task in found if task.group is its_group)
        if name is not None:
            found = (task for task in found if task.name == name)
        return tuple(found)

    def statistics(self) -> inspection.Statistics:
        """Return how many tasks there are in each state, and how each group stands.

        Takes time in the number of groups, not of tasks.
        """
        return inspection.statistics(self)

    def why(self, task: Task[Any]) -> str:
        """Return in words why a task is not running.

        That is what it waits for, the group that is full and who fills it, or how it ended. Raises `BadType`
        or `ForeignTask`.
        """
        if not isinstance(task, Task):
            raise BadType("what why() is asked about", task, "it must be a Task")
        self._checked((task,))
        return inspection.why(self, task)

    def find_cycle(self) -> tuple[Task[Any], ...]:
        """Return a cycle of waits, or an empty tuple if there is none.

        Each of its tasks waits for the one before it, and the first for the last. Takes time linear in the
        tasks that are open and their edges.
        """
        return cycles.find_cycle(self)

    def check(self) -> None:
        """Verify all that the graph keeps count of by counting it anew; raises `AssertionError`.

        For tests, as it looks at everything. The `results` must know `in`, as a dict does.
        """
        checking.check(self)

    # The parts of it ----------------------------------------------------------------------------------------

    def _label(self, task: Task[Any], label: Label) -> None:
        task.label = label
        if label.priority or label.key is not None:
            task.group.rank()
        if label.dedupe is not None:
            self._deduped[task.type.origin, label.dedupe] = task

    def insert(
        self,
        kind: str,
        arguments: tuple[Any, ...] | Arguments | ComputedArguments,
        *,
        after: Condition | None = None,
        parent: Task[Any] | None = None,
    ) -> Task[Any]:
        """Add a task of a registered type whose arguments are packed already.

        `parent` takes the place of the task in whose body this is called.
        """
        self._check_thread("add")
        task_type, group = self._kinds.find(kind)
        inputs: tuple[Input, ...] = () if isinstance(arguments, tuple) else arguments.results_of
        if after is not None:
            inputs += (after,)
        scheduler = parent or CURRENT_TASK.get()
        if scheduler is None or scheduler.group.graph is not self:
            scheduler = self.root
        task: Task[Any] = Task(
            self._next_uid,
            task_type,
            group,
            scheduler,
            WAITING,
            arguments,
            copy_context(),
            self._checked(inputs),
        )
        self._insert(task)
        return task

    def _insert(self, task: Task[Any]) -> None:  # noqa: C901, PLR0912 - the common case makes no calls
        """Take in a new task, all of which has been checked."""
        self._tasks[task.uid] = task
        self._next_uid += 1
        parent = task.parent
        # A task that has settled has done so for good: what its body left running adds for the first of its
        # ancestors that has not.
        while not parent._unsettled:
            parent = task.parent = parent.parent
        parent._unsettled += 1
        if parent._children is None:
            parent._children = [task]
        else:
            parent._children.append(task)
        if self._subscriptions:
            self._announcer.note(task, None, WAITING)
        decided: list[Input] = []
        for item in task._inputs:
            if type(item) is Task and (item.state is WAITING or item.state is READY):
                task._missing += 1
                if item._dependents is None:
                    item._dependents = [task]
                else:
                    item._dependents.append(task)
            else:
                self._wait_for(task, item, decided)
        if task.state is WAITING:
            if parent._cancelled:
                task._cancelled = parent._cancelled
                self._end(task, CANCELLED, parent._cancel_reason)
                decided.append(task)
            elif not task._missing:
                self._make_ready(task)
        if decided:
            self._propagate(decided)
        elif self._subscriptions:
            self._announce()


def _check_labels(name: object, priority: object, key: object, dedupe: object) -> None:
    if name is not None and (not isinstance(name, str) or not name):
        raise BadType("name", name, "it must be a string that is not empty")
    if priority is not None and (not isinstance(priority, int | float) or math.isnan(priority)):
        raise BadType("priority", priority, "it must be a number; higher ones are taken first")
    for option, value in (("key", key), ("dedupe", dedupe)):
        try:
            hash(value)
        except TypeError:
            raise BadType(
                option, value, "it must be hashable, such as a string, a number or a tuple of them"
            ) from None


def _root() -> None:
    """Be the function of the root, which is never run."""
