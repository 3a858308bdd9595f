#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/packages.h"
#include "gateway/internal.h"

#define PIPE_MAX_BYTES (1U << 20) /* what a pipe of a session can hold; fcntl(2) */
#define MIME_MAX_BYTES 127

/* Since Linux 6.16: a socket that no descriptor can be sent to. */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

void link_broken(struct link *l, const char *why)
{
	if (l->worker != NULL) {
		engine_on_worker_broken(l->worker, why);
	}
}

/* Whose share its bytes and threads are. */
static const char *tenant_of(const struct link *l)
{
	return l->worker != NULL ? l->worker->tenant : "";
}

/*
 * Output. A pipe has a lock that its writer holds while the kernel copies from the writer's memory,
 * and how long that takes is the writer's choice (pages that are being remapped by its other
 * threads). So a thread reads; the loop only asks whether there is something, which takes no lock.
 */

static const enum output_kind pipe_kinds[LINK_PIPES] = {OUTPUT_STDOUT, OUTPUT_STDERR};

struct output_read {
	struct engine_job job;
	struct link *link; /* NULL: closed meanwhile */
	int pipes[LINK_PIPES];
	bool ended[LINK_PIPES];
	struct buf bytes[LINK_PIPES];
};

/* A session that writes without pause would keep its pipe full for ever: only what is in it now.
 * False at the end. */
static bool read_pipe(int fd, struct buf *out)
{
	int held = 0;
	if (ioctl(fd, FIONREAD, &held) < 0) {
		return false;
	}
	size_t left = held > 0 ? (size_t)held : 1;
	while (left > 0) {
		char *into = buf_reserve(out, left);
		ssize_t n = into != NULL ? read(fd, into, left) : -1;
		if (n <= 0) {
			return into != NULL && n < 0 && (errno == EAGAIN || errno == EINTR);
		}
		buf_grew(out, (size_t)n);
		left -= (size_t)n;
	}
	return true;
}

static void read_run(struct engine_job *job)
{
	struct output_read *r = container_of(job, struct output_read, job);
	for (size_t i = 0; i < LINK_PIPES; i++) {
		r->ended[i] = !r->ended[i] && !read_pipe(r->pipes[i], &r->bytes[i]);
	}
}

static void read_free(struct output_read *r)
{
	for (size_t i = 0; i < LINK_PIPES; i++) {
		buf_fini(&r->bytes[i]);
	}
	free(r);
}

static void on_output(uv_poll_t *poll, int status, int events);
static void go_on(struct link *l);
static void conclude(struct link *l);

static void watch_output(struct link *l)
{
	for (size_t i = 0; i < LINK_PIPES; i++) {
		if (l->reading == NULL && !l->pipe_ended[i]) {
			(void)uv_poll_start(&l->pipe_polls[i], UV_READABLE, on_output);
		}
	}
}

static void ignore_output(struct link *l)
{
	for (size_t i = 0; i < LINK_PIPES; i++) {
		(void)uv_poll_stop(&l->pipe_polls[i]);
	}
}

static void read_done(struct engine_job *job, bool ran)
{
	struct output_read *r = container_of(job, struct output_read, job);
	struct link *l = r->link;
	if (l == NULL) {
		read_free(r);
		return;
	}
	l->reading = NULL;
	for (size_t i = 0; ran && i < LINK_PIPES; i++) {
		l->pipe_ended[i] |= r->ended[i];
		if (r->bytes[i].len > 0 && l->worker != NULL) {
			engine_on_output(
			    l->worker, pipe_kinds[i], r->bytes[i].data, r->bytes[i].len);
		}
	}
	read_free(r);
	if (!ran) {
		link_broken(l, "out of memory");
	}
	go_on(l);
}

static void read_output(struct link *l)
{
	struct output_read *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		link_broken(l, "out of memory");
		return;
	}
	ignore_output(l);
	r->job = (struct engine_job){.run = read_run, .done = read_done};
	r->link = l;
	for (size_t i = 0; i < LINK_PIPES; i++) {
		r->pipes[i] = l->pipes[i];
		r->ended[i] = l->pipe_ended[i];
		r->bytes[i] = BUF_INIT(PIPE_MAX_BYTES);
	}
	l->reading = r;
	work_add(l->gateway->work, l->id, WORK_OUTPUT, tenant_of(l), &r->job);
}

static bool has_output(const struct link *l)
{
	struct pollfd p[LINK_PIPES];
	for (size_t i = 0; i < LINK_PIPES; i++) {
		p[i] = (struct pollfd){.fd = l->pipe_ended[i] ? -1 : l->pipes[i], .events = POLLIN};
	}
	return poll(p, LINK_PIPES, 0) > 0 && ((p[0].revents | p[1].revents) & POLLIN) != 0;
}

bool link_is_executing(const struct link *l)
{
	const struct worker *w = l->worker;
	return w != NULL && w->session != NULL && w->session->queue != NULL &&
	       w->session->queue->state == EXECUTION_RUNNING;
}

/* What is printed while nothing runs stays in the pipe. */
static void on_output(uv_poll_t *poll, int status, int events)
{
	struct link *l = poll->data;
	(void)events;
	if (status < 0 || !link_is_executing(l)) {
		ignore_output(l);
	} else if (l->reading == NULL) {
		read_output(l);
	}
}

/* True when what was printed so far has to be read first; go_on is called then. */
static bool must_wait_for_output(struct link *l)
{
	if (l->reading != NULL) {
		l->drained = false; /* that one may have looked before the last of it came */
		return true;
	}
	if (!has_output(l)) {
		return false;
	}
	l->drained = true;
	read_output(l);
	return l->reading != NULL;
}

/* --- messages from the session ------------------------------------------------------------------
 */

static struct display *display_copy(const struct ipc_display *from)
{
	struct display *d = calloc(1, sizeof(*d));
	for (uint32_t i = 0; d != NULL && i < from->count; i++) {
		size_t len = from->items[i].data.len;
		char *mime = strdup(from->items[i].mime);
		char *data = malloc(len + 1);
		if (mime == NULL || data == NULL) {
			free(mime);
			free(data);
			display_free(d);
			return NULL;
		}
		memcpy(data, from->items[i].data.data, len);
		data[len] = '\0';
		d->items[i].mime = mime;
		d->items[i].data = data;
		d->items[i].len = len;
		d->count++;
	}
	return d;
}

/* A MIME type is short printable ASCII; anything else is not one. */
static bool mimes_are_sane(const struct ipc_display *d)
{
	for (uint32_t i = 0; i < d->count; i++) {
		const char *m = d->items[i].mime;
		if (*m == '\0' || strlen(m) > MIME_MAX_BYTES) {
			return false;
		}
		for (; *m != '\0'; m++) {
			if (*m <= ' ' || *m > '~') {
				return false;
			}
		}
	}
	return true;
}

static void on_display(struct link *l, const struct ipc_message *m)
{
	struct ipc_display items;
	if (ipc_display_decode(&m->body, &items) < 0 || !mimes_are_sane(&items)) {
		link_broken(l, "malformed display");
		return;
	}
	struct display *d = display_copy(&items);
	if (d != NULL) {
		engine_on_display(l->worker, m->ref, d);
	}
}

static void on_result(struct link *l, const struct ipc_message *m)
{
	struct ipc_result r;
	if (ipc_result_decode(&m->body, &r) < 0) {
		link_broken(l, "malformed result");
		return;
	}
	if (link_is_executing(l) && l->worker->session->queue->seq == m->ref) {
		host_calls_end(l);
	}
	if (engine_on_result(l->worker, m->ref, &r) < 0) {
		link_broken(l, "a result that nobody waits for");
	}
}

static void on_message(struct link *l, struct ipc_message *m)
{
	const char *reason;
	if (!ipc_type_allowed(m->type, IPC_SESSION, IPC_GATEWAY) ||
	    m->fd_count != ipc_type_fds(m->type)) {
		link_broken(l, "a message that a session may not send");
	} else if (!l->sealed && l->data_dir < 0 && m->type == IPC_DATA_DIR) {
		l->data_dir = fd_take(&m->fds[0]);
	} else if (!l->sealed && l->data_dir >= 0 && m->type == IPC_SEALED) {
		l->sealed = true;
		int off = 0;
		(void)setsockopt(l->control, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
		engine_on_worker_ready(l->worker, l->data_dir);
	} else if (!l->sealed && m->type == IPC_WALLS_FAILED &&
		   ipc_text_decode(&m->body, &reason) == 0) {
		(void)memccpy(l->failure, reason, '\0', sizeof(l->failure) - 1);
		link_broken(l, l->failure);
	} else if (l->sealed && m->type == IPC_DISPLAY) {
		on_display(l, m);
	} else if (l->sealed && m->type == IPC_RESULT) {
		on_result(l, m);
	} else if (l->sealed && (m->type == IPC_HOST_CALL || m->type == IPC_HOST_PUT ||
				    m->type == IPC_HOST_CANCEL)) {
		host_calls_on_message(l, m);
	} else {
		link_broken(l, "a message out of order");
	}
}

static void forget_partial(struct link *l)
{
	if (l->partial != NULL) {
		ipc_message_fini(l->partial);
		free(l->partial);
		l->partial = NULL;
	}
	quota_release(&l->gateway->partial, tenant_of(l), l->partial_bytes);
	l->partial_bytes = 0;
	l->partial_is_whole = false;
}

/* Ends the session of L, and gives back at once what it holds. */
static void break_link(struct link *l, const char *why)
{
	l->broken = true;
	(void)uv_poll_stop(&l->control_poll);
	link_broken(l, why);
	forget_partial(l);
}

/* Whoever of L's tenant holds the most of unfinished messages. */
static struct link *find_largest(struct link *l)
{
	struct link *largest = l;
	struct worker *w;
	struct worker *next;
	HASH_ITER(by_id, l->gateway->engine->workers, w, next)
	{
		struct link *other = w->link;
		if (other != NULL && other->partial_bytes > largest->partial_bytes &&
		    strcmp(tenant_of(other), tenant_of(l)) == 0) {
			largest = other;
		}
	}
	return largest;
}

static const char holds_most[] =
    "of its tenant it held the most of messages that are not finished, and there was no more room";

/* Counts MORE bytes for L. False when L was ended for it. */
static bool charge_partial(struct link *l, size_t more)
{
	struct quota *q = &l->gateway->partial;
	int r;
	while ((r = quota_charge(q, tenant_of(l), more)) == -EDQUOT) {
		struct link *largest = find_largest(l);
		if (largest == l) {
			break;
		}
		break_link(largest, holds_most);
	}
	if (r < 0) {
		break_link(l, r == -EDQUOT ? holds_most : "out of memory");
	} else {
		l->partial_bytes += more;
	}
	return r == 0;
}

/* Keeps M, of which more is to come or which has to wait; false when L was ended instead. */
static bool keep_partial(struct link *l, struct ipc_message *m)
{
	if (l->partial == NULL) {
		l->partial = malloc(sizeof(*l->partial));
		if (l->partial == NULL) {
			break_link(l, "out of memory");
			return false;
		}
		*l->partial = *m;
		*m = IPC_MESSAGE_INIT(GATEWAY_MESSAGE_MAX_BYTES);
		l->partial_since_ms = clock_mono_ms();
	}
	return charge_partial(l, l->partial->body.len - l->partial_bytes);
}

/* What a session sends beside its output keeps its place among it. */
static bool follows_output(const struct ipc_message *m)
{
	return m->type == IPC_DISPLAY || m->type == IPC_RESULT;
}

static void on_whole(struct link *l, struct ipc_message *m)
{
	if (l->sealed && follows_output(m) && link_is_executing(l) && must_wait_for_output(l)) {
		l->partial_is_whole = keep_partial(l, m);
		link_watch(l);
		return;
	}
	on_message(l, m);
	ipc_message_reset(&l->gateway->scratch);
	forget_partial(l);
}

/* The pipes have been read: what waited for that. */
static void go_on(struct link *l)
{
	bool waits = l->partial_is_whole || l->has_ended;
	if (waits && !l->drained && must_wait_for_output(l)) {
		return;
	}
	if (l->partial_is_whole) {
		struct ipc_message m = *l->partial;
		*l->partial = IPC_MESSAGE_INIT(0);
		if (l->worker != NULL) {
			on_message(l, &m);
		}
		ipc_message_fini(&m);
		forget_partial(l);
	}
	if (l->has_ended) {
		conclude(l);
		return;
	}
	link_watch(l);
	if (link_is_executing(l)) {
		watch_output(l);
	}
}

/* Messages are received into the gateway's one buffer; only one that comes in several packets gets
 * a buffer of its own, so that idle sessions cost none. */
static void receive(struct link *l)
{
	struct gateway *g = l->gateway;
	struct ipc_message *m = l->partial != NULL ? l->partial : &g->scratch;
	if (l->sealed && ipc_carries_fds(l->control) == 1) {
		/* It stays in the socket, which a thread closes. */
		break_link(l, "it sends descriptors");
		return;
	}
	int r = ipc_receive(l->control, m, !l->sealed);
	if (r == -EAGAIN) {
		return;
	}
	if (r == 0 && host_calls_is_too_long(m)) {
		r = -EPROTO;
	}
	if (r == 0) {
		(void)keep_partial(l, m);
	} else if (r == 1) {
		on_whole(l, m);
	} else {
		ipc_message_reset(&g->scratch);
		break_link(l, r == -ECONNRESET ? NULL
			      : r == -ENOMEM   ? "it sends more than a message may have"
					       : "malformed packet");
	}
}

void link_tick(struct link *l, uint64_t now_ms)
{
	if (l->partial == NULL || l->partial_is_whole || l->broken || host_calls_are_full(l)) {
		return;
	}
	uint64_t may_ms = GATEWAY_PARTIAL_TIME_MS +
			  l->partial_bytes / GATEWAY_PARTIAL_LEAST_BYTES_PER_MS;
	if (now_ms > l->partial_since_ms + may_ms) {
		break_link(l, "it left a message unfinished for too long");
	}
}

static void on_control(uv_poll_t *poll, int status, int events);

void link_watch(struct link *l)
{
	bool sends = l->outbox.bytes.len > 0 || l->send_failed || host_calls_have_more(l);
	bool reads = !l->partial_is_whole && !host_calls_are_full(l);
	int events = (reads ? UV_READABLE : 0) | (sends ? UV_WRITABLE : 0);
	if (l->worker == NULL || l->broken || events == l->watched) {
		return;
	}
	l->watched = events;
	if (events == 0) {
		/* Its end is told by the keeper. */
		(void)uv_poll_stop(&l->control_poll);
	} else {
		(void)uv_poll_start(&l->control_poll, events, on_control);
	}
}

/* -errno when the session cannot be sent to. */
static int send_more(struct link *l)
{
	int r = ipc_outbox_flush(&l->outbox, l->control);
	if (r >= 0) {
		host_calls_pump(l);
	}
	return r < 0 || l->send_failed ? -EPIPE : 0;
}

static void on_control(uv_poll_t *poll, int status, int events)
{
	struct link *l = poll->data;
	if (status < 0) {
		break_link(l, NULL);
		return;
	}
	if ((events & UV_WRITABLE) != 0) {
		if (send_more(l) < 0) {
			break_link(l, NULL);
			return;
		}
		link_watch(l);
	}
	if ((events & UV_READABLE) != 0 && !l->broken && !l->partial_is_whole) {
		receive(l);
	}
}

/* --- life ---------------------------------------------------------------------------------------
 */

int link_execute(struct link *l, struct execution *x)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(GATEWAY_CODE_MAX_BYTES);
	cleanup(buf_fini) struct buf packages = BUF_INIT(4096);
	(void)engine_packages_add_names(l->worker, &packages);
	struct ipc_execute message = {
	    .kind = (uint8_t)x->kind,
	    .empty_namespace = x->empty_namespace,
	    .values = x->values,
	    .end_children = l->worker->end_children,
	    .code = {buf_str(&x->code), x->code.len},
	    .standard_input = {buf_str(&x->standard_input), x->standard_input.len},
	    .packages = {buf_str(&packages), packages.len},
	};
	int r = ipc_execute_encode(&message, &body);
	if (r == 0) {
		r = ipc_outbox_send(
		    &l->outbox, l->control, IPC_EXECUTE, x->seq, body.data, body.len);
	}
	if (r < 0) {
		return r;
	}
	if (l->outbox.bytes.len > 0) {
		link_watch(l);
	}
	watch_output(l);
	return 0;
}

void link_cancel(struct link *l, uint64_t seq)
{
	if (ipc_outbox_send(&l->outbox, l->control, IPC_CANCEL, seq, NULL, 0) == 0 &&
	    l->outbox.bytes.len > 0) {
		link_watch(l);
	}
}

static void on_closed(uv_handle_t *handle)
{
	struct link *l = handle->data;
	if (--l->open_handles > 0) {
		return;
	}
	l->gateway->open--;
	ipc_outbox_fini(&l->outbox);
	free(l);
}

/* False when the kernel watches no more for this user (fs.epoll.max_user_watches): L is given up.
 */
static bool open_polls(struct link *l)
{
	uv_poll_t *polls[] = {&l->control_poll, &l->pipe_polls[0], &l->pipe_polls[1]};
	int fds[] = {l->control, l->pipes[0], l->pipes[1]};
	size_t opened = 0;
	while (opened < array_len(polls) &&
	       uv_poll_init(l->gateway->loop, polls[opened], fds[opened]) == 0) {
		polls[opened++]->data = l;
	}
	if (opened == 0) {
		free(l);
		return false;
	}
	l->open_handles = (int)opened;
	l->gateway->open++;
	for (size_t i = 0; opened < array_len(polls) && i < opened; i++) {
		uv_close((uv_handle_t *)polls[i], on_closed);
	}
	return opened == array_len(polls);
}

struct link *link_new(struct gateway *g, struct worker *w, int control, int out, int err)
{
	struct link *l = calloc(1, sizeof(*l));
	bool ok = l != NULL && fd_set_nonblocking(control) == 0 && fd_set_nonblocking(out) == 0 &&
		  fd_set_nonblocking(err) == 0;
	if (!ok) {
		fd_close(&control);
		fd_close(&out);
		fd_close(&err);
		free(l);
		return NULL;
	}
	l->gateway = g;
	l->worker = w;
	l->id = w->id;
	l->control = control;
	l->pipes[0] = out;
	l->pipes[1] = err;
	l->data_dir = -1;
	l->outbox = IPC_OUTBOX_INIT(GATEWAY_OUTBOX_MAX_BYTES);
	if (!open_polls(l)) {
		fd_close(&control);
		fd_close(&out);
		fd_close(&err);
		return NULL;
	}
	link_watch(l);
	return l;
}

static void conclude(struct link *l)
{
	struct worker_end end = {
	    .wait_status = (int)l->end.wait_status,
	    .oom_kills = l->end.oom_kills,
	    .memory_peak_bytes = l->end.memory_peak_bytes,
	    .reason = *l->failure != '\0' ? l->failure : NULL,
	};
	engine_on_worker_ended(l->worker, &end);
}

void link_ended(struct link *l, const struct ipc_ended *end)
{
	l->end = *end;
	l->has_ended = l->partial_is_whole || (link_is_executing(l) && must_wait_for_output(l));
	if (!l->has_ended) {
		conclude(l);
	}
}

/* Descriptors that may be the last of what a session has filled. */
struct closing {
	struct engine_job job;
	int fds[1 + LINK_PIPES];
};

static void close_run(struct engine_job *job)
{
	struct closing *c = container_of(job, struct closing, job);
	for (size_t i = 0; i < array_len(c->fds); i++) {
		fd_close(&c->fds[i]);
	}
}

static void close_done(struct engine_job *job, bool ran)
{
	if (!ran) {
		close_run(job); /* no memory, no thread: here, then */
	}
	free(container_of(job, struct closing, job));
}

/* Closes FDS behind what the lane is doing with them. */
static void close_later(
    struct link *l, const char *tenant, enum work_lane lane, const int *fds, size_t count)
{
	struct closing *c = calloc(1, sizeof(*c));
	struct closing here = {.fds = {-1, -1, -1}};
	struct closing *closing = c != NULL ? c : &here;
	for (size_t i = 0; i < array_len(closing->fds); i++) {
		closing->fds[i] = i < count ? fds[i] : -1;
	}
	if (c == NULL) {
		close_run(&here.job);
		return;
	}
	c->job = (struct engine_job){.run = close_run, .done = close_done};
	work_add(l->gateway->work, l->id, lane, tenant, &c->job);
}

void link_close(struct link *l)
{
	if (l == NULL) {
		return;
	}
	const char *tenant = tenant_of(l);
	host_calls_end(l);
	forget_partial(l);
	if (l->reading != NULL) {
		l->reading->link = NULL;
	}
	uv_close((uv_handle_t *)&l->control_poll, on_closed);
	uv_close((uv_handle_t *)&l->pipe_polls[0], on_closed);
	uv_close((uv_handle_t *)&l->pipe_polls[1], on_closed);
	/* uv_close has stopped the polling, so the descriptors may go. */
	work_cancel_lane(l->gateway->work, l->id, WORK_FILES);
	close_later(l, tenant, WORK_FILES, &l->data_dir, 1);
	close_later(l, tenant, WORK_OUTPUT, (const int[]){l->control, l->pipes[0], l->pipes[1]},
	    1 + LINK_PIPES);
	l->worker = NULL;
}
