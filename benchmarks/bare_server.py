"""Answer every POST with the JSON that it was sent, as little as a server can do. Runs in a pod.

    python3 bare_server.py PORT

It serves until it is ended.
"""

from __future__ import annotations

import sys

from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    """Answer with the body of the request."""
    return web.json_response(await request.json())


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/{path:.*}", echo)
    web.run_app(app, port=int(sys.argv[1]), print=None)
