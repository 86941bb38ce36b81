"""jobs.diff on the output of real git, and its line maps against a plain model."""

from __future__ import annotations

import os
import tempfile
from difflib import SequenceMatcher
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.diff import FileChange, Hunk, LineMap, TreeDiff, parse_diff
from tests.scratch_git import ScratchRepository, run_git
from venv_builder.errors import DataError

BODY = "".join(f"line {number}\n" for number in range(1, 31))


class ParseDiffTest(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.repo = ScratchRepository(Path(folder.name))

    def change(
        self, old: dict[str, str | bytes | None], new: dict[str, str | bytes | None]
    ) -> TreeDiff:
        before = self.repo.commit(old)
        return parse_diff(self.repo.diff(before, self.repo.commit(new)))

    def only(
        self, old: dict[str, str | bytes | None], new: dict[str, str | bytes | None]
    ) -> FileChange:
        (change,) = self.change(old, new).changes
        return change

    def blob(self, path: str) -> str:
        return self.repo.git("rev-parse", f"HEAD:{path}")

    def test_no_difference(self) -> None:
        self.assertEqual(TreeDiff(), self.change({"a.py": "1\n"}, {}))
        self.assertEqual(TreeDiff(), parse_diff(b""))

    def test_added(self) -> None:
        change = self.only({"a.py": "1\n"}, {"b.py": "x\ny\n"})
        self.assertEqual((None, "b.py", None), (change.old, change.new, change.old_blob))
        self.assertEqual(self.blob("b.py"), change.new_blob)
        assert change.lines is not None
        self.assertEqual({1, 2}, change.lines.added)
        self.assertFalse(change.renamed)

    def test_empty_file_added(self) -> None:
        change = self.only({"a.py": "1\n"}, {"pkg/__init__.py": ""})
        self.assertEqual("pkg/__init__.py", change.new)
        self.assertEqual(LineMap(), change.lines)

    def test_deleted(self) -> None:
        diff = self.change({"a.py": "1\n2\n", "b.py": "3\n"}, {"a.py": None})
        (change,) = diff.changes
        self.assertEqual(("a.py", None, None), (change.old, change.new, change.new_blob))
        assert change.lines is not None
        self.assertEqual(set(), change.lines.map_lines([1, 2]))
        self.assertEqual({"a.py"}, diff.gone)

    def test_edited(self) -> None:
        change = self.only({"a.py": BODY}, {"a.py": BODY.replace("line 3\n", "new\nnewer\n")})
        assert change.lines is not None
        self.assertEqual(
            [1, 2, None, 5, 6], [change.lines.map_line(line) for line in (1, 2, 3, 4, 5)]
        )
        self.assertEqual({3, 4}, change.lines.added)
        self.assertNotEqual(change.old_blob, change.new_blob)

    def test_renamed_with_an_edit(self) -> None:
        diff = self.change({"a.py": BODY}, {"a.py": None, "b.py": "top\n" + BODY})
        (change,) = diff.changes
        self.assertTrue(change.renamed)
        self.assertEqual(("a.py", "b.py"), (change.old, change.new))
        assert change.lines is not None
        self.assertEqual(31, change.lines.map_line(30))
        self.assertEqual({"a.py"}, diff.gone)
        self.assertEqual(["a.py"], list(diff.by_old))
        self.assertEqual(["b.py"], list(diff.by_new))

    def test_renamed_as_it_is(self) -> None:
        change = self.only({"a.py": BODY}, {"a.py": None, "pkg/b.py": BODY})
        self.assertEqual(("a.py", "pkg/b.py"), (change.old, change.new))
        self.assertEqual(LineMap(), change.lines)
        self.assertEqual(change.old_blob, change.new_blob)

    def test_swapped_names_are_two_edits(self) -> None:
        other = BODY.replace("line", "word")
        diff = self.change({"a.py": BODY, "b.py": other}, {"a.py": other, "b.py": BODY})
        self.assertEqual({"a.py", "b.py"}, set(diff.by_old))
        self.assertEqual(frozenset(), diff.gone)

    def test_copied_is_a_new_file(self) -> None:
        change = self.only({"a.py": BODY}, {"b.py": BODY})
        self.assertEqual((None, "b.py"), (change.old, change.new))

    def test_copy_record_is_a_new_file(self) -> None:
        before = self.repo.commit({"a.py": BODY})
        after = self.repo.commit({"b.py": BODY, "a.py": BODY + "more\n"})
        options = ("--raw", "-p", "-U0", "-z", "-C", "--no-abbrev")
        diff = parse_diff(run_git(self.repo.root, "diff", *options, before, after))
        self.assertEqual({"a.py"}, set(diff.by_old))
        self.assertEqual({"a.py", "b.py"}, set(diff.by_new))
        self.assertIsNone(diff.by_new["b.py"].old_blob)

    def test_mode_change(self) -> None:
        before = self.repo.commit({"a.py": BODY})
        (self.repo.root / "a.py").chmod(0o755)
        (change,) = parse_diff(self.repo.diff(before, self.repo.commit({}))).changes
        self.assertEqual(("a.py", "a.py"), (change.old, change.new))
        self.assertEqual(LineMap(), change.lines)

    def test_binary(self) -> None:
        change = self.only({"a.bin": b"\0\1\2"}, {"a.bin": b"\0\1\3"})
        self.assertIsNone(change.lines)
        self.assertFalse(change.renamed)

    def test_file_becomes_link_and_back(self) -> None:
        before = self.repo.commit({"a.py": BODY, "b.py": BODY, "z.py": "1\n"})
        (self.repo.root / "a.py").unlink()
        (self.repo.root / "a.py").symlink_to("b.py")
        after = self.repo.commit({"z.py": "2\n"})
        for old, new in ((before, after), (after, before)):
            diff = parse_diff(self.repo.diff(old, new))
            self.assertEqual({"a.py", "z.py"}, set(diff.by_new))
            lines = diff.by_new["a.py"].lines
            self.assertTrue(lines is None or not lines.map_lines(range(1, 31)))
            changed = diff.by_new["z.py"].lines
            assert changed is not None
            self.assertEqual({1}, changed.added)

    def test_submodule(self) -> None:
        sha = self.repo.commit({"a.py": BODY})
        self.repo.git("update-index", "--add", "--cacheinfo", f"160000,{sha},sub")
        self.repo.git("commit", "-q", "-m", "A submodule")
        before = self.repo.git("rev-parse", "HEAD")
        self.repo.git("update-index", "--cacheinfo", f"160000,{before},sub")
        self.repo.git("rm", "-q", "a.py")
        self.repo.git("commit", "-q", "-m", "Another")
        diff = parse_diff(self.repo.diff(before, self.repo.git("rev-parse", "HEAD")))
        self.assertEqual({"a.py", "sub"}, set(diff.by_old))
        self.assertEqual({"a.py"}, diff.gone)

    def test_names_as_they_are(self) -> None:
        names = ["sp ace/a b.py", "ñandú.py", 'quo"te.py', "tab\tbed.py", "new\nline.py", "-x.py"]
        diff = self.change({"a.py": "1\n"}, {name: f"{name}!\n" for name in names})
        self.assertEqual(set(names), set(diff.by_new))

    def test_name_that_is_no_utf8(self) -> None:
        name = os.fsdecode(b"latin\xe9.py")
        change = self.only({"a.py": "1\n"}, {name: "1\n"})
        self.assertEqual(name, change.new)

    def test_content_that_looks_like_a_diff(self) -> None:
        old = "diff --git a/x b/x\n@@ -1 +1 @@\nBinary files a and b differ\n"
        new = old.replace("x\n", "y\n") + "@@ -9 +9 @@\ndiff --git a/z b/z\n\0"[:-1]
        change = self.only({"a.py": "keep\n" + old}, {"a.py": "keep\n" + new})
        assert change.lines is not None
        self.assertEqual([1, None, 3, 4], [change.lines.map_line(n) for n in (1, 2, 3, 4)])

    def test_no_newline_at_the_end(self) -> None:
        change = self.only({"a.py": "1\n2"}, {"a.py": "1\n2\n3"})
        assert change.lines is not None
        self.assertEqual([1, None], [change.lines.map_line(line) for line in (1, 2)])
        self.assertEqual({2, 3}, change.lines.added)

    def test_crlf_and_form_feeds_are_no_lines(self) -> None:
        old = "a\r\nb\fc\r\nd\x0be\r\nf\r\n"
        change = self.only({"a.py": old}, {"a.py": "top\r\n" + old})
        assert change.lines is not None
        self.assertEqual([2, 3, 4, 5], [change.lines.map_line(line) for line in (1, 2, 3, 4)])

    def test_what_is_no_diff_is_refused(self) -> None:
        good = self.repo.diff(self.repo.commit({"a.py": "1\n"}), self.repo.commit({"a.py": "2\n"}))
        raw, _, patch = good.partition(b"\0\0")
        for bad in (patch, raw + b"\0\0", raw + b"\0\0" + patch + patch, b"fatal: no", raw[:20]):
            self.assertRaises(DataError, parse_diff, bad)


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "d\n"]), max_size=14)


def git_line_map(old: list[str], new: list[str]) -> LineMap:
    """The map that parse_diff makes of git's own diff of two texts."""
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in (("old", old), ("new", new)):
            Path(folder, name).write_text("".join(lines))
        options = ("--raw", "-p", "-U0", "-z", "--no-abbrev")
        output = run_git(Path(folder), "diff", "--no-index", *options, "old", "new", statuses=1)
    changes = parse_diff(output).changes
    found = changes[0].lines if changes else LineMap()
    assert found is not None
    return found


def hunks_between(old: list[str], new: list[str]) -> LineMap:
    """A line map by another road: difflib's blocks in git's convention."""
    hunks = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            hunks.append(
                Hunk(
                    old_start=a + 1 if b > a else a,
                    old_count=b - a,
                    new_start=c + 1 if d > c else c,
                    new_count=d - c,
                )
            )
    return LineMap(tuple(hunks))


class LineMapTest(TestCase):
    def check(self, lines: LineMap, old: list[str], new: list[str]) -> None:
        mapped = {n: lines.map_line(n) for n in range(1, len(old) + 1)}
        kept = [(n, m) for n, m in mapped.items() if m is not None]
        for before, after in kept:
            self.assertEqual(old[before - 1], new[after - 1])
        self.assertEqual(sorted(after for _, after in kept), [after for _, after in kept])
        self.assertEqual(len(kept), len({after for _, after in kept}))
        everything = set(range(1, len(new) + 1))
        self.assertEqual(everything - {after for _, after in kept}, set(lines.added))
        self.assertEqual({after for _, after in kept}, lines.map_lines(range(1, len(old) + 1)))

    def touched(self, lines: LineMap, length: int, first: int, last: int) -> bool:
        """By brute force: an added line within, or old lines lost between two lines within."""
        back = {m: n for n in range(1, length + 1) if (m := lines.map_line(n)) is not None}
        if any(line not in back for line in range(first, last + 1)):
            return True
        return any(back[line] + 1 != back[line + 1] for line in range(first, last))

    @settings(max_examples=25)
    @given(old=LINES, new=LINES)
    def test_of_git_agrees_with_the_model(self, old: list[str], new: list[str]) -> None:
        lines = git_line_map(old, new)
        if old and new:
            self.check(lines, old, new)

    @settings(max_examples=100)
    @given(old=LINES, new=LINES)
    def test_of_difflib_agrees_with_the_model(self, old: list[str], new: list[str]) -> None:
        lines = hunks_between(old, new)
        self.check(lines, old, new)
        for first in range(1, len(new) + 1):
            for last in range(first, len(new) + 1):
                expected = self.touched(lines, len(old), first, last)
                self.assertEqual(
                    expected, lines.touches(first, last), f"{first}..{last} of {lines}"
                )

    @settings(max_examples=100)
    @given(old=LINES, new=LINES)
    def test_cuts_are_where_lines_were_deleted(self, old: list[str], new: list[str]) -> None:
        lines = hunks_between(old, new)
        deleted = {h.new_start for h in lines.hunks if not h.new_count}
        self.assertEqual(deleted, lines.cuts)
        for cut in lines.cuts:
            self.assertNotIn(cut + 1, lines.added)

    def test_identity(self) -> None:
        self.assertEqual([1, 7], [LineMap().map_line(line) for line in (1, 7)])
        self.assertFalse(LineMap().touches(1, 99))

    def test_insertion_at_the_top_and_deletion_of_all(self) -> None:
        top = LineMap((Hunk(old_start=0, old_count=0, new_start=1, new_count=2),))
        self.assertEqual(3, top.map_line(1))
        gone = LineMap((Hunk(old_start=1, old_count=3, new_start=0, new_count=0),))
        self.assertEqual([None, None, 1], [gone.map_line(line) for line in (1, 3, 4)])
