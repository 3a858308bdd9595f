#include "codemode/describe_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>
#include <uv.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "codemode/said.h"

#define CACHED_MAX 32768
#define CACHED_BYTES_MAX (64U << 20)
#define SAVE_AFTER_MS 60000 /* of something new; and when the server stops */
#define FILE_MAX_BYTES (64U << 20)
#define NAME "skills.said.json"

/* What was said of one source. */
struct said {
	unsigned char hash[DESCRIBE_HASH_BYTES];
	json_t *result;
	size_t bytes;
	UT_hash_handle hh; /* oldest first */
};

struct describe_cache {
	uv_loop_t *loop;
	const char *dir; /* NULL: nothing is kept beyond this life */
	struct said *said;
	size_t said_bytes;
	uv_timer_t save;
	bool unsaved;
};

/* --- the file ------------------------------------------------------------------------------------
 */

struct saving {
	uv_work_t work;
	int dir;
	int failed; /* errno */
	size_t count;
	struct {
		unsigned char hash[DESCRIBE_HASH_BYTES];
		json_t *result; /* never changed, so a thread may read it */
	} said[];
};

static int open_dir(const char *dir)
{
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What another version of skill_source.py said, or one under another Python, is not believed. */
static bool is_ours(const json_t *all)
{
	const char *format = json_string_value(json_object_get(all, "format"));
	return format != NULL && strcmp(format, said_format) == 0;
}

static json_t *load_file(const char *dir)
{
	struct stat st;
	json_t *said = NULL;
	cleanup(fd_close) int in = open_dir(dir);
	cleanup(fd_close) int fd = in < 0 ? -1
					  : openat(in, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size <= (off_t)FILE_MAX_BYTES) {
		json_t *all = json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
		if (is_ours(all)) {
			said = json_incref(json_object_get(all, "said"));
		}
		json_decref(all);
	}
	if (json_is_object(said)) {
		return said;
	}
	json_decref(said);
	return json_object();
}

static int write_file(int dir, const char *name, json_t *said)
{
	json_t *all = json_pack("{s:s, s:O}", "format", said_format, "said", said);
	cleanup(fd_close) int fd = openat(
	    dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool good = all != NULL && fd >= 0 && json_dumpfd(all, fd, JSON_COMPACT) == 0 &&
		    fsync(fd) == 0 && renameat(dir, name, dir, NAME) == 0;
	int failed = good ? 0 : errno != 0 ? errno : EIO;
	json_decref(all);
	if (!good) {
		(void)unlinkat(dir, name, 0);
	}
	return failed;
}

/* As the file has them. */
static json_t *said_by_name(struct saving *s)
{
	json_t *said = json_object();
	for (size_t i = 0; i < s->count; i++) {
		char name[2 * DESCRIBE_HASH_BYTES + 1];
		text_hex(name, s->said[i].hash, DESCRIBE_HASH_BYTES);
		(void)json_object_set_new(said, name, s->said[i].result);
	}
	return said;
}

static void work(uv_work_t *base)
{
	struct saving *s = container_of(base, struct saving, work);
	json_t *said = said_by_name(s);
	char name[64];
	(void)snprintf(name, sizeof(name), NAME ".%d", (int)getpid());
	errno = 0;
	s->failed = write_file(s->dir, name, said);
	json_decref(said);
}

static void after(uv_work_t *base, int status)
{
	struct saving *s = container_of(base, struct saving, work);
	(void)status;
	if (s->failed != 0) {
		log_event(LOG_LEVEL_WARNING, "skills_not_kept",
		    LOG_STR("reason", strerrordesc_np(s->failed)));
	}
	fd_close(&s->dir);
	free(s);
}

/* A thread writes what there is; the loop runs until it is done. */
static void save(struct describe_cache *d)
{
	struct saving *s = calloc(1, sizeof(*s) + HASH_COUNT(d->said) * sizeof(s->said[0]));
	d->unsaved = false;
	(void)uv_timer_stop(&d->save);
	if (s == NULL) {
		return;
	}
	for (const struct said *one = d->said; one != NULL; one = one->hh.next) {
		if (json_object_get(one->result, "error") == NULL) {
			memcpy(s->said[s->count].hash, one->hash, sizeof(one->hash));
			s->said[s->count++].result = json_incref(one->result);
		}
	}
	s->dir = open_dir(d->dir);
	(void)uv_queue_work(d->loop, &s->work, work, after);
}

/* --- the table -----------------------------------------------------------------------------------
 */

void describe_cache_hash(const json_t *source, unsigned char hash[DESCRIBE_HASH_BYTES])
{
	(void)SHA256(
	    (const unsigned char *)json_string_value(source), json_string_length(source), hash);
}

json_t *describe_cache_get(struct describe_cache *d, const unsigned char hash[DESCRIBE_HASH_BYTES])
{
	struct said *s = NULL;
	HASH_FIND(hh, d->said, hash, SHA256_DIGEST_LENGTH, s);
	return s != NULL ? s->result : NULL;
}

static void forget(struct describe_cache *d, struct said *s)
{
	HASH_DEL(d->said, s);
	d->said_bytes -= s->bytes;
	json_decref(s->result);
	free(s);
}

static void keep_hash(
    struct describe_cache *d, const unsigned char hash[DESCRIBE_HASH_BYTES], json_t *result)
{
	struct said *s = describe_cache_get(d, hash) == NULL ? calloc(1, sizeof(*s)) : NULL;
	if (s == NULL) {
		return;
	}
	memcpy(s->hash, hash, sizeof(s->hash));
	s->result = json_incref(result);
	/* The tree takes several times its text. */
	s->bytes = sizeof(*s) + 4 * json_dumpb(result, NULL, 0, JSON_COMPACT);
	d->said_bytes += s->bytes;
	HASH_ADD(hh, d->said, hash, sizeof(s->hash), s);
	while (HASH_COUNT(d->said) > CACHED_MAX ||
	       (d->said_bytes > CACHED_BYTES_MAX && HASH_COUNT(d->said) > 1)) {
		forget(d, d->said);
	}
}

static void on_save(uv_timer_t *timer);

void describe_cache_keep(struct describe_cache *d, const json_t *source, json_t *result)
{
	unsigned char hash[DESCRIBE_HASH_BYTES];
	describe_cache_hash(source, hash);
	keep_hash(d, hash, result);
	if (!d->unsaved && d->dir != NULL) {
		d->unsaved = true;
		(void)uv_timer_start(&d->save, on_save, SAVE_AFTER_MS, 0);
	}
}

static void on_save(uv_timer_t *timer)
{
	save(timer->data);
}

/* --- life ----------------------------------------------------------------------------------------
 */

static unsigned nibble(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static bool read_hash(const char *name, unsigned char hash[DESCRIBE_HASH_BYTES])
{
	size_t digits = text_is_hex(name, 2 * SHA256_DIGEST_LENGTH) ? SHA256_DIGEST_LENGTH : 0;
	for (size_t i = 0; i < digits; i++) {
		hash[i] = (unsigned char)(nibble(name[2 * i]) << 4 | nibble(name[2 * i + 1]));
	}
	return digits > 0;
}

/* What an earlier life of the server knew. */
static void load(struct describe_cache *d)
{
	json_t *said = load_file(d->dir);
	const char *name;
	json_t *result;
	json_object_foreach(said, name, result)
	{
		unsigned char hash[DESCRIBE_HASH_BYTES];
		if (read_hash(name, hash) && said_is_good(result)) {
			keep_hash(d, hash, result);
		}
	}
	json_decref(said);
}

struct describe_cache *describe_cache_new(uv_loop_t *loop, const char *dir)
{
	struct describe_cache *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		return NULL;
	}
	d->loop = loop;
	d->dir = dir;
	d->save.data = d;
	(void)uv_timer_init(loop, &d->save);
	if (dir != NULL) {
		load(d);
	}
	return d;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void describe_cache_free(struct describe_cache *d)
{
	if (d == NULL) {
		return;
	}
	if (d->unsaved) {
		save(d);
	}
	while (d->said != NULL) {
		forget(d, d->said);
	}
	uv_close((uv_handle_t *)&d->save, on_closed);
}
