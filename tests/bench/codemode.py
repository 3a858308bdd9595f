"""What is measured of code mode: tools, skills and artifacts, from inside a session and over HTTP.
Each function does one round and returns its numbers."""

import itertools
import json
import pathlib
import random
import re
import socket
import subprocess
import time
import urllib.parse

from figures import Failed, harness, settle, unique

SKILLS = 10000
SKILL_BYTES = 2048
READ_SECONDS = 120
# Long enough for the runner to make ready what its next command takes.
REST_SECONDS = 0.005
# Longer than the store on files takes what it saw of its directories for granted.
QUIET_SECONDS = 1.2
ECHO = {
    "name": "echo", "type": "cli", "command": "echo", "description": "Say a text again.",
    "schema": {"positional": [{"name": "text", "type": "string", "required": True}]},
    "recipes": {"echo": {"description": "Say a text again.", "params": {"text": {}}}},
}
PORT_SCAN = '''"""Scan network ports to find open services."""


def run(target: str, flags: str = "-sV") -> str:
    return tools.nmap(target=target, flags=flags)
'''
# Runs in the session: one call after the other, each with its own time, and each answer looked at.
TIMES = '''
import json
def times_of(calls, rest_seconds=0):
    from time import perf_counter, sleep
    times = []
    for call, good in calls:
        if rest_seconds:
            sleep(rest_seconds)
        begin = perf_counter()
        answer = call()
        times.append((perf_counter() - begin) * 1e6)
        if not good(answer):
            raise ValueError(f"a wrong answer: {answer!r}")
    first, inside = times[0], sorted(times)
    rank = lambda share: inside[max(0, -(-len(inside) * share // 100) - 1)]
    return json.dumps({"count": len(inside), "first_us": first, "p50_us": rank(50),
                       "p99_us": rank(99), "max_us": inside[-1]})
'''


def times_of(subject, session, call, good, count, before="", warm_up=50, rest_seconds=0):
    """The session's own times of COUNT calls, after some that are not counted."""
    pairs = f"(lambda: {call}, lambda answer: {good})"
    warm = f"times_of([{pairs}] * {warm_up})\n" if warm_up else ""
    return json.loads(subject.value(session, f"{TIMES}{before}\n{warm}"
                                             f"times_of([{pairs}] * {count}, {rest_seconds})"))


# --- tools ----------------------------------------------------------------------------------------

def tools_dir(directory):
    """A directory with the one tool of the bench."""
    tools = pathlib.Path(directory) / "tools"
    tools.mkdir()
    (tools / "echo.yaml").write_text(json.dumps(ECHO))
    return tools


def tool_echo(subject, bench):
    """A tool's round trip, one after the other and with a rest before each; and just before and after
    it the bare start of the same command."""
    session = unique("tools")
    count = bench.scale(300, 60)
    before = spawn(bench, count)
    numbers = times_of(subject, session, 'tools.echo(text="x")', 'answer.strip() == "x"', count,
                       warm_up=10)
    numbers["rested"] = times_of(subject, session, 'tools.echo(text="x")', 'answer.strip() == "x"',
                                 count // 3, warm_up=0, rest_seconds=REST_SECONDS)
    after = spawn(bench, count)
    subject.request("DELETE", "session", session)
    numbers["spawn"] = {name: (before[name] + after[name]) / 2 for name in ("p50_us", "p99_us")}
    return numbers


def spawn(bench, count):
    return json.loads(subprocess.run([bench.spawn, str(count), "echo", "x"], check=True,
                                     capture_output=True, timeout=120).stdout)


# --- artifacts ------------------------------------------------------------------------------------

def exists(subject, bench):
    """A host call that starts nothing: the store looks for one name that is there."""
    session = unique("artifacts")
    numbers = times_of(subject, session, 'artifacts.exists("bench")', "answer is True",
                       bench.scale(2000, 500), before='artifacts.save("bench", "x")\n')
    subject.value(session, 'artifacts.delete("bench")')
    subject.request("DELETE", "session", session)
    return numbers


def exists_redis(both, bench):
    """The same over Redis, and what Redis alone takes to answer a command over TCP."""
    subject, redis = both
    numbers = exists(subject, bench)
    numbers["alone"] = redis_round_trips(redis.port, bench.scale(2000, 500))
    return numbers


def redis_round_trips(port, count):
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count + 50):
            begin = time.perf_counter()
            s.sendall(b"*2\r\n$6\r\nEXISTS\r\n$5\r\nbench\r\n")
            if s.recv(64) not in (b":0\r\n", b":1\r\n"):
                raise Failed("Redis did not answer EXISTS")
            times.append((time.perf_counter() - begin) * 1e6)
    times = sorted(times[50:])
    return {"p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100]}


# --- py-code-mode's wire --------------------------------------------------------------------------

def execute(load, bench):
    """32 connections over 32 sessions that exist already, by POST /execute."""
    prefix = unique("pcm")
    numbers = load.run(connections=32, seconds=bench.scale(2, 1), warm_up=50, prefix=prefix,
                       pcm=True)
    for number in range(32):
        load.subject.request("DELETE", "session", f"{prefix}-{number}")
    settle(load.subject)
    return numbers


# --- sessions that compute ------------------------------------------------------------------------

WORK = "sum(i * i for i in range(4_000_000))"


def compute(subject, bench):
    """One session that computes, and four at once that compute the same, in turn."""
    sessions = [unique(f"compute-{number}") for number in range(4)]
    expected = subject.value(sessions[0], WORK)
    for session in sessions[1:]:
        subject.value(session, "sum(i * i for i in range(1000))")
    one, four = [], []
    for _ in range(bench.scale(3, 1)):
        one.append(seconds_of(subject, sessions[:1], expected))
        four.append(seconds_of(subject, sessions, expected))
    for session in sessions:
        subject.request("DELETE", "session", session)
    settle(subject)
    one, four = (sorted(times)[len(times) // 2] for times in (one, four))
    return {"one_ms": one * 1e3, "four_ms": four * 1e3, "ratio": four / one}


def seconds_of(subject, sessions, expected):
    """From the first request to the last answer."""
    begin = time.perf_counter()
    answers = harness.run_at_once([lambda s=s: subject.value(s, WORK) for s in sessions])
    took = time.perf_counter() - begin
    if answers != [expected] * len(sessions):
        raise Failed(f"{answers} is not {expected}")
    return took


# --- skills ---------------------------------------------------------------------------------------

class Skills:
    """A directory of made-up skills, the same in every run: words of a made-up vocabulary in which,
    as in a language, few words are common and many are rare."""

    def __init__(self, directory, count=SKILLS):
        self.count = count
        self.path = pathlib.Path(directory) / "skills"
        self._random = random.Random(2048)
        syllables = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "ai", "or")]
        self._words = sorted({"".join(self._random.choices(syllables, k=self._random.randint(2, 4)))
                              for _ in range(4000)})
        self._random.shuffle(self._words)
        self._weights = list(itertools.accumulate(
            1 / (10 + rank) for rank in range(len(self._words))))
        self.queries = [" ".join(self.words(4)) for _ in range(200)]
        self._write()

    def words(self, count):
        return self._random.choices(self._words, cum_weights=self._weights, k=count)

    def _write(self):
        self.path.mkdir()
        # The server may have given up root.
        self.path.chmod(0o777)
        (self.path / "port_scan.py").write_text(PORT_SCAN)
        for number in range(self.count - 1):
            name = "_".join([*self.words(2), str(number)])
            (self.path / f"{name}.py").write_text(self._source())

    def _source(self):
        text = (f'"""{" ".join(self.words(8)).capitalize()}."""\n\n\n'
                f"def run({self.words(1)[0]}: str, limit: int = 10) -> str:\n")
        while len(text) < SKILL_BYTES - 100:
            text += f"    {'_'.join(self.words(2))} = {' '.join(self.words(9))!r}\n"
        return text + "    return str(limit)\n"


def wait_until_read(subject):
    """Seconds until the server has read, described and indexed all skills, which it does by itself
    once it has started: it searches them, and counts that."""
    begin = time.perf_counter()
    pattern = re.compile(r'^carrel_codemode_calls_total{method="skills.search",outcome="ok"} [1-9]',
                         re.MULTILINE)
    while not pattern.search(subject.request("GET", "metrics").body.decode()):
        if time.perf_counter() - begin > READ_SECONDS:
            raise Failed("the skills are not read")
        time.sleep(0.01)
    return time.perf_counter() - begin


def search(started, bench):
    """The first search that anybody asks for, others, others after a moment without any, and the same
    over HTTP."""
    load, read_seconds = started
    subject = load.subject
    session = unique("skills")
    subject.value(session, "1+1")
    settle(subject)
    numbers = inside(subject, session, bench)
    numbers.update({
        "quiet_us": after_quiet(subject, session, bench.scale(3, 1)),
        "skills": bench.skills.count, "read_ms": read_seconds * 1e3,
        "http": over_http(load, bench), "made": made(subject, session)})
    subject.request("DELETE", "session", session)
    return numbers


def inside(subject, session, bench):
    queries = ["network port scanning", *bench.skills.queries[:bench.scale(200, 50)]]
    code = (f"{TIMES}\n"
            "def first(found):\n    return found[0]['name'] == 'port_scan'\n"
            "def some(found):\n    return 0 < len(found) <= 10\n"
            "times_of([(lambda q=q: skills.search(q), some if i else first)\n"
            f"          for i, q in enumerate({queries!r})])")
    return json.loads(subject.value(session, code))


def after_quiet(subject, session, count):
    times = []
    for _ in range(count):
        time.sleep(QUIET_SECONDS)
        times.append(times_of(subject, session, 'skills.search("network port scanning")',
                              "answer[0]['name'] == 'port_scan'", 1, warm_up=0)["first_us"])
    return sorted(times)[len(times) // 2]


def over_http(load, bench):
    target = "/api/skills/search?" + urllib.parse.urlencode({"query": "network port scanning"})
    time.sleep(QUIET_SECONDS)
    first = load.run(connections=1, requests=1, get=target, expect='"name":"port_scan"')
    others = load.run(connections=1, requests=bench.scale(300, 50), get=target,
                      expect='"name":"port_scan"')
    return {"first_us": first["max_us"], "p50_us": others["p50_us"], "p99_us": others["p99_us"]}


def made(subject, session):
    """One more skill beside all the others, and the first search after it."""
    return json.loads(subject.value(session, f"""
import json
from time import perf_counter
begin = perf_counter()
skills.create("made_by_bench", {PORT_SCAN!r}, "Zygomorphic.")
created = perf_counter()
found = skills.search("zygomorphic")
searched = perf_counter()
assert [s["name"] for s in found] == ["made_by_bench"], found
skills.delete("made_by_bench")
json.dumps({{"create_ms": (created - begin) * 1e3, "search_ms": (searched - created) * 1e3}})
"""))
