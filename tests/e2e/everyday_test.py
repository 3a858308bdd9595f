"""What everyday code meets in a session that it does not meet, or meets otherwise, elsewhere."""

import base64
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from harness import ServerCase  # noqa: E402

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"


class Everyday(ServerCase):
    config = {"preload": ["numpy", "pandas", "matplotlib"]}

    def run_cell(self, code, status="Succeeded"):
        reply = self.server.execute(self.session, code)
        self.assertEqual(reply["status"], status, reply)
        return reply

    def value(self, code):
        return self.run_cell(code)["result"]["executionResult"]

    def out(self, code):
        return self.run_cell(code)["result"]["stdout"]


class Figures(Everyday):
    SCRIPT = PLOT + "plt.savefig('child.png')\nprint(plt.get_backend().lower())"

    def test_children_draw_with_agg(self):
        self.value(f"open('plot.py', 'w').write({self.SCRIPT!r})")
        for start in ("!python3 plot.py", "import os; os.system('python3 plot.py');",
                      "import subprocess, sys; subprocess.run([sys.executable, 'plot.py']).returncode"):
            with self.subTest(start=start):
                self.assertEqual(self.out(start), "agg\n")
                self.assertEqual(self.server.request("GET", "files/child.png/content",
                                                     self.session).body[:4], b"\x89PNG")
                self.run_cell("os = __import__('os'); os.remove('child.png')")

    def test_spawned_workers_draw_with_agg(self):
        self.value("""
open('drawing.py', 'w').write('''
def draw(number):
    import matplotlib.pyplot as plt
    plt.plot([number])
    plt.savefig(f"{number}.png")
    return plt.get_backend().lower()
''')""")
        self.assertEqual(self.value("""
import multiprocessing, drawing
with multiprocessing.get_context("spawn").Pool(2) as pool:
    backends = pool.map(drawing.draw, range(3))
backends
"""), "['agg', 'agg', 'agg']")

    def test_the_sessions_own_are_shown(self):
        reply = self.run_cell(PLOT)
        self.assertEqual(base64.b64decode(
            reply["result"]["executionResult"]["base64_data"])[:4], b"\x89PNG")

    def test_a_backend_that_code_chooses_is_respected(self):
        reply = self.run_cell(f"import matplotlib\nmatplotlib.use('Agg')\n{PLOT}plt.show()")
        self.assertNotIn("displays", reply)
        self.assertEqual((reply["result"].get("executionResult"), reply["result"]["stderr"]), ("", ""))
        self.assertEqual(self.value("len(plt.get_fignums())"), 1)

    def test_wide_characters_have_glyphs(self):
        """Chinese, Japanese and Korean, also with the fonts that code of elsewhere asks for."""
        for fonts in ("", "plt.rcParams['font.sans-serif'] = ['SimHei', 'DejaVu Sans']\n"):
            reply = self.run_cell(f"{PLOT}{fonts}plt.title('\u4f60\u597d \u3053\u3093 \ud55c\uad6d'); 1")
            self.assertNotIn("missing", reply["result"]["stderr"])

    def test_warnings_name_no_file_of_ours(self):
        for show, line in (("plt.show()", 4), ("", 5)):
            reply = self.run_cell(f"{PLOT}plt.title('\U0001f9a0')\n{show}\n")
            self.assertRegex(reply["result"]["stderr"], rf"^<cell \d+>:{line}: UserWarning: Glyph .*missing")
        reply = self.run_cell("import warnings; warnings.warn('deep', stacklevel=3)")
        self.assertEqual(reply["result"]["stderr"], "sys:1: UserWarning: deep\n")

    def test_an_image_that_pillow_shows(self):
        reply = self.run_cell("from PIL import Image\nImage.new('RGB', (8, 8)).show()\nprint('after')")
        self.assertEqual(reply["result"]["executionResult"]["format"], "png")
        self.assertEqual(reply["result"]["stdout"], "after\n")


class Libraries(Everyday):
    def test_a_table_of_twenty_columns_is_whole(self):
        frame = ("import pandas as pd\n"
                 "pd.DataFrame([range(100, 100 + {0})], columns=[f'a_long_name_{{i}}' for i in range({0})])")
        self.assertNotIn("...", self.value(frame.format(20)))
        self.assertIn("...", self.value(frame.format(21)))

    def test_the_event_loop_of_a_fresh_python(self):
        self.assertIn("running=False", self.value(
            "import asyncio\nasync def f(): return 7\n"
            "loop = asyncio.get_event_loop()\ntask = loop.create_task(f())\nloop"))
        self.assertEqual(self.value("await task"), 7)
        self.assertEqual(self.value("asyncio.run(f())"), 7)
        self.assertEqual(self.value("await f()"), 7)
        self.assertEqual(self.value("loop.run_until_complete(f())"), 7)

    FIGURES = ("import psutil\nmemory = psutil.virtual_memory()\n"
               "found = [memory.total >> 20, 0 < memory.used < memory.total, psutil.swap_memory().total,\n"
               "    psutil.cpu_count() == len(psutil.Process().cpu_affinity()), psutil.cpu_percent() >= 0,\n"
               "    psutil.Process().create_time() > psutil.boot_time() > 1e9,\n"
               "    list(psutil.net_io_counters(pernic=True))]\n")

    def test_psutil_has_the_sessions_own_figures(self):
        wanted = "[1024, True, 0, True, True, True, ['lo']]"
        self.assertEqual(self.value(f"{self.FIGURES}found"), wanted)
        self.run_cell(f"open('figures.py', 'w').write({self.FIGURES + 'print(found)'!r});")
        self.assertEqual(self.out("!python figures.py"), wanted + "\n")
        # /proc itself has none of the machine's.
        self.assertEqual(self.value("import os\nsorted(n for n in os.listdir('/proc') if not n.isdigit())"),
                         "['self', 'thread-self']")

    def test_joblib_with_processes(self):
        self.assertEqual(self.value("import joblib, math\njoblib.Parallel(n_jobs=2)("
                                    "joblib.delayed(math.sqrt)(n) for n in (1, 4, 9))"), "[1.0, 2.0, 3.0]")

    def test_numba_keeps_what_it_compiles(self):
        self.assertEqual(self.value("import numba\n@numba.njit(cache=True)\ndef f(x): return x + 1\nf(3)"), 4)


class Pip(Everyday):
    """`deps.add` where it is allowed; a failing magic is a failing cell."""

    SETUP = ("import os\nos.makedirs('own/own_package')\n"
             "open('own/own_package/__init__.py', 'w').write('X = 42')\n"
             "open('own/setup.py', 'w').write(\"from setuptools import setup\\n"
             "setup(name='own_package', version='1', packages=['own_package'])\");")

    def fails(self, code, name, message):
        reply = self.run_cell(code, "Failed")
        error = reply["error"]["error"]
        self.assertEqual((reply["verdict"], error["code"]), ("exception", name), reply)
        self.assertIn(message, error["message"])
        return reply

    def test_what_is_there_is_there(self):
        for command in ("!pip install -q numpy 'pandas>=1'", "%pip install numpy pandas>=1",
                        "!python -m pip install --no-cache-dir numpy pandas>=1 | tail -n 1"):
            with self.subTest(command=command):
                out = self.out(command)
                self.assertIn("Requirement already satisfied: numpy (", out)
                self.assertIn("Requirement already satisfied: pandas>=1 (", out)

    def test_what_cannot_be_had_fails(self):
        self.fails("!pip install no-such-package-1\nprint('not')", "CodeModeError",
                   "could not be installed")

    def test_a_package_from_a_file(self):
        self.run_cell(self.SETUP)
        self.assertEqual(self.value("!pip install --no-build-isolation -q ./own\n"
                                    "import own_package\nown_package.X"), 42)
        self.assertEqual(self.out("!python -c 'import own_package; print(own_package.X)'"), "42\n")
        self.fails("!pip install ./no-such-directory", "CodeModeError", "exit code 1")

    def test_a_module_that_is_not_there(self):
        for name, package in (("no_such_module", "no_such_module"), ("cv2", "opencv-python-headless")):
            reply = self.fails(f"import {name}", "ModuleNotFoundError", f"No module named '{name}'")
            self.assertIn(f'deps.add("{package}") may install it', reply["result"]["stderr"])
        reply = self.fails("import asyncio.no_such_module", "ModuleNotFoundError", "asyncio")
        self.assertNotIn("deps.add", reply["result"]["stderr"])

    def test_magics_that_fail(self):
        self.run_cell("open('bad.py', 'w').write('1 / 0')")
        for code, name in (("%run bad.py", "ZeroDivisionError"), ("%%time\n1 / 0", "ZeroDivisionError"),
                           ("%run no_such.py", "Exception"), ("%no_such_magic", "UsageError"),
                           ("%cd /no/such/directory", "UsageError"), ("%%bash\nfalse", "CalledProcessError")):
            with self.subTest(code=code):
                self.fails(code, name, "")
        # As in IPython a command's status is in _exit_code.
        self.assertEqual(self.value("!false\n_exit_code"), 1)


class PipRefused(Pip):
    config = {**Everyday.config, "code_mode": {"deps": {"allow_runtime": False}}}

    def test_what_cannot_be_had_fails(self):
        for command in ("!pip install no-such-package-1", "%pip install no-such-package-1"):
            self.fails(command, "RuntimeDepsDisabledError", "disabled")

    def test_a_module_that_is_not_there(self):
        reply = self.fails("import no_such_module", "ModuleNotFoundError", "No module named")
        self.assertNotIn("deps.add", reply["result"]["stderr"])

    def test_magics_that_fail(self):
        """As above."""


class Cells(Everyday):
    def test_a_byte_order_mark(self):
        self.assertEqual(self.value("\ufeffx = 3\nx"), 3)

    def test_streams_of_a_cell_that_failed_are_put_back(self):
        self.run_cell("import sys, io\nsys.stdout = sys.stderr = io.StringIO()\n1 / 0", "Failed")
        reply = self.run_cell("print('out')\nprint('err', file=sys.stderr)")
        self.assertEqual((reply["result"]["stdout"], reply["result"]["stderr"]), ("out\n", "err\n"))
        # What a cell that succeeded left there is meant to stay.
        self.run_cell("kept = sys.stdout = io.StringIO()")
        self.assertEqual(self.out("print('into it')"), "")
        self.assertEqual(self.value("kept.getvalue()"), "into it\n")

    def test_a_progress_bar_is_answered_in_its_last_state(self):
        code = ("import sys\nfor i in range(20001): sys.stderr.write(f'\\r{i:5}/20000 |##########')\n"
                "sys.stderr.write('\\n')\nprint('done')")
        result = self.run_cell(code)["result"]
        self.assertEqual((result["stderr"], result["stdout"]), ("20000/20000 |##########\n", "done\n"))
        streamed = "".join(data.get("text", "") for event, data in self.server.stream(self.session, code)
                           if event == "stderr")
        self.assertEqual(streamed.count("\r"), 20001)

    def test_what_is_cut_is_told(self):
        reply = self.run_cell("'x' * 3_000_000")
        shown = reply["result"]["executionResult"]
        kept = len(shown.partition("\u2026")[0])
        self.assertEqual((reply["verdict"], reply["truncated"]),
                         ("output_limit", {"value": 3_000_000 - kept}))
        large = "class Large:\n    def _repr_png_(self): return bytes(17 << 20)\nLarge()"
        self.assertEqual(self.run_cell(large)["truncated"], {"displays": 1})
        figures = (PLOT + "for i in range(52): plt.figure(figsize=(.3, .3)).text(.5, .5, 'x')\n"
                   "import warnings; warnings.simplefilter('ignore')")
        self.assertEqual(self.run_cell(figures)["truncated"]["displays"], 3)
        reply = self.run_cell("raise ValueError('x' * 100_000)", "Failed")
        self.assertEqual((reply["verdict"], reply["truncated"]), ("exception", {"error": 100_000 - 65536}))
        self.assertNotIn("truncated", self.run_cell("'x' * 1000"))


    def test_as_many_displays_as_there_may_be(self):
        """And one more."""
        code = "for i in range({}): display({{'text/html': str(i)}}, raw=True)"
        reply = self.run_cell(code.format(128))
        self.assertEqual((len(reply["displays"]), reply.get("truncated")), (128, None))
        reply = self.run_cell(code.format(129))
        self.assertEqual((len(reply["displays"]), reply["truncated"]), (128, {"displays": 1}))

    def test_bytes_that_come_after_their_call_was_given_up(self):
        self.run_cell("""
import signal
class Stop(Exception): pass
def stop(*args): raise Stop
signal.signal(signal.SIGALRM, stop)
artifacts.save("large", bytes(16 << 20), "")
def load(seconds):
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return len(artifacts.load("large"))
    except Stop:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
""")
        given_up = 0
        for milliseconds in range(1, 25):
            given_up += self.value(f"load({milliseconds} / 1000) is None") is True
            self.assertEqual(self.value("1 + 1"), 2)
        self.assertGreater(given_up, 0)
        self.assertEqual(self.value("load(60)"), 16 << 20)

    def test_the_last_value_outlives_the_loading_of_ipython(self):
        self.assertEqual(self.value("6 * 7"), 42)
        self.assertEqual(self.out("!true\nprint(_)"), "42\n")

    def test_standard_input_that_was_closed_is_there_again(self):
        self.run_cell("import os; os.close(0)")
        self.assertEqual(self.value("import os, sys; (os.read(0, 1), sys.stdin.read())"), "(b'', '')")


class Orphans(Everyday):
    """Reaped as they end, and nothing that code waits for."""

    STORM = "for i in $(seq 300); do (true &) ; done; echo done"

    def test_more_of_them_than_processes(self):
        for code in (f"import os; os.system({self.STORM!r});",
                     f"import subprocess; subprocess.run(['sh', '-c', {self.STORM!r}]);", f"!{self.STORM}",
                     "import os\nfor i in range(300): assert os.system('(true &)') == 0\nprint('done')"):
            with self.subTest(code=code):
                result = self.run_cell(code)["result"]
                self.assertEqual((result["stdout"], result["stderr"]), ("done\n", ""))
        self.assertEqual(self.value("sum(name.isdigit() for name in os.listdir('/proc'))"), 1)

    def test_what_code_waits_for_is_left_to_it(self):
        self.assertEqual(self.value("""
import ctypes, multiprocessing, os, subprocess
from concurrent.futures import ProcessPoolExecutor
libc = ctypes.CDLL(None)
forked = os.fork()
if forked == 0:
    os._exit(9)
started = [subprocess.Popen(["sh", "-c", f"exit {i % 7}"]) for i in range(40)]
for i in range(30):
    os.system("(true &)")
opened = libc.popen
opened.restype = ctypes.c_void_p
unknown = opened(b"exit 8", b"r")  # by a C library, which tells nobody
with multiprocessing.Pool(3) as pool, ProcessPoolExecutor(3) as executor:
    sums = sum(pool.map(abs, range(9))), sum(executor.map(abs, range(9)))
codes = [process.wait() for process in started]
(os.waitpid(forked, 0)[1] >> 8, libc.pclose(ctypes.c_void_p(unknown)) >> 8, sums,
 codes == [i % 7 for i in range(40)], libc.system(b"exit 4") >> 8)
"""), "(9, 8, (36, 36), True, 4)")
        self.assertEqual(self.value("import asyncio\nprocess = await asyncio.create_subprocess_exec("
                                    "'sh', '-c', 'exit 3')\nawait process.wait()"), 3)

    def test_user_code_with_a_handler_of_its_own(self):
        self.assertEqual(self.value("""
import os, signal, time
ended = []
before = signal.signal(signal.SIGCHLD, lambda *a: ended.append(os.waitpid(-1, 0)))
if os.fork() == 0:
    os._exit(5)
while not ended:
    time.sleep(0.01)
signal.signal(signal.SIGCHLD, before)
(before, ended[0][1] >> 8)
"""), "(<Handlers.SIG_DFL: 0>, 5)")
        self.assertEqual(self.out(f"!{self.STORM}"), "done\n")


if __name__ == "__main__":
    unittest.main()
