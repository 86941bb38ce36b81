"""What an editable install of the project under test would give, written without installing.

A folder with the project's dist-info and wrappers of its console scripts; with it and the tree
on PYTHONPATH, `importlib.metadata` sees the project as installed. Costs no process and runs no
code of the tree.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from venv_builder.files import remove_folder
from venv_builder.project_files import Project, read_project

UNKNOWN_VERSION = "0.0.0"
_POINT = re.compile(r"(?P<name>[^=]+?)\s*=\s*(?P<module>[\w.]+)\s*(:\s*(?P<call>[\w.]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """A written overlay: its folder (for PYTHONPATH), its bin (for PATH), what it claims."""

    path: Path
    bin: Path
    name: str
    version: str
    notes: tuple[str, ...] = ()


def write_overlay(
    tree: Path, target: Path, *, version: str | None = None, python: Path | None = None
) -> Overlay:
    """Write the overlay of `tree` into the folder `target`, which is replaced.

    `version` goes before any the tree states; without both it is 0.0.0, with a note. Scripts run
    on `python`, or on the first python3 of PATH. Raises BuildError for a broken metadata file.
    """
    tree = tree.resolve()
    project = read_project(tree)
    name, known = project.name or tree.name, version or project.version or UNKNOWN_VERSION
    remove_folder(target)
    scripts = target / "bin"
    scripts.mkdir(parents=True)
    info = target / f"{canonicalize_name(name).replace('-', '_')}-{known}.dist-info"
    _write_info(
        info, describe(project, name=name, version=known, packages=_packages(tree, project))
    )
    for group in ("console_scripts", "gui_scripts"):
        for point in project.entry_points.get(group, ()):
            _write_script(scripts, point, python)
    return Overlay(
        path=target, bin=scripts, name=name, version=known, notes=_notes(tree, project, version)
    )


def describe(
    project: Project, *, name: str, version: str, packages: tuple[str, ...]
) -> Mapping[str, str]:
    """The files of the dist-info folder by name, RECORD left out."""
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "INSTALLER": "covtrack\n",
        "entry_points.txt": format_entry_points(project.entry_points),
        "top_level.txt": "".join(f"{package}\n" for package in packages),
    }


def format_entry_points(entry_points: Mapping[str, tuple[str, ...]]) -> str:
    """The entry points in the ini form of entry_points.txt."""
    groups = sorted(entry_points.items())
    return "\n".join(
        f"[{group}]\n" + "".join(f"{p}\n" for p in points) for group, points in groups
    )


def format_script(point: str, python: Path | None) -> tuple[str, str] | None:
    """Name and text of the wrapper for "name = module:call"; None if the line is none.

    The interpreter is named through the shell, since a path may be longer than a `#!` line.
    """
    match = _POINT.match(point)
    if match is None or match["call"] is None:
        return None
    runner = f"'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n" if python else ""
    first = "#!/bin/sh\n" if python else "#!/usr/bin/env python3\n"
    head = match["call"].partition(".")[0]
    body = f"import sys\nfrom {match['module']} import {head}\nsys.exit({match['call']}())\n"
    return match["name"].strip(), f"{first}{runner}{body}"


def _packages(tree: Path, project: Project) -> tuple[str, ...]:
    if project.packages:
        return tuple(dict.fromkeys(name.partition(".")[0] for name in project.packages))
    folders = [tree / "src"] if (tree / "src").is_dir() else [tree]
    found = (path.parent.name for folder in folders for path in folder.glob("*/__init__.py"))
    return tuple(sorted(name for name in found if name not in ("tests", "doc", "docs")))


def _write_info(info: Path, files: Mapping[str, str]) -> None:
    info.mkdir()
    rows = []
    for name, text in files.items():
        data = text.encode()
        (info / name).write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{info.name}/{name},sha256={digest},{len(data)}\n")
    record = "".join(rows) + f"{info.name}/RECORD,,\n"
    (info / "RECORD").write_text(record, encoding="utf-8")


def _write_script(folder: Path, point: str, python: Path | None) -> None:
    written = format_script(point, python)
    if written is None or "/" in written[0]:
        return
    path = folder / written[0]
    path.write_text(written[1], encoding="utf-8")
    path.chmod(0o755)


def _notes(tree: Path, project: Project, version: str | None) -> tuple[str, ...]:
    notes = []
    if project.name is None:
        notes.append(f"{tree} states no project name; its folder's name {tree.name} was taken.")
    if version is None and project.version is None:
        notes.append(
            f"{project.name or tree.name} states no version; {UNKNOWN_VERSION} was taken."
        )
    return tuple(notes)
