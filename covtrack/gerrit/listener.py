"""Listens to one Gerrit server and puts all that it tells into the inbox; misses nothing.

The stream can fall silent, drop events or break at any moment: after each connect, gap or
silence, what was missed is asked for. The watermark moves in the transaction that stores the
events, so a kill at any moment costs nothing but asking again.
"""

from __future__ import annotations

import json
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from typing import IO
from urllib.parse import urlsplit

from sqlalchemy import Connection

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.events import Event, EventKind, parse_event
from covtrack.gerrit.playback import OVERLAP, Watched, confirm, play_back
from covtrack.gerrit.settings import GerritServer
from covtrack.store.database import Database
from covtrack.store.inbox import knows_any, put_events, put_watermark, read_watermark
from venv_builder.errors import describe_error
from venv_builder.processes import reading_lines

BATCH = 500
HELD_LINES = 10_000
LONGEST_LINE = 4 * 2**20
FIRST_DELAY, GROWTH, LONGEST_DELAY = 0.5, 1.5, 60.0
# After that long a connection was a good one: the next delay is the first again.
GOOD_SECONDS = 120.0
AGAIN_SECONDS = 1800.0  # after which the same complaint is made again
POLL_SECONDS = 60.0
# So far, in seconds, a clock of which nothing is known may be from ours.
CLOCKS_DIFFER = 86_400
KEEPALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")
STREAMED = tuple(kind.value for kind in EventKind if kind is not EventKind.SEEN)
Say = Callable[[str], None]


class ServerListener:
    """One server's listener: `run` returns when `stop` is set; `say` gets whole sentences."""

    def __init__(
        self,
        server: GerritServer,
        watched: Sequence[Watched],
        database: Database,
        *,
        say: Say,
        stop: threading.Event,
        errors: Path,
    ) -> None:
        self.server = server
        self.watched = watched
        self.database = database
        self.client = GerritClient(server)
        self._checker, self._checking = GerritClient(server), threading.Lock()
        self.say, self.stop = say, stop
        self.errors = errors
        self.connected = False
        self.caught_up_at: datetime | None = None
        self._caught_up = False
        self._clock_ahead: float | None = None
        self._complaint: tuple[str, float] | None = None

    def run(self) -> None:
        """Listen until stopped; nothing that the server does ends it."""
        delay = FIRST_DELAY
        while not self.stop.is_set():
            begun = monotonic()
            try:
                self._listen() if self.server.ssh else self._poll()
            except Exception as error:  # a thread that ends would stop the work unseen
                self._complain(describe_error(error))
            self.connected = self._caught_up = False
            delay = FIRST_DELAY if monotonic() - begun > GOOD_SECONDS else delay
            self.stop.wait(delay)
            delay = min(delay * GROWTH, LONGEST_DELAY)

    def _complain(self, words: str) -> None:
        """Say what is wrong; the same again only after a while, or once it was well between."""
        now = monotonic()
        if self._complaint is None or self._complaint[0] != words or now > self._complaint[1]:
            self._complaint = words, now + AGAIN_SECONDS
            self.say(f"{self.server.name}: {words}")

    def receive(self, events: Iterable[Event]) -> int:
        """Store events of projects that anybody wants, and how far they reach; how many were new.

        A comment that came by another way already, with a time a little different, is known.
        """
        heard = tuple(events)
        told = tuple(event for event in heard if self._is_wanted(event.project))
        latest = max((event.at for event in heard if event.at), default=None)
        if latest is not None and (clock := self._server_now()) is not None:
            latest = min(latest, clock)  # a wrong time would hide all that follows

        def put(connection: Connection) -> int:
            name = self.server.name
            fresh = (one for one in told if not knows_any(connection, name, one.other_digests))
            pairs = [(event.digest, asdict(event)) for event in fresh]
            new = put_events(connection, name, pairs, datetime.now(UTC))
            if latest is not None and self._caught_up:
                put_watermark(connection, name, latest)
            return new

        return self.database.write(put)

    def check(self, told: Event) -> int:
        """Take what a webhook told as far as the server confirms it; how much of it was new.

        Raises GerritError where the server cannot be asked: it is asked again for all that.
        """
        if not self._is_wanted(told.project):
            return 0
        with self._checking:
            found = confirm(self._checker, told, self.watched)
        return self.receive(found)

    def _is_wanted(self, project: str) -> bool:
        """Whether the project is measured, or mirrored."""
        measured = any(one.project == project for one in self.watched)
        return measured or any(fnmatchcase(project, pattern) for pattern in self.server.mirror)

    def catch_up(self) -> int:
        """Ask for what was missed and store it; how much of it was new. Raises GerritError."""
        watermark = self._read_watermark()
        begun = self._server_now() or int(datetime.now(UTC).timestamp()) - CLOCKS_DIFFER
        found = tuple(play_back(self.client, watermark, self.watched))
        self._caught_up, self._complaint = True, None
        new = self.receive(found)
        if watermark is None and not any(event.at for event in found):
            self._put_watermark(begun)
        self.caught_up_at = datetime.now(UTC)
        return new

    def _read_watermark(self) -> int | None:
        """The watermark; put back where the server's clock was, as after a wrong time of its."""
        name = self.server.name
        clock = self.client.clock()
        self._clock_ahead = (clock - datetime.now(UTC)).total_seconds() if clock else None
        watermark = self.database.read(lambda connection: read_watermark(connection, name))
        now = self._server_now()
        if now is None or watermark is None or watermark <= now + OVERLAP:
            return watermark
        self.say(f"{name}: its clock went back; the last day is asked for again.")
        self._put_watermark(now - CLOCKS_DIFFER)
        return now - CLOCKS_DIFFER

    def _put_watermark(self, at: int) -> None:
        """Set it, back as well."""
        name = self.server.name
        self.database.write(lambda connection: put_watermark(connection, name, at, back=True))

    def _server_now(self) -> int | None:
        """The present by the server's clock, in epoch seconds; None where it is unknown."""
        if self._clock_ahead is None:
            return None
        return int(datetime.now(UTC).timestamp() + self._clock_ahead)

    def _poll(self) -> None:
        """Without a stream: ask again and again."""
        while not self.stop.is_set():
            self.catch_up()
            self.connected = True
            self.stop.wait(min(POLL_SECONDS, self.server.silence))

    def _listen(self) -> None:
        lines: queue.Queue[bytes | None] = queue.Queue(maxsize=HELD_LINES)
        argv = stream_command(self.server)
        with reading_lines(argv, env=os.environ, stderr=self.errors) as process:
            assert process.stdout is not None
            reader = threading.Thread(
                target=_read_lines, args=(process.stdout, lines), daemon=True
            )
            reader.start()
            self.catch_up()
            self.connected = True
            self.say(f"{self.server.name}: listening.")
            self._take(lines)
        if not self.stop.is_set():
            words = self.errors.read_text(errors="replace").strip().splitlines()[-1:]
            reason = re.sub(r"[^\x20-\x7e]", "", words[0])[:200] if words else "no reason given"
            self.say(f"{self.server.name}: the event stream ended: {reason.rstrip('.')}.")

    def _take(self, lines: queue.Queue[bytes | None]) -> None:
        """Store what comes until the stream ends, or is found dead."""
        heard = monotonic()
        while not self.stop.is_set():
            batch, ended = _next_batch(lines)
            events = [event for event in map(parse_line, batch) if event is not None]
            if batch:
                heard = monotonic()
                self.receive(event for event in events if event.kind is not EventKind.DROPPED)
            if any(event.kind is EventKind.DROPPED for event in events):
                self.say(f"{self.server.name}: it dropped events; asking for them.")
                self.catch_up()
            if ended:
                return
            if monotonic() - heard > self.server.silence:
                heard = monotonic()
                if self.catch_up():
                    self.say(f"{self.server.name}: the stream was dead; connecting anew.")
                    return


def stream_command(server: GerritServer) -> list[str]:
    """The ssh command that streams the server's events."""
    kinds = [word for kind in STREAMED for word in ("-s", kind)]
    return ssh_command(server, "stream-events", *kinds)


def ssh_command(server: GerritServer, *words: str) -> list[str]:
    """The ssh command that has the server do `gerrit WORDS`."""
    assert server.ssh is not None
    address = urlsplit(server.ssh)
    target = f"{address.username}@{address.hostname}" if address.username else address.hostname
    port = ["-p", str(address.port)] if address.port else []
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", *KEEPALIVE, *server.ssh_options]
    return ["ssh", *options, *port, "--", str(target), "gerrit", *words]


def parse_line(line: bytes) -> Event | None:
    """The event on one line of the stream; None for what is cut, garbled or of no interest."""
    try:
        return parse_event(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _read_lines(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    """Hand lines on; a full queue holds the stream back. None is its end."""
    try:
        while line := stream.readline(LONGEST_LINE):
            lines.put(line)
    except (OSError, ValueError):
        pass
    lines.put(None)


def _next_batch(lines: queue.Queue[bytes | None]) -> tuple[list[bytes], bool]:
    """Lines that are there, after waiting a moment for the first; and whether the end came."""
    batch: list[bytes] = []
    wait = 0.5
    while len(batch) < BATCH:
        try:
            line = lines.get(timeout=wait)
        except queue.Empty:
            break
        if line is None:
            return batch, True
        batch.append(line)
        wait = 0.005
    return batch, False
