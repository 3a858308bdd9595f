"""Work done right after user code first imports one of a few libraries.

A library that was preloaded has had its work done before the fork. For one that
was not, a finder in front of the others waits for its name, lets the real
finders find it, and runs our part when its module has been executed.
"""

import importlib.util
import sys


def _after_matplotlib():
    from _carrel import figures
    figures.use_backend()


def _after_ipython():
    from _carrel import shell_magics
    shell_magics.build()


_WORK = {"matplotlib": _after_matplotlib, "IPython": _after_ipython}


class _Loader:
    """The library's own loader, with our work after it."""

    def __init__(self, inner, work):
        self.inner = inner
        self.work = work

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        # From here on the library meets its real loader, as if we had not been there.
        module.__spec__.loader = module.__loader__ = self.inner
        self.inner.exec_module(module)
        try:
            self.work()
        except Exception:
            # The library itself is fine, and that is what the user asked for.
            pass


class _Finder:
    def find_spec(self, name, path=None, target=None):
        work = _WORK.get(name)
        if work is None:
            return None
        del _WORK[name]
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            _WORK[name] = work
            return None
        spec.loader = _Loader(spec.loader, work)
        return spec


def install():
    """Starts waiting. Call it once an interpreter."""
    sys.meta_path.insert(0, _Finder())


def done(name):
    """Says that a library's work has been done already."""
    _WORK.pop(name, None)
