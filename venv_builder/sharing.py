"""Which projects share one environment: all whose requirements resolve together.

The union is tried first; where it does not resolve, projects join one by one in the order of
their names as long as the union still does. The outcome is remembered by the key of the inputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from venv_builder.errors import BuildError
from venv_builder.files import write_whole
from venv_builder.interpreters import Interpreter
from venv_builder.keys import group_key
from venv_builder.resolution import ConflictError, Lock, Resolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one project's tests need: its name, normalised requirement and constraint lines."""

    project: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Projects that share the environment of `lock`; `left_out` do not fit with them."""

    projects: tuple[str, ...]
    left_out: tuple[str, ...]
    lock: Lock


def agree(
    need: Need,
    beside: Sequence[Need],
    *,
    interpreter: Interpreter,
    resolver: Resolver,
    folder: Path,
) -> Group:
    """The largest group found with `need` in it; its lock comes from the resolver's store.

    Raises BuildError if `need` alone does not resolve.
    """
    others = sorted(
        {one.project: one for one in beside if one.project != need.project}.values(),
        key=lambda one: one.project,
    )
    memo = folder / f"{_key(need, others, interpreter, resolver)}.json"
    remembered = _recall(memo)
    if remembered is not None:
        members = [one for one in others if one.project in remembered]
        lock = resolve_union([need, *members], interpreter, resolver)
        return _group(need, members, others, lock)
    group, certain = _try_all(need, others, interpreter, resolver)
    if certain:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(memo, json.dumps(sorted(group.projects)))
    return group


def resolve_union(needs: Sequence[Need], interpreter: Interpreter, resolver: Resolver) -> Lock:
    """The lock of all lines of all needs together."""
    requirements = [line for need in needs for line in need.requirements]
    constraints = [line for need in needs for line in need.constraints]
    return resolver.resolve(requirements, constraints, interpreter)


def describe_group(group: Group) -> tuple[str, ...]:
    """What the user should know of the group: the lock's notes, who does not fit with whom."""
    if not group.left_out:
        return group.lock.notes
    inside, outside = ", ".join(group.projects), ", ".join(group.left_out)
    sentence = f"The requirements of {outside} do not fit with those of {inside}."
    return (*group.lock.notes, sentence)


def find_users(
    distribution: str, needs: Sequence[Need], interpreter: Interpreter, resolver: Resolver
) -> set[str]:
    """The projects whose own lock has the distribution (canonical name)."""
    users = set()
    for need in needs:
        lines = resolve_union([need], interpreter, resolver).lines
        if any(line.startswith(f"{distribution}==") for line in lines):
            users.add(need.project)
    return users


def _try_all(
    need: Need, others: Sequence[Need], interpreter: Interpreter, resolver: Resolver
) -> tuple[Group, bool]:
    """The group, and whether each refusal was a conflict (and not, say, a dead network)."""
    try:
        lock = resolve_union([need, *others], interpreter, resolver)
        return _group(need, others, others, lock), True
    except BuildError as error:
        if not others:
            raise
        certain = isinstance(error, ConflictError)
    lock = resolve_union([need], interpreter, resolver)
    members: list[Need] = []
    for other in others:
        try:
            lock = resolve_union([need, *members, other], interpreter, resolver)
            members.append(other)
        except BuildError as error:
            certain = certain and isinstance(error, ConflictError)
    return _group(need, members, others, lock), certain


def _group(need: Need, members: Sequence[Need], others: Sequence[Need], lock: Lock) -> Group:
    inside = {need.project, *(one.project for one in members)}
    return Group(
        projects=tuple(sorted(inside)),
        left_out=tuple(one.project for one in others if one.project not in inside),
        lock=lock,
    )


def _key(need: Need, others: Sequence[Need], interpreter: Interpreter, resolver: Resolver) -> str:
    members = {
        one.project: resolver.key(one.requirements, one.constraints, interpreter)
        for one in (need, *others)
    }
    return group_key(need.project, members)


def _recall(memo: Path) -> set[str] | None:
    try:
        return set(json.loads(memo.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
