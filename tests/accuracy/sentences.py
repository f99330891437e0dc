"""The labelled sentences."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("sentences.jsonl")
TUNING, HELD_OUT = "tuning", "held_out"
SPLITS = (TUNING, HELD_OUT)


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int
    entity: str


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    spans: tuple[Span, ...]
    split: str


def read(path: Path = PATH) -> list[Sentence]:
    """Every labelled sentence, in the order of the file."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Sentence(row["text"], tuple(Span(**span) for span in row["spans"]), row["split"]) for row in rows
    ]


def split_of(text: str) -> str:
    """The half that ``text`` belongs to, now and always."""
    return SPLITS[int(hashlib.sha256(text.encode()).hexdigest(), 16) % 2]
