"""The kernel's own word on what runs: the control groups of systemd's units.

Rule: nothing here asks systemd, nor waits for it.  Files are read and written, whatever PID 1 and
D-Bus are doing, and what cannot be read is None: never "nothing runs".

systemd names a unit's cgroup after the unit, inside the cgroup of its slice.  So the path follows
from the name: a fresh process finds what an earlier one left, also when systemd cannot be asked.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
INIT = Path("/proc/1/cgroup")  # where PID 1 lives: directly below the tree of its units
PASSES = 10  # over processes that fork while they are killed one by one


class Cgroups:
    """The cgroups of one systemd's units, as the kernel shows them."""

    def __init__(self, top: Path = TOP, init: Path = INIT) -> None:
        self._top = top
        self._init = init

    def populated(self, unit: str) -> bool | None:
        """Whether a process is left in the unit's cgroup or below it; None: it cannot be seen."""
        try:
            trees = self._trees()
            return any(occupied(home) for home in homes(trees, unit)) if trees else None
        except (OSError, UnicodeError, ValueError):
            return None

    def kill(self, unit: str) -> str:
        """SIGKILL to every process of the unit; "", or why some of them were not reached."""
        try:
            found = homes(self._trees(), unit)
        except (OSError, UnicodeError) as error:
            return f"cannot find the cgroup of {unit}: {error}"
        return "; ".join(filter(None, (kill_all(home) for home in found)))

    def _trees(self) -> list[Path]:
        """The roots below which units have cgroups: unified, hybrid's unified half, version 1."""
        owned = {}
        for line in self._init.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            owned[controllers] = path.removesuffix("/init.scope").strip("/")
        unified, named = owned.get("", ""), owned.get("name=systemd", "")
        if (self._top / "cgroup.controllers").exists():
            return [self._top / unified]
        trees = [self._top / "unified" / unified, self._top / "systemd" / named]
        return [tree for tree in trees if tree.is_dir()]


def homes(trees: list[Path], unit: str) -> list[Path]:
    """The unit's cgroups; two when it was moved to another slice and left processes behind."""
    names = (unit, f"_{unit}")  # escaped where it would look like a file of the kernel's
    for tree in trees:
        found = [part / name for part in slices(tree) for name in names if (part / name).is_dir()]
        if found:
            return found
    return []


def slices(tree: Path) -> Iterator[Path]:
    """A tree's slices, itself included.

    Not below services and scopes: a user's own systemd or a container has units of the same names.
    """
    yield tree
    try:
        with os.scandir(tree) as entries:
            below = [Path(e.path) for e in entries if e.name.endswith(".slice") and e.is_dir()]
    except FileNotFoundError:  # removed while we looked
        return
    for path in below:
        yield from slices(path)


def occupied(home: Path) -> bool:
    """Whether a process is in a cgroup or below it; zombies do not count."""
    try:
        events = read(home / "cgroup.events")
    except FileNotFoundError:  # version 1, or removed
        return bool(processes(home))
    return "populated 1" in events.splitlines()


def processes(home: Path) -> set[int]:
    """The processes in a cgroup and below it; 0 for one that we have no name for."""
    found: set[int] = set()
    for directory, _, _ in os.walk(home):
        with suppress(FileNotFoundError):
            found |= {int(word) for word in read(Path(directory) / "cgroup.procs").split()}
    return found


def read(path: Path) -> str:
    """A file of a cgroup.  Raises FileNotFoundError also when the cgroup went while we read."""
    try:
        return path.read_text()
    except OSError as error:
        if not path.exists():
            raise FileNotFoundError(path) from error
        raise


def kill_all(home: Path) -> str:
    """SIGKILL to every process in a cgroup and below it; "", or why not to every one."""
    try:
        # The kernel's own way reaches processes of other users without CAP_KILL, and leaves no gap
        # between reading and killing.  Linux 5.14; O_WRONLY alone, since nothing is to be created.
        descriptor = os.open(home / "cgroup.kill", os.O_WRONLY)
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)
    except OSError:
        return kill_each(home)
    return ""


def kill_each(home: Path) -> str:
    """SIGKILL one by one, again while there are new ones."""
    done: set[int] = set()
    refused: set[int] = set()
    for _ in range(PASSES):
        try:
            # 0 stands for a process of another namespace; as a pid it would mean ourselves.
            new = processes(home) - done - {0, os.getpid()}
        except (OSError, ValueError) as error:
            return f"cannot read {home}: {error}"
        if not new:
            break
        for pid in new:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except OSError:
                refused.add(pid)
        done |= new
    return f"cannot kill {sorted(refused)} in {home}: not permitted" if refused else ""
