"""Mirrors on real git and a real Gerrit: filled, kept when the server loses all, pushed back."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

from fixtures import MonkeyPatch
from testtools import TestCase

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.local_server import USER
from covtrack.mirrors import beside, choose, known, matched
from covtrack.restoring import restore, tell
from covtrack.settings import Settings, load_settings
from jobs.replica import RefKind, Replica, count_kinds
from tests.gerrit_fixture import RealGerrit, real_gerrit
from tests.scratch_git import ScratchRepository, run_git
from venv_builder.errors import InfrastructureError, UsageError
from venv_builder.processes import Completed, run_command
from venv_builder.progress import ignore

ROOT = Path(__file__).parents[2]
SETTINGS = """
state = "state"
[gerrit.real]
url = "{url}"
user = "{user}"
password_env = "{password}"
mirror = ["{pattern}"]
"""


def refs_of(path: Path) -> dict[str, str]:
    """All refs of a repository."""
    lines = run_git(path, "for-each-ref", "--format=%(refname) %(objectname)").decode()
    return dict(line.split(" ") for line in lines.splitlines())


def bare(path: Path) -> str:
    """The address of a new, empty repository."""
    path.mkdir(parents=True)
    run_git(path, "init", "-q", "--bare")
    return str(path)


class MirrorCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="mirrors-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_covtrack(self, *words: str) -> Completed:
        argv = [sys.executable, "-P", "-m", "covtrack", "mirror", *words]
        return run_command(argv, cwd=self.folder, env=os.environ | {"PYTHONPATH": str(ROOT)})

    def source(self, name: str = "source") -> ScratchRepository:
        """A repository with two branches, two tags, notes and a review."""
        source = ScratchRepository(self.folder / name)
        source.commit({"a.py": "a = 1\n"}, "Begin")
        source.git("branch", "stable")
        source.git("tag", "light")
        source.git("-c", "user.name=A", "tag", "-a", "-m", "Version", "1.0")
        source.git("notes", "add", "-m", "A note")
        source.git("update-ref", "refs/changes/07/1207/1", "HEAD")
        return source


class ReplicaTest(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.origin = self.source()
        self.url = str(self.origin.root)
        self.replica = Replica(self.folder / "mirror.git")

    def test_everything_comes(self) -> None:
        self.replica.sync(self.url)
        self.assertEqual(refs_of(self.origin.root), dict(self.replica.refs()))
        self.assertEqual(dict(self.replica.refs_of(self.url)), dict(self.replica.refs()))
        self.assertIsNotNone(self.replica.synced_at())
        kinds = {RefKind.BRANCH: 2, RefKind.TAG: 2, RefKind.CHANGE: 1, RefKind.NOTES: 1}
        self.assertEqual(kinds | {RefKind.META: 0}, count_kinds(self.replica.refs()))

    def test_news_of_one_change_alone(self) -> None:
        self.replica.sync(self.url)
        sha = self.origin.commit({"b.py": "b = 1\n"}, "More")
        for ref in ("refs/changes/07/1207/2", "refs/changes/08/1208/1"):
            self.origin.git("update-ref", ref, sha)
        self.replica.sync(self.url, [1207])
        refs = self.replica.refs()
        self.assertEqual(sha, refs["refs/heads/master"])
        self.assertEqual(sha, refs["refs/changes/07/1207/2"])
        self.assertNotIn("refs/changes/08/1208/1", refs)

    def test_removed_reviews_stay_and_removed_branches_go(self) -> None:
        self.replica.sync(self.url)
        self.origin.git("branch", "-D", "stable")
        self.origin.git("update-ref", "-d", "refs/changes/07/1207/1")
        self.replica.sync(self.url)
        self.assertNotIn("refs/heads/stable", self.replica.refs())
        self.assertIn("refs/changes/07/1207/1", self.replica.refs())

    def test_a_server_that_begins_anew_takes_nothing_away(self) -> None:
        self.replica.sync(self.url)
        before = dict(self.replica.refs())
        moved = self.folder / "moved"
        for url in (bare(moved), str(ScratchRepository(self.folder / "again").root)):
            error = self.assertRaises(InfrastructureError, self.replica.sync, url)
            self.assertIn("not those that were mirrored", str(error))
            self.assertEqual(before, dict(self.replica.refs()))
        ScratchRepository(self.folder / "again").commit({}, "Initial empty repository")
        self.replica.fetch(url)
        self.assertEqual(before, dict(self.replica.refs()))
        self.assertEqual(4, len(self.replica.lost()))
        target = bare(self.folder / "target")
        self.assertTrue(restore(self.replica, target, ignore).complete)
        self.assertEqual(before, refs_of(Path(target)))
        self.replica.sync(self.url)
        self.assertEqual({}, dict(self.replica.lost()))

    def test_a_server_that_shows_nothing_takes_nothing(self) -> None:
        self.replica.sync(self.url)
        before = refs_of(self.replica.path)
        empty = bare(self.folder / "empty")
        for fetch in (self.replica.sync, self.replica.fetch):
            error = self.assertRaises(InfrastructureError, fetch, empty)
            self.assertIn("shows no branch", str(error))
        found = {k: v for k, v in refs_of(self.replica.path).items() if "/fetched/" not in k}
        kept = {k: v for k, v in before.items() if "/fetched/" not in k}
        self.assertEqual(kept, found)
        self.replica.sync(self.url)

    def test_a_fetch_that_is_cut_loses_nothing(self) -> None:
        """The server begins anew, and its first transfer fails half way."""
        self.replica.sync(self.url)
        before = dict(self.replica.refs())
        again = ScratchRepository(self.folder / "again")
        again.commit({"b.py": "b = 1\n"}, "Anew")
        blob = again.git("rev-parse", "HEAD:b.py")
        broken = again.root / ".git/objects" / blob[:2] / blob[2:]
        kept = broken.read_bytes()
        broken.unlink()
        self.assertRaises(InfrastructureError, self.replica.sync, str(again.root))
        self.assertEqual(before, dict(self.replica.refs()))
        self.assertEqual({"master", "stable"}, set(self.replica.branches()))
        broken.write_bytes(kept)
        error = self.assertRaises(InfrastructureError, self.replica.sync, str(again.root))
        self.assertIn("not those that were mirrored", str(error))
        self.assertEqual(before, dict(self.replica.refs()))

    def test_killed_while_it_takes_over(self) -> None:
        """After the first of its two steps; the next fetch goes on from there."""
        self.replica.sync(self.url)
        before = dict(self.replica.refs())
        again = ScratchRepository(self.folder / "again")
        again.commit({"b.py": "b = 1\n"}, "Anew")
        feed = self.replica._feed

        def die(text: str, *command: str) -> bytes:
            if text.startswith("update"):
                raise KeyboardInterrupt
            return feed(text, *command)

        with MonkeyPatch("jobs.replica.Replica._feed", lambda _, *words: die(*words)):
            self.assertRaises(KeyboardInterrupt, self.replica.fetch, str(again.root))
        self.assertEqual(before, dict(self.replica.refs()))
        self.replica.fetch(str(again.root))
        self.assertEqual(before, dict(self.replica.refs()))
        self.assertEqual(["master"], list(self.replica.branches()))

    def test_a_branch_in_the_place_of_another(self) -> None:
        self.replica.sync(self.url)
        self.origin.git("branch", "-m", "stable", "stable/1")
        self.replica.sync(self.url)
        self.assertEqual({"master", "stable/1"}, set(self.replica.branches()))
        self.origin.git("branch", "-m", "stable/1", "stable")
        self.replica.fetch(self.url)
        self.assertEqual({"master", "stable"}, set(self.replica.branches()))

    def test_reviews_of_another_server_replace_none(self) -> None:
        """Numbers begin at 1 again on a new server that was given the same branches."""
        for ref in ("refs/changes/07/1207/meta", "refs/meta/config"):
            self.origin.git("update-ref", ref, "HEAD")
        self.replica.sync(self.url)
        before = dict(self.replica.refs())
        other = ScratchRepository(self.folder / "other")
        foreign = other.commit({"c.py": "c = 1\n"}, "Foreign")
        other.git("fetch", "-q", self.url, "master:refs/heads/theirs")
        for ref in ("refs/changes/07/1207/1", "refs/meta/config", "refs/changes/08/1208/1"):
            other.git("update-ref", ref, foreign)
        for changes in (None, [1207, 1208]):
            error = self.assertRaises(
                InfrastructureError, self.replica.sync, str(other.root), changes
            )
            self.assertIn("refs/changes/07/1207/1", str(error))
            self.assertIn("not those that were mirrored", str(error))
        after = dict(self.replica.refs())
        self.assertEqual(foreign, after["refs/changes/08/1208/1"])
        for ref in ("refs/changes/07/1207/1", "refs/meta/config"):
            self.assertEqual(before[ref], after[ref])

    def test_the_record_of_a_change_may_be_rewritten(self) -> None:
        """As Gerrit does where somebody deletes a comment."""
        meta = "refs/changes/07/1207/meta"
        self.origin.git("update-ref", meta, "HEAD")
        self.replica.sync(self.url)
        tree = self.origin.git("rev-parse", "HEAD^{tree}")
        sha = self.origin.git("-c", "user.name=A", "commit-tree", "-m", "Rewritten", tree)
        self.origin.git("update-ref", meta, sha)
        self.replica.sync(self.url)
        self.assertEqual(sha, self.replica.refs()[meta])

    def test_what_a_killed_git_left_is_removed(self) -> None:
        self.replica.sync(self.url)
        left = [
            self.replica.path / name
            for name in ("packed-refs.lock", "refs/heads/master.lock", "objects/pack/tmp_pack_x")
        ]
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        self.origin.commit({"b.py": "b = 1\n"}, "More")
        self.assertRaises(InfrastructureError, self.replica.sync, self.url)
        self.assertTrue(all(path.exists() for path in left))
        for path in left:
            os.utime(path, (1.0, 1.0))
        self.replica.sync(self.url)
        self.assertFalse([path for path in left if path.exists()])

    def test_a_head_that_names_no_branch(self) -> None:
        self.origin.git("symbolic-ref", "HEAD", "refs/heads/to-come")
        self.replica.fetch(self.url)
        self.assertEqual({"master", "stable"}, set(self.replica.branches()))

    def test_a_branch_that_is_renamed_is_no_new_beginning(self) -> None:
        self.replica.sync(self.url)
        self.origin.git("branch", "-D", "stable")
        self.origin.git("branch", "-m", "master", "main")
        self.replica.sync(self.url)
        self.assertEqual({}, dict(self.replica.lost()))
        self.assertIn("refs/heads/main", self.replica.refs())

    def test_a_job_finds_what_it_found_before(self) -> None:
        self.replica.sync(self.url)
        self.replica.fetch(self.url, ["refs/changes/07/1207/1"])
        sha = self.origin.git("rev-parse", "HEAD")
        self.assertEqual(sha, self.replica.resolve("refs/changes/07/1207/1"))
        self.assertEqual(sha, self.replica.resolve("HEAD"))
        self.assertEqual({"master", "stable"}, set(self.replica.branches()))

    def test_addresses_that_are_none(self) -> None:
        proof = self.folder / "proof"
        self.replica.sync(self.url)
        for url in (f"ext::touch {proof}", f"--upload-pack=touch {proof}"):
            for call in (self.replica.sync, self.replica.refs_of):
                self.assertRaises(InfrastructureError, call, url)
            self.assertRaises(InfrastructureError, self.replica.push, url, RefKind.BRANCH)
        self.assertFalse(proof.exists())

    def test_passwords_are_not_shown(self) -> None:
        url = "http://ada:hush@127.0.0.1:9/p"
        for call in (self.replica.sync, self.replica.refs_of, self.replica.fetch):
            error = self.assertRaises(InfrastructureError, call, url)
            self.assertNotIn("hush", str(error))


class RestoreTest(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.replica = Replica(self.folder / "mirror.git")
        self.origin = self.source()
        self.replica.sync(str(self.origin.root))

    def test_into_an_empty_repository_and_again(self) -> None:
        url = bare(self.folder / "target")
        restored = restore(self.replica, url, ignore)
        self.assertTrue(restored.complete)
        self.assertEqual(refs_of(self.origin.root), refs_of(Path(url)))
        self.assertIn("refs/heads: 2 of 2 restored", tell(restored))
        self.assertTrue(restore(self.replica, url, ignore).complete)

    def test_over_an_initial_empty_commit(self) -> None:
        target = ScratchRepository(self.folder / "target")
        target.commit({}, "Initial empty repository")
        target.git("checkout", "-q", "--detach")
        self.assertTrue(restore(self.replica, str(target.root), ignore).complete)
        self.assertEqual(refs_of(self.origin.root), refs_of(target.root))

    def test_over_something_else(self) -> None:
        target = ScratchRepository(self.folder / "target")
        target.commit({"other.py": "1\n"}, "Other work")
        before = refs_of(target.root)
        error = self.assertRaises(UsageError, restore, self.replica, str(target.root), ignore)
        self.assertIn("is not empty: refs/heads/master would be lost", str(error))
        self.assertEqual(before, refs_of(target.root))

    def test_over_what_went_on_since(self) -> None:
        url = bare(self.folder / "target")
        restore(self.replica, url, ignore)
        clone = ScratchRepository(self.folder / "clone")
        clone.git("pull", "-q", url, "master")
        clone.commit({"more.py": "1\n"}, "Later work")
        clone.git("push", "-q", url, "HEAD:refs/heads/master")
        self.assertRaises(UsageError, restore, self.replica, url, ignore)

    def test_from_an_empty_mirror(self) -> None:
        empty = Replica(self.folder / "empty.git")
        error = self.assertRaises(UsageError, restore, empty, bare(self.folder / "t"), ignore)
        self.assertIn("nothing to restore", str(error))

    def test_what_a_hook_refuses_is_named(self) -> None:
        url = bare(self.folder / "target")
        hook = Path(url) / "hooks/update"
        hook.write_text('#!/bin/sh\ncase "$1" in refs/heads/stable) exit 1;; esac\n')
        hook.chmod(0o755)
        restored = restore(self.replica, url, ignore)
        self.assertFalse(restored.complete)
        self.assertIn("  not restored: refs/heads/stable (hook declined)", tell(restored))


class CommandTest(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.origin = self.source()
        text = f'state = "state"\n[projects.p]\ngit = "{self.origin.root}"\n'
        (self.folder / "covtrack.toml").write_text(text)

    def test_from_nothing_to_restored(self) -> None:
        done = self.run_covtrack("status")
        self.assertEqual((0, ""), (done.status, done.stderr))
        self.assertIn("never", done.stdout)
        done = self.run_covtrack("sync")
        self.assertEqual((0, "p: 6 refs, 6 of them new or moved\n"), (done.status, done.stdout))
        self.assertIn("Mirroring: p", done.stderr)
        self.origin.git("branch", "topic")
        row = self.run_covtrack("status").stdout.splitlines()[1].split()
        self.assertEqual(["p", "2", "2", "1", "1", "0"], row[:6])
        self.assertEqual(["1", "0"], row[10:12])
        url = bare(self.folder / "target")
        done = self.run_covtrack("restore", "p", url)
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn("refs/changes: 1 of 1 restored", done.stdout)

    def test_the_server_is_away(self) -> None:
        self.assertEqual(0, self.run_covtrack("sync").status)
        self.origin.root.rename(self.folder / "gone")
        done = self.run_covtrack("sync")
        self.assertEqual(3, done.status)
        self.assertIn("p: Cannot fetch", done.stdout)
        done = self.run_covtrack("status")
        self.assertEqual(0, done.status)
        self.assertIn("unknown", done.stdout)
        self.assertIn("p: Cannot reach", done.stdout)
        self.assertNotIn("unknown", self.run_covtrack("status", "--offline").stdout.split("\n")[0])

    def test_wrong_words(self) -> None:
        self.assertEqual(0, self.run_covtrack("sync").status)
        for words in (("sync", "q"), ("restore", "q", "/x"), ("restore", "p")):
            done = self.run_covtrack(*words)
            self.assertEqual(2, done.status, done.stderr)
        self.assertEqual(3, self.run_covtrack("restore", "p", "/nowhere").status)
        done = self.run_covtrack("restore", "p", str(self.origin.root.parent / "state"))
        self.assertEqual(3, done.status)
        self.assertNotIn("Traceback", done.stderr)


class GerritMirrorTest(MirrorCase):
    gerrit: RealGerrit

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.gerrit = real_gerrit()

    def setUp(self) -> None:
        super().setUp()
        self.project = f"mirrored/{secrets.token_hex(4)}"
        self.gerrit.create_project(self.project)
        self.change_id = f"I{secrets.token_hex(20)}"
        self.gerrit.push(self.project, self.change_id, {"a.py": "a = 1\n"})
        self.settings = self.write_settings(self.gerrit)

    def write_settings(self, gerrit: RealGerrit) -> Settings:
        server = gerrit.server
        path = self.folder / "covtrack.toml"
        words = {"user": USER, "password": server.password_env, "pattern": self.project[:-1]}
        path.write_text(SETTINGS.format(url=server.url, **words).replace('"]', '?"]'))
        return load_settings(path)

    def test_a_project_that_a_pattern_asks_for(self) -> None:
        done = self.run_covtrack("sync")
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn(f"real:{self.project}: 4 refs, 4 of them new", done.stdout)
        (one,) = known(self.settings)
        names = set(one.open().refs())
        number = next(name.split("/")[3] for name in names if "changes" in name)
        review = f"refs/changes/{int(number) % 100:02}/{number}"
        expected = {f"{review}/1", f"{review}/meta", "refs/heads/master", "refs/meta/config"}
        self.assertEqual(expected, names)
        self.assertNotIn("secret", done.stdout + done.stderr)
        status = self.run_covtrack("status").stdout.splitlines()[1]
        self.assertIn(f"real:{self.project}", status)

    def test_into_another_gerrit_with_and_without_rights(self) -> None:
        server = self.settings.gerrit["real"]
        names = matched(server, GerritClient(server))
        (one,) = choose(beside(self.settings, server, names), ())
        replica = one.open()
        replica.sync(one.url)
        gerrit = RealGerrit(self.folder / "other")
        with gerrit:
            gerrit.create_project("back")
            url = gerrit.clone_url("back")
            lines = tell(restore(replica, url, ignore))
            self.assertIn("refs/heads: 0 of 1 restored", lines)
            self.assertIn("--changes was not given", " ".join(lines))
            self.assertIn("force update", " ".join(lines))
            grant_restoring(gerrit)
            restored = restore(replica, url, ignore, changes=True)
            self.assertTrue(restored.complete, tell(restored))
            self.assertEqual(dict(replica.refs()), dict(replica.refs_of(url)))
            self.assertEqual([self.change_id], change_ids(gerrit, "back"))

    def test_into_the_site_of_a_gerrit_that_is_stopped(self) -> None:
        server = self.settings.gerrit["real"]
        (one,) = beside(self.settings, server, [self.project])
        replica = one.open()
        replica.sync(one.url)
        gerrit = RealGerrit(self.folder / "other")
        with gerrit:
            gerrit.create_project("back")
            gerrit.stop()
            url = str(self.folder / "other/gerrit/site/git/back.git")
            self.assertTrue(restore(replica, url, ignore).complete)
            gerrit.start()
            self.assertEqual([self.change_id], change_ids(gerrit, "back"))


def change_ids(gerrit: RealGerrit, project: str) -> list[str]:
    """The project's changes, once Gerrit has put them into its index."""
    gerrit.request("POST", f"projects/{project}/index.changes", {})
    client, deadline = GerritClient(gerrit.server), monotonic() + 30
    while not (changes := client.changes(f"project:{project}")) and monotonic() < deadline:
        sleep(0.1)
    return [change.change_id for change in changes]


def grant_restoring(gerrit: RealGerrit) -> None:
    """The rights that a restore with reviews needs, for the administrators."""
    group = gerrit.request("GET", "groups/?m=Administrators")["Administrators"]["id"]
    allow = {"rules": {group: {"action": "ALLOW"}}}
    force = {"rules": {group: {"action": "ALLOW", "force": True}}}
    forge = ("forgeAuthor", "forgeCommitter", "forgeServerAsCommitter")
    everywhere = {"create": allow, "push": force} | dict.fromkeys(forge, allow)
    access = {
        "GLOBAL_CAPABILITIES": {"permissions": {"accessDatabase": allow}},
        "refs/*": {"permissions": everywhere},
        "refs/changes/*": {"permissions": {"create": allow, "push": force}},
        "refs/meta/config": {"permissions": {"push": force}},
    }
    gerrit.request("POST", "projects/All-Projects/access", {"add": json.loads(json.dumps(access))})
