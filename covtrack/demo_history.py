"""Makes the demo's git history: two releases of a real library, two merges, three open changes.

The only writer of commits in the project; what it writes is the demo's own.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha1
from pathlib import Path

import git
from uv import find_uv_bin

from venv_builder.errors import InfrastructureError
from venv_builder.processes import run_command
from venv_builder.progress import Advanced, Listener, Stages

LIBRARY = "python-novaclient"
PACKAGE = "novaclient"
RELEASES = ("18.12.0", "18.13.0")
AUTHOR = git.Actor("covtrack demo", "demo@localhost")

COVERING_TEST = """\
import types
import unittest

from novaclient import base
from novaclient import extension


class ExtensionTest(unittest.TestCase):

    def test_finds_hooks_and_manager(self):
        module = types.ModuleType("sample")
        module.Manager = type("Manager", (base.Manager,), {})
        module.__pre_parse_args__ = lambda: None
        found = extension.Extension("sample", module)
        self.assertIs(module.Manager, found.manager_class)
        self.assertEqual("<Extension 'sample'>", repr(found))
"""
UNTESTED_FUNCTION = '''

def mask_password(text, password):
    """Return text with every occurrence of password replaced."""
    if not password:
        return text
    return text.replace(password, '***')
'''
# Changes of functions' bodies that touch no test file, as they stand in the release.
OLD_GROUP = 'group = "%s=%s" % (network, addresses_csv)'
NEW_GROUP = 'group = f"{network}={addresses_csv}"'
OLD_CHOICES = """return ', '.join("'%s'" % x for x in values)"""
NEW_CHOICES = """return ', '.join(f"'{x}'" for x in values)"""
OLD_HEADER = "def pretty_choice_list(values):"
NEW_HEADER = (
    OLD_HEADER
    + '''
    """Returns the values in quotes, between commas."""'''
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A commit of the demo, the branch that it stands on, a few words on what it changes."""

    commit: str
    title: str
    branch: str = "master"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The demo's repository: releases and merged changes on master, oldest first, then siblings.

    The siblings are three unmerged changes of master's tip.
    """

    path: Path
    releases: tuple[Step, ...]
    merges: tuple[Step, ...]
    siblings: tuple[Step, ...]


def make_history(folder: Path, listener: Listener) -> History:
    """Fetch the releases' source archives and commit them one after another.

    Raises InfrastructureError if the package registry cannot be reached.
    """
    stages = Stages(listener)
    with stages.stage("download", f"{len(RELEASES)} releases of {LIBRARY}"):
        archives = [
            _download(folder / "archives", version, number, listener)
            for number, version in enumerate(RELEASES)
        ]
    path = folder / "history" / LIBRARY
    shutil.rmtree(path, ignore_errors=True)
    repo = git.Repo.init(path, mkdir=True, initial_branch="master")
    releases = tuple(
        _commit_release(repo, archive, version)
        for archive, version in zip(archives, RELEASES, strict=True)
    )
    merges = (
        _commit_edit(repo, "Join choices anew", OLD_CHOICES, NEW_CHOICES),
        _commit_edit(repo, "Describe pretty_choice_list", OLD_HEADER, NEW_HEADER),
    )
    siblings = (
        _commit_sibling(repo, "cover-extension", "Test the extension loader", _add_test),
        _commit_sibling(repo, "mask-password", "Add mask_password, untested", _add_function),
        _commit_sibling(repo, "format-networks", "Format networks anew", _format_networks),
    )
    repo.git.checkout("--quiet", "master")
    return History(path=path, releases=releases, merges=merges, siblings=siblings)


def push_to(history: History, url: str, commit: str, ref: str) -> None:
    """Push a commit of the history; InfrastructureError with what the other side said."""
    try:
        git.Repo(history.path).git.push("--quiet", "--", url, f"{commit}:{ref}")
    except git.GitCommandError as error:
        words = " ".join(str(error.stderr).split())[-400:]
        raise InfrastructureError(f"The demo's push to {ref} was refused: {words}.") from error


def _download(folder: Path, version: str, number: int, listener: Listener) -> Path:
    found = _find_archive(folder, version)
    if found is None:
        # uv has no command that fetches a source archive as it is, but it can run pip.
        pip = [find_uv_bin(), "tool", "run", "--quiet", "pip", "download", "--quiet"]
        options = ["--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
        done = run_command([*pip, *options, f"{LIBRARY}=={version}"], timeout=300)
        found = _find_archive(folder, version)
        if found is None:
            raise InfrastructureError(
                f"{LIBRARY} {version} could not be downloaded: {done.last_words}.",
                advice="Check that uv and pip reach their package index, then run the demo again.",
            )
    listener(Advanced(stage="download", done=number + 1, total=len(RELEASES)))
    return found


def _find_archive(folder: Path, version: str) -> Path | None:
    names = (f"{LIBRARY}-{version}.tar.gz", f"{LIBRARY.replace('-', '_')}-{version}.tar.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _commit_release(repo: git.Repo, archive: Path, version: str) -> Step:
    root = Path(repo.working_dir)
    for child in root.iterdir():
        if child.name != ".git":
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name:
                tar.extract(member, root, filter="data")
    return _commit(repo, f"Release {version}")


def _commit(repo: git.Repo, title: str, footer: str = "") -> Step:
    repo.git.add("--all", "--force")
    message = f"{title}\n\n{footer}".strip()
    commit = repo.index.commit(message, author=AUTHOR, committer=AUTHOR)
    return Step(commit=commit.hexsha, title=title)


def _commit_edit(repo: git.Repo, title: str, old: str, new: str) -> Step:
    _replace(Path(repo.working_dir), old, new)
    return _commit(repo, title)


def _commit_sibling(repo: git.Repo, branch: str, title: str, edit: Callable[[Path], None]) -> Step:
    repo.git.checkout("--quiet", "-b", branch, "master")
    edit(Path(repo.working_dir))
    change_id = sha1(f"{branch} {title}".encode(), usedforsecurity=False).hexdigest()
    return replace(_commit(repo, title, f"Change-Id: I{change_id}"), branch=branch)


def _add_test(root: Path) -> None:
    (root / PACKAGE / "tests" / "unit" / "test_extension.py").write_text(COVERING_TEST)


def _add_function(root: Path) -> None:
    with (root / PACKAGE / "utils.py").open("a") as file:
        file.write(UNTESTED_FUNCTION)


def _format_networks(root: Path) -> None:
    _replace(root, OLD_GROUP, NEW_GROUP)


def _replace(root: Path, old: str, new: str) -> None:
    path = root / PACKAGE / "utils.py"
    text = path.read_text()
    if old not in text:
        raise InfrastructureError(f"{LIBRARY} {RELEASES[-1]} is not as the demo knows it.")
    path.write_text(text.replace(old, new))
