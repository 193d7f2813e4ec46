"""How long systemd takes to start a unit when it is asked over D-Bus, and nothing else is done.

bare_start.py UNIT ROUNDS       one line for each round: seconds from the call to active
"""

import asyncio
import random
import sys
import time

from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus

SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
PROPERTIES = "org.freedesktop.DBus.Properties"


async def call(
    bus: MessageBus,
    member: str,
    signature: str,
    body: list[str],
    *,
    path: str = ROOT,
    interface: str = f"{SYSTEMD}.Manager",
) -> list[object]:
    message = Message(
        destination=SYSTEMD,
        path=path,
        interface=interface,
        member=member,
        signature=signature,
        body=body,
    )
    reply = await bus.call(message)
    return list(reply.body) if reply else []


async def main(unit: str, rounds: int) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    (path,) = await call(bus, "LoadUnit", "s", [unit])
    for _ in range(rounds):
        await asyncio.sleep(random.uniform(0.3, 0.6))
        asked_s = time.monotonic()
        await call(bus, "StartUnit", "ss", [unit, "replace"])
        await asyncio.sleep(0.3)
        (active,) = await call(
            bus,
            "Get",
            "ss",
            [f"{SYSTEMD}.Unit", "ActiveEnterTimestampMonotonic"],
            path=str(path),
            interface=PROPERTIES,
        )
        print(int(active.value) / 1e6 - asked_s)  # type: ignore[attr-defined]
        await call(bus, "StopUnit", "ss", [unit, "replace"])


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
