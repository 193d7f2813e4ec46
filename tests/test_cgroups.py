"""What the kernel shows of a unit's processes, read from plain files laid out as it does."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from failover_monitor.cgroups import Cgroups

UNIT = "app.service"
EMPTY = "populated 0\nfrozen 0\n"
POPULATED = "populated 1\nfrozen 0\n"


@pytest.fixture
def init(tmp_path: Path) -> Path:
    """Where PID 1 lives, on a host with one unified hierarchy."""
    file = tmp_path / "init"
    file.write_text("0::/init.scope\n")
    return file


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    top = tmp_path / "cgroup"
    top.mkdir()
    (top / "cgroup.controllers").touch()
    return top


def cgroup(path: Path, events: str = POPULATED, pids: str = "") -> Path:
    """A cgroup as the kernel shows it."""
    path.mkdir(parents=True)
    (path / "cgroup.events").write_text(events)
    (path / "cgroup.kill").write_text("")
    (path / "cgroup.procs").write_text(pids)
    return path


def killed(home: Path) -> bool:
    return (home / "cgroup.kill").read_text() == "1"


@pytest.mark.parametrize("events", [EMPTY, POPULATED])
def test_a_cgroup_with_a_process_in_or_below_it_is_populated(
    unified: Path, init: Path, events: str
) -> None:
    """The kernel counts, children's children included."""
    cgroup(unified / "system.slice" / UNIT, events)
    assert Cgroups(unified, init).populated(UNIT) is (events == POPULATED)


def test_a_unit_without_a_cgroup_has_no_process(unified: Path, init: Path) -> None:
    """Its directory was removed by systemd, as that of every unit at rest."""
    (unified / "system.slice").mkdir()
    assert Cgroups(unified, init).populated(UNIT) is False


def test_what_cannot_be_read_is_never_nothing_runs(
    unified: Path, init: Path, tmp_path: Path
) -> None:
    """No hierarchy, no word of where PID 1 lives, an odd file: not known."""
    assert Cgroups(tmp_path / "nowhere", init).populated(UNIT) is None
    assert Cgroups(unified, tmp_path / "nowhere").populated(UNIT) is None
    init.write_text("what is this\n")
    assert Cgroups(unified, init).populated(UNIT) is None
    init.write_text("0::/init.scope\n")
    home = cgroup(unified / "system.slice" / UNIT)
    (home / "cgroup.events").unlink()
    (home / "cgroup.events").mkdir()
    assert Cgroups(unified, init).populated(UNIT) is None


@pytest.mark.parametrize(
    "place",
    [
        UNIT,
        f"system.slice/{UNIT}",
        f"a.slice/a-b.slice/{UNIT}",
        f"system.slice/system-app.slice/{UNIT}",
        f"system.slice/_{UNIT}",
    ],
)
def test_a_unit_is_found_in_whatever_slice_it_is(unified: Path, init: Path, place: str) -> None:
    """By its name alone, also where systemd had to escape it."""
    home = cgroup(unified / place)
    assert Cgroups(unified, init).populated(UNIT) is True
    assert Cgroups(unified, init).kill(UNIT) == ""
    assert killed(home)


@pytest.mark.parametrize(
    "place",
    [
        "user.slice/user-0.slice/user@0.service/app.slice",
        "machine.slice/machine-x.scope/payload/system.slice",
    ],
)
def test_a_unit_of_another_systemd_is_not_ours(unified: Path, init: Path, place: str) -> None:
    """A user's own manager and a container have units of the same names: neither seen nor hit."""
    home = cgroup(unified / place / UNIT)
    assert Cgroups(unified, init).populated(UNIT) is False
    Cgroups(unified, init).kill(UNIT)
    assert not killed(home)


def test_processes_left_in_a_former_slice_count(unified: Path, init: Path) -> None:
    """A unit that was moved while something of it lived on has two cgroups; both are killed."""
    old, new = (cgroup(unified / place / UNIT) for place in ("old.slice", "system.slice"))
    (new / "cgroup.events").write_text(EMPTY)
    assert Cgroups(unified, init).populated(UNIT) is True
    Cgroups(unified, init).kill(UNIT)
    assert killed(old)
    assert killed(new)


def test_a_systemd_that_is_not_at_the_root_has_its_units_below_itself(
    unified: Path, init: Path
) -> None:
    """As in a container without a cgroup namespace."""
    init.write_text("0::/box/init.scope\n")
    cgroup(unified / "system.slice" / UNIT)
    assert Cgroups(unified, init).populated(UNIT) is False
    cgroup(unified / "box/system.slice" / UNIT)
    assert Cgroups(unified, init).populated(UNIT) is True


def test_hybrid_hierarchies_are_read_in_their_unified_half(tmp_path: Path) -> None:
    """Both halves have the unit; only one has events and the kernel's kill."""
    init = tmp_path / "init"
    init.write_text("4:memory:/\n1:name=systemd:/init.scope\n0::/init.scope\n")
    top = tmp_path / "cgroup"
    home = cgroup(top / "unified/system.slice" / UNIT, EMPTY)
    (top / "systemd/system.slice" / UNIT).mkdir(parents=True)
    assert Cgroups(top, init).populated(UNIT) is False
    assert Cgroups(top, init).kill(UNIT) == ""
    assert killed(home)


# Version 1, and kernels without cgroup.kill: every process on its own.


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield [process.pid for process in started]
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def old(tmp_path: Path, sleepers: list[int]) -> tuple[Cgroups, Path]:
    """A hierarchy of version 1, with a process in the unit's cgroup and one below it."""
    init = tmp_path / "init"
    init.write_text("1:name=systemd:/init.scope\n0::/\n")
    home = tmp_path / "cgroup/systemd/system.slice" / UNIT
    for path, pid in zip((home, home / "below"), sleepers, strict=True):
        path.mkdir(parents=True)
        (path / "cgroup.procs").write_text(f"{pid}\n")
    return Cgroups(tmp_path / "cgroup", init), home


def test_without_events_the_processes_are_counted(old: tuple[Cgroups, Path]) -> None:
    """In the cgroup and below it."""
    door, home = old
    (home / "cgroup.procs").write_text("")
    assert door.populated(UNIT) is True
    (home / "below/cgroup.procs").write_text("")
    assert door.populated(UNIT) is False


def test_without_the_kernels_kill_each_process_is_killed(
    old: tuple[Cgroups, Path], sleepers: list[int]
) -> None:
    """Below the cgroup as well; and 0, a process that has no name here, is not us."""
    door, home = old
    (home / "cgroup.procs").write_text(f"0\n{sleepers[0]}\n")
    assert door.kill(UNIT) == ""
    ends = [os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) for pid in sleepers]
    assert [end.si_status for end in ends if end] == [signal.SIGKILL] * 2


def test_what_must_not_be_killed_is_told(
    old: tuple[Cgroups, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of other users, where neither the kernel's kill nor CAP_KILL is to be had."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(os, "kill", refuse)
    assert old[0].kill(UNIT).endswith("not permitted")
