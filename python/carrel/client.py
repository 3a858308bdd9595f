"""``SessionClient``: one session of one server, over HTTP; every method is one request.

    async with SessionClient("http://127.0.0.1:8080", auth_token=token) as client:
        await client.execute("x = 20")
        print((await client.execute("x + 22")).value)

Method names and wire are py-code-mode's; ``skills`` are also called ``workflows``.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.parse
import uuid
from typing import Any, Mapping, Sequence

from . import errors
from ._http import HttpClient, Response
from .results import ExecuteResult, HealthResult, InfoResult, ResetResult

# Past the time a cell may take: for the interrupt, the kill and the way back.
EXECUTE_MARGIN_SECONDS = 15.0
INSTALL_SECONDS = 300.0
UNINSTALL_SECONDS = 120.0
BYTES_TYPE = "application/octet-stream"

_EXECUTE_FIELDS = ("value", "stdout", "error", "execution_time_ms", "session_id", "stderr",
                   "displays", "verdict")


class SessionClient:
    """A client of one session.

    base_url: of the server. timeout: seconds for each request, and for a cell that is given none.
    session_id: the session's identifier; None: a new one. auth_token: sent as a bearer token.
    ssl_context: for an https URL whose certificate the system does not know.

    Every method raises ConnectionFailed, RequestTimeout or ProtocolError when there is no proper
    answer, AuthenticationError for a bad token, and ServerError for other refusals. It may be used
    from one event loop at a time.
    """

    def __init__(self, base_url: str = "http://localhost:8080", timeout: float = 30.0,
                 session_id: str | None = None, auth_token: str | None = None, *,
                 ssl_context: ssl.SSLContext | None = None) -> None:
        self._http = HttpClient(base_url, ssl_context)
        self.base_url = self._http.base_url
        self.timeout = timeout
        self.session_id = session_id or str(uuid.uuid4())
        self.auth_token = auth_token

    def __repr__(self) -> str:
        return f"SessionClient({self.base_url!r}, session_id={self.session_id!r})"

    async def __aenter__(self) -> SessionClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. The session stays on the server until it is reset or idle."""
        await self._http.close()

    # --- the session ---

    async def execute(self, code: str, timeout: float | None = None) -> ExecuteResult:
        """Runs a cell. timeout: seconds it may take; None: the server's default.

        An error or a timeout of the code itself is in the result, not raised. Cancelling this
        closes the connection, which interrupts the cell.
        """
        body: dict[str, Any] = {"code": code}
        if timeout is not None:
            body["timeout"] = timeout
        # The answer to a cell that takes as long as it may must still find us waiting.
        answer = await self._json("POST", "/execute?extensions=true", body, timeout=max(
            self.timeout, timeout or self.timeout) + EXECUTE_MARGIN_SECONDS)
        _need(answer, "value", "stdout", "error", "execution_time_ms")
        self.session_id = answer.get("session_id") or self.session_id
        return ExecuteResult(
            value=answer["value"], stdout=answer["stdout"], error=answer["error"],
            execution_time_ms=answer["execution_time_ms"], session_id=self.session_id,
            stderr=answer.get("stderr") or "", displays=answer.get("displays") or [],
            verdict=answer.get("verdict") or "",
            extra={k: v for k, v in answer.items() if k not in _EXECUTE_FIELDS})

    async def init_session(self, workspace_id: str | None = None) -> str:
        """Has the server make a session, in a workspace when one is named; its identifier.

        Sessions of one workspace share skills and artifacts, those of different ones do not.
        """
        body = {} if workspace_id is None else {"workspace_id": workspace_id}
        answer = await self._json("POST", "/sessions", body)
        _need(answer, "session_id")
        self.session_id = str(answer["session_id"])
        return self.session_id

    async def reset(self) -> ResetResult:
        """Ends the session; the next cell with its identifier finds a fresh one."""
        answer = await self._json("POST", "/reset")
        _need(answer, "status")
        return ResetResult(answer["status"], answer.get("session_id") or self.session_id)

    async def health(self) -> HealthResult:
        """The server's health; needs no token."""
        answer = await self._json("GET", "/health", anonymous=True)
        _need(answer, "status", "uptime_seconds")
        return HealthResult(answer["status"], answer["uptime_seconds"])

    async def info(self) -> InfoResult:
        """The tools and skills there are, by name and description."""
        answer = await self._json("GET", "/info")
        _need(answer, "tools", "artifacts_path")
        skills = answer.get("skills", answer.get("workflows", []))
        return InfoResult(answer["tools"], skills, answer["artifacts_path"])

    # --- tools ---

    async def list_tools(self) -> list[dict[str, Any]]:
        """Every tool: ``{name, description, tags, callables: [{name, description, parameters}]}``.
        """
        return _rows(await self._json("GET", "/api/tools"))

    async def search_tools(self, query: str, limit: int = 10) -> list[dict[str, Any]]:
        """The best matches, at most `limit`; the same records."""
        return _rows(await self._json("GET", "/api/tools/search",
                                      query={"query": query, "limit": limit}))

    # --- skills ---

    async def list_skills(self) -> list[dict[str, Any]]:
        """Every skill: ``{name, description, parameters}``, without its source."""
        return _rows(await self._json("GET", "/api/skills"))

    async def search_skills(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """The best matches, at most `limit`; the same records."""
        return _rows(await self._json("GET", "/api/skills/search",
                                      query={"query": query, "limit": limit}))

    async def get_skill(self, name: str) -> dict[str, Any] | None:
        """A skill with its ``source``; None when there is none of that name."""
        answer = await self._json("GET", f"/api/skills/{_segment(name)}")
        return answer if isinstance(answer, dict) else None

    async def create_skill(self, name: str, source: str, description: str = "") -> dict[str, Any]:
        """Keeps a skill; one of the same name is replaced. source: Python with ``def run(…)``.

        InvalidRequest for a name or a source that cannot be a skill's.
        """
        answer: dict[str, Any] = await self._json(
            "POST", "/api/skills", {"name": name, "source": source, "description": description})
        return answer

    async def delete_skill(self, name: str) -> bool:
        """Whether there was one."""
        return bool(await self._json("DELETE", f"/api/skills/{_segment(name)}"))

    list_workflows = list_skills
    search_workflows = search_skills
    get_workflow = get_skill
    create_workflow = create_skill
    delete_workflow = delete_skill

    # --- artifacts ---

    async def list_artifacts(self) -> list[dict[str, Any]]:
        """Every artifact: ``{name, path, description, metadata, created_at}``."""
        return _rows(await self._json("GET", "/api/artifacts"))

    async def load_artifact(self, name: str) -> Any:
        """The data, of the type it was saved with: text, bytes, dict or list.

        ArtifactNotFoundError when there is none.
        """
        response = await self._send("GET", f"/api/artifacts/{_segment(name)}", accept=BYTES_TYPE)
        return _loaded(response)

    async def save_artifact(self, name: str, data: Any, description: str = "",
                            metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Keeps text, bytes, a dict or a list; one of the same name is replaced. Its record.

        InvalidRequest for a name that leads out of the store.
        """
        body: dict[str, Any] = {
            "name": name, **_encoded(data), "description": description,
            "metadata": None if metadata is None else dict(metadata)}
        answer: dict[str, Any] = await self._json("POST", "/api/artifacts", body)
        return answer

    async def delete_artifact(self, name: str) -> None:
        """ArtifactNotFoundError when there is none."""
        await self._json("DELETE", f"/api/artifacts/{_segment(name)}")

    # --- dependencies ---

    async def install_deps(self, packages: Sequence[str]) -> dict[str, Any]:
        """``{installed, already_present, removed, not_found, failed}``, lists of requirement lines.
        """
        return await self._deps("/install_deps", {"packages": list(packages)}, INSTALL_SECONDS)

    async def uninstall_deps(self, packages: Sequence[str]) -> dict[str, Any]:
        """The same record; `removed` or `not_found` has each package."""
        return await self._deps("/uninstall_deps", {"packages": list(packages)},
                                UNINSTALL_SECONDS)

    async def api_list_deps(self) -> list[str]:
        """The requirement lines of the list."""
        return [str(line) for line in await self._json("GET", "/api/deps")]

    async def api_add_dep(self, package: str) -> dict[str, Any]:
        """Puts a package on the list and installs it: ``{installed, already_present, failed}``.

        InvalidRequest for a line that is not allowed, RuntimeDepsDisabledError.
        """
        return await self._deps("/api/deps/add", {"package": package}, INSTALL_SECONDS)

    async def api_remove_dep(self, package: str) -> dict[str, Any]:
        """Takes a package off the list. RuntimeDepsDisabledError."""
        return await self._deps("/api/deps/remove", {"package": package}, UNINSTALL_SECONDS)

    async def api_sync_deps(self) -> dict[str, Any]:
        """Installs what is on the list: ``{installed, already_present, failed}``."""
        return await self._deps("/api/deps/sync", None, INSTALL_SECONDS)

    # --- the wire ---

    async def _deps(self, path: str, body: Mapping[str, Any] | None,
                    seconds: float) -> dict[str, Any]:
        try:
            answer = await self._json("POST", path, body, timeout=max(seconds, self.timeout))
        except errors.AuthenticationError as error:
            if error.status == 403 and path.startswith("/api/deps/"):
                raise errors.RuntimeDepsDisabledError(403, error.detail) from None
            raise
        if not isinstance(answer, dict):
            raise errors.ProtocolError(f"POST {path}: an answer that is no object")
        return answer

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None, *,
                    query: Mapping[str, Any] | None = None, timeout: float | None = None,
                    anonymous: bool = False) -> Any:
        response = await self._send(method, path, body, query=query, timeout=timeout,
                                    anonymous=anonymous)
        return response.json()

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None, *,
                    query: Mapping[str, Any] | None = None, timeout: float | None = None,
                    anonymous: bool = False, accept: str = "*/*") -> Response:
        headers = {"Accept": accept}
        if not anonymous:
            headers["X-Session-ID"] = self.session_id
            if self.auth_token:
                headers["Authorization"] = f"Bearer {self.auth_token}"
        data = None
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode("ascii")
            headers["Content-Type"] = "application/json"
        response = await self._http.request(
            method, path, timeout=self.timeout if timeout is None else timeout, query=query,
            headers=headers, body=data)
        if not 200 <= response.status < 300:
            raise _refusal(response, path)
        return response


def _segment(name: str) -> str:
    """A name as one part of a path. ValueError for an empty one."""
    if not name:
        raise ValueError("a name cannot be empty")
    return urllib.parse.quote(name, safe="")


def _encoded(data: Any) -> dict[str, str] | dict[str, Any]:
    """The data's fields of a request: as it is, or in base64 what strict JSON cannot carry."""
    kind, raw = "bytes", data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        if not isinstance(data, (dict, list)):
            return {"data": data}
        try:
            json.dumps(data, allow_nan=False, ensure_ascii=False).encode("utf-8")
            return {"data": data}
        except (UnicodeEncodeError, ValueError):  # a lone surrogate; NaN, an infinity, a cycle
            kind, raw = "json", json.dumps(data).encode("ascii")
    return {"data": base64.b64encode(raw).decode("ascii"), "encoding": "base64", "type": kind}


def _loaded(response: Response) -> Any:
    """An artifact's data: as it is kept with its type beside it, or as JSON from other servers."""
    if response.media_type != BYTES_TYPE:
        return response.json()
    kind = response.headers["content-type"].partition("type=")[2].strip()
    if kind == "json":
        try:
            return json.loads(response.body)
        except ValueError:
            kind = "text"  # what only says that it is JSON
    return response.body.decode("utf-8", "replace") if kind == "text" else response.body


def _need(answer: Any, *names: str) -> None:
    missing = names if not isinstance(answer, dict) else [n for n in names if n not in answer]
    if missing:
        raise errors.ProtocolError(f"the server's answer has no {', '.join(missing)}: is this "
                                   "a session server?")


def _rows(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list):
        raise errors.ProtocolError("the server's answer is no list")
    return answer


def _refusal(response: Response, path: str) -> errors.ServerError:
    try:
        body = response.json()
    except errors.ProtocolError:
        body = response.body.decode("utf-8", "replace")[:500]
    detail = body
    if isinstance(body, dict):
        # The second is the server's other dialect: a path that this one does not have.
        error = body.get("error")
        other = error.get("message") if isinstance(error, dict) else None
        detail = body.get("detail") or other or body
    if response.status in (400, 422):
        return errors.InvalidRequest(response.status, detail)
    if response.status in (401, 403):
        return errors.AuthenticationError(response.status, detail)
    if response.status == 404 and path.startswith("/api/artifacts/"):
        text = detail if isinstance(detail, str) else None
        return errors.ArtifactNotFoundError(response.status, detail, text)
    return errors.ServerError(response.status, detail)
