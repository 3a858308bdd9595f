#include "http/multipart.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/compiler.h"
#include "base/text.h"
#include "http/router.h"

/* ---- parameters of a header: name=token or name="quoted" ---- */

/* What may stand in a token (RFC 9110, 5.6.2), and more: some send file names bare. */
static bool is_token_char(char c)
{
	return (unsigned char)c > ' ' && c != ';' && c != '"' && c != 0x7f;
}

/* Reads a quoted string behind its first quote, or a bare token, into OUT (of strlen(at) + 1
 * bytes). Returns what is behind it, or NULL when a closing quote is missing. */
static const char *read_value(const char *at, char *out)
{
	if (*at != '"') {
		while (is_token_char(*at)) {
			*out++ = *at++;
		}
		*out = '\0';
		return at;
	}
	for (at++; *at != '"'; at++) {
		if (*at == '\0') {
			return NULL;
		}
		if (*at == '\\' && (at[1] == '"' || at[1] == '\\')) {
			at++;
		} else if (at[0] == '%' && at[1] == '2' && at[2] == '2') {
			*out++ = '"';
			at += 2;
			continue;
		}
		*out++ = *at;
	}
	*out = '\0';
	return at + 1;
}

/* A parameter list at AT, "; name=value; ...". *OUT becomes the first value for NAME (to be freed),
 * NULL when there is none. 0, -EINVAL or -ENOMEM. */
static int find_parameter(const char *at, const char *name, char **out)
{
	*out = NULL;
	cleanup(text_free) char *value = malloc(strlen(at) + 1);
	if (value == NULL) {
		return -ENOMEM;
	}
	for (;;) {
		at += strspn(at, " \t;");
		size_t len = strcspn(at, "=; \t");
		if (len == 0) {
			return *at == '\0' ? 0 : -EINVAL;
		}
		const char *key = at;
		at += len;
		at += strspn(at, " \t");
		if (*at != '=') {
			continue; /* a parameter without a value */
		}
		at++;
		at += strspn(at, " \t");
		at = read_value(at, value);
		if (at == NULL) {
			return -EINVAL;
		}
		if (len == strlen(name) && strncasecmp(key, name, len) == 0) {
			*out = steal(&value);
			return 0;
		}
	}
}

/* ---- boundary ---- */

static int set_boundary(struct multipart *m, const char *boundary, struct err *e)
{
	size_t len = strlen(boundary);
	if (len == 0 || len > MULTIPART_BOUNDARY_MAX_BYTES) {
		return err_set(e, ERR_INVALID,
		    "the multipart boundary must have 1 to %d characters",
		    MULTIPART_BOUNDARY_MAX_BYTES);
	}
	memcpy(m->delimiter, "\r\n--", 4);
	memcpy(m->delimiter + 4, boundary, len + 1);
	m->delimiter_len = 4 + len;
	return 0;
}

/* A delimiter begins with a line break. Where the data begins one has just been, which counts for a
 * delimiter that comes at once, but is not data when none does. */
static void hold_phantom(struct multipart *m)
{
	memcpy(m->held, "\r\n", 2);
	m->held_len = 2;
	m->phantom_len = 2;
}

int multipart_init(struct multipart *m, const char *content_type, const struct multipart_sink *sink,
    void *ctx, struct err *e)
{
	static const char type[] = "multipart/form-data";
	size_t len = sizeof(type) - 1;
	*m = (struct multipart){.state = MULTIPART_DATA,
	    .sink = sink,
	    .ctx = ctx,
	    .head = BUF_INIT(MULTIPART_HEAD_MAX_BYTES)};
	const char *rest = content_type != NULL ? content_type + strspn(content_type, " \t") : "";
	bool says_so = strncasecmp(rest, type, len) == 0 && strchr("; \t", rest[len]) != NULL;
	cleanup(text_free) char *boundary = NULL;
	if (says_so && find_parameter(rest + len, "boundary", &boundary) < 0) {
		return err_set(e, ERR_INVALID, "the request's Content-Type has no usable boundary");
	}
	if (boundary == NULL) {
		m->state = MULTIPART_OPENING;
		return 0;
	}
	if (set_boundary(m, boundary, e) < 0) {
		return -1;
	}
	hold_phantom(m); /* the first boundary may stand at the very start */
	return 0;
}

void multipart_fini(struct multipart *m)
{
	buf_fini(&m->head);
}

/* ---- data ---- */

static int give_data(struct multipart *m, const char *bytes, size_t len)
{
	return m->in_part && len > 0 && m->sink->data(m->ctx, bytes, len) != 0 ? 1 : 0;
}

/* The same for bytes that were held back, or a delimiter that was none. */
static int give_held(struct multipart *m, const char *bytes, size_t len)
{
	if (len == 0) {
		return 0;
	}
	size_t skip = m->phantom_len; /* never more than LEN: a held '\n' starts nothing */
	m->phantom_len = 0;
	return give_data(m, bytes + skip, len - skip);
}

/* How many of the last bytes may be the start of a delimiter. */
static size_t tail_of(const struct multipart *m, const char *bytes, size_t len)
{
	size_t most = m->delimiter_len - 1;
	size_t n = len < most ? len : most;
	const char *end = bytes + len;
	for (const char *at = end - n; n > 0; at++, n--) {
		at = memchr(at, '\r', n);
		if (at == NULL) {
			return 0;
		}
		n = (size_t)(end - at);
		if (memcmp(at, m->delimiter, n) == 0) {
			return n;
		}
	}
	return 0;
}

static void found_delimiter(struct multipart *m)
{
	m->state = MULTIPART_PADDING;
	m->padding_len = 0;
}

/* Goes on with bytes held back from before: the delimiter may have begun in them. *USED is how many
 * of BYTES were taken. 0 or 1. */
static int feed_held(struct multipart *m, const char *bytes, size_t len, size_t *used)
{
	char window[2 * sizeof(m->held)];
	size_t held = m->held_len;
	size_t more = len < m->delimiter_len ? len : m->delimiter_len;
	memcpy(window, m->held, held);
	memcpy(window + held, bytes, more);
	const char *hit = memmem(window, held + more, m->delimiter, m->delimiter_len);
	if (hit != NULL && (size_t)(hit - window) < held) {
		size_t before = (size_t)(hit - window);
		*used = before + m->delimiter_len - held;
		m->held_len = 0;
		found_delimiter(m);
		return give_held(m, window, before);
	}
	if (more == m->delimiter_len) {
		/* It does not begin in what was held; the rest is looked at in place. */
		*used = 0;
		m->held_len = 0;
		return give_held(m, window, held);
	}
	size_t tail = tail_of(m, window, held + more);
	*used = more;
	m->held_len = tail;
	memcpy(m->held, window + held + more - tail, tail);
	return give_held(m, window, held + more - tail);
}

static int feed_data(struct multipart *m, const char *bytes, size_t len, size_t *used)
{
	if (m->held_len > 0) {
		return feed_held(m, bytes, len, used);
	}
	const char *hit = memmem(bytes, len, m->delimiter, m->delimiter_len);
	if (hit != NULL) {
		size_t before = (size_t)(hit - bytes);
		*used = before + m->delimiter_len;
		found_delimiter(m);
		return give_data(m, bytes, before);
	}
	size_t tail = tail_of(m, bytes, len);
	*used = len;
	m->held_len = tail;
	memcpy(m->held, bytes + len - tail, tail);
	return give_data(m, bytes, len - tail);
}

/* ---- behind a boundary ---- */

static int end_part(struct multipart *m)
{
	if (!m->in_part) {
		return 0;
	}
	m->in_part = false;
	return m->sink->end(m->ctx) != 0 ? 1 : 0;
}

/* It only looked like a boundary: the line goes on. All that was read is data. */
static int was_no_boundary(struct multipart *m)
{
	m->state = MULTIPART_DATA;
	return give_held(m, m->delimiter, m->delimiter_len) != 0 ||
		       give_data(m, m->padding, m->padding_len) != 0
		   ? 1
		   : 0;
}

/* One byte behind the boundary: "--" ends it all, blanks and a line break begin a part. */
static int feed_padding(struct multipart *m, char c, size_t *used)
{
	char last = m->padding_len > 0 ? m->padding[m->padding_len - 1] : '\0';
	bool fits = m->padding_len < sizeof(m->padding);
	*used = 1;
	if (last == '-' && c == '-') {
		m->state = MULTIPART_EPILOGUE;
		return end_part(m);
	}
	if (last == '\r' && c == '\n') {
		m->state = MULTIPART_HEAD;
		buf_clear(&m->head);
		return end_part(m);
	}
	bool goes_on = last == '\r' || last == '-' ? false
		       : c == '-'                  ? m->padding_len == 0
						   : c == ' ' || c == '\t' || c == '\r';
	if (goes_on && fits) {
		m->padding[m->padding_len++] = c;
		return 0;
	}
	*used = 0; /* C is looked at again, as data */
	return was_no_boundary(m);
}

/* ---- a part's headers ---- */

/* Decodes filename* (RFC 5987): charset'language'percent-encoded. NULL unless it is UTF-8. */
static char *decode_extended(const char *value)
{
	const char *quote = strchr(value, '\'');
	const char *text = quote != NULL ? strchr(quote + 1, '\'') : NULL;
	if (text == NULL || quote - value != 5 || strncasecmp(value, "utf-8", 5) != 0) {
		return NULL;
	}
	text++;
	char *out = malloc(strlen(text) + 1);
	if (out != NULL &&
	    (percent_decode(text, strlen(text), out) < 0 || !text_is_utf8(out, strlen(out)))) {
		text_free(&out);
	}
	return out;
}

/* Reads the file name: *OUT is NULL when there is none. */
static int read_filename(const char *parameters, char **out)
{
	cleanup(text_free) char *extended = NULL;
	int err = find_parameter(parameters, "filename*", &extended);
	if (err < 0) {
		return err;
	}
	*out = extended != NULL ? decode_extended(extended) : NULL;
	return *out != NULL ? 0 : find_parameter(parameters, "filename", out);
}

static int begin_part(struct multipart *m, const char *parameters, struct err *e)
{
	cleanup(text_free) char *name = NULL;
	cleanup(text_free) char *filename = NULL;
	if (find_parameter(parameters, "name", &name) < 0 ||
	    read_filename(parameters, &filename) < 0) {
		return err_set(e, ERR_INVALID, "a part's Content-Disposition is not well formed");
	}
	m->in_part = true;
	return m->sink->part(m->ctx, name, filename) != 0 ? 1 : 0;
}

/* Whether the bytes of a part are sent as they are. */
static bool is_identity(const char *encoding)
{
	return strcasecmp(encoding, "binary") == 0 || strcasecmp(encoding, "8bit") == 0 ||
	       strcasecmp(encoding, "7bit") == 0;
}

/* What the rest of LINE is when it is the header NAME, else NULL. */
static char *header_value(char *line, const char *name)
{
	size_t len = strlen(name);
	if (strncasecmp(line, name, len) != 0 || line[len] != ':') {
		return NULL;
	}
	line += len + 1;
	return line + strspn(line, " \t");
}

/* The headers of a part are complete in m->head, each line ended by CR LF. */
static int read_head(struct multipart *m, struct err *e)
{
	const char *parameters = "";
	if (strlen(buf_str(&m->head)) != m->head.len) {
		return err_set(e, ERR_INVALID, "a part's headers have a NUL in them");
	}
	char *line = m->head.data;
	for (char *next; *line != '\0'; line = next) {
		char *end = strstr(line, "\r\n");
		next = end + 2;
		*end = '\0';
		char *value = header_value(line, "Content-Disposition");
		if (value != NULL) {
			size_t kind = strcspn(value, "; \t");
			parameters = value + kind;
			continue;
		}
		value = header_value(line, "Content-Transfer-Encoding");
		if (value != NULL && !is_identity(value)) {
			return err_set(e, ERR_UNSUPPORTED,
			    "a part has a Content-Transfer-Encoding; send its bytes as they are");
		}
	}
	if (++m->parts > MULTIPART_PARTS_MAX) {
		return err_set(e, ERR_TOO_LARGE, "more than %d parts", MULTIPART_PARTS_MAX);
	}
	return begin_part(m, parameters, e);
}

static bool ends_with(const struct buf *b, const char *text)
{
	size_t n = strlen(text);
	return b->len >= n && memcmp(b->data + b->len - n, text, n) == 0;
}

/* Takes bytes up to the end of a line. The headers end with an empty one. */
static int feed_head(
    struct multipart *m, const char *bytes, size_t len, size_t *used, struct err *e)
{
	const char *newline = memchr(bytes, '\n', len);
	*used = newline != NULL ? (size_t)(newline - bytes) + 1 : len;
	if (buf_add(&m->head, bytes, *used) < 0) {
		return err_set(e, ERR_TOO_LARGE, "a part's headers are larger than %d bytes",
		    MULTIPART_HEAD_MAX_BYTES);
	}
	bool empty = m->head.len == 2 && ends_with(&m->head, "\r\n");
	if (!empty && !ends_with(&m->head, "\r\n\r\n")) {
		return 0;
	}
	m->head.len -= 2;
	m->head.data[m->head.len] = '\0';
	m->state = MULTIPART_DATA;
	hold_phantom(m);
	return read_head(m, e);
}

/* Takes bytes up to the end of the first line, and reads that again once it has told the boundary.
 */
static int feed_opening(
    struct multipart *m, const char *bytes, size_t len, size_t *used, struct err *e)
{
	static const char no_boundary[] = "the request is not multipart/form-data: its "
					  "Content-Type has no boundary, and its body "
					  "does not begin with one";
	const char *newline = memchr(bytes, '\n', len);
	*used = newline != NULL ? (size_t)(newline - bytes) + 1 : len;
	if (m->head.len + *used > sizeof(m->held) + MULTIPART_PADDING_MAX_BYTES ||
	    buf_add(&m->head, bytes, *used) < 0) {
		return err_set(e, ERR_INVALID, no_boundary);
	}
	if (newline == NULL) {
		return 0;
	}
	cleanup(buf_fini) struct buf line = m->head;
	m->head = BUF_INIT(MULTIPART_HEAD_MAX_BYTES);
	size_t end = strcspn(buf_str(&line), " \t\r\n");
	cleanup(text_free) char *boundary = strndup(buf_str(&line), end);
	if (boundary == NULL || !text_has_prefix(boundary, "--") || boundary[2] == '\0') {
		return err_set(e, ERR_INVALID, no_boundary);
	}
	if (set_boundary(m, boundary + 2, e) < 0) {
		return -1;
	}
	hold_phantom(m);
	m->state = MULTIPART_DATA;
	return multipart_feed(m, buf_str(&line), line.len, e);
}

int multipart_feed(struct multipart *m, const char *bytes, size_t len, struct err *e)
{
	while (len > 0) {
		size_t used = len;
		int r = 0;
		switch (m->state) {
		case MULTIPART_OPENING:
			r = feed_opening(m, bytes, len, &used, e);
			break;
		case MULTIPART_DATA:
			r = feed_data(m, bytes, len, &used);
			break;
		case MULTIPART_PADDING:
			r = feed_padding(m, *bytes, &used);
			break;
		case MULTIPART_HEAD:
			r = feed_head(m, bytes, len, &used, e);
			break;
		case MULTIPART_EPILOGUE:
			break;
		}
		if (r != 0) {
			return r;
		}
		bytes += used;
		len -= used;
	}
	return 0;
}

int multipart_finish(const struct multipart *m, struct err *e)
{
	return m->state == MULTIPART_EPILOGUE
		   ? 0
		   : err_set(e, ERR_INVALID, "the multipart body ends before its closing boundary");
}
