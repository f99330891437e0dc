"""Regular expressions whose time is linear in the text whatever both are: RE2, over folded bytes.

The only place that imports ``re2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import re2


def _options(ignore_case: bool = False) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 64 << 20
    options.never_capture = True
    options.log_errors = False
    options.case_sensitive = not ignore_case
    return options


class Linear:
    """One expression; raises ``ValueError`` if RE2 cannot do it."""

    def __init__(self, pattern: bytes, *, ignore_case: bool = False) -> None:
        try:
            self._compiled = re2.compile(pattern, _options(ignore_case))
        except re2.error as error:
            reason = error.args[0]
            told = reason.decode("latin-1") if isinstance(reason, bytes) else reason
            raise ValueError(f"not a pattern of RE2: {told}") from None

    def spans(self, codes: bytes) -> Iterator[tuple[int, int]]:
        """The places of all matches from left to right that do not overlap."""
        for match in self._compiled.finditer(codes):
            yield match.span()

    def found_in(self, codes: bytes) -> bool:
        return self._compiled.search(codes) is not None

    def covers(self, codes: bytes) -> bool:
        return self._compiled.fullmatch(codes) is not None


class Gate:
    """Tells in one pass which of several expressions occur in a text."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._set = re2.Set.SearchSet(_options())
        for pattern in patterns:
            if self._set.Add(pattern) < 0:
                raise ValueError(f"not a pattern of RE2: {pattern!r}")
        self._set.Compile()

    def which(self, codes: bytes) -> list[int] | None:
        """The positions in ``patterns`` of what occurs; None for nothing."""
        found: list[int] | None = self._set.Match(codes)
        return found


def literal(word: bytes) -> bytes:
    quoted: bytes = re2.escape(word)
    return quoted
