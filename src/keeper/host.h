/*
 * host: the session's half of host calls (messages HOST_CALL to HOST_CANCEL): what a running cell
 * asks of its server over the session's own socket, and who reads that socket meanwhile.
 *
 * While an execution runs, any thread may call. Of those that wait for an answer one reads the
 * socket for all (the leader); answers for others go into a table, and the others wait until theirs
 * is there or the leader has left. Between executions only the session's main loop reads.
 *
 * Invariants: whole messages never mix, whoever sends; nothing of a call is sent before host_begin
 * or after host_end, and no thread reads the socket after host_end; at most IPC_HOST_CALLS_MAX
 * calls are open, and with the execution all of them end; a process that the session forked cannot
 * call.
 *
 * Numbers of calls only grow, so an answer that comes too late finds nobody and is dropped.
 *
 * All functions may be called without the interpreter, by any thread, unless they say otherwise.
 */
#ifndef KEEPER_HOST_H
#define KEEPER_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "ipc/codec.h"
#include "ipc/frame.h"

/* CONTROL: the session's socket; WAKE_AT: the place of a descriptor of its own. Once, by the
 * session's process, before its limits. */
void host_init(int control, int wake_at);

/* The socket: readable when an answer may be there. */
int host_fileno(void);

/* An execution begins, or ends; for the main thread. host_end waits for the one who reads. */
void host_begin(void);
void host_end(void);

/* Sends a whole message, not mixed with another thread's. 0 or -errno. */
int host_send(uint32_t type, uint64_t ref, const void *body, size_t len);

/* As ipc_receive, for the main loop between executions; late answers are dropped (0). */
int host_receive(struct ipc_message *m);

/* True when the execution SEQ, which has not begun, is cancelled already: its signal came while
 * nothing ran and is gone. What is for an earlier one has done its work and is dropped. For the
 * main thread, between executions. */
bool host_is_cancelled(uint64_t seq);

/* Sends a call; *ID is its number. 0; -ECHILD in a forked process, -ESHUTDOWN when nothing runs,
 * -EBUSY when too many are open, -EMSGSIZE, or what sending failed with. */
int host_call(const char *method, struct ipc_bytes json, uint64_t *id);

/* Sends a piece of its bytes, at most IPC_PIECE_BYTES. 0; 1 when it was answered already and takes
 * no more; -ESHUTDOWN; or what sending failed with. */
int host_put(uint64_t id, const char *bytes, size_t len);

/* Says how many bytes have to be there before ID is ready; 0, as at first: the answer alone. */
void host_want(uint64_t id, uint64_t bytes);

/* Waits once, at most TIMEOUT_MS. 1: ID is ready. 0: not yet; a signal may have come. 2: not yet,
 * but another call, for which no thread waits, has become ready. -ESHUTDOWN: it is gone with its
 * execution, or was cancelled; or what reading failed with. */
int host_wait(uint64_t id, int timeout_ms);

/* Reads what is there without waiting. 0, or what reading failed with; -ECHILD as above. */
int host_poll(void);

/* True when ID is ready; -ESHUTDOWN as above, else 0. */
int host_is_ready(uint64_t id);

/* Bytes of an answer, in the order they came. */
struct host_chunk {
	struct host_chunk *next;
	size_t len;
	char bytes[];
};

/* Takes one off *LIST and gives its memory back. */
void host_chunk_drop(struct host_chunk **list);

struct host_answer {
	bool ok;
	struct buf body;         /* owns json */
	struct ipc_bytes json;   /* the result, or the error when not ok */
	struct host_chunk *list; /* LEN bytes in all */
	uint64_t len;
};

void host_answer_fini(struct host_answer *a);

/* Hands over what a ready call has got. KEEP: it stays open when it is ok, for its bytes. 0 or
 * -ESHUTDOWN. */
int host_take(uint64_t id, bool keep, struct host_answer *out);

/* Nobody waits for it any more. A number that is gone is allowed. */
void host_cancel(uint64_t id);

#endif
