"""The command line venv-builder, run as a process."""

from __future__ import annotations

import os
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

    def run_it(
        self, *words: str | Path, cache: str = "cache", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        self.addCleanup(remove_folder, self.folder / cache)
        argv = [sys.executable, "-m", "venv_builder", "--cache", self.folder / cache, *words]
        env = os.environ | variables
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=env)

    def run_cold(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """As on a new machine whose network leads nowhere: no cache of uv's, none of ours."""
        nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
        cold = {"UV_CACHE_DIR": str(self.folder / "uv"), "UV_HTTP_RETRIES": "0"}
        return self.run_it(*words, cache="cold", **nowhere, **cold, **variables)

    def test_a_cold_machine_builds_from_the_folder_of_wheels_alone(self) -> None:
        wheels = self.folder / "wheels"
        filled = self.run_it("wheels", self.tree, "--to", wheels)
        self.assertEqual(0, filled.returncode, filled.stderr)
        names = sorted(path.name for path in wheels.iterdir())
        self.assertIn("six-1.16.0-py2.py3-none-any.whl", names)
        self.assertEqual([], [name for name in names if not name.endswith(".whl")])
        self.assertEqual(
            f"{len(names)} new wheels in {wheels}, 0 were there already.\n", filled.stdout
        )
        stamps = {path.name: path.stat().st_mtime_ns for path in wheels.iterdir()}
        again = self.run_it("wheels", self.tree, "--to", wheels)
        self.assertEqual(
            f"0 new wheels in {wheels}, {len(names)} were there already.\n", again.stdout
        )
        self.assertEqual(stamps, {path.name: path.stat().st_mtime_ns for path in wheels.iterdir()})
        without = self.run_cold("build", self.tree)
        self.assertEqual(3, without.returncode)
        built = self.run_cold("--wheels", wheels, "--no-index", "build", self.tree)
        self.assertEqual(0, built.returncode, built.stderr)
        self.assertTrue(Path(built.stdout.strip(), "bin", "stestr").exists())

    def test_variables_of_the_machine_name_the_wheels(self) -> None:
        wheels = self.folder / "wheels"
        self.run_it("wheels", self.tree, "--to", wheels)
        variables = {"VENV_BUILDER_WHEELS": str(wheels), "VENV_BUILDER_NO_INDEX": "1"}
        built = self.run_cold("build", self.tree, **variables)
        self.assertEqual(0, built.returncode, built.stderr)

    def test_what_the_folder_of_wheels_lacks_is_told(self) -> None:
        wheels = self.folder / "wheels"
        wheels.mkdir()
        empty = self.run_cold("--wheels", wheels, "--no-index", "build", self.tree)
        self.assertEqual(3, empty.returncode)
        self.assertIn(f"Only {wheels} was asked; fill it by: venv-builder wheels", empty.stderr)
        gone = self.run_cold("--wheels", self.folder / "gone", "--no-index", "build", self.tree)
        self.assertEqual(3, gone.returncode)
        self.assertIn(f"The folder of wheels {self.folder}/gone is not there.", gone.stderr)

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
