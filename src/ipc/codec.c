#include "ipc/codec.h"

#include <errno.h>
#include <string.h>

/* Reading keeps the first failure: after it every read gives zero, and reader_end reports it. */
struct reader {
	const char *at;
	size_t left;
	bool failed;
};

static struct reader reader_of(const struct buf *body)
{
	return (struct reader){buf_str(body), body->len, false};
}

static const char *take(struct reader *r, size_t len)
{
	if (r->failed || r->left < len) {
		r->failed = true;
		return NULL;
	}
	const char *p = r->at;
	r->at += len;
	r->left -= len;
	return p;
}

static void take_into(struct reader *r, void *out, size_t len)
{
	const char *p = take(r, len);
	if (p != NULL) {
		memcpy(out, p, len);
	}
}

static uint8_t get_u8(struct reader *r)
{
	uint8_t v = 0;
	take_into(r, &v, sizeof(v));
	return v;
}

static uint32_t get_u32(struct reader *r)
{
	uint32_t v = 0;
	take_into(r, &v, sizeof(v));
	return v;
}

static uint64_t get_u64(struct reader *r)
{
	uint64_t v = 0;
	take_into(r, &v, sizeof(v));
	return v;
}

/* A number that is not above MAX. */
static uint8_t get_enum(struct reader *r, uint8_t max)
{
	uint8_t v = get_u8(r);
	if (v > max) {
		r->failed = true;
		return 0;
	}
	return v;
}

static uint32_t get_count(struct reader *r, uint32_t max)
{
	uint32_t v = get_u32(r);
	if (v > max) {
		r->failed = true;
		return 0;
	}
	return v;
}

static struct ipc_bytes get_bytes(struct reader *r)
{
	size_t len = get_u32(r);
	const char *p = take(r, len);
	return p == NULL ? (struct ipc_bytes){"", 0} : (struct ipc_bytes){p, len};
}

static const char *get_text(struct reader *r)
{
	struct ipc_bytes b = get_bytes(r);
	if (b.len == 0 || memchr(b.data, '\0', b.len) != b.data + b.len - 1) {
		r->failed = true;
		return "";
	}
	return b.data;
}

/* The same, with its length. */
static struct ipc_bytes get_long_text(struct reader *r)
{
	struct ipc_bytes b = get_bytes(r);
	if (b.len == 0 || memchr(b.data, '\0', b.len) != b.data + b.len - 1) {
		r->failed = true;
		return (struct ipc_bytes){"", 0};
	}
	b.len--;
	return b;
}

static int reader_end(const struct reader *r)
{
	return r->failed || r->left != 0 ? -EPROTO : 0;
}

/* Writing keeps the first failure in the same way. */
struct writer {
	struct buf *out;
	int result;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
	if (w->result == 0) {
		w->result = buf_add(w->out, bytes, len);
	}
}

static void put_u8(struct writer *w, uint8_t v)
{
	put(w, &v, sizeof(v));
}

static void put_u32(struct writer *w, uint32_t v)
{
	put(w, &v, sizeof(v));
}

static void put_u64(struct writer *w, uint64_t v)
{
	put(w, &v, sizeof(v));
}

static void put_bytes(struct writer *w, const char *data, size_t len)
{
	if (len > UINT32_MAX) {
		w->result = -EMSGSIZE;
		return;
	}
	put_u32(w, (uint32_t)len);
	put(w, data, len);
}

static void put_text(struct writer *w, const char *text)
{
	put_bytes(w, text, strlen(text) + 1);
}

/* LEN characters without a NUL among them, and one after them. */
static void put_long_text(struct writer *w, struct ipc_bytes text)
{
	if (text.len >= UINT32_MAX) {
		w->result = -EMSGSIZE;
		return;
	}
	put_u32(w, (uint32_t)text.len + 1);
	put(w, text.data, text.len);
	put(w, "", 1);
}

static void put_list(struct writer *w, const char *const *texts, uint32_t count)
{
	put_u32(w, count);
	for (uint32_t i = 0; i < count; i++) {
		put_text(w, texts[i]);
	}
}

static uint32_t get_list(struct reader *r, const char **texts)
{
	uint32_t count = get_count(r, IPC_LIST_MAX);
	for (uint32_t i = 0; i < count; i++) {
		texts[i] = get_text(r);
	}
	return count;
}

static void put_pool_limits(struct writer *w, const struct ipc_pool_limits *p)
{
	put_u64(w, p->memory_bytes);
	put_u64(w, p->file_space_bytes);
	put_u32(w, p->cpu_millis);
	put_u32(w, p->pids);
	put_u32(w, p->open_files);
}

static void get_pool_limits(struct reader *r, struct ipc_pool_limits *p)
{
	p->memory_bytes = get_u64(r);
	p->file_space_bytes = get_u64(r);
	p->cpu_millis = get_u32(r);
	p->pids = get_u32(r);
	p->open_files = get_u32(r);
}

int ipc_pool_limits_encode(const struct ipc_pool_limits *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_pool_limits(&w, x);
	return w.result;
}

int ipc_pool_limits_decode(const struct buf *body, struct ipc_pool_limits *x)
{
	struct reader r = reader_of(body);
	get_pool_limits(&r, x);
	return reader_end(&r);
}

int ipc_keeper_config_encode(const struct ipc_keeper_config *c, struct buf *out)
{
	struct writer w = {out, 0};
	put_u32(&w, c->isolation);
	put_u32(&w, c->uid);
	put_u32(&w, c->gid);
	put_text(&w, c->work_dir);
	put_text(&w, c->packages_dir != NULL ? c->packages_dir : "");
	put_u32(&w, c->may_add_packages);
	put_list(&w, c->read_only_paths, c->read_only_path_count);
	put_list(&w, c->preload, c->preload_count);
	put_u32(&w, c->pool_count);
	for (uint32_t i = 0; i < c->pool_count; i++) {
		put_pool_limits(&w, &c->pools[i]);
	}
	return w.result;
}

int ipc_keeper_config_decode(const struct buf *body, struct ipc_keeper_config *c)
{
	struct reader r = reader_of(body);
	c->isolation = get_u32(&r);
	c->uid = get_u32(&r);
	c->gid = get_u32(&r);
	c->work_dir = get_text(&r);
	c->packages_dir = get_text(&r);
	c->may_add_packages = get_u32(&r);
	c->read_only_path_count = get_list(&r, c->read_only_paths);
	c->preload_count = get_list(&r, c->preload);
	c->pool_count = get_count(&r, IPC_POOLS_MAX);
	for (uint32_t i = 0; i < c->pool_count; i++) {
		get_pool_limits(&r, &c->pools[i]);
	}
	return reader_end(&r);
}

int ipc_keeper_ready_encode(const struct ipc_keeper_ready *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_text(&w, x->python_version);
	put_text(&w, x->warning);
	put_u32(&w, x->package_count);
	for (uint32_t i = 0; i < x->package_count; i++) {
		put_text(&w, x->packages[i].name);
		put_text(&w, x->packages[i].version);
	}
	return w.result;
}

int ipc_keeper_ready_decode(const struct buf *body, struct ipc_keeper_ready *x)
{
	struct reader r = reader_of(body);
	x->python_version = get_text(&r);
	x->warning = get_text(&r);
	x->package_count = get_count(&r, IPC_PACKAGES_MAX);
	for (uint32_t i = 0; i < x->package_count; i++) {
		x->packages[i].name = get_text(&r);
		x->packages[i].version = get_text(&r);
	}
	return reader_end(&r);
}

int ipc_u32_encode(uint32_t value, struct buf *out)
{
	struct writer w = {out, 0};
	put_u32(&w, value);
	return w.result;
}

int ipc_u32_decode(const struct buf *body, uint32_t *value)
{
	struct reader r = reader_of(body);
	*value = get_u32(&r);
	return reader_end(&r);
}

int ipc_text_encode(const char *text, struct buf *out)
{
	struct writer w = {out, 0};
	put_text(&w, text);
	return w.result;
}

int ipc_text_decode(const struct buf *body, const char **text)
{
	struct reader r = reader_of(body);
	*text = get_text(&r);
	return reader_end(&r);
}

int ipc_mounted_encode(const struct ipc_mounted *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_text(&w, x->name);
	put_text(&w, x->reason);
	return w.result;
}

int ipc_mounted_decode(const struct buf *body, struct ipc_mounted *x)
{
	struct reader r = reader_of(body);
	x->name = get_text(&r);
	x->reason = get_text(&r);
	return reader_end(&r);
}

int ipc_used_encode(const struct ipc_used *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_u64(&w, x->oom_kills);
	put_u64(&w, x->cpu_us);
	return w.result;
}

int ipc_used_decode(const struct buf *body, struct ipc_used *x)
{
	struct reader r = reader_of(body);
	x->oom_kills = get_u64(&r);
	x->cpu_us = get_u64(&r);
	return reader_end(&r);
}

int ipc_ended_encode(const struct ipc_ended *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_u32(&w, x->wait_status);
	put_u64(&w, x->oom_kills);
	put_u64(&w, x->pids_refused);
	put_u64(&w, x->memory_peak_bytes);
	return w.result;
}

int ipc_ended_decode(const struct buf *body, struct ipc_ended *x)
{
	struct reader r = reader_of(body);
	x->wait_status = get_u32(&r);
	x->oom_kills = get_u64(&r);
	x->pids_refused = get_u64(&r);
	x->memory_peak_bytes = get_u64(&r);
	return reader_end(&r);
}

int ipc_execute_encode(const struct ipc_execute *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_u8(&w, x->kind);
	put_u8(&w, x->empty_namespace);
	put_u8(&w, x->values);
	put_u8(&w, x->end_children);
	put_bytes(&w, x->code.data, x->code.len);
	put_bytes(&w, x->standard_input.data, x->standard_input.len);
	put_bytes(&w, x->packages.data, x->packages.len);
	return w.result;
}

int ipc_execute_decode(const struct buf *body, struct ipc_execute *x)
{
	struct reader r = reader_of(body);
	x->kind = get_enum(&r, IPC_EXECUTE_ARGV);
	x->empty_namespace = get_enum(&r, 1);
	x->values = get_enum(&r, 1);
	x->end_children = get_enum(&r, 1);
	x->code = get_bytes(&r);
	x->standard_input = get_bytes(&r);
	x->packages = get_bytes(&r);
	return reader_end(&r);
}

int ipc_result_encode(const struct ipc_result *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_u8(&w, x->status);
	put_u8(&w, x->kind);
	put_u8(&w, x->limit);
	put_u32(&w, x->exit_code);
	put_u64(&w, x->duration_us);
	put_u64(&w, x->value_cut);
	put_u64(&w, x->error_cut);
	put_u32(&w, x->displays_cut);
	put_bytes(&w, x->json.data, x->json.len);
	put_bytes(&w, x->text.data, x->text.len);
	put_bytes(&w, x->error_name.data, x->error_name.len);
	put_bytes(&w, x->error_value.data, x->error_value.len);
	put_bytes(&w, x->traceback.data, x->traceback.len);
	return w.result;
}

int ipc_result_decode(const struct buf *body, struct ipc_result *x)
{
	struct reader r = reader_of(body);
	x->status = get_enum(&r, IPC_STATUS_EXIT);
	x->kind = get_enum(&r, IPC_KIND_OTHER);
	x->limit = get_enum(&r, IPC_LIMIT_OPEN_FILES);
	x->exit_code = get_u32(&r);
	x->duration_us = get_u64(&r);
	x->value_cut = get_u64(&r);
	x->error_cut = get_u64(&r);
	x->displays_cut = get_u32(&r);
	x->json = get_bytes(&r);
	x->text = get_bytes(&r);
	x->error_name = get_bytes(&r);
	x->error_value = get_bytes(&r);
	x->traceback = get_bytes(&r);
	return reader_end(&r);
}

int ipc_display_encode(const struct ipc_display *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_u32(&w, x->count);
	for (uint32_t i = 0; i < x->count; i++) {
		put_text(&w, x->items[i].mime);
		put_bytes(&w, x->items[i].data.data, x->items[i].data.len);
	}
	return w.result;
}

int ipc_display_decode(const struct buf *body, struct ipc_display *x)
{
	struct reader r = reader_of(body);
	x->count = get_count(&r, IPC_DISPLAY_ITEMS_MAX);
	for (uint32_t i = 0; i < x->count; i++) {
		x->items[i].mime = get_text(&r);
		x->items[i].data = get_bytes(&r);
	}
	return reader_end(&r);
}

int ipc_host_call_encode(const struct ipc_host_call *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_text(&w, x->method);
	put_long_text(&w, x->json);
	return w.result;
}

int ipc_host_call_decode(const struct buf *body, struct ipc_host_call *x)
{
	struct reader r = reader_of(body);
	x->method = get_text(&r);
	x->json = get_long_text(&r);
	return reader_end(&r);
}

int ipc_host_reply_encode(const struct ipc_host_reply *x, struct buf *out)
{
	struct writer w = {out, 0};
	put_u8(&w, x->ok);
	put_long_text(&w, x->json);
	return w.result;
}

int ipc_host_reply_decode(const struct buf *body, struct ipc_host_reply *x)
{
	struct reader r = reader_of(body);
	x->ok = get_enum(&r, 1);
	x->json = get_long_text(&r);
	return reader_end(&r);
}
