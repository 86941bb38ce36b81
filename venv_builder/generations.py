"""The folders of published environments: `envs/KEY` links to `generations/KEY.N`.

A generation never changes once published; a newer one replaces it by one rename of the link. The
replaced one goes to quarantine when no job holds it. Knows nothing of what the folders hold.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from venv_builder.files import link_whole, remove_folder
from venv_builder.progress import Listener, Stages

_KEPT_IN_QUARANTINE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Environments that were kept and removed, with the bytes that are theirs alone on the disk.

    Files that uv's cache shares with them (hard links) count for neither.
    """

    kept: int
    removed: int
    bytes_kept: int
    bytes_removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """All generations of all keys below `root`."""

    root: Path

    def keys(self) -> tuple[str, ...]:
        """The published keys, sorted."""
        return tuple(sorted(link.name for link in (self.root / "envs").glob("[!.]*")))

    def current(self, key: str) -> Path | None:
        """The real folder of the key's generation; None for a key never published."""
        link = self.root / "envs" / key
        return link.resolve() if link.is_symlink() else None

    @contextmanager
    def building(self, key: str, listener: Listener) -> Iterator[None]:
        """Be the only one who builds `key`; the kernel ends this when the process dies."""
        for folder in ("envs", "generations", "tmp", "locks", "quarantine"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / "locks" / key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with Stages(listener).stage("wait", "another process builds the environment"):
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def draft(self, key: str) -> Path:
        """A new name below `tmp`, on the file system of the generations."""
        return self.root / "tmp" / f"{key}.{os.getpid()}-{uuid4().hex[:6]}"

    def publish(self, key: str, draft: Path) -> Path:
        """Make the whole folder `draft` the key's current generation; its new place."""
        folder = self.root / "generations"
        known = {path.name for path in folder.glob(f"{key}.*")}
        if current := self.current(key):  # its folder may be gone
            known.add(current.name)
        last = max((int(name.rpartition(".")[2]) for name in known), default=0)
        generation = folder / f"{key}.{last + 1}"
        draft.rename(generation)
        link_whole(self.root / "envs" / key, f"../generations/{generation.name}")
        return generation

    def sweep(self, key: str) -> None:
        """Remove drafts of killed builds, and the key's replaced generations nobody holds.

        The caller builds `key`; drafts of other keys go only if nobody builds those.
        """
        for draft in (self.root / "tmp").iterdir():
            owner = draft.name.partition(".")[0]
            if owner == key:
                remove_folder(draft)
                continue
            try:
                with FileLock(self.root / "locks" / owner, timeout=0):
                    remove_folder(draft)
            except Timeout:
                continue
        current = self.current(key)
        for generation in (self.root / "generations").glob(f"{key}.*"):
            if generation != current:
                self.retire(generation)

    def retire(self, generation: Path) -> None:
        """Move a replaced generation to quarantine, of which the newest two are kept.

        One that a job holds stays until a later sweep.
        """
        if not generation.is_dir():
            return
        quarantine = self.root / "quarantine"
        try:
            with self._use(generation, fcntl.LOCK_EX | fcntl.LOCK_NB):
                generation.rename(quarantine / f"{generation.name}-{uuid4().hex[:6]}")
        except BlockingIOError:
            return
        found = sorted(quarantine.iterdir(), key=lambda one: one.stat().st_ctime_ns)
        for folder in found[:-_KEPT_IN_QUARANTINE]:
            remove_folder(folder)

    def last_used(self, key: str) -> float:
        """When the key's generation was asked for or held last, else made: seconds since 1970."""
        generation = (self.root / "envs" / key).resolve()
        mark = self._mark(generation)
        if not mark.exists() and generation.exists():
            made = generation.stat().st_ctime
            self.note_use(generation)
            os.utime(mark, (made, made))
        return mark.stat().st_mtime if mark.exists() else 0.0

    def note_use(self, generation: Path) -> None:
        """Note that the generation is asked for now."""
        mark = self._mark(generation)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def forget(self, key: str, *, before: float) -> bool:
        """Remove the key's environment, unless it is built, held, or was used since `before`.

        Killed on the way it leaves a draft, which the next sweep of any key removes.
        """
        generation = self.current(key)
        if generation is None or self.last_used(key) >= before:
            return False
        draft = self.draft(key)
        draft.parent.mkdir(exist_ok=True)
        exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            with (
                FileLock(self.root / "locks" / key, timeout=0),
                self._use(generation, exclusive),
            ):
                if self.current(key) != generation or self.last_used(key) >= before:
                    return False
                (self.root / "envs" / key).unlink()
                if generation.is_dir():
                    generation.rename(draft)
        except (Timeout, BlockingIOError):
            return False
        remove_folder(draft)
        return True

    def forget_unused(self, before: float, *, dry: bool = False) -> Forgotten:
        """Remove the environments that nobody used since `before` (seconds since 1970) or holds.

        What is removed is built again where it is needed again; `dry` only tells.
        """
        kept = removed = 0
        bytes_kept = bytes_removed = 0
        for key in self.keys():
            generation = self.current(key)
            size = _size(generation) if generation else 0
            old = self.last_used(key) < before
            if old and (dry or self.forget(key, before=before)):
                removed, bytes_removed = removed + 1, bytes_removed + size
            else:
                kept, bytes_kept = kept + 1, bytes_kept + size
        return Forgotten(
            kept=kept, removed=removed, bytes_kept=bytes_kept, bytes_removed=bytes_removed
        )

    @contextmanager
    def holding(self, generation: Path) -> Iterator[None]:
        """Keep the generation where it is while the block runs; many may hold one."""
        with self._use(generation, fcntl.LOCK_SH):
            self.note_use(generation)
            yield

    @contextmanager
    def _use(self, generation: Path, mode: int) -> Iterator[None]:
        mark = self._mark(generation)
        mark.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, mode)
            yield
        finally:
            os.close(handle)

    def _mark(self, generation: Path) -> Path:
        """The file whose lock says that a generation is held, and whose time when it was."""
        return self.root / "locks" / f"{generation.name}.use"


def _size(folder: Path) -> int:
    """Bytes on disk of the files below that no other name shares."""
    found = (Path(parent, name).lstat() for parent, _, names in os.walk(folder) for name in names)
    return sum(one.st_blocks * 512 for one in found if one.st_nlink == 1)
