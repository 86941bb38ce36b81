"""Whole-file and whole-folder writes that a kill at any moment cannot leave half done.

Nothing here knows what an environment is.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, text: str) -> None:
    """Write beside `path`, sync, and rename over it: readers see the old text or the new."""
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def link_whole(link: Path, target: str) -> None:
    """Point the symbolic link at `target` in one step, whether or not it exists."""
    draft = link.with_name(f".{link.name}.{uuid4().hex[:8]}")
    draft.symlink_to(target)
    draft.replace(link)


def make_readonly(folder: Path) -> None:
    """Take write permission off every file and folder below; symbolic links stay as they are."""
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & ~0o222)
        Path(parent).chmod(0o555)


def remove_folder(folder: Path) -> None:
    """Remove a folder, read-only or being written to by a dying process; none is fine."""
    for _ in range(3):
        for parent, _, _ in os.walk(folder):
            Path(parent).chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def remove_anything(path: Path) -> None:
    """Remove a file, a link or a whole folder, or nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
