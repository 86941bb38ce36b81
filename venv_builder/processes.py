"""The one module that starts processes.

`run_command` returns whatever happened, `check_command` raises, `start_group` gives a process
group of its own that can be polled and killed whole. None of them uses a shell or inherits
standard input.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from venv_builder.errors import InfrastructureError


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended: exit status (-N for signal N), output as text, wall seconds."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def last_words(self) -> str:
        """The last non-empty lines of stderr (else stdout), for an error sentence."""
        lines = [line for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return " | ".join(line.strip() for line in lines[-3:])


def run_command(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run `argv` to its end in a process group of its own and return what it did.

    `env` replaces the whole environment when given. At `timeout` seconds the group is killed
    and the status is -9. Raises InfrastructureError if the program cannot be started.
    """
    words = tuple(str(word) for word in argv)
    start = monotonic()
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise InfrastructureError(f"Cannot start {words[0]}: {error.strerror}.") from error
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        stdout, stderr = process.communicate()
    except BaseException:
        kill_group(process.pid)
        process.wait()
        raise
    return Completed(
        argv=words,
        status=process.returncode,
        stdout=stdout,
        stderr=stderr,
        seconds=monotonic() - start,
    )


def check_command(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> Completed:
    """Like run_command, but a status other than 0 raises InfrastructureError."""
    completed = run_command(argv, cwd=cwd, env=env, stdin=stdin, timeout=timeout)
    if completed.status:
        raise InfrastructureError(
            f"{Path(completed.argv[0]).name} ended with status {completed.status}: "
            f"{completed.last_words or 'it said nothing'}."
        )
    return completed


def kill_group(pid: int) -> None:
    """SIGKILL the process group `pid`; a group that is gone is fine."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:  # macOS answers so for a group of zombies
        return


def end_children(program: str) -> None:
    """SIGTERM the processes of that name that this one started, where /proc tells."""
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for word in path.read_text().split():
                if Path("/proc", word, "comm").read_text().strip() == program:
                    os.kill(int(word), signal.SIGTERM)


@dataclass(slots=True)
class ProcessGroup:
    """A started process that leads its own session; output goes to files, never to pipes.

    `cpu_seconds` (user + system, with all waited-for descendants) is known once it ended.
    """

    pid: int
    started: float
    status: int | None = field(default=None)
    cpu_seconds: float = field(default=0.0)

    def poll(self) -> int | None:
        """The exit status (-N for signal N), or None while it runs."""
        if self.status is None:
            pid, code, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(code)
                self.cpu_seconds = usage.ru_utime + usage.ru_stime
                kill_group(self.pid)
        return self.status

    def kill(self, grace: float = 2.0) -> None:
        """End the group: SIGTERM to its leader, SIGKILL to all after `grace` seconds."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        deadline = monotonic() + grace
        while self.poll() is None:
            if monotonic() > deadline:
                kill_group(self.pid)
            sleep(0.005)


@contextmanager
def reading_lines(
    argv: Sequence[str | Path], *, env: Mapping[str, str], stderr: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose stdout is a pipe to be read while it runs; its group ends with the block.

    Raises InfrastructureError if the program cannot be started.
    """
    words = [str(word) for word in argv]
    try:
        with stderr.open("wb") as err:
            process = subprocess.Popen(
                words,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )
    except OSError as error:
        raise InfrastructureError(f"Cannot start {words[0]}: {error}.") from error
    try:
        yield process
    finally:
        kill_group(process.pid)
        process.wait()


def start_group(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
) -> ProcessGroup:
    """Start `argv` as leader of a new session with exactly `env`, writing to the two files.

    Raises InfrastructureError if the program cannot be started.
    """
    words = [str(word) for word in argv]
    try:
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
    except OSError as error:
        raise InfrastructureError(f"Cannot start {words[0]}: {error}.") from error
    process.returncode = 0  # ProcessGroup reaps it by wait4, for its CPU seconds
    return ProcessGroup(pid=process.pid, started=monotonic())


def forget_variable(name: str) -> None:
    """Drop a secret from the environment, and from what /proc/PID/environ shows of this process.

    Whoever started this process may still have it: a shell has not after `exec`.
    """
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    if place := libc.getenv(os.fsencode(name)):
        ctypes.memset(place, ord("-"), len(ctypes.string_at(place)))
    os.environ.pop(name, None)
