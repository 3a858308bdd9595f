"""Brings the prelude into an interpreter from sources held in memory.

The keeper carries these files inside its binary, so they are imported from a
table and never from a disk. Two invariants:

- A module of the prelude is executed once. It stays reachable by name even
  after user code emptied sys.modules, because the finder hands out the module
  it already made instead of executing the source again.
- Every module looks its builtins up in a private copy of them. `builtins.print
  = None` in a cell therefore breaks the user's cells and not this package.
"""

import builtins
import importlib.machinery
import sys

PACKAGE = "_carrel"


class Finder:
    """A meta-path finder and loader for the modules of the prelude."""

    def __init__(self, sources):
        self.sources = dict(sources)
        self.made = {}
        self.private_builtins = dict(vars(builtins))

    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        return importlib.machinery.ModuleSpec(
            name, self, origin=f"<{name}>", is_package=(name == PACKAGE))

    def create_module(self, spec):
        return self.made.get(spec.name)

    def exec_module(self, module):
        name = module.__spec__.name
        if name in self.made:
            return
        self.made[name] = module
        module.__dict__["__builtins__"] = self.private_builtins
        try:
            code = self.sources[name]
            if isinstance(code, str):
                code = compile(code, f"<{name} importlib._bootstrap>", "exec", dont_inherit=True)
            exec(code, module.__dict__)
        except BaseException:
            del self.made[name]
            raise


def install(sources):
    """Makes `import _carrel` work.

    sources: pairs (module name, source text or code object), in any order.
    Code objects should carry a file name that begins with "<MODULE NAME": that is how
    the frames of the prelude are told from the user's.
    """
    sys.meta_path.insert(0, Finder(sources))
