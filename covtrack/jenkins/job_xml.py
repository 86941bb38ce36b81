"""The job that measures, as Jenkins' config.xml: of the core alone, no plugin is needed. Pure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from covtrack.jenkins.settings import JenkinsServer
from covtrack.jenkins.values import RUN_ID
from venv_builder.errors import DataError

TRACKER, TOKEN = "COVTRACK_TRACKER", "COVTRACK_RUN_TOKEN"
BUNDLE, STATUS = "covtrack.bundle", "covtrack.status"
ARTIFACTS = (BUNDLE, "coverage.xml", "junit.xml", "covtrack.json", STATUS)
DESCRIPTION = (
    "Measures test coverage for covtrack, which made this job: covtrack jenkins update writes it "
    "anew. Each build is asked for by covtrack and measures what COVTRACK_RUN_ID names."
)
PARAMETERS = (
    (RUN_ID, "String", "What is to be measured, by covtrack's own name for it."),
    (TRACKER, "String", "Where covtrack serve answers."),
    (TOKEN, "Password", "Reads the order and writes the result of this run, nothing else."),
)
# The status file tells a step that failed from an agent that went away. A token is never shown:
# Jenkins' shell echoes commands (-x), not values of the environment.
SCRIPT = """\
rm -f {files}
status=0
{command} || status=$?
echo "$status" > {status}
exit "$status"
"""
HEAD = re.compile(r"^<\?xml[^>]*\?>")


def render_job(server: JenkinsServer) -> str:
    """The whole config.xml of the job."""
    root = ET.Element("project")
    ET.SubElement(root, "actions")
    _add(root, "description", DESCRIPTION)
    _add(root, "keepDependencies", "false")
    _add_rotation(root, server.keep_builds)
    properties = ET.SubElement(root, "properties")
    definitions = ET.SubElement(
        ET.SubElement(properties, "hudson.model.ParametersDefinitionProperty"),
        "parameterDefinitions",
    )
    for name, kind, words in PARAMETERS:
        one = ET.SubElement(definitions, f"hudson.model.{kind}ParameterDefinition")
        for key, value in (("name", name), ("description", words), ("defaultValue", "")):
            _add(one, key, value)
    ET.SubElement(root, "scm", {"class": "hudson.scm.NullSCM"})
    for key, value in (
        ("assignedNode", server.label),
        ("canRoam", "false"),
        ("disabled", "false"),
        ("blockBuildWhenUpstreamBuilding", "false"),
    ):
        _add(root, key, value)
    ET.SubElement(root, "triggers", {"class": "vector"})
    _add(root, "concurrentBuild", "true")
    shell = ET.SubElement(ET.SubElement(root, "builders"), "hudson.tasks.Shell")
    _add(shell, "command", render_script(server))
    archiver = ET.SubElement(ET.SubElement(root, "publishers"), "hudson.tasks.ArtifactArchiver")
    _add(archiver, "artifacts", ",".join(ARTIFACTS))
    _add(archiver, "latestOnly", "false")
    ET.SubElement(root, "buildWrappers")
    ET.indent(root)
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + ET.tostring(root, encoding="unicode")


def render_script(server: JenkinsServer) -> str:
    """The job's shell step."""
    return SCRIPT.format(files=" ".join(ARTIFACTS), command=server.command, status=STATUS)


def differences(wanted: str, found: str) -> tuple[str, ...]:
    """What of the wanted settings a job on the server has otherwise, as lines "path: …".

    What the server adds by itself (fields of newer releases and of plugins, encrypted defaults) is
    no difference; further parameters, steps and publishers are.
    """
    ours = dict(_leaves(_parse(wanted)))
    theirs = dict(_leaves(_parse(found)))
    lines = [
        f"{path}: {_shown(theirs.get(path))} → {_shown(value)}"
        for path, value in ours.items()
        if theirs.get(path, "") != value or (path not in theirs and value)
    ]
    known = {_step(path) for path in ours}
    extra = dict.fromkeys(_step(path) for path in theirs if _step(path) not in known)
    return tuple(lines + [f"{step}: (there) → (none)" for step in extra])


def _step(path: str) -> str:
    """The build step or publisher that a path is in; "" for other settings."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in ("builders", "publishers") else ""


def is_ours(found: str) -> bool:
    """Whether a job on the server is one that was made by covtrack."""
    root = _parse(found)
    names = {one.text for one in root.iterfind(".//parameterDefinitions/*/name")}
    return root.tag == "project" and {name for name, _, _ in PARAMETERS} <= names


def _parse(text: str) -> ET.Element:
    """Jenkins declares XML 1.1, which the parser refuses; nothing else of it is used."""
    try:
        root = ET.fromstring(HEAD.sub("", text.strip()))  # noqa: S314  the site's own server
    except ET.ParseError as error:
        raise DataError(f"Jenkins tells the settings of a job as no XML: {error}.") from error
    return _age(root)


def _age(root: ET.Element) -> ET.Element:
    """Where today's Jenkins keeps the rotation of builds, back to where older ones have it."""
    properties = root.find("properties")
    moved = root.find("properties/jenkins.model.BuildDiscarderProperty")
    strategy = None if moved is None else moved.find("strategy")
    if properties is not None and moved is not None and strategy is not None:
        properties.remove(moved)
        strategy.tag = "logRotator"
        root.append(strategy)
    return root


def _leaves(element: ET.Element, path: str = "") -> Iterator[tuple[str, str]]:
    """The text of each element without children, by its path; equal ones are numbered."""
    counts: dict[str, int] = {}
    for child in element:
        number = counts[child.tag] = counts.get(child.tag, -1) + 1
        place = f"{path}{child.tag}" + (f"[{number}]" if number else "")
        if len(child):
            yield from _leaves(child, f"{place}/")
        elif not (child.tag == "defaultValue" and "Password" in element.tag):
            yield place, "\n".join((child.text or "").strip().splitlines())


def _shown(value: str | None) -> str:
    if value is None:
        return "(none)"
    return repr(value) if "\n" in value or not value else value


def _add(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text


def _add_rotation(root: ET.Element, keep: int) -> None:
    rotator = ET.SubElement(root, "logRotator")
    for key in ("daysToKeep", "numToKeep", "artifactDaysToKeep", "artifactNumToKeep"):
        _add(rotator, key, str(keep) if key == "numToKeep" else "-1")
