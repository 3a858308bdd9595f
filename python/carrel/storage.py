"""Where tools, skills, artifacts and dependencies are kept: what a server is told about it.

With a ``remote_url`` the server has its storage already, and these only say what the program
believes; a private server is started on the storage that is given here.
"""

from __future__ import annotations

import os
import pathlib
import urllib.parse
from typing import Protocol


class Storage(Protocol):
    """What a private server needs to know of a storage."""

    def server_environment(self) -> dict[str, str]:
        """The server's environment variables for it."""

    def prepare(self) -> None:
        """Makes what has to be there before the server starts. OSError when it cannot."""


class FileStorage:
    """A directory with ``tools/*.yaml``, ``skills/*.py``, ``artifacts/`` and ``deps/`` in it.

    base_path: made when it is missing. Several programs may use one directory at once. The layout
    is that of py-code-mode.

    A private server that is started by root gives root up, and could then not write what root
    owns: ``skills``, ``artifacts`` and ``deps`` beneath base_path are therefore given to the user
    it becomes (``carrel`` if there is one, else ``nobody``), when base_path itself is root's. A
    base_path that this user cannot reach, such as one beneath /root, is a PermissionError.
    """

    def __init__(self, base_path: str | os.PathLike[str]) -> None:
        self.base_path = pathlib.Path(base_path)

    def __repr__(self) -> str:
        return f"FileStorage({str(self.base_path)!r})"

    @property
    def tools_path(self) -> pathlib.Path:
        """The directory of tool definitions, which the server only reads."""
        return self.base_path / "tools"

    def server_environment(self) -> dict[str, str]:
        """The server's environment variables for it."""
        base = self.base_path.absolute()
        return {
            "TOOLS_PATH": str(base / "tools"),
            "SKILLS_PATH": str(base / "skills"),
            "ARTIFACTS_PATH": str(base / "artifacts"),
            "DEPS_PATH": str(base / "deps"),
        }

    def prepare(self) -> None:
        """Makes the directories. OSError when that cannot be done."""
        self.base_path.mkdir(parents=True, exist_ok=True)
        for name in ("tools", "skills", "artifacts", "deps"):
            (self.base_path / name).mkdir(exist_ok=True)
        if os.geteuid() == 0 and self.base_path.stat().st_uid == 0:
            owner = server_user()
            if owner is not None:
                _check_reachable(self.base_path.resolve(), *owner)
                for name in ("skills", "artifacts", "deps"):
                    _give(self.base_path / name, *owner)


def server_user() -> tuple[int, int] | None:
    """(uid, gid) of the user that a server started by root becomes; None: there is none."""
    import pwd
    for name in (os.environ.get("CARREL_USER"), "carrel", "nobody"):
        if name:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return entry.pw_uid, entry.pw_gid
    return None


def _check_reachable(path: pathlib.Path, uid: int, gid: int) -> None:
    """PermissionError when a user may not go through a directory on the way, or into the last."""
    for directory in [*reversed(path.parents), path]:
        found = directory.stat()
        shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
        if not found.st_mode >> shift & 1:
            raise PermissionError(
                f"started by root, the server becomes user {uid}, who cannot reach {path}: "
                f"{directory} is closed to others; choose another place, or chmod o+x it")


def _give(directory: pathlib.Path, uid: int, gid: int) -> None:
    """Gives a directory of root's, and what of root's is in it, to another user.

    By descriptors and without following links, so that nothing outside can be meant.
    """
    for _, names, files, at in os.fwalk(directory, follow_symlinks=False):
        if os.fstat(at).st_uid == 0:
            os.fchown(at, uid, gid)
        for name in files:
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
            # A second name of the file may stand anywhere.
            if found.st_uid == 0 and found.st_nlink == 1:
                os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)


class RedisStorage:
    """A Redis or Valkey server; the keys are those of py-code-mode.

    url: ``redis://[user:password@]host:port/db``, ``rediss://`` for TLS, or ``…:6380?ssl=true``.
    prefix: what every key begins with; a tenant is a prefix. Or, one by one, ``tools_prefix``,
    ``skills_prefix``, ``artifacts_prefix`` and ``deps_prefix``; ``workflows_prefix`` is another
    name of ``skills_prefix``, ``redis_url`` of ``url``.

    ValueError without a URL, or with one that is not Redis's.
    """

    def __init__(self, url: str | None = None, prefix: str = "py_code_mode", *,
                 redis_url: str | None = None, tools_prefix: str | None = None,
                 skills_prefix: str | None = None, workflows_prefix: str | None = None,
                 artifacts_prefix: str | None = None, deps_prefix: str | None = None) -> None:
        given = url if url is not None else redis_url
        if not given:
            raise ValueError("no Redis URL: give url='redis://host:6379/0' (is REDIS_URL set?)")
        if urllib.parse.urlsplit(given).scheme not in ("redis", "rediss"):
            raise ValueError("a Redis URL begins with redis:// or rediss://")
        self.url = given
        self.prefix = prefix
        self.tools_prefix = tools_prefix or f"{prefix}:tools"
        self.skills_prefix = skills_prefix or workflows_prefix or f"{prefix}:skills"
        self.artifacts_prefix = artifacts_prefix or f"{prefix}:artifacts"
        # Beside the tools, as the server has it by itself.
        self.deps_prefix = deps_prefix or f"{self.tools_prefix.rpartition(':')[0] or prefix}:deps"

    def __repr__(self) -> str:
        return f"RedisStorage(url={without_password(self.url)!r}, prefix={self.prefix!r})"

    def server_environment(self) -> dict[str, str]:
        """The server's environment variables for it."""
        return {
            "REDIS_URL": self.url,
            "REDIS_TOOLS_PREFIX": self.tools_prefix,
            "REDIS_SKILLS_PREFIX": self.skills_prefix,
            "REDIS_ARTIFACTS_PREFIX": self.artifacts_prefix,
            "REDIS_DEPS_PREFIX": self.deps_prefix,
        }

    def prepare(self) -> None:
        """Nothing has to be made."""


def without_password(url: str) -> str:
    """A URL that may be shown: the password as three stars."""
    parts = urllib.parse.urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()
