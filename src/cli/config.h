/*
 * config: everything an operator can set for `carrel serve`, from the defaults, a YAML file, the
 * environment and the command line, each going over the one before it.
 *
 * Unknown keys, wrong types and values out of range are errors that name the key.
 * docs/configuration.md describes every key.
 */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "api/call.h"
#include "approvals/approvals.h"
#include "base/err.h"
#include "engine/engine.h"
#include "http/peer.h"
#include "sandbox/sandbox.h"
#include "store/store.h"

#define CONFIG_TOKENS_MAX 64
/* The environment's token, and the name of who has it. */
#define CONFIG_TOKEN_VARIABLE "CONTAINER_AUTH_TOKEN"

struct config_token {
	const char *name; /* NULL: auth_add makes one of its digest */
	char *token;      /* overwritten by config_forget_tokens */
	enum role role;
	const char *pool;        /* NULL: every pool */
	const char *prefix;      /* its tenant; NULL: the server's own */
	bool others_only;        /* see struct principal */
	int64_t expires_wall_us; /* 0: never */
};

/* Tools, skills, artifacts, dependencies. Borrowed texts live in the tree, in TEXTS or in the
 * environment, until config_forget_secrets. */
struct config_code_mode {
	struct store_config store;
	bool runner_needed; /* something is set that cannot be without the runner */
	const char *tools_dir;
	const char *tools_file; /* NULL: none */
	const char *work_dir;   /* the runner's */
	json_t *secrets;        /* {name: text} */
	json_t *packages;       /* array of requirement lines */
	json_t *installer;      /* as runner_config.deps */
	bool allow_runtime_deps;
	uint64_t commands_memory_bytes; /* of all commands of tools together; 0: no limit */
	const char *embeddings_url;
	const char *embeddings_model;
	const char *embeddings_secret;
	json_t *texts;
	json_t *wiped_variables; /* names of environment variables that hold secrets */
};

#define CONFIG_CALLBACKS_MAX 32

/* See struct approvals_config. Borrowed texts live in the tree. */
struct config_approvals {
	bool enabled;
	char *url; /* of the database; NULL once it is forgotten */
	const char *server;
	const char *callback_prefixes[CONFIG_CALLBACKS_MAX];
	uint32_t callback_prefix_count;
	const char *callback_secret;
	uint32_t callback_attempts;
	uint32_t runs_max;
	uint32_t open_max;
	uint64_t keep_ms;
	uint32_t lease_ms;
	bool audit_code;
	struct approvals_pool pools[IPC_POOLS_MAX];
};

/* A digest of a part of the file that cannot be changed while the server runs. */
#define CONFIG_MARKS_MAX 24
struct config_mark {
	const char *key; /* NULL behind the last */
	unsigned char digest[32];
};

struct config {
	char *host;
	uint16_t port;
	char *data_dir;
	char *user;
	char *tls_cert_file;
	char *tls_key_file;
	bool auth_disabled;
	struct config_token tokens[CONFIG_TOKENS_MAX];
	uint32_t token_count;
	enum sandbox_level isolation;
	const char *preload[IPC_LIST_MAX];
	uint32_t preload_count;
	const char *read_only_paths[SANDBOX_PATHS_MAX];
	uint32_t read_only_path_count;
	uint32_t drain_ms;
	uint32_t connections_max;
	uint32_t connections_per_address; /* 0: none but its share */
	struct peer_nets trusted_proxies;
	bool results_as_strings; /* see struct api */
	struct engine_config engine;
	struct config_code_mode code_mode;
	struct config_approvals approvals;
	struct pcm_config pcm;
	json_t *tree; /* what the borrowed strings above live in */
	struct config_mark marks[CONFIG_MARKS_MAX];
};

/* Values given on the command line; NULL where the flag was not. */
struct config_flags {
	const char *config_file;
	const char *listen;
	const char *data_dir;
	const char *isolation;
	const char *tls_cert;
	const char *tls_key;
	bool stop_at_eof; /* of serve alone */
};

/* Fills C. On failure C is empty. */
int config_load(struct config *c, const struct config_flags *flags, struct err *e);

/* What can be changed while a server runs: the tokens, the TLS files, the pools' limits and the
 * log's level, as the same sources have them now. All else of C is as by default. What was in the
 * environment and wiped stays away. On failure C is empty, and nothing has changed. */
int config_load_again(struct config *c, const struct config_flags *flags, struct err *e);

/* The keys that are not as they were in BEFORE, and can be changed by a new start only, to OUT with
 * commas between them. */
int config_name_fixed(const struct config *before, const struct config *now, struct buf *out);

/* Checks what only a server needs: a token or authentication switched off, and both TLS files. */
int config_check_serve(const struct config *c, struct err *e);

/* Overwrites the secrets of code mode and the database's URL, in memory and in the environment,
 * once the store, the runner and the database have what they need; the texts of code_mode are gone
 * after it. */
void config_forget_secrets(struct config *c);

/* Overwrites the tokens' text in memory. */
void config_forget_tokens(struct config *c);
void config_fini(struct config *c);

#endif
