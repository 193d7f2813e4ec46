"""Two hosts and a cable between them: private network namespaces with real kernels at both ends.

Rule: they have no names and touch nothing else; they are gone when the last test lets go of them.
The calling thread is at the near host, except inside `with far.entered():`.
"""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
NEAR4, FAR4, FAR4_SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.3"
DEAD4 = "198.51.100.9"  # on the link, and nobody has it
BEHIND4 = "198.51.100.200"  # behind the far host, which is the router to it
NEAR6, FAR6, FAR6_SECOND = "2001:db8::1", "2001:db8::2", "2001:db8::3"
DEAD6 = "2001:db8::9"
NEAR6_LINK, FAR6_LINK = "fe80::1", "fe80::2"
NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Host:
    """One network namespace."""

    namespace: int  # a descriptor
    link: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        before = _own_namespace()
        _enter(self.namespace)
        try:
            yield
        finally:
            _enter(before)
            os.close(before)

    def ip(self, *commands: str) -> str:
        with self.entered():
            return subprocess.run(
                ["ip", "-batch", "-"],
                input="\n".join(commands),
                check=True,
                capture_output=True,
                text=True,
            ).stdout

    def nft(self, rules: str) -> None:
        with self.entered():
            subprocess.run(["nft", "-f", "-"], input=rules, check=True, text=True)

    def sysctl(self, **values: object) -> None:
        """`net__ipv4__ip_forward=1` sets net.ipv4.ip_forward."""
        with self.entered():
            for name, value in values.items():
                Path("/proc/sys/" + name.replace("__", "/")).write_text(str(value))


@contextmanager
def cable() -> Iterator[tuple[Host, Host]]:
    """The near host, where we are, and the far host."""
    before = _own_namespace()
    try:
        _leave_for_a_new_one()
        far = Host(_own_namespace(), "far0")
        _leave_for_a_new_one()
        near = Host(_own_namespace(), "near0")
        try:
            plug(near, far)
            yield near, far
        finally:
            os.close(near.namespace)
            os.close(far.namespace)
    finally:
        _enter(before)
        os.close(before)


def plug(near: Host, far: Host) -> None:
    """Make the link and its addresses, also again after it was deleted."""
    there = f"/proc/{os.getpid()}/fd/{far.namespace}"
    near.ip(
        "link set lo up",
        f"link add near0 address {NEAR_MAC} type veth"
        f" peer name far0 address {FAR_MAC} netns {there}",
    )
    for host in (near, far):
        with host.entered():
            host.sysctl(**{f"net__ipv6__conf__{host.link}__accept_dad": 0})
            host.sysctl(**{f"net__ipv6__conf__{host.link}__addr_gen_mode": 1})
    far.ip(
        "link set lo up",
        f"address add {FAR4}/26 dev far0",
        f"address add {FAR4_SECOND}/26 dev far0",
        f"address add {FAR6}/64 dev far0 nodad",
        f"address add {FAR6_SECOND}/64 dev far0 nodad",
        f"address add {FAR6_LINK}/64 dev far0 nodad",
        "link set far0 up",
    )
    near.ip(
        f"address add {NEAR4}/26 dev near0",
        f"address add {NEAR6}/64 dev near0 nodad",
        f"address add {NEAR6_LINK}/64 dev near0 nodad",
        "link set near0 up",
        f"route add 198.51.100.128/25 via {FAR4}",
    )
    end_s = time.monotonic() + 30
    while not (_settled(near) and _settled(far)):
        assert time.monotonic() < end_s, "the cable does not come up"


def _settled(host: Host) -> bool:
    """The kernel finishes a link and its IPv6 addresses in the background."""
    return "state UP" in host.ip(f"link show {host.link}") and not host.ip(
        f"address show dev {host.link} tentative"
    )


def _own_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def _leave_for_a_new_one() -> None:
    if _libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot make a network namespace: this needs root")
