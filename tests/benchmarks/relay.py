"""The ceiling for an endpoint server: one WebSocket at /mcp/, one at /call/, and what comes in at
one goes out at the other. It knows no agents, no ids and no MCP, and says where it listens.

    RELAY_UVLOOP=1 python relay.py
"""

import asyncio
import os

from websockets.asyncio.server import ServerConnection, serve


async def main() -> None:
    loop = asyncio.get_running_loop()
    ends = {side: loop.create_future() for side in ("/mcp/", "/call/")}

    async def forward(connection: ServerConnection) -> None:
        own = connection.request.path.partition("?")[0]
        ends[own].set_result(connection)
        [other] = [await end for side, end in ends.items() if side != own]
        while True:
            await other.send(await connection.recv(decode=False), text=True)

    async with serve(
        forward, "127.0.0.1", 0, compression=None, max_size=None, max_queue=1024
    ) as server:
        host, port = server.sockets[0].getsockname()
        print(f"{host}:{port}", flush=True)
        await server.serve_forever()


if os.environ.get("RELAY_UVLOOP"):
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
