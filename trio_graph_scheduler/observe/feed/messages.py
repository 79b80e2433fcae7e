"""What observers are told: the messages of the feed, which `docs/protocol.md` shows as JSON.

They are plain values: strings, numbers, tuples of them, and each other. Times are seconds on trio's clock;
every message has the time when it was written, so that whoever has another clock can tell how long ago
things were. Numbers count changes: whoever knows the state up to a `number` needs what came after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

VERSION = 1
"""Of the protocol. It changes when an old client could no longer understand what it is told."""

# What is shown ----------------------------------------------------------------------------------------------


@attrs.frozen
class TaskView:
    """How one task stands.

    - `parent`: the uid of the task that spawned it; None if it was added from outside.
    - `predecessors`: the uids of the first hundred of those that its start depends on; `more_predecessors`
      says whether there are more. One that was removed may be listed until the task itself changes.
    - `trial`: the number of the trial that runs, or ran last; 0 if none has begun.
    - `began`, `ended`: when that trial began and ended; `ended` is also when it was skipped or cancelled.
    - `progress`: how far it says it has come, as done and total, of which the total may not be known.
    - `note`: what it last said of itself.
    - `reason`: why it was skipped or cancelled; what it declared itself failed for.
    - `error`: the name of the class of its exception.
    """

    uid: int
    name: str
    type: str
    group: str
    state: str
    parent: int | None
    predecessors: tuple[int, ...]
    more_predecessors: bool
    trial: int
    began: float | None
    ended: float | None
    worker: str | None
    progress: tuple[float, float | None] | None
    note: str | None
    reason: str | None
    error: str | None


@attrs.frozen
class TypeView:
    """How the tasks of one type in one group stand.

    - `name`, `group`: None in the entry that sums up all types beyond the most frequent ones.
    - `states`: how many are in each state; states without tasks are left out.
    - `rate`: how many ended per second lately, in whatever way but skipped or cancelled; 0 if not known.
    - `mean`: how many seconds those that succeeded took on average; None as long as none has.
    """

    name: str | None
    group: str | None
    states: Mapping[str, int]
    rate: float
    mean: float | None


@attrs.frozen
class GroupView:
    """How a worker group stands."""

    name: str
    limit: int
    running: int
    suspended: int
    waiting: int
    paused: bool


@attrs.frozen
class GraphView:
    """How the graph as a whole stands.

    - `feed`: which feed this is; numbers of another one mean nothing here.
    - `total`: how many tasks there are.
    - `phase`: before, during or after its run.
    """

    feed: str
    name: str
    total: int
    phase: Literal["before", "running", "over"]
    groups: tuple[GroupView, ...]


@attrs.frozen
class TrialView:
    """One attempt at a task, as `Trial` has it; its outcome in words, if that may be shown."""

    number: int
    state: str
    ready: float
    start: float
    end: float | None
    worker: str | None
    outcome: str | None


# What the feed says -----------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Snapshot:
    """A part of the state of all tasks that are watched; the one with `first` set replaces all before.

    The state is complete with the one that has `last` set.
    """

    version: int = VERSION
    number: int
    time: float
    graph: GraphView
    first: bool
    last: bool
    tasks: tuple[TaskView, ...]


@attrs.frozen(kw_only=True)
class Changes:
    """The state of the tasks that have changed, and the uids of those that are not watched any more.

    They were removed from the graph, or left the states that are watched.
    """

    number: int
    time: float
    graph: GraphView
    tasks: tuple[TaskView, ...]
    gone: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Types:
    """The state of all types; it replaces all before, single tasks included."""

    version: int = VERSION
    number: int
    time: float
    graph: GraphView
    types: tuple[TypeView, ...]


@attrs.frozen(kw_only=True)
class Detail:
    """All that may be shown of one task, which was asked for. Long texts are cut.

    - `why`: why it does not run.
    - `arguments`, `result`: None where the server does not show them, or there is none.
    - `error`: the exception with its traceback.
    - `log`: its last lines, where the server keeps them.
    """

    time: float
    task: TaskView
    why: str
    arguments: str | None
    result: str | None
    error: str | None
    trials: tuple[TrialView, ...]
    notes: tuple[str, ...]
    log: tuple[str, ...]


@attrs.frozen(kw_only=True)
class End:
    """The run is over, and all there is to say has been said."""

    number: int
    time: float


@attrs.frozen(kw_only=True)
class Problem:
    """A request could not be answered; all else goes on."""

    text: str


Message = Snapshot | Changes | Types | Detail | End | Problem

# What a client says -----------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Watch:
    """What to watch; the state of that follows.

        Watch(states=("FAILED", "RUNNING"))

    - `view`: `"tasks"`, or `"types"` for nothing but the figures of each type. Where there are too many tasks
      to show each of them it is `"types"` in any case.
    - `types`, `groups`: names; `states`: states as they print. Only tasks that are of one of the types, in
      one of the groups and in one of the states are watched; empty: of all.
    - `section`: a uid: only this task and all that it spawns.
    - `feed`, `number`: what the client last heard of a feed. If that is this one, and it remembers, only what
      came afterwards is told. The rest of the request must then be the same.
    """

    view: Literal["tasks", "types"] = "tasks"
    types: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    section: int | None = None
    feed: str | None = None
    number: int | None = None


@attrs.frozen(kw_only=True)
class Ask:
    """Ask for all that may be shown of one task: a `Detail` follows, or a `Problem`."""

    uid: int


Request = Watch | Ask
