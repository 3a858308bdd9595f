/* Watching directories of records by inotify: what changed since somebody looked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "store/files_internal.h"

#define READS_MAX 1024 /* of EVENTS_BYTES at once; the kernel keeps 16,384 events by default */
#define EVENTS_BYTES 16384

#define MASK                                                                           \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | \
	    IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

/* File systems of this machine alone, whose changes all go through its kernel and come as events.
 * Others (NFS, SMB, FUSE, 9p, overlays) may be changed behind its back. */
static const unsigned long local_types[] = {
    0xef53,     /* ext2, 3, 4 */
    0x58465342, /* XFS */
    0x9123683e, /* btrfs */
    0x01021994, /* tmpfs */
    0xf2f52010, /* F2FS */
    0xca451a4e, /* bcachefs */
    0x2fc12fc1, /* ZFS */
};

static bool is_local(int dir_fd)
{
	struct statfs fs;
	if (fstatfs(dir_fd, &fs) < 0) {
		return false;
	}
	for (size_t i = 0; i < array_len(local_types); i++) {
		if ((unsigned long)fs.f_type == local_types[i]) {
			return true;
		}
	}
	return false;
}

int fstore_watches_open(void)
{
	return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

void fstore_names_clear(struct fstore_names *n)
{
	while (n->count > 0) {
		free(n->items[--n->count]);
	}
}

static void unwatch(struct fstore *st, struct fstore_watch *w)
{
	if (w->wd >= 0) {
		HASH_DEL(st->watches, w);
		w->wd = -1;
	}
	w->all = true;
}

void fstore_watch_end(struct fstore *st, struct fstore_watch *w)
{
	if (w->wd >= 0) {
		(void)inotify_rm_watch(st->watches_fd, w->wd);
	}
	unwatch(st, w);
	fstore_names_clear(&w->changed);
}

bool fstore_watch_begin(
    struct fstore *st, struct fstore_watch *w, enum fstore_part part, int dir_fd)
{
	char path[64];
	if (st->watches_fd < 0 || !is_local(dir_fd)) {
		fstore_watch_end(st, w);
		return false;
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
	int wd = inotify_add_watch(st->watches_fd, path, MASK);
	if (wd == w->wd && wd >= 0) {
		return true;
	}
	fstore_watch_end(st, w); /* it was of a directory that is no more */
	struct fstore_watch *other = NULL;
	HASH_FIND_INT(st->watches, &wd, other);
	if (wd < 0 || other != NULL) {
		/* Past the machine's limit; or one directory for two kinds of records. */
		return false;
	}
	w->wd = wd;
	w->part = part;
	HASH_ADD_INT(st->watches, wd, w);
	return true;
}

static void note(struct fstore_watch *w, const char *name)
{
	struct fstore_names *n = &w->changed;
	if (w->all || !fstore_is_wanted(w->part, name)) {
		return;
	}
	for (size_t i = n->count; i-- > 0;) {
		if (strcmp(n->items[i], name) == 0) {
			return;
		}
	}
	char *copy = n->count < FSTORE_CHANGED_MAX ? strdup(name) : NULL;
	if (copy == NULL) {
		w->all = true;
		fstore_names_clear(n);
		return;
	}
	n->items[n->count++] = copy;
}

static void lose_all(struct fstore *st)
{
	struct fstore_watch *w;
	struct fstore_watch *next;
	HASH_ITER(hh, st->watches, w, next)
	{
		w->all = true;
		fstore_names_clear(&w->changed);
	}
}

static void on_event(struct fstore *st, const struct inotify_event *event)
{
	struct fstore_watch *w = NULL;
	if ((event->mask & IN_Q_OVERFLOW) != 0) {
		lose_all(st);
		return;
	}
	HASH_FIND_INT(st->watches, &event->wd, w);
	if (w == NULL) {
		return;
	}
	if ((event->mask & IN_IGNORED) != 0) {
		unwatch(st, w);
	} else if (event->len == 0) {
		/* Of the directory itself; that its attributes changed says nothing of its files.
		 */
		w->all = w->all || (event->mask & ~(uint32_t)(IN_ATTRIB | IN_ISDIR)) != 0;
	} else {
		note(w, event->name);
	}
}

void fstore_watches_read(struct fstore *st)
{
	_Alignas(struct inotify_event) char events[EVENTS_BYTES];
	if (st->watches == NULL) {
		return;
	}
	for (unsigned i = 0; i < READS_MAX; i++) {
		ssize_t n = read(st->watches_fd, events, sizeof(events));
		if (n <= 0) {
			if (n < 0 && errno != EAGAIN && errno != EINTR) {
				lose_all(st);
			}
			return;
		}
		for (char *at = events; at < events + n;) {
			const struct inotify_event *event = (void *)at;
			on_event(st, event);
			at += sizeof(*event) + event->len;
		}
	}
	/* They come faster than they are read: everything is looked at. */
	lose_all(st);
}
