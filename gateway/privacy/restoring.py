"""Opening the placeholders in JSON as it is written, whose characters may be escaped."""

from __future__ import annotations

from gateway.privacy.json_text import JsonText, escaped
from gateway.privacy.placeholders import FORM, Placeholders


def restored_json(raw: str, placeholders: Placeholders) -> str:
    """``raw`` JSON, or a part of it that begins outside of an escape, with the values instead of this
    exchange's placeholders."""
    if "[" not in raw and "\\u00" not in raw:
        return raw
    if "\\" not in raw:
        return placeholders.restore(raw, escaped)
    view = JsonText(raw)
    pieces: list[str] = []
    behind = 0
    for found in FORM.finditer(view.text):
        value = placeholders.restore(found[0], escaped)
        if value != found[0]:
            pieces += (raw[behind : view.index(found.start())], value)
            behind = view.index(found.end())
    pieces.append(raw[behind:])
    return "".join(pieces)
