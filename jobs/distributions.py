"""Which top-level modules the distributions of an environment answer to."""

from __future__ import annotations

from collections.abc import Iterator, Set
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def import_names(changed: Set[str], environment: Path) -> dict[str, str]:
    """Top-level modules to the distribution: of the changed ones and all that require one."""
    folders = [str(path) for path in environment.rglob("site-packages")]
    installed = {canonicalize_name(d.metadata["Name"]): d for d in distributions(path=folders)}
    wanted = {canonicalize_name(name) for name in changed}
    grown = True
    while grown:
        more = {name for name, d in installed.items() if not wanted.isdisjoint(_requires(d))}
        grown = not more <= wanted
        wanted |= more
    tops = {name.replace("-", "_"): str(name) for name in wanted}
    for name in wanted & set(installed):
        tops |= {top: str(name) for top in _tops(installed[name])}
    return tops


def _requires(distribution: Distribution) -> Iterator[str]:
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        # What an extra asks for, the distribution itself does without.
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _tops(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        first = file.parts[0]
        if first.endswith(".py") or (len(file.parts) > 1 and "." not in first):
            yield first.removesuffix(".py")
