"""A slice, searched: in a child, or in a thread of this process."""

from __future__ import annotations

from gateway.detection.messages import MOST_MATCHES, TOO_MANY, pack_matches
from gateway.frames import Message
from gateway.privacy.forced import cut_by_force
from gateway.privacy.guarded import Noting
from gateway.privacy.interface import Detector, Match


def search(detector: Detector, message: Message) -> Message:
    """The answer to what has the fields of a ``Slice``: matches, where a part was cut, and what failed."""
    noting = Noting(detector)
    answer = _searched(noting, message)
    return answer if noting.fault is None else {**answer, "fault": noting.fault}


def _searched(detector: Detector, message: Message) -> Message:
    texts: list[str] = message["texts"]
    if not message["cut"]:
        found = [detector.find(text) if text else [] for text in texts]
        return _found(found, 0)
    if message["force"]:
        matches, end = cut_by_force(detector, texts[0], message["lead"])
        return _found([matches], end)
    end = len(texts[0]) if message["last"] else detector.settled(texts[0])
    if end <= message["lead"] and not message["last"]:
        return _found([[]], end)
    return _found([detector.find(texts[0][:end])], end)


def _found(found: list[list[Match]], end: int) -> Message:
    if sum(map(len, found)) > MOST_MATCHES:
        return {"failed": TOO_MANY}
    return {"found": [pack_matches(matches) for matches in found], "end": end}
