"""The same ``Session``, for programs without an event loop.

    from carrel import FileStorage
    from carrel.blocking import Session

    with Session(storage=FileStorage("./data")) as session:
        print(session.run("6 * 7").value)

Every method is the asynchronous one's, run in one thread of this module's own, so it may be called
from any thread, and inside a running event loop too. A Ctrl-C while it waits cancels the call.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Coroutine, TypeVar

from .execution import ContainerExecutor
from .session import Session as AsyncSession
from .storage import Storage

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec
    P = ParamSpec("P")

R = TypeVar("R")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _event_loop() -> asyncio.AbstractEventLoop:
    """The loop that all blocking sessions of this process share; its thread is started here."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="carrel-blocking", daemon=True).start()
        return _loop


def _after_fork() -> None:
    global _loop, _lock
    _loop = None  # its thread stayed in the parent
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _wait(work: Coroutine[Any, Any, R]) -> R:
    future = asyncio.run_coroutine_threadsafe(work, _event_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _blocking(method: Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, R]],
              ) -> Callable[Concatenate[Session, P], R]:
    @functools.wraps(method)
    def call(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _wait(method(self._session, *args, **kwargs))
    del call.__wrapped__  # type: ignore[attr-defined] # or it would pass for a coroutine
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


class Session:
    """``carrel.Session`` without ``await``; see there for the arguments and every method."""

    def __init__(self, storage: Storage | None = None, executor: ContainerExecutor | None = None,
                 sync_deps_on_start: bool = False, *, session_id: str | None = None,
                 workspace_id: str | None = None) -> None:
        self._session = AsyncSession(storage, executor, sync_deps_on_start, session_id=session_id,
                                     workspace_id=workspace_id)

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def storage(self) -> Storage | None:
        """What it was made with."""
        return self._session.storage

    @property
    def session_id(self) -> str | None:
        """The identifier on the server; None before the start."""
        return self._session.session_id

    def supports(self, capability: str) -> bool:
        """Whether the executor can; the names are in ``execution.Capability``."""
        return self._session.supports(capability)

    def supported_capabilities(self) -> set[str]:
        """All that the executor can."""
        return self._session.supported_capabilities()

    start = _blocking(AsyncSession.start)
    close = _blocking(AsyncSession.close)
    run = _blocking(AsyncSession.run)
    reset = _blocking(AsyncSession.reset)
    info = _blocking(AsyncSession.info)
    health = _blocking(AsyncSession.health)
    list_tools = _blocking(AsyncSession.list_tools)
    search_tools = _blocking(AsyncSession.search_tools)
    list_skills = _blocking(AsyncSession.list_skills)
    search_skills = _blocking(AsyncSession.search_skills)
    get_skill = _blocking(AsyncSession.get_skill)
    create_skill = _blocking(AsyncSession.create_skill)
    delete_skill = _blocking(AsyncSession.delete_skill)
    list_artifacts = _blocking(AsyncSession.list_artifacts)
    save_artifact = _blocking(AsyncSession.save_artifact)
    load_artifact = _blocking(AsyncSession.load_artifact)
    delete_artifact = _blocking(AsyncSession.delete_artifact)
    list_deps = _blocking(AsyncSession.list_deps)
    add_dep = _blocking(AsyncSession.add_dep)
    remove_dep = _blocking(AsyncSession.remove_dep)
    sync_deps = _blocking(AsyncSession.sync_deps)

    add_skill = create_skill
    remove_skill = delete_skill
    list_workflows = list_skills
    search_workflows = search_skills
    get_workflow = get_skill
    create_workflow = create_skill
    add_workflow = create_skill
    delete_workflow = delete_skill
    remove_workflow = delete_skill
