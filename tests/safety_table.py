"""The tables of docs/safety.md: what each fault leads to, and which tests of the lab prove it.

`python -m tests.safety_table` prints both; `test_safety` compares them with the page and plays
every cell of the first.
"""

from dataclasses import replace

from failover_monitor.model import (
    FencePolicy,
    GuardPolicy,
    LeasePolicy,
    Policy,
    ServiceCheck,
)
from failover_monitor.safety import FAULTS, OPEN, boot_hold_needed_s, takeover_delay_needed_s

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


# Fault -> file of tests/lab and tests in it, without their `test_`.
PROOFS: dict[str, dict[str, tuple[str, ...]]] = {
    "the primary host dies": {
        "network": ("a_crashed_primary_is_stood_in_for_until_it_returns",),
        "guard": ("a_primary_that_crashes_is_taken_over_and_waits_when_it_returns",),
        "lease_pair": ("a_crash_is_taken_over_when_the_lease_has_run_out",),
        "protections": (
            "a_takeover_comes_after_a_fence_that_succeeds",
            "a_service_check_does_not_delay_a_takeover",
        ),
    },
    "the primary is cut off from everybody": {
        "catalogue": ("a_broken_path_to_a_living_primary_is_two_active_until_it_mends",),
        "guard": (
            "a_primary_that_is_cut_off_stops_before_the_standby_starts",
            "a_cut_shorter_than_the_deadline_changes_nothing",
        ),
        "lease_pair": ("a_primary_that_is_cut_off_stops_before_its_lease_ends",),
        "protections": (
            "no_takeover_without_the_fence",
            "a_fence_that_fails_gives_way_to_the_guards_time",
        ),
    },
    "one cable of the primary is out": {
        "network": (
            "a_primary_whose_port_is_cut_is_stood_in_for_until_it_heals",
            "either_path_alone_keeps_the_primary_alive",
            "both_paths_dark_is_a_dead_primary",
        ),
    },
    "the standby is cut off": {
        "network": ("own_isolation_never_causes_a_takeover",),
        "network_slow": ("a_minute_of_own_isolation_changes_nothing",),
        "catalogue": ("one_way_of_our_own_link_lost_is_isolation",),
    },
    "the gateway dies, the primary lives": {
        "network": ("a_dead_gateway_alone_changes_nothing_and_is_said",),
    },
    "the gateway dies, then the primary": {
        "network": ("a_gateway_that_returns_alone_begins_a_full_run_of_checks",),
        "references": (
            "a_witness_stands_in_for_a_dead_gateway",
            "two_of_three_references_must_answer",
        ),
    },
    "only the path between the two breaks": {
        "catalogue": ("a_broken_path_to_a_living_primary_is_two_active_until_it_mends",),
        "network": ("either_path_alone_keeps_the_primary_alive",),
        "guard": ("only_the_path_between_the_two_breaks_and_both_serve",),
        "lease_pair": ("only_the_path_between_the_two_breaks_and_the_primary_goes_on",),
    },
    "the gateway never answers ICMP, and the primary dies": {
        "references": (
            "a_gateway_that_never_answers_holds_everything_and_is_told",
            "a_gateway_that_drops_icmp_counts_as_a_neighbour_where_that_was_chosen",
        ),
    },
    "the primary begins to drop ICMP": {
        "protections": ("a_primary_that_drops_icmp_but_serves_is_not_taken_over",),
        "references": ("a_primary_that_begins_to_drop_icmp_is_alive_where_neighbours_count",),
    },
    "the host is up, its service is dead": {
        "catalogue": ("a_living_host_with_dead_services_is_left_alone",),
        "protections": (
            "a_dead_service_on_a_living_host_is_taken_over_by_a_trigger",
            "the_port_of_a_real_unit_is_what_the_check_sees",
        ),
    },
    "a dead service that made us take over comes back": {
        "protections": (
            "a_dead_service_on_a_living_host_is_taken_over_by_a_trigger",
            "two_active_is_said_as_soon_as_it_is_seen",
        ),
    },
    "cut off, and the guard hangs or a service will not stop": {
        "guard": (
            "a_guard_that_hangs_while_cut_off_resets_its_host",
            "what_does_not_stop_is_killed_in_time",
            "a_frozen_systemd_does_not_keep_the_services_alive",
            "a_guard_that_is_killed_goes_on_with_its_deadline",
        ),
        "enforcement": ("a_monitor_that_cannot_guard_resets_a_host_whose_services_may_run",),
    },
    "the primary is a virtual machine, paused and resumed": {
        "catalogue": ("a_paused_primary_is_stood_in_for_and_both_serve_until_it_is_seen",),
    },
    "the primary returns while we serve": {
        "catalogue": ("services_that_start_before_the_network_overlap_until_the_first_answer",),
        "guard": ("a_primary_that_crashes_is_taken_over_and_waits_when_it_returns",),
        "lease_pair": ("a_crash_is_taken_over_when_the_lease_has_run_out",),
        "enforcement": ("nothing_passes_a_closed_gate",),
    },
    "we serve and are cut off, and the primary returns": {
        "lease_pair": ("a_standby_that_serves_and_is_cut_off_from_the_store_stops",),
    },
    "two standbys watch one primary": {
        "catalogue": ("two_standbys_for_one_primary_both_take_over",),
        "lease_pair": ("of_two_standbys_exactly_one_serves",),
    },
    "power returns to both hosts": {
        "network": (
            "a_primary_that_boots_more_slowly_is_waited_for",
            "a_primary_that_never_came_is_dead_when_the_grace_ends",
        ),
    },
}


def rows() -> list[list[str]]:
    """The cells as the page has them."""
    return [
        [fault.name, *(fault.outcome(policy).value for policy in COLUMNS.values())]
        for fault in FAULTS
    ]


def markdown() -> str:
    """The truth table."""
    lines = [["fault", *COLUMNS], ["---"] * (1 + len(COLUMNS)), *rows()]
    return table([[f"**{cell}**" if cell in OPEN else cell for cell in line] for line in lines])


def proofs() -> str:
    """Which tests of the lab play a fault on real hosts."""
    lines = [["fault", "tests/lab"], ["---"] * 2]
    for fault in FAULTS:
        files = PROOFS[fault.name]
        tests = [f"`test_{file}.py::test_{name}`" for file in files for name in files[file]]
        lines.append([fault.name, "<br>".join(tests)])
    return table(lines)


def table(lines: list[list[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    print(markdown(), proofs(), sep="\n", end="")
