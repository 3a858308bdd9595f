"""tools, skills, artifacts and deps as code in a session finds them, against a server that is
functions of this test. The facts are those of py-code-mode's namespaces.

    /usr/bin/python3 tests/unit/names_test.py
"""

import collections
import contextlib
import io
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import fake_host  # noqa: E402
from fake_host import Failure  # noqa: E402

Answer = collections.namedtuple(
    "Answer", "status kind json text name value traceback limit exit_code")

SAY = {"name": "say", "description": "Says it", "parameters": [
    {"name": "loud", "type": "bool", "required": False, "default": None, "description": ""},
    {"name": "text", "type": "str", "required": True, "default": None, "description": "What"}]}
ECHO = {"name": "echo", "description": "Echo text", "tags": ["text"], "callables": [
    SAY, {"name": "twice", "description": "", "parameters": [
        {"name": "text", "type": "str", "required": False, "default": "hi", "description": ""}]}]}
NMAP = {"name": "nmap", "description": "Network scanner", "tags": [], "callables": []}

PORT_SCAN = '''def run(target: str, ports: str = "80,443") -> dict:
    """Scan ports on target."""
    raw = tools.nmap(target=target, flags=f"-p {ports}")
    # Parse and return structured results
    return {"target": target, "raw": raw}
'''


class Server:
    """The methods of src/codemode/codemode.h, as far as a session can tell."""

    def __init__(self):
        self.tools = [ECHO, NMAP]
        self.skills = {}
        self.artifacts = {}
        self.packages = []
        self.delay = 0
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def __call__(self, method, arguments, data):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            time.sleep(self.delay)
            return getattr(self, method.replace(".", "_"))(data=data, **arguments)
        finally:
            with self.lock:
                self.running -= 1

    def tools_list(self, data):
        return self.tools

    def tools_search(self, data, query, limit):
        return [tool for tool in self.tools if query in tool["description"].lower()][:limit]

    def tools_call(self, data, tool, arguments, callable=None):
        if tool not in {each["name"] for each in self.tools}:
            raise Failure("ToolNotFoundError", f"Tool '{tool}' not found. Available: echo, nmap")
        if arguments.get("text") == "fail":
            raise Failure("ToolCallError", f"Tool '{tool}' failed: no")
        if arguments.get("text") == "denied":
            raise Failure("ApprovalDenied", f"Tool '{tool}' was not run: rejected by ann")
        if arguments.get("text") == "slow":
            raise Failure("ToolTimeoutError", f"Tool '{tool}' timed out after 1s")
        if callable == "twice":
            return {"json": [arguments["text"]] * 2}
        return {"text": f"{tool} {json.dumps(arguments)}"}

    def skills_list(self, data):
        return list(self.skills.values())

    def skills_search(self, data, query, limit):
        return [s for s in self.skills.values() if query in s["description"]][:limit]

    def skills_get(self, data, name):
        return self.skills.get(name)

    def skills_create(self, data, name, source, description):
        [found] = json.loads(carrel.describe_skills(json.dumps([{"name": name, "source": source}])))
        if "error" in found:
            raise Failure(found["error"], found["message"])
        found["description"] = description or found["description"]
        self.skills[name] = {**found, "source": source}
        return self.skills[name]

    def skills_delete(self, data, name):
        return self.skills.pop(name, None) is not None

    def artifacts_save(self, data, name, type, size, description, metadata):
        if ".." in name:
            raise Failure("ValueError", f"Path traversal attempt detected: '{name}'")
        assert len(data) == size
        record = {"name": name, "path": f"/a/{name}", "description": description,
                  "metadata": metadata, "created_at": "2026-01-02T03:04:05.000006+00:00"}
        self.artifacts[name] = (record, type, data)
        return record

    def artifacts_load(self, data, name):
        if name not in self.artifacts:
            raise Failure("ArtifactNotFoundError", f"Artifact '{name}' not found")
        record, kind, content = self.artifacts[name]
        return {"type": kind, "size": len(content)}, content

    def artifacts_get(self, data, name):
        return self.artifacts[name][0] if name in self.artifacts else None

    def artifacts_list(self, data):
        return [record for record, _, _ in self.artifacts.values()]

    def artifacts_exists(self, data, name):
        return name in self.artifacts

    def artifacts_delete(self, data, name):
        return self.artifacts.pop(name, None) is not None

    def artifacts_register(self, data, name, description, metadata):
        return {"name": name, "path": "", "description": description, "metadata": metadata,
                "created_at": None}

    def artifacts_path(self, data):
        return "/a"

    def deps_list(self, data):
        return self.packages

    def deps_add(self, data, package):
        if package == "never":
            raise Failure("RuntimeDepsDisabledError",
                          "Runtime dependency installation is disabled. Dependencies must be "
                          "pre-configured before session start.")
        self.packages.append(package)
        return {"installed": [package], "already_present": [], "failed": [], "directory": "a" * 64}

    def deps_remove(self, data, package):
        return package in self.packages

    def deps_sync(self, data):
        return {"installed": [], "already_present": self.packages,
                "failed": ["gone"], "reasons": {"gone": "not found"}, "directory": None}


carrel = host = None


def setUpModule():
    global carrel, host
    carrel, host = fake_host.load_prelude()
    carrel.preload([])


class Names(unittest.TestCase):
    def setUp(self):
        self.server = host.server = Server()
        host.calls.clear()
        host.cancelled.clear()
        main = vars(sys.modules["__main__"])
        for name in list(main):
            if not name.startswith("__"):
                del main[name]
        from _carrel import names, tools
        tools._known.clear()
        main.update(names.public())

    def cell(self, code, values=True, empty=False):
        return Answer(*carrel.run_cell(code, empty, values))

    def value(self, code, **options):
        answer = self.cell(code, **options)
        self.assertEqual(answer.status, 0, answer.traceback)
        return json.loads(answer.json) if answer.kind != "none" else None

    def error(self, code):
        answer = self.cell(code)
        self.assertEqual(answer.status, 1, answer)
        return answer.name, answer.value

    def methods(self):
        return [method for method, _ in host.calls]


class Namespace(Names):
    def test_the_names_are_there(self):
        code = "sorted(n for n in globals() if not n.startswith('__'))"
        names = ["artifacts", "deps", "skills", "tools", "workflows"]
        self.assertEqual(self.value(code), names)
        self.assertEqual(self.value(code, empty=True), names)
        self.assertTrue(self.value("skills is workflows"))

    def test_they_can_be_shadowed(self):
        self.value("tools = 5")
        self.assertEqual(self.value("tools"), 5)
        self.assertEqual(self.value("'list' in dir(tools)", empty=True), True)

    def test_nothing_is_asked_for_nothing(self):
        self.value("tools; skills; artifacts; deps.add; 1")
        self.cell("tools", values=False)
        self.cell("[skills, artifacts]", values=False)
        self.value("[hasattr(x, '_repr_html_') for x in (tools, skills, artifacts)]")
        self.assertEqual(host.calls, [])

    def test_an_interrupt_takes_a_call_back(self):
        self.server.delay = 60
        timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
        timer.start()
        answer = self.cell("skills.list()")
        timer.join()
        self.assertEqual((answer.status, answer.name), (2, "KeyboardInterrupt"))
        self.assertEqual(host.cancelled, [host.last])

    def test_between_cells_there_is_an_error(self):
        host.server = None
        self.assertEqual(self.error("artifacts.exists('a')"), (
            "RuntimeError", "the cell that this call belongs to has ended"))

    def test_a_fork_may_not_ask(self):
        code = """
import os
pid = os.fork()
if pid == 0:
    try:
        artifacts.exists('a')
    except RuntimeError:
        os._exit(7)
os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
        self.assertEqual(self.value(code), 7)


class Tools(Names):
    def test_calls(self):
        self.assertEqual(self.value("tools.echo(text='a b')"), 'echo {"text": "a b"}')
        self.assertEqual(self.value("tools.echo.twice(text='a')"), ["a", "a"])
        self.assertEqual(self.value("tools.echo.call_sync(text='a')"), 'echo {"text": "a"}')
        self.assertEqual(self.value("await tools.echo.call_async(text='a')"), 'echo {"text": "a"}')
        self.assertEqual(self.value("tools.echo.twice.call_sync(text='b')"), ["b", "b"])
        self.assertEqual(self.value("await tools.echo.twice.call_async(text='b')"), ["b", "b"])
        self.assertEqual(self.value("tools.call('echo', {'text': 'a'})"), 'echo {"text": "a"}')
        self.assertEqual(self.value("import asyncio\nasyncio.run(tools.echo.call_async())"),
                         "echo {}")

    def test_a_known_name_costs_one_call(self):
        self.value("for i in range(3): tools.echo(text='a'); tools.echo.twice(text='a')")
        self.assertEqual(self.methods(), ["tools.list"] + ["tools.call"] * 6)

    def test_a_new_tool_is_found(self):
        self.value("tools.echo(text='a')")
        self.server.tools = [ECHO, NMAP, {**NMAP, "name": "dig"}]
        self.assertEqual(self.value("tools.dig(a=1)"), 'dig {"a": 1}')

    def test_lists(self):
        tool = self.value("tools.list()")[0]
        self.assertEqual((tool["name"], tool["tags"]), ("echo", ["text"]))
        self.assertEqual(tool["callables"][1]["parameters"], [
            {"name": "text", "type": "str", "required": False, "default": "hi",
             "description": ""}])
        self.assertEqual(self.value("[t.name for t in tools.search('scanner')]"), ["nmap"])
        self.assertEqual(host.calls[-1][1], {"query": "scanner", "limit": 5})
        self.assertEqual(self.value("[c.name for c in tools.echo.list()]"), ["say", "twice"])
        self.assertEqual(self.value("tools.list()[0]['params']"), {"loud": "bool", "text": "str"})
        self.assertEqual(self.cell("type(tools.list()[0])", values=False).text,
                         "_carrel.tools.Tool")

    def test_reprs(self):
        lines = ["echo: Echo text", "  say(text: str, loud: bool | None = None): Says it",
                 '  twice(text: str = "hi"): ']
        for code in ("tools.list()[0]", "tools.echo"):
            self.assertEqual(self.cell(code, values=False).text.split("\n"), lines)
        self.assertEqual(self.value("tools.echo.say.signature()"),
                         "say(text: str, loud: bool | None = None)")
        self.assertEqual(self.value("await tools.echo.say.describe()"),
                         self.value("tools.echo.say.describe()"))
        self.assertEqual(self.value("tools.echo.say.describe()"), {"loud": "bool", "text": "What"})

    def test_errors(self):
        self.assertEqual(self.error("tools.nope(a=1)"), (
            "AttributeError", "Unknown tool: nope. Available: echo, nmap"))
        self.assertEqual(self.error("tools.echo.nope()"), (
            "AttributeError", "Unknown callable: echo.nope. Available: say, twice"))
        self.assertEqual(self.error("tools.echo(text='fail')"), (
            "ToolCallError", "Tool 'echo' failed: no"))
        self.assertEqual(self.error("tools.echo(text='slow')"), (
            "ToolTimeoutError", "Tool 'echo' timed out after 1s"))
        self.assertEqual(self.error("tools.echo(text='denied')"), (
            "ApprovalDenied", "Tool 'echo' was not run: rejected by ann"))
        self.assertEqual(self.value(
            "try:\n    tools.echo(text='denied')\nexcept ToolCallError as e:\n    name = "
            "type(e).__name__\nname"), "ApprovalDenied")
        self.assertEqual(self.error("tools.call('nope', {})"), (
            "ToolNotFoundError", "Tool 'nope' not found. Available: echo, nmap"))
        self.assertEqual(self.error("tools.echo('positional')")[0], "TypeError")
        self.assertEqual(self.error("tools.echo(a={1})")[0], "TypeError")
        self.assertEqual(self.error("tools.echo(a=float('nan'))")[0], "ValueError")
        self.assertEqual(self.error("tools.echo(a='\\ud800')")[0], "UnicodeEncodeError")
        self.assertFalse(self.value("hasattr(tools, 'nope')"))
        caught = "try: tools.echo(text='fail')\nexcept ToolCallError: r = 1\nr"
        self.assertEqual(self.value(caught), 1)

    def test_the_traceback_shows_the_users_lines_alone(self):
        answer = self.cell("x = 1\ntools.echo(text='fail')")
        # Later Pythons mark the call in a line of its own.
        lines = [line for line in answer.traceback.splitlines() if set(line) - set(" ~^")]
        self.assertEqual(lines[1:], [
            '  File "<cell %s>", line 2, in <module>' % answer.traceback.split("<cell ")[1]
            .split(">")[0], "    tools.echo(text='fail')",
            "ToolCallError: Tool 'echo' failed: no"])

    def test_paths_and_awkward_names(self):
        code = "import pathlib\ntools.echo(self=1, name=pathlib.Path('/a'), l=(pathlib.Path('b'),))"
        self.assertEqual(self.value(code), 'echo {"self": 1, "name": "/a", "l": ["b"]}')


class Loops(Names):
    def test_ten_at_once(self):
        self.server.delay = 0.2
        start = time.monotonic()
        code = """
import asyncio
await asyncio.gather(*(tools.echo.twice(text=str(i)) for i in range(10)))
"""
        self.assertEqual(self.value(code), [[str(i)] * 2 for i in range(10)])
        self.assertEqual(self.server.most, 10)
        self.assertLess(time.monotonic() - start, 1.5)

    def test_what_is_not_awaited_runs_all_the_same(self):
        self.value("a = artifacts.save('x', 'y')\nimport asyncio\nawait asyncio.sleep(0.1)\n1")
        self.assertIn("x", self.server.artifacts)

    def test_tasks_and_repeated_awaits(self):
        code = """
import asyncio
task = asyncio.create_task(tools.echo.twice(text='t'))
answer = tools.echo.twice(text='u')
await task, await answer, await answer, await asyncio.wait_for(tools.echo.twice(text='w'), 5)
"""
        self.assertEqual(self.value(code), [["t"] * 2, ["u"] * 2, ["u"] * 2, ["w"] * 2])

    def test_errors_come_when_awaited(self):
        code = """
import asyncio
await asyncio.gather(tools.echo(text='fail'), tools.echo.twice(text='a'), return_exceptions=True)
"""
        self.assertEqual(self.value(code), ["Tool 'echo' failed: no", ["a", "a"]])
        self.assertEqual(self.error("await tools.echo(text='slow')")[0], "ToolTimeoutError")

    def test_a_cancelled_task_cancels_its_call(self):
        self.server.delay = 0.5
        code = """
import asyncio
try:
    await asyncio.wait_for(artifacts.exists('a'), 0.05)
except TimeoutError:
    r = 'timeout'
r
"""
        self.assertEqual(self.value(code), "timeout")
        self.assertEqual(len(host.cancelled), 1)

    def test_the_last_value_is_awaited(self):
        self.assertEqual(self.value("import asyncio\nawait asyncio.sleep(0)\ntools.echo()"),
                         "echo {}")
        self.assertEqual(self.value("async def f(): return 5\nf()"), 5)

    def test_blocking_inside_a_loop(self):
        self.assertEqual(self.value("import asyncio\nawait asyncio.sleep(0)\n"
                                    "tools.echo.call_sync(text='a')"), 'echo {"text": "a"}')

    def test_a_loop_and_threads_together(self):
        code = """
import asyncio, threading
found = []
threads = [threading.Thread(target=lambda: found.extend(artifacts.exists('a') for i in range(50)))
           for i in range(4)]
for t in threads: t.start()
n = 0
for i in range(20):
    n += len(await asyncio.gather(*(artifacts.exists('a') for i in range(10))))
for t in threads: t.join()
n + len(found)
"""
        self.assertEqual(self.value(code), 400)

    def test_pending_in_a_task_it_ends_with_the_cell(self):
        self.server.delay = 0.3
        self.value("import asyncio\n"
                   "async def wait(): return await artifacts.exists('a')\n"
                   "task = asyncio.create_task(wait())\nawait asyncio.sleep(0)\n1")
        self.assertEqual(self.error("await task"), (
            "RuntimeError", "the cell that this call belongs to has ended"))

    def test_the_65th_is_refused(self):
        self.server.delay = 0.5
        code = """
import asyncio
await asyncio.sleep(0)
a = [artifacts.exists('a') for i in range(64)]
artifacts.exists('a')
"""
        self.assertEqual(self.error(code)[0], "TooManyCalls")


class Unawaited(Names):
    """What is not awaited where an event loop runs is used as its value."""

    LOOP = "import asyncio\nawait asyncio.sleep(0)\n"

    def use(self, value, expression):
        """The value of an expression of x, a result that nobody has awaited."""
        self.server.tools_call = lambda data, **arguments: {"json": value}
        return self.value(f"{self.LOOP}x = tools.echo()\n{expression}")

    def test_every_use_of_every_kind(self):
        """Each expression gives with the answer what it gives with the value itself."""
        numbers = ("x + 1", "1 + x", "x - 1", "1 - x", "x * 2", "2 * x", "x / 2", "2 / x", "x // 2",
                   "7 // x", "x % 2", "7 % x", "divmod(x, 2)", "divmod(7, x)", "x ** 2", "2 ** x",
                   "pow(x, 2, 5)", "x << 1", "1 << x", "x >> 1", "9 >> x", "x & 1", "1 & x", "x | 4",
                   "4 | x", "x ^ 1", "1 ^ x", "-x", "+x", "~x", "abs(x)", "round(x)", "int(x)",
                   "float(x)", "complex(x).real", "[5, 6, 7, 8][x]", "list(range(x))", "x < 4", "4 > x",
                   "x <= 3", "x >= 3", "x == 3", "3 == x", "x != 3", "hash(x) == hash(3)", "{3: 'a'}[x]",
                   "{x: 'a'}[3]", "hex(x)", "bin(x)", "f'{x:05d}'", "f'{x!r:>4}'", "x.bit_length()",
                   "isinstance(x, int)", "isinstance(x, str)", "math.floor(x)", "math.ceil(x)",
                   "math.trunc(x)", "math.sqrt(x)", "sum([x, x])", "max(x, 2)", "bytes(x).hex()",
                   "x is None", "type(x) is int", "str(x)", "repr(x)", "bool(x)", "not x",
                   "x in (3, 4)", "range(10)[x]", "'%d' % x", "'{:.1f}'.format(x)", "1 if x else 2",
                   "numpy.array(x) + 1 == 4", "numpy.arange(x).tolist()", "json.dumps(x)",
                   "json.dumps([x], indent=1)", "pickle.loads(pickle.dumps(x))", "copy.copy(x)",
                   "copy.deepcopy([x])", "sorted([5, x, 1])[1] + 0", "x.__class__.__name__")
        texts = ("x + 'b'", "'b' + x", "x * 2", "x[0]", "x[1:]", "len(x)", "list(x)", "'a' in x",
                 "x.upper()", "x.split('b')", "x == 'abc'", "'abc' == x", "x < 'b'", "'b' > x",
                 "f'{x:>5}'", "f'{x}'", "str(x)", "repr(x)", "{'abc': 1}[x]",
                 "hash(x) == hash('abc')", "isinstance(x, str)", "isinstance(x, (int, bytes))",
                 "json.dumps({'a': x})", "json.dumps({x: 1}, indent=2)", "os.path.join(x, 'b')",
                 "pathlib.Path(x).name", "open(x, 'w').close()", "[*x]", "''.join(c for c in x)",
                 "''.join(x)", "x.join(['1', '2'])", "'%s' % x", "x % ()", "bool(x)", "max(x)",
                 "sorted(x, reverse=True)", "list(reversed(x))", "dict.fromkeys(x)", "type(x).__name__",
                 "pickle.loads(pickle.dumps(x))", "json.loads(json.dumps(x))", "x is not None",
                 "''.join(map(str, [x]))", "str.upper(str(x))", "x.encode().hex()", "list(zip(x, x))",
                 "[i for i in enumerate(x)]")
        dicts = ("x['a']", "x.get('b')", "'a' in x", "list(x)", "len(x)", "dict(x)", "{**x}",
                 "sorted(x.items())", "x == {'a': 1}", "{'a': 1} == x", "x | {'b': 2}", "{'b': 2} | x",
                 "isinstance(x, dict)", "json.dumps(x)", "json.dumps([x, (x,)], indent=2)",
                 "copy.deepcopy(x)", "pickle.loads(pickle.dumps(x))", "[k for k in x]", "str(x)",
                 "x.setdefault('c', 2), x", "(lambda **k: k)(**x)", "bool(x)", "pprint.pformat(x)",
                 "pandas.DataFrame([x]).to_dict()", "pandas.Series(x).to_dict()", "list(reversed(x))",
                 "pandas.DataFrame({'k': [x]}).k[0]['a']", "'{a}'.format(**x)", "'%(a)d' % x",
                 "[each for each in [x]][0]['a']", "x", "[x]", "{'k': x}", "(x, 1)")
        lists = ("x[0]", "x[-1]", "x[:2]", "len(x)", "list(x)", "x + [4]", "[0] + x", "x * 2", "2 in x",
                 "sum(x)", "sorted(x)", "max(x)", "x == [1, 2, 3]", "[1, 2, 3] == x", "x.index(2)",
                 "x.append(4), x", "isinstance(x, list)", "isinstance(x, (tuple, list))", "[*x, 4]",
                 "tuple(x)", "list(map(str, x))", "json.dumps(x)", "numpy.array(x).sum().item()",
                 "numpy.mean(x)", "pandas.DataFrame(x).shape", "pandas.DataFrame({'c': x}).c.tolist()",
                 "pandas.Series(x).tolist()", "list(zip(x, x))", "(lambda *a: a)(*x)", "bool(x)",
                 "copy.copy(x)", "pickle.loads(pickle.dumps(x))", "list(itertools.chain(x, x))", "str(x)",
                 "random.Random(1).choice(x)", "bytes(x).hex()", "bisect.bisect(x, 2)", "x", "set(x)")
        constants = ("bool(x)", "not x", "x == None", "x is None", "x is not None", "x is True",
                     "x is False", "str(x)", "json.dumps(x)", "json.dumps({'a': x}, indent=1)", "[x]",
                     "1 if x else 2", "x or 5", "x and 5", "type(x).__name__", "isinstance(x, bool)",
                     "f'{x}'", "{'k': x}", "x")
        modules = ("copy", "json", "math", "os", "pathlib", "pickle", "pprint", "numpy", "pandas",
                   "itertools", "random", "bisect")
        self.value("".join(f"import {module}\n" for module in modules))
        os.chdir(self.enterContext(tempfile.TemporaryDirectory()))
        for values, uses in (((3,), numbers), (("abc",), texts), (({"a": 1},), dicts),
                             (([1, 2, 3],), lists), ((None, True, False), constants)):
            for value in values:
                for use in uses:
                    with self.subTest(value=value, use=use):
                        expected = self.value(f"x = {value!r}\n{use}")
                        self.assertEqual(self.use(value, use), expected)

    def test_statements(self):
        for code, expected in (
                ("a, b, c = x\nc", 3), ("x += [4]\nx", [1, 2, 3, 4]), ("x[0] = 9\nx", [9, 2, 3]),
                ("del x[0]\nx", [2, 3]), ("n = 0\nfor i in x: n += i\nn", 6),
                ("n = 0\nasync for i in slow(x): n += i\nn", 6),
                ("match x:\n    case [first, *_]: r = first\n    case _: r = None\nr", 1),
                ("match x:\n    case list(): r = 'list'\n    case _: r = None\nr", "list"),
                ("def f(): return x[0]\nf()", 1), ("assert x\n1", 1), ("y = [i for i in x]\ny", [1, 2, 3]),
                ("def f():\n    yield from x\nlist(f())", [1, 2, 3]),
                ("try: x.nope\nexcept AttributeError as e: r = str(e)\nr",
                 "'list' object has no attribute 'nope'"),
                ("try: x['a']\nexcept TypeError as e: r = str(e)\nr",
                 "list indices must be integers or slices, not str"),
                ("try: hash(x)\nexcept TypeError as e: r = str(e)\nr", "unhashable type: 'list'")):
            with self.subTest(code=code):
                self.value("async def slow(items):\n    for item in items: yield item")
                self.assertEqual(self.use([1, 2, 3], code), expected)

    def test_in_skills(self):
        for body, expected in (
                ("return [artifacts.exists('nope'), 1][0]", False),
                ("return artifacts.exists('nope')", False),
                ("return 'there' if artifacts.exists('nope') else 'not there'", "not there"),
                ("return skills.get('nope') is None", True),
                ("return [s['name'] for s in skills.list()]", ["s"]),
                ("artifacts.save('k', 'v')\n    return artifacts.load('k').upper()", "V"),
                ("return tools.echo.twice(text='a')[0] + tools.echo(text='b')", 'aecho {"text": "b"}'),
                ("return tools.echo(text=tools.echo())", 'echo {"text": "echo {}"}'),
                ("artifacts.save('j', {'t': tools.echo()})\n    return artifacts.load('j')",
                 {"t": "echo {}"}),
                ("artifacts.save('k', tools.echo())\n    return artifacts.load('k')", "echo {}"),
                ("return {'a': artifacts.exists('nope'), 'b': [tools.echo()]}",
                 {"a": False, "b": ["echo {}"]}),
                ("return tools.list()[0].name", "echo"),
                ("return deps.add('pad').installed == {'pad'}", True)):
            with self.subTest(body=body):
                self.value(f"skills.create('s', {f'async def run():{chr(10)}    {body}'!r})")
                for call in ("skills.s()", "await skills.s()", "skills.s.call_sync()",
                             self.LOOP + "skills.s()", self.LOOP + "x = skills.s()\nx",
                             self.LOOP + "x = skills.invoke('s')\n[x][0]"):
                    self.assertEqual(self.value(call), expected, call)

    def test_it_has_run_when_it_is_dropped(self):
        self.server.delay = 0.1
        self.value(f"{self.LOOP}artifacts.save('x', 'y')\nimport os\n"
                   "assert artifacts.load.__self__ is artifacts")
        self.assertIn("x", self.server.artifacts)
        self.assertEqual(self.value(f"{self.LOOP}artifacts.save('z', '1')\nartifacts.load('z')"), "1")
        self.value("skills.create('keep', \"def run(): artifacts.save('s', 'kept')\")")
        self.value(f"{self.LOOP}skills.keep()\nn = artifacts.load('s')\nassert n == 'kept'")
        self.assertEqual(self.methods().count("artifacts.save"), 3)

    def test_it_runs_once(self):
        self.value(f"{self.LOOP}x = tools.echo()\nstr(x), bool(x), x == 1, await x, await x, len(x)")
        self.assertEqual(self.methods().count("tools.call"), 1)
        self.value("skills.create('count', \"def run(): tools.echo(); return [1]\")")
        host.calls.clear()
        self.value(f"{self.LOOP}x = skills.count()\nlen(x), x[0], await x, await x\n"
                   "y = skills.count()\nawait y, len(y)\nskills.count()\n5")
        self.assertEqual(self.methods().count("tools.call"), 3)

    def test_a_failure_is_raised_where_it_is_used(self):
        for use in ("bool(x)", "str(x)", "x + 1", "x.upper()", "len(x)", "await x", "x is None"):
            self.assertEqual(self.error(f"{self.LOOP}x = tools.echo(text='fail')\n{use}"),
                             ("ToolCallError", "Tool 'echo' failed: no"), use)
        trace = self.cell(f"{self.LOOP}x = tools.echo(text='fail')\nlen(x)").traceback
        self.assertIn(", line 4, in <module>\n    len(x)", trace)
        self.assertNotIn("_carrel", trace)

    def test_a_failure_is_told_when_it_is_dropped(self):
        for drop in ("tools.echo(text='fail')\n1", "x = tools.echo(text='fail')\nx = 1",
                     "x = tools.echo(text='fail')\nawait asyncio.sleep(0.1)\ndel x\n1"):
            stream = io.StringIO()
            with contextlib.redirect_stderr(stream):
                self.value(self.LOOP + drop)
            self.assertEqual(stream.getvalue(), "tools.call failed, and was not awaited: "
                             "ToolCallError: Tool 'echo' failed: no\n", drop)

    def test_used_in_a_later_cell(self):
        self.server.delay = 0.1
        self.value(f"{self.LOOP}x = artifacts.exists('nope')\ny = artifacts.exists('nope')\n"
                   "skills.create('one', 'def run(): return 1')\nz = skills.one()\n1")
        self.assertEqual(self.value("'yes' if x else 'no'"), "no")
        self.assertEqual(self.value("y"), False)
        self.assertEqual(self.value("z + 1"), 2)
        self.assertEqual(self.value("await x, await y, await z"), [False, False, 1])
        self.assertEqual(self.value(f"{self.LOOP}x = tools.echo(text='fail')\n1"), 1)
        self.assertEqual(self.error("x.upper()")[0], "ToolCallError")

    def test_gather_still_runs_them_at_once(self):
        self.server.delay = 0.2
        for code in ("await asyncio.gather(*(tools.echo.twice(text=str(i)) for i in range(8)))",
                     "[await t for t in [asyncio.create_task(tools.echo.twice(text=str(i)))"
                     " for i in range(8)]]",
                     "[await t for t in [tools.echo.twice(text=str(i)) for i in range(8)]]",
                     "[await asyncio.wait_for(t, 9) for t in"
                     " [tools.echo.twice(text=str(i)) for i in range(8)]]",
                     "[x + [] for x in [tools.echo.twice(text=str(i)) for i in range(8)]]",
                     "import inspect\nx = [tools.echo.twice(text=str(i)) for i in range(8)]\n"
                     "[await y if inspect.isawaitable(y) else None for y in x]"):
            self.server.most = 0
            self.assertEqual(self.value(self.LOOP + code), [[str(i)] * 2 for i in range(8)], code)
            self.assertEqual(self.server.most, 8, code)

    def test_from_threads(self):
        self.server.delay = 0.05
        self.assertEqual(self.value(self.LOOP + """
x = [tools.echo.twice(text=str(i)) for i in range(5)]
await asyncio.gather(*(asyncio.to_thread(len, each) for each in x + x)), await x[0], x[1][0]
"""), [[2] * 10, ["0", "0"], "1"])
        # A thread delivers also while the loop stands still for it.
        self.assertEqual(self.value(self.LOOP + """
import concurrent.futures
x = tools.echo.twice(text='a')
with concurrent.futures.ThreadPoolExecutor() as pool:
    n = pool.submit(len, x).result()
n, await x
"""), [2, ["a", "a"]])

    def test_an_interrupt_ends_the_wait(self):
        self.value("tools.echo")  # is known from here on
        for use in ("x = tools.echo()\nstr(x)", "tools.echo()\nwhile True: pass",
                    "x = tools.echo()"):
            self.server.delay = 1
            host.cancelled.clear()
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            began = time.monotonic()
            answer = self.cell(f"{self.LOOP}{use}\n1")
            timer.join()
            self.assertEqual((answer.status, answer.name), (2, "KeyboardInterrupt"), use)
            self.assertLess(time.monotonic() - began, 0.9, use)
            self.assertEqual(len(host.cancelled), 1, use)
        self.server.delay = 0
        self.assertEqual(self.error("str(x)"), ("RuntimeError", "it was interrupted"))
        self.value("del x")

    def test_an_interrupt_cancels_a_blocking_call(self):
        self.server.artifacts["a"] = ({}, "text", b"x")
        for code in ("artifacts.exists('a')", "artifacts.load('a')", "artifacts.save('b', 'x')",
                     "skills.list()", "tools.list()"):
            self.server.delay = 1
            host.cancelled.clear()
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            answer = self.cell(code)
            timer.join()
            self.assertEqual((answer.status, answer.name), (2, "KeyboardInterrupt"), code)
            self.assertEqual(len(host.cancelled), 1, code)

    def test_code_outside_of_loops_is_not_changed(self):
        self.assertEqual(self.value("import dis\ndef f(x): return x is None\n"
                                    "async def g(x): return x is None\n"
                                    "[any(i.opname.startswith('CALL') for i in dis.get_instructions(h))"
                                    " for h in (f, g)]"), [False, True])


class Skills(Names):
    def create(self, name, source):
        self.value(f"skills.create({name!r}, {source!r})")

    def test_the_readmes_skill(self):
        self.assertEqual(
            self.value(f"skills.create('port_scan', {PORT_SCAN!r})"),
            {"name": "port_scan", "description": "Scan ports on target.",
             "params": {"target": "string", "ports": "string"}})
        self.assertEqual(self.value("skills.port_scan(target='10.0.0.1')"), {
            "target": "10.0.0.1",
            "raw": 'nmap {"target": "10.0.0.1", "flags": "-p 80,443"}'})
        for code in ("skills.invoke('port_scan', target='h', ports='1')['target']",
                     "workflows.port_scan(target='h')['target']",
                     "skills.get('port_scan').invoke(target='h')['target']",
                     "skills.port_scan.call_sync(target='h')['target']",
                     "(await skills.port_scan.call_async(target='h'))['target']",
                     "(await skills.port_scan(target='h'))['target']",
                     "(await skills.invoke('port_scan', target='h'))['target']"):
            self.assertEqual(self.value(code), "h", code)

    def test_lists(self):
        self.create("port_scan", PORT_SCAN)
        simple = [{"name": "port_scan", "description": "Scan ports on target.",
                   "params": {"target": "string", "ports": "string"}}]
        self.assertEqual(self.value("skills.list()"), simple)
        self.assertEqual(self.value("skills.search('ports')"), simple)
        self.assertEqual(host.calls[-1][1], {"query": "ports", "limit": 10})
        found = self.value("skills.get('port_scan')")
        self.assertEqual((found["source"], found["parameters"][1]["default"]),
                         (PORT_SCAN, "80,443"))
        self.assertIsNone(self.value("skills.get('nope')"))
        self.assertEqual(self.value("skills.delete('port_scan'), skills.delete('port_scan')"),
                         [True, False])

    def test_missing(self):
        self.assertEqual(self.error("skills.nope()"), ("AttributeError", "Skill not found: nope"))
        self.assertEqual(self.error("skills.invoke('nope')"),
                         ("ValueError", "Skill not found: nope"))
        self.assertEqual(self.error("await skills.invoke('nope')"),
                         ("ValueError", "Skill not found: nope"))

    def test_bad_ones_are_not_sent(self):
        for name, source, error in (
                ("list", "def run(): pass", ("ValueError", "Reserved skill name: 'list'")),
                ("a b", "def run(): pass", (
                    "ValueError", "Invalid skill name: 'a b' (must be valid Python identifier)")),
                ("a", "x = 1", ("ValueError", "Skill must define a run() function")),
                ("a", "class A:\n    def run(self): pass",
                 ("ValueError", "Skill must define a run() function")),
                ("a", "def run(:", (
                    "SyntaxError",
                    "Syntax error in skill code: invalid syntax (<unknown>, line 1)"))):
            self.assertEqual(self.error(f"skills.create({name!r}, {source!r})"), error)
        self.assertEqual(host.calls, [])

    def test_nothing_is_executed_when_it_is_created(self):
        self.create("boom", "raise SystemExit\ndef run(): pass")

    def test_async_ones_from_sync_code(self):
        self.create("slow", """
import asyncio
async def run(n=3):
    await asyncio.sleep(0)
    return sum(len(x) for x in await asyncio.gather(
        *(tools.echo.twice(text='a') for i in range(n))))
""")
        self.assertEqual(self.value("skills.slow(n=2)"), 4)
        self.assertEqual(self.value("await skills.slow()"), 6)
        code = """
import threading
found = []
t = threading.Thread(target=lambda: found.append(skills.slow(n=4)))
t.start(); t.join()
found
"""
        self.assertEqual(self.value(code), [8])

    def test_a_sync_one_in_a_loop_blocks_inside(self):
        self.create("inner", "async def run(x): return (await tools.echo.twice(text=x))[0]")
        self.create("outer", "def run(x): return tools.echo.twice(text=x) + [skills.inner(x=x)]")
        self.create("top", "async def run(x): return await skills.outer(x=x)")
        for code in ("skills.outer(x='a')", "await skills.outer(x='a')", "skills.top(x='a')",
                     "await skills.top(x='a')"):
            self.assertEqual(self.value(code), ["a", "a", "a"], code)

    def test_ten_async_ones_at_once(self):
        self.server.delay = 0.1
        self.create("wait", "async def run(): return await artifacts.exists('a')")
        start = time.monotonic()
        self.value("import asyncio\nawait asyncio.gather(*(skills.invoke('wait') for _ in range(10)))")
        self.assertLess(time.monotonic() - start, 1)

    def test_each_run_has_a_fresh_namespace(self):
        self.create("count", "n = 0\ndef run():\n    global n\n    n += 1\n    return n, sorted(\n"
                             "        k for k in globals() if not k.startswith('__'))")
        names = ["artifacts", "deps", "n", "run", "skills", "tools", "workflows"]
        self.assertEqual(self.value("x = 5\nskills.count()"), [1, names])
        self.assertEqual(self.value("skills.count()"), [1, names])

    def test_recursion_is_bounded(self):
        self.create("loop", "def run(n=0): return skills.loop(n=n + 1)")
        name, text = self.error("skills.loop()")
        self.assertEqual(name, "RecursionError")
        self.assertIn("at most 16 deep", text)
        self.create("aloop", "async def run(n=0): return await skills.aloop(n=n + 1)")
        self.assertEqual(self.error("await skills.aloop()")[0], "RecursionError")
        self.create("mixed", "def run(): return skills.mixed2()")
        self.create("mixed2", "async def run(): return await skills.mixed()")
        self.assertEqual(self.error("await skills.mixed()")[0], "RecursionError")
        # It counts what is open, and not what was.
        self.create("one", "def run(): return 1")
        self.assertEqual(self.value("sum(skills.one() for i in range(40))"), 40)

    def test_tracebacks_show_the_skills_lines(self):
        self.create("bad", "def run():\n    x = 0\n    return 1 / x")
        self.create("abad", "async def run():\n    return skills.bad.call_sync()")
        for code, lines in (("skills.bad()", 1), ("await skills.bad()", 1), ("skills.abad()", 2),
                            ("await skills.abad()", 2)):
            trace = self.cell(code).traceback
            self.assertIn('File "<skill bad>", line 3, in run\n    return 1 / x', trace)
            self.assertTrue(trace.endswith("ZeroDivisionError: division by zero\n"))
            self.assertNotIn("_carrel", trace)
            self.assertNotIn("asyncio", trace)
            self.assertEqual(trace.count("File"), lines + 1, trace)

    def test_causes_show_the_skills_lines_alone(self):
        """Where an error comes out of a skill that was called by a skill, and was caught and raised as
        another's cause."""
        self.create("deep", "def run():\n    return tools.echo(text='fail')")
        self.create("adeep", "async def run():\n    return await tools.echo(text='fail')")
        for name in ("deep", "adeep"):
            self.create("wrap", f"def run():\n    try:\n        return skills.{name}()\n"
                                "    except Exception as exc:\n        raise ValueError('w') from exc")
            for code in ("skills.wrap()", "await skills.wrap()", "skills.wrap.call_sync()",
                         "import asyncio\nawait asyncio.sleep(0)\nstr(skills.wrap())",
                         "try:\n    skills.wrap()\nexcept ValueError as exc:\n"
                         "    raise KeyError('k') from exc",
                         "try:\n    skills.wrap()\nexcept ValueError:\n    1 / 0"):
                trace = self.cell(code).traceback
                self.assertIn("ToolCallError: Tool 'echo' failed: no\n\nThe above exception was", trace)
                self.assertIn(f'File "<skill {name}>", line 2, in run\n', trace)
                self.assertIn('File "<skill wrap>", line 5, in run\n', trace)
                for ours in ("_carrel", "asyncio/", "threading.py"):
                    self.assertNotIn(ours, trace, code)

    def test_what_a_skill_raises_is_raised(self):
        self.create("leave", "async def run(): raise SystemExit(3)")
        self.assertEqual(self.cell("skills.leave()").exit_code, 3)
        self.create("wrong", "def run(a): return a")
        self.assertEqual(self.error("skills.wrong()")[0], "TypeError")
        self.create("module", "1 / 0\ndef run(): pass")
        self.assertEqual(self.error("skills.module()")[0], "ZeroDivisionError")

    def test_a_changed_skill_is_the_new_one(self):
        self.create("v", "def run(): return 1")
        self.assertEqual(self.value("skills.v()"), 1)
        self.create("v", "def run(): return 2")
        self.assertEqual(self.value("skills.v()"), 2)


class Sources(Names):
    def describe(self, source, name="a"):
        return json.loads(carrel.describe_skills(json.dumps([{"name": name, "source": source}])))[0]

    def test_parameters(self):
        found = self.describe("""
'''Module doc.

More.'''
import os
from typing import Optional
async def run(a, b: int, tools, *rest, c: float = 1.5, d: list[str] = [], e: dict | None = None,
              f: Optional[bool] = True, g: "str" = os.sep, h: Other = -1, skills=None, **more):
    '''Function doc.'''
""")
        self.assertEqual(found["description"], "Module doc.")
        self.assertEqual([(p["name"], p["type"], p["required"], p["default"])
                          for p in found["parameters"]],
                         [("a", "string", True, None), ("b", "integer", True, None),
                          ("c", "number", False, 1.5), ("d", "array", False, []),
                          ("e", "object", False, None), ("f", "boolean", False, True),
                          ("g", "string", False, "os.sep"), ("h", "string", False, -1)])

    def test_hostile_sources(self):
        for source, error, names in (
                ("(" * 100000, "SyntaxError", None),
                ("x = " + "-" * 100000 + "1\ndef run(): pass", "SyntaxError", None),
                ("x = " + "1+" * 100000 + "1\ndef run(): pass", "SyntaxError", None),
                ("\0", "ValueError", None), ("def run(): pass\0", "ValueError", None),
                ("def run(a=" + "9" * 5000 + "): pass", "SyntaxError", None),
                ("def run(a=b'x', c=1e999): pass", None, ["a", "c"]),
                ("'\\ud800'\ndef run(a='\\ud800'): pass", None, ["a"]),
                ("# coding: nonsense\ndef run(): pass", None, []),
                ("def run(" + ",".join(f"a{i}" for i in range(300)) + "): pass", None,
                 [f"a{i}" for i in range(300)])):
            found = self.describe(source)
            self.assertEqual((found["name"], found.get("error")), ("a", error), source[:40])
            if error is None:
                self.assertEqual([p["name"] for p in found["parameters"]], names)
            else:
                self.assertTrue(found["message"])
            # It is JSON that everybody can read: no NaN, no lone surrogates.
            json.dumps(found, allow_nan=False, ensure_ascii=False).encode()

    def test_batches_keep_their_order(self):
        found = json.loads(carrel.describe_skills(json.dumps([
            {"name": "a", "source": "def run(): pass"}, {"name": "b", "source": "x"},
            {"name": "c", "source": "("}, {"name": "get", "source": "def run(): pass"}])))
        self.assertEqual([(f["name"], f.get("error")) for f in found], [
            ("a", None), ("b", "ValueError"), ("c", "SyntaxError"), ("get", "ValueError")])

    def test_as_a_plain_cell(self):
        batch = json.dumps([{"name": "a", "source": "def run(): pass"}])
        answer = self.cell(f"__import__('_carrel').describe_skills({batch!r})", values=False)
        self.assertEqual(answer.kind, "str")
        self.assertEqual(json.loads(answer.text)[0]["parameters"], [])


class Artifacts(Names):
    def test_types_are_kept(self):
        for data in ("'text'", "'grüße \\U0001f600'", "b'\\x00\\xff'", "{'a': [1, 2.5, None]}",
                     "[1, 'x']", "''", "b''", "{}", "'a\\ud800b'", "{'k': '\\udfff'}",
                     "[float('inf')]"):
            code = f"d = {data}\nartifacts.save('n', d)\ne = artifacts.load('n')\n"
            self.assertEqual(self.value(code + "type(e) is type(d) and e == d"), True, data)
            self.assertEqual(self.value("e = await artifacts.load('n')\ne == d"), True, data)
        self.assertTrue(math.isnan(float(self.value(
            "artifacts.save('n', [float('nan')])\nartifacts.load('n')")[0])))
        self.assertEqual(self.value("artifacts.save('n', 42)\nartifacts.load('n')"), "42")
        self.assertEqual(self.value("artifacts.save('n', bytearray(b'x'))\n"
                                    "type(artifacts.load('n')).__name__"), "bytes")

    def test_what_is_no_text_is_bytes(self):
        self.server.artifacts["n"] = ({}, "text", b"\xff\xfe")
        self.assertEqual(self.value("artifacts.load('n') == b'\\xff\\xfe'"), True)

    def test_records(self):
        found = self.value("artifacts.save('a/b.json', {}, description='d', metadata={'k': 1})")
        self.assertEqual(found, {"name": "a/b.json", "path": "/a/a/b.json", "description": "d",
                                 "metadata": {"k": 1},
                                 "created_at": "2026-01-02 03:04:05.000006+00:00"})
        self.assertEqual(self.value("artifacts.get('a/b.json')"), found)
        self.assertEqual(self.value("artifacts.list()"), [found])
        self.assertIsNone(self.value("artifacts.get('nope')"))
        self.assertEqual(self.value("artifacts.get('a/b.json').created_at.year"), 2026)
        self.assertEqual(self.value("artifacts.exists('a/b.json'), artifacts.exists('x')"),
                         [True, False])
        self.assertEqual(self.value("artifacts.delete('a/b.json'), artifacts.delete('a/b.json')"),
                         [None, None])
        self.assertEqual(self.value("artifacts.path"), "/a")
        self.assertEqual(self.value("artifacts.register('r', 'd').description"), "d")

    def test_errors(self):
        self.assertEqual(self.error("artifacts.load('zz')"), (
            "ArtifactNotFoundError", "Artifact 'zz' not found"))
        self.assertEqual(self.error("artifacts.save('../x', 'a')"), (
            "ValueError", "Path traversal attempt detected: '../x'"))
        self.assertEqual(self.error("artifacts.save(5, 'a')")[0], "TypeError")
        self.assertEqual(self.error("artifacts.save('a', {'x': {1}})")[0], "TypeError")
        self.assertEqual(self.error("artifacts.save('a', bytes(128 * 2**20 + 1))")[0], "ValueError")


class Deps(Names):
    def test_all(self):
        self.assertEqual(self.value("deps.add('six')"), {
            "installed": "{'six'}", "already_present": "set()", "failed": "set()"})
        self.assertTrue(self.value("import sys\nsys.path[-1] == '/mnt/packages/' + 'a' * 64"))
        self.value("deps.add('six')")
        self.assertEqual(self.value("sys.path.count('/mnt/packages/' + 'a' * 64)"), 1)
        stream = io.StringIO()
        with contextlib.redirect_stderr(stream):
            self.assertEqual(self.value("r = deps.sync()\nsorted(r.failed), r.reasons"),
                             [["gone"], {"gone": "not found"}])
        self.assertEqual(stream.getvalue(), "gone: not found\n")
        self.assertEqual(self.value("deps.list(), deps.remove('six'), deps.remove('x')"),
                         [["six", "six"], True, False])
        self.assertEqual(self.cell("deps", values=False).text,
                         "<DepsNamespace: 2 package(s) configured>")
        self.assertEqual(self.error("deps.add('never')")[0], "RuntimeDepsDisabledError")
        self.assertEqual(self.error("deps._x")[0], "AttributeError")

    def test_packages_take_the_place_of_those_before(self):
        carrel.packages_changed([])
        before = list(sys.path)
        carrel.packages_changed(["one", "two", "one"])
        self.assertEqual(sys.path, before + ["/mnt/packages/one", "/mnt/packages/two"])
        carrel.packages_changed(["two"])
        self.assertEqual(sys.path, before + ["/mnt/packages/two"])
        carrel.packages_changed([])
        self.assertEqual(sys.path, before)


class Values(Names):
    def test_values(self):
        for code, value in (
                ("None", None), ("True", True), ("5", 5), ("1.5", 1.5), ("'a'", "a"),
                ("10 ** 30", 10 ** 30), ("(1, [2, {'a': (3,)}])", [1, [2, {"a": [3]}]]),
                ("frozenset([1])", [1]), ("{3}", "{3}"), ("b'abc'", "b'abc'"),
                ("{1: 2, None: 3, True: 4, (1, 2): 5, 1.5: 6}",
                 {"true": 4, "1": 2, "null": 3, "(1, 2)": 5, "1.5": 6}),
                ("float('nan'), float('inf'), -float('inf')", ["nan", "inf", "-inf"]),
                ("'a\\ud800'", "a\\ud800"), ("{'\\udfff': 1}", {"\\udfff": 1}), ("'\\0'", "\0"),
                ("object", "<class 'object'>"), ("Ellipsis", "Ellipsis"),
                ("import enum\nenum.IntEnum('E', 'a b').b", 2),
                ("from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\n    y: set\n"
                 "D(1, set()), D", [{"x": 1, "y": "set()"}, "<class '__main__.D'>"])):
            if code.startswith("{1: 2, None"):
                value = {"1": 4, "null": 3, "(1, 2)": 5, "1.5": 6}  # True is 1
            self.assertEqual(self.value(code), value, code)
        self.assertEqual(self.cell("x = 3;").kind, "none")
        self.assertEqual(self.cell("for i in (): 1").kind, "none")

    def test_bounds(self):
        self.assertEqual(self.value("l = []\nl.append(l)\nl"), "<list: nested deeper than 100>")
        nested = "x = 1\nfor i in range({}): x = [x]\nx"
        self.assertEqual(json.dumps(self.value(nested.format(101))), "[" * 101 + "1" + "]" * 101)
        self.assertEqual(self.value(nested.format(102)), "<list: nested deeper than 100>")
        self.assertEqual(self.value("'x' * (9 * 2**20)"), "<str: larger than 8 MiB as JSON>")
        self.assertEqual(len(self.value("'x' * (8 * 2**20 - 2000)")), 8 * 2**20 - 2000)
        self.assertEqual(self.value("'\\0' * (2 * 2**20)"), "<str: larger than 8 MiB as JSON>")
        bomb = "a = ['x' * 100] * 10\nfor i in range(9): a = [a] * 10\na"
        self.assertEqual(self.value(bomb), "<list: larger than 8 MiB as JSON>")
        # As a text: readers of JSON refuse such numbers.
        self.assertEqual(self.value("[10 ** 10000, {-10 ** 5000: 1}]"),
                         ["1" + "0" * 10000, {"-1" + "0" * 5000: 1}])
        self.assertEqual(self.value("10 ** 4000"), 10 ** 4000)
        self.assertEqual(self.value("1 << 5_000_000"),
                         "<int: it holds an integer of more than 1048576 digits>")

    def test_a_str_that_fails_is_the_cells_error(self):
        code = "class A:\n    def __str__(self): return 1 / 0\nA()"
        self.assertEqual(self.error(code)[0], "ZeroDivisionError")

    def test_rich_values_are_displayed_too(self):
        host.sent.clear()
        code = "class A:\n    def _repr_html_(self): return '<b>'\n    def __repr__(self): return 'A'\nA()"
        self.assertEqual(self.value(code), "A")
        self.assertIn(("text/html", b"<b>"), host.sent[0])


if __name__ == "__main__":
    unittest.main()
