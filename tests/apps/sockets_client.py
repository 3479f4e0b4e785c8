"""A client of the PyPI package `websockets`, with its own defaults, against the application `sockets`: python
sockets_client.py ws://HOST:PORT"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = sys.argv[1]


async def echoes():
    async with connect(f"{URL}/echo", subprotocols=["chat"]) as ws:
        assert ws.subprotocol == "chat", ws.subprotocol
        for message in ("é", b"\x00\xff", "x" * 100_000, ["in ", "three ", "parts"]):
            await ws.send(message)
            expected = "".join(message) if isinstance(message, list) else message
            assert await ws.recv() == expected
        await asyncio.wait_for(await ws.ping(b"payload"), 10)


async def stays_alive():
    async with connect(f"{URL}/silent", ping_interval=0.1, ping_timeout=5) as ws:
        await asyncio.sleep(0.5)
        await asyncio.wait_for(await ws.ping(), 10)


async def too_big():
    async with connect(f"{URL}/echo", max_size=None) as ws:
        try:
            await ws.send(b"x" * (1024 * 1024 + 1))
            await ws.recv()
        except ConnectionClosed as error:
            assert error.rcvd and error.rcvd.code == 1009, error
        else:
            raise AssertionError("it was taken")


async def closes():
    ws = await connect(f"{URL}/echo")
    await ws.close(4000, "bye")
    assert (ws.close_code, ws.close_reason) == (4000, "bye"), ws.close_code


async def main():
    await asyncio.gather(echoes(), stays_alive(), too_big(), closes())


asyncio.run(asyncio.wait_for(main(), 60))
