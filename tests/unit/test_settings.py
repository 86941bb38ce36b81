"""covtrack.settings: the template, the checks, and edits of the file."""

from __future__ import annotations

import re
import tempfile
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

from fixtures import EnvironmentVariable
from testtools import TestCase

from covtrack.gerrit.settings import GerritServer, ReviewSettings
from covtrack.jenkins.settings import JenkinsServer
from covtrack.settings import (
    Settings,
    TrackedProject,
    add_project,
    find_settings,
    load_settings,
    settings_of_clone,
    write_template,
)
from covtrack.settings_template import TEMPLATE
from tests.scratch_git import ScratchRepository
from venv_builder.errors import UsageError
from venv_builder.uv_tool import Wheels

SETTING = re.compile(r"^# (?=\w+ = )", re.MULTILINE)
TABLE = re.compile(r"^# (?=\[)", re.MULTILINE)


def uncommented() -> str:
    """The template with every setting on, the second of two alternatives left out."""
    text = TABLE.sub("", SETTING.sub("", TEMPLATE))
    return re.sub(r"^database = .postgresql.*\n", "", text, flags=re.MULTILINE)


class SettingsCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.path = self.folder / "covtrack.toml"

    def load(self, text: str) -> Settings:
        self.path.write_text(text)
        return load_settings(self.path)

    def refuse(self, text: str, *words: str) -> None:
        """Loading fails with one sentence that names the file and each of the words."""
        error = self.assertRaises(UsageError, self.load, text)
        for word in (str(self.path), *words):
            self.assertIn(word, str(error))
        self.assertEqual(2, error.exit_status)
        self.assertNotIn("\n", error.sentence)


class TemplateTest(SettingsCase):
    def test_as_it_is_it_says_nothing(self) -> None:
        write_template(self.path)
        settings = load_settings(self.path)
        self.assertEqual({}, settings.projects)
        self.assertEqual(load_settings(None).database, settings.database)

    def test_every_setting_of_it_is_a_field(self) -> None:
        settings = self.load(uncommented())
        self.assertEqual(["oslo.utils"], list(settings.projects))

    def test_every_field_stands_in_it(self) -> None:
        raw = tomllib.loads(uncommented())
        (table,) = raw["projects"].values()
        said = {*raw["defaults"], *table}
        self.assertEqual(set(TrackedProject.model_fields) - {"name"}, said)
        self.assertEqual(set(ReviewSettings.model_fields), set(table["review"]))
        (server,) = raw["gerrit"].values()
        self.assertEqual(set(GerritServer.model_fields) - {"name"}, set(server))
        self.assertEqual(set(JenkinsServer.model_fields), set(raw["jenkins"]))
        self.assertEqual(set(Settings.model_fields) | {"defaults"}, set(raw))
        self.assertEqual(set(), set(raw["defaults"]) & set(table))

    def test_defaults_are_what_it_says(self) -> None:
        bare = self.load("[projects.p]\ngit = '/p'\n").project("p")
        said = self.load(uncommented()).project("oslo.utils")
        for name in ("target", "select", "timeout", "memory"):
            self.assertEqual(getattr(bare, name), getattr(said, name), name)
        review = said.review.model_copy(update={"label": None, "template": None})
        self.assertEqual(bare.review, review)

    def test_a_project_on_an_unknown_server(self) -> None:
        text = "[projects.p]\ngit = '/p'\ngerrit = 'g'\n[gerrit.h]\nurl = 'http://h'\n"
        error = self.assertRaises(UsageError, self.load, text)
        self.assertIn("projects.p.gerrit: there is no server g (known: h)", str(error))

    def test_secrets_come_from_the_environment(self) -> None:
        text = "[gerrit.h]\nurl = 'http://h/'\npassword_env = 'COVTRACK_TEST_SECRET'\n"
        server = self.load(text).gerrit["h"]
        self.assertEqual("http://h", server.url)
        self.assertIsNone(server.password)
        self.useFixture(EnvironmentVariable("COVTRACK_TEST_SECRET", "hush"))
        self.assertEqual("hush", server.password)
        self.assertNotIn("hush", repr(server))

    def test_existing_file_is_kept(self) -> None:
        self.path.write_text("mine")
        self.assertRaises(UsageError, write_template, self.path)
        self.assertEqual("mine", self.path.read_text())
        nowhere = self.folder / "absent" / "covtrack.toml"
        self.assertRaises(UsageError, write_template, nowhere)


class LoadTest(SettingsCase):
    def test_project_goes_before_defaults(self) -> None:
        text = (
            "[defaults]\ntarget = 70\nworkers = 3\n"
            "[projects.a]\ngit = '/a'\ntarget = '82.5 %'\n[projects.b]\ngit = '/b'\n"
        )
        settings = self.load(text)
        self.assertEqual(Fraction(165, 2), settings.project("a").target)
        self.assertEqual(Fraction(33, 40), settings.project("a").share)
        self.assertEqual((70, 3), (settings.project("b").target, settings.project("b").workers))

    def test_units(self) -> None:
        for key, word, expected in (
            ("memory", "'512M'", 512 * 2**20),
            ("memory", "'4 GiB'", 4 * 2**30),
            ("memory", "'1.5g'", 3 * 2**29),
            ("memory", "134217728", 2**27),
            ("timeout", "'90 s'", 90.0),
            ("timeout", "'30 min'", 1800.0),
            ("timeout", "'2h'", 7200.0),
            ("timeout", "12.5", 12.5),
            ("target", "0", 0),
            ("target", "99.99", Fraction(9999, 100)),
        ):
            project = self.load(f"[projects.p]\ngit = '/p'\n{key} = {word}\n").project("p")
            self.assertEqual(expected, getattr(project, key), word)

    def test_mistakes_are_named_by_file_and_key(self) -> None:
        for line in (
            "target = 101",
            "target = 'most'",
            "target = '1/0'",
            "target = -1",
            "target = nan",
            "target = inf",
            "memory = '1 KiB'",
            "memory = 'much'",
            "timeout = 0",
            "timeout = '1 week'",
            "timeout = nan",
            "select = 'some'",
            "workers = 0",
            "workers = 'all'",
            "serial = ['(']",
            "serial = 'one'",
            "set_env = { A = 1 }",
            "branch_coverage = 'perhaps'",
            "vendored = [1]",
        ):
            key = line.partition(" ")[0]
            self.refuse(f"[projects.p]\ngit = '/p'\n{line}\n", f"projects.p.{key}")

    def test_all_mistakes_at_once(self) -> None:
        text = "[projects.p]\ngit = 1\ntarget = 200\n[projects.q]\n"
        self.refuse(text, "projects.p.git", "projects.p.target", "projects.q.git")

    def test_unknown_keys(self) -> None:
        self.refuse("stat = '/x'\n", "stat", "not a known setting")
        self.refuse("[projects.p]\ngit = '/p'\ntargt = 1\n", "projects.p.targt")
        self.refuse("[defaults]\ntargt = 1\n[projects.p]\ngit = '/p'\n", "targt")

    def test_unknown_default_without_any_project(self) -> None:
        self.refuse("[defaults]\ntargt = 1\n", "defaults.targt", "not a known setting")
        self.refuse("[defaults]\ntarget = 'most'\n", "defaults.target")

    def test_tables_that_are_none(self) -> None:
        for text in ("defaults = 1\n", "projects = 1\n", "[projects]\np = 1\n"):
            self.refuse(text)

    def test_project_names(self) -> None:
        for name in ("../up", "a b", "", "-x"):
            self.refuse(f"[projects.{name!r}]\ngit = '/p'\n", "projects")

    def test_no_toml_and_no_file(self) -> None:
        self.refuse("[projects\n", "line 1")
        self.path.write_bytes(b"\xff\xfe")
        self.assertRaises(UsageError, load_settings, self.path)
        self.path.unlink()
        self.assertRaises(UsageError, load_settings, self.path)
        self.path.mkdir()
        self.assertRaises(UsageError, load_settings, self.path)

    def test_paths_count_from_the_file(self) -> None:
        text = "state = 'st'\n[projects.p]\ngit = '../repo'\nconstraints = 'uc.txt'\n"
        text += "[projects.p.review]\ntemplate = 'words.j2'\n"
        settings = self.load(text)
        self.assertEqual(self.folder / "st", settings.state)
        self.assertEqual(f"sqlite:///{self.folder}/st/covtrack.sqlite", settings.database_url)
        project = settings.project("p")
        self.assertEqual(str(self.folder.parent / "repo"), project.git)
        self.assertEqual(str(self.folder / "uc.txt"), project.constraints)
        self.assertEqual(self.folder / "words.j2", project.review.template)

    def test_wheels_count_from_the_file_and_may_be_all_there_is(self) -> None:
        settings = self.load('wheels = "wheels"\nindex = false\n')
        self.assertEqual(
            Wheels(place=str(self.folder / "wheels"), alone=True), settings.wheel_source
        )
        settings = self.load('wheels = "https://mirror/wheels/"\n')
        self.assertEqual(Wheels(place="https://mirror/wheels/"), settings.wheel_source)
        self.assertIsNone(self.load("").wheel_source)
        error = self.assertRaises(UsageError, self.load, "index = false\n")
        self.assertIn("leaves nothing to install from", str(error))

    def test_addresses_stay(self) -> None:
        for url in ("https://host/x", "ssh://git@host:29418/x", "git@host:x/y", "/abs/x"):
            text = f"[projects.p]\ngit = '{url}'\nconstraints = 'none'\n"
            project = self.load(text).project("p")
            self.assertEqual((url, "none"), (project.git, project.constraints))

    def test_unknown_project(self) -> None:
        settings = self.load("[projects.one]\ngit = '/p'\n")
        error = self.assertRaises(UsageError, settings.project, "two")
        self.assertIn("two", error.sentence)
        self.assertIn("one", error.sentence)

    def test_found_above(self) -> None:
        deep = self.folder / "a" / "b"
        deep.mkdir(parents=True)
        self.path.write_text("")
        self.assertEqual(self.path, find_settings(deep))
        (deep / "covtrack.toml").write_text("")
        self.assertEqual(deep / "covtrack.toml", find_settings(deep))

    def test_of_a_clone(self) -> None:
        repository = ScratchRepository(self.folder / "oslo.thing")
        repository.commit({"a.py": "1\n"})
        project = settings_of_clone(repository.root)
        self.assertEqual(
            ("oslo.thing", str(repository.root), "master"),
            (project.name, project.git, project.branch),
        )


class AddProjectTest(SettingsCase):
    TEXT = "# Mine.\nstate = 'st'  # here\n\n[projects.a]\ngit = '/a'  # first\n"

    def add(self, name: str, **values: Any) -> Settings:
        add_project(self.path, name, values)
        return load_settings(self.path)

    def test_keeps_what_was_there(self) -> None:
        self.path.write_text(self.TEXT)
        settings = self.add("b.c", git="/b", vendored=["x/*"])
        self.assertEqual({"a", "b.c"}, set(settings.projects))
        self.assertEqual(("x/*",), settings.project("b.c").vendored)
        for line in self.TEXT.splitlines():
            self.assertIn(line, self.path.read_text().splitlines())

    def test_to_no_file_and_to_the_template(self) -> None:
        self.assertEqual(["a"], list(self.add("a", git="/a").projects))
        self.path.unlink()
        write_template(self.path)
        settings = self.add("a", git="/a")
        self.assertEqual(["a"], list(settings.projects))
        for line in TEMPLATE.splitlines():
            self.assertIn(line, self.path.read_text().splitlines())

    def test_what_is_no_good_changes_nothing(self) -> None:
        self.path.write_text(self.TEXT)
        for name, values in (("a", {"git": "/a"}), ("b", {"git": "/b", "target": 200}), ("b", {})):
            self.assertRaises(UsageError, add_project, self.path, name, values)
            self.assertEqual(self.TEXT, self.path.read_text())
        self.path.write_text("[broken\n")
        self.assertRaises(UsageError, add_project, self.path, "b", {"git": "/b"})
        self.path.write_text("projects = 1\n")
        self.assertRaises(UsageError, add_project, self.path, "b", {"git": "/b"})
        self.assertEqual([self.path], list(self.folder.iterdir()))
