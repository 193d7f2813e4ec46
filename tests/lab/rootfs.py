"""The hosts' root file system, built on first use from the machine's own package sources.

Everything lies in one cache directory and is keyed by what it was made of.  A tree is built under
a temporary name and renamed when it is complete, so a tree that has its name is whole.

    python -m tests.lab.rootfs         builds what is missing and prints the paths
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "ca-certificates",
    "dbus",
    "faketime",
    "iproute2",
    "iputils-ping",
    "keepalived",
    "libfaketime",
    "logrotate",
    "nftables",
    "procps",
    "python3",
    "python3-systemd",
    "python3-venv",
    "systemd",
    "systemd-sysv",
    "tcpdump",
)
# What came with a package and would only cost boot time, or start a daemon that no test asked for.
# Masked rather than disabled: a preset would enable it again.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "motd-news.timer",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
)
DISABLED = ("cron.service", "keepalived.service", "logrotate.timer", "nftables.service")
# What tests put above the tree by name, beside the product: see `with_packages`.
EXTRA = {
    "etcd": ("etcd-client", "etcd-server"),
    "fence": ("fence-agents", "ipmitool", "openipmi"),
    "ssh": ("openssh-client", "openssh-server"),
}
RECIPE = "2"  # raised when the steps below change what a tree contains
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RootfsError(Exception):
    """The root file system cannot be had; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One package source of the machine."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keyring: str = ""  # a file; "" = the one that debootstrap takes by itself


def cache() -> Path:
    """The directory that outlives the runs."""
    path = Path(os.environ.get("FAILOVER_LAB_CACHE", "/var/cache/failover-monitor-lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def tree() -> Path:
    """The root file system; built first when it is not there (about a minute)."""
    codename = os_release()["VERSION_CODENAME"]
    key = _key(RECIPE, codename, *PACKAGES)
    return _kept("rootfs", key, lambda new: _debootstrap(codename, new))


def installed_tree(checkout: Path = CHECKOUT) -> Path:
    """The layer that the real install.sh leaves above `tree()`: the product, installed."""
    below = tree()
    wheels = wheelhouse(checkout)
    content = _content(product_files(checkout), checkout)
    key = _key(RECIPE, below.name, wheels.name, *content)
    return _kept("installed", key, lambda new: _install(checkout, below, wheels, new))


def wheelhouse(checkout: Path = CHECKOUT) -> Path:
    """The locked dependencies as wheels for the root file system's Python."""
    lock = checkout / "requirements.lock"
    # The hosts are of the machine's own distribution, so its Python is theirs too.
    key = _key(RECIPE, os_release()["VERSION_CODENAME"], *_content([lock], checkout))
    return _kept("wheels", key, lambda new: _download(lock, new))


def with_packages(name: str, *packages: str) -> Path:
    """A layer with more Debian packages above `tree()`; none of their services starts by itself.

    Without packages it is the set of that name in EXTRA, which the run fetches before it enters
    its room: there is no network in there.  Two such layers on one host hide each other's users
    and package lists; a host that needs both sets takes one layer with all of them.
    """
    below = tree()
    wanted = sorted(packages or EXTRA[name])
    key = _key(RECIPE, below.name, *wanted)
    return _kept(f"with_{name}", key, lambda new: _add_packages(below, wanted, new))


def product_files(checkout: Path = CHECKOUT) -> list[Path]:
    """Every file that git knows, or would know, except tests, documents and dot files."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        msg = f"cannot list the files of {checkout}: {listed.stderr.strip()}"
        raise RootfsError(msg)
    names = sorted(set(listed.stdout.split("\0")) - {""})
    outside = ("tests/", "docs/", ".")
    paths = [checkout / name for name in names if not name.startswith(outside)]
    return [path for path in paths if path.is_file() and path.suffix != ".md"]


# --- the machine's package sources -------------------------------------------------------------


def os_release() -> dict[str, str]:
    """The machine's distribution, in its own words."""
    release = platform.freedesktop_os_release()
    if "VERSION_CODENAME" not in release:
        msg = "cannot build a root file system: /etc/os-release has no VERSION_CODENAME"
        raise RootfsError(msg + "\nhint: the lab runs on Debian and Ubuntu")
    return release


def own_source(codename: str, apt: Path = Path("/etc/apt")) -> Source:
    """The source that carries the distribution's own suite."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    found = [s for file in files if file.exists() for s in one_line_sources(file.read_text())]
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        found += deb822_sources(file.read_text())
    for source in found:
        fetchable = source.uri.startswith(("http://", "https://", "file:"))
        if codename in source.suites and "main" in source.components and fetchable:
            return source
    msg = f"cannot build a root file system: no apt source of this machine has {codename} main"
    raise RootfsError(msg)


def one_line_sources(text: str) -> Iterator[Source]:
    """The `deb [options] uri suite component...` lines of a sources.list."""
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if match:
            options, uri, suite, components = match.groups()
            signed = re.search(r"signed-by=(/\S+)", options or "", re.IGNORECASE)
            yield Source(
                uri=uri,
                suites=(suite,),
                components=tuple(components.split()),
                keyring=signed[1] if signed else "",
            )


def deb822_sources(text: str) -> Iterator[Source]:
    """The stanzas of a .sources file."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        pairs = re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        fields = {name.lower(): value.split() for name, value in pairs}
        enabled = fields.get("enabled", ["yes"])[0].lower() in {"yes", "true", "1"}
        if not enabled or "deb" not in fields.get("types", []):
            continue
        signed = fields.get("signed-by", [])
        for uri in fields.get("uris", []):
            yield Source(
                uri=uri,
                suites=tuple(fields.get("suites", [])),
                components=tuple(fields.get("components", [])),
                keyring=signed[0] if signed and signed[0].startswith("/") else "",
            )


# --- building ----------------------------------------------------------------------------------


def _debootstrap(codename: str, new: Path) -> None:
    """Make a small Debian with nothing running and nothing of this machine in it."""
    source = own_source(codename)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command.append(f"--components={','.join(source.components)}")
    if source.keyring:
        command.append(f"--keyring={source.keyring}")
    _contained([*command, codename, str(new), source.uri], _proxy_of_apt())
    # The last one is where systemd would take every host's machine id from: the same for all.
    ours = ("etc/hostname", "etc/resolv.conf", "usr/sbin/policy-rc.d", "var/lib/dbus/machine-id")
    for name in ours:
        (new / name).unlink(missing_ok=True)
    # Empty is neither missing nor "uninitialized": each host writes its own at its first boot, and
    # no boot counts as the first one, which would enable every daemon again by preset.
    (new / "etc/machine-id").write_text("")
    shutil.rmtree(new / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(new / "var/lib/apt/lists", ignore_errors=True)
    for verb, units in (("disable", DISABLED), ("mask", MASKED)):
        _contained(["systemctl", f"--root={new}", verb, *units])
    _contained(["systemctl", f"--root={new}", "set-default", "multi-user.target"])


def _download(lock: Path, new: Path) -> None:
    """Fetch wheels with the machine's own pip and its own settings, into a plain folder."""
    if not lock.exists():
        msg = f"cannot install the product: {lock} is missing"
        raise RootfsError(msg)
    venv = new / "pip"
    _contained(["/usr/bin/python3", "-m", "venv", str(venv)])
    command = [str(venv / "bin/python"), "-m", "pip", "download", "--require-hashes"]
    command += ["--only-binary=:all:", "--dest", str(new), "--requirement", str(lock)]
    _contained(command)
    shutil.rmtree(venv)


def _install(checkout: Path, below: Path, wheels: Path, new: Path) -> None:
    """Run the checkout's install.sh in a chroot above `below`; what it writes becomes the layer."""
    if not (checkout / "install.sh").exists():
        msg = f"cannot install the product: {checkout / 'install.sh'} is missing"
        raise RootfsError(msg)
    for name in ("src", "work", "merged", "layer"):
        (new / name).mkdir()
    for path in product_files(checkout):
        copy = new / "src" / path.relative_to(checkout)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    script = """
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/layer,workdir=$2/work" "$2/merged"
        mkdir -p "$2/merged/src" "$2/merged/wheels"
        mount --bind -o ro "$2/src" "$2/merged/src"
        mount --bind -o ro "$3" "$2/merged/wheels"
        mount -t proc proc "$2/merged/proc"
        mount --rbind /dev "$2/merged/dev"
        mount -t tmpfs tmpfs "$2/merged/run"
        mount -t tmpfs tmpfs "$2/merged/tmp"
        exec chroot "$2/merged" sh -ec 'cd /src && exec ./install.sh'
    """
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    clean = {"PATH": STANDARD_PATH, "HOME": "/root", "LANG": "C.UTF-8", **pip}
    _contained(["sh", "-euc", script, "sh", str(below), str(new), str(wheels)], clean, only=True)
    for name in ("src", "wheels"):
        (new / "layer" / name).rmdir()
    shutil.rmtree(new / "src")
    _keep_layer_only(new)


def _add_packages(below: Path, packages: Sequence[str], new: Path) -> None:
    """Install packages in a chroot above `below`; what that writes becomes the layer."""
    if os.environ.get("FAILOVER_LAB_RUN"):
        msg = f"cannot install {' '.join(packages)}: there is no network inside a lab run"
        raise RootfsError(msg + "\nhint: python -m tests.lab.rootfs, before")
    source = own_source(os_release()["VERSION_CODENAME"])
    signed = f"[signed-by={source.keyring}] " if source.keyring else ""
    suite, components = os_release()["VERSION_CODENAME"], " ".join(source.components)
    (new / "list").write_text(f"deb {signed}{source.uri} {suite} {components}\n")
    for name in ("work", "merged", "layer"):
        (new / name).mkdir()
    script = """
        below=$1 new=$2 keyring=$3
        shift 3
        mount -t overlay overlay -o "lowerdir=$below,upperdir=$new/layer,workdir=$new/work" \\
            "$new/merged"
        cd "$new/merged"
        mount -t proc proc proc
        mount --rbind /dev dev
        for place in run tmp var/cache/apt var/lib/apt; do
            mkdir -p "$place"
            mount -t tmpfs tmpfs "$place"
        done
        mount --bind -o ro /etc/ssl/certs etc/ssl/certs
        cp "$new/list" run/lab.list
        cp -L /etc/resolv.conf etc/resolv.conf
        if [ -n "$keyring" ] && [ ! -e ".$keyring" ]; then
            mkdir -p ".${keyring%/*}"
            cp "$keyring" ".$keyring"
        fi
        printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d
        chmod 755 usr/sbin/policy-rc.d
        apt="chroot . apt-get -q -y -o APT::Sandbox::User=root -o Dir::Etc::SourceParts=-"
        apt="$apt -o Dir::Etc::SourceList=/run/lab.list"
        $apt update
        $apt install --no-install-recommends "$@"
        rm etc/resolv.conf usr/sbin/policy-rc.d
        for way in wants requires; do  # their units stay, and nothing pulls them in at boot
            find "$new/layer/etc/systemd/system" -path "*.$way/*" -type l -delete || true
        done
    """
    clean = {"PATH": STANDARD_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
    clean |= {"DEBIAN_FRONTEND": "noninteractive"} | _proxy_of_apt()
    words = ["sh", "-euc", script, "sh", str(below), str(new), source.keyring, *packages]
    _contained(words, clean, only=True)
    (new / "list").unlink()
    _keep_layer_only(new)


def _keep_layer_only(new: Path) -> None:
    """Make the upper directory of an overlay the tree itself."""
    for name in ("work", "merged"):
        shutil.rmtree(new / name)
    for path in (new / "layer").iterdir():
        path.rename(new / path.name)
    (new / "layer").rmdir()


def _contained(
    command: Sequence[str], env: dict[str, str] | None = None, *, only: bool = False
) -> None:
    """Run a step whose processes and mounts all end with it, however it ends; show its progress."""
    # Whoever is killed on the way from us to the step, the kernel kills the rest of the way.
    bound = ("setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child")
    apart = ("-m", "-p", "-f", "--mount-proc", "--propagation", "private")
    step = subprocess.Popen(
        [*bound, *apart, "--", *command],
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=(env or {}) if only else os.environ | (env or {}),
    )
    last: deque[str] = deque(maxlen=25)
    try:
        for line in step.stdout or ():
            last.append(line)
            say(f"  {line.strip()}", passing=True)
        status = step.wait()
    finally:
        # A step that is told to end by the terminal ends by itself; this is for all other ways.
        if step.poll() is None:
            step.send_signal(signal.SIGKILL)
            step.wait()
    if status:
        msg = f"cannot build: {' '.join(command[:2])} ended with {status}\n{''.join(last)}"
        raise RootfsError(msg)


def _proxy_of_apt() -> dict[str, str]:
    """The proxy that apt is told to use, for debootstrap, which does not read apt's settings."""
    asked = ["apt-config", "shell", "proxy", "Acquire::http::Proxy"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    match = re.match(r"proxy='([^']+)'", answer)
    return {"http_proxy": match[1]} if match else {}


# --- keeping -----------------------------------------------------------------------------------


def _kept(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The complete tree of that key; one process builds it while the others wait."""
    path = cache() / f"{kind}-{key}"
    if path.is_dir():
        os.utime(path)  # "needed today", for _forget_old
        return path
    with _alone(cache() / f"{kind}.lock", kind):
        if path.is_dir():
            return path
        for stale in cache().glob(f"{kind}.new-*"):  # its builder was killed: we hold the lock
            shutil.rmtree(stale, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=f"{kind}.new-", dir=cache()))
        new.chmod(0o755)
        begun = time.monotonic()
        say(f"lab: building {path.name} (once)")
        try:
            build(new)
            new.rename(path)
        finally:
            # A second Ctrl-C waits for this: half a tree is not left.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            shutil.rmtree(new, ignore_errors=True)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        say(f"lab: {path.name} is ready after {time.monotonic() - begun:.0f} s")
        _forget_old(kind, path)
    return path


def _forget_old(kind: str, newest: Path) -> None:
    """Remove trees of other keys that no run has asked for since two days."""
    for path in cache().glob(f"{kind}-*"):
        if path != newest and path.stat().st_mtime < time.time() - 2 * 86400:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(lock: Path, kind: str) -> Iterator[None]:
    """Hold a lock that the kernel drops when we end, whatever way we end."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"lab: another run is building the {kind}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def found(program: str) -> bool:
    """Whether the machine has a program, also where root's PATH lacks the sbin directories."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{STANDARD_PATH}") is not None


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _content(paths: Sequence[Path], checkout: Path) -> list[str]:
    """Name, mode and content of each file, as text to make a key of."""
    return [
        f"{path.relative_to(checkout)} {path.stat().st_mode & 0o111:o} "
        + hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.exists()
    ]


_shown = 0.0


def say(text: str, *, passing: bool = False) -> None:
    """Tell the person at the terminal; a `passing` line is overwritten by the next one."""
    global _shown
    terminal = sys.stderr.isatty()
    if passing and terminal:
        text = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif passing and time.monotonic() - _shown > 10:
        _shown = time.monotonic()
        print(text, file=sys.stderr, flush=True)
    elif not passing:
        print(f"\r\033[K{text}" if terminal else text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(tree())
    for set_of_packages in EXTRA:
        print(with_packages(set_of_packages))
    if (CHECKOUT / "install.sh").exists():
        print(installed_tree())
