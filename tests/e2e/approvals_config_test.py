"""What an operator can set of approvals, and what is refused with a message that names the key."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import CARREL, Server  # noqa: E402

TOKEN = {"CONTAINER_AUTH_TOKEN": "some-token-for-this"}
EXIT_USAGE = 2


def refusal(config, environment=None):
    """(exit status, stderr) of a server that must not start."""
    with tempfile.TemporaryDirectory(prefix="carrel-test-") as directory:
        base = pathlib.Path(directory)
        base.chmod(0o777)
        file = base / "carrel.yaml"
        file.write_text(json.dumps({"preload": [], **config}))
        env = {"PATH": "/usr/bin:/bin", "CARREL_DATA_DIR": str(base / "data"), "PORT": "0",
               **TOKEN, **(environment or {})}
        done = subprocess.run([str(CARREL), "serve", "--config", str(file)], env=env, timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode, done.stderr.decode()


def pool(**approvals):
    return {"pools": [{"name": "default", "approvals": approvals}]}


class Refusals(unittest.TestCase):
    def refused(self, config, *words, environment=None):
        with self.subTest(config=config):
            status, said = refusal(config, environment)
            self.assertEqual(status, EXIT_USAGE, said)
            for word in words:
                self.assertIn(word, said)

    def test_of_the_server(self):
        secret = {"code_mode": {"tools": {"secrets": {"key": {"env": "KEY"}}}}}
        for approvals, *words in (
                ([], "approvals", "mapping"),
                ({"databse": "x"}, "approvals.databse", "not known"),
                ({"enabled": "yes"}, "approvals.enabled", "true or false"),
                ({"database": "mysql://x"}, "approvals.database", "sqlite:PATH", "postgresql://"),
                ({"database": "sqlite:"}, "approvals.database"),
                ({"database": 7}, "approvals.database"),
                ({"database": "sqlite:/x", "database_file": "/y"}, "approvals.database", "either"),
                ({"database_file": "/no/such/file"}, "approvals.database_file", "/no/such/file"),
                ({"server": ""}, "approvals.server"),
                ({"server": "a b"}, "approvals.server"),
                ({"runs_max": 0}, "approvals.runs_max"),
                ({"open_max": "many"}, "approvals.open_max"),
                ({"keep_days": 0}, "approvals.keep_days"),
                ({"keep_days": "30"}, "approvals.keep_days"),
                ({"lease_seconds": 0.5}, "approvals.lease_seconds"),
                ({"audit_code": 1}, "approvals.audit_code", "true or false"),
                ({"callbacks": []}, "approvals.callbacks", "mapping"),
                ({"callbacks": {"alow": []}}, "approvals.callbacks.alow"),
                ({"callbacks": {"allow": "https://x"}}, "approvals.callbacks.allow", "list"),
                ({"callbacks": {"allow": ["https://x"]}}, "approvals.callbacks.secret"),
                ({"callbacks": {"allow": ["https://x"], "secret": "none"}},
                 "approvals.callbacks.secret", "code_mode.tools.secrets"),
                ({"callbacks": {"attempts": 0}}, "approvals.callbacks.attempts")):
            self.refused({"approvals": approvals}, *words)
        for url in ("ftp://x", "https://", "https:///a", "https://u:p@x/", "https://x/?a=b",
                    "https://h//x", "https://x/%2e", "https://x/../y", "https://x/..", "https://x/a#b", "x",
                    "https://:443/", "https://x\\y/"):
            self.refused({"approvals": {"callbacks": {"allow": [url], "secret": "key"}}, **secret},
                         "approvals.callbacks.allow", environment={"KEY": "k"})

    def test_of_a_pool(self):
        place = "pools[0].approvals."
        for config, *words in (
                (pool(polcy="after"), f"{place}polcy"),
                (pool(policies="after"), f"{place}policies", "list"),
                (pool(policies=[]), f"{place}policies"),
                (pool(policies=["never"]), f"{place}policies", "after, before, both or rules"),
                (pool(policy="never"), f"{place}policy"),
                (pool(policies=["before"], policy="after"), f"{place}policy", "'policies'"),
                (pool(tools=[""]), f"{place}tools"),
                (pool(tools=["t"] * 65), f"{place}tools", "64"),
                (pool(rules="egress"), f"{place}rules", "egress", "network", "'tools'"),
                (pool(deadline_seconds=0), f"{place}deadline_seconds"),
                (pool(deadline_max_seconds="day"), f"{place}deadline_max_seconds"),
                (pool(deadline_seconds=61, deadline_max_seconds=60), f"{place}deadline_seconds",
                 "deadline_max_seconds"),
                ({"pools": [{"name": "default", "approvals": []}]}, place)):
            self.refused(config, *words)

    def test_of_a_token(self):
        for token, *words in (({"own_approvals": "no"}, "auth.tokens[0].own_approvals"),
                              ({"role": "king"}, "auth.tokens[0].role", "review"),
                              ({"name": "server"}, "auth.tokens[0].name"),
                              ({"name": "session"}, "auth.tokens[0].name")):
            self.refused({"auth": {"tokens": [{"token": "a", **token}]}}, *words)

    def test_a_password_is_not_told(self):
        url = "postgresql://carrel:pa55word@127.0.0.1:1/none?connect_timeout=2"
        for config, environment in (({"approvals": {"database": url}}, {}),
                                    ({}, {"CARREL_DATABASE_URL": url}),
                                    ({}, {"CARREL_DATABASE_URL": "nosuch://carrel:pa55word@x"})):
            status, said = refusal(config, environment)
            self.assertNotEqual(status, 0)
            self.assertNotIn("pa55word", said)
            self.assertTrue("approvals" in said or "CARREL_DATABASE_URL" in said, said)

    def test_a_database_of_something_else(self):
        with tempfile.TemporaryDirectory(prefix="carrel-test-") as directory:
            base = pathlib.Path(directory)
            base.chmod(0o777)
            file = base / "a.db"
            file.write_bytes(b"this is no database, but it is long enough to look like one" * 40)
            file.chmod(0o666)
            status, said = refusal({"approvals": {"database": f"sqlite:{file}"}})
            self.assertNotEqual(status, 0)
            self.assertIn("approvals", said)


class Accepted(unittest.TestCase):
    def ask(self, server, body):
        return server.request("POST", "approvals", body=body).json()

    def test_a_pool_s_bounds_hold(self):
        config = pool(policies=["both", "rules"], deadline_seconds=90.5, deadline_max_seconds=100)
        with Server(config) as server:
            one = self.ask(server, {"code": "1"})
            self.assertEqual((one["policy"], one["settings"]["deadline_seconds"]), ("both", 90.5))
            self.assertIn("rules", self.ask(server, {"code": "1", "policy": "after"})
                          ["error"]["message"])
            self.assertIn("100", self.ask(server, {"code": "1", "deadline_seconds": 101})
                          ["error"]["message"])

    def test_a_long_deadline_is_kept(self):
        with Server(pool(policies=["before"], deadline_max_seconds=31622400)) as server:
            one = self.ask(server, {"code": "1", "deadline_seconds": 31622400})
            self.assertEqual(one["settings"]["deadline_seconds"], 31622400)
            self.assertGreater(one["deadline"][:4], one["created"][:4])

    def test_how_many_may_be_open(self):
        with Server({"approvals": {"open_max": 2}}) as server:
            for _ in range(2):
                self.assertIn("id", self.ask(server, {"code": "1", "policy": "before"}))
            reply = server.request("POST", "approvals", body={"code": "1"})
            self.assertEqual((reply.status, reply.error_code), (429, "ApprovalsFull"))
            self.assertIn("retry-after", reply.headers)

    def test_a_database_s_url_may_be_in_a_file(self):
        with tempfile.TemporaryDirectory(prefix="carrel-test-") as directory:
            base = pathlib.Path(directory)
            base.chmod(0o777)
            file = base / "url"
            file.write_text(f"sqlite:{base}/here.db\n")
            with Server({"approvals": {"database_file": str(file)}}):
                self.assertTrue(os.path.exists(base / "here.db"))


if __name__ == "__main__":
    unittest.main()
