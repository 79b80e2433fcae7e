"""Policies: pure decisions about when a task may start, and whether it is tried again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import attrs

from .errors import BadType, BadValue, TryAgain
from .values import is_seconds, is_whole

RetryPolicy = Callable[[Exception, int, float], float | None]
"""`(error, trial number, seconds since the first trial began) -> seconds to wait, or None to give up`."""
Kinds = type[BaseException] | tuple[type[BaseException], ...]


def _as_classes(kinds: object) -> tuple[type[BaseException], ...]:
    classes = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise BadType(
                "an error to retry on", kind, "it must be a class: on=(ConnectionError, TimeoutError)"
            )
    return classes


@attrs.frozen
class Rate:
    """How often tasks may start: `count` times in `per` seconds, evenly, and at most `burst` at once.

        WorkerGroup(10, rate=Rate(5))                   # one start every 0.2 s
        WorkerGroup(10, rate=Rate(100, 60, burst=20))   # 100 in a minute; 20 at once after a pause

    - `count`: how many starts, more than 0; 0.5 is one every two periods.
    - `per`: the length of the period in seconds.
    - `burst`: how many starts may be saved up, 1 or more. With 1 they are `per / count` apart, but for what
      the system's clock is late with one of them.

    It is a token bucket, in the form of the generic cell rate algorithm of ITU-T I.371: the one thing to be
    kept is the *theoretical arrival time*, at which the bucket will be full again. Whoever keeps it begins
    with minus infinity. Raises `BadValue`.
    """

    count: float = attrs.field()
    per: float = attrs.field(default=1.0)
    burst: int = attrs.field(default=1, kw_only=True)

    @count.validator
    def _check_count(self, _: object, count: object) -> None:
        if not is_seconds(count) or not count:
            raise BadValue(
                "the count of a Rate", count, "it must be more than 0: Rate(5) is 5 starts a second"
            )

    @per.validator
    def _check_per(self, _: object, per: object) -> None:
        if not is_seconds(per) or not per:
            rule = "it must be more than 0 seconds: Rate(100, 60) is 100 starts a minute"
            raise BadValue("the period of a Rate", per, rule)

    @burst.validator
    def _check_burst(self, _: object, burst: object) -> None:
        if not is_whole(burst, 1):
            rule = "it must be a whole number, 1 or more: how many tasks may start at once"
            raise BadValue("the burst of a Rate", burst, rule)

    @property
    def interval(self) -> float:
        """The seconds from one start to the next when all that is saved up is used."""
        return self.per / self.count

    def next(self, tat: float) -> float:
        """Return the time from which on a start is allowed."""
        return tat - (self.burst - 1) * self.interval

    def taken(self, tat: float, now: float) -> float:
        """Return the theoretical arrival time after a start now."""
        return max(tat, now) + self.interval

    def clamped(self, tat: float, now: float) -> float:
        """Return a theoretical arrival time that is no further away than that of an empty bucket."""
        return min(tat, now + self.burst * self.interval)


@attrs.frozen
class Retry:
    """Whether a task whose trial has failed is tried again, and after how long.

        TaskType(fetch, retry=Retry(5, delay=0.5, backoff=2, jitter=0.1, on=(ConnectionError, TrialTimeout)))

    - `attempts`: how many trials at most, the first included; None: no limit.
    - `delay`: seconds from the end of the first trial to the start of the second; for each later one it is
      `backoff` times as long.
    - `jitter`: up to so many seconds more, at random, so that those who failed together do not come back
      together. `seed` makes them the same every time.
    - `max_delay`: the longest that all this may come to.
    - `on`: the errors worth another trial, a class or a tuple of them; `give_up_on`: exceptions from that. An
      `ExceptionGroup` is worth one if all that is in it is, and not if something of `give_up_on` is in it.
    - `until`: give up if the next trial would begin more than so many seconds after the first one began.

    It is a function `(error, trial number, elapsed seconds) -> seconds to wait, or None to give up`, and any
    function like that will do in its place. Raises `BadValue` or `BadType` for what cannot be.
    """

    attempts: int | None = 3
    delay: float = attrs.field(default=0.0, kw_only=True)
    backoff: float = attrs.field(default=1.0, kw_only=True)
    max_delay: float = attrs.field(default=math.inf, kw_only=True)
    jitter: float = attrs.field(default=0.0, kw_only=True)
    on: Kinds = attrs.field(default=(Exception,), converter=_as_classes, kw_only=True)
    give_up_on: Kinds = attrs.field(default=(), converter=_as_classes, kw_only=True)
    until: float | None = attrs.field(default=None, kw_only=True)
    seed: int | None = attrs.field(default=None, kw_only=True)
    _random: random.Random = attrs.field(init=False, repr=False, eq=False)

    @_random.default
    def _seeded(self) -> random.Random:
        if self.seed is not None and not isinstance(self.seed, int):
            raise BadType("the seed of Retry", self.seed, "it must be a whole number, or None")
        return random.Random(self.seed)  # noqa: S311 - nothing secret about it

    def __attrs_post_init__(self) -> None:
        if self.attempts is not None and not is_whole(self.attempts, 1):
            rule = "they must be a whole number from 1 on, or None"
            raise BadValue("the attempts of Retry", self.attempts, rule)
        for name in ("delay", "jitter"):
            if not is_seconds(getattr(self, name)):
                rule = "it must be a number of seconds, 0 or more"
                raise BadValue(f"the {name} of Retry", getattr(self, name), rule)
        if not is_seconds(self.max_delay) and self.max_delay != math.inf:
            raise BadValue(
                "the max_delay of Retry", self.max_delay, "it must be a number of seconds, 0 or more"
            )
        if not is_seconds(self.backoff):
            raise BadValue("the backoff of Retry", self.backoff, "it must be a number, 0 or more")
        if self.until is not None and not is_seconds(self.until):
            raise BadValue("the until of Retry", self.until, "it must be a number of seconds, or None")

    def __call__(self, error: Exception, number: int, elapsed: float) -> float | None:
        """Return after how many seconds there is to be another trial, or None if there is to be none."""
        if self.attempts is not None and number >= self.attempts:
            return None
        if not self._is_worth_it(error):
            return None
        request = request_in(error)
        delay = self._delay_after(number) if request is None or request.after is None else request.after
        if delay == math.inf or (self.until is not None and elapsed + delay > self.until):
            return None
        return delay

    def _is_worth_it(self, error: Exception) -> bool:
        leaves = tuple(leaves_of(error))
        if any(isinstance(leaf, self.give_up_on) for leaf in (error, *leaves)):
            return False
        return isinstance(error, self.on) or all(isinstance(leaf, (TryAgain, self.on)) for leaf in leaves)

    def _delay_after(self, number: int) -> float:
        try:
            delay = self.delay * float(self.backoff) ** (number - 1)
        except OverflowError:
            delay = math.inf if self.delay else 0.0
        jitter = self._random.uniform(0, self.jitter) if self.jitter else 0.0
        return min(self.max_delay, delay + jitter)


def request_in(error: BaseException) -> TryAgain | None:
    """Return the `TryAgain` that an exception is; of a group of nothing else, the one of the longest wait."""
    requests: list[TryAgain] = []
    for leaf in leaves_of(error):
        if not isinstance(leaf, TryAgain):
            return None
        requests.append(leaf)
    return max(requests, key=lambda request: request.after or 0)


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield what is in an exception group, at any depth; an exception that is none is its own leaf."""
    pending = [error]
    for one in pending:
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
        else:
            yield one
