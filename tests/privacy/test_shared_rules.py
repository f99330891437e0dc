"""What both engines judge alike: secrets by their names, numbers in the form of an SSN, phones."""

from __future__ import annotations

import pytest

from gateway.privacy.detect_fast import DetectionPolicy, FastDetector
from gateway.privacy.interface import Detector
from gateway.privacy.named_secrets import is_random
from gateway.privacy.presidio import PresidioDetector
from tests.privacy.texts import named

ENTITIES = ("API_KEY", "JWT", "PHONE_NUMBER", "US_SSN")
ENGINES = ("fast", "presidio")
KEY, HEX = "kT9xQ2mLr7VbZ4nW8sYp3DcF", "442ce11a9a3eb50eb768626afdf850c6"
AWS = "doeDNbccKFW6dVpfk5S0OkSXCiTB+J2KVA95IuTl"


@pytest.fixture(scope="module")
def engines() -> dict[str, Detector]:
    regions = ("US", "GB", "DE", "FR", "ES", "IN")
    return {
        "fast": FastDetector(DetectionPolicy(frozenset(ENTITIES), phone_regions=regions)),
        "presidio": PresidioDetector(ENTITIES, ("en", "de", "fr", "es", "hi")),
    }


def found(detector: Detector, text: str) -> list[tuple[str, str]]:
    return named(detector.find(text), text)


NAMED_SECRETS = (
    f'api_key = "{KEY}"',
    f"X-API-Key: {HEX}",
    f'{{"secret": "{KEY}", "n": 1}}',
    f'{{\\"apiKey\\": \\"{KEY}\\"}}',
    f"client_secret='{KEY}'",
    f"Authorization: Bearer {KEY}",
    f"Authorization: {HEX}",
    f'os.environ["API_KEY"] = "{KEY}"',
    f'api_key: str = "{KEY}"',
    f"app --token {KEY} run",
    f"?access_token={KEY}&x=1",
    f"<apiKey>{KEY}</apiKey>",
    f"**API key:** `{KEY}`",
    f"the api key is {KEY}.",
    f"Mein API-Schlüssel lautet {KEY}",
    f"aws_secret_access_key = {AWS}",
    f"AccountKey={AWS}==;",
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", NAMED_SECRETS)
def test_a_secret_is_known_by_its_name(engines: dict[str, Detector], engine: str, text: str) -> None:
    written = next(value for value in (KEY, HEX, f"{AWS}==", AWS) if value in text)
    assert found(engines[engine], text) == [(written, "API_KEY")]


def test_the_secret_beside_an_id_of_aws_needs_no_name(engines: dict[str, Detector]) -> None:
    key_id = "AKIA" + "DU24IOXCIFHO7DTE"
    for detector in engines.values():
        assert found(detector, f"{key_id},{AWS}") == [(key_id, "API_KEY"), (AWS, "API_KEY")]


NO_SECRETS = (
    f"commit {HEX}",
    f"token_hash: {HEX}",
    f"api_key_id={KEY}",
    f'etag: "{HEX}"',
    f"sha256: {HEX}{HEX}",
    f"token: sha256:{HEX}{HEX}",
    f"trace_id={HEX}",
    f'"key": "{KEY}"',
    f"public_key: {KEY}",
    f"next_page_token: {KEY}",
    "token: 550e8400-e29b-41d4-a716-446655440000",
    "token: 12345678901234567890",
    "token: 0xdAC17F958D2ee523a2206206994597C13D831ec7",
    'api_key = "YOUR_API_KEY"',
    "api_key=YOUR_API_KEY_HERE_1234",
    "api_key: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "api_key: 0123456789abcdef",
    "api_key=${API_KEY_FROM_THE_VAULT_1}",
    "secret: changeme12345678",
    "secret: my-app-db-credentials-prod-2",
    "secret: default-token-x7k2p",
    "secret: /run/secrets/db_password1",
    "token = base64EncodeCredentials",
    "token = get_access_token_from_vault2(x)",
    "api key: process.env.OPENAI_API_KEY2",
    "token: registry.example.com/app/web1:2",
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_does_not_look_random_or_is_named_otherwise_is_no_secret(
    engines: dict[str, Detector], engine: str, text: str
) -> None:
    assert [one for one in found(engines[engine], text) if one[1] == "API_KEY"] == []


def test_random_is_what_has_many_letters_and_digits_in_no_order() -> None:
    assert is_random(KEY.encode()) and is_random(HEX.encode())
    assert not is_random(b"442ce11a9a3eb50eb768")  # hexadecimal, and short: an id
    assert not is_random(b"abcabcabcabcabcabcabc1")


SSNS = (
    ("My number is 536-22-1234", "536-22-1234"),
    ("call me at 536-22-1234", "536-22-1234"),
    ("my number is 536 22 1234", "536 22 1234"),
    ("SSN 536221234", "536221234"),
    ('{"ssn":"536221234"}', "536221234"),
    ("social security no. 536221234", "536221234"),
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("text", "written"), SSNS)
def test_what_is_written_as_an_ssn_is_no_phone(
    engines: dict[str, Detector], engine: str, text: str, written: str
) -> None:
    assert found(engines[engine], text) == [(written, "US_SSN")]


PHONES: tuple[tuple[str, list[str]], ...] = (
    ("Sie erreichen mich 0151 2345 6712", ["0151 2345 6712"]),
    ("steps 0100 0200 0300 0400", []),
    ("call 1) 503-555-0107 2) 503-555-0108", ["503-555-0107", "503-555-0108"]),
    ("tél. 01 23 45 67 89 / 06 12 34 56 78", ["01 23 45 67 89", "06 12 34 56 78"]),
    ("Tel. 0551 / 39 12868", ["0551 / 39 12868"]),
    ("To=%2B14155550149 and", ["%2B14155550149"]),
    ("To=%2b14155550149 and", ["%2b14155550149"]),
    ("mobile +33 (0) 0 39 98 00 00", ["+33 (0) 0 39 98 00 00"]),
    ("on (415)5550188 now", ["(415)5550188"]),
    ("zip+4 94107-1234", []),
    ("my new number is 555-0173", ["555-0173"]),
    ("order number is 555-0173", []),
    ("Tel. 040 22 1234", ["040 22 1234"]),
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("text", "numbers"), PHONES)
def test_phone_numbers_in_groups(
    engines: dict[str, Detector], engine: str, text: str, numbers: list[str]
) -> None:
    assert found(engines[engine], text) == [(number, "PHONE_NUMBER") for number in numbers]
