/* carrel doctor: wall by wall, what isolation this host gives, and how to mend the rest. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/config.h"
#include "cli/doctor.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/server.h"
#include "gateway/seal.h"
#include "sandbox/sandbox.h"

static const char *const level_names[] = {
    [SANDBOX_NAMESPACES] = "namespaces",
    [SANDBOX_LANDLOCK] = "landlock",
};

static const char *const state_names[] = {
    [SANDBOX_ENFORCED] = "enforced",
    [SANDBOX_WEAKER] = "weaker",
    [SANDBOX_MISSING] = "missing",
};

/* What the server would be walled in with: its user, its level, its paths. The directory the
 * sessions' own are made in may not exist before the first start; the probe makes one then. */
static int walls_of(const struct config *c, struct sandbox_config *walls, struct err *e)
{
	*walls = (struct sandbox_config){.level = c->isolation,
	    .uid = geteuid(),
	    .gid = getegid(),
	    .commands_unlimited = c->code_mode.commands_memory_bytes == 0};
	if (geteuid() == 0 && seal_find_user(c->user, &walls->uid, &walls->gid, e) < 0) {
		return -1;
	}
	for (uint32_t i = 0; i < c->read_only_path_count && i < SANDBOX_PATHS_MAX; i++) {
		walls->read_only_paths[walls->read_only_path_count++] = c->read_only_paths[i];
	}
	return 0;
}

static struct sandbox_wall data_dir_wall(const char *dir, uid_t uid)
{
	struct err e = {0};
	struct sandbox_wall wall = {.name = "data directory", .required = true};
	if (server_check_data_dir(dir, uid, &e) < 0) {
		wall.state = SANDBOX_MISSING;
		(void)snprintf(wall.reason, sizeof(wall.reason), "%.255s", e.text);
	}
	return wall;
}

static bool is_given(const struct sandbox_wall *walls, int count)
{
	for (int i = 0; i < count; i++) {
		if (walls[i].required && walls[i].state == SANDBOX_MISSING) {
			return false;
		}
	}
	return true;
}

static int print_wall(struct output *o, const struct sandbox_wall *w)
{
	if (w->state == SANDBOX_ENFORCED) {
		return output_linef(o, "%-20s enforced", w->name);
	}
	return output_linef(o, "%-20s %s because: %s%s%s", w->name, state_names[w->state],
	    w->reason, w->mend[0] != '\0' ? "; to mend: " : "", w->mend);
}

bool doctor_worst(char line[DOCTOR_LINE_BYTES])
{
	const struct config_flags none = {0};
	cleanup(config_fini) struct config config = {0};
	struct sandbox_config walls_config;
	struct sandbox_wall walls[SANDBOX_WALLS_MAX];
	if (config_load(&config, &none, NULL) < 0 || walls_of(&config, &walls_config, NULL) < 0) {
		return false;
	}
	int count = sandbox_probe(&walls_config, walls);
	const struct sandbox_wall *worst = NULL;
	int most = 0;
	for (int i = 0; i < count; i++) {
		int weight = walls[i].state == SANDBOX_MISSING ? 2 + walls[i].required
							       : walls[i].state == SANDBOX_WEAKER;
		if (weight > most) {
			most = weight;
			worst = &walls[i];
		}
	}
	if (worst == NULL) {
		(void)snprintf(line, DOCTOR_LINE_BYTES, "all walls are enforced here");
	} else {
		(void)snprintf(line, DOCTOR_LINE_BYTES, "%s %s because: %s", worst->name,
		    state_names[worst->state], worst->reason);
	}
	return count > 0;
}

static int print_text(
    struct output *o, enum sandbox_level level, const struct sandbox_wall *walls, int count)
{
	int r = 0;
	for (int i = 0; i < count && r == 0; i++) {
		r = print_wall(o, &walls[i]);
	}
	if (r == 0) {
		r = output_linef(o, "The level \"%s\" %s.", level_names[level],
		    is_given(walls, count) ? "can be given here" : "cannot be given here");
	}
	return r;
}

static json_t *to_json(enum sandbox_level level, const struct sandbox_wall *walls, int count)
{
	json_t *list = json_array();
	for (int i = 0; i < count; i++) {
		const struct sandbox_wall *w = &walls[i];
		(void)json_array_append_new(
		    list, json_pack("{s:s, s:s, s:b, s:s, s:s}", "name", w->name, "state",
			      state_names[w->state], "required", (int)w->required, "reason",
			      w->reason, "mend", w->mend));
	}
	return json_pack("{s:s, s:b, s:o}", "isolation", level_names[level], "given",
	    (int)is_given(walls, count), "walls", list);
}

static int parse(
    int argc, char **argv, struct options *shared, struct config_flags *flags, struct err *e)
{
	const struct option_entry own[] = {
	    {"config", 'c', &flags->config_file, NULL},
	    {"isolation", 0, &flags->isolation, NULL},
	    {"data-dir", 0, &flags->data_dir, NULL},
	};
	int first = options_parse(shared, argc, argv, own, array_len(own), e);
	if (first >= 0 && first < argc) {
		first = err_set(e, ERR_INVALID, "'%s' is one word too many", argv[first]);
	}
	return first < 0 ? -1 : 0;
}

int cmd_doctor(int argc, char **argv)
{
	struct options shared;
	struct config_flags flags = {0};
	struct err e = {0};
	if (parse(argc, argv, &shared, &flags, &e) < 0) {
		return command_usage_error("doctor", &e);
	}
	struct output o;
	output_init(&o, shared.json);
	cleanup(config_fini) struct config config = {0};
	struct sandbox_config walls_config;
	if (config_load(&config, &flags, &e) < 0 || walls_of(&config, &walls_config, &e) < 0) {
		return output_failure(&o, NULL, &e);
	}
	struct sandbox_wall walls[SANDBOX_WALLS_MAX + 1];
	int count = sandbox_probe(&walls_config, walls);
	walls[count++] = data_dir_wall(config.data_dir, walls_config.uid);
	int r = 0;
	if (o.json) {
		cleanup(json_decrefp) json_t *document = to_json(walls_config.level, walls, count);
		r = output_json(&o, document, &e);
	} else {
		r = print_text(&o, walls_config.level, walls, count);
	}
	if (r < 0) {
		return CLI_EXIT_USER;
	}
	return is_given(walls, count) ? CLI_EXIT_OK : CLI_EXIT_USER;
}
