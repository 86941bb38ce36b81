"""A mirror as a whole: what the jobs fetch and, beside it, all that would be lost with its server.

Reviews (refs/changes/*), notes and refs/meta/* lie under their own names, where no job looks;
what a job fetches of them goes elsewhere, so that neither waits for the other. What the server
removed or replaced is never removed here with it: that is what a mirror is kept for. Branches and
tags are fetched aside and then taken over, so that no fetch that was cut loses any.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from filelock import FileLock
from git.exc import GitCommandError

from jobs.addresses import without_password
from jobs.git_folder import OPTIONS
from jobs.repository import Commit, Mirror
from venv_builder.errors import InfrastructureError

LOST = "refs/covtrack/lost/"
ASIDE = "refs/covtrack/fetched/"
MOVING = ("refs/heads/", "refs/tags/")
SYNCED = "covtrack-synced.json"
MOST_PACKS = 40
# What a killed git left: none holds a lock so long, and none fetches so long (FETCH_SECONDS).
LOCK_SECONDS, PACK_SECONDS = 600.0, 7200.0
NOT_THOSE = "not those that were mirrored"
KEPT_ADVICE = "What was mirrored is kept: covtrack mirror restore brings it back; else delete"
# A server that for 60 s sends less than a byte a second is away.
PATIENCE = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": "60"}
SSH = "ssh -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
FETCHING = "covtrack-fetch.lock"
REJECTED = re.compile(r"! \[rejected\] +(\S+)")
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


class RefKind(StrEnum):
    """What a ref holds; the value is its namespace below refs/."""

    BRANCH = "heads"
    TAG = "tags"
    CHANGE = "changes"
    NOTES = "notes"
    META = "meta"


KEPT = tuple(f"refs/{kind.value}/" for kind in RefKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """One ref of a push; `reason` is why it was refused, in git's or the server's words."""

    ref: str
    taken: bool
    reason: str = ""


class Replica(Mirror):
    """A mirror that also holds reviews, notes and refs/meta, and can be pushed back.

    `environment` goes to git, such as credentials that no command line may show.
    """

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(path)
        self._git.update_environment(**PATIENCE, **(environment or {}))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one that moves branches and tags while the block runs."""
        with FileLock(self.path / FETCHING):
            self._clean()
            yield

    def fetch(self, url: str, revisions: Sequence[str] = ()) -> None:
        """As a mirror does; what a replaced server would sweep away is kept aside."""
        with self.alone(), self._speaking_ssh():
            super().fetch(url, revisions)
            self._take_over(url)

    def place_of(self, space: str) -> str:
        """Branches and tags go aside first."""
        return f"{ASIDE}{space}/"

    def sync(self, url: str, changes: Iterable[int] | None = None) -> None:
        """Fetch all that `url` shows: branches, tags, notes, refs/meta and reviews.

        With `changes` (their numbers) the reviews of these alone, which costs no listing of all.
        Raises InfrastructureError if the url cannot be reached, or its branches begin anew.
        """
        with self.alone(), self._speaking_ssh():
            refs = [f"+refs/{space}/*:{self.place_of(space)}*" for space in ("heads", "tags")]
            self._fetch_refs(url, refs, "--force", "--prune")
            self._take_over(url)
        if self.lost():
            raise self._replaced(f"The branches of {without_password(url)} are")
        with self._speaking_ssh():
            if changes is None:
                self._fetch_kept(url, ("refs/changes/*", "refs/notes/*", "refs/meta/*"))
                self._tidy()
                text = json.dumps({"at": datetime.now(UTC).isoformat()})
                (self.path / SYNCED).write_text(text)
            elif named := [f"refs/changes/{number % 100:02}/{number}/*" for number in changes]:
                self._fetch_kept(url, named)

    def synced_at(self) -> datetime | None:
        """When everything was last fetched; None where it never was."""
        return read_synced(self.path)

    def refs(self) -> Mapping[str, str]:
        """All that a push back would bring, name to sha; what is set aside as it was before."""
        found = self._refs(*KEPT)
        if lost := self.lost():
            found = {name: sha for name, sha in found.items() if not name.startswith(MOVING)}
            found.update(lost)
        return found

    def lost(self) -> Mapping[str, str]:
        """Branches and tags as they were before the server's were replaced; mostly none."""
        found = self._refs(LOST).items()
        return {f"refs/{name.removeprefix(LOST)}": sha for name, sha in found}

    def refs_of(self, url: str) -> Mapping[str, str]:
        """The refs of the url of the kinds that a mirror keeps, name to sha."""
        with self._told(f"Cannot reach {url}", "Check the address and that it can be reached."):
            answer = self._run("ls-remote", "--refs", "--", url)
        pairs = (line.partition("\t")[::2] for line in answer.splitlines())
        return {name: sha for sha, name in pairs if name.startswith(KEPT)}

    def newest(self) -> Commit | None:
        """The newest commit of all branches."""
        option = ("--sort=-committerdate", "--count=1", "--format=%(objectname)")
        found = self._run("for-each-ref", *option, "refs/heads").strip()
        return self.commit(found) if found else None

    def size(self) -> int:
        """Bytes on disk."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with suppress(FileNotFoundError):
                    total += (Path(folder) / name).lstat().st_size
        return total

    def is_initial(self, url: str, ref: str, sha: str) -> bool:
        """Whether a ref of the url is a commit without parents and without files."""
        with self._told(f"Cannot fetch {ref} of {url}"):
            options = ("--quiet", "--no-tags", "--no-auto-gc", "--no-write-fetch-head")
            self._run("fetch", *options, "--", url, ref)
        if not self.has(sha):
            return False
        commit = self.commit(sha)
        return not commit.parents and commit.tree == EMPTY_TREE

    def push(self, url: str, kind: RefKind, *options: str) -> tuple[Pushed, ...]:
        """Push all refs of a kind under their own names; what became of each.

        Raises InfrastructureError where the url cannot be reached.
        """
        space = f"refs/{kind.value}/*"
        source = space
        if kind in (RefKind.BRANCH, RefKind.TAG) and self.lost():
            source = f"{LOST}{kind.value}/*"
        command = ["git", *OPTIONS, "push", "--porcelain", "--no-verify", "--force"]
        with self._git.custom_environment(GIT_TERMINAL_PROMPT="0", LC_ALL="C"):
            status, output, words = self._git.execute(
                [*command, *options, "--", url, f"{source}:{space}"],
                with_extended_output=True,
                with_exceptions=False,
            )
        found = tuple(parse_push(output))
        if status and all(one.taken for one in found):
            reason = next((x for x in words.splitlines() if x.startswith("fatal:")), words)
            raise InfrastructureError(
                f"Cannot push to {without_password(url)}: {' '.join(reason.split())}.",
                advice="Check the address and the permission to push.",
            )
        return found

    def _fetch_kept(self, url: str, spaces: Iterable[str]) -> None:
        """Fetch what is only added to; what was replaced is not taken, and told.

        Gerrit itself rewrites the record of a change where somebody deletes a comment.
        """
        records = "+refs/changes/*/meta:refs/changes/*/meta"
        self._fetch_refs(url, (records, *(f"{space}:{space}" for space in spaces)))

    def _fetch_refs(self, url: str, refs: Iterable[str], *options: str) -> None:
        always = ("--no-tags", "--no-auto-gc", "--no-write-fetch-head")
        # Thousands of reviews need not be told to the server to say what is here.
        tips = ("--negotiation-tip=refs/heads/*",) if self.branches() else ()
        with self._told(f"Cannot fetch {url}", "Check the address and that it can be reached."):
            try:
                self._run("fetch", *always, *options, *tips, "--", url, *refs)
            except GitCommandError as error:
                if not (refused := REJECTED.findall(str(error.stderr))):
                    raise
                named = ", ".join(refused[:3]) + (", ..." if len(refused) > 3 else "")
                raise self._replaced(f"{named} of {without_password(url)} are") from error

    def _replaced(self, what: str) -> InfrastructureError:
        return InfrastructureError(f"{what} {NOT_THOSE}.", advice=f"{KEPT_ADVICE} {self.path}.")

    def _refs(self, *spaces: str) -> dict[str, str]:
        with self._told(f"Cannot read the mirror {self.path}"):
            listed = self._run("for-each-ref", "--format=%(objectname) %(refname)", *spaces)
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name: sha for sha, name in pairs}

    def _take_over(self, url: str) -> None:
        """Make branches and tags those that were fetched aside.

        Where no branch goes on from one that was here, those are set aside, and taken back once
        they are found again. Raises InfrastructureError where the url shows no branch at all.
        """
        found = {f"refs/{k.removeprefix(ASIDE)}": v for k, v in self._refs(ASIDE).items()}
        here, lost = self._refs(*MOVING, "refs/remotes/origin/"), self.lost()
        if branches_of(here) and not branches_of(found):
            raise self._replaced(f"{without_password(url)} shows no branch: its branches are")
        if not lost and self._is_replaced(here, found):
            aside = {k: v for k, v in here.items() if k.startswith(MOVING)}
            gone = [f"create {LOST}{k.removeprefix('refs/')} {v}" for k, v in aside.items()]
        elif lost and not self._is_replaced(lost, found):
            gone = [f"delete {LOST}{name.removeprefix('refs/')}" for name in lost]
        else:
            gone = []
        gone += [f"delete {name}" for name in here.keys() - found.keys()]
        new = [f"update {k} {v}" for k, v in found.items() if here.get(k) != v]
        for lines in filter(None, (gone, new)):  # a branch a/b may come where a was
            with self._told(f"Cannot write the refs of {self.path}"):
                self._feed("\n".join(lines) + "\n", "update-ref", "--stdin")

    def _is_replaced(self, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
        """Whether no branch goes on from where one was: they have no first commit in common."""
        old, new = branches_of(before), branches_of(after)
        if not old or old & new:
            return False
        same = (n for n in before.keys() & after.keys() if n.startswith("refs/heads/"))
        if any(self.merge_base(before[name], after[name]) for name in same):
            return False
        return not self._roots(old) & self._roots(new)

    def _roots(self, commits: Iterable[str]) -> frozenset[str]:
        with self._told(f"Cannot read the mirror {self.path}"):
            told = self._feed("\n".join(commits) + "\n", "rev-list", "--max-parents=0", "--stdin")
        return frozenset(told.decode().split())

    @contextmanager
    def _speaking_ssh(self) -> Iterator[None]:
        """While the block runs, git's ssh gives a server up that says nothing for a minute."""
        chosen = {"GIT_SSH_COMMAND", "GIT_SSH"} & os.environ.keys()
        if chosen or self._git.config("--get", "core.sshCommand", with_exceptions=False):
            yield
            return
        with self._git.custom_environment(GIT_SSH_COMMAND=SSH):
            yield

    def _clean(self) -> None:
        """Remove what a killed git left: its locks keep others out, its packs fill the disk."""
        places = (self.path / "refs", self.path / "objects/info")
        locks = [*self.path.glob("*.lock"), *(x for one in places for x in one.rglob("*.lock"))]
        packs = (self.path / "objects/pack").glob("tmp_*")
        limits = [(path, LOCK_SECONDS) for path in locks if path.name != FETCHING]
        for path, seconds in (*limits, *((path, PACK_SECONDS) for path in packs)):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > seconds:
                    path.unlink()

    def _tidy(self) -> None:
        """Pack refs, and packs where they are many: a mirror has no automatic gc.

        The commit graph spares each later fetch the reading of every review's commit.
        """
        with self._told(f"Cannot tidy the mirror {self.path}"):
            self._run("pack-refs", "--all")
            self._run("commit-graph", "write", "--reachable", "--split")
            packs = sum(1 for _ in (self.path / "objects/pack").glob("*.pack"))
            if packs > MOST_PACKS:
                self._run("repack", "-d", "-q", "--geometric=2")


def read_synced(mirror: Path) -> datetime | None:
    """When the mirror there was last fetched whole; None where it never was."""
    try:
        return datetime.fromisoformat(json.loads((mirror / SYNCED).read_text())["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def parse_push(output: str) -> Iterator[Pushed]:
    """What `git push --porcelain` says of each ref."""
    for line in output.splitlines():
        flag, _, rest = line.partition("\t")
        if len(flag) != 1 or not rest:
            continue
        names, _, summary = rest.partition("\t")
        reason = re.sub(r"^\[[a-z ]+\]\s*", "", summary).strip("() ")
        taken = flag != "!"
        yield Pushed(ref=names.partition(":")[2], taken=taken, reason="" if taken else reason)


def branches_of(refs: Mapping[str, str]) -> frozenset[str]:
    """The commits of the branches among refs."""
    return frozenset(sha for name, sha in refs.items() if name.startswith("refs/heads/"))


def count_kinds(refs: Iterable[str]) -> Mapping[RefKind, int]:
    """How many refs of each kind there are; every kind is there."""
    counts = dict.fromkeys(RefKind, 0)
    for name in refs:
        for kind in RefKind:
            counts[kind] += name.startswith(f"refs/{kind.value}/")
    return counts
