/* carrel approvals: what waits for a person, and the person's answer. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/approval_calls.h"
#include "cli/approval_view.h"
#include "cli/cmd_approvals.h"
#include "cli/command.h"

#define CODE_MAX_BYTES ((size_t)4 << 20) /* the server's own bound */
#define DURATION_MAX_S 1000000000U

/* --- submit --- */

/* "90", "90s", "15m", "2h", "1d" in seconds. */
static int read_duration(const char *name, const char *text, uint64_t *out, struct err *e)
{
	static const struct {
		char letter;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	char digits[16];
	size_t len = strlen(text);
	uint64_t unit_s = 1;
	for (size_t i = 0; len > 0 && i < array_len(units); i++) {
		if (text[len - 1] == units[i].letter) {
			unit_s = units[i].seconds;
			len--;
			break;
		}
	}
	uint64_t number = 0;
	if (len < sizeof(digits)) {
		memcpy(digits, text, len);
		digits[len] = '\0';
	}
	if (len >= sizeof(digits) || text_to_u64(digits, DURATION_MAX_S / unit_s, &number) < 0 ||
	    number == 0) {
		return err_set(e, ERR_INVALID,
		    "option --%s takes a time as 90s, 15m, 2h or 1d, not '%.80s'", name, text);
	}
	*out = number * unit_s;
	return 0;
}

static int set_duration(
    json_t *request, const char *member, const char *name, const char *text, struct err *e)
{
	uint64_t seconds = 0;
	if (text == NULL) {
		return 0;
	}
	if (read_duration(name, text, &seconds, e) < 0) {
		return -1;
	}
	(void)json_object_set_new(request, member, json_integer((json_int_t)seconds));
	return 0;
}

static int read_code(const struct approvals_command *c, struct buf *code, struct err *e)
{
	const char *file = c->code == NULL ? c->operands[0] : NULL;
	int r;
	if (file == NULL) {
		r = buf_add_str(code, c->code);
	} else if (strcmp(file, "-") != 0) {
		r = fd_read_file(AT_FDCWD, file, code);
	} else {
		r = fd_read_all(STDIN_FILENO, code);
	}
	if (r == -EMSGSIZE) {
		return err_set(e, ERR_INVALID, "the code is larger than %zu bytes", CODE_MAX_BYTES);
	}
	if (r < 0) {
		return err_set_os(e, -r, "cannot read %s",
		    file == NULL || strcmp(file, "-") == 0 ? "stdin" : file);
	}
	if (text_has_prefix(buf_str(code), "\xef\xbb\xbf")) {
		buf_drop(code, 3); /* a byte order mark, as some editors leave */
	}
	return 0;
}

/* The globs: --promote's own, and the operands past the file. */
static int set_promote(const struct approvals_command *c, json_t *request, struct err *e)
{
	int first = c->code == NULL ? 1 : 0;
	if (c->promote == NULL) {
		return 0;
	}
	json_t *files = json_array();
	int bad = json_array_append_new(files, json_string(c->promote));
	for (int i = first; i < c->count; i++) {
		bad |= json_array_append_new(files, json_string(c->operands[i]));
	}
	bad |= json_object_set_new(request, "promote",
	    json_pack("{s:o, s:s*}", "files", files, "prefix", c->promote_prefix));
	return bad != 0 ? err_set(e, ERR_INVALID, "what to promote must be UTF-8") : 0;
}

static int check_submit(const struct approvals_command *c, struct err *e)
{
	int first = c->code == NULL ? 1 : 0;
	if (c->count < first) {
		return err_set(e, ERR_INVALID, "no code: give FILE, -, or -c CODE");
	}
	if (c->count > first && c->promote == NULL) {
		return err_set(e, ERR_INVALID, "'%.80s' is one word too many", c->operands[first]);
	}
	if (c->promote_prefix != NULL && c->promote == NULL) {
		return err_set(e, ERR_INVALID, "--promote-prefix goes with --promote");
	}
	return 0;
}

static int build_request(const struct approvals_command *c, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf code = BUF_INIT(CODE_MAX_BYTES);
	if (check_submit(c, e) < 0 || read_code(c, &code, e) < 0) {
		return -1;
	}
	cleanup(json_decrefp) json_t *request = json_object();
	if (json_object_set_new(request, "code", json_stringn(buf_str(&code), code.len)) < 0) {
		return err_set(e, ERR_INVALID, "the code is not UTF-8");
	}
	if (c->policy != NULL &&
	    json_object_set_new(request, "policy", json_string(c->policy)) < 0) {
		return err_set(e, ERR_INVALID, "the policy is not UTF-8");
	}
	if (c->callback != NULL &&
	    json_object_set_new(request, "callback", json_pack("{s:s}", "url", c->callback)) < 0) {
		return err_set(e, ERR_INVALID, "the callback's URL is not UTF-8");
	}
	if (set_duration(request, "deadline_seconds", "deadline", c->deadline, e) < 0 ||
	    set_duration(request, "timeout_seconds", "timeout", c->timeout, e) < 0 ||
	    set_promote(c, request, e) < 0) {
		return -1;
	}
	*out = steal(&request);
	return 0;
}

static int submit(struct approvals_command *c, struct err *e)
{
	cleanup(json_decrefp) json_t *request = NULL;
	cleanup(json_decrefp) json_t *approval = NULL;
	cleanup(json_decrefp) json_t *final = NULL;
	if (build_request(c, &request, e) < 0 ||
	    approval_submit(&c->client, request, c->key, &approval, e) < 0) {
		return -1;
	}
	const char *id = client_text(approval, "id");
	if (c->output.json && !c->wait) {
		return output_json(&c->output, approval, e);
	}
	if (!c->output.json) {
		paper_quote_text(&c->paper, id);
		paper_add(&c->paper, "\n");
	}
	if (!c->wait) {
		return paper_flush(&c->paper, e);
	}
	return paper_flush(&c->paper, e) < 0 || approvals_wait(c, id, &final, e) < 0
		   ? -1
		   : approvals_print(c, final, e);
}

/* --- a person's answer --- */

static int tell_state(struct approvals_command *c, const json_t *approval, struct err *e)
{
	if (c->output.json) {
		return output_json(&c->output, approval, e);
	}
	paper_quote_text(&c->paper, client_text(approval, "id"));
	paper_add(&c->paper, " ");
	paper_quote_text(&c->paper, client_text(approval, "state"));
	paper_add(&c->paper, "\n");
	return paper_flush(&c->paper, e);
}

static int decide(struct approvals_command *c, bool approve, struct err *e)
{
	char id[APPROVAL_ID_BYTES];
	cleanup(json_decrefp) json_t *approval = NULL;
	const struct approval_decision decision = {
	    .approve = approve, .stage = c->stage, .by = c->by, .reason = c->reason};
	if (approval_find(&c->client, c->operands[0], id, e) < 0 ||
	    approval_decide(&c->client, id, &decision, &approval, e) < 0) {
		return -1;
	}
	return tell_state(c, approval, e);
}

static int approve(struct approvals_command *c, struct err *e)
{
	return decide(c, true, e);
}

static int reject(struct approvals_command *c, struct err *e)
{
	return decide(c, false, e);
}

static int cancel(struct approvals_command *c, struct err *e)
{
	char id[APPROVAL_ID_BYTES];
	cleanup(json_decrefp) json_t *approval = NULL;
	if (approval_find(&c->client, c->operands[0], id, e) < 0 ||
	    approval_cancel(&c->client, id, c->reason, &approval, e) < 0) {
		return -1;
	}
	return tell_state(c, approval, e);
}

int approvals_print(struct approvals_command *c, const json_t *approval, struct err *e)
{
	if (c->output.json) {
		return output_json(&c->output, approval, e);
	}
	approval_view(&c->paper, approval, 0);
	return paper_flush(&c->paper, e);
}

/* --- the command line --- */

#define OPERANDS_ANY 1000

static const struct verb {
	const char *name;
	int (*run)(struct approvals_command *c, struct err *e);
	int operands_min, operands_max;
	const char *options; /* its own, each between spaces */
} verbs[] = {
    {"submit", submit, 0, OPERANDS_ANY,
	" code policy deadline timeout callback promote promote-prefix key wait "},
    {"ls", approvals_show_list, 0, 0, " state kind all "},
    {"show", approvals_show_one, 1, 1, " "},
    {"watch", approvals_follow, 0, 1, " by "},
    {"approve", approve, 1, 1, " reason by stage "},
    {"reject", reject, 1, 1, " reason by stage "},
    {"cancel", cancel, 1, 1, " reason "},
};

static const struct verb *find_verb(const char *name, struct err *e)
{
	for (size_t i = 0; i < array_len(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
	}
	(void)err_set(e, ERR_INVALID,
	    "'%.80s' is not submit, ls, show, watch, approve, reject or cancel", name);
	return NULL;
}

/* A --reason that `show` reads over would be thought to have been given. */
static int check_options(
    const struct verb *verb, const struct option_entry *rows, size_t count, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		bool given = rows[i].text != NULL ? *rows[i].text != NULL : *rows[i].flag;
		cleanup(buf_fini) struct buf word = BUF_INIT(64);
		if (given && (buf_addf(&word, " %s ", rows[i].name) < 0 ||
				 strstr(verb->options, buf_str(&word)) == NULL)) {
			return err_set(
			    e, ERR_INVALID, "%s takes no --%s", verb->name, rows[i].name);
		}
	}
	return 0;
}

static int check_operands(const struct verb *verb, int count, struct err *e)
{
	if (count >= verb->operands_min && count <= verb->operands_max) {
		return 0;
	}
	return err_set(e, ERR_INVALID,
	    verb->operands_max == 0   ? "%s takes nothing more"
	    : verb->operands_min == 0 ? "%s takes one approval, or none"
				      : "%s takes one approval",
	    verb->name);
}

static int parse(
    struct approvals_command *c, int argc, char **argv, const struct verb **verb, struct err *e)
{
	const struct option_entry own[] = {
	    {.name = "code", .letter = 'c', .text = &c->code},
	    {.name = "policy", .text = &c->policy},
	    {.name = "deadline", .text = &c->deadline},
	    {.name = "timeout", .letter = 't', .text = &c->timeout},
	    {.name = "callback", .text = &c->callback},
	    {.name = "promote", .text = &c->promote},
	    {.name = "promote-prefix", .text = &c->promote_prefix},
	    {.name = "key", .text = &c->key},
	    {.name = "wait", .flag = &c->wait},
	    {.name = "state", .text = &c->state},
	    {.name = "kind", .text = &c->kind},
	    {.name = "all", .letter = 'a', .flag = &c->all},
	    {.name = "reason", .text = &c->reason},
	    {.name = "by", .text = &c->by},
	    {.name = "stage", .text = &c->stage},
	};
	int first = options_parse(&c->shared, argc, argv, own, array_len(own), e);
	if (first < 0) {
		return -1;
	}
	if (first == argc) {
		return err_set(e, ERR_INVALID,
		    "say what to do: submit, ls, show, watch, approve, reject or cancel");
	}
	*verb = find_verb(argv[first], e);
	c->operands = argv + first + 1;
	c->count = argc - first - 1;
	return *verb == NULL || check_options(*verb, own, array_len(own), e) < 0 ||
		       check_operands(*verb, c->count, e) < 0
		   ? -1
		   : 0;
}

static void command_fini(struct approvals_command *c)
{
	client_fini(&c->client);
	paper_fini(&c->paper);
}

int cmd_approvals(int argc, char **argv)
{
	cleanup(command_fini) struct approvals_command c = {0};
	const struct verb *verb = NULL;
	struct err e;
	if (parse(&c, argc, argv, &verb, &e) < 0) {
		return command_usage_error("approvals", &e);
	}
	output_init(&c.output, c.shared.json);
	paper_init(&c.paper, &c.output);
	int r = client_init(&c.client, &c.shared, &e);
	r = r < 0 ? r : verb->run(&c, &e);
	if (r < 0) {
		(void)paper_flush(&c.paper, NULL);
		return output_failure(&c.output, &c.client, &e);
	}
	return c.status;
}
