"""Service checks: real services on a real host at the other end of a cable, and the runner's pace.

The runner is tested in virtual time: its loop jumps to the next deadline instead of waiting.
"""

import asyncio
import json
import resource
import selectors
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_monitor.checks import KINDS, Asker
from failover_monitor.checks.http import BODY_LIMIT, HttpAsker
from failover_monitor.checks.runner import KEPT, Runner
from failover_monitor.checks.tcp import OURSELVES, TcpAsker
from failover_monitor.checks.unit import UnitAsker, arguments, judged, refusal
from failover_monitor.model import CheckSeen, Outcome, ServiceCheck
from tests.cable import DEAD4, FAR4, FAR4_SECOND, FAR6, FAR6_LINK, NEAR4, NEAR6, Host, cable

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
ROOT = Path(__file__).resolve().parent.parent
PORT = 8080

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with cable() as pair:
        yield pair


@pytest.fixture
def far(hosts: tuple[Host, Host]) -> Host:
    return hosts[1]


def a_check(kind: str, *, name: str = "", **options: Any) -> ServiceCheck:
    return ServiceCheck(kind=kind, name=name or kind, options=options)


def listening(far: Host, address: str, port: int = PORT) -> socket.socket:
    """A listening socket on the far host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with far.entered():
        sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen()
    return sock


async def asked(asker: Asker, timeout_s: float = 20.0) -> tuple[Outcome, str]:
    """The answer, as the runner would have it."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asker.ask()
    except TimeoutError:
        return asker.silence, "no answer"


# tcp


async def tcp(host: str, port: int = PORT, timeout_s: float = 20.0) -> tuple[Outcome, str]:
    return await asked(TcpAsker(a_check("tcp", host=host, port=port)), timeout_s)


@pytest.mark.parametrize("address", [FAR4, FAR6])
async def test_a_service_that_takes_connections_passes(far: Host, address: str) -> None:
    """It need not say anything, nor even accept: the kernel's handshake is the answer."""
    with listening(far, address):
        assert await tcp(address) == (PASS, f"{address} port {PORT} takes connections")


async def test_a_link_local_address_is_asked_on_its_link(far: Host) -> None:
    """The scope names the interface."""
    with listening(far, "::"):
        assert (await tcp(f"{FAR6_LINK}%near0"))[0] is PASS
        assert (await tcp(f"{FAR6_LINK}%nowhere"))[0] is UNKNOWN


async def test_a_refusal_is_a_failure(far: Host) -> None:
    """The host is there and says that the service is not."""
    assert await tcp(FAR4) == (FAIL, f"{FAR4} port {PORT}: Connection refused")


async def test_a_service_that_never_answers_fails_by_its_silence(far: Host) -> None:
    """A firewall that drops, or a listener that is full: nothing comes."""
    far.nft("table inet f { chain c { type filter hook input priority 0; tcp dport 8080 drop; }; }")
    assert (await tcp(FAR4, timeout_s=0.3))[0] is FAIL


@pytest.mark.parametrize(
    ("reject", "outcome"),
    [
        ("with tcp reset", FAIL),
        ("with icmp type port-unreachable", FAIL),
        ("with icmp type host-unreachable", UNKNOWN),
        ("with icmp type net-unreachable", UNKNOWN),
        ("with icmp type admin-prohibited", UNKNOWN),
    ],
)
async def test_what_somebody_on_the_way_says_is_no_failure(
    far: Host, reject: str, outcome: Outcome
) -> None:
    """Only a word about the port is one about the service."""
    rule = f"tcp dport 8080 reject {reject};"
    far.nft(f"table inet f {{ chain c {{ type filter hook input priority 0; {rule} }}; }}")
    assert (await tcp(FAR4))[0] is outcome


async def test_a_host_that_does_not_answer_arp_is_no_failure_of_its_service(
    hosts: tuple[Host, Host],
) -> None:
    """The kernel says so by itself, before the limit, when that is long: the echo is for that."""
    hosts[0].sysctl(net__ipv4__neigh__near0__retrans_time_ms=50)
    assert await tcp(DEAD4) == (UNKNOWN, f"{DEAD4} port {PORT}: No route to host")


async def test_our_own_cable_is_never_a_failure_of_the_service(hosts: tuple[Host, Host]) -> None:
    """Without a link, or without a route, nothing has been asked."""
    hosts[0].ip("link set near0 down")
    assert (await tcp(FAR4))[0] is UNKNOWN
    assert (await tcp("203.0.113.1"))[0] is UNKNOWN


async def test_our_own_shortage_is_never_a_failure_of_the_service(far: Host) -> None:
    """No descriptor left: not asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        answer = await tcp(FAR4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert answer == (UNKNOWN, f"{FAR4} port {PORT}: Too many open files")


@pytest.mark.parametrize("address", [NEAR4, NEAR6])
async def test_an_address_of_this_host_says_nothing_of_the_primary(
    hosts: tuple[Host, Host], address: str
) -> None:
    """A shared address that came over with the takeover would pass by our own service."""
    with listening(hosts[0], address):
        assert await tcp(address) == (UNKNOWN, OURSELVES)


async def test_names_are_looked_up(hosts: tuple[Host, Host]) -> None:
    """In the system's way; a name of loopback is somebody's forwarder, and fine."""
    with listening(hosts[0], "127.0.0.1"):
        assert (await tcp("localhost"))[0] is PASS
    answer = await tcp("no-such-name.invalid")
    assert answer == (UNKNOWN, "cannot look up no-such-name.invalid")
    assert (await tcp("-x"))[0] is UNKNOWN


async def test_a_resolver_that_hangs_is_no_failure_of_the_service(
    hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is our own side that does not answer; and what looks up the name is ended."""
    path = tmp_path / "getent"
    path.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 600\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert (await tcp("app.example", timeout_s=2.0))[0] is UNKNOWN
    assert not is_process(text_of(tmp_path / "pid"))
    assert (await http("http://app.example/", timeout_s=0.5))[0] is UNKNOWN


# http


class Server:
    """A service at the other end of the cable that answers with these bytes."""

    def __init__(self, *answers: bytes, hold: bool = False) -> None:
        self.answers = list(answers)
        self.hold = hold  # keep the connection, and say nothing more
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            for answer in self.answers:
                writer.write(answer)
                await writer.drain()
            if self.hold:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the asker has heard enough
        finally:
            writer.close()

    @asynccontextmanager
    async def at(
        self, sock: socket.socket, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, sock=sock, ssl=tls)
        try:
            yield
        finally:
            server.close()


def reply(status: str = "200 OK", body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"


async def http(url: str = f"http://{FAR4}:{PORT}/health", **options: Any) -> tuple[Outcome, str]:
    timeout_s = options.pop("timeout_s", 20.0)
    return await asked(HttpAsker(a_check("http", url=url, **options)), timeout_s)


@pytest.mark.parametrize(
    ("answer", "options", "outcome", "why"),
    [
        (reply(), {}, PASS, "status 200"),
        (reply("204 No Content"), {}, FAIL, "status 204"),
        (reply("204 No Content"), {"status": [200, 204]}, PASS, "status 204"),
        (reply("503 Busy"), {}, FAIL, "status 503"),
        (reply("302 Found", b"", "Location: /ok"), {}, FAIL, "status 302"),
        (reply("302 Found", b"", "Location: /ok"), {"status": [302]}, PASS, "status 302"),
        (reply(body=b"all ok\n"), {"body": "ok"}, PASS, "status 200, its body has 'ok'"),
        (reply(body=b"bad\n"), {"body": "ok"}, FAIL, "status 200, but its body lacks 'ok'"),
        (reply(body=b""), {"body": "ok"}, FAIL, "status 200, but its body lacks 'ok'"),
        (reply(body="größe".encode()), {"body": "größe"}, PASS, "status 200, its body has 'größe'"),
        (reply("500 Oh", b"ok"), {"body": "ok"}, FAIL, "status 500"),
        (b"HTTP/1.0 200 OK\r\n\r\nok", {"body": "ok"}, PASS, "status 200, its body has 'ok'"),
        (b"", {}, FAIL, "no HTTP answer: ServerDisconnectedError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {}, FAIL, "no HTTP answer: "),
        (HALF, {"body": "x"}, FAIL, "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000, {}, FAIL, "no HTTP answer: "),
    ],
)
async def test_status_and_body_are_judged(
    far: Host, answer: bytes, options: dict[str, Any], outcome: Outcome, why: str
) -> None:
    """What is not as wanted is a failure, and so is what is no HTTP at all."""
    server = Server(answer)
    async with server.at(listening(far, FAR4)):
        got, said = await http(**options)
    assert (got, said[: len(why)]) == (outcome, why)
    assert set(map(len, server.requests)) == {len(server.requests[0])}  # no redirect was followed
    assert server.requests[0].startswith(b"GET /health HTTP/1.1\r\n")
    assert f"Host: {FAR4}:{PORT}\r\n".encode() in server.requests[0]


async def test_a_body_is_read_no_further_than_it_matters(far: Host) -> None:
    """Neither one without end nor words that come after 64 KiB; and nothing is unpacked."""
    endless = b"HTTP/1.1 200 OK\r\n\r\n"
    async with Server(endless, b"ok", hold=True).at(listening(far, FAR4)):
        assert (await http(body="ok"))[0] is PASS
        assert (await http())[0] is PASS
    async with Server(endless, b"x" * BODY_LIMIT, b"ok", hold=True).at(listening(far, FAR4, 81)):
        assert (await http(f"http://{FAR4}:81/", body="ok"))[0] is FAIL
    packed = reply("200 OK", b"ok, it is not really packed", "Content-Encoding: gzip")
    async with Server(packed).at(listening(far, FAR4, 82)):
        assert (await http(f"http://{FAR4}:82/", body="ok"))[0] is PASS


async def test_words_that_arrive_in_two_pieces_are_found(far: Host) -> None:
    """A body is one text, however it is cut."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (head + b"heal", b"thy"):
            writer.write(piece)
            await asyncio.sleep(0.05)
        writer.close()

    server = Server()
    server.serve = serve  # type: ignore[method-assign]
    async with server.at(listening(far, FAR4)):
        assert (await http(body="healthy"))[0] is PASS


@pytest.mark.parametrize("answer", [b"", HALF])
async def test_a_service_that_hangs_fails_by_its_silence(far: Host, answer: bytes) -> None:
    """Before it says anything, or in the middle."""
    async with Server(answer, hold=True).at(listening(far, FAR4)):
        assert (await http(body="x", timeout_s=0.3))[0] is FAIL


async def test_without_a_connection_http_says_the_same_as_tcp(hosts: tuple[Host, Host]) -> None:
    """Refused is a failure; our own trouble is none; our own address says nothing."""
    near, _ = hosts
    assert await http() == (FAIL, f"{FAR4} port {PORT}: Connection refused")
    assert (await http(f"http://[{FAR6}]:{PORT}/")) == (
        FAIL,
        f"{FAR6} port {PORT}: Connection refused",
    )
    assert (await http("http://no-such-name.invalid/"))[0] is UNKNOWN
    assert await http(f"http://{NEAR4}:{PORT}/") == (UNKNOWN, OURSELVES)
    near.ip("link set near0 down")
    assert (await http())[0] is UNKNOWN


async def test_no_proxy_of_the_environment_is_asked(
    far: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would answer for a dead primary."""
    monkeypatch.setenv("http_proxy", f"http://{FAR4_SECOND}:{PORT}")
    async with Server(reply()).at(listening(far, FAR4_SECOND)):
        assert (await http())[0] is FAIL


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for FAR4 that only itself vouches for, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch"
    names = f"subjectAltName=IP:{FAR4},DNS:localhost"
    places = ("-keyout", str(path), "-out", "/dev/stdout")
    made = subprocess.run(
        [*words.split(), "-subj", "/CN=x", "-addext", names, *places],
        check=True,
        capture_output=True,
        text=True,
    )
    path.write_text(path.read_text() + made.stdout)
    return path


async def test_a_certificate_must_be_valid_unless_told_otherwise(
    far: Host, certificate: Path
) -> None:
    """Whoever cannot prove to be the service says nothing of it: neither PASS nor FAIL."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    url, other = f"https://{FAR4}:{PORT}/", f"https://{FAR4_SECOND}:{PORT}/"
    ca = str(certificate)
    async with Server(reply()).at(listening(far, ""), tls):
        outcome, why = await http(url)
        assert (outcome, why[:5]) == (UNKNOWN, "TLS: ")
        assert "self-signed certificate" in why
        assert (await http(url, ca=ca)) == (PASS, "status 200")
        assert (await http(other, ca=ca))[0] is UNKNOWN  # not its name
        assert (await http(other, verify=False))[0] is PASS
        why = "cannot read the certificates to trust: No such file or directory"
        assert await http(url, ca="/nowhere/ca.pem") == (UNKNOWN, why)


async def test_a_service_without_tls_where_tls_is_wanted_is_unknown(far: Host) -> None:
    """It may be anything that listens there now."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply("400 Bad Request"))
        writer.close()

    server = Server()
    server.serve = serve  # type: ignore[method-assign]
    async with server.at(listening(far, FAR4)):
        outcome, why = await http(f"https://{FAR4}:{PORT}/", verify=False)
    assert (outcome, why[:5]) == (UNKNOWN, "TLS: ")


async def test_asking_often_leaves_nothing_behind(far: Host) -> None:
    """No descriptor, however it ends."""

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with Server(reply(), hold=True).at(listening(far, FAR4)):
        before = descriptors()
        for timeout_s in (20.0, 0.0, 0.001, 0.002, 0.005, 20.0):
            await http(timeout_s=timeout_s)
            await tcp(FAR4, timeout_s=timeout_s)
            await http(f"http://{DEAD4}/", timeout_s=0.01)
        for _ in range(1000):
            if descriptors() <= before:
                break
            await asyncio.sleep(0.01)  # the server sees that its clients have gone
        assert descriptors() <= before


# command


async def command(script: str, timeout_s: float = 20.0, **options: Any) -> tuple[Outcome, str]:
    words = ["/bin/sh", "-c", script]
    asker = KINDS["command"](a_check("command", command=words, **options))
    return await asked(asker, timeout_s)


@pytest.mark.parametrize(
    ("script", "options", "answer"),
    [
        ("echo OK - fine; echo more", {}, (PASS, "OK - fine")),
        ("exit 0", {}, (PASS, "it ended with status 0")),
        ("echo WARNING - slow; exit 1", {}, (UNKNOWN, "it ended with status 1: WARNING - slow")),
        ("echo CRITICAL - dead; exit 2", {}, (FAIL, "CRITICAL - dead")),
        ("exit 3", {}, (UNKNOWN, "it ended with status 3")),
        ("exit 127", {}, (UNKNOWN, "it ended with status 127")),
        ("exit 1", {"pass": [0, 1]}, (PASS, "it ended with status 1")),
        ("exit 1", {"fail": [1]}, (FAIL, "it ended with status 1")),
        ("exit 2", {"fail": [1]}, (UNKNOWN, "it ended with status 2")),
        ("kill -9 $$", {"fail": [9, 137]}, (UNKNOWN, "it was killed by signal 9")),
        ("echo on stderr >&2; exit 2", {}, (FAIL, "on stderr")),
    ],
)
async def test_only_the_named_statuses_are_answers(
    script: str, options: dict[str, Any], answer: tuple[Outcome, str]
) -> None:
    """Everything else that a plugin may do is no answer."""
    assert await command(script, **options) == answer


async def test_a_plugin_that_hangs_or_is_missing_is_no_failure() -> None:
    """It says nothing of the service."""
    assert (await command("sleep 600", timeout_s=0.1))[0] is UNKNOWN
    missing = KINDS["command"](a_check("command", command=["/nowhere/check"]))
    why = "cannot start it: No such file or directory"
    assert await missing.ask() == (UNKNOWN, why)


# unit

UNIT = {
    "host": FAR4,
    "unit": "app.service",
    "identity": "/etc/failover-monitor/id_ed25519",
    "known_hosts": "/etc/failover-monitor/known_hosts",
}
# Instead of the system's ssh: it prints its arguments as JSON, and does as its host's name says.
SSH = f"""#!{sys.executable}
import json, sys, time
words = sys.argv[1:]
host = words[words.index("--") + 1]
kind, _, rest = host.partition("-")
if kind == "says":
    load, active, status = rest.split("-")
    print(f"LoadState={{load}}\\nActiveState={{active}}")
    sys.exit(int(status))
if kind == "fails":
    print("ssh: connect to host fails port 22: Connection refused", file=sys.stderr)
    sys.exit(255)
print(json.dumps(words))
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


async def unit(**options: Any) -> tuple[Outcome, str]:
    return await asked(UnitAsker(a_check("unit", **(UNIT | options))))


@pytest.mark.parametrize(
    ("host", "outcome"),
    [
        ("says-loaded-active-0", PASS),
        ("says-loaded-reloading-0", PASS),
        ("says-loaded-inactive-0", FAIL),
        ("says-loaded-failed-0", FAIL),
        ("says-loaded-activating-0", UNKNOWN),
        ("says-loaded-deactivating-0", UNKNOWN),
        ("says-not.found-inactive-0", UNKNOWN),
        ("says-masked-inactive-0", UNKNOWN),
        ("says-loaded-inactive-1", UNKNOWN),
        ("says-loaded-inactive-255", UNKNOWN),
        ("says-loaded-active-255", UNKNOWN),
        ("fails-to-connect", UNKNOWN),
        ("prints-something-else", UNKNOWN),
    ],
)
async def test_only_systemds_own_clear_word_counts(ssh: None, host: str, outcome: Outcome) -> None:
    """Not running is what systemd calls so, and nothing that lies between it and us."""
    assert (await unit(host=host))[0] is outcome


async def test_what_ssh_says_is_told(ssh: None) -> None:
    """The last line, which is where it says why."""
    why = "ssh: ssh: connect to host fails port 22: Connection refused"
    assert await unit(host="fails-to-connect") == (UNKNOWN, why)


def test_words_of_the_login_are_no_answer() -> None:
    """What a banner or a profile prints around it is passed over."""
    noise = "Welcome\nActiveState is not this\n"
    told = "LoadState=loaded\nActiveState=active\n"
    assert judged(f"{noise}{told}bye = now\n")[0] is PASS
    assert judged(noise)[0] is UNKNOWN
    assert judged("")[0] is UNKNOWN


async def test_ssh_asks_nobody_and_trusts_only_the_files_it_is_given(ssh: None) -> None:
    """No configuration, no agent, no password, no new host key."""
    words = arguments(UNIT | {"user": "watch", "port": 2222}, 2.5)
    settings = {words[i + 1] for i, word in enumerate(words) if word == "-o"}
    assert {
        "BatchMode=yes",
        "ConnectTimeout=3",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        f"UserKnownHostsFile={UNIT['known_hosts']}",
    } <= settings
    assert words[:3] == ["ssh", "-F", "none"]
    tail = ["-i", UNIT["identity"], "-p", "2222", "-l", "watch", "--", FAR4]
    shown = "systemctl show --property=LoadState,ActiveState -- app.service"
    assert words[-9:] == [*tail, shown]


@pytest.mark.parametrize(
    "options",
    [
        {"host": "-oProxyCommand=touch /tmp/x"},
        {"host": "a b"},
        {"host": ""},
        {"host": "root@other"},
        {"host": "fe80::1%$(id)"},
        {"host": ["-l", "x"]},
        {"user": "-oProxyCommand=x"},
        {"user": "root@host"},
        {"user": ""},
        {"unit": "-H other.service"},
        {"unit": "--host=other.service"},
        {"unit": "app.service; reboot"},
        {"unit": "$(reboot).service"},
        {"unit": "app.service\nreboot"},
        {"unit": "app.service other.service"},
        {"unit": "*.service"},
        {"unit": "app"},
        {"unit": ""},
        {"identity": "id_ed25519"},
        {"identity": "/etc/key -oProxyCommand=x"},
        {"identity": "/etc/%h"},
        {"known_hosts": "/etc/a\n/etc/b"},
        {"known_hosts": "none"},
        {"known_hosts": None},
        {"port": 0},
        {"port": "22"},
        {"port": 65536},
    ],
)
async def test_options_that_could_mean_more_are_refused(ssh: None, options: dict[str, Any]) -> None:
    """Never tried, and said; whatever ssh or the shell over there would make of them."""
    outcome, why = await unit(**options)
    assert outcome is UNKNOWN
    assert why.startswith(f"cannot ask: {next(iter(options))} ")


@pytest.mark.parametrize(
    "options",
    [
        {"host": "2001:db8::1"},
        {"host": "fe80::1%eth0"},
        {"host": "primary.example"},
        {"user": "_watch-1"},
        {"unit": r"srv-my\x2ddata.mount"},
        {"unit": "worker@one:two.service"},
        {"identity": "/root/.ssh/id_ed25519"},
    ],
)
def test_ordinary_options_are_not_refused(options: dict[str, Any]) -> None:
    """Also names that systemd has escaped."""
    assert refusal(UNIT | options) == ""


@given(st.dictionaries(st.sampled_from(sorted([*UNIT, "user"])), st.text(max_size=30)))
def test_whatever_is_not_refused_is_one_harmless_word(options: dict[str, str]) -> None:
    """For ssh it is no option, and for the shell over there it is one word."""
    given_options = UNIT | options
    if refusal(given_options):
        return
    words = arguments(given_options, 2.0)
    end = words.index("--")
    assert words[end + 1] == given_options["host"]
    assert not words[end + 1].startswith("-")
    assert words[end - 1] == given_options.get("user", "root")
    remote = shlex.split(words[end + 2])
    assert remote[-2:] == ["--", given_options["unit"]]
    assert len(words) == len(arguments(UNIT, 2.0))
    assert json.dumps(words) == json.dumps([word.strip() for word in words])


# What a kind costs.


def test_a_kind_is_loaded_with_its_first_check() -> None:
    """A daemon that only connects by TCP does not carry an HTTP library."""
    script = """
        import sys
        from failover_monitor.checks.runner import Runner
        from failover_monitor.model import ServiceCheck
        check = ServiceCheck(kind=sys.argv[1], name="a", options={"host": "198.51.100.2",
            "port": 80, "url": "http://198.51.100.2/"})
        Runner([check], float, print)
        print("aiohttp" in sys.modules)
    """
    script = "\n".join(line.removeprefix("        ") for line in script.splitlines())
    for kind, carried in (("tcp", "False\n"), ("http", "True\n")):
        done = subprocess.run(
            [sys.executable, "-c", script, kind],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == carried


# The runner, in virtual time.


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait: when nothing is ready its clock goes to the next deadline."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(Jumping(self))

    def time(self) -> float:
        return self.now_s


class Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "it would wait for ever"
            self._loop.now_s += timeout
        return ready


class Service:
    """Answers after `takes_s`, when it is asked; it notes who asks."""

    silence = FAIL

    def __init__(self, check: ServiceCheck) -> None:
        self.check = check
        self.takes_s: float = check.options.get("takes_s", 0.1)
        self.dies_s: float = check.options.get("dies_s", 0.0)  # how long it takes to give up
        self.error: BaseException | None = check.options.get("error")
        self.stalls_s: float = check.options.get("stalls_s", 0.0)  # nothing runs here meanwhile
        self.asked_s: list[float] = []
        self.running = 0
        made.append(self)

    async def ask(self) -> tuple[Outcome, str]:
        self.asked_s.append(asyncio.get_running_loop().time())
        self.running += 1
        assert self.running == 1, "asked twice at once"
        try:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.now_s += self.stalls_s
            await asyncio.sleep(self.takes_s)
            if self.error:
                raise self.error
        except asyncio.CancelledError:
            await asyncio.sleep(self.dies_s)
            raise
        finally:
            self.running -= 1
        return PASS, "fine"


made: list[Service] = []


@pytest.fixture(autouse=True)
def fake_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    made.clear()
    monkeypatch.setitem(KINDS, "fake", Service)


def play(*checks: ServiceCheck, script: Callable[[Runner], Coroutine[Any, Any, None]]) -> Runner:
    """Run these checks while the script lasts."""

    async def story() -> Runner:
        loop = asyncio.get_running_loop()
        runner = Runner(checks, loop.time, lambda: told.append(loop.time()))
        running = asyncio.create_task(runner.run())
        await script(runner)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled(), running
        for _ in range(3):  # what is told twice to end does so at once
            await asyncio.sleep(0)
        assert not any(service.running for service in made)
        return runner

    told.clear()
    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        return loop.run(story())


told: list[float] = []  # when `changed` was called


async def calm(_: Runner) -> None:
    """Some time in which nobody is in a hurry."""
    await asyncio.sleep(11.9)


def fake(name: str = "a", **values: Any) -> ServiceCheck:
    fields = {"interval_s", "timeout_s"}
    given_fields = {key: value for key, value in values.items() if key in fields}
    options = {key: value for key, value in values.items() if key not in fields}
    return ServiceCheck(kind="fake", name=name, options=options, **given_fields)


def test_every_check_is_asked_at_its_own_pace() -> None:
    """At once, and then every interval, whatever the others do."""
    runner = play(fake("a"), fake("b", interval_s=3.0, takes_s=1.5), script=calm)
    assert [service.asked_s for service in made] == [[0.0, 5.0, 10.0], [0.0, 3.0, 6.0, 9.0]]
    heard = runner.receive()
    assert [seen.name for seen in heard] == ["a", "b", "b", "a", "b", "a", "b"]
    assert heard[1] == CheckSeen("b", PASS, "fine", 0.0, 1.5)
    assert told == [seen.ended_s for seen in heard]
    assert runner.receive() == []


def test_a_question_ends_at_its_limit_with_what_silence_means() -> None:
    """The answer is there at the limit, also if giving up takes longer."""
    runner = play(fake(takes_s=60.0, dies_s=1.0), script=calm)
    assert runner.receive()[:2] == [
        CheckSeen("a", FAIL, "no answer within 2 s", 0.0, 2.0),
        CheckSeen("a", FAIL, "no answer within 2 s", 5.0, 7.0),
    ]


def test_a_host_that_stood_still_has_not_heard_a_silence() -> None:
    """The limit came long after its time: whatever was answered may have arrived meanwhile."""
    runner = play(fake(takes_s=60.0, stalls_s=3.0), script=calm)
    why = "this host stood still: the limit came after 3.0 s"
    assert runner.receive()[0] == CheckSeen("a", UNKNOWN, why, 0.0, 3.0)


def test_no_check_is_asked_twice_at_once() -> None:
    """Also when giving up takes longer than its interval."""
    play(fake(takes_s=60.0, dies_s=9.0), script=calm)
    assert made[0].asked_s == [0.0, 11.0]


def test_in_a_hurry_a_check_is_asked_at_once_and_every_second() -> None:
    """And at its own pace again when the hurry is over."""

    async def script(runner: Runner) -> None:
        await asyncio.sleep(2.5)
        runner.hurry = True
        await asyncio.sleep(3.0)
        runner.hurry = True  # is no other hurry
        runner.hurry = False
        await asyncio.sleep(9.0)

    play(fake(), fake("b", interval_s=0.5), script=script)
    assert made[0].asked_s == [0.0, 2.5, 3.5, 4.5, 5.5, 10.5]
    assert made[1].asked_s[:8] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def test_what_was_asked_before_the_hurry_is_asked_again_at_once() -> None:
    """The earlier question counts with its own beginning, and does not stand for the later one."""

    async def script(runner: Runner) -> None:
        await asyncio.sleep(0.5)
        runner.hurry = True
        await asyncio.sleep(0.1)
        runner.hurry = False
        await asyncio.sleep(3.0)

    runner = play(fake(takes_s=0.9), script=script)
    assert made[0].asked_s == [0.0, 0.9]
    assert [seen.began_s for seen in runner.receive()] == [0.0, 0.9]


def test_a_slow_check_in_a_hurry_is_asked_again_when_it_has_ended() -> None:
    """Never a second question beside the first."""

    async def script(runner: Runner) -> None:
        runner.hurry = True
        await asyncio.sleep(7.0)

    play(fake(takes_s=60.0), script=script)
    assert made[0].asked_s == [0.0, 2.0, 4.0, 6.0]


def test_answers_that_nobody_receives_are_bounded() -> None:
    """The newest are kept."""

    async def script(_: Runner) -> None:
        await asyncio.sleep(1000.0)

    heard = play(fake(), script=script).receive()
    assert len(heard) == KEPT
    assert heard[-1].began_s == 995.0


@pytest.mark.parametrize("error", [ValueError("what"), asyncio.CancelledError()])
def test_a_fault_in_a_kind_is_unknown_and_stops_nothing(error: BaseException) -> None:
    """Neither its own check nor the others: the watch goes on."""
    runner = play(fake("a", error=error), fake("b"), script=calm)
    heard = runner.receive()
    assert [seen.outcome for seen in heard if seen.name == "a"] == [UNKNOWN] * 3
    assert [seen.outcome for seen in heard if seen.name == "b"] == [PASS] * 3


def test_without_checks_the_runner_just_runs() -> None:
    """For ever, like with some."""
    assert play(script=calm).receive() == []


async def test_the_end_of_the_runner_ends_the_commands(tmp_path: Path) -> None:
    """Nothing of what it asked is left when it has been cancelled."""
    words = ["/bin/sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600"]
    heard: list[None] = []
    check = ServiceCheck(kind="command", name="a", options={"command": words}, timeout_s=60.0)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(Runner([check], loop.time, lambda: heard.append(None)).run())
    path = tmp_path / "pid"
    for _ in range(1000):
        if text_of(path):
            break
        await asyncio.sleep(0.01)
    pid = text_of(path)
    assert pid
    running.cancel()
    await asyncio.wait({running})
    assert not is_process(pid)
    assert heard == []


def text_of(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def is_process(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()
