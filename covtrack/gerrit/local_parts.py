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


def missing_parts() -> str | None:
    """What keeps a local Gerrit from running here, as one sentence; None where all is there.

    Fetches the jars where they are not in the local Maven repository (80 MB, once).
    """
    return java.missing_parts("A local Gerrit", TOOLS, 17, _artifacts())


def make_template(cache: Path) -> Path:
    """The folder with an initialised site and the compiled launcher, made when first asked for."""
    folder = cache / f"{gerrit_version()}-{TEMPLATE_FORMAT}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as name:
        new = Path(name) / "template"
        new.mkdir()
        (new / "Launcher.java").write_text(LAUNCHER)
        check_command(["javac", "--release", "17", "Launcher.java"], cwd=new)
        init = ("Init", "-d", new / "site", "--batch", "--dev", "--no-auto-start")
        check_command([*java_command(new), *init], cwd=new, timeout=START_SECONDS)
        try:
            new.rename(folder)
        except OSError:  # Somebody else was quicker.
            if not folder.is_dir():
                raise
    return folder


def java_command(template: Path) -> list[str]:
    """The words that start one of Gerrit's programs, its name and arguments still to come."""
    jars = [str(artifact.path) for artifact in _artifacts()]
    path = os.pathsep.join([*jars, str(template)])
    return [java_program(), *JVM, f"-Dcovtrack.starter={os.getpid()}", "-cp", path, "Launcher"]


def _artifacts() -> Iterator[Artifact]:
    """The jars, told one by one: of which release, java is asked once it is known to be there."""
    version = gerrit_version()
    for name in ("gerrit-acceptance-framework", "gerrit-plugin-api"):
        yield Artifact(group="com.google.gerrit", name=name, version=version)
    for name in BOUNCY_CASTLE:
        yield Artifact(group="org.bouncycastle", name=f"{name}-jdk18on", version="1.79")


def gerrit_version() -> str:
    """The newest release of Maven Central that this machine's Java runs."""
    return "3.13.0" if java_release() >= 21 else "3.10.0"
