"""Comparison of stated and found files; manifests; keys; whole writes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import testtools
from hypothesis import given
from hypothesis import strategies as st

from venv_builder.audit import (
    DamageKind,
    Entry,
    Record,
    compare_files,
    compare_records,
    own_files,
    read_records,
    scan_files,
)
from venv_builder.files import link_whole, make_readonly, remove_folder, write_whole
from venv_builder.interpreters import Interpreter
from venv_builder.keys import environment_key, make_key, resolution_key
from venv_builder.manifest import Manifest, dump_manifest, load_manifest, read_manifest
from venv_builder.manifest import write_manifest as write_manifest_files

ENTRIES = st.builds(
    Entry,
    size=st.integers(0, 5),
    digest=st.sampled_from(["aa", "bb", "-> there"]),
    owner=st.sampled_from(["oslo.config", "six", ""]),
)
FILES = st.dictionaries(st.sampled_from(["a.py", "b.py", "p/c.py", "p/d.so", "e"]), ENTRIES)


class CompareTest(testtools.TestCase):
    @given(FILES)
    def test_equal_trees_have_no_damage(self, files: dict[str, Entry]) -> None:
        assert compare_files(files, files, full=True) == ()

    @given(FILES, FILES)
    def test_counts_are_those_of_a_plain_loop(
        self, expected: dict[str, Entry], actual: dict[str, Entry]
    ) -> None:
        damage = compare_files(expected, actual, full=True)
        told = {kind: sum(d.count for d in damage if d.kind is kind) for kind in DamageKind}
        both = expected.keys() & actual.keys()
        resized = {path for path in both if expected[path].size != actual[path].size}
        changed = {p for p in both - resized if expected[p].digest != actual[p].digest}
        assert told[DamageKind.MISSING] == len(expected.keys() - actual.keys())
        assert told[DamageKind.UNOWNED] == len(actual.keys() - expected.keys())
        assert told[DamageKind.SIZE] == len(resized)
        assert told[DamageKind.CONTENT] == len(changed)

    def test_sentence_names_the_package_and_the_numbers(self) -> None:
        expected = {f"oslo/{n}.py": Entry(size=1, owner="oslo.config") for n in range(80)}
        actual = {path: one for path, one in expected.items() if int(path[5:-3]) >= 12}
        (damage,) = compare_files(expected, actual, full=False)
        self.assertEqual("oslo.config: 12 of 80 files were missing", damage.sentence)

    def test_quick_overlooks_content_but_not_a_changed_link(self) -> None:
        expected = {"a": Entry(size=1, digest="aa"), "l": Entry(size=0, digest="-> x")}
        self.assertEqual((), compare_files(expected, {**expected, "a": Entry(size=1)}, full=False))
        (damage,) = compare_files(expected, {**expected, "l": Entry(size=0)}, full=False)
        self.assertIs(DamageKind.CONTENT, damage.kind)

    def test_added_bytecode_is_no_damage_but_lost_bytecode_is(self) -> None:
        cached = "p/__pycache__/a.cpython-313.opt-1.pyc"
        self.assertEqual((), compare_files({}, {cached: Entry(size=1)}, full=False))
        self.assertEqual(1, len(compare_files({cached: Entry(size=1)}, {}, full=False)))
        (damage,) = compare_files({}, {"p/rogue.pth": Entry(size=1)}, full=False)
        self.assertIs(DamageKind.UNOWNED, damage.kind)

    def test_a_file_of_two_owners_may_be_what_either_states(self) -> None:
        records = [
            Record(name=name, version="1", files={"x.py": Entry(size=1, digest=digest)})
            for name, digest in (("one", "aa"), ("two", "bb"))
        ]
        self.assertEqual((), compare_records(records, {"x.py": Entry(size=1, digest="bb")}))
        self.assertEqual(1, len(compare_records(records, {"x.py": Entry(size=1, digest="cc")})))

    def test_bytecode_belongs_to_the_owner_of_its_source(self) -> None:
        record = Record(name="six", version="1", files={"s/six.py": Entry(size=1)})
        cached = "s/__pycache__/six.cpython-39.pyc"
        owned = own_files([record], {cached: Entry(size=2), "s/other": Entry(size=3)})
        self.assertEqual(["six", ""], [owned[cached].owner, owned["s/other"].owner])


class FolderTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.site = self.root / "lib" / "python3.13" / "site-packages"

    def install(self, name: str, rows: str, **files: str) -> Path:
        info = self.site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(rows)
        for module, text in files.items():
            (self.site / f"{module}.py").write_text(text)
        return info

    def test_records_tell_hashes_sizes_and_places_outside_site_packages(self) -> None:
        empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
        self.install(
            "demo", f"demo.py,{empty},0\n../../../bin/demo,,\ndemo-1.0.dist-info/RECORD,,\n"
        )
        (record,) = read_records(self.root)
        place = "lib/python3.13/site-packages"
        entry = record.files[f"{place}/demo.py"]
        self.assertEqual((0, "e3b0c44298fc1c14"), (entry.size, entry.digest[:16]))
        self.assertIn("bin/demo", record.files)

    def test_a_lost_record_is_missing(self) -> None:
        (self.install("demo", "") / "RECORD").unlink()
        (damage,) = compare_records(read_records(self.root), scan_files(self.root, full=True))
        self.assertEqual(("demo", DamageKind.MISSING), (damage.distribution, damage.kind))

    def test_an_emptied_dist_info_is_missing(self) -> None:
        info = self.install("demo", "")
        for path in info.iterdir():
            path.unlink()
        (damage,) = compare_records(read_records(self.root), scan_files(self.root, full=True))
        self.assertEqual(2, damage.count)

    def test_scan_does_not_follow_links(self) -> None:
        (self.root / "real").mkdir()
        (self.root / "real" / "f").write_text("x")
        (self.root / "link").symlink_to("real")
        found = scan_files(self.root, full=False)
        self.assertEqual({"real/f", "link"}, set(found))
        self.assertEqual("-> real", found["link"].digest)

    def test_manifest_round_trip_and_marker(self) -> None:
        manifest = Manifest(
            key="k",
            interpreter="3.13.0",
            python="/p",
            projects=("a",),
            distributions={"six": "1"},
            lock="six==1",
            files={"a": Entry(size=1, digest="d", owner="six")},
        )
        self.assertEqual(manifest, load_manifest(dump_manifest(manifest)))
        write_manifest_files(self.root, manifest)
        self.assertEqual(manifest, read_manifest(self.root))
        with (self.root / "manifest.json").open("a") as file:
            file.write(" ")
        self.assertIsNone(read_manifest(self.root))

    def test_whole_writes_leave_no_litter(self) -> None:
        path = self.root / "f"
        write_whole(path, "one")
        write_whole(path, "two")
        link_whole(self.root / "l", "f")
        link_whole(self.root / "l", "g")
        self.assertEqual("two", path.read_text())
        self.assertEqual(Path("g"), (self.root / "l").readlink())
        self.assertEqual({"f", "l"}, {one.name for one in self.root.iterdir()})

    def test_readonly_folders_can_be_removed_again(self) -> None:
        folder = self.root / "deep"
        (folder / "er").mkdir(parents=True)
        (folder / "er" / "f").write_text("x")
        (folder / "l").symlink_to("nowhere")
        make_readonly(folder)
        self.assertEqual(0, (folder / "er" / "f").stat().st_mode & 0o222)
        remove_folder(folder)
        self.assertFalse(folder.exists())


INTERPRETER = Interpreter(path=Path("/py"), version=(3, 13, 0), identity='["a", "b"]')


class KeysTest(testtools.TestCase):
    @given(st.permutations(["six", "pbr", "mock"]))
    def test_order_and_doubles_do_not_count(self, lines: list[str]) -> None:
        def key(asked: list[str]) -> str:
            return resolution_key(
                asked, ["a===1"], interpreter=INTERPRETER, index={}, resolver="1"
            )

        assert key(lines) == key(["six", "pbr", "mock", "six"])

    @given(st.lists(st.text()), st.lists(st.text()))
    def test_parts_are_not_run_together(self, one: list[str], two: list[str]) -> None:
        assert (make_key(one) == make_key(two)) == (one == two)

    def test_every_input_counts(self) -> None:
        other = Interpreter(path=Path("/py"), version=(3, 13, 1), identity='["a", "c"]')
        keys = {
            resolution_key(r, c, interpreter=i, index=x, resolver=v)
            for r, c, i, x, v in (
                (["a"], [], INTERPRETER, {}, "1"),
                (["b"], [], INTERPRETER, {}, "1"),
                ([], ["a"], INTERPRETER, {}, "1"),
                (["a"], [], other, {}, "1"),
                (["a"], [], INTERPRETER, {"UV_INDEX": "x"}, "1"),
                (["a"], [], INTERPRETER, {}, "2"),
            )
        }
        self.assertEqual(6, len(keys))

    def test_environment_key_is_of_lock_and_build(self) -> None:
        rebuilt = Interpreter(path=Path("/py"), version=(3, 13, 0), identity='["z", "b"]')
        one = environment_key(["a==1", "b==2"], interpreter=INTERPRETER)
        self.assertEqual(one, environment_key(["b==2", "a==1"], interpreter=INTERPRETER))
        self.assertNotEqual(one, environment_key(["a==1"], interpreter=INTERPRETER))
        self.assertNotEqual(one, environment_key(["a==1", "b==2"], interpreter=rebuilt))
