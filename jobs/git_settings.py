"""How git is run, by none of the user's own settings, and why it failed, in a few words."""

from __future__ import annotations

import os
import re

from venv_builder.errors import UsageError

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


NO_REF = re.compile(r"couldn't find remote ref (\S+)")
DAMAGED = re.compile(
    r"corrupt|unable to read|bad object|missing (?:blob|tree|commit)|loose object"
)


def forget_hook_variables() -> None:
    """Drop what a hook that runs covtrack was told: git's commands would obey it."""
    for name in HOOK_VARIABLES:
        os.environ.pop(name, None)


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
