"""Kill switches and keys over several processes: heard at once, kept when the store forgets or goes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.control.issuing import Wanted
from gateway.control.known import FILE
from gateway.control.registry import REFUSED_S
from gateway.control.state import Entry, MadeKey, Override, State, Switch, decode, encode
from gateway.control.watch import ENTRIES, VERSION
from gateway.errors import Forbidden, InvalidApiKey, InvalidRequest, NotFound, Unavailable
from gateway.interrupt import Reason
from gateway.storage.interface import Ask, StoreLost
from gateway.storage.memory import MemoryState
from tests.unit.control_rig import KEY, Process, settings, snapshot_of, until

Fleet = Callable[..., Process]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Makes processes around one store; by default all of them poll and listen."""
    state, made = MemoryState(), []

    def process(name: str, *, running: bool = True, state: MemoryState = state) -> Process:
        made.append(Process(name, state, tmp_path, snapshot_of()))
        return made[-1].start() if running else made[-1]

    yield process
    for one in made:
        await one.close()


def stopped(process: Process, **fields: str) -> str | None:
    """What stops a request there, if anything does."""
    exchange = process.exchange(**fields)  # type: ignore[arg-type]
    try:
        process.control.check(exchange)
    except Forbidden as refused:
        assert refused.code == "kill_switch"
        return refused.message
    finally:
        process.live.discard(exchange)
    return None


async def kill(process: Process, scope: str, name: str = "", **more: object) -> tuple[Switch, bool, bool]:
    fields: dict[str, object] = {"expires_in_s": None, "cut_streams": False, **more}
    return await process.control.turn_on(scope, name, "because", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "name", "stops"),
    [
        ("all", "", True),
        ("tenant", "acme", True),
        ("tenant", "other", False),
        ("key", "acme/k", True),
        ("key", "other/k", False),
        ("feature", "search", True),
        ("feature", "chat", False),
        ("model", "m", True),
        ("model", "alias", True),
        ("model", "n", False),
        ("provider", "a", False),
        ("deployment", "m-1", False),
    ],
)
async def test_what_a_switch_stops(fleet: Fleet, scope: str, name: str, stops: bool) -> None:
    one = fleet("one")
    switch, known, shared = await kill(one, scope, name)
    message = stopped(one, feature="search")
    assert (message is not None) == stops
    if message is not None:
        assert "because" in message and scope in message
    assert shared and known == (name != "chat")
    await one.control.turn_off(scope, name)
    assert stopped(one, feature="search") is None
    assert one.control.watch.state.switches == []
    assert switch.reason == "because"


async def test_providers_deployments_and_models_are_passed_over(fleet: Fleet) -> None:
    one = fleet("one")
    m, n = one.snapshot.groups["m"], one.snapshot.groups["n"]

    def shown() -> list[bool]:
        return [deployment.health.stopped is not None for deployment in (*m.deployments, *n.deployments)]

    for scope, name, expected in (
        ("provider", "b", [False, True, True]),
        ("deployment", "m-1", [True, False, False]),
        ("model", "n", [False, False, True]),
    ):
        await kill(one, scope, name)
        assert shown() == expected
        await one.control.turn_off(scope, name)
        assert shown() == [False, False, False]
    await kill(one, "provider", "b")
    one.snapshot = snapshot_of()
    one.control.adopt(one.snapshot, [])
    assert [d.health.stopped is not None for d in one.snapshot.groups["m"].deployments] == [False, True]


async def test_all_processes_obey_what_one_was_told(fleet: Fleet) -> None:
    processes = [fleet(name) for name in ("one", "two", "three")]
    await asyncio.gather(*(one.control.watch.refresh() for one in processes))
    await kill(processes[0], "tenant", "acme")
    await until(lambda: all(stopped(one) for one in processes), 0.2)  # by the bus: no poll was due
    for one in processes[1:]:
        assert sum(one.metrics.kill_switch_propagation.counts) == 1
        assert one.metrics.kill_switch_propagation.sum < 0.25
    await processes[1].control.turn_off("tenant", "acme")
    await until(lambda: not any(stopped(one) for one in processes), 0.2)
    assert all(not one.metrics.kill_switch.children() for one in processes)


async def test_a_lost_message_is_made_good_by_the_poll(fleet: Fleet) -> None:
    one, two = fleet("one"), fleet("two")
    one.store.mute = True
    await kill(one, "model", "m")
    await until(lambda: stopped(two) is not None, 1.0)


async def test_the_next_admission_anywhere_sees_it(fleet: Fleet) -> None:
    """Without a poll and without a message: by the epoch that the admission carries."""
    one, two = fleet("one", running=False), fleet("two", running=False)
    one.store.mute = True
    await one.control.watch.refresh()
    await two.control.watch.refresh()

    async def epoch() -> int:
        return (await two.store.admit(Ask("acme", 1))).epoch

    await two.control.catch_up("acme", await epoch())
    assert not two.control.behind("acme", await epoch())
    for scope, name in (("all", ""), ("provider", "a"), ("tenant", "acme"), ("key", "acme/k")):
        await kill(one, scope, name)
        seen = await epoch()
        assert two.control.behind("acme", seen)
        await two.control.catch_up("acme", seen)
        assert two.control.watch.state.switches[-1].scope == scope
        assert not two.control.behind("acme", await epoch())
    await kill(one, "tenant", "other")
    assert not two.control.behind("acme", await epoch())


async def test_running_exchanges_are_cut_where_they_match(fleet: Fleet) -> None:
    one, two = fleet("one"), fleet("two")
    await asyncio.gather(one.control.watch.refresh(), two.control.watch.refresh())
    meant, other = two.exchange(model="m"), two.exchange(model="n")
    here = one.exchange(model="m")
    await kill(one, "model", "m")
    await until(lambda: stopped(two) is not None)
    await asyncio.sleep(0.01)
    assert [x.interrupt.reason for x in (meant, other, here)] == [None, None, None]
    await kill(one, "model", "m", cut_streams=True)
    await until(lambda: meant.interrupt.reason is Reason.KILL_SWITCH)
    await until(lambda: here.interrupt.reason is Reason.KILL_SWITCH)
    assert other.interrupt.reason is None


async def test_a_switch_that_has_expired_is_off_by_itself(fleet: Fleet) -> None:
    one, two = fleet("one"), fleet("two")
    await kill(one, "provider", "a", expires_in_s=0.3)
    await kill(one, "all", expires_in_s=0.3)
    health = two.snapshot.groups["m"].deployments[0].health
    await until(lambda: stopped(two) is not None and health.stopped is not None, 0.25)
    two.store.gone = one.store.gone = True  # nobody is told anything any more
    await until(lambda: stopped(two) is None and health.stopped is None, 2.0)
    assert two.control.switches() == []
    await until(lambda: two.metrics.kill_switch.children() == [])


async def test_names(fleet: Fleet) -> None:
    one = fleet("one")
    for scope, name in (("everything", ""), ("all", "x"), ("tenant", ""), ("tenant", "x" * 201)):
        with pytest.raises(InvalidRequest):
            await kill(one, scope, name)
    with pytest.raises(InvalidRequest, match="acme/k or other/k"):
        await kill(one, "key", "k")
    assert (await kill(one, "tenant", "nobody"))[1] is False
    assert (await kill(one, "feature", "a/b c@d"))[1] is False
    await one.issuing.make("other", Wanted(id="only"), one.snapshot)
    switch, known, _ = await kill(one, "key", "only")
    assert (switch.name, known) == ("other/only", True)
    with pytest.raises(NotFound):
        await one.control.turn_off("model", "m")


async def test_files_and_the_api_together(fleet: Fleet) -> None:
    one = fleet("one")
    await kill(one, "tenant", "other")
    running = one.exchange()
    one.control.adopt(one.snapshot, [("model", "alias", "written", True)])
    assert stopped(one) == "Stopped by an operator's kill switch (model m): written"
    await until(lambda: running.interrupt.reason is Reason.KILL_SWITCH)
    assert {(s.scope, source, known) for s, source, known in one.control.switches()} == {
        ("model", "file", True),
        ("tenant", "api", True),
    }
    with pytest.raises(InvalidRequest, match="remove it there"):
        await one.control.turn_off("model", "m")
    one.control.adopt(one.snapshot, [])
    assert stopped(one) is None
    assert [s.scope for s, _, _ in one.control.switches()] == ["tenant"]


async def test_a_restart_keeps_all_of_it(fleet: Fleet, tmp_path: Path) -> None:
    one = fleet("one")
    secret, made = await one.issuing.make("acme", Wanted(id="api"), one.snapshot)
    gone, _ = await one.issuing.make("acme", Wanted(id="gone"), one.snapshot)
    await one.issuing.revoke("acme", "gone", False, one.snapshot)
    await kill(one, "model", "n")
    file = tmp_path / "one" / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.read_text() and made.digest in file.read_text()
    await one.tasks.close()
    again = fleet("one", state=MemoryState())
    assert again.snapshot.groups["n"].deployments[0].health.stopped is not None
    assert (await again.find(secret)).id == "api"
    with pytest.raises(InvalidApiKey):
        await again.find(gone)
    assert sum(again.metrics.kill_switch_propagation.counts) == 0
    late = fleet("late", state=again.store.state)  # the store knows again, too
    await until(lambda: len(late.control.watch.state.entries) == 3)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version":1,"heard_s":null,"entries":[7]}']
)
async def test_a_damaged_file_is_no_obstacle(fleet: Fleet, tmp_path: Path, text: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / FILE).write_text(text)
    one = fleet("one")
    await kill(one, "all")
    assert stopped(one) is not None


async def test_a_store_without_memory_is_told_again(fleet: Fleet) -> None:
    """And nothing that was turned off or revoked comes back with it."""
    one, two, stranger = fleet("one"), fleet("two"), fleet("stranger", running=False)
    await kill(one, "model", "m")
    await kill(one, "model", "n")
    secret, _ = await one.issuing.make("acme", Wanted(), one.snapshot)
    revoked, key = await one.issuing.make("acme", Wanted(), one.snapshot)
    await until(lambda: len(two.control.watch.state.entries) == 4)
    await stranger.control.watch.refresh()  # it knows them as they are now
    await one.control.turn_off("model", "n")
    await one.issuing.revoke("acme", key.id, False, one.snapshot)
    await until(lambda: len(two.control.watch.state.revoked) == 1)
    one.store.state.records.drop(VERSION)
    one.store.state.records.drop(ENTRIES)
    await stranger.control.watch.refresh()  # the first to notice has old knowledge
    stranger.start()
    for process in (one, two, stranger):
        await until(lambda process=process: len(process.control.watch.state.revoked) == 1)  # type: ignore[misc]
        assert stopped(process, model="m") and not stopped(process, model="n")
        assert (await process.find(secret)).tenant.name == "acme"
        with pytest.raises(InvalidApiKey):
            await process.find(revoked)
    held = [decode(raw) for raw in (await one.store.fields(ENTRIES)).values()]
    assert State().later([entry for entry in held if entry is not None])
    latest = State().joined(State().later([e for e in held if e is not None]), 0)
    assert {e.name for e in latest.switches} == {"m"} and len(latest.revoked) == 1


async def test_concurrent_changes_while_the_store_forgets(fleet: Fleet) -> None:
    """Whatever the order of changes and write-backs: what was answered as revoked stays so."""
    processes = [fleet(name) for name in ("one", "two", "three")]
    one = processes[0]
    made = [await one.issuing.make("acme", Wanted(), one.snapshot) for _ in range(12)]
    await until(lambda: all(len(p.control.watch.state.keys) == 12 for p in processes))

    async def forget() -> None:
        for _ in range(6):
            one.store.state.records.drop(VERSION)
            one.store.state.records.drop(ENTRIES)
            await asyncio.sleep(0.005)

    async def revoke(position: int) -> None:
        process = processes[position % 3]
        await asyncio.sleep(position * 0.003)
        await process.issuing.revoke("acme", made[position][1].id, False, process.snapshot)
        with pytest.raises(InvalidApiKey):
            await process.find(made[position][0])

    await asyncio.gather(forget(), *(revoke(position) for position in range(0, 12, 2)))
    await until(lambda: all(len(p.control.watch.state.revoked) == 6 for p in processes))
    for process in processes:
        for position, (secret, _) in enumerate(made):
            if position % 2:
                assert (await process.find(secret)).tenant.name == "acme"
            else:
                with pytest.raises(InvalidApiKey):
                    await process.find(secret)


async def test_while_the_store_is_away_switches_hold_here_and_keys_cannot_be_made(fleet: Fleet) -> None:
    one, two = fleet("one"), fleet("two")
    secret, key = await one.issuing.make("acme", Wanted(), one.snapshot)
    await until(lambda: len(two.control.watch.state.keys) == 1)
    one.store.gone = True
    with pytest.raises(Unavailable) as refused:
        await one.issuing.make("acme", Wanted(), one.snapshot)
    assert refused.value.code == "storage_unavailable"
    assert (await kill(one, "all"))[2] is False
    _, shared = await one.issuing.revoke("acme", key.id, False, one.snapshot)
    assert not shared and stopped(one)
    with pytest.raises(InvalidApiKey):
        await one.find(secret)
    assert stopped(two) is None and (await two.find(secret)).id == key.id
    one.store.gone = False
    await until(lambda: stopped(two) is not None and len(two.control.watch.state.revoked) == 1)


async def test_staleness(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fleet("one")
    strict, _ = await one.issuing.make("acme", Wanted(strict=True), one.snapshot)
    lax, _ = await one.issuing.make("acme", Wanted(), one.snapshot)
    await kill(one, "tenant", "other")
    await until(lambda: one.control.watch.stale_s() == 0.0)
    one.store.gone = True
    await until(lambda: one.control.watch.stale_s() > 0)
    assert one.metrics.control_stale.value > 0
    assert one.metrics.storage_errors.child("control").value > 0
    assert (await one.find(strict)).strict  # only a moment ago it was heard
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 61)
    with pytest.raises(Unavailable) as refused:
        await one.find(strict)
    assert refused.value.code == "storage_unavailable"
    assert (await one.find(lax)).tenant.name == "acme"
    assert (await one.find(KEY)).id == "k"
    with pytest.raises(Unavailable):
        await one.find("gw-nobody-knows-this-one")
    with pytest.raises(InvalidApiKey):
        await one.find("short")
    assert [s.scope for s, _, _ in one.control.switches()] == ["tenant"]
    monkeypatch.undo()
    one.store.gone = False
    await until(lambda: one.control.watch.stale_s() == 0.0)
    assert (await one.find(strict)).strict


async def test_a_start_while_the_store_is_away(fleet: Fleet) -> None:
    one = fleet("one")
    await kill(one, "tenant", "acme")
    secret, _ = await one.issuing.make("acme", Wanted(), one.snapshot)
    await one.tasks.close()
    again = fleet("one", running=False)
    again.store.gone = True
    with pytest.raises(StoreLost):
        await again.control.watch.refresh()
    assert stopped(again) and (await again.find(secret)).tenant.name == "acme"
    new = fleet("new", running=False)
    new.store.gone = True
    with pytest.raises(StoreLost):
        await new.control.watch.refresh()
    with pytest.raises(Unavailable):
        await new.find(secret)


async def test_a_key_of_another_process_works_at_once(fleet: Fleet) -> None:
    one, two = fleet("one", running=False), fleet("two", running=False)
    await two.control.watch.refresh()
    secret, _ = await one.issuing.make("acme", Wanted(id="new", models=["n"]), one.snapshot)
    key = await two.find(secret)
    assert (key.id, key.models) == ("new", frozenset({"n"}))


async def test_unknown_keys_hardly_make_anybody_ask(fleet: Fleet) -> None:
    one = fleet("one", running=False)
    await one.control.watch.refresh()
    one.store.asked.clear()

    async def refused(secret: str) -> None:
        with pytest.raises(InvalidApiKey):
            await one.find(secret)

    for malformed in ("short", "with a space in it", "x" * 513, "ümlaut" * 5):
        await refused(malformed)
    assert one.store.asked == []
    begun_s = time.monotonic()
    await asyncio.gather(*(refused(f"gw-unknown-{number:06}") for number in range(500)))
    waves = 2 + (time.monotonic() - begun_s) / 0.25
    assert 0 < len(one.store.asked) <= waves
    one.store.asked.clear()
    for _ in range(20):
        await refused("gw-unknown-000007")
    assert one.store.asked == [] and REFUSED_S > 1


async def test_one_look_serves_all_who_wait(fleet: Fleet) -> None:
    one = fleet("one", running=False)
    await one.control.watch.refresh()
    one.store.asked.clear()
    await asyncio.gather(*(one.control.watch.refresh() for _ in range(200)))
    assert one.store.asked.count("get") <= 2
    one.store.gone = True
    one.store.asked.clear()
    results = await asyncio.gather(
        *(one.control.watch.refresh() for _ in range(200)), return_exceptions=True
    )
    assert all(isinstance(result, StoreLost) for result in results)
    assert len(one.store.asked) <= 2


async def test_rotation(fleet: Fleet) -> None:
    one = fleet("one")
    old_secret, old = await one.issuing.make(
        "acme", Wanted(id="old", models=["m"], tags={"team": "x"}, strict=True), one.snapshot
    )
    secret, new = await one.issuing.make("acme", Wanted(rotate="old", overlap_s=0.4), one.snapshot)
    assert (new.models, new.tags, new.strict) == (old.models, old.tags, True)
    for each in (old_secret, secret):
        assert not (await one.find(each)).expired(time.time())
    await until(lambda: one.control.watch.state.keys[bytes.fromhex(old.digest)].expires_s is not None)
    assert (await one.find(old_secret)).expired(time.time() + 0.5)
    _, third = await one.issuing.make("acme", Wanted(rotate="k", overlap_s=0), one.snapshot)
    assert (await one.find(KEY)).expired(time.time() + 0.01)  # one of the configuration
    assert third.tags == {"feature": "search"}
    with pytest.raises(NotFound):
        await one.issuing.make("acme", Wanted(rotate="nobody"), one.snapshot)


async def test_what_cannot_be_made(fleet: Fleet) -> None:
    one = fleet("one")
    await one.issuing.make("acme", Wanted(id="mine"), one.snapshot)
    for wanted in (Wanted(id="k"), Wanted(id="mine"), Wanted(models=["m", "unknown"])):
        with pytest.raises(InvalidRequest):
            await one.issuing.make("acme", wanted, one.snapshot)
    with pytest.raises(NotFound):
        await one.issuing.make("nobody", Wanted(), one.snapshot)
    await one.issuing.revoke("acme", "mine", False, one.snapshot)
    again = (one.issuing.make("acme", Wanted(id="mine"), one.snapshot) for _ in range(5))
    made = await asyncio.gather(*again, return_exceptions=True)
    assert sum(isinstance(one, InvalidRequest) for one in made) == 4


async def test_of_two_processes_one_makes_the_key(fleet: Fleet) -> None:
    one, two, three = (fleet(name, running=False) for name in ("one", "two", "three"))
    for turn in range(20):
        wanted = Wanted(id="same") if turn < 10 else Wanted(id="same", rotate="k")
        making = [each.issuing.make("acme", wanted, each.snapshot) for each in (one, two, three)]
        made = await asyncio.gather(*making, return_exceptions=True)
        refused = [each for each in made if isinstance(each, InvalidRequest)]
        assert len(refused) == 2 and all("'same' already" in each.message for each in refused)
        (secret,) = [each[0] for each in made if isinstance(each, tuple)]
        await two.issuing.revoke("acme", "same", False, two.snapshot)  # the id is free again
        with pytest.raises(InvalidApiKey):
            await two.find(secret)


async def test_an_id_is_claimed_for_its_tenant_alone(fleet: Fleet) -> None:
    one = fleet("one")
    for tenant in ("acme", "other"):
        await one.issuing.make(tenant, Wanted(id="same"), one.snapshot)


async def test_a_claim_ends_where_no_key_was_made(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = fleet("one", running=False), fleet("two", running=False)

    async def lost(make: object, tenants: object) -> None:
        raise StoreLost("cut off by the test")

    with monkeypatch.context() as patched:
        patched.setattr(one.control.watch, "change", lost)
        with pytest.raises(Unavailable):
            await one.issuing.make("acme", Wanted(id="same"), one.snapshot)
    with pytest.raises(InvalidRequest, match="'k' already"):
        await one.issuing.make("acme", Wanted(id="k"), one.snapshot)
    assert await two.store.get("key-id:acme k") is None
    await two.issuing.make("acme", Wanted(id="same"), two.snapshot)


async def test_an_id_whose_key_has_expired_is_free(fleet: Fleet) -> None:
    one, two = fleet("one"), fleet("two")
    soon = Wanted(id="same", expires_s=time.time() + 0.2)
    await one.issuing.make("acme", soon, one.snapshot)
    with pytest.raises(InvalidRequest):
        await two.issuing.make("acme", Wanted(id="same"), two.snapshot)
    await asyncio.sleep(0.25)
    await two.issuing.make("acme", Wanted(id="same"), two.snapshot)


async def test_all_keys_of_an_id_are_revoked(fleet: Fleet) -> None:
    """As two gateways of an older version could make them."""
    one, two = fleet("one"), fleet("two")
    twins = [f"gw-twin-{number}-0123456789" for number in range(3)]
    digests = [hashlib.sha256(secret.encode()).hexdigest() for secret in twins]

    def make(version: int, now_s: float) -> list[Entry]:
        return [MadeKey("acme", "twin", digest, version, now_s, now_s) for digest in digests]

    await one.control.add(make, "acme")
    held = [await two.find(secret) for secret in twins]
    running = [two.exchange(key) for key in held]
    await one.issuing.revoke("acme", "twin", True, one.snapshot)
    for process in (one, two):
        await process.control.watch.refresh()
        for secret in twins:
            with pytest.raises(InvalidApiKey):
                await process.find(secret)
    await until(lambda: all(each.interrupt.reason is Reason.KILL_SWITCH for each in running))


async def test_a_key_with_a_budget_of_its_own_is_not_rotated_here(fleet: Fleet) -> None:
    one = fleet("one")
    made = settings()
    tenants = made.model_dump()["tenants"]
    tenants["acme"]["keys"][0]["limits"] = {"rpm": 5}
    snapshot = snapshot_of(settings(tenants=tenants))
    with pytest.raises(InvalidRequest, match="rotate it there"):
        await one.issuing.make("acme", Wanted(rotate="k"), snapshot)


async def test_a_key_of_the_configuration_is_revoked(fleet: Fleet) -> None:
    one, two = fleet("one"), fleet("two")
    running = two.exchange()
    await two.control.watch.refresh()
    await one.issuing.revoke("acme", "k", True, one.snapshot)
    await until(lambda: running.interrupt.reason is Reason.KILL_SWITCH)
    for process in (one, two):
        with pytest.raises(InvalidApiKey):
            await process.find(KEY)
        with pytest.raises(InvalidApiKey):  # also where it was found before
            process.control.check(process.exchange())
    (listed,) = [key for key in one.issuing.listed("acme", one.snapshot) if key.id == "k"]
    assert listed.revoked_s is not None and listed.source == "file"
    again = snapshot_of()
    one.control.adopt(again, [])
    with pytest.raises(InvalidApiKey):
        await one.registry.find(KEY.encode(), again)


async def test_keys_outlive_a_reload_and_the_configuration_wins(fleet: Fleet) -> None:
    one = fleet("one")
    secret, _ = await one.issuing.make("acme", Wanted(id="api"), one.snapshot)
    assert (await one.registry.find(secret.encode(), snapshot_of())).tenant.name == "acme"
    tenants = settings().model_dump()["tenants"]
    del tenants["acme"]
    gone = snapshot_of(settings(tenants=tenants))
    with pytest.raises(InvalidApiKey):
        await one.registry.find(secret.encode(), gone)
    tenants = settings().model_dump()["tenants"]
    tenants["acme"]["keys"][0]["id"] = "api"
    taken = snapshot_of(settings(tenants=tenants))
    one.registry.forget()
    with pytest.raises(InvalidApiKey):
        await one.registry.find(secret.encode(), taken)
    assert (await one.registry.find(KEY.encode(), taken)).id == "api"


async def test_the_rights_of_an_id_are_those_of_its_key(fleet: Fleet) -> None:
    """A key that is made again under an old id has its own models."""
    one = fleet("one")
    first, _ = await one.issuing.make("acme", Wanted(id="x", models=["m"]), one.snapshot)
    one.exchange(await one.find(first), "m")
    await one.issuing.revoke("acme", "x", False, one.snapshot)
    second, _ = await one.issuing.make("acme", Wanted(id="x", models=["n"]), one.snapshot)
    with pytest.raises(Forbidden):
        one.exchange(await one.find(second), "m")


def test_entries_are_read_as_they_were_written() -> None:
    entries: list[Entry] = [
        Switch("feature", "a/b", True, 7, 1.5, "why", 2.5, True),
        MadeKey("t", "i", "0" * 64, 8, 1.0, 1.0, None, 3.0, ("m",), {"a": "b"}, True, True),
        Override("t", "i", "f" * 64, 9, 1.0, 2.0, None),
    ]
    assert [decode(encode(entry)) for entry in entries] == entries
    for raw in (b"", b"[]", b'{"kind": "new"}', encode(entries[1]).replace(b"0" * 64, b"x")):
        assert decode(raw) is None


def test_of_two_entries_the_later_holds_in_any_order() -> None:
    early = Switch("all", "", True, 1, 0.0)
    late = Switch("all", "", False, 2, 0.0)
    for order in ([early, late], [late, early]):
        state = State()
        for entry in order:
            state = state.joined(state.later([entry]), 0)
        assert state.switches == []
        assert State().joined(State().later(order), 0).switches == []
