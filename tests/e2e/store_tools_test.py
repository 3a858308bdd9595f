"""Definitions of tools that lie in Redis, used from sessions: each tenant has its own, and one that is
changed, added or taken away there is so in sessions that run."""

import json
import pathlib
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402
from store_cli_test import Redis  # noqa: E402

TOKENS = {"a": "a" * 32, "b": "b" * 32}


def says(name, words, **more):
    return json.dumps({"name": name, "type": "cli", "command": "echo", "args": words + " {text}",
                       "description": f"Says {words}", "tags": ["spoken"], **more})


@unittest.skipUnless((harness.BUILD / "carrel-runner").exists(), "this build has no runner")
class StoreTools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.redis = Redis()
        cls.addClassCleanup(cls.redis.stop)
        cls.tools = tempfile.TemporaryDirectory(prefix="carrel-tools-")
        cls.addClassCleanup(cls.tools.cleanup)
        pathlib.Path(cls.tools.name).chmod(0o755)
        (pathlib.Path(cls.tools.name) / "shared.yaml").write_text(
            "name: shared\ncommand: echo\nargs: 'of a file {text}'\ndescription: Of a file\n")
        cls.server = harness.Server({
            "code_mode": {
                "storage": {"redis": {"url": cls.redis.url, "prefix": "site"}},
                "tools": {"dir": cls.tools.name, "secrets": {"key": {"env": "A_KEY"}}}},
            "auth": {"tokens": [{"name": t, "token": token, "prefix": f"tenant-{t}",
                                 "role": "execute"} for t, token in TOKENS.items()]}},
            environment={"A_KEY": "the-secret-of-the-server"})
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        self.redis.client.flushall()
        self.define("tenant-a", say=says("say", "of-a"), only_a=says("only_a", "only of a"))
        self.define("tenant-b", say=says("say", "of-b"))
        self.define("site", say=says("say", "of-the-server"))

    def define(self, prefix, **tools):
        for name, definition in tools.items():
            self.redis.client.hset(f"{prefix}:tools:__tools__", name, definition)

    def run_in(self, tenant, code):
        """What the code's last line is, in the one session of that tenant."""
        headers = {"Authorization": f"Bearer {TOKENS[tenant]}"} if tenant else None
        reply = self.server.request(
            "POST", "executions", "session", {"code": code}, headers=headers).json()
        self.assertEqual(reply["result"].get("stderr", ""), "", reply)
        return reply["result"]["executionResult"]

    def error_of(self, tenant, call):
        return self.run_in(tenant, f"""
try:
    said = {call}
except Exception as e:
    said = type(e).__name__ + ': ' + str(e)
said""")

    def names(self, tenant):
        return self.run_in(tenant, "' '.join(sorted(t.name for t in tools.list()))")

    def wait_for_names(self, tenant, names):
        end = time.monotonic() + 10
        while (found := self.names(tenant)) != names:
            self.assertLess(time.monotonic(), end, found)
            time.sleep(0.05)

    def test_each_tenant_has_its_own(self):
        for tenant, words, names in (("a", "of-a", "only_a say shared"),
                                     ("b", "of-b", "say shared"),
                                     (None, "of-the-server", "say shared")):
            with self.subTest(tenant=tenant):
                self.wait_for_names(tenant, names)
                self.assertEqual(self.run_in(tenant, "tools.say(text='x y').strip()"),
                                 f"{words} x y")
                self.assertEqual(self.run_in(tenant, "tools.shared(text='z').strip()"),
                                 "of a file z")
                self.assertEqual(
                    self.run_in(tenant, "' '.join(t.description for t in tools.search('spoken') "
                                        "if t.name == 'say')"), f"Says {words}")

    def test_none_can_call_or_find_anothers(self):
        self.wait_for_names("a", "only_a say shared")
        for tenant in ("b", None):
            said = self.error_of(tenant, "tools.only_a(text='x')")
            self.assertNotIn("only of a", said)
            said = self.error_of(tenant, "__import__('_carrel.calls').calls.ask('tools.call', "
                                         "{'tool': 'only_a', 'arguments': {'text': 'x'}}, blocking=True)")
            self.assertIn("ToolNotFoundError", said)
            self.assertEqual(self.run_in(
                tenant, "' '.join(t.name for t in tools.search('only', limit=50))"), "")
            said = self.error_of(tenant, "__import__('_carrel.calls').calls.ask('tools.call', {'tool': "
                                         "'say', 'prefix': 'tenant-a', 'arguments': {}}, blocking=True)")
            self.assertIn("TypeError", said)

    def test_a_change_is_seen_by_a_session_that_runs(self):
        self.wait_for_names("a", "only_a say shared")
        self.run_in("a", "kept = 5")
        self.define("tenant-a", say=says("say", "changed"), third=says("third", "third"))
        self.wait_for_names("a", "only_a say shared third")
        self.assertEqual(self.run_in("a", "f\"{tools.say(text='x').strip()} {kept}\""), "changed x 5")
        self.redis.client.hdel("tenant-a:tools:__tools__", "only_a", "third")
        self.wait_for_names("a", "say shared")
        self.assertIn("Unknown tool: only_a", self.error_of("a", "tools.only_a(text='x')"))
        self.assertEqual(self.names("b"), "say shared")

    def test_a_bad_definition_takes_no_other_with_it(self):
        self.define("tenant-a", broken=json.dumps({"name": "broken", "type": "cli", "args": 5}),
                    nonsense="not json", list_=json.dumps([1]))
        self.wait_for_names("a", "only_a say shared")
        self.assertEqual(self.run_in("a", "tools.say(text='x').strip()"), "of-a x")

    def test_a_tenants_definition_gets_no_secret_and_no_file_of_a_name(self):
        self.define("tenant-a",
                    thief=says("thief", "x", env={"K": "${key}"}),
                    other=says("other", "${key}"),
                    shared=says("shared", "instead of the file's"))
        self.wait_for_names("b", "say shared")
        names = self.names("a").split()
        for name in {"thief", "other"} & set(names):
            self.assertNotIn("the-secret-of-the-server",
                             self.error_of("a", f"tools.{name}(text='x')"))
        self.assertEqual(self.run_in("a", "tools.shared(text='z').strip()"), "of a file z")
        self.assertNotIn("the-secret-of-the-server", json.dumps(self.server.events))


if __name__ == "__main__":
    unittest.main()
