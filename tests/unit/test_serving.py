"""covtrack.serving: threads that go on, one service per state folder, addresses."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import requests
from fixtures import MonkeyPatch
from testtools import TestCase

from covtrack.serving import Service, alone, listening_socket
from covtrack.settings import Settings
from covtrack.store.database import Database
from venv_builder.errors import InfrastructureError, UsageError


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes it, within ten seconds."""
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


class ServiceTest(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="service-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_no_mistake_ends_a_thread(self) -> None:
        settings = Settings(state=self.folder, projects={})
        said: list[str] = []
        done = threading.Event()
        mistakes = [InfrastructureError("The disk is full."), RuntimeError("never thought of")]

        def step() -> int:
            if mistakes:
                raise mistakes.pop(0)
            done.set()
            return 0

        with Database.open(f"sqlite:///{self.folder / 'x.sqlite'}") as database:
            service = Service(
                settings, None, database, listen_only=True, say=said.append, delay_after_error=0.01
            )
            service._repeat("post", step)
            self.assertTrue(done.wait(10))
            service.shut_down()
        self.assertIn("post: The disk is full.", said[0])
        self.assertIn("A mistake of covtrack, RuntimeError: never thought of", said[1])

    def test_what_hangs_costs_one_patience_in_all(self) -> None:
        settings = Settings(state=self.folder, projects={})
        never = threading.Event()
        self.addCleanup(never.set)
        with Database.open(f"sqlite:///{self.folder / 'x.sqlite'}") as database:
            service = Service(settings, None, database, listen_only=True)
            for name in ("one", "two", "three"):
                service._repeat(name, never.wait)
            begun = monotonic()
            service.shut_down(0.5)
            self.assertLess(monotonic() - begun, 1.4)

    def test_who_sends_no_request_is_let_go(self) -> None:
        settings = Settings(state=self.folder, projects={}, listen="127.0.0.1:0")
        said: list[str] = []
        self.useFixture(MonkeyPatch("covtrack.http_bounds.MOST_CONNECTIONS", 5))
        self.useFixture(MonkeyPatch("covtrack.http_bounds.HEAD_SECONDS", 0.5))
        with (
            Database.open(f"sqlite:///{self.folder / 'x.sqlite'}") as database,
            ExitStack() as held,
        ):
            service = Service(settings, None, database, listen_only=True, say=said.append)
            held.enter_context(service.answering())
            port = int(said[0].rstrip(".").rpartition(":")[2])
            many = [
                held.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                for _ in range(8)
            ]
            for one in many:
                one.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
            self.assertEqual([True] * 8, [is_closed(one) for one in many])
            answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=10)
            self.assertEqual(200, answer.status_code)

    def test_one_of_them_on_a_state_folder(self) -> None:
        with alone(self.folder):
            error = self.assertRaises(UsageError, alone(self.folder).__enter__)
            self.assertIn(str(self.folder), str(error))
        with alone(self.folder):
            pass

    def test_an_address_that_cannot_be_had(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for address in (f"127.0.0.1:{port}", "127.0.0.1:http", "127.0.0.1:99999", "8080x", ""):
                error = self.assertRaises(UsageError, listening_socket, address)
                self.assertIn("cannot listen", str(error))
