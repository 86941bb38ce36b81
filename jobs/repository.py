"""The mirror of a project and what its commits hold.

A mirror is a bare repository that fetches what is new;
nothing is ever pushed from here, and merges are made as objects alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import git
from git.exc import GitCommandError

from jobs.addresses import without_password
from jobs.diff import DIFFED, LOGGED, RAW, RawChanges, TreeDiff, parse_diff, parse_log, parse_raw
from jobs.git_folder import HEADLESS, OPTIONS, GitFolder, reason_of
from venv_builder.errors import UsageError
from venv_builder.files import remove_anything

FETCHED = ("heads", "tags", "remotes/origin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit: shas, its message and the first line of it, committer date in UTC."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    subject: str
    committed_at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedTree:
    """The tree that a merge makes, and the paths where it conflicts."""

    tree: str
    conflicts: tuple[str, ...]


class Mirror(GitFolder):
    """A bare mirror at `path`, made on first use."""

    def fetch(self, url: str, revisions: Sequence[str] = ()) -> None:
        """Fetch what is new of `url`: branches, tags, HEAD, and the given extra refs.

        Of a clone its remote-tracking branches of `origin` come too. Raises
        InfrastructureError if the url cannot be reached or lacks an extra ref.
        """
        extra = [f"+{ref}:refs/covtrack/{ref}" for ref in revisions if ref.startswith("refs/")]
        refs = [*(f"+refs/{space}/*:{self.place_of(space)}*" for space in FETCHED), *extra]
        options = ("--quiet", "--force", "--prune", "--no-tags", "--no-auto-gc")
        command = ("fetch", *options, "--update-shallow", "--", url, *refs)
        advice = "Check the project's git setting and that it can be reached."
        with self._told(f"Cannot fetch {url}", advice):
            try:
                self._run(*command, "+HEAD:refs/covtrack/HEAD")
            except GitCommandError as error:
                if not HEADLESS.search(reason_of(error)):
                    raise
                self._run(*command)  # its HEAD names a branch that is still to come
                known = ("for-each-ref", "--count=1", "refs/heads/", self.place_of("heads"))
                if not self._run(*known):
                    raise

    def place_of(self, space: str) -> str:
        """Where refs of the url go, below refs/: heads, tags, remotes/origin."""
        return f"refs/{space}/"

    def default_branch(self, url: str) -> str:
        """The branch that the HEAD of `url` names; UsageError if it names none."""
        with self._told(f"Cannot reach {url}", "Check the project's git setting."):
            answer = self._run("ls-remote", "--symref", "--", url, "HEAD")
        first = answer.partition("\n")[0]
        if not first.startswith("ref: refs/heads/"):
            doing = f"{without_password(url)} names no default branch."
            raise UsageError(doing, advice="Set branch for it in covtrack.toml.")
        return first.removeprefix("ref: refs/heads/").partition("\t")[0]

    def branch_tip(self, branch: str) -> str | None:
        """The sha of a branch: of `origin` where the mirrored clone tracks one, else its own."""
        for name in (f"refs/remotes/origin/{branch}", f"refs/heads/{branch}"):
            if self.has(name):
                return self._run("rev-parse", "--verify", f"{name}^{{commit}}").strip()
        return None

    def has(self, revision: str) -> bool:
        """Whether the mirror holds that commit."""
        return self._sha(revision) is not None

    def _sha(self, revision: str) -> str | None:
        try:
            found = self._run("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        except GitCommandError:
            return None
        return found.strip()

    def resolve(self, revision: str) -> str:
        """The full sha of a branch, tag, ref or (abbreviated) sha; UsageError if unknown."""
        if revision == "HEAD":
            revision = "refs/covtrack/HEAD"
        for name in (revision, f"refs/covtrack/{revision}"):
            sha = None if name.startswith("-") else self._sha(name)
            if sha is not None:
                return sha
        raise UsageError(
            f"Revision {revision} is unknown in {self.path.parent.name}.",
            advice="Check its spelling; a ref of a change must be fetched by its full name, "
            "refs/changes/NN/CHANGE/PATCHSET.",
        )

    def commit(self, sha: str) -> Commit:
        """What the commit says of itself."""
        fields = self._run("show", "-s", "--format=%H%x00%T%x00%P%x00%ct%x00%s%x00%B", sha)
        full, tree, parents, seconds, subject, message = fields.rstrip("\n").split("\0", 5)
        return Commit(
            sha=full,
            tree=tree,
            parents=tuple(parents.split()),
            subject=subject,
            committed_at=datetime.fromtimestamp(int(seconds), UTC),
            message=message,
        )

    def first_parents(self, sha: str, count: int) -> tuple[str, ...]:
        """At most `count` commits of the first-parent history of `sha`, which comes first."""
        listed = self._run("rev-list", "--first-parent", f"--max-count={count}", sha)
        return tuple(listed.split())

    def between(self, old: str, new: str) -> tuple[str, ...]:
        """The first-parent commits after `old` up to `new`, oldest first."""
        return tuple(self._run("rev-list", "--first-parent", "--reverse", f"{old}..{new}").split())

    def branches(self) -> tuple[str, ...]:
        """Names of all branches of the mirror."""
        return tuple(self._run("for-each-ref", "--format=%(refname:short)", "refs/heads").split())

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `old` is `new` or one of its ancestors."""
        try:
            self._run("merge-base", "--is-ancestor", old, new)
        except GitCommandError as error:
            if error.status == 1:
                return False
            raise
        return True

    def nearest(self, sha: str, candidates: Sequence[str]) -> str | None:
        """The candidate commit that is `sha` or its nearest ancestor; None if there is none."""
        wanted = set(candidates)
        if not wanted:
            return None
        for line in self._run("rev-list", "--topo-order", sha).splitlines():
            if line in wanted:
                return line
        return None

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor, None for unrelated (or shallow) histories."""
        try:
            return self._run("merge-base", one, other).strip()
        except GitCommandError:
            return None

    def ahead(self, old: str, new: str) -> frozenset[str]:
        """All commits of the history of `new` that are not in that of `old`."""
        return frozenset(self._run("rev-list", f"{old}..{new}").split())

    def merge(self, one: str, other: str) -> MergedTree:
        """Merge two commits of related histories; needs git 2.38."""
        options = ("--write-tree", "--name-only", "--no-messages", "-z")
        command = ["git", *OPTIONS, "merge-tree", *options, one, other]
        with self._told(f"Cannot merge {other[:10]}", "covtrack needs git 2.38 to merge."):
            status, output, words = self._git.execute(
                command, with_extended_output=True, with_exceptions=False
            )
            if status not in (0, 1):
                raise GitCommandError(command, status, words)
        tree, *paths = output.rstrip("\0").split("\0")
        return MergedTree(tree=tree, conflicts=tuple(paths) if status else ())

    def merges(self, pairs: Sequence[tuple[str, str]]) -> tuple[MergedTree, ...]:
        """Merge the commits of each pair, all in one process; needs git 2.39."""
        options = ("--stdin", "--write-tree", "--name-only", "--no-messages", "-z")
        with self._told("Cannot merge", "covtrack needs git 2.39 to merge many changes."):
            output = self._ask(pairs, "merge-tree", *options).decode("utf-8", "surrogateescape")
        fields = iter(output.split("\0"))
        return tuple(
            MergedTree(tree=next(fields), conflicts=tuple(iter(fields.__next__, "")))
            for _ in takewhile(bool, fields)
        )

    def commit_merge(self, tree: str, one: str, other: str) -> str:
        """The sha of a merge commit of that tree; the same for the same arguments."""
        who = {"NAME": "covtrack", "EMAIL": "covtrack@localhost", "DATE": "@0 +0000"}
        names = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
        with self._git.custom_environment(**names):
            message = f"Merge {other} prospectively"
            return self._run("commit-tree", tree, "-p", one, "-p", other, "-m", message).strip()

    @contextmanager
    def kept(self, sha: str) -> Iterator[None]:
        """Keep a commit that no ref of the url leads to while the block runs; one at a time."""
        ref = "refs/covtrack/prospect/merge"
        self._run("update-ref", ref, sha)
        try:
            yield
        finally:
            self._run("update-ref", "-d", ref)

    def diff(self, old: str, new: str, paths: Collection[str] = ()) -> TreeDiff:
        """What changed from commit `old` to commit `new` (in the paths), renames followed."""
        command = ("--literal-pathspecs", "diff", *DIFFED, old, new, "--", *paths)
        with self._told(f"Cannot compare {old[:10]} and {new[:10]}"):
            return parse_diff(self._run_bytes(*command))

    def raw_changes(
        self, pairs: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], RawChanges]:
        """What differs between the commits of each pair, by path; renames are not followed."""
        swapped = [(new, old) for old, new in pairs]
        with self._told("Cannot compare commits"):
            output = self._ask(swapped, "diff-tree", "--stdin", *RAW)
        return dict(zip(pairs, parse_raw(output, len(pairs)), strict=True))

    def diffs_since(self, sha: str, since: datetime) -> tuple[TreeDiff, ...]:
        """What each commit of the first-parent history changed, `sha` first, back to a moment.

        Of Python files alone. A merge is one commit: all that it brought.
        """
        history = ("--first-parent", "-m", f"--since={since.isoformat()}", *LOGGED)
        with self._told(f"Cannot read the history of {sha[:10]}"):
            return parse_log(self._run_bytes("log", *history, sha, "--", "*.py"))

    def changed_names(self, old: str, new: str) -> tuple[str, ...]:
        """Paths from `git diff --name-only`: the original method's question."""
        output = self._run("diff", "--name-only", "-z", "--no-renames", old, new, "--")
        return tuple(path for path in output.split("\0") if path)

    def blobs(self, sha: str) -> Mapping[str, str]:
        """Every file of the commit, path to blob sha; links and submodules are left out."""
        found: dict[str, str] = {}
        for entry in self._run("ls-tree", "-r", "-z", "--full-tree", sha).split("\0"):
            if entry.startswith("100"):
                meta, _, path = entry.partition("\t")
                found[path] = meta.split(" ")[2]
        return found

    def read(self, sha: str, path: str) -> str | None:
        """The text of a file at a commit (undecodable bytes replaced); None if absent."""
        try:
            return self._run_bytes("show", f"{sha}:{path}").decode("utf-8", "replace")
        except GitCommandError:
            return None

    def describe(self, sha: str) -> str | None:
        """The nearest tag that looks like a version, None without one."""
        try:
            return self._run("describe", "--tags", "--abbrev=0", "--match=[0-9]*", sha).strip()
        except GitCommandError:
            return None

    def lay_out(self, sha: str, folder: Path, index: Path) -> None:
        """Make `folder` hold exactly the commit's files; unchanged files are not rewritten.

        The folder has no .git: the index lies outside it, where measured code cannot write.
        Compiled bytecode is left alone.
        """
        environment = {
            "GIT_WORK_TREE": str(folder),
            "GIT_INDEX_FILE": str(index),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C",
        }
        folder.mkdir(parents=True, exist_ok=True)
        steps = (
            ("read-tree", "--reset", "-u", sha),
            ("checkout-index", "--all", "--force", "--quiet", "--index"),
            ("clean", "-ffdxq", "-e", "*.pyc", "-e", "!*.pyc/"),
        )
        with self._told(f"Cannot check out {sha[:10]} in {folder}", "Check the disk's free room."):
            index.with_name(index.name + ".lock").unlink(missing_ok=True)
            # Measured code may leave one: `git clean` would spare it, and tools obey it.
            remove_anything(folder / ".git")
            try:
                self._lay_out(folder, steps, environment)
            except GitCommandError:  # a damaged index is worth nothing: all is laid out anew
                index.unlink(missing_ok=True)
                self._lay_out(folder, steps, environment)

    def _lay_out(
        self, folder: Path, steps: Iterable[Sequence[str]], environment: Mapping[str, str]
    ) -> None:
        for step in steps:
            command = ["git", f"--git-dir={self.path}", *OPTIONS, *step]
            git.Git(folder).execute(command, env={**os.environ, **environment})
