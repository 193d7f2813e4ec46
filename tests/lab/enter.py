"""The room that a lab run lives in, and that takes everything with it when it ends.

    python -m tests.lab.enter COMMAND...        e.g. python -m tests.lab.enter pytest tests/lab

The command gets process, mount and network namespaces of its own, with nothing in them but a
loopback interface and an empty /run.  When it ends, is interrupted, or anyone is killed on the
way, the kernel ends every host, link and mount.  What can be left is empty cgroup directories;
they are removed at the end, or by the next run when this one was killed.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab import rootfs

RUN_VARIABLE = "FAILOVER_LAB_RUN"  # set inside: the name of the run
CGROUPS = Path("/sys/fs/cgroup")
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")

_PR_SET_PDEATHSIG = 1
_NEWNS, _NEWNET, _NEWPID = 0x00020000, 0x40000000, 0x20000000
_SI_KERNEL = 0x80  # the terminal sent it, to the whole foreground group
_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_WAITED = _FORWARDED | {signal.SIGCHLD}
_libc = ctypes.CDLL(None, use_errno=True)


def enter(command: Sequence[str]) -> int:
    """Run a command in a room of its own; its exit status (128 + number for a signal)."""
    outer = os.environ.get(RUN_VARIABLE)  # a room within a room cannot judge who is alive outside
    if not outer:
        sweep()
    # A booted host takes six or seven inotify instances of root's, and the kernel's default of 128
    # for the whole machine would make the twentieth host hang in boot without a word.
    if int(INOTIFY.read_text()) < 1024:
        INOTIFY.write_text("1024")
    run = f"{outer}.{os.getpid()}" if outer else f"{os.getpid()}-{_started(os.getpid())}"
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    # Reset, because a shell starts background jobs with SIGINT ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _call("unshare", _NEWPID)  # for the children: this process itself stays where it is
    room = os.fork()
    if not room:
        _be_the_room(run, command)
    status = _wait_for(room)
    for hierarchy in hierarchies():
        remove_cgroup(hierarchy / "lab" / run)
    if not outer:
        sweep()
    return status


def hierarchies() -> list[Path]:
    """The cgroup hierarchies that systemd uses, the unified one last."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [CGROUPS / "systemd", CGROUPS / "unified"]


def sweep() -> None:
    """Remove the cgroup directories of runs that were killed."""
    for hierarchy in hierarchies():
        for directory in _directories(hierarchy / "lab"):
            if re.fullmatch(r"\d+-\d+", directory.name) and not _alive(directory.name):
                remove_cgroup(directory)
        try:
            (hierarchy / "lab").rmdir()
        except OSError:  # another run is using it
            continue


def remove_cgroup(directory: Path) -> None:
    """Remove a cgroup and all below it; what still has a process in it stays."""
    for below in _directories(directory):
        remove_cgroup(below)
    try:
        directory.rmdir()
    except OSError:  # still populated: the next run removes it
        return


def _directories(path: Path) -> Iterator[Path]:
    try:
        yield from [entry for entry in path.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return


def _alive(run: str) -> bool:
    """Whether the process that a run is named after still exists, and is not its successor."""
    pid, _, started = run.partition("-")
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _be_the_room(run: str, command: Sequence[str]) -> None:
    """Be the first process of the room: furnish it, start the command, reap whoever is orphaned."""
    status = 1
    try:
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _call("unshare", _NEWNS | _NEWNET)
        for words in (
            "mount --make-rprivate /",
            "mount -t proc proc /proc",
            # Everything that programs leave in /run, names of namespaces included, is ours alone;
            # and to systemd-nspawn the machine looks as if no systemd ran on it: everywhere alike.
            "mount -t tmpfs -o mode=0755 tmpfs /run",
            "ip link set lo up",
        ):
            subprocess.run(words.split(), check=True)
        Path("/run/netns").mkdir()
        Path("/run/lock").mkdir()
        child = os.fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED)
            os.environ[RUN_VARIABLE] = run
            try:
                os.execvp(command[0], list(command))  # noqa: S606 - no shell is wanted here
            except OSError as error:
                print(f"cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
                os._exit(127)
        status = _wait_for(child)
    except BaseException:  # noqa: BLE001 - the copy of our caller's stack below must not run on
        traceback.print_exc()
    finally:
        os._exit(status)


def _wait_for(child: int) -> int:
    """Hand signals on to a child until it ends; reap all others meanwhile."""
    while True:
        received = signal.sigwaitinfo(_WAITED)
        if received.si_signo != signal.SIGCHLD:
            if received.si_code != _SI_KERNEL:
                os.kill(child, received.si_signo)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if not pid:
                break


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot {name}: {os.strerror(error)}")


def main() -> int:
    """Fetch what is missing, where there still is a network, then enter."""
    command = sys.argv[1:]
    if not command:
        print("usage: python -m tests.lab.enter COMMAND...", file=sys.stderr)
        return 2
    missing = shortcomings()
    if missing:
        print("cannot run the lab:", *missing, sep="\n  ", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):  # a build that is told to end tidies up
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        rootfs.tree()
        rootfs.wheelhouse()
    except rootfs.RootfsError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return enter(command)


def shortcomings() -> list[str]:
    """What this machine lacks to run a lab, each with its cure."""
    if os.geteuid():
        return ["not root: namespaces and mounts need it; run it with sudo"]
    needed = {
        "systemd-nspawn": "systemd-container",
        "ip": "iproute2",
        "nft": "nftables",
        "tcpdump": "tcpdump",
        "debootstrap": "debootstrap",
        "nsenter": "util-linux",
    }
    lacking = [package for program, package in needed.items() if not rootfs.found(program)]
    told = [f"missing packages: apt-get install {' '.join(lacking)}"] if lacking else []
    unmounted = [str(top) for top in hierarchies() if not (top / "cgroup.procs").exists()]
    if unmounted:
        told.append(f"not mounted: the cgroup hierarchy {' and '.join(unmounted)}")
    return told


if __name__ == "__main__":
    sys.exit(main())
