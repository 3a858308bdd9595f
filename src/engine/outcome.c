#include "engine/outcome.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "base/base64.h"
#include "base/json_text.h"
#include "base/mime.h"
#include "base/text.h"
#include "base/unicode.h"

static void add_stream_from(
    struct buf *out, const struct buf *stream, size_t from, uint64_t cut_bytes)
{
	size_t kept = stream->len - from;
	if (cut_bytes > 0) {
		kept = unicode_whole(buf_str(stream) + from, kept);
	}
	(void)text_add_utf8_lossy(out, buf_str(stream) + from, kept);
	if (cut_bytes > 0) {
		(void)buf_addf(out, "\n[output cut: %zu of %" PRIu64 " bytes kept]\n", stream->len,
		    stream->len + cut_bytes);
	}
}

void outcome_add_stream(struct buf *out, const struct buf *stream, uint64_t cut_bytes)
{
	add_stream_from(out, stream, 0, cut_bytes);
}

/* --- what was displayed, for who reads stdout alone ---------------------------------------------
 */

bool outcome_is_picture(const struct display *d)
{
	for (uint32_t i = 0; i < d->count; i++) {
		if (strcmp(d->items[i].mime, "image/png") == 0 ||
		    strcmp(d->items[i].mime, "image/jpeg") == 0) {
			return true;
		}
	}
	return false;
}

static struct ipc_bytes plain_text(const struct display *d)
{
	for (uint32_t i = 0; i < d->count; i++) {
		if (strcmp(d->items[i].mime, "text/plain") == 0) {
			return (struct ipc_bytes){d->items[i].data, d->items[i].len};
		}
	}
	return (struct ipc_bytes){"", 0};
}

/* A value's own display is the last one, and says what the value's text does. */
static bool is_of_value(const struct execution *x, size_t display)
{
	const struct buf *value = &x->value.text;
	struct ipc_bytes text = plain_text(x->displays[display]);
	return display + 1 == x->display_count && x->value.kind == IPC_KIND_OTHER &&
	       text.len == value->len && memcmp(text.data, buf_str(value), text.len) == 0;
}

static void start_line(struct buf *out)
{
	if (out->len > 0 && out->data[out->len - 1] != '\n') {
		(void)buf_add_char(out, '\n');
	}
}

/* *LEFT: how much more may be shown; SIZE_MAX: nothing, and that has been said. */
static void add_displayed(struct buf *out, struct ipc_bytes text, size_t *left)
{
	if (text.len == 0 || *left == SIZE_MAX) {
		return;
	}
	size_t kept = text.len <= *left ? text.len : unicode_whole(text.data, *left);
	start_line(out);
	(void)text_add_utf8_lossy(out, text.data, kept);
	start_line(out);
	*left -= kept;
	if (kept < text.len) {
		(void)buf_addf(out, "[display cut: %zu of %zu bytes kept]\n", kept, text.len);
		*left = SIZE_MAX;
	}
}

size_t outcome_stdout_max(const struct execution *x)
{
	return ((size_t)x->out.len + x->output_max_bytes + x->display_count) * 3 +
	       OUTCOME_NOTES_MAX_BYTES;
}

void outcome_add_stdout(struct buf *out, const struct execution *x, bool with_displays)
{
	size_t from = 0;
	size_t until = 0;
	size_t left = x->output_max_bytes;
	for (size_t i = 0; with_displays && i < x->run_count; i++) {
		const struct output_run *r = &x->runs[i];
		if (r->kind == OUTPUT_STDOUT) {
			until = r->start + r->len;
		} else if (r->kind == OUTPUT_DISPLAY && !is_of_value(x, r->start) &&
			   !outcome_is_picture(x->displays[r->start])) {
			(void)text_add_utf8_lossy(out, buf_str(&x->out) + from, until - from);
			from = until;
			add_displayed(out, plain_text(x->displays[r->start]), &left);
		}
	}
	add_stream_from(out, &x->out, from, x->out_cut_bytes);
}

/* --- why it ended -------------------------------------------------------------------------------
 */

const char *outcome_sentence(const struct execution *x)
{
	switch (x->verdict) {
	case VERDICT_TIME_LIMIT:
		return "The execution reached its limit of time";
	case VERDICT_MEMORY_LIMIT:
		if (x->oom_kills > 0) {
			return "The session reached its limit of memory: processes that it had "
			       "started were ended";
		}
		/* Caught in the session it is a MemoryError with a traceback; else it was killed.
		 */
		return x->value.traceback.len == 0
			   ? "The session reached its limit of memory and ended"
			   : NULL;
	case VERDICT_PROCESS_LIMIT:
		return "The session reached its limit of processes and threads";
	case VERDICT_FILE_SPACE_LIMIT:
		return "The session reached its limit of file space";
	case VERDICT_OPEN_FILES_LIMIT:
		return "The session reached its limit of open files";
	case VERDICT_INTERRUPTED:
		return "Execution was interrupted";
	case VERDICT_SESSION_KILLED:
		return "The session ended; its variables and files are gone";
	case VERDICT_NONE:
	case VERDICT_SUCCEEDED:
	case VERDICT_EXCEPTION:
	case VERDICT_EXITED:
	case VERDICT_OUTPUT_LIMIT:
	case VERDICT_COUNT:
		break;
	}
	return NULL;
}

uint32_t outcome_exit_code(const struct execution *x)
{
	uint32_t code = x->value.exit_code;
	switch (x->verdict) {
	case VERDICT_TIME_LIMIT:
		return 124;
	case VERDICT_INTERRUPTED:
		return 130; /* 128 + SIGINT */
	case VERDICT_SUCCEEDED:
	case VERDICT_EXITED:
	case VERDICT_OUTPUT_LIMIT:
		return code;
	default:
		break;
	}
	return code != 0 ? code : x->value.traceback.len > 0 ? 1 : 137; /* 128 + SIGKILL */
}

void outcome_add_why(struct buf *out, const struct execution *x, const char *sentence)
{
	const struct execution_value *v = &x->value;
	if (v->traceback.len > 0) {
		start_line(out);
		(void)text_add_utf8_lossy(out, buf_str(&v->traceback), v->traceback.len);
	}
	if (sentence != NULL) {
		start_line(out);
		(void)buf_add_str(out, sentence);
		if (x->verdict == VERDICT_SESSION_KILLED && x->reason[0] != '\0') {
			(void)buf_add_str(out, ": ");
			(void)text_add_utf8_lossy(out, x->reason, strlen(x->reason));
		}
	} else if (x->verdict == VERDICT_EXITED && v->traceback.len == 0 && v->exit_code != 0) {
		start_line(out);
		(void)buf_addf(out, "SystemExit: %" PRIu32, v->exit_code);
	}
}

static json_t *base64_json(const char *bytes, size_t len)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(len / 3 * 4 + 4);
	if (base64_encode(bytes, len, &b) < 0) {
		return json_string("");
	}
	return json_stringn_nocheck(buf_str(&b), b.len);
}

json_t *outcome_display(const struct display *d)
{
	json_t *bundle = json_object();
	for (uint32_t i = 0; i < d->count; i++) {
		const char *mime = d->items[i].mime;
		cleanup(buf_fini) struct buf key = BUF_INIT(strlen(mime) * 3);
		(void)text_add_utf8_lossy(&key, mime, strlen(mime));
		json_t *data = mime_is_text(mime)
				   ? json_text_string(d->items[i].data, d->items[i].len)
				   : base64_json(d->items[i].data, d->items[i].len);
		(void)json_object_set_new_nocheck(bundle, buf_str(&key), data);
	}
	return bundle;
}
