#!/usr/bin/python3
"""How fast Carrel is, beside what else one would use, on the machine it runs on.

    bench.py                 five rounds of everything (under ten minutes)
    bench.py --quick         one short round of everything (under a minute)
    bench.py --only warm     single measurements; may be given again
    bench.py --patience 20   the same, each measurement waiting for a quiet moment that long
    bench.py --list          what there is

It prints a table and writes every round's numbers to bench.json in the build directory. The server
under test is build/carrel, or the one in the directory that CARREL_BUILD names. Everything it
starts listens on 127.0.0.1 on a free port and is stopped at the end. Interrupted, it tells of the
rounds it has done.

It exits 0 when everything could be measured, whatever the figures are, and 1 when something could
not.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import approvals  # noqa: E402
import codemode  # noqa: E402
import figures  # noqa: E402
import machine  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
from harness import BUILD, CARREL, ROOT, ServerError  # noqa: E402

FIGURES_BEGIN, FIGURES_END = "<!-- figures: begin -->", "<!-- figures: end -->"
COMPILE = ["cc", "-O2", "-std=gnu2x", "-D_GNU_SOURCE", f"-I{ROOT}/src", f"-I{HERE}"]
BASE_SOURCES = [str(ROOT / "src" / "base" / name) for name in
                ("buf.c", "fd.c", "text.c", "unicode.c")]
# More of the machine than this taken by others, and a round's numbers say little.
NOISY_PERCENT = 10
FAILURES = (figures.Failed, ServerError, peers.PeerError, peers.websocket.WebSocketError, OSError,
            subprocess.SubprocessError, KeyError, ValueError)


class Bench:
    """What the measurements share."""

    def __init__(self, quick, patience_seconds, directory):
        self.quick = quick
        self.patience_seconds = patience_seconds
        self.load = self._compile(directory, "load")
        self.ping_pong = self._compile(directory, "pingpong")
        self.spawn = self._compile(directory, "spawn")
        # The server may have given up root, and shall still read what it is given here.
        pathlib.Path(directory).chmod(0o711)
        self.tools_dir = codemode.tools_dir(directory)
        self._directory = directory
        self._content = None
        self._skills = None

    @staticmethod
    def _compile(directory, name):
        program = str(pathlib.Path(directory) / name)
        sources = [str(HERE / f"{name}.c"), str(HERE / "samples.c"), *BASE_SOURCES]
        subprocess.run([*COMPILE, "-o", program, *sources, "-lm"], check=True)
        return program

    def scale(self, full, quick):
        return quick if self.quick else full

    @property
    def content(self):
        """Bytes that no transfer could shorten."""
        if self._content is None:
            self._content = os.urandom(figures.FILE_BYTES)
        return self._content

    @property
    def skills(self):
        """A directory of many skills, made when it is asked for first."""
        if self._skills is None:
            self._skills = codemode.Skills(self._directory)
        return self._skills


# --- what is measured, by the server it needs -----------------------------------------------------

@contextlib.contextmanager
def nothing(bench):
    yield bench


@contextlib.contextmanager
def default_server(bench):
    with figures.server({"code_mode": {"tools": {"dir": str(bench.tools_dir)}}}) as server:
        figures.settle(server)
        yield figures.Load(bench.load, server)


@contextlib.contextmanager
def wide_server(bench):
    with figures.server(figures.WIDE) as server:
        yield figures.Load(bench.load, server)


@contextlib.contextmanager
def three_preloaded(bench):
    with figures.server({"preload": ["numpy", "pandas", "matplotlib"]},
                        default_preload=False) as server:
        yield server


@contextlib.contextmanager
def file_servers(bench):
    with figures.server() as carrel, peers.Nginx() as nginx:
        yield carrel, nginx


@contextlib.contextmanager
def jupyter_server(bench):
    with peers.Jupyter() as jupyter:
        yield jupyter


@contextlib.contextmanager
def redis_server(bench):
    with peers.Redis() as redis:
        config = {"code_mode": {"storage": {"redis": {"url": redis.url}}}}
        with figures.server(config, default_preload=False) as server:
            figures.settle(server)
            yield server, redis


@contextlib.contextmanager
def skills_server(bench):
    config = {"code_mode": {"storage": {"skills_dir": str(bench.skills.path)}}}
    with figures.server(config, default_preload=False) as server:
        yield figures.Load(bench.load, server), codemode.wait_until_read(server)


GROUPS = [
    (nothing, {
        "ping-pong": lambda b, _: machine.ping_pong(b.ping_pong, b.scale(20000, 5000)),
        "start": lambda b, _: figures.start_to_answer(True),
    }),
    (default_server, {
        "warm": lambda b, load: figures.warm(load, b),
        "health": lambda b, load: figures.health(load, b),
        "new": lambda b, load: figures.new_identifier(load, b),
        "sixteen": lambda b, load: figures.sixteen(load, b),
        "hundred": lambda b, load: figures.hundred(load, b),
        "refill": lambda b, load: figures.refill(load, b),
        "memory-all": lambda b, load: figures.idle_memory(load.subject),
        "execute": lambda b, load: codemode.execute(load, b),
        "tool": lambda b, load: codemode.tool_echo(load.subject, b),
        "exists": lambda b, load: codemode.exists(load.subject, b),
        "compute": lambda b, load: codemode.compute(load.subject, b),
    }),
    (redis_server, {"exists-redis": lambda b, both: codemode.exists_redis(both, b)}),
    (skills_server, {"search": lambda b, started: codemode.search(started, b)}),
    (nothing, {
        "approvals-commits": lambda b, _: approvals.commits(b),
        "approvals-decisions": lambda b, _: approvals.decisions(b),
        "approvals-waiting": lambda b, _: approvals.waiting(b),
    }),
    (jupyter_server, {
        "jupyter": lambda b, server: peers.jupyter(server, b.scale(3, 1), b.scale(300, 50)),
    }),
    (nothing, {
        "start-bare": lambda b, _: figures.start_to_answer(False),
        "python": lambda b, _: peers.plain_python(b.scale(20, 5)),
        "bubblewrap": lambda b, _: peers.bubblewrap(b.scale(20, 5)),
    }),
    (three_preloaded, {"memory": lambda b, server: figures.idle_memory(server)}),
    (file_servers, {"files": lambda b, both: figures.files(both, b)}),
    (wide_server, {
        "empty": lambda b, load: figures.empty_pool(load, b),
        "live": lambda b, load: figures.live_sessions(load, b),
    }),
    (nothing, {"fork": lambda b, _: machine.fork_cost(figures.PRELOAD, b.scale(100, 30))}),
]
NAMES = [name for _, measures in GROUPS for name in measures]
# Too long for every round of a whole run; --only measures them in each.
FIRST_ROUND_ONLY = {"live", "approvals-waiting"}


def wait_for_quiet(bench):
    """Waits while others keep the machine busy, if the run is patient. Returns their share."""
    end = time.monotonic() + bench.patience_seconds
    while True:
        others = machine.others_percent(0.1 if bench.quick else 0.2)
        if others <= NOISY_PERCENT or time.monotonic() >= end:
            return others


def run_group(bench, opened, wanted, numbers):
    """Measures what is wanted of one group; a failure is that measurement's number."""
    try:
        with opened(bench) as subject:
            for name, measure in wanted.items():
                others = wait_for_quiet(bench)
                begin = time.monotonic()
                try:
                    numbers[name] = measure(bench, subject)
                except FAILURES as error:
                    numbers[name] = {"error": f"{type(error).__name__}: {error}"}
                    print(f"  {name}: {numbers[name]['error']}", file=sys.stderr)
                numbers[name]["others_percent"] = others
                numbers[name]["took_seconds"] = round(time.monotonic() - begin, 2)
    except FAILURES as error:
        print(f"  {', '.join(wanted)}: {type(error).__name__}: {error}", file=sys.stderr)
        for name in wanted:
            numbers.setdefault(name, {"error": f"{type(error).__name__}: {error}"})


def run_round(bench, names):
    numbers = {}
    for opened, measures in GROUPS:
        wanted = {name: measure for name, measure in measures.items() if name in names}
        if wanted:
            run_group(bench, opened, wanted, numbers)
    return numbers


# --- telling --------------------------------------------------------------------------------------

def noise_of(rounds, before, after):
    """One line on how much the machine was the bench's own."""
    shares = [numbers["others_percent"] for r in rounds for numbers in r.values()
              if "others_percent" in numbers]
    if not shares:
        return ""
    noisy = sum(share > NOISY_PERCENT for share in shares)
    return (f"Others took {statistics.median(shares):.0f} % of the machine (median; at most "
            f"{max(shares):.0f} %); {noisy} of {len(shares)} measurements began with more than "
            f"{NOISY_PERCENT} % taken. Load average {before[0]} before, {after[0]} after.")


def write_docs(path, text):
    """Puts the table between the page's two marks."""
    page = path.read_text()
    head, rest = page.split(FIGURES_BEGIN, 1)
    tail = rest.split(FIGURES_END, 1)[1]
    path.write_text(f"{head}{FIGURES_BEGIN}\n\n{text}\n{FIGURES_END}{tail}")


def parse():
    parser = argparse.ArgumentParser(description="How fast Carrel is, beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME",
                        help="measure this alone; may be given again")
    parser.add_argument("--rounds", type=int, help="how many rounds (5; 1 with --quick)")
    parser.add_argument("--patience", type=float, default=0, metavar="SECONDS",
                        help="how long each measurement may wait for others to leave the machine")
    parser.add_argument("--json", type=pathlib.Path, default=BUILD / "bench.json",
                        help="where the numbers go (bench.json in the build directory)")
    parser.add_argument("--docs", type=pathlib.Path,
                        help="also put the table into this page, between its two marks")
    parser.add_argument("--list", action="store_true", help="name the measurements")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    if not 1 <= options.rounds <= 100:
        parser.error("--rounds must be 1 to 100")
    return options


def main():
    options = parse()
    if options.list:
        print("\n".join(NAMES))
        return 0
    if not CARREL.exists():
        print(f"bench: {CARREL} is not built", file=sys.stderr)
        return 1
    names = options.only or NAMES
    facts, before, rounds = machine.facts(CARREL), machine.load_average(), []
    with tempfile.TemporaryDirectory(prefix="carrel-bench-") as directory:
        bench = Bench(options.quick, options.patience, directory)
        with contextlib.suppress(KeyboardInterrupt):
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
                later = number > 0 and not options.only
                left_out = FIRST_ROUND_ONLY if later else set()
                rounds.append(run_round(bench, set(names) - left_out))
    if not rounds:
        return 1
    after = machine.load_average()
    noise = noise_of(rounds, before, after)
    print(report.table(rounds))
    print(noise)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        "machine": facts, "quick": options.quick, "load_average_before": before,
        "load_average_after": after, "noise": noise,
        "figures": report.rows_of(rounds, report.FIGURES),
        "beside": report.rows_of(rounds, report.BESIDE), "ratios": report.ratios_of(rounds),
        "rounds": rounds}, indent=1) + "\n")
    if options.docs:
        write_docs(options.docs, report.markdown(rounds, facts, noise))
    failed = any("error" in numbers for r in rounds for numbers in r.values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
