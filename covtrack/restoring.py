"""Pushes a mirror back to an empty repository, and says exactly what the other side refused.

Gerrit 3.10 takes branches and light tags of any administrator; annotated tags and refs/meta/config
with Forge Committer, notes with Create on refs/notes/*, a branch over the project's initial commit
with Push and Force. Reviews it takes with Access Database, Create on refs/changes/* and the option
notedb=allow; it lists them after `gerrit index changes-in-project`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.addresses import without_password
from jobs.replica import Pushed, RefKind, Replica
from venv_builder.errors import UsageError
from venv_builder.progress import Listener, Stages

CONFIG = "refs/meta/config"
MOST_NAMED = 3
NUMBERS = "The numbers of its reviews may be those of reviews that the server has by now."


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of each ref of a restore; `left` are kinds that were not pushed at all."""

    url: str
    pushed: tuple[Pushed, ...]
    left: Mapping[RefKind, int]
    on_gerrit: bool

    @property
    def complete(self) -> bool:
        """Whether everything of the mirror is there now."""
        return not any(self.left.values()) and all(one.taken for one in self.pushed)


def restore(replica: Replica, url: str, listener: Listener, *, changes: bool = False) -> Restored:
    """Push everything of the mirror to `url`, an empty repository.

    Reviews go to a Gerrit only with `changes`. Raises UsageError where the mirror is empty or
    the target holds what a push would lose, InfrastructureError where it cannot be reached.
    """
    ours = replica.refs()
    if not ours:
        raise UsageError(
            f"The mirror {replica.path} is empty: there is nothing to restore.",
            advice="Fill it first: covtrack mirror sync",
        )
    theirs = replica.refs_of(url)
    check_empty(replica, url, ours, theirs)
    on_gerrit = CONFIG in theirs and not is_local(url)
    pushed: list[Pushed] = []
    left: dict[RefKind, int] = {}
    stages = Stages(listener)
    for kind in RefKind:
        count = sum(name.startswith(f"refs/{kind.value}/") for name in ours)
        if kind is RefKind.CHANGE and on_gerrit and not changes:
            left[kind] = count
        elif count:
            with stages.stage("push", f"{count} refs/{kind.value}"):
                pushed += replica.push(url, kind, *_options(kind, on_gerrit))
    return Restored(url=url, pushed=tuple(pushed), left=left, on_gerrit=on_gerrit)


def is_local(url: str) -> bool:
    """Whether git itself writes to the target, on this machine's disk; no server is asked."""
    return url.startswith("file://") or Path(url).is_dir()


def _options(kind: RefKind, on_gerrit: bool) -> tuple[str, ...]:
    """Half of a review is none: Gerrit gets all of them or nothing."""
    reviews = on_gerrit and kind is RefKind.CHANGE
    return ("--atomic", "--push-option=notedb=allow") if reviews else ()


def check_empty(
    replica: Replica, url: str, ours: Mapping[str, str], theirs: Mapping[str, str]
) -> None:
    """Raise UsageError where the target has a ref that the mirror's would not lead on from.

    What a fresh Gerrit project has (refs/meta/config, an initial commit without files) is nothing.
    """
    foreign = [
        name
        for name, sha in theirs.items()
        if name != CONFIG and not _is_part(replica, ours.get(name), sha)
    ]
    if len(foreign) == 1 and foreign[0].startswith("refs/heads/"):
        name = foreign[0]
        if replica.is_initial(url, name, theirs[name]):
            return
    if foreign:
        raise UsageError(
            f"{without_password(url)} is not empty: {_named(foreign)} would be lost.",
            advice="Name an empty repository, or one that holds a part of the mirror.",
        )


def _is_part(replica: Replica, ours: str | None, theirs: str) -> bool:
    if ours is None or ours == theirs:
        return ours == theirs
    return replica.has(theirs) and replica.has(ours) and replica.is_ancestor(theirs, ours)


def _named(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return ", ".join(known[:MOST_NAMED]) + more


def tell(restored: Restored) -> tuple[str, ...]:
    """The lines that say what was restored, what was not and why, and what is to do. Pure."""
    lines = []
    for kind in RefKind:
        of_kind = [one for one in restored.pushed if one.ref.startswith(f"refs/{kind.value}/")]
        if of_kind:
            taken = sum(one.taken for one in of_kind)
            lines.append(f"refs/{kind.value}: {taken} of {len(of_kind)} restored")
        lines += [f"  not restored: {_why(reason, of_kind)}" for reason in _reasons(of_kind)]
        if count := restored.left.get(kind):
            lines.append(f"refs/{kind.value}: 0 of {count} restored")
            lines.append(f"  not restored: --changes was not given. {NUMBERS}")
    return (*lines, *_next_steps(restored))


def _reasons(pushed: Iterable[Pushed]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.reason for one in pushed if not one.taken))


def _why(reason: str, pushed: Iterable[Pushed]) -> str:
    names = [one.ref for one in pushed if not one.taken and one.reason == reason]
    return f"{_named(names)} ({reason})"


def _next_steps(restored: Restored) -> tuple[str, ...]:
    numbers = [
        int(one.ref.split("/")[3])
        for one in restored.pushed
        if one.taken and one.ref.startswith("refs/changes/") and one.ref.split("/")[3].isdigit()
    ]
    if not (restored.on_gerrit and numbers):
        return ()
    return (
        "Gerrit lists the restored reviews after: gerrit index changes-in-project PROJECT",
        "Its next change has to have a number above theirs: "
        f"gerrit sequence set changes {max(numbers) + 1}",
    )
