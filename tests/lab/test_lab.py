"""The lab keeps its own promises: what a test asks of it is what happens."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import rootfs, units
from tests.lab.enter import RUN_VARIABLE, hierarchies, remove_cgroup
from tests.lab.hosts import Host, Lab, resolved, wait_until
from tests.lab.network import LabError
from tests.lab.wire import DEAD, Way

pytestmark = pytest.mark.timeout(60)


def ping_loss(host: Host, address: str, count: int = 400) -> float:
    """The percentage of echoes without an answer, at one every 2 ms."""
    words = ("ping", "-q", "-i", "0.002", "-c", str(count), "-W", "1", address)
    said = host.run(*words, check=False).stdout
    return float(re.findall(r"([\d.]+)% packet loss", said)[0])


def hears_soon(host: Host, address: str) -> None:
    """A kernel that asked for a neighbour in vain asks again only after a second."""
    wait_until(lambda: host.hears(address), 5, f"{host.name} hears {address}")


def test_hosts_boot_and_hear_each_other(lab: Lab) -> None:
    """Two systemd hosts and a plain one come up and reach each other, in IPv4 and IPv6."""
    begun = time.monotonic()
    gateway = lab.plain("gateway", 1)
    primary, standby = lab.systemd("primary", 2), lab.systemd("standby", 3)
    primary.up()
    standby.up()
    print(f"up after {time.monotonic() - begun:.2f} s")
    assert time.monotonic() - begun < 15
    for address in (gateway.address, gateway.address6, primary.address, primary.address6):
        assert standby.hears(address)
    assert gateway.hears(standby.address)
    assert primary.boot_id() != standby.boot_id()
    assert primary.read("/etc/machine-id") != standby.read("/etc/machine-id")
    assert standby.run("hostname").stdout.strip() == "standby"
    assert standby.systemctl("list-units", "--failed", "--no-legend") == ""
    assert standby.run("ip", "-br", "link").stdout.count("\n") == 2  # lo and eth0, nothing else
    assert "default" not in standby.run("ip", "route").stdout


def test_cut_takes_one_host_away_and_heal_brings_it_back(lab: Lab) -> None:
    """A cut is over when it returns, its stamp is the moment, and only that host is gone."""
    gateway, primary = lab.plain("gateway", 1), lab.plain("primary", 2)
    standby = lab.plain("standby", 3)
    before = time.monotonic()
    stamp = primary.cut()
    assert before <= stamp <= time.monotonic() < before + 0.1
    assert not standby.hears(primary.address)
    assert standby.hears(gateway.address)
    primary.heal()
    hears_soon(standby, primary.address)
    standby.cut()
    assert "NO-CARRIER" in standby.run("ip", "link", "show", "eth0").stdout
    standby.heal()
    hears_soon(standby, gateway.address)


def test_parted_hosts_still_hear_the_gateway(lab: Lab) -> None:
    """Only the path between two hosts breaks."""
    gateway, primary = lab.plain("gateway", 1), lab.plain("primary", 2)
    standby = lab.plain("standby", 3)
    lab.part("primary", "standby")
    assert not standby.hears(primary.address)
    assert standby.hears(gateway.address)
    assert primary.hears(gateway.address)
    lab.join("primary", "standby")
    hears_soon(standby, primary.address)


def test_loss_is_what_was_asked(lab: Lab) -> None:
    """30 % one way loses 30 % of the echoes, 30 % each way 51 %, 0 none."""
    primary = lab.plain("primary", 2)
    standby = lab.light("standby", 3)
    assert standby.hears(primary.address)
    primary.lose(towards=30)
    assert ping_loss(standby, primary.address) == pytest.approx(30, abs=8)
    primary.lose(30)
    assert ping_loss(standby, primary.address) == pytest.approx(51, abs=8)
    assert primary.port.lost() > 100
    primary.lose(0)
    assert ping_loss(standby, primary.address, 100) == 0


def test_units_are_seen_as_systemd_sees_them(lab: Lab) -> None:
    """Starting and stopping a unit shows in states, timestamps and processes."""
    services = {"app.service": units.APP, "pin.service": units.pin("app.service")}
    files = {f"/etc/systemd/system/{name}": text for name, text in services.items()}
    standby = lab.systemd("standby", 3, files=files)
    standby.systemctl("start", "pin.service")
    assert not standby.running("app.service")
    before = time.monotonic()
    standby.systemctl("start", "app.service")
    assert standby.wait_for("app.service", "active", within=5) < 1
    assert before < standby.active_since("app.service") < time.monotonic()
    assert standby.running("app.service")
    assert standby.unit("app.service")["SubState"] == "running"
    stamp = standby.signal("app.service", signal.SIGTERM)
    standby.wait_for("app.service", "inactive", within=5)
    assert standby.inactive_since("app.service") > stamp
    assert not standby.running("app.service")
    with pytest.raises(AssertionError, match=r"app\.service is active"):
        standby.wait_for("app.service", "active", within=0.1)
    assert "app.service" in standby.journal("app.service")


def test_a_reboot_keeps_files_and_changes_the_boot_id(lab: Lab) -> None:
    """What is on the disk outlives a reboot, what is in /run does not."""
    standby = lab.systemd("standby", 3)
    gateway = lab.plain("gateway", 1)
    first = standby.boot_id()
    standby.write("/var/lib/kept", "here")
    standby.write("/var/run/gone", "here")
    assert standby.read("/run/gone") == "here"
    assert not Path("/run/gone").exists()
    standby.reboot()
    assert standby.boot_id() != first
    assert standby.read("/var/lib/kept") == "here"
    assert not standby.exists("/var/run/gone")
    assert standby.hears(gateway.address)


def test_a_crashed_host_is_silent_until_it_starts(lab: Lab) -> None:
    """A crash takes the links and the processes; the disk stays."""
    primary, standby = lab.systemd("primary", 2), lab.plain("standby", 3)
    primary.write("/var/lib/kept", "here")
    init = primary.init
    assert standby.hears(primary.address)
    primary.crash()
    assert not standby.hears(primary.address)
    assert not Path(f"/proc/{init}").exists()
    with pytest.raises(LabError, match="primary is off"):
        primary.up()
    primary.start()
    hears_soon(standby, primary.address)
    assert primary.read("/var/lib/kept") == "here"
    primary.poweroff()
    assert not standby.hears(primary.address)


def test_a_frozen_host_stands_still_and_answers_ping(lab: Lab) -> None:
    """Freezing stops every process of one host; its kernel goes on."""
    primary, standby = lab.systemd("primary", 2), lab.plain("standby", 3)
    script = "while :; do date +%%s.%%N > /var/lib/beat; sleep 0.02; done"
    primary.install_units({"beat.service": f"[Service]\nExecStart=sh -c '{script}'\n"})
    primary.systemctl("start", "beat.service")
    wait_until(lambda: primary.exists("/var/lib/beat"), 5, "the heart beats")
    primary.freeze()
    beat = primary.read("/var/lib/beat")
    time.sleep(0.3)
    assert primary.read("/var/lib/beat") == beat
    assert standby.hears(primary.address)
    primary.thaw()
    wait_until(lambda: primary.read("/var/lib/beat") != beat, 5, "the heart beats again")


def test_a_wire_delays_drops_and_keeps_the_carrier(lab: Lab) -> None:
    """The relay's delay, blackouts, one-way and by-address loss; TCP passes it."""
    gateway, primary = lab.plain("gateway", 1), lab.plain("primary", 2)
    standby = lab.systemd("standby", 3, wired=True)
    assert standby.hears(primary.address)
    standby.wire.be(Way(delay_s=0.05))
    said = standby.run("ping", "-c3", "-i0.2", primary.address).stdout
    assert 99 <= float(re.findall(r"= ([\d.]+)/", said)[0]) <= 115  # the quickest of the three
    standby.wire.dead()
    assert not standby.hears(primary.address)
    assert "NO-CARRIER" not in standby.run("ip", "link", "show", "eth0").stdout
    standby.wire.be(towards=DEAD)
    assert not primary.hears(standby.address)
    standby.wire.be(Way(dropped_pairs=((standby.address, primary.address),)))
    assert not standby.hears(primary.address)
    hears_soon(standby, gateway.address)
    begin = standby.wire.dark(0.5)
    assert not standby.hears(primary.address, within=0.2)
    hears_soon(standby, primary.address)
    assert time.monotonic() - begin >= 0.5
    standby.wire.be(Way(duplicate_percent=100))
    assert "duplicates" in standby.run("ping", "-c2", "-i0.2", primary.address).stdout
    standby.wire.be(Way(loss_percent=30))
    assert ping_loss(standby, primary.address) == pytest.approx(51, abs=8)
    standby.wire.fine()
    standby.cut()
    assert not standby.hears(primary.address)
    standby.heal()
    hears_soon(standby, primary.address)
    assert _tcp_carries(standby, primary)


def _tcp_carries(client: Host, server: Host) -> bool:
    serve = (
        "import socket as s; l = s.create_server(('', 7777)); l.settimeout(5); c = l.accept()[0]\n"
        "c.settimeout(5)\nwhile c.recv(65536): pass"
    )
    send = (
        "import socket as s, time\nfor k in range(50):\n"
        f"  try: c = s.create_connection(('{server.address}', 7777), 2); break\n"
        "  except ConnectionRefusedError: time.sleep(0.05)\n"
        "c.sendall(bytes(300000)); c.shutdown(s.SHUT_WR); c.settimeout(5); assert c.recv(1) == b''"
    )
    listening = server.popen("/usr/bin/python3", "-c", serve)
    sent = client.run("/usr/bin/python3", "-c", send, check=False)
    return sent.returncode == 0 and listening.wait(5) == 0


def test_a_cable_is_a_second_way_and_dies_with_either_end(lab: Lab) -> None:
    """The crossover cable carries when the switch does not; a host without power darkens both."""
    primary, standby = lab.plain("primary", 2), lab.plain("standby", 3)
    cable = lab.cable("primary", "standby")
    assert standby.hears(cable.addresses["primary"])
    primary.cut()
    assert standby.hears(cable.addresses["primary"])
    primary.heal()
    cable.cut()
    assert "NO-CARRIER" in standby.run("ip", "link", "show", "eth1").stdout
    hears_soon(standby, primary.address)
    cable.heal()
    hears_soon(standby, cable.addresses["primary"])
    primary.crash()
    assert not standby.hears(primary.address)
    assert "NO-CARRIER" in standby.run("ip", "link", "show", "eth1").stdout
    primary.start()
    hears_soon(standby, primary.address)


def test_two_labs_do_not_hear_each_other(lab: Lab) -> None:
    """Labs of one process, with the same names and addresses, are separate worlds."""
    primary = lab.systemd("primary", 2)
    with Lab() as other:
        standby = other.systemd("standby", 3)
        twin = other.systemd("primary", 2)
        assert standby.hears(primary.address)
        twin.cut()
        primary.up()
        assert not standby.hears(primary.address)
        twin.install_units({"app.service": units.APP})
        twin.systemctl("start", "app.service")
        assert not primary.running("app.service")
    assert primary.systemctl("is-system-running") == "running"


def test_light_hosts_have_files_of_their_own(lab: Lab) -> None:
    """A light host runs commands in a root of its own, and can be crashed and frozen."""
    one, other = lab.light("one", 11), lab.light("other", 12, files={"/etc/mine": "x"})
    one.write("/var/lib/kept", "here")
    assert not other.exists("/var/lib/kept")
    assert other.run("cat", "/etc/mine").stdout == "x"
    assert one.hears(other.address)
    sleeper = one.popen("sleep", "60")
    one.crash()
    assert sleeper.wait(5) != 0
    assert not other.hears(one.address)
    one.start()
    hears_soon(other, one.address)
    assert one.read("/var/lib/kept") == "here"


STAYS = """
import sys, time
from tests.lab.hosts import Lab
with Lab() as lab:
    host = lab.systemd("standby", 3)
    host.popen("sleep", sys.argv[1])
    host.run("systemd-run", "sleep", sys.argv[1])
    print(host.unique, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_a_run_that_was_killed(_machine_can: None, way: signal.Signals) -> None:
    """However a run ends, its hosts' processes end with it, and so do its cgroups."""
    mark = str(100000 + os.getpid() * 10 + int(way))
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.lab.enter", sys.executable, "-c", STAYS, mark],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=rootfs.CHECKOUT,
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline().strip().endswith("-standby")
        wait_until(lambda: len(_commands(mark)) >= 4, 5, "the run is at work")
        run.send_signal(way)
        assert run.wait(10) != 0
    finally:
        run.kill()
    wait_until(lambda: not _commands(mark), 5, "every process of the run is gone")
    left = [top / "lab" / f"{os.environ[RUN_VARIABLE]}.{run.pid}" for top in hierarchies()]
    if way is signal.SIGKILL:  # nobody was there to tidy up; the next run does, as here
        wait_until(lambda: all(_removed(group) for group in left), 5, "the cgroups are empty")
    assert not any(group.exists() for group in left)


def _removed(group: Path) -> bool:
    remove_cgroup(group)
    return not group.exists()


def _commands(mark: str) -> list[str]:
    """The living processes that have the mark in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_outside_a_run_there_is_no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab refuses to touch the machine's own network."""
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    with pytest.raises(LabError, match="outside a lab run"):
        Lab()


def test_a_half_built_tree_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that fails or is killed leaves nothing that a later run takes for whole."""
    monkeypatch.setenv("FAILOVER_LAB_CACHE", str(tmp_path))

    def half(new: Path) -> None:
        (new / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rootfs._kept("tree", "1", half)
    (tmp_path / "tree.new-killed").mkdir()
    whole: Callable[[Path], None] = lambda new: (new / "whole").touch()  # noqa: E731
    made = rootfs._kept("tree", "1", whole)
    assert [path.name for path in made.iterdir()] == ["whole"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree-1", "tree.lock"]


def test_the_package_source_is_the_distributions_own(tmp_path: Path) -> None:
    """Both formats of apt are read; the source that carries the release itself is taken."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://no.example stable main\n"
        "deb http://updates.example stable-updates main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian stable main contrib # x\n"
    )
    source = rootfs.own_source("stable", tmp_path)
    assert source.uri == "http://one.example/debian"
    assert source.components == ("main", "contrib")
    assert source.keyring == "/k.gpg"
    (tmp_path / "sources.list").unlink()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: stable\nComponents: main\n\n"
        "Types: deb deb-src\n# a comment\nURIs: http://two.example/debian\n"
        "Suites: stable stable-updates\nComponents:\n main\n universe\nSigned-By: /k2.gpg\n"
    )
    source = rootfs.own_source("stable", tmp_path)
    assert source.uri == "http://two.example/debian"
    assert source.components == ("main", "universe")
    with pytest.raises(rootfs.RootfsError, match=r"no apt source"):
        rootfs.own_source("other", tmp_path)


def test_links_of_a_host_stay_inside_it(tmp_path: Path) -> None:
    """An absolute link of a host's file system means the host's root, not the machine's."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "up").symlink_to("../../../etc")
    assert resolved(tmp_path, "/var/run/x") == tmp_path / "run/x"
    assert resolved(tmp_path, "up/hosts") == tmp_path / "etc/hosts"
