"""One POST to a checked address: bounded in time and size, no redirect, no proxy, no word of the URL in any log."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from pipelines.notify.guard import Address, Guard, RefusedTargetError, Target, UnreachableError
from pipelines.notify.outcome import Outcome, judge

MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read; the rest is ignored."""
_MAX_ADDRESSES = 4  # of a host with many; each gets its share of the deadline

# They log whole URLs, and a Slack URL is a secret: httpx at INFO, urllib3 and apprise at DEBUG and WARNING.
for _name in ("httpx", "httpcore", "urllib3", "requests", "apprise", "slack_sdk"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whole or cut at 64 KiB."""

    status: int
    retry_after: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class _Request:
    target: Target
    body: bytes
    headers: Mapping[str, str]
    method: str


class Poster:
    """Sends. ``deadline_s`` is for everything: name, connection, TLS, request and the last byte of the answer."""

    def __init__(self, guard: Guard, *, deadline_s: float = 10.0, ca_file: str | None = None) -> None:
        self.guard = guard
        self.deadline_s = deadline_s
        self._tls = httpx.create_ssl_context(trust_env=False)
        if ca_file:
            self._tls.load_verify_locations(ca_file)

    def post(self, target: Target, body: bytes, headers: Mapping[str, str], *, method: str = "POST") -> Reply:
        """Send ``body`` once; ``method`` GET is for the dead-man's call.

        Raises:
            RefusedTargetError: the host has an address that must not be called.
            UnreachableError: there was no whole answer within the deadline.
        """
        began = time.monotonic()
        addresses = self.guard.addresses(target, self.deadline_s)[:_MAX_ADDRESSES]
        left_s = self.deadline_s - (time.monotonic() - began)
        try:
            return asyncio.run(self._post(_Request(target, body, headers, method), addresses, left_s))
        except TimeoutError:
            raise UnreachableError(f"no whole answer within {self.deadline_s:g} s") from None

    def outcome(self, target: Target, body: bytes, headers: Mapping[str, str], now: int) -> tuple[Outcome, bytes]:
        """Send and judge: the outcome, and the body of the answer (untrusted)."""
        try:
            reply = self.post(target, body, headers)
        except (RefusedTargetError, UnreachableError) as error:
            return Outcome("retry", error.reason), b""
        return judge(reply.status, reply.retry_after, now), reply.body

    async def _post(self, asked: _Request, addresses: tuple[Address, ...], left_s: float) -> Reply:
        # the whole is bounded here; a receiver that drips a byte a second would pass any limit per read
        async with asyncio.timeout(left_s):
            timeout = httpx.Timeout(left_s, connect=max(left_s / (len(addresses) + 1), 0.1))
            async with httpx.AsyncClient(
                verify=self._tls, trust_env=False, follow_redirects=False, timeout=timeout
            ) as client:
                for address in addresses[:-1]:
                    try:
                        return await self._once(client, asked, address)
                    except UnconnectedError:
                        continue  # nothing was sent: the next address may answer
                return await self._once(client, asked, addresses[-1])

    async def _once(self, client: httpx.AsyncClient, asked: _Request, address: Address) -> Reply:
        """Connect to ``address`` itself; certificate and Host header are still those of the name."""
        target = asked.target
        request = client.build_request(
            asked.method,
            target.url.copy_with(host=str(address)),
            content=asked.body or None,
            headers={
                "host": target.url.netloc.decode("ascii"),
                "user-agent": "tailrace-notify",
                "accept-encoding": "identity",
                **asked.headers,
            },
            extensions={"sni_hostname": target.host},
        )
        try:
            answer = await client.send(request, stream=True)
            try:
                return Reply(answer.status_code, answer.headers.get("retry-after"), await _bounded(answer))
            finally:
                await answer.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UnconnectedError(_why(error)) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise UnreachableError(f"the exchange broke: {type(error).__name__}") from None


class UnconnectedError(UnreachableError):
    """Not one byte of the request was sent."""


async def _bounded(answer: httpx.Response) -> bytes:
    # raw: a small compressed body could unpack to gigabytes
    read = bytearray()
    async for chunk in answer.aiter_raw():
        read += chunk
        if len(read) >= MAX_ANSWER:
            break
    return bytes(read[:MAX_ANSWER])


def _why(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "the certificate was refused"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        cause = cause.__cause__ or cause.__context__
    return "cannot connect"
