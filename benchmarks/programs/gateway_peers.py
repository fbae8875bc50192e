"""What the gateway is compared with: `gateway_peers.py echo|pool`, a Starlette server that prints its port.

`echo` answers from the server itself; `pool` runs the benchmark's function in a pool of one process for each core, as a
service without isolation would.
"""

import asyncio
import json
import os
import socket
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def answer(payload: bytes) -> bytes:
    """The benchmark's function, as the runner calls it: JSON in, JSON out."""
    return json.dumps({"n": json.loads(payload).get("n", 0)}).encode()


def main() -> None:
    pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) if sys.argv[1] == "pool" else None
    if pool:
        list(pool.map(answer, [b"{}"] * 64))

    async def invoke(request: Request) -> Response:
        body = await request.body()
        if pool is None:
            return Response(answer(body), media_type="application/json")
        result = await asyncio.get_running_loop().run_in_executor(pool, answer, body)
        return Response(result, media_type="application/json")

    app = Starlette(routes=[Route("/invoke", invoke, methods=["POST"])])
    # As the gateway's own: see `kasoku.gateway.server` for why the protocol is named.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning", loop="uvloop", http="httptools")
    asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    main()
