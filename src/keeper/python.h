/*
 * python: CPython inside the keeper and its sessions. The interpreter is started once, in the
 * keeper, and every session is a fork of it. What the prelude (src/keeper/prelude) offers is called
 * here and nowhere else.
 *
 * Invariants: one thread when the keeper forks; nothing here sees a request in the keeper; in a
 * session no call of these lets a Python exception out.
 */
#ifndef KEEPER_PYTHON_H
#define KEEPER_PYTHON_H

#include "base/err.h"
#include "ipc/codec.h"

/* Starts the interpreter and loads the prelude. Garbage is not collected until python_settle. */
int python_start(struct err *e);

/* Imports NAMES. What could not be imported is told in WARNING; that is no failure. Fails when an
 * import left a thread behind, because such an image cannot be forked. */
int python_preload(const char *const *names, uint32_t count, struct buf *warning, struct err *e);

/* Where the directories of packages are that an execution names, "" for none, and whether its code
 * may add any. Before the first fork. */
void python_set_packages_dir(const char *path, bool may_add);

/* Makes the packages in the directories of these NAMES, each ended by a line feed, importable, and
 * those of others no longer; nothing when they were the last. The one way for that: an execution
 * does it with what the gateway says at its beginning, a host call with what its answer says. False
 * with Python's error set when it was interrupted, and then the next execution does it again. */
bool python_show_packages(struct ipc_bytes names);

/* The interpreter's version and the installed distributions. The strings in READY live in the
 * interpreter for good. */
void python_describe(struct ipc_keeper_ready *ready);

/* Makes the image, last of all: opens stdin, stdout and stderr as sessions have them (over 0, 1 and
 * 2), takes the steps that every session takes, so that sessions find them taken, freezes what is
 * there, so that collections leave its pages shared, and shares it (keeper/image.h). */
int python_settle(struct err *e);

/* Around the fork, in this order. */
void python_before_fork(void);
void python_after_fork_parent(void);
/* In the child, when its descriptors are in their places: makes different what sessions of one
 * image would share, and runs cells of its own so that the first real one touches warm pages. */
void python_start_session(void);

/* How a running cell sends a display: ITEMS is borrowed. 0 or -errno. */
typedef int (*python_display_fn)(const struct ipc_display *items);
void python_set_display(python_display_fn fn);

/* Releases the interpreter while the session waits, so that the user's threads run; and takes it
 * back, forgetting an interrupt that came while nothing ran. */
void *python_release(void);
void python_reclaim(void *released);

/* A result and what keeps its bytes alive. */
struct python_result {
	struct ipc_result result;
	void *owner;
};

/* Runs code. Never fails: what goes wrong is a result. */
void python_execute(const struct ipc_execute *x, struct python_result *out);
void python_result_fini(struct python_result *r);

#endif
