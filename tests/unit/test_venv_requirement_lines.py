"""Reading of requirement lines, and of files that name further files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import testtools
from hypothesis import given
from hypothesis import strategies as st

from venv_builder.errors import BuildError
from venv_builder.requirement_files import follow_file, follow_lines, read_constraints
from venv_builder.requirement_lines import Says, in_order, name_of, normalise, read_line

NAMES = st.sampled_from(["oslo.config", "PyYAML", "zope_interface", "a-b.c"])
VERSIONS = st.sampled_from(["1", "1.2", "2013.1", "0.0.1"])
OPERATORS = st.sampled_from([">=", "<", "!=", "==", "~=", "==="])
MARKERS = st.sampled_from(["", "; python_version < '3.12'", ";sys_platform=='linux'"])


@st.composite
def requirements(draw: st.DrawFn) -> str:
    bounds = draw(st.lists(st.tuples(OPERATORS, VERSIONS), max_size=3))
    written = ",".join(f"{op}{'1.2' if op == '~=' else version}" for op, version in bounds)
    extras = draw(st.sampled_from(["", "[Memcache,ldap]"]))
    return f"{draw(NAMES)}{extras}{written}{draw(MARKERS)}"


class NormaliseTest(testtools.TestCase):
    @given(requirements())
    def test_is_a_fixed_point(self, line: str) -> None:
        once = normalise(line)
        assert normalise(once) == once

    @given(requirements())
    def test_name_has_one_spelling(self, line: str) -> None:
        assert name_of(normalise(line.upper().split(";")[0])) == name_of(normalise(line))

    def test_sorts_specifiers_and_keeps_the_marker(self) -> None:
        self.assertEqual(
            'pyyaml!=5.0,>=3.13; python_version < "3.12"',
            normalise("PyYAML >= 3.13, !=5.0 ;python_version<'3.12'"),
        )

    def test_reads_the_marker_form_of_old_pbr(self) -> None:
        self.assertEqual(
            'argparse; python_version == "2.6"', normalise("argparse:(python_version=='2.6')")
        )

    def test_reads_wildcards_that_packaging_refuses(self) -> None:
        self.assertEqual("six>=1.9", normalise("six>=1.9.*"))

    def test_names_the_line_it_cannot_read(self) -> None:
        error = self.assertRaises(BuildError, normalise, "one two three")
        self.assertIn("'one two three'", error.sentence)


class ReadLineTest(testtools.TestCase):
    def test_kinds(self) -> None:
        for text, says, named in (
            ("", Says.NOTHING, ""),
            ("  # a comment", Says.NOTHING, ""),
            ("-rother.txt", Says.FILE, "other.txt"),
            ("-r other.txt # why", Says.FILE, "other.txt"),
            ("--requirement=other.txt", Says.FILE, "other.txt"),
            ("-chttps://a/upper", Says.CONSTRAINTS, "https://a/upper"),
            ("--constraint 'u c.txt'", Says.CONSTRAINTS, "u c.txt"),
            ("--pre", Says.OPTION, "--pre"),
            ("-e .", Says.LOCAL, "."),
            ("six==1.0 --hash=sha256:00 \\", Says.REQUIREMENT, "six==1.0"),
            ("-e git+https://g/x#egg=X", Says.REQUIREMENT, "X @ git+https://g/x"),
        ):
            line = read_line(text)
            self.assertEqual((says, named), (line.says, line.text), text)

    def test_extras_of_the_project_itself(self) -> None:
        self.assertEqual(("ldap", "memcache"), read_line(".[memcache, ldap]").extras)
        self.assertEqual(("test",), read_line("-e .[test]").extras)

    def test_order_is_without_doubles(self) -> None:
        self.assertEqual(("a", "b"), in_order(["b", "a", "b"]))


class FilesTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Path(folder.name).resolve()

    def write(self, name: str, text: str) -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def test_nested_files_are_followed_from_their_own_folder(self) -> None:
        self.write("sub/inner.txt", "-c bounds.txt\nsix\n")
        self.write("outer.txt", "-r sub/inner.txt\nPBR>=2 # why\n")
        wanted = follow_file(self.tree / "outer.txt", tree=self.tree)
        self.assertEqual(("six", "pbr>=2"), wanted.requirements)
        self.assertEqual((str(self.tree / "sub" / "bounds.txt"),), wanted.constraints)

    def test_a_file_that_includes_itself_ends(self) -> None:
        path = self.write("round.txt", "-r round.txt\nsix\n")
        self.assertEqual(("six",), follow_file(path, tree=self.tree).requirements)

    def test_the_tree_itself_gives_extras_and_other_folders_a_note(self) -> None:
        wanted = follow_lines([".[ldap]", "./tools/plugin"], tree=self.tree, folder=self.tree)
        self.assertEqual(("ldap",), wanted.extras)
        self.assertEqual(("Local requirement ./tools/plugin was left out.",), wanted.notes)

    def test_a_bad_line_is_named_with_its_file(self) -> None:
        path = self.write("bad.txt", "six\n=== what\n")
        error = self.assertRaises(BuildError, follow_file, path, tree=self.tree)
        self.assertIn(str(path), error.sentence)
        self.assertIn("=== what", error.sentence)

    def test_a_missing_file_is_named(self) -> None:
        path = self.write("a.txt", "-r gone.txt\n")
        error = self.assertRaises(BuildError, follow_file, path, tree=self.tree)
        self.assertIn("gone.txt", error.sentence)

    def test_constraints_leave_out_what_is_unreadable(self) -> None:
        self.write("c.txt", "Six===1.16.0\n-e git+https://g/x\n??\n# end\n")
        found = read_constraints("c.txt", tree=self.tree, cache=None)
        self.assertIn("six===1.16.0", found.lines)
        self.assertEqual(("1 unreadable constraint lines were left out.",), found.notes)

    def test_an_address_out_of_reach_is_noted_and_not_tried_again_at_once(self) -> None:
        cache = self.tree / "cache"
        address = "http://127.0.0.1:9/upper"
        for _ in range(2):
            found = read_constraints(address, tree=self.tree, cache=cache)
            self.assertEqual((), found.lines)
            self.assertIn(f"Constraints URL {address} could not be fetched", found.notes[0])
        self.assertEqual(1, len(list(cache.glob("*.failed"))))

    def test_an_old_copy_serves_where_the_address_is_out_of_reach(self) -> None:
        cache = self.tree / "cache"
        address = "http://127.0.0.1:9/upper"
        read_constraints(address, tree=self.tree, cache=cache)
        kept = next(cache.glob("*.failed")).with_suffix(".txt")
        kept.write_text("six===1.0\n", encoding="utf-8")
        old = time.time() - 7 * 24 * 3600
        os.utime(kept, (old, old))
        found = read_constraints(address, tree=self.tree, cache=cache)
        self.assertEqual((("six===1.0",), ()), (found.lines, found.notes))
