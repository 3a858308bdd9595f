#include "keeper/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_MAX_BYTES (IPC_HOST_CALL_MAX_BYTES + 4096)
/* Mapped, not allocated: what was copied goes back to the system at once. */
#define CHUNK_BYTES (1U << 20)
#define COPY_BYTES 4096 /* a shorter answer is copied, a longer one keeps the buffer it came in */
#define POLL_PACKETS 64 /* read by one host_poll */

struct entry {
	uint64_t id; /* 0: free */
	unsigned waiters;
	bool answered;
	bool ok;
	struct buf body;
	size_t json_at;
	size_t json_len;
	struct host_chunk *first;
	struct host_chunk *last;
	uint64_t bytes;
	uint64_t wanted;
};

static struct {
	/* SENDING before LOCK, where both are taken. */
	pthread_mutex_t sending;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* an entry, or the leader has left */
	pid_t pid;
	int control;
	int wake; /* ends the leader's waiting; without it that ends by its timeout */
	bool running;
	bool reading; /* there is a leader */
	unsigned followers;
	uint64_t last_id;
	struct entry *entries; /* IPC_HOST_CALLS_MAX of them; NULL until the first call */
	struct ipc_message incoming;
} host = {
    .sending = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
    .control = -1,
    .wake = -1,
};

void host_init(int control, int wake_at)
{
	host.pid = getpid();
	host.control = control;
	host.incoming = IPC_MESSAGE_INIT(MESSAGE_MAX_BYTES);
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd >= 0) {
		host.wake = dup3(fd, wake_at, O_CLOEXEC);
		(void)close(fd);
	}
}

int host_fileno(void)
{
	return host.control;
}

/* --- entries; all with LOCK held -----------------------------------------------------------------
 */

static struct entry *find(uint64_t id)
{
	for (size_t i = 0; host.entries != NULL && i < IPC_HOST_CALLS_MAX; i++) {
		if (host.entries[i].id == id && id != 0) {
			return &host.entries[i];
		}
	}
	return NULL;
}

static struct entry *take_place(void)
{
	if (host.entries == NULL) {
		host.entries = calloc(IPC_HOST_CALLS_MAX, sizeof(*host.entries));
	}
	for (size_t i = 0; host.entries != NULL && i < IPC_HOST_CALLS_MAX; i++) {
		if (host.entries[i].id == 0) {
			host.entries[i] = (struct entry){.id = ++host.last_id};
			return &host.entries[i];
		}
	}
	return NULL;
}

void host_chunk_drop(struct host_chunk **list)
{
	struct host_chunk *c = *list;
	*list = c->next;
	(void)munmap(c, CHUNK_BYTES);
}

static void free_entry(struct entry *e)
{
	while (e->first != NULL) {
		host_chunk_drop(&e->first);
	}
	buf_fini(&e->body);
	*e = (struct entry){0};
}

static bool is_ready(const struct entry *e)
{
	return e->answered && (!e->ok || e->bytes >= e->wanted);
}

static int state_of(uint64_t id)
{
	const struct entry *e = find(id);
	return e == NULL ? -ESHUTDOWN : is_ready(e);
}

/* --- what comes in; with LOCK held ---------------------------------------------------------------
 */

static void set_failed(struct entry *e, const char *json)
{
	e->answered = true;
	e->ok = false;
	e->body = BUF_INIT(COPY_BYTES);
	(void)buf_add_str(&e->body, json);
	e->json_at = 0;
	e->json_len = e->body.len;
}

static int on_reply(struct entry *e, struct ipc_message *m)
{
	struct ipc_host_reply x;
	if (ipc_host_reply_decode(&m->body, &x) < 0) {
		return -EPROTO;
	}
	buf_fini(&e->body);
	e->answered = true;
	e->ok = x.ok != 0;
	e->json_len = x.json.len;
	if (m->body.len <= COPY_BYTES) {
		e->json_at = 0;
		e->body = BUF_INIT(COPY_BYTES);
		return buf_add(&e->body, x.json.data, x.json.len);
	}
	e->json_at = (size_t)(x.json.data - m->body.data);
	e->body = m->body;
	m->body = BUF_INIT(MESSAGE_MAX_BYTES);
	return 0;
}

static struct host_chunk *add_chunk(struct entry *e)
{
	struct host_chunk *c = mmap(
	    NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED) {
		return NULL;
	}
	if (e->last != NULL) {
		e->last->next = c;
	} else {
		e->first = c;
	}
	e->last = c;
	return c;
}

static void on_bytes(struct entry *e, const struct ipc_message *m)
{
	if (!e->answered || !e->ok || e->bytes + m->body.len > IPC_HOST_BYTES_MAX) {
		set_failed(e, "{\"error\": \"RuntimeError\", \"message\": \"bytes out of order\"}");
		return;
	}
	const char *from = m->body.data;
	size_t left = m->body.len;
	while (left > 0) {
		struct host_chunk *c = e->last;
		size_t room = c == NULL ? 0 : CHUNK_BYTES - sizeof(*c) - c->len;
		if (room == 0) {
			c = add_chunk(e);
			if (c == NULL) {
				set_failed(e, "{\"error\": \"MemoryError\", \"message\": \"\"}");
				return;
			}
			continue;
		}
		size_t n = left < room ? left : room;
		memcpy(c->bytes + c->len, from, n);
		c->len += n;
		from += n;
		left -= n;
	}
	e->bytes += m->body.len;
}

/* What is in INCOMING. 1: it made a call ready for which no thread waits. */
static int deliver(void)
{
	struct ipc_message *m = &host.incoming;
	struct entry *e = find(m->ref);
	int r = 0;
	if (m->type == IPC_HOST_REPLY) {
		r = e == NULL ? 0 : on_reply(e, m);
	} else if (m->type == IPC_HOST_BYTES) {
		if (e != NULL) {
			on_bytes(e, m);
		}
	} else if (m->type != IPC_CANCEL) {
		r = -EPROTO; /* CANCEL: its signal says the same */
	}
	ipc_message_reset(m);
	return r < 0 ? r : e != NULL && e->waiters == 0 && is_ready(e);
}

/* --- reading -------------------------------------------------------------------------------------
 */

/* Receives one packet, as the leader, without LOCK. 1: INCOMING is complete; 0: it is not, or
 * nothing came in time. */
static int read_packet(int timeout_ms)
{
	struct pollfd fds[2] = {
	    {.fd = host.control, .events = POLLIN}, {.fd = host.wake, .events = POLLIN}};
	int n = poll(fds, 2, timeout_ms);
	if (n < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	if (fds[0].revents == 0) {
		return 0;
	}
	return ipc_receive(host.control, &host.incoming, false);
}

/* Leads for one packet. With LOCK held, which is given up meanwhile. */
static int lead(int timeout_ms)
{
	host.reading = true;
	(void)pthread_mutex_unlock(&host.lock);
	int r = read_packet(timeout_ms);
	(void)pthread_mutex_lock(&host.lock);
	host.reading = false;
	if (r == 1) {
		r = deliver();
		r = r == 1 ? 2 : r;
	}
	if (host.followers > 0 || !host.running) {
		(void)pthread_cond_broadcast(&host.changed);
	}
	return r;
}

static void follow(int timeout_ms)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	host.followers++;
	(void)pthread_cond_clockwait(&host.changed, &host.lock, CLOCK_MONOTONIC, &until);
	host.followers--;
}

int host_wait(uint64_t id, int timeout_ms)
{
	if (getpid() != host.pid) {
		return -ECHILD; /* what comes is the session's own to read */
	}
	(void)pthread_mutex_lock(&host.lock);
	int r = 0;
	struct entry *e = host.running ? find(id) : NULL;
	if (e != NULL && !is_ready(e)) {
		e->waiters++;
		if (host.reading) {
			follow(timeout_ms);
		} else {
			r = lead(timeout_ms);
		}
		e = find(id);
		if (e != NULL) {
			e->waiters--;
		}
	}
	int state = state_of(id);
	(void)pthread_mutex_unlock(&host.lock);
	return state != 0 ? state : r;
}

int host_poll(void)
{
	if (getpid() != host.pid) {
		return -ECHILD;
	}
	int r = 0;
	(void)pthread_mutex_lock(&host.lock);
	struct pollfd fd = {.fd = host.control, .events = POLLIN};
	for (int i = 0;
	     i < POLL_PACKETS && r >= 0 && host.running && !host.reading && poll(&fd, 1, 0) > 0;
	     i++) {
		r = lead(0);
	}
	(void)pthread_mutex_unlock(&host.lock);
	return r < 0 ? r : 0;
}

int host_is_ready(uint64_t id)
{
	(void)pthread_mutex_lock(&host.lock);
	int r = state_of(id);
	(void)pthread_mutex_unlock(&host.lock);
	return r;
}

int host_receive(struct ipc_message *m)
{
	struct ipc_message *into = host.incoming.partial ? &host.incoming : m;
	int r = ipc_receive(host.control, into, false);
	bool late = into != m || m->type == IPC_HOST_REPLY || m->type == IPC_HOST_BYTES;
	if (r == 1 && late) {
		ipc_message_reset(into);
		return 0;
	}
	return r;
}

bool host_is_cancelled(uint64_t seq)
{
	bool found = false;
	struct ipc_header h;
	while (recv(host.control, &h, sizeof(h), MSG_PEEK | MSG_DONTWAIT) == (ssize_t)sizeof(h) &&
	       h.type == IPC_CANCEL) {
		(void)recv(host.control, &h, sizeof(h), MSG_DONTWAIT);
		found |= h.ref == seq;
	}
	return found;
}

/* --- sending -------------------------------------------------------------------------------------
 */

int host_send(uint32_t type, uint64_t ref, const void *body, size_t len)
{
	/* In a forked process the lock may be held by a thread that is not there. */
	bool ours = getpid() == host.pid;
	if (ours) {
		(void)pthread_mutex_lock(&host.sending);
	}
	int r = ipc_send(host.control, type, ref, body, len, NULL, 0);
	if (ours) {
		(void)pthread_mutex_unlock(&host.sending);
	}
	return r;
}

/* With SENDING held. */
static int send_call(const char *method, struct ipc_bytes json, uint64_t *id)
{
	struct ipc_host_call x = {.method = method, .json = json};
	cleanup(buf_fini) struct buf body = BUF_INIT(MESSAGE_MAX_BYTES);
	int r = ipc_host_call_encode(&x, &body);
	if (r < 0) {
		return r;
	}
	(void)pthread_mutex_lock(&host.lock);
	struct entry *e = host.running ? take_place() : NULL;
	r = e != NULL ? 0 : host.running ? -EBUSY : -ESHUTDOWN;
	*id = e != NULL ? e->id : 0;
	(void)pthread_mutex_unlock(&host.lock);
	if (r == 0) {
		r = ipc_send(host.control, IPC_HOST_CALL, *id, body.data, body.len, NULL, 0);
	}
	return r;
}

int host_call(const char *method, struct ipc_bytes json, uint64_t *id)
{
	if (getpid() != host.pid) {
		return -ECHILD;
	}
	if (json.len > IPC_HOST_CALL_MAX_BYTES) {
		return -EMSGSIZE;
	}
	(void)pthread_mutex_lock(&host.sending);
	int r = send_call(method, json, id);
	(void)pthread_mutex_unlock(&host.sending);
	return r;
}

int host_put(uint64_t id, const char *bytes, size_t len)
{
	(void)pthread_mutex_lock(&host.sending);
	(void)pthread_mutex_lock(&host.lock);
	const struct entry *e = host.running ? find(id) : NULL;
	int r = e == NULL ? -ESHUTDOWN : e->answered;
	(void)pthread_mutex_unlock(&host.lock);
	if (r == 0) {
		r = ipc_send(host.control, IPC_HOST_PUT, id, bytes, len, NULL, 0);
	}
	(void)pthread_mutex_unlock(&host.sending);
	return r;
}

void host_cancel(uint64_t id)
{
	if (getpid() != host.pid) {
		return;
	}
	(void)pthread_mutex_lock(&host.sending);
	(void)pthread_mutex_lock(&host.lock);
	struct entry *e = find(id);
	bool tell = e != NULL && host.running && !(e->answered && !e->ok);
	if (e != NULL) {
		free_entry(e);
		(void)pthread_cond_broadcast(&host.changed);
	}
	(void)pthread_mutex_unlock(&host.lock);
	if (tell) {
		(void)ipc_send(host.control, IPC_HOST_CANCEL, id, NULL, 0, NULL, 0);
	}
	(void)pthread_mutex_unlock(&host.sending);
}

/* --- answers -------------------------------------------------------------------------------------
 */

void host_want(uint64_t id, uint64_t bytes)
{
	(void)pthread_mutex_lock(&host.lock);
	struct entry *e = find(id);
	if (e != NULL) {
		e->wanted = bytes;
	}
	(void)pthread_mutex_unlock(&host.lock);
}

int host_take(uint64_t id, bool keep, struct host_answer *out)
{
	*out = (struct host_answer){0};
	(void)pthread_mutex_lock(&host.lock);
	struct entry *e = find(id);
	if (e != NULL) {
		out->ok = e->ok;
		out->body = e->body;
		out->json = (struct ipc_bytes){buf_str(&e->body) + e->json_at, e->json_len};
		e->body = BUF_INIT(0);
		if (!keep || !e->ok) {
			out->list = e->first;
			out->len = e->bytes;
			e->first = NULL;
			free_entry(e);
		}
	}
	(void)pthread_mutex_unlock(&host.lock);
	return e == NULL ? -ESHUTDOWN : 0;
}

void host_answer_fini(struct host_answer *a)
{
	if (a == NULL) {
		return;
	}
	while (a->list != NULL) {
		host_chunk_drop(&a->list);
	}
	buf_fini(&a->body);
}

/* --- executions ----------------------------------------------------------------------------------
 */

void host_begin(void)
{
	(void)pthread_mutex_lock(&host.lock);
	host.running = true;
	(void)pthread_mutex_unlock(&host.lock);
}

/* With LOCK held. */
static void dismiss_leader(void)
{
	uint64_t one = 1;
	bool woken = host.reading && host.wake >= 0 && write(host.wake, &one, sizeof(one)) > 0;
	while (host.reading) {
		(void)pthread_cond_wait(&host.changed, &host.lock);
	}
	if (woken) {
		(void)!read(host.wake, &one, sizeof(one));
	}
}

void host_end(void)
{
	if (getpid() != host.pid) {
		return;
	}
	(void)pthread_mutex_lock(&host.sending);
	(void)pthread_mutex_lock(&host.lock);
	host.running = false;
	for (size_t i = 0; host.entries != NULL && i < IPC_HOST_CALLS_MAX; i++) {
		if (host.entries[i].id != 0) {
			free_entry(&host.entries[i]);
		}
	}
	dismiss_leader();
	if (host.followers > 0) {
		(void)pthread_cond_broadcast(&host.changed);
	}
	(void)pthread_mutex_unlock(&host.lock);
	(void)pthread_mutex_unlock(&host.sending);
}
