"""The clients people have: one of them unmodified from npm, and the request sequences of the others,
each with what that client needs of the answers."""

import ast
import base64
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, Server, ServerCase  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent / "clients"
OLD = "2024-02-02-preview"
ARM = "subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/group/sessionPools"
PNG = b"\x89PNG\r\n\x1a\n"


def installed(name):
    """The directory of an npm client with its packages installed, in the build directory.

    Raises unittest.SkipTest where that cannot be done. It is done once for each lock file.
    """
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise unittest.SkipTest("node and npm are not installed, so no client of theirs can run")
    source, target = HERE / name, BUILD / "clients" / name
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, target)
    wanted = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    stamp = target / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        done = subprocess.run([npm, "ci", "--omit=dev", "--omit=optional"], cwd=target,
                              capture_output=True, text=True, timeout=400)
        if done.returncode != 0:
            raise unittest.SkipTest("npm ci could not install the client: "
                                    f"{' '.join(done.stderr.split())[-300:]}")
        stamp.write_text(wanted)
    return node, target


class LlamaIndexTypeScript(unittest.TestCase):
    """@llamaindex/azure 0.2.1, as it is."""

    def test_against_the_server(self):
        node, directory = installed("llamaindex")
        with Server({"preload": ["matplotlib"]}) as server, \
                tempfile.TemporaryDirectory() as scratch:
            for endpoint in (server.url, f"{server.url}/{ARM}/default/"):
                report = pathlib.Path(scratch, "report.json")
                where = tempfile.mkdtemp(dir=scratch)
                session = f"llama {len(os.listdir(scratch))}"
                done = subprocess.run([node, str(directory / "session.mjs"), endpoint, session,
                                       server.token, str(report)], cwd=where, capture_output=True,
                                      text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])
                self.check(json.loads(report.read_text()))

    def check(self, seen):
        hello = seen["hello"]
        self.assertEqual((hello["result"], hello["stdout"], hello["stderr"]),
                         (2, "Hello, World!\n", ""))
        self.assertEqual((seen["nothing"]["result"], seen["nothing"]["stderr"]), ("", ""))
        self.assertEqual(seen["state"]["result"], 42)
        # A null here would make the client report a failure of its own.
        self.assertEqual((seen["none"]["result"], seen["none"]["stderr"]), ("", ""))
        self.assertIn("KeyError: 'sales_amount'", seen["failure"]["stderr"])
        self.assertEqual((seen["uploaded"]["filename"], seen["uploaded"]["size"]),
                         ("test data.bin", 768))
        self.assertEqual(sorted((f["filename"], f["size"]) for f in seen["files"]),
                         [("test data.bin", 768), ("test.txt", 12)])
        self.assertTrue(seen["downloaded"])
        self.assertEqual((seen["image"]["stdout"], seen["image"]["stderr"]), ("", ""))
        self.assertTrue(seen["image"]["result"].endswith(".png"))
        self.assertEqual((seen["imageFiles"], seen["imageMagic"]), (1, "PNG"))


class Replay(ServerCase):
    """Requests byte for byte as the clients build them."""

    config = {"pools": [{"name": "default", "ready_sessions": 4},
                        {"name": "shell", "container_type": "Shell", "ready_sessions": 2}],
              "preload": ["matplotlib"]}
    prefix = "/" + ARM + "/default/"

    def send(self, method, target, body=None, headers=None, pool=None, token=True):
        """(status, headers, body) of a request whose target is sent as it is."""
        prefix = self.prefix if pool is None else f"/{ARM}/{pool}/"
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        if isinstance(body, dict):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = self.server.connect()
        connection.putrequest(method, prefix + target, skip_accept_encoding=True)
        data = body.encode() if isinstance(body, str) else body
        if data is not None:
            headers["Content-Length"] = str(len(data))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        got = answer.status, http.client.HTTPMessage.items(answer.headers), answer.read()
        connection.close()
        return got

    def json(self, *request, **options):
        """The JSON of an answer that must be 2xx."""
        status, _, body = self.send(*request, **options)
        self.assertIn(status, range(200, 300), body)
        if request[1].startswith(("code/execute", "python/execute")):
            # None of these clients knows more than Azure's members: each thing is told once.
            answer = json.loads(body)
            self.assertEqual(set(answer.get("properties", answer)) - {"$id"},
                             {"status", "stdout", "stderr", "result", "executionTimeInMilliseconds"})
        return json.loads(body)

    def form(self, filename, data, boundary, kind="application/octet-stream", quote='"'):
        head = (f"--{boundary}\r\nContent-Disposition: form-data; name={quote}file{quote}; "
                f"filename={quote}{filename}{quote}\r\nContent-Type: {kind}\r\n\r\n")
        return (head.encode() + data + f"\r\n--{boundary}--\r\n".encode(),
                {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    # --- langchain-js: @langchain/azure-dynamic-sessions 1.0.1 ---

    def test_langchain_js(self):
        query = f"identifier={urllib.parse.quote(self.session, safe='')}&api-version={OLD}"
        agent = {"User-Agent": "langchainjs-azure-dynamic-sessions (Language=JavaScript; "
                               "node.js/v20.20.2; linux; x64)", "Accept": "*/*",
                 "Accept-Language": "*", "Sec-Fetch-Mode": "cors",
                 "Accept-Encoding": "gzip, deflate"}

        def call(code):
            return self.json("POST", f"code/execute?{query}", {"properties": {
                "codeInputType": "inline", "executionType": "synchronous", "code": code}},
                agent)["properties"]
        got = call("print('Hello, World!')\n1+1")
        self.assertEqual({k: got[k] for k in ("result", "stdout", "stderr")},
                         {"stdout": "Hello, World!\n", "stderr": "", "result": 2})
        body, kind = self.form("test.txt", b"hello world!", "----formdata-undici-029457310943")
        got = self.json("POST", f"files/upload?{query}", body, {**agent, **kind})
        properties = got["value"][0]["properties"]
        self.assertEqual((properties["filename"], properties["size"]), ("test.txt", 12))
        status, headers, data = self.send("GET", f"files/content/test.txt?{query}", None, agent)
        self.assertEqual((status, data), (200, b"hello world!"))
        self.assertNotIn("content-encoding", [name.lower() for name, _ in headers])
        self.assertEqual(len(self.json("GET", f"files?{query}", None, agent)["value"]), 1)

    def test_langchain_js_with_an_endpoint_that_has_a_query(self):
        status, _, body = self.send(
            "POST", f"code/execute?tenant=x&identifier={self.session}&api-version={OLD}",
            {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "1"}})
        self.assertEqual((status, json.loads(body)["properties"]["result"]), (200, 1))

    # --- langchain-py: langchain-azure-dynamic-sessions 1.0.3 ---

    def test_langchain_py(self):
        session = urllib.parse.quote(self.session + "/a b")
        query = f"identifier={session}&api-version={OLD}"
        agent = {"User-Agent": "langchain-azure-dynamic-sessions/1.0.3 (Language=Python)",
                 "Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}

        def call(code):
            return self.json("POST", f"code/execute?{query}", {"properties": {
                "codeInputType": "inline", "executionType": "synchronous", "code": code}},
                agent)["properties"]
        got = call("print('hello world')\n1 + 1")
        self.assertEqual((got["result"], got["stdout"], got["stderr"]), (2, "hello world\n", ""))
        got = call("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()")
        # base64_data is taken off and the rest handed to a model.
        image = base64.b64decode(got["result"].pop("base64_data"))
        self.assertTrue(image.startswith(PNG))
        self.assertEqual(got["result"], {"type": "image", "format": "png"})
        for name, data in (("test.txt", b"text"), ("data.bin", bytes(range(256))),
                           ("empty", b""), ("a b.csv", b"1,2\n")):
            body, kind = self.form(name, data, "ab8a92d1d6b1c4c9a1e0f0c5a1b2c3d4")
            got = self.json("POST", f"files/upload?{query}", body, {**agent, **kind})
            self.assertEqual((got["value"][0]["properties"]["filename"],
                              got["value"][0]["properties"]["size"]), (name, len(data)))
            _, _, got = self.send("GET", f"files/content/{urllib.parse.quote(name)}?{query}", None,
                                  agent)
            self.assertEqual(got, data)
        listed = self.json("GET", f"files?{query}", None, agent)["value"]
        self.assertEqual(len(listed), 4)
        status, _, _ = self.send("DELETE", f"session?identifier={session}"
                                           "&api-version=2025-10-02-preview", None, agent)
        self.assertEqual(status, 204)

    def shell(self, command):
        query = f"identifier={self.session}&api-version=2025-02-02-preview"
        got = self.json("POST", f"executions?{query}", {"shellCommand": command}, pool="shell")
        self.assertIsInstance(got["status"], str)
        return int(got["status"]), got["result"]["stdout"], got["result"]["stderr"]

    def test_langchain_py_bash_tool(self):
        query = f"identifier={self.session}&api-version=2025-02-02-preview"
        self.assertEqual(self.shell("echo hello && ls /nowhere")[0:2], (2, "hello\n"))
        body, kind = self.form("notes.txt", b"one\ntwo\nthree\n", "abc")
        got = self.json("POST", f"files?{query}&path=/mnt/data", body, kind, pool="shell")
        self.assertEqual((got["name"], got["sizeInBytes"]), ("notes.txt", 14))
        listed = self.json("GET", f"files?{query}&path=/mnt/data", pool="shell")["value"]
        self.assertEqual([(f["name"], f["sizeInBytes"]) for f in listed], [("notes.txt", 14)])
        status, _, data = self.send("GET", f"files/notes.txt/content?{query}", pool="shell")
        self.assertEqual((status, data), (200, b"one\ntwo\nthree\n"))
        self.server.request("DELETE", "session", self.session, pool="shell")

    def test_langchain_py_bash_backend(self):
        """What its file operations expect to find in a session."""
        encoded = base64.b64encode(b"alpha\nbeta\ngamma\n").decode()
        self.assertEqual(self.shell(f"echo '{encoded}' | base64 -d > /mnt/data/f.txt"), (0, "", ""))
        self.assertEqual(self.shell("awk 'NR>=2 && NR<=3 {printf \"%6d\\t%s\\n\", NR, $0}' "
                                    "/mnt/data/f.txt"), (0, "     2\tbeta\n     3\tgamma\n", ""))
        self.assertEqual(self.shell("grep -rn 'et' /mnt/data"), (0, "/mnt/data/f.txt:2:beta\n", ""))
        self.assertEqual(self.shell("find /mnt/data -maxdepth 1 -type f -printf '%f %s\\n'"),
                         (0, "f.txt 17\n", ""))
        self.assertEqual(self.shell("t=$(mktemp) && cp /mnt/data/f.txt $t && sed -i s/alpha/ALPHA/ $t"
                                    " && mv $t /mnt/data/f.txt && head -1 /mnt/data/f.txt"),
                         (0, "ALPHA\n", ""))
        self.assertEqual(self.shell("base64 -w0 /mnt/data/f.txt")[1],
                         base64.b64encode(b"ALPHA\nbeta\ngamma\n").decode())
        self.server.request("DELETE", "session", self.session, pool="shell")

    # --- LlamaIndex for Python: llama-index-tools-azure-code-interpreter ---

    def test_llamaindex_python(self):
        query = f"identifier={urllib.parse.quote(self.session)}&api-version={OLD}"
        body, kind = self.form("/mnt/data/figures.csv", b"a,b\n1,2\n", "xyz")
        got = self.json("POST", f"files/upload?{query}", body, kind)
        self.assertEqual(got["value"][0]["properties"]["filename"], "figures.csv")
        code = "open('/mnt/data/figures.csv').read()\n"
        got = self.json("POST", f"code/execute?{query}", {"properties": {
            "codeInputType": "inline", "executionType": "synchronous", "code": code}})["properties"]
        self.assertEqual(got["result"], "a,b\n1,2\n")
        listed = self.json("GET", f"files?{query}")["value"]
        self.assertEqual([f["properties"]["filename"] for f in listed], ["figures.csv"])
        status, _, data = self.send("GET", f"files/content/figures.csv?{query}")
        self.assertEqual((status, data), (200, b"a,b\n1,2\n"))

    # --- Semantic Kernel ---

    def test_semantic_kernel_python(self):
        # The identifier is not encoded, and the suffix python/execute of old endpoints is cut off.
        query = f"identifier={self.session}&api-version={OLD}"
        agent = {"User-Agent": "Semantic-Kernel/1.37.0 python/3.12.7"}

        def call(code):
            got = self.json("POST", f"code/execute?{query}", {"properties": {
                "codeInputType": "inline", "executionType": "synchronous", "code": code,
                "timeoutInSeconds": 100}}, agent)["properties"]
            return f"Status:\n{got['status']}\nResult:\n{got['result']}\nStdout:\n{got['stdout']}" \
                   f"\nStderr:\n{got['stderr']}"
        self.assertEqual(call("print('x')\n5"), "Status:\nSuccess\nResult:\n5\nStdout:\nx\n\nStderr:\n")
        self.assertIn("Status:\nFailure", call("1 / 0"))
        body, kind = self.form("/mnt/data/in put.txt", b"content", "sk")
        self.json("POST", f"files/upload?{query}", body, {**agent, **kind})
        # Once it has run something its client says so of all that it sends.
        body, _ = self.form("/mnt/data/second.txt", b"more", "sk2")
        self.json("POST", f"files/upload?{query}", body, {**agent, "Content-Type": "application/json"})
        status, _, data = self.send("GET", f"files/content/second.txt?{query}", None, agent)
        self.assertEqual((status, data), (200, b"more"))
        listed = [f["properties"] for f in self.json("GET", f"files?{query}", None, agent)["value"]]
        found = [f for f in listed
                 if f"/mnt/data/{f['filename'].removeprefix('/mnt/data/')}" == "/mnt/data/in put.txt"]
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0]["size"] == 7 and found[0]["lastModifiedTime"])
        status, _, data = self.send("GET", f"files/content/in%20put.txt?{query}", None, agent)
        self.assertEqual((status, data), (200, b"content"))

    def test_semantic_kernel_dotnet(self):
        query = f"identifier={self.session}&api-version=2024-10-02-preview"

        def call(code):
            got = self.json("POST", f"executions?{query}", {
                "codeInputType": "Inline", "executionType": "Synchronous", "timeoutInSeconds": 100,
                "code": code}, {"Content-Type": "application/json; charset=utf-8"})
            self.assertIn(got["status"], ("Succeeded", "Failed"))
            self.assertLessEqual({"stdout", "stderr", "executionResult"}, set(got["result"]))
            return got
        self.assertEqual(call("'text'")["result"]["executionResult"], "text")
        self.assertEqual(call("x = 1")["result"]["executionResult"], "")
        self.assertEqual(call("1 / 0")["status"], "Failed")
        # .NET writes the header without quotes where it can.
        body, kind = self.form("test-file.txt", b"test file content", "boundary-in-quotes",
                               quote="")
        kind["Content-Type"] = 'multipart/form-data; boundary="boundary-in-quotes"'
        got = self.json("POST", f"files?{query}", body, kind)
        self.assertEqual((got["name"], got["sizeInBytes"], got["type"], got["contentType"]),
                         ("test-file.txt", 17, "file", "text/plain; charset=utf-8"))
        self.assertTrue(got["lastModifiedAt"].endswith("Z"))
        status, _, data = self.send("GET", f"files/test-file.txt/content?{query}")
        self.assertEqual((status, data), (200, b"test file content"))
        listed = self.json("GET", f"files?{query}")["value"]
        self.assertEqual([f["name"] for f in listed], ["test-file.txt"])
        self.assertIsInstance(listed[0]["sizeInBytes"], int)

    # --- AutoGen: ACADynamicSessionsCodeExecutor ---

    def autogen(self, code):
        got = self.json("POST", f"code/execute?api-version={OLD}&identifier={self.session}",
                        {"properties": {"codeInputType": "inline", "executionType": "synchronous",
                                        "code": code}})["properties"]
        logs, code = "", 0
        if "Failure" in got["status"]:
            code = 1
        self.assertTrue("Success" in got["status"] or "Failure" in got["status"])
        logs += f"\n{got['stderr']}" if got["stderr"] else ""
        logs += f"{got['stdout']}{got['result']}"
        return code, logs

    def test_autogen_runs_code(self):
        self.assertEqual(self.autogen("print('John')"), (0, "John\n"))
        self.assertEqual(self.autogen("x = 1"), (0, ""))
        code, logs = self.autogen("raise ValueError('no')")
        self.assertEqual(code, 1)
        self.assertIn("ValueError: no", logs)

    def test_autogen_asks_for_the_packages(self):
        got = self.json("POST", f"code/execute?api-version={OLD}&identifier={self.session}", {
            "properties": {"codeInputType": "inline", "executionType": "synchronous", "code":
                           "import pkg_resources\n[d.project_name for d in pkg_resources.working_set]"}})
        got = got["properties"]
        self.assertEqual(got["status"], "Success", got)
        packages = [p.strip().strip("'") for p in got["result"].strip("[]").split(",\n")]
        self.assertEqual(packages, ast.literal_eval(got["result"]))
        self.assertIn("numpy", [p.lower() for p in packages])
        got = self.autogen("import os\nos.chdir('/mnt/data')\nos.getcwd()")
        self.assertEqual(got, (0, "/mnt/data"))

    def test_autogen_files(self):
        query = f"api-version={OLD}&identifier={self.session}"
        body, kind = self.form("test_file_1.txt", b"test1 contents", "9f8a7b")
        self.json("POST", f"files/upload?{query}", body, kind)
        got = self.json("GET", f"files?{query}")
        self.assertEqual([f["properties"]["filename"] for f in got["value"]], ["test_file_1.txt"])
        status, _, data = self.send("GET", f"files/content/test_file_1.txt?{query}")
        self.assertEqual((status, data), (200, b"test1 contents"))

    # --- az containerapp session code-interpreter ---

    def test_az_command_line(self):
        for version in ("2024-10-02-preview", "2025-10-02-preview"):
            query = f"identifier={self.session}&api-version={version}"
            got = self.json("POST", f"executions?{query}", {"properties": {
                "identifier": self.session, "codeInputType": "inline", "executionType": "synchronous",
                "timeoutInSeconds": 60, "code": "print('hello'); 3"}})
            self.assertEqual((got["status"], got["result"]["stdout"], got["result"]["executionResult"]),
                             ("Succeeded", "hello\n", 3))
            body, kind = self.form("a.txt", b"abc", "az")
            got = self.json("POST", f"files?{query}&path=sub", body, kind)
            self.assertEqual((got["name"], got["directory"]), ("a.txt", "sub"))
            listed = self.json("GET", f"files?{query}&path=sub")["value"]
            self.assertEqual([f["name"] for f in listed], ["a.txt"])
            status, _, data = self.send("GET", f"files/a.txt/content?{query}&path=sub")
            self.assertEqual((status, data), (200, b"abc"))
            got = self.json("GET", f"files/a.txt?{query}&path=sub")
            self.assertEqual((got["name"], got["sizeInBytes"]), ("a.txt", 3))
            self.assertEqual(self.send("DELETE", f"files/a.txt?{query}&path=sub")[0], 204)

    # --- smaller ones ---

    def test_sinedied_sample(self):
        query = f"api-version={OLD}&identifier={self.session}"
        got = self.json("POST", f"code/execute?{query}", {"properties": {
            "codeInputType": "inline", "executionType": "synchronous", "code": "sum(range(5))"}})
        self.assertEqual(got["properties"]["result"], 10)

    def test_rstropek_sample(self):
        """It tries the one shape, and the other upon SessionPropertiesMissing alone."""
        versions = {"EXECUTIONS": "2025-10-02-preview", "FILES": "2025-10-02-preview",
                    "SESSION_DELETE": "2025-02-02-preview"}
        query = f"api-version={versions['EXECUTIONS']}&identifier={self.session}"
        members = {"codeInputType": "inline", "executionType": "synchronous", "code": "6 * 7",
                   "timeoutInSeconds": 60}
        shapes = [{"properties": members}, members]
        status, _, body = self.send("POST", f"executions?{query}", {"properties": {}})
        self.assertEqual((status, json.loads(body)["error"]["code"]),
                         (400, "SessionPropertiesMissing"))
        for body in shapes:
            got = self.json("POST", f"executions?{query}", body)
            self.assertEqual(got["result"]["executionResult"], 42)
        status, _, _ = self.send("DELETE", f"session?identifier={self.session}"
                                           f"&api-version={versions['SESSION_DELETE']}")
        self.assertEqual(status, 204)
        status, _, body = self.send("DELETE", f"session?identifier={self.session}"
                                              f"&api-version={versions['SESSION_DELETE']}")
        self.assertEqual((status, json.loads(body)["error"]["code"]),
                         (400, "SessionWithIdentifierNotFound"))

    def test_clients_of_the_oldest_route(self):
        """A blog's .NET client and a Python web sample: the first wraps, the second does not."""
        for body in ({"properties": {"identifier": self.session, "codeInputType": "inline",
                                     "executionType": "synchronous", "pythonCode": "'a' * 3",
                                     "timeoutInSeconds": 100}},
                     {"identifier": self.session, "codeInputType": "inline",
                      "executionType": "synchronous", "pythonCode": "'a' * 3"}):
            got = self.json("POST", f"python/execute?api-version={OLD}", body)
            self.assertEqual((got["status"], got["stdout"], got["stderr"], got["result"]),
                             ("Success", "", "", "aaa"))

    def test_a_requests_client_of_the_old_dialect(self):
        query = f"api-version={OLD}&identifier={self.session}"
        got = self.json("POST", f"code/execute?{query}", {"properties": {
            "codeInputType": "inline", "executionType": "synchronous",
            "code": "import sys; print('out'); print('err', file=sys.stderr); None"}})
        got = got["properties"]
        self.assertEqual((got["result"], got["stdout"], got["stderr"]), ("", "out\n", "err\n"))

    def test_an_httpx_client_of_the_newest_version(self):
        query = "api-version=2025-10-02-preview"
        got = self.json("POST", f"executions?{query}&identifier={self.session}", {"code": "2 ** 10"})
        self.assertEqual(got["result"]["executionResult"], 1024)
        listed = self.json("GET", f"listSessions?{query}")["sessions"]
        self.assertIn(self.session, [s["identifier"] for s in listed])

    def test_a_go_client_of_the_management_routes(self):
        status, _, body = self.send("POST", f".management/getSession?api-version={OLD}"
                                            f"&identifier={self.session}")
        self.assertEqual((status, json.loads(body)["error"]["code"]),
                         (400, "SessionWithIdentifierNotFound"))
        self.server.value(self.session, "1")
        got = self.json("POST", f".management/getSession?api-version={OLD}&identifier={self.session}")
        self.assertEqual(got["identifier"], self.session)
        got = self.json("POST", f".management/listSessions?skip=0&api-version={OLD}")
        self.assertIn(self.session, [s["identifier"] for s in got["sessions"]])
        status, _, body = self.send("POST", f".management/stopSession?api-version={OLD}"
                                            f"&identifier={self.session}")
        self.assertEqual((status, body), (200, b""))


if __name__ == "__main__":
    unittest.main()
