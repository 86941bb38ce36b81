"""Environments really built by uv: shared, verified, mended, killed while building."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import testtools

from venv_builder import (
    Damage,
    DamageKind,
    Environment,
    EnvironmentCache,
    Interpreter,
    Need,
    pick_interpreter,
    write_overlay,
)
from venv_builder.errors import BuildError, UsageError
from venv_builder.files import remove_folder
from venv_builder.generations import Forgotten
from venv_builder.progress import Event, Noted
from venv_builder.resolution import ConflictError

ONE = Need(project="one", requirements=("six==1.16.0",))
BUILD = """
import sys
from pathlib import Path
from venv_builder import EnvironmentCache, Need, pick_interpreter
need = Need(project="one", requirements=("six==1.16.0",))
print(EnvironmentCache(Path(sys.argv[1])).obtain(need, interpreter=pick_interpreter()).path)
"""
ROOT = Path(__file__).resolve().parents[2]
_FOLDER = TemporaryDirectory(ignore_cleanup_errors=True)
_TEMPLATE = Path(_FOLDER.name) / "template"
atexit.register(remove_folder, _TEMPLATE)


class CacheCase(testtools.TestCase):
    interpreter: Interpreter
    shared: Sequence[str] = ("resolutions", "bytecode")  # resolved and compiled once per process

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.interpreter = pick_interpreter()

    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve() / "cache"
        self.addCleanup(remove_folder, self.root)
        self.root.mkdir()
        for name in self.shared:
            folder_of_all = Path(_FOLDER.name) / name
            folder_of_all.mkdir(exist_ok=True)
            (self.root / name).symlink_to(folder_of_all)
        self.cache = EnvironmentCache(self.root)
        self.events: list[Event] = []

    def copy_template(self) -> None:
        """Begin with the environment of ONE, built once per process: it may be moved."""
        if not _TEMPLATE.exists():
            EnvironmentCache(_TEMPLATE).obtain(ONE, interpreter=self.interpreter)
        for name in ("envs", "generations", "resolutions", "groups"):
            shutil.copytree(_TEMPLATE / name, self.root / name, symlinks=True, dirs_exist_ok=True)

    def obtain(self, need: Need = ONE, *beside: Need) -> Environment:
        return self.cache.obtain(
            need, beside=beside, interpreter=self.interpreter, listener=self.events.append
        )

    def set_variable(self, name: str, value: str) -> None:
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name)

    def site(self, environment: Environment) -> Path:
        return next(environment.path.glob("lib/python3*/site-packages"))

    def notes(self) -> list[str]:
        return [event.sentence for event in self.events if isinstance(event, Noted)]

    def run_python(self, environment: Environment, code: str, **variables: str) -> str:
        completed = subprocess.run(
            [environment.python, "-c", code],
            env={"PATH": os.defpath, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return completed.stdout.strip()


class ObtainTest(CacheCase):
    def test_built_once_then_found(self) -> None:
        first, second = self.obtain(), self.obtain()
        self.assertEqual((True, False), (first.built, second.built))
        self.assertEqual(first.path, second.path)
        self.assertEqual("1.16.0", first.distributions["six"])
        for tool in ("coverage", "stestr", "testtools", "python-subunit"):
            self.assertIn(tool, first.distributions)

    def test_found_without_network(self) -> None:
        self.obtain()
        self.set_variable("UV_OFFLINE", "1")
        again = EnvironmentCache(self.root).obtain(ONE, interpreter=self.interpreter)
        self.assertFalse(again.built)

    def test_rebuilt_without_network(self) -> None:
        environment = self.obtain()
        remove_folder(environment.path.parent)
        self.set_variable("UV_OFFLINE", "1")
        again = EnvironmentCache(self.root).obtain(ONE, interpreter=self.interpreter)
        self.assertTrue(again.built)
        self.assertEqual((), self.cache.verify(again.key, full=True))

    def test_another_index_is_another_input(self) -> None:
        self.obtain()
        self.set_variable("UV_INDEX_URL", "http://127.0.0.1:9/simple")
        self.set_variable("UV_HTTP_RETRIES", "0")
        cache = EnvironmentCache(self.root)
        error = self.assertRaises(BuildError, cache.obtain, ONE, interpreter=self.interpreter)
        self.assertNotIsInstance(error, ConflictError)
        self.assertIn("Check the network", error.advice)

    def test_tools_run_from_the_final_place(self) -> None:
        environment = self.obtain()
        completed = subprocess.run(
            [environment.path / "bin" / "stestr", "--version"], capture_output=True, text=True
        )
        self.assertEqual(0, completed.returncode, completed.stderr)
        code = "import six, coverage, stestr, subunit, testtools; print(six.__file__)"
        self.assertEqual(
            str(self.site(environment) / "six.py"), self.run_python(environment, code)
        )

    def test_bytecode_is_there_and_unchecked(self) -> None:
        (cached,) = (self.site(self.obtain()) / "__pycache__").glob("six.*.pyc")
        self.assertEqual(1, int.from_bytes(cached.read_bytes()[4:8], "little"))

    def test_constraints_hold(self) -> None:
        need = Need(project="x", requirements=("six",), constraints=("six===1.15.0",))
        self.assertEqual("1.15.0", self.obtain(need).distributions["six"])

    def test_overlay_is_seen_by_the_environments_python(self) -> None:
        environment = self.obtain()
        tree = self.root.parent / "tree"
        (tree / "demo").mkdir(parents=True)
        (tree / "demo" / "__init__.py").write_text("")
        (tree / "setup.cfg").write_text(
            "[metadata]\nname = demo.pkg\n[files]\npackages = demo\n"
            "[entry_points]\ndemo.plugins =\n  a = demo:A\n"
        )
        overlay = write_overlay(tree, self.root.parent / "ov", version="4.2")
        code = (
            "import importlib.metadata as m, demo\n"
            "print(m.version('demo.pkg'), [e.value for e in m.entry_points()"
            ".select(group='demo.plugins')])"
        )
        told = self.run_python(environment, code, PYTHONPATH=f"{overlay.path}:{tree}")
        self.assertEqual("4.2 ['demo:A']", told)

    def test_nothing_is_linked_to_uvs_cache_nor_writable(self) -> None:
        six = self.site(self.obtain()) / "six.py"
        self.assertEqual(1, six.stat().st_nlink)
        self.assertEqual(0, six.stat().st_mode & 0o222)

    def test_unresolvable_is_one_sentence_with_advice(self) -> None:
        need = Need(project="x", requirements=("six==1.16.0", "six==1.17.0"))
        error = self.assertRaises(ConflictError, self.obtain, need)
        self.assertIn("six==1.17.0", error.sentence)
        self.assertIn("covtrack.toml", error.advice)
        self.assertEqual(1, len(error.sentence.splitlines()))

    def test_tools_whose_constraints_do_not_fit_are_freed_and_it_is_said(self) -> None:
        need = Need(project="x", requirements=("six",), constraints=("coverage===0.0.1",))
        environment = self.obtain(need)
        self.assertIn("coverage", environment.distributions)
        self.assertIn("chosen freely", environment.notes[0])


class BytecodeTest(CacheCase):
    shared = ("resolutions",)

    def test_it_is_compiled_once_for_all_environments(self) -> None:
        first = self.obtain()
        before = self.archives()
        second = self.obtain(Need(project="two", requirements=("six==1.16.0", "idna==3.10")))

        self.assertTrue(second.built)
        self.assertEqual(before, {name: self.archives()[name] for name in before})
        new = {name.partition("-")[0] for name in self.archives().keys() - before.keys()}
        self.assertEqual({"idna"}, new)
        self.assertEqual(self.compiled(first, "six"), self.compiled(second, "six"))

    def test_a_broken_archive_is_made_anew(self) -> None:
        first = self.obtain()
        whole = self.archives()
        broken = next(path for path in self.root.glob("bytecode/*/six-*.zip"))
        broken.write_bytes(broken.read_bytes()[:100])
        remove_folder(first.path.parent)
        second = self.obtain()

        self.assertEqual(whole.keys(), self.archives().keys())
        self.assertEqual((), self.cache.verify(second.key, full=True))
        self.assertEqual(1, len(self.compiled(second, "six")))

    def archives(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.glob("bytecode/*/*.zip")}

    def compiled(self, environment: Environment, module: str) -> list[bytes]:
        found = (self.site(environment) / "__pycache__").glob(f"{module}.*.pyc")
        return [path.read_bytes() for path in found]


class ForgetTest(CacheCase):
    def test_what_nobody_used_goes_and_is_built_again(self) -> None:
        cache = EnvironmentCache(self.root)
        self.copy_template()
        environment = self.obtain()
        later = time.time() + 60
        self.assertEqual((1, 0), self.counts(cache.generations.forget_unused(time.time() - 60)))
        self.assertEqual((0, 1), self.counts(cache.generations.forget_unused(later, dry=True)))
        with cache.hold(environment):
            self.assertEqual((1, 0), self.counts(cache.generations.forget_unused(later)))
        self.assertTrue(environment.python.exists())
        forgotten = cache.generations.forget_unused(later)
        self.assertEqual((0, 1), self.counts(forgotten))
        self.assertGreater(forgotten.bytes_removed, 0)
        self.assertEqual([], [*(self.root / "generations").iterdir()])
        self.assertTrue(self.obtain().built)

    def test_an_environment_that_was_never_marked_is_as_old_as_it_is(self) -> None:
        self.copy_template()
        environment = self.obtain()
        for mark in (self.root / "locks").glob("*.use"):
            mark.unlink()
        made = environment.path.parent.stat().st_ctime
        cache = EnvironmentCache(self.root)
        self.assertEqual((1, 0), self.counts(cache.generations.forget_unused(made)))
        self.assertEqual((0, 1), self.counts(cache.generations.forget_unused(made + 1, dry=True)))

    def counts(self, forgotten: Forgotten) -> tuple[int, int]:
        return forgotten.kept, forgotten.removed


class PoisonTest(CacheCase):
    def test_a_poisoned_uv_cache_is_noticed_and_cleaned(self) -> None:
        poisoned = self.root.parent / "uv"
        cache = EnvironmentCache(self.root, uv_cache=poisoned)
        first = cache.obtain(ONE, interpreter=self.interpreter)
        remove_folder(first.path.parent)
        (kept,) = (poisoned / "archive-v0").glob("*/six.py")
        kept.write_text("raise SystemExit('poisoned')\n")
        again = cache.obtain(ONE, interpreter=self.interpreter, listener=self.events.append)
        self.assertTrue(again.built)
        self.assertEqual((), cache.verify(again, full=True))
        self.assertEqual("1.16.0", self.run_python(again, "import six; print(six.__version__)"))

    def test_the_oldest_supported_interpreter(self) -> None:
        oldest = pick_interpreter("3.9")
        environment = self.cache.obtain(ONE, interpreter=oldest)
        code = "import sys, six, coverage, stestr, pkg_resources; print(sys.version_info[:2])"
        self.assertEqual("(3, 9)", self.run_python(environment, code))


class SharingTest(CacheCase):
    def test_projects_that_fit_share_one(self) -> None:
        two = Need(project="two", requirements=("mock>=3",))
        first, second = self.obtain(ONE, two), self.obtain(two, ONE)
        self.assertEqual(first.path, second.path)
        self.assertEqual(("one", "two"), first.projects)
        self.assertEqual((True, False), (first.built, second.built))

    def test_projects_in_conflict_part_and_it_is_remembered(self) -> None:
        rival = Need(project="rival", requirements=("six==1.17.0",))
        friend = Need(project="friend", requirements=("mock>=3",))
        first = self.obtain(ONE, rival, friend)
        self.assertEqual(("friend", "one"), first.projects)
        self.assertIn("rival", first.notes[0])
        with self.cache.hold(first) as held:
            self.assertEqual(first.notes, held.notes)
        asked = len(list((self.root / "resolutions").glob("*.json")))
        self.assertEqual(first.path, self.obtain(ONE, friend, rival).path)
        self.assertEqual(asked, len(list((self.root / "resolutions").glob("*.json"))))
        self.assertEqual("1.17.0", self.obtain(rival, ONE).distributions["six"])

    def test_a_project_whose_dependency_does_not_build_harms_no_other(self) -> None:
        broken = self.root.parent / "broken"
        broken.mkdir()
        (broken / "setup.py").write_text(
            "import sys\nfrom setuptools import setup\n"
            "if 'bdist_wheel' in sys.argv:\n    raise SystemExit('error: no libfoo here')\n"
            "setup(name='brokendep', version='1.0')\n"
        )
        wheelhouse = self.root.parent / "house"
        subprocess.run(
            [sys.executable, "setup.py", "-q", "sdist", "-d", wheelhouse],
            cwd=broken,
            check=True,
            capture_output=True,
        )
        self.set_variable("UV_FIND_LINKS", str(wheelhouse))
        rival = Need(project="rival", requirements=("brokendep",))
        environment = self.obtain(ONE, rival)
        self.assertEqual(("one",), environment.projects)
        self.assertIn("brokendep 1.0 could not be built", environment.notes[0])
        self.assertFalse(self.obtain(ONE, rival).built)
        error = self.assertRaises(BuildError, self.obtain, rival)
        self.assertIn("brokendep", error.sentence)


class DamageTest(CacheCase):
    def setUp(self) -> None:
        super().setUp()
        self.copy_template()

    def hurt(self, environment: Environment, fault: str) -> None:
        site = self.site(environment)
        info = site / "six-1.16.0.dist-info"
        for folder in (site, info):
            folder.chmod(0o755)
        (site / "six.py").chmod(0o644)
        match fault:
            case "2013":
                shutil.rmtree(site / "testtools", ignore_errors=False)
            case "missing":
                (site / "six.py").unlink()
            case "cut":
                (site / "six.py").write_text("import")
            case "record":
                (info / "RECORD").unlink()
            case "emptied":
                for path in info.iterdir():
                    path.unlink()
            case "added":
                (site / "rogue.pth").write_text("import os\n")
            case "python":
                (environment.path / "bin" / "python").unlink()
            case "venv":
                (environment.path / "pyvenv.cfg").unlink()

    def open_up(self, environment: Environment) -> None:
        for parent, _, _ in os.walk(environment.path):
            Path(parent).chmod(0o755)

    def test_each_fault_is_found_named_and_mended(self) -> None:
        for fault, named in (
            ("2013", "testtools: "),
            ("missing", "six: 1 of "),
            ("cut", "six: 1 of "),
            ("record", "six: 1 of "),
            ("emptied", "six: "),
            ("added", "rogue.pth"),
            ("python", "bin/python"),
            ("venv", "pyvenv.cfg"),
        ):
            environment = self.obtain()
            self.open_up(environment)
            self.hurt(environment, fault)
            self.assertNotEqual((), self.cache.verify(environment), fault)
            self.events.clear()
            mended = self.obtain()
            self.assertTrue(mended.built, fault)
            self.assertIn(named, " ".join(self.notes()), fault)
            self.assertTrue(self.notes()[0].endswith("; the environment was rebuilt."), fault)
            self.assertEqual((), self.cache.verify(mended, full=True), fault)
            self.assertNotEqual(environment.path, mended.path, fault)
            self.assertEqual("1", self.run_python(mended, "import six, testtools; print(1)"))

    def test_the_2013_fault_names_package_and_numbers(self) -> None:
        environment = self.obtain()
        self.open_up(environment)
        self.hurt(environment, "2013")
        (damage,) = self.cache.verify(environment)
        self.assertEqual(("testtools", DamageKind.MISSING), (damage.distribution, damage.kind))
        self.assertTrue(5 < damage.count < damage.total, damage)

    def test_same_size_change_is_found_and_mended_by_repair(self) -> None:
        environment = self.obtain()
        six = self.site(environment) / "six.py"
        six.chmod(0o644)
        six.write_bytes(b"\0" * six.stat().st_size)
        self.assertEqual((), self.cache.verify(environment))
        (damage,) = self.cache.verify(environment.key, full=True)
        self.assertIs(DamageKind.CONTENT, damage.kind)
        mended = self.cache.repair(environment.key)
        self.assertEqual((), self.cache.verify(mended, full=True))

    def test_repair_of_a_whole_one_changes_nothing(self) -> None:
        environment = self.obtain()
        self.assertEqual(environment.path, self.cache.repair(environment.key).path)

    def test_a_lost_manifest_is_damage(self) -> None:
        environment = self.obtain()
        (environment.path.parent / "manifest.json").unlink()
        (damage,) = self.cache.verify(environment.key)
        self.assertEqual(("manifest.json",), damage.paths)
        self.assertTrue(self.obtain().built)

    def test_bytecode_added_by_an_interpreter_is_no_damage(self) -> None:
        environment = self.obtain()
        self.open_up(environment)
        (self.site(environment) / "__pycache__" / "six.cpython-313.opt-2.pyc").write_bytes(b"x")
        self.assertEqual((), self.cache.verify(environment))

    def test_unknown_key(self) -> None:
        error = self.assertRaises(UsageError, self.cache.verify, "nonesuch")
        self.assertIn("nonesuch", error.sentence)

    def test_held_environment_stays_while_it_is_replaced(self) -> None:
        environment = self.obtain()
        with self.cache.hold(environment) as held:
            self.assertEqual(environment.path, held.path)
            self.open_up(environment)
            self.hurt(environment, "added")
            mended = self.obtain()
            self.assertTrue(mended.built)
            self.assertEqual("1", self.run_python(held, "import six; print(1)"))
        self.open_up(mended)
        self.hurt(mended, "added")
        self.obtain()
        self.assertFalse(environment.path.exists())

    def test_holding_a_retired_one_yields_the_newer(self) -> None:
        environment = self.obtain()
        self.open_up(environment)
        self.hurt(environment, "added")
        mended = self.obtain()
        with self.cache.hold(environment) as held:
            self.assertEqual(mended.path, held.path)


class CrashTest(CacheCase):
    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", BUILD, str(self.root)],
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_kill_at_any_moment_leaves_nothing_broken(self) -> None:
        self.obtain()  # the lock and the downloads are there: the kills hit the build
        chance = random.Random(2013)
        for _ in range(4):
            for name in ("envs", "generations"):
                remove_folder(self.root / name)
            process = self.start()
            time.sleep(chance.uniform(0.2, 2.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            environment = self.obtain()
            self.assertEqual((), self.cache.verify(environment, full=True))
            self.assertEqual("1", self.run_python(environment, "import six; print(1)"))
        self.cache.generations.sweep(environment.key)
        self.assertEqual([], list((self.root / "tmp").iterdir()))

    def test_builders_at_once_make_one_environment(self) -> None:
        processes = [self.start() for _ in range(3)]
        paths = {process.communicate()[0] for process in processes}
        self.assertEqual([0, 0, 0], [process.returncode for process in processes])
        self.assertEqual(1, len(paths))
        self.assertEqual(1, len(list((self.root / "generations").iterdir())))

    def test_an_unfinished_generation_is_no_environment(self) -> None:
        environment = self.obtain()
        (environment.path.parent / "ready").unlink()
        self.assertEqual((), self.cache.environments())
        found: tuple[Damage, ...] = self.cache.verify(environment.key)
        self.assertEqual(1, len(found))
