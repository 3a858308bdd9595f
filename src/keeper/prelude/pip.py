"""pip in a session: `%pip install` and `!pip install` of packages by name are deps.add.

A session has no network, so pip itself can install from files only; for that, and for all its other
commands, pip itself is run. What fails raises: code that goes on without its packages only fails later.
"""

import os
import re
import shlex

from _carrel import names
from _carrel.errors import CodeModeError, RuntimeDepsDisabledError

_NAME = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*((?:===|~=|==|!=|<=|>=|<|>).*)?")
_FILES = (".whl", ".tar.gz", ".zip")
_PIP = re.compile(r"pip3?(\.\d+)?")
_PYTHON = re.compile(r"python3?(\.\d+)?")

# What may be left out because there is nothing to choose; those of the second set take a value.
_FLAGS = {"-q", "-qq", "-qqq", "-v", "-y", "--quiet", "--verbose", "--user", "--break-system-packages",
          "--no-cache-dir", "--disable-pip-version-check", "--no-input", "--prefer-binary",
          "--no-warn-script-location", "--no-python-version-warning", "--no-color"}
_VALUES = {"--progress-bar", "--root-user-action", "--upgrade-strategy", "--timeout", "--retries",
           "--default-timeout"}
_UPGRADE = {"-U", "--upgrade", "--force-reinstall", "-I", "--ignore-installed"}


def is_install(command):
    """Says whether a command line begins with pip's installing."""
    return _arguments(command) is not None


def install(command):
    """Installs what a command line names. False when that is for pip itself; raises what fails."""
    arguments = _arguments(command)
    wanted = None if arguments is None else _wanted(arguments)
    if wanted is None:
        return False
    requirements, upgrade = wanted
    installed = []
    for requirement in requirements:
        installed += _install_one(requirement, upgrade)
    if installed:
        print("Successfully installed", *installed)
    return True


def failed(code):
    """Returns the exception for pip itself that ended with this exit code."""
    return CodeModeError(f"pip ended with exit code {code}")


def _arguments(command):
    """Returns what follows `pip install`, or None for any other command.

    Where the output goes does not matter, nor who filters it; a second command does.
    """
    if "pip" not in command:
        return None
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:
        return None
    for number, word in enumerate(words):
        if word == "|" or re.match(r"\d*>", word) or word == "&>":
            words = words[:number]
            break
        if set(word) <= set(";|&"):
            return None
    if len(words) > 2 and words[1:3] == ["-m", "pip"] and _PYTHON.fullmatch(os.path.basename(words[0])):
        words = words[2:]
    if not words or not _PIP.fullmatch(os.path.basename(words[0])):
        return None
    words = words[1:]
    while words and words[0] in _FLAGS:
        words = words[1:]
    return words[1:] if words[:1] == ["install"] else None


def _wanted(arguments):
    """Returns (requirements, upgrade), or None when there is something that only pip understands."""
    requirements, upgrade = [], False
    arguments = iter(arguments)
    for word in arguments:
        if word in ("-r", "--requirement"):
            requirements += _listed(next(arguments, ""))
        elif word in _UPGRADE:
            upgrade = True
        elif word in _VALUES:
            next(arguments, None)
        elif word in _FLAGS or word.partition("=")[0] in _VALUES:
            pass
        else:
            requirements.append(word)
    if not requirements or not all(map(_is_name, requirements)):
        return None
    return requirements, upgrade


def _listed(file):
    with open(file, encoding="utf-8") as lines:
        bare = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
        return [line for line in bare if line]


def _is_name(requirement):
    return _NAME.fullmatch(requirement) is not None and not requirement.endswith(_FILES)


def _install_one(requirement, upgrade):
    """Returns the names of what was installed. Raises CodeModeError."""
    there = _version_that_fits(requirement)
    if there is not None and not upgrade:
        print(f"Requirement already satisfied: {requirement} ({there})")
        return []
    try:
        result = names.public(blocking=True)["deps"].add(requirement)
    except RuntimeDepsDisabledError:
        if there is None:
            raise
        print(f"Requirement already satisfied: {requirement} ({there})")
        return []
    if result.failed:
        raise CodeModeError(f"{requirement} could not be installed")
    return sorted(result.installed)


def _version_that_fits(requirement):
    """Returns the version of what is installed already, when it is one that is asked for."""
    import importlib.metadata

    name, _, versions = _NAME.fullmatch(requirement).groups()
    try:
        there = importlib.metadata.version(name)
    except Exception:
        return None
    if not versions:
        return there
    try:
        from pip._vendor.packaging.specifiers import SpecifierSet
        return there if SpecifierSet(versions.partition(";")[0]).contains(there, prereleases=True) else None
    except Exception:
        return None
