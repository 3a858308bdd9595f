#include "cli/images.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/fd.h"

#define IMAGES_LAST_NUMBER 9999

static const struct kind {
	const char *mime_type;
	const char *extension;
	bool is_text; /* travels as it is, not as base64 */
} kinds[] = {
    {"image/png", "png", false},
    {"image/jpeg", "jpg", false},
    {"image/gif", "gif", false},
    {"image/webp", "webp", false},
    {"application/pdf", "pdf", false},
    {"image/svg+xml", "svg", true},
};

void images_init(struct images *im, const char *execution_id)
{
	*im = (struct images){0};
	size_t n = 0;
	for (const char *c = execution_id; *c != '\0' && n + 1 < sizeof(im->id); c++) {
		if (isascii((unsigned char)*c) && isalnum((unsigned char)*c)) {
			im->id[n++] = *c;
		}
	}
	if (n == 0) {
		(void)snprintf(im->id, sizeof(im->id), "cell");
	}
}

const char *images_find(const json_t *bundle)
{
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (json_is_string(json_object_get(bundle, kinds[i].mime_type))) {
			return kinds[i].mime_type;
		}
	}
	return NULL;
}

static const struct kind *kind_of(const char *mime_type)
{
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (strcmp(kinds[i].mime_type, mime_type) == 0) {
			return &kinds[i];
		}
	}
	return NULL;
}

/* FNV-1a, 64 bits, without white space. It only keeps the same picture from being saved twice. */
static uint64_t mark_of(const char *bytes, size_t len)
{
	uint64_t h = 0xcbf29ce484222325U;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != ' ') {
			h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3U;
		}
	}
	return h;
}

static bool is_known(const struct images *im, uint64_t mark)
{
	for (unsigned i = 0; i < im->count; i++) {
		if (im->marks[i] == mark) {
			return true;
		}
	}
	return false;
}

/* As base64_decode, past the line ends that Python's encodebytes leaves. */
static int decode(const char *text, size_t len, struct buf *out)
{
	cleanup(buf_fini) struct buf plain = BUF_INIT(len);
	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end == NULL ? len - at : (size_t)(end - (text + at));
		int r = buf_add(&plain, text + at, n);
		if (r < 0) {
			return r;
		}
		at += n + 1;
	}
	return base64_decode(buf_str(&plain), plain.len, out);
}

static int write_new(struct images *im, const char *extension, const struct buf *bytes,
    char name[IMAGES_NAME_BYTES], struct err *e)
{
	cleanup(fd_close) int fd = -1;
	while (fd < 0) {
		if (im->last_number == IMAGES_LAST_NUMBER) {
			return err_set(
			    e, ERR_INTERNAL, "no free name for an image, the last was %s", name);
		}
		(void)snprintf(name, IMAGES_NAME_BYTES, "carrel-%s-%u.%s", im->id,
		    ++im->last_number, extension);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0 && errno != EEXIST) {
			return err_set_os(e, errno, "cannot save the image %s", name);
		}
	}
	int r = fd_write_all(fd, buf_str(bytes), bytes->len);
	if (r < 0) {
		(void)unlink(name);
		return err_set_os(e, -r, "cannot save the image %s", name);
	}
	return 0;
}

int images_save(struct images *im, const char *mime_type, const json_t *data,
    char name[IMAGES_NAME_BYTES], struct err *e)
{
	const struct kind *kind = kind_of(mime_type);
	const char *text = json_string_value(data);
	size_t len = json_string_length(data);
	if (kind == NULL || text == NULL) {
		return err_set(e, ERR_UNAVAILABLE, "the image is not one");
	}
	uint64_t mark = mark_of(text, len);
	if (is_known(im, mark)) {
		return 1;
	}
	if (im->count == IMAGES_MAX || im->bytes + len > IMAGES_MAX_BYTES) {
		return err_set(
		    e, ERR_TOO_LARGE, "too many images in one cell, this one is not saved");
	}
	cleanup(buf_fini) struct buf bytes = BUF_INIT(len + 4);
	int r = kind->is_text ? buf_add(&bytes, text, len) : decode(text, len, &bytes);
	if (r < 0) {
		return err_set(e, ERR_UNAVAILABLE, "an image is not well-formed base64");
	}
	if (write_new(im, kind->extension, &bytes, name, e) < 0) {
		return -1;
	}
	im->marks[im->count++] = mark;
	im->bytes += len;
	return 0;
}
