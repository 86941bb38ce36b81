"""Where a step gets the snapshot from that it rests on: its tracker, or a folder of bundles.

The folder holds bundles of earlier steps, whatever their names; SHA.bundle, as `keep` writes
them, need not be opened to be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.bundle import read_bundle, read_manifest, write_bundle
from jobs.exchange import TrackerLink
from jobs.order import OrderedBase
from jobs.repository import Mirror
from jobs.results import Before, JobResult, Kind
from jobs.snapshot import file_digest
from jobs.snapshot_checking import check_snapshot
from jobs.workplace import Workplace
from venv_builder.errors import InfrastructureError, RefusedError, UsageError
from venv_builder.progress import Listener, Noted

ENDING = ".bundle"
MOST_CACHED = 8
_BY_SHA = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\.bundle")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBaseline:
    """A baseline out of a folder of bundles: as an order names it, and its snapshot."""

    base: OrderedBase
    snapshot: Path


def fetch_baseline(workplace: Workplace, link: TrackerLink, base: OrderedBase) -> Path:
    """The snapshot that an order rests on; fetched once, as long as it is among the newest."""
    cache = workplace.folder / "baselines"
    target = cache / f"{base.sha256}.coverage"
    cache.mkdir(parents=True, exist_ok=True)
    if not target.is_file() or file_digest(target) != base.sha256:
        new = cache / f"{link.run_id}.new"
        try:
            link.baseline(new, base.size)
            if file_digest(new) != base.sha256:
                raise InfrastructureError(
                    f"The baseline of {base.commit[:10]} arrived damaged.",
                    advice="Start the build again.",
                )
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    target.touch()
    for old in sorted(cache.iterdir(), key=_age)[:-MOST_CACHED]:
        old.unlink(missing_ok=True)
    return target


def _age(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def find_kept(
    folder: Path, project: str, mirror: Mirror, commit: str, target: Path, listener: Listener
) -> KeptBaseline | None:
    """The nearest ancestor of `commit` (or itself) that a bundle of the folder is a baseline of.

    Its snapshot goes into the folder `target`. Bundles that are damaged, or another project's, are
    told to `listener` and passed over. Raises UsageError for a folder that is none.
    """
    found = dict(_bundles(folder, project, listener))
    while found:
        nearest = mirror.nearest(commit, tuple(found))
        if nearest is None:
            return None
        path = found.pop(nearest)
        try:
            return _open(path, project, nearest, target)
        except RefusedError as error:
            listener(Noted(sentence=f"{path} is passed over: {error.sentence}"))
    return None


def _bundles(folder: Path, project: str, listener: Listener) -> Iterable[tuple[str, Path]]:
    own = own_folder(folder, project)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder of bundles.", advice="Name one: --baseline DIR")
    for path in sorted(file for at in (folder, own) for file in at.glob(f"*{ENDING}")):
        if match := _BY_SHA.fullmatch(path.name):
            yield match[1], path
            continue
        try:
            manifest = read_manifest(path)
        except RefusedError as error:
            listener(Noted(sentence=f"{path} is passed over: {error.sentence}"))
            continue
        for part in manifest.results:
            if manifest.project == project and is_baseline(part.result):
                yield part.commit, path


def own_folder(folder: Path, project: str) -> Path:
    """The project's own folder among those of others."""
    return folder / project.replace("/", "%2F")


def is_baseline(result: JobResult) -> bool:
    """Whether others may rest on the result."""
    return result.complete and result.kind is Kind.BASELINE


def _open(path: Path, project: str, commit: str, target: Path) -> KeptBaseline:
    target.mkdir(parents=True)
    for result in read_bundle(path, target).results:
        if result.commit == commit and result.project == project and is_baseline(result):
            check_snapshot(result.snapshot)
            base = OrderedBase(
                commit=commit,
                before=_counts(result),
                sha256=file_digest(result.snapshot),
                size=result.snapshot.stat().st_size,
            )
            return KeptBaseline(base=base, snapshot=result.snapshot)
    raise RefusedError(f"it holds no baseline of {project} at {commit[:10]}.")


def _counts(result: JobResult) -> Before:
    measurement = result.measurement
    return Before(total=measurement.total, vendored=measurement.vendored)


def keep(folder: Path, run_id: str, results: Iterable[JobResult]) -> Mapping[str, Path]:
    """Write a bundle of each baseline among the results; commit to path.

    Raises DataError where the folder cannot be written to.
    """
    kept = {}
    for result in results:
        if is_baseline(result):
            path = own_folder(folder, result.project) / f"{result.commit}{ENDING}"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InfrastructureError(
                    f"The folder {path.parent} cannot be made: {error.strerror}."
                ) from error
            write_bundle(path, run_id, (result,))
            kept[result.commit] = path
    return kept
