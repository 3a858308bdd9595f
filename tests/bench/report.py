"""The figures' table: which number of which measurement stands in it, and what it shall reach."""

import dataclasses
import statistics

MS, US, PER_SECOND, MB, TIMES, COUNT = "ms", "us", "/s", "MB", "x", ""
_SHOWN = {MS: " ms", US: " µs", PER_SECOND: " /s", MB: " MB", TIMES: "×", COUNT: ""}


@dataclasses.dataclass
class Row:
    """One line: the median over the rounds of the number at `path` of `measure`, times `scale`."""
    figure: str
    measure: str
    path: str
    unit: str
    scale: float = 1.0
    most: float = None
    least: float = None
    tried: str = ""  # where the measurement says how much it tried to reach

    def values(self, rounds, path=None):
        found = []
        for numbers in rounds:
            value = numbers.get(self.measure)
            if value is None or "error" in value:
                continue
            for name in (path or self.path).split("."):
                value = value.get(name) if value is not None else None
            if value is not None:
                found.append(value * self.scale)
        return found

    def reach(self):
        if self.most is not None:
            return f"≤ {shown(self.most, self.unit)}"
        return f"≥ {shown(self.least, self.unit)}" if self.least is not None else ""

    def verdict(self, median, rounds):
        if self.most is None and self.least is None:
            return ""
        tried = self.values(rounds, self.tried) if self.tried else []
        if tried and max(tried) < self.least:
            return "not tried"
        good = median <= self.most if self.most is not None else median >= self.least
        return "ok" if good else "short"


WARM = "warm session, `1+1`, one client"
NEW = "new identifier, `1+1`, from the warm pool"
EMPTY = "new identifier, `1+1`, empty pool"
BURST = "100 new identifiers at once"
REFILL = "sessions refilled, sustained"
MEMORY = "private memory of an idle session, numpy + pandas + matplotlib"
FILES = "100 MB (MiB) {}, Carrel ÷ nginx"
EXECUTE = "32 clients over 32 warm sessions, POST /execute"
TOOL = "`tools.echo(text=\"x\")` in a session"
EXISTS = "`artifacts.exists` in a session, {}"
COMPUTE = "four sessions that compute ÷ one"
COMMITS = "approvals' transitions committed, {}"
DECISIONS = "approvals: 100 decisions at once, each final and on disk"
WAITING = "100,000 approvals that wait: {}"
SEARCH = "`skills.search` over 10,000 skills"

FIGURES = [
    Row(WARM + ", p50", "warm", "p50_us", MS, 1e-3, most=0.12),
    Row(WARM + ", p99", "warm", "p99_us", MS, 1e-3, most=0.5),
    Row(NEW + ", p50", "new", "p50_us", MS, 1e-3, most=0.3),
    Row(NEW + ", p99", "new", "p99_us", MS, 1e-3, most=3),
    Row("16 clients over 16 warm sessions", "sixteen", "per_second", PER_SECOND, least=20000),
    Row(BURST + ", the last answer", "hundred", "max_us", MS, 1e-3, most=500),
    Row(REFILL + ", made and deleted", "refill", "most_per_second", PER_SECOND, least=200),
    Row("warm p99 beside 200 new sessions/s ÷ warm p99 before", "refill", "p99_ratio", TIMES,
        most=1.5),
    Row(MEMORY, "memory", "private_mb", MB, most=2),
    Row("live sessions at once, each answering", "live", "sessions", COUNT, least=2000,
        tried="tried"),
    Row("server start to first answer, with the preload", "start", "ms", MS, most=2000),
    Row("server start to first answer, without", "start-bare", "ms", MS, most=200),
    Row(FILES.format("upload"), "files", "up_ratio", TIMES, most=1.5),
    Row(FILES.format("download"), "files", "down_ratio", TIMES, most=1.5),
    Row(TOOL + ", p50", "tool", "p50_us", MS, 1e-3, most=2),
    Row(EXISTS.format("files") + ", p50", "exists", "p50_us", MS, 1e-3, most=0.15),
    Row(EXISTS.format("Redis") + ", p50", "exists-redis", "p50_us", MS, 1e-3, most=0.3),
    Row(EXECUTE, "execute", "per_second", PER_SECOND, least=15000),
    Row(COMPUTE, "compute", "ratio", TIMES, most=2.2),
    Row(COMMITS.format("SQLite"), "approvals-commits", "per_second", PER_SECOND, least=5000),
    Row(DECISIONS + ", p99", "approvals-decisions", "p99_us", MS, 1e-3, most=20),
    Row(WAITING.format("memory of the gateway"), "approvals-waiting", "resident_mb", MB, most=100),
    Row(WAITING.format("server start to the first list"), "approvals-waiting", "start_ms", MS,
        most=2000),
    Row(SEARCH + ", the first", "search", "first_us", MS, 1e-3, most=5),
    Row(SEARCH + ", the first over HTTP", "search", "http.first_us", MS, 1e-3, most=5),
]

BESIDE = [
    Row("ping-pong of two processes, p50", "ping-pong", "p50_us", US),
    Row("ping-pong of two processes, p99", "ping-pong", "p99_us", US),
    Row("ping-pong of two processes on two CPUs, p50", "ping-pong", "apart.p50_us", US),
    Row("fork of a Python with the same preload, p50", "fork", "p50_ms", MS),
    Row("HTTP alone (/health), p50", "health", "p50_us", US),
    Row("warm: CPU time of the gateway", "warm", "gateway_cpu_us", US),
    Row("warm: CPU time of the session", "warm", "session_cpu_us", US),
    Row(EMPTY + ", p50", "empty", "p50_us", MS, 1e-3),
    Row(EMPTY + ", p99", "empty", "p99_us", MS, 1e-3),
    Row("sessions a second, paced at 200/s", "refill", "paced_per_second", PER_SECOND),
    Row("private memory of a ready session, same preload", "memory", "ready.private", MB, 1e-6),
    Row("page tables of an idle session, same preload", "memory", "idle.page_tables", MB, 1e-6),
    Row("private memory of an idle session, default preload", "memory-all", "private_mb", MB),
    Row("machine's memory for one live session, default preload", "live",
        "machine_bytes_per_session", MB, 1e-6),
    Row("live sessions: one more cell in each, p99", "live", "answer_p99_us", MS, 1e-3),
    Row("live sessions: made", "live", "made_per_second", PER_SECOND),
    Row("live sessions: ended", "live", "ended_per_second", PER_SECOND),
    Row("upload of 100 MiB", "files", "carrel_up_ms", MS),
    Row("download of 100 MiB", "files", "carrel_down_ms", MS),
    Row("nginx: upload of 100 MiB", "files", "nginx_up_ms", MS),
    Row("nginx: download of 100 MiB", "files", "nginx_down_ms", MS),
    Row(TOOL + ", p99", "tool", "p99_us", MS, 1e-3),
    Row(TOOL + " after 5 ms of rest, p50", "tool", "rested.p50_us", MS, 1e-3),
    Row("posix_spawn of the same command, its output and its end, p50", "tool", "spawn.p50_us", MS,
        1e-3),
    Row("posix_spawn of the same command, p99", "tool", "spawn.p99_us", MS, 1e-3),
    Row(EXISTS.format("files") + ", p99", "exists", "p99_us", MS, 1e-3),
    Row(EXISTS.format("Redis") + ", p99", "exists-redis", "p99_us", MS, 1e-3),
    Row("Redis alone: EXISTS from a plain Python, p50", "exists-redis", "alone.p50_us", MS, 1e-3),
    Row("Redis alone: EXISTS from a plain Python, p99", "exists-redis", "alone.p99_us", MS, 1e-3),
    Row(COMMITS.format("SQLite") + ": p50 of each, 512 at once", "approvals-commits", "p50_us", MS,
        1e-3),
    Row(COMMITS.format("SQLite") + ": p99 of each", "approvals-commits", "p99_us", MS, 1e-3),
    Row(COMMITS.format("SQLite") + ", one after the other: p50", "approvals-commits", "one.p50_us",
        MS, 1e-3),
    Row(COMMITS.format("PostgreSQL"), "approvals-commits", "postgresql.per_second", PER_SECOND),
    Row(COMMITS.format("PostgreSQL") + ": p99 of each", "approvals-commits", "postgresql.p99_us",
        MS, 1e-3),
    Row(DECISIONS + ", p50", "approvals-decisions", "p50_us", MS, 1e-3),
    Row("approvals: decisions of 100 clients that go on", "approvals-decisions",
        "steady.per_second", PER_SECOND),
    Row("approvals: decisions of 100 clients that go on, p99", "approvals-decisions",
        "steady.p99_us", MS, 1e-3),
    Row(WAITING.format("how much the gateway's memory is more than with none"),
        "approvals-waiting", "growth_mb", MB),
    Row(EXECUTE + ", p50", "execute", "p50_us", MS, 1e-3),
    Row(EXECUTE + ", p99", "execute", "p99_us", MS, 1e-3),
    Row("one session that computes", "compute", "one_ms", MS),
    Row("four sessions that compute the same at once", "compute", "four_ms", MS),
    Row(SEARCH + ", one after the other, p50", "search", "p50_us", MS, 1e-3),
    Row(SEARCH + ", one after the other, p99", "search", "p99_us", MS, 1e-3),
    Row(SEARCH + ", after a second without one", "search", "quiet_us", MS, 1e-3),
    Row(SEARCH + ", over HTTP, p50", "search", "http.p50_us", MS, 1e-3),
    Row(SEARCH + ", over HTTP, p99", "search", "http.p99_us", MS, 1e-3),
    Row("10,000 skills: read, described and indexed at the start", "search", "read_ms", MS),
    Row("10,000 skills: one more is made", "search", "made.create_ms", MS),
    Row("10,000 skills: the first search after that", "search", "made.search_ms", MS),
    Row("python3 -c", "python", "bare.p50_ms", MS),
    Row("python3 -c, importing numpy, pandas, matplotlib", "python", "imports.p50_ms", MS),
    Row("bwrap … python3 -c", "bubblewrap", "bare.p50_ms", MS),
    Row("bwrap … python3 -c, importing the same", "bubblewrap", "imports.p50_ms", MS),
    Row("Jupyter Server: start", "jupyter", "start_ms", MS),
    Row("Jupyter: new kernel to first result, p50", "jupyter", "first_p50_ms", MS),
    Row("Jupyter: warm execution, p50", "jupyter", "warm_p50_ms", MS),
    Row("Jupyter: warm execution, p99", "jupyter", "warm_p99_ms", MS),
    Row("Jupyter: private memory of an idle kernel", "jupyter", "bare.private", MB, 1e-6),
    Row("Jupyter: the same after the imports", "jupyter", "imports.private", MB, 1e-6),
]

_WARM_MS = Row("", "warm", "p50_us", MS, 1e-3)
_NEW_MS = Row("", "new", "p50_us", MS, 1e-3)
_MEMORY_MB = Row("", "memory", "private_mb", MB)
# What, over what: each the median over the rounds of the quotient within one round.
RATIOS = [
    ("warm execution ÷ ping-pong", _WARM_MS, Row("", "ping-pong", "p50_us", MS, 1e-3)),
    ("warm execution ÷ ping-pong on two CPUs", _WARM_MS,
     Row("", "ping-pong", "apart.p50_us", MS, 1e-3)),
    ("empty pool ÷ plain fork", Row("", "empty", "p50_us", MS, 1e-3),
     Row("", "fork", "p50_ms", MS)),
    ("`tools.echo` in a session ÷ posix_spawn of the same", Row("", "tool", "p50_us", MS, 1e-3),
     Row("", "tool", "spawn.p50_us", MS, 1e-3)),
    ("`artifacts.exists` on files ÷ ping-pong", Row("", "exists", "p50_us", MS, 1e-3),
     Row("", "ping-pong", "p50_us", MS, 1e-3)),
    ("`artifacts.exists` on files ÷ ping-pong on two CPUs", Row("", "exists", "p50_us", MS, 1e-3),
     Row("", "ping-pong", "apart.p50_us", MS, 1e-3)),
    ("Jupyter warm execution ÷ Carrel's", Row("", "jupyter", "warm_p50_ms", MS), _WARM_MS),
    ("Jupyter new kernel ÷ Carrel's new identifier", Row("", "jupyter", "first_p50_ms", MS),
     _NEW_MS),
    ("Jupyter idle kernel with imports ÷ Carrel's idle session, memory",
     Row("", "jupyter", "imports.private", MB, 1e-6), _MEMORY_MB),
    ("bwrap + python3 ÷ Carrel's new identifier", Row("", "bubblewrap", "bare.p50_ms", MS),
     _NEW_MS),
    ("bwrap + python3 with imports ÷ Carrel's new identifier",
     Row("", "bubblewrap", "imports.p50_ms", MS), _NEW_MS),
    ("python3 -c ÷ Carrel's new identifier", Row("", "python", "bare.p50_ms", MS), _NEW_MS),
]


def shown(value, unit):
    magnitude = abs(value)
    digits = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 1 else 3
    text = f"{value:,.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text + _SHOWN[unit]


def rows_of(rounds, rows):
    """Dicts for the table and the JSON, without the ones that were not asked for."""
    answers = []
    for row in rows:
        values = row.values(rounds)
        errors = [r[row.measure]["error"] for r in rounds
                  if row.measure in r and "error" in r[row.measure]]
        if values:
            median = statistics.median(values)
            answers.append({
                "figure": row.figure, "reach": row.reach(), "median": median, "unit": row.unit,
                "low": min(values), "high": max(values), "rounds": len(values),
                "failed_rounds": len(errors), "verdict": row.verdict(median, rounds)})
        elif errors:
            answers.append({"figure": row.figure, "reach": row.reach(), "median": None,
                            "unit": row.unit, "rounds": 0, "failed_rounds": len(errors),
                            "verdict": "failed", "error": errors[0]})
    return answers


def ratios_of(rounds):
    answers = []
    for name, above, below in RATIOS:
        quotients = [a[0] / b[0] for a, b in
                     ((above.values([r]), below.values([r])) for r in rounds) if a and b]
        if quotients:
            answers.append({"ratio": name, "median": statistics.median(quotients),
                            "low": min(quotients), "high": max(quotients)})
    return answers


def _lines(rounds):
    """(figure, reach, median, range, verdict) as text; the second list has no reach."""
    sections = []
    for title, rows in (("figure", FIGURES), ("beside", BESIDE)):
        lines = []
        for row in rows_of(rounds, rows):
            if row["median"] is None:
                lines.append((row["figure"], row["reach"], "-", "-", "failed"))
                continue
            span = f"{shown(row['low'], row['unit'])} … {shown(row['high'], row['unit'])}"
            verdict = row["verdict"]
            if row["failed_rounds"]:
                verdict += f" ({row['failed_rounds']} rounds failed)"
            lines.append((row["figure"], row["reach"], shown(row["median"], row["unit"]), span,
                          verdict))
        sections.append(((title, "reach", "median of rounds", "lowest … highest", ""), lines))
    ratios = [(r["ratio"], "", shown(r["median"], TIMES),
               f"{shown(r['low'], TIMES)} … {shown(r['high'], TIMES)}", "")
              for r in ratios_of(rounds)]
    sections.append((("ratio", "", "median of rounds", "lowest … highest", ""), ratios))
    return [section for section in sections if section[1]]


def table(rounds):
    """For a terminal."""
    sections = _lines(rounds)
    widths = [max(len(line[i]) for head, lines in sections for line in (head, *lines))
              for i in range(5)]
    out = []
    for head, lines in sections:
        for line in (head, tuple("-" * width for width in widths), *lines):
            cells = [line[0].ljust(widths[0])]
            cells += [line[i].rjust(widths[i]) for i in (1, 2, 3)]
            out.append("  ".join((*cells, line[4])).rstrip())
        out.append("")
    return "\n".join(out)


def markdown(rounds, machine, noise):
    """For docs/performance.md."""
    out = [f"Measured {machine['time']} on {machine['cores']} cores of {machine['cpu']}, Linux "
           f"{machine['kernel']}, {machine['system']}; {len(rounds)} rounds. {noise}", ""]
    for head, lines in _lines(rounds):
        out.append("| " + " | ".join(head) + " |")
        out.append("|---|---|---|---|---|")
        out += ["| " + " | ".join(line) + " |" for line in lines]
        out.append("")
    return "\n".join(out)
