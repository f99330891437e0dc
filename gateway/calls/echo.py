"""Some providers begin a continuation by repeating what they were given: that is not shown again."""

from __future__ import annotations


class Echo:
    """Takes the text of a continuation in pieces of any size, and gives what is new of it.

    ``sent``: what the provider was given; dropped if the continuation begins with all of it, and held
    back while that is not known. ``tail``: white space behind it that the client has already.
    """

    __slots__ = ("_matched", "_sent", "_tail")

    def __init__(self, sent: str, tail: str = "") -> None:
        self._sent = sent
        self._tail = tail
        self._matched = 0

    def feed(self, text: str) -> str:
        if self._sent:
            text = self._without_echo(text)
        return self._without_tail(text) if self._tail else text

    def flush(self) -> str:
        """What is still held back when no more text comes."""
        held = self._released()
        return self._without_tail(held) if self._tail else held

    def _without_echo(self, text: str) -> str:
        left = len(self._sent) - self._matched
        if self._sent.startswith(text[:left], self._matched):
            self._matched += min(len(text), left)
            if len(text) < left:
                return ""
            self._sent, self._matched = "", 0
            return text[left:]
        return self._released() + text

    def _released(self) -> str:
        held = self._sent[: self._matched]
        self._sent, self._matched = "", 0
        return held

    def _without_tail(self, text: str) -> str:
        same = 0
        while same < min(len(text), len(self._tail)) and text[same] == self._tail[same]:
            same += 1
        self._tail = self._tail[same:] if same == len(text) else ""
        return text[same:]
