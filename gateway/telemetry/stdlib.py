"""Python's own channels of complaint, routed to the log: logging, warnings, uncaught exceptions."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.telemetry.log import Log

_HTTP_CLIENTS = ("httpx", "httpcore", "hpack", "h2")
_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


class LogHandler(logging.Handler):
    """Turns a record into an event ``log`` with ``logger`` and ``message``."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name, "message": self._log.scrub(_message(record))}
        exc = record.exc_info[1] if record.exc_info else None
        if exc is not None:
            self._log.failure("log", exc, level=_level(record.levelno), **fields)
        else:
            self._log.event("log", level=_level(record.levelno), **fields)


def install(log: Log, threshold: int) -> Callable[[], None]:
    """Routes everything of ``threshold`` and above to ``log``; returns what undoes it.

    uvicorn's access log is silenced (the gateway has its own), HTTP clients below warning.
    """
    root = logging.getLogger()
    names = (*_UVICORN, *_HTTP_CLIENTS)
    saved = {name: _state(logging.getLogger(name)) for name in names}
    saved_root = (root.handlers[:], root.level)
    hooks = (threading.excepthook, sys.unraisablehook)

    root.handlers[:] = [LogHandler(log)]
    root.setLevel(threshold)
    for name in names:
        level = logging.WARNING if name in (*_HTTP_CLIENTS, "uvicorn.access") else logging.NOTSET
        _set_state(logging.getLogger(name), ([], True, level))
    logging.captureWarnings(True)
    threading.excepthook = _thread_hook(log)
    sys.unraisablehook = _unraisable_hook(log)

    def restore() -> None:
        threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        for name, state in saved.items():
            _set_state(logging.getLogger(name), state)
        root.handlers[:], root.level = saved_root

    return restore


_State = tuple[list[logging.Handler], bool, int]


def _state(logger: logging.Logger) -> _State:
    return logger.handlers[:], logger.propagate, logger.level


def _set_state(logger: logging.Logger, state: _State) -> None:
    logger.handlers[:], logger.propagate = state[0], state[1]
    logger.setLevel(state[2])


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit the format
        return str(record.msg)


def _level(levelno: int) -> str:
    for name, least in (("fatal", 50), ("error", 40), ("warning", 30), ("info", 20)):
        if levelno >= least:
            return name
    return "debug"


def _thread_hook(log: Log) -> Callable[[threading.ExceptHookArgs], None]:
    def hook(args: threading.ExceptHookArgs) -> None:
        thread = args.thread.name if args.thread else None
        log.failure("thread_died", args.exc_value or args.exc_type(), thread=thread)

    return hook


def _unraisable_hook(log: Log) -> Callable[[Any], None]:
    def hook(args: Any) -> None:
        log.failure("unraisable", args.exc_value or args.exc_type(), message=args.err_msg)

    return hook
