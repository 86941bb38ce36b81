"""How git is run, by none of the user's own settings, and why it failed, in a few words.

Every command goes through GitPython; each failure is one of covtrack's errors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import git
from git.exc import GitCommandError, InvalidGitRepositoryError

from jobs.addresses import without_password
from venv_builder.errors import InfrastructureError, UsageError

# A mirror runs no hook, no fsmonitor, no filter of the user's or of the repository's own.
CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "core.autocrlf": "false",
    "gc.auto": "0",
    "protocol.ext.allow": "never",
}
FETCH_SECONDS = 3600.0
OPTIONS = tuple(word for name, value in CONFIG.items() for word in ("-c", f"{name}={value}"))
# Git sets these for hooks and for `rebase --exec`; each names one repository, not ours.
HOOK_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)


HEADLESS = re.compile(r"couldn't find remote ref HEAD$")
NO_REF = re.compile(r"couldn't find remote ref (\S+)")
DAMAGED = re.compile(
    r"corrupt|unable to read|bad object|missing (?:blob|tree|commit)|loose object"
    r"|bad config|packed-refs|not a git repository"
)
FULL = re.compile(r"No space left|Disk quota exceeded|File too large")


def forget_hook_variables() -> None:
    """Drop what a hook that runs covtrack was told: git's commands would obey it."""
    for name in HOOK_VARIABLES:
        os.environ.pop(name, None)


def advice_on(reason: str, mirror: Path) -> str:
    """The way out where the fault lies in the mirror or its disk; "" elsewhere."""
    if FULL.search(reason):
        return f"Free some room on the disk of {mirror}."
    if DAMAGED.search(reason):
        return f"The mirror is damaged; delete {mirror}: it will be fetched anew."
    return ""


def limit_of(command: str) -> float | None:
    """How many seconds a command may take; only what asks a server may hang."""
    return FETCH_SECONDS if command == "fetch" else None


def reason_of(error: Exception) -> str:
    text = str(getattr(error, "stderr", "") or error)
    lines = [line.strip(" '\"") for line in text.splitlines() if line.strip(" '\"")]
    words = [line.removeprefix("stderr: ").lstrip("'") for line in lines]
    useful = [line for line in words if line.startswith(("fatal:", "error:"))]
    return (useful or words or ["git said nothing"])[0].rstrip(".")


def unknown_ref(doing: str, ref: str) -> UsageError:
    if ref == "HEAD":
        return UsageError(f"{doing}: it has no commit yet.", advice="Commit something first.")
    return UsageError(f"{doing}: it has no ref {ref}.", advice="Check the ref's spelling.")


class GitFolder:
    """A bare repository at `path`, made on first use, and git in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        forget_hook_variables()
        try:
            if not (path / "HEAD").exists():
                path.mkdir(parents=True, exist_ok=True)
                git.Repo.init(path, bare=True, mkdir=True)
            self._repo = git.Repo(path)
        except (OSError, GitCommandError, InvalidGitRepositoryError) as error:
            raise InfrastructureError(
                f"The mirror {path} cannot be used: {reason_of(error)}.",
                advice="Check the disk and the folder's owner; a mirror may be deleted safely.",
            ) from error
        self._git = self._repo.git

    @contextmanager
    def _told(self, doing: str, advice: str = "") -> Iterator[None]:
        try:
            yield
        except GitCommandError as error:
            doing, reason = without_password(doing), reason_of(error)
            if missing := NO_REF.search(reason):
                raise unknown_ref(doing, missing[1]) from error
            advice = advice_on(reason, self.path) or advice
            raise InfrastructureError(f"{doing}: {reason}.", advice=advice) from error

    def _run(self, command: str, *arguments: str) -> str:
        environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
        with self._git.custom_environment(**environment):
            words, limit = ["git", *OPTIONS, command, *arguments], limit_of(command)
            return str(
                self._git.execute(words, strip_newline_in_stdout=False, kill_after_timeout=limit)
            )

    def _run_bytes(self, command: str, *arguments: str) -> bytes:
        output = self._git.execute(
            ["git", *OPTIONS, command, *arguments],
            stdout_as_string=False,
            strip_newline_in_stdout=False,
        )
        assert isinstance(output, bytes)
        return output

    def _ask(self, pairs: Sequence[tuple[str, str]], *command: str) -> bytes:
        """The output of a command that is told of pairs of commits."""
        return self._feed("".join(f"{one} {other}\n" for one, other in pairs), *command)

    def _feed(self, text: str, *command: str) -> bytes:
        """The output of a command that reads `text`."""
        with TemporaryFile() as names:
            names.write(text.encode("utf-8", "surrogateescape"))
            names.seek(0)
            output = self._git.execute(
                ["git", *OPTIONS, *command],
                istream=names,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
        assert isinstance(output, bytes)
        return output
