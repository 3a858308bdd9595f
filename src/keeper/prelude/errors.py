"""The exceptions of tools, skills, artifacts and deps.

Their names and messages are those of py-code-mode. User code can name them like
built-in ones (`except ToolCallError:`); the messages come from the server.
"""

import builtins


class CodeModeError(Exception):
    """What went wrong with a tool, a skill, an artifact or a package."""


class ToolNotFoundError(CodeModeError):
    """There is no tool of that name."""


class ToolCallError(CodeModeError):
    """A tool failed."""


class ToolTimeoutError(CodeModeError):
    """A tool took longer than it may."""


class ApprovalDenied(ToolCallError):
    """A tool was not run: a person did not allow it, or could not be asked."""


class ArtifactNotFoundError(CodeModeError):
    """There is no artifact of that name."""


class RuntimeDepsDisabledError(CodeModeError):
    """Packages may not be added or removed here."""


class StorageError(CodeModeError):
    """The store cannot be reached."""


class TooManyCalls(CodeModeError):
    """More calls at once than a session may have."""


_OWN = (CodeModeError, ToolNotFoundError, ToolCallError, ToolTimeoutError, ApprovalDenied,
        ArtifactNotFoundError, RuntimeDepsDisabledError, StorageError, TooManyCalls)
_BY_NAME = {cls.__name__: cls for cls in _OWN + (
    ValueError, TypeError, SyntaxError, MemoryError, RuntimeError, KeyboardInterrupt)}


def install():
    """Makes the names known to user code."""
    for cls in _OWN:
        cls.__module__ = "builtins"
        setattr(builtins, cls.__name__, cls)


def make(failure):
    """Returns the exception for a failure's {"error": NAME, "message": TEXT}."""
    name, message = str(failure.get("error")), str(failure.get("message", ""))
    cls = _BY_NAME.get(name)
    return RuntimeError(f"{name}: {message}") if cls is None else cls(message)


install()
