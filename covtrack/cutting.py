"""Keeps the cuts of a project's changes (jobs.cuts): makes each when it is first asked for.

A file is named by the digests of the snapshots that it follows from, which lie in the database:
where there is one, the snapshots need not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from covtrack.packing import unpacked
from covtrack.store.values import StoredRun
from jobs.cut_files import read_basis, read_cut, write_kept
from jobs.cuts import Basis, Cut, make_basis, make_cut, read_ran
from jobs.snapshot import file_digest
from venv_builder.errors import DataError

FOLDER = "cuts"


class Cutter:
    """Finds or makes cuts and bases; `state` is what snapshots' paths are relative to."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self.state = state
        self._bases: dict[str, Basis] = {}
        self._cuts: dict[str, Cut] = {}
        self._whole: set[str] = set()

    def is_whole(self, run: StoredRun) -> bool:
        """Whether the run's snapshot is as it was written; read only once."""
        if run.sha256 not in self._whole:
            snapshot = self.snapshot(run)
            if not snapshot.is_file() or file_digest(snapshot) != run.sha256:
                return False
            self._whole.add(run.sha256)
        return True

    def is_cut(self, run: StoredRun) -> bool:
        """Whether a change's run has been cut."""
        return any(self._find_cut(path) for path in self.folder.glob(f"{run.sha256}-*.cut"))

    def has_basis(self, run: StoredRun) -> bool:
        """Whether the basis of a run is kept."""
        return self._find_basis(run) is not None

    def snapshot(self, run: StoredRun) -> Path:
        """The run's whole snapshot, unpacked."""
        return unpacked(self.state / run.snapshot)

    def basis(self, run: StoredRun) -> Basis:
        """The basis of a run that changes are held against."""
        found = self._find_basis(run)
        if found is None:
            self._need_whole(run)
            found = self._bases[run.sha256] = make_basis(self.snapshot(run))
            write_kept(self._basis_path(run), found)
        return found

    def cut(
        self,
        run: StoredRun,
        against: StoredRun,
        choose: Callable[[Collection[str]], frozenset[str]],
    ) -> Cut:
        """The cut of a change's run; `choose` tells at which of some commits its tests ran."""
        path = self.folder / f"{run.sha256}-{against.sha256}.cut"
        found = self._find_cut(path)
        if found is None or found.executed != choose(found.ran):
            for one in (run, against):
                self._need_whole(one)
            snapshot = self.snapshot(run)
            found = make_cut(snapshot, self.snapshot(against), choose(read_ran(snapshot)))
            write_kept(path, found)
        return found

    def _find_cut(self, path: Path) -> Cut | None:
        if path.name not in self._cuts:
            found = read_cut(path)
            if found is None:
                return None
            self._cuts[path.name] = found
        return self._cuts[path.name]

    def _find_basis(self, run: StoredRun) -> Basis | None:
        if run.sha256 not in self._bases:
            found = read_basis(self._basis_path(run))
            if found is None:
                return None
            self._bases[run.sha256] = found
        return self._bases[run.sha256]

    def _basis_path(self, run: StoredRun) -> Path:
        return self.folder / f"{run.sha256}.basis"

    def _need_whole(self, run: StoredRun) -> None:
        """Raise DataError where a snapshot was damaged since it was cut the last time."""
        if not self.is_whole(run):
            for path in self.folder.glob(f"{run.sha256}*"):
                path.unlink(missing_ok=True)
            raise DataError(
                f"The snapshot of {run.commit[:10]} is damaged or gone.",
                advice="Run the command again: the commit is then measured anew.",
            )


def find_unkept(folder: Path, kept: Collection[str]) -> list[Path]:
    """Cuts that rest on a snapshot whose digest is none of those `kept`, and half-written ones."""
    return [
        path
        for path in folder.glob("*")
        if path.suffix not in (".cut", ".basis") or not set(path.stem.split("-")) <= set(kept)
    ]
