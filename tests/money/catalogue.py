"""All scenarios, and how they are played: most of them on one fleet after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from tests.fakes.cutting import CuttingProxy
from tests.money import boundary, replicas, stores, terms
from tests.money.audit import Found
from tests.money.fleet import fleet
from tests.money.replicas import CONCURRENCY, SLOTS
from tests.money.stage import PLACES, Scenario, play
from tests.storage.redis_server import redis_server

PLENTY = 1000

SCENARIOS = (
    Scenario("cold start", replicas.cold),
    Scenario("plain", replicas.plain),
    Scenario("killed and back", replicas.killed_and_back, hold_s=0.4, killed=True),
    Scenario("Redis frozen", stores.redis_frozen, hold_s=0.6),
    Scenario(
        "Redis frozen, leases",
        stores.leased,
        {"on_storage_loss": {"limits": "local_share", "budget": "lease"}},
        places=PLENTY,
        leases=True,
    ),
    Scenario("flushed", stores.flushed, hold_s=0.6),
    Scenario("flushed, two quiet", stores.flushed_while_quiet, hold_s=4.0),
    Scenario("Redis killed, empty", stores.killed_redis, hold_s=4.0),
    Scenario("requests a minute", terms.rate, {"limits": {"rpm": terms.RPM}}, places=PLENTY),
    Scenario(
        "requests at a time",
        terms.slots,
        {"limits": {"concurrency": CONCURRENCY}},
        places=PLENTY,
        most=CONCURRENCY,
        hold_s=0.3,
        killed=True,
    ),
    Scenario("dearer fallback", terms.dearer, model="falls", places=13, most=3),
    Scenario("leaving, drain", terms.leaving_drained, {"on_disconnect": "drain"}, leaves_every=2),
    Scenario("leaving, abort", terms.leaving_aborted, leaves_every=2),
    Scenario(
        "killed for good",
        replicas.killed_for_good,
        others={SLOTS: {"models": ["*"], "limits": {"concurrency": CONCURRENCY}}},
        hold_s=0.4,
        most=None,
        killed=True,
    ),
    Scenario("replica frozen", replicas.frozen, hold_s=0.4),
    Scenario("hour ends", boundary.hour_ends, period="hour", hold_s=1.5, most=2 * PLACES, place="shifted"),
    Scenario("answers lost", stores.answers_lost, place="proxied"),
)
QUICK = ("plain", "killed and back", "Redis frozen", "flushed")


async def played(folder: Path, chosen: Sequence[Scenario]) -> AsyncIterator[Found]:
    """What was found, one after the other."""
    for place in ("plain", "shifted", "proxied"):
        some = [one for one in chosen if one.place == place]
        if place == "shifted" and not boundary.possible():
            for one in some:
                yield Found(one.name, notes=["skipped: the clock cannot be moved without a C compiler"])
        elif some:
            own = folder / place
            own.mkdir()
            with boundary.shifted(own) if place == "shifted" else nullcontext():
                async for found in _on_one_fleet(own, some, proxied=place == "proxied"):
                    yield found


async def _on_one_fleet(folder: Path, chosen: Sequence[Scenario], *, proxied: bool) -> AsyncIterator[Found]:
    tenants = {name: settings for one in chosen for name, settings in one.tenants().items()}
    with redis_server() as redis:
        async with CuttingProxy(redis.port) as proxy:
            url = proxy.url if proxied else redis.url
            async with fleet(folder, redis, tenants, url) as running:
                for one in chosen:
                    yield await play(one, running, proxy)
