"""What a user's own clone says of itself: its root, its branch, its state. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import git
from git.exc import GitCommandError, InvalidGitRepositoryError, NoSuchPathError

from jobs.git_folder import OPTIONS, forget_hook_variables, reason_of
from venv_builder.errors import UsageError


def clone_root(path: Path) -> Path | None:
    """The top folder of the git clone that holds `path`; None outside any clone."""
    forget_hook_variables()
    try:
        repo = git.Repo(path, search_parent_directories=True)
    except (InvalidGitRepositoryError, NoSuchPathError):
        return None
    return Path(repo.working_tree_dir) if repo.working_tree_dir else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """What a user's clone says of itself: its branch, whether it is shallow or has edits."""

    root: Path
    branch: str | None
    shallow: bool
    dirty: tuple[str, ...]


def inspect_clone(root: Path) -> Clone:
    """Look at the clone at `root`; raises UsageError where there is none."""
    forget_hook_variables()
    look = ("git", "--no-optional-locks", *OPTIONS, "status", "--porcelain")
    try:
        repo = git.Repo(root)
        status = str(repo.git.execute([*look, "--untracked-files=no"]))
        branch = _upstream_branch(repo)
        shallow = repo.git.rev_parse("--is-shallow-repository") == "true"
    except (InvalidGitRepositoryError, NoSuchPathError, GitCommandError) as error:
        reason = reason_of(error)
        advice = "Run covtrack inside a clone, or name a project of covtrack.toml."
        if "dubious ownership" in reason:
            advice = f"If you trust it: git config --global --add safe.directory {root}"
        raise UsageError(f"{root} is no usable git clone: {reason}.", advice=advice) from error
    edits = tuple(line[3:] for line in status.splitlines())
    return Clone(root=root, branch=branch, shallow=shallow, dirty=edits)


def _upstream_branch(repo: git.Repo) -> str | None:
    """The branch that changes of this clone fork off: origin's default, else the current."""
    try:
        head: str = repo.git.symbolic_ref("--short", "refs/remotes/origin/HEAD")
        return head.partition("/")[2]
    except GitCommandError:
        pass
    local = {head.name for head in repo.heads}
    for name in ("master", "main"):
        if name in local:
            return name
    return None if repo.head.is_detached else repo.active_branch.name
