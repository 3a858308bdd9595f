"""The InteractiveShell of a session. Importing this module imports IPython."""

import atexit
import contextlib
import importlib
import os
import re
import subprocess
import sys

from IPython.core import interactiveshell
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.profiledir import ProfileDir
from IPython.utils import io as ipython_io
from traitlets import observe
from traitlets.config import Config

from _carrel import bundle, figures, names as public_names, pip, render, streams

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class _MemoryDB(dict):
    """What IPython keeps in a directory (%store, %rehashx): here it lives in memory."""

    def __init__(self, root=None):
        super().__init__()

    def keys(self, pattern=None):
        import fnmatch
        return [key for key in super().keys() if pattern is None or fnmatch.fnmatch(key, pattern)]


class _NoProfileDir(ProfileDir):
    """A profile directory that is never made."""

    @observe("location")
    def _location_changed(self, change):
        pass


class _Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False,
                **kwargs):
        bundle.publish(data)

    def clear_output(self, wait=False):
        """What was sent cannot be taken back, so this does nothing."""


class _DisplayHook(DisplayHook):
    """For get_ipython().run_cell(): shows a value richly if it can be, else prints it."""

    def __call__(self, result=None):
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        data = bundle.rich(result)
        if data:
            data.setdefault("text/plain", render.text_of(result))
            bundle.publish(data)
        elif data is None:
            print(render.text_of(result))


class Shell(interactiveshell.InteractiveShell):
    _in_magic = False
    display_pub_class = _Publisher
    displayhook_class = _DisplayHook

    def init_ipython_dir(self, ipython_dir):
        self.ipython_dir = "/nonexistent"

    @observe("ipython_dir")
    def _ipython_dir_changed(self, change):
        pass

    def init_profile_dir(self, profile_dir):
        self.profile_dir = _NoProfileDir(location="/nonexistent/profile")

    def init_virtualenv(self):
        pass

    def init_prompts(self):
        # Prompts would tell libraries that a person sits at a terminal.
        pass

    def prepare_user_module(self, user_module=None, user_ns=None):
        return user_module, user_module.__dict__

    def init_sys_modules(self):
        pass

    def init_user_ns(self):
        """After %reset: what every session begins with. prepare_namespace() adds the rest."""
        for name, value in public_names.public().items():
            self.user_ns.setdefault(name, value)

    def prepare_namespace(self, source):
        """Adds the names that magics expect, hidden from %who."""
        history = self.history_manager
        names = {"_ih": history.input_hist_parsed, "_oh": history.output_hist,
                 "_dh": history.dir_hist, "In": history.input_hist_parsed,
                 "Out": history.output_hist}
        for name, value in names.items():
            self.user_ns.setdefault(name, value)
        self.user_ns_hidden.update(names)
        self.user_ns_hidden.update(public_names.public())
        if "InlineBackend" in source:
            self._offer_inline_backend()

    def _offer_inline_backend(self):
        """Lets `%config InlineBackend…` find its object. Its settings have no effect."""
        try:
            from matplotlib_inline.config import InlineBackend
        except ImportError:
            return
        if not any(isinstance(part, InlineBackend) for part in self.configurables):
            backend = InlineBackend.instance(parent=self)
            backend.shell = self
            self.configurables.append(backend)

    def use_module(self, module):
        self.user_module = module
        self.user_ns = module.__dict__
        self.ns_table["user_global"] = self.ns_table["user_local"] = module.__dict__

    def has_own_printers(self):
        return self._printers() != self._printers_at_start

    def remember_printers(self):
        self._printers_at_start = self._printers()

    def _printers(self):
        formatter = self.display_formatter.formatters["text/plain"]
        return (len(formatter.type_printers), len(formatter.deferred_printers),
                len(formatter.singleton_printers), formatter.float_precision)

    def enable_gui(self, gui=None):
        pass

    def enable_matplotlib(self, gui=None):
        """%matplotlib, with whatever argument: figures are always shown inline."""
        importlib.import_module("matplotlib.pyplot")
        figures.use_backend()
        return "inline", figures.BACKEND

    def system(self, cmd):
        """!cmd: runs it with our descriptors 0, 1 and 2, so that its output streams."""
        streams.flush()
        command = self.var_expand(cmd, depth=1)
        self.user_ns["_exit_code"] = 0
        if not pip.install(command):
            self._run(command)
            if self.user_ns["_exit_code"] != 0 and pip.is_install(command):
                raise pip.failed(self.user_ns["_exit_code"])

    def _run(self, command):
        process = subprocess.Popen(command, shell=True, executable=_shell_path())
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
            self.user_ns["_exit_code"] = 130
            raise
        self.user_ns["_exit_code"] = code

    system_piped = system_raw = system

    def pip(self, line):
        """%pip …: installs packages, by deps.add; pip itself for everything else."""
        streams.flush()
        command = f"pip {line}"
        if not pip.install(command):
            self._run(f"python3 -m {command}")
            if self.user_ns["_exit_code"] != 0:
                raise pip.failed(self.user_ns["_exit_code"])

    def cd(self, line):
        """%cd, which would only print that there is no such directory."""
        before = os.getcwd()
        self._cd(line)
        wanted = os.path.expanduser(line.replace("-q", "").strip() or "~")
        if os.getcwd() == before and line.strip() and not os.path.isdir(wanted) and wanted != "-":
            raise UsageError(f"%cd: there is no directory {wanted!r}")

    # --- a magic that fails is a failure ---

    def run_line_magic(self, name, line, _stack_depth=1):
        with self._magic():
            # One frame more between the magic and the cell, whose variables it looks for.
            return super().run_line_magic(name, line, _stack_depth + 1)

    def run_cell_magic(self, name, line, cell):
        with self._magic():
            return super().run_cell_magic(name, line, cell)

    @contextlib.contextmanager
    def _magic(self):
        before, self._in_magic = self._in_magic, True
        try:
            yield
        finally:
            self._in_magic = before

    def run_code(self, *args, **kwargs):
        before, self._in_magic = self._in_magic, False
        try:
            return super().run_code(*args, **kwargs)
        finally:
            self._in_magic = before

    def showtraceback(self, *args, **kwargs):
        """Where a magic would show an exception (%run, %%time) and go on, the cell fails with it."""
        exc = sys.exc_info()[1]
        if self._in_magic and exc is not None:
            raise exc
        super().showtraceback(*args, **kwargs)


def _shell_path():
    return "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"


def _print_page(self, data, start=0, screen_lines=0):
    """obj? and everything else that IPython would send to a pager."""
    if isinstance(data, dict):
        data = data.get("text/plain", "")
    print(_ANSI.sub("", data))


class _Null:
    """A file to write into the void, without a descriptor."""

    def write(self, text):
        return len(text)

    def flush(self):
        pass

    def close(self):
        pass


def _close_devnull():
    """Closes the descriptor that IPython opens when it is imported: no session may inherit it."""
    opened = getattr(ipython_io, "devnull", None)
    if opened is not None:
        opened.close()
        ipython_io.devnull = _Null()


def build(module):
    """Builds the one shell on the namespace of `module`."""
    _close_devnull()
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.cache_size = 0
    config.InteractiveShell.banner1 = ""
    config.InteractiveShell.enable_tip = False
    config.Completer.use_jedi = False
    stored = getattr(interactiveshell, "PickleShareDB", None)
    if stored is not None:
        interactiveshell.PickleShareDB = _MemoryDB
    before = dict(module.__dict__)
    try:
        shell = Shell.instance(config=config, user_module=module)
    finally:
        if stored is not None:
            interactiveshell.PickleShareDB = stored
    atexit.unregister(shell.atexit_operations)
    # The display hook sets `_` and its like to "" right away, whatever they were.
    for name in module.__dict__.keys() - before.keys():
        del module.__dict__[name]
    module.__dict__.update(before)
    shell.set_hook("show_in_pager", _print_page)
    shell.register_magic_function(shell.pip, "line", "pip")
    shell._cd = shell.find_line_magic("cd")
    shell.register_magic_function(shell.cd, "line", "cd")
    shell.remember_printers()
    return shell
