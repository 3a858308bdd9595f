"""What the session's C side calls in Python. Nothing here ever raises.

Whatever goes wrong inside becomes a well-formed answer of the same shape, so
the caller needs no error path of its own beyond "the call failed", which means
that an interrupt arrived in the few instructions outside the guards below.

The modules behind it, one subject each:

    cell          parse, compile and run one cell
    sources       the source lines of past cells, for tracebacks
    answers       what a call returns where an event loop runs
    awaiting      top-level await, on one event loop a session
    failure       an exception as its name, value, traceback and exit code
    html_text     HTML as text
    identity      `is`, type() and match where an event loop runs
    limits        which limit of the session an exception stands for
    render        the type and the text of a cell's value
    reserve       memory for the cell after one that filled the session
    bundle        rich representations of a value, and display()
    figures       matplotlib figures as displays; agg is the backend
    shell_magics  IPython: magics, !commands, its own display machinery
    hooks         work done right after user code first imports a library
    streams       stdin, stdout and stderr over descriptors 0, 1 and 2
    shell         the commands of Shell pools
    packages      packages the server has put into the session
    children      child processes: ours, and the orphans to reap
    warm          what is prepared before a session has a user
    names         tools, skills, artifacts and deps, which every session finds in its namespace;
                  each in a module of its own
    calls         how these ask the session's server
    errors        their exceptions
    skill_source  what a skill says of itself, by parsing
    values        the value of a cell as JSON
"""

from _carrel import cell, children, failure, packages as package_dirs, shell, streams, warm
# After all that every cell uses, so that these lie together in the image: a session that uses them
# writes to their pages, and the others do not.
from _carrel import names, skill_source

cell.offer(names.public())

# The values of the first field of run_cell()'s answer.
OK, EXCEPTION, INTERRUPTED, EXIT = range(4)


def preload(names):
    """Imports each library, in the keeper, before any fork.

    Returns [(name, version, error)]; error is "" for the ones that are there.
    """
    try:
        return warm.preload(names)
    except BaseException as exc:
        return [(str(name), "", failure.describe(exc)) for name in names]


def packages():
    """Returns the installed distributions as a sorted [(name, version)]."""
    try:
        return warm.packages()
    except BaseException:
        return []


def runtime_version():
    """Returns the version of Python, as in "3.11.2"."""
    return warm.runtime_version()


def after_fork():
    """Makes what would be equal in two sessions differ. Call it in the session, first."""
    try:
        warm.after_fork()
    except BaseException:
        # Each step guards itself; nothing is left to do about an interrupt here.
        pass


def open_streams():
    """Opens sys.stdin, sys.stdout and sys.stderr afresh over descriptors 0, 1 and 2."""
    try:
        streams.open_all()
    except BaseException:
        pass


def packages_at(directory):
    """Says where the directories of packages are. Call it in the keeper."""
    package_dirs.directory = directory


def packages_changed(names):
    """Makes the packages in the directories of these names importable. Only an interrupt comes out."""
    try:
        package_dirs.changed(names)
    except Exception:
        # User code has made something else of sys.path or os.environ.
        pass


def run_cell(code, empty_namespace, values=False):
    """Runs one cell and returns what became of it:

    (status, kind, json_text, text, error_name, error_value, traceback, limit, exit_code)

    status      0 ok, 1 exception, 2 interrupted, 3 SystemExit
    kind        "none" (no value), "null" (None), "bool", "int", "float", "str", "other"
    json_text   for bool, int and float: JSON that carries the value, "null" for NaN and
                infinities, "" for an int past signed 64 bit; with values the JSON of a value
                of any kind, as in the module of that name, and "" only for no value
    text        the string itself for "str", else the text/plain representation; with values
                only that of what has a rich representation
    error_*     class name, str() and traceback text; "" when status is 0
    limit       "", "memory", "processes", "file_space" or "files"
    exit_code   with status 3 what Python would exit with, else 0

    Every text can be encoded as UTF-8. Displays have been sent when it returns.
    """
    try:
        return cell.run(code, empty_namespace, values)
    except BaseException as exc:
        # Only an interrupt between two guards gets here, or memory that is truly at its end.
        try:
            return failure.outcome(exc)
        except BaseException:
            return failure.UNEXPLAINED


def run_shell(command, argv, stdin):
    """Runs a command line with a shell, or argv directly.

    Returns (exit_code, limit, error_text). Output goes to descriptors 1 and 2.
    127 is a command that was not found, 126 one that may not be run, 130 an
    interrupt, 128 + N a death by signal N.
    """
    try:
        return shell.run(command, argv, stdin)
    except KeyboardInterrupt:
        return (130, "", "")
    except BaseException as exc:
        return (126, failure.limit_of(exc), failure.describe(exc))


def warm_up():
    """Runs small cells through the whole path, and leaves no trace of them."""
    try:
        warm.warm_up()
    except BaseException:
        pass


def reap_orphans():
    """Reaps processes that became ours when their parents ended. Returns how many."""
    try:
        return children.reap_orphans()
    except BaseException:
        return 0


def describe_skills(text):
    """Describes skills by parsing; for a session that is kept for it.

    text: JSON, a list of {"name", "source"}. Returns JSON, a list in the same order of {"name",
    "description", "parameters"}, or {"name", "error", "message"}. Raises where text is not that.
    """
    return skill_source.describe_all(text)
