"""The shipped configuration, the whole of the documented one, and the schema that editors use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from gateway.settings import ConfigInvalid, Settings, json_schema, load, loads

CONFIG = Path(__file__).parents[2] / "config"
REDACTION = (
    "{mode: mask, entities: [EMAIL_ADDRESS, US_SSN, EMPLOYEE_ID], restore: true, direction: both, "
    "actions: {US_SSN: block, EMAIL_ADDRESS: hash}, engine: presidio, scan: all, languages: [en, de], "
    "threshold: 0.5, allow: [info@example.com], allow_patterns: ['.*@example[.]org'], deny: [Falcon], "
    "uncovered: pass, on_failure: pass, budget_s: 1, recognisers: [{name: staff, "
    "supported_entity: EMPLOYEE_ID, patterns: [{name: p, regex: 'E[0-9]+', score: 0.5}], "
    "deny_list: [boss], context: [badge], supported_languages: [en, {language: de, context: [x]}]}], "
    "models: {gpt-4o: {mode: block, engine: fast, phone_regions: [US], entities: [EMAIL_ADDRESS]}}}"
)
DOCUMENTED = """\
server:
  host: 127.0.0.1
  port: 8080
  workers: 1
  admin_token: ${GATEWAY_ADMIN_TOKEN}
  max_body_bytes: 10485760
  pre_stop_s: 0
  drain_s: 600
storage:
  url: memory://
  data_dir: ./data
providers:
  openai:
    kind: openai
    base_url: https://api.openai.com/v1
    api_key: ${OPENAI_API_KEY}
    stream_usage: true
models:
  gpt-4o:
    deployments:
      - id: gpt-4o-a
        provider: openai
        model: gpt-4o-2024-11-20
        weight: 3
        price: {input_per_mtok_usd: 2.50, output_per_mtok_usd: 10.00, cached_input_per_mtok_usd: 1.25}
    strategy: weighted
    fallbacks: [claude-sonnet]
    fallback_on: [error, rate_limit, timeout, context_length]
    timeouts: {connect_s: 5, first_event_s: 30, idle_s: 60, total_s: 600}
    retry: {attempts: 3, backoff_s: 0.5, backoff_max_s: 8, budget: 0.1}
    breaker: {failures: 5, error_rate: 0.5, min_requests: 20, window_s: 10, open_s: 30}
    cache: {mode: exact, ttl_s: 3600}
    degrade: {mode: none}
    on_cut: fail
    max_output_tokens: 4096
  claude-sonnet:
    deployments: [{provider: openai, model: claude}]
    degrade: {mode: stale_cache, stale_s: 60}
  gpt-4o-mini:
    deployments: [{provider: openai, model: mini}]
    degrade: {mode: message, message: "Not now."}
aliases: {fast: gpt-4o-mini}
tenants:
  acme:
    models: [gpt-4o, fast]
    keys:
      - {id: ci, hash: "sha256:HASH", expires: 2027-01-31, models: [fast], tags: {feature: search}}
    limits: {rpm: 600, tpm: 100000, concurrency: 20}
    model_limits: {gpt-4o: {rpm: 60}}
    budget: {usd: 100, period: month, alert_at: [0.5, 0.8, 1.0]}
    redaction: REDACTION
    on_storage_loss: {limits: local_share, budget: lease}
    on_unknown_price: deny
    on_disconnect: abort
privacy: {hash_key: "0123456789abcdef", processes: 2}
""".replace("HASH", "0" * 64).replace("REDACTION", REDACTION)


def raw(text: str) -> Any:
    """As an editor sees it: YAML 1.2 has no dates."""
    return yaml.safe_load(re.sub(r"expires: ([\d-]+)", r'expires: "\1"', text))


def test_the_shipped_configuration_loads_without_any_environment() -> None:
    settings = load(CONFIG, {})
    assert settings.server.admin_token is None
    assert settings.providers["openai"].api_key is None
    assert {file.name for file in CONFIG.iterdir()} == {
        "gateway.yaml",
        "routing.yaml",
        "tenants.yaml",
        "prices.yaml",
    }


def test_the_shipped_configuration_is_valid_without_its_comments_too() -> None:
    """What is shown in comments and is not marked as to come must work when it is uncommented."""
    text = (CONFIG / "routing.yaml").read_text()
    for line in (
        "price: {",
        "quota: {",
        "stream_usage: false",
        "prefill: message",
        "on_cut: continue",
        "transport: httpx",
        "proxy: http",
        "ca_file: /etc",
    ):
        assert f"# {line}" in text
        text = text.replace(f"# {line}", line)
    tenants = (CONFIG / "tenants.yaml").read_text().replace("# redaction: {", "redaction: {")
    prices = (CONFIG / "prices.yaml").read_text().replace("# gpt-4o-2024", "gpt-4o-2024")
    settings = loads(text + tenants + prices, {})
    assert settings.providers["openai"].transport == "httpx"
    assert settings.tenants["acme"].redaction.mode == "mask"
    assert "gpt-4o-2024-11-20" in settings.prices


def test_everything_documented_is_understood_and_only_refused_where_it_is_not_built() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        loads(DOCUMENTED, {"GATEWAY_ADMIN_TOKEN": "x" * 32, "OPENAI_API_KEY": "sk"})
    assert {fault.message for fault in caught.value.faults if "not built yet" not in fault.message} == set()


def test_the_documented_defaults() -> None:
    text = re.sub(
        r"(?m)^    (limits|model_limits|budget|redaction|fallbacks|retry|breaker|cache): .*\n",
        "",
        DOCUMENTED,
    )
    text = re.sub(r"(?m)^    degrade: .*\n", "", text).replace("fallback_on", "# fallback_on")
    settings = loads(text, {"GATEWAY_ADMIN_TOKEN": "", "OPENAI_API_KEY": ""})
    model, tenant = settings.models["gpt-4o"], settings.tenants["acme"]
    assert settings.server == Settings().server
    assert settings.storage == Settings().storage
    assert model.fallback_on == ("error", "rate_limit", "timeout")
    assert (model.cache.mode, model.degrade.mode, model.on_cut) == ("off", "none", "fail")
    assert (tenant.limits, tenant.budget, tenant.model_limits) == (None, None, {})
    assert (tenant.redaction.mode, tenant.on_unknown_price, tenant.on_disconnect) == (
        "off",
        "deny",
        "abort",
    )
    assert (tenant.on_storage_loss.limits, tenant.on_storage_loss.budget) == ("local_share", "lease")
    assert settings.models["gpt-4o-mini"].timeouts.first_event_s is None


def test_the_schema_is_valid_and_takes_what_the_loader_takes() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for file in CONFIG.iterdir():
        assert list(validator.iter_errors(raw(file.read_text()))) == [], file
    assert list(validator.iter_errors(raw(DOCUMENTED))) == []
    assert list(validator.iter_errors(raw("server: {port: '${PORT}', workers:}"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "serverr: {}",
        "server: {port: 70000}",
        "server: {port: x}",
        "server: {hosst: x}",
        "aliases: {a b: c}",
        "models: {m: {strategy: none, deployments: []}}",
        "tenants: {t: {models: [x], keys: [{id: a, hash: abc}]}}",
        "prices: {x: {}}",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(raw(text))) != []
    with pytest.raises(ConfigInvalid):
        loads(text, {})


def test_the_schema_knows_and_describes_every_documented_key() -> None:
    schema = json_schema()
    described = {
        name: value["description"]
        for section in [schema, *schema["$defs"].values()]
        for name, value in section["properties"].items()
    }
    documented = set(re.findall(r"([a-z_]+):(?= |$)", DOCUMENTED, re.MULTILINE))
    chosen_by_operators = {
        "openai",
        "fast",
        "acme",
        "feature",
        "gpt-4o",
        "claude-sonnet",
        "o",
        "sonnet",
        "mini",
    }
    assert documented - chosen_by_operators - described.keys() == set()
    for name, sentence in described.items():
        assert sentence.endswith("."), name
        assert 15 < len(sentence) < 200, name


def test_importing_the_settings_loads_no_heavy_package() -> None:
    heavy = ("litellm", "httpx", "presidio_analyzer", "fastapi", "uvicorn", "jsonschema")
    code = f"import sys, gateway.settings; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(json_schema())) == json_schema()
