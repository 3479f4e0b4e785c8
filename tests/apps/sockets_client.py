"""A client of the PyPI package `websockets`, with its own defaults, against the application `sockets`: python
sockets_client.py ws://HOST:PORT [compressed]"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

URL = sys.argv[1]
IS_COMPRESSED = "compressed" in sys.argv


async def echoes():
    async with connect(f"{URL}/echo", subprotocols=["chat"]) as ws:
        assert ws.subprotocol == "chat", ws.subprotocol
        assert bool(ws.protocol.extensions) == IS_COMPRESSED, ws.protocol.extensions
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


async def compressed(**offer):
    async with connect(f"{URL}/echo", extensions=[ClientPerMessageDeflateFactory(**offer)]) as ws:
        assert ws.protocol.extensions, "it was not agreed"
        for size in (0, 1, 255, 256, 4096, 65536, 1024 * 1024):
            text = "".join(f'{{"n": {n}}}' for n in range(size // 8))[:size]
            for message in (text, text.encode(), bytes(n * n % 251 for n in range(size))):
                await ws.send(message)
                assert await ws.recv() == message
                await ws.send([message[:7], message[7:100], message[100:]])
                assert await ws.recv() == message


async def main():
    await asyncio.gather(echoes(), stays_alive(), too_big(), closes())
    if IS_COMPRESSED:
        await asyncio.gather(
            compressed(),
            compressed(server_max_window_bits=9, client_max_window_bits=9),
            compressed(server_no_context_takeover=True, client_no_context_takeover=True),
        )


asyncio.run(asyncio.wait_for(main(), 60))
