"""Makes, changes and removes covtrack's job on a Jenkins, and tries all that is needed of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from covtrack.gerrit.doctor import Finding, Health
from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.failures import NotFound
from covtrack.jenkins.job_xml import differences, is_ours, render_job
from covtrack.jenkins.settings import JenkinsServer
from venv_builder.errors import CovtrackError, UsageError


class Installer:
    """One server's job. Everything raises CovtrackError; nothing of others is touched."""

    def __init__(self, server: JenkinsServer) -> None:
        self.server = server
        self.job = server.job
        self.client = JenkinsClient(server)

    def differences(self) -> tuple[str, ...] | None:
        """What `update` would change, as lines; None where there is no job."""
        found = self.client.job_xml(self.job)
        return None if found is None else differences(render_job(self.server), found)

    def install(self) -> bool:
        """Make the job and the folders above it where there are none; whether anything was made.

        Raises UsageError where there is a job of that name that is none of ours, or another one.
        """
        found = self.client.job_xml(self.job)
        if found is None:
            self._make_folders()
            self.client.create_job(self.job, render_job(self.server))
            return True
        self._check_ours(found)
        if differences(render_job(self.server), found):
            raise UsageError(
                f"The job {self.job} on {self.server.url} is there, with other settings.",
                advice="Show them: covtrack jenkins diff. Set them: covtrack jenkins update",
            )
        return False

    def update(self) -> tuple[str, ...]:
        """Give the job the settings that it should have; what was changed, as lines.

        Raises UsageError where there is no such job of ours.
        """
        found = self._found()
        changed = differences(render_job(self.server), found)
        if changed:
            self.client.configure_job(self.job, render_job(self.server))
        return changed

    def remove(self) -> bool:
        """Delete the job and its builds; False where there is none."""
        found = self.client.job_xml(self.job)
        if found is None:
            return False
        self._check_ours(found)
        self.client.delete_job(self.job)
        return True

    def examine(self) -> Iterator[Finding]:
        """What was found of server, account, agents and job; nothing is changed."""
        place = self.server.url
        yield _try(place, lambda: f"answers, version {self.client.version() or 'unknown'}")
        who = self.server.user
        yield _try(
            place, lambda: f"knows {self.client.account()}" if who else "asks for no account"
        )
        yield self._examine_agents()
        yield self._examine_job()

    def _examine_agents(self) -> Finding:
        try:
            agents = [one for one in self.client.agents() if one.executors]
        except CovtrackError as error:
            return _failed(self.server.url, str(error), error.advice)
        online = [one for one in agents if not one.offline]
        if online:
            names = ", ".join(one.name for one in online)
            sentence = f"has {len(online)} of {len(agents)} agents online: {names}"
            return Finding(place=self.server.url, health=Health.OK, sentence=sentence)
        advice = f"Start agents with the label {self.server.label}."
        return _failed(self.server.url, "has no agent online", advice)

    def _examine_job(self) -> Finding:
        try:
            changed = self.differences()
        except CovtrackError as error:
            return _failed(self.job, str(error), error.advice)
        if changed is None:
            return _failed(self.job, "is not there", "Make it with: covtrack jenkins install")
        if changed:
            advice = "See them with: covtrack jenkins diff"
            return _failed(self.job, "has other settings than it should", advice)
        return Finding(place=self.job, health=Health.OK, sentence="is as it should be")

    def _found(self) -> str:
        found = self.client.job_xml(self.job)
        if found is None:
            raise UsageError(
                f"There is no job {self.job} on {self.server.url}.",
                advice="Make it with: covtrack jenkins install",
            )
        self._check_ours(found)
        return found

    def _check_ours(self, xml: str) -> None:
        if not is_ours(xml):
            raise UsageError(
                f"The job {self.job} on {self.server.url} was not made by covtrack.",
                advice="Name another one: job in [jenkins] of covtrack.toml.",
            )

    def _make_folders(self) -> None:
        parts = self.job.split("/")[:-1]
        for number in range(1, len(parts) + 1):
            folder = "/".join(parts[:number])
            if self.client.job_xml(folder) is not None:
                continue
            try:
                self.client.create_folder(folder)
            except NotFound as error:
                advice = "Jenkins needs the plugin cloudbees-folder for folders."
                raise UsageError(f"The folder {folder} cannot be made.", advice=advice) from error


def _try(place: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(place=place, health=Health.OK, sentence=ask())
    except CovtrackError as error:
        return _failed(place, str(error), error.advice)


def _failed(place: str, sentence: str, advice: str) -> Finding:
    return Finding(place=place, health=Health.FAILED, sentence=sentence, advice=advice)
