"""Follows requirement lines through the files and addresses that they name.

Reads files and fetches constraint addresses; starts no process and resolves nothing. A fetched
address is kept in a cache folder: it is asked for again after a day, and a failure is not tried
again for ten minutes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import requests

from venv_builder.errors import BuildError
from venv_builder.requirement_lines import Line, Says, join_continued, read_line

FRESH_SECONDS = 24 * 3600
FAILED_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What lines ask for: requirements, locations of constraints, extras of the project."""

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Wanted) -> Wanted:
        return Wanted(
            requirements=self.requirements + other.requirements,
            constraints=self.constraints + other.constraints,
            extras=self.extras + other.extras,
            notes=self.notes + other.notes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintLines:
    """Normalised lines of a constraints file or address, and what went wrong as sentences."""

    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def follow_lines(
    lines: Iterable[str], *, tree: Path, folder: Path, seen: frozenset[Path] = frozenset()
) -> Wanted:
    """Everything that `lines` ask for, `-r` files included; paths are relative to `folder`.

    Raises BuildError, naming the place, for an unreadable line or a missing file.
    """
    return sum((_follow(read_line(line), tree, folder, seen) for line in lines), Wanted())


def follow_file(path: Path, *, tree: Path, seen: frozenset[Path] = frozenset()) -> Wanted:
    """Everything that the requirements file asks for; a file that includes itself is read once."""
    path = path.resolve()
    if path in seen:
        return Wanted()
    try:
        text = path.read_text(encoding="utf-8")
        lines = join_continued(text)
        return follow_lines(lines, tree=tree, folder=path.parent, seen=seen | {path})
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(
            f"The requirements file {path} cannot be read.",
            advice="It is named by the project's tox.ini or by another requirements file.",
        ) from error
    except BuildError as error:
        if str(path) in error.sentence:
            raise
        raise BuildError(f"{path}: {error.sentence}", advice=error.advice) from error


def read_constraints(location: str, *, tree: Path, cache: Path | None) -> ConstraintLines:
    """The lines of a constraints file (path) or address; one that is out of reach is noted."""
    if location.startswith(("http://", "https://")):
        return _read_address(location, cache)
    path = (tree / location.removeprefix("file://")).resolve()
    try:
        return _parse_constraints(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(
            f"The constraints file {location} cannot be read.",
            advice="Name another in the setting constraints, or none.",
        ) from error


def _follow(line: Line, tree: Path, folder: Path, seen: frozenset[Path]) -> Wanted:
    match line.says:
        case Says.REQUIREMENT:
            return Wanted(requirements=(line.text,))
        case Says.FILE:
            return follow_file(folder / line.text, tree=tree, seen=seen)
        case Says.CONSTRAINTS:
            return Wanted(constraints=(_locate(line.text, folder),))
        case Says.LOCAL if (folder / line.text).resolve() == tree.resolve():
            return Wanted(extras=line.extras)
        case Says.LOCAL:
            return Wanted(notes=(f"Local requirement {line.text} was left out.",))
        case Says.OPTION:
            return Wanted(
                notes=(f"Option {line.text.split()[0]} of a requirements file was left out.",)
            )
        case _:
            return Wanted()


def _locate(location: str, folder: Path) -> str:
    return location if "://" in location else str((folder / location).resolve())


def _parse_constraints(text: str) -> ConstraintLines:
    lines: list[str] = []
    odd = 0
    for raw in join_continued(text):
        try:
            line = read_line(raw)
        except BuildError:
            odd += 1
            continue
        if line.says is Says.REQUIREMENT:
            lines.append(line.text)
    notes = (f"{odd} unreadable constraint lines were left out.",) if odd else ()
    return ConstraintLines(lines=tuple(lines), notes=notes)


def _read_address(address: str, cache: Path | None) -> ConstraintLines:
    kept = cache / f"{hashlib.sha256(address.encode()).hexdigest()[:24]}.txt" if cache else None
    if kept and _is_younger(kept, FRESH_SECONDS):
        return _parse_constraints(kept.read_text(encoding="utf-8"))
    failed = kept.with_suffix(".failed") if kept else None
    text = None if failed and _is_younger(failed, FAILED_SECONDS) else _fetch(address)
    if text is not None:
        if kept:
            _keep(kept, text)
        return _parse_constraints(text)
    if failed:
        _keep(failed, address)
    if kept and kept.is_file():
        return _parse_constraints(kept.read_text(encoding="utf-8"))
    sentence = (
        f"Constraints URL {address} could not be fetched; versions were resolved without it."
    )
    return ConstraintLines(notes=(sentence,))


def _fetch(address: str) -> str | None:
    try:
        answer = requests.get(address, timeout=(5, 20))
        answer.raise_for_status()
    except requests.RequestException:
        return None
    return answer.text if "===" in answer.text or "==" in answer.text else None


def _is_younger(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime < seconds
    except OSError:
        return False


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{time.monotonic_ns()}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
