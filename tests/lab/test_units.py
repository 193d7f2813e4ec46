"""Units of every kind and temper on a real standby: what systemd makes of them, and we of that."""

import re
import signal
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from tests.lab import units
from tests.lab.hosts import Lab, SystemdHost, wait_until
from tests.lab.pair import APP, MONITOR, Pair, Standby, pair

MakePair = Callable[..., Pair]
SLEEPS = "ExecStart=/usr/bin/sleep infinity\n"
RUNS = {"active", "reloading", "activating", "deactivating"}
NOISE_S = 1.0  # how much later than its due time a thing may happen on a busy machine
RETRIES_S = (1.0, 2.0, 5.0)  # between the first tries
# The real one asks for a password on a console that the lab does not have.
QUIET_RESCUE = "[Service]\nExecStartPre=\nExecStart=\nExecStart=/usr/bin/sleep infinity\n"


def service(lines: str = SLEEPS, *, kind: str = "exec", head: str = "") -> str:
    """A service without a start limit; `lines` go below [Service], `head` below [Unit]."""
    return f"[Unit]\nStartLimitIntervalSec=0\n{head}[Service]\nType={kind}\n{lines}"


def needs(path: str) -> str:
    """Lines of a service that starts only while a file exists."""
    return f"ExecStartPre=/usr/bin/test -e {path}\n{SLEEPS}"


def told(standby: Standby, kind: str, unit: str = "") -> list[dict[str, Any]]:
    """The events of one kind, of one unit or of all."""
    return [
        event
        for event in standby.events()
        if event["kind"] == kind and unit in ("", event.get("UNIT"))
    ]


def asked(standby: Standby, unit: str = "") -> list[str]:
    """What was asked of systemd so far, in order: "start app.service", ..."""
    return [f"{event['VERB']} {event['UNIT']}" for event in told(standby, "asked", unit)]


def moments(events: Sequence[dict[str, Any]]) -> list[float]:
    """When events happened; good for differences."""
    return [
        datetime.strptime(event["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007
        for event in events
    ]


def gaps(events: Sequence[dict[str, Any]]) -> list[float]:
    """The seconds between events."""
    times = moments(events)
    return [later - earlier for earlier, later in pairwise(times)]


def wait_for_phase(standby: Standby, phase: str, within: float = 10) -> None:
    """Wait until status.json has this phase."""
    wait_until(lambda: standby.status().get("phase") == phase, within, f"the phase is {phase}")


def shown(standby: Standby, unit: str) -> str:
    """A unit's ActiveState."""
    return standby.unit(unit)["ActiveState"]


def audit(made: Pair, *running: str, phase: str) -> None:
    """The end of a test: these services run here and no other, for systemd and for the kernel.

    And none of them on another host as well; status and state word agree; the monitor was never
    restarted and has met no bug.
    """
    standby = made.standby
    wait_for_phase(standby, phase)
    for unit in standby.keys["services_to_manage"]:
        properties = standby.unit(unit)
        here = unit in running
        assert (properties["ActiveState"] in RUNS) is here, f"{unit}: {properties['ActiveState']}"
        if unit.endswith(".service") and properties.get("Type") != "oneshot":
            assert standby.running(unit) is here, f"{unit} has processes: {standby.pids(unit)}"
        for host in made.lab.hosts.values():
            if here and isinstance(host, SystemdHost) and host is not standby:
                assert not host.running(unit), f"{unit} runs on two hosts"
    assert standby.state() == ("active_alive" if phase == "standby" else "active_dead")
    assert standby.unit(MONITOR)["NRestarts"] == "0"
    assert "Traceback" not in standby.journal(MONITOR)


# A pair of real hosts.


def test_a_service_runs_on_one_host_at_a_time_through_a_crash_and_a_return(lab: Lab) -> None:
    """The primary serves, loses power, boots again: never is the service seen on both hosts."""
    primary = lab.systemd("primary", 2, files={f"/etc/systemd/system/{APP}": units.ENABLED})
    primary.systemctl("enable", "--now", APP)
    made = pair(lab)
    audit(made, phase="standby")
    primary.crash()
    made.standby.wait_for(APP, "active", 10)
    audit(made, APP, phase="active")
    primary.start()
    made.standby.wait_for(APP, "inactive", 10)
    primary.wait_for(APP, "active", 10)
    audit(made, phase="standby")
    assert asked(made.standby) == [f"start {APP}", f"stop {APP}"]


# Services that do not start.


def test_a_service_that_fails_twice_is_tried_again_until_it_runs(make_pair: MakePair) -> None:
    """Tries after 1 and 2 s, loudly; the third one runs, and is not asked again."""
    made = make_pair(services={APP: units.fails_first(2)})
    made.takeover()
    audit(made, APP, phase="active")
    assert asked(made.standby) == [f"start {APP}"] * 3
    for waited, wanted in zip(gaps(told(made.standby, "asked")), RETRIES_S[:2], strict=True):
        assert wanted - 0.1 < waited < wanted + NOISE_S
    sentence = f"{APP} does not run: failed (exit-code); it is started again"
    assert [event["what"] for event in told(made.standby, "service_failed")] == [sentence] * 2
    assert f"[ERROR] {sentence}" in made.standby.log()
    made.failback()
    audit(made, phase="standby")


def test_a_start_limit_does_not_end_the_tries(make_pair: MakePair) -> None:
    """With `StartLimitBurst=2` in an hour, the fourth try still reaches the program."""
    limited = units.fails_first(3).replace(
        "StartLimitIntervalSec=0", "StartLimitIntervalSec=1h\nStartLimitBurst=2"
    )
    made = make_pair(services={APP: limited})
    made.takeover(within=25)
    audit(made, APP, phase="active")
    assert made.standby.read("/run/attempts").count("x") == 4
    assert asked(made.standby) == [f"start {APP}"] * 4


def test_a_start_limit_used_up_before_the_takeover_costs_at_most_one_try(
    make_pair: MakePair,
) -> None:
    """An operator who tested the service five times in ten seconds does not block the takeover."""
    made = make_pair(services={APP: units.LIMITED})
    for _ in range(5):
        made.standby.systemctl("start", APP)
        made.standby.systemctl("stop", APP)
    assert made.takeover() < 2.5 + RETRIES_S[0] + NOISE_S
    audit(made, APP, phase="active")
    assert len(asked(made.standby)) <= 2


def test_services_that_cannot_start_do_not_stop_the_others(make_pair: MakePair) -> None:
    """Masked, missing, broken and start-limited: told loudly; mended, they start by themselves."""
    broken = "[Service]\nType=exec\n"
    limited = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n[Service]\n" + needs("/run/ok")
    names = [f"{name}.service" for name in ("masked", "missing", "broken", "limited", "app")]
    made = make_pair(
        services={"broken.service": broken, "limited.service": limited, APP: units.APP},
        services_to_manage=names,
        watch=False,
    )
    standby = made.standby
    standby.systemctl("mask", "masked.service")
    standby.systemctl("start", "pin.service")  # else systemd forgets the starts with the unit
    standby.write("/run/ok", "")
    for word in ("start", "stop", "start"):
        standby.systemctl(word, "limited.service", check=False)
    assert standby.unit("limited.service")["Result"] == "start-limit-hit"
    standby.path("/run/ok").unlink()
    standby.watch()
    assert made.takeover() < 2.5 + NOISE_S
    assert standby.status()["phase"] == "takeover"
    for name, why in (("masked", "masked"), ("missing", "not-found"), ("broken", "bad-setting")):
        wait_until(lambda: f"({why})" in standby.log(), 2, f"{why} is told")  # noqa: B023
        assert standby.state() == "active_dead"
        wait_until(partial(asked, standby, f"{name}.service"), 2, f"{name} is asked")
    units_seen = {unit["name"]: unit for unit in standby.status()["units"]}
    assert units_seen["masked.service"]["state"] == "failed"
    assert units_seen["masked.service"]["why"] == "masked"
    standby.systemctl("unmask", "masked.service")
    for name in ("masked", "missing", "broken"):
        standby.write(f"/etc/systemd/system/{name}.service", units.APP)
    standby.write("/run/ok", "")
    standby.systemctl("daemon-reload")
    for name in names:
        standby.wait_for(name, "active", 25)
    audit(made, *names, phase="active")
    assert asked(standby, APP) == [f"start {APP}"]
    made.failback()
    for name in names:
        standby.wait_for(name, "inactive", 5)
    audit(made, phase="standby")


def test_an_unmet_condition_is_a_failure_until_it_is_met(make_pair: MakePair) -> None:
    """The other service starts; the unmet one is told, tried again, and starts when it can."""
    waits = service(head="ConditionPathExists=/run/ok\n")
    made = make_pair(services={"waits.service": waits, APP: units.APP})
    standby = made.standby
    assert made.takeover() < 2.5 + NOISE_S
    standby.wait_for_log("waits.service does not run: failed (condition not met)", 2)
    wait_until(lambda: len(asked(standby, "waits.service")) == 2, 3, "it is tried again")
    assert shown(standby, "waits.service") == "inactive"
    standby.write("/run/ok", "")
    standby.wait_for("waits.service", "active", 8)
    audit(made, "waits.service", APP, phase="active")
    assert asked(standby, APP) == [f"start {APP}"]


def test_a_service_that_ends_at_once_is_tried_ever_more_slowly(make_pair: MakePair) -> None:
    """`Type=simple` is active for an instant; even so 1, 2 and 5 s lie between the tries."""
    made = make_pair(
        services={
            "good.service": service("ExecStart=/bin/true\n", kind="simple"),
            "bad.service": service("ExecStart=/bin/false\n", kind="simple"),
            APP: units.APP,
        }
    )
    standby = made.standby
    made.primary.cut()
    both = ("good.service", "bad.service")
    wait_until(
        lambda: all(len(told(standby, "asked", unit)) == 4 for unit in both), 18, "four tries"
    )
    for unit in both:
        waits = gaps(told(standby, "asked", unit))
        for waited, wanted in zip(waits, RETRIES_S, strict=True):
            assert wanted - 0.1 < waited < wanted + 2 * NOISE_S, waits
        assert told(standby, "service_failed", unit)
    assert standby.running(APP)
    assert asked(standby, APP) == [f"start {APP}"]
    assert len(standby.log().splitlines()) < 100
    made.failback()
    audit(made, phase="standby")


# Services that hang.


def test_the_primary_coming_back_cancels_a_start_that_hangs(make_pair: MakePair) -> None:
    """Stop wins: the start job is cancelled, and nothing of the service is left."""
    made = make_pair(services={"hang.service": units.HANGS_IN_START, APP: units.APP})
    standby = made.standby
    made.primary.cut()
    standby.wait_for("hang.service", "activating", 10)
    assert standby.running("hang.service")
    assert standby.unit("hang.service")["Job"] != ""
    made.primary.heal()
    standby.wait_for("hang.service", "inactive", 5)
    audit(made, phase="standby")
    assert standby.systemctl("list-jobs", "--no-legend") == ""
    assert "takeover -> failback: the primary came back first" in standby.log()
    assert asked(standby) == ["start hang.service", "stop hang.service"]
    assert standby.active_since("hang.service") == standby.active_since(APP) == 0


def test_a_service_that_hangs_in_start_delays_the_next_by_ten_seconds(make_pair: MakePair) -> None:
    """The second service does not wait for ever; the pair is not called active; both stop."""
    made = make_pair(services={"hang.service": units.HANGS_IN_START, APP: units.APP})
    standby = made.standby
    made.takeover()
    first, second = moments(told(standby, "asked"))
    assert 10 <= round(second - first, 1) <= 10 + NOISE_S
    audit(made, "hang.service", APP, phase="takeover")
    assert asked(standby) == ["start hang.service", f"start {APP}"]
    made.failback()
    standby.wait_for("hang.service", "inactive", 5)
    audit(made, phase="standby")


def deaf(patience_s: int) -> str:
    """A service that ignores SIGTERM, and is killed so much later."""
    return units.IGNORES_SIGTERM.replace("TimeoutStopSec=5", f"TimeoutStopSec={patience_s}")


def test_a_service_that_ignores_sigterm_is_killed_by_systemd(make_pair: MakePair) -> None:
    """It is asked once; systemd kills it after its TimeoutStopSec, then the other one stops."""
    made = make_pair(services={APP: units.APP, "deaf.service": deaf(2)})
    standby = made.standby
    made.takeover("deaf.service")
    stamp = made.primary.heal()
    standby.wait_for("deaf.service", "failed", 8)
    assert 2 < standby.inactive_since("deaf.service") - stamp < 2 + 1.1 + NOISE_S
    standby.wait_for(APP, "inactive", 2)
    assert standby.inactive_since(APP) >= standby.inactive_since("deaf.service")
    audit(made, phase="standby")
    assert asked(standby)[2:] == ["stop deaf.service", f"stop {APP}"]
    assert "possibly two active" not in standby.log()


def test_a_service_that_does_not_stop_is_told_and_keeps_no_other_running(
    make_pair: MakePair,
) -> None:
    """After 10 s: "possibly two active", and the other service stops; systemd kills at 13 s."""
    made = make_pair(services={APP: units.APP, "deaf.service": deaf(13)})
    standby = made.standby
    made.takeover("deaf.service")
    stamp = made.primary.heal()
    standby.wait_for(APP, "inactive", 15)
    assert 10 < standby.inactive_since(APP) - stamp < 10 + 1.1 + NOISE_S
    assert standby.running("deaf.service")
    wait_until(lambda: told(standby, "stop_overdue"), 1, "it is told that the stop is overdue")
    sentence = told(standby, "stop_overdue")[0]["what"]
    assert re.fullmatch(r"possibly two active: .*deaf\.service has not stopped for 1\d s", sentence)
    assert f"[CRITICAL] {sentence}" in standby.log()
    assert standby.status()["phase"] == "failback"
    standby.wait_for("deaf.service", "failed", 8)
    audit(made, phase="standby")
    assert asked(standby)[2:] == ["stop deaf.service", f"stop {APP}"]
    assert len(told(standby, "stop_overdue")) == 1


# Order.


def test_services_start_in_order_and_stop_in_reverse(make_pair: MakePair) -> None:
    """Each is asked when the one before is active; each is stopped when the one after is."""
    slow = service(f"ExecStartPre=/usr/bin/sleep 0.3\n{SLEEPS}ExecStop=/usr/bin/sleep 0.3\n")
    names = ["zero.service", "one.service", "also.service"]  # neither sorted nor reversed
    made = make_pair(services=dict.fromkeys(names, slow))
    standby = made.standby
    made.takeover(names[-1])
    wait_for_phase(standby, "active")
    seen = [standby.unit(name) for name in names]
    for before, after in pairwise(seen):
        assert int(before["ActiveEnterTimestampMonotonic"]) <= int(
            after["InactiveExitTimestampMonotonic"]
        )
    audit(made, *names, phase="active")
    made.failback(names[0])
    audit(made, phase="standby")
    seen = [standby.unit(name) for name in names]
    for before, after in pairwise(seen):
        assert int(after["InactiveEnterTimestampMonotonic"]) <= int(
            before["ActiveExitTimestampMonotonic"]
        )
    starts = [f"start {name}" for name in names]
    assert asked(standby) == starts + [f"stop {name}" for name in reversed(names)]


# Oneshots.


def test_oneshots_run_once_in_a_takeover(make_pair: MakePair) -> None:
    """One that ended well counts as running until we stop it; one that failed is tried again."""
    count = "ExecStart=/bin/sh -c 'echo x >> /run/%p'\n"
    once, kept, shy = "once.service", "kept.service", "shy.service"
    made = make_pair(
        services={
            once: service(count, kind="oneshot"),
            kept: service(
                f"{count}RemainAfterExit=yes\nExecStop=/bin/sh -c 'echo x >> /run/stopped'\n",
                kind="oneshot",
            ),
            shy: service(f"ExecStartPre=/usr/bin/test -e /run/ok\n{count}", kind="oneshot"),
        }
    )
    standby = made.standby
    made.primary.cut()
    wait_until(lambda: len(asked(standby, shy)) == 2, 10, "the failing one is tried again")
    assert standby.status()["phase"] == "takeover"
    standby.write("/run/ok", "")
    wait_for_phase(standby, "active")
    audit(made, kept, phase="active")
    time.sleep(3)  # longer than any look is apart while busy
    assert [standby.read(f"/run/{unit}").count("x") for unit in ("once", "kept", "shy")] == [1] * 3
    made.primary.heal()
    wait_for_phase(standby, "standby")
    assert standby.read("/run/stopped") == "x\n"
    assert not [words for words in asked(standby) if words in (f"stop {once}", f"stop {shy}")]
    made.primary.cut()
    wait_for_phase(standby, "active")
    assert [standby.read(f"/run/{unit}").count("x") for unit in ("once", "kept", "shy")] == [2] * 3
    made.primary.heal()
    audit(made, phase="standby")


# Services that die while they serve.


def test_a_service_that_dies_is_started_again_after_a_second(make_pair: MakePair) -> None:
    """No `Restart=`: the death is told loudly, and we start it, once."""
    made = make_pair()
    standby = made.standby
    made.takeover()
    wait_for_phase(standby, "active")
    stamp = standby.signal(APP, signal.SIGKILL)
    wait_until(lambda: standby.active_since(APP) > stamp, 5, "it runs again")
    assert 0.9 < standby.active_since(APP) - stamp < 1 + NOISE_S
    audit(made, APP, phase="active")
    assert asked(standby) == [f"start {APP}"] * 2
    assert f"[ERROR] {APP} does not run: failed (signal)" in standby.log()


def test_a_service_that_systemd_restarts_is_left_to_systemd(make_pair: MakePair) -> None:
    """`Restart=always`: systemd's turn, and we ask for nothing."""
    made = make_pair(services={APP: units.RESTARTS})
    standby = made.standby
    made.takeover()
    wait_for_phase(standby, "active")
    stamp = standby.signal(APP, signal.SIGKILL)
    wait_until(lambda: standby.active_since(APP) > stamp, 5, "it runs again")
    audit(made, APP, phase="active")
    assert standby.unit(APP)["NRestarts"] == "1"
    assert asked(standby) == [f"start {APP}"]
    made.failback()
    time.sleep(1.5)  # longer than RestartSec=
    audit(made, phase="standby")


def test_a_failback_ends_a_restart_that_systemd_is_about_to_make(make_pair: MakePair) -> None:
    """The service died, systemd waits to restart it, the primary returns: it stays away."""
    made = make_pair(services={APP: units.RESTARTS.replace("RestartSec=1", "RestartSec=3")})
    standby = made.standby
    made.takeover()
    wait_for_phase(standby, "active")
    standby.signal(APP, signal.SIGKILL)
    wait_until(lambda: standby.unit(APP)["SubState"] == "auto-restart", 2, "systemd waits")
    made.primary.heal()
    wait_for_phase(standby, "standby", 4)
    assert standby.unit(APP)["NRestarts"] == "0"
    time.sleep(3)  # as long as RestartSec=
    audit(made, phase="standby")
    assert asked(standby) == [f"start {APP}", f"stop {APP}"]


def test_a_service_that_systemd_gives_up_is_ours_to_start(make_pair: MakePair) -> None:
    """`Restart=always` until the start limit is hit; then we try, with the limit forgotten."""
    made = make_pair(
        services={
            APP: (
                "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n[Service]\nType=exec\n"
                f"Restart=always\nRestartSec=0.1\n{needs('/run/ok')}"
            )
        }
    )
    standby = made.standby
    made.primary.cut()
    wait_until(lambda: len(asked(standby)) >= 2, 10, "it is asked again")
    assert f"[ERROR] {APP} does not run: failed" in standby.log()
    standby.write("/run/ok", "")
    standby.wait_for(APP, "active", 8)
    audit(made, APP, phase="active")


def test_a_service_that_an_operator_stops_is_started_again(make_pair: MakePair) -> None:
    """Only a pause or a failback takes a service away from a takeover."""
    made = make_pair()
    standby = made.standby
    made.takeover()
    wait_for_phase(standby, "active")
    stamp = time.monotonic()
    standby.systemctl("stop", APP)
    wait_until(lambda: standby.active_since(APP) > stamp, 5, "it runs again")
    assert standby.active_since(APP) - stamp > 0.9
    audit(made, APP, phase="active")
    assert asked(standby) == [f"start {APP}"] * 2
    assert f"{APP} does not run: stopped; it is started again" in standby.log()


def test_a_unit_file_changed_while_serving_moves_nothing(make_pair: MakePair) -> None:
    """A daemon-reload with another text goes by; the next start is of the new text."""
    made = make_pair()
    standby = made.standby
    made.takeover()
    pid = standby.pid_of(APP)
    standby.install_units({APP: service("ExecStart=/usr/bin/sleep 12345\n")})
    standby.systemctl("daemon-reload")
    audit(made, APP, phase="active")
    assert standby.pid_of(APP) == pid
    assert asked(standby) == [f"start {APP}"]
    made.failback()
    made.takeover()
    assert "12345" in standby.unit(APP)["ExecStart"]
    audit(made, APP, phase="active")


# What we did not start.


def test_a_service_enabled_at_boot_is_stopped_at_the_first_verdict(make_pair: MakePair) -> None:
    """The primary answers: what the boot started here by mistake is stopped, and it is said."""
    made = make_pair(services={APP: units.ENABLED})
    standby = made.standby
    standby.systemctl("enable", APP)
    standby.reboot()
    wait_until(lambda: asked(standby) == [f"stop {APP}"], 20, "it is stopped")
    standby.wait_for(APP, "inactive", 5)
    audit(made, phase="standby")
    sentence = "[WARNING] unknown -> failback: services ran here before the first look"
    assert sentence in standby.log()
    made.takeover()
    audit(made, APP, phase="active")


def test_a_service_started_by_hand_is_reported_and_left_alone(make_pair: MakePair) -> None:
    """Possibly two active: told at once.  A takeover keeps it, the failback stops it."""
    made = make_pair()
    standby = made.standby
    standby.systemctl("start", APP)
    pid = standby.pid_of(APP)
    sentence = f"possibly two active: {APP} runs here while the primary answers"
    standby.wait_for_log(f"[CRITICAL] {sentence}", NOISE_S)
    time.sleep(2.5)  # longer than any look is apart while busy
    audit(made, APP, phase="standby")
    assert len(told(standby, "foreign")) == 1
    made.primary.cut()
    wait_for_phase(standby, "active")
    audit(made, APP, phase="active")
    assert standby.pid_of(APP) == pid
    assert asked(standby) == []
    made.failback()
    audit(made, phase="standby")
    assert asked(standby) == [f"stop {APP}"]


def test_a_service_started_by_hand_is_stopped_where_that_is_wanted(make_pair: MakePair) -> None:
    """`foreign_start: "stop"`: told and stopped at once."""
    made = make_pair(foreign_start="stop")
    standby = made.standby
    standby.systemctl("start", APP)
    standby.wait_for(APP, "inactive", 2)
    audit(made, phase="standby")
    assert asked(standby) == [f"stop {APP}"]
    standby.wait_for_log("failback: somebody started a service here", NOISE_S)


# Kinds and names.


def test_units_of_every_kind_are_taken_over_and_given_back(make_pair: MakePair) -> None:
    """Socket, timer, target, path and mount units, and names that systemd has to escape."""
    mount = "[Mount]\nWhat=tmpfs\nWhere={}\nType=tmpfs\n"
    services = {
        "srv-data.mount": mount.format("/srv/data"),
        r"srv-my\x2ddata.mount": mount.format("/srv/my-data"),
        "door.socket": "[Socket]\nListenStream=/run/door\nService=app.service\n",
        "later.timer": "[Timer]\nOnActiveSec=1d\nUnit=app.service\n",
        "watch.path": "[Path]\nPathExists=/nowhere\nUnit=app.service\n",
        "group.target": "[Unit]\nDescription=A group\n",
        r"a\x2db.service": units.APP,
        "worker@.service": units.APP,
    }
    instances = ["worker@one.service", r"worker@bar\x2dbaz.service"]
    names = [*list(services)[:-1], *instances]
    made = make_pair(services=services | {APP: units.APP}, services_to_manage=names)
    standby = made.standby
    made.takeover(names[-1])
    audit(made, *names, phase="active")
    mounts = standby.run("mount").stdout
    assert " /srv/data " in mounts
    assert " /srv/my-data " in mounts
    assert standby.exists("/run/door")
    assert not standby.running(APP)
    made.failback(names[-1])
    audit(made, phase="standby")
    assert " /srv/data " not in standby.run("mount").stdout
    starts = [f"start {name}" for name in names]
    assert asked(standby) == starts + [f"stop {name}" for name in reversed(names)]


# The host's own maintenance.


def test_nothing_starts_while_the_host_is_in_maintenance(make_pair: MakePair) -> None:
    """rescue.target while the primary is dead: the verdict is told, the takeover comes after."""
    made = make_pair(watch=False)
    standby = made.standby
    standby.install_units({"rescue.service.d/quiet.conf": QUIET_RESCUE})
    standby.watch()
    standby.systemctl("start", "rescue.target")
    assert standby.systemctl("is-system-running", check=False) == "maintenance"
    made.primary.cut()
    standby.wait_for_state("active_dead", 2.5 + NOISE_S)
    time.sleep(2)
    assert asked(standby) == []
    assert not standby.running(APP)
    standby.systemctl("stop", "rescue.target")
    standby.wait_for(APP, "active", 2 + NOISE_S)
    audit(made, APP, phase="active")


def test_isolating_the_rescue_target_while_serving_starts_nothing(make_pair: MakePair) -> None:
    """Services and monitor end with the isolation, and go on after it."""
    made = make_pair(watch=False)
    standby = made.standby
    standby.install_units({"rescue.service.d/quiet.conf": QUIET_RESCUE})
    standby.watch()
    made.takeover()
    standby.systemctl("isolate", "rescue.target")
    standby.wait_for(APP, "inactive", 5)
    standby.wait_for(MONITOR, "inactive", 10)
    assert asked(standby) == [f"start {APP}"]
    assert standby.state() == "unknown"
    assert "does not run" not in standby.log()
    standby.systemctl("isolate", "multi-user.target")
    standby.wait_for(APP, "active", 10)
    audit(made, APP, phase="active")
    assert asked(standby) == [f"start {APP}"] * 2
