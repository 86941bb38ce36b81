"""Runs one command of other people's code, confined: `launch.py LIMITS.json COMMAND ARG...`

The command runs as a child with an address-space limit, may write only below the given paths
(Landlock, where the kernel has it), and can signal nothing outside itself (Landlock ABI 6). This
process stays outside as its supervisor: it dies with its parent, and kills whatever the command
left running. It ends with the command's status, or 128 + N for signal N.

LIMITS.json: {"memory": bytes or null, "writable": [paths], "confine": bool}
Landlock: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446

WRITE_FILE = 1 << 1
TRUNCATE = 1 << 14
WRITES_ABI_1 = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
REFER = 1 << 13
SCOPE_SIGNAL = 1 << 1

libc = ctypes.CDLL(None, use_errno=True)


class RulesetAttr(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = [
        ("allowed_access", ctypes.c_uint64),
        ("parent_fd", ctypes.c_int32),
    ]


def landlock_abi() -> int:
    """The kernel's Landlock ABI version, 0 where there is none."""
    return max(0, int(libc.syscall(SYS_CREATE_RULESET, None, 0, 1)))


def confine(writable: list[str], abi: int) -> None:
    """Allow writes below `writable` alone, and signals to this domain alone."""
    handled = WRITES_ABI_1 | (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0)
    attr = RulesetAttr(handled, 0, SCOPE_SIGNAL if abi >= 6 else 0)
    size = ctypes.sizeof(attr) if abi >= 6 else 8 if abi < 4 else 16
    ruleset = libc.syscall(SYS_CREATE_RULESET, ctypes.byref(attr), size, 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for path in [*writable, "/dev/shm"]:
        allow(ruleset, path, handled)
    for path in ("/dev", "/proc"):
        allow(ruleset, path, handled & (WRITE_FILE | TRUNCATE))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(SYS_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)


def allow(ruleset: int, path: str, access: int) -> None:
    """Add the right to `access` below `path` to a ruleset; paths that do not exist are skipped."""
    if not os.path.exists(path):
        return
    if not os.path.isdir(path):
        access &= WRITE_FILE | TRUNCATE
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = PathBeneathAttr(access, fd)
    libc.syscall(SYS_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
    os.close(fd)


def limit(name: int, value: int) -> None:
    """Lower a resource limit; the hard limit of this process is an upper bound."""
    hard = resource.getrlimit(name)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(name, (bound, bound))


def become_command(limits: dict[str, Any], command: list[str]) -> None:
    """Never returns: this process becomes the command, or ends with status 126 or 127."""
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        limit(resource.RLIMIT_CORE, 0)
        if limits.get("memory"):
            limit(resource.RLIMIT_AS, limits["memory"])
        abi = landlock_abi()
        if limits.get("confine", True) and abi:
            confine(limits["writable"], abi)
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        sys.stderr.write("launch: %s\n" % error)
        os._exit(127)
    except Exception as error:
        sys.stderr.write("launch: cannot confine the command: %s\n" % error)
        os._exit(126)


def children() -> list[int]:
    """Process ids whose parent is this process."""
    mine, found = str(os.getpid()), []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name) as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == mine:
            found.append(int(name))
    return found


def reap_all() -> None:
    """Kill and reap every descendant; orphans come back to this subreaper one by one."""
    while True:
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main() -> int:
    with open(sys.argv[1]) as file:
        limits = json.load(file)
    parent = os.getppid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def stop(number: int, frame: object) -> None:
        reap_all()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        become_command(limits, sys.argv[2:])
    while True:
        pid, code = os.waitpid(-1, 0)
        if pid == child:
            break
    reap_all()
    return 128 + os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)


if __name__ == "__main__":
    sys.exit(main())
