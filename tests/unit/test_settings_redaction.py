"""``redaction`` and ``privacy``: what they mean, and every fault with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.privacy.entities import LANGUAGES
from gateway.settings import ConfigInvalid, RedactionSettings, Settings, json_schema, load, loads
from gateway.settings.redaction import DEFAULT_ENTITIES, DEFAULT_REGIONS, RedactionFields
from tests.unit.test_settings_faults import VALID, faults

KEY = "k" * 16
FAST = (
    "API_KEY, CREDIT_CARD, CRYPTO, EMAIL_ADDRESS, IBAN_CODE, IP_ADDRESS, JWT, MAC_ADDRESS, PHONE_NUMBER, "
)
FAST += "PRIVATE_KEY, URL, US_ITIN, US_SSN"
HERE = "c.yaml:17: tenants.acme.redaction"


def redacting(section: str, privacy: str = "") -> str:
    """The valid configuration with ``redaction`` from line 17 on, and ``privacy`` at the end."""
    text = VALID.replace("    keys:", f"    redaction: {section}\n    keys:")
    return text + (f"privacy: {privacy}\n" if privacy else "")


def redaction(section: str, privacy: str = "") -> RedactionSettings:
    return loads(redacting(section, privacy), {}).tenants["acme"].redaction


def test_the_defaults() -> None:
    off = loads(VALID, {}).tenants["acme"].redaction
    assert off.mode == "off"
    one = redaction("{mode: mask}")
    assert one.entities == DEFAULT_ENTITIES
    assert "URL" not in one.looked_for
    assert (one.restore, one.direction, one.actions, one.engine, one.scan) == (
        False,
        "both",
        {},
        "fast",
        "flagged",
    )
    assert (one.languages, one.threshold, one.phone_regions) == (("en",), 0.4, DEFAULT_REGIONS)
    assert (one.uncovered, one.on_failure, one.budget_s) == ("refuse", "refuse", 2)
    privacy = loads(VALID, {}).privacy
    assert (privacy.hash_key, privacy.model_path, privacy.processes) == (None, None, 1)


def test_the_default_regions_are_those_of_the_detector() -> None:
    from gateway.privacy import detect_fast

    assert detect_fast.DEFAULT_REGIONS == DEFAULT_REGIONS
    assert set(DEFAULT_ENTITIES) < detect_fast.SUPPORTED


def test_a_model_has_what_it_says_and_else_what_the_tenant_has() -> None:
    one = redaction(
        "{mode: mask, restore: true, threshold: 0.5, actions: {US_SSN: block}, models: "
        "{gpt-4o: {mode: block, entities: [EMAIL_ADDRESS], threshold: }}}"
    )
    here = one.at("gpt-4o")
    assert (here.mode, here.entities, here.threshold) == ("block", ("EMAIL_ADDRESS",), 0.5)
    assert (here.restore, here.actions) == (True, {"US_SSN": "block"})
    assert one.at("other") is one
    assert one.at(None) is one


def test_recognisers_are_read_as_presidio_writes_them() -> None:
    one = redaction(
        "\n      mode: mask\n      recognisers:\n"
        "        - name: staff\n          supported_entity: EMPLOYEE_ID\n"
        "          patterns: [{name: p, regex: 'EMP-\\d{6}', score: 0.6}]\n"
        "          context: [badge]\n          enabled: true\n          global_regex_flags: 2\n"
        "        - name: room\n          supported_entities: [ROOM]\n          deny_list: [R1, '007']\n"
        "          supported_languages: [en, {language: de, context: [Raum]}]\n"
        "        - {name: later, supported_entity: LATER, deny_list: [x], enabled: false}\n"
    )
    assert one.looked_for == {*DEFAULT_ENTITIES, "EMPLOYEE_ID", "ROOM"}
    spec = one.detector(loads(VALID, {}).privacy)
    assert json.loads(spec.recognisers) == [
        {
            "name": "staff",
            "supported_entity": "EMPLOYEE_ID",
            "patterns": [{"name": "p", "regex": r"EMP-\d{6}", "score": 0.6}],
            "context": ["badge"],
            "enabled": True,
            "global_regex_flags": 2,
        },
        {
            "name": "room",
            "supported_entities": ["ROOM"],
            "deny_list": ["R1", "007"],
            "supported_languages": [{"language": "en"}, {"language": "de", "context": ["Raum"]}],
        },
    ]


def test_equal_wishes_are_one_detector() -> None:
    privacy = loads(VALID, {}).privacy
    one = redaction("{mode: mask, entities: [EMAIL_ADDRESS, US_SSN], phone_regions: [US]}")
    other = redaction("{mode: block, entities: [US_SSN, EMAIL_ADDRESS], actions: {US_SSN: flag}}")
    assert one.detector(privacy) == other.detector(privacy)
    assert one.detector(privacy) != redaction("{mode: mask}").detector(privacy)


def test_a_model_of_names_is_only_part_of_detectors_that_need_it(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").touch()
    settings = loads(
        redacting(
            "{mode: mask, engine: presidio, entities: [PERSON], models: {gpt-4o: {entities: [UK_NHS]}}}",
            f"{{model_path: {tmp_path}}}",
        ),
        {},
    )
    one = settings.tenants["acme"].redaction
    assert one.detector(settings.privacy).model_path == str(tmp_path)
    assert one.at("gpt-4o").detector(settings.privacy).model_path is None


SINGLE = {
    "no mode": (
        "{entities: [EMAIL_ADDRESS]}",
        f"{HERE}.mode: is missing: without it the rest has no effect",
    ),
    "unknown entity": (
        "{mode: mask, entities: [US_SSN, EMAIL_ADRESS]}",
        f"{HERE}.entities[1]: 'EMAIL_ADRESS' is nothing that the engine fast finds; it finds {FAST} "
        "(did you mean EMAIL_ADDRESS?)",
    ),
    "entity in small letters": (
        "{mode: mask, entities: [us_ssn]}",
        f"{HERE}.entities[0]: 'us_ssn' is nothing that the engine fast finds; it finds {FAST} "
        "(did you mean US_SSN?)",
    ),
    "entity of the other engine": (
        "{mode: mask, entities: [UK_NHS]}",
        f"{HERE}.entities[0]: UK_NHS needs engine: presidio",
    ),
    "name with the fast engine": (
        "{mode: mask, entities: [PERSON]}",
        f"{HERE}.entities[0]: PERSON needs engine: presidio, and a model in privacy.model_path",
    ),
    "name without a model": (
        "{mode: mask, engine: presidio, entities: [PERSON]}",
        f"{HERE}.entities[0]: PERSON is found by a model: name its folder in privacy.model_path",
    ),
    "name without a model, at one model": (
        "{mode: mask, models: {gpt-4o: {engine: presidio, entities: [NRP]}}}",
        f"{HERE}.models.gpt-4o.entities[0]: NRP is found by a model: name its folder in privacy.model_path",
    ),
    "inherited entity that the engine of a model does not have": (
        "{mode: mask, engine: presidio, entities: [UK_NHS], models: {gpt-4o: {engine: fast}}}",
        f"{HERE}.models.gpt-4o.engine: UK_NHS needs engine: presidio",
    ),
    "no words": (
        "{mode: mask, entities: [DENY_LIST, US_SSN]}",
        f"{HERE}.entities[0]: DENY_LIST has no words: write them into deny",
    ),
    "nothing": (
        "{mode: mask, entities: []}",
        f"{HERE}.entities: names nothing: there is nothing to look for",
    ),
    "entity of a recogniser that is not used": (
        "{mode: mask, entities: [ROOM], recognisers: "
        "[{name: r, supported_entity: ROOM, deny_list: [x], enabled: false}]}",
        f"{HERE}.entities[0]: 'ROOM' is nothing that the engine fast finds; it finds {FAST}",
    ),
    "action for what is not looked for": (
        "{mode: mask, entities: [EMAIL_ADDRESS], actions: {EMAIL_ADDRES: block}}",
        f"{HERE}.actions.EMAIL_ADDRES: is not looked for: write it into entities, or take it out here "
        "(did you mean EMAIL_ADDRESS?)",
    ),
    "action of a model for what is not looked for": (
        "{mode: mask, models: {gpt-4o: {actions: {URL: flag}}}}",
        f"{HERE}.models.gpt-4o.actions.URL: is not looked for: write it into entities, or take it out here",
    ),
    "no such action": (
        "{mode: mask, actions: {US_SSN: blok}}",
        f"{HERE}.actions.US_SSN: must be 'mask', 'restore', 'hash', 'block' or 'flag', not 'blok' "
        "(did you mean block?)",
    ),
    "restore without masks": (
        "{mode: flag, restore: true}",
        f"{HERE}.restore: needs mode: mask; mode flag leaves nothing to put back",
    ),
    "restore without requests": (
        "{mode: mask, restore: true, direction: output}",
        f"{HERE}.restore: needs direction: both or input; nothing else is put back",
    ),
    "restore of a model without masks": (
        "{mode: block, models: {gpt-4o: {restore: true}}}",
        f"{HERE}.models.gpt-4o.restore: needs mode: mask; mode block leaves nothing to put back",
    ),
    "hash without a key": (
        "{mode: hash}",
        f"{HERE}.mode: hash needs privacy.hash_key; make one with: openssl rand -hex 32",
    ),
    "hash of one entity without a key": (
        "{mode: mask, actions: {US_SSN: hash}}",
        f"{HERE}.actions.US_SSN: hash needs privacy.hash_key; make one with: openssl rand -hex 32",
    ),
    "hash at a model without a key": (
        "{mode: off, models: {gpt-4o: {mode: hash}}}",
        f"{HERE}.models.gpt-4o.mode: hash needs privacy.hash_key; make one with: openssl rand -hex 32",
    ),
    "threshold": (
        "{mode: mask, threshold: 1.5}",
        f"{HERE}.threshold: must be at most 1, not '1.5'",
    ),
    "threshold of a model": (
        "{mode: mask, models: {gpt-4o: {threshold: -1}}}",
        f"{HERE}.models.gpt-4o.threshold: must be at least 0, not '-1'",
    ),
    "budget": ("{mode: mask, budget_s: 61}", f"{HERE}.budget_s: must be at most 60, not '61'"),
    "languages of the fast engine": (
        "{mode: mask, languages: [de]}",
        f"{HERE}.languages: does nothing with engine: fast; it needs engine: presidio",
    ),
    "scan of the fast engine": (
        "{mode: mask, scan: all}",
        f"{HERE}.scan: does nothing with engine: fast; it needs engine: presidio",
    ),
    "scan of the fast engine at a model": (
        "{mode: mask, engine: presidio, models: {gpt-4o: {engine: fast, scan: all}}}",
        f"{HERE}.models.gpt-4o.scan: does nothing with engine: fast; it needs engine: presidio",
    ),
    "regions of the wide engine": (
        "{mode: mask, engine: presidio, phone_regions: [US]}",
        f"{HERE}.phone_regions: does nothing with engine: presidio, which goes by languages",
    ),
    "no language": (
        "{mode: mask, engine: presidio, languages: [English]}",
        f"{HERE}.languages[0]: must be a language such as en or de, not 'English'",
    ),
    "language that nothing speaks": (
        "{mode: mask, engine: presidio, languages: [en, xx]}",
        f"{HERE}.languages[1]: 'xx' is no language of a recogniser; there is de, en, es, fi, fr, he, hi, "
        "it, ko, nl, pl, pt, sv, th, tr",
    ),
    "language that nothing speaks, at a model": (
        "{mode: mask, models: {gpt-4o: {engine: presidio, languages: [xx]}}}",
        f"{HERE}.models.gpt-4o.languages[0]: 'xx' is no language of a recogniser; there is de, en, es, fi, "
        "fr, he, hi, it, ko, nl, pl, pt, sv, th, tr",
    ),
    "no languages": (
        "{mode: mask, engine: presidio, languages: []}",
        f"{HERE}.languages: must not be empty",
    ),
    "no region": (
        "{mode: mask, phone_regions: [us]}",
        f"{HERE}.phone_regions[0]: must be a region such as US or DE, not 'us'",
    ),
    "no such region": (
        "{mode: mask, phone_regions: [GB, UK]}",
        f"{HERE}.phone_regions[1]: is no region with phone numbers; ISO 3166 names them: US, GB, DE",
    ),
    "pattern that is refused": (
        "{mode: mask, allow_patterns: ['a.*', 'a(?!b)']}",
        f"{HERE}.allow_patterns[1]: is not a pattern of RE2: invalid perl operator: (?!",
    ),
    **{
        f"pattern that allows everything: {pattern}": (
            f"{{mode: mask, allow_patterns: ['a.*', '{pattern}']}}",
            f"{HERE}.allow_patterns[1]: would allow everything: write what a whole value is, as in "
            r".+@example\.com",
        )
        for pattern in (".*", ".+", ".", ".{8,}", r"\S+", "[^ ]*", "(?s).*", "a|.*", "^.*$")
    },
    **{
        f"pattern that matches the empty text: {pattern}": (
            f"{{mode: mask, allow_patterns: ['{pattern}']}}",
            f"{HERE}.allow_patterns[0]: matches the empty text: write what a whole value is, as in "
            r".+@example\.com",
        )
        for pattern in ("a*", "(info@example)?", "|x", "^$")
    },
    "pattern of a model that allows everything": (
        "{mode: mask, models: {gpt-4o: {allow_patterns: ['.*']}}}",
        f"{HERE}.models.gpt-4o.allow_patterns[0]: would allow everything: write what a whole value is, as "
        r"in .+@example\.com",
    ),
    "restore where only answers are searched": (
        "{mode: mask, direction: output, actions: {US_SSN: restore}}",
        f"{HERE}.actions.US_SSN: restore needs direction: both or input; nothing else is put back",
    ),
    "restore at a model where only answers are searched": (
        "{mode: mask, direction: output, models: {gpt-4o: {actions: {US_SSN: restore}}}}",
        f"{HERE}.models.gpt-4o.actions.US_SSN: restore needs direction: both or input; nothing else is put "
        "back",
    ),
    **{
        f"recogniser of {entity}": (
            f"{{mode: mask, recognisers: [{{name: r, supported_entity: {entity}, deny_list: [x]}}]}}",
            f"{HERE}.recognisers[0].supported_entity: {entity} is reserved; take another name",
        )
        for entity in ("LITERAL", "DENY_LIST")
    },
    **{
        f"recogniser of what is no name: {entity}": (
            f"{{mode: mask, recognisers: [{{name: r, supported_entity: {entity}, deny_list: [x]}}]}}",
            f"{HERE}.recognisers[0].supported_entity: use capitals, digits and _, as in EMPLOYEE_ID",
        )
        for entity in ("Room", "ROOM-2", "2ROOM", "_ROOM", "MY ROOM", "RÄUME")
    },
    "unknown key of a recogniser": (
        "{mode: mask, recognisers: [{name: r, supported_entity: ROOM, pattern: []}]}",
        f"{HERE}.recognisers[0].pattern: is not a known key (did you mean patterns?)",
    ),
    "score of a recogniser": (
        "{mode: mask, recognisers: [{name: r, supported_entity: ROOM, patterns: [{regex: x, score: 2}]}]}",
        f"{HERE}.recognisers[0].patterns[0].score: must be at most 1, not '2'",
    ),
    "pattern of a recogniser": (
        "{mode: mask, recognisers: [{name: r, supported_entity: ROOM, "
        "patterns: [{regex: x, score: 1}, {regex: '(a)\\1', score: 1}]}]}",
        f"{HERE}.recognisers[0].patterns[1].regex: the pattern is refused by RE2 (invalid escape sequence: "
        "\\1); they run in linear time, so rewrite it without look-around and back-references",
    ),
    "entity of a recogniser": (
        "{mode: mask, recognisers: [{name: r, supported_entity: room, deny_list: [x]}]}",
        f"{HERE}.recognisers[0].supported_entity: use capitals, digits and _, as in EMPLOYEE_ID",
    ),
    "recogniser of nothing": (
        "{mode: mask, recognisers: [{name: r, supported_entity: ROOM}]}",
        f"{HERE}.recognisers[0]: give `patterns` or `deny_list`, or there is nothing to find",
    ),
    "recogniser at a model": (
        "{mode: mask, models: {gpt-4o: {recognisers: [{name: r, supported_entity: A, deny_list: []}]}}}",
        f"{HERE}.models.gpt-4o.recognisers[0].deny_list: must be a list of words",
    ),
    "no such model": (
        "{mode: mask, models: {gpt4o: {mode: block}}}",
        f"{HERE}.models.gpt4o: is not a model group of this configuration (did you mean gpt-4o?)",
    ),
    "alias for a model": (
        "{mode: mask, models: {fast: {mode: block}}}",
        f"{HERE}.models.fast: is an alias; name its model group 'gpt-4o'",
    ),
    "models of a model": (
        "{mode: mask, models: {gpt-4o: {models: {}}}}",
        f"{HERE}.models.gpt-4o.models: is not a known key (did you mean mode?)",
    ),
}


@pytest.mark.parametrize("case", SINGLE)
def test_one_fault_with_its_line_and_no_other(case: str) -> None:
    section, wanted = SINGLE[case]
    assert faults(redacting(section)) == [wanted]


def test_faults_stand_at_their_own_lines_beside_others() -> None:
    text = redacting(
        "\n      mode: mask\n      entities:\n        - US_SSN\n        - UK_NHS\n      models:\n"
        "        gpt-4o:\n          threshold: 0.5\n          scan: all\n"
    ).replace("8080", "x")
    assert [one.split(": ")[0] + one.rpartition(":")[2] for one in faults(text)] == [
        "c.yaml:2 must be a whole number in decimal digits, not 'x'",
        "c.yaml:21 presidio",
        "c.yaml:25 presidio",
    ]


def test_what_is_off_is_not_looked_at() -> None:
    section = "{mode: off, entities: [PERSON], restore: true, scan: all, actions: {X: hash}}"
    assert redaction(section).mode == "off"
    wrong = section.replace("{mode: off", "{models: {gpt-4o: {mode: off}}, mode: mask")
    assert all(".models." not in one for one in faults(redacting(wrong)))
    code = f"import sys; from gateway.settings import loads; loads({redacting(section)!r}, {{}});"
    code += "print([m for m in sys.modules if 're2' in m or 'presidio_a' in m or 'phonenumbers' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_tenant_has_for_its_other_models_is_no_fault() -> None:
    for section in (
        "{mode: mask, restore: true, models: {gpt-4o: {mode: block}}}",
        "{mode: mask, actions: {US_SSN: block}, models: {gpt-4o: {entities: [EMAIL_ADDRESS]}}}",
        "{mode: mask, languages: [de], scan: all, models: {gpt-4o: {engine: presidio}}}",
        "{mode: mask, engine: presidio, phone_regions: [US], models: {gpt-4o: {engine: fast}}}",
        "{mode: mask, entities: [], recognisers: [{name: r, supported_entity: R, deny_list: [x]}]}",
        "{mode: mask, entities: [], deny: [Falcon], actions: {DENY_LIST: block}}",
        "{mode: flag, actions: {US_SSN: restore}}",
        "{mode: mask, actions: {US_SSN: restore}, models: {gpt-4o: {direction: output}}}",
        r"{mode: mask, allow_patterns: ['.+@example\.com', '\d+', '[a-z]+', '.*@.*']}",
        "{mode: mask, engine: presidio, languages: [en, ja], recognisers: [{name: r, supported_entity: R, "
        "deny_list: [x], supported_languages: [ja]}]}",
        "{mode: mask, engine: presidio, languages: [ja], recognisers: [{name: r, supported_entity: R, "
        "deny_list: [x], supported_language: ja}]}",
    ):
        assert redaction(section).mode != "off"


def test_a_variable_in_a_pattern_is_not_told() -> None:
    text = redacting("{mode: mask, allow_patterns: ['(?!${P})']}")
    assert faults(text, {"P": "secret"}) == [f"{HERE}.allow_patterns[0]: is refused"]


PRIVACY = {
    "short key": (
        "{hash_key: hunter2}",
        "hash_key: must have at least 16 characters; make one with: openssl rand -hex 32",
    ),
    "no model": ("{model_path: /no/model}", "model_path: does not exist: put a spaCy model's folder there"),
    "no processes": ("{processes: 0}", "processes: must be at least 1, not '0'"),
    "unknown key": ("{hashkey: x}", "hashkey: is not a known key (did you mean hash_key?)"),
}


@pytest.mark.parametrize("case", PRIVACY)
def test_faults_of_privacy(case: str) -> None:
    section, wanted = PRIVACY[case]
    assert faults(redacting("{mode: mask}", section)) == [f"c.yaml:25: privacy.{wanted}"]


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    assert faults(redacting("{mode: mask}", f"{{model_path: {tmp_path}}}")) == [
        "c.yaml:25: privacy.model_path: is no spaCy model: it has no config.cfg; name the folder that "
        "holds it"
    ]


def test_the_key_of_hashes_is_hidden_and_part_of_the_digest() -> None:
    text = redacting("{mode: hash}", "{hash_key: '${KEY}'}")
    one, other = loads(text, {"KEY": KEY}), loads(text, {"KEY": KEY + "2"})
    assert one.public()["privacy"]["hash_key"] == "***"
    assert KEY not in json.dumps(one.public())
    assert KEY not in repr(one)
    assert one.digest != other.digest
    assert one.digest == loads(text, {"KEY": KEY}).digest
    assert loads(text.replace("hash}", "mask}"), {"KEY": ""}).privacy.hash_key is None


def test_the_digest_changes_with_what_holds_for_one_model() -> None:
    section = "{mode: mask, models: {gpt-4o: {threshold: 0.5}}}"
    assert loads(redacting(section), {}).digest != loads(redacting(section.replace("5", "6")), {}).digest
    assert Settings().digest != ""


def test_a_detector_that_cannot_be_built_is_a_fault_where_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = 'en'\n")
    file = tmp_path / "c.yaml"
    section = "{mode: mask, models: {gpt-4o: {engine: presidio, entities: [PERSON]}}}"
    file.write_text(redacting(section, f"{{model_path: {tmp_path}}}"))
    assert load(file, {}).privacy.model_path == tmp_path
    with pytest.raises(ConfigInvalid) as caught:
        load(file, {}, build=True)
    (fault,) = caught.value.faults
    assert (fault.line, fault.key_path) == (17, "tenants.acme.redaction.models.gpt-4o")
    assert fault.message.startswith(f"{tmp_path}: the model cannot be loaded (OSError: ")


def test_a_model_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    names = "engine: presidio, entities: [PERSON]"
    section = f"{{mode: mask, {names}, models: {{gpt-4o: {{{names}, threshold: 0.5}}}}}}"
    for folder, wrong in ((tmp_path / "none", "does not exist"), (tmp_path, "is no spaCy model")):
        with pytest.raises(ConfigInvalid) as caught:
            loads(redacting(section, f"{{model_path: {folder}}}"), {}, build=True)
        (fault,) = caught.value.faults
        assert fault.key_path == "privacy.model_path" and fault.message.startswith(wrong)
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = 'en'\n")
    with pytest.raises(ConfigInvalid) as caught:
        loads(redacting(section, f"{{model_path: {tmp_path}}}"), {}, build=True)
    (fault,) = caught.value.faults
    assert "the model cannot be loaded" in fault.message


def test_a_model_of_names_may_speak_any_language(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").touch()
    section = "{mode: mask, engine: presidio, entities: [PERSON], languages: [xx, en]}"
    privacy = f"{{model_path: {tmp_path}}}"
    assert loads(redacting(section, privacy), {}).tenants["acme"].redaction.languages == ("xx", "en")
    (wrong,) = faults(redacting(section.replace("xx, en", "en, xx"), privacy))
    assert wrong.startswith(f"{HERE}.languages[1]: 'xx' is no language")


def test_the_languages_are_those_of_presidio() -> None:
    from gateway.privacy.presidio_catalogue import catalogue
    from gateway.privacy.presidio_phone import REGIONS

    spoken = {kind().supported_language for kinds in catalogue().values() for kind in kinds}
    assert spoken | REGIONS.keys() == LANGUAGES


def test_what_can_be_built_is_no_fault() -> None:
    section = (
        "{mode: mask, recognisers: [{name: r, supported_entity: R, deny_list: [x]}], "
        "models: {gpt-4o: {engine: presidio}}}"
    )
    assert loads(redacting(section), {}, build=True).tenants["acme"].redaction.mode == "mask"


def test_what_a_model_may_say_is_all_that_a_tenant_may_say() -> None:
    definitions = json_schema()["$defs"]
    own, overriding = (
        definitions[name]["properties"] for name in ("RedactionSettings", "ModelRedactionSettings")
    )
    assert own.keys() - overriding.keys() == {"models"}
    assert overriding.keys() == RedactionFields.model_fields.keys()
    assert all(overriding[name]["description"] == own[name]["description"] for name in overriding)
