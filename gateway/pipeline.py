"""The pipeline: stages in, dispatch, frames out, and every stage closed once, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson

from gateway.errors import DeadlineExceeded, Forbidden, GatewayError, InternalError, Unavailable
from gateway.exchange import Dispatch, Exchange, Outcome, Reply, Sink
from gateway.heads import body_head, error_head, stream_head
from gateway.interrupt import Interrupted, Reason
from gateway.stage import Middleware, Stage

Failed = Callable[[str, BaseException, str], None]
"""Reports a fault of ours: event name, exception, request id."""


class Pipeline:
    """``chain``: the middlewares in the order in which they see a request."""

    __slots__ = ("_chain", "_dispatch", "_failed")

    def __init__(self, chain: tuple[Middleware, ...], dispatch: Dispatch, failed: Failed) -> None:
        self._chain = chain
        self._dispatch = dispatch
        self._failed = failed

    async def serve(self, exchange: Exchange, sink: Sink) -> None:
        """Answers one exchange. Never raises but for the cancellation of the whole task."""
        entered: list[Stage] = []
        outcome = Outcome("error", 500, InternalError("The request was cancelled."))
        try:
            try:
                outcome = await self._answer(exchange, sink, entered)
            finally:
                _release(exchange, outcome)
            if outcome.error is not None and outcome.name != "client_gone":
                await self._tell(exchange, sink, outcome.error)
        finally:
            exchange.ended_s = time.monotonic()
            self._close(exchange, entered, outcome)

    async def _answer(self, exchange: Exchange, sink: Sink, entered: list[Stage]) -> Outcome:
        error: GatewayError
        try:
            sink.on_gone(exchange.interrupt.fire)
            with exchange.interrupt:
                reply = await self._enter(exchange, sink, entered)
                await self._relay(exchange, reply, sink, entered)
                return Outcome("ok", reply.status)
        except Interrupted as interrupted:
            exchange.interrupt.reason = interrupted.reason
            if interrupted.reason is Reason.CLIENT_GONE:
                return Outcome("client_gone", 499)
            error = _interrupted(interrupted.reason)
        except GatewayError as raised:
            error = raised
        except Exception as fault:  # the outermost guard: the client gets an id, the log the rest
            self._failed("internal_error", fault, exchange.request_id)
            error = InternalError("The gateway failed; the request id leads to the details in its log.")
        return _outcome(exchange, sink, error)

    async def _enter(self, exchange: Exchange, sink: Sink, entered: list[Stage]) -> Reply:
        read = False
        for middleware in self._chain:
            stage = middleware.begin(exchange)
            entered.append(stage)
            reply = await stage.enter()
            if reply is not None:
                return reply
            if not read and exchange.request is not None:
                read = True
                if exchange.request.stream:  # later stages may have to wait, too
                    sink.keep_alive(lambda: self._head_sent(exchange, None))
        return await self._dispatch(exchange)

    async def _relay(self, exchange: Exchange, reply: Reply, sink: Sink, entered: list[Stage]) -> None:
        source, wire = reply.source, exchange.format
        for stage in reversed(entered):
            source = stage.relay(source, reply.stream)
        while frames := await source.read():
            if not reply.stream:
                await self._whole(exchange, reply, sink, b"".join(map(wire.payload, frames)))
                return
            if not sink.started:
                await sink.start(200, self._head_sent(exchange, reply))
            await sink.send(wire.write(frames))
        await sink.finish(wire.WRITE_END)

    async def _whole(self, exchange: Exchange, reply: Reply, sink: Sink, body: bytes) -> None:
        exchange.head_sent_s = now_s = time.monotonic()
        await sink.start(reply.status, body_head(exchange, now_s, len(body), reply))
        await sink.finish(body)

    def _head_sent(self, exchange: Exchange, reply: Reply | None) -> list[tuple[bytes, bytes]]:
        exchange.head_sent_s = now_s = time.monotonic()
        return stream_head(exchange, now_s, reply)

    async def _tell(self, exchange: Exchange, sink: Sink, error: GatewayError) -> None:
        """The error as the answer, or as the last event of a stream that has begun."""
        if sink.started:
            await sink.finish(exchange.format.write_error(error, exchange.request_id))
            return
        body = orjson.dumps(exchange.format.error_body(error, exchange.request_id))
        exchange.head_sent_s = now_s = time.monotonic()
        await sink.start(error.status, error_head(exchange, now_s, len(body), error))
        await sink.finish(body)

    def _close(self, exchange: Exchange, entered: list[Stage], outcome: Outcome) -> None:
        for stage in reversed(entered):
            try:
                stage.close(outcome)
            except Exception as fault:  # the other stages are closed all the same
                self._failed("close_failed", fault, exchange.request_id)


def _release(exchange: Exchange, outcome: Outcome) -> None:
    """Lets go of the Call, or leaves it to be read to its end."""
    if exchange.drain is not None:
        if outcome.name != "client_gone" or not exchange.drain.keep():
            exchange.drain.close()
    elif exchange.call is not None:
        exchange.call.close()


def _interrupted(reason: Reason) -> GatewayError:
    if reason is Reason.DRAINING:
        return Unavailable("The gateway is shutting down.", code="draining", retry_after_s=1)
    if reason is Reason.KILL_SWITCH:
        return Forbidden("Stopped by an operator's kill switch.", code="kill_switch")
    return DeadlineExceeded("The request's deadline has passed.")


def _outcome(exchange: Exchange, sink: Sink, error: GatewayError) -> Outcome:
    if exchange.interrupt.reason is Reason.CLIENT_GONE:
        return Outcome("client_gone", 499)
    if sink.started and exchange.call is not None and exchange.call.answering is not None:
        return Outcome("partial", 200, error)
    if exchange.call is None and not isinstance(error, InternalError):
        return Outcome("refused", error.status, error)
    return Outcome("error", error.status, error)
