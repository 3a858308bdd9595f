/*
 * files_internal: the parts of the files backend among themselves.
 *
 *   files_backend.c    directories and spaces: opened, found, forgotten
 *   files_io.c         whole writes, locks, signatures; on any thread, no state
 *   files_scan.c       a directory of records into a snapshot; on a thread of the pool
 *   files_watch.c      what changed in directories of records, by inotify; on the loop
 *   files_records.c    list, get, put, remove of records; on the loop
 *   files_index.c      the artifacts index, read, changed and written; on any thread
 *   files_artifacts.c  artifacts without their bytes; on the loop, with one queue of changes a
 * space files_stream.c     their bytes, in and out
 *
 * What lies in a store's directory. Sources: py-code-mode's FileStorage, except for the names that
 * begin with '.':
 *
 *   skills/NAME.py              the source, byte by byte
 *   skills/.NAME.json           what else the record had (description, parameters), good for the
 * one source whose hash it holds; a source without it is a record of name and source alone
 *   tools/FILE.yaml             one tool
 *   deps/requirements.txt       sorted, one a line
 *   artifacts/NAME              the bytes
 *   artifacts/.artifacts.json   {name: {description, created_at, metadata: {…, "_data_type"}}}
 *   PREFIX/…                    the same for the space of a token's prefix
 *   workspaces/WORKSPACE/…      skills and artifacts of a workspace
 *   …/.carrel-lock             held (flock) while something in its directory is changed
 *   …/.carrel-XXXX              a write that is not finished
 *
 * Every change is written to a file of its own, flushed, and renamed to its name, under the lock
 * where more than one file is concerned or a file is changed as a whole.
 *
 * Threads: jobs run on libuv's pool and touch only what is theirs; snapshots and indexes are
 * changed by nobody once they are made, and their counts of holders only on the loop.
 */
#ifndef STORE_FILES_INTERNAL_H
#define STORE_FILES_INTERNAL_H

#include <stdatomic.h>
#include <sys/stat.h>
#include <uthash.h>
#include <uv.h>

#include "store/backend.h"

#define FSTORE_SPACES_MAX 64 /* held open at once; past it the one unused longest is forgotten */
#define FSTORE_LIST_MAX_BYTES (256U << 20) /* of the files of one list */
#define FSTORE_INDEX_MAX_BYTES (128U << 20)
#define FSTORE_RESCAN_MS 1000   /* in-place edits are seen after this long, where nothing watches */
#define FSTORE_RECHECK_MS 10000 /* where something does, all is looked at beside the answers */
#define FSTORE_CHANGED_MAX 256  /* names known to have changed; past them all is looked at */
#define FSTORE_RACY_MS 50       /* a time stamp this fresh may be given to another change too */
#define FSTORE_LOCK_WAIT_MS 10000

/* The first three are enum store_kind's. */
enum fstore_part { FSTORE_TOOLS, FSTORE_SKILLS, FSTORE_DEPS, FSTORE_ARTIFACTS, FSTORE_PARTS };

/* --- files_io.c: on any thread ------------------------------------------------------------------
 */

/* Tells one state of a file from another. */
struct fstore_signature {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct fstore_signature fstore_signature_of(const struct stat *st);
bool fstore_signature_equal(const struct fstore_signature *a, const struct fstore_signature *b);
/* Whether what was looked at when the wall clock said NOW_US may change once more without getting
 * another time stamp. */
bool fstore_is_racy(const struct fstore_signature *s, int64_t now_us);

/* In the user's terms: ERR_TOO_LARGE with os_errno when the disk is full, ERR_UNAVAILABLE when the
 * store's directory is gone or may not be written, ERR_INVALID when a directory is in the way. -1.
 * OS_ERRNO > 0. */
int fstore_error(struct err *e, int os_errno, const char *what);

#define FSTORE_TEMP_BYTES 32

/* A new empty file beneath DIR_FD, and its NAME. A descriptor or -errno. */
int fstore_temp_open(int dir_fd, char name[FSTORE_TEMP_BYTES]);
/* The same with BYTES in it, flushed and closed. 0 or -errno, and then it is gone again. */
int fstore_temp_write(int dir_fd, const char *bytes, size_t len, char name[FSTORE_TEMP_BYTES]);
/* Removes what crashed writers left in DIR_FD an hour ago or earlier. */
void fstore_temp_sweep(int dir_fd);

/* Makes the directories of PATH beneath DIR_FD as far as they are missing; *MADE: some were, and
 * are to be flushed. A descriptor of the last (of DIR_FD itself for ""), or -errno. */
int fstore_make_directories(int dir_fd, const char *path, size_t len, bool *made);
/* Flushes what leads to a directory: so many above it. 0 or -errno. Waits for the disk. */
int fstore_flush_above(int dir_fd, unsigned levels);

/* Waits up to FSTORE_LOCK_WAIT_MS for the lock of the directory. A descriptor, whose close unlocks,
 * or -errno (-ETIMEDOUT). */
int fstore_lock(int dir_fd);

/* Reads a regular file of at most out->max bytes. FLAGS: FSTORE_LINKS follows links that stay
 * beneath DIR_FD. 0 or -errno. */
#define FSTORE_LINKS 1
int fstore_read(int dir_fd, const char *path, int flags, struct buf *out);

/* --- files_scan.c: on any thread ----------------------------------------------------------------
 */

struct fstore_record {
	char *file; /* its name in the directory */
	struct fstore_signature source, side;
	bool racy;
	json_t *record; /* NULL: not one (not UTF-8, not YAML, no name) */
	size_t bytes;
};

/* Names of files, owned. */
struct fstore_names {
	char *items[FSTORE_CHANGED_MAX];
	size_t count;
};

struct fstore_snapshot {
	unsigned holders; /* changed on the loop only */
	bool watched;     /* since before it was begun; set on the loop */
	bool plain;       /* no file may change but through the directory: no links */
	struct fstore_signature dir;
	bool racy;
	uint64_t scanned_ms; /* monotonic; when all was looked at last */
	uint64_t revision;   /* given on the loop */
	json_t *records;     /* sorted by name */
	struct fstore_record *files;
	size_t count;
	size_t bytes;
	bool same; /* as the one before: keeps its revision */
};

/* What DIR_FD holds; what did not change since OLD (may be NULL) is taken from there. CHANGED (may
 * be NULL): nothing else did, and nothing else is looked at. NULL with E. */
struct fstore_snapshot *fstore_scan(enum fstore_part part, int dir_fd,
    const struct fstore_snapshot *old, const struct fstore_names *changed, struct err *e);
/* Whether a file of that name is one that a scan looks at. */
bool fstore_is_wanted(enum fstore_part part, const char *name);
void fstore_snapshot_free(struct fstore_snapshot *s);

/* The record of one skill. 0 with *OUT a new reference or NULL when there is none; or -1. */
int fstore_read_skill(int dir_fd, const char *name, json_t **out, struct err *e);
/* The sidecar of a record with SOURCE; false when it has nothing to say. */
bool fstore_side_text(const json_t *record, struct buf *out);

/* --- files_index.c: on any thread ---------------------------------------------------------------
 */

#define FSTORE_INDEX_NAME ".artifacts.json"

struct fstore_index {
	unsigned holders; /* changed on the loop only */
	json_t *entries;  /* an object; changed by nobody once it is shared */
	int fd; /* of the file it was read from, so that its inode stays its own; -1: none */
	struct fstore_signature signature;
	bool racy;
	uint64_t loaded_ms;
	bool damaged; /* it could not be read: ENTRIES is empty, what is on disk counts */
};

/* Whether the file is still the one that was read. May look at the directory once. */
bool fstore_index_is_current(const struct fstore_index *x, int dir_fd);
/* Reads it; no file is an empty index. PATIENT: what looks damaged is read a few times again, since
 * others write it in place. NULL with E. */
struct fstore_index *fstore_index_load(int dir_fd, bool patient, struct err *e);
void fstore_index_free(struct fstore_index *x);
/* On the loop. */
void fstore_index_release(struct fstore_index *x);
/* Writes ENTRIES to the file TEMP; 0 or -1 with E. Then, with the lock still held, makes it the
 * index: a new index that says what is on disk now, or NULL with E. */
int fstore_index_prepare(
    int dir_fd, const json_t *entries, char temp[FSTORE_TEMP_BYTES], struct err *e);
struct fstore_index *fstore_index_publish(
    int dir_fd, const char *temp, json_t *entries, struct err *e);
/* Puts a damaged index aside under another name and makes entries of the files that are there. A
 * new reference, NULL with E. */
json_t *fstore_index_rescue(int dir_fd, struct err *e);

/* Opens the artifact: a descriptor for reading with *ST filled, or -errno (-ENOENT for whatever is
 * not a regular file, or behind a link). */
int fstore_artifact_open(int dir_fd, const char *name, struct stat *st);
/* The record of the artifact at PATH_PREFIX/NAME. FD: of its bytes. NULL when memory is out. */
json_t *fstore_artifact_record(const struct fstore_index *x, const char *path_prefix,
    const char *name, int fd, const struct stat *st);
/* All of them, sorted by name: those of the index that are there; all that are there when it is
 * damaged. NULL with E. */
json_t *fstore_artifact_records(
    const struct fstore_index *x, const char *path_prefix, int dir_fd, struct err *e);

/* --- files_backend.c: on the loop ---------------------------------------------------------------
 */

struct fstore;
struct fstore_space;

/* A request of any kind; its callback is the one of FN that is not NULL. */
struct fstore_request {
	struct store_request base;
	struct fstore *store;
	bool cancelled;
	bool internal; /* the backend's own: its callback is called even when the store is closed */
	bool changed;  /* for done */
	store_list_fn list;
	store_get_fn get;
	store_done_fn done;
	void *ctx;
	struct err e;
	bool failed;
	json_t *record;                /* for get; owned */
	struct fstore_request *next;   /* of those that wait for the same */
	char name[STORE_NAME_MAX + 1]; /* for get of a record */
};

/* NULL when memory is out. */
struct fstore_request *fstore_request_new(struct fstore *st, void *ctx);
/* Calls its callback unless nobody waits any more, and frees it. RECORDS and REVISION are for list.
 */
void fstore_request_answer(struct fstore_request *r, json_t *records, uint64_t revision);

/* Work on a thread: RUN there, then DONE on the loop, which frees it. */
struct fstore_job {
	uv_work_t work;
	struct fstore *store;
	void (*run)(struct fstore_job *j);
	void (*done)(struct fstore_job *j);
};

void fstore_job_start(struct fstore_job *j, struct fstore *st, void (*run)(struct fstore_job *j),
    void (*done)(struct fstore_job *j));

/* --- files_watch.c: on the loop -----------------------------------------------------------------
 *
 * A watched directory is looked at again only when the kernel told of a change, and then only at
 * what changed. Its event is there before the call that changed the file has returned, whoever on
 * this machine made it, and is read before each answer, so that whatever was done before a question
 * is seen by its answer.
 *
 * Where that does not hold nothing is watched, and a list is taken for current for
 * FSTORE_RESCAN_MS: file systems that others change too, or a kernel that has no watch left. Nor
 * does a snapshot count as watched with links in it, whose files may change by another name.
 *
 * At most one watch for each kind of records in each space that is held open.
 */

struct fstore_watch {
	int wd; /* -1: none */
	enum fstore_part part;
	bool all; /* anything may have changed */
	struct fstore_names changed;
	UT_hash_handle hh; /* fstore.watches, by wd */
};

/* The descriptor that tells of changes, or -1. Before the seal. */
int fstore_watches_open(void);
/* From now on changes are noted. False: they cannot be. */
bool fstore_watch_begin(
    struct fstore *st, struct fstore_watch *w, enum fstore_part part, int dir_fd);
void fstore_watch_end(struct fstore *st, struct fstore_watch *w);
/* Notes what was told meanwhile. */
void fstore_watches_read(struct fstore *st);
void fstore_names_clear(struct fstore_names *n);

/* Records of one kind in one space. */
struct fstore_records {
	struct fstore_watch watch;
	struct fstore_snapshot *snapshot;
	bool stale;                     /* the scan that runs was begun because of changes */
	struct fstore_request *waiting; /* for the next scan */
	struct fstore_request *scanned; /* for the one that runs */
	bool scanning;
};

struct fstore_change;

struct fstore_artifacts {
	struct fstore_index *index;
	json_t *records;                 /* list's; NULL: none yet */
	struct fstore_index *records_of; /* the index they were made from */
	uint64_t records_ms, revision;
	struct fstore_request *waiting, *scanned;
	bool scanning; /* one at a time; who asks meanwhile waits for the next */
	struct fstore_change *changes, **changes_end; /* to come, in order */
	bool changing;
};

struct fstore_space {
	struct fstore *store;
	struct fstore_space *prev, *next; /* fstore.spaces */
	char *prefix, *workspace;         /* NULL: none */
	unsigned holders;                 /* jobs and streams that need it */
	uint64_t used;                    /* fstore.uses when it was asked for last */
	int fds[FSTORE_PARTS];
	atomic_bool made[FSTORE_PARTS]; /* it, or what leads to it, and nobody has flushed that */
	struct fstore_records records[FSTORE_ARTIFACTS];
	struct fstore_artifacts artifacts;
};

struct fstore {
	struct store base;
	uv_loop_t *loop;
	unsigned holders; /* its owner, jobs, spaces' holders */
	bool closed;      /* by store_free: nobody is told anything any more */
	char *dir;
	char *paths[FSTORE_PARTS]; /* of the server's own space */
	char *workspaces;
	int dir_fd, workspaces_fd;
	int part_fds[FSTORE_PARTS];
	int watches_fd;
	struct fstore_watch *watches;
	struct fstore_space *spaces;
	unsigned space_count;
	uint64_t uses;
	uint64_t revisions;
};

/* One holder less; the last one's is freed on a thread. NULL is allowed. */
void fstore_snapshot_release(struct fstore *st, struct fstore_snapshot *s);
/* NULL when memory is out. WORKSPACE is ignored for tools and dependencies. */
struct fstore_space *fstore_space_find(
    struct fstore *st, const struct store_space *space, enum fstore_part part);
void fstore_space_hold(struct fstore_space *sp);
void fstore_space_release(struct fstore_space *sp);
/* The space's directory: borrowed, or -errno; -ENOENT when it is not there and not to be made. */
int fstore_space_dir(struct fstore_space *sp, enum fstore_part part, bool make);
/* The same for a job: the caller's own descriptor, or -errno. */
int fstore_space_dup(struct fstore_space *sp, enum fstore_part part, bool make);
/* In a job: what leads to its directory is on disk. 0 or -errno. */
int fstore_space_flush(struct fstore_space *sp, enum fstore_part part, int dir_fd);
int fstore_artifacts_path(
    const struct store *base, const struct store_space *space, struct buf *out);

/* --- the table's functions ----------------------------------------------------------------------
 */

struct store_request *fstore_list(struct store *st, const struct store_space *space,
    enum store_kind kind, store_list_fn fn, void *ctx);
struct store_request *fstore_get(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_get_fn fn, void *ctx);
struct store_request *fstore_put(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn, void *ctx);
struct store_request *fstore_remove(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_done_fn fn, void *ctx);

struct store_request *fstore_artifact_list(
    struct store *st, const struct store_space *space, store_list_fn fn, void *ctx);
struct store_request *fstore_artifact_get(struct store *st, const struct store_space *space,
    const char *name, store_get_fn fn, void *ctx);
struct store_request *fstore_artifact_delete(struct store *st, const struct store_space *space,
    const char *name, store_done_fn fn, void *ctx);
struct store_request *fstore_artifact_register(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, store_get_fn fn, void *ctx);

/* Gives the bytes in the file TEMP (of the artifacts directory; "": those that are there) the name
 * NAME and ENTRY (taken; NULL: removes both). R is answered when that is done. False: it was
 * answered already. */
bool fstore_artifact_commit(struct fstore_space *sp, const char *name, json_t *entry,
    const char *temp, struct fstore_request *r);

struct store_writer *fstore_artifact_write(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx);
bool fstore_writer_add(struct store_writer *w, const char *bytes, size_t len);
void fstore_writer_on_room(struct store_writer *w, void (*room)(void *ctx));
void fstore_writer_abort(struct store_writer *base);

struct store_reader *fstore_artifact_read(struct store *st, const struct store_space *space,
    const char *name, store_get_fn opened, void *ctx);
ssize_t fstore_reader_read(struct store_reader *base, char *out, size_t max);
void fstore_reader_on_more(struct store_reader *r, void (*more)(void *ctx));
void fstore_reader_close(struct store_reader *base);

#endif
