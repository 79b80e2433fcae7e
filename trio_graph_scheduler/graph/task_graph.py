"""The graph as its users see it: built, added to, connected, looked at, cancelled, rerun."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from . import checking, cycles, inspection, reruns, thresholds, wait_tasks
from .adding import Adding, check_labels
from .errors import BadType, BadValue, UnknownTask
from .groups import WorkerGroup
from .kinds import is_kind
from .results import ResultStore
from .task import Task, TaskState
from .task_type import TaskType

ON_FAILURE = ("continue", "cancel")


class TaskGraph(Adding):
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
    - `limits`: name -> how much there is of it: what tasks use, wherever they run, such as
      `limits={"database": 3}`. A `TaskType` says how much of each its tasks take.
    - `name`: what logs, traces and whoever watches it call it.
    - `deadline`: when all must have ended, as a time on trio's clock; it can be moved: `graph.deadline`.
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
        limits: Mapping[str, int] | None = None,
        name: str = "graph",
        deadline: float = math.inf,
        on_failure: str = "continue",
        results: ResultStore | None = None,
    ) -> None:
        if on_failure not in ON_FAILURE:
            raise BadValue("on_failure", on_failure, f"it must be one of {', '.join(ON_FAILURE)}")
        check_labels(name=name)
        super().__init__(
            task_functions,
            worker_loops or {},
            worker_assignments or {},
            limits or {},
            {} if results is None else results,
            cancel_on_failure=on_failure == "cancel",
        )
        self.name = name
        self.deadline = deadline

    # Adding in other ways than by `add` ---------------------------------------------------------------------

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

    def add_threshold(
        self,
        candidates: Iterable[thresholds.Candidate],
        *,
        target: int,
        minimum: int | None = None,
        hedge_after: float | None = None,
        cancel_running: bool = False,
        name: str | None = None,
    ) -> Task[list[Any]]:
        """Add a task that succeeds as soon as enough of its candidates have, of which no more are started.

            three = graph.add_threshold([partial(fetch, mirror) for mirror in mirrors], target=3)
            first = graph.add_threshold([partial(ask, it) for it in servers], target=1, hedge_after=0.2)

        - `candidates`: Tasks of this graph, or kinds as `add` takes them, which are added. The first `target`
          may start at once; the others are spares, which are WAITING.
        - `target`: how many are to be under way or to have succeeded. A spare takes the place of each that
          ends without success.
        - `minimum`: how many successes it takes, from 1 to the target, which is the default.
        - `hedge_after`: whenever so many seconds have passed since a candidate last began to run, the next
          spare is started as well.
        - `cancel_running`: whether candidates that still execute at the end are cancelled too. Those that do
          not execute always are.
        - `name`: a name for the new task, by default `"threshold"`.

        The task has no body and holds no place. Its result is the list of the first results, in the order
        they came (those of candidates that had succeeded before: to a millisecond). As soon as it can no
        longer succeed it FAILS with `ThresholdMissed`. Failures of its candidates count as handled.

        Raises `BadType`, `BadValue`, `ForeignTask`, `WrongThread` and what `add` does, before anything has
        changed.
        """
        return thresholds.add_threshold(
            self, candidates, target, minimum, hedge_after, cancel_running=cancel_running, name=name
        )

    # Cancelling, rerunning, and looking ---------------------------------------------------------------------

    def cancel(self, reason: str | None = None) -> None:
        """Cancel every task that has not ended, and while a run goes on also those that are still added.

        Doing so twice is fine. Raises `WrongThread` while the graph runs in another thread.
        """
        self.cancel_subtree(self.root, reason)

    def rerun(
        self, tasks: Task[Any] | Iterable[Task[Any]] | None = None, *, downstream: bool = True
    ) -> tuple[Task[Any], ...]:
        """Open tasks that have ended again, after a run or during one; return all that were opened.

            report = await execute_graph(graph, raise_failures=False)
            graph.rerun()                   # what failed, and what depends on it
            await execute_graph(graph)

        - `tasks`: a Task or several, which have ended in whatever way; by default all that FAILED, but for
          candidates of thresholds that were reached without them.
        - `downstream`: whether tasks that have ended and depend on those are opened again too. Tasks that
          have not started wait for them again in any case.

        Each opened task is WAITING or READY as if it had just been added, in the context of this call, and
        gets a new trial; `task.trials` keeps the earlier ones. Its retry policy and its budget begin anew, a
        deadline that was set is forgotten. What it spawned before stays. The results of all other tasks are
        kept. One that needs the success of a task which has none, and is not rerun, is
        SKIPPED again.

        Takes time linear in the size of the graph. Raises `CannotRerun` for tasks that have not ended, and if
        a task downstream is executing or RETRYING; `BadType`, `ForeignTask`, `WrongThread`. Nothing has
        changed then.
        """
        return reruns.rerun(self, tasks, downstream=downstream)

    @property
    def deadline(self) -> float:
        """When all must have ended, as a time on trio's clock: infinity, or what was set.

            graph.deadline = trio.current_time() + 60

        When it passes, tasks that are READY, RUNNING, SUSPENDED or RETRYING fail with `BudgetExceeded`, and
        those that are WAITING, or are still added in the same run, are CANCELLED. It can be moved at any
        time. Setting it raises `BadValue`, and `WrongThread` while the graph runs in another thread.
        """
        return self.root.deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self.set_deadline(self.root, when)

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

    def page(self, after: int, most: int) -> tuple[Task[Any], ...]:
        """Return the next tasks in the order they were added, to read a large graph piece by piece.

            while page := graph.page(uid, 1000):
                uid = page[-1].uid

        They are those of the lowest uids above `after`, 0 to begin with; at most `most` of them, and none
        when there are no more. Looks at no others.
        """
        found = (self._tasks.get(uid) for uid in range(after + 1, self._next_uid))
        return tuple(islice((task for task in found if task is not None), most))

    def statistics(self) -> inspection.Statistics:
        """Return how many tasks there are in each state, and how each group stands.

        Takes time in the number of types and groups and of tasks that run, not of all tasks.
        """
        return inspection.statistics(self)

    def type_statistics(self) -> tuple[inspection.TypeStatistics, ...]:
        """Return what `statistics().types` has, without all else: figures of each type.

        Takes time in the number of types.
        """
        return inspection.type_statistics(self)

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
