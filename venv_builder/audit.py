"""Compares what an environment should hold with what is on disk, and names the packages hurt.

The comparisons are pure; `scan_files` and `read_records` are the only readers. Mends nothing.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

_SHOWN = 5


class DamageKind(StrEnum):
    """What is wrong with files: the values read on in a sentence."""

    MISSING = "missing"
    SIZE = "cut or changed in size"
    CONTENT = "changed in content"
    UNOWNED = "added by something else than an installer"


class Entry(NamedTuple):
    """A file: bytes, sha256 as hex ("" if unknown; "-> target" of a link), owning package."""

    size: int
    digest: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """`count` of the `total` files of a distribution with one kind of fault; some paths."""

    distribution: str
    kind: DamageKind
    count: int
    total: int
    paths: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The damage as a clause: "oslo.config: 12 of 80 files were missing"."""
        shown = f" ({', '.join(self.paths)})" if self.count <= 2 else ""
        if self.kind is DamageKind.UNOWNED:
            noun = "file was" if self.count == 1 else "files were"
            return f"{self.count} {noun} {self.kind}{shown}"
        verb = "was" if self.count == 1 else "were"
        return f"{self.distribution}: {self.count} of {self.total} files {verb} {self.kind}{shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A distribution as its dist-info tells it: name, version, and the files it owns.

    `files` maps paths relative to the environment to the size and sha256 RECORD states; an
    entry without a hash (RECORD itself) has an empty digest and size -1.
    """

    name: str
    version: str
    files: Mapping[str, Entry]


def compare_files(
    expected: Mapping[str, Entry], actual: Mapping[str, Entry], *, full: bool
) -> tuple[Damage, ...]:
    """What differs, one value per distribution and kind, sorted.

    Sizes and link targets always count; digests only when `full`. Files that only `actual` has
    are damage unless they are bytecode, which an interpreter may add by itself.
    """
    hurt: dict[tuple[str, DamageKind], list[str]] = {}
    for path, entry in expected.items():
        if kind := _judge(entry, actual.get(path), full):
            hurt.setdefault((entry.owner, kind), []).append(path)
    for path in actual.keys() - expected.keys():
        if not _is_bytecode(path):
            hurt.setdefault(("", DamageKind.UNOWNED), []).append(path)
    totals = Counter(entry.owner for entry in expected.values()) if hurt else Counter[str]()
    return tuple(
        Damage(
            distribution=owner or "the environment itself",
            kind=kind,
            count=len(paths),
            total=totals[owner],
            paths=tuple(sorted(paths)[:_SHOWN]),
        )
        for (owner, kind), paths in sorted(hurt.items())
    )


def compare_records(records: Iterable[Record], actual: Mapping[str, Entry]) -> tuple[Damage, ...]:
    """What a finished installation lacks of what its RECORDs state, by sha256.

    A path that several distributions own is sound if it is what one of them states.
    """
    stated: dict[str, list[Entry]] = {}
    for record in records:
        for path, entry in record.files.items():
            stated.setdefault(path, []).append(entry)
    expected = {path: _best(entries, actual.get(path)) for path, entries in stated.items()}
    found = {path: actual[path] for path in expected.keys() & actual.keys()}
    return compare_files(expected, found, full=True)


def own_files(records: Iterable[Record], actual: Mapping[str, Entry]) -> dict[str, Entry]:
    """The files on disk with their owners; bytecode belongs to the owner of its source."""
    owners = {path: record.name for record in records for path in record.files}
    return {
        path: Entry(size=entry.size, digest=entry.digest, owner=_owner(path, owners))
        for path, entry in actual.items()
    }


def scan_files(root: Path, *, full: bool) -> dict[str, Entry]:
    """Every file and symbolic link below `root` by relative path; hashed only when `full`."""
    return dict(_scan(str(root), full))


def read_records(root: Path) -> tuple[Record, ...]:
    """The distributions installed in the environment `root`, by their dist-info folders."""
    infos = sorted(find_site_packages(root).glob("*.dist-info"))
    return tuple(_read_record(root, info) for info in infos)


def find_site_packages(root: Path) -> Path:
    """The environment's site-packages folder (which may be gone)."""
    found = sorted((root / "lib").glob("python3*/site-packages"))
    return found[0] if found else root / "lib" / "site-packages"


def _judge(expected: Entry, actual: Entry | None, full: bool) -> DamageKind | None:
    if actual is None:
        return DamageKind.MISSING
    if expected.size not in (-1, actual.size):
        return DamageKind.SIZE
    known = full or expected.digest.startswith("-> ") or actual.digest.startswith("-> ")
    if known and expected.digest and actual.digest != expected.digest:
        return DamageKind.CONTENT
    return None


def _best(entries: list[Entry], actual: Entry | None) -> Entry:
    sound = (entry for entry in entries if _judge(entry, actual, True) is None)
    return next(sound, entries[0])


def _is_bytecode(path: str) -> bool:
    return "__pycache__/" in path and path.endswith(".pyc")


def _owner(path: str, owners: Mapping[str, str]) -> str:
    if path in owners or not _is_bytecode(path):
        return owners.get(path, "")
    folder, _, name = path.rpartition("__pycache__/")
    return owners.get(f"{folder}{name.partition('.')[0]}.py", "")


def _scan(root: str, full: bool) -> Iterator[tuple[str, Entry]]:
    folders = [""]
    while folders:
        below = folders.pop()
        try:
            found = list(os.scandir(os.path.join(root, below)))  # noqa: PTH118
        except OSError:
            continue
        for item in found:
            path = f"{below}{item.name}"
            if item.is_dir(follow_symlinks=False):
                folders.append(f"{path}/")
                continue
            try:
                yield path, _read_entry(item, full)
            except OSError:
                continue  # gone or unreadable since it was listed: reads as missing


def _read_entry(item: os.DirEntry[str], full: bool) -> Entry:
    told = item.stat(follow_symlinks=False)
    if stat.S_ISLNK(told.st_mode):
        return Entry(size=0, digest=f"-> {os.readlink(item.path)}")  # noqa: PTH115
    if not full:
        return Entry(size=told.st_size)
    with open(item.path, "rb") as file:  # noqa: PTH123
        return Entry(size=told.st_size, digest=hashlib.file_digest(file, "sha256").hexdigest())


def _read_record(root: Path, info: Path) -> Record:
    headers = _read_headers(info / "METADATA")
    name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
    name = headers.get("Name", name)
    return Record(
        name=name,
        version=headers.get("Version", version),
        files=dict(_read_rows(root, info, name)),
    )


def _read_headers(path: Path) -> Mapping[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return dict(HeaderParser().parsestr(text).items())


def _read_rows(root: Path, info: Path, owner: str) -> Iterator[tuple[str, Entry]]:
    site = str(info.parent.relative_to(root))
    for needed in ("RECORD", "METADATA"):
        yield f"{site}/{info.name}/{needed}", Entry(size=-1, owner=owner)
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return
    for path, digest, size in ((*row, "", "")[:3] for row in rows):
        place = os.path.normpath(f"{site}/{path}")
        if place.startswith(".."):
            continue
        yield place, Entry(size=int(size or -1), digest=_hex_digest(digest), owner=owner)


def _hex_digest(text: str) -> str:
    """RECORD's "sha256=<urlsafe base64 without padding>" as hex; "" for anything else."""
    name, _, value = text.partition("=")
    if name != "sha256" or not value:
        return ""
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
