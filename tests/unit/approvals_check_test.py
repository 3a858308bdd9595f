"""The checker of approvals_kill_test.py: it finds each thing that must not be, and nothing in what
may be."""

import copy
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from approvals_check import check, check_trail  # noqa: E402
from approvals_load import Ledger, Submission  # noqa: E402

NOON = "2026-01-01T12:00:{:09.6f}Z"
NOON_US = 1767268800000000


def history(*kinds):
    """Events of those kinds, a second apart; "waiting:code" and "decided:code:yes" tell more."""
    events = []
    for seq, words in enumerate(kinds, 1):
        kind, *more = words.split(":")
        body = {}
        if kind == "waiting":
            body = {"stage": more[0], "deadline_us": NOON_US + seq * 1000000 + 5500000}
        elif kind == "decided":
            body = {"stage": more[0], "approve": more[1] == "yes"}
        events.append({"seq": seq, "at": NOON.format(seq), "kind": kind, "body": body})
    return events


def shown(policy, state, *kinds, callback=False, kind="code", call=None):
    events = history(*kinds)
    decisions = [event["body"] for event in events if event["kind"] == "decided"]
    return {"id": "a", "kind": kind, "policy": policy, "state": state, "history": events, "call": call,
            "decisions": decisions, "settings": {"callback": {"url": "x"} if callback else None}}


AFTER = ("submitted", "run_started", "run_finished", "waiting:result", "decided:result:yes",
         "approved")
BEFORE = ("submitted", "waiting:code", "decided:code:yes", "run_started", "run_finished", "approved")
NO = ("submitted", "waiting:code", "decided:code:no", "rejected")


class CheckerTest(unittest.TestCase):
    def setUp(self):
        self.ledger = Ledger()
        self.submission = self.ledger.add(Submission("key", {}, {"a"}, nonce="n"))

    def heard(self, stage, approve, acknowledged=True):
        self.ledger.decision(("a", stage), approve, acknowledged)

    def wrong(self, one, deliveries=(), witnessed=()):
        return check(self.ledger, {"a": one}, deliveries, witnessed)

    def assert_wrong(self, text, *arguments, **options):
        found = self.wrong(*arguments, **options)
        self.assertTrue(any(text in one for one in found), found)

    # --- what may be ---

    def test_the_ways_of_every_policy(self):
        both = ("submitted", "waiting:code", "decided:code:yes", "run_started", "run_interrupted",
                "run_started", "run_put_back", "run_started", "run_finished", "waiting:result",
                "decided:result:no", "rejected")
        for policy, state, kinds, said in (
                ("after", "approved", AFTER, [("result", True)]),
                ("before", "approved", BEFORE, [("code", True)]),
                ("before", "rejected", NO, [("code", False)]),
                ("both", "rejected", both, [("code", True), ("result", False)]),
                ("rules", "approved", ("submitted", "run_started", "run_finished", "approved"), [])):
            self.setUp()
            for stage, approve in said:
                self.heard(stage, approve)
            self.assertEqual(self.wrong(shown(policy, state, *kinds)), [], policy)

    def test_an_answer_that_was_lost_may_stand_or_not(self):
        self.heard("result", True, False)
        self.heard("result", False, False)
        self.assertEqual(self.wrong(shown("after", "approved", *AFTER)), [])

    # --- what must not ---

    def test_lost_and_made_twice(self):
        self.assertTrue(any("lost" in one for one in check(self.ledger, {}, [], [])))
        self.submission.ids.add("b")
        self.assert_wrong("several approvals", shown("rules", "failed", "submitted"))
        self.submission.ids = set()
        self.assert_wrong("nobody submitted", shown("after", "approved", *AFTER))

    def test_decisions(self):
        approved = shown("after", "approved", *AFTER)
        self.assert_wrong("nobody has said", approved)
        self.heard("result", False)
        self.assert_wrong("was acknowledged, True stands", approved)
        self.heard("result", True)
        self.assert_wrong("both answers", approved)
        self.assert_wrong("decided in the state decided", shown(
            "after", "approved", *AFTER[:5], "decided:result:yes", "approved"))
        self.assert_wrong("approved after rejected", shown("before", "approved", *NO, "approved"))
        self.assert_wrong("nobody has said so", shown(
            "after", "approved", *AFTER[:3], "approved"))

    def test_runs(self):
        self.heard("code", False)
        for extra in ("run_started", "run_finished", "waiting:result"):
            self.assert_wrong(f"{extra.partition(':')[0]} after rejected",
                              shown("before", "rejected", *NO, extra))
        self.assert_wrong("without its code having been approved", shown(
            "before", "running", "submitted", "run_started"))
        self.assert_wrong("in the state running", shown(
            "after", "running", "submitted", "run_started", "run_started"))
        self.assert_wrong("interrupted 0 times", shown(
            "after", "failed", "submitted", "run_started", "failed"))
        self.assert_wrong("still queued", shown("after", "queued", "submitted"))
        self.assert_wrong("its code ran and was not approved",
                          shown("before", "rejected", *NO), witnessed=[("n", 0)])
        self.submission.gated = True
        self.heard("result", True)
        self.assert_wrong("nobody had allowed it", shown("after", "approved", *AFTER),
                          witnessed=[("n", NOON_US / 1e6 + 2)])

    def test_deadlines(self):
        late = ("submitted", "waiting:code", *["callback_failed"] * 8)
        self.assert_wrong("expired before its deadline", shown(
            "before", "expired", "submitted", "waiting:code", "expired"))
        self.assert_wrong("in the state waiting", shown("before", "waiting", *late))
        kinds = history("submitted", "waiting:code", "expired")
        kinds[2]["at"] = NOON.format(9)
        good = shown("before", "expired", "submitted", "waiting:code", "expired")
        good["history"] = kinds
        self.assertEqual(self.wrong(good), [])
        good["history"] = [*kinds, {**copy.deepcopy(kinds[2]), "seq": 4}]
        self.assert_wrong("expired after expired", good)

    def test_callbacks(self):
        self.heard("result", True)
        asked = shown("after", "approved", *AFTER, callback=True)
        self.assertEqual(self.wrong(asked, [("a:approved", "approved", True)] * 2), [])
        self.assert_wrong("did not arrive", asked)
        self.assert_wrong("did not arrive", asked, [("a:approved", "approved", False)])
        self.assert_wrong("several ids", asked, [("a:approved", "approved", True),
                                                 ("a:rejected", "rejected", True)])
        self.assert_wrong("not so", asked, [("a:rejected", "rejected", True)])
        self.assert_wrong("what is not there", asked, [("b:approved", "approved", True)])
        self.assert_wrong("nobody asked for", shown("after", "approved", *AFTER),
                          [("a:approved", "approved", True)])
        twice = shown("after", "approved", *AFTER, *["callback_delivered"] * 2, callback=True)
        self.assert_wrong("callback_delivered twice", twice, [("a:approved", "approved", True)])

    def test_numbers_and_the_trail(self):
        self.heard("result", True)
        one = shown("after", "approved", *AFTER)
        trail = [{"subject": "a", "action": "approval.submit"},
                 {"subject": "a", "action": "approval.decide"}]
        self.assertEqual(list(check_trail(trail, {"a": one})), [])
        self.assertEqual(len(list(check_trail(trail[:1], {"a": one}))), 1)
        self.assertEqual(len(list(check_trail([*trail, trail[1]], {"a": one}))), 1)
        one["history"][3]["seq"] = 5
        self.assert_wrong("has the number", one)
        self.assert_wrong("its events", shown("after", "rejected", *AFTER))


if __name__ == "__main__":
    unittest.main()
