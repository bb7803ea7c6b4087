"""A line whose peer signals faster than it is carried out: it ends, and holds no more than its bound until then."""

import asyncio
import types

from switchboard import SIGNALS_MAX, Line


async def main():
    client = types.SimpleNamespace(rooms={"calls": {}}, lines={}, ice_servers=[], peer_id="b")
    line = Line(client, "calls", "a")
    over = asyncio.Event()
    line.on("close", over.set)
    for _ in range(2 * SIGNALS_MAX):
        line.take("ice-candidate", None)
    assert line._signals.qsize() == SIGNALS_MAX, line._signals.qsize()
    async with asyncio.timeout(10):
        await over.wait()
    assert not client.lines


asyncio.run(main())
