"""A real daemon process: real sockets, files and signals; only systemd's units are a small file.

It watches a host at the other end of a cable (see `tests.cable`), and keeps its files below a
directory of the test's own.
"""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import failover_monitor
from failover_monitor import daemon
from failover_monitor.console import records
from failover_monitor.files import INTENT_KEYS, Paths
from failover_monitor.model import Effect, Policy, Unit, UnitSeen, Verb
from failover_monitor.probes import Probe, ProbeError
from failover_monitor.systemd import boot_id
from tests.cable import FAR4, FAR4_SECOND, Host, cable

ROOT = Path(failover_monitor.__file__).parent.parent
CONFIG = {
    "gateway_ip": FAR4_SECOND,
    "active_ip": FAR4,
    "ping_interval": 0.4,
    "ping_fail_threshold": 3,
    "retry_interval": 0.2,
    "ping_timeout": 0.2,
    "services_to_manage": ["app.service"],
    "startup_grace": 0,
}
FIVE = ("gateway_ip", "active_ip", "ping_interval", "ping_fail_threshold", "services_to_manage")
PRIMARY: dict[str, Any] = {
    "role": "primary",
    "gateway_ip": FAR4_SECOND,
    "standby_ip": FAR4,
    "services_to_manage": ["app.service"],
    "guard": {"deadline": 1, "stop_limit": 3},
}
OF_PROTECTIONS = ("checks", "commands", "fence", "leases", "config", "settings", "safety", "timing")
PATIENCE_S = 45.0
ROOMS = re.compile(r"failover_monitor\.")
NO_SOCKET = "10.99.99.99"  # for this address no socket can be opened
DROP = f"""
table inet crash {{ chain input {{
    type filter hook input priority 0
    ip daddr {FAR4} drop
}}
}}
"""


class Door:
    """Units that start and stop at once, and outlive the process: a file holds them."""

    host_stopping = False

    def __init__(
        self, units: Sequence[str], wake: Callable[[], None], *, strict: bool = False
    ) -> None:
        self.strict = strict
        self._file, self._asked = Path(os.environ["UNITS"]), Path(os.environ["ASKED"])
        self._watched, self._wake = tuple(units), wake
        self._known: dict[str, str] = {}

    def seen(self) -> tuple[UnitSeen, ...]:
        with suppress(OSError):  # no descriptor is free: as it was
            self._known = json.loads(self._file.read_text())
        states = {name: Unit(self._known.get(name, "stopped")) for name in self._watched}
        return tuple(UnitSeen(name, state) for name, state in states.items())

    def watch(self, units: Sequence[str]) -> None:
        self._watched = tuple(units)

    def ask(self, effect: Effect) -> None:
        with self._asked.open("a") as asked:
            asked.write(f"{effect.verb} {effect.service}\n")
        known = json.loads(self._file.read_text())
        known[effect.service] = "running" if effect.verb is Verb.START else "stopped"
        self._file.write_text(json.dumps(known))
        self._wake()

    def populated(self, name: str) -> bool | None:
        assert name in self._watched
        return None

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def first_look(self, limit_s: float) -> None:
        assert limit_s > 0


def be_the_daemon(root: str, config: str) -> None:
    """What the child process runs."""
    vars(daemon)["Systemd"] = Door
    new_probe = daemon.new_probe

    def probe_for(policy: Policy) -> Probe:
        if NO_SOCKET in policy.primary:
            raise ProbeError("cannot open a raw socket: no such family")
        return new_probe(policy)

    vars(daemon)["new_probe"] = probe_for
    status = daemon.run(Path(config), Paths(Path(root)))
    Path(os.environ["MODULES"]).write_text("\n".join(sys.modules))
    sys.exit(status)


class Daemon:
    """One daemon process of the test's own, and what it leaves."""

    def __init__(self, root: Path, far: Host) -> None:
        self.paths, self.far = Paths(root), far
        self.config = root / "config.json"
        self.configure()
        for directory in (self.paths.log.parent, self.paths.state_word.parent):
            directory.mkdir(parents=True)
        self.units, self.asks, self.modules = root / "units.json", root / "asked", root / "modules"
        self.units.write_text("{}")
        self.asks.touch()
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(root / "notify"))
        self.notices.setblocking(False)
        self.heard = ""
        self.processes: list[subprocess.Popen[str]] = []

    def log(self) -> str:
        return self.paths.log.read_text() if self.paths.log.exists() else ""

    def configure(self, **changes: object) -> None:
        self.config.write_text(json.dumps({**CONFIG, **changes}))

    def be_primary(
        self, *, running: bool = False, enforced: bool = True, deadline: float = 1
    ) -> None:
        """The configuration of a guard, what install.sh adds to it, and what runs already."""
        guard = PRIMARY["guard"] | {"deadline": deadline}
        self.config.write_text(json.dumps(PRIMARY | {"guard": guard}))
        self.units.write_text('{"app.service": "running"}' if running else "{}")
        for path in self.paths.drop_ins(["app.service"]) if enforced else ():
            path.parent.mkdir(parents=True)
            path.touch()

    def start(self) -> subprocess.Popen[str]:
        root = self.config.parent
        script = (
            "import sys; from tests.test_daemon import be_the_daemon as run; run(*sys.argv[1:])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(root), str(self.config)],
            cwd=ROOT,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(root / "notify"),
                "UNITS": str(self.units),
                "ASKED": str(self.asks),
                "MODULES": str(self.modules),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.notices.close()

    def hears(self, words: str, *, times: int = 1) -> bool:
        """So many notes to systemd have come since the first start."""
        while True:
            try:
                self.heard += self.notices.recv(65536).decode() + "\n"
            except BlockingIOError:
                return self.heard.count(words) >= times

    def word(self) -> str:
        return self.paths.state_word.read_text() if self.paths.state_word.exists() else ""

    def asked(self) -> list[str]:
        return self.asks.read_text().splitlines()

    def history(self) -> list[str]:
        return [event["what"] for event in self.events()]

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events()]

    def events(self) -> list[dict[str, str]]:
        return events_in(self.paths.events)

    def document(self) -> dict[str, object]:
        told: dict[str, object] = json.loads(self.paths.status.read_text())
        return told

    def crash(self) -> None:
        self.far.nft(DROP)

    def come_back(self) -> None:
        self.far.nft("delete table inet crash")


def events_in(path: Path) -> list[dict[str, str]]:
    """The events so far, oldest first; the last line may be half there."""
    whole, _, _ = (path.read_text() if path.exists() else "").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Daemon]:
    with cable() as (near, far):
        near.sysctl(net__unix__max_dgram_qlen=512)  # what is told systemd waits here to be read
        watch = Daemon(tmp_path, far)
        try:
            yield watch
        finally:
            watch.close()


def eventually(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it never happens"
        time.sleep(0.02)


def serves(watch: Daemon) -> subprocess.Popen[str]:
    """A daemon that has taken over."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.crash()
    eventually(lambda: "takeover -> active: all services run here" in watch.history())
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_life_from_ready_to_stop(watch: Daemon) -> None:
    """The primary dies and returns; systemd, the state file and the history are told."""
    process = watch.start()
    eventually(lambda: watch.hears("READY=1") and watch.hears("WATCHDOG=1"))
    eventually(lambda: watch.word() == "active_alive\n")
    eventually(lambda: watch.hears("STATUS=standby: the primary answers; app.service stopped"))
    watch.crash()
    eventually(lambda: watch.word() == "active_dead\n")
    eventually(lambda: watch.hears("STATUS=active: the primary is down; app.service running"))
    assert watch.asked() == ["start app.service"]
    watch.come_back()
    eventually(lambda: watch.word() == "active_alive\n" and len(watch.asked()) == 2)
    assert watch.asked()[1] == "stop app.service"
    eventually(lambda: "failback -> standby: all services are stopped here" in watch.history())
    eventually(lambda: watch.document()["phase"] == "standby")
    stop(process)
    assert watch.hears("STOPPING=1")
    assert watch.word() == "unknown\n"
    told = [line for line in watch.history() if " -> " in line]
    assert told == [
        "unknown -> standby: the primary answers",
        "standby -> takeover: the primary stopped answering",
        "takeover -> active: all services run here",
        "active -> failback: the primary is back",
        "failback -> standby: all services are stopped here",
    ]
    assert watch.history()[-1] == "stopped; the services stay as they are"
    (sample,) = records.samples(watch.paths)  # the end of the process is that of its sample
    assert sample.phase == "standby"
    assert sample.paths[FAR4].answered > 0
    assert sample.paths[FAR4_SECOND].answered == sample.paths[FAR4_SECOND].sent > 0
    assert sample.gaps_s == ()
    log = watch.log()
    assert " [WARNING] standby -> takeover: the primary stopped answering\n" in log
    assert "Traceback" not in log
    assert process.stderr
    assert process.stderr.read() == ""


def test_the_watchdog_is_told_all_the_time(watch: Daemon) -> None:
    """Every four or five seconds; WatchdogSec is ten."""
    watch.start()
    eventually(lambda: watch.hears("WATCHDOG=1"))
    begun_s = time.monotonic()
    eventually(lambda: watch.hears("WATCHDOG=1", times=2))
    assert 1.0 < time.monotonic() - begun_s < 9.0


def test_stopping_the_monitor_leaves_the_services_as_they_are(watch: Daemon) -> None:
    """And the next one goes on where it was: nothing is asked twice."""
    stop(serves(watch))
    assert watch.word() == "unknown\n"
    assert watch.asked() == ["start app.service"]
    process = watch.start()
    eventually(lambda: watch.word() == "active_dead\n")
    eventually(lambda: watch.hears("READY=1", times=2))
    assert watch.document()["phase"] == "active"
    assert watch.asked() == ["start app.service"]
    stop(process)


def test_a_killed_monitor_starts_what_is_missing(watch: Daemon) -> None:
    """SIGKILL while serving, and a service dies meanwhile."""
    process = serves(watch)
    process.kill()
    process.wait()
    watch.units.write_text('{"app.service": "failed"}')
    watch.start()
    eventually(lambda: len(watch.asked()) == 2)
    assert watch.asked()[1] == "start app.service"


def test_the_primary_came_back_while_nobody_watched(watch: Daemon) -> None:
    """The next process stops what the last one started."""
    stop(serves(watch))
    watch.come_back()
    watch.start()
    eventually(lambda: watch.asked() == ["start app.service", "stop app.service"])
    eventually(lambda: watch.word() == "active_alive\n")


def test_a_second_monitor_exits_and_writes_nothing(watch: Daemon) -> None:
    """One host, one watch."""
    watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    inode = watch.paths.state_word.stat().st_ino
    second = watch.start()
    assert second.wait(PATIENCE_S) == 1
    assert second.stderr
    assert "another monitor holds" in second.stderr.read()
    assert watch.paths.state_word.stat().st_ino == inode
    assert watch.word() == "active_alive\n"


def test_reload_takes_a_good_configuration(watch: Daemon) -> None:
    """RELOADING with its moment, then READY; phase and evidence stay."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.configure(services_to_manage=["app.service", "more.service"])
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("READY=1", times=2))
    assert watch.hears("RELOADING=1\nMONOTONIC_USEC=")
    eventually(lambda: len(watch.document()["units"]) == 2)  # type: ignore[arg-type]
    assert watch.document()["phase"] == "standby"
    watch.crash()
    eventually(lambda: watch.asked() == ["start app.service", "start more.service"])


def test_reload_to_other_addresses_while_watching(watch: Daemon) -> None:
    """The sockets are new; the watch goes on."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.configure(active_ip=FAR4_SECOND, gateway_ip=FAR4)
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("READY=1", times=2))
    eventually(lambda: watch.document()["primary"][0]["address"] == FAR4_SECOND)  # type: ignore[index]
    eventually(lambda: watch.word() == "active_alive\n")
    watch.crash()  # of what is now the gateway
    watch.far.nft(DROP.replace(FAR4, FAR4_SECOND).replace("crash", "gone"))
    eventually(lambda: watch.word() == "unknown\n")
    assert watch.asked() == []
    stop(process)


def test_reload_refuses_a_bad_configuration(watch: Daemon) -> None:
    """The old one goes on, and status says so; a good one ends the complaint."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.config.write_text('{"gateway_ip": ')
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("READY=1", times=2))
    remark = f"STATUS={watch.config} is bad, the last good one goes on; "
    eventually(lambda: watch.hears(f"{remark}standby: the primary answers"))
    watch.crash()
    eventually(lambda: watch.word() == "active_dead\n")
    watch.configure()
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("STATUS=active: the primary is down; app.service running"))
    assert watch.hears(f"{remark}active", times=1)
    assert watch.word() == "active_dead\n"
    assert watch.asked() == ["start app.service"]


def test_reload_survives_a_socket_that_cannot_be_opened(watch: Daemon) -> None:
    """The old configuration goes on with the old sockets, and it is said."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.configure(active_ip=NO_SOCKET)
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("no such family") or "no such family" in watch.log())
    assert process.poll() is None
    watch.crash()
    eventually(lambda: watch.asked() == ["start app.service"])


def test_no_socket_at_the_start_is_worth_another_start(watch: Daemon) -> None:
    """Exit status 1: systemd tries again, as it does not after 78."""
    watch.configure(active_ip=NO_SOCKET)
    assert watch.start().wait(PATIENCE_S) == 1


def test_an_intent_that_is_not_understood_is_left_behind(watch: Daemon) -> None:
    """It is said, and the watch begins without it; systemd would restart a crash for ever."""
    watch.paths.run.mkdir(parents=True)
    intent = dict.fromkeys(INTENT_KEYS, "x") | {"boot_id": boot_id(), "services": None}
    next(iter(watch.paths.intent())).write_text(json.dumps(intent))
    watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    eventually(lambda: "is not understood" in watch.log())


def test_a_bad_configuration_at_the_start_is_78(watch: Daemon) -> None:
    """Every problem on stderr; nothing is touched, no state word is written."""
    watch.configure(ping_interval=-1, no_such_key=2)
    process = watch.start()
    assert process.wait(PATIENCE_S) == 78
    assert process.stderr
    told = process.stderr.read()
    assert "ping_interval" in told
    assert "no_such_key" in told
    assert watch.word() == ""
    assert watch.asked() == []


def test_a_bad_configuration_at_the_start_while_serving_goes_on(watch: Daemon) -> None:
    """Services of ours run here: the last good one is used, and it is said."""
    process = serves(watch)
    process.kill()
    process.wait()
    watch.config.write_text("{")
    watch.start()
    eventually(lambda: watch.hears("READY=1", times=2))
    eventually(lambda: "is bad, the last good one goes on" in watch.log())
    watch.come_back()
    eventually(lambda: watch.asked() == ["start app.service", "stop app.service"])


def test_a_directory_that_cannot_be_made_is_said(watch: Daemon) -> None:
    """Exit status 1 and one line, no traceback."""
    (watch.paths.root / "run").write_text("in the way")
    process = watch.start()
    assert process.wait(PATIENCE_S) == 1
    assert process.stderr
    told = process.stderr.read()
    assert told.startswith("cannot start: ")
    assert told.count("\n") == 1


# The guard on the primary.


def test_a_primary_opens_its_gate_when_it_is_in_contact(watch: Daemon) -> None:
    """First nothing may start; after `boot_hold` it starts the services itself."""
    watch.be_primary()
    process = watch.start()
    eventually(lambda: "unknown -> gated: nothing runs here yet" in watch.history())
    assert not watch.paths.permit.exists()
    assert not watch.paths.armed.exists()
    assert watch.asked() == []
    eventually(lambda: watch.hears("STATUS=gated: this host is in contact; app.service stopped"))
    eventually(lambda: watch.hears("STATUS=serving: this host is in contact; app.service running"))
    assert watch.asked() == ["start app.service"]
    assert watch.paths.permit.exists()
    assert watch.paths.armed.exists()
    assert watch.word() == "active_alive\n"
    assert watch.hears("WATCHDOG_USEC=3000000")  # the stop limit
    document = watch.document()
    assert document["role"] == "primary"
    assert [path["address"] for path in document["standby"]] == [FAR4]  # type: ignore[attr-defined]
    assert "unenforced" not in watch.kinds()
    stop(process)


def test_a_primary_that_is_cut_off_stops_its_services(watch: Daemon) -> None:
    """And holds them back until somebody answers again; the flags follow."""
    watch.be_primary(running=True)
    watch.start()
    eventually(lambda: watch.paths.armed.exists() and watch.paths.permit.exists())
    assert watch.asked() == []  # what ran before the guard came is left alone
    watch.far.nft(DROP.replace(f"ip daddr {FAR4} drop", "drop"))
    eventually(lambda: watch.asked() == ["stop app.service"])
    eventually(lambda: watch.word() == "active_dead\n")
    eventually(lambda: "closing -> gated: all services are stopped here" in watch.history())
    eventually(lambda: not watch.paths.armed.exists() and not watch.paths.permit.exists())


def test_a_guard_that_is_told_to_stop_disarms_the_host(watch: Daemon) -> None:
    """A stop by intent is no reason for a reset; that nobody guards the services is said."""
    watch.be_primary(running=True)
    process = watch.start()
    eventually(lambda: watch.hears("STATUS=serving"))
    assert watch.paths.armed.exists()
    stop(process)
    assert not watch.paths.armed.exists()
    assert watch.asked() == []
    assert " [WARNING] stopped; the services run on, and nobody guards them\n" in watch.log()


def kill_a_guard(watch: Daemon) -> None:
    """It served; its services run on."""
    watch.be_primary(running=True, deadline=60)
    process = watch.start()
    eventually(lambda: watch.hears("STATUS=serving"))
    eventually(lambda: all(path.exists() for path in watch.paths.last_good_config()))
    process.kill()
    process.wait()


def test_a_killed_guard_leaves_the_host_armed(watch: Daemon) -> None:
    """Systemd resets it if no guard comes back; the next one goes on where it was."""
    kill_a_guard(watch)
    assert watch.paths.armed.exists()
    assert watch.paths.permit.exists()
    watch.start()
    eventually(lambda: watch.hears("READY=1", times=2))
    eventually(lambda: watch.document()["phase"] == "serving")
    assert watch.asked() == []


def test_a_host_that_cannot_enforce_says_so(watch: Daemon) -> None:
    """In log, history and status: without the drop-ins nobody resets it, and nothing is gated."""
    watch.be_primary(enforced=False)
    watch.start()
    eventually(lambda: "unenforced" in watch.kinds())
    (told,) = [what for what in watch.history() if "cannot be enforced" in what]
    assert all(str(path) in told for path in watch.paths.drop_ins(["app.service"]))
    assert f" [CRITICAL] {told}\n" in watch.log()
    eventually(lambda: watch.hears("STATUS=stopping cannot be enforced, run install.sh again"))


def test_a_standby_misses_what_orders_its_services(watch: Daemon) -> None:
    """With a guard on the primary its own drop-in, and one beside each service; alone, none."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.configure(guard={})
    process.send_signal(signal.SIGHUP)
    eventually(lambda: "unenforced" in watch.kinds())
    (told,) = [what for what in watch.history() if "cannot be enforced" in what]
    assert all(str(path) in told for path in watch.paths.drop_ins(["app.service"]))


def test_reload_to_another_role_is_refused(watch: Daemon) -> None:
    """The old one goes on, and it is said: too much is decided at the start."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    watch.config.write_text(json.dumps(PRIMARY))
    process.send_signal(signal.SIGHUP)
    eventually(lambda: "another role needs a restart, not a reload" in watch.log())
    eventually(lambda: watch.hears("READY=1", times=2))
    assert watch.document()["role"] == "standby"
    watch.crash()
    eventually(lambda: watch.asked() == ["start app.service"])


def test_a_guard_that_cannot_begin_disarms_the_host(watch: Daemon) -> None:
    """Nothing of ours runs here, and a bad configuration is no reason for a reset."""
    watch.be_primary()
    watch.config.write_text("{")
    watch.paths.run.mkdir(parents=True)
    watch.paths.armed.touch()
    assert watch.start().wait(PATIENCE_S) == os.EX_CONFIG
    assert not watch.paths.armed.exists()


def test_a_guard_that_cannot_begin_while_services_run_leaves_the_host_armed(
    watch: Daemon,
) -> None:
    """Neither configuration can be used: another start, and a reset if none succeeds."""
    kill_a_guard(watch)
    watch.config.write_text("{")
    for path in watch.paths.last_good_config():
        path.write_text("{")
    assert watch.start().wait(PATIENCE_S) == 1
    assert watch.paths.armed.exists()


def test_a_stop_during_a_reload_ends_it(watch: Daemon) -> None:
    """Nothing that the reload began is left to wait for."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("RELOADING=1"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_guard_with_a_bad_configuration_goes_on_while_services_run(watch: Daemon) -> None:
    """The last good one is used, and the host stays armed."""
    kill_a_guard(watch)
    watch.config.write_text("{")
    watch.start()
    eventually(lambda: watch.hears("READY=1", times=2))
    eventually(lambda: "is bad, the last good one goes on" in watch.log())
    assert watch.document()["phase"] == "serving"
    assert watch.paths.armed.exists()
    assert watch.asked() == []


# Upgrades, shortages, costs.


def test_an_upgrade_while_serving_goes_on_serving(watch: Daemon) -> None:
    """What the previous version wrote down is understood: nothing is asked twice."""
    process = serves(watch)
    process.kill()
    process.wait()
    for path in watch.paths.intent():
        intent = json.loads(path.read_text())
        path.write_text(json.dumps({key: intent[key] for key in INTENT_KEYS}))
    watch.start()
    eventually(lambda: watch.hears("READY=1", times=2))
    eventually(lambda: watch.word() == "active_dead\n")
    assert watch.document()["phase"] == "active"
    assert watch.asked() == ["start app.service"]
    watch.come_back()
    eventually(lambda: watch.asked() == ["start app.service", "stop app.service"])


def test_systemd_hears_of_us_without_a_free_descriptor(watch: Daemon) -> None:
    """Or its watchdog would kill a monitor that serves, again and again."""
    process = watch.start()
    eventually(lambda: watch.hears("READY=1") and watch.hears("WATCHDOG=1"))
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    known = watch.heard.count("WATCHDOG=1")
    eventually(lambda: watch.hears("WATCHDOG=1", times=known + 1))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
    watch.crash()
    eventually(lambda: watch.asked() == ["start app.service"])
    stop(process)


def test_who_asks_for_no_protection_does_not_carry_it(watch: Daemon) -> None:
    """Five keys, and a whole life: none of the protections' modules or libraries is loaded."""
    watch.config.write_text(json.dumps({key: CONFIG[key] for key in FIVE}))
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    process.send_signal(signal.SIGHUP)
    eventually(lambda: watch.hears("READY=1", times=2))
    stop(process)
    modules = watch.modules.read_text().splitlines()
    assert "failover_monitor.daemon" in modules
    carried = {name.partition(".")[2].partition(".")[0] for name in modules if ROOMS.match(name)}
    assert not carried & set(OF_PROTECTIONS)
    libraries = {name.partition(".")[0] for name in modules}
    assert not libraries & {"aiohttp", "yarl", "pydantic", "pydantic_core"}


# An operator.


def say(watch: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as an operator types it, about this daemon."""
    script = (
        "import sys; from pathlib import Path; from failover_monitor import cli;"
        "from failover_monitor.files import Paths;"
        "cli.PATHS = Paths(Path(sys.argv[1])); sys.exit(cli.main(sys.argv[2:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(watch.config.parent), *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_pause_holds_over_a_crash_and_what_is_left_of_it_after_a_reboot(watch: Daemon) -> None:
    """The file in /var is enough; and resume ends it, with fresh checks before anything starts."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    done = say(watch, "pause", "--for", "1h", "--reason", "new disk")
    assert done.returncode == 0, done.stderr
    watch.crash()
    eventually(lambda: watch.word() == "active_dead\n")
    refused = say(watch, "takeover", "--yes")
    assert (refused.returncode, "resume first" in refused.stderr) == (1, True)
    stop(process)
    watch.paths.pause()[0].unlink()
    watch.start()
    eventually(lambda: watch.word() == "active_dead\n")
    assert watch.document()["phase"] == "unknown"
    assert watch.asked() == []
    done = say(watch, "resume", "--reason", "it is in")
    assert done.returncode == 0, done.stderr
    eventually(lambda: "takeover -> active: all services run here" in watch.history())
    assert watch.asked() == ["start app.service"]
    told = watch.history()
    over = next(n for n, what in enumerate(told) if what.startswith("resumed by"))
    assert any(what.startswith("verdict down") for what in told[over:])
    assert not any(path.exists() for path in watch.paths.pause())


def test_a_pause_that_was_over_before_the_start_holds_nothing(watch: Daemon) -> None:
    """It ended while nobody watched; so it is said, and its files go."""
    pause = {"by": "alice", "at_s": time.time() - 90, "reason": "new disk", "length_s": 60}
    boot = {"boot_id": "another", "began_s": 5.0, "until": "noon"}
    watch.paths.history.mkdir(parents=True)
    watch.paths.pause()[1].write_text(json.dumps(pause | boot))
    watch.start()
    eventually(lambda: "paused" in watch.kinds())
    eventually(lambda: not any(path.exists() for path in watch.paths.pause()))
    eventually(lambda: watch.word() == "active_alive\n")
    watch.crash()
    eventually(lambda: watch.asked() == ["start app.service"])


def test_services_are_moved_by_hand_and_back(watch: Daemon) -> None:
    """Both commands wait until it is done; a new process knows that it was by hand."""
    process = watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    asked = say(watch, "takeover")
    assert asked.returncode == 2
    assert "the primary answers" in asked.stdout
    done = say(watch, "takeover", "--yes", "--reason", "new disk")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done: the services run here\n")
    who = watch.document()["by_hand"]
    assert who
    stop(process)
    watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    assert (watch.document()["phase"], watch.document()["by_hand"]) == ("active", who)
    done = say(watch, "failback", "--reason", "it is in")
    assert done.returncode == 0, done.stderr
    assert watch.asked() == ["start app.service", "stop app.service"]

    def moved() -> list[dict[str, str]]:
        return [e for e in watch.events() if e.get("BECAUSE") == "an operator asked for it"]

    eventually(lambda: len(moved()) == 2)
    assert [(e["TO"], e["BY"], e["REASON"]) for e in moved()] == [
        ("takeover", who, "new disk"),
        ("failback", who, "it is in"),
    ]


def test_a_request_that_was_left_for_nobody_is_dropped_at_the_start(watch: Daemon) -> None:
    """An hour old: it is removed and said, and nothing is taken over."""
    watch.paths.run.mkdir(parents=True)
    left = {"by": "alice", "at_s": time.time() - 3600, "reason": "new disk"}
    for order in ("takeover", "failback"):
        watch.paths.request(order).write_text(json.dumps(left))
    watch.start()
    eventually(lambda: watch.word() == "active_alive\n")
    eventually(lambda: watch.kinds().count("operator") == 2)
    assert not list(watch.paths.run.glob("*.request"))
    assert watch.asked() == []
