"""What the source of a skill says of itself. It is parsed and never executed.

A skill is a module with `def run(...)` or `async def run(...)` at its top level.
Its description is the first line of the module's docstring, else of run's. The
types of parameters are read from simple annotations.
"""

import ast
import json

RESERVED = frozenset(("list", "search", "get", "invoke", "create", "delete"))
# Names that a skill finds in its namespace, so nobody passes them.
INJECTED = frozenset(("tools", "skills", "workflows", "artifacts", "deps"))

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean",
          "list": "array", "dict": "object", "List": "array", "Dict": "object"}
_WRAPPERS = ("Optional", "Annotated")
_DEFAULT_CHARS_MAX = 1000
_TOO_DEEP = "Syntax error in skill code: it is nested too deeply"


def check_name(name):
    """Raises ValueError for what cannot be a skill's name."""
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise ValueError(f"Invalid skill name: {name!r} (must be valid Python identifier)")
    if name in RESERVED:
        raise ValueError(f"Reserved skill name: {name!r}")


def describe(source):
    """Returns {"description", "parameters"}. Raises SyntaxError or ValueError."""
    try:
        tree = ast.parse(source)
    except SyntaxError as exc:
        raise SyntaxError(f"Syntax error in skill code: {exc}") from None
    except (RecursionError, MemoryError):
        raise SyntaxError(_TOO_DEEP) from None
    run = _find_run(tree)
    if run is None:
        raise ValueError("Skill must define a run() function")
    return {"description": _first_line(tree) or _first_line(run),
            "parameters": list(_parameters(run.args))}


def _find_run(tree):
    """The last one counts, as when the module is executed."""
    found = None
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "run":
            found = node
    return found


def _first_line(node):
    # As inspect.cleandoc has its first line; the rest of it is not needed.
    text = (ast.get_docstring(node, clean=False) or "").expandtabs().strip()
    return _clean(text.split("\n")[0].strip())


def _clean(text):
    """Text that JSON can carry: a lone surrogate is shown as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _parameters(arguments):
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = list(zip(positional, defaults)) + list(zip(arguments.kwonlyargs, arguments.kw_defaults))
    for argument, default in pairs:
        if argument.arg not in INJECTED:
            yield {"name": argument.arg, "type": _type(argument.annotation), "description": "",
                   "required": default is None,
                   "default": None if default is None else _default(default)}


def _type(annotation):
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return "string"
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        # `X | None`, either way round
        sides = [side for side in (annotation.left, annotation.right)
                 if not (isinstance(side, ast.Constant) and side.value is None)]
        return _type(sides[0]) if len(sides) == 1 else "string"
    if isinstance(annotation, ast.Subscript):
        if _name(annotation.value) in _WRAPPERS:
            inner = annotation.slice
            return _type(inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner)
        return _type(annotation.value)
    return _TYPES.get(_name(annotation), "string")


def _name(node):
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _default(node):
    """The value of a literal that JSON has; else what the source says, as text."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool)):
        return node.value
    try:
        value = ast.literal_eval(node)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        if len(text) <= _DEFAULT_CHARS_MAX:
            return json.loads(text)
    except (ValueError, TypeError, RecursionError, MemoryError):
        pass
    try:
        return _clean(ast.unparse(node)[:_DEFAULT_CHARS_MAX])
    except (ValueError, RecursionError, MemoryError):
        return "..."


def describe_all(text):
    """Describes a list of {"name", "source"}, both as JSON text.

    Each result is {"name", "description", "parameters"}, or {"name", "error", "message"} with
    error "SyntaxError" or "ValueError".
    """
    results = []
    for skill in json.loads(text):
        name = skill["name"]
        try:
            check_name(name)
            results.append({"name": name, **describe(skill["source"])})
        except (SyntaxError, ValueError) as exc:
            kind = "SyntaxError" if isinstance(exc, SyntaxError) else "ValueError"
            results.append({"name": name, "error": kind, "message": _clean(str(exc))})
        except (RecursionError, MemoryError):
            # Of this one alone: its neighbours are described all the same.
            results.append({"name": name, "error": "SyntaxError", "message": _TOO_DEEP})
    return json.dumps(results)
