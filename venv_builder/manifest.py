"""The list of what a published environment holds, and the marker that says it is whole.

A generation is a folder with `venv/`, `manifest.json` and `ready`, which holds the manifest's
sha256; without a matching `ready` the folder is no environment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from venv_builder.audit import Entry
from venv_builder.files import write_whole

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An environment's key, interpreter's label, projects, distributions, and files."""

    key: str
    interpreter: str
    python: str
    projects: tuple[str, ...]
    distributions: Mapping[str, str]
    lock: str
    files: Mapping[str, Entry]


def write_manifest(generation: Path, manifest: Manifest) -> None:
    """Write the manifest and then the ready marker, each synced to the disk."""
    text = dump_manifest(manifest)
    write_whole(generation / "manifest.json", text)
    write_whole(generation / "ready", hashlib.sha256(text.encode()).hexdigest())


def read_manifest(generation: Path) -> Manifest | None:
    """The manifest of a whole generation; None where anything of it is missing or differs."""
    try:
        data = (generation / "manifest.json").read_bytes()
        marker = (generation / "ready").read_text(encoding="ascii")
        if marker != hashlib.sha256(data).hexdigest():
            return None
        return load_manifest(data.decode())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def dump_manifest(manifest: Manifest) -> str:
    """The manifest as JSON text."""
    files = {path: [one.size, one.digest, one.owner] for path, one in manifest.files.items()}
    told = {
        "format": FORMAT,
        "key": manifest.key,
        "interpreter": manifest.interpreter,
        "python": manifest.python,
        "projects": list(manifest.projects),
        "distributions": dict(manifest.distributions),
        "lock": manifest.lock,
        "files": files,
    }
    return json.dumps(told, separators=(",", ":"), sort_keys=True)


def load_manifest(text: str) -> Manifest:
    """The manifest of JSON text. Raises ValueError, KeyError or TypeError if it is none."""
    told = json.loads(text)
    if told["format"] != FORMAT:
        raise ValueError(f"manifest format {told['format']}")
    return Manifest(
        key=told["key"],
        interpreter=told["interpreter"],
        python=told["python"],
        projects=tuple(told["projects"]),
        distributions=told["distributions"],
        lock=told["lock"],
        files={
            path: Entry(size, digest, owner)
            for path, (size, digest, owner) in told["files"].items()
        },
    )
