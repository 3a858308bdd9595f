"""The layout of a store's directory, from the other side: what py-code-mode writes is read here, and
what is written here is what py-code-mode reads. Source: its FileStorage."""

import concurrent.futures
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", HERE.parents[1] / "build"))
TOOL = BUILD / "tests/store_tool_test"


class Layout(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="carrel-layout-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def raw(self, *arguments, data=b""):
        done = subprocess.run([TOOL, self.dir, *arguments], input=data, capture_output=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 0, (arguments, done.stderr))
        return done.stdout

    def call(self, *arguments, data=b""):
        return json.loads(self.raw(*arguments, data=data))

    def save_as_others_do(self, name, data, description="", metadata=None):
        """Bytes and index as the other implementation writes them: in place, indented by 2."""
        directory = self.dir / "artifacts"
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "bytes" if isinstance(data, bytes) else "text"
        if isinstance(data, (dict, list)):
            kind = "json"
            data = json.dumps(data, indent=2)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        index_path = directory / ".artifacts.json"
        index = json.loads(index_path.read_text()) if index_path.exists() else {}
        index[name] = {"description": description,
                       "created_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
                       "metadata": {**(metadata or {}), "_data_type": kind}}
        index_path.write_text(json.dumps(index, indent=2, default=str))

    def index(self):
        return json.loads((self.dir / "artifacts/.artifacts.json").read_text())

    def test_artifacts_of_others_are_read(self):
        self.save_as_others_do("report.txt", "text \u20ac", "A report", {"run": 7})
        self.save_as_others_do("scans/r.json", {"x": [1, float("nan")]})
        self.save_as_others_do("raw.bin", bytes(range(256)))
        self.save_as_others_do("odd", "x", "half \ud800")
        records = {r["name"]: r for r in self.call("list", "artifacts")}
        self.assertEqual({n: r["type"] for n, r in records.items()},
                         {"report.txt": "text", "scans/r.json": "json", "raw.bin": "bytes",
                          "odd": "text"})
        report = records["report.txt"]
        self.assertEqual(report["description"], "A report")
        self.assertEqual(report["metadata"], {"run": 7})
        self.assertEqual(report["size"], len("text \u20ac".encode()))
        self.assertEqual(report["path"], "artifacts/report.txt", "beneath the store")
        self.assertEqual(report["created_at"], self.index()["report.txt"]["created_at"])
        self.assertEqual(self.raw("load", "raw.bin"), bytes(range(256)))
        self.assertIn(b"NaN", self.raw("load", "scans/r.json"))

    def test_others_read_what_is_written(self):
        info = {"type": "bytes", "description": "d\u00e9j\u00e0", "metadata": {"k": [1, None]}}
        record = self.call("save", "a/b.bin", json.dumps(info), data=b"\x00\xff")
        self.assertEqual((self.dir / "artifacts/a/b.bin").read_bytes(), b"\x00\xff")
        entry = self.index()["a/b.bin"]
        self.assertEqual(set(entry), {"description", "created_at", "metadata"})
        self.assertEqual(entry["description"], "d\u00e9j\u00e0")
        self.assertEqual(entry["metadata"], {"k": [1, None], "_data_type": "bytes"})
        made = datetime.datetime.fromisoformat(entry["created_at"])
        self.assertEqual(made.utcoffset(), datetime.timedelta(0))
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - made),
                        datetime.timedelta(minutes=1))
        self.assertEqual(record["created_at"], entry["created_at"])
        self.assertEqual(record["metadata"], {"k": [1, None]})

    def test_both_write_in_turn(self):
        for i in range(5):
            self.save_as_others_do(f"theirs{i}", "x", f"d{i}")
            self.call("save", f"ours{i}", '{"type": "text"}', data=b"y")
        self.assertEqual(len(self.index()), 10)
        self.assertEqual(len(self.call("list", "artifacts")), 10)
        self.assertEqual(self.index()["theirs0"]["description"], "d0")
        self.assertTrue(self.call("delete", "theirs0"))
        self.assertNotIn("theirs0", self.index())
        self.assertFalse((self.dir / "artifacts/theirs0").exists())

    def test_skills(self):
        (self.dir / "skills").mkdir()
        source = '"""Adds."""\n\ndef run(a: int, b: int) -> int:\n    return a + b\n'
        (self.dir / "skills/add.py").write_text(source)
        (self.dir / "skills/_helper.py").write_text("x = 1\n")
        self.assertEqual(self.call("list", "skills"), [{"name": "add", "source": source}])
        self.call("put", "sub", json.dumps({"source": source, "description": "Subtracts"}))
        self.assertEqual((self.dir / "skills/sub.py").read_text(), source)
        # What the other implementation takes for skills.
        found = sorted(p.name for p in (self.dir / "skills").glob("*.py")
                       if not p.name.startswith("_"))
        self.assertEqual(found, ["add.py", "sub.py"])
        skills = {s["name"]: s for s in self.call("list", "skills")}
        self.assertEqual(skills["sub"]["description"], "Subtracts")
        # Edited by hand: what was said about the old source is not said about the new.
        (self.dir / "skills/sub.py").write_text("def run(): pass\n")
        skills = {s["name"]: s for s in self.call("list", "skills")}
        self.assertEqual(skills["sub"], {"name": "sub", "source": "def run(): pass\n"})

    def test_dependencies(self):
        (self.dir / "deps").mkdir()
        (self.dir / "deps/requirements.txt").write_text("# ours\nnumpy>=1\n\npandas\n")
        self.call("require", "Beautiful_Soup4")
        self.call("require", "NumPy==2")
        self.assertEqual((self.dir / "deps/requirements.txt").read_text(),
                         "beautiful-soup4\nnumpy==2\npandas\n")

    def test_processes_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: self.call("save", f"n{i}", '{"type": "text"}', data=b"x"),
                          range(40)))
        self.assertEqual(len(self.index()), 40)


if __name__ == "__main__":
    unittest.main()
