#!/usr/bin/python3
"""Runs the Python tests, each file in a process of its own.

    run_python.py [--summary FILE] [--jobs N] [--seconds N] [-k WORD] [TEST_FILE...]

Without files: all of tests/unit, tests/e2e and tests/sandbox (*_test.py). Three files run at once,
except those whose text has the line SERIAL = True, which run alone at the end. Prints a failing
test with its output, a line a file, every skip with its reason, and at the end the counts.
FILE gets {"passed": N, "failed": N, "skipped": N} as JSON. Exit status: 0 when nothing failed.

A file that has no tests, that ends before it reported, or that takes too long counts as failed, and
so does a skip without a reason.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", HERE.parent / "build"))
FOLDERS = ("unit", "e2e", "sandbox")
SERIAL = re.compile(r"^SERIAL = True$", re.MULTILINE)
OUTPUT_CHARS_MAX = 20000


# --- in the process of one file --------------------------------------------------------------------

class Recorder(unittest.TestResult):
    """Keeps one outcome a test: a test with a failing part has failed."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}
        self.times = {}
        self._started = 0.0

    def _note(self, test, outcome, text=""):
        before, told = self.outcomes.get(test.id(), ("passed", ""))
        if outcome == "failed" or before != "failed":
            self.outcomes[test.id()] = (outcome, f"{told}{text}")

    def startTest(self, test):
        super().startTest(test)
        self._started = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        self.times[test.id()] = round(time.monotonic() - self._started, 3)

    def addSuccess(self, test):
        self._note(test, "passed")

    def addError(self, test, err):
        self._note(test, "failed", self._exc_info_to_string(err, test))

    addFailure = addError

    def addSkip(self, test, reason):
        if reason.strip():
            self._note(test, "skipped", reason)
        else:
            self._note(test, "failed", "skipped without a reason\n")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            text = self._exc_info_to_string(err, test)
            self._note(test, "failed", f"{subtest._subDescription()}\n{text}")

    def addExpectedFailure(self, test, err):
        self._note(test, "failed", "expected failures are not used here\n")

    def addUnexpectedSuccess(self, test):
        self._note(test, "failed", "expected failures are not used here\n")


def only(suite, word):
    """The tests of a suite whose name holds word."""
    kept = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(only(test, word))
        elif word in test.id():
            kept.addTest(test)
    return kept


def run_here(path, report, word):
    """Runs one file's tests and writes what became of them to the file report."""
    path = pathlib.Path(path).resolve()
    sys.argv = [str(path)]
    sys.path[0] = str(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    recorder = Recorder()
    try:
        spec.loader.exec_module(module)
    except unittest.SkipTest as reason:
        outcomes = {path.stem: ("skipped", str(reason))}
    else:
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
        if word:
            suite = only(suite, word)
        suite.run(recorder)
        outcomes = recorder.outcomes
    slowest = sorted(recorder.times.items(), key=lambda item: -item[1])[:3]
    pathlib.Path(report).write_text(json.dumps({"outcomes": outcomes, "slowest": slowest}))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a failed test left waiting must not hold up the others.
    os._exit(0)


# --- the runner ------------------------------------------------------------------------------------

def run_file(path, options):
    """(path, outcomes, seconds, slowest) of one file, run in a process group of its own."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="carrel-run-") as directory:
        report = pathlib.Path(directory, "report.json")
        log = pathlib.Path(directory, "log")
        command = [PYTHON, str(HERE / "run_python.py"), "--in-process", str(report), "-k",
                   options.k, str(path)]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       start_new_session=True)
            trouble = None
            try:
                if process.wait(options.seconds) != 0:
                    trouble = f"the file's process ended with {process.returncode}"
            except subprocess.TimeoutExpired:
                trouble = f"not done after {options.seconds} s"
            # Whatever the file's tests did not stop themselves.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        said = log.read_text(errors="replace")[-OUTPUT_CHARS_MAX:]
        try:
            told = json.loads(report.read_text())
        except (OSError, ValueError):
            told = {"outcomes": {}, "slowest": []}
            trouble = trouble or "no report"
    outcomes = told["outcomes"]
    if trouble is None and not outcomes and not options.k:
        trouble = "there are no tests in it"
    if trouble is not None:
        outcomes["(the file)"] = ("failed", f"{trouble}\n{said}")
    return path, outcomes, time.monotonic() - start, told["slowest"]


def name_of(path):
    try:
        return str(path.relative_to(HERE.parent))
    except ValueError:
        return str(path)


def tell(path, outcomes, seconds, slowest, counts):
    name = name_of(path)
    here = {"passed": 0, "failed": 0, "skipped": 0}
    for test, (outcome, text) in outcomes.items():
        here[outcome] += 1
        if outcome == "failed":
            print(f"FAIL {name} {test}")
            print("    " + text.rstrip("\n").replace("\n", "\n    "))
        elif outcome == "skipped":
            print(f"skip {name} {test}: {text}")
    for outcome, number in here.items():
        counts[outcome] += number
    slow = ", ".join(f"{test.rpartition('.')[2]} {time_s:.1f} s" for test, time_s in slowest
                     if time_s >= 5)
    print(f"{name}: {here['passed']} passed, {here['failed']} failed, {here['skipped']} skipped, "
          f"{seconds:.1f} s{f' (slowest: {slow})' if slow else ''}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--summary", metavar="FILE")
    parser.add_argument("--jobs", type=int, default=3, help="at once; most of a test is waiting")
    parser.add_argument("--seconds", type=float, help="for each file",
                        default=3600 if "CARREL_LONG" in os.environ else 600)
    parser.add_argument("-k", metavar="WORD", default="", help="only tests with it in the name")
    parser.add_argument("--in-process", metavar="REPORT", help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.in_process:
        run_here(options.files[0], options.in_process, options.k)
    # What tests/e2e/http_layer_test.py drives.
    os.environ.setdefault("HTTP_SERVER_TEST", str(BUILD / "tests" / "http_server_test"))
    files = [pathlib.Path(name).resolve() for name in options.files]
    if not files:
        files = [path for folder in FOLDERS for path in sorted((HERE / folder).glob("*_test.py"))]
    alone = [path for path in files if SERIAL.search(path.read_text())]
    together = [path for path in files if path not in alone]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for group, jobs in ((together, max(1, options.jobs)), (alone, 1)):
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(run_file, path, options) for path in group]
            for done in concurrent.futures.as_completed(waiting):
                tell(*done.result(), counts)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    if options.summary:
        pathlib.Path(options.summary).write_text(json.dumps(counts) + "\n")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
