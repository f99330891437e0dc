"""Every fault of a configuration, with its place, all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.settings import ConfigInvalid, Fault, load, loads

HASH = "sha256:" + "a" * 64
VALID = f"""\
server:
  port: 8080
providers:
  openai:
    kind: openai
    base_url: https://api.openai.com/v1
models:
  gpt-4o:
    deployments:
      - provider: openai
        model: gpt-4o-2024-11-20
aliases:
  fast: gpt-4o
tenants:
  acme:
    models: [gpt-4o, fast]
    keys:
      - id: ci
        hash: "{HASH}"
prices:
  gpt-4o:
    input_per_mtok_usd: 1
    output_per_mtok_usd: 2
"""


def faults(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        loads(text, environ or {}, "c.yaml")
    return [str(fault) for fault in caught.value.faults]


def changed(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new)


def added(section: str, lines: str) -> str:
    """The valid configuration with lines under ``section:``, which stands in a line of its own."""
    return changed(f"{section}:\n", f"{section}:\n{lines}\n")


def test_the_base_of_these_tests_is_valid() -> None:
    assert loads(VALID, {}).server.port == 8080


SINGLE = {
    "unknown key": (
        added("server", "  hosst: x"),
        "c.yaml:2: server.hosst: is not a known key (did you mean host?)",
    ),
    "unknown top-level key": (
        VALID + "tenant: {}\n",
        "c.yaml:24: tenant: is not a known key (did you mean tenants?)",
    ),
    "unknown key without a near one": (
        added("server", "  qqqq: x"),
        "c.yaml:2: server.qqqq: is not a known key",
    ),
    "port too large": (
        changed("8080", "65536"),
        "c.yaml:2: server.port: must be at most 65535, not '65536'",
    ),
    "negative port": (changed("8080", "-1"), "c.yaml:2: server.port: must be at least 0, not '-1'"),
    "octal": (
        changed("8080", "010"),
        "c.yaml:2: server.port: must be a whole number in decimal digits, not '010'",
    ),
    "sexagesimal": (
        changed("8080", "12:30"),
        "c.yaml:2: server.port: must be a whole number in decimal digits, not '12:30'",
    ),
    "underscores": (
        changed("8080", "8_080"),
        "c.yaml:2: server.port: must be a whole number in decimal digits, not '8_080'",
    ),
    "no workers": (
        added("server", "  workers: 0"),
        "c.yaml:2: server.workers: must be at least 1, not '0'",
    ),
    "several workers without a store": (
        added("server", "  workers: 2"),
        "c.yaml:2: server.workers: more than one worker needs storage.url to name a Redis: "
        "memory:// counts in one process only",
    ),
    "short admin token": (
        added("server", "  admin_token: hunter2"),
        "c.yaml:2: server.admin_token: must have at least 32 characters; make one with: "
        "openssl rand -hex 32",
    ),
    "duration of infinity": (
        added("server", "  drain_s: .inf"),
        "c.yaml:2: server.drain_s: must be a number, not '.inf'",
    ),
    "duration beyond any float": (
        added("server", "  drain_s: 1e999"),
        "c.yaml:2: server.drain_s: must be a number, not '1e999'",
    ),
    "yes": (
        added("  openai", "    stream_usage: yes"),
        "c.yaml:5: providers.openai.stream_usage: must be true or false, not 'yes'",
    ),
    "no base_url": (
        changed("    base_url: https://api.openai.com/v1\n", ""),
        "c.yaml:4: providers.openai.base_url: is missing: kind openai needs the address to call",
    ),
    "base_url of the simulated provider": (
        changed("kind: openai", "kind: simulated"),
        "c.yaml:6: providers.openai.base_url: must not be set: kind simulated calls nobody",
    ),
    "simulate for another provider": (
        added("  openai", "    simulate: {words: 3}"),
        "c.yaml:5: providers.openai.simulate: is for kind simulated only",
    ),
    "no http": (
        changed("https://api", "ftp://api"),
        "c.yaml:6: providers.openai.base_url: must be a URL such as https://api.openai.com/v1",
    ),
    "user information": (
        changed("https://api", "https://me:pw@api"),
        "c.yaml:6: providers.openai.base_url: must have no user information, query or fragment",
    ),
    "query": (
        changed("com/v1", "com/v1?a=b"),
        "c.yaml:6: providers.openai.base_url: must have no user information, query or fragment",
    ),
    "fragment": (
        changed("com/v1", "com/v1#x"),
        "c.yaml:6: providers.openai.base_url: must have no user information, query or fragment",
    ),
    "proxy of the native engine": (
        added("  openai", "    proxy: http://p:3128"),
        "c.yaml:5: providers.openai.proxy: needs transport: httpx",
    ),
    "HTTP/2 of the native engine": (
        added("  openai", "    http2: true"),
        "c.yaml:5: providers.openai.http2: needs transport: httpx",
    ),
    "unknown provider": (
        changed("provider: openai", "provider: opnai"),
        "c.yaml:10: models.gpt-4o.deployments[0].provider: 'opnai' is not a provider of this configuration "
        "(did you mean openai?)",
    ),
    "missing key": (
        changed("\n        model: gpt-4o-2024-11-20", ""),
        "c.yaml:10: models.gpt-4o.deployments[0].model: is missing",
    ),
    "key without a value that must have one": (
        changed(" gpt-4o-2024-11-20", ""),
        "c.yaml:11: models.gpt-4o.deployments[0].model: is missing",
    ),
    "weight": (
        changed("- provider", "- weight: 0\n        provider"),
        "c.yaml:10: models.gpt-4o.deployments[0].weight: must be at least 1, not '0'",
    ),
    "no deployments": (
        added("models", "  empty: {deployments: []}"),
        "c.yaml:8: models.empty.deployments: must not be empty",
    ),
    "bad name of a group": (
        added("models", "  a b: {deployments: [{provider: openai, model: x}]}"),
        "c.yaml:8: models.a b: the name must be 1 to 64 letters, digits or ._:/-",
    ),
    "deployment id twice": (
        added("models", "  other: {deployments: [{id: gpt-4o-1, provider: openai, model: x}]}"),
        "c.yaml:11: models.gpt-4o.deployments[0]: 'gpt-4o-1' is already the id of "
        "models.other.deployments[0]",
    ),
    "strategy": (
        added("  gpt-4o", "    strategy: weigthed"),
        "c.yaml:9: models.gpt-4o.strategy: must be 'weighted', 'least_latency', 'least_busy', "
        "'lowest_cost' "
        "or 'ordered', not 'weigthed' (did you mean weighted?)",
    ),
    "timeout of zero": (
        added("  gpt-4o", "    timeouts: {idle_s: 0}"),
        "c.yaml:9: models.gpt-4o.timeouts.idle_s: must be more than 0, not '0'",
    ),
    "cache without a mode": (
        added("  gpt-4o", "    cache: {ttl_s: 5}"),
        "c.yaml:9: models.gpt-4o.cache.mode: is missing: without it the rest has no effect",
    ),
    "alias of nothing": (
        changed("fast: gpt-4o", "fast: gpt-4"),
        "c.yaml:13: aliases.fast: 'gpt-4' is not a model group of this configuration (did you "
        "mean gpt-4o?)",
    ),
    "alias of an alias": (
        added("aliases", "  faster: fast"),
        "c.yaml:13: aliases.faster: must name a model group, not another alias",
    ),
    "alias with the name of a group": (
        added("aliases", "  gpt-4o: gpt-4o"),
        "c.yaml:13: aliases.gpt-4o: is already the name of a model group",
    ),
    "model of a tenant": (
        changed("[gpt-4o, fast]", "[gpt-4o, fats]"),
        "c.yaml:16: tenants.acme.models[1]: 'fats' is not a model group or alias of this configuration "
        "(did you mean fast?)",
    ),
    "model of a key": (
        changed("- id: ci", "- id: ci\n        models: [gpt4o]"),
        "c.yaml:19: tenants.acme.keys[0].models[0]: 'gpt4o' is not a model group or alias of this "
        "configuration (did you mean gpt-4o?)",
    ),
    "text for a list": (
        changed("[gpt-4o, fast]", "gpt-4o"),
        "c.yaml:16: tenants.acme.models: must be a list",
    ),
    "mapping for text": (
        changed("[gpt-4o, fast]", "[{a: b}]"),
        "c.yaml:16: tenants.acme.models[0]: must be text",
    ),
    "text for a mapping": (
        changed("server:\n  port: 8080", "server: 8080"),
        "c.yaml:1: server: must hold keys and values",
    ),
    "upper-case hash": (
        changed(HASH, "sha256:" + "A" * 64),
        "c.yaml:19: tenants.acme.keys[0].hash: must be sha256: and 64 lower-case hexadecimal digits",
    ),
    "hash twice": (
        VALID.replace("    keys:\n", f'    keys:\n      - {{id: other, hash: "{HASH}"}}\n'),
        "c.yaml:20: tenants.acme.keys[1].hash: is already the hash of tenants.acme.keys[0]",
    ),
    "id twice": (
        VALID.replace("    keys:\n", f'    keys:\n      - {{id: ci, hash: "sha256:{"b" * 64}"}}\n'),
        "c.yaml:19: tenants.acme.keys[1].id: is already the id of another key of this tenant",
    ),
    "no such day": (
        changed("- id: ci", "- id: ci\n        expires: 2027-02-30"),
        "c.yaml:19: tenants.acme.keys[0].expires: must be a date such as 2027-01-31, "
        "or a time such as 2027-01-31T18:00:00Z, not '2027-02-30'",
    ),
    "negative price": (
        changed("input_per_mtok_usd: 1", "input_per_mtok_usd: -1"),
        "c.yaml:22: prices.gpt-4o.input_per_mtok_usd: must not be negative, not '-1'",
    ),
    "price finer than a nano-dollar": (
        changed("input_per_mtok_usd: 1", "input_per_mtok_usd: 0.0000000001"),
        "c.yaml:22: prices.gpt-4o.input_per_mtok_usd: must be less than 10^12 USD and have at most nine "
        "decimals, not '0.0000000001'",
    ),
    "price in words": (
        changed("input_per_mtok_usd: 1", "input_per_mtok_usd: $1"),
        "c.yaml:22: prices.gpt-4o.input_per_mtok_usd: must be an amount of US dollars such as "
        "2.50, not '$1'",
    ),
    "api_key with a line break": (
        added("  openai", '    api_key: "sk-1\\n"'),
        "c.yaml:5: providers.openai.api_key: must hold visible ASCII characters only, without spaces or "
        "line breaks",
    ),
    "missing top-level key": (
        VALID.replace("tenants:\n  acme:", "x-tenants:\n  acme:"),
        "c.yaml:1: tenants: is missing; write tenants: {} if there are none",
    ),
}


@pytest.mark.parametrize("case", SINGLE)
def test_one_fault_with_its_line(case: str) -> None:
    text, wanted = SINGLE[case]
    assert wanted in faults(text)


@pytest.mark.parametrize("case", [name for name in SINGLE if name != "missing top-level key"])
def test_one_fault_makes_no_others(case: str) -> None:
    """But for the names that lead to what is faulty, and what is refused as not built."""
    text, wanted = SINGLE[case]
    others = [one for one in faults(text) if one != wanted and "not built yet" not in one]
    assert len(others) <= 1, others


def test_all_faults_at_once_in_the_order_of_the_file() -> None:
    text = VALID
    for old, new in (("8080", "x"), ("kind: openai", "kinds: openai"), ("fast: gpt-4o", "fast: no")):
        text = text.replace(old, new)
    lines = [int(fault.split(":")[1]) for fault in faults(text + "zzz: 1\n")]
    assert lines == [2, 4, 5, 13, 24]


def test_a_fault_is_data_too() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        loads(added("server", "  hosst: x"), {}, "c.yaml")
    assert caught.value.faults == [Fault("c.yaml", 2, "server.hosst", "is not a known key", "host")]
    assert str(caught.value) == str(caught.value.faults[0])


NOT_BUILT = {
    "  openai": ["    kind: anthropic"],
    "  gpt-4o": [
        "    cache: {mode: exact}",
        "    degrade: {mode: stale_cache, stale_s: 60}",
    ],
}


@pytest.mark.parametrize(("section", "lines"), [(s, one) for s, all_ in NOT_BUILT.items() for one in all_])
def test_what_is_not_built_is_refused_at_its_line(section: str, lines: str) -> None:
    text = VALID.replace("    kind: openai\n", "") if "kind:" in lines else VALID
    text = text.replace(
        "models:\n  gpt", "models:\n  other: {deployments: [{provider: openai, model: x}]}\n  gpt"
    )
    text = text.replace(f"{section}:\n", f"{section}:\n{lines}\n", 1)
    at = text.split("\n").index(lines) + 1
    found = [one for one in faults(text) if one.endswith("is not built yet") and f"c.yaml:{at}:" in one]
    assert len(found) == 1, faults(text)


def test_saying_that_something_is_off_is_accepted() -> None:
    text = VALID.replace(
        "  gpt-4o:\n    deployments",
        "  gpt-4o:\n    {cache: {mode: off}, degrade: {mode: none}, on_cut: fail, retry: {attempts: 1},"
        " fallbacks: [], breaker: {}, deployments: [{provider: openai, model: m}]}\n  x:\n    deployments",
        1,
    ).replace(
        "    keys:",
        "    limits: {}\n    budget:\n    model_limits: {}\n    redaction: {mode: off}\n"
        "    on_disconnect: abort\n    on_storage_loss: {limits: local_share, budget: lease}\n    keys:",
    )
    settings = loads(text, {})
    assert settings.models["gpt-4o"].cache.mode == "off"
    assert settings.tenants["acme"].budget is None


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    empty, folder = tmp_path / "empty.yaml", tmp_path / "folder"
    empty.write_text("")
    folder.mkdir()
    for path, wanted in (
        (tmp_path / "none.yaml", "cannot be read: No such file or directory"),
        (empty, "is empty; write the configuration into it, or remove it"),
        (folder, "holds no *.yaml or *.yml file"),
        (Path("a\0b"), "cannot be read: "),
    ):
        with pytest.raises(ConfigInvalid) as caught:
            load(path, {})
        assert str(caught.value.faults[0]).startswith(f"{path}:1: {wanted}")
