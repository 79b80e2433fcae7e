"""Retry as a pure decision: whether there is another trial, and after how long."""

from __future__ import annotations

import math
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graph_scheduler import BadType, BadValue, Retry, TrialTimeout, TryAgain

ERROR = ConnectionError("no")


def delays(policy: Retry, trials: int, error: Exception = ERROR) -> list[float | None]:
    """Return what a policy says after each of so many trials that take no time."""
    return [policy(error, number, 0.0) for number in range(1, trials + 1)]


def nested(depth: int, *leaves: Exception) -> ExceptionGroup[Exception]:
    """Return an exception group, with a leaf of its own at every depth, around some leaves."""
    group = ExceptionGroup("innermost", leaves)
    for _ in range(depth):
        group = ExceptionGroup("outer", [ConnectionError("beside"), group])
    return group


# How long ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Retry(), [0, 0, None, None]),
        (Retry(1), [None, None]),
        (Retry(5, delay=2), [2, 2, 2, 2, None]),
        (Retry(5, delay=2, backoff=3), [2, 6, 18, 54, None]),
        (Retry(5, delay=8, backoff=0.5), [8, 4, 2, 1, None]),
        (Retry(4, delay=8, backoff=0), [8, 0, 0, None]),
        (Retry(6, delay=1, backoff=2, max_delay=5), [1, 2, 4, 5, 5, None]),
        (Retry(3, delay=1, max_delay=0), [0, 0, None]),
        (Retry(3, backoff=10), [0, 0, None]),
        (Retry(None, delay=1), [1] * 1000),
    ],
)
def test_the_delay_grows_by_the_backoff_up_to_its_bound(policy: Retry, expected: list[float | None]) -> None:
    """The second trial comes after `delay`, each later one `backoff` times as late, none beyond `max_delay`,
    and none after the last attempt.
    """
    assert delays(policy, len(expected)) == expected


@pytest.mark.parametrize("number", [2_000, 10**6, 10**400])
@pytest.mark.parametrize("backoff", [2, 2.0, 1e300])
def test_a_backoff_beyond_all_floats(number: int, backoff: float) -> None:
    """Where the delay is more than a float can be, the bound holds; without one there is no further trial."""
    assert Retry(None, delay=1, backoff=backoff, max_delay=60)(ERROR, number, 0.0) == 60
    assert Retry(None, delay=1, backoff=backoff)(ERROR, number, 0.0) is None
    assert Retry(None, delay=0, backoff=backoff)(ERROR, number, 0.0) == 0


def test_a_product_beyond_all_floats() -> None:
    """A delay that becomes infinite without an overflow is treated alike."""
    assert Retry(delay=1e300, backoff=1e300)(ERROR, 2, 0.0) is None
    assert Retry(delay=1e300, backoff=1e300, max_delay=9)(ERROR, 2, 0.0) == 9
    assert Retry(delay=1.7e308, jitter=1.7e308, max_delay=9)(ERROR, 1, 0.0) == 9


def test_jitter_comes_on_top_and_the_seed_decides_it() -> None:
    """It is uniform from 0 to `jitter`; policies with the same seed say the same, those with another one do
    not, and the program's own random numbers are left alone.
    """
    random.seed(5)
    untouched = random.random()  # noqa: S311 - nothing secret about it
    random.seed(5)
    one, same, other = (Retry(None, delay=10, backoff=1, jitter=4, seed=seed) for seed in (1, 1, 2))
    sequence = [one(ERROR, number, 0.0) or 0 for number in range(1, 1001)]
    assert [same(ERROR, number, 0.0) for number in range(1, 1001)] == sequence
    assert delays(other, 1000) != sequence
    assert all(10 <= delay <= 14 for delay in sequence)
    assert min(sequence) < 10.1
    assert max(sequence) > 13.9
    assert random.random() == untouched  # noqa: S311 - nothing secret about it


def test_max_delay_bounds_the_jitter_too() -> None:
    """The bound is on the sum of all."""
    policy = Retry(None, delay=10, jitter=4, max_delay=11, seed=1)
    found = delays(policy, 200)
    assert set(found) > {11}
    assert all(delay is not None and 10 <= delay <= 11 for delay in found)


# Whether ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "worth_it", "not_worth_it"),
    [
        (Retry(), [ERROR, ValueError(), TrialTimeout.__new__(TrialTimeout), nested(3, ERROR)], []),
        (Retry(on=OSError), [ERROR, OSError(), TimeoutError()], [ValueError(), KeyError()]),
        (Retry(on=(OSError, KeyError)), [ERROR, KeyError()], [LookupError(), ValueError()]),
        (Retry(on=()), [TryAgain()], [ERROR, ExceptionGroup("", [ERROR])]),
        (Retry(give_up_on=OSError), [ValueError()], [ERROR, OSError()]),
        (Retry(on=OSError, give_up_on=(ConnectionError, KeyError)), [OSError()], [ERROR, KeyError()]),
        (Retry(on=OSError, give_up_on=OSError), [], [ERROR]),
        (Retry(on=ExceptionGroup), [ExceptionGroup("", [ValueError()])], [ERROR]),
        (Retry(give_up_on=ExceptionGroup), [ERROR], [ExceptionGroup("", [ERROR])]),
        (Retry(on=BaseException), [ERROR], []),
    ],
)
def test_on_and_give_up_on_are_classes_or_tuples_of_them(
    policy: Retry, worth_it: list[Exception], not_worth_it: list[Exception]
) -> None:
    """An error is worth another trial if it is of a class in `on` and of none in `give_up_on`."""
    for error in worth_it:
        assert policy(error, 1, 0.0) == 0
    for error in not_worth_it:
        assert policy(error, 1, 0.0) is None


@pytest.mark.parametrize("depth", [0, 1, 5_000])
def test_a_group_is_judged_by_all_that_is_in_it(depth: int) -> None:
    """However deep: all of it must be worth another trial, and nothing in it may forbid one."""
    policy = Retry(on=OSError, give_up_on=FileNotFoundError)
    assert policy(nested(depth, ERROR), 1, 0.0) == 0
    assert policy(nested(depth, ERROR, TimeoutError()), 1, 0.0) == 0
    assert policy(nested(depth, ERROR, ValueError()), 1, 0.0) is None
    assert policy(nested(depth, ERROR, FileNotFoundError()), 1, 0.0) is None
    assert Retry(give_up_on=ValueError)(nested(depth, ERROR, ValueError()), 1, 0.0) is None
    assert Retry(give_up_on=ValueError)(nested(depth, ERROR), 1, 0.0) == 0


def test_until_is_about_when_the_next_trial_would_begin() -> None:
    """Another trial may begin up to that many seconds after the first one did, not later."""
    policy = Retry(None, delay=3, until=10)
    assert [policy(ERROR, 1, elapsed) for elapsed in (0.0, 6.9, 7.0, 7.1, 1e9)] == [3, 3, 3, None, None]
    assert Retry(until=0)(ERROR, 1, 0.0) == 0
    assert Retry(until=0)(ERROR, 1, 0.1) is None
    jittered = Retry(None, jitter=10, until=5, seed=1)
    found = delays(jittered, 200)
    assert None in found
    assert all(delay is None or delay <= 5 for delay in found)


def test_try_again_is_worth_it_whatever_on_says() -> None:
    """Its `after` takes the place of the delay; attempts, `give_up_on` and `until` still decide."""
    policy = Retry(3, delay=5, max_delay=6, on=OSError, until=100)
    assert delays(policy, 3, TryAgain()) == [5, 5, None]
    assert delays(policy, 3, TryAgain(after=60)) == [60, 60, None]
    assert delays(policy, 3, TryAgain(after=0)) == [0, 0, None]
    assert policy(TryAgain(after=60), 1, 40.0) == 60
    assert policy(TryAgain(after=60), 1, 41.0) is None
    for give_up_on in (TryAgain, Exception, (KeyError, TryAgain)):
        assert Retry(give_up_on=give_up_on)(TryAgain(after=1), 1, 0.0) is None


# What cannot be ---------------------------------------------------------------------------------------------

NO_SECONDS = [-1, -0.001, math.nan, -math.inf, "1", True, [1], 10**400]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("attempts", [0, -1, 1.5, 3.0, math.inf, math.nan, True, "3"]),
        ("delay", [*NO_SECONDS, math.inf, None]),
        ("jitter", [*NO_SECONDS, math.inf, None]),
        ("backoff", [*NO_SECONDS, math.inf, None]),
        ("max_delay", [*NO_SECONDS, None]),
        ("until", [*NO_SECONDS, math.inf]),
    ],
)
def test_numbers_that_cannot_be_are_refused(option: str, values: list[object]) -> None:
    """Each is a `BadValue`, also a `ValueError`, which names the option and the value."""
    for value in values:
        with pytest.raises(BadValue, match=f"the {option} of Retry is|the attempts of Retry is") as caught:
            Retry(**{option: value})  # type: ignore[arg-type]  # wrong on purpose
        assert caught.value.value is value
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("option", ["on", "give_up_on"])
@pytest.mark.parametrize(
    "value",
    [ValueError("x"), "ValueError", int, None, [ValueError], (ValueError, "x"), (ValueError, (OSError,))],
    ids=repr,
)
def test_what_is_no_exception_class_is_refused(option: str, value: object) -> None:
    """Each is a `BadType`, also a `TypeError`."""
    with pytest.raises(BadType, match="it must be a class") as caught:
        Retry(**{option: value})  # type: ignore[arg-type]  # wrong on purpose
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    "after",
    [-1, -math.inf, math.nan, math.inf, 10**400, True, "soon", [1]],
    ids=lambda after: repr(after)[:9],
)
def test_try_again_after_what_is_no_time_is_refused(after: object) -> None:
    """Also where a server says so: `after` is a number of seconds, 0 or more."""
    with pytest.raises(BadValue, match="the after of TryAgain"):
        TryAgain(after=after)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("seed", [[1], ERROR, (1, 2)], ids=repr)
def test_what_is_no_seed_is_refused(seed: object) -> None:
    """It is a `BadType`, as for all other options."""
    with pytest.raises(BadType, match="the seed of Retry"):
        Retry(seed=seed)  # type: ignore[arg-type]  # wrong on purpose


def test_try_again_says_after_how_long() -> None:
    """Its message and its attribute give the time asked for, if one was."""
    assert (str(TryAgain()), TryAgain().after) == ("asked for another trial", None)
    assert (str(TryAgain(after=2.5)), TryAgain(2.5).after) == ("asked for another trial after 2.5 s", 2.5)


# What always holds ------------------------------------------------------------------------------------------

seconds = st.floats(0, 1e308) | st.integers(0, 10**6)
errors: st.SearchStrategy[Exception] = st.sampled_from(
    [ERROR, ValueError("x"), ExceptionGroup("", [ERROR]), ExceptionGroup("", [ERROR, ValueError()])]
)
policies = st.builds(
    Retry,
    st.none() | st.integers(1, 100),
    delay=seconds,
    backoff=seconds,
    max_delay=seconds | st.just(math.inf),
    jitter=st.floats(0, 1e9),
    on=st.sampled_from([Exception, ConnectionError, (ValueError, OSError)]),
    give_up_on=st.sampled_from([(), ValueError, (KeyError, ValueError)]),
    until=st.none() | seconds,
    seed=st.none() | st.integers(),
)


@given(policies, errors, st.integers(1, 10**6), seconds)
def test_whatever_the_policy_its_answer_is_a_delay_or_none(
    policy: Retry, error: Exception, number: int, elapsed: float
) -> None:
    """It is finite, not negative, within `max_delay` and `until`, and None from the last attempt on."""
    delay = policy(error, number, elapsed)
    if delay is None:
        return
    assert policy.attempts is None or number < policy.attempts
    assert 0 <= delay <= policy.max_delay
    assert delay < math.inf
    assert policy.until is None or elapsed + delay <= policy.until


@given(policies, st.lists(st.tuples(errors, st.integers(1, 1000)), max_size=20))
def test_equal_policies_with_a_seed_decide_alike(policy: Retry, asked: list[tuple[Exception, int]]) -> None:
    """A decision depends on nothing but the options, the seed, and what was asked before."""
    one, other = attrs.evolve(policy, seed=7), attrs.evolve(policy, seed=7)
    assert one == other
    said = [[twin(error, number, 0.0) for error, number in asked] for twin in (one, other)]
    assert said[0] == said[1]


@given(st.integers(1, 50), st.floats(0, 1e6), st.floats(1, 10), st.floats(0, 1e9))
def test_delays_never_shrink_with_a_backoff_of_one_or_more(
    attempts: int, delay: float, backoff: float, max_delay: float
) -> None:
    """Without jitter no delay is shorter than the one before, and exactly `attempts - 1` are given."""
    found = delays(Retry(attempts, delay=delay, backoff=backoff, max_delay=max_delay), attempts + 5)
    given_ones = [one for one in found if one is not None]
    assert found == [*given_ones, *[None] * 6]
    assert len(given_ones) == attempts - 1
    assert given_ones == sorted(given_ones)
