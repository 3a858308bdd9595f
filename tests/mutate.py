#!/usr/bin/python3
"""Puts small faults into the source, one at a time, and reports which no test notices.
`./dev test --mutate [WORD...]` is the way to call it.

The faults stand in tests/mutations/ROOM.toml:

    [[fault]]
    name = "the bytes of a body are never counted back"
    file = "src/http/exchange.c"
    old = "x->http->bodies_bytes -= x->kept_bytes;"     # stands exactly once in the file
    new = ""
    tests = ["http_layer_test", "router_test.ranges"]    # NAME, or NAME.WORD of a test's name

The tree is copied, so that the one people work in is never touched; the copy is built once, and
after each fault only what it changed. The tests of a fault run in their order until one fails,
which is noticing the fault; a test that does not end counts as failing. All tests are first run
without any fault: one that fails there can notice nothing.

A WORD selects the faults of a room, or those with it in their name. The exit status is 0 when at
least LEAST_PERCENT of the faults are noticed, and each of them could be put in and built.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import queue
import re
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", ROOT / "build"))
PYTHON = "/usr/bin/python3"
LEAST_PERCENT = 90
TEST_SECONDS = 300
SERVER = ("carrel", "carrel-keeper", "carrel-runner")


class Fault:
    def __init__(self, room, row):
        unknown = set(row) - {"name", "file", "old", "new", "tests"}
        if unknown or not row.get("tests"):
            sys.exit(f"{room}.toml: {row.get('name')}: keys are name, file, old, new, tests")
        self.room = room
        self.name = row["name"]
        self.file = row["file"]
        self.old = row["old"]
        self.new = row["new"]
        self.tests = row["tests"]

    def __str__(self):
        return f"{self.room}: {self.name}"


def read_faults(words):
    faults = [Fault(path.stem, row) for path in sorted((HERE / "mutations").glob("*.toml"))
              for row in tomllib.loads(path.read_text())["fault"]]
    doubled = [name for name, count in
               collections.Counter(str(fault) for fault in faults).items() if count > 1]
    if doubled:
        sys.exit(f"two faults have the name '{doubled[0]}'")
    return [fault for fault in faults
            if not words or any(word == fault.room or word in fault.name for word in words)]


def run(command, seconds=None, **options):
    """(exit status, output); a command that does not end in time has the status 124."""
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True, **options)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        return 124, output


class Copy:
    """A copy of the tree with a build of its own."""

    def __init__(self, directory):
        self.tree = directory / "tree"
        self.build = directory / "build"
        self._refresh()
        if not (self.build / "build.ninja").exists():
            self._must("meson", "setup", "-Doptimization=1", "-Dwerror=false", self.build,
                       self.tree)
        else:
            self._must("meson", "setup", "--reconfigure", self.build, self.tree)
        self.targets = {pathlib.PurePath(line.split(":")[0]).name: line.split(":")[0]
                        for line in self._must("ninja", "-C", self.build, "-t", "targets",
                                               "all").splitlines()
                        if re.fullmatch(r"tests/\w+: \w+_LINKER", line)}
        helpers = "".join(path.read_text() for path in (self.tree / "tests/lib").glob("*.py"))
        self.helpers = {name for name in self.targets if name in helpers}

    def _must(self, *command):
        status, output = run(command, env={**os.environ, "CC": "gcc"})
        if status != 0:
            sys.exit(f"{' '.join(str(word) for word in command)}: {output[-4000:]}")
        return output

    def _refresh(self):
        """Copies what differs, so that what is the same keeps its time and is not built again."""
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard"], cwd=ROOT, check=True,
                                stdout=subprocess.PIPE, text=True).stdout
        wanted = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
        for name in wanted:
            target = self.tree / name
            text = (ROOT / name).read_bytes()
            if not target.exists() or target.read_bytes() != text:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(text)
            target.chmod((ROOT / name).stat().st_mode)
        for path in list(self.tree.rglob("*")):
            if path.is_file() and str(path.relative_to(self.tree)) not in wanted:
                path.unlink()

    def files_of(self, test):
        """(C program's name or None, Python file or None, word) of one of a fault's tests."""
        name, _, word = test.partition(".")
        python = [path for folder in ("unit", "e2e", "sandbox")
                  for path in (self.tree / "tests" / folder).glob(f"{name}.py")]
        program = name if name in self.targets else None
        if program is None and not python:
            sys.exit(f"there is no test '{name}'")
        if word and python:
            program = None
        return program, python[0] if python else None, word

    def make(self, tests):
        """Builds what TESTS need. (exit status, output)"""
        targets = set()
        for test in tests:
            program, python, _ = self.files_of(test)
            if program:
                targets.add(self.targets[program])
                text = (self.tree / "tests/unit" / f"{program}.c").read_text()
                targets.update(name for name in SERVER if name in text)
            if python:
                text = python.read_text()
                targets.update(SERVER)
                targets.update(self.targets[name] for name in self.targets
                               if name in self.helpers or name in text or
                               name == "http_server_test" and python.stem == "http_layer_test")
        return run(["ninja", "--quiet", "-C", self.build, *sorted(targets)], TEST_SECONDS)

    def fails(self, test):
        """What TEST said when it failed, else None."""
        program, python, word = self.files_of(test)
        environment = {**os.environ, "CARREL_BUILD": str(self.build),
                       "HTTP_SERVER_TEST": str(self.build / "tests" / "http_server_test")}
        commands = []
        if program:
            commands.append([self.build / self.targets[program]])
        if python:
            commands.append([PYTHON, self.tree / "tests/run_python.py", "--seconds", TEST_SECONDS,
                             *(["-k", word] if word else []), python])
        for command in commands:
            status, output = run(command, TEST_SECONDS + 30, cwd=self.build, env=environment)
            if status != 0:
                return output
            if not word or re.search(r"^[1-9]\d* passed", output, re.MULTILINE):
                continue
            return f"no test of {python.name} has '{word}' in its name\n"
        return None

    def judge(self, fault):
        """("noticed", by which test) or ("survived" or "stale", why)."""
        path = self.tree / fault.file
        text = path.read_text() if path.exists() else ""
        if text.count(fault.old) != 1:
            return "stale", f"its old text stands {text.count(fault.old)} times in {fault.file}"
        try:
            path.write_text(text.replace(fault.old, fault.new))
            status, output = self.make(fault.tests)
            if status != 0:
                return "stale", f"it does not build:\n{output[-2000:]}"
            for test in fault.tests:
                if self.fails(test) is not None:
                    return "noticed", test
            return "survived", ", ".join(fault.tests)
        finally:
            path.write_text(text)


def check_without_fault(copy, faults):
    """The tests that fail without any fault, with what they said."""
    tests = sorted({test for fault in faults for test in fault.tests})
    status, output = copy.make(tests)
    if status != 0:
        sys.exit(output[-4000:])
    return {test: said for test in tests if (said := copy.fails(test)) is not None}


def judge_all(copies, faults):
    """Yields (fault, verdict, text, seconds) as they come."""
    free = queue.Queue()
    for copy in copies:
        free.put(copy)

    def judge(fault):
        copy = free.get()
        start = time.monotonic()
        try:
            return fault, *copy.judge(fault), time.monotonic() - start
        finally:
            free.put(copy)

    with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
        yield from (done.result() for done in concurrent.futures.as_completed(
            [pool.submit(judge, fault) for fault in faults]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree, at once")
    parser.add_argument("words", nargs="*", metavar="WORD")
    options = parser.parse_args()
    faults = read_faults(options.words)
    if not faults:
        sys.exit("there is no such fault")
    copies = [Copy(BUILD / "mutate" / str(number))
              for number in range(min(options.jobs, len(faults)))]
    broken = check_without_fault(copies[0], faults)
    for test, said in broken.items():
        print(f"FAIL {test}, without a fault\n    " + said[-4000:].replace("\n", "\n    "))
    counts = collections.Counter()
    for fault, verdict, text, seconds in judge_all(copies, faults):
        if verdict == "noticed" and text in broken:
            verdict, text = "stale", f"{text} fails without it too"
        counts[verdict] += 1
        print(f"{verdict:8} {seconds:5.0f} s  {fault} ({text})", flush=True)
    percent = 100 * counts["noticed"] // len(faults)
    print(f"{counts['noticed']} of {len(faults)} faults noticed, {percent} %; "
          f"at least {LEAST_PERCENT} % are to be")
    failed = counts["stale"] + (counts["survived"] if percent < LEAST_PERCENT else 0)
    print(f"{counts['noticed']} passed, {failed} failed, "
          f"{len(faults) - counts['noticed'] - failed} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
