#include "fake_api.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json_text.h"
#include "base/json_weight.h"
#include "base/text.h"
#include "engine/packages.h"

/* --- workers ------------------------------------------------------------------------------------
 */

static void op_spawn(void *ctx, struct worker *w)
{
	struct fake_world *world = ctx;
	assert(world->spawned_count < FAKE_WORKERS_MAX);
	world->spawned[world->spawned_count++] = w;
}

static void op_kill(void *ctx, struct worker *w)
{
	struct fake_world *world = ctx;
	if (world->running == w) {
		world->running = NULL;
	}
	for (unsigned i = 0; i < world->spawned_count; i++) {
		if (world->spawned[i] == w) {
			world->spawned[i] = world->spawned[--world->spawned_count];
		}
	}
}

static void op_interrupt(void *ctx, struct worker *w)
{
	struct fake_world *world = ctx;
	world->interrupts++;
	world->to_interrupt = w;
}

static int op_execute(void *ctx, struct worker *w, struct execution *x)
{
	struct fake_world *world = ctx;
	size_t len = x->code.len < sizeof(world->code) - 1 ? x->code.len : sizeof(world->code) - 1;
	for (size_t i = 0; i < len; i++) {
		world->code[i] = x->code.data[i] == '\0' ? '|' : x->code.data[i];
	}
	world->code[len] = '\0';
	(void)snprintf(
	    world->stdin_text, sizeof(world->stdin_text), "%s", buf_str(&x->standard_input));
	world->kind = x->kind;
	world->empty_namespace = x->empty_namespace;
	world->timeout_ms = x->timeout_ms;
	world->running = w;
	world->running_seq = x->seq;
	return 0;
}

/* A temporary directory; release removes it by the name its descriptor has. One who is stopped
 * before that (a fuzzer) gives a TMPDIR that is removed as a whole. */
static int new_data_dir(void)
{
	char path[256];
	const char *base = getenv("TMPDIR");
	(void)snprintf(path, sizeof(path), "%s/carrel-fake-XXXXXX", base != NULL ? base : "/tmp");
	if (mkdtemp(path) == NULL) {
		abort();
	}
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void remove_data_dir(int fd)
{
	char link[64];
	char path[256];
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (strstr(path, "/carrel-fake-") != NULL) {
		pid_t child = fork();
		if (child == 0) {
			(void)execl("/bin/rm", "rm", "-rf", path, (char *)NULL);
			_exit(127);
		}
		(void)waitpid(child, NULL, 0);
	}
}

static void op_release(void *ctx, struct worker *w)
{
	(void)ctx;
	if (w->data_dir_fd >= 0) {
		remove_data_dir(w->data_dir_fd);
		fd_close(&w->data_dir_fd);
	}
}

static void op_mount(void *ctx, struct worker *w, const char *name)
{
	(void)ctx;
	engine_on_mounted(w, name, NULL);
}

static void op_usage(void *ctx, struct worker *w)
{
	(void)ctx;
	engine_on_usage(w, 0, 0);
}

static void op_work(void *ctx, uint64_t worker_id, const char *tenant, struct engine_job *j)
{
	struct fake_world *world = ctx;
	(void)worker_id;
	(void)tenant;
	fake_work_add(&world->work, j);
}

static void op_cancel_work(void *ctx, struct engine_job *j)
{
	struct fake_world *world = ctx;
	fake_work_cancel(&world->work, j);
}

static const struct engine_ops ops = {op_spawn, op_kill, op_interrupt, op_execute, op_release,
    op_mount, op_usage, op_work, op_cancel_work};

static void add_displays(struct fake_world *w, struct worker *worker, uint64_t seq)
{
	for (unsigned i = 0; i < w->script.display_count; i++) {
		const struct ipc_display *from = &w->script.displays[i];
		struct display *d = calloc(1, sizeof(*d));
		assert(d != NULL);
		for (uint32_t k = 0; k < from->count; k++) {
			d->items[k].mime = strdup(from->items[k].mime);
			d->items[k].len = from->items[k].data.len;
			d->items[k].data = malloc(d->items[k].len + 1);
			memcpy(d->items[k].data, from->items[k].data.data, d->items[k].len);
			d->count++;
		}
		engine_on_display(worker, seq, d);
	}
}

void fake_finish(struct fake_world *w)
{
	struct worker *worker = w->running;
	uint64_t seq = w->running_seq;
	assert(worker != NULL);
	w->running = NULL;
	if (w->script.out != NULL) {
		engine_on_output(worker, OUTPUT_STDOUT, w->script.out, strlen(w->script.out));
	}
	if (w->script.err != NULL) {
		engine_on_output(worker, OUTPUT_STDERR, w->script.err, strlen(w->script.err));
	}
	add_displays(w, worker, seq);
	if (w->script.dies) {
		struct worker_end end = {.wait_status = 9, .oom_kills = w->script.oom_kills};
		engine_on_worker_ended(worker, &end);
	} else {
		(void)engine_on_result(worker, seq, &w->script.result);
	}
}

void fake_output(struct fake_world *w, enum output_kind kind, const char *bytes, size_t len)
{
	engine_on_output(w->running, kind, bytes, len);
}

void fake_pump(struct fake_world *w)
{
	for (bool changed = true; changed;) {
		(void)uv_run(&w->loop, UV_RUN_DEFAULT);
		changed = fake_work_run(&w->work);
		while (!w->no_workers && w->spawned_count > 0) {
			struct worker *worker = w->spawned[--w->spawned_count];
			engine_on_worker_ready(worker, new_data_dir());
			changed = true;
		}
		struct worker *interrupted = w->to_interrupt;
		w->to_interrupt = NULL;
		if (interrupted != NULL && interrupted == w->running) {
			uint64_t seq = w->running_seq;
			struct ipc_result r = {.status = IPC_STATUS_INTERRUPTED,
			    .error_name = {"KeyboardInterrupt", 17},
			    .traceback = {"KeyboardInterrupt", 17}};
			w->running = NULL;
			(void)engine_on_result(interrupted, seq, &r);
			engine_on_interrupted(interrupted);
			changed = true;
		}
		if (w->running != NULL && !w->script.silent) {
			fake_finish(w);
			changed = true;
		}
	}
}

static void configure(struct pool_config *p, const char *name, enum pool_type type)
{
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	p->type = type;
	p->max_sessions = 3;
	p->cooldown_ms = 300000;
	p->execution_time_ms = 220000;
	p->output_max_bytes = 100000;
}

void fake_world_init(struct fake_world *w)
{
	memset(w, 0, sizeof(*w));
	struct engine_config config = {
	    .pool_count = 2, .grace_ms = 1000, .finished_keep_ms = 600000};
	configure(&config.pools[0], "default", POOL_PYTHON);
	configure(&config.pools[1], "sh", POOL_SHELL);
	w->engine = engine_new(&config, &ops, w);
	static const struct ipc_package packages[] = {{"numpy", "1.24.2"}, {"pandas", "1.5.3"}};
	w->api = (struct api){.engine = w->engine,
	    .python_version = "3.11.2",
	    .packages = packages,
	    .package_count = array_len(packages),
	    .started_wall_us = 1714634467992261};
	engine_set_now(w->engine, 1000);
	static const struct pcm_config pcm = {.timeout_ms = 30000, .timeout_max_ms = 300000};
	w->api.pcm = pcm_new(&pcm);
	if (uv_loop_init(&w->loop) < 0) {
		abort();
	}
	w->api.json_work = json_work_new(&w->loop);
	w->api.appr = appr_new();
	engine_set_workspaces(w->engine, pcm_workspace_of, &w->api);
	size_t count;
	const struct route *routes;
	w->router = router_new();
	for (size_t i = 0; (routes = api_routes(i, &count)) != NULL; i++) {
		if (w->router == NULL || router_add(w->router, routes, count, &w->api) < 0) {
			abort();
		}
	}
}

void fake_world_fini(struct fake_world *w)
{
	json_work_free(w->api.json_work);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&w->loop);
	pcm_free(w->api.pcm);
	appr_free(w->api.appr);
	(void)fake_work_run(&w->work);
	engine_free(w->engine);
	(void)fake_work_run(&w->work);
	router_free(w->router);
}

/* --- api/call.h ---------------------------------------------------------------------------------
 */

static struct fake_call *fake_of(struct call *c)
{
	return container_of(c, struct fake_call, call);
}

const char *call_query(struct call *c, const char *name)
{
	struct fake_call *f = fake_of(c);
	for (unsigned i = 0; i < f->value_count; i++) {
		if (strcasecmp(f->values[i], name) == 0) {
			return f->values[i] + strlen(name) + 1;
		}
	}
	return NULL;
}

const char *call_header(struct call *c, const char *name)
{
	struct fake_call *f = fake_of(c);
	bool is = f->header_name != NULL && strcasecmp(f->header_name, name) == 0;
	return is ? f->header_value : NULL;
}

void call_set_header(struct call *c, const char *name, const char *value)
{
	struct fake_call *f = fake_of(c);
	assert(f->answers == 0 && f->header_count < FAKE_HEADERS_MAX);
	(void)snprintf(f->headers[f->header_count][0], 4096, "%s", name);
	(void)snprintf(f->headers[f->header_count++][1], 4096, "%s", value);
}

static void answered(struct fake_call *f, int status)
{
	assert(f->answers == 0);
	f->answers++;
	f->status = status;
}

static bool is_json(const struct buf *body)
{
	struct buf copy = BUF_INIT(body->len);
	bool is = json_text_add_checked(&copy, body->data, body->len) == 0;
	/* Nothing of an answer may have to be mended. */
	is = is && copy.len == body->len && memcmp(copy.data, body->data, copy.len) == 0;
	buf_fini(&copy);
	return is;
}

void call_reply(struct call *c, int status, const char *content_type, struct buf *body)
{
	struct fake_call *f = fake_of(c);
	answered(f, status);
	f->body = *body;
	body->data = NULL;
	buf_fini(body);
	if (content_type != NULL && f->header_count < FAKE_HEADERS_MAX) {
		(void)snprintf(f->headers[f->header_count][0], 4096, "Content-Type");
		(void)snprintf(f->headers[f->header_count++][1], 4096, "%s", content_type);
	}
	if (content_type != NULL && text_has_prefix(content_type, "application/json")) {
		size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
		f->json = json_loadb(f->body.data, f->body.len, flags, NULL);
		assert(f->json != NULL || (f->world->loose && is_json(&f->body)));
	}
}

void call_reply_json(struct call *c, int status, json_t *j)
{
	struct fake_call *f = fake_of(c);
	assert(j != NULL);
	answered(f, status);
	/* Through text, as a client has it. */
	char *text = json_dumps(j, JSON_COMPACT);
	assert(text != NULL);
	f->json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	assert(f->json != NULL);
	free(text);
	json_decref(j);
}

void call_reply_file(struct call *c, struct call_source *source, uint64_t size,
    int64_t modified_wall_us, const char *content_type)
{
	struct fake_call *f = fake_of(c);
	(void)modified_wall_us;
	char text[32];
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	call_set_header(c, "Size", text);
	call_reply_source(c, 200, content_type, source);
	if (size > 0) {
		source->range(source, 0, size);
	} else {
		source->close(source);
		f->closed = true;
	}
}

void call_reply_source(struct call *c, int status, const char *content_type, struct call_source *s)
{
	struct fake_call *f = fake_of(c);
	call_set_header(c, "Content-Type", content_type);
	answered(f, status);
	f->source = s;
	s->call = c;
	f->body = BUF_INIT(64U << 20);
}

void call_wake(struct call *c)
{
	fake_of(c)->woken = true;
}

void call_continue(struct call *c)
{
	fake_of(c)->continued = true;
}

void call_pause(struct call *c)
{
	fake_of(c)->continued = false;
	fake_of(c)->paused++;
}

/* --- requests ------------------------------------------------------------------------------------
 */

static void parse_query(struct fake_call *f)
{
	char *save = NULL;
	char *at = f->query == NULL ? NULL : strtok_r(f->query, "&", &save);
	for (; at != NULL && f->value_count < 8; at = strtok_r(NULL, "&", &save)) {
		char *equals = strchr(at, '=');
		size_t name = equals == NULL ? strlen(at) : (size_t)(equals - at);
		char *to = f->values[f->value_count++];
		(void)snprintf(to, 2048, "%.*s", (int)name, at);
		(void)snprintf(to + name + 1, 2047, "%s", equals == NULL ? "" : equals + 1);
		(void)percent_decode(to + name + 1, strlen(to + name + 1), to + name + 1);
		to[name + 1 + strlen(to + name + 1)] = '\0';
	}
}

/* Finds the route; false having answered 404 or 405. */
static bool open_call(
    struct fake_call *f, struct fake_world *w, const char *method, const char *target)
{
	memset(f, 0, sizeof(*f));
	f->world = w;
	f->principal = (struct principal){.name = w->caller != NULL ? w->caller : "tester",
	    .pool = w->token_pool,
	    .role = w->role != ROLE_NONE ? w->role : ROLE_ADMIN,
	    .prefix = w->prefix,
	    .others_only = w->others_only};
	(void)snprintf(f->target, sizeof(f->target), "%s", target);
	f->query = strchr(f->target, '?');
	if (f->query != NULL) {
		*f->query++ = '\0';
	}
	parse_query(f);
	struct err e;
	int r = router_find(w->router, method_of(method), f->target, &f->match);
	f->call.method = method_of(method);
	f->call.path = f->match.path;
	f->call.pool = f->match.pool;
	f->call.path_identifier = f->match.path_identifier;
	memcpy(f->call.params, f->match.params, sizeof(f->call.params));
	f->call.route = f->match.route;
	f->call.principal = &f->principal;
	f->call.holder = f->principal.name;
	f->call.app = f->match.app;
	if (r < 0) {
		(void)err_set(&e, ERR_NOT_FOUND, "no such route");
		api_on_error(&f->call, r == -ENOTSUP ? 405 : 404, &e);
	}
	return r == 0;
}

void fake_start(struct fake_call *f, struct fake_world *w, const char *method, const char *target,
    const char *header, const char *value, const char *body, size_t len)
{
	if (!open_call(f, w, method, target)) {
		return;
	}
	f->header_name = header;
	f->header_value = value;
	f->call.body = BUF_INIT(64U << 20);
	if (len > f->call.route->max_body_bytes) {
		struct err e;
		(void)err_set(&e, ERR_TOO_LARGE, "the body is too large");
		f->call.route->on_error(&f->call, 413, &e);
		return;
	}
	(void)buf_add(&f->call.body, body, len);
	if (f->call.route->json != NULL) {
		json_read(&f->call.json, &f->call.body, f->call.route->json(&f->call),
		    JSON_WEIGHT_BODY_MAX);
	}
	f->call.route->handle(&f->call);
	json_decref(steal(&f->call.json.value));
}

void fake_send(struct fake_call *f, struct fake_world *w, const char *method, const char *target,
    const char *body)
{
	fake_start(f, w, method, target, NULL, NULL, body, body == NULL ? 0 : strlen(body));
	fake_pump(w);
}

void fake_upload(struct fake_call *f, struct fake_world *w, const char *target, const char *name,
    const char *bytes, size_t len)
{
	if (!open_call(f, w, "POST", target)) {
		return;
	}
	const struct route *r = f->call.route;
	f->waits = r->begin(&f->call) == CALL_WAIT;
	fake_pump(w);
	if (f->answers > 0) {
		return;
	}
	assert(!f->waits || f->continued);
	if (name != NULL) {
		size_t half = len / 2;
		if (r->upload->part(&f->call, "file", name) < 0 ||
		    r->upload->data(&f->call, bytes, half) < 0 ||
		    r->upload->data(&f->call, bytes + half, len - half) < 0 ||
		    r->upload->end(&f->call) < 0) {
			assert(f->answers == 1);
		}
		fake_pump(w);
		assert(f->paused == 0 || f->continued || f->answers == 1);
	}
	if (f->answers == 0) {
		r->handle(&f->call);
	}
	fake_pump(w);
}

void fake_leave(struct fake_call *f)
{
	if (f->source != NULL && !f->closed) {
		f->source->close(f->source);
		f->closed = true;
	} else if (f->answers == 0 && f->call.gone != NULL) {
		f->call.gone(&f->call);
	}
	(void)fake_work_run(&f->world->work);
	f->answers++; /* nothing may be answered any more */
}

bool fake_pull(struct fake_call *f, size_t step)
{
	char bytes[65536];
	assert(step <= sizeof(bytes));
	for (;;) {
		f->woken = false;
		ssize_t n = f->source->read(f->source, bytes, step);
		if (n < 0) {
			f->broken = n == CALL_SOURCE_BROKEN;
			f->source->close(f->source);
			f->closed = true;
			return true;
		}
		if (n == 0 && !fake_work_run(&f->world->work)) {
			return false;
		}
		(void)buf_add(&f->body, bytes, (size_t)n);
	}
}

void fake_call_fini(struct fake_call *f)
{
	if (f->source != NULL && !f->closed) {
		f->source->close(f->source);
	}
	if (f->world != NULL) {
		(void)fake_work_run(&f->world->work);
	}
	json_decref(f->json);
	buf_fini(&f->body);
	buf_fini(&f->call.body);
	route_match_fini(&f->match);
}

const char *fake_header(const struct fake_call *f, const char *name)
{
	for (unsigned i = 0; i < f->header_count; i++) {
		if (strcasecmp(f->headers[i][0], name) == 0) {
			return f->headers[i][1];
		}
	}
	return NULL;
}

json_t *fake_at(const struct fake_call *f, const char *path)
{
	json_t *j = f->json;
	while (*path != '\0' && j != NULL) {
		char key[128];
		size_t len = strcspn(path, ".");
		(void)snprintf(key, sizeof(key), "%.*s", (int)len, path);
		uint64_t index = 0;
		j = json_is_array(j) && text_to_u64(key, 100000, &index) == 0
			? json_array_get(j, (size_t)index)
			: json_object_get(j, key);
		path += len + (path[len] == '.');
	}
	return j;
}

const char *fake_text(const struct fake_call *f, const char *path)
{
	const char *text = json_string_value(fake_at(f, path));
	return text != NULL ? text : "";
}
