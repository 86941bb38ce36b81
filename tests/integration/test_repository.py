"""jobs.repository and jobs.worktree on real git repositories."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from testtools import TestCase

from jobs.clone import clone_root, inspect_clone
from jobs.repository import Mirror
from jobs.worktree import Worktree
from tests.scratch_git import ScratchRepository, run_git
from venv_builder.errors import InfrastructureError, UsageError

BODY = "".join(f"line = {number}\n" for number in range(20))


class RepositoryCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.source = ScratchRepository(self.folder / "source")
        self.url = str(self.source.root)
        self.mirror = Mirror(self.folder / "state" / "mirror.git")

    def fetched(self, files: dict[str, str | bytes | None], subject: str = "A change") -> str:
        """The sha of a new commit that the mirror has."""
        sha = self.source.commit(files, subject)
        self.mirror.fetch(self.url)
        return sha

    def objects(self) -> int:
        text = run_git(self.mirror.path, "count-objects", "-v").decode()
        counts = dict(line.split(": ") for line in text.splitlines())
        return int(counts["count"]) + int(counts["in-pack"])


class FetchTest(RepositoryCase):
    def test_only_what_is_new(self) -> None:
        self.fetched({"a.py": BODY})
        self.assertEqual(3, self.objects())
        self.mirror.fetch(self.url)
        self.assertEqual(3, self.objects())
        sha = self.fetched({"b.py": "1\n"})
        self.assertEqual(6, self.objects())
        self.assertTrue(self.mirror.has(sha))

    def test_again_by_a_new_mirror_of_the_same_folder(self) -> None:
        sha = self.fetched({"a.py": BODY})
        self.assertEqual(sha, Mirror(self.mirror.path).resolve("master"))

    def test_rewritten_and_deleted_branches_follow(self) -> None:
        self.fetched({"a.py": BODY})
        self.source.git("branch", "topic")
        self.mirror.fetch(self.url)
        self.assertEqual({"master", "topic"}, set(self.mirror.branches()))
        self.source.git("branch", "-D", "topic")
        self.source.git("commit", "--amend", "-q", "-m", "Rewritten")
        self.mirror.fetch(self.url)
        self.assertEqual(("master",), self.mirror.branches())
        self.assertEqual(self.source.git("rev-parse", "HEAD"), self.mirror.resolve("master"))

    def test_unreachable_url(self) -> None:
        error = self.assertRaises(
            InfrastructureError, self.mirror.fetch, str(self.folder / "nowhere")
        )
        self.assertIn("nowhere", error.sentence)
        self.assertTrue(error.advice)

    def test_transport_that_runs_commands_is_refused(self) -> None:
        proof = self.folder / "proof"
        self.assertRaises(InfrastructureError, self.mirror.fetch, f"ext::touch {proof}")
        self.assertFalse(proof.exists())

    def test_url_that_looks_like_an_option(self) -> None:
        proof = self.folder / "proof"
        option = f"--upload-pack=touch {proof};"
        self.assertRaises(InfrastructureError, self.mirror.fetch, option)
        self.assertFalse(proof.exists())

    def test_clone_brings_its_remote_branches(self) -> None:
        sha = self.source.commit({"a.py": BODY})
        clone = self.folder / "clone"
        run_git(self.folder, "clone", "-q", self.url, str(clone))
        local = ScratchRepository(clone)
        mine = local.commit({"b.py": "1\n"})
        self.mirror.fetch(str(clone))
        self.assertEqual(sha, self.mirror.branch_tip("master"))
        self.assertEqual(mine, self.mirror.resolve("HEAD"))
        self.assertEqual("master", inspect_clone(clone).branch)

    def test_shallow_clone(self) -> None:
        self.source.commit({"a.py": "1\n"})
        sha = self.source.commit({"a.py": "2\n"})
        clone = self.folder / "clone"
        run_git(self.folder, "clone", "-q", "--depth=1", f"file://{self.url}", str(clone))
        self.mirror.fetch(str(clone))
        self.assertEqual(sha, self.mirror.resolve("HEAD"))
        self.assertTrue(inspect_clone(clone).shallow)

    def test_default_branch(self) -> None:
        self.source.commit({"a.py": "1\n"})
        self.assertEqual("master", self.mirror.default_branch(self.url))
        self.source.git("checkout", "-q", "--detach")
        self.assertRaises(UsageError, self.mirror.default_branch, self.url)
        gone = str(self.folder / "nowhere")
        self.assertRaises(InfrastructureError, self.mirror.default_branch, gone)

    def test_variables_of_a_hook_do_not_lead_astray(self) -> None:
        """Git sets GIT_DIR and its like for hooks, from which covtrack may be run."""
        sha = self.source.commit({"a.py": BODY})
        other = ScratchRepository(self.folder / "other")
        other.commit({"z.py": "1\n"})
        astray = {
            "GIT_DIR": str(other.root / ".git"),
            "GIT_WORK_TREE": str(other.root),
            "GIT_INDEX_FILE": str(other.root / ".git" / "index"),
        }
        for name, value in astray.items():
            os.environ[name] = value
            self.addCleanup(os.environ.pop, name, None)
        self.mirror = Mirror(self.folder / "state" / "another.git")
        self.mirror.fetch(self.url)
        self.assertEqual(sha, self.mirror.resolve("master"))
        tree = self.folder / "tree"
        Worktree(mirror=self.mirror, root=tree).check_out(sha)
        self.assertEqual(["a.py"], [path.name for path in tree.iterdir()])
        self.assertEqual(self.source.root, inspect_clone(self.source.root).root)
        self.assertEqual((), inspect_clone(self.source.root).dirty)
        self.assertEqual("", other.git("for-each-ref", "refs/covtrack"))


class NothingRunsTest(RepositoryCase):
    def test_hooks_and_fsmonitor_of_the_source(self) -> None:
        sha = self.source.commit({"a.py": BODY})
        proof = self.folder / "proof"
        script = f"#!/bin/sh\necho $0 >> {proof}\n"
        hooks = self.source.root / ".git" / "hooks"
        names = ("post-checkout", "pre-auto-gc", "reference-transaction", "post-index-change")
        for path in [*(hooks / name for name in names), self.folder / "fsmonitor"]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(script)
            path.chmod(0o755)
        self.source.git("config", "core.fsmonitor", str(self.folder / "fsmonitor"))
        self.source.git("config", "uploadpack.packObjectsHook", str(self.folder / "fsmonitor"))
        self.source.git("status")
        self.assertTrue(proof.exists(), "the traps do not work")
        proof.unlink()
        self.mirror.fetch(self.url)
        Worktree(mirror=self.mirror, root=self.folder / "tree").check_out(sha)
        inspect_clone(self.source.root)
        self.assertFalse(proof.exists(), proof.exists() and proof.read_text())

    def test_hooks_of_the_mirror(self) -> None:
        proof = self.folder / "proof"
        hook = self.mirror.path / "hooks" / "reference-transaction"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {proof}\n")
        hook.chmod(0o755)
        self.fetched({"a.py": BODY})
        self.assertFalse(proof.exists())


class ResolveTest(RepositoryCase):
    def test_every_kind_of_name(self) -> None:
        old = self.source.commit({"a.py": "1\n"})
        self.source.git("tag", "1.0.0")
        self.source.git("tag", "-a", "-m", "Annotated", "2.0.0")
        self.source.git("update-ref", "refs/changes/45/12345/2", old)
        new = self.source.commit({"a.py": "2\n"})
        self.source.git("branch", "stable/one", old)
        self.mirror.fetch(self.url, ["refs/changes/45/12345/2"])
        for name in ("1.0.0", "2.0.0", "stable/one", "refs/heads/stable/one", old, old[:8]):
            self.assertEqual(old, self.mirror.resolve(name), name)
        self.assertEqual(old, self.mirror.resolve("refs/changes/45/12345/2"))
        for name in ("master", "HEAD", new[:7]):
            self.assertEqual(new, self.mirror.resolve(name), name)

    def test_unknown(self) -> None:
        self.fetched({"a.py": "1\n"})
        for name in ("nothing", "f" * 40, "--all", "-h", "", "a b", "refs/changes/1/1/1", "\n"):
            error = self.assertRaises(UsageError, self.mirror.resolve, name)
            self.assertIn(name, error.sentence)

    def test_change_that_the_remote_lacks(self) -> None:
        self.source.commit({"a.py": "1\n"})
        ref = "refs/changes/45/12345/9"
        error = self.assertRaises(UsageError, self.mirror.fetch, self.url, [ref])
        self.assertIn(ref, error.sentence)


class HistoryTest(RepositoryCase):
    def test_commit(self) -> None:
        old = self.source.commit({"a.py": "1\n"})
        sha = self.fetched({"a.py": "2\n"}, "Täst: a subject\n\nBody.")
        commit = self.mirror.commit(sha)
        self.assertEqual(
            (sha, (old,), "Täst: a subject"), (commit.sha, commit.parents, commit.subject)
        )
        self.assertEqual(self.source.git("rev-parse", "HEAD^{tree}"), commit.tree)
        stamp = int(self.source.git("show", "-s", "--format=%ct"))
        self.assertEqual(stamp, commit.committed_at.timestamp())

    def test_nearest_and_merge_base(self) -> None:
        first, second, third = (self.source.commit({"a.py": f"{n}\n"}) for n in range(3))
        self.source.git("checkout", "-q", "-b", "side", second)
        side = self.fetched({"b.py": "1\n"})
        nearest = self.mirror.nearest
        self.assertEqual(second, nearest(side, [first, second, third]))
        self.assertEqual(first, nearest(side, [first, third]))
        self.assertEqual(side, nearest(side, [first, side]))
        self.assertIsNone(nearest(side, [third]))
        self.assertIsNone(nearest(side, []))
        self.assertEqual(second, self.mirror.merge_base(side, third))
        self.assertTrue(self.mirror.is_ancestor(first, side))
        self.assertFalse(self.mirror.is_ancestor(third, side))

    def test_unrelated_histories_have_no_base(self) -> None:
        one = self.source.commit({"a.py": "1\n"})
        self.source.git("checkout", "-q", "--orphan", "other")
        other = self.fetched({"b.py": "1\n"})
        self.assertIsNone(self.mirror.merge_base(one, other))

    def test_files_of_a_commit(self) -> None:
        (self.source.root / "link.py").symlink_to("ñ a.py")
        sha = self.fetched({"ñ a.py": "1\n", "pkg/b.py": b"\xff\n"})
        blobs = self.mirror.blobs(sha)
        self.assertEqual({"ñ a.py", "pkg/b.py"}, set(blobs))
        self.assertEqual(self.source.git("rev-parse", "HEAD:pkg/b.py"), blobs["pkg/b.py"])
        self.assertEqual("1\n", self.mirror.read(sha, "ñ a.py"))
        self.assertEqual("\ufffd\n", self.mirror.read(sha, "pkg/b.py"))
        self.assertIsNone(self.mirror.read(sha, "absent"))

    def test_describe(self) -> None:
        sha = self.fetched({"a.py": "1\n"})
        self.assertIsNone(self.mirror.describe(sha))
        self.source.git("tag", "4.2.0")
        self.source.git("tag", "not-a-version")
        sha = self.fetched({"a.py": "2\n"})
        self.assertEqual("4.2.0", self.mirror.describe(sha))

    def test_diff_whatever_the_user_configured(self) -> None:
        old = self.source.commit({"a.py": BODY, "b.py": BODY})
        edited = BODY.replace("line = 3\n", "x\n").replace("line = 6\n", "y\n")
        self.source.commit({"a.py": None, "c.py": edited, "b.py": BODY + "end\n"})
        self.source.git("update-index", "--add", "--cacheinfo", f"160000,{old},sub")
        self.source.git("commit", "-q", "-m", "A submodule")
        new = self.source.git("rev-parse", "HEAD")
        self.mirror.fetch(self.url)
        home = self.folder / "home"
        home.mkdir()
        (home / ".gitconfig").write_text(
            "[diff]\nnoprefix = true\nsubmodule = log\ninterHunkContext = 9\nrenames = false\n"
            "external = false\ncolorMoved = zebra\nwordRegex = .\n[color]\ndiff = always\n"
        )
        for name, value in {"HOME": str(home), "XDG_CONFIG_HOME": str(home)}.items():
            self.addCleanup(os.environ.__setitem__, name, os.environ.get(name, str(home)))
            os.environ[name] = value
        diff = self.mirror.diff(old, new)
        self.assertEqual({"b.py", "c.py", "sub"}, set(diff.by_new))
        self.assertEqual("a.py", diff.by_new["c.py"].old)
        lines = diff.by_new["c.py"].lines
        assert lines is not None
        self.assertEqual({4, 7}, lines.added)
        self.assertEqual({"a.py", "b.py", "c.py", "sub"}, set(self.mirror.changed_names(old, new)))

    def test_diff_of_what_is_not_there(self) -> None:
        sha = self.fetched({"a.py": "1\n"})
        self.assertRaises(InfrastructureError, self.mirror.diff, sha, "f" * 40)


class CloneTest(RepositoryCase):
    def test_root_and_edits(self) -> None:
        self.source.commit({"pkg/a.py": "1\n"})
        self.source.write({"pkg/a.py": "2\n", "untracked.py": "3\n"})
        self.assertEqual(self.source.root, clone_root(self.source.root / "pkg"))
        self.assertIsNone(clone_root(self.folder))
        self.assertIsNone(clone_root(self.folder / "absent"))
        clone = inspect_clone(self.source.root)
        self.assertEqual(("master", False), (clone.branch, clone.shallow))
        self.assertEqual(("pkg/a.py",), clone.dirty)

    def test_no_clone(self) -> None:
        error = self.assertRaises(UsageError, inspect_clone, self.folder)
        self.assertIn(str(self.folder), error.sentence)


class WorktreeTest(RepositoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder / "work" / "tree"
        self.worktree = Worktree(mirror=self.mirror, root=self.root)

    def names(self) -> set[str]:
        files = (path for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink())
        return {str(path.relative_to(self.root)) for path in files}

    def check_out(self, files: dict[str, str | bytes | None]) -> str:
        sha = self.fetched(files)
        self.worktree.check_out(sha)
        return sha

    def test_exactly_the_files_of_each_commit(self) -> None:
        one = self.check_out({"a.py": BODY, "pkg/b.py": "1\n", "run.sh": "#!/bin/sh\n"})
        self.check_out({"a.py": None, "pkg/b.py": "2\n", "pkg/c/d.py": "3\n"})
        self.assertEqual({"pkg/b.py", "pkg/c/d.py", "run.sh"}, self.names())
        self.assertEqual("2\n", (self.root / "pkg" / "b.py").read_text())
        self.worktree.check_out(one)
        self.assertEqual({"a.py", "pkg/b.py", "run.sh"}, self.names())
        self.assertFalse((self.root / "pkg" / "c").exists())

    def test_unchanged_files_keep_their_mtime(self) -> None:
        self.check_out({"a.py": BODY, "b.py": "1\n"})
        for name in ("a.py", "b.py"):
            os.utime(self.root / name, (1e9, 1e9))
        one = self.root / "a.py"
        self.worktree.check_out(self.mirror.resolve("master"))  # takes the new mtimes in
        before = one.stat()
        self.check_out({"b.py": "2\n", "c.py": "3\n"})
        self.assertEqual(before.st_mtime_ns, one.stat().st_mtime_ns)
        self.assertEqual(before.st_ino, one.stat().st_ino)
        self.assertEqual("2\n", (self.root / "b.py").read_text())

    def test_strangers_go(self) -> None:
        sha = self.check_out({"a.py": BODY, ".gitignore": "ignored\n", "pkg/b.py": "1\n"})
        outside = self.folder / "outside"
        (outside / "deep").mkdir(parents=True)
        (outside / "kept").write_text("kept")
        for name in ("ignored", "pkg/ignored", "new/deep/file", "nested/.git/HEAD", "x.pyc/y.py"):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("stranger")
        (self.root / "link").symlink_to(outside)
        (self.root / ".git").write_text(f"gitdir: {self.source.root}/.git\n")
        self.worktree.check_out(sha)
        self.assertEqual({"a.py", ".gitignore", "pkg/b.py"}, self.names())
        self.assertEqual("kept", (outside / "kept").read_text())

    def test_modified_files_are_restored(self) -> None:
        sha = self.check_out({"a.py": BODY, "b.py": "12345\n", "pkg/c.py": "1\n", "d/e.py": "1\n"})
        outside = self.folder / "outside"
        outside.mkdir()
        (outside / "c.py").write_text("kept")
        (self.root / "a.py").unlink()
        before = (self.root / "b.py").stat()
        (self.root / "b.py").write_text("54321\n")
        os.utime(self.root / "b.py", ns=(before.st_atime_ns, before.st_mtime_ns))
        (self.root / "pkg" / "c.py").unlink()
        (self.root / "pkg").rmdir()
        (self.root / "pkg").symlink_to(outside)
        (self.root / "d" / "e.py").unlink()
        (self.root / "d" / "e.py").mkdir()
        self.worktree.check_out(sha)
        self.assertEqual({"a.py", "b.py", "pkg/c.py", "d/e.py"}, self.names())
        self.assertEqual("12345\n", (self.root / "b.py").read_text())
        self.assertFalse((self.root / "pkg").is_symlink())
        self.assertEqual("kept", (outside / "c.py").read_text())

    def test_leftover_lock_of_the_index(self) -> None:
        sha = self.check_out({"a.py": BODY})
        self.worktree.index.with_name(self.worktree.index.name + ".lock").write_text("")
        (self.root / "a.py").write_text("edited")
        self.worktree.check_out(sha)
        self.assertEqual(BODY, (self.root / "a.py").read_text())

    def test_the_tree_holds_no_git(self) -> None:
        self.check_out({"a.py": BODY})
        self.assertFalse((self.root / ".git").exists())
        self.assertFalse(self.worktree.index.is_relative_to(self.root))

    def test_line_ends_and_attributes_change_nothing(self) -> None:
        files: dict[str, str | bytes | None] = {"a.py": b"1\r\n2\r\n", "b.bat": b"1\n"}
        self.source.git("config", "core.autocrlf", "false")
        self.check_out(files)
        self.assertEqual(b"1\r\n2\r\n", (self.root / "a.py").read_bytes())

    def compiled(self) -> set[str]:
        return {str(p.relative_to(self.root)) for p in self.root.rglob("*.pyc")}

    def compile(self) -> None:
        self.worktree.compile(Path(sys.executable), sys.implementation.cache_tag or "")

    def test_trusted_bytecode_stays(self) -> None:
        tag = sys.implementation.cache_tag
        self.check_out({"a.py": BODY, "pkg/b.py": "1\n", "broken.py": "def\n"})
        self.compile()
        mine = {f"__pycache__/a.{tag}.pyc", f"pkg/__pycache__/b.{tag}.pyc"}
        self.assertEqual(mine, self.compiled())
        before = (self.root / f"__pycache__/a.{tag}.pyc").stat()
        self.check_out({"c.py": "1\n"})
        self.assertEqual(mine, self.compiled())
        self.compile()
        after = (self.root / f"__pycache__/a.{tag}.pyc").stat()
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))
        self.assertIn(f"__pycache__/c.{tag}.pyc", self.compiled())

    def test_changed_source_is_compiled_anew(self) -> None:
        tag = sys.implementation.cache_tag
        self.check_out({"a.py": "print('one')\n"})
        self.compile()
        self.check_out({"a.py": "print('two')\n"})
        self.compile()
        code = (self.root / f"__pycache__/a.{tag}.pyc").read_bytes()
        self.assertIn(b"two", code)
        self.assertNotIn(b"one", code)

    def test_doubtful_bytecode_goes(self) -> None:
        tag = sys.implementation.cache_tag
        sha = self.check_out({"a.py": BODY, "b.py": BODY})
        self.compile()
        forged = self.root / f"__pycache__/a.{tag}.pyc"
        before = forged.stat()
        forged.write_bytes(b"\0" * before.st_size)
        os.utime(forged, ns=(before.st_atime_ns, before.st_mtime_ns))
        for name in (f"__pycache__/planted.{tag}.pyc", "sourceless.pyc"):
            (self.root / name).write_bytes(b"planted")
        (self.root / "linked.pyc").symlink_to(self.folder / "kept")
        (self.folder / "kept").write_text("kept")
        self.worktree.check_out(sha)
        self.assertEqual({f"__pycache__/b.{tag}.pyc"}, self.compiled())
        self.assertEqual("kept", (self.folder / "kept").read_text())

    def test_folder_named_like_bytecode_goes(self) -> None:
        sha = self.check_out({"a.py": BODY})
        (self.root / "odd.pyc").mkdir()
        (self.root / "odd.pyc" / "stranger.py").write_text("1\n")
        self.worktree.check_out(sha)
        self.assertEqual({"a.py"}, self.names())

    def test_damaged_list_of_bytecode_trusts_nothing(self) -> None:
        sha = self.check_out({"a.py": BODY})
        self.compile()
        listed = self.root.with_name("tree.bytecode.json")
        for text in ("", "[1]", '{"a": 1}', "garbage"):
            self.compile()
            self.assertTrue(self.compiled())
            listed.write_text(text)
            self.worktree.check_out(sha)
            self.assertEqual(set(), self.compiled())
