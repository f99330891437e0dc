"""Identity providers and kill switches in the configuration."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from gateway.settings import json_schema, loads
from tests.unit.jwt_rig import Signer, jwks
from tests.unit.test_settings_faults import HASH, VALID, changed, faults

ISSUER = "    - issuer: https://id.example\n      audience: us\n"
URL = "      jwks_url: https://id.example/keys\n"
AT = len(VALID.splitlines())


def with_issuer(lines: str) -> str:
    return f"{VALID}auth:\n  jwt:\n{ISSUER}{lines}"


def test_an_issuer() -> None:
    (issuer,) = loads(with_issuer(URL), {}).auth.jwt
    assert (issuer.tenant_claim, issuer.user_claim, issuer.feature_claim) == ("tenant", "sub", None)
    assert issuer.algorithms == ("RS256", "ES256") and issuer.leeway_s == 30 and issuer.models is None


@pytest.mark.parametrize(
    ("lines", "line", "fault"),
    [
        ("", 3, "auth.jwt[0]: needs jwks_url or jwks_file: the public keys that tokens are checked with"),
        (f"{URL}      jwks_file: /x\n", 6, "auth.jwt[0].jwks_file: must not be set beside jwks_url"),
        (
            "      jwks_url: ftp://x\n",
            5,
            "auth.jwt[0].jwks_url: must be a URL that begins with https:// or http://",
        ),
        (
            "      jwks_file: /nowhere/keys\n",
            5,
            "auth.jwt[0].jwks_file: cannot be read: No such file or directory",
        ),
        (f"{URL}      leeway_s: 301\n", 6, "auth.jwt[0].leeway_s: must be at most 300, not '301'"),
        (
            f"{URL}      models: [fats]\n",
            6,
            "auth.jwt[0].models[0]: 'fats' is not a model group or alias of this configuration"
            " (did you mean fast?)",
        ),
    ],
)
def test_issuers_that_cannot_be(lines: str, line: int, fault: str) -> None:
    assert faults(with_issuer(lines)) == [f"c.yaml:{AT + line}: {fault}"]


@pytest.mark.parametrize("name", ["none", "HS256", "HS512", "rs256", "RS1"])
def test_signatures_that_prove_nothing_are_not_taken(name: str) -> None:
    (fault,) = faults(with_issuer(f"{URL}      algorithms: [{name}]\n"))
    assert "auth.jwt[0].algorithms[0]: must be " in fault


def test_a_file_of_keys_is_looked_into(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for text in ("", "[]", "{}", '{"keys": []}', '{"keys": 1}'):
        file.write_text(text)
        (fault,) = faults(with_issuer(f"      jwks_file: {file}\n"))
        assert "jwks_file: holds no " in fault
    file.write_bytes(jwks(Signer("one", "ES256")))
    assert loads(with_issuer(f"      jwks_file: {file}\n"), {}).auth.jwt[0].jwks_file == file


def test_kill_switches() -> None:
    text = f"""{VALID}kill_switches:
  - {{scope: all, reason: stop}}
  - {{scope: key, name: acme/ci, reason: leaked, cut_streams: true}}
"""
    first, second = loads(text, {}).kill_switches
    assert (first.scope, first.name, first.cut_streams) == ("all", None, False)
    assert (second.name, second.reason, second.cut_streams) == ("acme/ci", "leaked", True)
    assert "kill_switches" in json_schema()["properties"]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("scope: all, name: x, reason: r", "name: must not be set: the scope all takes no name"),
        ("scope: model, reason: r", "name: is missing: this scope needs the name of what is stopped"),
        ("scope: model, name: x", "reason: is missing"),
        ("scope: model, name: x, reason: ''", "reason: must not be empty"),
        ("scope: modell, name: x, reason: r", "(did you mean model?)"),
        ("scope: all, reason: r, expires_s: 1", "expires_s: is not a known key"),
    ],
)
def test_kill_switches_that_cannot_be(entry: str, fault: str) -> None:
    (found,) = faults(f"{VALID}kill_switches:\n  - {{{entry}}}\n")
    assert found.startswith(f"c.yaml:{AT + 2}: kill_switches[0]") and fault in found


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", date(2027, 1, 31)),
        ("2027-01-31T18:00:00Z", datetime(2027, 1, 31, 18, tzinfo=timezone.utc)),
        ("2027-01-31T00:00:00Z", datetime(2027, 1, 31, tzinfo=timezone.utc)),
        (
            "2027-01-31 18:00:00.5+02:00",
            datetime(2027, 1, 31, 18, 0, 0, 500000, timezone(timedelta(hours=2))),
        ),
    ],
)
def test_a_key_expires_on_a_day_or_at_a_time(text: str, moment: date) -> None:
    key = f'hash: "{HASH}"'
    (found,) = (
        loads(changed(key, f'{key}\n        expires: "{text}"\n        strict: true'), {})
        .tenants["acme"]
        .keys
    )
    assert found.expires == moment and type(found.expires) is type(moment) and found.strict


@pytest.mark.parametrize("text", ["2027-01-31T18:00:00", "2027-01-31T25:00:00Z", "soon", "1800000000"])
def test_times_without_a_zone_and_other_things_are_no_expiry(text: str) -> None:
    key = f'hash: "{HASH}"'
    (fault,) = faults(changed(key, f'{key}\n        expires: "{text}"'))
    assert "must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z" in fault
