"""Whether four numbers with dots between them are an IPv4 address, or the number of a version or a section.

``before`` is what stands in front (``CONTEXT_CHARS`` of it are enough), ``behind`` what follows, of which
nothing past white space is looked at.
"""

from __future__ import annotations

import re

CONTEXT_CHARS = 48
BEHIND_CHARS = 20

_NEVER_A_VERSION = 100
_NEAR_CHARS = 24
_SMALL = 32
"""One address of the public internet in 500 has no number larger; versions and sections seldom have one."""
_RESOLVERS = frozenset({"1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "4.2.2.2"})

_NOUNS = (
    r"(?:versi[oó]n(?:en|s|es)?|(?:file|app|product|os)version|ver|v|releases?|released|builds?|firmware|fw|driver|"
    r"treiber|kernel|assembly|package|paket|library|plugin|module|revisi[oó]n|rev|tag|hotfix|changelog|bios|"
    r"fassung|softwarestand|stand|mise à jour|actualizaci[oó]n|windows|chrome|sdk|runtime|gems?|rails|"
    r"spec|sections?|sec|abschnitt|kapitel|ziffer|punkt|absatz|chapters?|chapitre|cap[ií]tulo|apartado|"
    r"secci[oó]n|punto|clauses?|paragraphs?|annex|appendix|requirements?|figure|fig|oid|ec|ipc)"
)
_VERB = re.compile(
    r"\b(?:up(?:grad|dat)(?:e[sd]?|ing)|downgrade[sd]?|patch(?:ed)?|bump(?:ed|s)?|install(?:ed)?|"
    r"rolled back|migrat(?:e[sd]?|ing)|aktualisier\w+|apt|pip|npm|brew|yum)\b",
    re.IGNORECASE,
)
_NOUN = re.compile(
    r"\b(?:versi[oó]n\w*|releases?|released|builds?|firmware|driver|changelog|revisi[oó]n|hotfix|fassung|bios|"
    r"softwarestand|sections?|abschnitt|chapters?|clauses?|oid)\b|==|§",
    re.IGNORECASE,
)
_CALLED = re.compile(
    rf"(?:(?<![^\W_]){_NOUNS}(?: (?:no|nr|number))?[\s.:=\"'#]{{0,4}}|§{{1,2}}\s?)\Z", re.IGNORECASE
)
_VERSION = re.compile(
    r"(?<![^\W_])(?:versi[oó]n\w*|ver|v|releases?|builds?|firmware|fw|driver|bios|rev(?:isi[oó]n)?|windows|sections?|"
    r"chapters?|clauses?|paragraphs?|abschnitt|kapitel|fassung)[\s.:=\"'#]{0,4}\Z|§{1,2}\s?\Z",
    re.IGNORECASE,
)
_SIX_LIKE = re.compile(
    r"::[0-9A-F]{1,4}|(?:[0-9A-F]{2}:){7}[0-9A-F]{2}|(?!64:|0)[0-9A-F]{1,2}::[0-9A-F]{1,4}", re.IGNORECASE
)
_CHANGES = re.compile(r"change ?log|release notes", re.IGNORECASE)
_REQUIRED = re.compile(r"(?:[=~<>^!]=|~>|\^|\bv|\.so\.)\s?[\"']?\Z", re.IGNORECASE)
_SOFTWARE = re.compile(
    r"(?<![^\W_])(?:java|jdk|jre|node(?:js)?|python|php|ruby|perl|mysql|postgres(?:ql)?|oracle|openssl|nginx|"
    r"apache|tomcat|android|ios|macos|ubuntu|debian|(?:sql|windows|exchange) server|exchange|office|"
    r"outlook|firefox|safari|opera|edge)[ /]\Z",
    re.IGNORECASE,
)
_BROWSER = re.compile(
    r"\b(?:chrome|chromium|edge?|edga?|opera|opr|firefox|safari|version)[ /]\Z", re.IGNORECASE
)
_PRODUCT = re.compile(r"(?:\A|[\s(;,\"'])[A-Za-z][\w+-]*[/-]\Z")
_SCOPED = re.compile(r"@[\w-]+/[\w.-]+@\Z")
_TAGGED = re.compile(r"/[\w.-]+:\Z")
_SUFFIXED = re.compile(r"-[a-z]", re.IGNORECASE)
_PACKAGED = re.compile(
    r"(?:-(?:rc|alpha|beta|dev|snapshot|final|ga|r)\d*\b|"
    r"\.(?:tar|t?gz|zip|whl|jar|deb|rpm|exe|msi|dll|dmg|apk|nupkg)\b)",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"(?<![^\W_])(?:ips?|ipv4|ip-adressen?|hosts?|hostname|server|serveur|servidor|clients?|peer|ping|tracer(?:ou)?te?|"
    r"src|dst|source|dest(?:ination)?|node|gateway|gw|dns|resolver|nameserver|router|switch|subnet|proxy|vpn|"
    r"listen(?:ing)?|bind|addr(?:ess(?:es)?)?|adresse|direcci[oó]n|remote|upstream|backend|endpoint|inet|tcp|udp|"
    r"ssh|telnet|nmap|curl|whois|ban(?:ned)?|block(?:ed|s)?|allow|deny|connect(?:ed|ion)?|deployed|login|"
    r"visitors?|rechner|h[oô]te|hop|forwarded-for)(?![^\W_])",
    re.IGNORECASE,
)
_AT = re.compile(r"\b(?:from|at|via|von|aus|desde|depuis)\b|@", re.IGNORECASE)
_SERVED = re.compile(r":\d{2,5}(?!\d)|/\d{1,2}(?![\d/])")
_ADDRESSED = re.compile(r"(?:://|@|\\\\)\[?\Z")


def is_numbering(before: str, written: str, behind: str) -> bool:
    """Whether ``written``, a valid address by its numbers, is none."""
    parts = [int(part) for part in written.split(".")]
    if parts[0] >= _NEVER_A_VERSION:
        return parts[1] == 0 and _BROWSER.search(before) is not None
    if _REQUIRED.search(before) or _PACKAGED.match(behind):
        return True
    before = before[-CONTEXT_CHARS:]
    if _ADDRESSED.search(before):
        return _SCOPED.search(before) is not None
    if parts[0] == 10:
        return _VERSION.search(before) is not None
    if _CALLED.search(before):
        return True
    if _SERVED.match(behind):
        return False
    if _PRODUCT.search(before) or _TAGGED.search(before) or _SOFTWARE.search(before):
        return True
    small = max(parts) < _SMALL and written not in _RESOLVERS
    if small:
        return _SUFFIXED.match(behind) is not None or not _is_addressed(before)
    return _is_counted(before)


def is_code(written: str) -> bool:
    """Whether a valid IPv6 address is rather a slice, an identifier of 64 bits, or a scope of C++."""
    return _SIX_LIKE.fullmatch(written) is not None


def _is_addressed(before: str) -> bool:
    """Whether words in front speak of a network, and none after them of a version."""
    version, network = _cues(before)
    return network > version and len(before[before.rfind("\n") + 1 :]) - network <= _NEAR_CHARS


def _is_counted(before: str) -> bool:
    version, network = _cues(before)
    return version > network


def _cues(before: str) -> tuple[int, int]:
    """Where the last words end that speak of versions and of networks; 0 without any."""
    line = before[before.rfind("\n") + 1 :]
    verb, network = _last(_VERB, line), _last(_NETWORK, line)
    if verb <= network:
        network = max(network, _last(_AT, line))
    if line == before or not _CHANGES.search(before):
        return max(verb, _last(_NOUN, line)), network
    return max(verb, _last(_NOUN, line), 1), network


def _last(cue: re.Pattern[str], line: str) -> int:
    return max((found.end() for found in cue.finditer(line)), default=0)
