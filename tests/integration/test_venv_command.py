"""The command line venv-builder, run as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import testtools

from venv_builder.files import remove_folder

ROOT = Path(__file__).resolve().parents[2]


class CommandTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.addCleanup(remove_folder, self.folder / "cache")
        self.tree = self.folder / "demo"
        self.tree.mkdir()
        (self.tree / "requirements.txt").write_text("six==1.16.0\n")

    def run_it(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "venv_builder", "--cache", self.folder / "cache", *words]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)

    def test_build_list_verify_repair(self) -> None:
        built = self.run_it("build", self.tree)
        self.assertEqual(0, built.returncode, built.stderr)
        path = Path(built.stdout.strip())
        self.assertTrue((path / "bin" / "python").exists())
        listed = self.run_it("list").stdout
        key = listed.split()[0]
        self.assertIn("demo", listed)
        self.assertEqual(0, self.run_it("verify").returncode)
        six = next(path.glob("lib/python3*/site-packages/six.py"))
        six.parent.chmod(0o755)
        six.unlink()
        verified = self.run_it("verify", key)
        self.assertEqual(3, verified.returncode)
        self.assertIn("six: 1 of", verified.stdout)
        self.assertIn("1 damaged", self.run_it("doctor").stdout)
        self.assertEqual(0, self.run_it("repair", key).returncode)
        self.assertEqual(0, self.run_it("verify", "--full").returncode)

    def test_doctor_names_interpreters_and_uv(self) -> None:
        told = self.run_it("doctor").stdout
        self.assertIn(f"Python {sys.version_info[0]}.{sys.version_info[1]}", told)
        self.assertIn("uv ", told)

    def test_errors_are_one_sentence_and_a_status(self) -> None:
        for words, status in (
            (("build", self.folder / "gone"), 2),
            (("build", self.tree, "--python", "3.4"), 2),
            (("repair", "nonesuch"), 2),
            (("nonesuch",), 2),
        ):
            completed = self.run_it(*words)
            self.assertEqual(status, completed.returncode, completed.stderr)
            self.assertNotIn("Traceback", completed.stderr)
        (self.tree / "requirements.txt").write_text("six==1.16.0\nsix==1.17.0\n")
        completed = self.run_it("build", self.tree)
        self.assertEqual(3, completed.returncode)
        self.assertEqual(1, completed.stderr.count("venv-builder: "))
