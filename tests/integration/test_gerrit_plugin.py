"""The plugin for Gerrit's pages: its types, and what it shows in Chromium on a real Gerrit.

The jars at hand have no web interface: `tests/gerrit_page`, served by the real Gerrit that has
the plugin installed, plays its part. covtrack is a real `covtrack serve`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from time import monotonic
from typing import Any

import requests
from testtools import TestCase

from covtrack.gerrit.dispatch import RECHECKED
from covtrack.gerrit.values import ChangeInfo
from tests.browser import Browser, Page
from tests.full_gerrit import FullGerrit, count_marked, press, shown
from tests.gerrit_fixture import RealGerrit, own_gerrit
from tests.integration import test_serving
from tests.sample_project import FILES
from tests.typescript import check_types
from venv_builder.processes import check_command

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "covtrack/gerrit/covtrack.js"
PAGE = ROOT / "tests/gerrit_page"
PATH = "sample/shapes.py"
MORE = """

def twice(number):
    if number:
        return area(
            number,
            2,
        )
    return number


PAIR = twice(
    0,
)
"""
RAN, NOT = "COVERED", "NOT_COVERED"
# Of FILES[PATH] and MORE, read off by hand: statements with all of their lines.
RANGES = [
    (RAN, 1, 1),
    (RAN, 4, 7),
    (RAN, 10, 14),
    (RAN, 17, 17),
    (NOT, 18, 18),
    (RAN, 21, 22),
    (NOT, 23, 26),
    (RAN, 27, 27),
    (RAN, 30, 32),
]


class TypesTest(TestCase):
    def test_plugin_and_page_keep_to_the_published_types(self) -> None:
        done = check_types([PLUGIN, PAGE / "page.js"])
        self.assertEqual((0, ""), (done.status, done.stdout))

    def test_what_breaks_them_is_found(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        text = PLUGIN.read_text()
        for right, wrong in (
            ("asSide('right')", "asSide('middle')"),
            ("statusDescription:", "statusDescribed:"),
            ("callback: () => rerun(patchSet)", "callback: () => 7"),
            ("async (changeNum, path,", "async (path,"),
        ):
            self.assertIn(right, text)
            (folder / "wrong.js").write_text(text.replace(right, wrong))
            self.assertEqual(2, check_types([folder / "wrong.js"]).status, wrong)


class PluginCase(test_serving.ServeCase):
    """A covtrack on a port that is known before, and its plugin in the real Gerrit."""

    @classmethod
    def find_gerrit(cls) -> RealGerrit:
        return own_gerrit(cls)

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        super().setUp()
        self.browser = self.useContext(Browser(self.folder / "browser"))
        self.install()

    def useContext(self, browser: Browser) -> Browser:
        self.addCleanup(browser.__exit__, None, None, None)
        return browser

    def write_settings(self) -> None:
        super().write_settings()
        where = f'listen = "{self.address.removeprefix("http://")}"\nurl = "{self.address}"'
        text = self.config.read_text()
        self.config.write_text(text.replace('listen = "127.0.0.1:0"', where))

    def print_plugin(self) -> str:
        """What the command line prints."""
        command = (sys.executable, "-P", "-m", "covtrack", "--config", self.config)
        return check_command([*command, "gerrit-plugin"], cwd=ROOT).stdout

    def install(self) -> None:
        """As an administrator would: the file into the site's plugins/, the server restarted."""
        site = self.gerrit.site
        self.addCleanup((site / "plugins/covtrack.js").unlink)
        (site / "plugins").mkdir(exist_ok=True)
        (site / "plugins/covtrack.js").write_text(self.print_plugin())
        shutil.copytree(PAGE, site / "static", dirs_exist_ok=True)
        self.gerrit.restart()

    def change_data(self, info: ChangeInfo, **other: Any) -> str:
        data = {
            "changeNumber": info.number,
            "patchsetNumber": info.patch_set,
            "patchsetSha": info.sha,
            "repo": self.project,
        }
        return json.dumps(data | other)

    def show_checks(self, page: Page, info: ChangeInfo, **other: Any) -> Any:
        return page.evaluate(f"page.showChecks({self.change_data(info, **other)})")

    def watch(self, page: Page, info: ChangeInfo) -> list[Any]:
        """Every state of the only run until it is completed, as the page shows it."""
        states: list[Any] = []
        end = monotonic() + test_serving.SECONDS
        while monotonic() < end:
            runs = self.show_checks(page, info)["runs"]
            if runs and (not states or runs != states[-1]):
                states += runs
            if runs and runs[0]["status"] == "COMPLETED":
                return states
        raise AssertionError(f"waited in vain: {states} {self.jobs()}")


class PageTest(PluginCase):
    def test_from_upload_to_lines_checks_and_rerun(self) -> None:
        self.start()
        self.wait(lambda: "HTTP on" in (self.folder / "serve.log").read_text())
        self.check_plugin_as_served()
        page = self.browser.open(f"{self.gerrit.server.url}/static/index.html")
        shapes = dedent(FILES[PATH])
        info = self.push(f"I{secrets.token_hex(20)}", "Add twice", shapes=shapes + MORE)
        states = self.watch(page, info)
        running = [state for state in states if state["status"] == "RUNNING"]
        progress = {state["statusDescription"].split()[0] for state in running}
        self.assertTrue(progress & {"checkout", "env", "parse", "select", "run"}, progress)
        self.assertEqual([], [state for state in running if state["actions"]])
        done = states[-1]
        self.assertEqual(("covtrack", 1), (done["checkName"], done["attempt"]))
        self.assertRegex(done["statusLink"], rf"^{self.address}/jobs/\d+$")
        self.check_results(done["results"])

        self.assertIsNone(self.ranges(page, info, ".stestr.conf"))
        self.assertEqual(RANGES, self.ranges(page, info, PATH))
        if picture := os.environ.get("COVTRACK_TEST_PICTURE"):
            page.take_picture(Path(picture))

        told = page.evaluate('page.press("Rerun")')
        self.assertEqual("covtrack: Queued.", told["message"])
        again = self.watch(page, info)[-1]
        self.assertEqual(2, again["attempt"])
        reasons = [job.reason for job in self.jobs() if job.change == info.number]
        self.assertEqual([RECHECKED, "patchset-created"], reasons)
        self.wait(lambda: len(self.verdicts(info)) == 2)
        self.assertEqual([], page.complaints())

    def check_plugin_as_served(self) -> None:
        """By covtrack, and by the Gerrit that it is installed in."""
        own = requests.get(f"{self.address}/plugins/covtrack.js", timeout=10)
        self.assertIn("javascript", own.headers["content-type"])
        self.assertIn(f'const ADDRESS = "{self.address}";', own.text)
        place = f"{self.gerrit.server.url}/plugins/covtrack/static/covtrack.js"
        self.assertEqual(own.text, requests.get(place, timeout=10).text)

    def check_results(self, results: list[Any]) -> None:
        """The verdict, and the one statement of the patch that did not run."""
        summary, uncovered = results
        self.assertEqual("SUCCESS", summary["category"])
        self.assertIn("4 of 5 statements", summary["summary"])
        self.assertEqual("INFO", uncovered["category"])
        pointer = uncovered["codePointers"][0]
        self.assertEqual(PATH, pointer["path"])
        lines = pointer["range"]["start_line"], pointer["range"]["end_line"]
        self.assertEqual((23, 26), lines)

    def ranges(self, page: Page, info: ChangeInfo, path: str) -> list[Any] | None:
        change = f'await page.read("/changes/{info.number}/detail")'
        asked = f"page.showFile({change}, {info.patch_set}, {json.dumps(path)})"
        found = page.evaluate(f"(async () => {asked})()")
        if found is None:
            return None
        self.assertEqual({"right"}, {one["side"] for one in found})
        return [
            (one["type"], one["code_range"]["start_line"], one["code_range"]["end_line"])
            for one in found
        ]

    def test_quiet_where_covtrack_knows_nothing(self) -> None:
        self.start()
        self.wait(lambda: "HTTP on" in (self.folder / "serve.log").read_text())
        page = self.browser.open(f"{self.gerrit.server.url}/static/index.html")
        info = self.push(f"I{secrets.token_hex(20)}", "Unseen", shapes=dedent(FILES[PATH]) + MORE)
        nothing = {"responseCode": "OK", "runs": []}
        self.assertEqual(nothing, self.show_checks(page, info, repo="other"))
        self.kill()
        self.assertEqual(nothing, self.show_checks(page, info, repo="other"))
        self.assertEqual([], page.complaints())
        self.start()
        self.wait(lambda: self.show_checks(page, info)["runs"])
        self.kill()
        told = self.show_checks(page, info)
        self.assertEqual("ERROR", told["responseCode"])
        self.assertIn("covtrack", told["errorMessage"])


class FullGerritTest(PluginCase):
    """The same on Gerrit's own web interface, where the environment names a server that has it."""

    full: FullGerrit

    @classmethod
    def setUpClass(cls) -> None:
        TestCase.setUpClass()
        cls.gerrit = cls.full = FullGerrit()
        cls.gerrit.grant_label("Coverage")

    def write_settings(self) -> None:
        super().write_settings()
        kept = [line for line in self.config.read_text().splitlines() if line[:3] != "ssh"]
        self.config.write_text("\n".join(kept))

    def install(self) -> None:
        self.full.install(self.print_plugin())

    def test_checks_lines_and_rerun(self) -> None:
        self.start()
        self.wait(lambda: "HTTP on" in (self.folder / "serve.log").read_text())
        info = self.push(
            f"I{secrets.token_hex(20)}", "Add twice", shapes=dedent(FILES[PATH]) + MORE
        )
        self.wait_for_verdicts(info)
        page = self.browser.open(self.full.login())
        page.go(self.full.page_of(self.project, info.number) + "?tab=checks")
        self.wait(lambda: "Patch: 80.00 %, 4 of 5 statements" in shown(page))
        self.wait(lambda: press(page, "Rerun"))
        self.wait(lambda: self.jobs()[0].reason == RECHECKED)
        page.go(self.full.page_of(self.project, info.number, "1", PATH))
        self.wait(lambda: count_marked(page, RAN) and count_marked(page, NOT))
        if picture := os.environ.get("COVTRACK_TEST_PICTURE"):
            page.take_picture(Path(picture))
