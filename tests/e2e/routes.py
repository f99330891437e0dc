"""Model groups of several deployments, in front of one fake that is all of their providers."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest_asyncio

from tests.e2e.rig import PRICE, Gateway, samples
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, json_answer
from tests.fakes.client import Answer
from tests.fakes.upstream import Step, Upstream, send

KEYS = {name: f"sk-credential-of-{name}-0123456789" for name in "abc"}
FIRST_EVENT_S = IDLE_S = 0.4
NEVER_OPEN = {"failures": 10_000, "min_requests": 10_000, "error_rate": 1.0}
ANSWER_USD = "0.000097500"
"""What an answer of the fake costs: 11 tokens in, 7 out."""

Attempts = list[tuple[str, str]]


@dataclass
class Providers(Upstream):
    """Scripts by the model that is asked for; each deployment of a test has a model of its own."""

    _once: dict[str, deque[Sequence[Step]]] = field(default_factory=lambda: defaultdict(deque))
    _always: dict[str, Sequence[Step]] = field(default_factory=dict)

    async def __aenter__(self) -> Providers:
        await super().__aenter__()
        return self

    def once(self, model: str, *steps: Step) -> None:
        """Scripts one more request for ``model``."""
        self._once[model].append(steps)

    def always(self, model: str, *steps: Step) -> None:
        """Scripts all requests for ``model`` that ``once`` does not, until the test ends."""
        self._always[model] = steps

    def script(self) -> tuple[Step, ...]:
        model = self.last.json()["model"]
        if self._once[model]:
            return tuple(self._once[model].popleft())
        if model in self._always:
            return tuple(self._always[model])
        return super().script()

    def calls(self, *models: str) -> int:
        return sum(seen.json()["model"] in models for seen in self.seen)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._once.values()))

    def forget(self) -> None:
        super().forget()
        self._once.clear()
        self._always.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Providers]:
    async with Providers() as running:
        yield running


def pool(*providers: str, models: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
    """A group of one deployment at each of ``providers``, tried in this order, with little patience.
    ``models``: theirs, where the names matter; else they are named like the deployments."""
    named = [{"model": model} for model in models] or [{} for _ in providers]
    return {
        "deployments": [
            {"provider": provider, "price": PRICE, **model}
            for provider, model in zip(providers, named, strict=True)
        ],
        "strategy": "ordered",
        "timeouts": {"connect_s": 0.3, "first_event_s": FIRST_EVENT_S, "idle_s": IDLE_S, "total_s": 10},
        "retry": {"attempts": 3, "backoff_s": 0.02, "backoff_max_s": 0.05},
        **settings,
    }


def routing(upstream: Upstream, groups: dict[str, Any], **providers: str) -> dict[str, Any]:
    """The configuration. The deployments of ``g`` are ``g-1``, ``g-2`` and so are their models.
    ``providers``: base URLs of others than a, b and c."""
    for name, group in groups.items():
        for position, deployment in enumerate(group["deployments"], 1):
            deployment.setdefault("model", f"{name}-{position}")
    known = {
        name: {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": key}
        for name, key in KEYS.items()
    }
    others = {name: {"kind": "openai", "base_url": url} for name, url in providers.items()}
    return {"providers": known | others, "models": groups}


def whole(stream: bool, text: str = "fine") -> list[Step]:
    """A good answer."""
    return answers.stream(chat_stream([text])) if stream else [send(json_answer(chat_body(text)))]


def said(answer: Answer) -> str:
    """The text of a complete answer; fails for one that is not."""
    assert answer.status == 200, answer.body[:300]
    if not answer.events:
        (choice,) = answer.json()["choices"]
        assert choice["finish_reason"] == "stop"
        return str(choice["message"]["content"])
    assert answer.events[-1] == b"[DONE]", answer.events[-1]
    choices = [choice for raw in answer.events[:-1] for choice in orjson.loads(raw)["choices"]]
    assert [one["finish_reason"] for one in choices if one["finish_reason"]] == ["stop"]
    return "".join(one["delta"].get("content") or "" for one in choices)


async def tried(gateway: Gateway, answer: Answer) -> Attempts:
    """Deployments and outcomes by the ledger; the answer's headers say the same."""
    row = await gateway.row(answer.header("x-request-id") or "")
    attempts = [(one["deployment"], one["outcome"]) for one in row["attempts"]]
    if attempts:
        assert answer.header("x-gateway-deployment") == attempts[-1][0]
        assert answer.header("x-gateway-attempts") == str(len(attempts))
    return attempts


async def gauge(gateway: Gateway, name: str, **labels: str) -> float:
    """The value of the metric with these labels; 0 where there is none."""
    found = samples(await gateway.metrics()).get(name, [])
    return sum(value for known, value in found if labels.items() <= known.items())


async def breaker(gateway: Gateway, deployment: str) -> float:
    """0 closed, 1 half-open, 2 open."""
    return await gauge(gateway, "gateway_breaker_state", deployment=deployment)


async def cooldown_s(gateway: Gateway, deployment: str) -> float:
    return await gauge(gateway, "gateway_cooldown_seconds", deployment=deployment)
