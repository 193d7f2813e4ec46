"""Does the service answer an HTTP request as it should?

PASS: one of the wanted statuses, and the wanted words at the beginning of the body, where any are
wanted.  FAIL: any other answer of the service (a redirect is one: none is followed), one that is
not HTTP, no connection or no answer in time, as with `tcp`.  UNKNOWN: we could not ask; TLS that
cannot be agreed on is such a case, because then nobody knows who it was that answered.

Options: `url`; `status`, a list of numbers; `body`, words that must be in its first 64 KiB;
`verify` (true): only a certificate that is valid and for that name will do; `ca`, a file with the
certificates to trust instead of the system's.
"""

import socket
import ssl
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from failover_monitor.checks.tcp import OURSELVES, addresses, is_ours, outcome_of, reason_of
from failover_monitor.model import Outcome, ServiceCheck

BODY_LIMIT = 64 * 1024
HEADERS = {"User-Agent": "failover-monitor", "Accept-Encoding": "identity"}
TLS_TROUBLE = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError)


class HttpAsker:
    """Makes a connection of its own for each request."""

    silence = Outcome.FAIL

    def __init__(self, check: ServiceCheck) -> None:
        self._url = URL(check.options["url"])
        self._statuses = frozenset(check.options.get("status", [200]))
        self._body: bytes = check.options.get("body", "").encode()
        self._verify: bool = check.options.get("verify", True)
        self._ca: str = check.options.get("ca", "")
        self._tls: ssl.SSLContext | None = None  # kept: reading the certificates takes a while

    async def ask(self) -> tuple[Outcome, str]:
        host, port = self._url.host or "", self._url.port or 0
        self.silence = Outcome.UNKNOWN  # of those who look up names for us
        hosts = await addresses(host)
        self.silence = Outcome.FAIL
        if not hosts:
            return Outcome.UNKNOWN, f"cannot look up {host}"
        if any(is_ours(address, port) for address in hosts):
            return Outcome.UNKNOWN, OURSELVES
        try:
            connector = aiohttp.TCPConnector(
                resolver=Known(hosts), ssl=self._context(), use_dns_cache=False, force_close=True
            )
        except OSError as error:
            return Outcome.UNKNOWN, f"cannot read the certificates to trust: {reason_of(error)}"
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                    headers=HEADERS,
                    auto_decompress=False,
                ) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                return await self._judge(response)
        except TLS_TROUBLE as error:
            return Outcome.UNKNOWN, f"TLS: {error}"
        except OSError as error:
            return outcome_of(error), f"{host} port {port}: {reason_of(error)}"
        except aiohttp.InvalidURL as error:
            return Outcome.UNKNOWN, f"cannot ask: {error}"
        except aiohttp.ClientError as error:
            return Outcome.FAIL, f"no HTTP answer: {type(error).__name__}: {error}"

    def _context(self) -> ssl.SSLContext | bool:
        if self._url.scheme != "https" or not self._verify:
            return False
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca or None)
        return self._tls

    async def _judge(self, response: aiohttp.ClientResponse) -> tuple[Outcome, str]:
        said = f"status {response.status}"
        if response.status not in self._statuses:
            return Outcome.FAIL, said
        if not self._body:
            return Outcome.PASS, said
        body = b""
        while self._body not in body:
            chunk = await response.content.read(BODY_LIMIT - len(body))
            if not chunk:
                return Outcome.FAIL, f"{said}, but its body lacks {self._body.decode()!r}"
            body += chunk
        return Outcome.PASS, f"{said}, its body has {self._body.decode()!r}"


class Known(AbstractResolver):
    """Gives the addresses that have been looked up already."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._hosts
        ]

    async def close(self) -> None:
        """There is nothing to close."""
