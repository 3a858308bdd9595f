"""skills: code that agents have kept. It is fetched by name and runs in this session.

    skills.NAME(**arguments)   list, search, get, create, delete, invoke

A skill is a module with `def run(...)` or `async def run(...)`. Each run gets a
fresh namespace with tools, skills, workflows, artifacts and deps in it:

    called where no event loop runs   def run: simply called. async def run: on an event loop,
                                      to its end
    called where one runs             an Answer to be awaited. def run: called at once, with names
                                      that block and return values
    from such a def run               as where no loop runs; async def run on a thread of its own
"""

import builtins
import contextvars
import threading
import types
from dataclasses import dataclass, field

from _carrel import awaiting, calls, skill_source, sources

DEPTH_MAX = 16
_CODES_MAX = 256

_depth = contextvars.ContextVar("depth of skills", default=0)
_codes = {}  # (name, source) to code
_main_thread = threading.main_thread


@dataclass
class SkillParameter:
    """A parameter of a skill."""

    name: str
    type: str
    description: str
    required: bool = True
    default: object = None


@dataclass
class Skill:
    """A skill with its source."""

    name: str
    description: str
    parameters: list
    source: str
    metadata: dict = field(default_factory=dict)

    def invoke(self, /, **arguments):
        return _run(self.name, self.source, arguments, False)


def _skill(record):
    if record is None:
        return None
    return Skill(record["name"], record.get("description") or "",
                 [SkillParameter(p["name"], p.get("type") or "string", p.get("description") or "",
                                 bool(p.get("required")), p.get("default"))
                  for p in record.get("parameters") or ()],
                 record["source"], record.get("metadata") or {})


def _simple(record):
    return {"name": record["name"], "description": record.get("description") or "",
            "params": {p["name"]: p.get("description") or p.get("type") or "string"
                       for p in record.get("parameters") or ()}}


def _simple_all(records):
    return [_simple(record) for record in records]


# --- running --------------------------------------------------------------------------------------


def _code(name, source):
    file = f"<skill {name}>"
    sources.replace(file, source)
    code = _codes.get((name, source))
    if code is None:
        code = compile(source, file, "exec", dont_inherit=True)
        if len(_codes) >= _CODES_MAX:
            _codes.clear()
        _codes[name, source] = code
    return code


def _load(name, source, blocking):
    """Executes the module and returns its run, with the names it is to see."""
    from _carrel import names

    code = _code(name, source)
    namespace = {"__builtins__": builtins}
    namespace.update(names.public(blocking))
    exec(code, namespace)
    run = namespace.get("run")
    if run is None:
        raise ValueError("Skill must define a run() function")
    if blocking and _is_async(run):
        for key, value in names.public(False).items():
            if namespace.get(key) is names.public(True)[key]:
                namespace[key] = value
    return run


def _is_async(run):
    return isinstance(run, types.FunctionType) and bool(run.__code__.co_flags & 0x80)


def _deeper(name):
    depth = _depth.get() + 1
    if depth > DEPTH_MAX:
        raise RecursionError(f"skill '{name}' would run at depth {depth}: "
                             f"skills call each other at most {DEPTH_MAX} deep")
    return _depth.set(depth)


def _run(name, source, arguments, blocking):
    """Runs a skill: its value, or an Answer where an event loop runs."""
    if calls.is_blocking(blocking):
        return _run_to_end(name, source, arguments)
    return _start(_run_in_loop(name, source, arguments), name)


def _start(coroutine, name):
    return calls.Answer(calls.running_loop().create_task(coroutine), f"skills.{name}")


async def _run_in_loop(name, source, arguments):
    token = _deeper(name)
    try:
        value = _load(name, source, True)(**arguments)
        return await value if _can_await(value) else value
    finally:
        _depth.reset(token)


def _run_to_end(name, source, arguments):
    in_loop = calls.running_loop() is not None
    token = _deeper(name)
    try:
        value = _load(name, source, in_loop)(**arguments)
        if not _can_await(value):
            return value
        if in_loop:
            return _drive_on_own_thread(value)
        if threading.current_thread() is _main_thread():
            return awaiting.run(_awaited(value))
        return _drive(value)
    finally:
        _depth.reset(token)


def _can_await(value):
    return isinstance(value, (types.CoroutineType, calls.Answer))


async def _awaited(value):
    return await value


def _drive(value):
    """Runs a coroutine to its end on a loop of this thread's own."""
    import asyncio

    with asyncio.Runner() as runner:
        return runner.run(_awaited(value))


def _drive_on_own_thread(value):
    """The same while this thread's own loop stands still."""
    import asyncio

    ended = []
    loops = []
    context = contextvars.copy_context()

    def drive():
        try:
            with asyncio.Runner() as runner:
                loops.append(runner.get_loop())
                ended.append((True, runner.run(_awaited(value))))
        except BaseException as exc:
            ended.append((False, exc))

    thread = threading.Thread(target=context.run, args=(drive,), daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        _stop(loops)
        raise
    ok, outcome = ended[0]
    if ok:
        return outcome
    raise outcome


def _stop(loops):
    import asyncio

    def cancel_all():
        for task in asyncio.all_tasks():
            task.cancel()

    for loop in loops:
        try:
            loop.call_soon_threadsafe(cancel_all)
        except RuntimeError:
            pass  # it has ended


# --- the name ---------------------------------------------------------------------------------------


class _SkillProxy:
    """skills.NAME: with the source that was there when it was named."""

    __slots__ = ("_record", "_blocking")

    def __init__(self, record, blocking):
        self._record = record
        self._blocking = blocking

    def __call__(self, /, **arguments):
        return _run(self._record["name"], self._record["source"], arguments, self._blocking)

    def call_sync(self, /, **arguments):
        """Blocks and returns the result, wherever it is called."""
        return _run(self._record["name"], self._record["source"], arguments, True)

    async def call_async(self, /, **arguments):
        return await _run(self._record["name"], self._record["source"], arguments, False)

    def __repr__(self):
        simple = _simple(self._record)
        params = ", ".join(f"{name}: {text}" for name, text in simple["params"].items())
        return f"{simple['name']}({params}): {simple['description']}"


class Skills:
    """Kept code: skills.NAME(**arguments), list, search, get, create, delete, invoke."""

    __slots__ = ("_blocking",)

    def __init__(self, blocking):
        self._blocking = blocking

    def list(self):
        """Returns [{name, description, params}]."""
        return self._ask("skills.list", {}, _simple_all)

    def search(self, query, limit=10):
        """Returns the skills that fit best, as list() does."""
        return self._ask("skills.search", {"query": query, "limit": limit}, _simple_all)

    def get(self, name):
        """Returns the Skill, with its source, or None."""
        return self._ask("skills.get", {"name": name}, _skill)

    def create(self, name, source, description=""):
        """Keeps a skill, over one of the same name. Its source is checked and not executed."""
        skill_source.check_name(name)
        skill_source.describe(source)
        arguments = {"name": name, "source": source, "description": description}
        return self._ask("skills.create", arguments, _simple)

    def delete(self, name):
        """Returns whether there was one."""
        return self._ask("skills.delete", {"name": name})

    def invoke(self, skill_name, /, **arguments):
        """Runs a skill by its name."""
        if calls.is_blocking(self._blocking):
            record = _fetched(skill_name, _get(skill_name))
            return _run_to_end(skill_name, record["source"], arguments)
        answer = calls.ask("skills.get", {"name": skill_name})
        return _start(_run_fetched(skill_name, answer, arguments), skill_name)

    def _ask(self, method, arguments, convert=None):
        return calls.ask(method, arguments, convert, blocking=self._blocking)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        record = _get(name)
        if record is None:
            raise AttributeError(f"Skill not found: {name}")
        return _SkillProxy(record, self._blocking)

    def __dir__(self):
        found = calls.wait_for(calls.Call("skills.list", {}))
        return [*sorted(skill_source.RESERVED), *(record["name"] for record in found)]

    def __repr__(self):
        return "<skills: list(), search(query), create(name, source), or NAME(**arguments)>"


def _get(name):
    return calls.wait_for(calls.Call("skills.get", {"name": name}))


def _fetched(name, record):
    if record is None:
        raise ValueError(f"Skill not found: {name}")
    return record


async def _run_fetched(name, answer, arguments):
    record = _fetched(name, await answer)
    return await _run_in_loop(name, record["source"], arguments)
