"""Top-level await: one event loop a session, kept between cells.

The loop runs only while a cell awaits. Tasks a cell leaves pending stand still
until the next cell that awaits. Outside of that no loop is running, so
asyncio.run() in a plain cell works.

An interrupt reaches the code that runs, as anywhere else, and not only the next
await as with asyncio.Runner; what is then still awaited is cancelled.
"""

_loop = None

# The loops, of any thread, that wait for host calls: those of the module calls, by id.
waiting_loops = {}


def run(coroutine):
    """Runs a coroutine to its end and returns its value."""
    loop = _open_loop()
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException as exc:
        if not task.done():
            _cancel(loop, task, exc)
        raise


def _open_loop():
    """Returns the loop of the session's cells.

    That is the thread's current one where there is one: what user code got from
    asyncio.get_event_loop() in a plain cell, and made tasks in, runs in the cells that await.
    """
    global _loop
    import asyncio

    loop = _current_loop(asyncio)
    if loop is None:
        loop = asyncio.new_event_loop() if _loop is None or _loop.is_closed() else _loop
        asyncio.set_event_loop(loop)
    _loop = loop
    return _loop


def _current_loop(asyncio):
    """Returns the thread's current loop, which a fresh Python makes, or None without a usable one."""
    import warnings

    try:
        with warnings.catch_warnings():
            # Later versions of Python announce that they will no longer make one.
            warnings.simplefilter("ignore", DeprecationWarning)
            loop = asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        return None
    return None if loop.is_closed() else loop


def forget():
    """Closes the loop, with the descriptors it holds: no session may inherit them.

    The policy is forgotten too: asyncio.get_event_loop() is then as in a fresh Python.
    """
    global _loop
    if _loop is not None:
        import asyncio
        _loop.close()
        asyncio.set_event_loop_policy(None)
        _loop = None


def _cancel(loop, task, interrupt):
    """Cancels the task and lets it clean up; its end becomes the interrupt's context."""
    import asyncio

    task.cancel()
    try:
        loop.run_until_complete(task)
    except (asyncio.CancelledError, Exception) as exc:
        # Shows in the traceback where the interrupt found the user's code.
        interrupt.__context__ = exc
