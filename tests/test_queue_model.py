"""Worker groups and named limits against a naive model: plain lists, all of which is sorted at every step."""

# ruff: noqa: D102 - methods of stand-ins and rules of the model are named after what they do

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support import examples
from trio_graph_scheduler.graph import lineups
from trio_graph_scheduler.graph.errors import BadType, BadValue
from trio_graph_scheduler.graph.groups import WorkerGroup
from trio_graph_scheduler.graph.limits import Limit, claimants
from trio_graph_scheduler.graph.policies import Rate

SPARE = lineups.SPARE

# Stand-ins for a graph and its tasks ------------------------------------------------------------------------


@attrs.define(eq=False)
class Job:
    """What a queue sees of a task; `home` is for the tests."""

    priority: float = 0
    key: Any = None
    needs: tuple[tuple[Limit, int], ...] = ()
    name: str = ""
    home: Any = None

    @property
    def label(self) -> Job:
        return self

    @property
    def _course(self) -> Job | None:
        return self if self.needs else None

    def __repr__(self) -> str:
        return self.name or f"<{self.priority} {self.key} {self.needs}>"


class Graph:
    """What a group sees of a graph; as its own timetable it keeps what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timetable = self
        self.timers: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []
        self.offered: list[Any] = []

    def at(self, when: float, action: Callable[..., object], *args: Any) -> object:
        self.timers.append((when, action, args))
        return object()

    def advance(self, now: float) -> None:
        self.now = now
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, action, args in due:
            action(*args)

    def offer(self, group: Any) -> None:
        self.offered.append(group)

    def pause(self, group: Any, paused: bool) -> None:  # noqa: FBT001 - as the graph's
        group.paused = paused
        if paused:
            group.drop_claims()
        group.ring()

    def time(self) -> float:
        return self.now

    def resize_limit(self, limit: Limit, size: int) -> None:
        limit.limit = size
        for group in claimants([limit]):
            self.offer(group)

    def resize(self, group: Any, limit: int) -> None:
        group.limit = limit
        if not limit:
            group.drop_claims()
        group.ring()


def group_of(graph: Graph, limit: int = 1000, **options: Any) -> Any:
    """Return a live group; tasks of all sorts may be put into it."""
    description: Any = WorkerGroup(limit, **options)
    return description.made_for(graph, "group")


def limit_of(graph: Any, limit: int) -> Limit:
    """Return a named limit that belongs to a graph."""
    return Limit("database", limit, graph=graph)


def put(group: Any, *jobs: Job) -> None:
    """Make tasks READY."""
    for job in jobs:
        if job.priority or job.key is not None or job.needs:
            group.rank()
        if group._stale:
            group.unwithdraw(job)
        group._queue.append(job)


def start(group: Any) -> Any:
    """Take the next task, as a graph does."""
    if group.running >= group.limit:
        return None
    job = group.pop()
    group.running += job is not None
    return job


def start_all(group: Any) -> list[Any]:
    """Start what may start."""
    return list(iter(lambda: start(group), None))


def end(group: Any, job: Job) -> None:
    """End an executing task."""
    group.release(job)
    group.running -= 1


# The model --------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Wanting:
    """A task in a queue of the model."""

    job: Job
    serial: int
    since: float


@attrs.define(eq=False)
class Team:
    """What the model knows of a group."""

    real: Any
    limit: int
    per_key: int | None
    depth_first: bool
    ageing: float | None
    rate: Rate | None
    paused: bool = False
    ready: list[Wanting] = attrs.field(factory=list)
    returning: list[Wanting] = attrs.field(factory=list)
    running: list[Job] = attrs.field(factory=list)
    suspended: list[Job] = attrs.field(factory=list)
    # Priority -> the keys of its READY tasks in the order of their turns.
    turns: dict[float, list[Any]] = attrs.field(factory=dict)
    tokens: float = 0
    counted_at: float = 0


class Model:
    """The rules, as directly as they can be put."""

    def __init__(self) -> None:
        self.now = 0.0
        self.serial = 0
        self.limits: dict[Limit, int] = {}
        self.teams: list[Team] = []
        self.claims: list[tuple[Team, tuple[tuple[Limit, int], ...]]] = []

    def used(self, limit: Limit) -> int:
        return sum(n for team in self.teams for job in team.running for item, n in job.needs if item is limit)

    def possible(self, needs: tuple[tuple[Limit, int], ...]) -> bool:
        return all(amount <= self.limits[limit] for limit, amount in needs)

    def admitted(self, team: Team, needs: tuple[tuple[Limit, int], ...]) -> bool:
        ahead = self.claims
        if (team, needs) in ahead:
            ahead = ahead[: ahead.index((team, needs))]
        for limit, amount in needs:
            kept = sum(n for _, claim in ahead if self.possible(claim) for item, n in claim if item is limit)
            if amount > self.limits[limit] - self.used(limit) - kept:
                return False
        return True

    def key_full(self, team: Team, key: Any) -> bool:
        if team.per_key is None or key is None:
            return False
        return [job.key for job in team.running].count(key) >= team.per_key

    def rank(self, team: Team, wanting: Wanting) -> tuple[Any, ...]:
        job = wanting.job
        if team.ageing is not None and self.now - wanting.since > team.ageing:
            return (0, wanting.serial)
        order = -wanting.serial if team.depth_first else wanting.serial
        return (1, -job.priority, team.turns[job.priority].index(job.key), order)

    def choose(self, team: Team, line: Iterable[Wanting]) -> Wanting | None:
        refused = []
        for wanting in line:
            needs = wanting.job.needs
            if self.key_full(team, wanting.job.key) or needs in refused:
                continue
            if self.admitted(team, needs):
                self.drop(team, needs)
                return wanting
            if (team, needs) not in self.claims:
                self.claims.append((team, needs))
            refused.append(needs)
        return None

    def pop(self, team: Team) -> Job | None:
        if team.paused or not self.token(team):
            return None
        wanting = self.choose(team, sorted(team.ready, key=lambda item: self.rank(team, item)))
        if wanting is None:
            return None
        job = wanting.job
        team.turns[job.priority].remove(job.key)
        team.turns[job.priority].append(job.key)
        self.leave(team, wanting)
        team.tokens -= 1
        team.running.append(job)
        return job

    def pop_returning(self, team: Team) -> Job | None:
        if len(team.running) >= team.limit:
            return None
        wanting = self.choose(team, list(team.returning))
        if wanting is None:
            return None
        team.returning.remove(wanting)
        team.suspended.remove(wanting.job)
        team.running.append(wanting.job)
        return wanting.job

    def append(self, team: Team, job: Job) -> None:
        self.serial += 1
        turns = team.turns.setdefault(job.priority, [])
        if job.key not in turns:
            turns.append(job.key)
        team.ready.append(Wanting(job, self.serial, self.now))

    def leave(self, team: Team, wanting: Wanting) -> None:
        team.ready.remove(wanting)
        job = wanting.job
        if not any(w.job.priority == job.priority and w.job.key == job.key for w in team.ready):
            team.turns[job.priority].remove(job.key)

    def drop(self, team: Team, needs: tuple[tuple[Limit, int], ...]) -> None:
        if (team, needs) in self.claims:
            self.claims.remove((team, needs))

    def drop_unusable(self) -> list[tuple[Limit, int]]:
        """Drop the claims that no task can use; return what they kept."""
        freed: list[tuple[Limit, int]] = []
        for team, needs in list(self.claims):
            usable = team.returning + ([] if team.paused else team.ready)
            if needs not in [wanting.job.needs for wanting in usable]:
                self.drop(team, needs)
                freed += needs
        return freed

    def claimants(self, needs: Iterable[tuple[Limit, int]], but: Team | None = None) -> list[Team]:
        found = []
        for limit, _ in needs:
            for team, claim in self.claims:
                if limit in dict(claim) and team not in found and team is not but:
                    found.append(team)
        return found

    def token(self, team: Team) -> bool:
        if team.rate is None:
            return True
        gained = (self.now - team.counted_at) / team.rate.interval
        team.tokens = min(team.rate.burst, team.tokens + gained)
        team.counted_at = self.now
        return team.tokens >= 1

    def startable(self, team: Team, running: int) -> int:
        if team.paused or running >= team.limit:
            return 0
        if team.rate is None and team.per_key is None and not any(w.job.needs for w in team.ready):
            return min(len(team.ready), team.limit - running)
        if not self.token(team):
            return 0
        return int(
            any(
                not self.key_full(team, wanting.job.key)
                and (self.admitted(team, wanting.job.needs) or (team, wanting.job.needs) not in self.claims)
                for wanting in team.ready
            )
        )


class QueueMachine(RuleBasedStateMachine):
    """Does the same to groups and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()
        self.model = Model()
        self.jobs = 0
        self.rung: list[Any] = []

    @initialize(
        spare=st.sampled_from([0, 1, SPARE]),
        limits=st.lists(st.integers(1, 5), min_size=2, max_size=3),
        groups=st.lists(
            st.fixed_dictionaries(
                {
                    "limit": st.sampled_from([6, 4, 2, 1]),
                    "per_key": st.none() | st.integers(1, 2),
                    "order": st.sampled_from(["fifo", "depth_first"]),
                    "ageing": st.none() | st.sampled_from([0.0, 1.0, 3.0]),
                    "rate": st.none()
                    | st.none()
                    | st.none()
                    | st.builds(Rate, st.sampled_from([1, 4]), burst=st.integers(1, 3)),
                }
            ),
            min_size=2,
            max_size=3,
        ),
    )
    def set_up(self, spare: int, limits: list[int], groups: list[dict[str, Any]]) -> None:
        lineups.SPARE = spare
        for number, size in enumerate(limits):
            graph: Any = self.graph
            self.model.limits[Limit(f"limit {number}", size, graph=graph)] = size
        names = list(self.model.limits)
        first, second = names[0], names[1]
        self.needs = [
            (),
            ((first, 1),),
            ((first, 2),),
            ((second, 1),),
            ((first, 1), (second, 1)),
            ((second, 2), (names[-1], 1)) if len(names) > 2 else ((second, 2),),
        ]
        for options in groups:
            real = group_of(self.graph, **options)
            team = Team(
                real,
                options["limit"],
                options["per_key"],
                options["order"] == "depth_first",
                options["ageing"],
                options["rate"],
                tokens=options["rate"].burst if options["rate"] else 0,
            )
            self.model.teams.append(team)
            real.bell = self.rung.append
        self.graph.offered.clear()

    def team(self, data: st.DataObject, condition: Callable[[Team], object] = lambda _: True) -> Team | None:
        teams = [team for team in self.model.teams if condition(team)]
        return data.draw(st.sampled_from(teams)) if teams else None

    def expect_offers(self, teams: list[Team]) -> None:
        assert self.graph.offered == [team.real for team in teams]
        self.graph.offered.clear()

    @rule(
        data=st.data(),
        sorts=st.lists(
            st.tuples(
                st.sampled_from([0, 0, 0, 1, 2.5]),
                st.sampled_from([None, "a", "a", "b", "c"]),
                st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5]),
            ),
            min_size=1,
            max_size=6,
        ),
        times=st.integers(1, 2),
    )
    def becomes_ready(
        self, data: st.DataObject, sorts: list[tuple[float, str | None, int]], times: int
    ) -> None:
        team = self.team(data)
        for priority, key, need in sorts * times:
            self.put_new(team, priority, key, need)

    @rule(
        data=st.data(),
        sorts=st.lists(
            st.tuples(st.sampled_from([0, 0, 1]), st.sampled_from("aabc")), min_size=2, max_size=6
        ),
        times=st.integers(1, 2),
    )
    def becomes_ready_without_needs(
        self, data: st.DataObject, sorts: list[tuple[float, str]], times: int
    ) -> None:
        team = self.team(data, lambda team: not any(wanting.job.needs for wanting in team.ready))
        for priority, key in sorts * times:
            self.put_new(team, priority, key, 0)

    def put_new(self, team: Team | None, priority: float, key: str | None, need: int) -> None:
        if team is not None:
            self.jobs += 1
            job = Job(priority, key, self.needs[need], f"job {self.jobs}", team)
            put(team.real, job)
            self.model.append(team, job)

    @rule(data=st.data())
    def becomes_ready_plain(self, data: st.DataObject) -> None:
        team = self.team(data)
        if team is not None:
            self.jobs += 1
            job = Job(name=f"job {self.jobs}", home=team)
            put(team.real, job)
            self.model.append(team, job)

    @rule(data=st.data(), times=st.integers(1, 6))
    def pops(self, data: st.DataObject, times: int) -> None:
        team = self.team(data, lambda team: len(team.running) < team.limit)
        for _ in range(times):
            if team is None or len(team.running) >= team.limit:
                return
            governed = team.rate or team.per_key or any(wanting.job.needs for wanting in team.ready)
            self.rung.clear()
            job = self.model.pop(team)
            assert team.real.pop() is job
            if job is not None and governed:
                assert self.rung == [team.real] * bool(self.model.startable(team, len(team.running)))
            team.real.running += job is not None
            self.expect_offers([])

    @rule(data=st.data(), times=st.integers(1, 3))
    def pops_returning(self, data: st.DataObject, times: int) -> None:
        team = self.team(data, lambda team: team.returning)
        for _ in range(times):
            if team is not None:
                job = self.model.pop_returning(team)
                assert team.real.pop_returning() is job
                team.real.running += job is not None
                self.expect_offers([])

    @rule(data=st.data(), suspends=st.booleans(), times=st.integers(1, 4))
    def releases(self, data: st.DataObject, suspends: bool, times: int) -> None:  # noqa: FBT001 - drawn
        team = self.team(data, lambda team: team.running)
        for _ in range(times):
            if team is not None and team.running:
                self.release(team, data.draw(st.sampled_from(team.running)), suspends=suspends)

    def release(self, team: Team, job: Job, *, suspends: bool) -> None:
        team.running.remove(job)
        team.suspended += [job] * suspends
        team.real.release(job)
        team.real.running -= 1
        self.expect_offers(self.model.claimants(job.needs, but=team))

    @rule(data=st.data())
    def wants_to_go_on(self, data: st.DataObject) -> None:
        def waiting(team: Team) -> list[Job]:
            return [job for job in team.suspended if job not in [wanting.job for wanting in team.returning]]

        team = self.team(data, waiting)
        if team is not None:
            job = data.draw(st.sampled_from(waiting(team)))
            self.model.serial += 1
            team.returning.append(Wanting(job, self.model.serial, 0))
            team.real.add_returning(job)

    @rule(data=st.data())
    def wants_no_more(self, data: st.DataObject) -> None:
        team = self.team(data, lambda team: team.suspended)
        if team is None:
            return
        job = data.draw(st.sampled_from(team.suspended))
        found = [wanting for wanting in team.returning if wanting.job is job]
        assert team.real.drop_returning(job) is bool(found)
        if found:
            team.returning.remove(found[0])
        self.expect_offers(self.model.claimants(self.model.drop_unusable()))

    @rule(data=st.data(), times=st.integers(1, 3))
    def withdraws(self, data: st.DataObject, times: int) -> None:
        team = self.team(data, lambda team: team.ready)
        for _ in range(times):
            if team is not None and team.ready:
                wanting = data.draw(st.sampled_from(team.ready))
                self.model.leave(team, wanting)
                team.real.withdraw(wanting.job)
                self.expect_offers(self.model.claimants(self.model.drop_unusable()))

    @rule(data=st.data())
    def comes_back(self, data: st.DataObject) -> None:
        team = self.team(data, lambda team: team.ready)
        if team is not None:
            wanting = data.draw(st.sampled_from(team.ready))
            self.withdraw_and_put(team, wanting)

    def withdraw_and_put(self, team: Team, wanting: Wanting) -> None:
        self.model.leave(team, wanting)
        team.real.withdraw(wanting.job)
        self.expect_offers(self.model.claimants(self.model.drop_unusable()))
        put(team.real, wanting.job)
        self.model.append(team, wanting.job)

    @rule(data=st.data())
    def starts_out_of_turn(self, data: st.DataObject) -> None:
        team = self.team(data, lambda team: team.ready and len(team.running) < team.limit)
        if team is None:
            return
        wanting = data.draw(st.sampled_from(team.ready))
        job, model = wanting.job, self.model
        full = model.key_full(team, job.key)
        free = not team.paused and not full and model.admitted(team, job.needs) and model.token(team)
        assert (team.real.obstacle(job) is None) is free, team.real.obstacle(job)
        if free:
            team.real.acquire(job)
            team.real.withdraw(job)
            team.real.running += 1
            model.drop(team, job.needs)
            model.leave(team, wanting)
            team.running.append(job)
            team.tokens -= 1
            self.expect_offers(model.claimants(model.drop_unusable()))

    @rule(data=st.data(), paused=st.sampled_from([False, False, False, True]))
    def pauses(self, data: st.DataObject, paused: bool) -> None:  # noqa: FBT001 - drawn
        team = self.team(data)
        if team is not None:
            team.paused = paused
            (team.real.pause if paused else team.real.resume)()
            self.expect_offers_of_closing(team, closed=paused)

    @rule(data=st.data(), limit=st.sampled_from([6, 6, 6, 0, 1, 3]))
    def resizes(self, data: st.DataObject, limit: int) -> None:
        team = self.team(data)
        if team is not None:
            team.limit = limit
            team.real.resize(limit)
            self.expect_offers_of_closing(team, closed=not limit)

    def expect_offers_of_closing(self, team: Team, *, closed: bool) -> None:
        dropped = [claim for claim in self.model.claims if closed and claim[0] is team]
        for claim in dropped:
            self.model.drop(*claim)
        expected = self.model.claimants(need for _, needs in dropped for need in needs)
        # The order in which a group drops its claims is not a promise.
        assert set(self.graph.offered) == {team.real for team in expected}
        assert len(self.graph.offered) == len(expected)
        self.graph.offered.clear()

    @rule(data=st.data(), size=st.sampled_from([4, 4, 4, 0, 1, 2, 3, 6]))
    def resizes_limit(self, data: st.DataObject, size: int) -> None:
        limit = data.draw(st.sampled_from(list(self.model.limits)))
        self.model.limits[limit] = size
        limit.resize(size)
        self.expect_offers(self.model.claimants([(limit, 0)]))

    @rule(eighths=st.sampled_from([1, 2, 8, 20]))
    def time_passes(self, eighths: int) -> None:
        self.model.now += eighths / 8
        self.graph.advance(self.model.now)

    @invariant()
    def nothing_differs(self) -> None:
        """Compare counts and claims; a group that lacks only a token must have a timer."""
        for team in self.model.teams:
            real = team.real
            assert real.ready == len(team.ready)
            assert real.returning == len(team.returning)
            assert real.running == len(team.running)
            assert real.startable == self.model.startable(team, len(team.running))
            entries = [job for job in real._queue if job not in real._stale]
            assert sorted(map(id, entries)) == sorted(id(wanting.job) for wanting in team.ready)
            if team.per_key is not None:
                for key in "abc":
                    assert real._queue.used(key) == [job.key for job in team.running].count(key)
            if team.ready and not self.model.token(team):
                timers = [when for when, action, _ in self.graph.timers if action.__self__ is real]  # type: ignore[attr-defined]
                assert len(timers) == 1
                assert self.model.now < timers[0] <= self.model.now + (1 - team.tokens) * team.rate.interval  # type: ignore[union-attr]
        for limit in self.model.limits:
            assert limit.used == self.model.used(limit)
            assert [(lane.group, lane.needs) for lane in limit.claims] == [
                (team.real, needs) for team, needs in self.model.claims if limit in dict(needs)
            ]

    def teardown(self) -> None:
        lineups.SPARE = SPARE


TestQueueModel = QueueMachine.TestCase
TestQueueModel.settings = settings(max_examples=examples(300), stateful_step_count=80, deadline=None)

# Examples ---------------------------------------------------------------------------------------------------


def test_priorities_come_before_keys_and_keys_before_age() -> None:
    """Higher priority first; within one, keys take exact turns; within a key, first ready first."""
    group = group_of(Graph())
    put(group, *[Job(0, "a", name=f"a{n}") for n in range(4)])
    put(group, *[Job(0, "b", name=f"b{n}") for n in range(2)])
    put(group, Job(0, None, name="none"), Job(1, "a", name="urgent"))
    assert [job.name for job in start_all(group)] == ["urgent", "a0", "b0", "none", "a1", "b1", "a2", "a3"]


def test_turns_are_the_same_for_all_needs() -> None:
    """A key that was served is last in turn, whatever limits its other tasks need."""
    limit = Limit("database", 9)
    group = group_of(Graph())
    put(group, Job(0, "a", name="a0"), Job(0, "a", ((limit, 1),), name="a1"), Job(0, "b", name="b0"))
    assert [job.name for job in start_all(group)] == ["a0", "b0", "a1"]


def test_a_key_that_comes_back_is_last_in_turn() -> None:
    """A key without READY tasks has no turn; it gets one behind all others."""
    group = group_of(Graph())
    put(group, Job(0, "a"), Job(0, "b", name="b0"), Job(0, "c", name="c0"))
    start(group)
    put(group, Job(0, "a", name="a1"))
    assert [job.name for job in start_all(group)] == ["b0", "c0", "a1"]


@pytest.mark.parametrize("options", [{}, {"per_key": 9}])
def test_depth_first_starts_the_last_one_that_became_ready(options: dict[str, int]) -> None:
    """The last comes first, with a queue of either kind, and also if the queue changes its kind meanwhile."""
    group = group_of(Graph(), order="depth_first", **options)
    jobs = [Job(name=str(number)) for number in range(4)]
    put(group, *jobs)
    group.withdraw(jobs[2])
    assert start(group) is jobs[3]
    put(group, jobs[2])
    group.rank()
    assert start_all(group) == [jobs[2], jobs[1], jobs[0]]


def test_a_key_has_no_more_than_its_places() -> None:
    """With per_key=1 a second task of a key waits for the first to end; other keys, and None, go ahead."""
    group = group_of(Graph(), per_key=1)
    put(group, *[Job(0, key, name=f"{key}{n}") for n in range(2) for key in ("a", "b", None)])
    started = start_all(group)
    assert [job.name for job in started] == ["a0", "b0", "None0", "None1"]
    assert group.startable == 0
    end(group, started[1])
    assert group.startable == 1
    assert [job.name for job in start_all(group)] == ["b1"]


def test_a_task_that_needs_much_does_not_starve() -> None:
    """It gets what it needs before those of other groups that came later, though there was always something
    for these.
    """
    graph, limit = Graph(), Limit("database", 3)
    many, one = group_of(graph), group_of(graph)
    put(many, *[Job(needs=((limit, 1),)) for _ in range(10)])
    running = [start(many) for _ in range(3)]
    big = Job(needs=((limit, 3),))
    put(one, big)
    assert start(one) is None
    for job in running:
        end(many, job)
        assert graph.offered.pop() is one
        assert start(many) is None
        assert start(one) is (big if job is running[-1] else None)
    end(one, big)
    assert graph.offered == [many]
    assert len(start_all(many)) == 3


def test_what_is_beyond_the_claims_is_used() -> None:
    """A claim keeps so much as it needs, and no more."""
    graph, limit = Graph(), Limit("database", 5)
    group, other = group_of(graph), group_of(graph)
    held = Job(needs=((limit, 4),))
    put(other, held)
    start(other)
    big = Job(needs=((limit, 2),))
    small = [Job(needs=((limit, 1),)) for _ in range(4)]
    put(group, big, *small)
    assert start_all(group) == []  # 1 is free, and kept
    assert group.obstacle(small[0]) == (
        "it needs 1 of 'database', of which 1 of 5 is kept for a task that came before it"
    )
    end(other, held)
    assert start_all(group) == [big, *small[:3]]
    assert limit.used == 5
    assert not limit.claims or list(limit.claims.values()) == [1]


def test_a_claim_on_more_than_there_is_keeps_nothing() -> None:
    """A task that needs more than a limit was reduced to waits, and others go on meanwhile."""
    graph = Graph()
    limit = limit_of(graph, 3)
    group = group_of(graph)
    big, small = Job(needs=((limit, 3),)), Job(needs=((limit, 1),))
    put(group, big, small)
    limit.resize(2)
    assert start_all(group) == [small]
    end(group, small)
    graph.offered.clear()
    limit.resize(3)
    assert graph.offered == [group]
    assert start(group) is big


def test_a_paused_group_has_no_claims() -> None:
    """Pausing it gives others what was kept for it; bodies that want to go on may claim it anew."""
    graph, limit = Graph(), Limit("database", 1)
    group, other = group_of(graph), group_of(graph)
    held, ready, later = [Job(needs=((limit, 1),)) for _ in range(3)]
    put(other, held)
    start(other)
    put(group, ready)
    start(group)
    put(other, later)
    start(other)
    assert len(limit.claims) == 2
    group.pause()
    assert graph.offered == [other]
    assert [lane.group for lane in limit.claims] == [other]
    group.add_returning(Job(needs=((limit, 1),)))
    assert group.pop_returning() is None
    assert [lane.group for lane in limit.claims] == [other, group]


def test_bodies_that_want_to_go_on_come_first_and_in_order() -> None:
    """They pass over those whose key is full, need no token, and are not held by a pause; but by limit 0."""
    graph = Graph()
    group = group_of(graph, per_key=1, rate=Rate(1))
    jobs = [Job(0, key, name=f"{key}{n}") for n, key in enumerate("aab")]
    put(group, Job(0, "a"))
    running = start(group)
    for job in jobs:
        group.add_returning(job)
    group.pause()
    assert group.pop_returning() is jobs[2]
    assert group.pop_returning() is None
    end(group, running)
    group.limit = 0
    assert group.pop_returning() is None
    group.limit = 9
    assert group.pop_returning() is jobs[0]
    assert group.drop_returning(jobs[1])
    assert not group.drop_returning(jobs[1])
    assert group.returning == 0


def test_bodies_that_want_to_go_on_come_in_order_whatever_they_need() -> None:
    """A body whose limits do not admit it is passed over, and those behind it go on in order."""
    limit = Limit("database", 1)
    limit.used = 1
    group = group_of(Graph(), per_key=9)
    jobs = [Job(needs=needs) for needs in ((), ((limit, 1),), (), ())]
    for job in jobs:
        group.add_returning(job)
    assert [group.pop_returning() for _ in range(3)] == [jobs[0], jobs[2], jobs[3]]
    group.add_returning(Job())
    limit.used = 0
    assert group.pop_returning() is jobs[1]


def starts(group: Any, graph: Graph, until: float) -> list[float]:
    """Start what may start, at the times of the timers, and return when it did."""
    times = [graph.now for _ in start_all(group)]
    while graph.timers and min(graph.timers)[0] <= until:
        graph.advance(min(timer[0] for timer in graph.timers))
        times += [graph.now for _ in start_all(group)]
    return times


def test_a_rate_is_exact() -> None:
    """With Rate(5) starts come at 0, 0.2, 0.4 and so on, each at the time of a timer, of which one is set."""
    graph = Graph()
    group = group_of(graph, rate=Rate(5))
    put(group, *[Job() for _ in range(20)])
    assert len(graph.timers) == 0
    assert starts(group, graph, 2) == pytest.approx([number / 5 for number in range(11)])
    assert len(graph.timers) == 1
    rung: list[Any] = []
    group.bell = rung.append
    graph.advance(2.1)
    assert rung == []
    graph.advance(2.3)
    assert rung == [group]
    start(group)
    assert group.obstacle(Job()) == "the next token of its group's rate comes at 2.5, in 0.2 s"


def test_a_burst_is_saved_up_and_no_more() -> None:
    """A rate's burst may start at once after a quiet time of whatever length; then the rate holds."""
    graph = Graph()
    group = group_of(graph, rate=Rate(10, 10, burst=3))
    graph.now = 100.0
    put(group, *[Job() for _ in range(5)])
    assert starts(group, graph, 102) == [100, 100, 100, 101, 102]


def test_the_clock_of_a_new_run_may_be_behind() -> None:
    """What a rate gave away counts for a full wait at most, and the timer of the run before is not missed."""
    graph = Graph()
    group = group_of(graph, rate=Rate(1))
    graph.now = 1000.0
    put(group, *[Job() for _ in range(3)])
    assert len(start_all(group)) == 1
    graph.timers.clear()
    graph.now = 5.0
    group.began(5.0)
    assert [timer[0] for timer in graph.timers] == [6.0]
    assert starts(group, graph, 10) == [6, 7]


def test_ageing_bounds_the_wait() -> None:
    """A task that has waited for longer than `ageing` goes ahead of all priorities, the oldest first."""
    graph = Graph()
    group = group_of(graph, ageing=10)
    old = [Job(priority, name=str(priority)) for priority in (-2, -1)]
    put(group, *old)
    graph.now = 10.0
    put(group, Job(5), Job(4))
    assert start(group).priority == 5
    graph.now = 10.5
    assert [job.priority for job in start_all(group)] == [-2, -1, 4]


def test_ages_are_counted_from_the_start_of_a_run() -> None:
    """What became READY before the run, by whatever clock, is no older than the run."""
    graph = Graph()
    group = group_of(graph, ageing=10)
    put(group, Job(0), Job(1))
    graph.now = 500.0
    group.began(500.0)
    assert start(group).priority == 1


def test_obstacles_are_said_in_words() -> None:
    """A pause, a full key and a shortage have sentences; nothing in the way is None."""
    graph, limit = Graph(), Limit("database", 3)
    group = group_of(graph, per_key=1)
    job = Job(0, "x", ((limit, 2),))
    put(group, job, Job(0, "x", ((limit, 2),)), Job(0, "y", ((limit, 2),)))
    assert group.obstacle(job) is None
    start(group)
    assert group.obstacle(Job(0, "x")) == "its key 'x' has 1 of 1 places"
    assert group.obstacle(Job(0, "y", ((limit, 2),))) == "it needs 2 of 'database', of which 1 of 3 is free"
    group.pause()
    assert group.obstacle(Job()) == "its group 'group' is paused"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rate": 5}, BadType, r"rate=Rate\(5\)"),
        ({"per_key": 0}, BadValue, "1 or more"),
        ({"per_key": True}, BadValue, "1 or more"),
        ({"order": "lifo"}, BadValue, "'depth_first'"),
        ({"ageing": -1}, BadValue, "ageing=60"),
        ({"ageing": math.nan}, BadValue, "ageing=60"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """The message shows what would be right."""
    with pytest.raises(error, match=words):
        WorkerGroup(1, **options)


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": math.inf}, {"per": 0}, {"burst": 0}, {"burst": 1.5}]
)
def test_wrong_rates_are_refused(wrong: dict[str, Any]) -> None:
    """A rate must be one by which tasks start."""
    with pytest.raises(BadValue):
        Rate(**{"count": 1, **wrong})


@pytest.mark.parametrize("wrong", [-1, 1.5, True])
def test_wrong_limits_are_refused(wrong: Any) -> None:
    """A limit that is refused is as it was."""
    limit = Limit("database", 3)
    with pytest.raises(BadValue):
        limit.resize(wrong)
    assert limit.limit == 3


class Counted(float):
    """A priority that counts how often any of its kind is compared."""

    comparisons = 0

    def __neg__(self) -> Counted:
        return Counted(-float(self))

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) < float(other)

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return float(self) == other

    __hash__ = float.__hash__


@pytest.mark.parametrize("per_key", [None, 1])
@pytest.mark.parametrize("keys", [1, 100])
def test_no_operation_scans(per_key: int | None, keys: int) -> None:
    """Ten times as many tasks, each of a priority of its own, cost little more than ten times as much."""

    def cost(size: int) -> int:
        limit = Limit("database", 1)
        group = group_of(Graph(), per_key=per_key)
        Counted.comparisons = 0
        for number in range(size):
            needs = ((limit, 1),) if number % 3 == 0 else ()
            put(group, Job(Counted(number * 7919 % size), f"key {number % keys}", needs))
        started = 0
        running: list[Any] = []
        while started < size:
            found = start_all(group)
            assert found
            assert len(found) <= keys or per_key is None
            started += len(found)
            running += found
            for job in running:
                end(group, job)
            running.clear()
        return Counted.comparisons

    assert cost(3000) < 10 * 1.7 * cost(300)


@pytest.mark.parametrize("per_key", [None, 1])
@pytest.mark.parametrize("needy", [0, 1])
def test_nothing_is_left_behind(per_key: int | None, needy: int) -> None:
    """A queue that has been emptied, in whatever way, keeps no keys, and few entries that mean nothing."""
    graph, limit = Graph(), Limit("database", 1)
    group = group_of(graph, per_key=per_key)
    for number in range(5000):
        needs = ((limit, 1),) * (number % 2 * needy)
        jobs = [Job(number, f"key {number % 50}", needs) for _ in range(3)]
        put(group, *jobs)
        job = start(group)
        for other in jobs:
            if other is not job:
                group.withdraw(other)
        end(group, job)
    queue = group._queue
    assert len(queue) == 0 == limit.used
    assert not limit.claims
    assert set(queue._keys) <= {None}
    assert all(len(lane.ranked.heap) < 300 for lane in queue._lanes.values())


def test_work_withdrawn_again_and_again_leaves_little() -> None:
    """Entries that mean nothing are cleared away when they are most."""
    group = group_of(Graph())
    put(group, Job(0, "a"), Job(1, "b"))
    for number in range(5000):
        job = Job(0.5 - 1 / (number + 2), "a")
        put(group, job)
        group.withdraw(job)
    lane = next(iter(group._queue._lanes.values()))
    assert len(lane.ranked.heap) < 300
    assert all(len(line.heap) < 300 for key in group._queue._keys.values() for line in key.lines.values())
