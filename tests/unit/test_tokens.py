from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from gateway.accounting.tokens import (
    IMAGE_LOW_DETAIL_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    REPLY_PRIMER_TOKENS,
    estimate_prompt,
    estimate_text,
    estimate_tokens_from_bytes,
    tokens_of,
    weigh,
)

PROSE = """The harbour was quiet before sunrise, and the only sound came from ropes creaking
against the old
wooden posts. Nobody remembered who had built the first pier, although every family in the village
claimed that a grandfather had carried at least one of its beams. When the ferry finally arrived,
three hours late, its captain explained that fog had covered the strait since midnight and that he
had preferred to wait rather than to trust an instrument he could not repair himself. The
passengers
listened politely, thanked him, and asked whether breakfast would still be served."""
CODE = '''def merge(left: list[int], right: list[int]) -> list[int]:
    """Merge two sorted lists into one."""
    result: list[int] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]


class Ring(Generic[T]):
    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be positive, not {capacity}")
        self._slots: list[T | None] = [None] * capacity
        self._head = 0

    def push(self, item: T) -> None:
        self._slots[self._head % len(self._slots)] = item
        self._head += 1
'''
JSON_TEXT = """{"orders":[{"id":48213,"customer":{"name":"M.
Okafor","country":"NG"},"lines":[{"sku":"AX-4410","qty":3,
"unit_price":"12.50"},{"sku":"BQ-0917","qty":1,"unit_price":"249.00"}],"paid":true,"created_at
":"2026-03-14T09:26:53Z"},
{"id":48214,"customer":{"name":"L.
Brandt","country":"DE"},"lines":[{"sku":"AX-4410","qty":12,"unit_price":"11.90"}],
"paid":false,"created_at":"2026-03-14T09:31:07Z"}],"next_cursor":"b3JkZXI6NDgyMTQ=","has_more"
:true}"""
CHINESE = """港口在日出之前非常安静，只有绳索摩擦旧木桩的声音。
没有人记得第一座码头是谁建造的，虽然村里的每一户人家都说自己的
祖父至少扛过一根横梁。渡轮晚了三个小时才到，船长解释说，从午夜开始海峡就被浓雾笼罩，
他宁愿等待，也不愿相信一台自己无法修理的仪器。
乘客们礼貌地听完，向他道谢，然后询问早餐是否仍然供应。"""
JAPANESE = """日の出前の港は静かで、聞こえるのは古い木の杭にロープがこすれる音だけだった。
最初の桟橋を誰が作ったのか覚えている人はいないが、
村のどの家族も、祖父が少なくとも一本の梁を運んだと言い張っている。
フェリーは三時間遅れて到着し、船長は、真夜中から海峡が霧に覆われていたので、
自分で修理できない計器を信じるよりも待つことを選んだと説明した。乗客たちは礼儀正しく話を聞き、
礼を述べ、朝食はまだ出るのかと尋ねた。"""
RUSSIAN = """Гавань была тиха до восхода солнца, и слышно было только, как скрипят канаты о
старые деревянные сваи. Никто не помнил,
кто построил первый причал, хотя каждая семья в деревне утверждала, что дед нёс хотя бы одну из
его балок. Когда паром наконец
пришёл, с опозданием на три часа, капитан объяснил, что туман накрыл пролив с полуночи и что он
предпочёл подождать, чем верить
прибору, который не может починить сам. Пассажиры вежливо выслушали, поблагодарили и спросили,
будет ли ещё завтрак."""
ARABIC = """كان الميناء هادئا قبل شروق الشمس، ولم يكن يسمع سوى صوت الحبال وهي تحتك بالأعمدة
الخشبية القديمة. لم يتذكر أحد من بنى
الرصيف الأول، مع أن كل عائلة في القرية كانت تقول إن جدها حمل واحدة من عوارضه على الأقل. وعندما
وصلت العبارة أخيرا، متأخرة ثلاث
ساعات، أوضح القبطان أن الضباب غطى المضيق منذ منتصف الليل وأنه فضل الانتظار على الوثوق بجهاز لا
يستطيع إصلاحه بنفسه."""
EMOJI = "🎉🚀😀👍🏽❤️🔥🙏😂👩‍💻🇩🇪✨🎂🐙🌍💡✅⚡️🤖😭🥳🏳️‍🌈🍕🎸📈"
GERMAN = """Der Hafen lag vor Sonnenaufgang still, und zu hören war nur das Knarren der Seile
an den alten Holzpfählen. Niemand wusste
mehr, wer den ersten Steg gebaut hatte, obwohl jede Familie im Dorf behauptete, ein Großvater
habe wenigstens einen seiner Balken getragen."""
KOREAN = """해가 뜨기 전 항구는 조용했고, 오래된 나무 기둥에 밧줄이 스치는 소리만 들렸다. 첫
번째 부두를 누가 지었는지 기억하는 사람은 없었지만,
마을의 모든 집안은 할아버지가 적어도 들보 하나를 날랐다고 말했다. 연락선은 세 시간이나 늦게
도착했고 선장은 자정부터 안개가 해협을 덮었다고 설명했다."""
HINDI = """सूर्योदय से पहले बंदरगाह शांत था और पुराने लकड़ी के खंभों से रगड़ खाती रस्सियों की
आवाज़ ही सुनाई देती थी। किसी को याद नहीं था कि पहला घाट किसने बनाया था।"""

INDENTED = JSON_TEXT.replace(",", ",\n    ").replace("{", "{\n    ").replace(":", ": ")
LOG_LINES = (
    "2026-03-14 09:26:53,118 WARNING [worker-3] retry.py:88 attempt 2/5 failed: "
    "ConnectionResetError(104, 'Connection reset by peer')\n"
) * 5
SQL = (
    "SELECT c.name, COUNT(*) AS orders FROM customers c LEFT JOIN orders o "
    "ON o.customer_id = c.id WHERE o.created_at >= '2026-01-01' "
    "GROUP BY c.name ORDER BY orders DESC LIMIT 20;"
)
TEXTS = {
    "english": PROSE,
    "python": CODE,
    "json": JSON_TEXT,
    "indented json": INDENTED,
    "chinese": CHINESE,
    "japanese": JAPANESE,
    "korean": KOREAN,
    "russian": RUSSIAN,
    "arabic": ARABIC,
    "hindi": HINDI,
    "german": GERMAN,
    "emoji": EMOJI,
    "log lines": LOG_LINES,
    "sql": SQL,
    "all together": PROSE + CODE + JSON_TEXT + CHINESE + RUSSIAN + ARABIC + EMOJI,
}


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    spec = importlib.util.find_spec("litellm")
    assert spec is not None and spec.submodule_search_locations
    bundled = Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(bundled))
    return tiktoken.get_encoding("o200k_base")


@pytest.mark.parametrize("name", TEXTS)
def test_estimates_are_within_a_fifth_of_the_tokenizer(tokenizer: tiktoken.Encoding, name: str) -> None:
    text = TEXTS[name]
    true = len(tokenizer.encode(text))
    assert 0.8 * true <= estimate_text(text) <= 1.2 * true, (estimate_text(text), true)


def test_an_empty_text_is_nothing_and_a_letter_something() -> None:
    assert estimate_text("") == 0
    assert estimate_text("a") == 1
    assert [estimate_tokens_from_bytes(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_pieces_of_a_stream_weigh_what_the_whole_does() -> None:
    text = TEXTS["all together"]
    assert tokens_of(sum(weigh(char) for char in text)) == estimate_text(text)


def test_lone_surrogates_do_not_fail() -> None:
    assert estimate_text("\ud800x") > 0


@pytest.mark.parametrize("name", ["english", "chinese"])
def test_u93_ten_megabytes_are_weighed_at_once(name: str) -> None:
    text = TEXTS[name] * (10**7 // len(TEXTS[name].encode()))
    started = time.perf_counter()
    estimate = estimate_text(text)
    assert time.perf_counter() - started < 0.02
    small = estimate_text(TEXTS[name])
    copies = len(text) // len(TEXTS[name])
    assert 0.95 * small * copies <= estimate <= 1.05 * small * copies


def chat(*messages: Any, **more: Any) -> int:
    return estimate_prompt({"messages": list(messages), **more})


def test_chat_counts_all_text_and_an_overhead() -> None:
    fixed = MESSAGE_OVERHEAD_TOKENS + REPLY_PRIMER_TOKENS
    text = estimate_text(PROSE)
    assert chat({"role": "user", "content": PROSE}) == text + fixed
    parts = [{"type": "text", "text": PROSE[:100]}, {"type": "text", "text": PROSE[100:]}]
    assert chat({"role": "user", "content": parts}) == text + fixed
    assert chat({"role": "assistant", "content": None}) == fixed


def test_tools_and_tool_calls_count() -> None:
    tool = {"type": "function", "function": {"name": "look_up", "description": PROSE}}
    call = {"id": "c1", "function": {"name": "look_up", "arguments": JSON_TEXT}}
    bare = chat({"role": "user", "content": "hi"})
    assert chat({"role": "user", "content": "hi"}, tools=[tool]) > bare + estimate_text(PROSE)
    called = chat({"role": "assistant", "content": "hi", "tool_calls": [call]})
    assert called > bare + estimate_text(JSON_TEXT)
    legacy = {"role": "assistant", "content": "hi", "function_call": call["function"]}
    assert chat(legacy) == called


def test_images_are_flat_whatever_their_bytes() -> None:
    def image(**more: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": "data:," + "A" * 100_000, **more}}

    bare = chat({"role": "user", "content": []})
    assert chat({"role": "user", "content": [image()]}) == bare + IMAGE_TOKENS
    low = chat({"role": "user", "content": [image(detail="low")]})
    assert low == bare + IMAGE_LOW_DETAIL_TOKENS


def test_audio_and_files_count_by_size() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "mp3"}}
    file = {"type": "file", "file": {"file_data": "A" * 6_400}}
    bare = chat({"role": "user", "content": []})
    assert chat({"role": "user", "content": [audio, file]}) == bare + 200


@pytest.mark.parametrize("field", ["prompt", "input"])
def test_prompts_and_embedding_inputs(field: str) -> None:
    text = estimate_text(PROSE)
    assert estimate_prompt({field: PROSE}) == text
    assert estimate_prompt({field: [PROSE[:99], PROSE[99:]]}) == text
    assert estimate_prompt({field: [1, 2, 3]}) == 3
    assert estimate_prompt({field: [[1, 2], [3]]}) == 3


@pytest.mark.parametrize(
    "native",
    [
        {},
        {"messages": 7},
        {"messages": [7, None, [], {"content": 3}, {"content": [1, {"type": 2}]}]},
        {"messages": [{"tool_calls": [{}, 3, {"function": 4}], "function_call": "x"}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": "x"}]}]},
        {"messages": [{"content": [{"type": "input_audio"}, {"type": "file", "file": 3}]}]},
        {"input": {"a": 1}},
        {"prompt": [None, {}, True]},
    ],
    ids=str,
)
def test_unexpected_shapes_never_fail(native: dict[str, Any]) -> None:
    assert estimate_prompt(native) >= 0


def test_messages_hide_no_prompt() -> None:
    prompt = "several words that cost something " * 20
    alone = estimate_prompt({"prompt": prompt})
    assert estimate_prompt({"prompt": prompt, "messages": []}) >= alone
    assert estimate_prompt({"prompt": prompt, "input": prompt}) == 2 * alone
