"""Asks a Jenkins and has it build, as values and as errors that say whose fault.

python-jenkins keeps the session, the credentials and the crumb; every request goes through its
`jenkins_request`. Its calls above that are not used: they take a 503 for a 404, put a build's
parameters into the query string, where servers log them, and try nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import jenkins
import requests

from covtrack.jenkins import values
from covtrack.jenkins.failures import JenkinsError, NotFound, Refused, Unreachable, explain
from covtrack.jenkins.settings import JenkinsServer
from covtrack.jenkins.values import Agent, Artifact, BuildInfo, QueueItem
from venv_builder.errors import UsageError

TRIES = 3
FIRST_PAUSE = 0.3
XML = {"Content-Type": "text/xml; charset=utf-8"}
FOLDER = "com.cloudbees.hudson.plugins.folder.Folder"
PARAMETERS = "actions[parameters[name,value]]"
ITEM = f"id,why,cancelled,executable[number,url],{PARAMETERS}"
BUILD = (
    f"number,building,result,url,builtOn,timestamp,artifacts[relativePath,fileName],{PARAMETERS}"
)
CHUNK = 1 << 16
Read = TypeVar("Read")


class JenkinsClient:
    """One server, as its account sees it; not for several threads at a time.

    Jobs are named by their path, "folder/job". Reading is tried three times, everything else once.
    Everything raises JenkinsError; a user without a token raises UsageError when the client is
    made.
    """

    def __init__(self, server: JenkinsServer) -> None:
        self.server = server
        self._api = _connect(server)

    def version(self) -> str | None:
        """The server's release; None where it does not say (before 1.396)."""
        answer = self._send("for its release", "GET", "api/json?tree=mode")
        return answer.headers.get("X-Jenkins")

    def account(self) -> str | None:
        """The name of the client's account; None for nobody in particular."""
        if self.server.user is None:
            return None
        found = self._get("for its account", "me/api/json?tree=id", lambda answer: answer["id"])
        return str(found)

    def start_build(self, job: str, parameters: Mapping[str, str]) -> int | None:
        """Have a build queued; the queue item's number, None where the server tells none.

        Where this raises Unreachable, the build may have been queued all the same: look for it by
        its parameters before asking again.
        """
        path = f"{_path(job)}/buildWithParameters"
        answer = self._post(f"to build {job}", path, data=dict(parameters))
        # ".../queue/item/25/", on a server that tells it.
        last = answer.headers.get("Location", "").rstrip("/").split("/")
        return int(last[-1]) if last[-2:-1] == ["item"] and last[-1].isdigit() else None

    def queue(self) -> tuple[QueueItem, ...]:
        """All that waits and that the account may see, of whatever job."""
        return self._get("for its queue", f"queue/api/json?tree=items[{ITEM}]", values.read_items)

    def queue_item(self, number: int) -> QueueItem | None:
        """A queue item, also after it became a build; None five minutes after that."""
        path = f"queue/item/{number}/api/json?tree={ITEM}"
        try:
            return self._get(f"for queue item {number}", path, QueueItem.model_validate)
        except NotFound:
            return None

    def cancel_item(self, number: int) -> None:
        """Take an item off the queue; one that is gone is fine."""
        # 404 is also what some releases answer when they did it (JENKINS-21311).
        self._post_if_there(f"to cancel queue item {number}", f"queue/cancelItem?id={number}")

    def builds(self, job: str, *, every: bool = False) -> tuple[BuildInfo, ...]:
        """The job's newest builds (100 or all), or every one that the server keeps."""
        key = "allBuilds" if every else "builds"
        path = f"{_path(job)}/api/json?tree={key}[{BUILD}]"
        return self._get(f"for the builds of {job}", path, values.read_builds)

    def build(self, job: str, number: int) -> BuildInfo | None:
        """A build by its number."""
        path = f"{_path(job)}/{number}/api/json?tree={BUILD}"
        try:
            return self._get(f"for build {number} of {job}", path, BuildInfo.model_validate)
        except NotFound:
            return None

    def stop(self, job: str, number: int) -> None:
        """Have a build stopped, which takes a while; one that is gone is fine."""
        self._post_if_there(f"to stop build {number} of {job}", f"{_path(job)}/{number}/stop")

    def download(self, job: str, number: int, artifact: Artifact, target: Path, most: int) -> int:
        """Write an artifact to the file `target`; its size in bytes.

        Raises Refused where it is longer than `most` bytes; what was written is left there.
        """
        what = f"for {artifact.path} of build {number} of {job}"
        path = f"{_path(job)}/{number}/artifact/{quote(artifact.path)}"
        return self._again(lambda: self._stream(what, path, target, most))

    def console(self, job: str, number: int, most: int = 4000) -> str:
        """The last characters that a build wrote."""
        path = f"{_path(job)}/{number}/consoleText"
        answer = self._again(
            lambda: self._send(f"what build {number} of {job} wrote", "GET", path)
        )
        return answer.content[-4 * most :].decode(errors="replace")[-most:]

    def agents(self) -> tuple[Agent, ...]:
        """All machines that build, the server itself among them."""
        path = "computer/api/json?tree=computer[displayName,offline,numExecutors]"
        return self._get("for its agents", path, values.read_agents)

    def job_xml(self, job: str) -> str | None:
        """The settings of a job or folder, as config.xml; None where there is none."""
        try:
            answer = self._again(
                lambda: self._send(f"for the job {job}", "GET", f"{_path(job)}/config.xml")
            )
        except NotFound:
            return None
        return answer.content.decode(errors="replace")

    def create_job(self, job: str, xml: str) -> None:
        """Make a job; its folder is there. Raises Refused where there is one of that name."""
        folder, _, name = job.rpartition("/")
        path = f"{_path(folder)}/" if folder else ""
        self._post(
            f"to make the job {job}",
            f"{path}createItem?name={quote(name, safe='')}",
            data=xml.encode(),
            headers=XML,
        )

    def create_folder(self, path: str) -> None:
        """Make a folder, for which the server needs the plugin cloudbees-folder."""
        xml = f"<?xml version='1.0' encoding='UTF-8'?><{FOLDER}/>"
        self.create_job(path, xml)

    def configure_job(self, job: str, xml: str) -> None:
        """Give a job other settings; its builds stay."""
        path = f"{_path(job)}/config.xml"
        self._post(f"to change the job {job}", path, data=xml.encode(), headers=XML)

    def delete_job(self, job: str) -> None:
        """Delete a job with its builds; one that is gone is fine."""
        self._post_if_there(f"to delete the job {job}", f"{_path(job)}/doDelete")

    def _stream(self, what: str, path: str, target: Path, most: int) -> int:
        answer = self._send(what, "GET", path, stream=True)
        size = 0
        try:
            with answer, target.open("wb") as file:
                for part in answer.iter_content(CHUNK):
                    size += len(part)
                    if size > most:
                        raise Refused(f"Asked {what}, Jenkins sends more than {most} bytes.")
                    file.write(part)
        except requests.RequestException as error:
            raise explain(self.server, what, error) from error
        return size

    def _get(self, what: str, path: str, read: Callable[[Any], Read]) -> Read:
        answer = self._again(lambda: self._send(what, "GET", path))
        try:
            return read(json.loads(answer.content))
        except (ValueError, KeyError, TypeError) as error:
            raise explain(self.server, what, error) from error

    def _again(self, ask: Callable[[], Read]) -> Read:
        """What `ask` returns, at the third try at the latest."""
        for number in range(TRIES - 1):
            try:
                return ask()
            except Unreachable:
                sleep(FIRST_PAUSE * 3**number)
        return ask()

    def _post_if_there(self, what: str, path: str) -> None:
        try:
            self._post(what, path)
        except NotFound:
            return

    def _post(self, what: str, path: str, **words: Any) -> requests.Response:
        """A crumb may have expired, or be asked for since lately: once more with a new one."""
        try:
            return self._send(what, "POST", path, **words)
        except Refused as error:
            if "crumb" not in error.reason.lower():
                raise
        self._api.crumb = None
        return self._send(what, "POST", path, **words)

    def _send(
        self, what: str, method: str, path: str, *, stream: bool = False, **words: Any
    ) -> requests.Response:
        """What the server answers, if it is no failure."""
        # A server that refuses without reading the body would take it for the next request.
        headers = {"Connection": "close"} if method == "POST" else {}
        headers |= words.pop("headers", {})
        request = requests.Request(method, f"{self.server.url}/{path}", headers=headers, **words)
        try:
            answer: requests.Response = self._api.jenkins_request(
                request, add_crumb=method == "POST", stream=stream
            )
        except JenkinsError:
            raise
        except (jenkins.JenkinsException, requests.RequestException, ValueError) as error:
            raise explain(self.server, what, error) from error
        if unquote(answer.url.split("?")[0]).rstrip("/").endswith(("/login", "/securityRealm")):
            raise Refused(f"Jenkins at {self.server.url} wants a login when asked {what}.")
        return answer


def _connect(server: JenkinsServer) -> Any:
    if server.user is not None and not server.token:
        place = (
            f"set the variable {server.token_env}" if server.token_env else "set token_env there"
        )
        raise UsageError(
            f"[jenkins] has no API token for {server.user}.",
            advice=f"Make one in Jenkins (the account's page, Security) and {place}.",
        )
    return jenkins.Jenkins(server.url, server.user, server.token, timeout=server.timeout)


def _path(job: str) -> str:
    """A job's address below the server's, "job/folder/job/name"."""
    return "/".join(f"job/{quote(part, safe='')}" for part in job.split("/"))
