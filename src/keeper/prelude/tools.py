"""tools: commands, services and MCP servers that the server runs for the session.

    tools.NAME(**arguments)   tools.NAME.RECIPE(**arguments)   tools.list()   tools.search(text)

What tools there are is asked when a name is not known yet, so a name that the
session has seen once costs no call of its own.
"""

import os
from dataclasses import dataclass

from _carrel.answers import Finished, NotAwaited, value_of
from _carrel.calls import ask, is_blocking, wait_for, Call


@dataclass(frozen=True)
class ToolParameter:
    """A parameter of one way to use a tool."""

    name: str
    type: str
    required: bool
    default: object = None
    description: str = ""

    def signature_fragment(self):
        if self.required:
            return f"{self.name}: {self.type}"
        if self.default is None:
            return f"{self.name}: {self.type} | None = None"
        default = self.default
        if self.type in ("str", "string") and isinstance(default, str):
            default = default if default[:1] == default[-1:] == '"' else f'"{default}"'
        return f"{self.name}: {self.type} = {default}"


@dataclass(frozen=True)
class Callable:
    """One way to use a tool."""

    name: str
    description: str
    parameters: tuple

    def signature(self):
        """Returns "name(a: str, b: int = 1)", required parameters first."""
        ordered = sorted(self.parameters, key=lambda parameter: not parameter.required)
        return f"{self.name}({', '.join(p.signature_fragment() for p in ordered)})"

    def __repr__(self):
        return f"{self.signature()}: {self.description}"


@dataclass(frozen=True)
class Tool:
    """A tool and the ways to use it."""

    name: str
    description: str
    callables: tuple
    tags: tuple = ()

    def signatures(self):
        return [each.signature() for each in self.callables]

    def __getitem__(self, key):
        """The shape that older clients know: name, description and params."""
        if key == "params":
            return {name: text for each in self.callables
                    for name, text in _described(each).items()}
        if key in ("name", "description", "tags", "callables"):
            return getattr(self, key)
        raise KeyError(key)

    def __repr__(self):
        return "\n".join([f"{self.name}: {self.description}",
                          *(f"  {each!r}" for each in self.callables)])


def _described(each):
    return {parameter.name: parameter.description or parameter.type
            for parameter in each.parameters}


def _tool(record):
    return Tool(record["name"], record.get("description") or "",
                tuple(map(_callable, record.get("callables") or ())),
                tuple(record.get("tags") or ()))


def _callable(record):
    return Callable(record["name"], record.get("description") or "",
                    tuple(map(_parameter, record.get("parameters") or ())))


def _parameter(record):
    return ToolParameter(record["name"], record.get("type") or "str",
                         bool(record.get("required")), record.get("default"),
                         record.get("description") or "")


def _tools(records):
    return [_tool(record) for record in records]


# What the session has seen. A tool that is gone since then fails when it is called.
_known = {}


def _listed(records):
    found = _tools(records)
    _known.clear()
    _known.update((tool.name, tool) for tool in found)
    return found


def _refresh():
    wait_for(Call("tools.list", {}, _listed))


def _find(name):
    tool = _known.get(name)
    if tool is None:
        _refresh()
        tool = _known.get(name)
    if tool is None:
        raise AttributeError(f"Unknown tool: {name}. Available: {', '.join(sorted(_known))}")
    return tool


def _find_callable(tool, name):
    for attempt in range(2):
        for each in tool.callables:
            if each.name == name:
                return each
        if attempt == 0:
            _refresh()
            tool = _known.get(tool.name, tool)
    raise AttributeError(f"Unknown callable: {tool.name}.{name}. "
                         f"Available: {', '.join(each.name for each in tool.callables)}")


def _plain(value):
    """A path is given as its text, and what was not awaited as its value."""
    value = value_of(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _result(result):
    return result["text"] if "text" in result else result.get("json")


def _run(tool, name, arguments, blocking):
    request = {"tool": tool, "arguments": _plain(arguments)}
    if name is not None:
        request["callable"] = name
    return ask("tools.call", request, _result, blocking=blocking)


def _said(value, blocking):
    """What is known already, in the form of an answer."""
    return value if is_blocking(blocking) else NotAwaited(Finished(value))


class _Runnable:
    """What can be called: a tool, or one way to use it. Arguments by keyword only."""

    __slots__ = ("_tool_name", "_name", "_blocking")

    def __init__(self, tool_name, name, blocking):
        self._tool_name = tool_name
        self._name = name
        self._blocking = blocking

    def __call__(self, /, **arguments):
        return _run(self._tool_name, self._name, arguments, self._blocking)

    def call_sync(self, /, **arguments):
        """Blocks and returns the result, wherever it is called."""
        return _run(self._tool_name, self._name, arguments, True)

    async def call_async(self, /, **arguments):
        return await _run(self._tool_name, self._name, arguments, False)


class _CallableProxy(_Runnable):
    """tools.NAME.RECIPE"""

    __slots__ = ()

    def _known(self):
        return _find_callable(_find(self._tool_name), self._name)

    def signature(self):
        return self._known().signature()

    def describe(self):
        """Returns {parameter: description}; awaited where an event loop runs."""
        return _said(_described(self._known()), self._blocking)

    def __repr__(self):
        return repr(self._known())


class _ToolProxy(_Runnable):
    """tools.NAME"""

    __slots__ = ()

    def list(self):
        """Returns the ways to use it."""
        return _said([*_find(self._tool_name).callables], self._blocking)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        _find_callable(_find(self._tool_name), name)
        return _CallableProxy(self._tool_name, name, self._blocking)

    def __dir__(self):
        return ["call_async", "call_sync", "list",
                *(each.name for each in _find(self._tool_name).callables)]

    def __repr__(self):
        return repr(_find(self._tool_name))


class Tools:
    """The tools that the server offers: tools.NAME(...), list, search."""

    __slots__ = ("_blocking",)

    def __init__(self, blocking):
        self._blocking = blocking

    def list(self):
        """Returns every Tool."""
        return ask("tools.list", {}, _listed, blocking=self._blocking)

    def search(self, query, limit=5):
        """Returns the tools that fit best."""
        return ask("tools.search", {"query": query, "limit": limit}, _tools,
                   blocking=self._blocking)

    def call(self, name, arguments=None):
        """Calls a tool by its name, with a dict of arguments."""
        return _run(name, None, dict(arguments or {}), self._blocking)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        _find(name)
        return _ToolProxy(name, None, self._blocking)

    def __dir__(self):
        if not _known:
            _refresh()
        return ["call", "list", "search", *_known]

    def __repr__(self):
        return "<tools: list(), search(query), or NAME(**arguments)>"
