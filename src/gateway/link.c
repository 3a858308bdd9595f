#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/packages.h"
#include "gateway/internal.h"

#define READ_BYTES 65536
#define MIME_MAX_BYTES 127

void link_broken(struct link *l, const char *why)
{
	if (l->worker != NULL) {
		engine_on_worker_broken(l->worker, why);
	}
}

/* --- output -------------------------------------------------------------------------------------
 */

/* Reads once, at most MAX bytes. How many were read; 0 at the end, -EAGAIN when there is nothing.
 */
static ssize_t read_output(struct link *l, int fd, enum output_kind kind, size_t max)
{
	static char bytes[READ_BYTES]; /* one loop, one thread */
	ssize_t n = read(fd, bytes, max < sizeof(bytes) ? max : sizeof(bytes));
	if (n < 0) {
		return errno == EINTR ? -EAGAIN : -errno;
	}
	if (n > 0 && l->worker != NULL) {
		engine_on_output(l->worker, kind, bytes, (size_t)n);
	}
	return n;
}

/* A session that writes without pause would keep its pipe full for ever: only what is in it now. */
static void drain_pipe(struct link *l, int fd, enum output_kind kind)
{
	int held = 0;
	if (fd < 0 || ioctl(fd, FIONREAD, &held) < 0) {
		return;
	}
	while (held > 0) {
		ssize_t n = read_output(l, fd, kind, (size_t)held);
		if (n <= 0) {
			return;
		}
		held -= (int)n;
	}
}

void link_drain(struct link *l)
{
	drain_pipe(l, l->out, OUTPUT_STDOUT);
	drain_pipe(l, l->err, OUTPUT_STDERR);
}

bool link_is_executing(const struct link *l)
{
	const struct worker *w = l->worker;
	return w != NULL && w->session != NULL && w->session->queue != NULL &&
	       w->session->queue->state == EXECUTION_RUNNING;
}

static void on_output(uv_poll_t *poll, int status, int events)
{
	struct link *l = poll->data;
	bool is_out = poll == &l->out_poll;
	(void)events;
	if (status == 0 && !link_is_executing(l)) {
		*(is_out ? &l->out_paused : &l->err_paused) = true;
		(void)uv_poll_stop(poll);
		return;
	}
	int fd = is_out ? l->out : l->err;
	ssize_t n = read_output(l, fd, is_out ? OUTPUT_STDOUT : OUTPUT_STDERR, READ_BYTES);
	if (status < 0 || (n <= 0 && n != -EAGAIN)) {
		(void)uv_poll_stop(
		    poll); /* every writer is gone; the control socket tells the rest */
	}
}

static void resume_output(struct link *l)
{
	if (l->out_paused) {
		l->out_paused = false;
		(void)uv_poll_start(&l->out_poll, UV_READABLE, on_output);
	}
	if (l->err_paused) {
		l->err_paused = false;
		(void)uv_poll_start(&l->err_poll, UV_READABLE, on_output);
	}
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
	/* Displays and text keep their order: what was printed before it is read before it. */
	link_drain(l);
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
	link_drain(l);
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
		engine_on_worker_ready(l->worker, l->data_dir);
	} else if (!l->sealed && m->type == IPC_WALLS_FAILED &&
		   ipc_text_decode(&m->body, &reason) == 0) {
		(void)memccpy(l->failure, reason, '\0', sizeof(l->failure) - 1);
		link_broken(l, reason);
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
	l->gateway->partial_bytes -= l->partial_bytes;
	l->partial_bytes = 0;
}

/* Keeps M, of which more is to come. -ENOMEM when it cannot, or must not, be kept. */
static int keep_partial(struct link *l, struct ipc_message *m)
{
	struct gateway *g = l->gateway;
	if (l->partial == NULL) {
		l->partial = malloc(sizeof(*l->partial));
		if (l->partial == NULL) {
			return -ENOMEM;
		}
		*l->partial = *m;
		*m = IPC_MESSAGE_INIT(GATEWAY_MESSAGE_MAX_BYTES);
	}
	g->partial_bytes += l->partial->body.len - l->partial_bytes;
	l->partial_bytes = l->partial->body.len;
	return g->partial_bytes > GATEWAY_PARTIAL_MAX_BYTES ? -ENOMEM : 0;
}

/* Messages are received into the gateway's one buffer; only one that comes in several packets gets
 * a buffer of its own, so that idle sessions cost none. */
static void receive(struct link *l)
{
	struct gateway *g = l->gateway;
	struct ipc_message *m = l->partial != NULL ? l->partial : &g->scratch;
	int r = ipc_receive(l->control, m, !l->sealed);
	if (r == -EAGAIN) {
		return;
	}
	if (r == 0) {
		r = host_calls_is_too_long(m) ? -EPROTO : keep_partial(l, m);
	}
	if (r == 1) {
		on_message(l, m);
	}
	if (r != 0) {
		ipc_message_reset(&g->scratch);
		forget_partial(l);
	}
	if (r < 0) {
		(void)uv_poll_stop(&l->control_poll);
		link_broken(l, r == -ECONNRESET ? "it closed its control socket"
			       : r == -ENOMEM   ? "it sends more than the gateway can hold"
						: "malformed packet");
	}
}

static void on_control(uv_poll_t *poll, int status, int events);

void link_watch(struct link *l)
{
	bool sends = l->outbox.bytes.len > 0 || l->send_failed || host_calls_have_more(l);
	int events = (host_calls_are_full(l) ? 0 : UV_READABLE) | (sends ? UV_WRITABLE : 0);
	if (l->worker == NULL) {
		return;
	}
	if (events == l->watched) {
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
		(void)uv_poll_stop(poll);
		link_broken(l, "its control socket failed");
		return;
	}
	if ((events & UV_WRITABLE) != 0) {
		if (send_more(l) < 0) {
			(void)uv_poll_stop(poll);
			link_broken(l, "it does not take what it is sent");
			return;
		}
		link_watch(l);
	}
	if ((events & UV_READABLE) != 0) {
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
	resume_output(l);
	return 0;
}

void link_cancel(struct link *l, uint64_t seq)
{
	if (ipc_outbox_send(&l->outbox, l->control, IPC_CANCEL, seq, NULL, 0) == 0 &&
	    l->outbox.bytes.len > 0) {
		link_watch(l);
	}
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
	l->control = control;
	l->out = out;
	l->err = err;
	l->data_dir = -1;
	l->outbox = IPC_OUTBOX_INIT(GATEWAY_OUTBOX_MAX_BYTES);
	uv_poll_t *polls[] = {&l->control_poll, &l->out_poll, &l->err_poll};
	int fds[] = {control, out, err};
	for (size_t i = 0; i < array_len(polls); i++) {
		(void)uv_poll_init(g->loop, polls[i], fds[i]);
		polls[i]->data = l;
		l->open_handles++;
	}
	g->open++;
	link_watch(l);
	(void)uv_poll_start(&l->out_poll, UV_READABLE, on_output);
	(void)uv_poll_start(&l->err_poll, UV_READABLE, on_output);
	return l;
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

void link_close(struct link *l)
{
	if (l == NULL) {
		return;
	}
	host_calls_end(l);
	l->worker = NULL;
	forget_partial(l);
	uv_close((uv_handle_t *)&l->control_poll, on_closed);
	uv_close((uv_handle_t *)&l->out_poll, on_closed);
	uv_close((uv_handle_t *)&l->err_poll, on_closed);
	/* uv_close has stopped the polling, so the descriptors may go at once. */
	fd_close(&l->control);
	fd_close(&l->out);
	fd_close(&l->err);
	fd_close(&l->data_dir);
}
