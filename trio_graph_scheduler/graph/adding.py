"""How tasks come in: what kind each is, what it waits for, whose child it is."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, cast, overload

import attrs

from .arguments import ATOMS, Arguments, ComputedArguments, packed
from .cohorts import Cohort
from .conditions import Condition
from .errors import BadType
from .groups import DEFAULT, DEFAULT_LIMIT, WorkerGroup
from .kinds import Kind, Kinds, as_types, without_partial
from .limits import Limit
from .places import Input
from .results import ResultStore
from .task import CURRENT_TASK, READY, SUCCEEDED, WAITING, Label, Task
from .task_type import TaskType
from .trials import Course
from .wiring import After, Wiring, as_inputs

if TYPE_CHECKING:
    from .task_graph import TaskGraph

T = TypeVar("T")


class AddOptions(TypedDict, total=False):
    """What `TaskGraph.add` takes by name, for type checkers; what each means is said there."""

    after: After
    name: str | None
    priority: float | None
    key: object
    dedupe: object


@attrs.frozen(eq=False)
class Description:
    """A task that may be added, all of which has been checked."""

    name: object
    """What names its kind."""
    kind: Kind
    arguments: tuple[Any, ...] | Arguments | ComputedArguments
    inputs: tuple[Input, ...]


class Adding(Wiring):
    """A graph's tasks as they are added; `TaskGraph` says what the parameters are."""

    def __init__(
        self,
        task_functions: Mapping[str, Callable[..., Any]] | Iterable[TaskType[..., Any]] | None,
        worker_loops: Mapping[str, int | WorkerGroup],
        worker_assignments: Mapping[str, str],
        limits: Mapping[str, int],
        results: ResultStore,
        *,
        cancel_on_failure: bool,
    ) -> None:
        super().__init__(results, cancel_on_failure=cancel_on_failure)
        this = cast("TaskGraph", self)
        for name, group in {DEFAULT: DEFAULT_LIMIT, **worker_loops}.items():
            description = group if isinstance(group, WorkerGroup) else WorkerGroup(group)
            self.groups[name] = description.made_for(this, name)
        self.limits = {name: Limit(name, limit, graph=this) for name, limit in limits.items()}
        """The named limits; `graph.limits["database"].resize(5)` changes one at any time."""
        self._kinds = Kinds(self.groups, self.limits, worker_assignments, self._cohorts)
        self._known = self._kinds.known
        for kind in as_types(task_functions):
            self.register(kind)
        self._next_uid = 1
        self.root: Task[None] = Task(
            uid=0,
            type=TaskType(_root, name="root", executor="async"),
            cohort=Cohort("root", self.groups[DEFAULT]),  # which nobody looks at
            parent=None,
            state=SUCCEEDED,
            arguments=(),
            context=None,
            inputs=(),
        )
        """The parent of what is added from outside of a task: SUCCEEDED, and not counted as a task."""
        self._tasks[0] = self.root
        self.results[0] = None

    def register(self, kind: TaskType[..., Any]) -> None:
        """Make a type known by its name.

        Using a TaskType in `add` does so too. Raises `DuplicateType`, `UnknownGroup`, `UnknownLimit` or
        `BadValue`.
        """
        self._kinds.remember(kind, self._kinds.find(kind))

    @overload
    def add(
        self, kind: Callable[..., Awaitable[T]], *args: object, **options: Unpack[AddOptions]
    ) -> Task[T]: ...
    @overload
    def add(self, kind: Callable[..., T], *args: object, **options: Unpack[AddOptions]) -> Task[T]: ...
    @overload
    def add(self, kind: str, *args: object, **options: Unpack[AddOptions]) -> Task[Any]: ...
    def add(  # noqa: C901, PLR0912 - the common case passes straight through, without a call
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
            known = self._known[kind]
        except (KeyError, TypeError):
            kind, args, keywords = without_partial(kind, args)
            known = self._kinds.find(kind)
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
            check_labels(name=name, priority=priority, key=key, dedupe=dedupe)
            if dedupe is not None and (known.type.origin, dedupe) in self._deduped:
                return self._deduped[known.type.origin, dedupe]
        if unknown is not None:
            self._kinds.remember(unknown, known)
        parent = CURRENT_TASK.get()
        if parent is None or parent.cohort.group.graph is not self:
            parent = self.root
        task: Task[Any] = Task(
            self._next_uid, known.type, known.cohort, parent, WAITING, arguments, copy_context(), inputs
        )
        if not known.plain:
            self._set_course(task, known)
        if labelled:
            self._label(task, Label(name, priority or 0, key, dedupe))
        self._insert(task)
        return task

    # The parts of it ----------------------------------------------------------------------------------------

    def _label(self, task: Task[Any], label: Label) -> None:
        task.label = label
        if label.priority or label.key is not None:
            task.group.rank()
            if task.group.per_key is not None:
                self._course_of(task)  # tells that it has a place of its key to give back
        if label.dedupe is not None:
            self._deduped[task.type.origin, label.dedupe] = task

    def _set_course(self, task: Task[Any], kind: Kind) -> None:
        task._course = Course(kind.needs)
        if kind.needs:
            task.group.rank()

    def describe(self, kind: Callable[..., Any] | str) -> Description:
        """Return what `add` would make of a kind, a function in a partial with its arguments for example.

        Raises as `add` does, and changes nothing.
        """
        name, args, keywords = without_partial(kind, ())
        return self.describe_packed(name, packed(args, keywords))

    def describe_packed(
        self,
        name: object,
        arguments: tuple[Any, ...] | Arguments | ComputedArguments,
        after: Condition | None = None,
    ) -> Description:
        """Return what would be made of a kind and arguments that are packed already."""
        inputs: tuple[Input, ...] = () if isinstance(arguments, tuple) else arguments.results_of
        if after is not None:
            inputs += (after,)
        return Description(name, self._kinds.find(name), arguments, self._checked(inputs))

    def admit(self, described: Description, parent: Task[Any] | None = None) -> Task[Any]:
        """Add a task as described; `parent` takes the place of the task in whose body this is called."""
        self._check_thread("add")
        kind = described.kind
        self._kinds.remember(described.name, kind)
        task = self._new_task(kind.type, kind.cohort, described.arguments, described.inputs, parent)
        if not kind.plain:
            self._set_course(task, kind)
        self._insert(task)
        return task

    def _new_task(
        self,
        task_type: TaskType[..., Any],
        cohort: Cohort,
        arguments: tuple[Any, ...] | Arguments | ComputedArguments,
        inputs: tuple[Input, ...],
        parent: Task[Any] | None = None,
    ) -> Task[Any]:
        """Make a task that `_insert` is to take in."""
        scheduler = parent or CURRENT_TASK.get()
        if scheduler is None or scheduler.graph is not self:
            scheduler = self.root
        return Task(self._next_uid, task_type, cohort, scheduler, WAITING, arguments, copy_context(), inputs)

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
        cohort = task.cohort
        cohort.total += 1
        if not task._inputs and task._course is None and not parent._cancelled and not self._observers:
            # What `_make_ready` does for nearly all tasks, without a call.
            task.state = READY
            task._ready = self.now
            self._awake += 1
            group = cohort.group
            group._queue.append(task)
            if group.bell is not None:
                task._ready = self.time()  # where loops rest, nobody has looked at the clock for a while
                group.bell(group)
            return
        cohort.waiting += 1
        if self._observers:
            self._announcer.note(task, None, WAITING)
        for item in task._inputs:
            if type(item) is Task and (item.state is WAITING or item.state is READY):
                task._missing += 1
                if item._dependents is None:
                    item._dependents = [task]
                else:
                    item._dependents.append(task)
            else:
                self._wait_for(task, item)
        if task.state is WAITING:
            if parent._cancelled:
                self._cancel_with_parent(task)
            elif not task._missing:
                self._make_ready(task)
        if self._news:
            self._propagate()
        elif self._observers:
            self._announce()


def check_labels(
    *, name: object = None, priority: object = None, key: object = None, dedupe: object = None
) -> None:
    """Raise `BadType` if one of the options of `add` cannot be."""
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
