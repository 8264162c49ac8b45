"""The ceiling: what any bridge in asyncio has to do, and nothing else. It does not know MCP, keeps
nothing alive and answers nothing; a server that dies ends it.

    MCP_ENDPOINT=ws://… PUMP_UVLOOP=1 python pump.py COMMAND ARG…
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

from websockets.asyncio.client import connect


async def main() -> None:
    address = os.environ["MCP_ENDPOINT"]
    server = await asyncio.create_subprocess_exec(
        *sys.argv[1:], stdin=PIPE, stdout=PIPE, limit=2**24
    )
    async with connect(address, compression=None, max_size=None, max_queue=1024) as link:

        async def inward() -> None:
            while True:
                server.stdin.write(await link.recv(decode=False) + b"\n")
                await server.stdin.drain()

        async def outward() -> None:
            while line := await server.stdout.readline():
                await link.send(line.rstrip(b"\n"), text=True)

        await asyncio.gather(inward(), outward())


if os.environ.get("PUMP_UVLOOP"):
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
