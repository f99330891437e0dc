"""Events for people, posted as JSON to an address that the operator names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

TIMEOUT_S = 5.0
PAUSES_S = (1.0, 5.0, 30.0)
"""Between tries; after the last one it is given up."""


async def post(url: str, event: dict[str, Any], failed: Callable[[str], None]) -> None:
    """Tries until it is taken (2xx); ``failed`` hears why it was given up."""
    import httpx  # only who configures a webhook pays for its import

    reason = ""
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        for pause_s in (0.0, *PAUSES_S):
            await asyncio.sleep(pause_s)
            try:
                answer = await client.post(
                    url, content=orjson.dumps(event), headers={"content-type": "application/json"}
                )
            except httpx.HTTPError as error:
                reason = type(error).__name__
                continue
            if answer.is_success:
                return
            reason = f"status {answer.status_code}"
    failed(reason)
