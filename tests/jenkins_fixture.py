"""A real server with the interface of Jenkins, and its agents, for tests and benchmarks.

It is Hudson 1.395, the last release before it was renamed Jenkins: the newest that Maven Central
holds. It listens on loopback (its port for agents, which asks for a secret, on all addresses),
knows no accounts, asks for crumbs, and ends with the process that started it.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import unittest
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import requests

from covtrack.java import Artifact, free_ports, java_program, missing_parts
from covtrack.jenkins.settings import JenkinsServer
from venv_builder.errors import InfrastructureError
from venv_builder.processes import ProcessGroup, run_command, start_group

WAR = Artifact(
    group="org.jvnet.hudson.main",
    name="hudson-war",
    version="1.395",
    packaging="war",
    sha256="20b7099d04a97462f45aefbf533f6c03f238c553ab82cec5aeda38c2825a8af0",
)
START_SECONDS = 120.0
# It takes today's Java for one that it does not know; a server must not outlive its starter.
LAUNCHER = """\
public class Launcher {
    public static void main(String[] words) throws Exception {
        long starter = Long.getLong("covtrack.starter");
        ProcessHandle.of(starter).orElseThrow().onExit()
            .thenRun(() -> Runtime.getRuntime().halt(1));
        System.setProperty("java.vendor", "Sun Microsystems Inc.");
        System.setProperty("java.vm.vendor", "Sun Microsystems Inc.");
        System.setProperty("java.specification.version", "1.8");
        System.setProperty("java.version", "1.8.0_292");
        Object rest = java.util.Arrays.copyOfRange(words, 1, words.length);
        Class.forName(words[0]).getMethod("main", String[].class).invoke(null, rest);
    }
}
"""
BASE = (
    *("java.lang", "java.lang.reflect", "java.util", "java.util.concurrent", "java.util.regex"),
    *("java.util.concurrent.atomic", "java.util.concurrent.locks", "java.io", "java.net"),
    *("java.text", "java.security", "java.nio.charset", "sun.nio.ch", "jdk.internal.reflect"),
)
OPENED = [
    *(f"java.base/{name}" for name in BASE),
    *("java.desktop/java.awt", "java.desktop/java.awt.font", "java.logging/java.util.logging"),
]
CONFIG = """\
<?xml version='1.0' encoding='UTF-8'?>
<hudson>
  <version>1.395</version>
  <numExecutors>0</numExecutors>
  <mode>NORMAL</mode>
  <useSecurity>false</useSecurity>
  <jdks/>
  <slaves>{agents}</slaves>
  <quietPeriod>0</quietPeriod>
  <views>
    <hudson.model.AllView>
      <owner class="hudson" reference="../../.."/>
      <name>All</name>
    </hudson.model.AllView>
  </views>
  <slaveAgentPort>{port}</slaveAgentPort>
  <label></label>
  <crumbIssuer class="hudson.security.csrf.DefaultCrumbIssuer"/>
  <nodeProperties/>
  <globalNodeProperties/>
</hudson>
"""
AGENT = """
    <slave>
      <name>{name}</name><description/><remoteFS>{folder}</remoteFS>
      <numExecutors>1</numExecutors><mode>NORMAL</mode>
      <retentionStrategy class="hudson.slaves.RetentionStrategy$Always"/>
      <launcher class="hudson.slaves.JNLPLauncher"/><label>covtrack</label><nodeProperties/>
    </slave>"""


class RealJenkins:
    """One server and its agents "agent1"… in `folder`, an empty or absent one.

    Agents are processes of their own: killed, they stay away until `start_agent`.
    """

    def __init__(self, folder: Path, agents: int = 2) -> None:
        self._folder = folder
        self._port, self._agent_port = free_ports(2)
        self.agents = tuple(f"agent{number + 1}" for number in range(agents))
        self._server: ProcessGroup | None = None
        self._agents: dict[str, ProcessGroup] = {}
        self.environ = dict(os.environ)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def server(self) -> JenkinsServer:
        """Its settings, as a user's file would hold them."""
        return JenkinsServer(url=self.url)

    def start(self) -> None:
        """Start the server, wait until it answers, then the agents; what runs already goes on."""
        if not (self._folder / "home").exists():
            self._write_home()
        if self._server is None or self._server.poll() is not None:
            self._start_server()
        for name in self.agents:
            self.start_agent(name)
        self._wait("its agents", self._all_online)

    def kill(self) -> None:
        """End the server at once, as a crash would; its agents go on."""
        if self._server is not None:
            self._server.kill(0.0)
            self._server = None

    def stop(self) -> None:
        """End the server in peace."""
        if self._server is not None:
            self._server.kill(20.0)
            self._server = None

    def start_agent(self, name: str) -> None:
        """Start an agent, if it does not run."""
        running = self._agents.get(name)
        if running is not None and running.poll() is None:
            return
        jar = self._folder / "slave.jar"
        if not jar.exists():
            jar.write_bytes(self._get("jnlpJars/slave.jar").content)
        page = self._get(f"computer/{name}/slave-agent.jnlp").text
        secret = re.findall(r"<argument>([0-9a-f]+)</argument>", page)[0]
        words = ("hudson.remoting.jnlp.Main", "-headless", "-url", f"{self.url}/", secret, name)
        self._agents[name] = self._java(jar, words, f"{name}.log", {})

    def kill_agent(self, name: str) -> None:
        """End an agent and what it runs at once, as a machine that loses its power."""
        if name in self._agents:
            self._agents.pop(name).kill(0.0)

    def end(self) -> None:
        """Kill everything."""
        for name in tuple(self._agents):
            self.kill_agent(name)
        self.kill()

    def _write_home(self) -> None:
        reason = what_is_missing()
        if reason is not None:
            raise InfrastructureError(reason)
        (self._folder / "home").mkdir(parents=True)
        (self._folder / "Launcher.java").write_text(LAUNCHER)
        agents = "".join(
            AGENT.format(name=name, folder=self._folder / name) for name in self.agents
        )
        text = CONFIG.format(agents=agents, port=self._agent_port)
        (self._folder / "home/config.xml").write_text(text)

    def _start_server(self) -> None:
        words = ("--httpListenAddress=127.0.0.1", f"--httpPort={self._port}", "--ajp13Port=-1")
        home = {"HUDSON_HOME": str(self._folder / "home")}
        self._server = self._java(WAR.path, ("Main", *words), "server.log", home)
        self._wait("the server", self._answers)

    def _java(
        self, jar: Path, words: tuple[str, ...], log: str, env: dict[str, str]
    ) -> ProcessGroup:
        flags = ("-Xmx512m", "-Djava.awt.headless=true", f"-Dcovtrack.starter={os.getpid()}")
        quiet = ("-Dhudson.DNSMultiCast.disabled=true", "-Dhudson.udp=0")
        opened = [f"--add-opens={name}=ALL-UNNAMED" for name in OPENED]
        launcher = str(self._folder / "Launcher.java")
        return start_group(
            [java_program(), *flags, *quiet, *opened, "-cp", str(jar), launcher, *words],
            cwd=self._folder,
            env=self.environ | env,
            stdout=self._folder / f"{log}.out",
            stderr=self._folder / log,
        )

    def _wait(self, what: str, ask: Callable[[], bool]) -> None:
        deadline = monotonic() + START_SECONDS
        while not ask():
            if self._server is None or self._server.poll() is not None or monotonic() > deadline:
                words = (self._folder / "server.log").read_text(errors="replace")[-600:]
                raise InfrastructureError(f"Hudson: {what} did not start: {words}")
            sleep(0.1)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/api/json", timeout=10).status_code == 200
        except requests.RequestException:
            return False

    def _all_online(self) -> bool:
        computers = self._get("computer/api/json").json()["computer"]
        offline = {one["displayName"]: one["offline"] for one in computers}
        return not any(offline.get(name, True) for name in self.agents)

    def _get(self, path: str) -> requests.Response:
        answer = requests.get(f"{self.url}/{path}", timeout=30)
        answer.raise_for_status()
        return answer


def what_is_missing() -> str | None:
    """What keeps it from running here, as one sentence."""
    reason = missing_parts("A real Jenkins", ("mvn",), 17, (WAR,))
    if (
        reason is None
        and "jdk.compiler" not in run_command([java_program(), "--list-modules"]).stdout
    ):
        return "A real Jenkins needs a JDK: this java has no compiler."
    return reason


def real_jenkins() -> RealJenkins:
    """This process's server, everything of it running; raises SkipTest where a part is missing."""
    found = _server()
    if isinstance(found, str):
        raise unittest.SkipTest(found)
    return found


@cache
def _server() -> RealJenkins | str:
    reason = what_is_missing()
    if reason is not None:
        return reason
    folder = Path(tempfile.mkdtemp(prefix="covtrack-jenkins-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    jenkins = RealJenkins(folder)
    atexit.register(jenkins.end)
    jenkins.start()
    return jenkins
