"""`is`, `type()` and `match` in code that runs in an event loop.

These look at an object itself, so they would see what a call returned and not the value it stands for
(see answers). In the source of cells and skills, and there only in `async def` and in what a cell
runs in the loop, their operand is asked for its value first.
"""

import ast
import builtins
import re

from _carrel.answers import value_of

_NAME = "__carrel_value__"
_WORDS = re.compile(r"\bis\b|\btype\b|\bmatch\b")
_WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)

setattr(builtins, _NAME, value_of)


def concerns(source):
    """Says whether a source may have to be changed: most need not even be parsed for it."""
    return ("async" in source or "await" in source) and _WORDS.search(source) is not None


def change(tree):
    """Changes a tree in place."""
    _Change(any(map(_waits, tree.body)) if type(tree.body) is list else False).visit(tree)
    return tree


def _waits(node):
    """Says whether a statement awaits by itself, and not in a function of its own."""
    if isinstance(node, _WAITS) or (isinstance(node, ast.comprehension) and node.is_async):
        return True
    return not isinstance(node, _SCOPES) and any(map(_waits, ast.iter_child_nodes(node)))


class _Change(ast.NodeTransformer):
    def __init__(self, in_loop):
        self.in_loop = in_loop

    def visit_AsyncFunctionDef(self, node):
        outside, self.in_loop = self.in_loop, True
        self.generic_visit(node)
        self.in_loop = outside
        return node

    def visit_Compare(self, node):
        self.generic_visit(node)
        if self.in_loop and any(isinstance(each, (ast.Is, ast.IsNot)) for each in node.ops):
            node.left = _value(node.left)
            node.comparators = [_value(each) for each in node.comparators]
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if (self.in_loop and isinstance(node.func, ast.Name) and node.func.id == "type"
                and len(node.args) == 1 and not node.keywords):
            node.args = [_value(node.args[0])]
        return node

    def visit_Match(self, node):
        self.generic_visit(node)
        if self.in_loop:
            node.subject = _value(node.subject)
        return node


def _value(node):
    if isinstance(node, (ast.Constant, ast.Starred)):
        return node
    function = ast.copy_location(ast.Name(_NAME, ast.Load()), node)
    return ast.copy_location(ast.Call(function, [node], []), node)
