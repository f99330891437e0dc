"""Which byte stands for a character when personal data is looked for.

ASCII stands for itself. Other spellings of an ASCII character (full-width, mathematical, circled, digits of
other scripts, look-alikes) become that character; what nobody sees (zero-width and bidi controls, tags,
combining marks) becomes nothing. ``LETTER`` is any other letter of an alphabet, ``BREAK`` all that no
match goes across: scripts written without spaces, symbols, numbers beyond a digit (½, ⑩).
Never one character to several: nothing is found that is not there.
"""

from __future__ import annotations

import codecs
import unicodedata

LETTER, BREAK = 0x80, 0x81

_DOTS = "\u2024\ufe52\uff0e\u3002\uff61"
_AT = "\ufe6b\uff20"
_APOSTROPHES = "\u2018\u2019\u201b\u02bc"
_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb"
_INVISIBLE_LETTERS = "\u115f\u1160\u3164\uffa0\u2065"
_LOOKALIKES = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝАΑΒΕΖΗΙΚΜΝΟΡΤΥΧοѵԌӀ",
        "ABESIJKMHOPCTYXaesijopcyxhdqwAABEZHIKMNOPTYXovGI",
        strict=True,
    )
)
"""Cyrillic and Greek letters that look like Latin ones in most fonts."""
_UNSPACED = ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x19E0, 0x1A1F))
_ALPHABETS = ((0x00AA, 0x1FFF), (0x2C00, 0x2DFF), (0xA640, 0xA7FF), (0xAB30, 0xABFF), (0xFB00, 0xFDFF))
_PRESENTATION = (0xFE70, 0xFEFF)
_KEPT_ASTRAL = range(0x1F000, 0x1FB00)


def _special() -> dict[int, int | None]:
    table: dict[int, int | None] = {0x85: 10}
    for characters, target in ((_DOTS, "."), (_AT, "@"), (_APOSTROPHES, "'"), (_QUOTES, '"')):
        table.update((ord(character), ord(target)) for character in characters)
    table.update((ord(character), ord(latin)) for character, latin in _LOOKALIKES.items())
    table.update((ord(character), None) for character in _INVISIBLE_LETTERS)
    table.update((code, None) for code in range(0xE0000, 0xE0080))
    return table


def fold_one(code: int) -> int | None:
    """The byte that stands for a code point from 128 on, None if it is invisible."""
    character = chr(code)
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me"):
        return None
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return 48 + digit
    if category[0] == "Z":
        return 32 if category == "Zs" else 10
    if category == "Pd" or code == 0x2212:
        return 45
    plain = unicodedata.normalize("NFKC", character)
    if len(plain) == 1 and ord(plain) < 128 and not plain.isdigit():
        return ord(plain)
    if category[0] in "LM":
        return _letter(code)
    return BREAK


def _letter(code: int) -> int:
    if code >= 0x2000 and not any(low <= code <= high for low, high in (*_ALPHABETS, _PRESENTATION)):
        return BREAK
    if any(low <= code <= high for low, high in _UNSPACED):
        return BREAK
    base = ord(unicodedata.normalize("NFKD", chr(code))[0])
    return base if base < 128 and chr(base).isalpha() else _LOOKALIKE_CODES.get(base, LETTER)


class FoldTable(dict[int, int | None]):
    """For ``str.translate``: filled as characters are met, bounded by the Basic Multilingual Plane."""

    def __missing__(self, code: int) -> int | None:
        folded = code if code < 128 else fold_one(code)
        if code < 0x10000 or folded != BREAK or code in _KEPT_ASTRAL:
            self[code] = folded
        return folded


_LOOKALIKE_CODES = {ord(character): ord(latin) for character, latin in _LOOKALIKES.items()}
TABLE = FoldTable(_special())


def _common() -> str:
    """128 visible characters of European texts, so that most of them need no table in Python."""
    latin = "".join(chr(code) for code in range(0xA0, 0x100) if code not in (0xAD, 0xB2, 0xB3, 0xB9))
    extra = "–—‘’“”„…•€™œŒšŠžŽłŁąęćśźżğışőűřůěčň→"
    return (latin + extra)[:128].ljust(128, "\ufffe")


_DECODING = "".join(map(chr, range(128))) + _common()
CHARMAP = codecs.charmap_build(_DECODING)
CHARMAP_BYTES = bytes(code if code < 128 else (TABLE[ord(_DECODING[code])] or BREAK) for code in range(256))
"""Makes folded bytes of what ``CHARMAP`` encoded."""
