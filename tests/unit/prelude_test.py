"""The Python prelude of a session, driven as the keeper drives it.

One process loads the prelude and the libraries, as the keeper does, and every
test works in forks of it, as sessions are. Only _carrel_host is a stand-in: it
keeps what is displayed.

    /usr/bin/python3 tests/unit/prelude_test.py
"""

import collections
import importlib.metadata
import json
import os
import pathlib
import pickle
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import fake_host  # noqa: E402

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"

LIBRARIES = ["numpy", "pandas", "matplotlib", "scipy", "sklearn", "IPython"]
PNG = b"\x89PNG\r\n\x1a\n"

Answer = collections.namedtuple(
    "Answer", "status kind json text name value traceback limit exit_code displays out err")


class Session:
    """A fork of this process that runs the prelude's entry points when asked to."""

    live = []

    def __init__(self, prepare=True):
        self.socket, theirs = socket.socketpair()
        self.files = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]
        self.read = [0, 0]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.socket.close()
                self._serve(theirs, prepare)
            finally:
                os._exit(99)
        theirs.close()
        Session.live.append(self)

    def _serve(self, channel, prepare):
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        for fd, file in enumerate(self.files, 1):
            os.dup2(file.fileno(), fd)
        carrel, host = sys.modules["_carrel"], sys.modules["_carrel_host"]
        host.pid = os.getpid()
        if prepare:
            carrel.after_fork()
            carrel.open_streams()
            carrel.warm_up()
        receive, send, dump, load = receive_message, send_message, pickle.dumps, pickle.loads
        while True:
            function, args = load(receive(channel))
            try:
                result = getattr(carrel, function)(*args)
            except BaseException as exc:
                result = f"RAISED {type(exc).__name__}: {exc}"
            send(channel, dump((result, list(host.sent))))
            host.sent.clear()

    def start(self, function, *args):
        send_message(self.socket, pickle.dumps((function, args)))

    def finish(self):
        return pickle.loads(receive_message(self.socket))

    def call(self, function, *args):
        self.start(function, *args)
        return self.finish()[0]

    def cell(self, code, empty=False, interrupt_after=None):
        """Runs a cell and returns its Answer."""
        self.start("run_cell", code, empty)
        timer = None
        if interrupt_after is not None:
            timer = threading.Timer(interrupt_after, os.kill, (self.pid, signal.SIGINT))
            timer.start()
        result, displays = self.finish()
        if timer is not None:
            timer.join()
        assert isinstance(result, tuple), result
        return Answer(*result, [dict(items) for items in displays], *self.output())

    def output(self):
        """Returns what came on descriptors 1 and 2 since the last time."""
        texts = []
        for index, file in enumerate(self.files):
            size = os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), size - self.read[index], self.read[index])
            self.read[index] = size
            texts.append(data.decode())
        return texts

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self.socket.close()
            for file in self.files:
                file.close()
            Session.live.remove(self)


def send_message(channel, data, len=len):
    channel.sendall(struct.pack("!I", len(data)) + data)


def receive_message(channel, len=len):
    def exactly(size):
        data = b""
        while len(data) < size:
            part = channel.recv(size - len(data))
            if not part:
                raise EOFError("the session ended")
            data += part
        return data
    return exactly(*struct.unpack("!I", exactly(4)))


class Image:
    """What setUpModule prepared: the answers of the keeper's part, and bare sessions."""
    bare = []
    preloaded = None
    import_ms = None


def setUpModule():
    os.environ["HOME"] = Image.home = tempfile.mkdtemp()
    Image.descriptors = descriptors()
    start = time.perf_counter()
    carrel, _ = fake_host.load_prelude()
    Image.import_ms = (time.perf_counter() - start) * 1e3
    Image.heavy = [name for name in ("IPython", "numpy", "asyncio", "subprocess", "matplotlib")
                   if name in sys.modules]
    # Sessions of an image without any library, made before there is one with.
    Image.bare = [Session() for _ in range(4)]
    Image.descriptors = descriptors()
    Image.preloaded = carrel.preload(LIBRARIES + ["no_such_library"])
    Image.descriptors_after = descriptors()
    Image.tasks = len(os.listdir("/proc/self/task"))
    Image.main_names = set(vars(sys.modules["__main__"]))


def tearDownModule():
    for session in list(Session.live):
        session.end()
    import shutil
    shutil.rmtree(Image.home, ignore_errors=True)


def descriptors():
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            pass
    return found


class WithSession(unittest.TestCase):
    def setUp(self):
        self.session = Session()
        self.addCleanup(self.session.end)
        self.cell = self.session.cell

    def check(self, code, kind, json_text, text):
        answer = self.cell(code)
        self.assertEqual(answer.status, 0, answer.traceback)
        self.assertEqual((answer.kind, answer.json, answer.text), (kind, json_text, text), code)
        return answer

    def fails(self, code, name, **expected):
        answer = self.cell(code)
        self.assertEqual((answer.status, answer.name), (1, name), answer)
        for field, value in expected.items():
            self.assertEqual(getattr(answer, field), value, code)
        return answer


class Keeper(unittest.TestCase):
    def test_nothing_heavy_is_loaded_by_the_prelude_alone(self):
        self.assertEqual(Image.heavy, [name for name in Image.heavy if name == "subprocess"])

    def test_preload_reports_versions_and_what_is_missing(self):
        answers = {name: (version, error) for name, version, error in Image.preloaded}
        for name in LIBRARIES:
            self.assertRegex(answers[name][0], r"^\d+\.\d+")
            self.assertEqual(answers[name][1], "")
        self.assertEqual(answers["no_such_library"], ("", "not installed"))

    def test_preload_leaves_one_thread_no_descriptor_and_no_file(self):
        self.assertEqual(Image.tasks, 1)
        self.assertEqual(Image.descriptors_after, Image.descriptors)
        self.assertFalse(os.path.exists(os.path.join(Image.home, ".ipython")))

    def test_preload_leaves_the_namespace_alone(self):
        self.assertEqual(
            {name for name in Image.main_names if not name.startswith("__")},
            {"artifacts", "deps", "skills", "tools", "workflows"})

    def test_preload_turns_a_broken_library_into_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "broken_library.py"), "w") as file:
                file.write("raise ValueError('broken')")
            session = Session()
            self.addCleanup(session.end)
            session.cell(f"import sys; sys.path.insert(0, {folder!r})")
            self.assertEqual(session.call("preload", ["broken_library"]),
                             [("broken_library", "", "ValueError: broken")])

    def test_packages_are_sorted_and_named_once(self):
        import _carrel
        found = _carrel.packages()
        names = [name.lower() for name, _ in found]
        self.assertIn("numpy", names)
        self.assertEqual(names, sorted(names))
        self.assertTrue(all(isinstance(version, str) for _, version in found))

    def test_packages_are_those_of_importlib_metadata(self):
        import _carrel
        with tempfile.TemporaryDirectory() as folder:
            base = pathlib.Path(folder)
            for name, text in (("Two_names-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: two.names\n"
                                "Version: 1\nDescription: a\n  b\n\nName: other\n"),
                               ("dir-2.egg-info/PKG-INFO", "Name: dir\nVersion: 2\nName: again\n"),
                               ("file-3.egg-info", "Version: 3\nName: file\n"),
                               ("empty-4.dist-info/METADATA", ""),
                               ("none-6.dist-info/RECORD", "")):
                path = base / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            sys.path.append(folder)
            self.addCleanup(sys.path.remove, folder)
            found = {}
            for one in importlib.metadata.distributions():
                if one.metadata["Name"]:
                    found.setdefault(one.metadata["Name"], one.version or "")
            self.assertEqual(dict(_carrel.packages()), found)
            self.assertEqual({name: found[name] for name in ("two.names", "dir", "file")},
                             {"two.names": "1", "dir": "2", "file": "3"})
            # One that is no text does not take the others away.
            (base / "none-6.dist-info" / "METADATA").write_bytes(b"Name: none\nAuthor: \xff\nVersion: 6\n")
            self.assertEqual(dict(_carrel.packages()), {**found, "none": "6"})

    def test_runtime_version(self):
        import _carrel
        self.assertEqual(_carrel.runtime_version(), "%d.%d.%d" % sys.version_info[:3])


class Fresh(unittest.TestCase):
    def values(self, code):
        seen = []
        for _ in range(3):
            session = Session()
            self.addCleanup(session.end)
            answer = session.cell(code)
            self.assertEqual(answer.status, 0, answer.traceback)
            seen.append(answer.text)
        return seen

    def differ(self, code):
        self.assertEqual(len(set(self.values(code))), 3, code)

    def test_the_node_that_uuids_are_made_of(self):
        import uuid
        self.addCleanup(setattr, uuid, "_node", uuid._node)
        uuid._node = 0x123456789ab  # as after uuid.getnode() in the image
        self.assertEqual(self.values("import uuid; uuid._node is None"), ["True"] * 3)

    def test_random(self):
        self.differ("import random; random.random()")

    def test_numpy(self):
        self.differ("import numpy as np; np.random.rand()")
        self.differ("np = __import__('numpy'); np.random.mtrand._rand.randint(2**62)")
        self.differ("import numpy as np; np.random.default_rng().integers(2**62)")

    def test_sklearn_and_scipy(self):
        self.differ("from sklearn.utils import check_random_state as c; c(None).randint(2**62)")
        self.differ("from scipy.stats import norm; norm.rvs()")

    def test_uuid_and_secrets(self):
        self.differ("import uuid; uuid.uuid4()")
        self.differ("import uuid; uuid.uuid1()")
        self.differ("import secrets; secrets.token_hex()")

    def test_temporary_names(self):
        self.differ("import tempfile; next(tempfile._get_candidate_names())")

    def test_keys_of_multiprocessing(self):
        self.differ("import multiprocessing as m; bytes(m.current_process().authkey)")

    def test_is_quick(self):
        session = Session()
        self.addCleanup(session.end)
        best = session.cell(
            "import _carrel, time\n"
            "def one():\n    t = time.perf_counter(); _carrel.after_fork()\n"
            "    return time.perf_counter() - t\n"
            "min(one() for _ in range(5))")
        self.assertLess(float(best.text), 0.005)


class Values(WithSession):
    def test_scalars(self):
        self.check("1+1", "int", "2", "2")
        self.check("-3", "int", "-3", "-3")
        self.check("0.1", "float", "0.1", "0.1")
        self.check("1e300", "float", "1e+300", "1e+300")
        self.check("True", "bool", "true", "True")
        self.check("False", "bool", "false", "False")
        self.check("'a\\nb'", "str", "", "a\nb")
        self.check("''", "str", "", "")

    def test_no_value_is_told_from_none(self):
        for code in ("x = 1", "import sys", "def f(): pass", "", "# nothing", "\n\n", "1;",
                     "x = 1; x;", "2 ; # shown not", "for i in range(2): i", "pass"):
            self.check(code, "none", "", "")
        for code in ("None", "print()", "x = 1\nNone"):
            self.check(code, "null", "null", "None")

    def test_a_semicolon_inside_the_expression_hides_nothing(self):
        self.check("x = 1; 'a;'", "str", "", "a;")
        self.check("x = ';'\nx  # ;", "str", "", ";")
        self.check("'é;'\n('é');", "none", "", "")

    def test_numbers_json_cannot_carry(self):
        self.check("float('nan')", "float", "null", "nan")
        self.check("float('inf')", "float", "null", "inf")
        self.check("-float('inf')", "float", "null", "-inf")
        self.check("2**63 - 1", "int", str(2**63 - 1), str(2**63 - 1))
        self.check("-2**63", "int", str(-2**63), str(-2**63))
        self.check("2**63", "int", "", str(2**63))

    def test_giant_integers(self):
        sys.set_int_max_str_digits(0)
        self.addCleanup(sys.set_int_max_str_digits, 4300)
        for value in ("1 << 20000", "-(7 ** 9999)", "10 ** 5000"):
            self.check(value, "int", "", str(eval(value)))
        # Past the limit of a text: what it begins with, and that it is cut.
        answer = self.cell("7 ** 2_000_000")
        self.assertRegex(answer.text, r"^1202343372[0-9]{40}… \[cut: more than 1690196 characters in all\]$")
        answer = self.cell("1 << 100_000_000")
        self.assertEqual((answer.status, answer.kind, answer.json), (0, "int", ""))
        self.assertTrue(answer.text.endswith("… [cut: more than 30102999 characters in all]"))

    def test_lone_surrogates_are_escaped(self):
        self.check("'\\ud800x'", "str", "", "\\ud800x")
        self.check("['\\ud800']", "other", "", "['\\ud800']")
        self.fails("raise ValueError('\\ud800')", "ValueError", value="\\ud800")
        self.cell("print('\\ud800')").out.encode()

    def test_subclasses_and_numpy_scalars_are_other(self):
        self.check("import enum\nclass E(enum.IntEnum):\n  A = 1\nE.A", "other", "", "<E.A: 1>")
        self.check("import numpy as np\nnp.int64(3)", "other", "", "3")
        self.check("np.float64(0.5)", "other", "", "0.5")
        self.check("np.bool_(True)", "other", "", "True")
        self.check("class S(str): pass\nS('a')", "other", "", "'a'")

    def test_layout_of_containers(self):
        self.check("{3, 1, 2}", "other", "", "{1, 2, 3}")
        self.check("()", "other", "", "()")
        self.check("(1,)", "other", "", "(1,)")
        self.check("{'b': [1], 'a': {}}", "other", "", "{'b': [1], 'a': {}}")
        self.check("list(range(40))", "other", "",
                   "[" + ",\n ".join(map(str, range(40))) + "]")
        self.check("['x' * 40, 'y' * 40]", "other", "", f"['{'x' * 40}',\n '{'y' * 40}']")

    def test_layout_of_code(self):
        self.check("def f(x, y=1): pass\nf", "other", "", "<function __main__.f(x, y=1)>")
        self.check("class A: pass\nA", "other", "", "__main__.A")
        self.assertRegex(self.cell("A()").text, r"^<__main__\.A at 0x[0-9a-f]+>$")
        self.check("len", "other", "", "<function len(obj, /)>")

    def test_text_is_ipythons(self):
        codes = ["[1, 2.5, 'x', None, True]", "{'k': 1, 2: 'v'}", "[[1], [2]]", "['a' * 77]",
                 "['a' * 75]", "['a' * 76]", "('a' * 74,)", "{1: 'a' * 73}", "{1: 'a' * 74}",
                 "[1.5] * 15", "[1.5] * 16", "[b'a']", "b'a' * 100", "1j", "range(5)", "...",
                 "__import__('datetime').timedelta(1)", "__import__('re').compile('a')",
                 "__import__('collections').OrderedDict(a=1)", "frozenset([2, 1])",
                 "__import__('collections').Counter('aab')", "[0] * 1005",
                 "__import__('collections').deque([1])", "ValueError('x')", "slice(1, 2)",
                 "__import__('types').SimpleNamespace(a=1)", "int", "dict.keys({1: 2})",
                 "__import__('collections').namedtuple('P', 'x y')(1, 2)", "iter([])",
                 "__import__('pandas').Series([1, 2])", "__import__('numpy').arange(50)",
                 "__import__('fractions').Fraction(1, 3)", "__import__('decimal').Decimal(1)",
                 "__import__('pathlib').Path('a')", "super(str, 'a')", "NotImplemented",
                 "'a'.join", "type('A', (), {'__repr__': lambda s: 'a\\nb'})()",
                 "[type('A', (), {'__repr__': lambda s: 'a\\nb'})()]", "list.append",
                 "type('D', (dict,), {})(a=1)", "type('L', (list,), {})([1])",
                 "(lambda: (yield))()", "vars(int)['real']", "sys", "os.environ.get"]
        self.cell("import sys, os\nfrom IPython.lib.pretty import pretty")
        for code in codes:
            mine = self.cell("v = " + code + "\nv")
            theirs = self.cell("pretty(v, max_width=79)")
            self.assertEqual((mine.kind, mine.text), ("other", theirs.text), code)

    def test_cycles(self):
        self.check("x = []; x.append(x); x", "other", "", "[[...]]")
        self.check("d = {}; d['d'] = [d]; d", "other", "", "{'d': [{...}]}")
        self.check("e = ValueError(); e.__context__ = e; x = e\n1", "int", "1", "1")

    def test_long_texts_are_cut_with_a_mark(self):
        answer = self.cell("'é' * 3_000_000")
        self.assertEqual(answer.kind, "str")
        self.assertLessEqual(len(answer.text.encode()), 1 << 20)
        self.assertTrue(answer.text.endswith("é… [cut: 3000000 characters in all]"))
        answer = self.cell("['x' * 3_000_000]")
        self.assertLessEqual(len(answer.text.encode()), 1 << 20)
        self.assertTrue(answer.text.endswith("… [cut: 3000004 characters in all]"))
        answer = self.cell("[list(range(900)) for _ in range(900)] * 20")
        self.assertLessEqual(len(answer.text.encode()), 1 << 20)
        self.assertIn("… [cut: ", answer.text[-60:])
        self.check("'y' * (1 << 20)", "str", "", "y" * (1 << 20))

    def test_a_repr_that_raises_is_the_cells_error(self):
        answer = self.fails("class R:\n  def __repr__(self): raise KeyError('inside')\nR()",
                            "KeyError")
        self.assertIn("in __repr__", answer.traceback)
        self.fails("[R()]", "KeyError")
        self.fails("class N:\n  def __repr__(self): return 1\nN()", "TypeError")

    def test_underscore_is_the_last_value(self):
        self.cell("41")
        self.check("_ + 1", "int", "42", "42")
        self.cell("x = 5")
        self.cell("None")
        self.cell("7;")
        self.check("_", "int", "42", "42")
        self.cell("_ = 'mine'")
        self.cell("99")
        self.check("_", "str", "", "mine")


class Namespace(WithSession):
    def test_state_is_kept(self):
        self.cell("x = 5\ndef f(): return x")
        self.cell("x = 6")
        self.check("f()", "int", "6", "6")

    def test_it_is_the_real_main(self):
        self.check("__name__", "str", "", "__main__")
        self.check("import sys; sys.modules['__main__'].__dict__ is globals()", "bool", "true",
                   "True")
        self.check("import pickle\nclass P:\n  a = 1\npickle.loads(pickle.dumps(P())).a",
                   "int", "1", "1")
        self.check("from dataclasses import dataclass\n@dataclass\nclass D:\n  a: 'int'\n"
                   "import typing\ntyping.get_type_hints(D)", "other", "", "{'a': int}")

    def test_empty_namespace_is_fresh_and_dropped(self):
        self.cell("x = 5; 5")
        answer = self.cell("y = 1\nsorted(n for n in globals() if n in ('x', 'y', '_'))", True)
        self.assertEqual((answer.status, answer.text), (0, "['y']"))
        self.check("'y' in globals(), x, _", "other", "", "(False, 5, 5)")
        answer = self.cell("import pickle\nclass Q: pass\npickle.dumps(Q()) and __name__", True)
        self.assertEqual(answer.text, "__main__")
        self.fails("Q", "NameError")
        self.fails("None.x", "AttributeError")
        self.check("import __main__; __main__.x", "int", "5", "5")

    def test_the_warm_up_leaves_no_trace(self):
        self.assertEqual(self.session.output(), ["", ""])
        self.check("sorted(n for n in globals() if not n.startswith('__'))", "other", "",
                   "['artifacts', 'deps', 'skills', 'tools', 'workflows']")
        self.assertIn('"<cell 2>"', self.fails("1/0", "ZeroDivisionError").traceback)

    def test_future_statements_last(self):
        self.cell("from __future__ import annotations")
        self.check("def f(a: nope): pass\nf.__annotations__", "other", "", "{'a': 'nope'}")


class Failures(WithSession):
    def test_traceback_has_the_users_lines_and_none_of_ours(self):
        self.cell("def look(row):\n    return row['sales_amount']")
        answer = self.fails("look({})", "KeyError", value="'sales_amount'", limit="")
        self.assertEqual(answer.traceback, (
            'Traceback (most recent call last):\n'
            '  File "<cell 2>", line 1, in <module>\n    look({})\n'
            '  File "<cell 1>", line 2, in look\n    return row[\'sales_amount\']\n'
            '           ~~~^^^^^^^^^^^^^^^^\n'
            "KeyError: 'sales_amount'\n"))

    def test_lines_survive_a_cleared_linecache(self):
        self.cell("def f():\n    raise OSError('here')")
        self.cell("import linecache; linecache.clearcache()")
        self.assertIn("raise OSError('here')", self.fails("f()", "OSError").traceback)

    def test_sources_are_found_by_inspect_and_bounded(self):
        self.cell("def f():\n    return 'marked'")
        self.check("import inspect; inspect.getsource(f)", "str", "",
                   "def f():\n    return 'marked'\n")
        for _ in range(300):
            self.cell("1")
        kept = self.cell("import linecache\n"
                         "sum(name.startswith('<cell ') for name in linecache.cache)")
        self.assertEqual(kept.text, "256")

    def test_chained_exceptions(self):
        answer = self.fails("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e",
                            "KeyError")
        self.assertIn("ZeroDivisionError: division by zero\n\nThe above exception was the direct",
                      answer.traceback)
        answer = self.fails("try:\n    1/0\nexcept Exception:\n    nope", "NameError")
        self.assertIn("During handling of the above exception", answer.traceback)
        self.assertNotIn("_carrel", answer.traceback)

    def test_exception_groups(self):
        answer = self.fails("raise ExceptionGroup('both', [ValueError(1), TypeError(2)])",
                            "ExceptionGroup", value="both (2 sub-exceptions)")
        self.assertIn("ValueError: 1", answer.traceback)
        self.assertIn("TypeError: 2", answer.traceback)

    def test_syntax_errors_point_at_the_place(self):
        for code in ("x = = 1", "a = 1\nx = = 1"):
            answer = self.fails(code, "SyntaxError")
            self.assertIn("    x = = 1\n        ^\nSyntaxError: invalid syntax\n",
                          answer.traceback)
            self.assertNotIn("_carrel", answer.traceback)
        answer = self.fails("a = 1\nreturn a", "SyntaxError")
        self.assertIn("    return a\n", answer.traceback)
        self.assertNotIn("Traceback", answer.traceback)

    def test_recursion_is_bounded(self):
        answer = self.fails("def f(): f()\nf()", "RecursionError", limit="")
        self.assertLess(len(answer.traceback), 5000)
        self.assertTrue(answer.traceback.rstrip().endswith(
            "RecursionError: maximum recursion depth exceeded"))
        answer = self.fails("import sys; sys.setrecursionlimit(20000)\n"
                            "def g(n): return 1/0 if n == 0 else h(n)\n"
                            "def h(n): return g(n - 1)\ng(6000)", "ZeroDivisionError")
        self.assertLess(len(answer.traceback), 300_000)
        self.assertIn("1/0", answer.traceback)

    def test_source_that_cannot_be_compiled(self):
        self.assertEqual(self.cell("\0").status, 1)
        self.fails("x = '\ud800'", "UnicodeEncodeError")
        self.assertEqual(self.cell("-" * 100_000 + "1").limit, "")
        self.assertEqual(self.cell("(" * 5000).status, 1)
        self.check("1", "int", "1", "1")

    def test_exceptions_that_misbehave(self):
        self.fails("class E(Exception):\n  def __str__(self): raise ValueError\nraise E", "E",
                   value="<exception str() failed>")
        answer = self.fails("raise ValueError('x' * 200_000)", "ValueError")
        self.assertLess(len(answer.value), 70_000)
        answer = self.fails("raise ValueError('x' * 5_000_000)", "ValueError")
        self.assertLess(len(answer.traceback), 300_000)
        self.fails("class B(BaseException): pass\nraise B(3)", "B", value="3")

    def test_exit(self):
        for code, expected in (("raise SystemExit", 0), ("import sys; sys.exit(7)", 7),
                               ("exit()", 0), ("sys.exit(-1)", 255), ("quit(2)", 2)):
            answer = self.cell(code)
            self.assertEqual((answer.status, answer.exit_code, answer.name),
                             (3, expected, "SystemExit"), code)
        answer = self.cell("sys.exit('a message')")
        self.assertEqual((answer.status, answer.exit_code, answer.err), (3, 1, "a message\n"))
        self.check("1", "int", "1", "1")

    def test_interrupts(self):
        answer = self.cell("import time\ntime.sleep(30)", interrupt_after=0.1)
        self.assertEqual((answer.status, answer.name), (2, "KeyboardInterrupt"))
        self.assertIn("time.sleep(30)", answer.traceback)
        self.check("x = 3\nx", "int", "3", "3")
        answer = self.cell("class R:\n  def __repr__(self): time.sleep(30)\nR()",
                           interrupt_after=0.1)
        self.assertEqual(answer.status, 2)

    def test_limits_are_named(self):
        errno = "import errno, os\n"
        for code, limit in (
                ("raise MemoryError", "memory"),
                ("raise OSError(errno.ENOMEM, 'x')", "memory"),
                ("raise OSError(errno.ENOSPC, 'x')", "file_space"),
                ("raise OSError(errno.EDQUOT, 'x')", "file_space"),
                ("raise OSError(errno.EFBIG, 'x')", "file_space"),
                ("raise OSError(errno.EMFILE, 'x')", "files"),
                ("raise RuntimeError(\"can't start new thread\")", "processes"),
                ("try:\n  raise MemoryError\nexcept MemoryError as e:\n  raise KeyError from e",
                 "memory"),
                ("raise OSError(errno.EAGAIN, 'x')", ""),
                ("r, w = os.pipe(); os.set_blocking(r, False); os.read(r, 1)", ""),
                ("raise ValueError", "")):
            self.assertEqual(self.cell(errno + code).limit, limit, code)

    def test_the_limit_on_processes_is_met_by_fork_and_subprocess(self):
        # Both go through our wrappers, which must keep the name limits.py looks for.
        self.cell("import os, subprocess, resource\n"
                  "if os.getuid() == 0: os.setuid(65534)\n"
                  "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))")
        for code in ("os.fork()", "subprocess.run(['/bin/true'])",
                     "import threading; threading.Thread(target=print).start()"):
            answer = self.cell(code)
            self.assertEqual((answer.status, answer.limit), (1, "processes"), answer)

    def test_memory_really_exhausted(self):
        self.cell("import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))")
        answer = self.cell("x = bytearray(8 << 30)")
        self.assertEqual((answer.status, answer.name, answer.limit), (1, "MemoryError", "memory"))
        answer = self.cell("import numpy as np; np.zeros(1 << 40)")
        self.assertEqual((answer.status, answer.limit), (1, "memory"))


class Awaiting(WithSession):
    def test_await_and_its_relatives(self):
        self.check("import asyncio\nawait asyncio.sleep(0, 'slept')", "str", "", "slept")
        self.check("await asyncio.sleep(0, 5)", "int", "5", "5")
        self.check("async def gen():\n  yield 1\n  yield 2\n[x async for x in gen()]", "other", "",
                   "[1, 2]")
        self.check("total = 0\nasync for x in gen(): total += x\ntotal", "int", "3", "3")
        self.check("async with asyncio.timeout(5): y = 1\ny", "int", "1", "1")
        self.check("x = await asyncio.sleep(0, 9)", "none", "", "")

    def test_asyncio_run_works_in_a_plain_cell(self):
        self.cell("import asyncio\nawait asyncio.sleep(0)\nasync def main(): return 8")
        self.check("asyncio.run(main())", "int", "8", "8")
        self.check("await main()", "int", "8", "8")

    def test_pending_tasks_go_on_in_the_next_awaiting_cell(self):
        self.cell("import asyncio\nseen = []\n"
                  "async def later():\n  await asyncio.sleep(0.05); seen.append(1)\n"
                  "task = asyncio.get_running_loop().create_task(later())\nawait asyncio.sleep(0)")
        self.check("seen", "other", "", "[]")
        self.cell("await task")
        self.check("seen", "other", "", "[1]")

    def test_errors_and_exits_come_through(self):
        answer = self.fails("import asyncio\nasync def f():\n  raise KeyError('k')\nawait f()",
                            "KeyError")
        self.assertEqual([line for line in answer.traceback.splitlines() if "File" in line],
                         ['  File "<cell 1>", line 4, in <module>',
                          '  File "<cell 1>", line 3, in f'])
        self.assertEqual(self.cell("await asyncio.sleep(0)\nraise SystemExit(4)").exit_code, 4)

    def test_an_interrupt_cancels_what_is_awaited(self):
        answer = self.cell("import asyncio\ntry:\n  await asyncio.sleep(30)\n"
                           "finally:\n  cleaned = True", interrupt_after=0.1)
        self.assertEqual((answer.status, answer.name), (2, "KeyboardInterrupt"))
        self.assertIn("await asyncio.sleep(30)", answer.traceback)
        self.assertNotIn("selectors", answer.traceback)
        self.check("cleaned", "bool", "true", "True")
        self.check("await asyncio.sleep(0, 1)", "int", "1", "1")

    def test_an_interrupt_reaches_code_between_two_awaits(self):
        answer = self.cell("import asyncio, time\nawait asyncio.sleep(0)\nwhile True: pass",
                           interrupt_after=0.1)
        self.assertEqual(answer.status, 2)
        self.assertIn("while True: pass", answer.traceback)
        self.check("await asyncio.sleep(0, 1)", "int", "1", "1")

    def test_a_loop_that_user_code_closed_is_replaced(self):
        self.cell("import asyncio\nawait asyncio.sleep(0)\nloop = asyncio.get_running_loop()")
        self.cell("loop.close()")
        self.check("await asyncio.sleep(0, 1)", "int", "1", "1")


class Streams(WithSession):
    def test_output_is_flushed_and_told_apart(self):
        answer = self.cell("import sys\nprint('out', end='')\nprint('err', end='', "
                           "file=sys.stderr)")
        self.assertEqual((answer.out, answer.err), ("out", "err"))
        self.assertEqual(self.cell("print('é')").out, "é\n")

    def test_stdin_is_at_its_end(self):
        self.fails("input()", "EOFError")
        self.check("import sys; sys.stdin.read()", "str", "", "")

    def test_broken_streams_are_mended(self):
        for code in ("import sys; sys.stdout = None", "sys.stdout.close()", "del sys.stdout",
                     "sys.stdout = 5", "sys.stderr = None; sys.stdout = None",
                     "sys.__stdout__.close()"):
            self.cell(code)
            self.assertEqual(self.cell("print('x')").out, "x\n", code)

    def test_a_replacement_that_works_is_kept(self):
        self.cell("import io, sys; sys.stdout = mine = io.StringIO()")
        self.assertEqual(self.cell("print('x')").out, "")
        self.check("mine.getvalue()", "str", "", "x\n")
        self.cell("sys.stdout = sys.__stdout__")
        self.assertEqual(self.cell("print('y')").out, "y\n")

    def test_closed_descriptors_break_printing_only(self):
        self.cell("import os; os.close(1)")
        self.fails("print('x')", "OSError")
        self.check("1", "int", "1", "1")


class Accidents(WithSession):
    def survives(self, code):
        self.cell(code)
        self.check("1+1", "int", "2", "2")
        self.check("[0] * 50", "other", "", "[" + ",\n ".join("0" * 50) + "]")
        self.assertIn("1/0", self.fails("1/0", "ZeroDivisionError").traceback)

    def test_builtins_deleted_from_the_namespace(self):
        self.survives("del __builtins__")
        self.check("len([])", "int", "0", "0")

    def test_modules_cleared(self):
        self.cell("import sys; sys.modules.clear()")
        self.check("1+1", "int", "2", "2")
        self.check("import os; os.sep", "str", "", "/")
        self.assertIn("1/0", self.fails("1/0", "ZeroDivisionError").traceback)

    def test_a_builtin_overwritten(self):
        self.cell("import builtins; builtins.print = builtins.repr = builtins.len = None")
        self.check("1+1", "int", "2", "2")
        self.check("[1, 'a']", "other", "", "[1, 'a']")
        answer = self.fails("1/0", "ZeroDivisionError")
        self.assertIn("ZeroDivisionError: division by zero", answer.traceback)

    def test_a_builtin_shadowed(self):
        self.survives("print = list = str = None")

    def test_trace_functions(self):
        self.cell("import sys\ndef t(*a): raise ValueError('traced')\nsys.settrace(t)")
        # Python itself takes a trace function away once that has raised.
        self.fails("1", "ValueError", value="traced")
        self.survives("x = 1")
        self.cell("calls = []\nsys.settrace(lambda f, e, a: calls.append(f.f_code.co_filename))")
        self.cell("def f(): pass\nf()")
        self.cell("sys.settrace(None)")
        self.check("any('_carrel' in c for c in calls), any('<cell' in c for c in calls)",
                   "other", "", "(False, True)")

    def test_garbage_collection_off(self):
        self.survives("import gc; gc.disable()")

    def test_a_low_recursion_limit(self):
        self.survives("import sys\nlow = 5\nwhile sys.getrecursionlimit() > 500:\n"
                      "  low += 1\n"
                      "  try: sys.setrecursionlimit(low + 8)\n"
                      "  except RecursionError: pass")
        self.check("sys.getrecursionlimit() == low + 8", "bool", "true", "True")
        self.fails("def f(): f()\nf()", "RecursionError")

    def test_displayhook_and_excepthook(self):
        self.survives("import sys; sys.displayhook = sys.excepthook = None")

    def test_json_warnings_and_linecache_broken(self):
        self.survives("import json, warnings, linecache\njson.dumps = linecache.getline = None\n"
                      "warnings.simplefilter('error')")

    def test_forks_never_come_back(self):
        answer = self.cell("import os\npid = os.fork()\nprint('parent' if pid else 'child')\n"
                           "if pid: os.waitpid(pid, 0)")
        self.assertEqual((answer.status, sorted(answer.out.split())), (0, ["child", "parent"]))
        answer = self.cell("pid = os.fork()\nif pid == 0: 1/0\nos.waitpid(pid, 0)[1] >> 8")
        self.assertEqual((answer.kind, answer.text), ("int", "1"))
        self.assertIn("ZeroDivisionError", answer.err)
        self.check("pid = os.fork()\nif pid == 0: raise SystemExit(9)\nos.waitpid(pid, 0)[1] >> 8",
                   "int", "9", "9")

    def test_a_display_nobody_hears(self):
        self.cell("import _carrel_host\ndef gone(items): raise OSError(32, 'gone')\n"
                  "_carrel_host.display = gone")
        self.check("display(1)", "null", "null", "None")


class Displays(WithSession):
    def test_a_value_with_html_is_shown_once_with_its_text(self):
        answer = self.cell("class H:\n  def _repr_html_(self): return '<b>é</b>'\n"
                           "  def __repr__(self): return 'plain'\nH()")
        self.assertEqual((answer.kind, answer.text), ("other", "plain"))
        self.assertEqual(answer.displays, [{"text/html": "<b>é</b>".encode(),
                                            "text/plain": b"plain"}])

    def test_every_representation(self):
        answer = self.cell(
            "class M:\n"
            "  def _repr_html_(self): return None\n"
            "  def _repr_markdown_(self): return '*m*'\n"
            "  def _repr_svg_(self): return '<svg/>', {'meta': 1}\n"
            "  def _repr_png_(self): return b'\\x89PNG'\n"
            "  def _repr_jpeg_(self): return 'aGk='\n"
            "  def _repr_json_(self): return {'a': [1, float('nan')]}\n"
            "  def _repr_latex_(self): raise ValueError\n"
            "  def _repr_mimebundle_(self, include=None, exclude=None): return {'x/y': 'z'}\n"
            "M()")
        data = answer.displays[0]
        self.assertTrue(data.pop("text/plain").startswith(b"<__main__.M at 0x"))
        self.assertEqual(json.loads(data.pop("application/json")), {"a": [1, None]})
        self.assertEqual(data, {"text/markdown": b"*m*", "image/svg+xml": b"<svg/>",
                                "image/png": b"\x89PNG", "image/jpeg": b"hi", "x/y": b"z"})

    def test_an_object_with_every_attribute_has_none_of_ours(self):
        self.assertEqual(self.cell("from unittest.mock import MagicMock\nMagicMock()").displays,
                         [])
        self.assertEqual(self.cell("class A:\n  def _repr_html_(self): return 'x'\nA").displays, [])

    def test_a_large_datum_is_left_out(self):
        answer = self.cell("class B:\n  def _repr_png_(self): return bytes(17 << 20)\n"
                           "  def _repr_html_(self): return 'small'\nB()")
        self.assertEqual(answer.displays[0].keys(), {"text/html", "text/plain"})
        self.assertIn("image/png", answer.err)

    def test_plain_values_are_not_shown_twice(self):
        for code in ("1", "'a'", "[1]", "None", "object()", "{1: 2}", "int"):
            self.assertEqual(self.cell(code).displays, [], code)

    def test_pandas(self):
        answer = self.cell("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf")
        self.assertEqual(answer.text, "   a\n0  1\n1  2")
        self.assertIn(b"<table", answer.displays[0]["text/html"])
        self.assertEqual(self.cell("df;").displays, [])

    def test_display_is_ipythons(self):
        answer = self.cell("from IPython.display import display, HTML, Image, Markdown, SVG, JSON\n"
                           f"png = {PNG!r}\n"
                           "display(HTML('<i>'), Markdown('#'), JSON({'a': 1}))\n"
                           "display(Image(data=png), SVG('<svg></svg>'))\n"
                           "display({'text/plain': 'p', 'text/html': 'h'}, raw=True)\n"
                           "handle = display(5, display_id=True); handle.update(6)")
        got = answer.displays
        self.assertEqual(got[0]["text/html"], b"<i>")
        self.assertEqual(got[1]["text/markdown"], b"#")
        self.assertEqual(json.loads(got[2]["application/json"]), {"a": 1})
        self.assertEqual(got[3]["image/png"], PNG)
        self.assertIn(b"<svg", got[4]["image/svg+xml"])
        self.assertEqual(got[5], {"text/plain": b"p", "text/html": b"h"})
        self.assertEqual([d["text/plain"] for d in got[6:]], [b"5", b"6"])
        self.assertEqual(self.cell("HTML('<u>')").displays[0]["text/html"], b"<u>")

    def test_pil_images(self):
        answer = self.cell("from PIL import Image\nImage.new('RGB', (2, 2))")
        self.assertTrue(answer.displays[0]["image/png"].startswith(PNG))

    def test_what_is_printed_before_is_out_before(self):
        self.cell("import _carrel_host, os\ndef spy(items): seen.append(os.fstat(1).st_size)\n"
                  "seen = []; _carrel_host.display = spy")
        self.cell("print('x', end=''); before = os.fstat(1).st_size; display(1)")
        self.check("seen == [before + 1]", "bool", "true", "True")


class Figures(WithSession):
    PLOT = "import matplotlib.pyplot as plt\n"

    def pngs(self, answer):
        found = [d["image/png"] for d in answer.displays if "image/png" in d]
        for png in found:
            self.assertTrue(png.startswith(PNG))
        return len(found)

    def test_show_sends_each_open_figure_once(self):
        answer = self.cell(self.PLOT + "plt.plot([1])\nplt.figure()\nplt.plot([2])\nplt.show()\n"
                           "print(plt.get_fignums())")
        self.assertEqual((self.pngs(answer), answer.out, answer.err), (2, "[]\n", ""))

    def test_figures_left_open_are_sent_at_the_end(self):
        self.assertEqual(self.pngs(self.cell(self.PLOT + "plt.plot([1]);")), 1)
        self.assertEqual(self.pngs(self.cell("1")), 0)
        answer = self.cell("plt.plot([1])\n1/0")
        self.assertEqual((answer.status, self.pngs(answer)), (1, 1))

    def test_closed_and_empty_figures_are_not(self):
        self.assertEqual(self.pngs(self.cell(self.PLOT + "plt.plot([1]); plt.close()")), 0)
        self.assertEqual(self.pngs(self.cell("plt.figure();")), 0)

    def test_a_figure_as_the_value_is_shown_once(self):
        answer = self.cell(self.PLOT + "fig, ax = plt.subplots(); ax.plot([1]); fig")
        self.assertEqual((answer.kind, answer.text, self.pngs(answer)),
                         ("other", "<Figure size 640x480 with 1 Axes>", 1))
        answer = self.cell("from matplotlib.figure import Figure\n"
                           "f = Figure(); f.subplots().plot([1]); f")
        self.assertEqual(self.pngs(answer), 1)

    def test_pandas_plots_and_savefig(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.png")
            answer = self.cell("import pandas as pd, matplotlib.pyplot as plt\n"
                               f"pd.Series([1, 2]).plot()\nplt.savefig({path!r})")
            self.assertEqual(self.pngs(answer), 1)
            self.assertTrue(os.path.getsize(path) > 1000)

    def test_other_backends_are_harmless(self):
        """What the code chooses is respected: nothing is shown then, as in IPython."""
        for code, shown in (("import matplotlib; matplotlib.use('Agg')", 0), ("%matplotlib inline", 1),
                            ("plt.switch_backend('agg')", 0), ("%matplotlib", 1)):
            self.assertEqual(self.cell(self.PLOT + code).status, 0, code)
            answer = self.cell("plt.plot([1]); plt.show(); plt.plot([2])")
            self.assertEqual((answer.status, self.pngs(answer), answer.err), (0, 2 * shown, ""), code)

    def test_figure_show(self):
        self.assertEqual(
            self.pngs(self.cell(self.PLOT + "f, a = plt.subplots(); a.plot([1]); f.show()")), 1)

    def test_display_of_a_figure(self):
        answer = self.cell(self.PLOT + "f, a = plt.subplots(); a.plot([1]); display(f)")
        self.assertEqual(self.pngs(answer), 1)

    def test_at_most_fifty_a_cell(self):
        answer = self.cell(
            self.PLOT + "import warnings; warnings.simplefilter('ignore')\n"
            "for i in range(52):\n  plt.figure(figsize=(.3, .3)).text(.5, .5, 'x')\nplt.show()")
        self.assertEqual(self.pngs(answer), 50)
        self.assertIn("2 not shown", answer.err)
        self.assertEqual(self.pngs(self.cell("plt.plot([1]);")), 1)


class Magics(WithSession):
    def test_commands(self):
        self.assertEqual(self.cell("!echo hi").out, "hi\n")
        self.assertEqual(self.cell("!echo oops >&2").err, "oops\n")
        self.cell("name = 'there'")
        self.assertEqual(self.cell("!echo {name} $name").out, "there there\n")
        self.check("x = !printf 'a\\nb\\n'\nlist(x)", "other", "", "['a', 'b']")
        self.check("!exit 3\n_exit_code", "int", "3", "3")
        self.assertEqual(self.cell("if True:\n    !echo nested").out, "nested\n")
        self.check("!cat", "null", "null", "None")

    def test_an_interrupt_ends_a_command(self):
        start = time.monotonic()
        answer = self.cell("!sleep 30", interrupt_after=0.1)
        self.assertEqual(answer.status, 2)
        self.assertLess(time.monotonic() - start, 5)

    def test_timing(self):
        self.assertIn("per loop", self.cell("%timeit -n 2 -r 1 sum([1])").out)
        answer = self.cell("%%time\nx = 3\nx + 1")
        self.assertIn("Wall time", answer.out)
        self.assertEqual((answer.kind, answer.text), ("int", "4"))
        self.assertIn("Wall time", self.cell("%time y = 1").out)
        self.check("x, y", "other", "", "(3, 1)")

    def test_scripts_and_files(self):
        self.assertEqual(self.cell("%%bash\nfor i in 1 2; do echo $i; done\necho e >&2").out,
                         "1\n2\n")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.txt")
            self.assertEqual(self.cell(f"%%writefile {path}\nhello\n").status, 0)
            with open(path) as file:
                self.assertEqual(file.read(), "hello\n")
            self.cell(f"%cd -q {folder}")
            self.check("import os; os.getcwd()", "str", "", os.path.realpath(folder))

    def test_help_and_who(self):
        self.cell("def documented():\n    'what it does'")
        self.assertIn("what it does", self.cell("documented?").out)
        self.assertNotIn("\x1b", self.cell("documented??").out)
        self.assertEqual(self.cell("%who").out.split(), ["documented"])

    def test_errors(self):
        answer = self.fails("%no_such_magic", "UsageError")
        self.assertNotIn("site-packages", answer.traceback)
        answer = self.fails("%timeit -n1 -r1 1/0", "ZeroDivisionError")
        self.assertNotIn("/IPython/", answer.traceback)
        self.fails("x = = !ls", "SyntaxError")
        self.fails("a = 5 %", "SyntaxError")

    def test_get_ipython_is_there_when_named(self):
        self.check("get_ipython().user_ns is globals()", "bool", "true", "True")
        self.check("get_ipython().run_line_magic('pwd', '')", "str", "", os.getcwd())
        self.assertEqual(self.cell("get_ipython().run_cell('1+1');").out, "2\n")

    def test_printers_taught_to_the_shell_are_used(self):
        self.cell("class A:\n  def __repr__(self): return 'plain'")
        self.cell("get_ipython().display_formatter.formatters['text/plain']"
                  ".for_type(A, lambda o, p, c: p.text('taught'))")
        self.check("A()", "other", "", "taught")

    def test_indented_and_prompted_cells(self):
        self.check("    x = 5\n    x", "int", "5", "5")
        self.check(">>> 1 + 2", "int", "3", "3")

    def test_magics_see_the_empty_namespace(self):
        self.cell("x = 1")
        answer = self.cell("y = 2\n%who", True)
        self.assertEqual(answer.out.split(), ["y"])
        self.assertEqual(self.cell("%who").out.split(), ["x"])

    def test_inline_configuration_is_harmless(self):
        answer = self.cell("%matplotlib inline\n%config InlineBackend.figure_format = 'retina'")
        self.assertEqual((answer.status, answer.err), (0, ""), answer.traceback)

    def test_nothing_is_left_in_the_namespace_by_the_shell(self):
        self.check("sorted(n for n in globals() if not n.startswith('__'))", "other", "",
                   "['artifacts', 'deps', 'skills', 'tools', 'workflows']")


class WithoutPreload(unittest.TestCase):
    """What a session of a keeper without libraries does when user code brings them in."""

    def setUp(self):
        self.session = Image.bare.pop()
        self.addCleanup(self.session.end)
        self.cell = self.session.cell

    def test_matplotlib_gets_our_backend(self):
        answer = self.cell("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\n"
                           "print(plt.get_fignums())")
        self.assertEqual((answer.status, answer.out), (0, "[]\n"), answer.traceback)
        self.assertTrue(answer.displays[0]["image/png"].startswith(PNG))
        self.assertEqual(self.cell("import sys; 'IPython' in sys.modules").text, "False")

    def test_ipython_display_gets_our_shell(self):
        self.assertEqual(self.cell("[1, 2]").text, "[1, 2]")
        self.assertEqual(self.cell("import sys; 'IPython' in sys.modules").text, "False")
        answer = self.cell("display(1)\nfrom IPython.display import HTML, display\n"
                           "display(HTML('<b>'))")
        self.assertEqual(answer.status, 0, answer.traceback)
        self.assertEqual(answer.displays[1]["text/html"], b"<b>")
        self.assertEqual(self.cell("!echo hi").out, "hi\n")

    def test_without_ipython_installed(self):
        self.cell("import sys\nfor m in ('IPython', 'IPython.lib'): sys.modules[m] = None")
        self.assertEqual(self.cell("list(range(50))").text,
                         "[" + ",\n ".join(map(str, range(50))) + "]")
        self.assertEqual(self.cell("{3, 1, 2}").text, "{1, 2, 3}")
        self.assertIn("items in all", self.cell("list(range(5000))").text)
        self.assertEqual(self.cell("!echo hi").name, "SyntaxError")
        self.assertEqual(self.cell("    x = 5\n    x").text, "5")
        self.assertEqual(self.cell("get_ipython()").name, "NameError")
        self.assertEqual(self.cell("display([1])").displays, [{"text/plain": b"[1]"}])
        answer = self.cell("class H:\n  def _repr_html_(self): return 'h'\ndisplay(H())")
        self.assertEqual(answer.displays[0]["text/html"], b"h")

    def test_magics_and_pretty_printing_load_ipython(self):
        self.assertEqual(self.cell("list(range(50))").text,
                         "[" + ",\n ".join(map(str, range(50))) + "]")
        self.assertEqual(self.cell("x = !echo a\nx[0]").text, "a")
        self.assertEqual(self.cell("get_ipython().user_ns is globals()").text, "True")


class Shell(WithSession):
    def run_shell(self, command=None, argv=None, stdin=b""):
        result = self.session.call("run_shell", command, argv, stdin)
        return (*result, *self.session.output())

    def test_command_lines(self):
        self.assertEqual(self.run_shell("echo out; echo err >&2; exit 3"),
                         (3, "", "", "out\n", "err\n"))
        self.assertEqual(self.run_shell("echo $((1 + 1))"), (0, "", "", "2\n", ""))

    def test_argv(self):
        self.assertEqual(self.run_shell(argv=["/bin/echo", "a b", "$HOME"])[3], "a b $HOME\n")
        code, limit, text, _, err = self.run_shell(argv=["no-such-command"])
        self.assertEqual((code, limit), (127, ""))
        self.assertIn("no-such-command", err)
        self.assertIn("no-such-command", text)
        self.assertEqual(self.run_shell(argv=["/etc/passwd"])[0], 126)
        self.assertEqual(self.run_shell(argv=[])[0], 127)
        self.assertEqual(self.run_shell("no-such-command")[0], 127)

    def test_stdin(self):
        self.assertEqual(self.run_shell("cat", stdin=b"abc")[3], "abc")
        self.assertEqual(self.run_shell("wc -c", stdin=bytes(3_000_000))[3].strip(), "3000000")
        self.assertEqual(self.run_shell("cat; true", stdin=b"")[0], 0)
        self.assertEqual(self.run_shell("true", stdin=bytes(3_000_000))[0], 0)

    def test_a_signal_is_an_exit_code(self):
        self.assertEqual(self.run_shell("kill -9 $$")[0], 137)

    def test_an_interrupt_ends_the_whole_group(self):
        self.session.start("run_shell", "sleep 31.4159 & sleep 31.4159", None, b"")
        time.sleep(0.3)
        os.kill(self.session.pid, signal.SIGINT)
        self.assertEqual(self.session.finish()[0], (130, "", ""))
        time.sleep(0.1)
        self.assertEqual(self.run_shell("pgrep -cf '^sleep 31[.]4159'")[3], "0\n")
        self.assertEqual(self.run_shell("echo on")[3], "on\n")


class Children(WithSession):
    def test_what_user_code_starts_is_told(self):
        """So that it is left to that code's own wait."""
        answer = self.cell(
            "import subprocess, os, _carrel_host\n"
            "p = subprocess.Popen(['/bin/sh', '-c', 'exit 5'])\n"
            "f = os.fork()\nif f == 0: os._exit(6)\n"
            "s = os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 7'], {})\n"
            "[pid for pid in _carrel_host.started if pid > 0][-3:] == [p.pid, f, s]")
        self.assertEqual(answer.text, "True")

    def test_system_answers_as_that_of_the_c_library(self):
        answer = self.cell("import os; [os.system(c) for c in ('exit 3', b'true', 'kill -9 $$', 'no-such')]")
        self.assertEqual(answer.text, "[768, 0, 9, 32512]")
        self.fails("import os; os.system('a\\0b')", "ValueError")

    def test_the_wrappers_keep_name_and_doc(self):
        answer = self.cell("import os; (os.fork.__name__, bool(os.fork.__doc__))")
        self.assertEqual(answer.text, "('fork', True)")

    def test_multiprocessing_works(self):
        answer = self.cell("import multiprocessing as m\ndef double(x): return 2 * x\n"
                           "with m.get_context('fork').Pool(2) as p: r = p.map(double, [1, 2])\nr")
        self.assertEqual(answer.text, "[2, 4]", answer.traceback)


if __name__ == "__main__":
    # Sessions are forks, and must have Python's own warning filters.
    unittest.main(module=sys.modules[__name__], warnings="")
