"""The local load balancer: forwards requests to targets by their state, and checks the targets' health.

Behaves as an Application Load Balancer does (user guide, "Troubleshoot your Application Load Balancers"): 503
without a usable target, 502 when the target refuses or breaks off before its headers, 504 when it stays
silent, and a connection that is broken off when the target breaks off in the middle of a body. It never sends
a request twice.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from local_aws.load_balancing.balancers import ListenerSpec
from local_aws.load_balancing.target_health import CheckResult, HealthCheck, Reason
from local_aws.load_balancing.targets import Lease, Target, Targets

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_CONNECT_SECONDS = 10.0
_KEEP_SECONDS = 4000.0
# RFC 9110 7.6.1: they belong to one connection and are not passed on.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Proxy:
    """Serves listeners on `<prefix>.1` in a thread with an event loop of its own."""

    def __init__(
        self, targets: Targets, address: str, *, health_of: Callable[[str], bool | None] = lambda _: None
    ) -> None:
        """`health_of` answers the checks of targets that nobody can ask: see nodes/bare.py."""
        self._targets = targets
        self._health_of = health_of
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._specs: dict[str, ListenerSpec] = {}
        self._ports: dict[str, int] = {}
        self._runners: dict[str, web.ServerRunner] = {}
        self._stopped: asyncio.Event
        self._background: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-balancer", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until it serves."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Break off everything and end the thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(timeout=10)

    def apply(self, specs: list[ListenerSpec]) -> None:
        """Serve exactly these listeners; returns when they are bound."""
        asyncio.run_coroutine_threadsafe(self._apply(specs), self._loop).result(timeout=30)

    def url(self, listener_arn: str) -> str | None:
        """Return where a listener is served, or None while it is not."""
        port = self._ports.get(listener_arn)
        return None if port is None else f"http://{self._address}:{port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        self._stopped = asyncio.Event()
        # Connections are kept and used again, as the real one does for as long as its idle timeout.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS)
        async with aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as session:
            self._session = session
            self._ready.set()
            while not self._stopped.is_set():
                self._tick()
                await asyncio.sleep(_TICK_SECONDS)
            for runner in self._runners.values():
                await runner.cleanup()

    def _tick(self) -> None:
        now = time.monotonic()
        for lease in self._targets.end_draining(now):
            lease.cut = True
            if lease.task is not None:
                lease.task.cancel()
        for target, check in self._targets.due_checks(now):
            healthy = self._health_of(target.target_id)
            if healthy is not None:
                result = CheckResult(healthy, None if healthy else Reason.FAILED_CHECKS)
                self._targets.checked(target, result, check)
                continue
            task = asyncio.create_task(self._check(target, check))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _check(self, target: Target, check: HealthCheck) -> None:
        url = f"http://{target.address}:{check.port or target.port}{check.path}"
        try:
            timeout = aiohttp.ClientTimeout(total=check.timeout)
            headers = {"User-Agent": "ELB-HealthChecker/2.0"}
            async with self._session.get(
                url, timeout=timeout, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
                await answer.read()
        except TimeoutError:
            result = CheckResult(False, Reason.TIMEOUT, "Request timed out")
        except (aiohttp.ClientError, OSError):
            result = CheckResult(False, Reason.FAILED_CHECKS, "Health checks failed")
        else:
            result = (
                CheckResult(True)
                if check.accepts(status)
                else CheckResult(
                    False, Reason.CODE_MISMATCH, f"Health checks failed with these codes: [{status}]"
                )
            )
        self._targets.checked(target, result, check)

    async def _apply(self, specs: list[ListenerSpec]) -> None:
        wanted = {spec.arn: spec for spec in specs}
        for arn in self._runners.keys() - wanted.keys():
            self._ports.pop(arn, None)
            await self._runners.pop(arn).cleanup()
        self._specs = wanted
        for arn in wanted.keys() - self._runners.keys():
            await self._listen(arn)

    async def _listen(self, arn: str) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._forward(self._specs[arn], request)

        # Without handler_cancellation a target would work on for a client that has gone.
        server = web.Server(handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, self._address, 0).start()
        self._runners[arn] = runner
        self._ports[arn] = runner.addresses[0][1]

    async def _forward(self, spec: ListenerSpec, request: web.BaseRequest) -> web.StreamResponse:
        if spec.refusal:
            return web.Response(status=501, text=f"local load balancer: {spec.refusal}\n")
        lease = self._targets.acquire(spec.target_groups)
        if lease is None:
            return _error(503)
        lease.task = asyncio.current_task()
        exchange = _Exchange(self._session, request, lease, spec.idle_timeout)
        try:
            return await exchange.run()
        except asyncio.CancelledError:
            if not lease.cut:
                raise  # the client has gone
            return exchange.broken_off()
        finally:
            self._targets.release(lease)


class _Exchange:
    """One request to one target, and its answer."""

    def __init__(
        self, session: aiohttp.ClientSession, request: web.BaseRequest, lease: Lease, idle_timeout: float
    ) -> None:
        self._session = session
        self._request = request
        self._target = lease.target
        self._idle_timeout = idle_timeout
        self._answer: web.StreamResponse | None = None

    async def run(self) -> web.StreamResponse:
        """Forward, and stream the answer back chunk by chunk."""
        request = self._request
        url = f"http://{self._target.address}:{self._target.port}{request.raw_path}"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._idle_timeout
        )
        try:
            async with self._session.request(
                request.method,
                url,
                headers=self._headers(),
                data=self._body() if request.body_exists else None,
                timeout=timeout,
                allow_redirects=False,
            ) as upstream:
                await self._stream(upstream)
        except TimeoutError:
            return self.broken_off(504)
        except (aiohttp.ClientError, OSError):
            return self.broken_off(502)
        assert self._answer is not None
        return self._answer

    async def _stream(self, upstream: aiohttp.ClientResponse) -> None:
        answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                answer.headers.add(name, value)
        self._answer = answer
        await answer.prepare(self._request)
        async for chunk in upstream.content.iter_any():
            await answer.write(chunk)
        await answer.write_eof()

    def _headers(self) -> list[tuple[str, str]]:
        kept = [(n, v) for n, v in self._request.headers.items() if n.lower() not in _HOP_BY_HOP]
        peer = self._request.remote or ""
        before = self._request.headers.get("X-Forwarded-For")
        kept = [(n, v) for n, v in kept if not n.lower().startswith("x-forwarded-")]
        return [
            *kept,
            ("X-Forwarded-For", f"{before}, {peer}" if before else peer),
            ("X-Forwarded-Proto", "http"),
        ]

    async def _body(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.content.iter_any():
            yield chunk

    def broken_off(self, status: int = 502) -> web.StreamResponse:
        """End a failed exchange: by an error if nothing was sent yet, else by breaking the connection off."""
        if self._answer is None or not self._answer.prepared:
            return _error(status)
        if self._request.transport is not None:
            # Not a clean end: the client must see that the body is not complete.
            self._request.transport.abort()
        return self._answer


def _error(status: int) -> web.Response:
    reason = {502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}[status]
    page = (
        f"<html><head><title>{status} {reason}</title></head><body><h1>{status} {reason}</h1></body></html>\n"
    )
    return web.Response(
        status=status, reason=reason, text=page, content_type="text/html", headers={"Server": "awselb/2.0"}
    )
