"""The database as the tracker sees it: SQLite file or PostgreSQL, values in, values out.

Every method is one transaction. It decides nothing: which baseline a job builds on, and whether
a result is one, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection, Engine

from covtrack.store import reading, writing
from covtrack.store.complaints import complaints_told, damage_told, show_place
from covtrack.store.engine import TO_WRITE, make_engine, make_folder, read_url
from covtrack.store.upgrading import ensure_current
from covtrack.store.values import ProjectRow, StoredRun
from jobs.results import Fault, FileMeasure, JobResult, Outcome

T = TypeVar("T")


class Database:
    """An open database at this version's schema; safe to share between threads.

    Any method raises InfrastructureError if the database cannot be reached, read or written, and
    DataError if what it holds is damaged.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.place = show_place(engine.url)

    @classmethod
    def open(cls, url: str) -> Database:
        """Connect, and create or upgrade the tables where they are not this version's.

        `url` is sqlite:///path (the folder is created) or postgresql://user@host/name. Raises
        UsageError for any other URL and for a database that is newer or another program's.
        """
        checked = read_url(url)
        make_folder(checked)
        ensure_current(checked)
        return cls(make_engine(checked))

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def save_project(self, name: str, branch: str, target: Fraction) -> None:
        """Add the project, or change its own branch and its target (a share in 0..1)."""
        with self._writing() as connection:
            writing.put_project(connection, name, branch, target)

    def save_run(
        self,
        result: JobResult,
        *,
        snapshot: str,
        sha256: str,
        tree: str | None,
        measured_at: datetime,
    ) -> int:
        """Add a run with all that it found, whole or not at all, and return its id.

        `snapshot` is relative to the state folder; `measured_at` needs a time zone. No earlier
        run is touched. Raises UsageError for a project that was never saved.
        """
        with self._writing() as connection:
            return writing.put_run(
                connection,
                result,
                snapshot=snapshot,
                sha256=sha256,
                tree=tree,
                measured_at=measured_at,
            )

    def forget_snapshot(self, run_id: int) -> None:
        """Never again offer the run as a baseline: its snapshot was set aside."""
        with self._writing() as connection:
            writing.set_aside(connection, run_id)

    def baselines(
        self,
        project: str,
        branch: str | None = None,
        *,
        exact: bool = False,
        changes: bool = False,
    ) -> tuple[StoredRun, ...]:
        """Complete baselines with a usable snapshot, newest commit first.

        The newest run of each commit, on one branch or (None) on any; if `exact`, of those for
        which every affected test ran; with `changes`, unmerged changes too.
        """
        with self._reading() as connection:
            ids = reading.baseline_ids(project, branch, exact=exact, changes=changes)
            return reading.read_runs(connection, ids)

    def find_tree(self, project: str, tree: str, *, exact: bool) -> StoredRun | None:
        """The newest complete, usable run of a tree (git's hash), of whatever commit and kind."""
        with self._reading() as connection:
            ids = reading.tree_ids(project, tree, exact=exact)
            found = reading.read_runs(connection, ids)
        return found[0] if found else None

    def newest_run(self, project: str) -> StoredRun | None:
        """The run that was measured last, of whatever commit and kind."""
        with self._reading() as connection:
            found = reading.read_runs(connection, reading.newest_ids(project))
        return found[0] if found else None

    def latest_baselines(self) -> tuple[StoredRun, ...]:
        """The newest usable baseline of every branch of every project."""
        with self._reading() as connection:
            return reading.read_runs(connection, reading.latest_baseline_ids())

    def latest_run(self, project: str, branch: str | None = None) -> StoredRun | None:
        """The branch's newest baseline by commit date, incomplete only if none is complete.

        None as `branch` is the project's own. The snapshot need not be usable any more.
        """
        with self._reading() as connection:
            found = reading.read_runs(connection, reading.latest_ids(project, branch))
        return found[0] if found else None

    def find_run(self, project: str, commit: str) -> StoredRun | None:
        """The newest run of a commit (full hash), of whatever kind and branch."""
        with self._reading() as connection:
            found = reading.read_runs(connection, reading.commit_ids(project, commit))
        return found[0] if found else None

    def run_of(self, run_id: int) -> StoredRun | None:
        """The run of that id."""
        with self._reading() as connection:
            found = reading.read_runs(connection, reading.one_id(run_id))
        return found[0] if found else None

    def runs_of(self, project: str) -> tuple[StoredRun, ...]:
        """All runs of a project, newest commit first."""
        with self._reading() as connection:
            return reading.read_runs(connection, reading.project_ids(project))

    def run_before(self, run_id: int) -> StoredRun | None:
        """The newest run of the same project and commit that is older than that one."""
        with self._reading() as connection:
            found = reading.read_runs(connection, reading.earlier_ids(run_id))
        return found[0] if found else None

    def project_rows(self) -> tuple[ProjectRow, ...]:
        """A row per project, by name; projects that were never measured too."""
        with self._reading() as connection:
            return reading.read_project_rows(connection)

    def files_of(self, run_id: int) -> tuple[FileMeasure, ...]:
        """The run's files, sorted by path; empty for an unknown run."""
        with self._reading() as connection:
            return reading.read_files(connection, run_id)

    def outcomes_of(self, run_id: int) -> tuple[Outcome, ...]:
        """The tests that the run executed, in their order."""
        with self._reading() as connection:
            return reading.read_outcomes(connection, run_id)

    def faults_of(self, run_id: int) -> tuple[Fault, ...]:
        """The run's faults, in their order."""
        with self._reading() as connection:
            return reading.read_faults(connection, run_id)

    def carried_of(self, run_id: int) -> Mapping[str, int]:
        """Commit to number of the run's tests that were last executed there."""
        with self._reading() as connection:
            return reading.read_carried(connection, run_id)

    def read(self, ask: Callable[[Connection], T]) -> T:
        """What `ask` reads in one transaction, of `covtrack.store.inbox` and `.queueing`."""
        with self._reading() as connection:
            return ask(connection)

    def write(self, act: Callable[[Connection], T]) -> T:
        """What `act` returns; all that it writes is one transaction, whole or not at all."""
        with self._writing() as connection:
            return act(connection)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with (
            complaints_told(self.place),
            damage_told(self.place),
            self._engine.begin() as connection,
        ):
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        engine = self._engine.execution_options(begin=TO_WRITE)
        with complaints_told(self.place), engine.begin() as connection:
            yield connection
