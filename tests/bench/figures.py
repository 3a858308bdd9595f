"""What is measured on Carrel itself. Each function does one round and returns its numbers."""

import http.client
import json
import pathlib
import re
import secrets
import subprocess
import sys
import time

import machine

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402
import processes  # noqa: E402

# The default of `carrel serve`; the fork baseline and the peers import the same.
PRELOAD = ["numpy", "pandas", "matplotlib", "scipy", "sklearn", "IPython"]
FILE_BYTES = 100 << 20
SETTLE_SECONDS = 20
END_SECONDS = 180


class Failed(Exception):
    """A measurement that did not do what it measures."""


def server(config=None, default_preload=True):
    """A server with the defaults of `carrel serve`, and what config says else."""
    made = harness.Server(config)
    if default_preload:
        del made.config["preload"]
    return made


def metric(subject, name):
    text = subject.request("GET", "metrics").body.decode()
    found = re.search(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    if found is None:
        raise Failed(f"no metric {name}")
    return float(found.group(1))


def settle(subject, ready=16):
    """Waits until the pool is full again and nothing is left to do."""
    end = time.monotonic() + SETTLE_SECONDS
    while metric(subject, "carrel_pool_ready_sessions") < ready:
        if time.monotonic() > end:
            raise Failed("the pool does not fill again")
        time.sleep(0.02)
    time.sleep(0.1)


class Load:
    """The load generator, pointed at one server."""

    def __init__(self, program, subject):
        self.program = program
        self.subject = subject

    def start(self, **options):
        words = []
        for name, value in options.items():
            words.append("--" + name.replace("_", "-"))
            if value is not True:
                words.append(str(value))
        return subprocess.Popen(
            [self.program, "--port", str(self.subject.port), *words], text=True,
            env={"CARREL_TOKEN": self.subject.token}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    @staticmethod
    def finish(process):
        out, error = process.communicate(timeout=300)
        if process.returncode != 0:
            raise Failed(error.strip())
        numbers = json.loads(out)
        if numbers["errors"]:
            raise Failed(f"{numbers['errors']} wrong answers, the first: {numbers['first_error']}")
        return numbers

    def run(self, **options):
        return self.finish(self.start(**options))


def unique(word):
    return f"{word}-{secrets.token_hex(4)}"


# --- on a server with every default ---------------------------------------------------------------

def processes_of(subject):
    """(gateway, keeper, [sessions])."""
    gateway = subject.process.pid
    keepers = [pid for pid in processes.children(gateway)
               if machine.name_of(pid) == "carrel-keeper"]
    if len(keepers) != 1:
        raise Failed(f"{len(keepers)} keepers")
    return gateway, keepers[0], processes.children(keepers[0])


def warm(load, bench):
    """One client, one session. The CPU time by process is of the same requests."""
    prefix = unique("warm")
    load.run(connections=1, requests=300, prefix=prefix)
    pids = processes_of(load.subject)
    before = [machine.cpu_seconds(pid) for pid in (pids[0], *pids[2])]
    numbers = load.run(connections=1, requests=bench.scale(10000, 1500), prefix=prefix)
    spent = [machine.cpu_seconds(pid) - b for pid, b in zip((pids[0], *pids[2]), before)]
    count = numbers["count"]
    numbers["gateway_cpu_us"] = spent[0] / count * 1e6
    numbers["session_cpu_us"] = max(spent[1:]) / count * 1e6
    return numbers


def health(load, bench):
    """The same request path without a session: what HTTP alone takes."""
    return load.run(connections=1, requests=bench.scale(10000, 1500), warm_up=100, health=True)


def new_identifier(load, bench):
    """A new identifier every 40 ms, so that the pool is full again before the next; the sessions
    stay, as they would."""
    settle(load.subject)
    prefix = unique("new")
    numbers = load.run(connections=1, requests=bench.scale(200, 40), rate=25, identifiers="new",
                       prefix=prefix)
    delete_all(load.subject, prefix, numbers["count"])
    settle(load.subject)
    return numbers


def delete_all(subject, prefix, count):
    connection = subject.connect()
    for number in range(count):
        subject.request("DELETE", "session", f"{prefix}-{number}", connection=connection)
    connection.close()


def sixteen(load, bench):
    return load.run(connections=16, seconds=bench.scale(3, 1), warm_up=50, prefix=unique("many"))


def hundred(load, bench):
    """100 connections, open already, each asks for an identifier of its own at the same moment."""
    settle(load.subject)
    prefix = unique("burst")
    numbers = load.run(connections=100, requests=100, identifiers="new", prefix=prefix)
    delete_all(load.subject, prefix, 100)
    settle(load.subject)
    return numbers


def refill(load, bench):
    """Sessions made and deleted as fast as they go, then 200 a second beside one warm client."""
    seconds = bench.scale(3, 1)
    settle(load.subject)
    started = metric(load.subject, "carrel_workers_started_total")
    most = load.run(connections=8, seconds=seconds, identifiers="new", prefix=unique("most"),
                    delete=True)
    most["workers_per_second"] = (
        metric(load.subject, "carrel_workers_started_total") - started) / most["seconds"]
    settle(load.subject)
    warm_prefix = unique("beside")
    load.run(connections=1, requests=300, prefix=warm_prefix)
    quiet = load.run(connections=1, seconds=seconds, prefix=warm_prefix)
    paced = load.start(connections=16, seconds=seconds, rate=200, identifiers="new",
                       prefix=unique("paced"), delete=True)
    beside = load.run(connections=1, seconds=seconds, prefix=warm_prefix)
    paced = load.finish(paced)
    settle(load.subject)
    return {"most": most, "most_per_second": most["workers_per_second"], "paced": paced,
            "paced_per_second": paced["per_second"], "quiet_p99_us": quiet["p99_us"],
            "beside_p99_us": beside["p99_us"], "quiet_p50_us": quiet["p50_us"],
            "beside_p50_us": beside["p50_us"],
            "p99_ratio": beside["p99_us"] / quiet["p99_us"]}


# --- starting -------------------------------------------------------------------------------------

def start_to_answer(default_preload):
    made = server(default_preload=default_preload)
    begin = time.perf_counter()
    made.start(wait=False)
    try:
        made.port = made.wait_for("listening")["port"]
        if made.value("first", "1+1") != 2:
            raise Failed("1+1 is not 2")
        return {"ms": (time.perf_counter() - begin) * 1e3}
    finally:
        made.stop()


# --- memory ---------------------------------------------------------------------------------------

def idle_memory(subject):
    """Of sessions that were never given away, and of some that ran `1+1` and now wait. The middle
    one of each."""
    settle(subject)
    before = set(processes_of(subject)[2])
    for number in range(8):
        subject.value(f"memory-{number}", "1+1")
    settle(subject)
    gateway, keeper, sessions = processes_of(subject)
    used = _middle([pid for pid in sessions if pid in before][:8])
    ready = _middle([pid for pid in sessions if pid not in before])
    for number in range(8):
        subject.request("DELETE", "session", f"memory-{number}")
    settle(subject)
    return {"idle": used, "ready": ready, "keeper": machine.memory_of(keeper),
            "gateway": machine.memory_of(gateway), "private_mb": used["private"] / 1e6}


def _middle(pids):
    found = sorted((machine.memory_of(pid) for pid in pids), key=lambda m: m["private"])
    if not found:
        raise Failed("no session to look at")
    return found[len(found) // 2]


# --- with pools of another size -------------------------------------------------------------------

WIDE = {"pools": [{"name": "wide", "max_concurrent_sessions": 2100},
                  {"name": "cold", "ready_sessions": 0}]}


def empty_pool(load, bench):
    """A new identifier where no session is ready: the whole fork, walls and all."""
    numbers = load.run(connections=1, requests=bench.scale(60, 15), rate=25, identifiers="new",
                       prefix=unique("cold"), pool="cold", delete=True)
    time.sleep(0.3)
    return numbers


def end_all(subject, prefix, count):
    """Sessions a second, from the first DELETE until the last process is gone."""
    left = len(processes_of(subject)[2]) - count
    begin = time.perf_counter()
    delete_all(subject, prefix, count)
    while len(processes_of(subject)[2]) > left + 4:  # the pool may be filling
        if time.perf_counter() - begin > END_SECONDS:
            raise Failed("the sessions' processes do not end")
        time.sleep(0.1)
    return count / (time.perf_counter() - begin)


def live_sessions(load, bench):
    """2,000 identifiers, then one more cell in each of them, all still the same sessions."""
    count = bench.scale(2000, 200)
    settle(load.subject)
    prefix = unique("live")
    before = machine.available_bytes()
    made = load.run(connections=8, requests=count, identifiers="new", prefix=prefix)
    settle(load.subject)
    after = machine.available_bytes()
    sessions = len(processes_of(load.subject)[2])
    again = load.run(connections=8, requests=count, identifiers="new", prefix=prefix)
    living = metric(load.subject, "carrel_pool_sessions")
    if sessions < count or living < count:
        raise Failed(f"{sessions} processes and {living} sessions of {count}")
    ended_per_second = end_all(load.subject, prefix, count)
    return {"sessions": again["count"], "tried": count, "made_per_second": made["per_second"],
            "ended_per_second": ended_per_second,
            "answer_p50_us": again["p50_us"], "answer_p99_us": again["p99_us"],
            "machine_bytes_per_session": (before - after) / count}


# --- files ----------------------------------------------------------------------------------------

def files(subjects, bench):
    """The same client and the same bytes, to Carrel and to nginx in turn."""
    carrel, nginx = subjects
    content = bench.content
    carrel.value("files", "1+1")
    numbers = {}
    for _ in range(bench.scale(3, 1)):
        for name, ms in (("nginx_up_ms", put_nginx(nginx, content)),
                         ("carrel_up_ms", put_carrel(carrel, content)),
                         ("nginx_down_ms", get(nginx.port, "/bench.bin", {}, content)),
                         ("carrel_down_ms", get_carrel(carrel, content))):
            numbers.setdefault(name, []).append(ms)
    numbers = {name: sorted(values)[len(values) // 2] for name, values in numbers.items()}
    numbers["up_ratio"] = numbers["carrel_up_ms"] / numbers["nginx_up_ms"]
    numbers["down_ratio"] = numbers["carrel_down_ms"] / numbers["nginx_down_ms"]
    return numbers


def _send(port, method, target, headers, pieces):
    """Milliseconds until the answer has been read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.connect()
    start = time.perf_counter()
    connection.putrequest(method, target)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(sum(len(piece) for piece in pieces)))
    connection.endheaders()
    for piece in pieces:
        connection.sock.sendall(piece)
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - start) * 1e3
    connection.close()
    if answer.status not in (200, 201, 204):
        raise Failed(f"{method} {target}: {answer.status} {body[:300]!r}")
    return took


def put_nginx(nginx, content):
    return _send(nginx.port, "PUT", "/bench.bin", {}, [content])


def put_carrel(carrel, content):
    boundary = "carrel" + secrets.token_hex(16)
    head = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="bench.bin"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode()
    headers = {"Authorization": f"Bearer {carrel.token}",
               "Content-Type": f"multipart/form-data; boundary={boundary}"}
    return _send(carrel.port, "POST", carrel.target("files", "files"), headers,
                 [head, content, f"\r\n--{boundary}--\r\n".encode()])


def get_carrel(carrel, content):
    return get(carrel.port, carrel.target("files/bench.bin/content", "files"),
               {"Authorization": f"Bearer {carrel.token}"}, content)


def get(port, target, headers, content):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.connect()
    received = bytearray(len(content))
    view = memoryview(received)
    start = time.perf_counter()
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    at = 0
    while at < len(received) and (count := answer.readinto(view[at:at + (1 << 20)])):
        at += count
    took = (time.perf_counter() - start) * 1e3
    connection.close()
    if answer.status != 200 or received != content:
        raise Failed(f"GET {target}: {answer.status}, {at} bytes that are not the ones sent")
    return took
