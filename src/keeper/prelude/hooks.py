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


# Complete enough for Chinese, Japanese and Korean, in the order of preference.
_WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
               "Droid Sans Fallback")


def _after_fonts():
    """Lets figures take what the default font lacks from one that has it, where one is installed."""
    matplotlib = sys.modules["matplotlib"]
    there = {font.name for font in sys.modules["matplotlib.font_manager"].fontManager.ttflist}
    for name in _WIDE_FONTS:
        if name in there:
            for parameters in (matplotlib.rcParams, matplotlib.rcParamsDefault):
                parameters["font.family"] = [*parameters["font.family"], name]
            return


def _after_ipython():
    from _carrel import shell_magics
    shell_magics.build()


def _after_pandas():
    # As in a Jupyter kernel. pandas thinks of a terminal and fits tables into 80 columns.
    sys.modules["pandas"].set_option("display.max_columns", 20)


def _after_image_show():
    from _carrel import bundle
    image_show = sys.modules["PIL.ImageShow"]

    class Display(image_show.Viewer):
        """Image.show(), before any program that would open a window."""

        def show(self, image, **options):
            bundle.display(image)
            return 1

    image_show.register(Display, 0)


def _after_numba_caching():
    # numba keeps compiled functions of files, and of IPython's cells by their file name.
    from _carrel import sources
    locator = sys.modules["numba.core.caching"]._IPythonCacheLocator
    inner = locator.from_function.__func__

    def from_function(cls, function, file):
        return inner(cls, function, f"<ipython-{file}" if file.startswith(sources.PREFIX) else file)

    locator.from_function = classmethod(from_function)


def _after_psutil():
    from _carrel import proc_files
    proc_files.after_psutil(sys.modules["psutil._common"])


_WORK = {
    "IPython": _after_ipython,
    "PIL.ImageShow": _after_image_show,
    "matplotlib": _after_matplotlib,
    "matplotlib.font_manager": _after_fonts,
    "numba.core.caching": _after_numba_caching,
    "pandas": _after_pandas,
    "psutil._common": _after_psutil,
}


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
