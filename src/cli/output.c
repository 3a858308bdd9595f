#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/command.h"

#define LINE_MAX_BYTES 65536
#define PROGRESS_EVERY_MS 100
#define BAR_CELLS 24

void output_init(struct output *o, bool json)
{
	*o = (struct output){.json = json};
	o->terminal[STDOUT_FILENO] = isatty(STDOUT_FILENO) == 1;
	o->terminal[STDERR_FILENO] = isatty(STDERR_FILENO) == 1;
	struct stat out;
	struct stat err;
	o->together = fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 &&
		      out.st_dev == err.st_dev && out.st_ino == err.st_ino;
}

static int write_out(struct output *o, int fd, const char *bytes, size_t len, struct err *e)
{
	if (len == 0) {
		return 0;
	}
	int r = fd_write_all(fd, bytes, len);
	if (r < 0) {
		return err_set_os(
		    e, -r, "cannot write to %s", fd == STDOUT_FILENO ? "stdout" : "stderr");
	}
	bool mid_line = bytes[len - 1] != '\n';
	o->mid_line[fd] = mid_line;
	if (o->together) {
		o->mid_line[STDOUT_FILENO] = o->mid_line[STDERR_FILENO] = mid_line;
	}
	return 0;
}

int output_bytes(struct output *o, int fd, const char *bytes, size_t len, struct err *e)
{
	if (!o->terminal[fd]) {
		return write_out(o, fd, bytes, len, e);
	}
	/* At worst each byte becomes the six of \u001b. */
	cleanup(buf_fini) struct buf shown = BUF_INIT(6 * (len + 4));
	if (terminal_filter_add(&o->filter[fd], &shown, bytes, len) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	return write_out(o, fd, buf_str(&shown), shown.len, e);
}

int output_linef(struct output *o, const char *fmt, ...)
{
	char line[4096];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(line, sizeof(line) - 1, fmt, args);
	va_end(args);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 2;
	line[len] = '\n';
	return output_bytes(o, STDOUT_FILENO, line, len + 1, NULL);
}

void output_bytes_end(struct output *o, int fd)
{
	cleanup(buf_fini) struct buf shown = BUF_INIT(64);
	if (terminal_filter_end(&o->filter[fd], &shown) == 0) {
		(void)write_out(o, fd, buf_str(&shown), shown.len, NULL);
	}
}

void output_fresh_line(struct output *o, int fd)
{
	if (o->terminal[fd] && o->mid_line[fd]) {
		(void)write_out(o, fd, "\n", 1, NULL);
	}
}

void output_note(struct output *o, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	cleanup(buf_fini) struct buf line = BUF_INIT(LINE_MAX_BYTES);
	if (buf_add_str(&line, "carrel: ") == 0 &&
	    terminal_escape(&line, text, strlen(text)) == 0 && buf_add_char(&line, '\n') == 0) {
		if (o->mid_line[STDERR_FILENO]) {
			(void)write_out(o, STDERR_FILENO, "\n", 1, NULL);
		}
		(void)write_out(o, STDERR_FILENO, line.data, line.len, NULL);
	}
}

int output_json_text(struct output *o, const char *text, size_t len, struct err *e)
{
	if (output_bytes(o, STDOUT_FILENO, text, len, e) < 0) {
		return -1;
	}
	return output_bytes(o, STDOUT_FILENO, "\n", 1, e);
}

int output_json(struct output *o, const json_t *value, struct err *e)
{
	cleanup(text_free) char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	if (text == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	return output_json_text(o, text, strlen(text), e);
}

int output_failure(struct output *o, const struct client *c, const struct err *e)
{
	if (e->os_errno == EPIPE) {
		return command_exit_of(
		    e); /* the reader has gone, as `| head` does: nothing to tell */
	}
	output_fresh_line(o, STDOUT_FILENO);
	output_note(o, "%s", e->text);
	if (!o->json) {
		return command_exit_of(e);
	}
	const struct client_refusal *r = c != NULL ? &c->refusal : NULL;
	bool refused = r != NULL && (r->code[0] != '\0' || r->message[0] != '\0');
	cleanup(json_decrefp) json_t *error = json_object();
	(void)json_object_set_new(error, "code", json_string(refused ? r->code : "ClientError"));
	(void)json_object_set_new(error, "message", json_string(refused ? r->message : e->text));
	if (r != NULL && r->http_status != 0) {
		(void)json_object_set_new(error, "httpStatus", json_integer(r->http_status));
	}
	cleanup(json_decrefp) json_t *document = json_object();
	(void)json_object_set(document, "error", error);
	(void)output_json(o, document, NULL);
	return command_exit_of(e);
}

char *output_size(uint64_t bytes, char text[OUTPUT_SIZE_BYTES])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double size = (double)bytes;
	size_t unit = 0;
	while (size >= 1024 && unit + 1 < array_len(units)) {
		size /= 1024;
		unit++;
	}
	(void)snprintf(text, OUTPUT_SIZE_BYTES, "%.*f %s", unit == 0 ? 0 : 1, size, units[unit]);
	return text;
}

void progress_begin(struct progress *p, const struct output *o, const char *name)
{
	*p = (struct progress){
	    .on = o->terminal[STDERR_FILENO] && !o->json,
	    .name = name,
	    .start_ms = clock_mono_ms(),
	};
}

static int terminal_columns(void)
{
	struct winsize size;
	bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
	return known ? size.ws_col : 80;
}

void progress_update(struct progress *p, uint64_t done, uint64_t total)
{
	uint64_t now_ms = clock_mono_ms();
	if (!p->on || (p->drawn && now_ms - p->last_ms < PROGRESS_EVERY_MS)) {
		return;
	}
	char bar[BAR_CELLS + 1] = "";
	char size[OUTPUT_SIZE_BYTES];
	char rate[OUTPUT_SIZE_BYTES];
	uint64_t spent_ms = now_ms - p->start_ms;
	uint64_t permille = total > 0 ? (uint64_t)((double)done / (double)total * 1000) : 0;
	for (uint64_t i = 0; i < BAR_CELLS; i++) {
		bar[i] = i * 1000 < permille * BAR_CELLS ? '#' : '.';
	}
	(void)output_size(done, size);
	(void)output_size(
	    spent_ms > 0 ? (uint64_t)((double)done / (double)spent_ms * 1000) : 0, rate);
	char text[256];
	if (total > 0) {
		(void)snprintf(text, sizeof(text), "%.40s [%s] %3" PRIu64 "%% %s %s/s", p->name,
		    bar, permille / 10, size, rate);
	} else {
		(void)snprintf(text, sizeof(text), "%.40s %s %s/s", p->name, size, rate);
	}
	cleanup(buf_fini) struct buf shown = BUF_INIT(LINE_MAX_BYTES);
	if (terminal_escape(&shown, text, strlen(text)) == 0) {
		/* \r and "clear to the end of the line"; never wider than the line. */
		(void)dprintf(
		    STDERR_FILENO, "\r%.*s\033[K", terminal_columns() - 1, buf_str(&shown));
	}
	p->drawn = true;
	p->last_ms = now_ms;
}

void progress_end(struct progress *p)
{
	if (p->drawn) {
		(void)dprintf(STDERR_FILENO, "\r\033[K");
	}
	p->drawn = false;
}
