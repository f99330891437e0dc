"""JSON as it is written, searched as it reads: escapes decoded, and replacements that leave it valid."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from gateway.privacy.interface import Match

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u]|\\u", re.DOTALL
)
_QUOTE_OR_ESCAPE = re.compile(_ESCAPE.pattern + '|"', re.DOTALL)
_UNFINISHED = re.compile(
    r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z"
)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def escaped(value: str) -> str:
    """``value`` as it stands inside a JSON string."""
    return json.dumps(value)[1:-1]


def unfinished(raw: str) -> int:
    """Where an escape begins at the end of ``raw`` that may go on; its length if there is none.

    ``raw`` begins outside of an escape.
    """
    if "\\" not in raw[-11:]:
        return len(raw)
    place = max(0, len(raw) - 12)
    while place and raw[place - 1] == "\\":  # not in the middle of a run of backslashes
        place -= 1
    while place < len(raw):
        if raw[place] != "\\":
            place += 1
        elif _UNFINISHED.match(raw, place):
            return place
        else:
            found = _ESCAPE.match(raw, place)
            place = found.end() if found else place + 1
    return len(raw)


class JsonText:
    """``raw`` JSON, or a part of it that begins and ends outside of an escape; ``text`` is it decoded.

    ``inside``: whether it begins inside a string.
    """

    __slots__ = ("_indices", "inside", "raw", "text")

    def __init__(self, raw: str, inside: bool = False) -> None:
        self.raw = raw
        self.inside = inside
        self.text = raw
        self._indices: list[int] | None = None
        if "\\" in raw:
            self._decode()

    def _decode(self) -> None:
        pieces: list[str] = []
        indices: list[int] = []
        behind = 0
        for found in _ESCAPE.finditer(self.raw):
            start, end = found.span()
            decoded = _decoded(found[0])
            pieces += (self.raw[behind:start], decoded)
            indices.extend(range(behind, start))
            indices.extend([start] * len(decoded))
            behind = end
        pieces.append(self.raw[behind:])
        indices.extend(range(behind, len(self.raw) + 1))
        self.text = "".join(pieces)
        self._indices = indices

    def index(self, place: int) -> int:
        """The index in ``raw`` for one in ``text``."""
        return place if self._indices is None else self._indices[place]

    def ends_inside(self, end: int) -> bool:
        """Whether a string is open in front of the index ``end`` of ``raw``."""
        return self.inside ^ _flips(self.raw[:end])

    def replaced(self, matches: Sequence[Match], written: Callable[[str, str], str], end: int) -> str:
        """``raw`` up to ``end``, an index of ``text``, with ``written(entity, value)`` instead of matches.

        Numbers and the like that are replaced become strings.
        """
        pieces: list[str] = []
        behind, counted, inside = 0, 0, self.inside
        for match in matches:
            value = self.text[match.start : match.end]
            start, stop = self.index(match.start), self.index(match.end)
            inside ^= _flips(self.raw[counted:start])
            counted = start
            segments = list(_segments(self.raw[start:stop], inside))
            if len(segments) > 1:
                token = "".join(_masked(segment, match.entity, written) for segment in segments)
            elif (token := written(match.entity, value)) == value:
                continue
            elif inside:
                token = escaped(token)
            else:
                token = json.dumps(token)
                start = max(behind, start - (self.raw[start - 1 : start] == "-"))
            pieces += (self.raw[behind:start], token)
            behind = stop
        pieces.append(self.raw[behind : self.index(end)])
        return "".join(pieces)


def _segments(raw: str, inside: bool) -> Iterator[tuple[bool, str]]:
    """``raw`` cut at the quotes that begin and end strings: whether each part is inside of one."""
    behind = 0
    if '"' in raw:
        for found in _QUOTE_OR_ESCAPE.finditer(raw):
            if found[0] == '"':
                yield inside, raw[behind : found.start()]
                yield False, '"'
                inside, behind = not inside, found.end()
    yield inside, raw[behind:]


def _masked(segment: tuple[bool, str], entity: str, written: Callable[[str, str], str]) -> str:
    """Part of a match that goes over several strings: what is between them stays."""
    inside, raw = segment
    if not inside or not raw:
        return raw
    value = JsonText(raw, True).text
    token = written(entity, value)
    return raw if token == value else escaped(token)


def _flips(raw: str) -> bool:
    """Whether ``raw`` opens or closes a string on the whole."""
    return (_ESCAPE.sub("", raw) if "\\" in raw else raw).count('"') % 2 == 1


def _decoded(escape: str) -> str:
    if len(escape) == 2:
        return _SHORT.get(escape[1], escape if escape[1] == "u" else escape[1])
    if len(escape) == 6:
        return chr(int(escape[2:], 16))
    return (
        (chr(int(escape[2:6], 16)) + chr(int(escape[8:], 16)))
        .encode("utf-16", "surrogatepass")
        .decode("utf-16")
    )
