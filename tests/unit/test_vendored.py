"""jobs.vendored: what openstack-common.conf names, and globs."""

from __future__ import annotations

from testtools import TestCase

from jobs.vendored import make_matcher, parse_common_conf

CONF = """\
[DEFAULT]
# module=commented
; module=too
module=gettextutils
module = log
module=rpc.amqp
modules=cfg, db.api  timeutils
script=tools/install_venv.py
base=keystone
"""


class CommonConfTest(TestCase):
    def vendored(self, text: str, path: str) -> bool:
        return make_matcher(parse_common_conf(text))(path)

    def test_modules_and_packages(self) -> None:
        for name in ("gettextutils.py", "log.py", "rpc/amqp.py", "cfg.py", "db/api.py"):
            self.assertTrue(self.vendored(CONF, f"keystone/openstack/common/{name}"), name)
        for name in ("timeutils/a.py", "timeutils/a/b.py", "__init__.py"):
            self.assertTrue(self.vendored(CONF, f"keystone/openstack/common/{name}"), name)
        self.assertTrue(self.vendored(CONF, "keystone/openstack/__init__.py"))

    def test_what_is_the_projects_own(self) -> None:
        for path in (
            "keystone/openstack/common/commented.py",
            "keystone/openstack/common/too.py",
            "keystone/openstack/common/own.py",
            "keystone/openstack/common/logging.py",
            "keystone/openstack/common/rpc/other.py",
            "keystone/openstack/own.py",
            "keystone/log.py",
            "nova/openstack/common/log.py",
            "tools/install_venv.py",
        ):
            self.assertFalse(self.vendored(CONF, path), path)

    def test_dotted_base(self) -> None:
        text = "module=log\nbase=a.b\n"
        self.assertTrue(self.vendored(text, "a/b/openstack/common/log.py"))

    def test_nothing_was_copied(self) -> None:
        for text in (
            "",
            "module=log\n",
            "base=keystone\n",
            "base=\nmodule=log\n",
            "module=\nbase=a",
        ):
            self.assertEqual((), parse_common_conf(text), text)


class MatcherTest(TestCase):
    def test_globs_and_folders(self) -> None:
        matches = make_matcher(["a/b.py", "vendor/", "lib/*.py", "c"])
        for path in ("a/b.py", "vendor/x.py", "vendor/x/y.py", "lib/x.py", "lib/x/y.py", "c/d.py"):
            self.assertTrue(matches(path), path)
        for path in ("a/b.pyc", "vendored/x.py", "lib/x.txt", "x/a/b.py", "cc/d.py"):
            self.assertFalse(matches(path), path)

    def test_no_globs(self) -> None:
        self.assertFalse(make_matcher([])("a.py"))
