"""The bundle: one file with all that a step found, written whole, and read without trust.

A zip of fixed members: manifest.json, then the snapshots in the order of the results. Whoever
runs other people's code may send anything: sizes are bounded before and while reading, nothing is
unpacked by its own name, and what is read is compared with what was ordered.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.holding import Held
from jobs.order import RunId, Sha, Sha256, StepOrder, explain
from jobs.project import Name
from jobs.results import JobResult, Kind
from jobs.snapshot import file_digest
from venv_builder.errors import DataError, RefusedError

NAME = "covtrack.bundle"
MANIFEST = "manifest.json"
LARGEST_BUNDLE = 2**30
LARGEST_MANIFEST = 32 * 2**20
LARGEST_SNAPSHOT = 2 * 2**30 - 1
LARGEST_NUMBER = 2**31
SHORT_DETAILS = 1000
_PIECE = 2**20
_END = 22  # bytes of a zip's end record without a comment
_LARGEST_LISTING = 256 * 1024
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)


class BundledResult(BaseModel):
    """One result of the bundle, and which member holds its snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: Sha
    result: JobResult
    snapshot: str
    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=LARGEST_SNAPSHOT)]


class Manifest(BaseModel):
    """What manifest.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    run_id: RunId
    project: Name
    results: Annotated[tuple[BundledResult, ...], Field(min_length=1, max_length=1000)]
    held: Held | None = None
    """How a stored result differs from the one full run, where that was ordered and complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was read: each result's `snapshot` is a file of the folder given."""

    run_id: str
    results: tuple[JobResult, ...]
    held: Held | None = None


def write_bundle(
    target: Path, run_id: str, results: Sequence[JobResult], held: Held | None = None
) -> None:
    """Write the results and their snapshots to `target`, whole or not at all."""
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            archive.writestr(MANIFEST, _manifest_text(run_id, results, held))
            for number, result in enumerate(results):
                archive.write(result.snapshot, member_name(number))
        with new.open("rb") as file:
            os.fsync(file.fileno())
        if new.stat().st_size > LARGEST_BUNDLE:
            raise DataError(f"The bundle {target} is larger than {LARGEST_BUNDLE} bytes.")
        new.replace(target)
    except (OSError, zipfile.LargeZipFile, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"The bundle {target} cannot be written: {reason}.", advice="Make room on the disk."
        ) from error
    finally:
        new.unlink(missing_ok=True)


def member_name(number: int) -> str:
    """The member with the snapshot of the result of that number, from 0."""
    return f"{number}.coverage"


def _manifest_text(run_id: str, results: Sequence[JobResult], held: Held | None) -> str:
    for shown in (results, [_shortened(result) for result in results]):
        # Names of files may hold lone surrogates, which only Python's own JSON carries.
        text = json.dumps(_manifest(run_id, shown, held).model_dump(mode="json"))
        if len(text) <= LARGEST_MANIFEST:
            return text
    raise DataError(f"The results of run {run_id} are too many for one bundle.")


def _manifest(run_id: str, results: Sequence[JobResult], held: Held | None) -> Manifest:
    parts = [
        BundledResult(
            commit=result.commit,
            result=replace(result, snapshot=Path(member_name(number))),
            snapshot=member_name(number),
            sha256=file_digest(result.snapshot),
            size=result.snapshot.stat().st_size,
        )
        for number, result in enumerate(results)
    ]
    return Manifest(run_id=run_id, project=results[0].project, results=tuple(parts), held=held)


def _shortened(result: JobResult) -> JobResult:
    outcomes = (replace(one, details=one.details[:SHORT_DETAILS]) for one in result.outcomes)
    return replace(result, outcomes=tuple(outcomes))


def read_bundle(path: Path, folder: Path, order: StepOrder | None = None) -> Bundle:
    """Read a bundle, its snapshots into `folder`, and compare it with the order, if there is one.

    Raises RefusedError, one sentence, for whatever is not as `write_bundle` leaves it. The
    snapshots' insides are not looked at: see `jobs.snapshot_checking`.
    """
    with _opened(path) as archive:
        manifest = _read_manifest(path, archive)
        if order is not None:
            check_ordered(path, manifest, order)
        _check_members(path, archive, manifest)
        results = []
        for part in manifest.results:
            snapshot = folder / part.snapshot
            _unpack(path, archive, part, snapshot)
            results.append(replace(part.result, snapshot=snapshot))
    return Bundle(run_id=manifest.run_id, results=tuple(results), held=manifest.held)


def read_manifest(path: Path) -> Manifest:
    """What a bundle says that it holds; RefusedError for what is none."""
    with _opened(path) as archive:
        return _read_manifest(path, archive)


def refuse(path: Path, why: str) -> NoReturn:
    """Raise RefusedError: the bundle is refused for that reason."""
    raise RefusedError(
        f"The bundle {path.name} is refused: {why}.", advice="Nothing of it was stored."
    )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with path.open("rb") as file:
            _check_listing(path, file)
            with zipfile.ZipFile(file) as archive:
                yield archive
    except DataError:
        raise
    except _BAD_ZIP as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        refuse(path, f"it is no whole zip file ({reason or type(error).__name__})")


def _check_listing(path: Path, file: IO[bytes]) -> None:
    """Refuse a list of members that Python would have to read whole before it can be judged."""
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST_BUNDLE:
        refuse(path, f"it has {size} bytes, and {LARGEST_BUNDLE} are the most")
    file.seek(max(0, size - _END - 20))
    tail = file.read()
    end = tail[-_END:]
    if len(end) < _END or end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
        refuse(path, "it is no whole zip file")
    if tail[:4] == b"PK\x06\x07" or int.from_bytes(end[12:16], "little") > _LARGEST_LISTING:
        refuse(path, "its list of members is too long")


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    members = archive.infolist()
    if not members or members[0].filename != MANIFEST:
        refuse(path, f"its first member is not {MANIFEST}")
    _check_member(path, members[0], LARGEST_MANIFEST)
    with archive.open(members[0]) as file:
        text = file.read(LARGEST_MANIFEST + 1)
    if len(text) > LARGEST_MANIFEST:
        refuse(path, f"its manifest is longer than {LARGEST_MANIFEST} bytes")
    try:
        manifest = Manifest.model_validate(json.loads(text, parse_constant=_refuse_constant))
    except (ValidationError, RecursionError) as error:
        refuse(path, f"its manifest is not understood ({explain(error)})")
    except ValueError as error:
        refuse(path, f"its manifest is no JSON ({' '.join(str(error).split())[:200]})")
    for part in manifest.results:
        if not is_sane(part.result):
            refuse(path, f"the result of {part.commit[:10]} has a number that cannot be")
    return manifest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def is_sane(value: object) -> bool:
    """Whether all numbers of a result are finite, not negative and of a size that can be."""
    match value:
        case bool() | str() | None | Path() | datetime():
            return True
        case int():
            return 0 <= value < LARGEST_NUMBER
        case float():
            return 0 <= value < LARGEST_NUMBER
        case tuple():
            return all(map(is_sane, value))
        case Mapping():
            return all(map(is_sane, value.values()))
    assert is_dataclass(value)
    return all(is_sane(getattr(value, field.name)) for field in fields(value))


def _check_members(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    members = archive.infolist()
    expected = [MANIFEST, *(member_name(number) for number in range(len(manifest.results)))]
    found = [member.filename for member in members]
    if found != expected or [part.snapshot for part in manifest.results] != expected[1:]:
        refuse(path, "its members are not those that a step writes")
    for member, part in zip(members[1:], manifest.results, strict=True):
        _check_member(path, member, LARGEST_SNAPSHOT)
        if member.file_size != part.size:
            refuse(path, f"{member.filename} has {member.file_size} bytes instead of {part.size}")


def _check_member(path: Path, member: zipfile.ZipInfo, largest: int) -> None:
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        refuse(path, f"{member.filename} is no plain file")
    if member.flag_bits & 1:
        refuse(path, f"{member.filename} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(path, f"{member.filename} is packed in an unknown way")
    if member.file_size > largest:
        refuse(path, f"{member.filename} has {member.file_size} bytes, and {largest} are the most")


def _unpack(path: Path, archive: zipfile.ZipFile, part: BundledResult, target: Path) -> None:
    digest, left = hashlib.sha256(), part.size
    with archive.open(part.snapshot) as source, target.open("xb") as file:
        while piece := source.read(min(_PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                refuse(path, f"{part.snapshot} has more bytes than the {part.size} it claims")
            digest.update(piece)
            file.write(piece)
    if left or digest.hexdigest() != part.sha256:
        refuse(path, f"{part.snapshot} is not what its digest says")


def check_ordered(path: Path, manifest: Manifest, order: StepOrder) -> None:
    """Refuse a bundle that is not what was ordered: run, project, branch, commits, kinds.

    It may end early, at a commit whose figure is incomplete.
    """
    if manifest.run_id != order.run_id:
        refuse(path, f"it is of run {manifest.run_id}, not of {order.run_id}")
    if manifest.project != order.settings.name:
        refuse(path, f"it is of project {manifest.project}, not of {order.settings.name}")
    found, asked = manifest.results, order.commits
    if [part.commit for part in found] != [one.sha for one in asked[: len(found)]]:
        refuse(path, "its commits are not those that were ordered")
    if len(found) < len(asked) and found[-1].result.complete:
        refuse(path, f"it holds {len(found)} of {len(asked)} commits")
    for part, one in zip(found, asked, strict=False):
        said = part.result
        if (said.project, said.branch, said.commit) != (manifest.project, order.branch, one.sha):
            refuse(path, f"the result of {one.sha[:10]} is of another project, branch or commit")
        if (said.kind, said.select) != (one.kind, one.select):
            refuse(path, f"the result of {one.sha[:10]} is of another kind than ordered")
        if said.provisional and (order.budget is None or one.kind is not Kind.CHANGE):
            refuse(path, f"the result of {one.sha[:10]} is provisional, and had no budget")
