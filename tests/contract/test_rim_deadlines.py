"""Slow clients: each is closed by its deadline, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from tests.contract.rim_rig import peer, served, until


async def test_a_connection_without_bytes_is_closed() -> None:
    async with served(head_s=0.2) as site, peer(site) as client:
        assert await client.all() == b""
        await until(lambda: not site.connections())


async def test_a_head_that_trickles_is_refused() -> None:
    async with served(head_s=0.3) as site, peer(site) as client:
        started_s = time.monotonic()
        await client.send(b"GET / HTTP/1.1\r\n")
        with pytest.raises((ConnectionError, TimeoutError)):
            async with asyncio.timeout(5):
                while True:
                    await client.send(b"a")
                    await asyncio.sleep(0.05)
        assert time.monotonic() - started_s >= 0.3
        assert site.seen == [] and site.refused == ["invalid_request"]


async def test_a_body_that_trickles_is_refused_in_the_exchange() -> None:
    async with served(body_s=0.3) as site, peer(site) as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert b"did not come in time" in body
        assert site.seen == []


async def test_a_long_body_at_a_fair_rate_passes_the_deadline() -> None:
    async with served(body_s=0.2, body_bytes_per_s=1000) as site, peer(site) as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n")
        for _ in range(10):
            await client.send(b"x" * 1000)
            await asyncio.sleep(0.06)
        assert (await client.answer())[0] == 200


async def test_idle_connections_are_closed() -> None:
    async with served(keep_alive_s=0.2) as site, peer(site) as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert await client.all() == b""
        await until(lambda: not site.connections())


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with served(write_s=0.4) as site:
        quiet = socket.create_connection(("127.0.0.1", site.port))
        quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            quiet.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: site.seen)
            (connection,) = site.connections()
            connection.put(b"x" * 20_000_000)
            assert connection.write_paused
            await until(lambda: site.left == ["/hold"])
        finally:
            quiet.close()


async def test_slow_clients_do_not_disturb_the_others() -> None:
    async with served(head_s=0.5) as site:
        slow = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(500)]
        for _, writer in slow[::2]:
            writer.write(b"G")
        async with peer(site) as client:
            for _ in range(20):
                await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.answer())[0] == 200
        await until(lambda: len(site.connections()) == 0)
        for _, writer in slow:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_the_oldest_idle_connection_makes_room() -> None:
    async with served(max_connections=2) as site, peer(site) as first, peer(site) as second:
        for client in (first, second):
            await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.answer())[0] == 200
        async with peer(site) as third:
            await third.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await third.answer())[0] == 200
            assert await first.all() == b""


async def test_without_an_idle_one_a_new_connection_is_refused() -> None:
    async with served(max_connections=1) as site, peer(site) as busy:
        await busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: site.seen)
        async with peer(site) as second:
            status, headers, _ = await second.answer()
            assert status == 503 and headers["retry-after"] == "1"
