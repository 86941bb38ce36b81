"""One `covtrack serve` per database, however many machines can reach it.

It queues again what a dead one was running: two would take each other's jobs for lost. On SQLite
the lock of the state folder (`covtrack.serving.alone`) is enough.
"""

from __future__ import annotations

from types import TracebackType

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from covtrack.store.complaints import complaints_told, show_place
from covtrack.store.engine import make_upgrade_engine, read_url
from covtrack.store.locking import lock_key
from venv_builder.errors import UsageError


class Sole:
    """Holds the database for the time of the block; raises UsageError where another does.

    The lock is of a session that does nothing else. It is lost with the server: see `check`.
    """

    def __init__(self, url: str) -> None:
        checked = read_url(url)
        self.place = show_place(checked)
        self._engine = make_upgrade_engine(checked).execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None

    def __enter__(self) -> Sole:
        self.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._let_go()
        self._engine.dispose()

    def check(self) -> None:
        """Hold it, again if the server was restarted since.

        Raises UsageError where another has it now, InfrastructureError while there is no server.
        """
        if self._engine.dialect.name != "postgresql" or self._holds():
            return
        with complaints_told(self.place):
            self._connection = self._engine.connect()
            ask = text("SELECT pg_try_advisory_lock(:key)")
            held = self._connection.execute(ask, {"key": lock_key("serve")}).scalar()
        if not held:
            self._let_go()
            raise UsageError(
                f"Another covtrack serve works with the database {self.place}.",
                advice="Stop it first, or name another database in covtrack.toml.",
            )

    def _holds(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError:
            self._let_go()
            return False
        return True

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
