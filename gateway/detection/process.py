"""A child as this process sees it: one thing asked at a time, each with its number and its time."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator

from gateway.detection.messages import MOST_ANSWER_BYTES, encodable, pack_spec
from gateway.detection.question import Slice
from gateway.frames import Message, frame, read_frame
from gateway.privacy.policy import DetectorSpec

BUILD_S = 60.0
"""For building one detector, the import of what it needs included."""
LATE_S = 0.5
"""How long a child may still be at what nobody waits for any more."""
PART_CHARS = 1 << 16
MOST_NOISE_BYTES = 4096

Report = Callable[..., None]
"""Event name, and its fields."""


class ChildFailed(Exception):
    """It is gone or of no use any more; the message says why."""


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._in, self._out, self._noise = process.stdin, process.stdout, process.stderr
        self._known: dict[DetectorSpec, int] = {}
        self._asked = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    async def learn(self, spec: DetectorSpec) -> str | None:
        """Has it build the detector; why that could not be done. Raises ``ChildFailed``."""
        if spec in self._known:
            return None
        number = len(self._known)
        answer = await self._ask({"kind": "learn", "detector": number, "spec": pack_spec(spec)}, BUILD_S)
        if "failed" in answer:
            return str(answer["failed"])
        self._known[spec] = number
        return None

    async def search(self, spec: DetectorSpec, slice_: Slice, ends_s: float) -> Message:
        """What it finds; ``ends_s`` is a monotonic time. Raises ``ChildFailed``."""
        within_s = max(ends_s - time.monotonic(), 0) + LATE_S
        question = {
            "kind": "search",
            "detector": self._known[spec],
            "cut": slice_.cut,
            "lead": slice_.lead,
            "last": slice_.last,
            "force": slice_.force,
        }
        if len(slice_.texts) > 1 or len(slice_.texts[0]) <= PART_CHARS:
            return await self._ask({**question, "texts": slice_.texts}, within_s)
        return await self._ask({**question, "texts": [""]}, within_s, slice_.texts[0])

    async def listen(self) -> bytes:
        """Until it ends; the first of what it wrote on its standard error."""
        heard = b""
        while chunk := await self._noise.read(MOST_NOISE_BYTES):
            heard += chunk[: MOST_NOISE_BYTES - len(heard)]
        return heard

    def kill(self) -> None:
        try:
            self._process.kill()
        except ProcessLookupError:
            pass

    async def ended(self) -> int:
        """Its exit code, negative for a signal."""
        self._in.close()
        return await self._process.wait()

    async def _ask(self, message: Message, within_s: float, parts: str = "") -> Message:
        self._asked += 1
        try:
            async with asyncio.timeout(within_s):
                for part in _parts(parts):
                    await self._say({"kind": "part", "text": part})
                    await asyncio.sleep(0)
                await self._say({**message, "number": self._asked, "within_s": within_s + LATE_S})
                answer = await read_frame(self._out, MOST_ANSWER_BYTES)
        except TimeoutError:
            raise ChildFailed("did not answer in time") from None
        except OSError:
            answer = None
        except ValueError:
            raise ChildFailed("answered nonsense") from None
        if answer is None:
            raise ChildFailed("ended")
        if not isinstance(answer, dict) or answer.get("number") != self._asked:
            raise ChildFailed("answered nonsense")
        return answer

    async def _say(self, message: Message) -> None:
        try:
            written = frame(message)
        except TypeError:  # lone surrogates
            readable = {"texts": [encodable(text) for text in message.get("texts", ())]}
            written = frame({**message, **readable} if "texts" in message else _readable(message))
        if self._in.is_closing():  # uvloop would raise RuntimeError
            raise ConnectionResetError
        self._in.write(written)
        await self._in.drain()


def _readable(part: Message) -> Message:
    return {**part, "text": encodable(part["text"])}


def _parts(text: str) -> Iterator[str]:
    for start in range(0, len(text), PART_CHARS):
        yield text[start : start + PART_CHARS]


async def launch() -> Child:
    """Nothing of this process's environment reaches it but where its modules are. Raises ``OSError``."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LC_ALL": "C.UTF-8"}
    environment |= {"OMP_NUM_THREADS": "1"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    pipe = asyncio.subprocess.PIPE
    return Child(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-s", "-P", "-m", "gateway.detection.child"),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environment,
        )
    )
