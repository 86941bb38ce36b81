"""Real git repositories in scratch folders, for tests; git itself does all the work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

DIFF = ("--raw", "-p", "-U0", "-z", "-M", "--no-abbrev", "--no-color", "--no-ext-diff")
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.org",
    "LC_ALL": "C",
}


def run_git(folder: Path, *arguments: str, stdin: bytes | None = None, statuses: int = 0) -> bytes:
    """What `git ARGUMENTS` printed in `folder`; a status above `statuses` fails the test."""
    completed = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **ENVIRONMENT},
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert completed.returncode <= statuses, completed.stderr.decode()
    return completed.stdout


class ScratchRepository:
    """A repository at `root` whose commits hold exactly the files that the test names."""

    def __init__(self, root: Path, branch: str = "master") -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", branch)

    def git(self, *arguments: str) -> str:
        """What git printed, stripped."""
        return run_git(self.root, *arguments).decode().strip()

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write each file, or remove it where its content is None."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes | None], subject: str = "A change") -> str:
        """Commit the files over what there is, and return the sha."""
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def diff(self, old: str, new: str) -> bytes:
        """The bytes that jobs.diff.parse_diff takes."""
        return run_git(self.root, "diff", *DIFF, old, new, "--")
