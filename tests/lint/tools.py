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

# gcc's own options, which stand in the compile commands, are not clang's.
TIDY = ["clang-tidy-14", f"--config-file={tree.ROOT}/.clang-tidy", "--quiet", "-p", str(BUILD),
        "--extra-arg=-Wno-everything", "--extra-arg=-Xclang", "--extra-arg="
        "-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang"]
FINDING = re.compile(r"^(\S+?):(\d+):\d+: (?:warning|error): (.*) \[([\w.,-]+)\]$", re.MULTILINE)

# (file, check): why what clang-tidy says there is left standing. One that no longer says anything
# is itself a problem.
TIDY_ALLOWED = {
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


def clang_format():
    done = run(["clang-format-14", "--dry-run", "-Werror", *tree.c_files("src", "tests")])
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
def headers_digest():
    digest = hashlib.sha256()
    for path in [tree.ROOT / ".clang-tidy", *tree.files(".h", ".def")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tidy_one(entry):
    """What clang-tidy says of one file; kept until the file, a header or the options change."""
    path = pathlib.Path(entry["directory"], entry["file"]).resolve()
    key = hashlib.sha256("\0".join([headers_digest(), entry["command"], *TIDY,
                                    path.read_text()]).encode()).hexdigest()
    kept = BUILD / "tidy" / key
    if kept.exists():
        return kept.read_text()
    done = run([*TIDY, path])
    if done.returncode == 0:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(done.stdout)
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
    database = json.loads((BUILD / "compile_commands.json").read_text())
    ours = {str(pathlib.Path(e["directory"], e["file"]).resolve()): e for e in database}
    entries = [e for path, e in ours.items() if path.startswith(f"{tree.ROOT}/") and
               not path.startswith(f"{BUILD}/")]
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
