"""The log: one JSON object a line, written by a thread that no request ever waits for."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from gateway.telemetry.lines import encode_line
from gateway.telemetry.sink import LineSink
from gateway.telemetry.stdlib import install
from gateway.telemetry.timestamp import Timestamp

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "fatal": 50}
_FRAMES = 12
_TRACEBACK_CHARS = 2000


class Log:
    """Writes events to ``stream_fd``.

    Lines wait in a bounded queue; what finds it full, or meets a broken sink, is dropped and
    counted in ``dropped``, and a later line ``log_lines_dropped`` says how many. A line has ``ts``
    (RFC 3339, UTC, milliseconds), ``level``, ``event`` and the fields given. Methods may be called
    from any thread.
    """

    def __init__(
        self,
        stream_fd: int = 2,
        level: str = "info",
        *,
        max_lines: int = 10_000,
        max_bytes: int = 8 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.level = level
        self._threshold = LEVELS[level]
        self._clock = clock
        self.timestamp = Timestamp()
        self._secrets: tuple[str, ...] = ()
        self._sink = LineSink(stream_fd, max_lines, max_bytes, self._drop_notice)

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._sink.dropped

    def set_secrets(self, secrets: Iterable[bytes]) -> None:
        """Strings (provider keys) that must not appear in the text of an exception; replaces the
        former set."""
        texts = {secret.decode("utf-8", "replace") for secret in secrets if secret}
        self._secrets = tuple(sorted(texts, key=len, reverse=True))

    def event(self, name: str, /, level: str = "info", **fields: Any) -> None:
        """Logs one event. Fields are scalars: strings (cut at 2 KB), numbers, booleans, None."""
        self.write({**self.begin(name, level), **fields})

    def begin(self, name: str, level: str = "info") -> dict[str, Any]:
        """What every line starts with; the fields are added by whoever writes it."""
        return {"ts": self.timestamp(self._clock()), "level": level, "event": name}

    def write(self, line: dict[str, Any]) -> None:
        """Logs a line that was begun with ``begin``, if its level is wanted."""
        if LEVELS[line["level"]] >= self._threshold:
            self._sink.put(encode_line(line))

    def failure(self, name: str, exc: BaseException, /, level: str = "error", **fields: Any) -> None:
        """Logs an exception with its chain and traceback; secrets in any text become ``***``."""
        described = {
            "error_type": type(exc).__name__,
            "error": "".join(traceback.format_exception_only(exc)).strip(),
            **fields,
        }
        detail = getattr(exc, "detail", None)
        if detail is not None:
            described["detail"] = str(detail)
        scrubbed = {key: self.scrub(value) for key, value in described.items()}
        self.event(name, level=level, **scrubbed, traceback=self._traceback(exc))

    def install_stdlib(self, level: str = "info") -> Callable[[], None]:
        """Routes ``logging``, warnings and uncaught exceptions of threads here, all as JSON lines.

        Returns what undoes it. Access logs and the chatter of HTTP clients are silenced below
        warning.
        """
        return install(self, LEVELS[level])

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what is queued, for up to ``timeout_s``; later events are dropped."""
        self._sink.close(timeout_s)

    def scrub(self, value: Any) -> Any:
        """A string with the secrets replaced; anything else as it is."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
        return value

    def _traceback(self, exc: BaseException) -> str:
        """The chain, oldest exception first; of a long one the end, where it was raised."""
        lines = traceback.format_exception(type(exc), exc, exc.__traceback__, limit=-_FRAMES)
        text = str(self.scrub("".join(lines)))
        return text if len(text) <= _TRACEBACK_CHARS else "…" + text[-_TRACEBACK_CHARS:]

    def _drop_notice(self, count: int) -> bytes:
        fields = {
            "ts": self.timestamp(self._clock()),
            "level": "warning",
            "event": "log_lines_dropped",
        }
        return encode_line({**fields, "count": count})
