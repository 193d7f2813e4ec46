"""A standby with the product on it, and the pair around it: where most lab tests begin."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import rootfs, units
from tests.lab.hosts import Host, Lab, SystemdHost, wait_until
from tests.lab.network import LAN

MONITOR = "failover-monitor.service"
UNITS = "/etc/systemd/system"
APP = "app.service"
CONFIG = "/opt/failover-monitor/config.json"
STATE = "/var/run/failover_monitor_state"
LOG = "/var/log/failover_monitor.log"
STATUS = "/run/failover-monitor/status.json"
EVENTS = "/var/lib/failover-monitor/events.jsonl"

# Fast enough for tests, with a verdict after 1.5 to 2.5 s; every test may say otherwise.
QUICK: Mapping[str, Any] = {
    "gateway_ip": f"{LAN}1",
    "active_ip": f"{LAN}2",
    "ping_interval": 1,
    "ping_fail_threshold": 3,
    "retry_interval": 0.5,
    "startup_grace": 0,
    "services_to_manage": [APP],
}


# The guard's numbers for tests: everything is gone 7 s after a cut.
GUARD: Mapping[str, Any] = {"deadline": 2, "stop_limit": 3}


def enforcement(keys: Mapping[str, Any], services: Iterable[str]) -> dict[str, str]:
    """The files that install.sh adds where stopping is enforced, and on a primary the gates."""
    primary = keys.get("role") == "primary"
    if not (primary or keys.get("guard") or keys.get("lease")):
        return {}
    names = [f"failover-monitor-{name}.service" for name in ("reset", "again", "order")]
    files = {f"{UNITS}/{name}": (rootfs.CHECKOUT / name).read_text() for name in names}
    guard = (rootfs.CHECKOUT / "failover-monitor-guard.conf").read_text()
    files[f"{UNITS}/{MONITOR}.d/50-guard.conf"] = guard
    kind = "gate" if primary else "order"
    beside = (rootfs.CHECKOUT / f"failover-monitor-{kind}.conf").read_text()
    for unit in services:
        files[f"{UNITS}/{unit}.d/50-failover-monitor-gate.conf"] = beside
    return files


class Standby(SystemdHost):
    """A systemd host with the product installed by install.sh, and a service to fail over."""

    DEFAULTS: Mapping[str, Any] = QUICK

    def __init__(
        self,
        lab: Lab,
        name: str = "standby",
        number: int = 3,
        *,
        keys: Mapping[str, Any] | None = None,
        services: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        layers: Sequence[Path] | None = None,
        wired: bool = False,
    ) -> None:
        """`keys` go over QUICK, None removes one; `services`: unit name -> text, instead of APP.

        `layers` None = the installed product.  The monitor is not started: `watch()` does that.
        """
        services = {APP: units.APP} if services is None else services
        self.keys = dict(self.DEFAULTS) | {"services_to_manage": list(services)}
        unit_files = {
            f"{UNITS}/{unit}": text
            for unit, text in {**services, "pin.service": units.pin(*services)}.items()
        }
        super().__init__(
            lab,
            name,
            number,
            files=unit_files
            | enforcement(self.keys | dict(keys or {}), services)
            | dict(files or {}),
            wired=wired,
            layers=[rootfs.installed_tree()] if layers is None else layers,
        )
        self.configure(**(keys or {}))

    def configure(self, **keys: Any) -> None:
        """Write config.json: these keys over the present ones, None removes one.  No reload."""
        self.keys = {name: v for name, v in (self.keys | keys).items() if v is not None}
        self._put(self.tree, CONFIG, json.dumps(self.keys, indent=2) + "\n", 0o640)

    def watch(self, state: str = "active_alive", within: float = 10) -> float:
        """Enable and start the monitor, as install.sh does; wait for its state word."""
        self.systemctl("start", "pin.service")
        self.systemctl("enable", "--now", MONITOR, within=within + 60)
        return self.wait_for_state(state, within)

    def state(self) -> str:
        """The state word; "" where there is no file."""
        return self._text(STATE).strip()

    def status(self) -> dict[str, Any]:
        """What status.json says; {} where there is none."""
        return dict(json.loads(self._text(STATUS) or "{}"))

    def events(self) -> list[dict[str, Any]]:
        """The events so far, oldest first."""
        whole, _, _ = self._text(EVENTS).rpartition("\n")  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines()]

    def log(self) -> str:
        """The log file, from its beginning."""
        return self._text(LOG)

    def wait_for_state(self, word: str, within: float) -> float:
        """Wait for a state word; the seconds that took, or an AssertionError with the log."""
        try:
            return wait_until(lambda: self.state() == word, within, f"the state is {word}")
        except AssertionError as error:
            told = "\n".join(self.log().splitlines()[-30:])
            raise AssertionError(
                f"{error}, it is {self.state()!r}\n{told}\n{self.journal(MONITOR, lines=30)}"
            ) from None

    def wait_for_log(self, words: str, within: float) -> float:
        """Wait until the log has these words."""
        return wait_until(lambda: words in self.log(), within, f"the log says {words!r}")

    def _text(self, path: str) -> str:
        try:
            return self.read(path)
        except FileNotFoundError:
            return ""


class Guarded(Standby):
    """A primary with the guard; its services start when the gate opens."""

    DEFAULTS: Mapping[str, Any] = {
        "role": "primary",
        "gateway_ip": f"{LAN}1",
        "standby_ip": f"{LAN}3",
        "guard": GUARD,
    }

    def serves(self, unit: str = APP, within: float = 20) -> float:
        """Start the monitor and wait until the service runs."""
        self.watch(within=within)
        return wait_until(lambda: self.running(unit), within, f"{self.name}: {unit} runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Gateway .1, primary .2 and standby .3, with the monitor watching."""

    lab: Lab
    gateway: Host
    primary: Host
    standby: Standby

    def takeover(self, unit: str = APP, within: float = 20) -> float:
        """Cut the primary off; the seconds from the cut to the unit being active."""
        assert not self.standby.running(unit), f"{unit} runs before the cut"
        stamp = self.primary.cut()
        self.standby.wait_for(unit, "active", within)
        return self.standby.active_since(unit) - stamp

    def failback(self, unit: str = APP, within: float = 20) -> float:
        """Give the primary its link back; the seconds from there to the unit being inactive."""
        assert self.standby.running(unit), f"{unit} does not run before the return"
        stamp = self.primary.heal()
        self.standby.wait_for(unit, "inactive", within)
        return self.standby.inactive_since(unit) - stamp


def pair(
    lab: Lab,
    *,
    primary: Host | None = None,
    services: Mapping[str, str] | None = None,
    wired: bool = False,
    watch: bool = True,
    **keys: Any,
) -> Pair:
    """The usual three hosts; `keys` are of the configuration, `wired` is about the standby."""
    gateway = lab.hosts.get("gateway") or lab.plain("gateway", 1)
    primary = primary or lab.hosts.get("primary") or lab.plain("primary", 2)
    standby = lab.add(Standby(lab, keys=keys, services=services, wired=wired))
    if watch:
        standby.watch()
        # The state word is there at once, the record a moment later: what comes now, comes after.
        standby.wait_for_log("unknown -> standby", 10)
        wait_until(
            lambda: any(event.get("TO") == "standby" for event in standby.events()),
            10,
            "the history has begun",
        )
    return Pair(lab=lab, gateway=gateway, primary=primary, standby=standby)
