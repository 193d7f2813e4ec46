"""Who could change what we are about to run as root?

Rule: root alone, all the way down.  A file that somebody else owns or may write, or that lies in
a directory of which that is true, or behind a link in one, is named; what is not there is nobody's.

A directory with the sticky bit is no fault: in it nobody renames or removes what is root's.
"""

import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

LINKS = 40  # as many as the kernel follows


def distrust(words: Sequence[str]) -> str:
    """Why a command must not be run as root: a sentence that names the path; "" = nothing.

    Beside the program every argument that is the absolute path of a regular file is looked at,
    since it may be a script that the program reads.  Files that do not exist are passed over.
    """
    for word in words:
        if word.startswith("/") and _regular(Path(word)):
            for fault in faults(word):
                return fault
    return ""


def _regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def unfit(words: Sequence[str]) -> str:
    """Why a command cannot, or must not, be run now; "" = it may."""
    program = Path(words[0])
    if not program.exists():
        return f"{program} does not exist"
    if not program.is_file():
        return f"{program} is not a file"
    if not program.stat().st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        return f"{program} is not executable"
    return distrust(words)


def faults(path: str) -> Iterator[str]:
    """What is wrong on the way from the root directory to a file, through every link."""
    here, links = Path("/"), 0
    left = [part for part in path.split("/") if part not in ("", ".")]
    yield from _fault(here)
    while left:
        name = left.pop(0)
        if name == "..":
            here = here.parent
            continue
        step = here / name
        yield from _fault(step)
        if not step.is_symlink():
            here = step
            continue
        links += 1
        if links > LINKS:
            yield f"{path} leads through too many links"
            return
        target = str(step.readlink())
        here = Path("/") if target.startswith("/") else here
        left = [part for part in target.split("/") if part not in ("", ".")] + left


def _fault(path: Path) -> Iterator[str]:
    found = path.lstat()
    if found.st_uid != 0:
        yield f"{path} belongs to {_user(found.st_uid)}, not to root"
    if stat.S_ISLNK(found.st_mode) or (
        stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    ):
        return
    if found.st_mode & stat.S_IWOTH:
        yield f"{path} can be written by everybody"
    elif found.st_mode & stat.S_IWGRP:
        yield f"{path} can be written by its group"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
