"""A failover and a failback, live on the terminal, beside what `failover-monitor check` predicted.

Rule: it only moves hosts and shows them.  Whatever is on the screen was read from a host or heard
on the switch; the standby's monitor is the one that install.sh leaves, with the shipped timing.

    tests/demo [--fast]        the way in: it installs what is missing and enters the lab
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from tests.lab import rootfs, units
from tests.lab.hosts import Host, Lab, SystemdHost, TreeHost
from tests.lab.network import LAN, LabError
from tests.lab.pair import APP, LOG, STATE, STATUS

FRAME_S = 0.1
TOLERANCE_S = 0.3  # what starting or stopping a service may take beside what `check` predicts
BAR_CHARACTERS_PER_S = 7
BOLD, GREEN, RED, DIM = "1", "32", "31", "2"
GIVEN_CONFIG = "/root/config.json"  # on the standby, for `install.sh --config`
EACH_CHECK_LOGGED = """\
[Service]
ExecStart=
ExecStart=/usr/local/bin/failover-monitor run --debug
"""


class DemoError(Exception):
    """The demo did not go as it should; the text says what."""


# --- the terminal ------------------------------------------------------------------------------


class Screen:
    """Lines that stay and, on a terminal, a panel below them that is drawn anew."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._panel: list[str] = []
        self._drawn = 0

    @property
    def width(self) -> int:
        """Characters that fit on a line, the last column left free; at most 79."""
        return min(shutil.get_terminal_size().columns, 80) - 1

    def tell(self, text: str = "", *, label: str = "", style: str = "") -> None:
        """Add lines that stay: the text, wrapped, to the right of a label."""
        lines = textwrap.wrap(
            text,
            self.width,
            initial_indent=label,
            subsequent_indent=" " * len(label),
            break_on_hyphens=False,
        )
        self._write([self.styled(line, style) for line in lines or [label.rstrip()]])

    def draw(self, panel: Sequence[str]) -> None:
        """Replace the panel."""
        self._panel = list(panel)
        self._write([])

    def close_panel(self) -> None:
        """Take the panel away."""
        self.draw([])

    def styled(self, text: str, style: str) -> str:
        """The text in a colour, where there are colours."""
        return f"\033[{style}m{text}\033[0m" if style and self.live else text

    def _write(self, lines: list[str]) -> None:
        # In one piece, so that no half of it is ever seen.
        back = f"\033[{self._drawn}A\r" if self._drawn else ""
        below = self._panel if self.live else []
        end = "\033[K\n" if self.live else "\n"
        clear = "\033[J" if self._drawn > len(lines) + len(below) else ""
        sys.stdout.write(back + "".join(line + end for line in [*lines, *below]) + clear)
        sys.stdout.flush()
        self._drawn = len(below)


# --- what is seen ------------------------------------------------------------------------------


class Ear:
    """Hears, at a host's port of the switch, when it last answered an echo."""

    def __init__(self, lab: Lab, host: Host) -> None:
        self._tap = lab.switch.tap(host.port.name)
        self._tap.setblocking(False)
        self._heard_s = 0.0

    def age_s(self) -> float | None:
        """Seconds since the last answer; None = it has never answered."""
        while True:
            try:
                frame, origin = self._tap.recvfrom(2048)
            except OSError:  # nothing more, or once: the port went down
                break
            if origin[2] != socket.PACKET_OUTGOING and is_echo_reply(frame):
                self._heard_s = time.monotonic()
        return time.monotonic() - self._heard_s if self._heard_s else None


def is_echo_reply(frame: bytes) -> bool:
    """Whether an Ethernet frame carries an ICMP echo reply over IPv4."""
    header = 4 * (frame[14] & 0x0F) if len(frame) > 14 else 0
    return (
        frame[12:14] == b"\x08\x00"
        and len(frame) > 14 + header
        and frame[23] == socket.IPPROTO_ICMP
        and frame[14 + header] == 0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What `failover-monitor check` says of the configuration, in seconds."""

    takeover_min_s: float
    takeover_mean_s: float
    takeover_max_s: float
    failback_max_s: float

    @classmethod
    def asked_of(cls, standby: SystemdHost) -> Self:
        """Ask the command on the standby."""
        told = json.loads(standby.run("failover-monitor", "check", "--json").stdout)
        return cls(
            takeover_min_s=told["detection_min_s"],
            takeover_mean_s=told["detection_mean_s"],
            takeover_max_s=told["detection_max_s"],
            failback_max_s=told["return_seen_s"],
        )

    def of_takeover(self) -> str:
        times = (self.takeover_min_s, self.takeover_mean_s, self.takeover_max_s)
        return " - ".join(f"{time_s:.1f}" for time_s in times) + " s"

    def of_failback(self) -> str:
        return f"within {self.failback_max_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured, in seconds."""

    takeover_s: float
    failback_s: float
    started_alone: bool  # the service was started here although only our own cable was out

    def faults(self, told: Prediction) -> list[str]:
        """What is not as it was predicted."""
        earliest_s, latest_s = told.takeover_min_s, told.takeover_max_s + TOLERANCE_S
        back_s = told.failback_max_s + TOLERANCE_S
        takeover, failback = f"{self.takeover_s:.2f} s", f"{self.failback_s:.2f} s"
        found = (
            (self.takeover_s < earliest_s, f"takeover after {takeover}, before {earliest_s:.1f} s"),
            (self.takeover_s > latest_s, f"takeover after {takeover}, later than {latest_s:.1f} s"),
            (self.failback_s > back_s, f"failback after {failback}, later than {back_s:.1f} s"),
            (self.started_alone, "the standby took over although only its own cable was out"),
        )
        return [text for applies, text in found if applies]


# --- the show ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The three of them, and an ear at each of the two that the standby asks."""

    gateway: Host
    primary: SystemdHost
    standby: SystemdHost
    gateway_ear: Ear
    primary_ear: Ear


class Show:
    """The running picture: call `watch` or `watch_until` while something is to be seen."""

    def __init__(self, screen: Screen, hosts: Hosts, told: Prediction) -> None:
        self.screen, self.hosts, self.told = screen, hosts, told
        self.takeover_s: float | None = None
        self.failback_s: float | None = None
        self._power = "up"
        self._what, self._since_s = "", 0.0  # what the times count from
        self._log_lines = 0
        self._said: dict[str, str] = {}

    def scene(self, text: str) -> None:
        """Say what is about to happen."""
        self.screen.tell()
        self.screen.tell(text, style=BOLD)

    def count_from(self, what: str, moment_s: float, *, power: str | None = None) -> None:
        """From now on, times are since this moment."""
        self._what, self._since_s = what, moment_s
        self._power = power or self._power
        self._line(what, moment_s, style=BOLD)

    def say(self, text: str, moment_s: float) -> None:
        """Tell what was measured, after what the log says of it."""
        self.watch(2 * FRAME_S)
        self._line(text, moment_s, style=GREEN)

    def watch(self, seconds: float) -> None:
        """Show for so long."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._frame()
            time.sleep(FRAME_S)

    def watch_until(self, predicate: Callable[[], bool], within: float, what: str) -> None:
        """Show until it is so; a DemoError when it takes too long."""
        end_s = time.monotonic() + within
        while not predicate():
            if time.monotonic() > end_s:
                raise DemoError(f"not within {within:.0f} s: {what}")
            self._frame()
            time.sleep(FRAME_S)

    def word(self) -> str:
        """The state word on the standby."""
        return text_of(self.hosts.standby, STATE).strip()

    def _frame(self) -> None:
        for line in text_of(self.hosts.standby, LOG).splitlines()[self._log_lines :]:
            self._log_lines += 1
            self._line(f"log: {line.partition('] ')[2]}", logged_s(line), style=DIM)
        gateway_age_s = self.hosts.gateway_ear.age_s()
        primary_age_s = self.hosts.primary_ear.age_s()
        if self.screen.live:
            self.screen.draw(self._panel(gateway_age_s, primary_age_s))
            return
        silent = gateway_age_s is None or gateway_age_s > self.told.takeover_min_s
        self._when_new("gateway", "does not answer" if silent else "answers")
        self._when_new("primary", f"{self._primary()}, {APP} {service(self.hosts.primary)}")
        self._when_new("standby", f"{self._standby()}, {APP} {service(self.hosts.standby)}")

    def _primary(self) -> str:
        if self._power == "up" and not self.hosts.primary.running(APP):
            return "boots"
        return self._power

    def _standby(self) -> str:
        phase = json.loads(text_of(self.hosts.standby, STATUS) or '{"phase": "-"}')["phase"]
        return f"{self.word()} (phase {phase})"

    def _when_new(self, host: str, said: str) -> None:
        if self._said.get(host) != said:
            self._said[host] = said
            self._line(f"{host}: {said}", time.monotonic())

    def _line(self, text: str, moment_s: float, *, style: str = "") -> None:
        since_s = moment_s - self._since_s
        label = f"{since_s:7.1f} s  " if self._since_s else " " * 11
        self.screen.tell(text, label=label, style=style)

    def _panel(self, gateway_age_s: float | None, primary_age_s: float | None) -> list[str]:
        gateway, primary, standby = self.hosts.gateway, self.hosts.primary, self.hosts.standby
        title = "all is well"
        if self._what:
            title = f"{time.monotonic() - self._since_s:.1f} s since {self._what}"
        here, there = service(standby), service(primary)
        rows = (
            (f"-- {title} ".ljust(self.screen.width, "-"), BOLD),
            (columns("host", "address", "answered", APP, "says"), DIM),
            (columns("gateway", gateway.address, ago(gateway_age_s), "", ""), ""),
            (
                columns("primary", primary.address, ago(primary_age_s), there, self._primary()),
                GREEN if there == "running" else RED,
            ),
            (
                columns("standby", standby.address, "", here, self._standby()),
                GREEN if here == "running" else "",
            ),
            ("", ""),
            (f"takeover  predicted {self.told.of_takeover():<18} {measured(self.takeover_s)}", ""),
            (f"          {self._bar()}", ""),
            (f"failback  predicted {self.told.of_failback():<18} {measured(self.failback_s)}", ""),
        )
        return [self.screen.styled(text[: self.screen.width], style) for text, style in rows]

    def _bar(self) -> str:
        """A ruler of seconds with the predicted window; filled up to now, or to the takeover."""
        spent_s = self.takeover_s or 0.0
        if not spent_s and self._power == "no power":
            spent_s = time.monotonic() - self._since_s
        return bar(self.told, spent_s)


def bar(told: Prediction, spent_s: float) -> str:
    """`>` = time spent, `[ | ]` = earliest, mean and latest verdict."""

    def at(moment_s: float) -> int:
        return round(moment_s * BAR_CHARACTERS_PER_S)

    cells = ["."] * (at(told.takeover_max_s) + 5)
    cells[: at(spent_s)] = ">" * min(at(spent_s), len(cells))
    marks = (told.takeover_min_s, "["), (told.takeover_mean_s, "|"), (told.takeover_max_s, "]")
    for moment_s, mark in marks:
        cells[at(moment_s)] = mark
    return "".join(cells)


def columns(host: str, address: str, answered: str, unit: str, says: str) -> str:
    return f"{host:<9}{address:<15}{answered:<12}{unit:<13}{says}".rstrip()


def ago(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:4.1f} s ago"


def service(host: SystemdHost) -> str:
    return "running" if host.running(APP) else "stopped"


def logged_s(line: str) -> float:
    """The moment of a log line; the hosts' wall clock is ours, and their time zone is UTC."""
    wall = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC)
    return wall.timestamp() - (time.time() - time.monotonic())


def measured(seconds: float | None) -> str:
    return "" if seconds is None else f"measured {seconds:.2f} s"


def text_of(host: TreeHost, path: str) -> str:
    try:
        return host.read(path)
    except FileNotFoundError:
        return ""


# --- the story ---------------------------------------------------------------------------------


def boot(screen: Screen, lab: Lab) -> Hosts:
    """Bring up the three hosts, the service running on the primary."""
    begun_s = time.monotonic()
    screen.tell("Booting a gateway, a primary and a standby on a switch of their own ...")
    app = {f"/etc/systemd/system/{APP}": units.ENABLED}
    shipped = json.loads((rootfs.CHECKOUT / "config.json").read_text())
    config = shipped | {
        "gateway_ip": f"{LAN}1",
        "active_ip": f"{LAN}2",
        "services_to_manage": [APP],
    }
    del config["witness_ips"]
    here = {
        f"/etc/systemd/system/{APP}": units.APP,
        "/etc/systemd/system/pin.service": units.pin(APP),
        "/etc/systemd/system/failover-monitor.service.d/demo.conf": EACH_CHECK_LOGGED,
        GIVEN_CONFIG: json.dumps(config, indent=2) + "\n",
    }
    binds = {str(rootfs.CHECKOUT): "/src", str(rootfs.wheelhouse()): "/wheels"}
    gateway, primary = lab.plain("gateway", 1), lab.systemd("primary", 2, files=app)
    hosts = Hosts(
        gateway=gateway,
        primary=primary,
        standby=lab.systemd("standby", 3, files=here, binds=binds),
        gateway_ear=Ear(lab, gateway),
        primary_ear=Ear(lab, primary),
    )
    hosts.primary.systemctl("enable", "--now", APP)
    hosts.standby.systemctl("start", "pin.service")
    took = f"up after {time.monotonic() - begun_s:.1f} s"
    screen.tell(f"{took}; {APP} runs on the primary", label="  ")
    return hosts


def install(screen: Screen, standby: SystemdHost) -> None:
    """Run install.sh on the standby, its words as they come; the wheels come from a folder."""
    screen.tell()
    screen.tell(f"standby# ./install.sh --config {GIVEN_CONFIG}", style=BOLD)
    words = ("sh", "-c", f"exec /src/install.sh --config {GIVEN_CONFIG} 2>&1")
    offline = {
        "PATH": rootfs.STANDARD_PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/wheels",
    }
    step = standby.popen(*words, stdout=subprocess.PIPE, env=offline)
    for line in step.stdout or ():
        screen.tell(line.rstrip(), label="  ")
    if step.wait():
        raise DemoError(f"install.sh ended with {step.returncode}")


def predict(screen: Screen, standby: SystemdHost) -> Prediction:
    """Let `check` say what will happen, to the person and to us."""
    words = "failover-monitor check | grep -E '^(crash|outage|return)'"
    screen.tell()
    screen.tell(f"standby# {words}", style=BOLD)
    for line in standby.run("sh", "-c", words).stdout.splitlines():
        screen.tell(label=f"  {line}")
    return Prediction.asked_of(standby)


def play(show: Show, *, pause_s: float) -> Outcome:
    """Four scenes: all is well, the primary dies, it returns, our own cable is out."""
    primary, standby = show.hosts.primary, show.hosts.standby
    longest_s = show.told.takeover_max_s

    show.scene(
        "1. All is well: the service runs on the primary, the standby watches. (Lines with log:"
        f" are from the standby's {LOG}.)"
    )
    show.watch_until(lambda: show.word() == "active_alive", 15, "the standby sees the primary")
    show.watch(pause_s)

    show.scene("2. The primary loses power.")
    lost_s = primary.crash()
    show.count_from("the primary lost power", lost_s, power="no power")
    show.watch_until(lambda: standby.running(APP), longest_s + 10, f"{APP} runs on the standby")
    standby.wait_for(APP, "active", 5)
    show.takeover_s = standby.active_since(APP) - lost_s
    predicted = f"predicted {show.told.of_takeover()}"
    show.say(f"{APP} runs on the standby ({predicted})", lost_s + show.takeover_s)
    show.watch(pause_s)

    show.scene("3. The primary gets its power back, and boots.")
    back_s = primary.start()
    show.count_from("the primary came back", back_s, power="up")
    show.watch_until(lambda: not standby.running(APP), 15, f"{APP} stops on the standby")
    standby.wait_for(APP, "inactive", 5)
    show.failback_s = standby.inactive_since(APP) - back_s
    predicted = f"predicted {show.told.of_failback()}"
    show.say(f"{APP} is stopped on the standby ({predicted})", back_s + show.failback_s)
    show.watch_until(lambda: primary.running(APP), 30, f"{APP} runs on the primary")
    show.watch(pause_s)

    show.scene("4. Somebody pulls the standby's own cable. It must not take over.")
    show.count_from("the standby's cable was pulled", standby.cut())
    end_s = time.monotonic() + longest_s + 1
    show.watch_until(lambda: standby.running(APP) or time.monotonic() > end_s, 60, "time passes")
    started_alone = standby.running(APP)
    show.count_from("the cable was plugged in again", standby.heal())
    show.watch_until(lambda: show.word() == "active_alive", 15, "the standby sees the primary")
    show.watch(pause_s / 3)
    return Outcome(
        takeover_s=show.takeover_s,
        failback_s=show.failback_s,
        started_alone=started_alone or standby.running(APP),
    )


def summarise(screen: Screen, told: Prediction, outcome: Outcome) -> int:
    """Measured beside predicted, and where to go on; the exit status."""
    screen.tell()
    alone = "a takeover" if outcome.started_alone else "none"
    for words in (
        ("", "predicted by check", "measured", ""),
        (
            "takeover",
            told.of_takeover(),
            f"{outcome.takeover_s:.2f} s",
            f"power lost -> {APP} runs here",
        ),
        (
            "failback",
            told.of_failback(),
            f"{outcome.failback_s:.2f} s",
            f"primary back -> {APP} stopped",
        ),
        ("own cable out", "no takeover", alone, ""),
    ):
        name, predicted, found, what = words
        screen.tell(label=f"{name:<14}{predicted:<20}{found:<10}{what}")
    screen.tell()
    faults = outcome.faults(told)
    for fault in faults:
        screen.tell(f"not as predicted: {fault}", style=RED)
    if faults:
        return 1
    screen.tell("All as predicted; the hosts are gone again.", style=GREEN)
    screen.tell("Where to go on: README.md; to run every test: tests/run")
    return 0


def main() -> int:
    """Build, install, show, sum up; 0 when all went as predicted."""
    screen = Screen()
    pause_s = 1.0 if "--fast" in sys.argv[1:] else 6.0
    try:
        with Lab() as lab:
            hosts = boot(screen, lab)
            install(screen, hosts.standby)
            told = predict(screen, hosts.standby)
            outcome = play(Show(screen, hosts, told), pause_s=pause_s)
            screen.close_panel()
    except KeyboardInterrupt:
        print("\ninterrupted; the hosts are gone", flush=True)
        return 130
    except (AssertionError, DemoError, LabError, rootfs.RootfsError) as error:
        print(f"\nthe demo failed: {error}", flush=True)
        return 1
    return summarise(screen, told, outcome)


if __name__ == "__main__":
    sys.exit(main())
