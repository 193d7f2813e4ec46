"""The truth table of docs/safety.md: faults down, configurations across, from `safety` itself.

`python -m tests.safety_table` prints it; `test_safety` compares it with the page and plays every
cell.
"""

from dataclasses import replace

from failover_monitor.model import (
    FencePolicy,
    GuardPolicy,
    LeasePolicy,
    Policy,
    ServiceCheck,
)
from failover_monitor.safety import FAULTS, boot_hold_needed_s, takeover_delay_needed_s

GATEWAY, WITNESS = "198.51.100.1", "198.51.100.4"
PRIMARY, STANDBY, CABLE = "198.51.100.2", "198.51.100.3", "203.0.113.2"

ALONE = Policy(
    primary=(PRIMARY,), references=(GATEWAY,), services=("app.service",), retry_interval_s=1.5
)
WITNESSED = replace(ALONE, references=(GATEWAY, WITNESS))
CHECK = ServiceCheck(kind="tcp", name="tcp", options={"host": PRIMARY, "port": 80}, interval_s=1.0)
GUARD = GuardPolicy(deadline_s=5.0, stop_limit_s=5.0, boot_hold_s=boot_hold_needed_s(5.0))
FENCE = FencePolicy(command=("/usr/sbin/fence",), options={})
LEASE = LeasePolicy(engine="etcd", endpoints=("http://198.51.100.11:2379",), name="p", holder="s")

# Each column is a witness and one protection; the first has not even that.
COLUMNS = {
    "gateway alone": ALONE,
    "+ witness": WITNESSED,
    "+ second path": replace(WITNESSED, primary=(PRIMARY, CABLE)),
    "+ service check": replace(WITNESSED, service_checks=(CHECK,)),
    "+ trigger": replace(WITNESSED, service_checks=(replace(CHECK, trigger=True),)),
    "+ guard": replace(
        WITNESSED,
        guard=GUARD,
        takeover_delay_s=takeover_delay_needed_s(WITNESSED.verdict_s, GUARD),
    ),
    "+ lease": replace(WITNESSED, lease=LEASE),
    "+ fence": replace(WITNESSED, fence=FENCE),
}


def rows() -> list[list[str]]:
    """The cells as the page has them."""
    return [
        [fault.name, *(fault.outcome(policy).value for policy in COLUMNS.values())]
        for fault in FAULTS
    ]


def markdown() -> str:
    lines = [["fault", *COLUMNS], ["---"] * (1 + len(COLUMNS)), *rows()]
    bold = {"two active", "stays down"}
    return "".join(
        "| " + " | ".join(f"**{cell}**" if cell in bold else cell for cell in line) + " |\n"
        for line in lines
    )


if __name__ == "__main__":
    print(markdown(), end="")
