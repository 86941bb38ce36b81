"""What `covtrack mirror status` shows: what each mirror holds, how old it is, what it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from covtrack.grids import Column, Grid
from covtrack.mirrors import Mirrored
from covtrack.reporting import show_age
from jobs.replica import RefKind, count_kinds
from venv_builder.errors import CovtrackError

UNKNOWN = "unknown"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
TITLES = {
    RefKind.BRANCH: "branches",
    RefKind.TAG: "tags",
    RefKind.CHANGE: "reviews",
    RefKind.NOTES: "notes",
    RefKind.META: "meta",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Refs that the server has and the mirror lacks or has at another commit, and the reverse."""

    behind: int
    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorStatus:
    """One mirror; `difference` is None where the server gives no answer, `problem` says why.

    `size` is in bytes; `lost` counts the branches and tags that are kept though the server's
    were replaced.
    """

    name: str
    counts: Mapping[RefKind, int]
    newest: str
    synced_at: datetime | None
    size: int
    difference: Difference | None
    lost: int = 0
    problem: str = ""


def examine(mirrored: Mirrored, *, ask: bool = True) -> MirrorStatus:
    """Look at a mirror, and with `ask` at its server. Raises InfrastructureError if damaged."""
    if not mirrored.exists:
        counts = count_kinds(())
        return MirrorStatus(
            name=mirrored.name, counts=counts, newest="", synced_at=None, size=0, difference=None
        )
    replica = mirrored.open()
    ours = replica.refs()
    newest = replica.newest()
    difference, problem = None, ""
    if ask:
        try:
            difference = compare(ours, replica.refs_of(mirrored.url))
        except CovtrackError as error:
            problem = str(error)
    return MirrorStatus(
        name=mirrored.name,
        counts=count_kinds(ours),
        newest=f"{newest.sha[:10]} {newest.subject}" if newest else "",
        synced_at=replica.synced_at(),
        size=replica.size(),
        difference=difference,
        lost=len(replica.lost()),
        problem=problem,
    )


def compare(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Difference:
    """Count the refs that differ. Pure."""
    return Difference(
        behind=sum(ours.get(name) != sha for name, sha in theirs.items()),
        ahead=sum(name not in theirs for name in ours),
    )


def status_grid(found: Iterable[MirrorStatus], now: datetime) -> Grid:
    """A row for each mirror."""
    figures = (*TITLES.values(), "size", "last sync", "behind", "ahead")
    columns = (
        Column(title="mirror"),
        *(Column(title=title, figures=True) for title in figures),
        Column(title="newest commit", least=12),
    )
    return Grid(columns=columns, rows=tuple(_row(one, now) for one in found))


def _row(one: MirrorStatus, now: datetime) -> tuple[str, ...]:
    difference = one.difference
    return (
        one.name,
        *(str(one.counts[kind]) for kind in TITLES),
        show_size(one.size),
        show_age(one.synced_at, now) if one.synced_at else "never",
        str(difference.behind) if difference else UNKNOWN,
        str(difference.ahead) if difference else UNKNOWN,
        one.newest,
    )


def show_size(count: int) -> str:
    """Bytes in the unit that leaves at most four digits, rounded down.

    >>> show_size(10_240)
    '10.0 KiB'
    """
    size, unit = float(count), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{int(size * 10) / 10:.1f} {UNITS[unit]}"
