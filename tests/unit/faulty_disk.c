/* A VFS over SQLite's own: every file is the original's, but for the journal's writes and flushes.
 */
#include "faulty_disk.h"

#include <sqlite3.h>
#include <string.h>
#include <time.h>

#include "base/compiler.h"

struct faulty_disk faulty_disk;

static sqlite3_vfs *original;

struct file {
	sqlite3_int64 size;
	const sqlite3_io_methods *methods;
	sqlite3_io_methods changed;
};

/* The original's methods take what they are given for their own file; what we need stands behind.
 */
static struct file *own(sqlite3_file *f)
{
	return (struct file *)(void *)((char *)f + original->szOsFile);
}

static int on_write(sqlite3_file *f, const void *data, int amount, sqlite3_int64 at)
{
	struct file *o = own(f);
	if (atomic_load(&faulty_disk.full) && at + amount > o->size) {
		(void)atomic_fetch_add(&faulty_disk.faults, 1);
		return SQLITE_FULL;
	}
	int r = o->methods->xWrite(f, data, amount, at);
	o->size = r == SQLITE_OK && at + amount > o->size ? at + amount : o->size;
	return r;
}

/* One of COUNT, if there is one. */
static bool take(atomic_int *count)
{
	int left = atomic_load(count);
	while (left > 0 && !atomic_compare_exchange_weak(count, &left, left - 1)) {
	}
	return left > 0;
}

static int on_sync(sqlite3_file *f, int flags)
{
	int slow_ms = atomic_load(&faulty_disk.slow_ms);
	struct timespec pause = {.tv_sec = slow_ms / 1000, .tv_nsec = slow_ms % 1000 * 1000000L};
	(void)nanosleep(&pause, NULL);
	if (!take(&faulty_disk.good_syncs) && take(&faulty_disk.no_syncs)) {
		(void)atomic_fetch_add(&faulty_disk.faults, 1);
		return SQLITE_IOERR_FSYNC;
	}
	return own(f)->methods->xSync(f, flags);
}

static int on_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags, int *told)
{
	(void)vfs;
	int r = original->xOpen(original, name, f, flags, told);
	if (r != SQLITE_OK || (flags & SQLITE_OPEN_WAL) == 0) {
		return r;
	}
	struct file *o = own(f);
	o->methods = f->pMethods;
	o->changed = *f->pMethods;
	o->changed.xWrite = on_write;
	o->changed.xSync = on_sync;
	(void)f->pMethods->xFileSize(f, &o->size);
	f->pMethods = &o->changed;
	return r;
}

void faulty_disk_install(void)
{
	static sqlite3_vfs vfs;
	original = sqlite3_vfs_find(NULL);
	vfs = *original;
	vfs.zName = "faulty";
	vfs.szOsFile = original->szOsFile + (int)sizeof(struct file);
	vfs.xOpen = on_open;
	(void)sqlite3_vfs_register(&vfs, 1);
}
