/* carrel files: the files of a session. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/download.h"
#include "cli/list.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/url.h"

struct files {
	struct options shared;
	const char *session;
	const char *to;
	const char *out;
	bool recursive;
	struct client client;
	struct output output;
	struct signals signals;
	struct progress progress;
	char **operands; /* past the verb */
	int count;
};

/* Splits DIR/NAME. *DIR is owned by the caller and NULL where there is none; *NAME is borrowed. */
static int split(const char *path, char **dir, const char **name, struct err *e)
{
	const char *slash = strrchr(path, '/');
	*name = slash == NULL ? path : slash + 1;
	*dir = NULL;
	if ((*name)[0] == '\0') {
		return err_set(e, ERR_INVALID, "'%s' is not the name of a file", path);
	}
	if (slash != NULL) {
		size_t len = slash == path ? 1 : (size_t)(slash - path);
		*dir = strndup(path, len);
		return *dir == NULL ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
	}
	return 0;
}

static void show_progress(struct client_call *call, uint64_t done, uint64_t total)
{
	struct files *f = call->arg;
	progress_update(&f->progress, done, total);
}

/* --- put --- */

static int open_local(const char *path, uint64_t *bytes, struct err *e)
{
	cleanup(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
		return err_set_os(e, errno, "cannot read %s", path);
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, ERR_INTERNAL, "%s is not a regular file", path);
	}
	*bytes = (uint64_t)st.st_size;
	return fd_take(&fd);
}

static int put_one(
    struct files *f, const char *path, json_t **reply, uint64_t *bytes, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	const struct url_query query[] = {
	    {"identifier", f->session}, {"path", f->to}, {NULL, NULL}};
	const char *slash = strrchr(path, '/');
	cleanup(fd_close) int fd = open_local(path, bytes, e);
	if (fd < 0 || url_build(&url, buf_str(&f->client.base),
			  (const char *const[]){"files", NULL}, query, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_POST,
	    .url = url.data,
	    .upload_name = slash == NULL ? path : slash + 1,
	    .upload_fd = fd,
	    .upload_bytes = *bytes,
	    .signals = &f->signals,
	    .on_progress = show_progress,
	    .arg = f,
	};
	progress_begin(&f->progress, &f->output, call.upload_name);
	int r = client_perform_json(&f->client, &call, reply, e);
	progress_end(&f->progress);
	return r;
}

static int put(struct files *f, struct err *e)
{
	cleanup(json_decrefp) json_t *stored = json_array();
	for (int i = 0; i < f->count; i++) {
		cleanup(json_decrefp) json_t *reply = NULL;
		uint64_t bytes = 0;
		if (put_one(f, f->operands[i], &reply, &bytes, e) < 0) {
			bool local = e->code == ERR_INTERNAL || e->code == ERR_INVALID;
			return local || f->count == 1 ? -1 : err_prefix(e, "%s", f->operands[i]);
		}
		json_t *several = json_object_get(reply, "value");
		if (json_is_array(several)) {
			(void)json_array_extend(stored, several);
		} else {
			(void)json_array_append(stored, reply);
		}
		if (!f->output.json) {
			char size[OUTPUT_SIZE_BYTES];
			(void)output_linef(
			    &f->output, "%s: %s", f->operands[i], output_size(bytes, size));
		}
	}
	if (!f->output.json) {
		return 0;
	}
	cleanup(json_decrefp) json_t *document = json_object();
	(void)json_object_set(document, "value", stored);
	return output_json(&f->output, document, e);
}

/* --- get --- */

struct get {
	struct files *files;
	struct download download;
};

static int take_bytes(struct client_call *call, const char *bytes, size_t len, struct err *e)
{
	struct get *g = call->arg;
	if (g->download.to_stdout) {
		return output_bytes(&g->files->output, STDOUT_FILENO, bytes, len, e);
	}
	int r = fd_write_all(g->download.fd, bytes, len);
	return r < 0 ? err_set_os(e, -r, "cannot write %s", g->download.final) : 0;
}

static void show_get_progress(struct client_call *call, uint64_t done, uint64_t total)
{
	const struct get *g = call->arg;
	/* A bar in the middle of the bytes themselves would help nobody. */
	if (!g->download.to_stdout || !g->files->output.terminal[STDOUT_FILENO]) {
		progress_update(&g->files->progress, done, total);
	}
}

static int fetch(struct get *g, const char *url, const char *name, struct err *e)
{
	struct files *f = g->files;
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET,
	    .url = url,
	    .accept = "*/*",
	    .signals = &f->signals,
	    .on_body = take_bytes,
	    .on_progress = show_get_progress,
	    .arg = g,
	};
	progress_begin(&f->progress, &f->output, name);
	int r = client_perform(&f->client, &call, e);
	progress_end(&f->progress);
	output_bytes_end(&f->output, STDOUT_FILENO);
	output_fresh_line(&f->output, STDOUT_FILENO);
	return r < 0 ? r : download_commit(&g->download, e);
}

static int get(struct files *f, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(text_free) char *dir = NULL;
	const char *name;
	if (split(f->operands[0], &dir, &name, e) < 0) {
		return -1;
	}
	const struct url_query query[] = {{"identifier", f->session}, {"path", dir}, {NULL, NULL}};
	const char *const segments[] = {"files", name, "content", NULL};
	struct get g = {.files = f, .download = DOWNLOAD_NONE};
	if (url_build(&url, buf_str(&f->client.base), segments, query, e) < 0) {
		return -1;
	}
	const char *local = f->out != NULL ? f->out : name;
	int r = download_open(&g.download, local, e);
	if (r == 0) {
		r = fetch(&g, url.data, name, e);
	}
	download_fini(&g.download);
	if (r < 0 || !f->output.json) {
		return r;
	}
	cleanup(json_decrefp)
	    json_t *document = json_pack("{s:s, s:s}", "name", name, "savedAs", local);
	return output_json(&f->output, document, e);
}

/* --- ls and rm --- */

static void show_entry(struct files *f, const json_t *entry)
{
	const char *dir = client_text(entry, "directory");
	const char *at = client_text(entry, "lastModifiedAt");
	bool is_dir = strcasecmp(client_text(entry, "type"), "directory") == 0;
	bool in_root = dir[0] == '\0' || strcmp(dir, ".") == 0 || strcmp(dir, "/") == 0;
	int64_t bytes = json_integer_value(json_object_get(entry, "sizeInBytes"));
	/* At a terminal a name stays within its line, so that none can pass for another's. */
	cleanup(buf_fini) struct buf path = BUF_INIT(URL_MAX_BYTES);
	cleanup(buf_fini) struct buf shown = BUF_INIT(6 * URL_MAX_BYTES);
	(void)buf_addf(&path, "%s%s%s%s", in_root ? "" : dir, in_root ? "" : "/",
	    client_text(entry, "name"), is_dir ? "/" : "");
	if (f->output.terminal[STDOUT_FILENO] &&
	    terminal_escape_all(&shown, buf_str(&path), path.len) == 0) {
		struct buf raw = path;
		path = shown;
		shown = raw;
	}
	(void)output_linef(&f->output, "%12" PRId64 "  %-19.19s  %s", bytes, at, buf_str(&path));
}

static int list(struct files *f, struct err *e)
{
	const struct url_query query[] = {
	    {"identifier", f->session},
	    {"path", f->count > 0 ? f->operands[0] : NULL},
	    {"recursive", f->recursive ? "true" : NULL},
	    {NULL, NULL},
	};
	cleanup(json_decrefp) json_t *entries = NULL;
	if (list_get(&f->client, (const char *const[]){"files", NULL}, query, "value", &entries,
		e) < 0) {
		return -1;
	}
	if (f->output.json) {
		cleanup(json_decrefp) json_t *document = json_object();
		(void)json_object_set(document, "value", entries);
		return output_json(&f->output, document, e);
	}
	size_t i;
	const json_t *entry;
	json_array_foreach(entries, i, entry)
	{
		show_entry(f, entry);
	}
	return 0;
}

static int delete_file(struct files *f, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(text_free) char *dir = NULL;
	const char *name;
	if (split(f->operands[0], &dir, &name, e) < 0) {
		return -1;
	}
	const struct url_query query[] = {{"identifier", f->session}, {"path", dir}, {NULL, NULL}};
	const char *const segments[] = {"files", name, NULL};
	if (url_build(&url, buf_str(&f->client.base), segments, query, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_DELETE, .url = url.data};
	if (client_perform(&f->client, &call, e) < 0) {
		return -1;
	}
	if (!f->output.json) {
		return 0;
	}
	cleanup(json_decrefp) json_t *document = json_pack("{s:s}", "deleted", f->operands[0]);
	return output_json(&f->output, document, e);
}

/* --- the command --- */

static const struct verb {
	const char *name;
	int least; /* operands */
	int most;
	bool takes_to;
	bool takes_out;
	bool takes_recursive;
	int (*run)(struct files *f, struct err *e);
} verbs[] = {
    {.name = "put", .least = 1, .most = 10000, .takes_to = true, .run = put},
    {.name = "get", .least = 1, .most = 1, .takes_out = true, .run = get},
    {.name = "ls", .least = 0, .most = 1, .takes_recursive = true, .run = list},
    {.name = "rm", .least = 1, .most = 1, .run = delete_file},
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < array_len(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
	}
	return NULL;
}

static int check(const struct files *f, const struct verb *verb, struct err *e)
{
	if (f->count < verb->least || f->count > verb->most) {
		return err_set(e, ERR_INVALID, "%s takes %s", verb->name,
		    verb->most > 1     ? "at least one local file"
		    : verb->least == 0 ? "at most one path"
				       : "one name");
	}
	const char *wrong = f->to != NULL && !verb->takes_to         ? "--to"
			    : f->out != NULL && !verb->takes_out     ? "-O"
			    : f->recursive && !verb->takes_recursive ? "-r"
								     : NULL;
	if (wrong != NULL) {
		return err_set(e, ERR_INVALID, "%s has no option %s", verb->name, wrong);
	}
	if (f->session == NULL) {
		return err_set(e, ERR_INVALID, "say which session's files: --session ID");
	}
	if (f->shared.json && f->out != NULL && strcmp(f->out, "-") == 0) {
		return err_set(e, ERR_INVALID, "-o json and -O - would both write to stdout");
	}
	return 0;
}

static const struct verb *parse(struct files *f, int argc, char **argv, struct err *e)
{
	const struct option_entry own[] = {
	    {.name = "session", .letter = 's', .text = &f->session},
	    {.name = "to", .text = &f->to},
	    {.name = "output-file", .letter = 'O', .text = &f->out},
	    {.name = "recursive", .letter = 'r', .flag = &f->recursive},
	};
	int first = options_parse(&f->shared, argc, argv, own, array_len(own), e);
	if (first < 0) {
		return NULL;
	}
	if (first == argc) {
		(void)err_set(e, ERR_INVALID, "say what to do: put, get, ls or rm");
		return NULL;
	}
	f->operands = argv + first + 1;
	f->count = argc - first - 1;
	const struct verb *verb = find_verb(argv[first]);
	if (verb == NULL) {
		(void)err_set(e, ERR_INVALID, "'%s' is not put, get, ls or rm", argv[first]);
		return NULL;
	}
	return check(f, verb, e) < 0 ? NULL : verb;
}

int cmd_files(int argc, char **argv)
{
	struct files f = {.signals = SIGNALS_NONE};
	struct err e;
	const struct verb *verb = parse(&f, argc, argv, &e);
	if (verb == NULL) {
		return command_usage_error("files", &e);
	}
	output_init(&f.output, f.shared.json);
	int r = client_init(&f.client, &f.shared, &e);
	if (r == 0) {
		r = signals_begin(&f.signals, &e);
	}
	if (r == 0) {
		r = verb->run(&f, &e);
	}
	int status = r < 0 ? output_failure(&f.output, &f.client, &e) : CLI_EXIT_OK;
	signals_end(&f.signals);
	client_fini(&f.client);
	return status;
}
