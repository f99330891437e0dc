"""What becomes of personal data in requests and buffered answers, by policy and by place."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.e2e.redacting import (
    EMAIL,
    ENTITIES,
    HASH_KEY,
    IBAN,
    MADE_UP,
    MASK,
    PHONE,
    RESTORE,
    SSN,
    VALUES,
    ask,
    counted,
    key_of,
    policies,
    prompt,
    row_of,
    tenant,
    user,
    whole,
)
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat, group
from tests.e2e.routes import said
from tests.e2e.served import served
from tests.fakes import answers
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.client import Answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "[EMAIL_ADDRESS_1]"
HEADER = "x-gateway-redaction"
QUOTED = 'the "Fox" plan'
HASHED = re.compile(r"\[EMAIL_ADDRESS_[0-9a-f]{12,}\]")
BUDGET: dict[str, Any] = {"usd": 1, "period": "total"}


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    configured = policies(
        masks=MASK,
        restores={**RESTORE, "deny": [QUOTED]},
        hashes={"mode": "hash"},
        flags={"mode": "flag"},
        mixed={
            **MASK,
            "actions": {"US_SSN": "block", "EMAIL_ADDRESS": "hash", "PHONE_NUMBER": "flag"}
            | {"IBAN_CODE": "restore"},
            "models": {"other": {"mode": "flag", "actions": {}}, "silent": {"mode": "off", "actions": {}}},
        },
        inward={**MASK, "direction": "input"},
        outward={**MASK, "direction": "output"},
        passes={**MASK, "uncovered": "pass", "on_failure": "pass"},
        warns={"mode": "flag", "uncovered": "refuse"},
        own={**MASK, "recognisers": [OWN]},
    )
    inward = {**RESTORE, "direction": "input"}
    configured["tenants"]["inward-restores"] = tenant("inward-restores", inward)
    configured["tenants"]["blocks"] = tenant("blocks", {"mode": "block"}, budget=BUDGET)
    configured["tenants"]["shares"] = tenant("shares", MASK, user_budget={"usd": "0.0001", "period": "day"})
    configured["models"] = {"other": group(), "silent": group()}
    return configured


OWN = {
    "name": "ticket",
    "supported_language": "en",
    "supported_entity": "TICKET",
    "patterns": [{"name": "ticket", "regex": r"\bTCK-\d{6}\b", "score": 0.8}],
}


def sent(upstream: Upstream) -> str:
    return upstream.last.body.decode()


async def test_mask(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(f"Who is {TOKEN}?"))
    answer = await ask(gateway, "masks", f"Write to {EMAIL}, not to {PHONE}.")
    assert prompt(upstream) == f"Write to {TOKEN}, not to [PHONE_NUMBER_1]."
    assert said(answer) == f"Who is {TOKEN}?"
    assert answer.header(HEADER) == "input=mask:2;output=clean"


async def test_restore(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(f"I wrote to {TOKEN} and called [PHONE_NUMBER_1]."))
    answer = await ask(gateway, "restores", f"Write to {EMAIL}, then call {PHONE}.")
    assert EMAIL not in sent(upstream) and PHONE not in sent(upstream)
    assert said(answer) == f"I wrote to {EMAIL} and called {PHONE}."
    assert int(answer.header("content-length") or 0) == len(answer.body)
    assert answer.header(HEADER) == "input=mask:2;output=clean"


async def test_every_kind_is_masked(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(" ".join(f"[{entity}_1]" for entity in ENTITIES)))
    text = " and ".join(VALUES.values())
    answer = await ask(gateway, "restores", text)
    assert prompt(upstream) == " and ".join(f"[{entity}_1]" for entity in ENTITIES)
    assert said(answer) == " ".join(VALUES.values())


async def test_one_value_has_one_placeholder(gateway: Gateway, upstream: Upstream) -> None:
    messages = [
        {"role": "system", "content": f"The user is {EMAIL}."},
        {"role": "user", "content": f"I am {EMAIL}, she is {MADE_UP}."},
    ]
    upstream.next(whole())
    await ask(gateway, "masks", messages=messages)
    assert [one["content"] for one in upstream.last.json()["messages"]] == [
        f"The user is {TOKEN}.",
        f"I am {TOKEN}, she is [EMAIL_ADDRESS_2].",
    ]


async def test_hashes_are_equal_over_requests(gateway: Gateway, upstream: Upstream) -> None:
    found = []
    for text in (f"I am {EMAIL}.", f"Once more: {EMAIL}", f"Not me: {MADE_UP}"):
        upstream.next(whole(f"You are {MADE_UP}."))
        answer = await ask(gateway, "hashes", text)
        found += HASHED.findall(prompt(upstream))
        found += HASHED.findall(said(answer))
        assert answer.header(HEADER) == "input=hash:1;output=hash:1"
    mine, other = found[0], found[1]
    assert mine != other
    assert found == [mine, other, mine, other, other, other]


async def test_block(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.seen)
    left = await counted(gateway, "gateway_budget_remaining_usd", tenant="blocks")
    answer = await ask(gateway, "blocks", f"My SSN is {SSN}.")
    assert_refused(answer, 403, "redaction_blocked")
    assert "US_SSN" in answer.json()["error"]["message"] and SSN.encode() not in answer.body
    assert answer.header(HEADER) == "input=block:1;output=none"
    row = await row_of(gateway, answer)
    assert (row["outcome"], row["error_code"], row["attempts"]) == ("refused", "redaction_blocked", [])
    assert (row["cost_usd"], row["charged_usd"]) == ("0.000000000", "0.000000000")
    assert row["redactions"] == {"input": {"US_SSN": 1}, "blocked": "US_SSN"}
    assert len(upstream.seen) == before
    assert await counted(gateway, "gateway_budget_remaining_usd", tenant="blocks") == left


async def test_block_lets_the_clean_pass(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole("Nothing to hide."))
    assert said(await ask(gateway, "blocks", "Nothing.")) == "Nothing to hide."


async def test_block_of_an_answer(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(f"Ask {MADE_UP}."))
    answer = await ask(gateway, "blocks", "Whom do I ask?")
    assert_refused(answer, 403, "redaction_blocked")
    assert MADE_UP.encode() not in answer.body
    row = await row_of(gateway, answer)
    assert row["redactions"] == {"output": {"EMAIL_ADDRESS": 1}, "blocked": "EMAIL_ADDRESS"}
    assert row["cost_usd"] != "0.000000000"


async def test_flag(gateway: Gateway, upstream: Upstream) -> None:
    labels = {"tenant": "flags", "entity": "EMAIL_ADDRESS"}
    before = [
        await counted(gateway, "gateway_redactions_total", direction=one, **labels)
        for one in ("input", "output")
    ]
    upstream.next(whole(f"You are {EMAIL}, and I am {MADE_UP}."))
    answer = await ask(gateway, "flags", f"I am {EMAIL}.")
    assert prompt(upstream) == f"I am {EMAIL}."
    assert said(answer) == f"You are {EMAIL}, and I am {MADE_UP}."
    assert answer.header(HEADER) == "input=flag:1;output=flag:2"
    after = [
        await counted(gateway, "gateway_redactions_total", direction=one, **labels)
        for one in ("input", "output")
    ]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 2]


async def test_actions_by_entity(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole("It is [IBAN_CODE_1], card [CREDIT_CARD_1]."))
    answer = await ask(gateway, "mixed", f"{EMAIL}; {PHONE}; {VALUES['CREDIT_CARD']}; {IBAN}")
    mail, phone, card, iban = prompt(upstream).split("; ")
    assert HASHED.fullmatch(mail)
    assert (phone, card, iban) == (PHONE, "[CREDIT_CARD_1]", "[IBAN_CODE_1]")
    assert said(answer) == f"It is {IBAN}, card [CREDIT_CARD_1]."
    assert answer.header(HEADER) == "input=flag:1,hash:1,mask:2;output=clean"
    refused = await ask(gateway, "mixed", f"{EMAIL} {SSN}")
    assert_refused(refused, 403, "redaction_blocked")


async def test_actions_by_model(gateway: Gateway, upstream: Upstream) -> None:
    for model, header in (("other", "input=flag:1;output=clean"), ("silent", None)):
        upstream.next(whole())
        answer = await ask(gateway, "mixed", f"I am {EMAIL}", model=model)
        assert prompt(upstream) == f"I am {EMAIL}"
        assert answer.header(HEADER) == header


async def test_input_alone(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(f"Not {MADE_UP}?"))
    answer = await ask(gateway, "inward", f"I am {EMAIL}")
    assert prompt(upstream) == f"I am {TOKEN}"
    assert said(answer) == f"Not {MADE_UP}?"
    assert answer.header(HEADER) == "input=mask:1;output=off"


async def test_output_alone(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(f"Not {MADE_UP}?"))
    answer = await ask(gateway, "outward", f"I am {EMAIL}")
    assert prompt(upstream) == f"I am {EMAIL}"
    assert said(answer) == "Not [EMAIL_ADDRESS_1]?"
    assert answer.header(HEADER) == "input=off;output=mask:1"


async def test_off_says_nothing(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole(EMAIL))
    answer = await gateway.chat(messages=user(EMAIL))
    assert prompt(upstream) == said(answer) == EMAIL
    assert answer.header(HEADER) is None
    assert "redactions" not in await row_of(gateway, answer)


async def test_what_a_provider_makes_up_is_masked_even_with_restore(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.next(whole(f"You, {TOKEN}, know {MADE_UP}; also {EMAIL}."))
    answer = await ask(gateway, "restores", f"I am {EMAIL}")
    assert said(answer) == f"You, {EMAIL}, know [EMAIL_ADDRESS_2]; also {EMAIL}."
    assert answer.header(HEADER) == "input=mask:1;output=mask:1"
    assert (await row_of(gateway, answer))["redactions"] == {
        "input": {"EMAIL_ADDRESS": 1},
        "output": {"EMAIL_ADDRESS": 1},
    }


async def test_an_own_recogniser(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole())
    await ask(gateway, "own", f"TCK-123456 is of {EMAIL}")
    assert prompt(upstream) == f"[TICKET_1] is of {TOKEN}"


CALL = {"id": "call_1", "type": "function"}
PLACES: dict[str, dict[str, Any]] = {
    "system": {"messages": [{"role": "system", "content": f"Be {EMAIL}."}, *user("hi")]},
    "assistant": {"messages": [*user("hi"), {"role": "assistant", "content": f"I am {EMAIL}."}]},
    "tool": {"messages": [{"role": "tool", "tool_call_id": "call_1", "content": f'{{"to":"{EMAIL}"}}'}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": f"I am {EMAIL}"}]}]},
    "name": {"messages": [{"role": "user", "name": EMAIL, "content": "hi"}]},
    "refusal": {"messages": [{"role": "assistant", "content": None, "refusal": f"Not {EMAIL}"}]},
    "arguments": {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{**CALL, "function": {"name": "f", "arguments": f'{{"a":"x\\n{EMAIL}"}}'}}],
            }
        ]
    },
    "metadata": {"metadata": {"owner": EMAIL, EMAIL: "owner"}},
    "user": {"user": EMAIL},
    "stop": {"stop": [f"end of {EMAIL}"]},
    "response_format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "description": f"About {EMAIL}", "schema": {"title": EMAIL}},
        }
    },
    "tools": {
        "tools": [{"type": "function", "function": {"name": "f", "description": f"Writes to {EMAIL}"}}]
    },
    "names": {EMAIL: "x", "messages": [{"role": "user", "content": "hi", f"of {EMAIL}": 1}]},
    "unknown": {"of_the_future": {"deep": [1, None, {"who": f"<{EMAIL}>"}]}},
}


def masked(body: dict[str, Any], token: str = TOKEN) -> Any:
    """The body as the provider of the rig may see it."""
    raw = orjson.dumps({**body, "model": "upstream-model"})
    assert EMAIL.encode() in raw
    return orjson.loads(raw.replace(EMAIL.encode(), token.encode()))


@pytest.mark.parametrize("place", PLACES)
async def test_everywhere_in_a_chat(gateway: Gateway, upstream: Upstream, place: str) -> None:
    upstream.next(whole())
    answer = await ask(gateway, "masks", **PLACES[place])
    assert answer.status == 200, answer.body
    assert upstream.last.json() == masked(chat(**PLACES[place]))


@pytest.mark.parametrize(
    ("path", "fields", "native"),
    [
        ("/v1/completions", {"prompt": f"Dear {EMAIL}, "}, answers.completion_body("fine")),
        ("/v1/completions", {"prompt": ["a", f"Dear {EMAIL}"]}, answers.completion_body("fine")),
        ("/v1/embeddings", {"input": f"Dear {EMAIL}"}, answers.embedding_body([0.5])),
        ("/v1/embeddings", {"input": ["a", f"Dear {EMAIL}"]}, answers.embedding_body([0.5], [1.0])),
    ],
    ids=["prompt", "prompts", "input", "inputs"],
)
async def test_everywhere_else(
    gateway: Gateway, upstream: Upstream, path: str, fields: dict[str, Any], native: dict[str, Any]
) -> None:
    upstream.next(send(json_answer(native)))
    answer = await ask(gateway, "masks", path=path, **fields)
    assert answer.status == 200, answer.body
    assert upstream.last.json() == masked({"model": "chat", **fields})
    assert (answer.header(HEADER) or "").startswith("input=mask:1;")


async def test_a_completion_is_masked_and_restored(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(json_answer(answers.completion_body(f"{TOKEN} and {MADE_UP}"))))
    answer = await ask(gateway, "restores", path="/v1/completions", prompt=f"Dear {EMAIL}")
    assert answer.json()["choices"][0]["text"] == f"{EMAIL} and [EMAIL_ADDRESS_2]"


@pytest.mark.parametrize(
    "spelled", [r"jane.roe\u0040example.com", r"\u006aane.roe@example.com", r"jane.roe@example\u002ecom"]
)
async def test_escapes_hide_nothing(gateway: Gateway, upstream: Upstream, spelled: str) -> None:
    """In the body's own JSON, and in the JSON of a tool call inside it."""
    upstream.next(whole())
    inside = spelled.replace("\\", "\\\\")
    raw = (
        f'{{"model":"chat","messages":[{{"role":"user","content":"I am {spelled}"}},'
        '{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":'
        f'"{{\\"to\\":\\"{inside}\\"}}"}}}}]}}]}}'
    )
    answer = await gateway.ask(CHAT, raw.encode(), key=key_of("masks"))
    assert answer.status == 200, answer.body
    first, second = upstream.last.json()["messages"]
    assert first["content"] == f"I am {TOKEN}"
    assert orjson.loads(second["tool_calls"][0]["function"]["arguments"]) == {"to": TOKEN}


async def test_tool_calls_come_back_valid(gateway: Gateway, upstream: Upstream) -> None:
    """Also where the value has to be escaped in the JSON of the arguments."""
    arguments = orjson.dumps({"to": TOKEN, "about": "[DENY_LIST_1]", "cc": MADE_UP}).decode()
    call = {**CALL, "function": {"name": "mail", "arguments": arguments}}
    upstream.next(send(json_answer(chat_body(finish="tool_calls", tool_calls=[call]))))
    answer = await ask(gateway, "restores", f"Tell {EMAIL} about {QUOTED}.")
    assert prompt(upstream) == f"Tell {TOKEN} about [DENY_LIST_1]."
    made = answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]
    assert orjson.loads(made["arguments"]) == {"to": EMAIL, "about": QUOTED, "cc": "[EMAIL_ADDRESS_2]"}
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_numbers_may_be_cards(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole())
    await ask(gateway, "masks", metadata={"card": 4111111111111111, "count": 3}, seed=4111111111111111)
    assert upstream.last.json()["metadata"] == {"card": "[CREDIT_CARD_1]", "count": 3}
    assert upstream.last.json()["seed"] == 4111111111111111


async def test_a_conversation_goes_on(gateway: Gateway, upstream: Upstream) -> None:
    """What was restored is masked again when the client sends it back."""
    upstream.next(whole(f"You are {TOKEN}."))
    first = await ask(gateway, "restores", f"I am {EMAIL}.")
    upstream.next(whole("Bye."))
    messages = [*user(f"I am {EMAIL}."), {"role": "assistant", "content": said(first)}, *user("Thanks.")]
    await ask(gateway, "restores", messages=messages)
    assert EMAIL not in sent(upstream)
    assert upstream.last.json()["messages"][1]["content"] == f"You are {TOKEN}."


async def test_a_client_cannot_forge_a_placeholder(gateway: Gateway, upstream: Upstream) -> None:
    text = f"Tell {TOKEN} that I am {EMAIL}."
    for name in ("masks", "restores"):
        upstream.next(whole(f"{TOKEN} [LITERAL_1]"))
        answer = await ask(gateway, name, text)
        assert prompt(upstream) == f"Tell [LITERAL_1] that I am {TOKEN}."
        assert said(answer) == (f"{EMAIL} {TOKEN}" if name == "restores" else f"{TOKEN} {TOKEN}")


@pytest.mark.parametrize(
    "token", ["[EMAIL_ADDRESS_7]", "[EMAIL_ADDRESS_0]", "[US_SSN_1]", "[email_address_1]"]
)
async def test_a_provider_cannot_forge_a_placeholder(
    gateway: Gateway, upstream: Upstream, token: str
) -> None:
    upstream.next(whole(f"Hello {token}."))
    answer = await ask(gateway, "restores", f"I am {EMAIL}")
    assert said(answer) == f"Hello {token}."


def content(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": EMAIL}, part]}]}


UNCOVERED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "image_url": (
        CHAT,
        "image_url",
        content({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
    ),
    "input_audio": (
        CHAT,
        "input_audio",
        content({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    ),
    "file": (CHAT, "file", content({"type": "file", "file": {"file_id": "file-abc"}})),
    "modalities": (CHAT, "modalities", {"messages": user(EMAIL), "modalities": ["text", "audio"]}),
    "logprobs": (CHAT, "logprobs", {"messages": user(EMAIL), "logprobs": True}),
    "prompt ids": ("/v1/completions", "token_ids", {"prompt": [1, 2, 3]}),
    "input ids": ("/v1/embeddings", "token_ids", {"input": [[1, 2], [3]]}),
}


@pytest.mark.parametrize("name", UNCOVERED)
async def test_what_is_not_covered_is_refused(gateway: Gateway, upstream: Upstream, name: str) -> None:
    path, kind, fields = UNCOVERED[name]
    before = len(upstream.seen)
    answer = await ask(gateway, "masks", path=path, **fields)
    assert_refused(answer, 403, "redaction_blocked")
    assert answer.json()["error"]["param"] == kind
    assert kind in answer.json()["error"]["message"]
    assert len(upstream.seen) == before
    assert (await row_of(gateway, answer))["outcome"] == "refused"


@pytest.mark.parametrize("name", UNCOVERED)
async def test_what_is_not_covered_may_pass(gateway: Gateway, upstream: Upstream, name: str) -> None:
    path, kind, fields = UNCOVERED[name]
    native = {
        CHAT: chat_body("fine"),
        "/v1/completions": answers.completion_body("fine"),
        "/v1/embeddings": answers.embedding_body([0.5], [0.5]),
    }[path]
    before = await counted(gateway, "gateway_redaction_skipped_total", reason=kind)
    upstream.next(send(json_answer(native)))
    answer = await ask(gateway, "passes", path=path, **fields)
    assert answer.status == 200, answer.body
    assert ",skipped:1;" in (answer.header(HEADER) or "")
    assert EMAIL not in sent(upstream)
    assert await counted(gateway, "gateway_redaction_skipped_total", reason=kind) == before + 1
    assert (await row_of(gateway, answer))["redactions"]["skipped"] == {kind: 1}


async def test_only_counting_refuses_nothing(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole())
    answer = await ask(gateway, "warns", **UNCOVERED["image_url"][2])
    assert answer.status == 200 and ",skipped:1;" in (answer.header(HEADER) or "")


async def test_upstream_errors_say_what_was_done(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(answers.error_answer("500 Internal Server Error", message=f"Cannot {MADE_UP}")))
    answer = await ask(gateway, "masks", f"I am {EMAIL}")
    assert answer.status == 502
    assert (answer.header(HEADER) or "").startswith("input=mask:1;")
    assert (await row_of(gateway, answer))["redactions"]["input"] == {"EMAIL_ADDRESS": 1}


async def test_an_upstream_error_that_echoes(gateway: Gateway, upstream: Upstream) -> None:
    """What a provider says of a bad request may reach the client: its own data may, others' not."""
    said_upstream = f"Invalid value: {TOKEN}, unlike {MADE_UP}"
    upstream.next(send(answers.error_answer("400 Bad Request", "invalid_value", said_upstream)))
    answer = await ask(gateway, "masks", f"I am {EMAIL}")
    assert answer.status == 400
    assert MADE_UP.encode() not in answer.body


@pytest.mark.parametrize("name", ["restores", "inward-restores", "passes"])
async def test_an_answer_that_cannot_be_read(gateway: Gateway, upstream: Upstream, name: str) -> None:
    """Nested more deeply than anything that is meant to be read."""
    raw = orjson.dumps(chat_body(f"Dear {TOKEN}"))
    deep = b'{"a":' * 900 + b'"x"' + b"}" * 900
    upstream.next(send(answers.answer(raw[:-1] + b',"deep":' + deep + b"}")))
    answer = await ask(gateway, name, f"I am {EMAIL}")
    if name == "passes":
        assert said(answer) == f"Dear {TOKEN}"
        assert (answer.header(HEADER) or "").endswith(";output=failed")
    else:
        assert_refused(answer, 503, "redaction_unavailable")


async def test_what_is_there_twice(gateway: Gateway, upstream: Upstream) -> None:
    """Only what was searched goes out."""
    raw = orjson.dumps(chat_body("Hello"))
    hidden = orjson.dumps(chat_body(MADE_UP)["choices"])
    upstream.next(send(answers.answer(b'{"choices" :' + hidden + b"," + raw[1:])))
    answer = await ask(gateway, "masks", "Hello")
    assert said(answer) == "Hello"
    assert MADE_UP.encode() not in answer.body


async def test_images_and_audio_of_answers_are_counted(gateway: Gateway, upstream: Upstream) -> None:
    body = chat_body("Hello")
    body["choices"][0]["message"] |= {
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
        "audio": {"id": "audio_1", "data": "AAAA", "transcript": MADE_UP},
    }
    upstream.next(send(json_answer(body)))
    answer = await ask(gateway, "masks", "Hello")
    assert MADE_UP.encode() not in answer.body
    assert answer.header(HEADER) == "input=clean;output=mask:1,skipped:2"
    assert (await row_of(gateway, answer))["redactions"]["skipped"] == {"image_url": 1, "audio": 1}


async def test_a_placeholder_of_the_last_turn(gateway: Gateway, upstream: Upstream) -> None:
    """Where nothing is restored, either: it is the client's own text."""
    for _ in range(2):
        upstream.next(whole("Hello [LITERAL_1], of buf[LITERAL_2]."))
        answer = await ask(gateway, "masks", f"I am {TOKEN}, of buf[MAX_LEN_1].")
        assert prompt(upstream) == "I am [LITERAL_1], of buf[LITERAL_2]."
        assert said(answer) == f"Hello {TOKEN}, of buf[MAX_LEN_1]."


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": {"type": "function", "function": {"name": f"of {EMAIL}"}}},
        {"stream_options": {"note": EMAIL}},
        {"service_tier": EMAIL},
        {"audio": {"voice": EMAIL}},
        {"usage": {"note": EMAIL}},
        {"logit_bias": {EMAIL: 1}},
        {"new": 4111111111111111},
        {"new": 4111111111111111.0},
    ],
)
async def test_settings_hold_no_texts(gateway: Gateway, upstream: Upstream, fields: dict[str, Any]) -> None:
    upstream.next(whole())
    answer = await ask(gateway, "masks", "Hello", **fields)
    assert answer.header(HEADER) == "input=mask:1;output=clean"
    assert EMAIL not in sent(upstream)
    assert "4111111111111111" not in sent(upstream)


async def test_counts_by_tenant_entity_and_direction(gateway: Gateway, upstream: Upstream) -> None:
    async def count(entity: str, direction: str) -> float:
        labels = {"tenant": "masks", "entity": entity, "direction": direction}
        return await counted(gateway, "gateway_redactions_total", **labels)

    asked = [("EMAIL_ADDRESS", "input"), ("US_SSN", "input"), ("PHONE_NUMBER", "output")]
    before = [await count(*one) for one in asked]
    upstream.next(whole(f"Call {PHONE}."))
    answer = await ask(gateway, "masks", f"{EMAIL} {MADE_UP} {SSN}")
    await row_of(gateway, answer)
    assert [await count(*one) - then for one, then in zip(asked, before, strict=True)] == [2, 1, 1]


async def test_a_user_by_pseudonym_has_one_budget(gateway: Gateway, upstream: Upstream) -> None:
    """One answer of the fake costs most of it; another user is another one."""
    headers = {"x-gateway-user": EMAIL, "x-gateway-feature": "mail", "x-gateway-tags": f"for={MADE_UP}"}
    upstream.next(whole())
    first = await ask(gateway, "shares", "hi", max_tokens=7, headers=headers)
    row = await row_of(gateway, first)
    assert HASHED.fullmatch(row["user"]) and HASHED.fullmatch(row["tags"]["for"])
    assert row["feature"] == "mail"
    assert EMAIL not in str(gateway.rows())
    before = len(upstream.seen)
    again = await ask(gateway, "shares", "hi", max_tokens=7, headers=headers)
    assert_refused(again, 429, "budget_exceeded")
    assert len(upstream.seen) == before
    upstream.next(whole())
    other = await ask(gateway, "shares", "hi", max_tokens=7, headers={"x-gateway-user": MADE_UP})
    assert other.status == 200
    assert (await row_of(gateway, other))["user"] == row["tags"]["for"]


async def test_a_request_id_with_an_address_is_another(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole())
    answer = await ask(gateway, "masks", "hi", headers={"x-request-id": SSN})
    request_id = answer.header("x-request-id") or ""
    assert re.fullmatch(r"req-[0-9a-f]{32}", request_id)
    assert (await gateway.row(request_id))["outcome"] == "ok"
    upstream.next(whole())
    harmless = await ask(gateway, "masks", "hi", headers={"x-request-id": "trace-1.a_b"})
    assert harmless.header("x-request-id") == "trace-1.a_b"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=key_of("restores"), max_retries=0, timeout=15
    ) as made:
        yield made


MESSAGES: Any = user(f"I am {EMAIL}, call {PHONE}.")
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "mail",
            "strict": True,
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    }
]


async def test_openai_chat(client: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.next(whole(f"You are {TOKEN}, not {MADE_UP}."))
    answer = await client.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == f"You are {EMAIL}, not [EMAIL_ADDRESS_2]."
    assert answer.usage and answer.usage.total_tokens == 18
    assert EMAIL not in sent(upstream) and PHONE not in sent(upstream)


async def test_openai_stream(client: AsyncOpenAI, upstream: Upstream) -> None:
    text = f"You are {TOKEN}, not {MADE_UP}."
    upstream.next(*answers.stream(answers.chat_stream(list(text)), size=7))
    parts = await client.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [part async for part in parts]
    told = "".join(part.choices[0].delta.content or "" for part in chunks if part.choices)
    assert told == f"You are {EMAIL}, not [EMAIL_ADDRESS_2]."
    assert chunks[-1].usage and chunks[-1].usage.total_tokens == 18


async def test_openai_streamed_tools(client: AsyncOpenAI, upstream: Upstream) -> None:
    events = [
        answers.chunk({"role": "assistant", "content": None}),
        answers.tool_start(0, "call_1", "mail"),
    ]
    events += [answers.tool_args(0, part) for part in f'{{"to":"{TOKEN}","cc":"{MADE_UP}"}}']
    upstream.next(*answers.stream([*events, answers.chunk({}, finish="tool_calls"), answers.DONE]))
    async with client.chat.completions.stream(model="chat", messages=MESSAGES, tools=TOOLS) as parts:
        final = await parts.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert orjson.loads(call.function.arguments) == {"to": EMAIL, "cc": "[EMAIL_ADDRESS_2]"}


async def test_presidio(tmp_path: Path) -> None:
    """The other engine, with the same settings."""
    settings = policies(p={**RESTORE, "engine": "presidio", "recognisers": [OWN]})
    async with Upstream() as upstream, served(tmp_path, upstream, **settings) as gateway:
        upstream.next(whole(f"{TOKEN}, [PHONE_NUMBER_1], [TICKET_1] and {MADE_UP}"))
        answer = await ask(gateway, "p", f"Write to {EMAIL} or call {PHONE} about TCK-123456.")
        assert prompt(upstream) == f"Write to {TOKEN} or call [PHONE_NUMBER_1] about [TICKET_1]."
        assert said(answer) == f"{EMAIL}, {PHONE}, TCK-123456 and [EMAIL_ADDRESS_2]"
        upstream.next(*answers.stream(answers.chat_stream(list(f"Ask {MADE_UP}, {TOKEN}."))))
        streamed: Answer = await ask(gateway, "p", f"I am {EMAIL}.", stream=True)
        assert said(streamed) == f"Ask [EMAIL_ADDRESS_2], {EMAIL}."


async def test_hashes_differ_by_key(tmp_path: Path, gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole())
    await ask(gateway, "hashes", EMAIL)
    ours = prompt(upstream)
    settings = {**policies(hashes={"mode": "hash"}), "privacy": {"hash_key": HASH_KEY[::-1]}}
    async with Upstream() as elsewhere, served(tmp_path, elsewhere, **settings) as other:
        elsewhere.next(whole())
        await ask(other, "hashes", EMAIL)
    assert HASHED.fullmatch(ours) and HASHED.fullmatch(prompt(elsewhere))
    assert prompt(elsewhere) != ours
