"""Tenants with redaction: what they send, what a provider may see of it, and what comes back."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from typing import Any

import orjson

from tests.e2e.rig import CHAT, Gateway, chat, samples
from tests.fakes import answers
from tests.fakes.client import Answer
from tests.fakes.upstream import Step, Upstream, send

HASH_KEY = "a-hash-key-of-the-tests-0123456789"
EMAIL, MADE_UP = "jane.roe@example.com", "made.up@example.org"
PHONE, CARD, SSN = "(415) 555-2671", "4111 1111 1111 1111", "536-22-1234"
IBAN, API_KEY = "DE89 3704 0044 0532 0130 00", "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8"
ENTITIES = ["EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "US_SSN", "IBAN_CODE", "API_KEY"]
VALUES = dict(zip(ENTITIES, (EMAIL, PHONE, CARD, SSN, IBAN, API_KEY), strict=True))
MASK: dict[str, Any] = {"mode": "mask"}
RESTORE: dict[str, Any] = {"mode": "mask", "restore": True}


@cache
def key_of(tenant: str) -> str:
    """The one that every gateway of this run gives to ``tenant``."""
    return f"sk-gw-{secrets.token_urlsafe(24)}"


def tenant(name: str, redaction: dict[str, Any], **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(key_of(name).encode()).hexdigest()
    keys = [{"id": "ci", "hash": f"sha256:{digest}"}]
    return {"models": ["*"], "keys": keys, "redaction": {"entities": ENTITIES, **redaction}, **more}


def policies(**redactions: dict[str, Any]) -> dict[str, Any]:
    """The configuration with a tenant for each policy, named like it."""
    made = {name: tenant(name, redaction) for name, redaction in redactions.items()}
    return {"privacy": {"hash_key": HASH_KEY}, "tenants": made}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def ask(gateway: Gateway, name: str, text: str = "", path: str = CHAT, **fields: Any) -> Answer:
    """What the tenant ``name`` is answered; ``headers`` are the request's, ``fields`` of its body."""
    headers = fields.pop("headers", None)
    if path == CHAT:
        fields = chat(**({"messages": user(text)} if text else {}) | fields)
    return await gateway.ask(path, {"model": "chat", **fields}, key=key_of(name), headers=headers)


def whole(text: str = "fine", **message: Any) -> Step:
    return send(answers.json_answer(answers.chat_body(text, **message)))


def streamed(*texts: str, size: int = 0) -> list[Step]:
    return answers.stream(answers.chat_stream(texts), size=size)


def prompt(upstream: Upstream) -> str:
    """What the provider was told last by the user."""
    return str(upstream.last.json()["messages"][-1]["content"])


def heard(answer: Answer, index: int = 0, field: str = "content") -> str:
    """The text of a choice, whether its stream is complete or not."""
    natives = [orjson.loads(raw) for raw in answer.events if raw != b"[DONE]"]
    choices = [choice for native in natives for choice in native.get("choices", ())]
    return "".join(one["delta"].get(field) or "" for one in choices if one["index"] == index)


async def counted(gateway: Gateway, name: str, **labels: str) -> float:
    found = samples(await gateway.metrics()).get(name, [])
    return sum(value for known, value in found if labels.items() <= known.items())


async def row_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return await gateway.row(answer.header("x-request-id") or "")
