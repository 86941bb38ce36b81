"""Hostile and broken projects, measured for real: what the user is told, and what must hold."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent, indent

import testtools

from covtrack.settings import Settings
from covtrack.store.database import Database
from covtrack.tracking import Order, Tracker
from jobs.project import ProjectSettings
from jobs.results import FaultKind, JobResult, Select, Status
from tests.sample_project import SampleClone
from venv_builder.errors import CovtrackError, DataError, InfrastructureError, UsageError
from venv_builder.files import remove_folder

# Below the home folder: tests may write to the machine's temporary folders.
STATE = Path(tempfile.mkdtemp(prefix=".covtrack-tests-", dir=Path.home()))
atexit.register(remove_folder, STATE)
SHAPES = "sample/shapes.py"
BAD = "sample/tests/test_bad.py"
NAME = "sample.tests.test_bad.BadTest.test_bad"


def bad_test(body: str) -> str:
    """A test module whose one test runs `body`."""
    return (
        "import os\nimport sys\nimport time\nimport unittest\n\n\n"
        "class BadTest(unittest.TestCase):\n    def test_bad(self):\n"
        + indent(dedent(body), " " * 8)
    )


class BadCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.name = f"bad-{self.id().rpartition('.')[2]}"
        self.root = Path(tempfile.mkdtemp(prefix="clone-")) / "sample"
        self.addCleanup(shutil.rmtree, self.root.parent, ignore_errors=True)
        self.clone = SampleClone(self.root)
        self.folder = STATE / "projects" / self.name

    def run_job(
        self, revision: str = "HEAD", *, select: Select | None = None, **settings: object
    ) -> JobResult:
        project = ProjectSettings.model_validate(
            {"name": self.name, "git": str(self.root), "branch": "master", "workers": 1}
            | {"timeout": 60, **settings}
        )
        database = Database.open(f"sqlite:///{STATE / 'covtrack.sqlite'}")
        self.addCleanup(database.close)
        tracker = Tracker(Settings(state=STATE, projects={}), database, lambda _: None)
        return tracker.run(project, Order(revision=revision, select=select))

    def run_bad(self, body: str, **settings: object) -> JobResult:
        self.clone.commit("Misbehave", {BAD: bad_test(body)})
        return self.run_job("HEAD", select=None, **settings)

    def refuse(self, kind: type[CovtrackError], revision: str = "HEAD") -> str:
        """The sentence with which a run is refused; the work folder is left clean."""
        error = self.assertRaises(kind, self.run_job, revision)
        self.assertEqual([], list(self.folder.glob("scratch/*")))
        return str(error)

    def assert_recovers(self) -> None:
        """Without the bad test, the next run equals that of an undisturbed project."""
        self.clone.commit("Behave", {BAD: None})
        result = self.run_job(select=Select.ALL)
        shapes = {file.path: file for file in result.measurement.files}[SHAPES]
        self.assertEqual((3, True, ()), (result.tests.passed, result.complete, result.faults))
        self.assertEqual((18,), shapes.missing)


class StoppedRunnerTest(BadCase):
    """A test that ends its process is named, and the result is no baseline."""

    def check(self, body: str, cause: str) -> None:
        result = self.run_bad(body)
        (fault,) = result.faults
        self.assertEqual((FaultKind.CRASH, NAME), (fault.kind, fault.subject))
        self.assertIn(cause, fault.sentence)
        self.assertFalse(result.complete)
        self.assert_recovers()

    def test_group_killed(self) -> None:
        self.check("os.killpg(0, 9)", "signal 9")

    def test_exit_that_looks_fine(self) -> None:
        self.check("os._exit(0)", "status 0")

    def test_keyboard_interrupt(self) -> None:
        self.check("raise KeyboardInterrupt", "signal 2")

    def test_stopped_process_is_a_matter_of_time(self) -> None:
        (fault,) = self.run_bad("os.kill(os.getpid(), 19)", timeout=5).faults
        self.assertEqual((FaultKind.TIME, NAME), (fault.kind, fault.subject))
        self.assert_recovers()


class ConfinedTest(BadCase):
    """What a test tries outside its own tree fails, and nothing else does."""

    def check(self, body: str, reason: str, **settings: object) -> None:
        (fault,) = self.run_bad(body, **settings).faults
        self.assertEqual((FaultKind.TEST, NAME), (fault.kind, fault.subject))
        self.assertIn(reason, fault.sentence)
        self.assert_recovers()

    def test_killing_the_parent(self) -> None:
        self.check("os.kill(os.getppid(), 9)", "PermissionError")

    def test_writing_into_site_packages(self) -> None:
        self.check("import stestr; open(stestr.__file__, 'a')", "PermissionError")

    def test_writing_into_the_state_folder(self) -> None:
        self.check(f"open({str(STATE / 'planted')!r}, 'w')", "PermissionError")
        self.assertFalse((STATE / "planted").exists())

    def test_eating_memory(self) -> None:
        self.check("b'x' * 2**31", "MemoryError", memory="512 MiB")


class NoisyTest(BadCase):
    """What does no harm is measured like any other test."""

    def check(self, body: str) -> None:
        result = self.run_bad(body)
        self.assertEqual((4, ()), (result.tests.passed, result.faults))
        self.assert_recovers()

    def test_binary_output(self) -> None:
        self.check(r"os.write(1, b'\xb3\xff\x00' * 999); os.write(2, b'\xb3\x29\x00test' * 99)")

    def test_closed_output(self) -> None:
        self.check("os.close(1); os.close(2)")

    def test_garbage_bytecode_is_not_trusted(self) -> None:
        self.check(
            "import glob\n"
            "for path in glob.glob('sample/__pycache__/*.pyc'):\n"
            "    open(path, 'wb').write(b'garbage')\n"
        )

    def test_left_daemon_is_killed(self) -> None:
        pid = self.root / "pid"
        self.clone.commit(
            "Fork",
            {
                BAD: bad_test(
                    f"""\
                    if os.fork() == 0:
                        os.setsid()
                        open({str(pid)!r}, "w").write(str(os.getpid()))
                        time.sleep(600)
                    while not os.path.exists({str(pid)!r}):
                        time.sleep(0.01)
                    """
                )
            },
        )
        result = self.run_job(writable=(str(self.root),))
        self.assertEqual((4, ()), (result.tests.passed, result.faults))
        self.assertFalse(Path("/proc", pid.read_text()).exists())

    def test_planted_link_is_not_followed(self) -> None:
        kept = self.root.parent / "kept" / "one.pyc"
        kept.parent.mkdir()
        kept.write_bytes(b"kept")
        self.check(f"os.symlink({str(kept.parent)!r}, 'sample/planted')")
        self.assertEqual(b"kept", kept.read_bytes())


class OddProjectTest(BadCase):
    def test_same_id_twice(self) -> None:
        twice = (
            "\n\ndef load_tests(loader, tests, pattern):\n"
            "    return unittest.TestSuite([BadTest('test_bad'), BadTest('test_bad')])\n"
        )
        self.clone.commit("Twice", {BAD: bad_test("pass") + twice})
        result = self.run_job()
        self.assertEqual([NAME, NAME], [o.test for o in result.outcomes if o.test == NAME])
        self.assertTrue(result.complete)
        self.assert_recovers()

    def test_unicode_and_long_ids(self) -> None:
        more = "\n\nfor name in ('test_ü中', 'test_' + 'x' * 9000, 'test_ a\\n[red]b'):\n"
        more += "    setattr(BadTest, name, lambda self: None)\n"
        self.clone.commit("Odd ids", {BAD: bad_test("pass") + more})
        result = self.run_job()
        self.assertEqual({Status.PASSED}, {outcome.status for outcome in result.outcomes})
        self.assertEqual(7, result.tests.run)
        self.assert_recovers()

    def test_odd_file_names(self) -> None:
        names = ("sample/a b.py", "sample/ü.py", "sample/two\nlines.py")
        self.clone.commit("Odd names", dict.fromkeys(names, "X = 1\n"))
        paths = {file.path for file in self.run_job().measurement.files}
        self.assertEqual(set(), set(names) - paths)

    def test_syntax_error_in_a_test(self) -> None:
        self.clone.commit("Break", {BAD: "def ("})
        result = self.run_job()
        (fault,) = result.faults
        self.assertEqual((FaultKind.IMPORT, "sample.tests.test_bad"), (fault.kind, fault.subject))
        self.assertFalse(result.complete)
        self.assert_recovers()

    def test_missing_system_library(self) -> None:
        files = {BAD: "import ctypes\nctypes.CDLL('libnonesuch.so.1')\n"}
        self.clone.commit("Load", files | {"bindep.txt": "libnonesuch-dev [platform:dpkg]\n"})
        (fault,) = self.run_job().faults
        self.assertEqual(FaultKind.ENVIRONMENT, fault.kind)
        self.assertIn("libnonesuch-dev", fault.advice)

    def test_source_that_does_not_parse_is_said_to_be_left_out(self) -> None:
        self.clone.commit("Break", {"sample/broken.py": "def ("})
        (fault,) = self.run_job().faults
        self.assertEqual((FaultKind.DATA, "sample/broken.py"), (fault.kind, fault.subject))

    def test_pollution_by_a_new_neighbour_is_a_company_fault(self) -> None:
        user = "import sample\n" + bad_test("self.assertFalse(hasattr(sample, 'SEEN'))")
        self.clone.commit("Use", {BAD: user})
        self.run_job()
        setter = "import sample\n" + bad_test("sample.SEEN = True")
        again = user.replace("'SEEN'))", "'SEEN'), 1)")
        self.clone.commit("Set", {BAD: again, "sample/tests/test_a.py": setter})
        (fault,) = self.run_job().faults
        self.assertEqual((FaultKind.COMPANY, NAME), (fault.kind, fault.subject))

    def test_broken_by_the_change_is_no_company_fault(self) -> None:
        self.clone.commit("Pass", {BAD: bad_test("pass")})
        self.run_job()
        (fault,) = self.run_bad("self.fail('broken')").faults
        self.assertEqual((FaultKind.TEST, NAME), (fault.kind, fault.subject))

    def test_several_broken_by_the_change(self) -> None:
        self.run_job()
        self.clone.replace("sample/shapes.py", "return width * height", "return None")
        self.clone.replace("sample/shapes.py", "raise ValueError(width)", "pass")
        self.clone.commit_all("Break")
        faults = self.run_job().faults
        self.assertEqual([FaultKind.TEST] * 2, [fault.kind for fault in faults])


class RefusedTest(BadCase):
    """Settings that cannot be read and revisions that do not exist: one sentence, no residue."""

    def test_odd_revisions(self) -> None:
        blob = self.clone.repo.head.commit.tree["sample/shapes.py"].hexsha
        for revision in ("-x", "--all", "HEAD~999", "a..b", "HEAD^{tree}", "x" * 5000, blob):
            self.assertIn(revision, self.refuse(UsageError, revision))

    def test_broken_stestr_conf(self) -> None:
        self.clone.commit("Break", {".stestr.conf": "garbage ][\n"})
        self.assertIn("Mend .stestr.conf", self.refuse(UsageError))

    def test_test_path_outside_the_tree(self) -> None:
        self.clone.commit("Break", {".stestr.conf": "[DEFAULT]\ntest_path=../../..\n"})
        self.assertIn("outside its tree", self.refuse(UsageError))

    def test_no_tests(self) -> None:
        shutil.rmtree(self.root / "sample/tests")
        self.clone.commit_all("Drop all")
        self.assertIn("no test modules", self.refuse(UsageError))

    def test_broken_coverage_settings(self) -> None:
        self.clone.commit("Break", {".coveragerc": "[run]\nbranch = maybe\n"})
        self.assertIn("Not a boolean: maybe", self.refuse(CovtrackError))

    def test_broken_pyproject(self) -> None:
        self.clone.commit("Break", {"pyproject.toml": "[project\nname="})
        self.assertIn("pyproject.toml is broken", self.refuse(CovtrackError))

    def test_unresolvable_requirements(self) -> None:
        self.clone.commit("Ask", {"tox.ini": "[testenv]\ndeps = six==99.9\n"})
        self.assertIn("six==99.9", self.refuse(InfrastructureError))


class StoredStateTest(BadCase):
    def test_caches_that_are_garbage_are_made_anew(self) -> None:
        first = self.run_job()
        for path in (self.folder / "kept").rglob("*"):
            if path.is_file():
                path.write_bytes(b"garbage" * 500)
        (self.folder / "tree.bytecode.json").write_text("[1")
        again = self.run_job(select=Select.ALL)
        self.assertEqual(first.measurement, again.measurement)

    def test_mirror_may_be_deleted(self) -> None:
        first = self.run_job()
        shutil.rmtree(self.folder / "mirror.git")
        self.assertEqual(first.measurement, self.run_job().measurement)

    def test_garbage_database_is_named(self) -> None:
        path = self.root.parent / "garbage.sqlite"
        path.write_bytes(b"no database" * 500)
        error = self.assertRaises(DataError, Database.open, f"sqlite:///{path}")
        self.assertIn(str(path), str(error))
        self.assertEqual(b"no database" * 500, path.read_bytes())


class KilledTest(BadCase):
    """kill -9 and Ctrl-C amid a run: no process stays, the next run is as if nothing was."""

    def stop(self, number: int) -> tuple[int, str]:
        """Signal a run while its test sleeps; its status and what it said."""
        self.clone.commit("Sleep", {BAD: bad_test("time.sleep(600)")})
        config = self.root.parent / "covtrack.toml"
        config.write_text(
            f'state = "{STATE}"\n[projects.{self.name}]\ngit = "{self.root}"\nworkers = 1\n'
        )
        command = [sys.executable, "-m", "covtrack", "-c", str(config), "run", self.name]
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in its background ignores SIGINT, and so would the run.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            worker = self.wait_for_worker(process)
            process.send_signal(number)
            said = process.communicate(timeout=20)[1]
        finally:
            process.kill()
            process.wait()
        for _ in range(200):
            if not Path("/proc", str(worker)).exists():
                return process.returncode, said
            time.sleep(0.02)
        raise AssertionError(f"worker {worker} outlived the run")

    def wait_for_worker(self, process: subprocess.Popen[str]) -> int:
        """The process that runs this project's tests, once it has begun."""
        marker = os.fsencode(f"/{self.name}/scratch/{process.pid}/run/worker-1/plan.json")
        for _ in range(1500):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = entry.read_bytes()
                except OSError:
                    continue
                if marker in words and b"launch.py" not in words:
                    return int(entry.parent.name)
            time.sleep(0.02)
        raise AssertionError("the run never began")

    def test_kill(self) -> None:
        self.run_job()
        self.assertEqual(-signal.SIGKILL, self.stop(signal.SIGKILL)[0])
        self.assert_recovers()
        self.assertEqual([], list(self.folder.glob("scratch/*")))

    def test_interrupt(self) -> None:
        self.run_job()
        status, said = self.stop(signal.SIGINT)
        self.assertEqual((130, True), (status, "nothing stored was changed" in said))
        self.assertNotIn("Traceback", said)
        self.assert_recovers()
