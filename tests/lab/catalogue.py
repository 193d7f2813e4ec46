"""The fault catalogue: what can go wrong, what must come of it, and which tests prove it.

Rule: a row names tests that exist, or says in `without` why there is none.  A name is the file
below tests/ and the test in it; a scenario is the name of its file.  T, V, g, R and A are as in
docs/promises.md, A being the time between two echo rounds while we serve.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault; its parts have proofs of their own."""

    number: int
    fault: str
    outcome: str
    proof: dict[str, tuple[str, ...]]  # part of the fault -> tests
    without: str = ""  # why a part has no test


NETWORK, SLOW = "lab/test_network.py::test_", "lab/test_network_slow.py::test_"
PROCESS, FILES = "lab/test_process.py::test_", "lab/test_files.py::test_"
UNITS, SYSTEMD = "lab/test_units.py::test_", "lab/test_systemd_faults.py::test_"
HERE, ICMP = "lab/test_catalogue.py::test_", "test_icmp.py::test_"
DETECTOR, SIMULATION = "test_detector.py::test_", "test_simulation.py::test_"
INSTALL, NEIGHBOUR = "install/test_install.py::test_", "test_neighbour.py::test_"
GUARD, ENFORCED = "lab/test_guard.py::test_", "lab/test_enforcement.py::test_"
PAIRED, PROTECTED = "lab/test_lease_pair.py::test_", "lab/test_protections.py::test_"
ATTACK, ARBITERS = "lab/test_wire_security.py::test_", "lab/test_lease_lab.py::test_"
LEASE, FENCE, GUARD_TABLE = "test_lease.py::test_", "test_fence.py::test_", "test_guard.py::test_"
AGENTS, REFERENCES = "lab/test_fence_agents.py::test_", "lab/test_references.py::test_"
CONTROL = "lab/test_control.py::test_"
STORY = "scenarios/"

CATALOGUE = (
    Row(
        number=1,
        fault="the primary loses power",
        outcome="one takeover, within T + V and the start of the services",
        proof={
            "takeover and back": (NETWORK + "a_crashed_primary_is_stood_in_for_until_it_returns",),
            "never on two hosts": (
                UNITS + "a_service_runs_on_one_host_at_a_time_through_a_crash_and_a_return",
            ),
            "in virtual time": (SIMULATION + "crashes_at_random_moments_take_v_to_t_plus_v",),
        },
    ),
    Row(
        number=2,
        fault="the primary reboots, for shorter or longer than V",
        outcome="a takeover only if longer than V; failback; two active for A and our stop at most",
        proof={
            "three lengths": (HERE + "a_reboot_is_bridged_when_it_lasts_longer_than_v",),
            "shorter than V - g": (
                NETWORK + "a_reboot_of_the_primary_is_bridged_only_when_it_lasts",
            ),
            "longer than ARP lives": (SLOW + "a_return_after_45_seconds_is_seen_within_one",),
        },
    ),
    Row(
        number=3,
        fault="the primary's services start before its network",
        outcome="alone: both serve until it is heard; with a guard: its gate holds them back",
        proof={
            "pings alone": (
                HERE + "services_that_start_before_the_network_overlap_until_the_first_answer",
            ),
            "a guard's gate": (
                GUARD + "a_primary_that_crashes_is_taken_over_and_waits_when_it_returns",
                ENFORCED + "nothing_passes_a_closed_gate",
            ),
        },
    ),
    Row(
        number=4,
        fault="the primary's kernel lives, its services are dead",
        outcome="no takeover: an echo says nothing of services",
        proof={"killed, frozen": (HERE + "a_living_host_with_dead_services_is_left_alone",)},
    ),
    Row(
        number=5,
        fault="all links of the primary are cut",
        outcome="pings alone: takeover, two active until it heals; guard or lease: one active",
        proof={
            "pings alone": (
                HERE + "a_broken_path_to_a_living_primary_is_two_active_until_it_mends",
                NETWORK + "a_primary_whose_port_is_cut_is_stood_in_for_until_it_heals",
            ),
            "reported while both may serve": (
                FILES + "failback_by_command_waits_for_the_operator",
                SYSTEMD + "a_stop_that_pid_1_does_not_carry_out_is_told",
            ),
            "a guard": (GUARD + "a_primary_that_is_cut_off_stops_before_the_standby_starts",),
            "a lease": (PAIRED + "a_primary_that_is_cut_off_stops_before_its_lease_ends",),
        },
    ),
    Row(
        number=6,
        fault="our own links are cut",
        outcome="never a verdict; it is said; a later verdict needs N fresh checks",
        proof={
            "short, again and again": (NETWORK + "own_isolation_never_causes_a_takeover",),
            "a minute": (SLOW + "a_minute_of_own_isolation_changes_nothing",),
            "one way": (HERE + "one_way_of_our_own_link_lost_is_isolation",),
            "then fresh checks": (
                NETWORK + "a_gateway_that_returns_alone_begins_a_full_run_of_checks",
                STORY + "own_network_comes_back_and_the_primary_is_gone.txt",
            ),
        },
    ),
    Row(
        number=7,
        fault="only the path between the two is cut",
        outcome="pings alone, and with a guard: takeover, as the README says; with a lease: none",
        proof={
            "pings alone": (
                HERE + "a_broken_path_to_a_living_primary_is_two_active_until_it_mends",
            ),
            "a second path": (NETWORK + "either_path_alone_keeps_the_primary_alive",),
            "a guard": (GUARD + "only_the_path_between_the_two_breaks_and_both_serve",),
            "a lease": (PAIRED + "only_the_path_between_the_two_breaks_and_the_primary_goes_on",),
        },
    ),
    Row(
        number=8,
        fault="one way of that path loses everything",
        outcome="as 7",
        proof={
            "each way": (HERE + "a_broken_path_to_a_living_primary_is_two_active_until_it_mends",),
            "each way of ours": (HERE + "one_way_of_our_own_link_lost_is_isolation",),
        },
    ),
    Row(
        number=9,
        fault="the gateway dies, the primary lives",
        outcome="nothing; without a witness it is said that no takeover can happen",
        proof={
            "alone": (NETWORK + "a_dead_gateway_alone_changes_nothing_and_is_said",),
            "and then the primary": (STORY + "gateway_dies_then_the_primary.txt",),
            "it never answered": (
                REFERENCES + "a_gateway_that_never_answers_holds_everything_and_is_told",
            ),
            "k of n": (REFERENCES + "two_of_three_references_must_answer",),
        },
    ),
    Row(
        number=10,
        fault="gateway and primary die together",
        outcome="without a witness nothing, and it is said; with one a takeover in the usual time",
        proof={
            "without": (NETWORK + "a_gateway_that_returns_alone_begins_a_full_run_of_checks",),
            "with": (REFERENCES + "a_witness_stands_in_for_a_dead_gateway",),
        },
    ),
    Row(
        number=11,
        fault="the gateway answers only half of the echoes",
        outcome="a verdict within T + V + R",
        proof={
            "rate limit": (REFERENCES + "a_gateway_that_limits_icmp_delays_no_takeover",),
            "one check without an answer": (
                DETECTOR + "an_inconclusive_check_costs_at_most_one_more_v",
            ),
        },
    ),
    Row(
        number=12,
        fault="independent loss up to 30 %",
        outcome="no verdict",
        proof={
            "months": (SIMULATION + "ten_thousand_hours_at_ten_percent_loss",),
            "30 % for five minutes": (SLOW + "heavy_loss_for_five_minutes_is_no_dead_primary",),
        },
    ),
    Row(
        number=13,
        fault="bursts in which everything is lost",
        outcome="no verdict below V - g",
        proof={
            "again and again": (HERE + "short_blackouts_again_and_again_change_nothing",),
            "the shipped numbers": (
                NETWORK + "a_blackout_of_three_seconds_changes_nothing_with_the_shipped_numbers",
            ),
            "100,000 phases": (
                SIMULATION + "a_blackout_shorter_than_v_minus_g_is_ridden_through",
                SIMULATION + "a_blackout_longer_than_t_plus_v_is_not",
            ),
        },
    ),
    Row(
        number=14,
        fault="round trips of 0.5, 1.2, 2 and 3 s",
        outcome="no verdict while they are shorter than V",
        proof={
            "all four": (HERE + "a_round_trip_shorter_than_v_is_no_verdict",),
            "later than ping_timeout": (NETWORK + "a_primary_that_answers_late_is_alive",),
        },
    ),
    Row(
        number=15,
        fault="duplicated, reordered, corrupt, cut, foreign, replayed and forged answers",
        outcome="alive only by the right nonce from the right source; never a crash",
        proof={
            "duplicated, reordered": (NETWORK + "duplicates_and_reordering_change_nothing",),
            "forged nonce": (NETWORK + "forged_answers_do_not_keep_a_dead_primary_alive",),
            "foreign id, sequence, source, cut": (ICMP + "only_the_genuine_answer_counts",),
            "replayed": (ICMP + "a_duplicate_and_a_replay_are_nothing",),
            "garbage": (ICMP + "garbage_is_never_believed",),
            "corrupt, cut": (ATTACK + "wrong_bits_and_stumps_change_nothing",),
            "replayed by a seer": (
                ATTACK + "genuine_answers_played_again_keep_nobody_alive",
                ATTACK + "every_frame_played_again_later_keeps_nobody_alive",
            ),
            "guessed": (ATTACK + "a_blind_attacker_keeps_nobody_alive_and_kills_nobody",),
        },
    ),
    Row(
        number=16,
        fault="ICMP errors, genuine and forged",
        outcome="at most an earlier suspicion; V stays",
        proof={
            "a router's": (ICMP + "a_router_says_unreachable",),
            "earlier, no sooner": (
                DETECTOR + "icmp_errors_begin_the_suspicion_sooner_and_the_verdict_no_sooner",
            ),
            "neither life nor proof": (DETECTOR + "an_error_is_neither_life_nor_proof",),
            "forged": (
                ATTACK + "forged_errors_with_the_right_echo_in_them_are_at_most_a_suspicion",
            ),
            "told once": (ICMP + "an_error_is_told_once_and_the_echo_may_still_be_answered",),
        },
    ),
    Row(
        number=17,
        fault="ARP: another hardware address, stale entries, a duplicate address",
        outcome="no verdict; a duplicate is the primary to us, and is not detected",
        proof={
            "another address, stale entries": (
                HERE + "a_new_hardware_address_is_learned_before_the_verdict",
            ),
            "duplicate": (HERE + "another_host_with_the_primarys_address_is_the_primary_to_us",),
            "forged": (
                ATTACK + "forged_arp_is_a_cut_path_and_no_quicker_than_one",
                ATTACK + "a_permanent_neighbour_entry_makes_forged_arp_harmless",
            ),
            "both entries expired": (SLOW + "a_return_after_45_seconds_is_seen_within_one",),
            "who is asked learns our address": (NEIGHBOUR + "who_is_asked_learns_our_address",),
        },
    ),
    Row(
        number=18,
        fault="our carrier flaps; address, route or interface goes or changes its name; DHCP",
        outcome="inconclusive, and it resumes by itself",
        proof={
            "address, route, interface gone": (
                NETWORK + "a_standby_without_a_way_holds_still_and_resumes",
            ),
            "renamed, renewed, another address": (
                HERE + "a_network_that_changes_under_us_is_followed",
            ),
            "carrier": (HERE + "a_flapping_carrier_of_our_own_is_no_verdict",),
        },
    ),
    Row(
        number=19,
        fault="sending fails: ENOBUFS, EPERM, ENETUNREACH and others; EMFILE",
        outcome="inconclusive, no crash, no spin",
        proof={
            "EPERM": (NETWORK + "a_packet_filter_of_our_own_is_no_verdict",),
            "EHOSTUNREACH, EACCES, EINVAL, ENETUNREACH": (
                HERE + "whatever_the_kernel_says_when_it_refuses_to_send_is_doubt",
            ),
            "ENOBUFS": (ICMP + "a_full_send_buffer_is_a_reason",),
            "dropped without a word": (
                HERE + "a_queue_of_our_own_that_swallows_everything_is_isolation",
            ),
            "EMFILE": (HERE + "without_a_free_descriptor_it_still_takes_over_and_gives_back",),
        },
    ),
    Row(
        number=20,
        fault="the monitor stands still for 0.5 to 120 s",
        outcome="no verdict from old evidence",
        proof={
            "short": (PROCESS + "a_short_freeze_is_survived",),
            "in mid-suspicion": (PROCESS + "evidence_from_before_a_freeze_makes_no_verdict",),
            "until the watchdog": (PROCESS + "a_long_freeze_ends_with_the_watchdog",),
            "every length": (
                DETECTOR + "a_late_timer_drops_the_evidence",
                DETECTOR + "a_short_delay_drops_nothing",
            ),
        },
    ),
    Row(
        number=21,
        fault="suspend, or the virtual machine is paused: ours, the primary's",
        outcome="ours: no verdict; the primary's: takeover, two active for A and our stop",
        proof={
            "ours": (HERE + "a_paused_standby_makes_no_verdict_of_what_it_missed",),
            "the primary's": (
                HERE + "a_paused_primary_is_stood_in_for_and_both_serve_until_it_is_seen",
            ),
            "suspend": (STORY + "the_host_sleeps_in_mid_suspicion.txt",),
        },
    ),
    Row(
        number=22,
        fault="the wall clock steps",
        outcome="no effect",
        proof={"an hour, both ways": (NETWORK + "the_wall_clock_decides_nothing",)},
    ),
    Row(
        number=23,
        fault="the monitor is killed, in every phase",
        outcome="the same decision or a later one; services keep their state; no storm",
        proof={
            "standby": (PROCESS + "a_kill_on_standby_starts_nothing",),
            "suspicion": (PROCESS + "a_kill_in_suspicion_only_delays_the_takeover",),
            "takeover": (PROCESS + "a_kill_amid_a_takeover_finishes_it",),
            "active": (PROCESS + "a_kill_while_serving_leaves_the_services_alone",),
            "failback": (PROCESS + "a_kill_amid_a_failback_finishes_it",),
            "again and again": (PROCESS + "five_kills_in_a_row_do_not_end_the_watch",),
            "at any point": (
                DETECTOR + "a_restart_at_any_point_decides_the_same_and_never_on_less",
            ),
        },
    ),
    Row(
        number=24,
        fault="upgrade, reload, SIGHUP; a bad configuration",
        outcome="a bad one changes nothing; whoever serves goes on",
        proof={
            "upgrade while serving": (
                INSTALL + "an_upgrade_leaves_the_services_and_the_configuration_alone",
            ),
            "a release that does not start": (
                INSTALL + "a_release_that_does_not_start_gives_way_to_the_one_before",
            ),
            "reload": (PROCESS + "a_good_configuration_counts_from_the_reload",),
            "SIGHUP in a suspicion": (HERE + "reloads_during_a_suspicion_delay_no_verdict",),
            "bad, reloaded": (PROCESS + "a_bad_configuration_changes_nothing_at_a_reload",),
            "bad, restarted while serving": (
                PROCESS + "a_bad_configuration_does_not_end_the_watch_while_serving",
            ),
            "bad, restarted": (PROCESS + "a_bad_configuration_is_refused_while_not_serving",),
        },
    ),
    Row(
        number=25,
        fault="a start fails, hangs, ends at once; masked, missing, start limit",
        outcome="tried again with growing pauses, told; the others start; stops still work",
        proof={
            "fails": (UNITS + "a_service_that_fails_twice_is_tried_again_until_it_runs",),
            "hangs": (
                UNITS + "a_service_that_hangs_in_start_delays_the_next_by_ten_seconds",
                UNITS + "the_primary_coming_back_cancels_a_start_that_hangs",
            ),
            "ends at once": (UNITS + "a_service_that_ends_at_once_is_tried_ever_more_slowly",),
            "masked, missing, broken": (
                UNITS + "services_that_cannot_start_do_not_stop_the_others",
            ),
            "start limit": (
                UNITS + "a_start_limit_does_not_end_the_tries",
                UNITS + "a_start_limit_used_up_before_the_takeover_costs_at_most_one_try",
            ),
            "condition": (UNITS + "an_unmet_condition_is_a_failure_until_it_is_met",),
        },
    ),
    Row(
        number=26,
        fault="a stop hangs",
        outcome="bounded by the unit's own time limit, then killed; told when it lasts",
        proof={
            "ignores SIGTERM": (UNITS + "a_service_that_ignores_sigterm_is_killed_by_systemd",),
            "does not end": (
                UNITS + "a_service_that_does_not_stop_is_told_and_keeps_no_other_running",
            ),
            "KillMode=none": (ENFORCED + "a_unit_whose_processes_outlive_it_is_not_at_rest",),
            "with a guard": (GUARD + "what_does_not_stop_is_killed_in_time",),
        },
        without="a process that the kernel cannot end (D): no host of a lab can have one",
    ),
    Row(
        number=27,
        fault="systemd or D-Bus is dead, frozen, reloaded, re-executed",
        outcome="time limits and retries; no wish is lost, none comes true late",
        proof={
            "reload, reexec, bus gone or frozen": (
                SYSTEMD + "trouble_stops_neither_takeover_nor_failback",
                SYSTEMD + "a_start_that_lies_in_a_frozen_bus_never_comes_true",
                SYSTEMD + "a_monitor_that_starts_without_a_bus_does_its_work",
            ),
            "reexec in a start": (
                SYSTEMD + "reexecution_in_the_middle_of_a_hanging_start_forgets_nothing",
            ),
            "PID 1 stopped": (
                SYSTEMD + "a_frozen_pid_1_delays_the_takeover_until_it_thaws_and_no_echo",
                SYSTEMD + "a_primary_that_returns_while_pid_1_is_frozen_gets_its_services_back",
                SYSTEMD + "a_stop_that_pid_1_does_not_carry_out_is_told",
            ),
        },
    ),
    Row(
        number=28,
        fault="an operator acts: starts, stops, isolates, gives back, pauses, takes over",
        outcome="as documented: told, and who asked; only a failback ends a takeover",
        proof={
            "stops": (UNITS + "a_service_that_an_operator_stops_is_started_again",),
            "starts": (
                UNITS + "a_service_started_by_hand_is_reported_and_left_alone",
                UNITS + "a_service_started_by_hand_is_stopped_where_that_is_wanted",
            ),
            "isolates": (
                UNITS + "nothing_starts_while_the_host_is_in_maintenance",
                UNITS + "isolating_the_rescue_target_while_serving_starts_nothing",
            ),
            "gives back": (FILES + "failback_by_command_waits_for_the_operator",),
            "pauses": (
                CONTROL + "a_pause_holds_over_a_crash_a_restart_and_a_reboot",
                CONTROL + "a_host_that_serves_goes_on_from_what_is",
                STORY + "paused_on_a_lease_that_is_lost.txt",
            ),
            "takes over": (
                CONTROL + "a_service_is_moved_by_hand_and_back",
                STORY + "taken_over_by_hand_while_takeovers_are_held.txt",
            ),
        },
    ),
    Row(
        number=29,
        fault="the primary returns in the middle of our start, or dies in the middle of our stop",
        outcome="ends with exactly one active; starts and stops in turn",
        proof={
            "returns": (
                HERE + "a_return_at_any_moment_of_a_start_ends_with_the_service_stopped",
                UNITS + "the_primary_coming_back_cancels_a_start_that_hangs",
            ),
            "dies": (HERE + "a_death_at_any_moment_of_a_stop_ends_with_the_service_running",),
        },
    ),
    Row(
        number=30,
        fault="the primary flaps",
        outcome="every takeover after V of silence of its own; a limit where one is configured",
        proof={
            "in every rhythm": (
                NETWORK + "a_flapping_primary_gets_a_full_run_of_checks_each_time",
            ),
            "a limit": (
                PROTECTED + "a_flapping_primary_is_left_alone_until_an_operator_has_looked",
            ),
        },
    ),
    Row(
        number=31,
        fault="the guard hangs, is killed, is starved",
        outcome="killed: it goes on with its deadline; hung: the host is reset",
        proof={
            "killed": (GUARD + "a_guard_that_is_killed_goes_on_with_its_deadline",),
            "hung": (GUARD + "a_guard_that_hangs_while_cut_off_resets_its_host",),
            "starved": (GUARD_TABLE + "a_turn_that_comes_very_late_kills_at_once",),
            "systemd frozen": (GUARD + "a_frozen_systemd_does_not_keep_the_services_alive",),
            "upgraded": (GUARD + "an_upgrade_of_the_guard_touches_nothing",),
        },
    ),
    Row(
        number=32,
        fault="the lease's store is down, restarted, cut off, empty; its clock drifts",
        outcome="the holder serves until its lease ends; nobody else gets it sooner",
        proof={
            "a member down": (
                ARBITERS + "the_lease_survives_the_crash_of_one_arbiter",
                LEASE + "one_dead_member_ends_no_hold",
            ),
            "restarted": (LEASE + "all_members_restart_and_nobody_else_gets_it",),
            "cut off": (
                ARBITERS + "who_is_cut_off_from_the_arbiters_knows_nothing",
                ARBITERS + "a_leader_without_followers_renews_nothing",
            ),
            "disk lost": (
                LEASE + "one_lost_disk_loses_nothing",
                LEASE + "a_store_that_lost_everything_grants_nothing_before_older_holds_are_over",
            ),
            "no majority": (
                ARBITERS + "a_killed_arbiter_and_one_without_a_disk_are_no_majority",
                LEASE + "without_a_majority_nothing_is_granted",
            ),
            "drift": (LEASE + "two_never_hold_it_at_once",),
            "a pair": (
                PAIRED
                + "without_most_of_the_arbiters_nobody_serves_and_with_them_the_primary_does",
                PAIRED + "arbiters_that_lost_their_disks_know_nothing_and_the_lease_is_won_anew",
                PAIRED + "slow_arbiters_end_no_lease",
            ),
        },
    ),
    Row(
        number=33,
        fault="the fence command works, fails, hangs, lies",
        outcome="a start only after success; a hang is bounded",
        proof={
            "works": (FENCE + "a_command_that_succeeds_is_run_once",),
            "fails": (
                FENCE + "a_retry_that_succeeds_is_a_success",
                FENCE + "after_its_retries_a_fence_is_still_tried_while_it_is_wanted",
            ),
            "hangs": (FENCE + "a_command_that_hangs_has_failed",),
            "lies": (AGENTS + "a_device_that_does_not_obey_is_a_failure",),
            "cannot be started": (FENCE + "a_command_that_cannot_be_started_has_failed",),
            "a pair": (
                PROTECTED + "a_takeover_comes_after_a_fence_that_succeeds",
                PROTECTED + "no_takeover_without_the_fence",
                PROTECTED + "a_fence_that_fails_gives_way_to_the_guards_time",
            ),
        },
    ),
    Row(
        number=34,
        fault="disk full, read-only; journald dead, frozen, its queue full",
        outcome="no decision is later for it; it is said",
        proof={
            "disk full": (FILES + "a_full_disk_delays_no_takeover",),
            "/run full": (HERE + "a_full_run_directory_delays_no_takeover",),
            "read-only": (FILES + "a_read_only_log_delays_no_takeover",),
            "journald dead": (FILES + "a_takeover_does_not_need_journald",),
            "journald frozen": (FILES + "a_takeover_does_not_wait_for_a_frozen_journald",),
            "queue full": (FILES + "a_takeover_does_not_wait_for_a_full_journal_queue",),
        },
    ),
    Row(
        number=35,
        fault="leaks; the sequence wraps; another program's pings",
        outcome="nothing grows; nothing is mixed up",
        proof={
            "leaks": (FILES + "nothing_leaks", SYSTEMD + "many_bus_restarts_leave_nothing_behind"),
            "wrap": (ICMP + "the_sequence_may_wrap",),
            "other pings": (ICMP + "other_programs_pings_do_not_push_our_answer_out",),
        },
    ),
    Row(
        number=36,
        fault="of a thousand primaries two hundred die at once",
        outcome="not promised: one process watches one primary",
        proof={},
        without="it is not promised",
    ),
    Row(
        number=37,
        fault="IPv6: lifetimes, duplicate address detection, scopes, ICMPv6 filtered",
        outcome="as with IPv4",
        proof={
            "global": (NETWORK + "an_ipv6_pair_fails_over_and_back",),
            "both families": (NETWORK + "either_family_keeps_a_dual_stack_primary_alive",),
            "link-local": (HERE + "a_link_local_pair_fails_over_and_back",),
            "lifetime": (HERE + "an_address_whose_lifetime_runs_out_is_doubt",),
            "duplicate address detection": (HERE + "duplicate_address_detection_is_waited_for",),
            "filtered": (
                HERE + "a_filter_of_our_own_against_icmpv6_is_no_verdict",
                HERE + "filtered_neighbour_discovery_of_our_own_is_isolation",
            ),
        },
    ),
    Row(
        number=38,
        fault="two standbys for one primary by mistake",
        outcome="both take over and both give back; neither can know; a lease lets one win",
        proof={
            "pings alone": (HERE + "two_standbys_for_one_primary_both_take_over",),
            "one lease": (LEASE + "of_three_claimants_exactly_one_wins",),
            "a pair": (PAIRED + "of_two_standbys_exactly_one_serves",),
        },
    ),
)
