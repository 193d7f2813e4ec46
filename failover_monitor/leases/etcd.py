"""The lease in etcd, through the JSON gateway that every member has.

Rule: only what a majority has confirmed is an answer; all else is UNKNOWN.  Two keys: NAME/holder
goes with its etcd lease, NAME/term stays and counts who won.

*Winning* is one transaction that compares the revisions of both keys as they were looked at, so a
request that was given up and arrives late changes nothing.  Every try brings an etcd lease of its
own, hence nothing that belongs to an older hold can shorten a newer one.

*Renewing* needs more than etcd's keep-alive, which the leader answers alone: one that stood still
and has been deposed meanwhile grants, for a moment, what its successor never hears of (tried: it
does).  So the same member is first asked whether the key is still ours under that lease, by a read
that a majority confirms: whoever can answer that is, or knows, the leader of that moment.  A leader
elected after it counts every lease from its election, so it keeps ours no shorter than we believe.

A connection lives as long as a request: no member's restart is felt by the next one, and
certificates may be renewed at any time.
"""

import asyncio
import json
import math
import os
import secrets
import ssl
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    TCPConnector,
)

from failover_monitor.leases.keeper import ANSWER_SHARE, Ask, Reply, Wish
from failover_monitor.model import LeasePolicy, Outcome

HASTE = 0.9  # part of the time for an answer that we use: the keeper gives up after all of it
ANSWER_BYTES = 1 << 16  # a longer answer is none
GONE = "etcdserver: requested lease not found"
THERE = "etcdserver: lease already exists"  # an earlier try of the same request made it
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Object = dict[str, Any]


class EtcdError(Exception):
    """A member gave no answer that can be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One of our keys, as a member shows it; revision 0 = there is none."""

    revision: int = 0
    lease: int = 0
    value: Object | None = None  # None: there is none, or it is none of ours

    def under(self, lease: int) -> bool:
        """Whether it is there, and goes with that etcd lease."""
        return self.revision > 0 and self.lease == lease

    def says(self, name: str) -> str:
        """A text in the value; "" when there is none."""
        return str((self.value or {}).get(name, ""))


@dataclass(frozen=True, slots=True)
class Look:
    """Both keys at one moment, confirmed by a majority."""

    member: str  # who showed them
    holder: Key
    term: Key

    @property
    def fresh(self) -> bool:
        """Nobody has yet waited for those who may hold it by an earlier store."""
        return not (self.term.value or {}).get("settled", False)


class EtcdLease:
    """The engine for one lease."""

    def __init__(
        self, policy: LeasePolicy, changed: Callable[[], None], *, boot_id: str = ""
    ) -> None:
        """`boot_id`: whose hold may be taken over at once, beside the name; "" = this boot."""
        self._policy = policy
        self._changed = changed
        self._boot = boot_id or BOOT_ID.read_text().strip()
        self._process = secrets.token_hex(8)
        self._limit_s = policy.ttl_s / ANSWER_SHARE * HASTE
        self._endpoints = [endpoint.rstrip("/") for endpoint in policy.endpoints]
        self._lease = 0  # the etcd lease of the last try to win
        self._task: asyncio.Task[None] | None = None
        self._replies: list[Reply] = []

    def send(self, ask: Ask) -> None:
        self.close()
        if ask.verb is Wish.ACQUIRE:
            self._lease = secrets.randbits(62) + 1
        self._task = asyncio.get_running_loop().create_task(self._answer(ask))

    def receive(self) -> list[Reply]:
        replies, self._replies = self._replies, []
        return replies

    def close(self) -> None:
        if self._task:
            self._task.cancel()

    async def _answer(self, ask: Ask) -> None:
        try:
            reply = await self._ask_around(ask)
        except OSError as error:  # a file for TLS; what members do is dealt with one by one
            reply = Reply(ask.number, Outcome.UNKNOWN, why=f"cannot use TLS: {error}")
        self._replies.append(reply)
        self._changed()

    async def _ask_around(self, ask: Ask) -> Reply:
        """Ask one member after the other; the one that answers is the first the next time."""
        verbs = {Wish.ACQUIRE: self._acquire, Wish.RENEW: self._renew, Wish.RELEASE: self._release}
        verb: Callable[[Member, Ask], Awaitable[Reply]] = verbs[ask.verb]
        end_s = asyncio.get_running_loop().time() + self._limit_s
        troubles = []
        async with session_for(self._policy, self._limit_s) as session:
            for number, endpoint in enumerate(list(self._endpoints)):
                left_s = end_s - asyncio.get_running_loop().time()
                member = Member(session, endpoint, self._policy.name)
                try:
                    async with asyncio.timeout(left_s / (len(self._endpoints) - number)):
                        reply = await verb(member, ask)
                except TimeoutError:
                    troubles.append(f"{endpoint}: no answer in time")
                except (EtcdError, ClientError, OSError) as error:
                    troubles.append(f"{endpoint}: {_reason(error)}")
                else:
                    self._endpoints.remove(endpoint)
                    self._endpoints.insert(0, endpoint)
                    return reply
        return Reply(ask.number, Outcome.UNKNOWN, why="; ".join(troubles))

    async def _acquire(self, member: "Member", ask: Ask) -> Reply:
        look = await member.look()
        if look.holder.revision and not self._takes_over(look.holder):
            return self._refused(ask, look.holder)
        asked_s = math.ceil(self._policy.ttl_s)
        granted_s = await member.grant(self._lease, asked_s)
        if granted_s < asked_s:
            raise EtcdError(f"cannot lease for {asked_s} s: the member grants {granted_s} s")
        count = (look.term.value or {}).get("count")
        term = {
            "count": count + 1 if isinstance(count, int) else 1,
            "holder": self._policy.holder,
            "settled": not look.fresh,
        }
        after = await member.win(look, self._lease, self._ours(), term)
        if after is None:
            return Reply(ask.number, Outcome.PASS, self._policy.holder, look.fresh, "won")
        if after.holder.revision and not after.holder.under(self._lease):
            return self._refused(ask, after.holder)
        raise EtcdError("the keys changed while they were looked at")

    async def _renew(self, member: "Member", ask: Ask) -> Reply:
        before = await member.look()
        if not before.holder.under(self._lease):
            return self._refused(ask, before.holder)
        if ask.settled and before.fresh:
            await member.settle(before)
        kept_by, left_s = await member.keep_alive(self._lease)
        after = await member.look()
        if not after.holder.under(self._lease):
            return self._refused(ask, after.holder)
        if not before.member == kept_by == after.member:
            raise EtcdError("cannot trust a keep-alive: several members answer here")
        if left_s < self._policy.ttl_s:
            raise EtcdError(f"cannot renew: the keep-alive is for {left_s} s")
        return Reply(ask.number, Outcome.PASS, self._policy.holder, why="renewed")

    async def _release(self, member: "Member", ask: Ask) -> Reply:
        if self._lease:
            await member.revoke(self._lease)
        return Reply(ask.number, Outcome.PASS, why="given back")

    def _ours(self) -> Object:
        return {"holder": self._policy.holder, "boot": self._boot, "process": self._process}

    def _takes_over(self, key: Key) -> bool:
        """It is this host's, by this process or one before it: nobody else's of the same name."""
        return (key.says("holder"), key.says("boot")) == (self._policy.holder, self._boot)

    def _refused(self, ask: Ask, key: Key) -> Reply:
        holder = key.says("holder")
        if not key.revision:
            why = "nobody holds it: it expired, or was revoked"
        elif not holder:
            why = f"{self._policy.name}/holder was written by another program"
        elif holder != self._policy.holder:
            why = f"{holder} holds it"
        elif key.says("boot") != self._boot:
            why = f"an earlier boot of this host holds it, or another host calls itself {holder}"
        else:
            why = "another process of this host took it"
        return Reply(ask.number, Outcome.FAIL, holder, why=why)


def session_for(policy: LeasePolicy, limit_s: float) -> ClientSession:
    """Connections as the policy wants them.  Raises OSError when a file for TLS is no use."""
    tls: ssl.SSLContext | bool = True
    if policy.ca or policy.cert:
        tls = ssl.create_default_context(cafile=policy.ca or None)
        if policy.cert:
            tls.load_cert_chain(policy.cert, policy.key or None)
    return ClientSession(
        connector=TCPConnector(ssl=tls, limit=1),
        timeout=ClientTimeout(total=limit_s),
        auto_decompress=False,
    )


async def look_around(policy: LeasePolicy, limit_s: float) -> tuple[dict[str, str], str]:
    """Only read: by endpoint why it did not answer ("" = it did), and who holds the lease."""

    async def ask(endpoint: str) -> tuple[str, str]:
        try:
            async with session_for(policy, limit_s) as session:
                look = await Member(session, endpoint.rstrip("/"), policy.name).look()
        except TimeoutError:
            return f"no answer within {limit_s:g} s", ""
        except (EtcdError, ClientError, OSError) as error:
            return _reason(error), ""
        return "", look.holder.says("holder")

    told = await asyncio.gather(*(ask(endpoint) for endpoint in policy.endpoints))
    troubles = {name: why for name, (why, _) in zip(policy.endpoints, told, strict=True)}
    return troubles, next((holder for _, holder in told if holder), "")


class Member:
    """One endpoint, for the length of one request."""

    def __init__(self, session: ClientSession, endpoint: str, name: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._holder = _text(f"{name}/holder")
        self._term = _text(f"{name}/term")
        self._both = [{"request_range": {"key": key}} for key in (self._holder, self._term)]

    async def look(self) -> Look:
        """Both keys, as the majority has them."""
        return self._seen(await self._call("kv/txn", {"success": self._both}))

    async def grant(self, lease: int, ttl_s: int) -> int:
        """Make an etcd lease; for how many seconds it is."""
        try:
            answer = await self._call("lease/grant", {"ID": str(lease), "TTL": str(ttl_s)})
        except EtcdError as error:
            if str(error) == THERE:
                return ttl_s
            raise
        return _number(answer, "TTL")

    async def win(self, look: Look, lease: int, holder: Object, term: Object) -> Look | None:
        """Write both keys if they are as they were; None = done, else how they are now."""
        held = {"key": self._holder, "value": _json(holder), "lease": str(lease)}
        body = {
            "compare": [
                _unchanged(self._holder, look.holder.revision),
                _unchanged(self._term, look.term.revision),
            ],
            "success": [
                {"request_put": held},
                {"request_put": {"key": self._term, "value": _json(term)}},
            ],
            "failure": self._both,
        }
        answer = await self._call("kv/txn", body)
        return None if answer.get("succeeded") is True else self._seen(answer)

    async def settle(self, look: Look) -> None:
        """Write down that nobody can hold the lease by an earlier store."""
        term = {**(look.term.value or {}), "settled": True}
        body = {
            "compare": [
                _unchanged(self._holder, look.holder.revision),
                _unchanged(self._term, look.term.revision),
            ],
            "success": [{"request_put": {"key": self._term, "value": _json(term)}}],
        }
        await self._call("kv/txn", body)

    async def keep_alive(self, lease: int) -> tuple[str, int]:
        """Renew an etcd lease; who says so, and for how many seconds (0 = it is not there)."""
        answer = await self._call("lease/keepalive", {"ID": str(lease)})
        result = answer.get("result")
        if not isinstance(result, dict):
            raise EtcdError(f"cannot read the answer {answer}")
        return _member(result), _number(result, "TTL")

    async def revoke(self, lease: int) -> None:
        """End an etcd lease, and the key with it."""
        try:
            await self._call("lease/revoke", {"ID": str(lease)})
        except EtcdError as error:
            if str(error) != GONE:
                raise

    async def _call(self, method: str, body: Object) -> Object:
        """One call of the gateway.  Raises EtcdError, ClientError, OSError."""
        url = f"{self._endpoint}/v3/{method}"
        async with self._session.post(url, json=body, allow_redirects=False) as response:
            chunks = bytearray()
            async for chunk in response.content.iter_any():
                chunks += chunk
                if len(chunks) > ANSWER_BYTES:
                    raise EtcdError("the answer is too long")
        answer = _object(bytes(chunks))
        if response.status != 200 or answer is None or "error" in answer:
            said = (answer or {}).get("error")
            raise EtcdError(said if isinstance(said, str) else f"HTTP status {response.status}")
        return answer

    def _seen(self, answer: Object) -> Look:
        try:
            holder, term = (_key(part["response_range"]) for part in answer["responses"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EtcdError(f"cannot read the answer {answer}") from error
        return Look(_member(answer), holder, term)


def _reason(error: Exception) -> str:
    """Why a member was not reached, in a few words."""
    if isinstance(error, ClientConnectorError) and not isinstance(error, ClientSSLError):
        number = error.os_error.errno or 0
        why = os.strerror(number) if number > 0 else error.os_error
        return f"cannot connect: {why}"
    return str(error) or type(error).__name__


def _key(answer: Object) -> Key:
    for found in answer.get("kvs", []):
        value = _object(b64decode(found.get("value", "")))
        return Key(_number(found, "mod_revision"), _number(found, "lease"), value)
    return Key()


def _member(answer: Object) -> str:
    """Who gave an answer."""
    header = answer.get("header")
    if not isinstance(header, dict) or not header.get("member_id"):
        raise EtcdError("the answer does not say which member gave it")
    return str(header["member_id"])


def _number(answer: Object, name: str) -> int:
    """A whole number, which the gateway writes as a text and leaves out when it is 0."""
    try:
        return int(answer.get(name, 0))
    except (TypeError, ValueError) as error:
        raise EtcdError(f"cannot read the number {name} in {answer}") from error


def _unchanged(key: str, revision: int) -> Object:
    """A comparison: the key was last written by that revision (0 = it is not there)."""
    return {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _object(text: bytes) -> Object | None:
    """A JSON object; None when the text is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json(value: Object) -> str:
    return _text(json.dumps(value))


def _text(text: str) -> str:
    return b64encode(text.encode()).decode()
