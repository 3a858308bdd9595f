"""Searches of skills ranked again by an embeddings service: the order is what its vectors say, and when
they cannot be had, for whatever reason, it is that of the words, at once, with a line in the log."""

import http.server
import json
import pathlib
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402

NAMES = ("scan_alpha", "scan_beta", "scan_gamma")
QUERY = "Represent this sentence for searching relevant passages: scan"


class Service:
    """/v1/embeddings of one's own. vectors: text to vector; mode: how it answers."""

    def __enter__(self):
        service = self
        self.mode, self.vectors, self.requests = "good", {}, []
        self.release = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.requests.append((self.path, self.headers.get("Authorization"), body))
                status, answer = service.answer(body["input"])
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/embeddings"
        return self

    def __exit__(self, *_):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()

    def vector(self, text):
        for word, vector in self.vectors.items():
            if word in text:
                return vector
        return [1.0, 0.0, 0.0]

    def answer(self, texts):
        data = [{"index": i, "embedding": self.vector(t)} for i, t in enumerate(texts)]
        if self.mode == "slow":
            self.release.wait(60)
        elif self.mode == "failing":
            return 500, b'{"error": "out of order"}'
        elif self.mode == "no json":
            return 200, b"<html>"
        elif self.mode == "fewer":
            data = data[1:]
        elif self.mode == "not one length":
            data[-1]["embedding"] = [1.0]
        elif self.mode == "words":
            data[0]["embedding"] = ["a", "b", "c"]
        elif self.mode == "shorter":
            data = [{**d, "embedding": d["embedding"][:2]} for d in data]
        # In any order, each with its number.
        return 200, json.dumps({"data": data[::-1]}).encode()


@unittest.skipUnless((harness.BUILD / "carrel-runner").exists(), "this build has no runner")
class Embeddings(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(Service())
        self.environment = {"KEY_OF_THE_SERVICE": "the-key"}
        self.server = self.enterContext(harness.Server({"code_mode": {
            "tools": {"secrets": {"key": {"env": "KEY_OF_THE_SERVICE"}}},
            "embeddings": {"url": self.service.url, "model": "a-model", "secret": "key"}}},
            environment=self.environment))
        for name in NAMES:
            self.server.value("demo", f"skills.create({name!r}, 'def run():\\n    return 1\\n', "
                                      f"'scan {name[5:]}') and None")
        self.service.requests.clear()

    def found(self, query="scan"):
        return self.server.value(
            "demo", f"' '.join(s['name'] for s in skills.search({query!r}, limit=3))").split()

    def failures(self):
        return [e["reason"] for e in self.server.events if e.get("event") == "embeddings_failed"]

    def wait_for_failures(self, *reasons):
        """The log comes by a thread of the test's own."""
        end = time.monotonic() + 10
        while self.failures() != list(reasons):
            self.assertLess(time.monotonic(), end, self.failures())
            time.sleep(0.01)

    def prefer(self, *names):
        """Vectors that put these in order, best first."""
        for i, name in enumerate(names):
            self.service.vectors["scan " + name[5:]] = [1.0, float(i), 0.0]

    def test_the_order_is_what_the_vectors_say(self):
        self.prefer("scan_gamma", "scan_alpha", "scan_beta")
        self.assertEqual(self.found(), ["scan_gamma", "scan_alpha", "scan_beta"])
        path, key, body = self.service.requests[0]
        self.assertEqual((path, key, body["model"]), ("/v1/embeddings", "Bearer the-key", "a-model"))
        self.assertIn(QUERY, body["input"])
        # What is known is not asked for again, and each text once.
        self.assertEqual(len(body["input"]), len(set(body["input"])))
        count = len(self.service.requests)
        self.assertEqual(self.found(), ["scan_gamma", "scan_alpha", "scan_beta"])
        self.assertEqual(len(self.service.requests), count)
        self.found("alpha scan")
        self.assertEqual(len(self.service.requests), count + 1)
        self.assertEqual(len(self.service.requests[-1][2]["input"]), 1)
        self.assertEqual(self.failures(), [])

    def test_another_order(self):
        """So that the test above is none of the words' order."""
        self.prefer("scan_beta", "scan_gamma", "scan_alpha")
        self.assertEqual(self.found(), ["scan_beta", "scan_gamma", "scan_alpha"])

    def test_broken_answers_leave_the_order_of_the_words(self):
        self.prefer("scan_gamma", "scan_beta", "scan_alpha")
        words = sorted(NAMES)
        for mode in ("failing", "no json", "fewer", "not one length", "words"):
            with self.subTest(mode=mode):
                self.service.mode = mode
                before = len(self.failures())
                # Whatever came of the one before, it is asked again in time.
                end = time.monotonic() + 20
                while len(self.failures()) == before:
                    self.assertLess(time.monotonic(), end, "nothing is told")
                    self.assertEqual(sorted(self.found()), words)
                    self.assertEqual(self.found(), self.found())
                    time.sleep(0.2)
        self.service.mode = "good"
        end = time.monotonic() + 20
        while self.found() != ["scan_gamma", "scan_beta", "scan_alpha"]:
            self.assertLess(time.monotonic(), end, "it is not asked any more")
            time.sleep(0.2)
        self.assertNotIn("the-key", "\n".join(json.dumps(e) for e in self.server.events))

    def test_a_service_that_is_slow_is_not_waited_for(self):
        self.prefer("scan_gamma", "scan_beta", "scan_alpha")
        self.service.mode = "slow"
        begun = time.monotonic()
        order = self.found()
        self.assertLess(time.monotonic() - begun, 4.5)
        self.assertEqual(sorted(order), sorted(NAMES))
        self.wait_for_failures("they took too long")
        # And for a moment nobody waits at all.
        begun = time.monotonic()
        self.assertEqual(self.found(), order)
        self.assertLess(time.monotonic() - begun, 1)
        # What came late is there for the next.
        self.service.mode = "good"
        self.service.release.set()
        end = time.monotonic() + 20
        while self.found() != ["scan_gamma", "scan_beta", "scan_alpha"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)
        self.assertEqual(len(self.service.requests), 1)

    def test_vectors_of_another_length_are_not_mixed(self):
        """As when the service has another model from now on."""
        self.prefer("scan_gamma", "scan_beta", "scan_alpha")
        self.assertEqual(self.found(), ["scan_gamma", "scan_beta", "scan_alpha"])
        self.service.mode = "shorter"
        self.assertEqual(sorted(self.found("alpha scan")), sorted(NAMES))
        self.wait_for_failures("they are not of one length")
        self.prefer("scan_beta", "scan_gamma", "scan_alpha")
        self.assertEqual(self.found("alpha scan"), ["scan_beta", "scan_gamma", "scan_alpha"])


if __name__ == "__main__":
    unittest.main()
