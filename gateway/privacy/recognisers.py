"""A tenant's own recognisers, in Presidio's YAML format, on a linear-time engine.

A document is ``recognizers: [...]`` (or the bare list); each entry has ``name``, ``supported_entity`` and
``patterns`` (``name``, ``regex``, ``score``) or ``deny_list``, and may have ``context``,
``supported_language(s)``, ``deny_list_score``, ``global_regex_flags``, ``enabled``, ``country_code``.
Patterns run on RE2: look-around and back-references are refused. A match never crosses the end of a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import re2
import yaml

from gateway.privacy.entities import RESERVED
from gateway.privacy.interface import Match

KEYS = frozenset(
    "name type enabled supported_entity supported_entities supported_language supported_languages patterns "
    "deny_list deny_list_score context global_regex_flags country_code version".split()
)
PATTERN_KEYS = frozenset({"name", "regex", "score"})
IGNORE_CASE, MULTI_LINE, DOT_ALL = 2, 8, 16
PRESIDIO_FLAGS = IGNORE_CASE | MULTI_LINE | DOT_ALL
PROGRAM_BYTES = 1 << 20
PATTERN_CHARS = 4000


class RecogniserFault(ValueError):
    """A recogniser cannot be used; the message says which one, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One compiled pattern; ``score`` from 0 to 1. ``whole_words``: letters next to a match refuse it."""

    regex: Any
    score: float
    whole_words: bool = False


@dataclass(frozen=True, slots=True)
class OwnRecogniser:
    """Finds one entity by patterns and words; ``languages`` maps a language to its context words."""

    name: str
    entity: str
    patterns: tuple[Scored, ...]
    languages: Mapping[str, tuple[str, ...]]

    def find(self, text: str) -> list[Match]:
        """What the patterns match, in no order, possibly overlapping. Linear in ``len(text)``."""
        return [match for pattern in self.patterns for match in self._by(pattern, text)]

    def _by(self, pattern: Scored, text: str) -> Iterator[Match]:
        for found in pattern.regex.finditer(text):
            start, end = found.span()
            if start < end and not (pattern.whole_words and _inside_word(text, start, end)):
                yield Match(start, end, self.entity, pattern.score)


def read_recognisers(path: Path) -> tuple[OwnRecogniser, ...]:
    """The recognisers in a YAML file; raises ``RecogniserFault``."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecogniserFault(
            f"{path}: cannot be read ({error.strerror}); give a readable file."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecogniserFault(f"{path}: is not valid YAML: {error}") from error
    return parse_recognisers(document, str(path))


def parse_recognisers(document: object, where: str = "recognizers") -> tuple[OwnRecogniser, ...]:
    """The recognisers in a parsed document; ``where`` begins every message of ``RecogniserFault``."""
    if isinstance(document, Mapping):
        unknown = set(document) - {"recognizers", "supported_languages", "global_regex_flags"}
        if unknown:
            raise RecogniserFault(
                f"{where}: unknown key {_names(unknown)}; the list is called `recognizers`."
            )
        default = _flags(document.get("global_regex_flags", PRESIDIO_FLAGS), where)
        entries: object = document.get("recognizers")
    else:
        default, entries = PRESIDIO_FLAGS, document
    if not isinstance(entries, list) or not entries:
        raise RecogniserFault(f"{where}: `recognizers` must be a list with at least one recogniser.")
    read = [_recogniser(entry, f"{where}[{index}]", default) for index, entry in enumerate(entries)]
    return tuple(recogniser for recogniser in read if recogniser is not None)


def word_pattern(words: Iterable[str], where: str, ignore_case: bool = True) -> Any:
    """One compiled pattern that finds any of ``words``, the longest first, as whole words."""
    unique = sorted({word for word in words if word}, key=lambda word: (-len(word), word))
    joined = "|".join(_bounded(word) for word in unique)
    return compile_linear(f"(?:{joined})", where, IGNORE_CASE if ignore_case else 0)


def compile_linear(regex: str, where: str, flags: int = 0) -> Any:
    """``regex`` compiled by RE2 with Python's flag bits; raises ``RecogniserFault`` when RE2 refuses it."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PROGRAM_BYTES * 8
    letters = "".join(
        c for bit, c in ((IGNORE_CASE, "i"), (MULTI_LINE, "m"), (DOT_ALL, "s")) if flags & bit
    )
    try:
        compiled = re2.compile(f"(?{letters}){regex}" if letters else regex, options=options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise RecogniserFault(
            f"{where}: the pattern is refused by RE2 ({reason}); they run in linear time, so rewrite it "
            "without look-around and back-references."
        ) from error
    if compiled.search("") is not None:
        raise RecogniserFault(f"{where}: the pattern matches the empty text; make it match something.")
    return compiled


def _recogniser(entry: object, where: str, default_flags: int) -> OwnRecogniser | None:
    if not isinstance(entry, Mapping):
        raise RecogniserFault(f"{where}: a recogniser must be a mapping with `name` and `patterns`.")
    if entry.get("type", "custom") != "custom":
        raise RecogniserFault(
            f"{where}.type: only `custom` is read here; name built-in ones by their entity."
        )
    unknown = set(entry) - KEYS
    if unknown:
        raise RecogniserFault(f"{where}: unknown key {_names(unknown)}; known are {_names(KEYS)}.")
    if entry.get("enabled", True) is False:
        return None
    name = _text(entry.get("name"), f"{where}.name")
    entity = _entity(entry, where)
    flags = _flags(entry.get("global_regex_flags", default_flags), where)
    patterns = [*_patterns(entry.get("patterns"), f"{where}.patterns", flags), *_deny(entry, where)]
    if not patterns:
        raise RecogniserFault(f"{where}: give `patterns` or `deny_list`, or there is nothing to find.")
    return OwnRecogniser(name, entity, tuple(patterns), _languages(entry, where))


def _entity(entry: Mapping[str, object], where: str) -> str:
    several = entry.get("supported_entities")
    if several is not None and "supported_entity" in entry:
        raise RecogniserFault(f"{where}: give `supported_entity` or `supported_entities`, not both.")
    if several is not None and not (isinstance(several, list) and len(several) == 1):
        raise RecogniserFault(
            f"{where}.supported_entities: must hold one entity; write one recogniser for each."
        )
    entity = _text(
        several[0] if several is not None else entry.get("supported_entity"), f"{where}.supported_entity"
    )
    if not re2.fullmatch("[A-Z][A-Z0-9_]{0,63}", entity):
        raise RecogniserFault(f"{where}.supported_entity: use capitals, digits and _, as in EMPLOYEE_ID.")
    if entity in RESERVED:
        raise RecogniserFault(f"{where}.supported_entity: {entity} is reserved; take another name.")
    return entity


def _patterns(value: object, where: str, flags: int) -> Iterator[Scored]:
    if value is None:
        return
    if not isinstance(value, list):
        raise RecogniserFault(f"{where}: must be a list of mappings with `name`, `regex` and `score`.")
    for index, pattern in enumerate(value):
        here = f"{where}[{index}]"
        if not isinstance(pattern, Mapping) or set(pattern) - PATTERN_KEYS:
            raise RecogniserFault(f"{here}: must be a mapping with `name`, `regex` and `score` only.")
        regex = _text(pattern.get("regex"), f"{here}.regex")
        if len(regex) > PATTERN_CHARS:
            raise RecogniserFault(
                f"{here}.regex: has over {PATTERN_CHARS} characters; use a `deny_list` of words."
            )
        yield Scored(
            compile_linear(regex, f"{here}.regex", flags), _score(pattern.get("score"), f"{here}.score")
        )


def _deny(entry: Mapping[str, object], where: str) -> Iterator[Scored]:
    words = entry.get("deny_list")
    if words is not None:
        compiled = word_pattern(_texts(words, f"{where}.deny_list"), f"{where}.deny_list")
        score = _score(entry.get("deny_list_score", 1.0), f"{where}.deny_list_score")
        yield Scored(compiled, score, whole_words=True)


def _languages(entry: Mapping[str, object], where: str) -> dict[str, tuple[str, ...]]:
    context = tuple(_texts(entry.get("context", []), f"{where}.context", empty=True))
    several = entry.get("supported_languages")
    if several is None:
        return {_text(entry.get("supported_language", "en"), f"{where}.supported_language"): context}
    if not isinstance(several, list) or not several:
        raise RecogniserFault(f"{where}.supported_languages: must be a list such as [en, de].")
    languages: dict[str, tuple[str, ...]] = {}
    for index, item in enumerate(several):
        here = f"{where}.supported_languages[{index}]"
        own = item if isinstance(item, Mapping) else {"language": item}
        words = _texts(own["context"], f"{here}.context", empty=True) if "context" in own else context
        languages[_text(own.get("language"), f"{here}.language")] = tuple(words)
    return languages


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise RecogniserFault(f"{where}: must be a text that is not empty (quote it).")
    return value


def _texts(value: object, where: str, empty: bool = False) -> Sequence[str]:
    if not isinstance(value, list) or not (value or empty):
        raise RecogniserFault(f"{where}: must be a list of words.")
    return [_text(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _score(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise RecogniserFault(f"{where}: must be a number above 0 and up to 1.")
    return float(value)


def _flags(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value & ~PRESIDIO_FLAGS:
        raise RecogniserFault(
            f"{where}.global_regex_flags: may add 2 (ignore case), 8 (multi-line), 16 (dot matches all)."
        )
    return value


def _bounded(word: str) -> str:
    before = r"\b" if word[0].isascii() and (word[0].isalnum() or word[0] == "_") else ""
    after = r"\b" if word[-1].isascii() and (word[-1].isalnum() or word[-1] == "_") else ""
    return f"{before}{re2.escape(word)}{after}"


def _inside_word(text: str, start: int, end: int) -> bool:
    before = start > 0 and text[start].isalnum() and text[start - 1].isalnum()
    return before or (end < len(text) and text[end - 1].isalnum() and text[end].isalnum())


def _names(names: Iterable[object]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(map(str, names)))
