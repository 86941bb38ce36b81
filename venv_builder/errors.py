"""The error tree of all three packages: each class says whose fault it is.

Every error carries one sentence that names the thing and the place, an advice that names the
way out, and the exit status that a command line ends with (0 fine, 1 policy failed, 2 usage or
configuration, 3 infrastructure).
"""

from __future__ import annotations


class CovtrackError(Exception):
    """Base of all errors that are told to the user as one sentence, never as a traceback."""

    exit_status = 3

    def __init__(self, sentence: str, *, advice: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}".strip()


def describe_error(error: Exception) -> str:
    """An error in words where work has to go on nevertheless, one that nobody foresaw too."""
    if isinstance(error, CovtrackError):
        return str(error)
    return f"A mistake of covtrack, {type(error).__name__}: {' '.join(str(error).split())}."


class PolicyError(CovtrackError):
    """The measured result breaks a policy that the user asked for."""

    exit_status = 1


class UsageError(CovtrackError):
    """The caller's fault: a wrong argument, setting, revision or path."""

    exit_status = 2


class InfrastructureError(CovtrackError):
    """The machine's, the network's or a service's fault; trying again may help."""


class BuildError(InfrastructureError):
    """The measured project's environment could not be built, found or trusted."""


class DataError(InfrastructureError):
    """Something stored cannot be read back as it was written."""


class RefusedError(DataError):
    """What came from elsewhere is not what it has to be: sending it again does not help."""
