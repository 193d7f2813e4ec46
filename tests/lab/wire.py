"""A wire that misbehaves by the clock: a relay of frames between a host and its switch port.

The kernel's own random loss (`Port.lose`) counts packets; this one counts time: blackouts, bursts,
delay, duplicates, reordering, wrong bits, stumps, replays, one direction only, one pair of
addresses only.  The carrier stays.

This file is also the relay's program: `python wire.py FD FD`, told what to do by JSON lines.
"""

import heapq
import ipaddress
import itertools
import json
import random
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

ETH_P_ALL = 0x0003
ETHERNET_HEADER = 14
ARP = b"\x08\x06"
LONGEST_FRAME = 1 << 16  # a host's segmentation offload hands over more than one MTU at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one direction of the wire behaves."""

    delay_s: float = 0.0
    jitter_s: float = 0.0  # added to the delay, uniform between 0 and this
    loss_percent: float = 0.0  # of the frames, each on its own; 100 = a dead path
    blackouts: tuple[tuple[float, float], ...] = ()  # (from, to) on CLOCK_MONOTONIC: all is lost
    dark_every_s: float = 0.0  # a blackout of `dark_for_s` begins this often; 0 = never
    dark_for_s: float = 0.0
    bursts_s: tuple[float, float] = (0.0, 0.0)  # mean good and mean dark time, exponential
    dropped_pairs: tuple[tuple[str, str], ...] = ()  # all frames between two addresses are lost
    duplicate_percent: float = 0.0
    reorder_percent: float = 0.0  # these frames skip the delay, or wait 10 ms where there is none
    corrupt_percent: float = 0.0  # one bit behind the Ethernet header is wrong; never of ARP, which
    # has no checksum: a bent one poisons the neighbour's table, and that is another fault
    truncate_percent: float = 0.0  # cut off somewhere behind the Ethernet header
    replay_after_s: float = 0.0  # every frame comes once more so much later; 0 = never


FINE = Way()
DEAD = Way(loss_percent=100.0)


class Wire:
    """The relay process of one host's port."""

    def __init__(self, host_side: socket.socket, switch_side: socket.socket) -> None:
        """Take over two packet sockets, bound to the inner ends of the two links."""
        files = (host_side.fileno(), switch_side.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *map(str, files)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=files,
        )
        host_side.close()
        switch_side.close()
        self.fine()

    def be(self, both: Way | None = None, *, towards: Way = FINE, away: Way = FINE) -> float:
        """Behave so from now on; returns the moment from which it does.

        `towards` is the way to the host, `away` the way from it.
        """
        told = [asdict(both or way) for way in (towards, away)]
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the relay was started with pipes")
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def fine(self) -> float:
        """Pass every frame at once."""
        return self.be(FINE)

    def dead(self) -> float:
        """Lose everything, while the host keeps its carrier."""
        return self.be(DEAD)

    def dark(self, seconds: float, after: float = 0.0) -> float:
        """One blackout, in a moment; returns when it begins."""
        begin = time.monotonic() + after
        self.be(Way(blackouts=((begin, begin + seconds),)))
        return begin

    def close(self) -> None:
        """End the relay."""
        self._process.kill()
        self._process.communicate()


class Schedule:
    """What happens to each frame of one direction."""

    def __init__(self, way: dict[str, Any], now_s: float) -> None:
        self._way = way
        self._since_s = now_s
        self._good_s, self._dark_s = way["bursts_s"]
        self._in_burst = False
        self._turns_s = float("inf")
        if self._good_s:
            self._turns_s = now_s + random.expovariate(1 / self._good_s)
        self._pairs = {
            frozenset(ipaddress.ip_address(text).packed for text in pair)
            for pair in way["dropped_pairs"]
        }

    def delays(self, frame: bytes, now_s: float) -> tuple[float, ...]:
        """In how many seconds the frame goes on: never, once or twice."""
        way = self._way
        if self._dark(now_s) or _one_in(way["loss_percent"]):
            return ()
        if self._pairs and addresses(frame) in self._pairs:
            return ()
        delay_s = way["delay_s"] + random.uniform(0, way["jitter_s"])
        if _one_in(way["reorder_percent"]):
            delay_s = 0.0 if delay_s else 0.01
        copies = [delay_s, delay_s] if _one_in(way["duplicate_percent"]) else [delay_s]
        if way["replay_after_s"]:
            copies.append(delay_s + way["replay_after_s"])
        return tuple(copies)

    def altered(self, frame: bytes) -> bytes:
        """The frame as it comes out, right or wrong."""
        if len(frame) <= ETHERNET_HEADER:
            return frame
        if frame[12:14] != ARP and _one_in(self._way["corrupt_percent"]):
            bit = random.randrange(8 * ETHERNET_HEADER, 8 * len(frame))
            wrong = frame[bit // 8] ^ 1 << bit % 8
            frame = frame[: bit // 8] + bytes([wrong]) + frame[bit // 8 + 1 :]
        if _one_in(self._way["truncate_percent"]):
            frame = frame[: random.randrange(ETHERNET_HEADER, len(frame))]
        return frame

    def _dark(self, now_s: float) -> bool:
        while now_s >= self._turns_s:
            self._in_burst = not self._in_burst
            mean_s = self._dark_s if self._in_burst else self._good_s
            self._turns_s += random.expovariate(1 / mean_s)
        every_s = self._way["dark_every_s"]
        periodic = every_s and (now_s - self._since_s) % every_s < self._way["dark_for_s"]
        single = any(begin <= now_s < end for begin, end in self._way["blackouts"])
        return bool(self._in_burst or periodic or single)


def _one_in(percent: float) -> bool:
    return percent > 0 and random.random() * 100 < percent


def addresses(frame: bytes) -> frozenset[bytes]:
    """The two addresses that a frame speaks of: IPv4, IPv6 or ARP; else none."""
    match frame[12:14]:
        case b"\x08\x00":
            return frozenset((frame[26:30], frame[30:34]))
        case b"\x86\xdd":
            return frozenset((frame[22:38], frame[38:54]))
        case kind if kind == ARP:
            return frozenset((frame[28:32], frame[38:42]))
        case _:
            return frozenset()


def relay(host_side: socket.socket, switch_side: socket.socket) -> None:
    """Carry frames until the lab closes our standard input."""
    onward = {host_side: switch_side, switch_side: host_side}
    schedules: dict[socket.socket, Schedule] = {}
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    serial = itertools.count()
    while True:
        wait_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable = select.select([sys.stdin, *schedules], [], [], wait_s)[0]
        now_s = time.monotonic()
        if sys.stdin in readable:
            line = sys.stdin.readline()
            if not line:
                return
            towards, away = json.loads(line)
            schedules = {switch_side: Schedule(towards, now_s), host_side: Schedule(away, now_s)}
            print(now_s, flush=True)
        for side in [side for side in schedules if side in readable]:
            frame = _received(side)
            for delay_s in schedules[side].delays(frame, now_s) if frame else ():
                made = schedules[side].altered(frame)
                heapq.heappush(waiting, (now_s + delay_s, next(serial), onward[side], made))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, frame = heapq.heappop(waiting)
            try:
                out.send(frame)
            except OSError:  # no carrier, or longer than the MTU: lost, as on any wire
                continue


def _received(side: socket.socket) -> bytes:
    """The next frame from outside; empty for one of our own, seen again."""
    try:
        frame, address = side.recvfrom(LONGEST_FRAME)
    except OSError:  # the link was cut: said once, then the socket waits for its return
        return b""
    return b"" if address[2] == socket.PACKET_OUTGOING else frame


if __name__ == "__main__":
    relay(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3]))
