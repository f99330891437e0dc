"""Variables, secrets, money, the digest, and what is shown to people."""

from __future__ import annotations

import json
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from gateway.accounting.money import to_nanousd
from gateway.providers.transport import Endpoint
from gateway.settings import ConfigInvalid, ProviderSettings, Settings, loads
from tests.unit.test_settings_faults import VALID, added, changed, faults

TOKEN = "t" * 32
SECRET = "sk-very-secret-0123456789"


def port(written: str, environ: dict[str, str]) -> int:
    return loads(changed("8080", written), environ).server.port


def test_variables_are_typed_like_the_field() -> None:
    assert port("${PORT}", {"PORT": "81"}) == 81
    assert port("8${PORT}", {"PORT": "81"}) == 881
    assert port("${PORT:-82}", {}) == 82
    assert port("${PORT:-82}", {"PORT": "81"}) == 81
    assert port("${PORT:-82}", {"PORT": ""}) == 82
    assert port('"${PORT}"', {"PORT": "81"}) == 81
    text = added("  openai", "    stream_usage: ${USAGE}")
    assert loads(text, {"USAGE": "false"}).providers["openai"].stream_usage is False


def host(written: str, environ: dict[str, str]) -> str:
    return loads(added("server", f"  host: {written}"), environ).server.host


def test_what_a_variable_holds_is_not_looked_into() -> None:
    assert host("${H}", {"H": "${PORT}: {x: [1"}) == "${PORT}: {x: [1"
    assert host("$${H}", {"H": "no"}) == "${H}"
    assert host("$H-$$-}", {"H": "no"}) == "$H-$$-}"
    assert host("a${A}b$${c}${B:-}", {"A": "1", "B": "2"}) == "a1b${c}2"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("${PORT}", "the environment variable PORT is not set: set it, or give a default: ${PORT:-}"),
        ("${}", "write ${NAME} or ${NAME:-default}, or $${ for a literal ${"),
        ("${A-B}", "write ${NAME} or ${NAME:-default}, or $${ for a literal ${"),
        ("${A", "write ${NAME} or ${NAME:-default}, or $${ for a literal ${"),
        ("${A:-${B}}", "write ${NAME} or ${NAME:-default}, or $${ for a literal ${"),
    ],
)
def test_a_variable_that_cannot_be_taken(written: str, wanted: str) -> None:
    assert faults(changed("8080", f'"{written}"')) == [f"c.yaml:2: server.port: {wanted}"]


def test_keys_are_never_substituted() -> None:
    text = VALID.replace("fast: gpt-4o", '"${NAME}": gpt-4o')
    assert any(
        one.startswith("c.yaml:13: aliases.${NAME}: the name") for one in faults(text, {"NAME": "x"})
    )


def test_an_optional_secret() -> None:
    text = added("server", "  admin_token: ${TOKEN}")
    assert faults(text) == [
        "c.yaml:2: server.admin_token: the environment variable TOKEN is not set: "
        "set it, or give a default: ${TOKEN:-}"
    ]
    assert loads(text, {"TOKEN": TOKEN}).server.admin_token == SecretStr(TOKEN)
    assert loads(text, {"TOKEN": ""}).server.admin_token is None
    assert loads(text.replace("${TOKEN}", "${TOKEN:-}"), {}).server.admin_token is None
    assert loads(VALID, {}).server.admin_token is None


SECRET_LINES = {
    "admin_token": ("server", "  admin_token: "),
    "api_key": ("  openai", "    api_key: "),
    "proxy": ("  openai", "    proxy: "),
    "url": ("server", "  port: 1\nstorage:\n  url: "),
    "hash": ("    keys", "      - id: x\n        hash: "),
    "port": ("server", "  workers: "),
    "models": ("    keys", "      - id: x\n        models: "),
    "provider": ("    deployments", "      - model: x\n        provider: "),
    "id": ("    deployments", "      - model: x\n        id: "),
    "strategy": ("  gpt-4o", "    strategy: "),
    "alias": ("aliases", "  x: "),
}


@pytest.mark.parametrize("field", SECRET_LINES)
@pytest.mark.parametrize("suffix", ["", " with spaces", "\n", "é"])
def test_what_a_variable_holds_is_never_in_a_fault(field: str, suffix: str) -> None:
    section, line = SECRET_LINES[field]
    found = faults(added(section, line + "${S}") + "zzz: 1\n", {"S": SECRET + suffix})
    assert not any(SECRET in one for one in found), found


@pytest.mark.parametrize("field", ["admin_token", "api_key", "proxy", "url", "hash"])
def test_a_secret_in_the_file_is_never_in_a_fault(field: str) -> None:
    section, line = SECRET_LINES[field]
    found = faults(added(section, f'{line}"{SECRET} "'))
    assert f".{field}: " in "".join(found)
    assert not any(SECRET in one for one in found), found


def full() -> Settings:
    text = VALID.replace(
        "    kind: openai",
        f"    kind: openai\n    api_key: {SECRET}\n    transport: httpx\n    proxy: http://me:{SECRET}@p:3128",
    )
    return loads(text.replace("port: 8080", f"port: 8080\n  admin_token: {TOKEN}"), {})


def test_settings_do_not_show_secrets() -> None:
    settings = full()
    shown = json.dumps(settings.public())
    for secret in (SECRET, TOKEN):
        assert secret not in shown
        assert secret not in repr(settings)
    assert "a" * 64 not in shown
    assert settings.public()["server"]["admin_token"] == "***"
    assert settings.public()["providers"]["openai"]["proxy"] == "http://p:3128"
    assert settings.public()["server"]["port"] == 8080


def test_the_digest_is_of_what_is_effective() -> None:
    settings = loads(VALID, {})
    assert settings.digest == loads("# a comment\n" + VALID.replace("8080", "${P:-8080}"), {}).digest
    assert settings.digest == loads(VALID.replace("_usd: 1\n", "_usd: 1.000\n"), {}).digest
    assert settings.digest == loads(VALID + "storage: {data_dir: ./data}\n", {}).digest
    changes = [
        loads(VALID, {}).model_copy(update={"aliases": {}}),
        full(),
        loads(changed("8080", "8081"), {}),
        loads(added("  openai", "    api_key: one"), {}),
        loads(added("  openai", "    api_key: two"), {}),
    ]
    assert len({settings.digest, *(one.digest for one in changes)}) == 6
    assert len(settings.digest) == 16
    assert int(settings.digest, 16) >= 0


def price(written: str) -> Decimal:
    return loads(VALID.replace("_usd: 1\n", f"_usd: {written}\n"), {}).prices["gpt-4o"].input_per_mtok_usd


@pytest.mark.parametrize(
    "written",
    ["1.0000000001", "1e-10", "1e-400", "1e12", "1e400", ".nan", ".inf", "1,5", "1_0", '" 1"', "0x1"],
)
def test_what_is_no_price(written: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        price(written)
    assert [fault.key_path for fault in caught.value.faults] == ["prices.gpt-4o.input_per_mtok_usd"]


def test_money_is_exact() -> None:
    assert price("0.1") * 3 == Decimal("0.3")
    assert price("2.50") == Decimal("2.5")
    assert price("999999999999.123456789") == Decimal("999999999999.123456789")
    assert price("2.5e-06") == Decimal("0.0000025")
    assert price("0") == 0


@given(st.decimals(min_value=0, max_value=10**11, places=9))
def test_every_price_that_is_taken_is_whole_nano_dollars(usd: Decimal) -> None:
    assert price(str(usd)) == usd
    assert Decimal(to_nanousd(price(str(usd)))) == usd.scaleb(9)


def test_settings_are_frozen() -> None:
    settings = loads(VALID, {})
    with pytest.raises(ValidationError):
        settings.server.port = 1
    with pytest.raises(ValidationError):
        settings.server = settings.server


URLS = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "ftp", ""]),
        st.one_of(
            st.sampled_from(["a", "a.b:80", "[::1]", "[::1]:8", "a:0", "a:", ":8", "u@a", "a:99999", "[x"]),
            st.text(alphabet="ab.:@[]%\\-", max_size=80),
        ),
        st.sampled_from(["", "/", "/v1", "/v1?x", "/v1#", "/ v1", "/v1/é", "?", "\\x"]),
    ),
)


@pytest.mark.parametrize(
    "url",
    [
        "http://a:0",
        "http://a:65536",
        "http://",
        "http://:8",
        "http://[x",
        "http://a b",
        "http://a/é",
        "a",
        "//a",
        "http://a\\b",
        "http://me@a",
        "http://" + "a" * 64,
        "file:///a",
    ],
)
def test_a_base_url_that_nothing_could_connect_to(url: str) -> None:
    with pytest.raises(ValidationError):
        ProviderSettings.model_validate({"kind": "openai", "base_url": url})


@given(URLS)
def test_a_base_url_that_is_taken_is_an_endpoint(url: str) -> None:
    try:
        provider = ProviderSettings.model_validate({"kind": "openai", "base_url": url})
    except ValidationError:
        return
    if provider.base_url is not None:
        endpoint, path = Endpoint.of(provider.base_url)
        assert endpoint.host == urlsplit(url).hostname
        assert path.isascii()


def test_a_variable_that_is_not_text() -> None:
    with pytest.raises(ConfigInvalid):
        loads(added("server", "  host: ${H}"), {"H": "\udcff"})
