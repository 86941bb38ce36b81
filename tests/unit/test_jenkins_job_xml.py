"""covtrack.jenkins.job_xml, and the job builder's template: both make the same job."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from fixtures import TempDir
from testtools import TestCase

from covtrack.jenkins.job_xml import ARTIFACTS, differences, is_ours, render_job, render_script
from covtrack.jenkins.settings import JenkinsServer
from venv_builder.errors import DataError
from venv_builder.processes import check_command, run_command

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "jobs/jenkins/covtrack.yaml"
SERVER = JenkinsServer(url="http://127.0.0.1:9")


def built_by_template() -> dict[str, str]:
    """The config.xml of each job of the template, by the job's name, from jenkins-job-builder."""
    words = ["-m", "jenkins_jobs", "--conf", "/dev/null", "test", str(TEMPLATE)]
    done = check_command([sys.executable, *words])
    texts = [f"<?xml{part}" for part in done.stdout.split("<?xml")[1:]]
    return {"gerrit" if "GerritTrigger" in text else "dispatched": text for text in texts}


class JobXmlTest(TestCase):
    def test_a_job_is_no_different_from_itself(self) -> None:
        self.assertEqual((), differences(render_job(SERVER), render_job(SERVER)))
        self.assertTrue(is_ours(render_job(SERVER)))

    def test_every_setting_that_it_holds_makes_a_difference(self) -> None:
        for key, value in {"label": "big", "command": "true", "keep_builds": 11}.items():
            other = render_job(SERVER.model_copy(update={key: value}))
            (line,) = differences(other, render_job(SERVER))
            self.assertIn(str(value), line)

    def test_what_jenkins_adds_is_no_difference(self) -> None:
        root = ET.fromstring(render_job(SERVER))
        ET.SubElement(root, "blockBuildWhenDownstreamBuilding").text = "false"
        archiver = root.find("publishers/hudson.tasks.ArtifactArchiver")
        assert archiver is not None
        ET.SubElement(archiver, "allowEmptyArchive").text = "false"
        for one in root.iter("hudson.model.PasswordParameterDefinition"):
            one[2].text = "{AQAAABAAAAAQc2VjcmV0}"
        rotator, properties = root.find("logRotator"), root.find("properties")
        assert rotator is not None and properties is not None
        root.remove(rotator)
        rotator.tag = "strategy"
        ET.SubElement(properties, "jenkins.model.BuildDiscarderProperty").append(rotator)
        found = "<?xml version='1.1' encoding='UTF-8'?>\n" + ET.tostring(root, encoding="unicode")
        self.assertEqual((), differences(render_job(SERVER), found))

    def test_what_others_add_is_one(self) -> None:
        root = ET.fromstring(render_job(SERVER))
        builders = root.find("builders")
        assert builders is not None
        ET.SubElement(ET.SubElement(builders, "hudson.tasks.Shell"), "command").text = "mine"
        (line,) = differences(render_job(SERVER), ET.tostring(root, encoding="unicode"))
        self.assertIn("builders/hudson.tasks.Shell[1]: (there)", line)
        builders.clear()
        first, *_ = differences(render_job(SERVER), ET.tostring(root, encoding="unicode"))
        self.assertIn("(none)", first)

    def test_other_jobs_are_not_ours(self) -> None:
        self.assertFalse(is_ours("<project><builders/></project>"))
        self.assertFalse(is_ours("<?xml version='1.1'?><flow-definition/>"))
        self.assertRaises(DataError, is_ours, "<html><p>Log in")

    def test_the_secret_is_a_password_and_nothing_else_is(self) -> None:
        root = ET.fromstring(render_job(SERVER))
        found = [
            one.findtext("name") for one in root.iter("hudson.model.PasswordParameterDefinition")
        ]
        self.assertEqual(["COVTRACK_RUN_TOKEN"], found)

    def test_the_script_keeps_status_and_drops_what_is_old(self) -> None:
        for command, status in (("true", 0), ("sh -c 'exit 3'", 3), ("no-such-program", 127)):
            script = render_script(SERVER.model_copy(update={"command": command}))
            folder = Path(self.useFixture(TempDir()).path)
            (folder / "covtrack.bundle").touch()
            done = run_command(["sh", "-xe", "-c", script], cwd=folder)
            self.assertEqual(status, done.status)
            self.assertEqual(["covtrack.status"], [path.name for path in folder.iterdir()])
            self.assertEqual(f"{status}\n", (folder / "covtrack.status").read_text())


class TemplateTest(TestCase):
    def test_it_makes_the_job_that_install_makes(self) -> None:
        lines = differences(render_job(SERVER), built_by_template()["dispatched"])
        # The builder says "disabled" only where it is so.
        self.assertEqual(["description", "disabled"], [line.partition(":")[0] for line in lines])

    def test_the_job_of_gerrit_trigger(self) -> None:
        root = ET.fromstring(built_by_template()["gerrit"].partition("?>")[2])
        self.assertEqual("covtrack", root.findtext("assignedNode"))
        self.assertEqual(
            render_script(SERVER).strip(), (root.findtext(".//command") or "").strip()
        )
        self.assertEqual("junit.xml", root.findtext(".//testResults"))
        self.assertEqual(",".join(ARTIFACTS), root.findtext(".//artifacts"))

    def test_the_pipeline_runs_the_same_step(self) -> None:
        text = (ROOT / "jobs/jenkins/Jenkinsfile").read_text()
        lines = {line.strip() for line in text.splitlines()}
        self.assertEqual(set(), set(render_script(SERVER).splitlines()) - lines)
        self.assertEqual(",".join(ARTIFACTS), re.findall(r"artifacts: '(.*?)'", text)[0])
