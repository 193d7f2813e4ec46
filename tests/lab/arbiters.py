"""Three hosts of the lab that run etcd: who may serve is decided there.

    store = arbiters(lab)
    store.hosts[11].crash()
    on(standby, Client(store.endpoints).ask(Wish.ACQUIRE))

A host's disk outlives its crash; cut, heal, freeze and thaw are those of every host.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.lab import rootfs
from tests.lab.hosts import Host, Lab, LightHost, children, wait_until
from tests.lab.network import LAN

CLIENTS, PEERS = 2379, 2380
DISK = "/var/lib/etcd/lab"
WITHIN_S = 30.0  # for an election on a busy machine

T = TypeVar("T")


def on(host: Host, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of ours on the network of a host."""
    done: list[T] = []
    host.namespace.inside(lambda: done.append(asyncio.run(work)))
    return done[0]


class Arbiter(LightHost):
    """One member of the store, on a host of its own."""

    def __init__(self, lab: Lab, number: int, numbers: Sequence[int]) -> None:
        self.number = number
        self._numbers = numbers
        self._etcd: subprocess.Popen[str] | None = None
        super().__init__(lab, f"arbiter-{number}", number, layers=[rootfs.with_packages("etcd")])

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{CLIENTS}"

    def start(self) -> float:
        """Get power again; the member starts by itself."""
        stamp = super().start()
        self.serve()
        return stamp

    def serve(self, state: str = "new") -> None:
        """Start the member; `state` is "existing" for one that joins in a lost one's place."""
        peers = {f"arbiter-{n}": f"http://{LAN}{n}:{PEERS}" for n in self._numbers}
        words = ["etcd", "--name", self.name, "--data-dir", DISK]
        words += ["--listen-client-urls", f"http://0.0.0.0:{CLIENTS}"]
        words += ["--advertise-client-urls", self.endpoint]
        words += ["--listen-peer-urls", f"http://0.0.0.0:{PEERS}"]
        words += ["--initial-advertise-peer-urls", peers[self.name]]
        words += ["--initial-cluster", ",".join(f"{name}={url}" for name, url in peers.items())]
        words += ["--initial-cluster-state", state]
        with (self.home / "etcd.log").open("a") as log:
            self._etcd = self.popen(*words, stdout=log, stderr=log)

    def log(self) -> str:
        """What the member said since the host was made."""
        return (self.home / "etcd.log").read_text(errors="replace")

    def serves(self) -> bool:
        """Whether the member answers a read that a majority confirms."""
        return "true" in self.said("--write-out", "json", "endpoint", "health")

    def said(self, *words: str) -> str:
        """What etcdctl prints of this member; "" when it gives no answer."""
        own = ("etcdctl", "--endpoints", f"http://127.0.0.1:{CLIENTS}")
        return self.run(*own, *words, check=False, env={"ETCDCTL_API": "3"}).stdout

    @property
    def runs(self) -> bool:
        """Whether the member has a process."""
        return self._etcd is not None and self._etcd.poll() is None

    def kill(self) -> None:
        """End the member alone, without a warning; the host stays up, and so does its disk."""
        for pid in children(self._etcd.pid) if self._etcd else ():
            os.kill(pid, signal.SIGKILL)
        self._ended()

    def crash(self) -> float:
        """Lose power; the moment it happened."""
        stamp = super().crash()
        self._ended()
        return stamp

    def lose_disk(self) -> None:
        """Forget all that the member has written; it must not run."""
        shutil.rmtree(self.tree / DISK.lstrip("/"), ignore_errors=True)

    def _ended(self) -> None:
        if self._etcd:
            self._etcd.wait(10)
            self._etcd = None

    def close(self) -> None:
        super().close()
        self._ended()


@dataclass(frozen=True, slots=True)
class Arbiters:
    """The three of them."""

    hosts: dict[int, Arbiter]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """For `lease.endpoints`."""
        return tuple(host.endpoint for host in self.hosts.values())

    def serve(self, *numbers: int) -> None:
        """Wait until these, or all, answer what a majority confirms."""
        for number in numbers or self.hosts:
            host = self.hosts[number]
            try:
                wait_until(host.serves, WITHIN_S, f"{host.name} serves")
            except AssertionError as error:
                told = "\n".join(host.log().splitlines()[-15:])
                raise AssertionError(f"{error}\n{told}") from None

    def leader(self) -> int:
        """The number of the host whose member leads."""
        found: list[int] = []

        def led() -> bool:
            for number, host in self.hosts.items():
                if host.runs and host.said("endpoint", "status").split(", ")[4:5] == ["true"]:
                    found.append(number)
            return bool(found)

        wait_until(led, WITHIN_S, "a member leads")
        return found[-1]

    def part(self, number: int) -> None:
        """Let one arbiter hear none of the others; all other hosts still hear it."""
        for other in self._others(number):
            host = self.hosts[number]
            host.lab.part(host.name, other.name)

    def join(self, number: int) -> None:
        """End `part`."""
        for other in self._others(number):
            host = self.hosts[number]
            host.lab.join(host.name, other.name)

    def _others(self, number: int) -> list[Arbiter]:
        return [host for n, host in self.hosts.items() if n != number]


def arbiters(lab: Lab, numbers: Sequence[int] = (11, 12, 13)) -> Arbiters:
    """Three new hosts, whose members have elected a leader."""
    made = Arbiters({number: lab.add(Arbiter(lab, number, numbers)) for number in numbers})
    made.serve()
    return made
