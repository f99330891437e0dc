"""Where text stands in the Responses API of OpenAI."""

from __future__ import annotations

from gateway.privacy.slots import ENCODED, JSON, KEEP, NAMES, NUMBERS, TEXT, WHOLE, Rule, Shape, Skip, Typed


def _keep(names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), KEEP)


_PART = Shape(
    {
        **_keep("type detail"),
        "image_url": Skip("image_url", NAMES),
        "input_audio": Skip("input_audio", NAMES),
        "file_id": Skip("file"),
        "file_data": Skip("file"),
        "file_url": Skip("file"),
        "annotations": WHOLE,
    }
)
_ITEM: dict[str, Rule] = _keep("type id status call_id")
_CALLED: dict[str, Rule] = {**_ITEM, **_keep("name server_label approval_request_id"), "arguments": JSON}
_OUTPUT = Shape({**_CALLED, "output": _PART})
_ITEMS = Typed(
    {
        **dict.fromkeys("function_call mcp_call mcp_approval_request".split(), _OUTPUT),
        **dict.fromkeys(
            "function_call_output computer_call_output custom_tool_call_output".split(), _OUTPUT
        ),
        "custom_tool_call": Shape({**_CALLED, "input": TEXT}),
        "reasoning": Shape({**_ITEM, "summary": _PART, "content": _PART, "encrypted_content": ENCODED}),
        "image_generation_call": Shape({**_ITEM, "result": Skip("image")}),
        "code_interpreter_call": Shape({**_ITEM, "container_id": KEEP}),
        "mcp_list_tools": Shape({**_ITEM, "server_label": KEEP, "tools": Shape(_keep("name"))}),
    },
    Shape({**_ITEM, "role": KEEP, "content": _PART}),
)
_FORMAT = Shape({"format": Shape(_keep("type name strict")), "verbosity": KEEP})
_TOOL = Shape(
    {
        **_keep("type name strict server_label connector_id allowed_tools require_approval"),
        **_keep("vector_store_ids container"),
        "authorization": Skip("authorization"),
        "headers": Skip("authorization"),
    }
)
_SHARED: dict[str, Rule] = {
    **_keep("model previous_response_id include truncation service_tier prompt_cache_retention"),
    **dict.fromkeys("max_output_tokens max_tool_calls temperature top_p top_logprobs".split(), NUMBERS),
    "tool_choice": Shape(_keep("type name mode")),
    "conversation": Shape(_keep("id")),
    "reasoning": Shape(_keep("effort summary")),
    "stream_options": Shape(_keep("include_obfuscation")),
    "tools": _TOOL,
    "text": _FORMAT,
    "prompt": Shape({**_keep("id version"), "variables": TEXT}),
}
RESPONSES_REQUEST = Shape({**_SHARED, "input": _ITEMS})
RESPONSES_ANSWER = Shape(
    {
        **_SHARED,
        **_keep("id object status"),
        **dict.fromkeys("created_at completed_at usage".split(), NUMBERS),
        "incomplete_details": Shape(_keep("reason")),
        "error": Shape(_keep("code")),
        "instructions": _ITEMS,
        "output": _ITEMS,
    }
)
