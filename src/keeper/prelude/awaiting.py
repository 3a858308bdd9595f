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
    global _loop
    import asyncio

    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop


def forget():
    """Closes the loop, with the descriptors it holds: no session may inherit them."""
    global _loop
    if _loop is not None:
        import asyncio
        _loop.close()
        asyncio.set_event_loop(None)
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
