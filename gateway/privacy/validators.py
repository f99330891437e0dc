"""Checks that tell data of a kind from text of the same shape. Arguments are folded bytes."""

from __future__ import annotations

import hashlib
import ipaddress

_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_PLAIN = bytes.maketrans(b"0123456789", bytes(range(10)))


def luhn(digits: bytes) -> bool:
    return (sum(digits[-1::-2].translate(_PLAIN)) + sum(digits[-2::-2].translate(_DOUBLED))) % 10 == 0


_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (400000, 499999, (13, 16, 19)),  # Visa
    (510000, 559999, (16,)),  # Mastercard
    (222100, 272099, (16,)),
    (340000, 349999, (15,)),  # American Express
    (370000, 379999, (15,)),
    (300000, 305999, (14, 16)),  # Diners Club
    (309500, 309599, (14, 16)),
    (360000, 369999, (14, 16, 19)),
    (380000, 399999, (14, 16, 19)),
    (601100, 601199, (16, 19)),  # Discover
    (622126, 622925, (16, 19)),
    (644000, 659999, (16, 19)),
    (352800, 358999, (16, 19)),  # JCB
    (620000, 629999, (16, 17, 18, 19)),  # UnionPay
    (500000, 509999, (13, 16, 19)),  # Maestro
    (560000, 589999, (13, 16, 19)),
    (630000, 639999, (16, 19)),
    (670000, 679999, (16, 19)),
    (220000, 220499, (16,)),  # Mir
    (979200, 979299, (16,)),  # Troy
)


def is_card(digits: bytes) -> bool:
    """Luhn, the issuer's range and its lengths; no card is one digit over and over."""
    if not 13 <= len(digits) <= 19 or not digits.isdigit() or len(set(digits)) == 1:
        return False
    head = int(digits[:6])
    return any(low <= head <= high and len(digits) in sizes for low, high, sizes in _ISSUERS) and luhn(
        digits
    )


_IBAN_LENGTHS = {
    item[:2].encode(): int(item[2:])
    for item in """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28
    EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26
    IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28
    NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25
    SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
    """.split()
}


def iban_length(country: bytes) -> int:
    """Of an IBAN of a country in capitals, without spaces; 0 where there are none."""
    return _IBAN_LENGTHS.get(country, 0)


def is_iban(compact: bytes) -> bool:
    """``compact``: capitals and digits alone."""
    if not compact or len(compact) != iban_length(compact[:2]):
        return False
    return int("".join(str(int(chr(code), 36)) for code in compact[4:] + compact[:4])) % 97 == 1


def is_ssn(digits: bytes) -> bool:
    """By the ranges that the US administration gives out, without the ones that adverts made known."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in (b"000", b"666") or area >= b"900" or group == b"00" or serial == b"0000":
        return False
    return digits not in (b"078051120", b"219099999", b"123456789") and len(set(digits)) > 1


def is_itin(digits: bytes) -> bool:
    group = int(digits[3:5])
    return digits[:1] == b"9" and (
        50 <= group <= 65 or 70 <= group <= 88 or (90 <= group <= 99 and group != 93)
    )


def is_address(text: bytes) -> bool:
    """Of IPv4 or IPv6, and of somebody: not loopback, unspecified or broadcast."""
    try:
        address = ipaddress.ip_address(text.decode("latin-1"))
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text == b"255.255.255.255")


_BASE58 = {code: i for i, code in enumerate(b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BECH32 = {code: i for i, code in enumerate(b"qpzry9x8gf2tvdw0s3jn54khce6mua7l")}


def is_base58check(text: bytes) -> bool:
    """A bitcoin address in the old spelling: 21 bytes and 4 of their double SHA-256."""
    number = 0
    for code in text:
        number = number * 58 + _BASE58.get(code, 1 << 400)
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def is_bech32(text: bytes) -> bool:
    """A bitcoin address ``bc1…`` (BIP 173 and 350)."""
    values = [_BECH32.get(code, -1) for code in text.lower()[3:]]
    if -1 in values:
        return False
    checksum = 1
    for value in (3, 3, 0, 2, 3, *values):
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= factor if top >> bit & 1 else 0
    return checksum in (1, 0x2BC830A3)
