"""skills: code that agents have kept. It is fetched by name and runs in this session.

    skills.NAME(**arguments)   list, search, get, create, delete, invoke

A skill is a module with `def run(...)` or `async def run(...)`. Each run gets a
fresh namespace with tools, skills, workflows, artifacts and deps in it:

    called where no event loop runs   def run: simply called. async def run: on an event loop,
                                      to its end
    called where one runs             begins when it is awaited, or used as the value it stands for
                                      (see answers). def run: with names that block and return values
    from such a def run               as where no loop runs; async def run on a thread of its own
"""

import ast
import builtins
import contextvars
import threading
import types
from dataclasses import dataclass, field

from _carrel import awaiting, calls, identity, skill_source, sources
from _carrel.answers import NotAwaited, steps_of

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
        tree = source
        if identity.concerns(source):
            tree = identity.change(compile(source, file, "exec", ast.PyCF_ONLY_AST, True))
        code = compile(tree, file, "exec", dont_inherit=True)
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
    """Runs a skill: its value, or where an event loop runs what stands for it."""
    if calls.is_blocking(blocking):
        return _run_to_end(name, source, arguments)
    return _later(name, lambda: _run_in_loop(name, source, arguments),
                  lambda: _run_to_end(name, source, arguments))


class _Run:
    """A skill that begins when its value is wanted: the source of an answer."""

    __slots__ = ("name", "begin", "run", "task", "outcome")

    def __init__(self, name, begin, run):
        """begin: makes a coroutine. run: blocks."""
        self.name = name
        self.begin = begin
        self.run = run
        self.task = None
        self.outcome = None

    def steps(self):
        if self.outcome is not None:
            return steps_of(self.outcome)
        if self.task is None:
            self.task = calls.running_loop().create_task(self._follow())
        return self.task.__await__()

    async def _follow(self):
        try:
            value = await self.begin()
        except Exception as exc:
            self.outcome = False, exc
            raise
        self.outcome = True, value
        return value

    def finish(self):
        if self.task is not None:
            raise RuntimeError(f"{self.name} is under way in an event loop: its value is awaited there")
        try:
            self.outcome = True, self.run()
        except Exception as exc:
            self.outcome = False, exc
        except BaseException:
            self.outcome = False, RuntimeError("it was interrupted")
            raise


def _later(name, begin, run):
    return NotAwaited(_Run(f"skills.{name}", begin, run))


async def _run_in_loop(name, source, arguments):
    token = _deeper(name)
    try:
        return await _awaited(_load(name, source, True)(**arguments))
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
    return type(value) in (types.CoroutineType, NotAwaited)


async def _awaited(value):
    """What run() returned: to the end, also where it returns what it has not awaited."""
    while _can_await(value):
        value = await value
    return value


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
            return _fetch_and_run(skill_name, arguments)
        return _later(skill_name, lambda: _run_fetched(skill_name, arguments),
                      lambda: _fetch_and_run(skill_name, arguments))

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


def _fetch_and_run(name, arguments):
    return _run_to_end(name, _fetched(name, _get(name))["source"], arguments)


async def _run_fetched(name, arguments):
    record = _fetched(name, await calls.ask("skills.get", {"name": name}))
    return await _run_in_loop(name, record["source"], arguments)
