"""The stretches of real history that are measured, and the commits that are added to them.

Revisions name commits of the projects' own repositories. A rename and an unmerged sibling are
made in a scratch clone, since no stretch holds every kind of change.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from real_projects import git

FUNCTION = """def added_by_sibling(flag):
    if flag:
        return "covered"
    return "never"


"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A module and its test module get new names; `module` is dotted, `test` a path."""

    module: str
    new: str
    test: str
    new_test: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """A function goes in front of all others of a module, and a new test file calls it."""

    module: str
    test: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One project's stretch: a base, then (kind, revision) steps; `tests` is their folder."""

    project: str
    label: str
    base: str
    tests: str
    steps: tuple[tuple[str, str], ...]
    rename: Rename | None = None
    sibling: Sibling | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


_ALL = (
    History(
        project="oslo.utils",
        label="oslo.utils",
        base="2feda9d",
        tests="oslo_utils/tests/",
        steps=(
            ("with a test file", "0b747aa"),
            ("with a test file", "a493f24"),
            ("new files, with tests", "225ccc5"),
            ("tests alone", "cf0131b"),
            ("source alone", "2f4896d"),
            ("source alone", "18818f5"),
            ("with a test file", "09bd3aa"),
        ),
        rename=Rename(
            module="oslo_utils.dictutils",
            new="mappingutils",
            test="oslo_utils/tests/test_dictutils.py",
            new_test="oslo_utils/tests/test_mappingutils.py",
        ),
        sibling=Sibling(
            module="oslo_utils/strutils.py", test="oslo_utils/tests/test_added_by_sibling.py"
        ),
    ),
    History(
        project="oslo.utils",
        label="oslo.utils-2024",
        base="fa53de1^",
        tests="oslo_utils/tests/",
        steps=(("rename (real)", "fa53de1"),),
    ),
    History(
        project="python-novaclient",
        label="python-novaclient",
        base="b61635b7",
        tests="novaclient/tests/unit/",
        steps=(
            ("with a test file", "42ded0ad"),
            ("source alone", "4c3216df"),
            ("with test files", "ad0063a2"),
            ("tests alone", "f587cfa8"),
            ("with a test file", "95113c57"),
        ),
        rename=Rename(
            module="novaclient.v2.server_groups",
            new="groups_of_servers",
            test="novaclient/tests/unit/v2/test_server_groups.py",
            new_test="novaclient/tests/unit/v2/test_groups_of_servers.py",
        ),
        sibling=Sibling(
            module="novaclient/utils.py", test="novaclient/tests/unit/test_added_by_sibling.py"
        ),
    ),
    History(
        project="placement",
        label="placement",
        base="2aaa8866^",
        tests="placement/tests/unit/",
        steps=(
            ("rename (real)", "2aaa8866"),
            ("source alone", "93674ecf"),
            ("with a test file", "f20e13f0"),
            ("with a test file", "476a14dc"),
            ("source alone", "4e09ef36"),
            ("with a test file", "97b346d6"),
            ("source alone", "7ad9ef07"),
        ),
        rename=Rename(
            module="placement.requestlog",
            new="log_of_requests",
            test="placement/tests/unit/test_requestlog.py",
            new_test="placement/tests/unit/test_log_of_requests.py",
        ),
        sibling=Sibling(
            module="placement/util.py", test="placement/tests/unit/test_added_by_sibling.py"
        ),
        variables={
            "LANGUAGE": "en_US",
            "LC_ALL": "en_US.utf-8",
            "OS_STDOUT_CAPTURE": "1",
            "OS_STDERR_CAPTURE": "1",
            "OS_LOG_CAPTURE": "1",
            "OS_TEST_TIMEOUT": "160",
        },
    ),
)
HISTORIES = {history.label: history for history in _ALL}


def module_of(path: str) -> str:
    """The dotted name of a file."""
    return path.removesuffix(".py").replace("/", ".")


def make_rename(clone: Path, parent: str, rename: Rename) -> str:
    """A commit on `parent` that renames a module and its tests and mends who imports it."""
    git(clone, "checkout", "--quiet", "--detach", parent)
    package, _, old = rename.module.rpartition(".")
    folder = package.replace(".", "/")
    git(clone, "mv", f"{folder}/{old}.py", f"{folder}/{rename.new}.py")
    git(clone, "mv", rename.test, rename.new_test)
    from_import = re.compile(rf"(?m)^(\s*from {re.escape(package)} import ){old}( as \w+)?$")
    for path in git(clone, "ls-files", "*.py").splitlines():
        file = clone / path
        text = file.read_text()
        new = re.sub(rf"\b{re.escape(rename.module)}\b", f"{package}.{rename.new}", text)
        new = from_import.sub(
            lambda match: f"{match[1]}{rename.new}{match[2] or f' as {old}'}", new
        )
        if new != text:
            file.write_text(new)
    return _commit(clone, f"Rename {rename.module}", "rename")


def make_sibling(clone: Path, parent: str, sibling: Sibling) -> str:
    """An unmerged commit on `parent` that shifts a module's lines and tests what it added."""
    git(clone, "checkout", "--quiet", "--detach", parent)
    file = clone / sibling.module
    lines = file.read_text().splitlines(keepends=True)
    first = next(
        min(node.lineno, *(one.lineno for one in node.decorator_list), node.lineno)
        for node in ast.parse("".join(lines)).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    )
    while lines[first - 2].startswith("#"):  # a comment belongs to what follows
        first -= 1
    file.write_text("".join([*lines[: first - 1], FUNCTION, *lines[first - 1 :]]))
    (clone / sibling.test).write_text(
        "import unittest\n\n"
        f"from {module_of(sibling.module).rpartition('.')[0]} import {file.stem}\n\n\n"
        "class AddedTest(unittest.TestCase):\n"
        "    def test_added(self):\n"
        f'        self.assertEqual("covered", {file.stem}.added_by_sibling(True))\n'
    )
    return _commit(clone, f"Add a function to {sibling.module}", "sibling")


def touch_tests(clone: Path, tree: str, parent: str, tests: Sequence[str]) -> str:
    """A commit on `parent` with the files of `tree`, its `tests` each with one comment more."""
    git(clone, "checkout", "--quiet", "--force", "--detach", tree)
    for path in tests:
        with (clone / path).open("a") as file:
            file.write(f"# Reached by {tree}.\n")
    git(clone, "add", "--all")
    written = git(clone, "write-tree")
    git(clone, "reset", "--quiet", "--hard")
    return git(clone, "commit-tree", written, "-p", parent, "-m", f"Touch tests for {tree[:8]}")


def _commit(clone: Path, subject: str, branch: str) -> str:
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--no-verify", "-m", subject)
    git(clone, "branch", "--force", branch, "HEAD")
    return git(clone, "rev-parse", "HEAD")
