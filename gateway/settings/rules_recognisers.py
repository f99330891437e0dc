"""Patterns, regions and languages of ``redaction`` that the engines refuse, or that allow everything."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from gateway.privacy.entities import LANGUAGES
from gateway.settings.faults import Faults, KeyPath, printable
from gateway.settings.recognisers import RecogniserSettings
from gateway.settings.tree import Tree

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_MESSAGE_CHARS = 300
# What allows all of one line, of values that have nothing in common, allows everything.
_UNLIKE = (
    (b"a", b"1", b"@"),
    (b"jo@example.com", b"+442079460958", b"4111111111111111", b"[2001:db8::7]", b"sk_test_4eC39HqLyjW"),
)
_WHOLE = r"write what a whole value is, as in .+@example\.com"


def check_recognisers(
    tree: Tree, faults: Faults, place: KeyPath, recognisers: Sequence[RecogniserSettings]
) -> None:
    """Each fault at the key that has it. ``place``: of the list."""
    if not recognisers:
        return
    from gateway.privacy.recognisers import RecogniserFault, parse_recognisers

    for index, one in enumerate(recognisers):
        try:
            parse_recognisers([one.document()], "")
        except RecogniserFault as fault:
            where, _, reason = str(fault).partition(": ")
            path = (*place, index, *_steps(where)[1:])
            faults.add(path, _told(tree, path, reason))


def check_patterns(tree: Tree, faults: Faults, place: KeyPath, patterns: Sequence[str]) -> None:
    """``place``: of the list."""
    if not patterns:
        return
    from gateway.privacy.words import AllowList

    for index, pattern in enumerate(patterns):
        path = (*place, index)
        try:
            allow = AllowList((), (pattern,))
        except ValueError as error:
            faults.add(path, _told(tree, path, f"is {error}"))
            continue
        if any(all(map(allow.allows, unlike)) for unlike in _UNLIKE):
            faults.add(path, rf"would allow everything: {_WHOLE}")
        elif allow.allows(b""):
            faults.add(path, rf"matches the empty text: {_WHOLE}")


def check_regions(faults: Faults, place: KeyPath, regions: Sequence[str]) -> None:
    """``place``: of the list."""
    from phonenumbers import SUPPORTED_REGIONS

    for index, region in enumerate(regions):
        if region not in SUPPORTED_REGIONS:
            faults.add((*place, index), "is no region with phone numbers; ISO 3166 names them: US, GB, DE")


def check_languages(faults: Faults, place: KeyPath, languages: Sequence[str], more: Set[str]) -> None:
    """``place``: of the list. ``more``: languages beside those that are built in."""
    for index, language in enumerate(languages):
        if language not in LANGUAGES | more:
            names = ", ".join(sorted(LANGUAGES | more))
            faults.add((*place, index), f"{language!r} is no language of a recogniser; there is {names}")


def _steps(where: str) -> KeyPath:
    """``[0].patterns[1].regex`` as a path."""
    return tuple(found[1] or int(found[2]) for found in _STEP.finditer(where))


def _told(tree: Tree, path: KeyPath, reason: str) -> str:
    """In one line; of what a variable holds, nothing is told."""
    if path in tree.written and tree.written[path] != tree.get(*path):
        return "is refused"
    return printable(" ".join(reason.split()), _MESSAGE_CHARS).removesuffix(".")
