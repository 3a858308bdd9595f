"""How long somebody else waits while something goes on at a server.

    neighbour = Neighbour(server, token)
    neighbour.assert_served(self, attack)

calls attack(), and beside it asks again and again for /health and for a cell of a session of its own,
as another tenant would. The longest wait of each is compared with the longest in a phase of the same
length just after it, so that the test holds on a busy machine: a server that the
attack stops is stopped in every try, and the best counts.
"""

import http.client
import json
import secrets
import threading
import time

TRIES = 8
MAY_WAIT_SECONDS = 0.1  # beyond the neighbour's wait without the attack


class Neighbour:
    """token: of another tenant than the attacker's. It keeps one warm session."""

    def __init__(self, server, token=None):
        self.server = server
        self.token = token or server.token
        self.identifier = f"neighbour-{secrets.token_hex(8)}"
        self._ask_cell(server.connect())

    # --- what it asks ---

    def _ask_health(self, connection):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"/health: {answer.status} {body!r}")

    def _ask_cell(self, connection):
        connection.request(
            "POST", self.server.target("executions", self.identifier),
            json.dumps({"code": "1 + 1"}),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or json.loads(body)["result"]["executionResult"] != 2:
            raise AssertionError(f"the neighbour's cell: {answer.status} {body[:500]!r}")

    # --- how long it waits ---

    def longest_waits(self, action):
        """Calls action() and asks until it returns: {what was asked: the longest wait in seconds}."""
        stop = threading.Event()
        longest, errors = {}, []

        def ask_again_and_again(name, ask):
            connection = self.server.connect()
            longest[name] = 0
            try:
                while not stop.is_set():
                    start = time.monotonic()
                    ask(connection)
                    longest[name] = max(longest[name], time.monotonic() - start)
            except (AssertionError, OSError, http.client.HTTPException) as error:
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=ask_again_and_again, args=item, daemon=True)
                   for item in (("health", self._ask_health), ("cell", self._ask_cell))]
        for thread in threads:
            thread.start()
        try:
            action()
        finally:
            stop.set()
            for thread in threads:
                thread.join(120)
        if errors:
            raise errors[0]
        return longest

    def assert_served(self, case, attack, tries=TRIES, may_wait=MAY_WAIT_SECONDS):
        """Fails unless in one of the tries the neighbour hardly waits longer for the attack."""
        seen = []
        for _ in range(tries):
            start = time.monotonic()
            beside = self.longest_waits(attack)
            took = time.monotonic() - start
            quiet = self.longest_waits(lambda: time.sleep(took))
            over = {name: beside[name] - quiet[name] for name in quiet}
            if max(over.values()) <= may_wait:
                return beside
            seen.append(", ".join(f"{name} {quiet[name] * 1000:.0f} -> {beside[name] * 1000:.0f} ms"
                                  for name in sorted(quiet)))
        case.fail(f"the neighbour waits for the attack: {'; '.join(seen)}")


def turns_longer(server, seconds=0.1, token=None):
    """How many turns of the server's loop took longer, so far; seconds is one of the buckets."""
    headers = {"Authorization": f"Bearer {token or server.token}"}
    text = server.request("GET", "metrics", headers=headers).body.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    name = "carrel_loop_turn_seconds"
    return int(values[f"{name}_count"]) - int(values[f'{name}_bucket{{le="{seconds:g}"}}'])
