"""Bounds on who is connected over HTTP: how many at once, and how long without a request."""

from __future__ import annotations

from asyncio import BaseTransport, Transport

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 200
HEAD_SECONDS = 30.0


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, which by itself waits for ever for the head of a request.

    A connection beyond MOST_CONNECTIONS is closed at once, one that did not send the whole head of
    its first request after HEAD_SECONDS then. A body may take its time: bundles are large.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        """Count the connection, and start its clock."""
        assert isinstance(transport, Transport)
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()
