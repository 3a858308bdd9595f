"""Installing packages, with pip and wheels that the tests make, from a directory of links and from an
index on this machine. installer_test runs the installer's commands.
"""

import base64
import hashlib
import http.server
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402

INVALID, BUSY = 1, 5  # enum err_code


def make_wheel(directory, name, version, files=None, requires=()):
    """A wheel: a zip with a list of what is in it."""
    info = f"{name}-{version}.dist-info"
    content = dict(files or {f"{name}.py": f"version = {version!r}\n"})
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{info}/METADATA"] = metadata + "".join(f"Requires-Dist: {r}\n" for r in requires)
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    content[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = pathlib.Path(directory, f"{name}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for name_in, text in content.items():
            wheel.writestr(name_in, text)
    return path


def make_source(directory, name, version, marker):
    """A source distribution whose installation runs code."""
    setup = (f"import pathlib, setuptools\npathlib.Path({str(marker)!r}).write_text('ran')\n"
             f"setuptools.setup(name={name!r}, version={version!r}, py_modules=[])\n").encode()
    path = pathlib.Path(directory, f"{name}-{version}.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for file, data in (("setup.py", setup),
                           ("PKG-INFO", f"Metadata-Version: 1.0\nName: {name}\nVersion: {version}\n"
                            .encode())):
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


class Installer:
    def __init__(self, directory, runner=False, **config):
        more = [str(harness.BUILD / "carrel-runner")] if runner else []
        self.process = subprocess.Popen(
            [harness.BUILD / "tests/installer_test", str(directory), json.dumps(config), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": "/nowhere", "PIP_INDEX_URL": "http://127.0.0.1:1/not-this-one"})

    def __call__(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait(30) != 0 and kind is None:
            raise AssertionError(self.process.returncode)


class Case(unittest.TestCase):
    def setUp(self):
        top = tempfile.TemporaryDirectory(prefix="carrel-install-")
        self.addCleanup(top.cleanup)
        self.top = pathlib.Path(top.name)
        # So that it can be removed again by whoever runs the tests.
        self.addCleanup(subprocess.run, ["chmod", "-R", "u+w", str(self.top)], check=True)
        self.links = self.top / "links"
        self.packages = self.top / "packages"
        self.links.mkdir()
        self.packages.mkdir()
        make_wheel(self.links, "tinyone", "1.0")
        make_wheel(self.links, "tinyone", "1.1")
        make_wheel(self.links, "tinytwo", "2.0", requires=("tinyone<1.1",))

    def installer(self, **config):
        return Installer(self.packages, **{"offline": True, "find_links": str(self.links), **config})

    def there(self):
        """The directories; a list of which a line failed leaves a link as well."""
        return sorted(p.name for p in self.packages.iterdir() if not p.is_symlink())

    def imported(self, directory, code):
        done = subprocess.run(["/usr/bin/python3", "-I", "-c",
                               f"import sys; sys.path.append({str(self.packages / directory)!r}); {code}"],
                              capture_output=True, text=True, check=True)
        return done.stdout.strip()


class Keeping(Case):
    """What an earlier process installed is found, and what nobody uses goes."""

    def used(self, name, days):
        """As if it was used last so many days ago."""
        at = time.time() - days * 86400
        os.utime(self.packages / name, (at, at))

    def test_what_an_earlier_one_installed_is_found(self):
        with self.installer() as install:
            self.assertEqual(install({"find": ["tinyone"]})["directory"], None)
            self.assertEqual(self.there(), [])
            name = install(["tinyone", "tinytwo"])["directory"]
        with self.installer() as install:
            self.assertEqual(install({"find": ["tinytwo", "TinyOne"]}), {
                "installed": ["tinytwo", "TinyOne"], "already_present": [], "failed": [],
                "directory": name})
            self.assertEqual(install({"find": ["tinyone"]})["directory"], None)
            self.assertEqual(install({"find": ["pip"]})["directory"], None)

    def test_of_a_list_with_a_bad_line_what_there_is_is_found(self):
        with self.installer() as install:
            name = install(["tinyone", "no-such-thing"])["directory"]
        with self.installer() as install:
            self.assertEqual(install({"find": ["tinyone", "no-such-thing"]})["directory"], name)
            # What failed is tried again by who installs.
            make_wheel(self.links, "no_such_thing", "1")
            again = install(["tinyone", "no-such-thing"])
            self.assertEqual(again["failed"], [])
            self.assertNotEqual(again["directory"], name)
            self.assertEqual(
                install({"find": ["tinyone", "no-such-thing"]})["directory"], again["directory"])

    def test_a_link_that_leads_elsewhere_is_not_followed(self):
        with self.installer() as install:
            install(["tinyone", "no-such-thing"])
            link = next(p for p in self.packages.iterdir() if p.is_symlink())
            for target in ("/etc", "../links", "f" * 64, "x" * 64, "f" * 63 + "/"):
                link.unlink()
                link.symlink_to(target)
                self.assertEqual(
                    install({"find": ["tinyone", "no-such-thing"]})["directory"], None)

    def test_what_was_not_used_for_long_goes(self):
        with self.installer(unused_days=7) as install:
            names = [install([line])["directory"] for line in
                     ("tinyone", "tinyone==1.0", "tinytwo", "tinyone==1.1")]
            for name, days in zip(names, (8, 6, 8, 8)):
                self.used(name, days)
            install(["tinyone==1.1"])  # is used again
            done = install({"clean": [names[2], "../links", "f" * 64, 7]})
            self.assertEqual(done["removed"], 1)
            self.assertGreater(done["bytes"], 0)
            self.assertEqual(self.there(), sorted(names[1:]))
            self.assertTrue(any(self.links.iterdir()))
            # Taken away, it is installed again.
            self.assertEqual(install(["tinyone"])["directory"], names[0])

    def test_of_too_many_bytes_those_go_that_were_not_used_the_longest(self):
        with self.installer() as install:
            names = [install([f"tinyone=={v}"])["directory"] for v in ("1.0", "1.1")]
            names.append(install(["tinytwo", "no-such-thing"])["directory"])
            size = install({"clean": []})["bytes"]
            self.assertEqual(self.there(), sorted(names))
        for name, hours in zip(names, (30, 20, 10)):
            self.used(name, hours / 24)
        with self.installer(size_max_bytes=size - 1) as install:
            self.assertEqual(install({"clean": [names[0]]})["removed"], 1)
            self.assertEqual(self.there(), sorted([names[0], names[2]]))
        with self.installer(size_max_bytes=1) as install:
            self.assertEqual(install({"clean": []})["removed"], 1)
        # Used within two hours: never, whatever the size; and no link that leads nowhere stays.
        self.assertEqual(self.there(), [names[0]])
        self.assertFalse([p for p in self.packages.iterdir() if p.is_symlink()])

    def test_without_bounds_all_stay(self):
        with self.installer(unused_days=0, size_max_bytes=0) as install:
            name = install(["tinyone"])["directory"]
            self.used(name, 10000)
            self.assertEqual(install({"clean": []})["removed"], 0)
            self.assertEqual(self.there(), [name])


class Installing(Case):
    def test_a_wheel(self):
        with self.installer() as install:
            result = install(["tinyone"])
        name = result.pop("directory")
        self.assertRegex(name, "^[0-9a-f]{64}$")
        self.assertEqual(result, {"installed": ["tinyone"], "already_present": [], "failed": []})
        self.assertEqual(self.there(), [name])
        self.assertEqual(self.imported(name, "import tinyone; print(tinyone.version)"), "1.1")
        # Read-only, for everybody, and compiled before.
        for path in (self.packages / name, *(self.packages / name).rglob("*")):
            self.assertEqual(path.stat().st_mode & 0o222, 0, path)
            self.assertEqual(path.stat().st_mode & 0o444, 0o444, path)
        self.assertTrue(list((self.packages / name).glob("__pycache__/tinyone*.pyc")))

    def test_versions_go_together(self):
        with self.installer() as install:
            result = install(["tinytwo", "tinyone"])
        self.assertEqual(result["failed"], [])
        self.assertEqual(self.imported(result["directory"],
                                       "import tinyone, tinytwo; print(tinyone.version)"), "1.0")

    def test_what_is_there_is_not_made_again(self):
        with self.installer() as install:
            first = install(["tinyone==1.0", "tinytwo"])
            before = (self.packages / first["directory"] / "tinyone.py").stat()
            inode = (self.packages / first["directory"]).stat().st_ino
            # The same in another order and in other words; and by another process.
            for lines in (["tinytwo", "tinyone==1.0"], ["TinyTwo", "tinyone == 1.0"]):
                again = install(lines)
                self.assertEqual(again["directory"], first["directory"])
                self.assertEqual(again["installed"], lines)
        for path in self.links.iterdir():
            path.unlink()
        with self.installer() as install:
            self.assertEqual(install(["tinyone==1.0", "tinytwo"])["directory"], first["directory"])
        after = (self.packages / first["directory"] / "tinyone.py").stat()
        self.assertEqual((self.packages / first["directory"]).stat().st_ino, inode)
        self.assertEqual((before.st_ino, before.st_ctime_ns), (after.st_ino, after.st_ctime_ns))

    def test_other_words_are_another_directory(self):
        names = set()
        with self.installer() as install:
            for lines in (["tinyone"], ["tinyone==1.0"], ["tinyone==1.1"], ["tinytwo"],
                          ["tinyone", "tinytwo"]):
                names.add(install(lines)["directory"])
        with self.installer(allow_build=True) as install:
            names.add(install(["tinyone"])["directory"])
        self.assertEqual(len(names), 6)
        self.assertEqual(self.there(), sorted(names))

    def test_one_that_is_not_there_does_not_stop_the_others(self):
        with self.installer() as install:
            result = install(["tinyone", "no-such-thing", "tinytwo"])
            self.assertEqual(result["installed"], ["tinyone", "tinytwo"])
            self.assertEqual([f["package"] for f in result["failed"]], ["no-such-thing"])
            self.assertIn("no-such-thing", result["failed"][0]["reason"])
            self.assertIn("No matching distribution", result["failed"][0]["reason"])
            # It is the directory of those that worked.
            self.assertEqual(install(["tinytwo", "tinyone"])["directory"], result["directory"])
        self.assertEqual(self.there(), [result["directory"]])

    def test_nothing_that_can_be_installed(self):
        with self.installer() as install:
            for lines in (["no-such-thing"], ["no-such-thing", "nor-this"], ["tinyone==9"]):
                result = install(lines)
                self.assertEqual(result["directory"], None)
                self.assertEqual(result["installed"], [])
                self.assertEqual([f["package"] for f in result["failed"]], lines)
                for failed in result["failed"]:
                    self.assertTrue(failed["reason"])
                    self.assertLess(len(failed["reason"]), 2001)
            # A failure is not kept: what comes later is found.
            make_wheel(self.links, "no_such_thing", "1")
            self.assertEqual(install(["no-such-thing"])["failed"], [])
        self.assertEqual(len(self.there()), 1)

    def test_what_python_has_itself(self):
        import importlib.metadata
        version = importlib.metadata.version("pip")
        with self.installer() as install:
            for line in ("pip", f"pip=={version}", "pip>=1"):
                self.assertEqual(install([line]), {
                    "installed": [], "already_present": [line], "failed": [], "directory": None})
            result = install(["tinyone", "pip"])
            self.assertEqual((result["installed"], result["already_present"]), (["tinyone"], ["pip"]))
            self.assertEqual(install(["tinyone"])["directory"], result["directory"])
            # What is known of one is not forgotten when another is asked about.
            self.assertEqual(install(["pip", "numpy"])["already_present"], ["pip", "numpy"])
            self.assertEqual(install(["pip", "numpy"])["already_present"], ["pip", "numpy"])
            # Another version is not what is there.
            result = install(["pip==0.0.1"])
            self.assertEqual([f["package"] for f in result["failed"]], ["pip==0.0.1"])

    def test_source_distributions_run_no_code(self):
        marker = self.top / "marker"
        make_source(self.links, "runscode", "1.0", marker)
        with self.installer() as install:
            result = install(["runscode"])
        self.assertEqual([f["package"] for f in result["failed"]], ["runscode"])
        self.assertFalse(marker.exists())

    def test_lines_that_are_none(self):
        with self.installer() as install:
            for lines in ([], ["-r/etc/passwd"], ["--index-url=x"], ["a @ file:///etc"], ["./x"],
                          ["a;b"], ["/etc"], [5], ["a" * 300], ["ok", ""], ["a\nb"],
                          [f"p{i}" for i in range(300)]):
                self.assertEqual(install(lines)["code"], INVALID, lines)
        self.assertEqual(self.there(), [])

    def test_many_at_once(self):
        with self.installer() as install:
            results = install({"at_once": [["tinyone"]] * 4 + [["tinytwo"]] * 4 + [["tinyone"]] * 2})
        self.assertEqual([r.get("code") for r in results], [None] * 8 + [BUSY] * 2)
        self.assertEqual(len({r["directory"] for r in results[:8]}), 2)
        for result in results[:8]:
            self.assertEqual(result["failed"], [])
        self.assertEqual(self.there(), sorted({r["directory"] for r in results[:8]}))

    def test_given_up(self):
        with self.installer() as install:
            install(["tinyone==1.0"])
            install({"cancel": ["tinyone==1.1"]})
            self.assertEqual(len([n for n in self.there() if n.startswith("unfinished")]), 0)

    def test_what_was_left_unfinished_is_swept_away(self):
        (self.packages / "unfinished-1-1" / "deep").mkdir(parents=True)
        with self.installer() as install:
            install(["tinyone"])
        self.assertEqual(len(self.there()), 1)


class Index(Case):
    """An index that wants a password, one that is slow, and what of it is told."""

    def setUp(self):
        super().setUp()
        links, seen = self.links, []
        self.seen = seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append((self.path, self.headers.get("Authorization")))
                name = self.path.strip("/").split("/")[-1]
                if self.path.startswith("/slow"):
                    time.sleep(5)
                if self.headers.get("Authorization") is None:
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                files = sorted(p.name for p in links.iterdir())
                if name.endswith(".whl"):
                    body = (links / name).read_bytes()
                else:
                    body = "".join(f'<a href="/files/{f}">{f}</a>' for f in files
                                   if f.split("-")[0] == name).encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html" if not name.endswith(".whl")
                                 else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def url(self, path):
        return f"http://someone:hunter2@127.0.0.1:{self.server.server_port}/{path}"

    def test_from_an_index(self):
        with Installer(self.packages, index_url=self.url("simple")) as install:
            result = install(["tinytwo"])
            self.assertEqual(result["failed"], [])
            self.assertEqual(self.imported(result["directory"],
                                           "import tinyone; print(tinyone.version)"), "1.0")
            self.assertTrue(self.seen)
            failed = install(["tinyone==7"])["failed"][0]
        self.assertIn("tinyone==7", failed["reason"])
        self.assertNotIn("hunter2", json.dumps(failed))

    def test_offline_asks_nobody(self):
        with Installer(self.packages, index_url=self.url("simple"), offline=True) as install:
            self.assertEqual(len(install(["tinyone"])["failed"]), 1)
        self.assertEqual(self.seen, [])

    def test_it_takes_too_long(self):
        with Installer(self.packages, index_url=self.url("slow"), timeout_seconds=1.5) as install:
            start = time.monotonic()
            result = install(["tinyone", "tinytwo"])
            self.assertLess(time.monotonic() - start, 4.5)
        self.assertEqual(len(result["failed"]), 2)
        self.assertIn("longer than", result["failed"][0]["reason"])
        self.assertNotIn("hunter2", json.dumps(result))
        self.assertEqual(self.there(), [])


class Configuration(Case):
    def test_bad_values(self):
        for key, value in (("installer", "conda"), ("installer", "/no/such/uv"), ("index_url", 5),
                           ("index_url", "--trusted-host=x"), ("find_links", ""),
                           ("offline", "yes"), ("allow_build", 1), ("timeout_seconds", 0),
                           ("timeout_seconds", "x"), ("environment", []),
                           ("environment", {"A": 1}), ("environment", {"A=B": "x"})):
            done = subprocess.run(
                [harness.BUILD / "tests/installer_test", str(self.packages), json.dumps({key: value})],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2, (key, value))
            self.assertIn(f"deps.{key}", done.stdout)

    def test_uv_gets_its_own_words(self):
        uv = self.top / "uv"
        uv.write_text('#!/usr/bin/python3\nimport json, os, pathlib, sys\n'
                      'target = sys.argv[sys.argv.index("--target") + 1]\n'
                      'pathlib.Path(target, "said.json").write_text(json.dumps('
                      '[sys.argv[1:], dict(os.environ)]))\n')
        uv.chmod(0o755)
        with self.installer(installer=str(uv), environment={"HTTPS_PROXY": "http://p:1"}) as install:
            result = install(["tinyone", "tinytwo"])
        said, environment = json.loads((self.packages / result["directory"] / "said.json").read_text())
        self.assertEqual(said[:2], ["pip", "install"])
        for word in ("--no-build", "--no-index", "--no-config"):
            self.assertIn(word, said)
        self.assertEqual(said[said.index("--find-links") + 1], str(self.links))
        self.assertEqual(said[-3:], ["--", "tinyone", "tinytwo"])
        self.assertEqual(environment["HTTPS_PROXY"], "http://p:1")
        self.assertNotIn("PIP_INDEX_URL", environment)


class ThroughTheRunner(Case):
    """Within the walls of a tool's command, as another user where the tests are root."""

    def setUp(self):
        super().setUp()
        self.top.chmod(0o755)
        if os.geteuid() == 0:
            for path in (self.top, self.packages):
                os.chown(path, 65534, 65534)

    def installer(self, **config):
        return Installer(self.top, runner=True,
                         **{"offline": True, "find_links": str(self.links), **config})

    def test_what_nobody_uses_goes(self):
        with self.installer(unused_days=1) as install:
            name = install(["tinyone"])["directory"]
            self.assertEqual(install({"find": ["tinyone"]})["directory"], name)
            os.utime(self.packages / name, (1, 1))
            self.assertEqual(install({"clean": [name]})["removed"], 0)
            os.utime(self.packages / name, (1, 1))
            self.assertEqual(install({"clean": []}), {"removed": 1, "bytes": 0})
            self.assertEqual(self.there(), [])

    def test_what_can_be_and_what_cannot(self):
        with self.installer() as install:
            result = install(["tinytwo", "no-such-thing", "pip"])
        self.assertEqual((result["installed"], result["already_present"]), (["tinytwo"], ["pip"]))
        self.assertIn("No matching distribution", result["failed"][0]["reason"])
        self.assertEqual(self.there(), [result["directory"]])
        self.assertEqual(self.imported(result["directory"],
                                       "import tinytwo, tinyone; print(tinyone.version)"), "1.0")
        for path in (self.packages / result["directory"]).rglob("*"):
            self.assertEqual(path.stat().st_mode & 0o222, 0, path)

    def test_a_build_stays_within_its_walls(self):
        marker = self.top / "marker"
        make_source(self.links, "runscode", "1.0", marker)
        with self.installer() as install:
            self.assertEqual(len(install(["runscode"])["failed"]), 1)
        # It would be allowed to run, and may not write beside its own directories.
        with self.installer(allow_build=True) as install:
            result = install(["runscode"])
        self.assertEqual(len(result["failed"]), 1, result)
        self.assertFalse(marker.exists())
        self.assertEqual(self.there(), [])

    def test_lines_that_are_none(self):
        with self.installer() as install:
            for lines in ([], ["-r/etc/passwd"], ["a @ file:///etc"]):
                self.assertEqual(install(lines)["code"], INVALID, lines)

    def test_given_up_and_swept_away(self):
        with self.installer() as install:
            install({"cancel": ["tinyone", "tinytwo"]})
            self.assertEqual(install(["tinyone==1.0"])["failed"], [])
        self.assertEqual([n for n in self.there() if n.startswith("unfinished")], [])

    def test_it_takes_too_long(self):
        with self.installer(timeout_seconds=0.01) as install:
            result = install(["tinyone"])
            self.assertIn("longer than", result["failed"][0]["reason"])
        self.assertEqual(self.there(), [])

    def test_a_configuration_that_is_wrong_is_told(self):
        done = subprocess.run(
            [harness.BUILD / "tests/installer_test", str(self.top), '{"offline": 5}',
             str(harness.BUILD / "carrel-runner")],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("deps.offline", done.stdout)


if __name__ == "__main__":
    unittest.main()
