"""What a client saw, and whether it may have seen that: one complete answer, or one honest error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.fakes.client import Answer
from tests.faults.catalogue import GOOD_TEXT, Fault

STATUS_OF = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "body_too_large": 413,
    "upstream_rate_limited": 429,
    "upstream_error": 502,
    "upstream_invalid_response": 502,
    "upstream_auth_error": 502,
    "overloaded": 503,
    "no_deployment_available": 503,
    "upstream_timeout": 504,
    "deadline_exceeded": 504,
}
BEGUN_TEXT = "one two"


@dataclass(frozen=True)
class Seen:
    """``status`` 0: none came. ``code``: of the error. ``text``: what there was of an answer. ``ended``:
    it said that it is complete. ``wrong``: in itself."""

    status: int
    code: str = ""
    text: str = ""
    ended: bool = False
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.status == 200 and not self.code:
            return "complete" if self.ended else "200, unfinished"
        return f"{'in-band' if self.status == 200 else self.status} {self.code}"


@dataclass
class Reading:
    """Takes a streamed answer apart."""

    text: str = ""
    finished: bool = False
    done: bool = False
    code: str = ""
    wrong: list[str] = field(default_factory=list)

    def event(self, raw: bytes) -> None:
        if self.done or self.code:
            self.wrong.append("something follows the end")
        if raw == b"[DONE]":
            self.done = True
            return
        native = orjson.loads(raw)
        if "error" in native:
            self.code = str(native["error"]["code"])
        for choice in native.get("choices", ()):
            self.text += choice["delta"].get("content") or ""
            self.finished = self.finished or choice["finish_reason"] is not None


def seen(answer: Answer) -> Seen:
    if answer.status != 200:
        return Seen(answer.status, answer.code, wrong=tuple(_of_error(answer)))
    if answer.events:
        reading = Reading()
        for raw in answer.events:
            reading.event(raw)
        if reading.done != reading.finished:
            reading.wrong.append("finish and [DONE] do not go together")
        ended = reading.done or reading.finished
        return Seen(200, reading.code, reading.text, ended, tuple(reading.wrong))
    choices: Sequence[Any] = answer.json().get("choices", ())
    text = "".join(choice["message"]["content"] or "" for choice in choices)
    return Seen(200, "", text, bool(choices) and all(choice["finish_reason"] for choice in choices))


def _of_error(answer: Answer) -> list[str]:
    wrong = []
    error = answer.json()["error"]
    if STATUS_OF.get(error["code"]) != answer.status:
        wrong.append(f"{error['code']} with status {answer.status}")
    if not error["message"] or error["request_id"] != answer.header("x-request-id"):
        wrong.append("no message or no request id")
    if answer.status in (429, 503) and int(answer.header("retry-after") or 0) < 1:
        wrong.append("no retry-after")
    return wrong


def violations(
    fault: Fault,
    stream: bool,
    helped: bool,
    one: Seen,
    calls: int,
    attempts: int,
    *,
    continued: bool = False,
) -> list[str]:
    """What must not be. ``helped``: there is somebody else who answers well; ``continued``: and who goes
    on where an answer was cut."""
    if continued and stream and fault.moment == "content":
        return _of_continued(one, calls, attempts)
    wrong = list(one.wrong)
    if calls > attempts:
        wrong.append(f"{calls} calls, {attempts} attempts")
    if one.code and one.ended:
        wrong.append("an error that looks like an end")
    if not one.code and not one.ended:
        wrong.append("neither an answer nor an error")
    if not one.code and one.text != GOOD_TEXT:
        wrong.append(f"a made-up answer: {one.text[:40]!r}")
    if one.code and not BEGUN_TEXT.startswith(one.text):
        wrong.append(f"text of two answers: {one.text[:40]!r}")
    if stream and fault.moment == "content":
        return wrong  # what comes together with the first content may still be told or mended before it
    rescued = helped and fault.moment != "request"
    if rescued != (not one.code):
        wrong.append("somebody else should have answered" if rescued else "nobody should have answered")
    if one.code and one.status == 200:
        wrong.append("in-band before content")
    return wrong


def _of_continued(one: Seen, calls: int, attempts: int) -> list[str]:
    """What came together with the fault may not have reached the client: nobody goes on from that."""
    wrong = list(one.wrong)
    if calls > attempts:
        wrong.append(f"{calls} calls, {attempts} attempts")
    begun = one.text.removesuffix(GOOD_TEXT)
    if one.code or not one.ended or begun == one.text or not BEGUN_TEXT.startswith(begun):
        wrong.append(f"somebody else should have gone on: {one.text[:40]!r}")
    return wrong
