"""One call of a skill's pod as the gateway sends it, by HTTP/1.1 (RFC 9112), from within the pod."""

from __future__ import annotations

import asyncio

import h11

from skill_runtime import operator_contract as oc

MARGIN_SECONDS = 5.0
"""The time that the server has, beyond the call's own, to report a timeout itself."""
_READ_BYTES = 1 << 16


async def call_pod(port: int, body: bytes, uid: str, timeout_seconds: float) -> tuple[int, bytes]:
    """Return status and body of the response. Raises OSError, TimeoutError, h11.RemoteProtocolError."""
    headers = [
        ("host", "localhost"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        (oc.HEADER_DEADLINE_MS, str(int(timeout_seconds * 1000))),
        ("connection", "close"),
    ]
    if uid:
        headers.append((oc.HEADER_SKILL_UID, uid))
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method=oc.CALL_METHOD, target=oc.CALL_PATH, headers=headers)
    events = (request, h11.Data(data=body), h11.EndOfMessage())
    async with asyncio.timeout(timeout_seconds + MARGIN_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"".join(connection.send(event) or b"" for event in events))
            return await _receive(connection, reader)
        finally:
            writer.close()


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("the connection was closed")
