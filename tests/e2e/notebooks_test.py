"""Ordinary notebooks, in a session and in a plain Jupyter kernel: what a person sees is the same.

Each of notebooks/*.ipy is a notebook, its cells apart by `# %%`. Compared are of each cell what it printed,
its value's text, the types of what it displayed and its error; ALLOWED says where they may differ, and why.
"""

import json
import pathlib
import re
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

from harness import ServerCase  # noqa: E402
from jupyter_client.manager import start_new_kernel  # noqa: E402

# (notebook, cell): why. The cell still has to end alike in both, in success or in an error.
ALLOWED = {
    ("errors", 13): "a session's input is at its end, which is Python's own EOFError",
    ("logging_and_arguments", 4): "IPython 8.5 fails to show a SystemExit of a script with a cause",
    ("shell_and_magics", 8): "the directory is another",
    ("shell_and_magics", 11): "a magic that fails is a failure; a kernel only prints that",
    ("shell_and_magics", 15): "help is printed, since there is no pager",
}
# An error there that is success here, or the other way round.
ALLOWED_TO_FAIL = {("shell_and_magics", 11)}

ADDRESS = re.compile(r"0x[0-9a-f]+")
TIMES = re.compile(r"[0-9.]+ [µnm]?s\b")


class Seen:
    """What a person sees of one cell."""

    def __init__(self):
        self.stdout = self.stderr = self.value = self.error = ""
        self.displays = []

    def told(self):
        return {"stdout": plain(self.stdout), "value": self.value, "error": self.error,
                "displays": sorted(self.displays)}


def plain(text):
    """Without what differs from one process to the next; of redrawn lines the last state."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return TIMES.sub("1 s", ADDRESS.sub("0x", "\n".join(lines))).rstrip("\n")


def cells_of(path):
    return [cell.strip("\n") for cell in re.split(r"^# %%$", path.read_text(), flags=re.M)[1:]]


def in_jupyter(client, code):
    seen = Seen()
    asked = client.execute(code, allow_stdin=False)
    while True:
        message = client.get_iopub_msg(timeout=120)
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(seen, content["name"], getattr(seen, content["name"]) + content["text"])
        elif kind == "execute_result":
            add_bundle(seen, content["data"])
            seen.value = plain(content["data"]["text/plain"])
        elif kind == "display_data":
            add_bundle(seen, content["data"])
        elif kind == "error":
            seen.error = content["ename"]
        elif kind == "status" and content["execution_state"] == "idle":
            break
    reply = client.get_shell_msg(timeout=120)
    for page in reply["content"].get("payload", []):
        seen.stdout += page.get("data", {}).get("text/plain", "")
    return seen


def add_bundle(seen, bundle):
    seen.displays += [mime for mime in bundle if mime != "text/plain"]


def in_session(server, identifier, code):
    seen = Seen()
    reply = server.execute(identifier, code)
    result = reply["result"]
    seen.stdout, seen.stderr = result["stdout"], result["stderr"]
    value = result.get("executionResult", "")
    image = isinstance(value, dict) and value.get("type") == "image"
    for bundle in reply.get("displays", [{"image/png": ""}] if image else []):
        add_bundle(seen, bundle)
    value = reply.get("value", "") if image else value
    seen.value = value if isinstance(value, str) else json.dumps(value)
    seen.error = reply.get("error", {}).get("error", {}).get("code", "")
    return seen


class Notebooks(ServerCase):
    config = {"preload": ["numpy", "pandas", "matplotlib", "sklearn"]}
    maxDiff = None

    def compare(self, path):
        with tempfile.TemporaryDirectory() as folder:
            manager, client = start_new_kernel(kernel_name="python3", cwd=folder)
            try:
                for number, code in enumerate(cells_of(path), 1):
                    with self.subTest(notebook=path.stem, cell=number, code=code):
                        there = in_jupyter(client, code).told()
                        here = in_session(self.server, self.session, code).told()
                        self.check(path.stem, number, here, there)
            finally:
                client.stop_channels()
                manager.shutdown_kernel(now=True)

    def check(self, name, number, here, there):
        if (name, number) in ALLOWED:
            alike = (here["error"] == "") == (there["error"] == "")
            self.assertNotEqual(alike, (name, number) in ALLOWED_TO_FAIL)
            return
        # The wire has the text itself where a kernel has its repr.
        if there["value"] in (plain(repr(here["value"])), here["value"].capitalize()):
            here["value"] = there["value"]
        here["value"] = plain(here["value"])
        self.assertEqual(here, there)


def _add(path):
    setattr(Notebooks, f"test_{path.stem}", lambda self: self.compare(path))


for _path in sorted((HERE / "notebooks").glob("*.ipy")):
    _add(_path)


if __name__ == "__main__":
    unittest.main()
