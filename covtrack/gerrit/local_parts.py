"""What a local Gerrit is made of: the jars from Maven Central, an initialised site.

Two jars hold the server but for the web interface and the plugins.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from covtrack import java
from covtrack.java import Artifact, java_program, java_release
from venv_builder.processes import check_command

START_SECONDS = 120.0
BOUNCY_CASTLE = ("bcprov", "bcpg", "bcutil", "bcpkix")
# Releases in Maven Central, newest first, and the Java that each needs.
RELEASES = {"3.13.0": 21, "3.10.0": 17}
TOOLS = ("javac", "mvn", "git", "ssh", "ssh-keygen")
# Raised when what lies in the template's folder changes.
TEMPLATE_FORMAT = 1
JVM = (
    "-Xmx768m",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.invoke=ALL-UNNAMED",
)
# The jars' own main class is not Gerrit's. A server whose starter died must not stay behind.
LAUNCHER = """\
public class Launcher {
    public static void main(String[] words) throws Exception {
        long starter = Long.getLong("covtrack.starter");
        ProcessHandle.of(starter).orElseThrow().onExit()
            .thenRun(() -> Runtime.getRuntime().halt(1));
        Class<?> program = Class.forName("com.google.gerrit.pgm." + words[0]);
        Object made = program.getDeclaredConstructor().newInstance();
        Object rest = java.util.Arrays.copyOfRange(words, 1, words.length);
        System.exit((int) program.getMethod("main", String[].class).invoke(made, rest));
    }
}
"""


def missing_parts(version: str) -> str | None:
    """What keeps a local Gerrit from running here, as one sentence; None where all is there.

    Fetches the jars where they are not in the local Maven repository (80 MB, once).
    """
    thing = f"A local Gerrit {version}"
    return java.missing_parts(thing, TOOLS, RELEASES[version], _artifacts(version))


def make_template(cache: Path, version: str) -> Path:
    """The folder with an initialised site and the compiled launcher, made when first asked for."""
    folder = cache / f"{version}-{TEMPLATE_FORMAT}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as name:
        new = Path(name) / "template"
        new.mkdir()
        (new / "Launcher.java").write_text(LAUNCHER)
        check_command(["javac", "--release", "17", "Launcher.java"], cwd=new)
        init = ("Init", "-d", new / "site", "--batch", "--dev", "--no-auto-start")
        check_command(
            [*java_command(new, version, os.getpid()), *init], cwd=new, timeout=START_SECONDS
        )
        try:
            new.rename(folder)
        except OSError:  # Somebody else was quicker.
            if not folder.is_dir():
                raise
    return folder


def java_command(template: Path, version: str, starter: int) -> list[str]:
    """The words that start one of Gerrit's programs, its name and arguments still to come.

    It ends with the process `starter`.
    """
    jars = [str(artifact.path) for artifact in _artifacts(version)]
    path = os.pathsep.join([*jars, str(template)])
    program = java_program(RELEASES[version])
    return [program, *JVM, f"-Dcovtrack.starter={starter}", "-cp", path, "Launcher"]


def _artifacts(version: str) -> Iterator[Artifact]:
    for name in ("gerrit-acceptance-framework", "gerrit-plugin-api"):
        yield Artifact(group="com.google.gerrit", name=name, version=version)
    for name in BOUNCY_CASTLE:
        yield Artifact(group="org.bouncycastle", name=f"{name}-jdk18on", version="1.79")


def gerrit_version() -> str:
    """The newest release of Maven Central that this machine's first Java runs."""
    found = java_release(java_program())
    return next((version for version, least in RELEASES.items() if found >= least), "3.10.0")
