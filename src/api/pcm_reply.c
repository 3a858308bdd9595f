#include "api/pcm_reply.h"

#include <inttypes.h>
#include <string.h>

#include "base/json_text.h"
#include "engine/outcome.h"

/* --- the value ----------------------------------------------------------------------------------
 */

/* The session's JSON as it stands, when it is any; else what it says of the value in text. */
static int add_value(struct buf *out, const struct execution_value *v)
{
	if (v->kind == IPC_KIND_NONE || v->kind == IPC_KIND_NULL) {
		return buf_add_str(out, "null");
	}
	if (v->json.len > 0) {
		int r = json_text_add_checked(out, buf_str(&v->json), v->json.len);
		if (r == 0) {
			return 0;
		}
	}
	return json_text_add_string(out, buf_str(&v->text), v->text.len);
}

/* --- stdout, error, stderr ----------------------------------------------------------------------
 */

static int add_stdout(struct buf *out, const struct execution *x, bool extensions)
{
	if (x->out_cut_bytes == 0 && x->display_count == 0) {
		return json_text_add_string(out, buf_str(&x->out), x->out.len);
	}
	cleanup(buf_fini) struct buf b = BUF_INIT(outcome_stdout_max(x));
	outcome_add_stdout(&b, x, !extensions);
	return json_text_add_string(out, buf_str(&b), b.len);
}

/* "Execution timeout after 5.0 seconds", as the reference words it. */
static int add_timeout(struct buf *out, const struct execution *x)
{
	int r = buf_add_str(out, "\"Execution timeout after ");
	r = r < 0 ? r : json_text_add_real(out, (double)x->timeout_ms / 1000);
	return r < 0 ? r : buf_add_str(out, " seconds\"");
}

static int add_error(struct buf *out, const struct execution *x)
{
	if (x->state == EXECUTION_SUCCEEDED) {
		return buf_add_str(out, "null");
	}
	if (x->verdict == VERDICT_TIME_LIMIT) {
		return add_timeout(out, x);
	}
	cleanup(buf_fini) struct buf b = BUF_INIT(
	    x->value.traceback.len * 3 + OUTCOME_NOTES_MAX_BYTES);
	outcome_add_why(&b, x, outcome_sentence(x));
	if (b.len == 0) {
		(void)buf_add_str(&b, "The code did not succeed");
	}
	return json_text_add_string(out, buf_str(&b), b.len);
}

/* Behind it where the code was when its time was up, which error has no room for. */
static int add_stderr(struct buf *out, const struct execution *x)
{
	bool where = x->verdict == VERDICT_TIME_LIMIT && x->value.traceback.len > 0;
	if (x->err_cut_bytes == 0 && !where) {
		return json_text_add_string(out, buf_str(&x->err), x->err.len);
	}
	cleanup(buf_fini) struct buf b = BUF_INIT(
	    (x->err.len + x->value.traceback.len) * 3 + OUTCOME_NOTES_MAX_BYTES);
	outcome_add_stream(&b, &x->err, x->err_cut_bytes);
	if (where) {
		outcome_add_why(&b, x, NULL);
	}
	return json_text_add_string(out, buf_str(&b), b.len);
}

/* --- what the reference has no member for -------------------------------------------------------
 */

static int add_displays(struct buf *out, const struct execution *x)
{
	int r = x->display_count > 0 ? buf_add_str(out, ",\"displays\":") : 0;
	for (size_t i = 0; r == 0 && i < x->display_count; i++) {
		json_t *bundle = outcome_display(x->displays[i]);
		r = buf_add_char(out, i == 0 ? '[' : ',');
		r = r < 0 ? r : json_text_add_tree(out, bundle);
		json_decref(bundle);
	}
	return r == 0 && x->display_count > 0 ? buf_add_char(out, ']') : r;
}

static int add_truncated(struct buf *out, const struct execution *x)
{
	if (x->out_cut_bytes == 0 && x->err_cut_bytes == 0 && x->displays_cut == 0) {
		return 0;
	}
	return buf_addf(out,
	    ",\"truncated\":{\"stdout\":%" PRIu64 ",\"stderr\":%" PRIu64 ",\"displays\":%" PRIu32
	    "}",
	    x->out_cut_bytes, x->err_cut_bytes, x->displays_cut);
}

static int add_extras(struct buf *out, const struct execution *x, bool extensions)
{
	int r = buf_addf(out, ",\"verdict\":\"%s\"", verdict_name(x->verdict));
	r = r < 0 || !extensions ? r : add_displays(out, x);
	r = r < 0 ? r : add_truncated(out, x);
	return r == 0 && x->new_session ? buf_add_str(out, ",\"new_session\":true") : r;
}

int pcm_reply_execution(
    struct buf *out, const struct execution *x, const char *session_id, bool extensions)
{
	int r = buf_add_str(out, "{\"value\":");
	r = r < 0 ? r : add_value(out, &x->value);
	r = r < 0 ? r : buf_add_str(out, ",\"stdout\":");
	r = r < 0 ? r : add_stdout(out, x, extensions);
	r = r < 0 ? r : buf_add_str(out, ",\"error\":");
	r = r < 0 ? r : add_error(out, x);
	r = r < 0
		? r
		: buf_addf(out,
		      ",\"execution_time_ms\":%.3f,\"session_id\":", (double)x->duration_us / 1000);
	r = r < 0 ? r : json_text_add_string(out, session_id, strlen(session_id));
	r = r < 0 ? r : buf_add_str(out, ",\"stderr\":");
	r = r < 0 ? r : add_stderr(out, x);
	r = r < 0 ? r : add_extras(out, x, extensions);
	return r < 0 ? r : buf_add_char(out, '}');
}
