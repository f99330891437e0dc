"""A process that searches texts for the one that started it; it ends when that one is gone.

What takes longer than it was allowed ends it by ``SIGALRM``, also where no Python code gets to run.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
from types import TracebackType
from typing import BinaryIO

from gateway.detection.messages import unpack_spec
from gateway.detection.searching import search
from gateway.frames import Message, frame, receive_frame
from gateway.privacy.detectors import build_detector
from gateway.privacy.interface import Detector, DetectorFailed

NICER = 5
"""How much later than the process that serves it gets a processor."""


def main() -> None:
    os.setpgid(0, 0)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.nice(NICER)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.excepthook = _say_what
    logging.disable()  # what a library logs may hold what was searched
    questions, answers = _take_over(0, "rb"), _take_over(1, "wb")
    try:
        serve(questions, answers)
    except BrokenPipeError:
        os._exit(0)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Until there are no more questions."""
    detectors: dict[int, Detector] = {}
    parts: list[str] = []
    while (message := receive_frame(questions)) is not None:
        if message["kind"] == "part":
            parts.append(message["text"])
            continue
        if parts:
            message["texts"] = ["".join(parts)]
            parts = []
        signal.setitimer(signal.ITIMER_REAL, message["within_s"])
        answer = _answer(detectors, message)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(frame({**answer, "number": message["number"]}))
        answers.flush()


def _answer(detectors: dict[int, Detector], message: Message) -> Message:
    try:
        if message["kind"] == "learn":
            detectors[message["detector"]] = build_detector(unpack_spec(message["spec"]))
            gc.freeze()
            return {}
        return search(detectors[message["detector"]], message)
    except (DetectorFailed, ValueError) as error:
        known = isinstance(error, DetectorFailed) or message["kind"] == "learn"
        return {"failed": str(error) if known else "the detector crashed with ValueError"}
    except Exception as error:  # a detector's fault is the answer to one question
        return {"failed": f"the detector crashed with {type(error).__name__}"}


def _take_over(fd: int, mode: str) -> BinaryIO:
    """The file of ``fd``, which no library's ``print`` or ``input`` reaches any more."""
    own = os.dup(fd)
    if fd:
        os.dup2(2, fd)
    else:
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, fd)
        os.close(empty)
    file: BinaryIO = os.fdopen(own, mode)  # type: ignore[assignment]
    return file


def _say_what(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The kind and the place; the message may hold what was searched."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
    print(f"{kind.__name__} at {place}", file=sys.stderr)


if __name__ == "__main__":
    main()
