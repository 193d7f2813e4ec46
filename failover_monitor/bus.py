"""The two ways to systemd: the system bus, and `systemctl`, which needs no bus.

Rule: every call ends, with its answer or with SystemdError, and leaves nothing behind.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

ANSWER_S = 2.0  # no answer over D-Bus for so long: none will come

SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
UNIT = f"{SYSTEMD}.Unit"
PROPERTIES = "org.freedesktop.DBus.Properties"
BUS = "org.freedesktop.DBus"


class SystemdError(Exception):
    """Systemd did not answer, or refused."""


class RefusedError(SystemdError):
    """Systemd's own answer is no: `name` is the D-Bus error's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class Bus:
    """One connection to the system bus."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.why = "the connection was closed"
        self.watched: dict[str, str] = {}  # object path: unit name
        self.held: set[str] = set()  # units that stay loaded while we are connected

    @classmethod
    async def connect(cls) -> Self:
        """Raises SystemdError when the bus or systemd does not answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                bus = cls(await MessageBus(bus_type=BusType.SYSTEM).connect())
        except TimeoutError:
            raise SystemdError(f"cannot connect: no answer within {ANSWER_S:g} s") from None
        except (OSError, EOFError, DBusFastError) as error:
            raise SystemdError(f"cannot connect: {error}") from error
        try:
            await bus.call("Subscribe")  # without a subscriber systemd sends no signals
        except BaseException:
            bus.close()
            raise
        return bus

    async def call(
        self,
        member: str,
        signature: str = "",
        *body: object,
        path: str = ROOT,
        interface: str = MANAGER,
        destination: str = SYSTEMD,
    ) -> list[Any]:
        """The reply's values.  Raises RefusedError for an error reply, else SystemdError."""
        # dbus-fast, asked on a closed connection, would silence whoever has its descriptor by now.
        if not self._bus.connected:
            raise SystemdError(f"cannot call {member}: {self.why}")
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._bus.call(message)
        except TimeoutError:
            # What was sent may still arrive, long after its time.  Systemd refuses a sender that
            # has left the bus, so leaving takes it back.
            self.why = f"no answer to {member} within {ANSWER_S:g} s"
            self.close()
            raise SystemdError(f"cannot call {member}: {self.why}") from None
        except (OSError, EOFError, DBusFastError) as error:
            raise SystemdError(f"cannot call {member}: {str(error) or self.why}") from error
        if reply.message_type is MessageType.ERROR:
            raise RefusedError(reply.error_name or "", str(reply.body[0]) if reply.body else "")
        return reply.body

    def tell(self, member: str, signature: str, *body: object) -> None:
        """Send systemd a call whose answer nobody waits for, if it can be sent at all."""
        if not self._bus.connected:
            return
        sent = self._bus.send(
            Message(
                destination=SYSTEMD,
                path=ROOT,
                interface=MANAGER,
                member=member,
                signature=signature,
                body=list(body),
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )
        sent.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def read(self, path: str, interface: str, names: Sequence[str]) -> dict[str, str]:
        """Properties, as `systemctl show` prints them."""
        replies = await asyncio.gather(
            *(
                self.call("Get", "ss", interface, name, path=path, interface=PROPERTIES)
                for name in names
            )
        )
        return {name: printed(reply[0].value) for name, reply in zip(names, replies, strict=True)}

    async def watch(self, units: Mapping[str, str]) -> bool:
        """Hear of exactly these units (object path: name) from now on; whether any is new."""
        for path in self.watched.keys() - units.keys():
            await self._match("RemoveMatch", path)
            name = self.watched.pop(path)
            if name in self.held:
                self.held.discard(name)
                with suppress(RefusedError):
                    await self.call("UnrefUnit", "s", name)
        new = units.keys() - self.watched.keys()
        for path in new:
            await self._match("AddMatch", path)
            self.watched[path] = units[path]
        return bool(new)

    async def hold(self, loaded: set[str]) -> None:
        """Keep these units loaded: systemd forgets how an unused one ended."""
        self.held &= loaded
        for name in loaded - self.held:
            self.held.add(name)
            with suppress(RefusedError):
                await self.call("RefUnit", "s", name)

    async def _match(self, member: str, path: str) -> None:
        rule = (
            f"type='signal',sender='{SYSTEMD}',path='{path}',interface='{PROPERTIES}',"
            f"member='PropertiesChanged',arg0='{UNIT}'"
        )
        await self.call(
            member, "s", rule, path="/org/freedesktop/DBus", interface=BUS, destination=BUS
        )

    def hear(self, heard: Callable[[Message], None]) -> None:
        self._bus.add_message_handler(heard)

    async def closed(self) -> None:
        """Return when the connection is no more."""
        ended = self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        await asyncio.gather(ended, return_exceptions=True)

    def close(self) -> None:
        if self._bus.connected:
            self._bus.disconnect()


def printed(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


async def systemctl(*arguments: str) -> str:
    """What it printed.  Raises SystemdError when it fails; killed when the caller gives up."""
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl",
            "--no-ask-password",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise SystemdError(f"cannot run systemctl: {error}") from error
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        why = err.decode(errors="replace").strip()
        raise SystemdError(why or f"systemctl ended with {process.returncode}")
    return out.decode(errors="replace")
