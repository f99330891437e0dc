"""The breaker, on a clock of the test's own."""

from __future__ import annotations

import pytest

from gateway.routing.breaker import LONGEST_OPEN_S, Breaker, BreakerPolicy, State


class Bench:
    def __init__(self, **policy: float) -> None:
        self.states: list[State] = []
        self.breaker = Breaker(BreakerPolicy(**policy), lambda: 0.5, self.states.append)  # type: ignore[arg-type]

    def fail(self, times: int, now_s: float = 0.0) -> None:
        for _ in range(times):
            assert self.breaker.admit(now_s)
            self.breaker.failed(now_s)


def test_failures_in_a_row_open_it() -> None:
    bench = Bench()
    bench.fail(4)
    assert bench.breaker.state() == "closed"
    bench.breaker.succeeded(0)
    bench.fail(5)
    assert bench.breaker.state() == "open"
    assert bench.states == ["open"]
    assert not bench.breaker.admit(29.9)
    assert bench.breaker.free_at_s(10) == 30


def test_an_error_rate_opens_it() -> None:
    bench = Bench(failures=1000)
    for turn in range(19):
        bench.breaker.failed(turn * 0.1) if turn % 2 else bench.breaker.succeeded(turn * 0.1)
    assert bench.breaker.state() == "closed"
    bench.breaker.failed(2.0)
    assert bench.breaker.state() == "open"


def test_old_failures_do_not_count() -> None:
    bench = Bench(failures=1000)
    for turn in range(100):
        bench.breaker.failed(turn * 1.0) if turn % 2 else bench.breaker.succeeded(turn * 1.0)
    assert bench.breaker.state() == "closed"


def test_one_probe_at_a_time_and_three_to_close() -> None:
    bench = Bench()
    bench.fail(5)
    for _ in range(3):
        assert bench.breaker.admit(31)
        assert bench.breaker.state() == "half-open"
        assert not bench.breaker.admit(31)
        bench.breaker.succeeded(31)
    assert bench.breaker.state() == "closed"
    assert bench.states == ["open", "half-open", "closed"]


def test_a_failed_probe_opens_it_for_longer() -> None:
    bench = Bench()
    bench.fail(5)
    assert bench.breaker.admit(31)
    bench.breaker.failed(31)
    assert bench.breaker.free_at_s(31) == 31 + 60
    for turn in range(2, 30):
        now_s = bench.breaker.open_until_s
        assert bench.breaker.admit(now_s)
        bench.breaker.failed(now_s)
        assert bench.breaker.open_until_s - now_s == min(30 * (turn + 1), LONGEST_OPEN_S)


def test_a_probe_that_was_given_up_is_no_evidence() -> None:
    bench = Bench()
    bench.fail(5)
    assert bench.breaker.admit(31)
    bench.breaker.gave_up()
    assert bench.breaker.state() == "half-open"
    assert bench.breaker.admit(31)


def test_calls_from_before_it_opened_change_nothing() -> None:
    bench = Bench()
    assert bench.breaker.admit(0)
    bench.fail(5)
    bench.breaker.succeeded(1)
    bench.breaker.failed(1)
    assert bench.breaker.state() == "open"
    assert bench.breaker.free_at_s(1) == 30


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_the_open_time_is_spread(jitter: float) -> None:
    breaker = Breaker(BreakerPolicy(), lambda: jitter, lambda state: None)
    for _ in range(5):
        breaker.failed(0)
    assert breaker.open_until_s == pytest.approx(24 if jitter == 0 else 36)


def test_a_peers_state_is_taken_over() -> None:
    bench = Bench()
    bench.breaker.apply("open", 50)
    assert not bench.breaker.admit(49)
    bench.breaker.apply("closed", 0)
    assert bench.breaker.admit(49)
    bench.breaker.apply("closed", 0)
    assert bench.states == ["open", "closed"]
