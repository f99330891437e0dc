"""Where text stands in the messages API of Anthropic."""

from __future__ import annotations

from gateway.privacy.slots import ENCODED, KEEP, NAMES, NUMBERS, TEXT, Rule, Shape, Skip, Typed


def _keep(names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), KEEP)


_MEDIA = _keep("type media_type")
_CACHED = Shape(_keep("type ttl"))
_COMMON: dict[str, Rule] = {**_keep("type id"), "cache_control": _CACHED}
_FOUND = Shape(
    {
        **_COMMON,
        **_keep("page_age error_code"),
        **dict.fromkeys(("encrypted_content", "encrypted_index"), ENCODED),
    }
)
"""A result of a search."""


def _blocks(inner: Rule) -> Typed:
    """Blocks of content; ``inner``: those inside of documents and results."""
    source = Typed(
        {"text": Shape(_MEDIA), "content": Shape({**_MEDIA, "content": inner})}, Skip("document", NAMES)
    )
    called = Shape({**_COMMON, **_keep("name server_name caller"), "input": TEXT})
    result = Shape({**_COMMON, "tool_use_id": KEEP, "content": inner})
    searched = Shape(
        {**_COMMON, "tool_use_id": KEEP, "content": Shape({**_FOUND.fields, "content": inner})}
    )
    return Typed(
        {
            "image": Shape({**_COMMON, "source": Skip("image", NAMES)}),
            "document": Shape({**_COMMON, "citations": Shape(_keep("enabled")), "source": source}),
            "thinking": Shape({**_COMMON, "signature": ENCODED}),
            "redacted_thinking": Shape({**_COMMON, "data": ENCODED}),
            "container_upload": Shape({**_COMMON, "file_id": Skip("file")}),
            **dict.fromkeys(("tool_use", "server_tool_use", "mcp_tool_use"), called),
            **dict.fromkeys(("tool_result", "mcp_tool_result"), result),
            **dict.fromkeys(("web_search_tool_result", "web_fetch_tool_result"), searched),
            "search_result": Shape({**_COMMON, "content": Shape(_COMMON)}),
        },
        Shape({**_COMMON, "citations": _FOUND, "source": Skip("file", NAMES), "file_id": Skip("file")}),
    )


_BLOCKS = _blocks(_blocks(Shape({**_COMMON, "source": Skip("file", NAMES)})))
_MESSAGE = Shape({"role": KEEP, "content": _BLOCKS})
ANTHROPIC_REQUEST = Shape(
    {
        **_keep("model stream service_tier container"),
        **dict.fromkeys("max_tokens temperature top_p top_k".split(), NUMBERS),
        "tool_choice": Shape(_keep("type name disable_parallel_tool_use")),
        "thinking": Shape({"type": KEEP, "budget_tokens": NUMBERS}),
        "mcp_servers": Shape({**_keep("type name"), "authorization_token": Skip("authorization")}),
        "system": _BLOCKS,
        "messages": _MESSAGE,
        "tools": Shape({**_keep("type name"), "cache_control": _CACHED}),
    }
)
ANTHROPIC_ANSWER = Shape(
    {
        **_keep("id type role model stop_reason"),
        "usage": NUMBERS,
        "content": _BLOCKS,
        "error": Shape(_keep("type")),
    }
)
