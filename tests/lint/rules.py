"""The house rules that no common tool knows. Each check returns a list of problems."""

import concurrent.futures
import os
import py_compile
import re
import subprocess
import tempfile

import tree

# Which rooms a room may include. http is the one that knows another by a single header.
ROOMS = {
    "base": {"base"},
    "ipc": {"base", "ipc"},
    "sandbox": {"base", "sandbox"},
    "keeper": {"base", "ipc", "sandbox", "keeper"},
    "engine": {"base", "ipc", "engine"},
    "store": {"base", "ipc", "engine", "store"},
    "tools": {"base", "ipc", "sandbox", "engine", "tools"},
    "gateway": {"base", "ipc", "engine", "gateway"},
    "approvals": {"base", "ipc", "engine", "store", "tools", "approvals"},
    "codemode": {"base", "ipc", "engine", "store", "tools", "approvals", "codemode"},
    "api": {"base", "ipc", "engine", "store", "tools", "approvals", "codemode", "api"},
    "http": {"base", "http"},
    "cli": {"base", "ipc", "sandbox", "engine", "store", "tools", "approvals", "codemode",
            "gateway", "api", "http", "cli"},
}
ALSO = {("http", "api/call.h")}
# Headers that only their own room includes.
PRIVATE = re.compile(r"^(\w+)/(internal|walls)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)

# Each with what takes its place.
BANNED = {
    "sprintf": "snprintf or buf_addf", "vsprintf": "vsnprintf", "strcpy": "buf_add_str or memcpy",
    "strcat": "buf_add_str", "strncpy": "memccpy", "strncat": "buf_add", "stpcpy": "buf_add_str",
    "strtok": "strchr or strsep", "atoi": "text_to_*", "atol": "text_to_*", "atoll": "text_to_*",
    "atof": "strtod with a check", "gets": "getline", "alloca": "buf", "system": "posix_spawn",
    "popen": "posix_spawn", "signal": "sigaction", "gmtime": "gmtime_r", "localtime": "localtime_r",
    "asctime": "strftime", "ctime": "strftime", "strerror": "strerrordesc_np or err_set_os",
    "rand": "getrandom", "srand": "getrandom", "tmpnam": "mkostemp", "mktemp": "mkostemp",
    "tempnam": "mkostemp", "setjmp": "nothing", "longjmp": "nothing", "usleep": "the loop's timers",
    "getenv_s": "getenv", "bzero": "memset or explicit_bzero",
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
RAW_STRTOL = re.compile(r"\bstrto(?:l|ul|ll|ull|imax|umax)\s*\(")

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 100
FILE_LINES_MAX = 900

# Written in pieces, so that this file passes its own check.
WORDS = {
    "/wor" + "k/": "a path of one machine",
    "registry.npm" + "js.org": "a registry's host", "pypi" + ".org": "a registry's host",
    "pythonhosted" + ".org": "a registry's host", "proxy.golang" + ".org": "a registry's host",
    "deb.debian" + ".org": "a registry's host", "crates" + ".io": "a registry's host",
}

COMMENT_OR_STRING = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def blank(text, strings=True):
    """C text with comments (and strings) as spaces, so that lines and columns stay."""
    def spaces(match):
        found = match.group(0)
        if found[0] in "\"'" and not strings:
            return found
        return re.sub(r"[^\n]", " ", found)
    return COMMENT_OR_STRING.sub(spaces, text)


def at(path, text, position, problem):
    line = text.count("\n", 0, position) + 1
    return f"{tree.name(path)}:{line}: {problem}"


def room_of(path):
    parts = path.relative_to(tree.ROOT).parts
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def layering():
    problems = []
    for path in tree.c_files("src"):
        room = room_of(path)
        text = path.read_text()
        if room not in ROOMS:
            problems.append(f"{tree.name(path)}: no room of that name in tests/lint/rules.py")
            continue
        for match in INCLUDE.finditer(blank(text, strings=False)):
            header = match.group(1)
            other = header.split("/")[0]
            if "/" not in header:
                problems.append(at(path, text, match.start(), f'"{header}" without its room'))
            elif other not in ROOMS[room] and (room, header) not in ALSO:
                problems.append(at(path, text, match.start(), f"{room} may not include {header}"))
            elif (private := PRIVATE.match(header)) and private.group(1) != room:
                problems.append(at(path, text, match.start(), f"{header} is its room's own"))
    return problems


def banned_functions():
    problems = []
    for path in tree.c_files("src", "tests"):
        code = blank(path.read_text())
        for match in CALL.finditer(code):
            word = match.group(1)
            problems.append(at(path, code, match.start(), f"{word}: use {BANNED[word]}"))
        for match in RAW_STRTOL.finditer(code):
            before = code[max(0, code.rfind("\n", 0, max(0, match.start() - 200))):match.start()]
            after = code[match.start():match.start() + 300]
            if "errno = 0" not in before or "errno" not in after:
                problems.append(at(path, code, match.start(),
                                   "a raw strtol whose errno is not looked at"))
    return problems


def comments():
    """Only block comments, no goto, and a header opens by saying what it is for."""
    problems = []
    for path in tree.c_files("src", "tests"):
        text = path.read_text()
        for match in COMMENT_OR_STRING.finditer(text):
            if match.group(0).startswith("//"):
                problems.append(at(path, text, match.start(), "a // comment"))
        for match in re.finditer(r"\bgoto\b", blank(text)):
            problems.append(at(path, text, match.start(), "goto: use the cleanup attribute"))
        if path.suffix == ".h" and not text.startswith("/*"):
            problems.append(f"{tree.name(path)}: does not open with what it is for")
    return problems


def sizes():
    """Functions that no longer fit a reader's head, and files of more than one subject."""
    problems = []
    for path in tree.c_files("src"):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_LINES_MAX:
            problems.append(f"{tree.name(path)}: {len(lines)} lines, more than {FILE_LINES_MAX}")
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                if number - start > FUNCTION_LINES_MAX:
                    problems.append(f"{tree.name(path)}:{start}: a function of "
                                    f"{number - start} lines, more than {FUNCTION_LINES_MAX}")
                start = None
    return problems


def compile_alone(path):
    command = ["gcc", "-std=gnu2x", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
               f"-I{tree.ROOT}/src", "-x", "c", str(path)]
    if (tree.ROOT / "tests/unit") in path.parents:
        command.insert(1, f"-I{path.parent}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def headers_alone():
    headers = [f for f in tree.c_files("src") if f.suffix == ".h"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(compile_alone, headers))
    return [f"{tree.name(h)} does not compile alone:\n{text}"
            for h, text in zip(headers, said) if text]


def all_is_built():
    """No C or Python source of a room that the build does not know."""
    listed = (tree.ROOT / "src/meson.build").read_text() + (tree.ROOT / "meson.build").read_text()
    sources = [f for f in tree.files(".c", ".py") if (tree.ROOT / "src") in f.parents]
    return [f"{tree.name(f)}: not in src/meson.build" for f in sources
            if f"'{f.relative_to(tree.ROOT / 'src')}'" not in listed]


def words():
    problems = []
    for path in tree.files():
        text = path.read_bytes().decode("utf-8", "ignore")
        for word, why in WORDS.items():
            position = text.find(word)
            if position >= 0:
                problems.append(at(path, text, position, f"'{word}': {why}"))
    return problems


def whitespace():
    """Text files: no blanks at a line's end, one newline at the end, lines that fit."""
    problems = []
    texts = tree.files(".c", ".h", ".def", ".py", ".build", ".sh", ".md", ".yaml", ".yml", ".js",
                       ".mjs", ".txt") + tree.scripts()
    for path in texts:
        text = path.read_bytes().decode("utf-8")
        if "\r" in text:
            problems.append(f"{tree.name(path)}: a carriage return")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            problems.append(f"{tree.name(path)}: does not end with one newline")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                problems.append(f"{tree.name(path)}:{number}: blanks at the end of the line")
            if path.suffix in (".c", ".h") and len(line.expandtabs(8)) > COLUMNS_MAX:
                problems.append(f"{tree.name(path)}:{number}: more than {COLUMNS_MAX} columns")
    return problems


def python_compiles():
    problems = []
    with tempfile.NamedTemporaryFile() as out:
        for path in tree.files(".py"):
            try:
                py_compile.compile(str(path), cfile=out.name, doraise=True)
            except py_compile.PyCompileError as error:
                problems.append(f"{tree.name(path)}: {error}")
    return problems


CHECKS = [layering, banned_functions, comments, sizes, headers_alone, all_is_built, words,
          whitespace, python_compiles]
