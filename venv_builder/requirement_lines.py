"""Pure reading of pip's requirement lines: what one line says, normalised by `packaging`.

Opens no file; `requirement_files` follows the lines that name one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from venv_builder.errors import BuildError


class Says(StrEnum):
    """What a requirement line is about."""

    NOTHING = "nothing"
    REQUIREMENT = "requirement"
    FILE = "file"
    CONSTRAINTS = "constraints"
    LOCAL = "local"
    OPTION = "option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: what it says, its text (name of the file, requirement, path), chosen extras."""

    says: Says
    text: str = ""
    extras: tuple[str, ...] = ()


_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(
    r"(-r|-c|-e|--requirement|--constraint|--editable)(?:\s*=\s*|\s+|(?<=-\w))(.+)"
)
_HASH = re.compile(r"\s--hash[=\s]\S+")
_EXTRAS = re.compile(r"(?P<path>.*?)\[(?P<extras>[^\]]*)\]\Z")
_EGG = re.compile(r"[#&]egg=(?P<egg>[^&]+)")
_OLD_MARKER = re.compile(r":\s*(\(?\s*(?:python_version|sys_platform|platform_\w+)\b.*)\Z")
_WILDCARD = re.compile(r"(>=|<=|>|<|~=)(\s*[\w.]+?)\.\*")
_VCS = ("git+", "hg+", "bzr+", "svn+")


def read_line(line: str) -> Line:
    """What `line` says; comments, hashes and continuation marks are taken off.

    Raises BuildError for a line that is no requirement.
    """
    text = _HASH.sub("", _COMMENT.sub("", line)).strip().rstrip("\\").strip()
    if not text:
        return Line(says=Says.NOTHING)
    if option := _OPTION.match(text):
        return _read_option(option[1], option[2].strip().strip("\"'"))
    if text.startswith("-"):
        return Line(says=Says.OPTION, text=text)
    if text.startswith((".", "/", "file:", "~")):
        return _read_local(text)
    if text.startswith((*_VCS, "http://", "https://")):
        return Line(says=Says.REQUIREMENT, text=_name_url(text))
    return Line(says=Says.REQUIREMENT, text=normalise(text))


def normalise(text: str) -> str:
    """The requirement in one spelling: canonical name, sorted specifiers, marker kept.

    >>> normalise("PyYAML >= 3.13,!=5.0")
    'pyyaml!=5.0,>=3.13'
    """
    text = _WILDCARD.sub(r"\1\2", _OLD_MARKER.sub(r"; \1", text))
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise BuildError(
            f"{text!r} is not a requirement that packaging can read.",
            advice="Correct the line where the project declares it.",
        ) from error
    requirement.name = canonicalize_name(requirement.name)
    requirement.extras = {canonicalize_name(extra) for extra in requirement.extras}
    return str(requirement)


def name_of(requirement: str) -> str:
    """The canonical distribution name of a normalised line; the line itself for a bare URL."""
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return requirement


def in_order(lines: Iterable[str]) -> tuple[str, ...]:
    """Sorted and without doubles: the form that keys are made of."""
    return tuple(sorted(set(lines)))


def join_continued(text: str) -> list[str]:
    """The file's lines, with those that end in a backslash joined to the next."""
    return text.replace("\r\n", "\n").replace("\\\n", " ").splitlines()


def _read_option(option: str, value: str) -> Line:
    if option in ("-r", "--requirement"):
        return Line(says=Says.FILE, text=value)
    if option in ("-c", "--constraint"):
        return Line(says=Says.CONSTRAINTS, text=value)
    if value.startswith(_VCS):
        return Line(says=Says.REQUIREMENT, text=_name_url(value))
    return _read_local(value)


def _read_local(text: str) -> Line:
    text = text.partition(";")[0].strip().removeprefix("file://")
    if match := _EXTRAS.match(text):
        extras = [canonicalize_name(part.strip()) for part in match["extras"].split(",") if part]
        return Line(says=Says.LOCAL, text=match["path"], extras=in_order(extras))
    return Line(says=Says.LOCAL, text=text)


def _name_url(text: str) -> str:
    egg = _EGG.search(text)
    return f"{egg['egg']} @ {_EGG.sub('', text)}" if egg else text
