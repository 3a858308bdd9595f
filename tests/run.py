#!/usr/bin/python3
"""Builds what the tests need, runs them all, and counts. `./dev test` is the way to call it.

    run.py [--quick | --long] [NAME...]

The parts, in order:

    lint      formatting, static analysis and the house rules (tests/lint), one test a check
    unit      the C unit tests (tests/unit/*_test.c), one test a case
    python    tests/run_python.py: unit tests of Python, the server end to end, its walls
    sanitize  the C unit tests and SANITIZED below, with AddressSanitizer and UBSan in both
              executables
    leaks     1,000 sessions through the sanitized server, which may not leak by its end
    fuzz      each tests/fuzz/*_fuzz.c, from its corpus, for FUZZ_SECONDS
    roots     with --long: `./dev run` and `./dev test` in a fresh system of each release of Debian
              (tests/roots/root.py), one test a release
    kernel    with --long: the walls of tests/sandbox on Debian 12's own kernel, in QEMU
              (tests/roots/kernel.py), one test

NAME is a part, or a test: the name of a C test, Python file or fuzz target, like files_test; a name
that C and Python share means both. NAME.CASE is one case, class or method of it. --quick leaves out
sanitize, leaks and fuzz. --long sets CARREL_LONG=1, with which tests that can take longer do. The
last line is "N passed, N failed, N skipped"; the exit status is 0 only when nothing failed.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", ROOT / "build"))
PYTHON = "/usr/bin/python3"
FUZZ_SECONDS = 6
SLOW_LINES = 60
RELEASES = ("bookworm", "trixie")

# The Python tests that drive the C code hardest. Not those about memory limits: the sanitizer's own
# memory would count against a session.
SANITIZED = ("http_layer_test", "execute_test", "files_test", "sessions_test", "protocol_test",
             "clients_test")

sys.path.insert(0, str(HERE / "lint"))
sys.dont_write_bytecode = True


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def failure(name, text):
    print(f"FAIL {name}")
    print("    " + text.rstrip("\n").replace("\n", "\n    "), flush=True)
    return Counts(failed=1)


def run(command, environment=None, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          env={**os.environ, **(environment or {})}, check=False, **options)


def build(kind=""):
    """(directory, None), or (directory, what went wrong)."""
    done = run([ROOT / "dev", "build", *([kind] if kind else [])],
               {"CARREL_BUILD": str(BUILD), "CARREL_WERROR": "1"}, stdout=subprocess.PIPE,
               stderr=subprocess.STDOUT, text=True, errors="replace")
    directory = pathlib.Path(f"{BUILD}-{kind}" if kind else BUILD)
    return directory, None if done.returncode == 0 else done.stdout


# --- lint -----------------------------------------------------------------------------------------

def lint(_names):
    import rules
    import tools
    import tree
    counts = Counts()
    for check in [*rules.CHECKS, *tools.CHECKS]:
        try:
            problems = check()
        except tree.NotHere as reason:
            print(f"skip lint {check.__name__}: {reason}")
            counts.add(Counts(skipped=1))
            continue
        if problems:
            counts.add(failure(f"lint {check.__name__}", "\n".join(problems[:SLOW_LINES])))
        else:
            counts.add(Counts(passed=1))
    return counts


# --- C unit tests ---------------------------------------------------------------------------------

def case_text(case):
    return "\n".join(e.text or e.get("message") or "" for e in case)


def unit_in(directory, names, environment=None):
    """meson's tests in one build directory, counted by case. names: a dict of what chosen() makes;
    empty for all of them."""
    log = directory / "meson-logs" / "testlog.junit.xml"
    log.unlink(missing_ok=True)
    done = run(["/usr/bin/meson", "test", "-C", directory, "--no-rebuild", *sorted(names)],
               environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
               errors="replace")
    counts = Counts()
    if not log.exists():
        return failure(f"meson test in {directory.name}", done.stdout)
    for suite in xml.etree.ElementTree.parse(log).getroot():
        failed = 0
        suite_name = suite.get("name").removeprefix("carrel.")
        selected = names.get(suite_name)
        # meson names a case of TAP "12 - what_is_tested".
        cases = [case for case in suite.iter("testcase")
                 if not selected or case.get("name").rpartition(" ")[2] in selected]
        if not cases:
            counts.add(failure(suite_name, f"it has no case {', '.join(sorted(selected or ()))}"))
        for case in cases:
            kinds = {child.tag for child in case}
            name = f"{suite_name} {case.get('name')}"
            if kinds & {"failure", "error"}:
                failed += 1
                print(f"FAIL {name} {case_text(case)}")
            elif "skipped" in kinds:
                counts.add(Counts(skipped=1))
                print(f"skip {name}: {case_text(case) or 'it says no reason'}")
            else:
                counts.add(Counts(passed=1))
        if failed or int(suite.get("failures")) or int(suite.get("errors")):
            counts.add(Counts(failed=max(failed, 1)))
            said = "".join(e.text or "" for e in suite.iter() if e.tag.startswith("system-"))
            print("    " + "\n".join(said.splitlines()[-SLOW_LINES:]).replace("\n", "\n    "))
    if done.returncode != 0 and counts.failed == 0:
        counts.add(failure(f"meson test in {directory.name}", done.stdout))
    if counts.passed + counts.failed + counts.skipped == 0:
        counts.add(failure(f"meson test in {directory.name}", "it ran no test"))
    return counts


# As tests/meson.build tells a unit test from a program that a Python test drives.
def c_tests():
    return {path.stem for path in (HERE / "unit").glob("*_test.c")
            if "cmocka_run_group_tests" in path.read_text()}


def unit(names):
    return unit_in(BUILD, names)


# --- Python tests ---------------------------------------------------------------------------------

def python_files():
    return {path.stem: path for folder in ("unit", "e2e", "sandbox")
            for path in sorted((HERE / folder).glob("*_test.py"))}


def python_in(directory, files, environment=None, word=""):
    with tempfile.TemporaryDirectory(prefix="carrel-run-") as kept:
        summary = pathlib.Path(kept, "summary.json")
        environment = {"CARREL_BUILD": str(directory),
                       "HTTP_SERVER_TEST": str(directory / "tests" / "http_server_test"),
                       **(environment or {})}
        done = run([PYTHON, HERE / "run_python.py", "--summary", summary, "-k", word, *files],
                   environment)
        try:
            return Counts(**json.loads(summary.read_text()))
        except (OSError, ValueError, TypeError):
            return failure("run_python.py", f"no summary, exit status {done.returncode}")


def python(names):
    files = python_files()
    whole = [path for name, path in files.items() if not names or names.get(name) == set()]
    counts = python_in(BUILD, whole) if whole else Counts()
    for name, case in ((name, case) for name in names for case in sorted(names[name])):
        some = python_in(BUILD, [files[name]], word=case)
        if some == Counts():
            some = failure(f"{name}.{case}", "no test has that in its name")
        counts.add(some)
    return counts


# --- the sanitizers -------------------------------------------------------------------------------

# A finding ends the process that has it: a test sees it as a server that broke off. What was freed is
# held back for a while, but not so much of it that tests which measure the server's memory see it.
SANITIZERS = {"ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:"
                              "quarantine_size_mb=16",
              "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}


def sanitize(_names):
    directory, trouble = build("asan")
    if trouble:
        return failure("building with sanitizers", trouble)
    counts = unit_in(directory, {}, SANITIZERS)
    files = python_files()
    missing = [name for name in SANITIZED if name not in files]
    if missing:
        counts.add(failure("sanitize", f"not there: {', '.join(missing)}"))
    counts.add(python_in(directory, [files[name] for name in SANITIZED if name in files],
                         SANITIZERS))
    return counts


def leaks(_names):
    directory, trouble = build("asan")
    if trouble:
        return failure("building with sanitizers", trouble)
    return python_in(directory, sorted((HERE / "leaks").glob("*_test.py")),
                     SANITIZERS)


# --- fuzzing --------------------------------------------------------------------------------------

def fuzz_targets():
    return sorted(path.stem for path in (HERE / "fuzz").glob("*_fuzz.c"))


def fuzz_one(program, seconds):
    """Runs one target over a copy of its corpus, so that the source tree stays as it is."""
    name = program.name
    with tempfile.TemporaryDirectory(prefix="carrel-fuzz-") as scratch:
        corpus = pathlib.Path(scratch, "corpus")
        corpus.mkdir()
        seeds = HERE / "fuzz" / "corpus" / name.removesuffix("_fuzz")
        if seeds.is_dir():
            shutil.copytree(seeds, corpus, dirs_exist_ok=True)
        done = run([program, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
                    "-print_final_stats=1", f"-artifact_prefix={BUILD}/", corpus],
                   {"TMPDIR": scratch}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                   text=True, errors="replace", cwd=scratch)
    lines = done.stdout.splitlines()
    if done.returncode != 0:
        return failure(name, "\n".join(lines[-SLOW_LINES:]))
    runs = [int(line.split()[-1]) for line in lines if "number_of_executed_units" in line]
    if not runs or runs[0] < 100:
        return failure(name, f"it hardly ran: {runs}\n" + "\n".join(lines[-SLOW_LINES:]))
    print(f"{name}: {runs[0]} inputs in {seconds} s")
    return Counts(passed=1)


def fuzz(names):
    directory, trouble = build("fuzz")
    if trouble:
        return failure("building the fuzz targets", trouble)
    programs = [directory / "tests" / "fuzz" / name for name in fuzz_targets()
                if not names or name in names]
    counts = Counts()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for count in pool.map(lambda program: fuzz_one(program, FUZZ_SECONDS), programs):
            counts.add(count)
    return counts


# --- other systems --------------------------------------------------------------------------------

def elsewhere(name, command):
    """A script of tests/roots that runs tests somewhere else, and says last how many; one row."""
    if os.geteuid() != 0:
        print(f"skip {name}: only root may make a system of its own")
        return Counts(skipped=1)
    began = time.monotonic()
    log = BUILD / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as out:
        done = run(command, stdout=out, stderr=subprocess.STDOUT)
    said = log.read_text(errors="replace").splitlines() or ["it said nothing"]
    print(f"{name}: {said[-1]}, {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode == 0:
        return Counts(passed=1)
    failed = [line for line in said if line.startswith("FAIL ")]
    return failure(name, "\n".join([*failed, *said[-SLOW_LINES:], f"all of it: {log}"]))


def roots(_names):
    counts = Counts()
    for release in RELEASES:
        counts.add(elsewhere(release, [HERE / "roots" / "root.py", release]))
    return counts


def kernel(_names):
    return elsewhere("kernel", [HERE / "roots" / "kernel.py"])


# --- all of it ------------------------------------------------------------------------------------

PARTS = {"lint": lint, "unit": unit, "python": python, "sanitize": sanitize, "leaks": leaks,
         "fuzz": fuzz, "roots": roots, "kernel": kernel}
LONG = {"roots", "kernel"}
NOT_QUICK = {"sanitize", "leaks", "fuzz"}


def chosen(names, left_out=frozenset(LONG)):
    """[(part, {test: {case}})]: no test for all of the part's, no case for all of the test's."""
    c_files = {name: HERE / "unit" / f"{name}.c" for name in c_tests()}
    tests = {"unit": c_files, "python": python_files(), "fuzz": dict.fromkeys(fuzz_targets())}
    known = set(PARTS).union(*tests.values())
    wanted = {part: {} for part in PARTS}
    whole = set()
    for name in names:
        test, _, case = re.sub(r"\.(py|c)$", "", pathlib.PurePath(name).name).partition(".")
        holders = [part for part in tests if test in tests[part] and
                   (not case or case_in(tests[part][test], case))]
        if test in PARTS and not case:
            whole.add(test)
        elif test not in known:
            sys.exit(f"there is no test '{test}'; there are: {', '.join(sorted(known))}")
        elif not holders:
            sys.exit(f"there is no case '{case}' in {test}")
        for part in holders:
            wanted[part].setdefault(test, set()).add(case)
    if not names:
        whole = set(PARTS) - left_out
    return [(part, {} if part in whole else
             {test: set() if "" in cases else cases for test, cases in wanted[part].items()})
            for part in PARTS if part in whole or wanted[part]]


def case_in(path, case):
    """Whether the file PATH names the case: each of class and method, or a function of C."""
    return path is not None and all(re.search(rf"\b{re.escape(word)}\b", path.read_text())
                                    for word in case.split("."))


def main():
    parser = argparse.ArgumentParser(prog="./dev test", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without sanitize, leaks and fuzz")
    parser.add_argument("--long", action="store_true", help="with what takes long")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part, a test, or TEST.CASE")
    options = parser.parse_args()
    if options.long:
        os.environ["CARREL_LONG"] = "1"
    plan = chosen(options.names, (set() if options.long else LONG) |
                  (NOT_QUICK if options.quick else set()))
    total = Counts()
    start = time.monotonic()
    _, trouble = build()
    if trouble:
        total.add(failure("build", trouble))
        plan = []
    for part, names in plan:
        began = time.monotonic()
        counts = PARTS[part](names)
        print(f"{part}: {counts}, {time.monotonic() - began:.0f} s", flush=True)
        total.add(counts)
    print(f"{time.monotonic() - start:.0f} s in all")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
