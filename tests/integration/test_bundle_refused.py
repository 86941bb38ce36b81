"""Bundles that a step would never write: each gets one sentence, and nothing of it is stored."""

from __future__ import annotations

import json
import sqlite3
import stat
import zipfile
from collections.abc import Callable
from contextlib import closing
from typing import Any, ClassVar

from covtrack.ingest import store_bundle
from jobs.bundle import LARGEST_BUNDLE, LARGEST_MANIFEST, LARGEST_SNAPSHOT, MANIFEST, NAME
from tests.step_case import TrackerCase
from venv_builder.errors import RefusedError

Edit = Callable[[dict[str, Any]], object]


class RefusedTest(TrackerCase):
    made: ClassVar[dict[str, bytes]] = {}

    def setUp(self) -> None:
        super().setUp()
        build = self.order(self.change())
        self.run_id = build.run_id
        path = self.folder / "order.json"
        path.write_text(build.order.model_dump_json())
        done = self.step("--order", path)
        self.assertEqual(0, done.status, done.stderr)
        self.good = self.out / NAME
        with zipfile.ZipFile(self.good) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.bad = self.folder / "bad.bundle"

    def pack(self, *members: tuple[str | zipfile.ZipInfo, bytes]) -> None:
        """A zip of those members, in that order, whatever they are called."""
        with zipfile.ZipFile(self.bad, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)

    def pack_edited(self, edit: Edit | None = None, **contents: bytes) -> None:
        """The good bundle with an edited manifest, and the snapshot 1 replaced."""
        import hashlib

        manifest = json.loads(self.members[MANIFEST])
        members = dict(self.members)
        if "snapshot" in contents:
            data = contents["snapshot"]
            members["1.coverage"] = data
            part = manifest["results"][1]
            part["sha256"], part["size"] = hashlib.sha256(data).hexdigest(), len(data)
        if edit is not None:
            edit(manifest)
        members[MANIFEST] = json.dumps(manifest).encode()
        self.pack(*members.items())

    def assert_refused(self, words: str) -> None:
        build = self.build(self.run_id)
        error = self.assertRaises(RefusedError, store_bundle, self.tracker, build, self.bad)
        self.assertIn(words, str(error))
        self.assertIn("refused", str(error))
        self.assertLess(len(str(error)), 500)
        self.assertNotIn("\n", str(error))
        self.assertIsNone(self.database.newest_run(self.name))
        self.assertIsNone(self.build(self.run_id).run_ids)
        self.assertEqual([], list((self.tracked.state / "incoming").iterdir()))
        self.assertEqual([], list(self.tracked.state.rglob("snapshots/*/*")))

    def test_zips(self) -> None:
        whole = self.good.read_bytes()
        for content in (b"", b"PK", b"no zip", whole[:-1], whole[: len(whole) // 2], whole + b"x"):
            self.bad.write_bytes(content)
            self.assert_refused("it is no whole zip file")
        for place in (100, len(whole) // 2):
            self.bad.write_bytes(whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
            self.assert_refused("it is no whole zip file")
        good = tuple(self.members.items())
        self.pack(*good, ("../../evil", b"x"))
        self.assert_refused("its members are not those that a step writes")
        self.pack(*good, ("/etc/evil", b"x"))
        self.assert_refused("its members are not those that a step writes")
        self.pack(*good, good[1])
        self.assert_refused("its members are not those that a step writes")
        self.pack(good[0], good[0], *good[1:])
        self.assert_refused("its members are not those that a step writes")
        self.pack(*good[1:], good[0])
        self.assert_refused("its first member is not manifest.json")
        self.pack(*good[:2])
        self.assert_refused("its members are not those that a step writes")
        link = zipfile.ZipInfo("1.coverage")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        self.pack(*good[:2], (link, b"/etc/passwd"))
        self.assert_refused("1.coverage is no plain file")
        self.pack(*((f"{number}.coverage", b"") for number in range(6000)))
        self.assert_refused("its list of members is too long")

    def test_sizes(self) -> None:
        self.pack((MANIFEST, b" " * (LARGEST_MANIFEST + 1)))
        self.assertLess(self.bad.stat().st_size, 100_000)
        self.assert_refused("manifest.json has 33554433 bytes")
        self.claim(10 * 2**30)
        self.assert_refused("1.coverage has 4294967295 bytes")
        self.claim(2**31)
        self.assert_refused(f"1.coverage has {2**31} bytes, and {LARGEST_SNAPSHOT} are the most")
        self.pack_edited(snapshot=b"\0" * 50_000_000)
        self.assert_refused("it is no SQLite file")
        self.pack_edited(lambda m: m["results"][1].update(size=m["results"][1]["size"] - 1))
        self.assert_refused("bytes instead of")
        self.understate()
        self.assert_refused("1.coverage")
        with self.bad.open("wb") as file:
            file.truncate(LARGEST_BUNDLE + 1)
        self.assert_refused("are the most")

    def claim(self, size: int) -> None:
        """The good bundle, whose list says that the last member has `size` bytes."""
        data = bytearray(self.good.read_bytes())
        place = data.rindex(b"PK\x01\x02")
        data[place + 24 : place + 28] = (size & 0xFFFFFFFF).to_bytes(4, "little")
        if size > 0xFFFFFFFF:
            data[place + 24 : place + 28] = b"\xff" * 4
        self.bad.write_bytes(data)

    def understate(self) -> None:
        """A member that unpacks to more than list and manifest say."""
        self.pack_edited(lambda m: m["results"][1].update(size=1000))
        data = bytearray(self.bad.read_bytes())
        place = data.rindex(b"PK\x01\x02")
        data[place + 24 : place + 28] = (1000).to_bytes(4, "little")
        self.bad.write_bytes(data)

    def test_manifests(self) -> None:
        for text, words in (
            (b"", "no JSON"),
            (b"[]", "not understood"),
            (b"{}", "not understood"),
            (b"\xff\xfe", "no JSON"),
            (b"[" * 200_000, "nested too deeply"),
            (b'{"format": ' + b"9" * 5000 + b"}", "no JSON"),
            (b'{"format": NaN}', "NaN is no number"),
        ):
            self.pack((MANIFEST, text))
            self.assert_refused(words)

        def result(manifest: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = manifest["results"][1]["result"]
            return found

        edits: tuple[tuple[Edit, str], ...] = (
            (lambda m: m.update(format=2), "not understood"),
            (lambda m: m.update(results=[]), "not understood"),
            (lambda m: m.update(results="x"), "not understood"),
            (lambda m: m.update(run_id="other"), "it is of run other"),
            (lambda m: m.update(run_id="../../x"), "not understood"),
            (lambda m: m.update(project="other"), "it is of project other"),
            (lambda m: m["results"].reverse(), "its commits are not those"),
            (lambda m: m["results"][1].update(commit="1" * 40), "its commits are not those"),
            (lambda m: m["results"][1].update(sha256="0" * 64), "not what its digest says"),
            (lambda m: m["results"][1].update(snapshot="../x"), "its members are not those"),
            (lambda m: result(m).update(commit="1" * 40), "another project, branch or commit"),
            (lambda m: result(m).update(branch="other"), "another project, branch or commit"),
            (lambda m: result(m).update(kind="baseline"), "another kind than ordered"),
            (lambda m: result(m).update(kind="guess"), "not understood"),
            (lambda m: result(m).update(cpu_seconds=1e999), "Infinity is no number"),
            (lambda m: result(m).update(cpu_seconds=-1), "a number that cannot be"),
            (lambda m: result(m)["seconds"].update(run=10**30), "a number that cannot be"),
            (lambda m: result(m)["tests"].update(run=-1), "a number that cannot be"),
            (lambda m: result(m)["tests"].update(carried=2**63), "a number that cannot be"),
            (lambda m: result(m)["tests"].update(carried="many"), "not understood"),
            (lambda m: result(m)["tests"].update(carried=3), "carries other tests"),
            (lambda m: result(m)["tests"].update(run=7), "counts other tests"),
            (lambda m: result(m)["carried"].clear(), "carries other tests"),
            (lambda m: result(m).update(committed_at="yesterday"), "not understood"),
            (lambda m: result(m)["patch"].update(covered=9), "is of another patch"),
            (lambda m: result(m)["patch"].update(parent="1" * 40), "is of another patch"),
            (lambda m: file_of(m)["counts"].update(covered=11), "more is covered"),
            (lambda m: file_of(m).update(missing=[]), "not as many as it says"),
            (lambda m: file_of(m).update(path="../../etc/passwd"), "a file that the commit lacks"),
            (claim_all_covered_but_another, "not what its lines say"),
            (lambda m: result(m)["measurement"]["files"].reverse(), "out of order"),
        )
        for edit, words in edits:
            self.pack_edited(edit)
            self.assert_refused(words)

    def test_snapshots(self) -> None:
        for statement, words in (
            ("CREATE TRIGGER t AFTER INSERT ON file BEGIN SELECT 1; END", "its tables are not"),
            ("CREATE VIEW v AS SELECT 1", "its tables are not"),
            ("DROP TABLE meta", "its tables are not"),
            ("CREATE TABLE more (x)", "its tables are not"),
            ("CREATE INDEX i ON file (abs(id))", "its tables are not"),
            ("ALTER TABLE file ADD COLUMN more AS (abs(id))", "its tables are not"),
            ("UPDATE file SET path = '../../etc/passwd'", "outside of the project"),
            ("UPDATE file SET path = '/etc/passwd'", "outside of the project"),
            ("UPDATE file SET path = x'00ff'", "file.path has a wrong type"),
            ("UPDATE line_bits SET numbits = 'text'", "line_bits.numbits has a wrong type"),
            ("UPDATE line_bits SET numbits = zeroblob(200000)", "a line beyond all files"),
            ("UPDATE line_bits SET file_id = 99 WHERE rowid = 1", "names an unknown file"),
            ("UPDATE line_bits SET context_id = 99 WHERE rowid = 1", "names an unknown context"),
            ("UPDATE covtrack_test SET seconds = 'NaN'", "covtrack_test.seconds has a wrong type"),
            ("UPDATE covtrack_test SET seconds = 9e999", "a duration that cannot be"),
            ("UPDATE covtrack_test SET status = 'guess'", "an outcome or a duration"),
            ("UPDATE meta SET value = '[' WHERE key = 'covtrack_ground'", "ran under"),
            ("DELETE FROM meta", "ran under"),
            ("DELETE FROM covtrack_test", "carries other tests"),
            ("DELETE FROM line_bits", "not those that its tests ran"),
            ("UPDATE covtrack_union SET numbits = zeroblob(9)", "not those that its tests ran"),
            ("UPDATE covtrack_union SET numbits = 'text'", "covtrack_union.numbits has a wrong"),
            ("DELETE FROM covtrack_union", "not those that its tests ran"),
            ("UPDATE file SET path = hex(zeroblob(35000000))", "SQLite cannot read it"),
        ):
            self.pack_edited(snapshot=self.edited(statement))
            self.assert_refused(words)

    def edited(self, statement: str) -> bytes:
        path = self.folder / "edited.coverage"
        path.write_bytes(self.members["1.coverage"])
        with closing(sqlite3.connect(path)) as db, db:
            table = statement.split()[1]
            if table in ("file", "context"):  # their names are unique
                statement += f" WHERE id = (SELECT min(id) FROM {table})"
            db.execute(statement)
        return path.read_bytes()

    def test_damaged_pages(self) -> None:
        data = self.members["1.coverage"]
        refused = 0
        for start in range(100, len(data), 4096):
            wrong = data[:start] + b"\xa5" * 64 + data[start + 64 :]
            self.pack_edited(snapshot=wrong)
            build = self.build(self.run_id)
            try:
                store_bundle(self.tracker, build, self.bad)
            except RefusedError as error:
                self.assertLess(len(str(error)), 500)
                refused += 1
                self.assertIsNone(self.database.newest_run(self.name))
                continue
            break
        self.assertGreater(refused, 0)
        self.pack_edited(snapshot=data[:-4096])
        if not self.build(self.run_id).stored:
            self.assert_refused("refused")

    def test_the_good_one_is_taken(self) -> None:
        self.pack_edited()
        ids = store_bundle(self.tracker, self.build(self.run_id), self.bad)
        self.assertEqual(2, len(ids))


def file_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The measured sample/shapes.py, of which one statement did not run."""
    files = manifest["results"][1]["result"]["measurement"]["files"]
    found: dict[str, Any] = next(file for file in files if file["path"] == "sample/shapes.py")
    return found


def claim_all_covered_but_another(manifest: dict[str, Any]) -> None:
    """Another line is named as the one that did not run."""
    file_of(manifest)["missing"] = [1]
