"""What must be true of approvals after everything that can happen to a server has happened.

check() compares what clients were told (approvals_load.Ledger) with what the server shows, what the
receiver of callbacks got, and what the runs themselves told a witness. It gives a text for each thing
that is wrong.
"""

import collections
import datetime

from approvals_load import FINAL

ATTEMPTS_MAX = 5
FIRST_STAGE = {"before": "code", "both": "code"}
LAST_STAGE = {"after": "result", "before": "code", "both": "result", "call": "call"}
ENDINGS = ("rejected", "expired", "failed", "cancelled")
AFTERWARDS = ("callback_delivered", "callback_failed", "callback_given_up", "promoted",
              "promote_failed", "call_finished")


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class History:
    """Goes through the events of one approval; what does not fit raises ValueError."""

    def __init__(self, shown):
        self.policy = "call" if shown["kind"] == "call" else shown["policy"]
        self.state, self.stage, self.attempt, self.interrupted = None, None, 0, 0
        self.deadline, self.decisions, self.counts = None, {}, collections.Counter()
        self.ran = False       # and its result was taken
        self.code_approved = False
        for number, event in enumerate(shown["history"], 1):
            self._need(event["seq"] == number, f"event {number} has the number {event['seq']}")
            kind = event["kind"]
            self.counts[kind] += 1
            step = getattr(self, "_" + kind, None) or (
                self._afterwards if kind in AFTERWARDS else self._end)
            self._need(step != self._end or kind in ENDINGS, f"an event {kind}")
            self._need(self.state not in FINAL or kind in AFTERWARDS,
                       f"{kind} after {self.state}")
            step(kind, event)
        self._need(self.state == shown["state"], f"is {shown['state']}; its events: {self.state}")

    @staticmethod
    def _need(good, text):
        if not good:
            raise ValueError(text)

    def _from(self, kind, *states):
        self._need(self.state in states, f"{kind} in the state {self.state}")

    def _submitted(self, kind, _):
        self._from(kind, None)
        self.state = "queued"

    def _waiting(self, kind, event):
        stage = event["body"]["stage"]
        self._from(kind, "finished" if stage == "result" else "queued")
        self._need(stage not in self.decisions, f"waits again with its {stage}")
        self._need(stage != "code" or (self.policy in FIRST_STAGE and self.attempt == 0),
                   "waits with its code")
        self.state, self.stage = "waiting", stage
        self.deadline = event["body"]["deadline_us"] / 1e6

    def _run_started(self, kind, _):
        self._from(kind, "queued")
        self._need(self.policy not in FIRST_STAGE or self.code_approved,
                   "runs without its code having been approved")
        self.state, self.attempt = "running", self.attempt + 1

    def _run_interrupted(self, kind, _):
        self._from(kind, "running")
        self.state, self.interrupted = "queued", self.interrupted + 1

    def _run_put_back(self, kind, _):
        self._from(kind, "running")
        self.state, self.attempt = "queued", self.attempt - 1

    def _run_finished(self, kind, _):
        self._from(kind, "running")
        self._need(not self.ran, "two results")
        self.state, self.ran = "finished", True

    def _decided(self, kind, event):
        body = event["body"]
        if self.policy == "after" and self.state in ("queued", "running"):
            # It came before its result, by the sample's route.
            self._need(body["stage"] == "result", f"{body['stage']} decided before there is one")
            self._need("result" not in self.decisions, "result is decided twice")
            self.stage, self.decisions["result"] = "result", body["approve"]
            return
        self._from(kind, "waiting")
        self._need(body["stage"] == self.stage, f"{body['stage']} decided while {self.stage} waits")
        self._need(self.stage not in self.decisions, f"{self.stage} is decided twice")
        self._need(seconds(event["at"]) <= self.deadline, "decided after its deadline")
        self.decisions[self.stage] = body["approve"]
        self.state = "decided"
        if body["approve"] and self.stage == "code":
            self.state, self.code_approved = "queued", True

    def _approved(self, kind, _):
        last = LAST_STAGE.get(self.policy)
        self._need(last is None or self.decisions.get(last) is True,
                   "approved, and nobody has said so")
        self._need(self.policy == "call" or self.ran, "approved without a result")
        self._from(kind, *(("decided", *self._early()) if last in ("result", "call")
                           else ("finished",)))
        self.state = "approved"

    def _rejected(self, kind, _):
        self._from(kind, "decided", *self._early())
        self._need(self.decisions[self.stage] is False, "rejected, and nobody has said so")
        self.state = "rejected"

    def _early(self):
        """What its end follows from when it was decided before there was a result."""
        return ("finished",) if self.policy == "after" and "result" in self.decisions else ()

    def _expired(self, kind, event):
        self._from(kind, "waiting")
        self._need(seconds(event["at"]) >= self.deadline - 0.001, "expired before its deadline")
        self.state = "expired"

    def _failed(self, kind, _):
        self._from(kind, "queued", "running")
        self._need(self.interrupted >= ATTEMPTS_MAX, f"failed, interrupted {self.interrupted} times")
        self.state = "failed"

    def _end(self, kind, _):
        self._need(self.state not in FINAL, f"{kind} in the state {self.state}")
        self.state = kind

    def _afterwards(self, kind, _):
        self._need(self.state in FINAL, f"{kind} in the state {self.state}")
        self._need(kind != "callback_delivered" or self.counts[kind] == 1, f"{kind} twice")


def check_submissions(ledger, shown):
    for submission in ledger.submissions.values():
        if len(submission.ids) > 1:
            yield f"{submission.key}: one key, several approvals: {sorted(submission.ids)}"
        for identifier in submission.ids - set(shown):
            yield f"{identifier} was acknowledged and is lost"
    known = {i for submission in ledger.submissions.values() for i in submission.ids}
    for identifier, one in shown.items():
        if identifier not in known and one["kind"] != "call":
            yield f"{identifier}: nobody submitted it"


def check_decisions(ledger, identifier, history):
    for (where, stage), heard in ledger.heard.items():
        if where != identifier:
            continue
        if len(heard) > 1:
            yield f"{identifier}: both answers about its {stage} were acknowledged"
        if history.decisions.get(stage) not in heard:
            yield (f"{identifier}: {heard} about its {stage} was acknowledged, "
                   f"{history.decisions.get(stage)} stands")
    for stage, approve in history.decisions.items():
        if approve not in ledger.asked.get((identifier, stage), ()):
            yield f"{identifier}: nobody has said {approve} about its {stage}"


def check_callbacks(shown, deliveries):
    """DELIVERIES: (id of the delivery, state in its body, whether it was answered 2xx)."""
    of = collections.defaultdict(list)
    for delivery, state, taken in deliveries:
        identifier, _, named = delivery.rpartition(":")
        of[identifier].append((delivery, taken))
        if named != state or shown.get(identifier, {}).get("state") != state:
            yield f"{delivery}: a callback about {state} that is not so"
    for identifier, one in shown.items():
        asked = one["settings"]["callback"] is not None
        got = of.pop(identifier, [])
        if asked and not any(taken for _, taken in got):
            yield f"{identifier}: its callback did not arrive"
        if not asked and got:
            yield f"{identifier}: a callback that nobody asked for"
        if len({delivery for delivery, _ in got}) > 1:
            yield f"{identifier}: callbacks of several ids: {got}"
    for identifier in of:
        yield f"{identifier}: a callback about what is not there"


def check_runs(ledger, shown, witnessed):
    """WITNESSED: nonces of the runs that were seen, each with its time."""
    allowed = {one["call"]["arguments"]["nonce"] for one in shown.values()
               if one["kind"] == "call" and any(d["approve"] for d in one["decisions"])}
    by_nonce = {s.nonce: s for s in ledger.submissions.values() if s.nonce}
    for nonce, at in witnessed:
        submission = by_nonce.get(nonce)
        one = shown.get(submission.id) if submission is not None else None
        if one is None:
            yield f"{nonce}: it ran and is not there"
            continue
        started = [seconds(e["at"]) for e in one["history"] if e["kind"] == "run_started"]
        if not started or at < min(started) - 1:
            yield f"{one['id']}: it ran and its history does not say so"
        stages = {d["stage"]: d["approve"] for d in one["decisions"]}
        if one["policy"] in FIRST_STAGE and stages.get("code") is not True:
            yield f"{one['id']}: its code ran and was not approved"
        if submission.gated and nonce not in allowed:
            yield f"{one['id']}: its call was made and nobody had allowed it"


def check(ledger, shown, deliveries, witnessed):
    """What is wrong, as texts; an empty list is good."""
    wrong = list(ledger.strange)
    wrong += check_submissions(ledger, shown)
    for identifier, one in shown.items():
        try:
            history = History(one)
        except (ValueError, KeyError, TypeError) as error:
            wrong.append(f"{identifier}: {error}: {[e['kind'] for e in one['history']]}")
            continue
        if one["state"] not in FINAL:
            wrong.append(f"{identifier}: still {one['state']}")
        wrong += check_decisions(ledger, identifier, history)
    wrong += check_callbacks(shown, deliveries)
    wrong += check_runs(ledger, shown, witnessed)
    return wrong


TRAIL = {"submitted": "approval.submit", "decided": "approval.decide", "expired": "approval.expire"}


def check_trail(records, shown):
    """RECORDS of the audit trail: each event that counts has its record there, once."""
    found = collections.Counter()
    for record in records:
        found[record["subject"], record["action"]] += 1
    for identifier, one in shown.items():
        counts = collections.Counter(event["kind"] for event in one["history"])
        for kind, action in TRAIL.items():
            if found[identifier, action] != counts[kind]:
                yield (f"{identifier}: {counts[kind]} times {kind}, and {found[identifier, action]} "
                       "in the audit trail")
