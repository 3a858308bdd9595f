/* Host calls end to end: a real keeper with real sessions, the real gateway, and a handler of the
 * test's own in place of the tools, skills and artifacts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "base/clock.h"
#include "gateway/gateway.h"
#include "gateway/internal.h"

#define NOBODY 65534
#define WAIT_MS 60000
#define KEPT_MAX 128

/* What the handler did, and what the test has it do. */
struct world {
	uv_loop_t loop;
	uv_timer_t watch;
	struct gateway *gateway;
	struct session *session;
	struct execution *execution;
	char directory[64];
	char keeper[4096];
	bool ready;
	char failure[512];

	unsigned begun;
	unsigned cancelled;
	unsigned closed; /* sources */
	uint64_t put_bytes;
	uint64_t put_sum;
	struct host_call *kept[KEPT_MAX]; /* calls of "skills.list", which are not answered */
	unsigned kept_count;
	struct host_call *putting; /* after it said no */
	bool stall;                /* never takes more */
	struct source *dry;        /* after it said "nothing now" */
	uv_idle_t idle;
};

struct source {
	struct host_source base;
	struct world *world;
	struct host_call *call;
	uint64_t at;
	uint64_t fail_at; /* UINT64_MAX: never */
	bool pause;
};

static ssize_t source_read(struct host_source *base, char *out, size_t max)
{
	struct source *s = (struct source *)base;
	if (s->at >= s->fail_at) {
		return -1;
	}
	s->pause = !s->pause;
	if (s->pause) {
		s->world->dry = s;
		return 0;
	}
	for (size_t i = 0; i < max; i++) {
		out[i] = (char)('a' + (s->at + i) % 26);
	}
	s->at += max;
	return (ssize_t)max;
}

static void source_close(struct host_source *base)
{
	struct source *s = (struct source *)base;
	s->world->closed++;
	if (s->world->dry == s) {
		s->world->dry = NULL;
	}
	free(s);
}

static void reply(struct host_call *c, bool ok, const char *json)
{
	host_call_reply(c, ok, json, strlen(json), NULL);
}

/* {"name": …, "size": N}: the number, from text that the session wrote. */
static uint64_t size_of(const struct host_call *c)
{
	const char *at = memmem(c->arguments, c->arguments_len, "\"size\": ", 8);
	uint64_t size = 0;
	for (at = at == NULL ? "" : at + 8; *at >= '0' && *at <= '9'; at++) {
		size = size * 10 + (uint64_t)(*at - '0');
	}
	return size;
}

static bool holds(const struct host_call *c, const char *text)
{
	return memmem(c->arguments, c->arguments_len, text, strlen(text)) != NULL;
}

/* artifacts.load of "N": N bytes; of "N!": fails after half of them. */
static void begin_load(struct world *w, struct host_call *c)
{
	const char *at = memmem(c->arguments, c->arguments_len, "\"name\": \"", 9);
	uint64_t size = 0;
	for (at += 9; *at >= '0' && *at <= '9'; at++) {
		size = size * 10 + (uint64_t)(*at - '0');
	}
	struct source *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	*s = (struct source){
	    .base = {source_read, source_close, size},
	    .world = w,
	    .call = c,
	    .fail_at = *at == '!' ? size / 2 : UINT64_MAX,
	};
	char json[128];
	int n = snprintf(json, sizeof(json), "{\"type\": \"%s\", \"size\": %llu}",
	    holds(c, "bytes") ? "bytes" : "text", (unsigned long long)size);
	host_call_reply(c, true, json, (size_t)n, &s->base);
}

static void reply_large(struct host_call *c, size_t len)
{
	char *json = malloc(len);
	assert_non_null(json);
	memset(json, 'x', len);
	json[0] = json[len - 1] = '"';
	host_call_reply(c, true, json, len, NULL);
	free(json);
}

static void begin(void *ctx, struct host_call *c)
{
	struct world *w = ctx;
	w->begun++;
	if (strcmp(c->method, "artifacts.exists") == 0) {
		reply(c, true, holds(c, "yes") ? "true" : "false");
	} else if (strcmp(c->method, "artifacts.delete") == 0) {
		reply(
		    c, false, "{\"error\": \"StorageError\", \"message\": \"the store is down\"}");
	} else if (strcmp(c->method, "artifacts.list") == 0) {
		reply_large(c, HOST_CALL_MAX_BYTES + (holds(c, "{}") ? 1 : 0));
	} else if (strcmp(c->method, "artifacts.path") == 0) {
		reply_large(c, HOST_CALL_MAX_BYTES);
	} else if (strcmp(c->method, "artifacts.load") == 0) {
		begin_load(w, c);
	} else if (strcmp(c->method, "artifacts.save") == 0) {
		if (holds(c, "refused")) {
			reply(
			    c, false, "{\"error\": \"ValueError\", \"message\": \"no such name\"}");
			return;
		}
		c->put_left = size_of(c);
	} else if (w->kept_count < KEPT_MAX) {
		w->kept[w->kept_count++] = c;
	}
}

static bool put(void *ctx, struct host_call *c, const char *bytes, size_t len)
{
	struct world *w = ctx;
	w->put_bytes += len;
	for (size_t i = 0; i < len; i++) {
		w->put_sum += (unsigned char)bytes[i];
	}
	if (c->put_left == 0) {
		reply(c, true, "{\"name\": \"x\", \"path\": \"p\", \"created_at\": null}");
		return true;
	}
	if (w->stall || w->put_bytes % 7 == 0) {
		w->putting = c;
		return false;
	}
	return true;
}

static void cancel(void *ctx, struct host_call *c)
{
	struct world *w = ctx;
	w->cancelled++;
	w->putting = w->putting == c ? NULL : w->putting;
	for (unsigned i = 0; i < w->kept_count; i++) {
		w->kept[i] = w->kept[i] == c ? NULL : w->kept[i];
	}
}

static const struct host_call_handler handler = {begin, put, cancel};

/* What said no goes on in the next turn of the loop. */
static void on_idle(uv_idle_t *idle)
{
	struct world *w = idle->data;
	if (w->putting != NULL && !w->stall) {
		struct host_call *c = w->putting;
		w->putting = NULL;
		host_call_resume(c);
	}
	if (w->dry != NULL) {
		struct source *s = w->dry;
		w->dry = NULL;
		host_call_resume(s->call);
	}
}

/* --- a server without HTTP -----------------------------------------------------------------------
 */

static void on_keeper(void *ctx, const struct ipc_keeper_ready *ready, const struct err *e)
{
	struct world *w = ctx;
	if (e != NULL) {
		(void)snprintf(w->failure, sizeof(w->failure), "%s", e->text);
		uv_stop(&w->loop);
		return;
	}
	(void)ready;
	w->ready = true;
	engine_start(gateway_engine(w->gateway));
}

static void on_watch(uv_timer_t *timer)
{
	(void)timer;
}

/* Runs the loop until CONDITION holds. */
#define until(w, condition)                                          \
	do {                                                         \
		uint64_t end_ms_ = clock_mono_ms() + WAIT_MS;        \
		while (!(condition) && (w)->failure[0] == '\0') {    \
			if (clock_mono_ms() > end_ms_) {             \
				fail_msg("in time: %s", #condition); \
			}                                            \
			(void)uv_run(&(w)->loop, UV_RUN_ONCE);       \
		}                                                    \
		if ((w)->failure[0] != '\0') {                       \
			fail_msg("%s", (w)->failure);                \
		}                                                    \
	} while (0)

/* The keeper stands beside the tests' directory. */
static void find_keeper(struct world *w)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	assert_true(n > 0);
	self[n] = '\0';
	for (int up = 0; up < 2; up++) {
		*strrchr(self, '/') = '\0';
	}
	(void)snprintf(w->keeper, sizeof(w->keeper), "%.*s/carrel-keeper", 4000, self);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct gateway_config *c = calloc(1, sizeof(*c));
	assert_non_null(w);
	assert_non_null(c);
	(void)snprintf(w->directory, sizeof(w->directory), "/tmp/carrel-host-calls-XXXXXX");
	assert_non_null(mkdtemp(w->directory));
	(void)chmod(w->directory, 0755);
	find_keeper(w);
	(void)uv_loop_init(&w->loop);
	struct pool_config pool = {
	    .name = "default",
	    .max_sessions = 4,
	    .ready_sessions = 1,
	    .cooldown_ms = 60000,
	    .execution_time_ms = WAIT_MS,
	    .output_max_bytes = 1 << 20,
	    .limits = {.memory_bytes = 1ULL << 30,
		.file_space_bytes = 16 << 20,
		.cpu_millis = 1000,
		.pids = 128,
		.open_files = 256},
	};
	c->engine = (struct engine_config){
	    .pools = {pool}, .pool_count = 1, .grace_ms = 1000, .finished_keep_ms = 60000};
	c->keeper.uid = c->keeper.gid = NOBODY;
	c->keeper.work_dir = w->directory;
	c->keeper.pools[0] = pool.limits;
	c->keeper.pool_count = 1;
	c->keeper_path = w->keeper;
	struct err e = {0};
	w->gateway = gateway_new(&w->loop, c, on_keeper, w, &e);
	free(c);
	if (w->gateway == NULL) {
		fail_msg("%s", e.text);
	}
	gateway_set_host_calls(w->gateway, &handler, w);
	(void)uv_timer_init(&w->loop, &w->watch);
	(void)uv_timer_start(&w->watch, on_watch, 20, 20);
	(void)uv_idle_init(&w->loop, &w->idle);
	w->idle.data = w;
	(void)uv_idle_start(&w->idle, on_idle);
	until(w, w->ready);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	execution_unref(w->execution);
	/* Whatever the sessions did: nothing runs any more, so nothing of theirs is held. */
	assert_int_equal(w->gateway->replies.held, 0);
	assert_int_equal(w->gateway->partial.held, 0);
	uv_close((uv_handle_t *)&w->watch, NULL);
	uv_close((uv_handle_t *)&w->idle, NULL);
	gateway_free(w->gateway);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	(void)rmdir(w->directory);
	free(w);
	return 0;
}

static void start(struct world *w, const char *code)
{
	struct err e = {0};
	struct engine *en = gateway_engine(w->gateway);
	execution_unref(w->execution);
	w->execution = NULL;
	w->session = engine_session_open(engine_pool(en, NULL), NULL, "tester", &e);
	if (w->session == NULL) {
		fail_msg("%s", e.text);
	}
	struct execution_request r = {
	    .kind = IPC_EXECUTE_PYTHON, .code = {code, strlen(code)}, .values = true};
	w->execution = engine_execute(w->session, &r, &e);
	if (w->execution == NULL) {
		fail_msg("%s", e.text);
	}
}

static void finish(struct world *w)
{
	until(w, execution_is_final(w->execution));
}

/* The value of CODE, as JSON. */
static void check(struct world *w, const char *code, const char *json)
{
	start(w, code);
	finish(w);
	const struct execution_value *v = &w->execution->value;
	if (w->execution->verdict != VERDICT_SUCCEEDED || strcmp(buf_str(&v->json), json) != 0) {
		fail_msg("%s\n  gives %.200s, verdict %s %s, and not %s\n%s", code,
		    buf_str(&v->json), verdict_name(w->execution->verdict), w->execution->reason,
		    json, buf_str(&v->traceback));
	}
}

/* --- tests ---------------------------------------------------------------------------------------
 */

static void answers_and_errors(void **state)
{
	struct world *w = *state;
	check(w, "artifacts.exists('yes')", "true");
	check(w, "artifacts.exists('no')", "false");
	check(w,
	    "try:\n    artifacts.delete('x')\nexcept StorageError as e:\n    found = str(e)\nfound",
	    "\"the store is down\"");
	check(w, "len(artifacts.path)", "8388606");
	check(w, "try:\n    artifacts.list()\nexcept RuntimeError as e:\n    found = str(e)\nfound",
	    "\"the answer is larger than 8 MiB\"");
	check(w, "sum(artifacts.exists('yes') for i in range(2000))", "2000");
}

static void concurrent_calls(void **state)
{
	struct world *w = *state;
	check(w,
	    "import asyncio\n"
	    "sum(await asyncio.gather(*(artifacts.exists('yes') for i in range(60))))",
	    "60");
	check(w,
	    "import threading\nfound = []\n"
	    "def ask():\n"
	    "    for i in range(200): found.append(artifacts.exists('yes'))\n"
	    "threads = [threading.Thread(target=ask) for i in range(8)]\n"
	    "for t in threads: t.start()\n"
	    "for t in threads: t.join()\n"
	    "sum(found)",
	    "1600");
	/* Both at once: a loop that waits while threads read. */
	check(w,
	    "threads = [threading.Thread(target=ask) for i in range(4)]\n"
	    "found.clear()\n"
	    "for t in threads: t.start()\n"
	    "n = 0\n"
	    "for i in range(50):\n"
	    "    n += sum(await asyncio.gather(*(artifacts.exists('yes') for i in range(10))))\n"
	    "for t in threads: t.join()\n"
	    "n + sum(found)",
	    "1300");
}

static void bytes_both_ways(void **state)
{
	struct world *w = *state;
	check(w, "artifacts.load('0')", "\"\"");
	check(w, "artifacts.load('5')", "\"abcde\"");
	check(w, "d = artifacts.load('134217728'); len(d), d[-1], d[26 * 99999]",
	    "[134217728,\"h\",\"a\"]");
	check(w, "del d\nartifacts.save('one', b'\\x01' * 5).path", "\"p\"");
	assert_int_equal(w->put_bytes, 5);
	assert_int_equal(w->put_sum, 5);
	w->put_bytes = w->put_sum = 0;
	check(w, "artifacts.save('big', bytes(2) + b'\\x01' * 134217726).name", "\"x\"");
	assert_int_equal(w->put_bytes, 134217728);
	assert_int_equal(w->put_sum, 134217726);
	check(w, "artifacts.save('none', '').name if False else artifacts.exists('yes')", "true");
	assert_int_equal(w->closed, 3);
}

static void bytes_that_fail(void **state)
{
	struct world *w = *state;
	check(w,
	    "try:\n    artifacts.load('3000000!')\nexcept StorageError as e:\n    f = str(e)\nf",
	    "\"the bytes could not be read to the end\"");
	/* Refused while its bytes are on their way: the session goes on. */
	check(w,
	    "try:\n    artifacts.save('refused', b'x' * 9000000)\n"
	    "except ValueError as e:\n    f = str(e)\nf",
	    "\"no such name\"");
	check(w, "f, artifacts.exists('yes')", "[\"no such name\",true]");
	assert_int_equal(w->put_bytes, 0);
}

static void an_interrupt_cancels(void **state)
{
	struct world *w = *state;
	start(w, "kept = 1\nskills.list()");
	until(w, w->kept_count == 1);
	engine_cancel(w->execution);
	finish(w);
	assert_int_equal(w->execution->verdict, VERDICT_INTERRUPTED);
	assert_int_equal(w->cancelled, 1);
	check(w, "kept, artifacts.exists('yes')", "[1,true]");
}

static void an_interrupt_gets_through_a_full_store(void **state)
{
	struct world *w = *state;
	w->stall = true;
	start(w, "kept = 1\nartifacts.save('a', b'x' * 50000000)");
	until(w, w->putting != NULL);
	engine_cancel(w->execution);
	finish(w);
	assert_int_equal(w->execution->verdict, VERDICT_INTERRUPTED);
	assert_int_equal(w->cancelled, 1);
	w->stall = false;
	check(w, "kept, artifacts.exists('yes')", "[1,true]");
}

static void calls_end_with_their_execution(void **state)
{
	struct world *w = *state;
	check(w,
	    "import threading, time\nended = []\n"
	    "def ask():\n"
	    "    try: skills.list()\n"
	    "    except RuntimeError as e: ended.append(str(e))\n"
	    "threads = [threading.Thread(target=ask) for i in range(3)]\n"
	    "for t in threads: t.start()\n"
	    "time.sleep(0.2)\n1",
	    "1");
	assert_int_equal(w->kept_count, 3);
	assert_int_equal(w->cancelled, 3);
	check(w, "for t in threads: t.join(5)\nlen(ended), set(map(str, ended)).pop()",
	    "[3,\"the cell that this call belongs to has ended\"]");
	/* And one that calls only when its cell is over. */
	check(w,
	    "late = []\n"
	    "def ask():\n"
	    "    time.sleep(0.3)\n"
	    "    try: late.append(artifacts.exists('yes'))\n"
	    "    except RuntimeError as e: late.append(str(e))\n"
	    "t = threading.Thread(target=ask); t.start()\n1",
	    "1");
	uint64_t end_ms = clock_mono_ms() + 600;
	until(w, clock_mono_ms() > end_ms);
	check(w, "t.join(5); late", "[\"the cell that this call belongs to has ended\"]");
	/* What nobody awaited is waited for at the end, so that later cells can use it. */
	check(w, "import asyncio\nawait asyncio.sleep(0)\nb = artifacts.exists('yes')\n1", "1");
	check(w, "not b", "false");
}

static void too_many_calls(void **state)
{
	struct world *w = *state;
	check(w,
	    "import threading\n"
	    "def ask():\n"
	    "    try: skills.list()\n"
	    "    except TooManyCalls: ask()\n"
	    "    except RuntimeError: pass\n"
	    "threads = [threading.Thread(target=ask) for i in range(64)]\n"
	    "for t in threads: t.start()\n"
	    "f = None\n"
	    "while f is None:\n"
	    "    try: artifacts.exists('yes')\n"
	    "    except TooManyCalls as e: f = str(e)\nf",
	    "\"this session has 64 calls open already\"");
	assert_int_equal(w->kept_count, 64);
	assert_int_equal(w->cancelled, 64);
	check(w, "artifacts.exists('yes')", "true");
}

static void a_fork_cannot_call(void **state)
{
	struct world *w = *state;
	check(w,
	    "import os\nr, p = os.pipe()\npid = os.fork()\n"
	    "if pid == 0:\n"
	    "    try: os.write(p, str(artifacts.exists('yes')).encode())\n"
	    "    except RuntimeError as e: os.write(p, b'refused')\n"
	    "    os._exit(0)\n"
	    "os.waitpid(pid, 0)\n"
	    "os.read(r, 100).decode(), artifacts.exists('yes')",
	    "[\"refused\",true]");
}

/* Speaks for the session, past the prelude. */
#define FORGE                                                             \
	"import os, socket, struct, time\n"                               \
	"control = socket.socket(fileno=os.dup(1000))\n"                  \
	"def text(b): return struct.pack('I', len(b) + 1) + b + b'\\0'\n" \
	"def send(kind, ref, body=b'', flags=0):\n"                       \
	"    control.send(struct.pack('IIQ', kind, flags, ref) + body)\n" \
	"def call(ref, method=b'skills.list', args=b'{}'):\n"             \
	"    send(53, ref, text(method) + text(args))\n"

static void check_killed(struct world *w, const char *code)
{
	char whole[4096];
	(void)snprintf(whole, sizeof(whole), FORGE "%s\ntime.sleep(8)", code);
	start(w, whole);
	finish(w);
	if (w->execution->verdict != VERDICT_SESSION_KILLED) {
		fail_msg("%s\n  gives %s", code, verdict_name(w->execution->verdict));
	}
	check(w, "artifacts.exists('yes')", "true");
}

static void forged_messages_end_the_session(void **state)
{
	struct world *w = *state;
	check_killed(w, "send(54, 1, b'bytes nobody asked for')");
	check_killed(w, "call(1)\nsend(54, 1, b'x')");
	check_killed(w, "call(1)\ncall(1)");
	check_killed(w, "call(1, b'')");
	check_killed(w, "call(1, b'x' * 64)");
	check_killed(w, "call(1, b'a b')");
	check_killed(w, "send(53, 1, text(b'skills.list'))");
	check_killed(w, "send(53, 1, text(b'skills.list') + text(b'{}')[:-1])");
	check_killed(w, "send(53, 1, text(b'skills.list') + text(b'{}') + b'x')");
	check_killed(w, "send(55, 1, b'x')");
	check_killed(w, "send(34, 1, b'\\1' + text(b'{}'))");
	check_killed(w, "send(35, 1, b'x')");
	check_killed(w, "call(1, b'artifacts.save', b'{\"name\": \"a\", \"size\": 3}')\n"
			"send(54, 1, b'four')");
	check_killed(w, "call(1, b'artifacts.save', b'{\"name\": \"a\", \"size\": 3}')\n"
			"send(54, 1, b'')");
	check_killed(w, "call(1, b'artifacts.save', b'{\"name\": \"a\", \"size\": 3000000}')\n"
			"send(54, 1, b'x' * 60000, flags=1)");
	check_killed(w, "for i in range(200): send(53, 1, b'x' * 60000, flags=1)");
}

static void forged_calls_are_bounded(void **state)
{
	struct world *w = *state;
	/* The 65th is refused, and so is what follows; cancelling makes room. */
	check(w, FORGE "for i in range(1, 101): call(i)\ntime.sleep(0.3)\n1", "1");
	assert_int_equal(w->kept_count, 64);
	check(w, FORGE "for i in range(1, 501): call(i); send(55, i)\n2", "2");
	assert_int_equal(w->kept_count, KEPT_MAX);
	/* Cancelling what is not there is nothing; a number may come again. */
	check(w, FORGE "send(55, 7777)\ncall(5); send(55, 5); call(5); send(55, 5)\n3", "3");
	check(w, "artifacts.exists('yes')", "true");
}

/* It asks for much, and takes nothing of it. */
static void answers_that_nobody_reads(void **state)
{
	struct world *w = *state;
	check(w,
	    FORGE "for i in range(1, 60): call(i, b'artifacts.path')\n"
		  "for i in range(100, 104):\n"
		  "    call(i, b'artifacts.load', b'{\"name\": \"100000000\"}')\n"
		  "time.sleep(0.5)\n1",
	    "1");
	check(w, "artifacts.exists('yes')", "true");
	until(w, w->closed == 4);
}

/* What waits of its answers goes through a session's bound three times: all of them come. */
static void answers_that_were_taken_are_counted_back(void **state)
{
	struct world *w = *state;
	check(w,
	    FORGE "def take(n):\n"
		  "    good, first = 0, True\n"
		  "    while n:\n"
		  "        packet = control.recv(70000)\n"
		  "        good += packet[16] if first else 0\n"
		  "        first = packet[4] == 0\n" /* no more pieces */
		  "        n -= first\n"
		  "    return good\n"
		  "good = 0\n"
		  "for turn in range(3):\n"
		  "    for i in range(8): call(turn * 8 + i + 1, b'artifacts.path')\n"
		  "    good += take(8)\n"
		  "good",
	    "24");
}

/* Several times what may be unfinished at once. */
static void unfinished_messages_are_counted_back(void **state)
{
	struct world *w = *state;
	w->gateway->partial.max = 1 << 20; /* a tenant alone has half */
	for (int i = 0; i < 6; i++) {
		check(w, "artifacts.exists('y' * 400000)", "false");
		assert_int_equal(w->gateway->partial.held, 0);
	}
	check_killed(w, "for i in range(12): send(32, 1, b'x' * 60000, flags=1)");
	check(w, "artifacts.exists('y' * 400000)", "false");
}

/* Of a tenant's sessions, and not the one that asks for a little more. */
static void who_holds_most_of_unfinished_messages_is_ended(void **state)
{
	struct world *w = *state;
	w->gateway->partial.max = 1 << 20;
	start(w, FORGE "for i in range(7): send(32, 1, b'x' * 60000, flags=1)\ntime.sleep(20)");
	until(w, w->gateway->partial.held >= 420000);
	struct execution *first = w->execution;
	w->execution = NULL;
	static const char code[] = "artifacts.exists('y' * 200000)";
	const struct execution_request r = {
	    .kind = IPC_EXECUTE_PYTHON, .code = {code, sizeof(code) - 1}, .values = true};
	struct err e = {0};
	w->session = engine_session_open(
	    engine_pool(gateway_engine(w->gateway), NULL), NULL, "second", &e);
	assert_non_null(w->session);
	w->execution = engine_execute(w->session, &r, &e);
	assert_non_null(w->execution);
	finish(w);
	assert_int_equal(w->execution->verdict, VERDICT_SUCCEEDED);
	until(w, execution_is_final(first));
	assert_int_equal(first->verdict, VERDICT_SESSION_KILLED);
	assert_non_null(strstr(first->reason, "it held the most"));
	execution_unref(first);
}

static void calls_are_counted(void **state)
{
	struct world *w = *state;
	check(
	    w, FORGE "call(1, b'made.up'); call(2, b'artifacts.exists')\ntime.sleep(0.2)\n1", "1");
	const struct pool_metrics *m = &engine_pool(gateway_engine(w->gateway), NULL)->metrics;
	assert_int_equal(m->host_calls[METRICS_HOST_METHODS - 1][HOST_OUTCOME_CANCELED], 1);
	assert_int_equal(m->host_call.count, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(answers_and_errors),
	    TEST(concurrent_calls),
	    TEST(bytes_both_ways),
	    TEST(bytes_that_fail),
	    TEST(an_interrupt_cancels),
	    TEST(an_interrupt_gets_through_a_full_store),
	    TEST(calls_end_with_their_execution),
	    TEST(too_many_calls),
	    TEST(a_fork_cannot_call),
	    TEST(forged_messages_end_the_session),
	    TEST(forged_calls_are_bounded),
	    TEST(answers_that_nobody_reads),
	    TEST(answers_that_were_taken_are_counted_back),
	    TEST(unfinished_messages_are_counted_back),
	    TEST(who_holds_most_of_unfinished_messages_is_ended),
	    TEST(calls_are_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
