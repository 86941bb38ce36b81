"""An `ssh` on PATH that plays an event stream: what a file holds, then silence or its end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCRIPT = """#!/bin/sh
echo connected >> "{folder}/connections"
cat "{folder}/stream"
[ -e "{folder}/end" ] && {{ echo "Connection closed by the server" >&2; exit 255; }}
exec sleep 600
"""


class FakeSsh:
    """The program in `folder`; `path` is PATH with that folder first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "ssh"
        program.write_text(SCRIPT.format(folder=folder))
        program.chmod(0o755)
        self.play()

    @property
    def path(self) -> str:
        """The value of PATH that finds this ssh."""
        return f"{self.folder}:{os.environ['PATH']}"

    def play(self, *lines: bytes, end: bool = False) -> None:
        """What each connection from now on hears; with `end` the server then closes it."""
        new = self.folder / "stream.new"
        new.write_bytes(b"".join(lines))
        new.replace(self.folder / "stream")
        (self.folder / "end").touch() if end else (self.folder / "end").unlink(missing_ok=True)

    @property
    def connections(self) -> int:
        """How often it was called."""
        file = self.folder / "connections"
        return len(file.read_text().splitlines()) if file.exists() else 0


def line_of(event: dict[str, Any]) -> bytes:
    """The event as the stream has it."""
    return json.dumps(event).encode() + b"\n"


def created(project: str, change: int, patch_set: int, at: int = 1_700_000_000) -> dict[str, Any]:
    """A patchset-created event."""
    sha = f"{change:020x}{patch_set:020x}"
    ref = f"refs/changes/{change % 100:02}/{change}/{patch_set}"
    return {
        "type": "patchset-created",
        "project": project,
        "change": {"project": project, "branch": "master", "number": change, "subject": "Storm"},
        "patchSet": {"number": patch_set, "revision": sha, "ref": ref, "kind": "REWORK"},
        "uploader": {"username": "ada"},
        "eventCreatedOn": at,
    }


def storm(project: str, events: int, sets: int) -> Iterable[dict[str, Any]]:
    """`events` events of which `sets` are patch sets of change 1, and as many of no interest."""
    others = events - 2 * sets
    for number in range(1, sets + 1):
        yield created(project, 1, number)
        yield {"type": "reviewer-added", "change": {"project": project, "number": 1}}
    for number in range(others):
        yield created(project, 2 + number, 1)
