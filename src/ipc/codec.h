/*
 * codec: the bodies of the messages in ipc/messages.def, typed.
 *
 * Encoders append to a buf and return 0 or -EMSGSIZE/-ENOMEM. Decoders read a whole body and return
 * 0 or -EPROTO when it is short, has bytes left over or breaks a stated range; strings and bytes in
 * the decoded struct are borrowed from the body. Text is NUL-terminated within the body (the
 * encoder writes the NUL) and holds no other NUL; bytes may hold anything.
 */
#ifndef IPC_CODEC_H
#define IPC_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define IPC_POOLS_MAX 64
#define IPC_LIST_MAX 64
#define IPC_PACKAGES_MAX 2048

struct ipc_bytes {
	const char *data;
	size_t len;
};

struct ipc_pool_limits {
	uint64_t memory_bytes;
	uint64_t file_space_bytes;
	uint32_t cpu_millis;
	uint32_t pids;
	uint32_t open_files;
};

struct ipc_keeper_config {
	uint32_t isolation; /* enum sandbox_level */
	uint32_t uid;
	uint32_t gid;
	const char *work_dir;
	const char *packages_dir;  /* "": none */
	uint32_t may_add_packages; /* 0 or 1 */
	const char *read_only_paths[IPC_LIST_MAX];
	uint32_t read_only_path_count;
	const char *preload[IPC_LIST_MAX];
	uint32_t preload_count;
	struct ipc_pool_limits pools[IPC_POOLS_MAX];
	uint32_t pool_count;
};

int ipc_pool_limits_encode(const struct ipc_pool_limits *x, struct buf *out);
int ipc_pool_limits_decode(const struct buf *body, struct ipc_pool_limits *x);
int ipc_keeper_config_encode(const struct ipc_keeper_config *c, struct buf *out);
int ipc_keeper_config_decode(const struct buf *body, struct ipc_keeper_config *c);

struct ipc_package {
	const char *name;
	const char *version;
};

struct ipc_keeper_ready {
	const char *python_version;
	const char *warning; /* preloads that failed, for a person; may be empty */
	struct ipc_package packages[IPC_PACKAGES_MAX];
	uint32_t package_count;
};

int ipc_keeper_ready_encode(const struct ipc_keeper_ready *x, struct buf *out);
int ipc_keeper_ready_decode(const struct buf *body, struct ipc_keeper_ready *x);

/* SPAWN carries the pool's index, SPAWNED the worker's process id on the host. */
int ipc_u32_encode(uint32_t value, struct buf *out);
int ipc_u32_decode(const struct buf *body, uint32_t *value);

/* KEEPER_FAILED, SPAWN_FAILED, WALLS_FAILED, MOUNT. */
int ipc_text_encode(const char *text, struct buf *out);
int ipc_text_decode(const struct buf *body, const char **text);

struct ipc_mounted {
	const char *name;
	const char *reason; /* "": it is there */
};

int ipc_mounted_encode(const struct ipc_mounted *x, struct buf *out);
int ipc_mounted_decode(const struct buf *body, struct ipc_mounted *x);

struct ipc_used {
	uint64_t oom_kills; /* processes killed at the memory limit */
	uint64_t cpu_us;    /* of all its processes, since it began */
};

int ipc_used_encode(const struct ipc_used *x, struct buf *out);
int ipc_used_decode(const struct buf *body, struct ipc_used *x);

struct ipc_ended {
	uint32_t wait_status; /* as from waitpid */
	uint64_t oom_kills;
	uint64_t pids_refused;
	uint64_t memory_peak_bytes;
};

int ipc_ended_encode(const struct ipc_ended *x, struct buf *out);
int ipc_ended_decode(const struct buf *body, struct ipc_ended *x);

enum ipc_execute_kind {
	IPC_EXECUTE_PYTHON, /* code: source */
	IPC_EXECUTE_SHELL,  /* code: a command line for the shell */
	IPC_EXECUTE_ARGV,   /* code: arguments, each ended by a NUL */
};

struct ipc_execute {
	uint8_t kind;            /* enum ipc_execute_kind */
	uint8_t empty_namespace; /* 0 or 1: run without the session's variables */
	uint8_t values;          /* 0 or 1: ipc_result.json is wanted for every kind of value */
	uint8_t end_children;    /* 0 or 1: end what earlier code has left running, first */
	struct ipc_bytes code;
	struct ipc_bytes standard_input;
	/* Names of the directories of packages the session may use, each ended by a line feed. */
	struct ipc_bytes packages;
};

int ipc_execute_encode(const struct ipc_execute *x, struct buf *out);
int ipc_execute_decode(const struct buf *body, struct ipc_execute *x);

/* How a cell ended, as the session tells it. */
enum ipc_status { IPC_STATUS_OK, IPC_STATUS_EXCEPTION, IPC_STATUS_INTERRUPTED, IPC_STATUS_EXIT };

/* What the value of the last expression was. */
enum ipc_kind {
	IPC_KIND_NONE, /* no last expression */
	IPC_KIND_NULL, /* None */
	IPC_KIND_BOOL,
	IPC_KIND_INT,
	IPC_KIND_FLOAT,
	IPC_KIND_STR,
	IPC_KIND_OTHER,
};

/* Which limit the cell ran into, where the session can tell. */
enum ipc_limit {
	IPC_LIMIT_NONE,
	IPC_LIMIT_MEMORY,
	IPC_LIMIT_PROCESSES,
	IPC_LIMIT_FILE_SPACE,
	IPC_LIMIT_OPEN_FILES,
};

#define IPC_VALUE_JSON_MAX_BYTES (8U << 20)

struct ipc_result {
	uint8_t status; /* enum ipc_status */
	uint8_t kind;   /* enum ipc_kind */
	uint8_t limit;  /* enum ipc_limit */
	uint32_t exit_code;
	uint64_t duration_us;
	/* What the session itself has left out: characters of values' texts and of an error's, and
	 * displays. */
	uint64_t value_cut;
	uint64_t error_cut;
	uint32_t displays_cut;
	/* For bool, int, float, or as asked for with "values": its JSON text, at most
	 * IPC_VALUE_JSON_MAX_BYTES; may be empty. */
	struct ipc_bytes json;
	struct ipc_bytes text; /* text/plain; for str the string itself */
	struct ipc_bytes error_name;
	struct ipc_bytes error_value;
	struct ipc_bytes traceback;
};

int ipc_result_encode(const struct ipc_result *x, struct buf *out);
int ipc_result_decode(const struct buf *body, struct ipc_result *x);

#define IPC_DISPLAY_ITEMS_MAX 16

struct ipc_display {
	struct {
		const char *mime;
		struct ipc_bytes data;
	} items[IPC_DISPLAY_ITEMS_MAX];
	uint32_t count;
};

int ipc_display_encode(const struct ipc_display *x, struct buf *out);
int ipc_display_decode(const struct buf *body, struct ipc_display *x);

/* Bounds of host calls; engine/host_call.h says what they bound. */
#define IPC_HOST_CALLS_MAX 64
#define IPC_HOST_CALL_MAX_BYTES (8U << 20)
#define IPC_HOST_BYTES_MAX (128ULL << 20)

/* HOST_CALL: METHOD and JSON arguments, both text. */
struct ipc_host_call {
	const char *method;
	struct ipc_bytes json; /* holds no NUL; one follows it */
};

int ipc_host_call_encode(const struct ipc_host_call *x, struct buf *out);
int ipc_host_call_decode(const struct buf *body, struct ipc_host_call *x);

/* HOST_REPLY: the result, or when not ok {"error": NAME, "message": TEXT}. HOST_PUT and HOST_BYTES
 * carry bytes and nothing else, one packet each. */
struct ipc_host_reply {
	uint8_t ok;            /* 0 or 1 */
	struct ipc_bytes json; /* holds no NUL; one follows it */
};

int ipc_host_reply_encode(const struct ipc_host_reply *x, struct buf *out);
int ipc_host_reply_decode(const struct buf *body, struct ipc_host_reply *x);

#endif
