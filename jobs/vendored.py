"""Which files are vendored: copied into the project, so no business of its coverage figure.

`openstack-common.conf` names Oslo modules that were copied from oslo-incubator into
BASE/openstack/common; settings may add globs. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

CONF = "openstack-common.conf"


def parse_common_conf(text: str) -> tuple[str, ...]:
    """Globs of the files that an openstack-common.conf says are copied.

    Takes `base=PACKAGE`, `module=NAME` (repeated) and `modules=A,B`. Without `base` nothing was
    copied. What update.py of oslo-incubator wrote: https://wiki.openstack.org/wiki/Oslo
    """
    base, names = "", []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith(("#", ";")):
            continue
        if key.strip() == "base":
            base = value.strip()
        elif key.strip() in ("module", "modules"):
            names += re.split(r"[,\s]+", value.strip())
    if not base:
        return ()
    folder = f"{base.replace('.', '/')}/openstack/common"
    globs = [f"{base.replace('.', '/')}/openstack/__init__.py", f"{folder}/__init__.py"]
    for name in filter(None, names):
        stem = f"{folder}/{name.replace('.', '/')}"
        globs += [f"{stem}.py", f"{stem}/*"]
    return tuple(globs) if any(names) else ()


def make_matcher(globs: Sequence[str]) -> Callable[[str], bool]:
    """A predicate on paths; `*` crosses folders, and a glob that names a folder means it all."""
    patterns = [pattern for glob in globs for pattern in (glob, f"{glob.rstrip('/')}/*")]
    return lambda path: any(fnmatchcase(path, pattern) for pattern in patterns)
