"""The check of a unit on the primary: the system's ssh, a real sshd and a real systemd."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import rootfs, units
from tests.lab.hosts import Lab, wait_until
from tests.lab.pair import APP
from tests.lab.test_fence_agents import UNIT_FILE, sandbox_of

KEY, KNOWN = "/etc/failover-monitor/id_ed25519", "/etc/failover-monitor/known_hosts"
SLOW = "slow.service"
ESCAPED = r"a\x2db.service"  # the shell over there must not take its backslash away

# On the standby: one answer of the check with these options.
DRIVER = """\
import asyncio, json, sys, time

sys.path.insert(0, "/src")
from failover_monitor.checks.runner import Runner
from failover_monitor.model import ServiceCheck


async def main():
    given = json.loads(sys.argv[1])
    check = ServiceCheck(kind="unit", name="a", options=given, timeout_s=5.0)
    changed = asyncio.Event()
    runner = Runner([check], time.monotonic, changed.set)
    running = asyncio.create_task(runner.run())
    await changed.wait()
    (seen,) = runner.receive()
    running.cancel()
    await asyncio.wait({running})
    print(json.dumps([seen.outcome, seen.why]))


asyncio.run(main())
"""


class Pair:
    """A primary with sshd and a standby that has a key to it."""

    def __init__(self, lab: Lab) -> None:
        layers = [rootfs.with_packages("ssh", "openssh-client", "openssh-server")]
        self.primary = lab.systemd("primary", 2, layers=layers)
        self.standby = lab.systemd(
            "standby", 3, layers=layers, binds={str(rootfs.CHECKOUT): "/src"}
        )
        self.primary.install_units(
            {
                APP: units.APP,
                ESCAPED: units.APP,
                SLOW: units.HANGS_IN_START,
                "fails.service": units.FAILS,
            }
        )
        self.primary.systemctl("start", "ssh.service", APP, ESCAPED)
        self.standby.run("mkdir", "-p", "/etc/failover-monitor")
        self.standby.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
        self.let_in()
        host_key = self.primary.read("/etc/ssh/ssh_host_ed25519_key.pub")
        self.standby.write(KNOWN, f"{self.primary.address} {host_key}")
        self.standby.write("/run/driver.py", DRIVER)

    def let_in(self, restriction: str = "restrict") -> None:
        """Accept the standby's key, for root, as the restriction says."""
        key = self.standby.read(f"{KEY}.pub")
        self.primary.write("/root/.ssh/authorized_keys", f"{restriction} {key}", 0o600)

    def ask(self, **options: Any) -> list[str]:
        """Outcome and reason of one run, as the monitor's unit would run it."""
        given = {
            "host": self.primary.address,
            "unit": APP,
            "identity": KEY,
            "known_hosts": KNOWN,
        }
        shut = (f"--property={line}" for line in sandbox_of(UNIT_FILE))
        words = ("/usr/bin/python3", "/run/driver.py", json.dumps(given | options))
        asked = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", *shut, *words)
        answer: list[str] = json.loads(self.standby.run(*asked, within=60).stdout)
        return answer


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    yield Pair(lab)


def test_what_systemd_on_the_primary_says_of_a_unit(pair: Pair) -> None:
    """Running passes; stopped or failed fails; anything else is not known."""
    primary = pair.primary
    assert pair.ask() == ["pass", "it is active"]
    assert pair.ask(unit=ESCAPED) == ["pass", "it is active"]
    primary.systemctl("stop", APP)
    assert pair.ask() == ["fail", "it is inactive"]
    primary.systemctl("start", "fails.service", check=False)
    assert pair.ask(unit="fails.service") == ["fail", "it is failed"]
    primary.systemctl("--no-block", "start", SLOW)
    assert pair.ask(unit=SLOW) == ["unknown", "it is activating"]
    assert pair.ask(unit="missing.service") == ["unknown", "the primary says: not-found"]
    primary.systemctl("mask", "--runtime", "later.service")
    assert pair.ask(unit="later.service") == ["unknown", "the primary says: masked"]


def test_a_key_that_may_do_nothing_else_is_enough(pair: Pair) -> None:
    """The operator may pin the command to the key; another user will do as well."""
    command = f'restrict,command="systemctl show --property=LoadState,ActiveState -- {APP}"'
    pair.let_in(command)
    assert pair.ask() == ["pass", "it is active"]
    assert pair.ask(unit="missing.service") == ["pass", "it is active"]  # it asked for APP
    primary = pair.primary
    primary.run("useradd", "--create-home", "--shell", "/bin/sh", "watch")
    primary.run("cp", "-r", "/root/.ssh", "/home/watch/.ssh")
    primary.run("chown", "-R", "watch:", "/home/watch/.ssh")
    assert pair.ask(user="watch") == ["pass", "it is active"]


def test_a_primary_that_cannot_be_asked_is_unknown(pair: Pair) -> None:
    """Nothing between the two hosts is a failure of the unit."""
    primary, standby = pair.primary, pair.standby
    standby.write(f"{KNOWN}.empty", "")
    outcome, why = pair.ask(known_hosts=f"{KNOWN}.empty")
    assert (outcome, why) == ("unknown", "ssh: Host key verification failed.")
    standby.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{KEY}.other")
    outcome, why = pair.ask(identity=f"{KEY}.other")
    assert outcome == "unknown"
    assert "Permission denied (publickey" in why
    outcome, why = pair.ask(port=2222)
    assert outcome == "unknown"
    assert why.endswith("Connection refused")
    primary.cut()
    outcome, why = pair.ask()
    assert outcome == "unknown"
    primary.heal()
    wait_until(lambda: standby.hears(primary.address), 5, "the primary is back")
    assert pair.ask() == ["pass", "it is active"]


def test_nothing_in_an_option_reaches_a_shell(pair: Pair) -> None:
    """Neither here nor there, whatever it says."""
    touch = "touch /tmp/reached"
    for options in (
        {"unit": f"$({touch}).service"},
        {"unit": f"x;{touch};.service"},
        {"host": f"-oProxyCommand={touch}"},
        {"user": f"-oProxyCommand={touch}"},
        {"identity": f"/x -oProxyCommand={touch}"},
        {"known_hosts": f"/x\nProxyCommand {touch}"},
    ):
        outcome, why = pair.ask(**options)
        assert outcome == "unknown"
        assert why.startswith("cannot ask: ")
    for host in (pair.primary, pair.standby):
        assert not host.exists("/tmp/reached")
