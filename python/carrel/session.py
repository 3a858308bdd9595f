"""``Session``: an isolated Python that remembers, and what it has learned.

    async with Session(storage=FileStorage("./data")) as session:
        result = await session.run("tools.list()")
        if result.is_ok:
            print(result.value)
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, Mapping

from . import _server
from .client import SessionClient
from .errors import CarrelError, ConnectionFailed, DependencyError
from .execution import ContainerExecutor, release
from .results import ExecutionResult, HealthResult, InfoResult
from .storage import Storage

RESET_SECONDS = 5.0


@contextlib.asynccontextmanager
async def _telling_why(lease: _server.Lease | None) -> AsyncIterator[None]:
    """A lost connection is told with the private server's last words, when it has ended."""
    try:
        yield
    except ConnectionFailed as error:
        words = None
        if lease is not None:
            loop = asyncio.get_running_loop()
            words = await loop.run_in_executor(None, lease.last_words)
        if words is None:
            raise
        raise ConnectionFailed(f"{error}; {words}") from error


class Session:
    """One conversation's Python.

    storage: FileStorage or RedisStorage, which a private server is started on; a remote server has
    its own, and None is then as good. executor: where the code runs; None: a private server with
    the default settings. sync_deps_on_start: installs what the executor's configuration names
    before the first cell, and fails with DependencyError when that cannot be done. session_id:
    continue a session of that identifier, which is then left as it is at the end; None: a new one,
    which ends with this object. workspace_id: share skills and artifacts with this workspace only.

    Variables, imports and files stay from one ``run`` to the next. Cells run one after the other.
    ``start`` and ``close`` are called by ``async with``; ``run`` starts by itself.

    Every method may raise what SessionClient's do; for a private server that has ended,
    ConnectionFailed with what it said last.
    """

    def __init__(self, storage: Storage | None = None, executor: ContainerExecutor | None = None,
                 sync_deps_on_start: bool = False, *, session_id: str | None = None,
                 workspace_id: str | None = None) -> None:
        if executor is not None and not isinstance(executor, ContainerExecutor):
            raise TypeError(f"executor: a ContainerExecutor, not {type(executor).__name__}")
        self._executor = executor if executor is not None else ContainerExecutor()
        if storage is None and self._executor.config.remote_url is None:
            raise ValueError("storage: a private server needs one, such as FileStorage('./data')")
        if session_id is not None and workspace_id is not None:
            raise ValueError("a session that exists has its workspace already")
        self._storage = storage
        self._sync_deps = sync_deps_on_start
        self._session_id = session_id
        self._workspace_id = workspace_id
        self._lease: _server.Lease | None = None
        self._client: SessionClient | None = None
        self._one_cell: asyncio.Lock | None = None
        self._starting: asyncio.Lock | None = None
        self._closed = False

    async def __aenter__(self) -> Session:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # --- life ---

    @property
    def storage(self) -> Storage | None:
        """What it was made with."""
        return self._storage

    @property
    def session_id(self) -> str | None:
        """The identifier on the server; None before the start."""
        return self._client.session_id if self._client is not None else self._session_id

    def supports(self, capability: str) -> bool:
        """Whether the executor can; the names are in ``execution.Capability``."""
        return self._executor.supports(capability)

    def supported_capabilities(self) -> set[str]:
        """All that the executor can."""
        return self._executor.supported_capabilities()

    async def start(self) -> None:
        """Finds or starts the server. Does nothing when that is done."""
        if self._closed:
            raise CarrelError("the session is closed")
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._client is None:
                await self._start()

    async def _start(self) -> None:
        config = self._executor.config
        self._lease = await self._executor.acquire(self._storage)
        try:
            url = self._lease.url if self._lease is not None else config.remote_url
            token = self._lease.token if self._lease is not None else config.auth_token
            client = SessionClient(url or "", config.timeout or 30.0, self._session_id, token,
                                   ssl_context=config.ssl_context)
            async with _telling_why(self._lease):
                if self._workspace_id is not None:
                    await client.init_session(self._workspace_id)
                if self._sync_deps:
                    await self._install(client)
        except BaseException:
            lease, self._lease = self._lease, None
            if lease is not None:
                await release(lease)
            raise
        self._one_cell = asyncio.Lock()
        self._client = client

    async def _install(self, client: SessionClient) -> None:
        wanted = self._executor.get_configured_deps()
        if wanted:
            failed = (await client.install_deps(wanted)).get("failed") or []
            if failed:
                raise DependencyError([str(line) for line in failed])

    async def close(self) -> None:
        """Ends the session on the server, and the private server when it was its last.

        What was saved stays. May be called twice. Never fails because the server is gone.
        """
        self._closed = True
        client, self._client = self._client, None
        lease, self._lease = self._lease, None
        try:
            if client is not None:
                try:
                    if self._session_id is None:
                        with contextlib.suppress(CarrelError, asyncio.TimeoutError):
                            await asyncio.wait_for(client.reset(), RESET_SECONDS)
                finally:
                    await client.close()
        finally:
            if lease is not None:
                await release(lease)

    @contextlib.asynccontextmanager
    async def _server(self) -> AsyncIterator[SessionClient]:
        """The client, started."""
        if self._client is None:
            await self.start()
        client = self._client
        assert client is not None
        async with _telling_why(self._lease):
            yield client

    # --- code ---

    async def run(self, code: str, timeout: float | None = None) -> ExecutionResult:
        """Runs a cell: its last expression's value, what it printed, its error.

        timeout: seconds it may take; None: the configuration's. What the code does wrong is in the
        result's ``error`` and ``verdict``, not raised. Cancelling interrupts the cell; the session
        keeps its state.
        """
        if self._closed:
            return ExecutionResult(value=None, stdout="", error="Session is closed")
        if timeout is None:
            timeout = self._executor.config.timeout
        async with self._server() as client:
            assert self._one_cell is not None
            async with self._one_cell:
                done = await client.execute(code, timeout)
        return ExecutionResult(
            value=done.value, stdout=done.stdout, error=done.error,
            execution_time_ms=done.execution_time_ms, stderr=done.stderr, displays=done.displays,
            verdict=done.verdict, backend_info={
                **done.extra, "session_id": done.session_id, "url": client.base_url})

    async def reset(self) -> None:
        """Forgets variables, imports and files of the session; skills and artifacts stay."""
        async with self._server() as client:
            await client.reset()
            if self._workspace_id is not None:
                await client.init_session(self._workspace_id)

    async def info(self) -> InfoResult:
        """The tools and skills there are."""
        async with self._server() as client:
            return await client.info()

    async def health(self) -> HealthResult:
        """The server's health."""
        async with self._server() as client:
            return await client.health()

    # --- tools ---

    async def list_tools(self) -> list[dict[str, Any]]:
        """Every tool: ``{name, description, tags, callables: [{name, description, parameters}]}``.
        """
        async with self._server() as client:
            return await client.list_tools()

    async def search_tools(self, query: str, limit: int = 10) -> list[dict[str, Any]]:
        """The best matches, at most `limit`."""
        async with self._server() as client:
            return await client.search_tools(query, limit)

    # --- skills, which are also called workflows ---

    async def list_skills(self) -> list[dict[str, Any]]:
        """Every skill: ``{name, description, parameters}``, without its source."""
        async with self._server() as client:
            return await client.list_skills()

    async def search_skills(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """The best matches, at most `limit`."""
        async with self._server() as client:
            return await client.search_skills(query, limit)

    async def get_skill(self, name: str) -> dict[str, Any] | None:
        """A skill with its ``source``; None when there is none of that name."""
        async with self._server() as client:
            return await client.get_skill(name)

    async def create_skill(self, name: str, source: str, description: str = "") -> dict[str, Any]:
        """Keeps a skill; one of the same name is replaced. source: Python with ``def run(…)``.

        InvalidRequest, which is a ValueError, for a name or a source that cannot be a skill's.
        """
        async with self._server() as client:
            return await client.create_skill(name, source, description)

    async def delete_skill(self, name: str) -> bool:
        """Whether there was one."""
        async with self._server() as client:
            return await client.delete_skill(name)

    add_skill = create_skill
    remove_skill = delete_skill
    list_workflows = list_skills
    search_workflows = search_skills
    get_workflow = get_skill
    create_workflow = create_skill
    add_workflow = create_skill
    delete_workflow = delete_skill
    remove_workflow = delete_skill

    # --- artifacts ---

    async def list_artifacts(self) -> list[dict[str, Any]]:
        """Every artifact: ``{name, path, description, metadata, created_at}``."""
        async with self._server() as client:
            return await client.list_artifacts()

    async def save_artifact(self, name: str, data: Any, description: str = "",
                            metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Keeps text, bytes, a dict or a list; its record."""
        async with self._server() as client:
            return await client.save_artifact(name, data, description, metadata)

    async def load_artifact(self, name: str) -> Any:
        """The data, of the type it was saved with. ArtifactNotFoundError when there is none."""
        async with self._server() as client:
            return await client.load_artifact(name)

    async def delete_artifact(self, name: str) -> None:
        """ArtifactNotFoundError when there is none."""
        async with self._server() as client:
            await client.delete_artifact(name)

    # --- dependencies ---

    async def list_deps(self) -> list[str]:
        """The requirement lines of the list."""
        async with self._server() as client:
            return await client.api_list_deps()

    async def add_dep(self, package: str) -> dict[str, Any]:
        """Puts a package on the list and installs it: ``{installed, already_present, failed}``.

        InvalidRequest for a line that is not allowed, RuntimeDepsDisabledError.
        """
        async with self._server() as client:
            return await client.api_add_dep(package)

    async def remove_dep(self, package: str) -> dict[str, Any]:
        """``{removed, not_found, failed, removed_from_config}``. RuntimeDepsDisabledError."""
        async with self._server() as client:
            answer = await client.api_remove_dep(package)
        if isinstance(answer.get("removed"), list):
            return answer
        there = bool(answer.get("removed"))
        return {"removed": [package] if there else [], "not_found": [] if there else [package],
                "failed": [], "removed_from_config": there}

    async def sync_deps(self) -> dict[str, Any]:
        """Installs what is on the list: ``{installed, already_present, failed}``."""
        async with self._server() as client:
            return await client.api_sync_deps()
