"""Packages that the server has put into the session since it began.

Each set of packages is a directory of its own, which is there, read-only, before its
name is told. They come last on sys.path, so that nothing in them takes the place of
what the server has preloaded or the user has uploaded.

What pip installs from a file goes to the user site, as anywhere where nothing else can be written. It
is looked at where all else has no such module, so that one which is not there costs nothing.
"""

import importlib
import importlib.machinery
import os
import sys

# Set before the fork.
directory = "/mnt/packages"  # elsewhere where there is no mount namespace
may_add = False  # whether code may add packages, by deps

_shown = []  # the paths that this module has put on sys.path


def changed(names):
    """Makes the packages in these directories importable, and no longer those of others."""
    # Names alone: no path leads elsewhere.
    plain = (name for name in names if name not in ("", ".", "..") and "/" not in name)
    paths = [os.path.join(directory, name) for name in dict.fromkeys(plain)]
    if paths == _shown:
        return
    for path in _shown:
        if path not in paths and path in sys.path:
            sys.path.remove(path)
    for path in paths:
        if path not in sys.path:
            sys.path.append(path)
    _tell_subprocesses(paths)
    _shown[:] = paths
    importlib.invalidate_caches()


class _UserSite:
    """A finder behind all others."""

    def find_spec(self, name, path=None, target=None):
        if path is not None:
            return None
        base = os.environ.get("PYTHONUSERBASE") or os.path.expanduser("~/.local")
        version = "python{}.{}".format(*sys.version_info)
        site_dir = os.path.join(base, "lib", version, "site-packages")
        if site_dir in sys.path or not os.path.isdir(site_dir):
            return None
        import site
        importlib.invalidate_caches()
        site.addsitedir(site_dir)
        return importlib.machinery.PathFinder.find_spec(name, [site_dir])


def watch_user_site():
    """Once an interpreter."""
    sys.meta_path.append(_UserSite())


# Where the name that is imported is not the package's.
_PACKAGES = {
    "Crypto": "pycryptodome", "PIL": "pillow", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil", "docx": "python-docx", "dotenv": "python-dotenv", "fitz": "pymupdf",
    "git": "GitPython", "jwt": "PyJWT", "magic": "python-magic", "pptx": "python-pptx",
    "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "PyYAML",
}


def explain(exc):
    """Adds to a ModuleNotFoundError how the module might be had, where code may install it."""
    top = str(exc.name or "").partition(".")[0]
    if may_add and top.isidentifier() and top not in sys.modules and top not in sys.stdlib_module_names:
        exc.add_note(f'deps.add("{_PACKAGES.get(top, top)}") may install it')


def _tell_subprocesses(paths):
    """A PYTHONPATH of the user's own stays as it is."""
    if os.environ.get("PYTHONPATH", "") == os.pathsep.join(_shown):
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
