"""A small engine with vLLM's routes, metrics and shutdown behaviour, for when vLLM itself would be too slow.

It says of itself that it is emulated: in /version, as the model's owner, and in each answer's Server header.
What it does at a SIGTERM was measured on vLLM 0.32.0. With --shutdown-timeout 0 and requests in flight, or if
that time runs out with work left, the port closes, open connections hang without a word, and the process
neither ends nor heeds another SIGTERM. With time enough it finishes what runs, answers 500 to what is new and
200 to /health, and ends with status 0 some seconds later. SIGTERM before it is ready deadlocks it, as it may
deadlock vLLM.

It fails when it is told to, by --fail or by `POST /_fault`, in the ways that `Fault` names.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, assert_never

from aiohttp import web

from gpu_node_bootstrap.node_agent.container_arguments import KEEP_ALIVE_SECONDS
from local_aws.engines.emulated_metrics import Histogram, prometheus_text
from local_aws.engines.emulated_options import CRASH_STATUS, Fault, parser
from local_aws.engines.emulated_protocol import Answer, BadRequestError, Job, continuation, parse_job

NAME = "spot-failover-emulated-engine"
VERSION = "0.32.0+emulated"
TICK_SECONDS = 0.02


class Engine:
    """Runs jobs at a pace, counts them, and stops as vLLM does."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.model: str = options.served_model_name
        self.max_model_len: int = options.max_model_len
        self.stopping = False
        self.ended = asyncio.Event()
        self.started_at = time.time()
        self._pace: float = options.tokens_per_second
        self._shutdown_timeout: float = options.shutdown_timeout
        self._exit_seconds: float = options.exit_seconds
        self._warm_at = time.monotonic() + options.warm_up_seconds
        self._slots = asyncio.Semaphore(options.max_num_seqs)
        self._running = 0
        self._waiting = 0
        self._hung = asyncio.Event()
        self._stuck = False
        self._last_metrics = ""
        self._tokens = Counter[str]()
        self._finished = Counter[str]()
        self._first_tokens = Histogram()

    async def generate(self, job: Job) -> AsyncGenerator[list[int], None]:
        """Yield lists of new tokens as their time comes."""
        arrived = time.monotonic()
        reason = "abort"
        self._waiting += 1
        queued = True
        try:
            async with self._slots:
                self._waiting -= 1
                queued = False
                self._running += 1
                try:
                    async for tokens in self._paced(job, arrived):
                        yield tokens
                    reason = "length"
                finally:
                    self._running -= 1
        finally:
            self._waiting -= queued
            self._finished[reason] += 1

    async def _paced(self, job: Job, arrived: float) -> AsyncGenerator[list[int], None]:
        await asyncio.sleep(self._warm_at - time.monotonic())
        source = continuation(job.prompt_ids)
        began, made = time.monotonic(), 0
        while made < job.max_tokens:
            await asyncio.sleep(max(TICK_SECONDS, 1 / self._pace) if made else 1 / self._pace)
            if self._stuck or self._hung.is_set():
                await asyncio.Event().wait()
            due = min(job.max_tokens, max(made + 1, int((time.monotonic() - began) * self._pace)))
            if not made:
                self._tokens["prompt"] += len(job.prompt_ids)
                self._first_tokens.observe(time.monotonic() - arrived)
            tokens = [next(source) for _ in range(due - made)]
            made = due
            self._tokens["generation"] += len(tokens)
            yield tokens

    async def stop(self) -> None:
        """Take a SIGTERM."""
        if self.stopping:
            return
        self.stopping = True
        ends_at = time.monotonic() + self._shutdown_timeout
        while self._running + self._waiting:
            if time.monotonic() >= ends_at:
                self._hung.set()
                return
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(self._exit_seconds)
        self.ended.set()

    def fail(self, fault: Fault) -> None:
        """Fail in a way."""
        match fault:
            case Fault.HANG:
                # vLLM's core counts, and its server shows what it heard last.
                self._last_metrics = self.metrics()
                self._stuck = True
            case Fault.EXIT:
                os._exit(CRASH_STATUS)
            case _:
                assert_never(fault)

    @property
    def hung(self) -> asyncio.Event:
        """Set when the engine has died with requests in flight."""
        return self._hung

    def metrics(self) -> str:
        """Return the Prometheus text, by vLLM's names."""
        if self._stuck:
            return self._last_metrics
        return prometheus_text(
            model=self.model,
            running=self._running,
            waiting=self._waiting,
            tokens=self._tokens,
            finished=self._finished,
            first_tokens=self._first_tokens,
        )


class Routes:
    """vLLM's HTTP routes over an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def application(self) -> web.Application:
        """Return the server's application."""
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                web.post("/_fault", self._fault),
            ]
        )
        application.on_response_prepare.append(_name_the_server)
        return application

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _models(self, _request: web.Request) -> web.Response:
        card = {
            "id": self._engine.model,
            "object": "model",
            "created": int(self._engine.started_at),
            "owned_by": NAME,
            "max_model_len": self._engine.max_model_len,
        }
        return web.json_response({"object": "list", "data": [card]})

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._engine.metrics())

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            fault = Fault(str((await request.json())["fault"]))
        except (ValueError, KeyError, TypeError):
            return _error(400, "BadRequestError", f"fault must be one of {', '.join(Fault)}")
        self._engine.fail(fault)
        return web.json_response({"fault": fault.value})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=True)

    async def _serve(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        engine = self._engine
        try:
            body = json.loads(await request.text())
            job = parse_job(body, model=engine.model, max_model_len=engine.max_model_len, chat=chat)
        except LookupError as err:
            return _error(404, "NotFoundError", str(err.args[0]))
        except (BadRequestError, ValueError) as err:
            return _error(400, "BadRequestError", str(err))
        if engine.stopping:
            return _error(500, "InternalServerError", "cannot schedule new futures after shutdown")
        answer = Answer(job, engine.model)
        if job.stream:
            return await self._stream(request, answer)
        async with contextlib.aclosing(engine.generate(job)) as generated:
            async for tokens in generated:
                answer.tokens += tokens
        return web.json_response(answer.whole())

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        if answer.job.chat:
            await response.write(_event(answer.opening()))
        async with contextlib.aclosing(self._engine.generate(answer.job)) as generated:
            async for tokens in generated:
                await response.write(_event(answer.part(tokens)))
        if answer.job.include_usage:
            await response.write(_event(answer.closing()))
        await response.write(b"data: [DONE]\n\n")
        return response


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def _error(status: int, kind: str, message: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


async def _name_the_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = NAME


async def serve(options: argparse.Namespace) -> None:
    """Start, serve until a SIGTERM has been dealt with, and return; or hang, as vLLM does."""
    loop = asyncio.get_running_loop()
    early = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, early.set)
    await asyncio.sleep(options.start_seconds)
    if early.is_set():
        await asyncio.Event().wait()
    engine = Engine(options)
    runner = web.AppRunner(
        Routes(engine).application(),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=1,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
    )
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.port)
    await site.start()
    stops: list[asyncio.Task[None]] = []
    loop.add_signal_handler(signal.SIGTERM, lambda: stops.append(loop.create_task(engine.stop())))
    if options.fail is not None:
        loop.call_later(options.fail_after_seconds, engine.fail, options.fail)
    hung = loop.create_task(engine.hung.wait())
    ended = loop.create_task(engine.ended.wait())
    await asyncio.wait({hung, ended}, return_when=asyncio.FIRST_COMPLETED)
    if hung.done():
        # The port closes; the connections stay open and silent.
        for server in list(runner.sites):
            await server.stop()
        await asyncio.Event().wait()
    await runner.cleanup()


def main() -> None:
    """Run the engine that the command line describes."""
    options = parser().parse_args()
    core = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) if options.core else None
    asyncio.run(serve(options))
    if core is not None:
        core.kill()


if __name__ == "__main__":
    main()
