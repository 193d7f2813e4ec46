"""What became of the echoes: counted once, timed honestly, and written down about once a minute."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import files, samples
from failover_monitor.console import records
from failover_monitor.files import Paths, Recorder
from failover_monitor.model import (
    Answer,
    GuardPolicy,
    Phase,
    Role,
    Round,
    Verdict,
)
from failover_monitor.samples import LATE_S, RECENT_S, SAMPLE_S, Echoes, Samples
from tests.test_files import Journal, on_small_disk
from tests.world import World, policy_of

PRIMARY, GATEWAY, STANDBY = "198.51.100.2", "198.51.100.1", "198.51.100.3"
GUARDED = policy_of(
    role=Role.PRIMARY, primary=(), standby=(STANDBY,), guard=GuardPolicy(deadline_s=5.0)
)


class Wire:
    """Sends echoes into `Samples`, and answers them."""

    def __init__(self) -> None:
        self.samples = Samples(0.0)
        self.number = 0

    def sent(self, at_s: float, *addresses: str) -> int:
        self.number += 1
        for address in addresses or (PRIMARY,):
            self.samples.sent(address, Round(self.number, at_s, repair=False))
        return self.number

    def answered(self, at_s: float, number: int, address: str = PRIMARY) -> float | None:
        return self.samples.answered(Answer(address, number, 0.0), at_s)

    def echoes(self, now_s: float, address: str = PRIMARY) -> Echoes:
        return self.samples.recent(now_s).echoes.get(address, Echoes())


def watched(world: World, until_s: float) -> list[dict[str, Any]]:
    """The samples of a monitor that watched so long."""
    if not world.monitor:
        world.begin()
    world.run_until(until_s)
    return world.recorder.samples


# The counting.


def test_an_echo_on_its_way_is_neither_lost_nor_answered() -> None:
    """A perfect network shows no loss, also right after a round was sent."""
    wire = Wire()
    first = wire.sent(0.0)
    assert wire.answered(0.002, first) == pytest.approx(0.002)
    wire.sent(3.0)
    echoes = wire.echoes(3.0)
    assert (echoes.sent, echoes.answered, echoes.loss_percent) == (1, 1, 0.0)


def test_an_echo_without_an_answer_is_lost() -> None:
    """After `LATE_S`, not before; and an answer after that changes nothing."""
    wire = Wire()
    number = wire.sent(0.0)
    assert wire.echoes(LATE_S - 0.01).loss_percent is None
    assert wire.answered(LATE_S, number) is None
    echoes = wire.echoes(LATE_S)
    assert (echoes.sent, echoes.answered, echoes.loss_percent) == (1, 0, 100.0)
    assert wire.answered(LATE_S + 1, number) is None
    assert wire.echoes(LATE_S + 1) == echoes


def test_an_echo_is_answered_once() -> None:
    """A second answer, a neighbour's beside the echo's, is not a second echo."""
    wire = Wire()
    number = wire.sent(0.0)
    wire.answered(0.1, number)
    assert wire.answered(0.2, number) is None
    assert (wire.echoes(0.2).sent, wire.echoes(0.2).answered) == (1, 1)


def test_round_trip_times_are_shortest_mean_and_longest() -> None:
    """In milliseconds, of all answers; None where there is none."""
    wire = Wire()
    for rtt_s in (0.001, 0.002, 0.006):
        wire.answered(rtt_s, wire.sent(0.0))
    assert wire.echoes(1.0).rtt_ms == (1.0, 3.0, 6.0)
    assert wire.echoes(1.0, GATEWAY).rtt_ms is None


def test_no_answer_is_counted_twice_over_a_boundary() -> None:
    """Sent before the end of a sample, answered after it: it belongs to the later one."""
    wire = Wire()
    number = wire.sent(59.9)
    first = wire.samples.end(60.0)
    wire.answered(60.1, number)
    second = wire.samples.end(120.0)
    assert first.echoes == {}
    assert (second.echoes[PRIMARY].sent, second.echoes[PRIMARY].answered) == (1, 1)
    assert wire.echoes(120.0).rtt_ms == (200.0, 200.0, 200.0)


def test_what_nobody_could_time_is_not_counted() -> None:
    """After a suspend the answers in the socket's queue would take hours."""
    wire = Wire()
    number = wire.sent(0.0)
    wire.samples.forget_flying()
    assert wire.answered(2.0, number) is None
    assert wire.echoes(10.0) == Echoes()


def test_the_last_minutes_are_the_last_minutes() -> None:
    """What is older has left; the length is that of what is counted."""
    wire = Wire()
    wire.answered(1.5, wire.sent(1.0))
    for minute in range(1, 11):
        wire.samples.end(60.0 * minute)
    recent = wire.samples.recent(60.0 + RECENT_S - 1)
    assert recent.echoes[PRIMARY].answered == 1
    assert recent.length_s == pytest.approx(60.0 + RECENT_S - 1)
    later = wire.samples.recent(60.0 + RECENT_S)
    assert later.echoes == {}
    assert later.length_s == pytest.approx(RECENT_S)


def test_memory_stays_small() -> None:
    """A day of outages keeps ten minutes of samples, and no more echoes than are on their way."""
    wire = Wire()
    for minute in range(1, 1440):
        for k in range(10):
            wire.sent(60.0 * minute - 60 + k)
        wire.samples.end(60.0 * minute)
    assert len(wire.samples._past) <= RECENT_S / SAMPLE_S + 1
    assert len(wire.samples._flying) == 0


def test_a_near_miss_belongs_to_one_sample() -> None:
    """It is what `recommend` reads."""
    wire = Wire()
    wire.samples.near_miss(0.7)
    assert wire.samples.end(60.0).gaps_s == [0.7]
    assert wire.samples.end(120.0).gaps_s == []


# The monitor's samples.


def test_a_steady_minute() -> None:
    """Every echo answered; phase and verdict as they stand at its end."""
    found = watched(World(policy_of()), 200.0)
    assert len(found) == 3
    for sample in found:
        assert 60.0 <= sample["length_s"] < 63.1
        assert (sample["phase"], sample["verdict"], sample["gaps_s"]) == ("standby", "up", [])
        for path in sample["paths"].values():
            assert 19 <= path["sent"] == path["answered"] <= 22
            assert path["rtt_ms"] == (1.0, 1.0, 1.0)
    roles = {address: path["role"] for address, path in found[0]["paths"].items()}
    assert roles == {PRIMARY: "primary", GATEWAY: "reference"}


def test_the_guards_minute() -> None:
    """The primary counts the standby and the references."""
    found = watched(World(GUARDED), 130.0)
    roles = {address: path["role"] for address, path in found[0]["paths"].items()}
    assert roles == {STANDBY: "standby", GATEWAY: "reference"}
    assert found[1]["paths"][STANDBY]["answered"] > 100
    assert found[1]["verdict"] == "up"


def test_a_short_silence_is_a_gap_and_a_loss() -> None:
    """The primary leaves some echoes unanswered and comes back before the verdict."""
    world = World(policy_of())
    watched(world, 70.0)
    world.hosts[PRIMARY].up = False
    world.run_until(74.0)
    world.hosts[PRIMARY].up = True
    found = watched(world, 130.0)[1]
    primary = found["paths"][PRIMARY]
    assert primary["answered"] < primary["sent"]
    assert found["paths"][GATEWAY]["answered"] == found["paths"][GATEWAY]["sent"]
    assert len(found["gaps_s"]) == 1
    assert 0.5 < found["gaps_s"][0] < 5.0


@pytest.mark.parametrize("role", [Role.STANDBY, Role.PRIMARY])
def test_an_outage_that_was_judged_leaves_no_gap(role: Role) -> None:
    """Neither on the standby nor on the guarded primary."""
    world = World(policy_of() if role is Role.STANDBY else GUARDED)
    watched(world, 70.0)
    for host in world.hosts.values():
        host.up = host is world.hosts[GATEWAY] and role is Role.STANDBY
    world.run_until(100.0)
    for host in world.hosts.values():
        host.up = True
    found = watched(world, 190.0)
    assert [sample["gaps_s"] for sample in found] == [[]] * len(found)
    assert {"down"} <= {str(event.fields.get("SUBJECT")) for _, event in world.recorder.told}


def test_a_short_silence_after_an_outage_is_a_gap_again() -> None:
    """What was made of the earlier silence is no word on this one."""
    world = World(policy_of())
    watched(world, 70.0)
    for dark_s in (30.0, 4.0):
        world.hosts[PRIMARY].up = False
        world.run_until(world.now_s + dark_s)
        world.hosts[PRIMARY].up = True
        found = watched(world, world.now_s + 60.0)
    assert len([gap_s for sample in found for gap_s in sample["gaps_s"]]) == 1


def test_a_suspend_ends_the_sample_where_the_host_fell_asleep() -> None:
    """No sample of eight hours, and no round trip of eight hours."""
    world = World(policy_of())
    watched(world, 100.0)
    world.suspend(8 * 3600.0)
    found = watched(world, 100.0 + 8 * 3600 + 70)
    slept = found[1]
    assert slept["at_s"] == pytest.approx(100.0, abs=4)
    assert 35 < slept["length_s"] < 42
    assert all(sample["length_s"] < 64 for sample in found)
    for sample in found:
        for path in sample["paths"].values():
            assert path["sent"] == path["answered"]
            assert path["rtt_ms"][2] < 2000


@pytest.mark.parametrize("for_s", [2.0, 30.0])
def test_a_frozen_process_times_nothing(for_s: float) -> None:
    """It goes on in the same, longer sample; nothing is lost or slow by our own fault."""
    world = World(policy_of())
    watched(world, 69.0005)  # a round is on its way
    world.freeze(for_s)
    found = watched(world, 200.0)
    assert sum(sample["length_s"] for sample in found) == pytest.approx(180, abs=19)
    for sample in found:
        for path in sample["paths"].values():
            assert path["sent"] == path["answered"]
            assert path["rtt_ms"] == (1.0, 1.0, 1.0)


def test_a_wall_clock_that_steps_changes_no_length() -> None:
    """Only the stamp steps: lengths are of the clock that never does."""
    world = World(policy_of())
    watched(world, 70.0)
    assert world.monitor
    world.monitor.wall = lambda: world.now_s - 3600.0
    found = watched(world, 130.0)
    assert found[1]["at_s"] < 0
    assert 60.0 <= found[1]["length_s"] < 63.1


def test_a_reload_forgets_what_is_on_its_way_through_the_old_probe() -> None:
    """And addresses that are watched no more are not told of."""
    world = World(policy_of())
    watched(world, 69.0005)
    assert world.monitor
    assert world.monitor.status.samples._flying
    world.monitor._listen = lambda probe: None  # type: ignore[method-assign]
    fresh = type(world.wire)(world)
    world.hosts["198.51.100.9"] = type(world.hosts[GATEWAY])()
    world.policy = policy_of(references=("198.51.100.9",))
    world.monitor.reload(world.policy, fresh)
    assert not world.monitor.status.samples._flying
    world.wire = fresh
    found = watched(world, 130.0)[1]
    assert set(found["paths"]) == {PRIMARY, "198.51.100.9"}
    assert found["paths"][PRIMARY]["sent"] == found["paths"][PRIMARY]["answered"]


def test_the_end_of_the_process_ends_the_sample() -> None:
    """What there is of it is written, unless it is too short to say anything."""
    world = World(policy_of())
    watched(world, 90.0)
    assert world.monitor
    world.monitor.keep_sample(world.now_s)
    assert world.recorder.samples[-1]["length_s"] == pytest.approx(30, abs=4)
    count = len(world.recorder.samples)
    world.monitor.keep_sample(world.now_s + 0.5)
    assert len(world.recorder.samples) == count


# On disk.


def of_a_minute(addresses: int = 2) -> dict[str, Any]:
    """The line of a usual minute."""
    names = [f"198.51.100.{200 + k}" for k in range(addresses)]
    policy = policy_of(primary=(names[0],), references=tuple(names[1:]))
    sample = samples.Sample(0.0, 60.1)
    for name in names:
        sample.echoes[name] = Echoes(20, 20, 0.010123, 0.224466, 0.123456)
    return samples.document(
        sample, at_s=1763745000.123, policy=policy, phase=Phase.STANDBY, verdict=Verdict.UP
    )


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    for directory in (paths.log.parent, paths.state_word.parent):
        directory.mkdir(parents=True)
    return paths


def test_seven_days_fit(paths: Paths) -> None:
    """In the predecessor alone, with more addresses than most pairs have."""
    recorder = Recorder(paths, Journal())
    recorder.sample(of_a_minute(4))
    recorder.close()
    assert 7 * 24 * 60 * paths.samples.stat().st_size < files.SAMPLES_BYTES


def test_a_sample_is_read_back_as_it_was(paths: Paths) -> None:
    """By the reader that all commands use."""
    recorder = Recorder(paths, Journal())
    recorder.sample(of_a_minute())
    recorder.close()
    (found,) = records.samples(paths)
    assert (found.at_s, found.length_s, found.phase) == (1763745000.123, 60.1, "standby")
    path = found.paths["198.51.100.200"]
    assert (path.role, path.sent, path.answered) == ("primary", 20, 20)
    assert path.rtt_ms == (10.123, 11.223, 123.456)


def test_the_samples_turn_over(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and its predecessor; between them nothing is missing."""
    monkeypatch.setattr(files, "SAMPLES_BYTES", 2000)
    recorder = Recorder(paths, Journal())
    for k in range(100):
        recorder.sample({**of_a_minute(), "at_s": float(k)})
    recorder.close()
    assert sorted(p.name for p in paths.history.iterdir()) == ["samples.jsonl", "samples.jsonl.1"]
    found = [int(sample.at_s) for sample in records.samples(paths)]
    assert found == list(range(found[0], 100))
    assert len(found) >= 8


def test_a_line_that_was_torn_does_not_spoil_the_next_processs_first(paths: Paths) -> None:
    """A full disk, a crash in the middle: the next process begins on a line of its own."""
    paths.history.mkdir(parents=True)
    paths.samples.write_text(json.dumps(of_a_minute()) + '\n{"at_s": 17')
    recorder = Recorder(paths, Journal())
    recorder.sample(of_a_minute())
    recorder.close()
    assert len(list(records.samples(paths))) == 2


def test_a_full_disk_costs_samples_and_says_so() -> None:
    """Once; and what is written when there is room again can be read."""
    script = """
from failover_monitor.console import records
from tests.test_samples import of_a_minute
recorder = Recorder(paths, journal)
recorder.sample(of_a_minute())
settle(recorder)
fill()
for k in range(100):
    recorder.sample(of_a_minute(8))
settle(recorder)
settle(recorder)
print(recorder.lost > 0, sum("samples.jsonl: No space" in line for line in journal.lines))
os.unlink("/mnt/ballast")
recorder.sample({**of_a_minute(), "at_s": 2000000000.0})
recorder.close()
found = list(records.samples(paths))
print(found[0].at_s, found[-1].at_s)
"""
    assert on_small_disk(script).split() == ["True", "1", "1763745000.123", "2000000000.0"]


def test_a_stuck_disk_never_delays_the_watch(paths: Paths) -> None:
    """Samples wait in the writer's queue, as all lines do, and come when the disk does."""
    recorder, hangs = Recorder(paths, Journal()), threading.Event()
    recorder.writer.submit(hangs.wait)
    recorder.sample(of_a_minute())
    assert not paths.samples.exists()
    hangs.set()
    recorder.close()
    assert len(list(records.samples(paths))) == 1
