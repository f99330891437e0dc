"""What redaction costs in CPU: bodies, texts of several kinds, and streams.

``python -m tests.bench.privacy_cost``: takes about ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from gateway.events import Frame
from gateway.privacy.chunks import AnswerEditor
from gateway.privacy.detect_fast import SUPPORTED, DetectionPolicy, FastDetector
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.policy import Actions
from gateway.privacy.streaming import Masker, Restorer, TextTransform, answer_transform
from gateway.privacy.walk import Body

KB = 1024
RESTORE = Actions("restore")
CLEAN = (
    "The harbour master wrote, in 2024, that 3.5 tons of salt had come in; nobody knew from where, or why. "
    "It was stored behind the old customs house (room 12), next to the ropes, and sold within a week. "
) * 6
TYPOGRAPHIC = CLEAN.replace("harbour", "“harbour”").replace(", and", " — and").replace("old", "café’s")
CHINESE = "港务局长写道，二零二四年运来了三吨半盐；没有人知道它从哪里来，也不知道为什么。" * 30
DENSE = (
    "john.doe@example.com called (415) 555-2671 about 4111 1111 1111 1111 from 203.0.113.77, "
    "IBAN DE89 3704 0044 0532 0130 00, SSN 536-22-1234; ask ops@example.org. "
) * 8
DIGITS = "4155 2671 0123 4567 8901 2345 6789 0041 " * 30
TEXTS = {"clean": CLEAN, "typographic": TYPOGRAPHIC, "Chinese": CHINESE, "dense": DENSE, "digits": DIGITS}


def cost_us(work: Callable[[], Any], rounds: int = 7, least_s: float = 0.05) -> float:
    """CPU of one call, the best of ``rounds`` that take at least ``least_s`` each."""
    calls, best = 1, float("inf")
    while rounds:
        start = time.process_time()
        for _ in range(calls):
            work()
        spent = time.process_time() - start
        if spent < least_s:
            calls *= 2
            continue
        best, rounds = min(best, spent / calls), rounds - 1
    return best * 1e6


def body(text: str) -> dict[str, Any]:
    third = len(text) // 3
    parts = (("system", text[:third]), ("assistant", text[third : 2 * third]), ("user", text[2 * third :]))
    return {
        "model": "chat",
        "stream": True,
        "temperature": 0.5,
        "user": "u-17",
        "messages": [{"role": role, "content": part} for role, part in parts],
    }


def text_us(detector: FastDetector, text: str) -> tuple[float, float]:
    """CPU to search a text, and to redact a body that holds it."""
    raw = orjson.dumps(body(text))
    decode_us = cost_us(lambda: orjson.loads(raw))

    def redact() -> None:
        found = Body(orjson.loads(raw))
        quiet = detector.quiet(found.texts)
        found.redact([] if quiet else [detector.find(one) for one in found.texts], Placeholders(RESTORE))

    return cost_us(lambda: detector.find(text)), cost_us(redact) - decode_us


def request() -> Placeholders:
    """Of a request with ten addresses."""
    placeholders = Placeholders(RESTORE)
    for number in range(10):
        placeholders.token("EMAIL_ADDRESS", f"{number}@example.org")
    return placeholders


def stream_us(detector: FastDetector, text: str) -> tuple[float, float]:
    """CPU for one word of a stream, and the mean of the characters held back behind each."""
    placeholders = request()
    pieces = [f" {word}" for word in text.split(" ")]
    held: list[int] = []

    def run() -> None:
        transform = answer_transform(detector, placeholders, AnswerPlaceholders(placeholders))
        given = taken = 0
        for piece in pieces:
            taken += len(piece)
            given += len(transform.feed(piece))
            held.append(taken - given)
        transform.flush()

    spent_us = cost_us(run) / len(pieces)
    return spent_us, sum(held) / len(held)


def chunks(text: str) -> list[bytes]:
    """As a provider sends ``text``: a word a chunk."""
    shared = {"id": "chatcmpl-Ab1Cd2Ef3Gh4", "object": "chat.completion.chunk", "created": 1700000000}
    shared |= {"model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_0123456789"}
    return [
        orjson.dumps(
            {**shared, "choices": [{"index": 0, "delta": {"content": f" {word}"}, "finish_reason": None}]}
        )
        for word in text.split(" ")
    ]


def chunk_us(text: str, make: Callable[[Placeholders], Callable[[bool], TextTransform]]) -> float:
    """CPU for one chunk of a stream, from its bytes to those of the edited one."""
    placeholders, raws = request(), chunks(text)

    def run() -> None:
        editor = AnswerEditor(make(placeholders))
        for raw in raws:
            editor.feed([Frame(raw)])
        editor.flush()

    return cost_us(run) / len(raws)


def main() -> None:
    detector = FastDetector(DetectionPolicy(SUPPORTED - {"URL", "DENY_LIST"}))
    for name, text in TEXTS.items():
        found_us, body_us = text_us(detector, text[:KB])
        print(f"{name:12} find {found_us:7.1f} µs/KB   body {body_us:7.1f} µs")
    for name in ("clean", "dense"):
        spent_us, held = stream_us(detector, TEXTS[name])
        print(f"stream {name:6} {spent_us:6.1f} µs a word, {held:5.1f} characters held back in the mean")
    for name in ("clean", "dense"):
        text = TEXTS[name]
        print(
            f"chunk {name:7} mask {chunk_us(text, lambda request: masking(detector, request)):5.1f} µs"
            f"   restore {chunk_us(text, restoring):5.1f} µs"
            f"   both at once {chunk_us(text, lambda request: both(detector, request)):5.1f} µs"
        )
    text = " ".join(f"and [EMAIL_ADDRESS_{number % 10 + 1}] wrote" for number in range(40))
    print(f"chunk placeholders, restore {chunk_us(text, restoring):5.1f} µs")


def masking(detector: FastDetector, request: Placeholders) -> Callable[[bool], TextTransform]:
    answer = AnswerPlaceholders(request)
    return lambda json: Masker(detector, answer, json=json)


def restoring(request: Placeholders) -> Callable[[bool], TextTransform]:
    return lambda json: Restorer(request, json=json)


def both(detector: FastDetector, request: Placeholders) -> Callable[[bool], TextTransform]:
    answer = AnswerPlaceholders(request)
    return lambda json: answer_transform(detector, request, answer, json=json)


if __name__ == "__main__":
    main()
