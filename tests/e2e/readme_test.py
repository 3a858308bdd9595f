"""The README's own lines, run as they stand but for the address, and compared with what it promises."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, ROOT, ServerCase  # noqa: E402

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?:^    .*\n(?:\n(?=    ))?)+", re.MULTILINE)
# What is another each time.
CHANGING = ((re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
            (re.compile(r'("executionTimeInMilliseconds"):\d+'), r"\1:0"))


def blocks(first):
    """The indented blocks of the README that begin with this, without their indentation."""
    found = [re.sub(r"^    ", "", match, flags=re.MULTILINE) for match in BLOCK.findall(README)]
    return [text for text in found if text.startswith(first)]


def commands(block):
    """[(command, what it is promised to print)] of a block of lines at a prompt."""
    pairs = []
    for line in block.splitlines():
        if line.startswith("$ "):
            pairs.append([line[2:], ""])
        elif pairs[-1][0].endswith("\\"):
            pairs[-1][0] += "\n" + line
        else:
            pairs[-1][1] += line + "\n"
    return pairs


def plain(text):
    for pattern, instead in CHANGING:
        text = pattern.sub(instead, text)
    return text


class Readme(ServerCase):
    config = {"preload": ["pandas"]}

    def setUp(self):
        super().setUp()
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-readme-")
        self.addCleanup(self.directory.cleanup)
        self.tree = pathlib.Path(self.directory.name)
        self.tree.chmod(0o755)
        (self.tree / "build" / "run").mkdir(parents=True)
        (self.tree / "build" / "run" / "8080.token").write_text(self.server.token + "\n")
        for name in ("carrel", "carrel-keeper", "carrel-runner"):
            (self.tree / "build" / name).symlink_to(BUILD / name)
        (self.tree / "python").symlink_to(ROOT / "python")

    def run_text(self, program, text, **environment):
        text = text.replace("http://127.0.0.1:8080", self.server.url)
        text = text.replace("/tmp/carrel-data", str(self.tree / "data"))
        return subprocess.run(program, input=text, cwd=self.tree, capture_output=True, text=True, timeout=120,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(self.tree), **environment})

    def test_the_lines_at_the_prompt(self):
        pairs = [pair for block in blocks("$ ") for pair in commands(block)]
        pairs = [pair for pair in pairs if not pair[0].startswith("carrel approvals watch")]
        self.assertGreaterEqual(len(pairs), 7)
        script = "".join(f"{command}\nprintf '\\0%s\\0' $?\n" for command, _ in pairs)
        done = self.run_text(["/bin/bash"], script)
        told = done.stdout.split("\0")
        self.assertEqual(done.stderr, "")
        for index, (command, promised) in enumerate(pairs):
            self.assertEqual(told[2 * index + 1], "0", command)
            if not command.startswith("carrel approvals submit"):
                self.assertEqual(plain(told[2 * index]).rstrip("\n"), plain(promised).rstrip("\n"), command)

    def test_the_python_package(self):
        block, = blocks("import asyncio\nfrom carrel")
        done = self.run_text(["/usr/bin/python3", "-"], block, PYTHONPATH="python",
                             PATH=f"{self.tree}/build:/usr/bin:/bin")
        self.assertEqual((done.returncode, done.stdout.split()), (0, ["42"]), done.stderr)

    def test_langchain(self):
        block, = blocks("import os\nfrom langchain")
        compile(block, "README.md", "exec")
        if importlib.util.find_spec("langchain_azure_dynamic_sessions") is None:
            self.skipTest("langchain-azure-dynamic-sessions is not installed")
        done = self.run_text([sys.executable, "-"], block, CARREL_URL=self.server.url,
                             CARREL_TOKEN=self.server.token, PYTHONPATH=os.pathsep.join(sys.path))
        self.assertEqual(done.stdout, "2432902008176640000\n", done.stderr)

    def test_one_word_for_the_program(self):
        self.assertEqual(re.findall(r".*build/carrel.*", README), [])

    def test_what_it_refers_to_is_there(self):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
            self.assertTrue((ROOT / target).exists(), target)


if __name__ == "__main__":
    unittest.main()
