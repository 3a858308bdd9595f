"""What comes back: plain records, as they are on the wire."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class ExecutionResult:
    """One cell's outcome.

    value: the last expression's value, as JSON could carry it; None when there was none.
    stdout, stderr: what was printed. error: None, or the traceback's text. execution_time_ms: in
    the session. backend_info: ``session_id``, ``url`` and whatever else the server tells.
    displays: figures and rich results in order, each a mapping. verdict: why it ended, in one word,
    such as ``succeeded``, ``exception``, ``time_limit``, ``memory_limit`` or ``session_killed``;
    "" when the server does not tell.
    """

    value: Any
    stdout: str
    error: str | None
    execution_time_ms: float | None = None
    backend_info: dict[str, Any] = dataclasses.field(default_factory=dict)
    stderr: str = ""
    displays: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    verdict: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the cell ended without an error."""
        return self.error is None


@dataclasses.dataclass
class ExecuteResult:
    """What ``SessionClient.execute`` returns; the fields are those of ``ExecutionResult``.

    extra: the answer's other fields.
    """

    value: Any
    stdout: str
    error: str | None
    execution_time_ms: float
    session_id: str
    stderr: str = ""
    displays: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    verdict: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        """Whether the cell ended without an error."""
        return self.error is None


@dataclasses.dataclass
class HealthResult:
    """status: ``healthy``. uptime_seconds: since the server started."""

    status: str
    uptime_seconds: float


@dataclasses.dataclass
class InfoResult:
    """tools, skills: ``{name, description}`` each. artifacts_path: where the server keeps them."""

    tools: list[dict[str, Any]]
    skills: list[dict[str, Any]]
    artifacts_path: str

    @property
    def workflows(self) -> list[dict[str, Any]]:
        """The skills, by their later name."""
        return self.skills


@dataclasses.dataclass
class ResetResult:
    """status: ``reset``."""

    status: str
    session_id: str
