"""The JSON Schema of the configuration."""

from __future__ import annotations

from typing import Any

from gateway.settings.root import Settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_NULL = {"type": "null"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum"}
_ABOUT = ("description", "default")

Schema = dict[str, Any]


def json_schema() -> Schema:
    """What editors check and complete a configuration with; its descriptions are the documentation.

    It takes ``${NAME}`` wherever a scalar stands, and a key without a value where the key may be absent.
    """
    schema = Settings.model_json_schema()
    sections = [schema, *schema.pop("$defs").values()]
    definitions = {section["title"]: _section(section) for section in sections}
    root = definitions.pop(Settings.__name__)
    return {"$schema": _DIALECT, **root, "$defs": definitions}


def _section(schema: Schema) -> Schema:
    required = schema.get("required", [])
    properties = {
        name: _property(value, optional=name not in required)
        for name, value in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _property(schema: Schema, *, optional: bool) -> Schema:
    schema = _value({key: value for key, value in schema.items() if key != "title"})
    about = {key: schema.pop(key) for key in _ABOUT if key in schema}
    accepted = schema["anyOf"] if list(schema) == ["anyOf"] else [schema]
    if optional and _NULL not in accepted:
        accepted = [*accepted, _NULL]
    return {**(accepted[0] if len(accepted) == 1 else {"anyOf": accepted}), **about}


def _value(schema: Schema) -> Schema:
    """The schema of a value, and of what is in it, with variables."""
    about = {key: schema[key] for key in _ABOUT if key in schema}
    own = {_BOUNDS.get(key, key): value for key, value in schema.items() if key not in _ABOUT}
    for key in ("items", "additionalProperties"):
        if isinstance(own.get(key), dict):
            own[key] = _value(own[key])
    if "patternProperties" in own:
        own["patternProperties"] = {k: _value(v) for k, v in own["patternProperties"].items()}
        own["additionalProperties"] = False
    if "anyOf" in own:
        accepted = [_value(one) for one in own["anyOf"]]
        return {"anyOf": _flat(accepted), **about}
    if _takes_variable(own):
        return {"anyOf": [own, _VARIABLE], **about}
    return {**own, **about}


def _takes_variable(schema: Schema) -> bool:
    kind = schema.get("type")
    narrow = {"pattern", "enum", "const", "format"} & schema.keys()
    return kind in ("integer", "number", "boolean") or (kind == "string" and bool(narrow))


def _flat(accepted: list[Schema]) -> list[Schema]:
    """Alternatives of alternatives as one list, each once."""
    flat: list[Schema] = []
    for one in accepted:
        for each in one["anyOf"] if list(one) == ["anyOf"] else [one]:
            if each not in flat:
                flat.append(each)
    return flat
