"""Debian's fence agents as they are: what our fence makes of them, and they of our sandbox.

The management controller is OpenIPMI's simulator: real IPMI over the network, with a file for the
power switch.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab import rootfs
from tests.lab.hosts import Lab, LightHost, SystemdHost, wait_until

AGENTS = ("fence-agents", "ipmitool", "openipmi")
DUMMY, IPMI = "/usr/sbin/fence_dummy", "/usr/sbin/fence_ipmilan"
STATUS = "/run/fence_dummy.status"
USER, PASSWORD = "admin", "secret"

LAN_CONF = f"""\
name "primary"
set_working_mc 0x20
  startlan 1
    addr 0.0.0.0 623
    priv_limit admin
    allowed_auths_admin md5
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "/run/bmc/chassis 0x20"
  user 1 false "" "" user 10 none
  user 2 true "{USER}" "{PASSWORD}" admin 10 md5
"""
COMMANDS = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
"""
# What the simulator calls to see and to move the computer's power switch.
CHASSIS = """\
#!/bin/sh
verb=$2
shift 2
while [ $# -gt 0 ]; do
    case "$verb $1" in
    "get power") echo "power:$(cat /run/bmc/power)"; shift ;;
    "get "*) echo "$1:0"; shift ;;
    "set power") echo "$2" >/run/bmc/power; shift 2 ;;
    *) shift 2 ;;
    esac
done
"""

# On the standby: our fence with one policy, until it is done or has failed; what it was then.
DRIVER = """\
import asyncio, json, sys

sys.path.insert(0, "/src")
from failover_monitor.fence import Fence
from failover_monitor.model import FencePolicy, Fencing


async def main():
    policy = json.loads(sys.argv[1])
    changed = asyncio.Event()
    fence = Fence(FencePolicy(**policy | {"command": tuple(policy["command"])}),
                  changed.set, asyncio.Lock())
    fence.want(True)
    while fence.seen.state is Fencing.RUNNING:
        await changed.wait()
        changed.clear()
    print(json.dumps([fence.seen.state, fence.seen.tries, fence.seen.why]))
    fence.want(False)


asyncio.run(main())
"""
SANDBOX = re.compile(
    r"(?:CapabilityBoundingSet|NoNewPrivileges|Protect|Private|ReadWritePaths|Restrict[ANRS]"
    r"|LockPersonality|MemoryDeny|SystemCall|LimitCORE|OOMScore|Nice|UMask)\w*=.*"
)
UNIT_FILE = rootfs.CHECKOUT / "failover-monitor.service"


class Standby(SystemdHost):
    """A standby with the agents, and with our code to run them."""

    def fence(self, *command: str, sandbox: bool = True, **policy: Any) -> tuple[str, int, str]:
        """State, tries and reason of a fence, run as the monitor's unit would run it."""
        given = json.dumps({"options": {}, "retries": 0, "command": command} | policy)
        words: Sequence[str] = ("/usr/bin/python3", "/run/driver.py", given)
        if sandbox:
            shut = (f"--property={line}" for line in sandbox_of(UNIT_FILE))
            words = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", *shut, *words)
        said = self.run(*words, within=90).stdout
        state, tries, why = json.loads(said)
        return state, tries, why


def sandbox_of(unit_file: Path) -> list[str]:
    """The lines of a unit that take something away from its processes, and their priority."""
    lines = [line for line in unit_file.read_text().splitlines() if SANDBOX.fullmatch(line)]
    assert len(lines) > 20, lines
    return lines


@pytest.fixture
def standby(lab: Lab) -> Iterator[Standby]:
    host = Standby(
        lab,
        "standby",
        3,
        layers=[rootfs.with_packages("fence", *AGENTS)],
        binds={str(rootfs.CHECKOUT): "/src"},
    )
    lab.add(host)
    host.write("/run/driver.py", DRIVER)
    host.write(STATUS, "on")
    yield host


class Controller(LightHost):
    """The primary's management controller, on an address of its own."""

    def power_on(self) -> None:
        """Start the simulator; the computer is on at first."""
        self.write("/run/bmc/lan.conf", LAN_CONF)
        self.write("/run/bmc/commands", COMMANDS)
        self.write("/run/bmc/chassis", CHASSIS, 0o755)
        self.write("/run/bmc/power", "1")
        (self.root() / "run/bmc/state").mkdir()
        words = "ipmi_sim -n -c /run/bmc/lan.conf -f /run/bmc/commands -s /run/bmc/state"
        with (self.home / "bmc").open("wb") as log:
            self.popen(*words.split(), stdout=log, stderr=log)
        asked = f"ipmitool -I lanplus -H 127.0.0.1 -U {USER} -P {PASSWORD} -C 3 chassis status"
        answers = partial(self.run, *asked.split(), check=False)
        wait_until(
            lambda: "System Power         : on" in answers().stdout, 20, "the controller answers"
        )

    def computer_is_on(self) -> bool:
        """Where the power switch stands."""
        return self.read("/run/bmc/power").strip() == "1"


@pytest.fixture
def controller(lab: Lab) -> Controller:
    made = lab.add(Controller(lab, "bmc", 9, layers=[rootfs.with_packages("fence", *AGENTS)]))
    made.power_on()
    return made


def test_options_reach_an_agent_by_its_input_and_by_its_arguments(standby: Standby) -> None:
    """Both are the agents' own ways; with the former no password is in the list of processes."""
    options = {"action": "off", "status_file": STATUS}
    assert standby.fence(DUMMY, options=options) == ("done", 1, "Success: Powered OFF")
    assert standby.read(STATUS) == "off"
    standby.write(STATUS, "on")
    words = (DUMMY, "--action=off", f"--status-file={STATUS}")
    assert standby.fence(*words) == ("done", 1, "Success: Powered OFF")
    assert standby.read(STATUS) == "off"


def test_an_agent_with_arguments_does_not_read_its_input(standby: Standby) -> None:
    """So options beside arguments are lost, and `reboot` is what agents do when not told."""
    state, _, why = standby.fence(
        DUMMY, f"--status-file={STATUS}", options={"action": "off", "status_file": STATUS}
    )
    assert (state, why) == ("done", "Success: Rebooted")
    assert standby.read(STATUS) == "on"


def test_switching_off_what_is_off_is_a_success(standby: Standby) -> None:
    """A takeover after a crash finds the primary off already, or is done twice."""
    standby.write(STATUS, "off")
    options = {"action": "off", "status_file": STATUS}
    state, _, why = standby.fence(DUMMY, options=options)
    assert (state, why) == ("done", "Success: Already OFF")


def test_a_device_that_does_not_obey_is_a_failure(standby: Standby) -> None:
    """The agent looks after its deed, and so we know."""
    options = {"action": "off", "type": "fail", "plug": "1", "power_timeout": "2"}
    state, tries, why = standby.fence(DUMMY, options=options, retries=1)
    assert (state, tries) == ("failed", 2)
    assert why.startswith("it ended with status 1: ")


def test_an_agent_that_takes_too_long_is_a_failure(standby: Standby) -> None:
    """Our limit is the last word, and nothing of the agent is left."""
    options = {"action": "off", "status_file": STATUS, "delay": "600"}
    state, _, why = standby.fence(DUMMY, options=options, timeout_s=3)
    assert (state, why) == ("failed", "it did not end within 3 s")
    assert standby.run("pgrep", "-f", DUMMY, check=False).stdout == ""


def test_a_management_controller_is_asked_over_the_network(
    standby: Standby, controller: Controller
) -> None:
    """fence_ipmilan, ipmitool and IPMI 2.0, all in the monitor's sandbox: the computer is off."""
    options = {
        "ip": controller.address,
        "username": USER,
        "password": PASSWORD,
        "lanplus": "1",
        "cipher": "3",
        "action": "off",
    }
    assert standby.fence(IPMI, options=options) == ("done", 1, "Success: Powered OFF")
    assert not controller.computer_is_on()
    assert standby.fence(IPMI, options=options)[::2] == ("done", "Success: Already OFF")


def test_a_wrong_password_and_a_dead_controller_are_failures(
    standby: Standby, controller: Controller
) -> None:
    """The computer stays on, or nobody knows: both are no fence."""
    options = {
        "ip": controller.address,
        "username": USER,
        "password": "wrong",
        "lanplus": "1",
        "cipher": "3",
        "action": "off",
    }
    state, _, why = standby.fence(IPMI, options=options)
    assert state == "failed"
    assert why.startswith("it ended with status 1: ")
    assert controller.computer_is_on()
    controller.cut()
    options |= {"password": PASSWORD, "login_timeout": "2"}
    assert standby.fence(IPMI, options=options)[0] == "failed"
