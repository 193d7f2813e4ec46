"""A real etcd of three members on the loopback, for tests of the lease.

    with etcd(tmp_path) as cluster:
        cluster.kill(cluster.leader())

`Client` is the product's own engine, asked directly.  The program comes from the lab's package
layer; a member is a process with a directory for a disk.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from failover_monitor.leases import Ask, Reply
from failover_monitor.leases.etcd import EtcdLease
from failover_monitor.leases.keeper import Wish
from failover_monitor.model import LeasePolicy, Outcome
from tests.lab import rootfs

MEMBERS = 3
WITHIN_S = 30.0  # of patience with a busy machine
# Elections in half a second rather than one: they are what these tests wait for.
PACE = ("--heartbeat-interval", "50", "--election-timeout", "500")


class Tls:
    """An authority, and a certificate of its for 127.0.0.1 that serves members and clients."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.ca, self.cert, self.key = home / "ca.pem", home / "cert.pem", home / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
        ca = ["/CN=lab", "-keyout", str(home / "ca.key"), "-out", str(self.ca)]
        own = ["/CN=member", "-keyout", str(self.key), "-out", str(self.cert)]
        own += ["-CA", str(self.ca), "-CAkey", str(home / "ca.key")]
        own += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
        for words in (ca, own):
            subprocess.run([*made, *words], check=True, capture_output=True)

    def words(self) -> tuple[str, ...]:
        """How a member is told."""
        files = ("--cert-file", self.cert, "--key-file", self.key, "--trusted-ca-file", self.ca)
        return ("--client-cert-auth", *map(str, files))

    def context(self) -> ssl.SSLContext:
        """What a client of a member needs."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.cert, self.key)
        return context


def gateway(
    endpoint: str,
    method: str,
    body: dict[str, Any],
    within_s: float = 3.0,
    tls: Tls | None = None,
) -> Any:
    """One call of a member's JSON gateway.  Raises OSError."""
    request = urllib.request.Request(  # noqa: S310 - http, and ours
        f"{endpoint}/v3/{method}", json.dumps(body).encode()
    )
    context = [urllib.request.HTTPSHandler(context=tls.context())] if tls else []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), *context)
    with direct.open(request, timeout=within_s) as answer:
        return json.load(answer)


def key(name: str) -> str:
    """A key as the gateway wants it."""
    return b64encode(name.encode()).decode()


def until(predicate: Callable[[], object], what: str) -> None:
    """Wait for something of a member's; an AssertionError when it does not come."""
    end_s = time.monotonic() + WITHIN_S
    while not predicate():
        assert time.monotonic() < end_s, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.05)


class Client:
    """An engine, asked directly."""

    def __init__(
        self,
        endpoints: Sequence[str],
        holder: str = "standby",
        *,
        name: str = "pair",
        ttl_s: float = 10.0,
        boot_id: str = "",
        policy: LeasePolicy | None = None,
    ) -> None:
        self.arrived = asyncio.Event()
        self.policy = policy or LeasePolicy(
            engine="etcd", endpoints=tuple(endpoints), name=name, holder=holder, ttl_s=ttl_s
        )
        self.engine = EtcdLease(self.policy, lambda: self.arrived.set(), boot_id=boot_id or holder)
        self.numbers = itertools.count(1)

    async def ask(self, verb: Wish, *, settled: bool = True) -> Reply:
        """Its answer, which comes within a fifth of the ttl (and what a busy machine adds)."""
        self.arrived = asyncio.Event()  # of the loop that runs now
        ask = Ask(next(self.numbers), verb, time.monotonic(), settled)
        self.engine.send(ask)
        async with asyncio.timeout(self.policy.ttl_s / 5 + 5):
            await self.arrived.wait()
        (reply,) = self.engine.receive()
        assert reply.number == ask.number
        return reply

    async def sure(self, verb: Wish, *, settled: bool = True) -> Reply:
        """Its first answer that is one; a machine or an election may be slow."""
        for _ in range(60):
            reply = await self.ask(verb, settled=settled)
            if reply.outcome is not Outcome.UNKNOWN:
                return reply
            await asyncio.sleep(0.1)
        raise AssertionError(f"no answer: {reply.why}")


class Member:
    """One process, its ports and its disk."""

    def __init__(self, number: int, home: Path, ports: tuple[int, int], tls: Tls | None) -> None:
        self.name = f"m{number}"
        self.disk = home / self.name
        self.log = home / f"{self.name}.log"
        self.tls = tls
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{ports[0]}"
        self.peer = f"http://127.0.0.1:{ports[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, peers: str, state: str) -> None:
        program = rootfs.with_packages("etcd") / "usr/bin/etcd"
        words = [str(program), "--name", self.name, "--data-dir", str(self.disk)]
        words += ["--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint]
        words += ["--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer]
        words += ["--initial-cluster", peers, "--initial-cluster-state", state, *PACE]
        words += self.tls.words() if self.tls else ()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.disk.parent)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def status(self) -> dict[str, Any]:
        """What it says of itself; {} when it does not answer."""
        try:
            return dict(gateway(self.endpoint, "maintenance/status", {}, 1.0, self.tls))
        except OSError:
            return {}

    def serves(self) -> bool:
        """Whether it answers a read that needs a majority."""
        try:
            gateway(self.endpoint, "kv/range", {"key": key("any")}, 1.0, self.tls)
        except OSError:
            return False
        return True


class Cluster:
    """The members, and what may happen to them."""

    def __init__(self, home: Path, tls: Tls | None = None) -> None:
        ports = _free_ports(2 * MEMBERS)
        self.members = [
            Member(number, home, (ports[2 * number], ports[2 * number + 1]), tls)
            for number in range(MEMBERS)
        ]

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def start(self, *numbers: int, state: str = "new") -> None:
        """Start these members, or all that are dead, and wait until they serve."""
        named = [self.members[number] for number in numbers]
        started = named or [member for member in self.members if not member.running]
        peers = ",".join(f"{member.name}={member.peer}" for member in self.members)
        for member in started:
            member.start(peers, state)
        for member in started:
            until(member.serves, f"{member.name} serves, see {member.log}")

    def kill(self, *numbers: int) -> None:
        """End these members, or all, without a warning; their disks stay."""
        for number in numbers or range(MEMBERS):
            self.members[number].kill()

    def freeze(self, number: int) -> None:
        """Let a member stand still."""
        self.members[number].signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let it go on."""
        self.members[number].signal(signal.SIGCONT)

    def lose_disk(self, *numbers: int) -> None:
        """Forget all that these dead members have written."""
        for number in numbers or range(MEMBERS):
            shutil.rmtree(self.members[number].disk)

    def replace(self, number: int) -> None:
        """Take out a member without a disk and put in a new one, as an operator does."""
        other = self.members[(number + 1) % MEMBERS].endpoint
        peer = self.members[number].peer

        def removed() -> bool:
            listed = gateway(other, "cluster/member/list", {})["members"]
            lost = [member["ID"] for member in listed if peer in member["peerURLs"]]
            for member in lost:
                gateway(other, "cluster/member/remove", {"ID": member})
            return not lost

        def added() -> bool:
            gateway(other, "cluster/member/add", {"peerURLs": [peer]})
            return True

        # The others first have to elect a leader, and to have seen each other for a while.
        until(lambda: _done(removed), "the lost member is taken out")
        until(lambda: _done(added), "the new member is let in")
        self.start(number, state="existing")

    def leader(self) -> int:
        """The number of the member that leads."""
        found: list[int] = []

        def led() -> bool:
            for number, member in enumerate(self.members):
                status = member.status()
                if status and status.get("leader") == status["header"]["member_id"]:
                    found.append(number)
                    return True
            return False

        until(led, "a member leads")
        return found[0]

    def lease_left_s(self, name: str) -> int:
        """Whole seconds for which the store keeps a key, as its leader counts; -1 = it is gone."""
        leader = self.members[self.leader()].endpoint
        found = gateway(leader, "kv/range", {"key": key(f"{name}/holder")}).get("kvs")
        if not found:
            return -1
        lease = {"ID": found[0]["lease"]}
        return int(gateway(leader, "lease/timetolive", lease).get("TTL", 0))

    def close(self) -> None:
        self.kill()


@contextmanager
def etcd(home: Path, tls: Tls | None = None) -> Iterator[Cluster]:
    """Three members that serve."""
    cluster = Cluster(home, tls)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def _done(step: Callable[[], bool]) -> bool:
    """Whether a step worked; a member that refuses it for now is asked again."""
    try:
        return step()
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()
