"""SIGHUP: tokens, the certificate and pools' limits are read again, and no session is lost."""

import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import processes  # noqa: E402
from harness import Server, run_at_once  # noqa: E402

POOL = {"name": "default", "ready_sessions": 2}


class Case(unittest.TestCase):
    def start(self, config=None, **options):
        server = Server({"pools": [POOL], **(config or {})}, **options)
        self.addCleanup(server.stop)
        server.start()
        return server

    def write(self, server, **changes):
        """A new configuration file, in the place of the old one."""
        for key, value in changes.items():
            server.config[key] = value
            if value is None:
                del server.config[key]
        base = pathlib.Path(server.directory.name)
        (base / "new").write_text(json.dumps(server.config))
        (base / "new").rename(base / "carrel.yaml")

    def reload(self, server, event="reloaded", **changes):
        self.write(server, **changes)
        server.process.send_signal(signal.SIGHUP)
        return server.wait_for(event)

    def status(self, server, token, code="1"):
        return server.request("POST", "executions", "demo", {"code": code},
                              headers={"Authorization": f"Bearer {token}"}).status


class Reload(Case):
    def test_tokens_come_and_go(self):
        server = self.start({"auth": {"tokens": [{"name": "old", "token": "old-token"}]}})
        server.value("demo", "x = 5")
        self.assertEqual([self.status(server, t) for t in ("old-token", "new-token")], [200, 401])
        done = self.reload(server, auth={"tokens": [{"name": "new", "token": "new-token"}]})
        self.assertEqual(done["tokens"], 1)
        self.assertEqual([self.status(server, t) for t in ("old-token", "new-token")], [401, 200])
        # The environment's was wiped there, and is still good; the session is the one of before.
        self.assertEqual(server.value("demo", "x"), 5)
        self.reload(server, auth={"tokens": [{"name": "new", "token": "new-token",
                                              "expires": "2001-01-01"}]})
        self.assertEqual(self.status(server, "new-token"), 401)
        self.reload(server, auth=None)
        self.assertEqual([self.status(server, t) for t in ("old-token", "new-token")], [401, 401])
        self.assertEqual(server.value("demo", "x"), 5)

    def test_a_token_in_a_file_is_read_again(self):
        server = self.start()
        file = pathlib.Path(server.directory.name, "token")
        file.write_text("first-token\n")
        self.reload(server, auth={"token_file": str(file)})
        self.assertEqual(self.status(server, "first-token"), 200)
        file.write_text("second-token\n")
        self.reload(server)
        self.assertEqual([self.status(server, t) for t in ("first-token", "second-token")], [401, 200])

    def test_what_is_in_progress_goes_on_with_the_token_it_began_with(self):
        tokens = [{"name": f"t{i}", "token": f"token-{i}", "role": "execute"} for i in range(20)]
        server = self.start({"auth": {"tokens": tokens}})
        code = ("import os, time\nopen(f'on', 'w').close()\nwhile not os.path.exists('go'): "
                "time.sleep(0.01)\n7")

        def run(i):
            return server.request("POST", "executions", f"demo-{i}", {"code": code},
                                  headers={"Authorization": f"Bearer token-{i}"}).json()

        def change():
            for i in range(20):
                while server.request("GET", "files/on", f"demo-{i}").status != 200:
                    pass
            for round in range(5):
                self.reload(server, auth={"tokens": [{"name": f"other{round}", "token": "other"}]})
            for i in range(20):
                server.upload(f"demo-{i}", "go", b"")

        answers = run_at_once([lambda i=i: run(i) for i in range(20)] + [change])
        self.assertEqual({a["result"]["executionResult"] for a in answers[:20]}, {7})
        self.assertEqual(self.status(server, "token-3"), 401)

    def test_what_is_wrong_changes_nothing(self):
        server = self.start({"auth": {"tokens": [{"name": "old", "token": "old-token"}]}},
                            environment={"CONTAINER_AUTH_TOKEN": None})
        server.token = "old-token"
        server.value("demo", "x = 5")
        file = pathlib.Path(server.directory.name, "carrel.yaml")
        good = file.read_text()
        for text, says in (("pools: [", "carrel.yaml"), ("nothing: 1", "nothing"),
                           (json.dumps({**json.loads(good), "auth": {}}), "no token"),
                           (json.dumps({**json.loads(good), "pools": [{"memory": "1k"}]}), "memory"),
                           (json.dumps({**json.loads(good), "log_level": "loud"}), "loud"),
                           (json.dumps({**json.loads(good), "auth": {"tokens": [
                               {"name": "x", "token": "same"}, {"name": "y", "token": "same"}]}}), "same"),
                           (json.dumps({**json.loads(good), "auth": {"tokens": [
                               {"name": "x", "token": "a", "pool": "none"}]}}), "none"),
                           (json.dumps({**json.loads(good), "auth": {"token_file": "/no/such"}}),
                            "/no/such")):
            file.write_text(text)
            server.process.send_signal(signal.SIGHUP)
            self.assertIn(says, server.wait_for("reload_failed")["reason"])
            self.assertEqual(server.value("demo", "x"), 5)
        file.unlink()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reload_failed")
        self.assertEqual(server.value("demo", "x"), 5)

    def test_what_takes_a_restart_is_named(self):
        server = self.start()
        told = self.reload(server, "reload_needs_restart", connections_max=99, drain_seconds=1,
                           pools=[POOL, {"name": "second"}])
        self.assertEqual(told["keys"], "drain_seconds, connections_max, pools")
        server.wait_for("reloaded")
        self.assertEqual(server.request("GET", "session", "demo", pool="second").status, 404)
        self.reload(server, connections_max=None, drain_seconds=None, pools=[POOL])
        self.assertNotIn("reload_needs_restart", [e.get("event") for e in server.events[-2:]])

    def test_limits_of_pools(self):
        server = self.start({"pools": [{**POOL, "max_concurrent_sessions": 2, "open_files": 100}]})
        limit = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)[0]"
        few = server.value("first", limit)  # 100, and what the session itself holds
        server.value("first", "x = 5")
        server.value("second", "1")
        self.assertEqual(server.request("POST", "executions", "third", {"code": "1"}).status, 429)
        self.reload(server, pools=[{**POOL, "max_concurrent_sessions": 4, "open_files": 200,
                                    "execution_seconds": 0.5}])
        # The workers that were ready have the old limit, and are not used.
        self.assertEqual(server.value("third", limit), few + 100)
        self.assertEqual(server.value("fourth", limit), few + 100)
        self.assertEqual(server.value("first", f"{limit}, x"), f"({few}, 5)")
        late = server.execute("first", "import time; time.sleep(60)")
        self.assertEqual(late["verdict"], "time_limit")
        # Fewer than there are: none is ended for it.
        self.reload(server, pools=[{**POOL, "max_concurrent_sessions": 1}])
        self.assertEqual(server.value("first", "x"), 5)
        self.assertEqual(server.request("POST", "executions", "fifth", {"code": "1"}).status, 429)

    def test_it_never_kills(self):
        server = Server({"pools": [POOL]})
        self.addCleanup(server.stop)
        server.start(wait=False)
        # From the first moment that it can be seen to be the server.
        while not pathlib.Path(f"/proc/{server.process.pid}/cmdline").read_bytes().count(b"serve"):
            pass
        ignored = 0
        while ignored & 1 << (signal.SIGHUP - 1) == 0:
            lines = pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
            masks = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
            ignored = int(masks["SigIgn"], 16) | int(masks["SigCgt"], 16)
        server.process.send_signal(signal.SIGHUP)
        server.port = server.wait_for("listening")["port"]
        server.wait_for("keeper_ready")
        server.value("demo", "x = 5")
        helpers = processes.children(server.process.pid)
        self.assertGreaterEqual(len(helpers), 2)  # the keeper and the runner
        for pid in helpers:
            os.kill(pid, signal.SIGHUP)
        self.reload(server)
        self.assertEqual(server.value("demo", "x"), 5)
        self.assertEqual(processes.children(server.process.pid), helpers)
        # Code in a session finds it as in any other process.
        self.assertTrue(server.value("demo", "import signal; signal.getsignal(signal.SIGHUP) == "
                                             "signal.SIG_DFL"))

    def test_files_that_could_not_be_read_again_are_told_at_the_start(self):
        if os.geteuid() != 0:
            self.skipTest("only root starts a server that then cannot read its files")
        server = Server({"pools": [POOL]})
        self.addCleanup(server.stop)
        closed = self.enterContext(tempfile.TemporaryDirectory())  # root's alone
        token = pathlib.Path(closed, "token")
        token.write_text("a-token")
        server.environment["CONTAINER_AUTH_TOKEN_FILE"] = str(token)
        server.start()
        told = [e["path"] for e in server.events if e.get("event") == "reload_out_of_reach"]
        self.assertEqual(told, [str(token)])
        server.process.send_signal(signal.SIGHUP)
        self.assertIn(str(token), server.wait_for("reload_failed")["reason"])
        self.assertEqual(self.status(server, "a-token"), 200)


class Certificate(Case):
    def make(self, directory, name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{directory}/key.pem", "-out",
                        f"{directory}/cert.pem", "-days", "2", "-subj", f"/CN={name}"], check=True,
                       stderr=subprocess.DEVNULL)
        os.chmod(f"{directory}/key.pem", 0o644)

    def seen(self, connection):
        return connection.sock.getpeercert(binary_form=True)

    def test_new_connections_get_the_new_one(self):
        if shutil.which("openssl") is None:
            self.skipTest("there is no openssl command to make certificates with")
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            self.make(directory, "first")
            server = self.start({"tls": {"cert": f"{directory}/cert.pem",
                                         "key": f"{directory}/key.pem"}})
            server.value("demo", "x = 5")
            old = server.connect()
            old.connect()
            first = ssl.DER_cert_to_PEM_cert(self.seen(old))
            self.assertEqual(first.split(), pathlib.Path(directory, "cert.pem").read_text().split())
            for round in range(3):
                self.make(directory, f"second-{round}")
                self.reload(server)
                new = server.connect()
                new.connect()
                second = ssl.DER_cert_to_PEM_cert(self.seen(new))
                self.assertEqual(second.split(),
                                 pathlib.Path(directory, "cert.pem").read_text().split())
                new.close()
            # A connection of before goes on.
            answer = server.request("POST", "executions", "demo", {"code": "x"}, connection=old)
            self.assertEqual(answer.json()["result"]["executionResult"], 5)
            old.close()
            key = pathlib.Path(directory, "key.pem").read_text()
            self.make(directory, "third")
            pathlib.Path(directory, "key.pem").write_text(key)
            server.process.send_signal(signal.SIGHUP)
            self.assertIn("key.pem", server.wait_for("reload_failed")["reason"])
            pathlib.Path(directory, "cert.pem").write_text("nothing")
            server.process.send_signal(signal.SIGHUP)
            self.assertIn("cert.pem", server.wait_for("reload_failed")["reason"])
            self.assertEqual(server.value("demo", "x"), 5)
            told = self.reload(server, "reload_needs_restart", tls=None)
            self.assertEqual(told["keys"], "tls")


if __name__ == "__main__":
    unittest.main()
