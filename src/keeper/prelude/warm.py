"""What is prepared before a session has a user: in the keeper, and right after the fork."""

import _signal
import builtins
import importlib
import os
import sys
import threading

import _carrel_host

from _carrel import bundle, cell, children, failure, hooks, packages as packages_module

# The state of numpy's global generator, in words of 32 bit.
_MT_WORDS = 624
# Its bytes, in the image; None where they could not be found.
_numpy_state = None


def install():
    """Sets up what every session of this image has in common."""
    hooks.install()
    packages_module.watch_user_site()
    children.watch()
    builtins.display = bundle.display


def preload(names):
    """See preload() in the package."""
    answers = [_preload_one(name) for name in names]
    _rehearse()
    return answers


def _rehearse():
    """Does once what sessions do, so that they find caches filled and memory in place."""
    if "numpy.random" in sys.modules:
        _find_numpy_state()
    after_fork()
    if os.getpid() == _carrel_host.session_pid():
        _run_cells(_REHEARSAL + (_REHEARSAL_IPYTHON if "IPython" in sys.modules else ()))
        cell.run("{'a': [1.5, None]}", True, True)
        cell.forget()


def _preload_one(name):
    try:
        module = importlib.import_module(name)
        version = str(getattr(module, "__version__", ""))
        _after_import(name)
        return (name, version, "")
    except ModuleNotFoundError as exc:
        return (name, "", "not installed" if exc.name == name else failure.describe(exc))
    except BaseException as exc:
        return (name, "", failure.describe(exc))


def _after_import(name):
    if name == "matplotlib":
        _warm_matplotlib()
    elif name == "scipy":
        importlib.import_module("scipy.stats")
    elif name == "IPython":
        from _carrel import shell_magics
        shell_magics.build()
    importlib.import_module("asyncio")


def _warm_matplotlib():
    """Draws one figure, so that sessions find the fonts looked up already."""
    import io

    from _carrel import figures
    from matplotlib import font_manager, pyplot

    figures.use_backend()
    figure, axes = pyplot.subplots()
    axes.plot([1, 2])
    axes.set_title("warm")
    figure.savefig(io.BytesIO(), format="png")
    pyplot.close(figure)
    # An open font holds an open file, and no session may inherit one.
    font_manager._get_font.cache_clear()


def packages():
    """See packages() in the package.

    importlib.metadata parses each file as a whole, which would be half of a server's start.
    """
    found = {}
    for directory in filter(None, sys.path):
        for path in _descriptions(directory):
            headers = _headers(path)
            if headers.get("Name"):
                found.setdefault(headers["Name"], headers.get("Version", ""))
    return sorted(found.items(), key=lambda item: item[0].lower())


def _descriptions(directory):
    """Where what is installed there is described, as the recording of installed projects and setuptools
    lay it down."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        if name.endswith(".dist-info"):
            yield os.path.join(path, "METADATA")
        elif name.endswith(".egg-info"):
            yield os.path.join(path, "PKG-INFO") if os.path.isdir(path) else path


def _headers(path):
    """The first of each header of one line."""
    headers = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, colon, value = line.partition(":")
                if not colon and not line.strip():
                    break
                headers.setdefault(name, value.strip())
    except OSError:
        pass
    return headers


def runtime_version():
    return ".".join(map(str, sys.version_info[:3]))


def after_fork():
    """Reseeds all that two sessions of one image would share, beyond what does so by itself.

    That is random, which has its own step after each fork.

    The one thing that cannot change after start is the seed of str.__hash__: sessions of one
    keeper share it, so the order of their sets is the same.
    """
    for step in (_read_environment, _reseed_numpy, _reseed_names, _reseed_others, _reset_hooks):
        try:
            step()
        except Exception:
            pass


def _read_environment():
    # os.environ is a copy from the keeper's start; the C side may have moved these since.
    for name in ("HOME", "TMPDIR", "CARREL_MEMORY_BYTES"):
        value = _carrel_host.getenv(name)
        if value is not None and os.environ.get(name) != value:
            os.environ[name] = value
            if name != "TMPDIR":
                continue
            tempfile = sys.modules.get("tempfile")
            if tempfile is not None:
                tempfile.tempdir = None


def _find_numpy_state():
    """Where numpy's global generator has its state (mt19937_state: the words and a position), so that
    a session need not run through numpy, whose pages it would make its own."""
    global _numpy_state
    _seed_numpy()
    try:
        import ctypes

        mtrand = sys.modules["numpy.random.mtrand"]
        address = mtrand._rand._bit_generator.ctypes.state_address
        words = (ctypes.c_uint32 * (_MT_WORDS + 1)).from_address(address)
        name, key, position = mtrand.get_state()[:3]
        if name == "MT19937" and [*key, position] == list(words):
            _numpy_state = memoryview(words).cast("B")
    except Exception:
        pass


def _reseed_numpy():
    if _numpy_state is not None:
        _numpy_state[:4 * _MT_WORDS] = os.urandom(4 * _MT_WORDS)
        _numpy_state[4 * _MT_WORDS:] = _MT_WORDS.to_bytes(4, sys.byteorder)
    elif "numpy.random" in sys.modules:
        _seed_numpy()


def _seed_numpy():
    numpy_random = sys.modules["numpy.random"]
    try:
        # The whole state, because seed() writes to three times as much of the image's memory.
        key = memoryview(os.urandom(4 * _MT_WORDS)).cast("I")
        numpy_random.set_state(("MT19937", key, _MT_WORDS, 0, 0.0))
    except Exception:
        # Some other generator is behind the global functions.
        numpy_random.seed(int.from_bytes(os.urandom(4), "little"))


def _reseed_names():
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        uuid._last_timestamp = None
        uuid._node = None
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None


def _reseed_others():
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)
    ssl = sys.modules.get("ssl")
    if ssl is not None and ssl.OPENSSL_VERSION_INFO < (3,):
        # Later ones seed themselves when the process has another number than before.
        ssl.RAND_add(os.urandom(32), 32.0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def _reset_hooks():
    # An interrupt of the session must reach the cell as KeyboardInterrupt.
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    sys.excepthook = sys.__excepthook__
    sys.unraisablehook = sys.__unraisablehook__
    sys.displayhook = sys.__displayhook__
    threading.excepthook = threading.__excepthook__


# In the keeper, whatever sessions may do: its memory is shared.
_REHEARSAL = ("1+1", "'a'", "[1, 2]", "x = 1\nx", "None", "1/0", "print('', end='')",
              "def f():\n    raise KeyError('a') from ValueError()\nf()", "(", "return",
              "import asyncio\nawait asyncio.sleep(0)")
# Where IPython is loaded already: these load it.
_REHEARSAL_IPYTHON = ("list(range(60))", "{3, 1, 2}", "%who_ls")
# In the session, the way of most cells only: each page that is written to is a session's own.
_WARM_UP = ("1+1", "'a'", "[1, 2]", "x = 1\nx", "print('', end='')")


def _run_cells(cells):
    for source in cells:
        cell.run(source, True)
    cell.run("1", False)


def warm_up():
    """See warm_up() in the package."""
    _run_cells(_WARM_UP)
    cell.forget()


install()
