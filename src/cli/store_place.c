#include "cli/store_place.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/store_source.h"
#include "store/redis_url.h"

#define PIECE_BYTES 65536

const char *const store_type_names[TYPE_COUNT] = {
    [TYPE_TOOLS] = "tools",
    [TYPE_SKILLS] = "skills",
    [TYPE_DEPS] = "deps",
    [TYPE_ARTIFACTS] = "artifacts",
};

const char *store_record_name(int type, const json_t *record)
{
	const char *name = type == TYPE_DEPS ? json_string_value(record)
					     : json_string_value(json_object_get(record, "name"));
	return name != NULL ? name : "";
}

/* --- opening --- */

static bool is_url(const char *where)
{
	return redis_url_has_scheme(where) || strchr(where, '?') != NULL;
}

static void set_redis(struct store_config *s, const struct store_place_config *c)
{
	const char **of_type[TYPE_COUNT] = {
	    [TYPE_TOOLS] = &s->tools_prefix,
	    [TYPE_SKILLS] = &s->skills_prefix,
	    [TYPE_DEPS] = &s->deps_prefix,
	    [TYPE_ARTIFACTS] = &s->artifacts_prefix,
	};
	s->redis_url = c->where;
	s->redis_ca_file = c->ca_file;
	if (c->type == TYPE_COUNT) {
		s->prefix = c->prefix;
	} else {
		*of_type[c->type] = c->prefix != NULL ? c->prefix : store_type_names[c->type];
	}
}

/* A file store is a directory with others in it. One that is asked for a single directory has the
 * rest of itself, which stays empty, elsewhere for as long as it is open. */
static int make_scratch(struct store_place *p, struct err *e)
{
	static const char template[] = "/tmp/carrel-store-XXXXXX";
	memcpy(p->scratch, template, sizeof(template));
	if (mkdtemp(p->scratch) == NULL) {
		p->scratch[0] = '\0';
		return err_set_os(e, errno, "a directory in /tmp cannot be made");
	}
	return 0;
}

static void remove_scratch(struct store_place *p)
{
	static const char *const made[] = {"tools", "skills", "artifacts", "deps", "workspaces"};
	char path[sizeof(p->scratch) + 16];
	if (p->scratch[0] == '\0') {
		return;
	}
	for (size_t i = 0; i < array_len(made); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", p->scratch, made[i]);
		(void)rmdir(path);
	}
	(void)rmdir(p->scratch);
	p->scratch[0] = '\0';
}

static int set_files(struct store_place *p, struct store_config *s,
    const struct store_place_config *c, struct err *e)
{
	const char **of_type[TYPE_COUNT] = {
	    [TYPE_TOOLS] = &s->tools_dir,
	    [TYPE_SKILLS] = &s->skills_dir,
	    [TYPE_DEPS] = &s->deps_dir,
	    [TYPE_ARTIFACTS] = &s->artifacts_dir,
	};
	const char *dir = text_has_prefix(c->where, "file://") ? c->where + 7 : c->where;
	if (strstr(dir, "://") != NULL) {
		return err_set(e, ERR_INVALID,
		    "a store is a Redis URL (redis://, rediss://, unix://, host:port?ssl=true) or "
		    "a "
		    "directory");
	}
	if (c->prefix != NULL && !c->bare) {
		return err_set(e, ERR_INVALID, "a directory has no --prefix");
	}
	struct stat st;
	if (c->must_exist && (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))) {
		return err_set(e, ERR_INTERNAL, "there is no directory %s", dir);
	}
	s->dir = dir;
	if (c->bare) {
		*of_type[c->type] = dir;
		s->dir = p->scratch;
		p->bare_dir = strdup(dir);
		return p->bare_dir == NULL ? err_set(e, ERR_INTERNAL, "out of memory")
					   : make_scratch(p, e);
	}
	return 0;
}

int store_place_open(
    struct store_place *p, uv_loop_t *loop, const struct store_place_config *c, struct err *e)
{
	struct store_config s = {0};
	*p = (struct store_place){.loop = loop};
	if (is_url(c->where)) {
		set_redis(&s, c);
	} else if (set_files(p, &s, c, e) < 0) {
		return -1;
	}
	p->store = store_new(loop, &s, e);
	if (p->store == NULL) {
		text_free(&p->bare_dir);
		remove_scratch(p);
		return -1;
	}
	return 0;
}

void store_place_close(struct store_place *p)
{
	store_free(p->store);
	p->store = NULL;
	text_free(&p->bare_dir);
	remove_scratch(p);
}

/* --- waiting --- */

struct answer {
	bool done;
	bool failed;
	json_t *json;
	struct err e;
};

static void take(struct answer *a, json_t *json, const struct err *e)
{
	a->done = true;
	a->failed = e != NULL;
	a->json = json_incref(json);
	if (e != NULL) {
		a->e = *e;
	}
}

static void on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	(void)revision;
	take(ctx, records, e);
}

static void on_get(void *ctx, json_t *record, const struct err *e)
{
	take(ctx, record, e);
}

static void on_done(void *ctx, bool changed, const struct err *e)
{
	(void)changed;
	take(ctx, NULL, e);
}

static void drop(struct answer *a)
{
	json_decref(a->json);
}

static int wait_for(struct store_place *p, struct answer *a, struct err *e)
{
	while (!a->done) {
		(void)uv_run(p->loop, UV_RUN_ONCE);
	}
	if (a->failed) {
		*e = a->e;
		return -1;
	}
	return 0;
}

static const struct store_space own;

int store_place_list(struct store_place *p, int type, json_t **out, struct err *e)
{
	cleanup(drop) struct answer a = {0};
	if (type == TYPE_ARTIFACTS) {
		(void)store_artifact_list(p->store, &own, on_list, &a);
	} else {
		(void)store_list(p->store, &own, (enum store_kind)type, on_list, &a);
	}
	if (wait_for(p, &a, e) < 0) {
		return -1;
	}
	if (type != TYPE_ARTIFACTS || p->bare_dir == NULL) {
		*out = steal(&a.json);
		return 0;
	}
	json_t *list = json_copy(a.json);
	if (store_source_add_files(p->bare_dir, list, e) < 0) {
		json_decref(list);
		return -1;
	}
	*out = list;
	return 0;
}

int store_place_put(
    struct store_place *p, int type, const char *name, const json_t *record, struct err *e)
{
	cleanup(drop) struct answer a = {0};
	(void)store_put(p->store, &own, (enum store_kind)type, name, record, on_done, &a);
	return wait_for(p, &a, e);
}

int store_place_delete(struct store_place *p, int type, const char *name, struct err *e)
{
	cleanup(drop) struct answer a = {0};
	if (type == TYPE_ARTIFACTS) {
		(void)store_artifact_delete(p->store, &own, name, on_done, &a);
	} else {
		(void)store_delete(p->store, &own, (enum store_kind)type, name, on_done, &a);
	}
	return wait_for(p, &a, e);
}

/* --- bytes --- */

/* A reader, and whoever its events wake up: both sides run on one loop. */
struct stream {
	struct answer opened; /* first: it is the reader's ctx too */
	struct store_reader *reader;
	uint64_t size;
};

static void on_more(void *ctx)
{
	(void)ctx; /* the loop has turned, which is all that is waited for */
}

static void close_reader(struct stream *s)
{
	store_reader_close(s->reader);
	drop(&s->opened);
}

static int open_reader(struct store_place *p, const char *name, struct stream *s, struct err *e)
{
	s->reader = store_artifact_read(p->store, &own, name, on_get, &s->opened);
	if (wait_for(p, &s->opened, e) < 0) {
		return -1;
	}
	if (s->opened.json == NULL) {
		return err_set(e, ERR_NOT_FOUND, "%s: there is no such artifact any more", name);
	}
	store_reader_on_more(s->reader, on_more);
	s->size = (uint64_t)json_integer_value(json_object_get(s->opened.json, "size"));
	return 0;
}

/* The next bytes, waited for: how many, or -1 with E. Not at the end. */
static ssize_t read_some(struct store_place *p, const char *name, struct stream *s,
    char piece[PIECE_BYTES], struct err *e)
{
	for (;;) {
		ssize_t n = store_reader_read(s->reader, piece, PIECE_BYTES);
		if (n > 0) {
			return n;
		}
		if (n < 0) {
			return err_set(e, ERR_UNAVAILABLE,
			    "%s could not be read to its end, or changed meanwhile", name);
		}
		(void)uv_run(p->loop, UV_RUN_ONCE);
	}
}

struct copy {
	struct answer done; /* first: it is the writer's ctx too */
	struct store_writer *writer;
	bool waits;
};

static void on_room(void *ctx)
{
	container_of(ctx, struct copy, done)->waits = false;
}

static int copy_bytes(struct store_place *from, const char *name, struct stream *s, struct copy *c,
    store_place_progress progress, void *ctx, struct err *e)
{
	char piece[PIECE_BYTES];
	for (uint64_t done = 0; done < s->size && !c->done.done;) {
		ssize_t n = read_some(from, name, s, piece, e);
		if (n < 0) {
			if (!c->done.done) {
				store_writer_abort(c->writer);
			}
			return -1;
		}
		if (c->done.done) {
			break;
		}
		c->waits = !store_writer_add(c->writer, piece, (size_t)n);
		while (c->waits && !c->done.done) {
			(void)uv_run(from->loop, UV_RUN_ONCE);
		}
		done += (uint64_t)n;
		if (progress != NULL) {
			progress(ctx, done, s->size);
		}
	}
	return 0;
}

int store_place_copy(struct store_place *from, struct store_place *to, const char *name,
    store_place_progress progress, void *ctx, struct err *e)
{
	cleanup(close_reader) struct stream s = {0};
	if (open_reader(from, name, &s, e) < 0) {
		return -1;
	}
	struct copy c = {0};
	c.writer = store_artifact_write(
	    to->store, &own, name, s.opened.json, s.size, on_get, &c.done);
	if (c.writer != NULL) {
		store_writer_on_room(c.writer, on_room);
		if (copy_bytes(from, name, &s, &c, progress, ctx, e) < 0) {
			return -1;
		}
	}
	int r = wait_for(to, &c.done, e);
	drop(&c.done);
	return r;
}

static void digest_free(EVP_MD_CTX **d)
{
	EVP_MD_CTX_free(*d);
}

int store_place_digest(struct store_place *p, const char *name,
    unsigned char out[STORE_PLACE_DIGEST_BYTES], struct err *e)
{
	char piece[PIECE_BYTES];
	cleanup(close_reader) struct stream s = {0};
	cleanup(digest_free) EVP_MD_CTX *d = EVP_MD_CTX_new();
	if (d == NULL || EVP_DigestInit_ex(d, EVP_sha256(), NULL) != 1) {
		return err_set(e, ERR_INTERNAL, "SHA-256 cannot be computed");
	}
	if (open_reader(p, name, &s, e) < 0) {
		return -1;
	}
	for (uint64_t done = 0; done < s.size;) {
		ssize_t n = read_some(p, name, &s, piece, e);
		if (n < 0) {
			return -1;
		}
		(void)EVP_DigestUpdate(d, piece, (size_t)n);
		done += (uint64_t)n;
	}
	(void)EVP_DigestFinal_ex(d, out, NULL);
	return 0;
}
