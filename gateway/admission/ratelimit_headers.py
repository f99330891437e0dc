"""The six ``x-ratelimit-*`` headers, in OpenAI's names and forms."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.storage.interface import RateClaim, RateState

Headers = list[tuple[bytes, bytes]]


def ratelimit_headers(rates: Iterable[tuple[RateClaim, RateState]]) -> Headers:
    """Of several limits of a kind the one that has least left."""
    tightest: dict[bytes, tuple[RateClaim, RateState]] = {}
    for claim, state in rates:
        kind = b"requests" if claim.counter.endswith(".rpm") else b"tokens"
        known = tightest.get(kind)
        if known is None or state.remaining < known[1].remaining:
            tightest[kind] = (claim, state)
    headers: Headers = []
    for kind, (claim, state) in tightest.items():
        headers += (
            (b"x-ratelimit-limit-" + kind, b"%d" % claim.limit),
            (b"x-ratelimit-remaining-" + kind, b"%d" % max(state.remaining, 0)),
            (b"x-ratelimit-reset-" + kind, reset(state.reset_us)),
        )
    return headers


def reset(us: int) -> bytes:
    """A time as OpenAI writes it: ``12ms``, ``1.5s``, ``6m0s``; rounded up to milliseconds."""
    ms = max(-(-us // 1000), 0)
    if ms < 1000:
        return b"%dms" % ms
    minutes, ms = divmod(ms, 60_000)
    seconds = b"%d.%03d" % divmod(ms, 1000) if ms % 1000 else b"%d" % (ms // 1000)
    if b"." in seconds:
        seconds = seconds.rstrip(b"0")
    return b"%dm%bs" % (minutes, seconds) if minutes else seconds + b"s"
