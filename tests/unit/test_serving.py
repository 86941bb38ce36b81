"""covtrack.serving: threads that go on, one service per state folder, addresses."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from pathlib import Path

from testtools import TestCase

from covtrack.serving import Service, alone, listening_socket
from covtrack.settings import Settings
from covtrack.store.database import Database
from venv_builder.errors import InfrastructureError, UsageError


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
