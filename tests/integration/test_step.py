"""`covtrack step` from order to bundle, without a tracker; nothing is faked."""

from __future__ import annotations

import json
import os
import signal
import sys
from base64 import b64encode
from time import monotonic, sleep
from typing import Any
from xml.etree import ElementTree

from jobs.bundle import NAME, read_manifest
from tests.step_case import AGENT, FILES, StepCase, affected, full
from venv_builder.files import remove_folder
from venv_builder.processes import run_command, start_group


class OrderTest(StepCase):
    def test_a_change_after_the_commit_that_it_forks_off(self) -> None:
        order = self.write_order(full(self.first), affected(self.change()))
        done = self.step("--order", order)
        self.assertEqual(0, done.status, done.stderr)
        self.assertEqual(FILES, self.written())
        report = self.report()
        self.assertEqual("change", report["kind"])
        self.assertEqual(
            {"run": 1, "passed": 1, "carried": 2},
            {name: report["tests"][name] for name in ("run", "passed", "carried")},  # type: ignore[index]
        )
        manifest = read_manifest(self.out / NAME)
        self.assertEqual([3, 1], [part.result.tests.run for part in manifest.results])
        suites = ElementTree.parse(self.out / "junit.xml").getroot()
        self.assertEqual(["3", "1"], [suite.get("tests") for suite in suites])
        names = {
            each.get("filename")
            for each in ElementTree.parse(self.out / "coverage.xml").iter("class")
        }
        self.assertIn("sample/texts.py", names)

    def test_a_failed_import_is_incomplete_and_status_3(self) -> None:
        self.clone.commit(
            "Break", {"sample/tests/test_broken.py": "import nothing_of_that_name\n"}
        )
        sha = self.clone.repo.head.commit.hexsha
        done = self.step("--order", self.write_order(full(sha)))
        self.assertEqual(3, done.status, done.stderr)
        self.assertEqual(FILES, self.written())
        self.assertFalse(read_manifest(self.out / NAME).results[0].result.complete)

    def test_what_an_earlier_step_left_is_not_taken_for_this_ones(self) -> None:
        self.out.mkdir()
        for name in (*FILES, f".{NAME}.77.new"):
            (self.out / name).write_text("old")
        done = self.step("--order", self.folder / "nothing.json")
        self.assertEqual(2, done.status)
        self.assertIn("nothing.json cannot be read", done.stderr)
        self.assertEqual([], self.written())

    def test_orders_that_make_no_sense(self) -> None:
        path = self.folder / "bad.json"
        good = json.loads(self.write_order(full(self.first)).read_text())
        mistakes: tuple[dict[str, Any], ...] = (
            {"format": 2},
            {"commits": []},
            {"commits": [{"sha": "HEAD", "kind": "baseline", "select": "all"}]},
            {"run_id": "../x"},
            {"refs": ["--upload-pack=touch /tmp/x"]},
            {"branch": "--output=x"},
            {"settings": {**good["settings"], "git": "--upload-pack=x"}},
            {"more": 1},
        )
        for changes in mistakes:
            path.write_text(json.dumps(good | changes))
            done = self.step("--order", path)
            self.assertEqual(3, done.status, f"{changes} {done.stderr}")
            self.assertIn("is no order that this covtrack understands", done.stderr)
            self.assertEqual(1, len(done.stderr.strip().splitlines()), done.stderr)
        for text in ("", "[" * 100_000, "{}", "\0"):
            path.write_text(text)
            self.assertEqual(3, self.step("--order", path).status)
        self.assertEqual([], self.written())

    def test_a_commit_that_nobody_has(self) -> None:
        done = self.step("--order", self.write_order(full("1" * 40)))
        self.assertEqual(3, done.status)
        self.assertIn("has no commit 1111111111", done.stderr)

    def test_killed_at_any_moment_no_half_bundle_is_left(self) -> None:
        order = self.write_order(full(self.first), affected(self.change()))
        self.assertEqual(0, self.step("--order", order).status)
        argv = [sys.executable, "-P", "-m", "covtrack", "step", "--order", str(order)]
        argv += ["--output", str(self.out), "--state", str(AGENT)]
        kills = 0
        for number in range(1, 60):
            group = start_group(
                argv,
                cwd=self.folder,
                env=self.environment(),
                stdout=self.folder / "o",
                stderr=self.folder / "e",
            )
            deadline = monotonic() + 0.4 * number
            while group.poll() is None and monotonic() < deadline:
                sleep(0.01)
            killed = group.poll() is None
            if killed:
                os.kill(group.pid, signal.SIGKILL)
                kills += 1
            group.kill()
            if (self.out / NAME).exists():
                self.assertEqual(2, len(read_manifest(self.out / NAME).results))
                self.assertEqual(FILES, [n for n in self.written() if not n.startswith(".")])
            if not killed:
                break
        self.assertGreater(kills, 3)
        self.assertEqual(0, self.step("--order", order).status)
        self.assertEqual(FILES, self.written())


class AloneTest(StepCase):
    def test_a_plain_clone(self) -> None:
        old, young = AGENT / "order-killed", AGENT / "order-at-work"
        for folder in (old, young):
            folder.mkdir(parents=True, exist_ok=True)
            self.addCleanup(remove_folder, folder)
        os.utime(old, (0, 0))
        done = self.step(cwd=self.clone.root)
        self.assertEqual((False, True), (old.exists(), young.exists()))
        self.assertEqual(0, done.status, done.stderr)
        self.assertEqual("baseline", self.report()["kind"])
        self.change()
        done = self.step(cwd=self.clone.root)
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn("No baseline: a full run of", done.stderr)
        self.assertEqual("change", self.report()["kind"])
        self.assertEqual(2, len(read_manifest(self.out / NAME).results))

    def test_the_nearest_kept_baseline_is_built_on(self) -> None:
        kept = self.folder / "kept"
        words = ("--project", self.name, "--baseline", kept, "--keep")
        self.assertEqual(0, self.step(*words, cwd=self.clone.root).status)
        self.assertTrue((kept / self.name / f"{self.first}.bundle").is_file())
        self.clone.replace("sample/shapes.py", "return 1", "return 2")
        second = self.clone.commit_all("Second")
        self.assertEqual(0, self.step(*words, cwd=self.clone.root).status)
        # A bundle of whatever name counts too; a damaged one is told and passed over.
        (kept / self.name / f"{second}.bundle").rename(kept / "yesterday.bundle")
        (kept / "broken.bundle").write_bytes(b"PK")
        sha = self.change()
        done = self.step(*words, cwd=self.clone.root)
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn("broken.bundle is passed over", done.stderr)
        report = self.report()
        self.assertEqual((sha, second), (report["commit"], report["base"]))
        self.assertEqual(
            [f"{self.first}.bundle"], sorted(p.name for p in (kept / self.name).iterdir())
        )

    def gerrit(self, sha: str, **more: str) -> dict[str, str]:
        return {
            "GERRIT_EVENT_TYPE": "patchset-created",
            "GERRIT_PROJECT": self.name,
            "GERRIT_BRANCH": "master",
            "GERRIT_CHANGE_NUMBER": "7",
            "GERRIT_PATCHSET_NUMBER": "1",
            "GERRIT_PATCHSET_REVISION": sha,
            "GERRIT_REFSPEC": "refs/changes/07/7/1",
            "GERRIT_CHANGE_COMMIT_MESSAGE": b64encode(b"Louder\n\nMuch.\n").decode(),
            **more,
        }

    def test_a_change_of_gerrit_trigger_without_a_clone(self) -> None:
        sha = self.change()
        self.clone.repo.git.update_ref("refs/changes/07/7/1", sha)
        self.clone.repo.git.checkout("-q", "master")
        self.clone.repo.git.branch("-D", "work")
        words = ("--git", self.clone.root)
        done = self.step(*words, env=self.gerrit(sha))
        self.assertEqual(0, done.status, done.stderr)
        self.assertIn(f"gerrit-trigger asks for change 7,1 ({sha[:10]})", done.stderr)
        self.assertIn("on master: Louder.", done.stderr)
        self.assertEqual((sha, "change"), (self.report()["commit"], self.report()["kind"]))
        self.assertEqual(self.name, self.report()["project"])

    def test_garbage_is_told(self) -> None:
        done = self.step(env=self.gerrit("HEAD; rm -rf /"))
        self.assertEqual(2, done.status)
        self.assertEqual(
            "covtrack: GERRIT_PATCHSET_REVISION makes no sense: 'HEAD; rm -rf /'. "
            "Look at what sets it in the build.\n",
            done.stderr,
        )

    def test_nothing_says_what_to_measure(self) -> None:
        done = self.step()
        self.assertEqual(2, done.status)
        self.assertIn("Nothing says what to measure", done.stderr)

    def test_a_policy_that_is_broken_is_status_1_and_all_files_are_there(self) -> None:
        self.clone.repo.git.checkout("-q", "-B", "work")
        text = self.clone.read("sample/shapes.py")
        self.clone.commit("More", {"sample/shapes.py": text + "\n\ndef more():\n    return 2\n"})
        words = ("--project", self.name)
        done = self.step(*words, "--require-patch", "80", cwd=self.clone.root)
        self.assertEqual(1, done.status, done.stderr)
        self.assertIn("Patch coverage is below 80 %", done.stderr.splitlines()[-1])
        self.assertEqual(FILES, self.written())
        done = self.step(*words, "--require-patch", "50", cwd=self.clone.root)
        self.assertEqual(0, done.status, done.stderr)

    def test_a_covtrack_toml_of_the_patch_set_does_not_count(self) -> None:
        self.clone.commit("Evil", {"covtrack.toml": "this is no toml"})
        self.assertEqual(0, self.step("--project", self.name, cwd=self.clone.root).status)
        config = self.folder / "own.toml"
        config.write_text(
            f'[projects."{self.name}"]\ngit = "{self.clone.root}"\nbranch = "master"\n'
            'constraints = "none"\nset_env = { COLOUR = "blue" }\n'
        )
        argv = [sys.executable, "-P", "-m", "covtrack", "--config", config, "step"]
        argv += ["--output", self.out, "--state", AGENT]
        done = run_command(
            [str(word) for word in argv], cwd=self.folder, env=self.environment(), timeout=300
        )
        self.assertEqual(0, done.status, done.stderr)
        self.assertEqual(self.name, self.report()["project"])
