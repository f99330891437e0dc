"""Where a text may be cut without cutting what is looked for: lines and sentences, pieces, windows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PIECE_CHARS = 8192
REACH_CHARS = 512
KEY_CHARS = 16384

# A line end, or the end of a sentence: a word of letters, its stop, blanks, and a capital.
_END = re.compile(r"\n|[a-zß-ÿ]{2}[.!?]['\")\]»”]{0,3}[ \t]+(?=[A-ZÀ-Þ¿¡])")
_BLANK = re.compile(r"[ \n\t]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
# Characters beyond European letters and punctuation: invisible ones, wide or styled letters, other digits.
_ODD = re.compile("[^\u0000-\u00ac\u00ae-\u024f\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\ufffd]")
_KEY_BEGIN = "-----BEGIN "
_KEY_BODY = re.compile(r"-----BEGIN [A-Za-z0-9+/=\s\\:,.()-]*")
_KEY_END = re.compile(r"-----END [A-Z ]{0,40}-----")


@dataclass(frozen=True, slots=True)
class Piece:
    """The part ``start``..``end`` of a text; ``cut_before`` / ``cut_behind``: in a word."""

    start: int
    end: int
    cut_before: bool = False
    cut_behind: bool = False


def readable(text: str) -> str:
    """``text`` with each lone surrogate as U+FFFD, so that RE2 takes it, and the digits of all scripts as
    those of ASCII, which is what recognisers count with; of the same length."""
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(_ascii_digit, _SURROGATE.sub("\ufffd", text))


def _ascii_digit(found: re.Match[str]) -> str:
    return str(unicodedata.decimal(found[0]))


def segments(text: str) -> Iterator[tuple[int, int]]:
    """The lines and sentences of ``text``; what lies before a boundary does not depend on what follows."""
    start = 0
    for end in _END.finditer(text):
        yield start, end.end()
        start = end.end()
    if start < len(text):
        yield start, len(text)


def is_odd(text: str, start: int, end: int) -> bool:
    """Whether a character of ``odd_lines`` is in that part of ``text``."""
    return _ODD.search(text, max(0, start), end) is not None


def odd_lines(text: str) -> Iterator[tuple[int, int]]:
    """The lines of ``text`` in which a character may hide, or pass for, what is looked for."""
    end = 0
    while not text.isascii():
        odd = _ODD.search(text, end)
        if odd is None:
            return
        start = max(end, text.rfind("\n", end, odd.start()) + 1)
        behind = text.find("\n", odd.start())
        end = len(text) if behind < 0 else behind + 1
        yield start, end


def pieces(text: str) -> Iterator[Piece]:
    """``text`` in parts of at most ``PIECE_CHARS``: whole lines where they fit, else with an overlap."""
    start, cut = 0, False
    while len(text) - start > PIECE_CHARS:
        limit = start + PIECE_CHARS
        end = _last_boundary(text, start, limit)
        if end is not None:
            yield Piece(start, end, cut)
            start, cut = end, False
            continue
        yield Piece(start, limit, cut, not text[limit - 1].isspace())
        start = _blank_before(text, limit - REACH_CHARS)
        cut = not text[start - 1].isspace()
    yield Piece(start, len(text), cut)


def windows(text: str, spots: Iterable[tuple[int, int]], margin: int) -> Iterator[Piece]:
    """The ``spots`` (in order) of ``text`` with ``margin`` characters around, and the words cut there."""
    start, end = -1, -1
    for left, right in spots:
        if start < 0:
            start, end = _word_start(text, left - margin), _word_end(text, right + margin)
        elif left - margin <= end:
            if right + margin > end:
                end = _word_end(text, right + margin)
        else:
            yield _window(text, start, end)
            start, end = max(end, _word_start(text, left - margin)), _word_end(text, right + margin)
    if start >= 0:
        yield _window(text, start, end)


def settled_end(text: str) -> int:
    """The last boundary of ``text`` that lies in no private key, nor in what may become one."""
    tail = max(0, len(text) - PIECE_CHARS)
    end = _last_boundary(text, tail, len(text)) or 0
    begin = before_open_key(text, end)
    if begin == end or text[:begin].endswith("\n"):
        return begin
    return _last_boundary(text, tail, begin) or 0


def before_open_key(text: str, end: int) -> int:
    """Where the first private key begins that goes, or may go, across ``end``; else ``end``."""
    begin = text.find(_KEY_BEGIN, max(0, end - KEY_CHARS), end)
    while begin >= 0:
        body = _KEY_BODY.match(text, begin)
        until = body.end() if body else begin
        closed = _KEY_END.search(text, begin, until)
        if closed is not None and closed.end() <= end:
            begin = text.find(_KEY_BEGIN, closed.end(), end)
        elif until >= end:
            return begin
        else:
            begin = text.find(_KEY_BEGIN, begin + 1, end)
    return end


def _last_boundary(text: str, start: int, limit: int) -> int | None:
    line = text.rfind("\n", start, limit) + 1
    sentences = [found.end() for found in _END.finditer(text, max(start, line), limit)]
    return max([line, *sentences]) or None


def _blank_before(text: str, index: int) -> int:
    for position in range(index, index - REACH_CHARS, -1):
        if text[position - 1].isspace():
            return position
    return index


def _word_start(text: str, index: int) -> int:
    index = max(0, index)
    floor = max(0, index - REACH_CHARS)
    return max(floor, *(text.rfind(blank, floor, index) + 1 for blank in " \n\t"))


def _word_end(text: str, index: int) -> int:
    index = min(len(text), index)
    ceiling = min(len(text), index + REACH_CHARS)
    blank = _BLANK.search(text, index, ceiling)
    return blank.start() if blank else ceiling


def _window(text: str, start: int, end: int) -> Piece:
    before = start > 0 and not text[start - 1].isspace()
    behind = end < len(text) and not text[end].isspace()
    return Piece(start, end, before, behind)
