"""What is measured of approvals: how fast they become durable, how fast a decision is heard, and what
many that wait cost."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

import machine
from figures import Failed, Load, processes_of, server
from harness import BUILD
from postgres import Postgres

AT_ONCE = 512
DECIDERS = 100
WAITING = 100000
START_SECONDS = 60


# --- transitions ----------------------------------------------------------------------------------

def commits(bench):
    """Transitions a second, each answered after its commit has reached the disk (commits.c). The
    database lies in the build directory: elsewhere might be no disk."""
    seconds = bench.scale(4, 2)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="commits-") as directory:
        numbers = run(f"sqlite:{directory}/approvals.db", seconds, AT_ONCE)
        numbers["one"] = run(f"sqlite:{directory}/one.db", 1, 1)
    with Postgres() as database:
        numbers["postgresql"] = run(database.url, seconds, AT_ONCE)
    return numbers


def run(url, seconds, at_once):
    done = subprocess.run([BUILD / "tests" / "commits", url, str(seconds), str(at_once)],
                          check=True, capture_output=True, timeout=120)
    return json.loads(done.stdout)


# --- a server with many of them -------------------------------------------------------------------

@contextlib.contextmanager
def directory_of_servers():
    """Its database lies in the build directory, too."""
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="approvals-") as directory:
        # The server may have given up root.
        pathlib.Path(directory).chmod(0o711)
        yield server({"data_dir": f"{directory}/data"}, default_preload=False)


def fill(subject, count, prefix):
    """Approvals that wait, made by fill.c while the server is away."""
    database = pathlib.Path(subject.config["data_dir"]) / "approvals.db"
    owner = database.stat()
    begin = time.perf_counter()
    subprocess.run([BUILD / "tests" / "fill", f"sqlite:{database}", str(count), prefix], check=True,
                   timeout=600)
    for path in database.parent.glob("approvals.db*"):
        os.chown(path, owner.st_uid, owner.st_gid)
    return time.perf_counter() - begin


def decisions(bench):
    """100 connections that each approve a result, at the same moment; and 100 that go on and on. The
    answer comes when the approval is final, and on disk."""
    rounds, each = bench.scale(10, 3), bench.scale(20, 5)
    with directory_of_servers() as subject:
        with subject:
            pass
        for number in range(rounds):
            fill(subject, DECIDERS, f"burst-{number}")
        fill(subject, DECIDERS * (each + 1), "steady")
        with subject:
            load = Load(bench.load, subject)
            bursts = [load.run(connections=DECIDERS, requests=DECIDERS, identifiers="new",
                               prefix=f"burst-{number}", approve=True)
                      for number in range(rounds)]
            steady = load.run(connections=DECIDERS, requests=DECIDERS * each, identifiers="new",
                              prefix="steady", approve=True)
    return {"bursts": bursts, "p50_us": middle(b["p50_us"] for b in bursts),
            "p99_us": middle(b["p99_us"] for b in bursts), "steady": steady}


def middle(numbers):
    numbers = sorted(numbers)
    return numbers[len(numbers) // 2]


def waiting(bench):
    """A server that starts with 100,000 approvals that wait: how long until it lists the newest, and
    how much more memory its gateway takes than with none."""
    count = bench.scale(WAITING, WAITING // 10)
    with directory_of_servers() as subject:
        none = started(subject, 0)
        filled_seconds = fill(subject, count, "code")
        many = started(subject, count)
    numbers = {"count": count, "start_ms": many["ms"], "start_of_none_ms": none["ms"],
               "gateway": many["memory"], "filled_per_second": count / filled_seconds,
               "resident_mb": many["memory"]["resident"] / 1e6,
               "growth_mb": (many["memory"]["private"] - none["memory"]["private"]) / 1e6}
    # Fewer of them are no row of the table.
    return numbers if count == WAITING else {"of_fewer": numbers}


def started(subject, expected):
    begin = time.perf_counter()
    subject.start(wait=False)
    try:
        subject.port = subject.wait_for("listening")["port"]
        page = subject.request("GET", "approvals", api_version=None, state="waiting", limit=200)
        took_ms = (time.perf_counter() - begin) * 1e3
        if len(page.json()["approvals"]) != min(expected, 200):
            raise Failed(f"{expected} wait, and it lists {page}")
        time.sleep(1)  # what looks for deadlines has looked
        return {"ms": took_ms, "memory": machine.memory_of(processes_of(subject)[0])}
    finally:
        subject.stop()
