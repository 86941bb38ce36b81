"""A full Gerrit, with web interface, that somebody runs for the tests; an environment names it.

It has the account that `init --dev` makes (admin, secret), may be logged in to by an account's
number, and takes plugins over REST: auth.type DEVELOPMENT_BECOME_ANY_ACCOUNT and
plugins.allowRemoteAdmin true. Its projects and its label Coverage are the tests' to change.
"""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from urllib.parse import quote, urlsplit

from covtrack.gerrit.local_server import PASSWORD, PASSWORD_VARIABLE, USER
from covtrack.gerrit.settings import GerritServer
from tests.browser import Page
from tests.gerrit_fixture import RealGerrit

VARIABLE = "COVTRACK_TEST_GERRIT_UI_URL"
ACCOUNT = 1000000
# Gerrit's page is made of elements with shadow trees of their own.
ELEMENTS = """
const elements = root => [...root.querySelectorAll('*')].flatMap(
    one => [one, ...(one.shadowRoot ? elements(one.shadowRoot) : [])]);
const textOf = one => [...one.childNodes].map(
    child => child.nodeType === Node.TEXT_NODE ? child.data : '').join(' ');
"""


class FullGerrit(RealGerrit):
    """The server at the address that the environment names; raises SkipTest without one."""

    def __init__(self) -> None:
        url = os.environ.get(VARIABLE)
        if not url:
            raise unittest.SkipTest(f"{VARIABLE} names no full Gerrit")
        super().__init__(Path(tempfile.gettempdir()) / "covtrack-full-gerrit")
        self.url = url.rstrip("/")
        os.environ[PASSWORD_VARIABLE] = PASSWORD

    @property
    def server(self) -> GerritServer:
        """Its settings; without ssh, so that its changes are asked for."""
        password = PASSWORD_VARIABLE
        return GerritServer(name="real", url=self.url, user=USER, password_env=password)

    def clone_url(self, project: str) -> str:
        """An address with credentials, to clone from and push to."""
        place = urlsplit(self.url)
        path = f"{place.path}/a/{quote(project)}"
        return f"{place.scheme}://{USER}:{PASSWORD}@{place.netloc}{path}"

    def install(self, text: str) -> None:
        """Put the plugin in, in the place of an earlier one."""
        self.request("PUT", "plugins/covtrack.js", text=text)

    def login(self) -> str:
        """The address that logs a browser in."""
        return f"{self.url}/login/?account_id={ACCOUNT}"

    def page_of(self, project: str, number: int, *more: str) -> str:
        """The address of a change, of its patch set, of a file."""
        return "/".join((f"{self.url}/c/{project}/+/{number}", *more))


def shown(page: Page) -> str:
    """All text on the page, whatever element draws it."""
    text = page.evaluate(
        f"(() => {{{ELEMENTS} return elements(document).map(textOf).join(' ')}})()"
    )
    return " ".join(str(text).split())


def press(page: Page, name: str) -> bool:
    """Whether there is a button of that name, which is pressed then."""
    find = f"elements(document).find(one => textOf(one).trim().toLowerCase() == '{name.lower()}')"
    return bool(
        page.evaluate(f"(() => {{{ELEMENTS} const x = {find}; x?.click(); return !!x}})()")
    )


def count_marked(page: Page, kind: str) -> int:
    """How many elements of the diff are marked as COVERED or NOT_COVERED."""
    marked = f"one => one.matches('.coverage.{kind}')"
    count = f"return elements(document).filter({marked}).length"
    return int(page.evaluate(f"(() => {{{ELEMENTS} {count}}})()"))
