"""Clients of approvals that go on whatever becomes of the server, and remember what they were told.

    ledger = Ledger()
    load = Load(ports, token, ledger, seed, callback_url)
    with load:
        ...                  # kill and start servers
    load.finish(60)          # with a server that stays: what is left is asked again, and decided

Runs have two tools, witness and gate, which tell the test that they run; calls of the second wait for
a person. An answer may be lost with the server that gave it; then nobody knows whether it was done, and both
are right. What was answered has to stand.
"""

import contextlib
import dataclasses
import http.client
import json
import random
import threading
import time
import urllib.parse

FINAL = ("approved", "rejected", "expired", "failed", "cancelled")
POLICIES = ("after", "after", "after", "before", "before", "before", "both", "both", "rules")
PAGE = 200
# Of a token whose server is going away, or is not the master of its database just now.
NOT_NOW = (429, 500, 502, 503, 504)


@dataclasses.dataclass
class Submission:
    """One Idempotency-Key: what was asked, and every id it was ever answered with."""
    key: str
    body: dict
    ids: set = dataclasses.field(default_factory=set)
    nonce: str = None  # what the run tells the witness, if it does
    gated: bool = False  # by a call that waits for a person itself

    @property
    def id(self):
        return next(iter(self.ids), None)


class Ledger:
    """What was asked and what was answered. Decisions are by (id, stage)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.submissions = {}
        self.asked = {}   # the answers that somebody tried to give
        self.heard = {}   # those that were acknowledged
        self.refused = 0
        self.lost = 0     # requests without an answer
        self.strange = []

    def add(self, submission):
        with self.lock:
            return self.submissions.setdefault(submission.key, submission)

    def decision(self, where, approve, heard):
        with self.lock:
            self.asked.setdefault(where, set()).add(approve)
            if heard:
                self.heard.setdefault(where, set()).add(approve)

    def tell_strange(self, text):
        with self.lock:
            self.strange.append(text)

    def known(self, chance):
        with self.lock:
            return chance.choice(list(self.submissions.values())) if self.submissions else None

    def told_decision(self, chance):
        with self.lock:
            if not self.heard:
                return None
            where = chance.choice(list(self.heard))
            return where, next(iter(self.heard[where]))


class Client:
    """One connection at a time, to whichever server answers."""

    def __init__(self, ports, token, ledger, chance):
        self._ports, self._token, self._ledger = ports, token, ledger
        self.chance = chance
        self._connection = None

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, method, path, body=None, key=None):
        """(status, JSON), or None when nobody knows."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            if self._connection is None or self.chance.random() < 0.02:
                self.close()
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self.chance.choice(self._ports), timeout=30)
            self._connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = self._connection.getresponse()
            text = answer.read()
            plain = answer.headers["Content-Type"].startswith("text/plain")
            return answer.status, text.decode() if plain else json.loads(text)
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            with self._ledger.lock:
                self._ledger.lost += 1
            return None

    def expect(self, statuses, method, path, body=None, key=None):
        """The JSON of an answer with one of these statuses; None when it is not known what was done,
        False for an honest refusal (409 and 404 among STATUSES)."""
        answer = self.ask(method, path, body, key)
        if answer is None or answer[0] in NOT_NOW:
            return None
        status, value = answer
        if status not in statuses:
            self._ledger.tell_strange(f"{method} {path}: {status} {str(value)[:300]}")
            return None
        return value if status < 400 else False

    def submit(self, submission):
        value = self.expect((200, 201), "POST", "/approvals", submission.body, submission.key)
        if value:
            with self._ledger.lock:
                submission.ids.add(value["id"])
        return value

    def decide(self, identifier, stage, approve):
        where = (identifier, stage)
        self._ledger.decision(where, approve, False)
        body = {"approve": approve, "stage": stage, "by": f"client {self.chance.random():.3f}"}
        value = self.expect((200, 409), "POST", f"/approvals/{identifier}/decision", body)
        if value:
            self._ledger.decision(where, approve, True)
        elif value is False:
            with self._ledger.lock:
                self._ledger.refused += 1
        return value

    def review(self, identifier, approve):
        """By the sample's route, which keeps what comes before the result."""
        where = (identifier, "result")
        self._ledger.decision(where, approve, False)
        value = self.expect((200, 409), "POST", f"/Code/Review?approve={approve}"
                            f"&requestId={identifier}")
        if value:
            self._ledger.decision(where, approve, True)
        elif value is False:
            with self._ledger.lock:
                self._ledger.refused += 1

    def list(self, **query):
        words = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        return self.expect((200,), "GET", f"/approvals?{words}")

    def show(self, identifier):
        return self.expect((200,), "GET", f"/approvals/{identifier}")


class Load:
    """THREADS clients that submit, look, decide, and ask again for what they know already."""

    def __init__(self, ports, token, ledger, seed, callback_url, threads=4, pause=0.01):
        self._make = lambda name: Client(ports, token, ledger, random.Random(f"{seed}-{name}"))
        self.ledger = ledger
        self._callback_url, self._pause = callback_url, pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True)
                         for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    # --- what a client does ---

    def _new(self, chance, name):
        key = f"key-{name}"
        code, nonce, draw = f"print('{key}')\n{chance.randrange(1000)} * 2", None, chance.random()
        if draw < 0.3:
            nonce = f"nonce-{name}"
            code = f"tools.{'gate' if draw < 0.07 else 'witness'}.note(nonce={nonce!r})\n{code}"
        elif draw < 0.4:
            code = "import time; time.sleep(0.3)\n" + code
        body = {"code": code, "policy": chance.choice(POLICIES)}
        if chance.random() < 0.25:
            body["deadline_seconds"] = round(chance.uniform(1, 3), 3)
        if chance.random() < 0.4:
            body["callback"] = {"url": f"{self._callback_url}/{key}"}
        return self.ledger.add(Submission(key, body, nonce=nonce, gated=draw < 0.07))

    def _work(self, number):
        client, count = self._make(number), 0
        chance = client.chance
        while not self._stop.is_set():
            count += 1
            draw = chance.random()
            if draw < 0.3:
                done = client.submit(self._new(chance, f"{number}-{count}"))
                if done and done["policy"] == "after" and chance.random() < 0.2:
                    client.review(done["id"], chance.random() < 0.65)
            elif draw < 0.4:
                known = self.ledger.known(chance)
                done = known is None or client.submit(known)
            elif draw < 0.45:
                told = self.ledger.told_decision(chance)
                done = told is None or client.decide(*told[0], told[1])
            elif draw < 0.5:
                known = self.ledger.known(chance)
                done = known is None or known.id is None or client.show(known.id)
            else:
                done = self._decide_some(client)
            # Nobody answers for a moment while a server starts.
            time.sleep(0.03 if done is None else self._pause)
        client.close()

    @staticmethod
    def _decide_some(client):
        # Runs wait for calls, so these are looked for by themselves as well.
        kind = "call" if client.chance.random() < 0.3 else None
        page = client.list(limit=50, state="waiting", kind=kind)
        if not page:
            return None
        # Of those that expire soon half are left to it.
        waiting = [one for one in page["approvals"]
                   if one["settings"]["deadline_seconds"] > 4 or one["id"][0] in "01234567"]
        for one in client.chance.sample(waiting, min(4, len(waiting))):
            client.decide(one["id"], one["stage"], client.chance.random() < 0.65)
        return True

    # --- the end ---

    def finish(self, seconds):
        """Asks for every submission until it is known, and decides about everything that waits.
        Whether all came to an end."""
        client, end = self._make("finish"), time.monotonic() + seconds
        with contextlib.closing(client):
            for submission in list(self.ledger.submissions.values()):
                while submission.id is None and time.monotonic() < end:
                    client.submit(submission) or time.sleep(0.05)
            quiet = 0
            while time.monotonic() < end:
                left = [one for state in ("queued", "running", "waiting")
                        for one in (client.list(limit=PAGE, state=state)
                                    or {"approvals": [None]})["approvals"]]
                # One may have moved on between two questions.
                quiet = 0 if left else quiet + 1
                if quiet == 2:
                    return True
                for one in left:
                    if one is not None and one["state"] == "waiting":
                        client.decide(one["id"], one["stage"], client.chance.random() < 0.65)
                time.sleep(0.05)
        return False

    def shown(self):
        """Every approval that there is, with its history, by id."""
        client, found, after = self._make("show"), {}, None
        with contextlib.closing(client):
            while True:
                page = client.list(limit=PAGE, after=after)
                if not page:
                    raise ConnectionError("the server does not list its approvals")
                found.update((one["id"], client.show(one["id"])) for one in page["approvals"])
                after = page["next"]
                if after is None:
                    return found
