#include "tools/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "base/log.h"

#define READ_BYTES 65536
#define READS_A_TURN 16
#define INPUT_MAX_BYTES (8U << 20)
#define HARD_KILL_MS 1000
#define OPEN_FILES 1024
#define PROCESSES_EACH 512
#define FILE_MAX_BYTES (1ULL << 30)
#define MEMORY_BYTES (8ULL << 30)

struct stream {
	uv_poll_t poll;
	int fd;
	struct buf kept;
	process_bytes_fn on_bytes;
	struct process *process;
};

struct process {
	struct command_walls *walls;
	struct command_child child;
	struct stream out;
	struct stream err;
	uv_pipe_t in;
	uv_poll_t told;  /* how the command ended */
	uv_poll_t ended; /* what waited for it */
	uv_timer_t timer;
	bool has_in;
	bool finished; /* the command is over, and DONE was called if it was wanted */
	bool killing;
	bool timed_out;
	bool cut;
	uint64_t kills_before; /* in the control group of all commands */
	int open_handles;
	process_done_fn done; /* NULL: cancelled */
	void *ctx;
};

static int live;

int process_count(void)
{
	return live;
}

/* --- its end
 * -------------------------------------------------------------------------------------
 */

static void on_handle_closed(uv_handle_t *handle)
{
	struct process *p = handle->data;
	if (--p->open_handles == 0) {
		buf_fini(&p->out.kept);
		buf_fini(&p->err.kept);
		free(p);
	}
}

static void close_stream(struct stream *s)
{
	s->poll.data = s->process;
	(void)uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, on_handle_closed);
	fd_close(&s->fd);
}

static void release(struct process *p)
{
	close_stream(&p->out);
	close_stream(&p->err);
	(void)uv_poll_stop(&p->told);
	uv_close((uv_handle_t *)&p->told, on_handle_closed);
	(void)uv_poll_stop(&p->ended);
	uv_close((uv_handle_t *)&p->ended, on_handle_closed);
	uv_close((uv_handle_t *)&p->timer, on_handle_closed);
	if (p->has_in) {
		uv_close((uv_handle_t *)&p->in, on_handle_closed);
	}
	command_child_fini(p->walls, &p->child);
	live--;
}

static void on_hard_timer(uv_timer_t *timer)
{
	struct process *p = timer->data;
	command_kill(p->walls, &p->child, true);
}

void process_kill(struct process *p)
{
	if (p->killing) {
		return;
	}
	p->killing = true;
	command_kill(p->walls, &p->child, false);
	(void)uv_timer_start(&p->timer, on_hard_timer, HARD_KILL_MS, HARD_KILL_MS);
}

void process_cancel(struct process *p)
{
	if (p == NULL) {
		return;
	}
	p->done = NULL;
	p->out.on_bytes = NULL;
	p->err.on_bytes = NULL;
	process_kill(p);
}

static void on_timeout(uv_timer_t *timer)
{
	struct process *p = timer->data;
	p->timed_out = true;
	process_kill(p);
}

/* --- its output
 * ----------------------------------------------------------------------------------
 */

static void take(struct stream *s, const char *bytes, size_t len)
{
	struct process *p = s->process;
	if (p->done == NULL) {
		return;
	}
	if (s->on_bytes != NULL) {
		s->on_bytes(p->ctx, bytes, len);
		return;
	}
	size_t room = s->kept.max - s->kept.len;
	(void)buf_add(&s->kept, bytes, len < room ? len : room);
	if (len > room && s == &p->out && !p->cut) {
		p->cut = true;
		process_kill(p);
	}
}

/* False when there is nothing more for now, or ever. */
static bool read_some(struct stream *s)
{
	static char bytes[READ_BYTES];
	ssize_t n = read(s->fd, bytes, sizeof(bytes));
	if (n > 0) {
		take(s, bytes, (size_t)n);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		(void)uv_poll_stop(&s->poll);
	}
	return false;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct stream *s = poll->data;
	(void)status;
	(void)events;
	for (int i = 0; i < READS_A_TURN && read_some(s); i++) {
	}
}

static void drain(struct stream *s)
{
	/* Nobody writes any more: what is in the pipe is all there is. */
	while (read_some(s)) {
	}
}

/* That the kernel killed one of the commands meanwhile, and that this one was killed, by nobody
 * here: which processes the kernel took it does not tell. */
static bool is_memory_full(const struct process *p, int status)
{
	bool full = status == 128 + SIGKILL && !p->killing &&
		    command_walls_kills(p->walls) > p->kills_before;
	if (full) {
		log_event(LOG_LEVEL_WARNING, "commands_memory_full",
		    LOG_INT("kills", command_walls_kills(p->walls)));
	}
	return full;
}

/* Nothing of the command runs any more. */
static void finish(struct process *p, int status)
{
	p->finished = true;
	drain(&p->out);
	drain(&p->err);
	const struct process_end end = {
	    .status = status,
	    .timed_out = p->timed_out,
	    .cut = p->cut,
	    .memory_full = is_memory_full(p, status),
	    .out = &p->out.kept,
	    .err = &p->err.kept,
	};
	if (p->done != NULL) {
		process_done_fn done = p->done;
		p->done = NULL;
		done(p->ctx, &end);
	}
}

/* The command is over: whoever waits for it need not wait for the process that waited, too. */
static void on_told(uv_poll_t *poll, int status, int events)
{
	struct process *p = poll->data;
	(void)status;
	(void)events;
	int end_status = command_ended(&p->child);
	if (end_status == -EAGAIN) {
		return;
	}
	(void)uv_poll_stop(&p->told);
	if (end_status >= 0) {
		finish(p, end_status);
	}
}

static void on_ended(uv_poll_t *poll, int status, int events)
{
	struct process *p = poll->data;
	(void)events;
	int end_status = command_reap(&p->child);
	if (end_status < 0) {
		if (status < 0) {
			(void)uv_poll_stop(&p->ended);
		}
		return;
	}
	if (!p->finished) {
		finish(p, end_status);
	}
	release(p);
}

/* --- its input
 * -----------------------------------------------------------------------------------
 */

struct writing {
	uv_write_t request;
	char bytes[];
};

static void on_written(uv_write_t *request, int status)
{
	(void)status;
	free(container_of(request, struct writing, request));
}

int process_write(struct process *p, const char *bytes, size_t len)
{
	if (!p->has_in || p->killing) {
		return -EPIPE;
	}
	if (uv_stream_get_write_queue_size((uv_stream_t *)&p->in) + len > INPUT_MAX_BYTES) {
		return -ENOBUFS;
	}
	struct writing *w = malloc(sizeof(*w) + len);
	if (w == NULL) {
		return -ENOMEM;
	}
	memcpy(w->bytes, bytes, len);
	uv_buf_t all = uv_buf_init(w->bytes, (unsigned)len);
	int r = uv_write(&w->request, (uv_stream_t *)&p->in, &all, 1, on_written);
	if (r < 0) {
		free(w);
	}
	return r;
}

/* --- its start
 * -----------------------------------------------------------------------------------
 */

/* Words that end with NULL. Their texts are the array's, or their own when OWN. */
struct words {
	char **at;
	size_t count;
	bool own;
};

static void words_fini(struct words *w)
{
	for (size_t i = 0; w->own && i < w->count; i++) {
		free(w->at[i]);
	}
	free(w->at);
}

static int words_of(const json_t *list, struct words *out)
{
	out->at = calloc(json_array_size(list) + 1, sizeof(*out->at));
	if (out->at == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));
		out->at[out->count++] = (char *)(uintptr_t)text;
	}
	return 0;
}

static int add_variable(struct words *w, const char *name, const char *value)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(256U << 10);
	if (buf_addf(&b, "%s=%s", name, value) < 0) {
		return -ENOMEM;
	}
	w->at[w->count++] = steal(&b.data);
	return 0;
}

static int environment_of(const json_t *given, const char *home, struct words *out)
{
	static const char *const usual[] = {"PATH", "LANG", "HOME", "TMPDIR"};
	const char *const values[] = {COMMAND_PATH, "C.UTF-8", home, home};
	const char *name;
	json_t *value;
	out->own = true;
	out->at = calloc(json_object_size(given) + array_len(usual) + 1, sizeof(*out->at));
	int r = out->at == NULL ? -ENOMEM : 0;
	for (size_t i = 0; r == 0 && i < array_len(usual); i++) {
		if (json_object_get(given, usual[i]) == NULL) {
			r = add_variable(out, usual[i], values[i]);
		}
	}
	json_object_foreach((json_t *)(uintptr_t)given, name, value)
	{
		r = r < 0 ? r : add_variable(out, name, json_string_value(value));
	}
	return r;
}

struct pipes {
	int out[2];
	int err[2];
	int in[2];
};

static void pipes_fini(struct pipes *p)
{
	for (int i = 0; i < 2; i++) {
		fd_close(&p->out[i]);
		fd_close(&p->err[i]);
		fd_close(&p->in[i]);
	}
}

/* The ends that stay here do not block; those of the command do, as it expects. */
static int open_pipes(struct pipes *p, bool input)
{
	if (pipe2(p->out, O_CLOEXEC) < 0 || pipe2(p->err, O_CLOEXEC) < 0) {
		return -errno;
	}
	if (input) {
		if (pipe2(p->in, O_CLOEXEC) < 0) {
			return -errno;
		}
	} else {
		p->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (p->in[0] < 0) {
			return -errno;
		}
	}
	int r = fd_set_nonblocking(p->out[0]);
	return r < 0 ? r : fd_set_nonblocking(p->err[0]);
}

static int start_command(
    struct process *p, const struct process_options *o, const struct pipes *pipes, struct err *e)
{
	char path[4096];
	cleanup(words_fini) struct words argv = {0};
	cleanup(words_fini) struct words environment = {0};
	cleanup(words_fini) struct words reads = {0};
	cleanup(words_fini) struct words writes = {0};
	const char *program = json_string_value(json_array_get(o->words, 0));
	if (program == NULL) {
		return err_set(e, ERR_INVALID, "there is no command");
	}
	if (command_find(program, path, sizeof(path), e) < 0) {
		return -1;
	}
	if (words_of(o->words, &argv) < 0 || words_of(o->read_paths, &reads) < 0 ||
	    words_of(o->write_paths, &writes) < 0 ||
	    environment_of(o->environment, p->child.home, &environment) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	const struct command what = {
	    .path = path,
	    .argv = argv.at,
	    .environment = environment.at,
	    .in_fd = pipes->in[0],
	    .out_fd = pipes->out[1],
	    .err_fd = pipes->err[1],
	    .directory = o->directory,
	    .read_paths = (const char *const *)reads.at,
	    .read_path_count = reads.count,
	    .write_paths = (const char *const *)writes.at,
	    .write_path_count = writes.count,
	    .data_dir_fd = o->data_dir_fd,
	    .limits = {.memory_bytes = MEMORY_BYTES,
		.file_bytes = o->file_max_bytes > 0 ? o->file_max_bytes : FILE_MAX_BYTES,
		.processes = PROCESSES_EACH,
		.open_files = OPEN_FILES},
	};
	return command_start(p->walls, &what, &p->child, e);
}

static void open_stream(
    uv_loop_t *loop, struct process *p, struct stream *s, int fd, process_bytes_fn fn, size_t max)
{
	s->fd = fd;
	s->process = p;
	s->on_bytes = fn;
	s->kept = BUF_INIT(max);
	(void)uv_poll_init(loop, &s->poll, fd);
	s->poll.data = s;
	(void)uv_poll_start(&s->poll, UV_READABLE, on_readable);
}

static void watch(
    uv_loop_t *loop, struct process *p, const struct process_options *o, struct pipes *pipes)
{
	open_stream(loop, p, &p->out, fd_take(&pipes->out[0]), o->on_out, o->out_max_bytes);
	open_stream(loop, p, &p->err, fd_take(&pipes->err[0]), o->on_err, o->err_max_bytes);
	(void)uv_poll_init(loop, &p->told, p->child.channel_fd);
	p->told.data = p;
	(void)uv_poll_start(&p->told, UV_READABLE, on_told);
	(void)uv_poll_init(loop, &p->ended, p->child.pid_fd);
	p->ended.data = p;
	(void)uv_poll_start(&p->ended, UV_READABLE, on_ended);
	(void)uv_timer_init(loop, &p->timer);
	p->timer.data = p;
	p->open_handles = 5;
	if (o->timeout_ms > 0) {
		(void)uv_timer_start(&p->timer, on_timeout, o->timeout_ms, 0);
	}
	if (o->input) {
		(void)uv_pipe_init(loop, &p->in, 0);
		(void)uv_pipe_open(&p->in, fd_take(&pipes->in[1]));
		p->in.data = p;
		p->has_in = true;
		p->open_handles++;
	}
	live++;
}

struct process *process_start(
    uv_loop_t *loop, struct command_walls *walls, const struct process_options *o, struct err *e)
{
	cleanup(pipes_fini) struct pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}};
	if (live >= PROCESSES_MAX) {
		(void)err_set(e, ERR_BUSY, "%d commands run already", live);
		return NULL;
	}
	struct process *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	p->walls = walls;
	p->kills_before = command_walls_kills(walls);
	p->done = o->done;
	p->ctx = o->ctx;
	p->child = COMMAND_CHILD_INIT;
	int r = open_pipes(&pipes, o->input);
	r = r < 0 ? err_set_os(e, -r, "cannot make pipes") : command_child_new(walls, &p->child, e);
	r = r < 0 ? r : start_command(p, o, &pipes, e);
	if (r < 0) {
		command_child_fini(walls, &p->child);
		free(p);
		return NULL;
	}
	watch(loop, p, o, &pipes);
	pipes_fini(&pipes);
	command_walls_prepare(walls);
	return p;
}
