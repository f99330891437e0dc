"""Editing the texts in a streamed answer, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.events import Frame
from gateway.privacy.chunk_json import ChunkJson, encoded
from gateway.privacy.chunk_shape import (
    CHOICE,
    CHUNK,
    ENVELOPE,
    PLAIN,
    plain,
    same,
    speaks,
    without_logprobs,
)
from gateway.privacy.chunk_texts import Call, ChunkTexts, Path, Piece, choice_number, placed
from gateway.privacy.interface import Counts, DetectorFailed, no_counts
from gateway.privacy.slots import OPENAI_ANSWER
from gateway.privacy.streaming import TextTransform
from gateway.privacy.walk import Slot, write

MAX_TEXTS = 4096
"""Running texts in one answer."""
_REMEMBERED = 64
_SHORT = 256


class AnswerEditor:
    """Edits the texts in the chunks of one streamed answer.

    Every string in a delta is a piece of a running text, which has one transform. What is held back of a
    choice's texts goes out before the choice is finished, in chunks of its own where it has to. Chunks that
    say nothing any more are left out; frames that nothing changed in are passed on, edited ones are new.
    ``make``: a new transform for one text; takes whether that is JSON. ``skipped``: in how many places each
    kind of content stands that is not searched. ``feed`` and ``flush`` raise what transforms raise, and
    ``DetectorFailed`` for a chunk that cannot be read.
    """

    def __init__(
        self,
        make: Callable[[bool], TextTransform],
        *,
        drop_logprobs: bool = False,
        skipped: Counts | None = None,
    ) -> None:
        self._make = make
        self._drop_logprobs = drop_logprobs
        self._opening = b"" if drop_logprobs else make(False).opening.encode()
        self._texts: dict[int, dict[Path, TextTransform]] = {}
        self._calls: dict[tuple[int, Path], Call] = {}
        self._count = 0
        self._last: dict[str, Any] = {}
        self._skipped = no_counts() if skipped is None else skipped
        self._passed: set[tuple[int, Path]] = set()
        self._whole: dict[tuple[str, bool], str] = {}
        self._json = ChunkJson()

    def feed(self, frames: list[Frame]) -> list[Frame]:
        """What may go out, possibly nothing."""
        out: list[Frame] = []
        for frame in frames:
            if self._opening and frame.raw is not None and self._passes(frame.raw):
                out.append(frame)
                continue
            native = self._json.decode(frame)
            if native is None:
                out.append(frame)
            elif not self._usual(frame, native, out):
                try:
                    self._chunk(frame, native, out)
                except RecursionError:
                    raise DetectorFailed("a chunk of the answer is nested too deeply") from None
        return out

    def flush(self) -> list[Frame]:
        """What is still held back."""
        return [
            self._extra(number, path, rest) for number in self._texts for path, rest in self._rests(number)
        ]

    def _passes(self, raw: bytes) -> bool:
        """Whether there is nothing to edit in a chunk, told without decoding it."""
        place = raw.find(b"[")
        if not raw[: max(0, place)].rstrip().endswith(b'"choices":') or self._json.cuts:
            return False
        if b"\\u00" in raw or b"\\\\" in raw or raw.find(self._opening, place + 1) >= 0:
            return False
        texts = self._texts.values()
        return not any(transform.holds for one in texts for transform in one.values())

    def _usual(self, frame: Frame, native: dict[str, Any], out: list[Frame]) -> bool:
        """The chunk that most are: one piece of one text, and nothing else. False for all others."""
        choices = native.get("choices")
        if type(choices) is not list or len(choices) != 1 or not native.keys() <= CHUNK:
            return False
        choice = choices[0]
        if type(choice) is not dict or not choice.keys() <= CHOICE or native.get("usage") is not None:
            return False
        delta, number = choice.get("delta"), choice.get("index")
        if type(delta) is not dict or len(delta) != 1:
            return False
        ((name, piece),) = delta.items()
        if type(piece) is not str or name not in PLAIN:
            return False
        if choice.get("finish_reason") is not None or type(number) is not int or self._json.cuts:
            return False
        if choice.get("logprobs") is not None or not plain(native, self._last):
            return False
        self._last = native
        text = self._transform(number, ("delta", name), False).feed(piece)
        if text == piece:
            again = frame.raw is not None and frame.raw.count(b":") != len(native) + len(choice) + 1
            out.append(same(frame, native) if again else frame)
        elif text:
            delta[name] = text
            out.append(Frame(encoded(native)))
        return True

    def _chunk(self, frame: Frame, native: dict[str, Any], out: list[Frame]) -> None:
        texts = ChunkTexts(native, OPENAI_ANSWER)
        said: dict[tuple[int, Path], Piece] = {}
        changed = self._drop_logprobs and without_logprobs(native)
        self._count_skipped(texts)
        names = [slot for slot in texts.slots if slot.is_name]
        changed |= self._complete_all([slot for slot in texts.slots if not slot.is_name])
        for part in texts.running:
            if isinstance(part, Piece):
                changed |= self._say(part)
                said[part.choice, part.path] = part
            else:
                changed |= self._begin(part, said, out)
        choices = native.get("choices")
        if type(choices) is list and choices:
            self._last = native
            changed |= self._finish(choices, said, out)
        changed |= self._complete_all(names)  # behind all that goes by the old ones
        if not changed:
            out.append(same(frame, native))
        elif speaks(native):
            out.append(Frame(encoded(native)))

    def _count_skipped(self, texts: ChunkTexts) -> None:
        for kind, count in texts.skipped.items():
            self._skipped[kind] += count
        for place, kind in texts.passed.items():
            if place not in self._passed:
                self._passed.add(place)
                _check_count(len(self._passed))
                self._skipped[kind] += 1

    def _complete_all(self, slots: list[Slot]) -> bool:
        return write([(slot, self._complete(slot.text, slot.is_json)) for slot in slots])

    def _say(self, piece: Piece) -> bool:
        text = self._json.whole((piece.choice, piece.path), piece.text)
        text = self._transform(piece.choice, piece.path, piece.is_json).feed(text)
        piece.holder[piece.key] = text
        return text != piece.text

    def _begin(self, call: Call, said: dict[tuple[int, Path], Piece], out: list[Frame]) -> bool:
        """Ends the texts of the tool call that had the place of this one."""
        before = self._calls.setdefault((call.choice, call.path), call)
        _check_count(len(self._calls))
        if not call.follows(before):
            return False
        self._calls[call.choice, call.path] = call
        changed = self._end(call.choice, call.path, said, out)
        texts = self._texts.get(call.choice, {})
        for path in [path for path in texts if path[: len(call.path)] == call.path]:
            del texts[path]
            said.pop((call.choice, path), None)
            self._count -= 1
        return changed

    def _finish(self, choices: list[Any], said: dict[tuple[int, Path], Piece], out: list[Frame]) -> bool:
        """Ends the texts of the choices that are finished by this chunk."""
        changed = False
        for place, choice in enumerate(choices):
            if type(choice) is dict and choice.get("finish_reason") not in (None, ""):
                changed |= self._end(choice_number(choice, place), (), said, out)
        return changed

    def _end(self, number: int, under: Path, said: dict[tuple[int, Path], Piece], out: list[Frame]) -> bool:
        """Lets out what is held back of the texts ``under`` a path: in this chunk, where it has a piece of
        the same text, or before it. Returns whether this chunk has changed."""
        changed = False
        for path, rest in self._rests(number, under):
            piece = said.get((number, path))
            if piece is None:
                out.append(self._extra(number, path, rest))
            else:
                piece.holder[piece.key] += rest
                changed = True
        return changed

    def _rests(self, number: int, under: Path = ()) -> list[tuple[Path, str]]:
        rests = []
        for path, transform in self._texts.get(number, {}).items():
            if path[: len(under)] != under:
                continue
            half = self._json.half((number, path))
            rest = (transform.feed(half) if half else "") + transform.flush()
            if rest:
                rests.append((path, rest))
        return rests

    def _extra(self, number: int, path: Path, text: str) -> Frame:
        """A chunk of this answer that holds nothing but ``text``."""
        native = {name: value for name, value in self._last.items() if name in ENVELOPE}
        native["choices"] = [{"index": number, **placed(path, text), "finish_reason": None}]
        return Frame(encoded(native))

    def _transform(self, number: int, path: Path, is_json: bool) -> TextTransform:
        texts = self._texts.setdefault(number, {})
        transform = texts.get(path)
        if transform is None:
            self._count += 1
            _check_count(self._count)
            transform = texts[path] = self._make(is_json)
        return transform

    def _complete(self, text: str, is_json: bool) -> str:
        """A text that does not go on; the same ones come with every chunk."""
        known = self._whole.get((text, is_json))
        if known is not None:
            return known
        transform = self._make(is_json)
        edited = transform.feed(text) + transform.flush()
        if len(text) <= _SHORT:
            if len(self._whole) >= _REMEMBERED:
                self._whole.clear()
            self._whole[text, is_json] = edited
        return edited


def _check_count(count: int) -> None:
    if count > MAX_TEXTS:
        raise DetectorFailed(f"the answer holds more than {MAX_TEXTS} texts")
