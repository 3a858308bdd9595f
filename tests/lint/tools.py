"""The common tools: formatting and static analysis. Each check returns a list of problems."""

import collections
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess

import tree

BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", tree.ROOT / "build"))

# Another version formats otherwise, and finds other things.
CLANG = 14

TIDY = ["clang-tidy", f"--config-file={tree.ROOT}/.clang-tidy", "-p", str(BUILD)]
# The compile commands are gcc's: its warnings are not clang's, and clang 14 takes zeroing of
# variables for an experiment, which is an error.
TIDY_OPTIONS = ["--quiet", "--extra-arg=-Wno-everything",
                "--extra-arg=-ftrivial-auto-var-init=uninitialized"]
FINDING = re.compile(r"^(\S+?):(\d+):\d+: (?:warning|error): (.*) \[([\w.,-]+)\]$", re.MULTILINE)

# (file, check): why what clang-tidy says there is left standing. One that no longer says anything
# is itself a problem.
TIDY_ALLOWED = {
    ("src/api/call.h", "readability-inconsistent-declaration-parameter-name"):
        "call_reply_file keeps the FD it takes over under a name of its own",
    ("src/base/yaml.c", "misc-redundant-expression"): "each call reads the next event",
    ("src/keeper/python.c", "bugprone-too-small-loop-variable"): "tables of a few names",
    ("src/sandbox/cgroup.c", "cert-err34-c"): "names this program made",
    ("src/sandbox/cgroup_session.c", "cert-err34-c"): "numbers the kernel wrote",
    ("src/sandbox/limits.c", "cert-err34-c"): "numbers the kernel wrote",
    ("tests/unit/files_test.c", "bugprone-suspicious-missing-comma"): "two halves of one name",
    ("tests/unit/sandbox_test.c", "cert-err34-c"): "numbers the kernel wrote",
}


def run(command, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          errors="replace", **options)


def lines_unless_ok(done):
    return [] if done.returncode == 0 else done.stdout.splitlines() or [f"status {done.returncode}"]


def need_clang(tool):
    version = re.search(r"version (\d+)", run([tool, "--version"]).stdout)
    if version is None or int(version.group(1)) != CLANG:
        raise tree.NotHere(f"{tool} is not that of LLVM {CLANG}, as Debian 12 has it")


def clang_format():
    need_clang("clang-format")
    done = run(["clang-format", "--dry-run", "-Werror", *tree.c_files("src", "tests")])
    places = collections.Counter(line.split(":")[0].replace(f"{tree.ROOT}/", "")
                                 for line in done.stdout.splitlines() if ": error:" in line)
    return [f"{name}: {count} places; ./dev fmt mends it" for name, count in places.items()] or \
        lines_unless_ok(done)


def shellcheck():
    return lines_unless_ok(run(["shellcheck", *tree.scripts()]))


def pyflakes():
    files = tree.files(".py")
    skills = [path for path in files if path.parent.name == "skills"]
    others = [path for path in files if path not in skills]
    said = []
    # What a skill has without importing it.
    for some, names in ((others, ""), (skills, "tools,skills,workflows,artifacts,deps")):
        if some:
            said += lines_unless_ok(run(["/usr/bin/python3", "-m", "pyflakes", *some],
                                        env={**os.environ, "PYFLAKES_BUILTINS": names}))
    return [line.replace(f"{tree.ROOT}/", "") for line in said]


def mypy():
    """The Python package, for the oldest Python it is for."""
    done = run(["mypy", "--config-file", tree.ROOT / "python/pyproject.toml", "--cache-dir",
                BUILD / "mypy", tree.ROOT / "python/carrel"])
    return [line.replace(f"{tree.ROOT}/", "") for line in lines_unless_ok(done)]


@functools.cache
def text_of(path):
    return path.read_text(errors="replace")


@functools.cache
def dependencies():
    """{source file: the project's files it was compiled from}, as the compiler told ninja."""
    done = run(["/usr/bin/ninja", "-C", BUILD, "-t", "deps"])
    files = {}
    for block in done.stdout.split("\n\n"):
        paths = [os.path.normpath(BUILD / line.strip()) for line in block.splitlines()[1:]]
        ours = [pathlib.Path(path) for path in paths if path.startswith(f"{tree.ROOT}/")]
        if ours:
            files[ours[0]] = ours
    return files


def tidy_one(entry):
    """What clang-tidy says of one file; kept until a file it is made of or the options change."""
    path = pathlib.Path(entry["directory"], entry["file"]).resolve()
    made_of = dependencies().get(path) or [path, *tree.files(".h", ".def")]
    key = hashlib.sha256("\0".join([
        entry["command"], *TIDY_OPTIONS, text_of(tree.ROOT / ".clang-tidy"),
        *(text_of(part) for part in made_of)]).encode()).hexdigest()
    kept = BUILD / "tidy" / key
    if kept.exists():
        return kept.read_text().replace("ROOT/", f"{tree.ROOT}/")
    done = run([*TIDY, *TIDY_OPTIONS, path])
    if done.returncode == 0:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(done.stdout.replace(f"{tree.ROOT}/", "ROOT/"))
    return done.stdout


def findings(said):
    """{(file, check): line of text} of one run."""
    found = {}
    for path, line, text, check in FINDING.findall(said):
        # Relative to where the compiler runs.
        resolved = pathlib.Path(BUILD, path).resolve()
        if tree.ROOT in resolved.parents:
            name = tree.name(resolved)
            found.setdefault((name, check), []).append(f"{name}:{line}: {text} [{check}]")
    return found


def clang_tidy():
    need_clang("clang-tidy")
    database = json.loads((BUILD / "compile_commands.json").read_text())
    ours = {str(pathlib.Path(e["directory"], e["file"]).resolve()): e for e in database}
    entries = [e for path, e in ours.items() if path.startswith(f"{tree.ROOT}/") and
               not path.startswith(f"{BUILD}/")]
    dependencies()  # before the threads, which would each read them
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(tidy_one, entries))
    problems, met = [], set()
    for text in said:
        for where, lines in findings(text).items():
            if where in TIDY_ALLOWED:
                met.add(where)
            else:
                problems += lines
    problems += [f"{name}: no longer says {check}: take it out of TIDY_ALLOWED"
                 for name, check in sorted(TIDY_ALLOWED.keys() - met)]
    return sorted(set(problems))


CHECKS = [clang_format, clang_tidy, shellcheck, pyflakes, mypy]
