"""jobs/measured/launch.py for real: limits, walls and the end of everything that it started."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import psutil
from testtools import TestCase

from jobs.confinement import MEASURED, Confinement
from venv_builder.processes import Completed, ProcessGroup, start_group

MIB = 2**20


def landlock_abi() -> int:
    """The kernel's own answer, asked beside the launcher."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it happens within some seconds."""
    deadline = monotonic() + seconds
    while not happened():
        if monotonic() > deadline:
            return False
        sleep(0.01)
    return True


class LaunchCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()

    def need_landlock(self, abi: int = 1) -> None:
        if landlock_abi() < abi:
            self.skipTest(f"this kernel has no Landlock ABI {abi}")

    def confinement(self, memory: int | None = None, *writable: Path) -> Confinement:
        return Confinement(
            scratch=self.scratch, memory=memory, writable=tuple(str(path) for path in writable)
        )

    def run_confined(
        self, *command: str, memory: int | None = None, writable: tuple[Path, ...] = ()
    ) -> Completed:
        confinement = self.confinement(memory, *writable)
        environment = confinement.environment((), {})
        return confinement.run(command, cwd=self.scratch, env=environment, timeout=60)

    def run_code(
        self, code: str, *, memory: int | None = None, writable: tuple[Path, ...] = ()
    ) -> Completed:
        return self.run_confined(sys.executable, "-c", code, memory=memory, writable=writable)

    def start(self, argv: tuple[str, ...]) -> ProcessGroup:
        group = start_group(
            argv,
            cwd=self.scratch,
            env={"PATH": os.environ["PATH"]},
            stdout=self.folder / "stdout",
            stderr=self.folder / "stderr",
        )
        self.addCleanup(group.kill)
        return group

    def read_pid(self, path: Path) -> int:
        """The process id that the command wrote, once it did."""
        self.assertTrue(wait_until(lambda: path.exists() and path.read_text().endswith("\n")))
        return int(path.read_text())


class StatusTest(LaunchCase):
    def test_statuses(self) -> None:
        for status in (0, 1, 42, 255):
            self.assertEqual(status, self.run_code(f"raise SystemExit({status})").status)

    def test_output_passes(self) -> None:
        completed = self.run_code("import sys; print('out'); print('err', file=sys.stderr)")
        self.assertEqual(("out\n", "err\n"), (completed.stdout, completed.stderr))

    def test_signals(self) -> None:
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT):
            code = f"import os; os.kill(os.getpid(), {int(number)})"
            self.assertEqual(128 + number, self.run_code(code).status)

    def test_missing_program(self) -> None:
        completed = self.run_confined("/no/such/program")
        self.assertEqual(127, completed.status)
        self.assertIn("No such file", completed.stderr)
        self.assertNotIn("Traceback", completed.stderr)

    def test_program_that_may_not_run(self) -> None:
        plain = self.scratch / "plain"
        plain.write_text("no program")
        completed = self.run_confined(str(plain))
        self.assertEqual(126, completed.status)
        self.assertNotIn("Traceback", completed.stderr)


class MemoryTest(LaunchCase):
    CODE = f"b = bytearray({600 * MIB}); print('had it')"

    def test_beyond_the_limit(self) -> None:
        completed = self.run_code(self.CODE, memory=300 * MIB)
        self.assertEqual(1, completed.status)
        self.assertIn("MemoryError", completed.stderr)

    def test_within_the_limit(self) -> None:
        self.assertEqual("had it\n", self.run_code(self.CODE, memory=2000 * MIB).stdout)
        self.assertEqual("had it\n", self.run_code(self.CODE).stdout)

    def test_limit_cannot_be_raised_and_no_core_is_dumped(self) -> None:
        code = (
            "import resource as r\n"
            f"print(r.getrlimit(r.RLIMIT_AS) == ({300 * MIB},) * 2)\n"
            "print(r.getrlimit(r.RLIMIT_CORE))"
        )
        self.assertEqual("True\n(0, 0)\n", self.run_code(code, memory=300 * MIB).stdout)


class WallsTest(LaunchCase):
    def write_to(self, path: Path, *writable: Path) -> Completed:
        return self.run_code(f"open({str(path)!r}, 'a').write('x')", writable=writable)

    def refused(self, code: str, *writable: Path) -> None:
        completed = self.run_code(code, writable=writable)
        self.assertEqual(1, completed.status, completed.stderr)
        self.assertIn("PermissionError", completed.stderr)

    def test_writes_inside(self) -> None:
        other = self.folder / "other"
        other.mkdir()
        self.assertEqual(0, self.write_to(self.scratch / "new").status)
        self.assertEqual(0, self.write_to(other / "new", other).status)
        self.assertEqual("x", (other / "new").read_text())

    def test_writes_inside_by_temporary_files_and_home(self) -> None:
        code = (
            "import tempfile, pathlib\n"
            "with tempfile.TemporaryDirectory() as f: pathlib.Path(f, 'a').write_text('x')\n"
            "pathlib.Path('~/b').expanduser().write_text('x')\n"
            "open('/dev/null', 'w').write('x')\n"
            "import multiprocessing; multiprocessing.Semaphore()"
        )
        completed = self.run_code(code)
        self.assertEqual(0, completed.status, completed.stderr)

    def test_writes_outside(self) -> None:
        self.need_landlock()
        kept = self.folder / "kept"
        kept.write_text("as it was")
        self.refused(f"open({str(kept)!r}, 'a')")
        self.refused(f"open({str(kept)!r}, 'w')")
        self.refused(f"import os; os.unlink({str(kept)!r})")
        self.refused(f"import os; os.rename({str(kept)!r}, {str(self.scratch / 'k')!r})")
        self.refused(f"import os; os.mkdir({str(self.folder / 'new')!r})")
        self.refused(f"import os; os.symlink('/etc', {str(self.folder / 'link')!r})")
        self.assertEqual("as it was", kept.read_text())
        self.assertFalse((self.folder / "new").exists())

    def test_writes_through_a_link_in_its_own_folder(self) -> None:
        self.need_landlock()
        kept = self.folder / "kept"
        kept.write_text("as it was")
        (self.scratch / "link").symlink_to(kept)
        self.refused("open('link', 'a')")

    def test_truncation_outside(self) -> None:
        self.need_landlock(3)
        kept = self.folder / "kept"
        kept.write_text("as it was")
        self.refused(f"import os; os.truncate({str(kept)!r}, 0)")
        self.assertEqual("as it was", kept.read_text())

    def test_site_packages_and_the_launcher_itself(self) -> None:
        self.need_landlock()
        for folder in (Path(sysconfig.get_path("purelib")), MEASURED):
            target = folder / "written_by_a_test.pth"
            self.addCleanup(target.unlink, missing_ok=True)
            self.assertEqual(1, self.write_to(target).status)
            self.assertFalse(target.exists())

    def test_children_stand_behind_the_same_walls(self) -> None:
        self.need_landlock()
        target = self.folder / "new"
        code = (
            "import subprocess, sys\n"
            f"done = subprocess.run([sys.executable, '-c', 'open({str(target)!r}, \"w\")'])\n"
            "raise SystemExit(done.returncode)"
        )
        self.assertEqual(1, self.run_code(code).status)
        self.assertFalse(target.exists())

    def test_reading_outside(self) -> None:
        (self.folder / "text").write_text("read me")
        completed = self.run_code(f"print(open({str(self.folder / 'text')!r}).read())")
        self.assertEqual("read me\n", completed.stdout)


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1); os.close(2)
        with open("pid", "w") as file:
            file.write("%d\\n" % os.getpid())
        time.sleep(600)
    os._exit(0)
while not os.path.exists("pid") or not open("pid").read().endswith("\\n"):
    time.sleep(0.01)
"""


class EndTest(LaunchCase):
    def test_daemon_dies_with_the_command(self) -> None:
        self.assertEqual(0, self.run_code(DAEMON).status)
        self.assertFalse(is_alive(self.read_pid(self.scratch / "pid")))

    def test_daemon_dies_with_a_command_that_is_killed(self) -> None:
        completed = self.run_code(DAEMON + "os.kill(os.getpid(), 9)")
        self.assertEqual(137, completed.status)
        self.assertFalse(is_alive(self.read_pid(self.scratch / "pid")))

    def test_killing_the_parent_is_refused_or_told(self) -> None:
        completed = self.run_code("import os; os.kill(os.getppid(), 9); print('went on')")
        if landlock_abi() >= 6:
            self.assertEqual(1, completed.status)
            self.assertIn("PermissionError", completed.stderr)
        else:
            self.assertEqual(-signal.SIGKILL, completed.status)

    def test_killing_everything_leaves_the_caller_alive(self) -> None:
        self.need_landlock(6)
        code = (
            "import os, contextlib\n"
            f"for pid in (os.getppid(), {os.getpid()}):\n"
            "    with contextlib.suppress(PermissionError):\n"
            "        os.kill(pid, 15)\n"
            "        print('killed', pid)\n"
        )
        completed = self.run_code(code)
        self.assertEqual((0, ""), (completed.status, completed.stdout))

    def test_killing_its_own_process_group(self) -> None:
        self.need_landlock(6)
        completed = self.run_code("import os; os.killpg(0, 9)")
        self.assertIn(completed.status, (128 + signal.SIGKILL, 1))

    def sleeper(self) -> tuple[str, ...]:
        # In a session of its own, so that no signal to its group reaches it.
        code = (
            "import os, time; os.setsid()\n"
            "open('pid', 'w').write('%d\\n' % os.getpid()); time.sleep(600)"
        )
        confinement = self.confinement()
        confinement.environment((), {})
        return confinement.argv([sys.executable, "-c", code])

    def test_terminated_launcher_ends_the_command(self) -> None:
        group = self.start(self.sleeper())
        pid = self.read_pid(self.scratch / "pid")
        self.assertTrue(is_alive(pid))
        os.kill(group.pid, signal.SIGTERM)
        self.assertTrue(wait_until(lambda: group.poll() is not None))
        self.assertEqual(128 + signal.SIGTERM, group.status)
        self.assertFalse(is_alive(pid))

    def test_killed_launcher_ends_the_command(self) -> None:
        group = self.start(self.sleeper())
        pid = self.read_pid(self.scratch / "pid")
        os.kill(group.pid, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: group.poll() is not None))
        self.assertTrue(wait_until(lambda: not is_alive(pid)))

    def test_killed_caller_ends_launcher_and_command(self) -> None:
        caller = (
            "import json, subprocess, sys\n"
            "process = subprocess.Popen(json.loads(sys.argv[1]), start_new_session=True)\n"
            "open('launcher', 'w').write('%d\\n' % process.pid)\n"
            "process.wait()"
        )
        group = self.start((sys.executable, "-c", caller, json.dumps(self.sleeper())))
        pid = self.read_pid(self.scratch / "pid")
        launcher = self.read_pid(self.scratch / "launcher")
        os.kill(group.pid, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: not is_alive(pid) and not is_alive(launcher)))

    def test_environment_is_scrubbed(self) -> None:
        os.environ["COVTRACK_SECRET"] = "hidden"
        self.addCleanup(os.environ.pop, "COVTRACK_SECRET")
        completed = self.run_code("import os; print(sorted(os.environ))")
        self.assertNotIn("COVTRACK_SECRET", completed.stdout)
        self.assertIn("'HOME'", completed.stdout)
