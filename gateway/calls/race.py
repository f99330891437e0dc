"""A hedge: a second attempt beside one that is late, and whichever has content first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import UpstreamError
from gateway.routing.attempt import Attempt


async def race(first: Attempt, due_s: float, second: Callable[[], Attempt | None]) -> Attempt:
    """The attempt that has content; ``second`` is asked for another one when ``first`` has had
    ``due_s`` seconds. The loser is closed. Raises the last ``UpstreamError`` when both fail.
    """
    loop = asyncio.get_running_loop()
    opening = {loop.create_task(first.open()): first}
    try:
        await asyncio.wait(opening, timeout=due_s)
        spare = second() if not any(task.done() for task in opening) else None
        if spare is not None:
            opening[loop.create_task(spare.open())] = spare
        while True:
            done, _ = await asyncio.wait(opening, return_when=asyncio.FIRST_COMPLETED)
            failed = None
            for task in done:
                attempt = opening.pop(task)
                error = task.exception()
                if error is None:
                    return attempt
                attempt.close()
                if not isinstance(error, UpstreamError):
                    raise error
                failed = error
            if failed is not None and not opening:
                raise failed
    finally:
        for task, attempt in opening.items():
            attempt.close()
            task.cancel()
            task.add_done_callback(_heard)


def _heard(task: asyncio.Task[None]) -> None:
    """What a loser still has to say is of no interest."""
    if not task.cancelled():
        task.exception()
