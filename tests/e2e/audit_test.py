"""carrel audit: the trail of a server at work, and of one that somebody touched."""

import hashlib
import json
import os
import pathlib
import sqlite3
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import postgres  # noqa: E402
from harness import CARREL, Server, ServerCase  # noqa: E402


def audit(*arguments, environment=None):
    """(exit status, stdout, stderr)"""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("CARREL_DATABASE")}
    done = subprocess.run([CARREL, "audit", *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=60, env={**variables, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


def work(case, server):
    """Leaves a trail: one approval that is approved, one that is rejected, one that waits."""
    for decision in (True, False, None):
        body = {"code": "print('héllo')", "policy": "before"}
        reply = server.request("POST", "approvals", body=body, api_version=None)
        case.assertEqual(reply.status, 201, reply)
        if decision is not None:
            path = f"approvals/{reply.json()['id']}/decision"
            reply = server.request("POST", path, body={"approve": decision}, api_version=None)
            case.assertEqual(reply.status, 200, reply)


class WithServer(ServerCase):
    """The server runs all the while."""

    config = {"approvals": {"audit_code": True}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.server.config["data_dir"]

    def test_it_is_whole(self):
        work(self, self.server)
        status, out, err = audit("verify", "--data-dir", self.data)
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"\A(\d+) records, head \1:[0-9a-f]{64}\n\Z")
        head = out.split()[-1]
        work(self, self.server)
        # What was kept is still there.
        self.assertEqual(audit("verify", "--data-dir", self.data, "--head", head)[0], 0)
        self.assertEqual(audit("verify", "--data-dir", self.data, "--head", "0:" + "0" * 64)[0], 0)
        seq, _, digest = head.partition(":")
        other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
        status, out, err = audit("verify", "--data-dir", self.data, "--head", f"{seq}:{other}")
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"record {seq}: it is not the one that was kept", err)
        status, _, err = audit("verify", "--data-dir", self.data, "--head", f"999999:{digest}")
        self.assertEqual(status, 1)
        self.assertIn("once had record 999999", err)

    def test_as_json(self):
        work(self, self.server)
        status, out, _ = audit("verify", "--data-dir", self.data, "-o", "json")
        said = json.loads(out)
        self.assertEqual(status, 0)
        self.assertEqual(said["records"], said["head"]["seq"])
        self.assertGreaterEqual(said["approvals"], 3)
        self.assertEqual(said["wrong"], [])

    def test_whoever_has_the_lines_can_check_them(self):
        work(self, self.server)
        status, out, err = audit("export", "--data-dir", self.data)
        self.assertEqual((status, err), (0, ""))
        before = "0" * 64
        for number, line in enumerate(out.splitlines(), 1):
            record = json.loads(line)
            digest = record.pop("hash")
            canonical = json.dumps(record, sort_keys=True, separators=(",", ":"),
                                   ensure_ascii=False)
            self.assertEqual(record["seq"], number)
            self.assertEqual(record["previous"], before)
            self.assertEqual(hashlib.sha256(f"{before}\n{canonical}".encode()).hexdigest(), digest)
            before = digest
        submitted = [json.loads(line) for line in out.splitlines() if "approval.submit" in line]
        self.assertEqual(submitted[0]["detail"]["code"], "print('héllo')")
        self.assertEqual(submitted[0]["detail"]["code_sha256"],
                         hashlib.sha256("print('héllo')".encode()).hexdigest())

    def test_the_rest_of_it_to_a_file(self):
        work(self, self.server)
        whole = audit("export", "--data-dir", self.data)[1].splitlines()
        with tempfile.TemporaryDirectory() as directory:
            target = pathlib.Path(directory) / "trail.jsonl"
            status, out, _ = audit("export", "--data-dir", self.data, "--after", "2", "-O", target)
            self.assertEqual((status, out), (0, ""))
            lines = target.read_text().splitlines()
            # The server goes on with its work meanwhile.
            self.assertEqual(lines[:len(whole) - 2], whole[2:])
        self.assertEqual(audit("export", "--data-dir", self.data, "--after", "99999"), (0, "", ""))

    def test_the_database_stays_the_servers(self):
        work(self, self.server)
        audit("verify", "--data-dir", self.data)
        owner = os.stat(self.data).st_uid
        files = list(pathlib.Path(self.data).glob("approvals.db*"))
        self.assertTrue(files)
        for path in files:
            self.assertEqual(path.stat().st_uid, owner, path)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, path)


class Touched(unittest.TestCase):
    """A database that somebody changed, as somebody may who has the file."""

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.directory.chmod(0o755)
        with Server({"data_dir": str(cls.directory / "data")}) as server:
            work(cls(), server)
        cls.database = cls.directory / "data" / "approvals.db"

    def touched(self, *statements):
        """A copy that these have changed, by one for whom nothing is guarded."""
        copy = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "approvals.db"
        with sqlite3.connect(self.database) as original, sqlite3.connect(copy) as changed:
            original.backup(changed)
            for guard, in changed.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                changed.execute(f"DROP TRIGGER {guard}")
            for statement in statements:
                changed.execute(statement)
        return f"sqlite:{copy}"

    def verify(self, *statements):
        status, out, err = audit("verify", "--database", self.touched(*statements))
        return status, out + err

    def test_untouched(self):
        status, said = self.verify()
        self.assertEqual(status, 0, said)
        self.assertIn(" records, head ", said)

    def test_a_record_was_changed(self):
        status, said = self.verify("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
        self.assertEqual(status, 1)
        self.assertIn("record 3: it was changed", said)

    def test_a_record_was_taken_out(self):
        status, said = self.verify("DELETE FROM audit WHERE seq = 3")
        self.assertEqual(status, 1)
        self.assertIn("record 4: it follows record 2", said)

    def test_the_end_was_cut_off(self):
        status, said = self.verify("DELETE FROM audit WHERE seq > 3")
        self.assertEqual(status, 1)
        self.assertIn("record 3: the trail ends here", said)
        # Whoever cuts with more care is found by what the records were of.
        cut = ("DELETE FROM audit WHERE seq > 1",
               "UPDATE audit_head SET seq = 1, hash = (SELECT hash FROM audit WHERE seq = 1)")
        status, said = self.verify(*cut)
        self.assertEqual(status, 1)
        self.assertEqual(said.count("event 1 (submitted): there is no record of it"), 3)
        # And with more still, by who kept the end.
        cut = (*cut, *(f"DELETE FROM {table}" for table in (
            "approval", "approval_event", "approval_text", "approval_task", "approval_open")))
        self.assertEqual(self.verify(*cut)[0], 0)
        head = audit("verify", "--database", f"sqlite:{self.database}")[1].split()[-1]
        status, _, err = audit("verify", "--database", self.touched(*cut), "--head", head)
        self.assertEqual(status, 1)
        self.assertIn("the trail ends here, and once had record", err)

    def test_an_approval_was_changed(self):
        status, said = self.verify("UPDATE approval SET submitter = 'mallory' WHERE state = 'waiting'")
        self.assertEqual(status, 1)
        self.assertRegex(said, "approval [0-9a-f-]{36}: submitter is not what its events add up to")
        status, said = self.verify("UPDATE approval_text SET body = 'evil()' WHERE kind = 'code'")
        self.assertEqual(status, 1)
        self.assertEqual(said.count("its code is not the one it had"), 3)

    def test_what_is_no_database(self):
        missing = self.directory / "missing.db"
        status, out, err = audit("verify", "--database", f"sqlite:{missing}")
        self.assertEqual((status, out), (3, ""))
        self.assertIn("there is no database at", err)
        self.assertFalse(missing.exists())
        other = self.directory / "other.db"
        with sqlite3.connect(other) as database:
            database.execute("CREATE TABLE t (x)")
        status, _, err = audit("verify", "--database", f"sqlite:{other}")
        self.assertNotEqual(status, 0)
        self.assertIn("no database of approvals", err)

    def test_a_later_version(self):
        later = self.touched("INSERT INTO approval_schema (version) VALUES (999)")
        status, _, err = audit("verify", "--database", later)
        self.assertEqual(status, 3)
        self.assertIn("of version 999", err)

    def test_wrong_use(self):
        url = f"sqlite:{self.database}"
        for arguments in ((), ("look",), ("verify", "more"), ("verify", "--after", "1"),
                          ("export", "--head", "1:2"), ("verify", "--head", "1"),
                          ("verify", "--head", "x:" + "0" * 64), ("export", "--after", "x"),
                          ("verify", "--database", "mysql://x/y")):
            with self.subTest(arguments):
                if "--database" not in arguments:
                    arguments = (*arguments, "--database", url)
                status, out, err = audit(*arguments)
                self.assertEqual((status, out), (2, ""), err)
                self.assertIn("carrel", err)


class OverPostgres(unittest.TestCase):
    def test_verify_and_export(self):
        with postgres.Postgres(fsync=False) as database:
            environment = {"CARREL_DATABASE_URL": database.url}
            with Server(environment=environment) as server:
                work(self, server)
                status, out, err = audit("verify", environment=environment)
                self.assertEqual((status, err), (0, ""))
                count = int(out.split()[0])
                self.assertGreaterEqual(count, 5)
                lines = audit("export", environment=environment)[1].splitlines()
                self.assertGreaterEqual(len(lines), count)
            database.sql("DROP TRIGGER audit_change ON audit")
            database.sql("UPDATE audit SET outcome = 'fine' WHERE seq = 2")
            status, _, err = audit("verify", "--database", database.url)
            self.assertEqual(status, 1)
            self.assertIn("record 2: it was changed", err)
            self.assertNotIn(database.password, err)


if __name__ == "__main__":
    unittest.main()
