/*
 * faulty_disk: the disk beneath every SQLite database that this process opens from now on, as it is
 * on a bad day. What is set stays set; the test's to undo. Any thread.
 */
#ifndef FAULTY_DISK_H
#define FAULTY_DISK_H

#include <stdatomic.h>
#include <stdbool.h>

/* Once, before the first database is opened. */
void faulty_disk_install(void);

struct faulty_disk {
	atomic_bool full;      /* what would make a journal longer fails */
	atomic_int good_syncs; /* so many flushes of a journal go well, */
	atomic_int no_syncs;   /* and so many after them fail, when it was written */
	atomic_int slow_ms;    /* what each flush of a journal takes at least */
	atomic_int faults;     /* how often something failed */
};
extern struct faulty_disk faulty_disk;

#endif
