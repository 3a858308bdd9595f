/* The directories of a server. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/server.h"

/* Makes DIR and those above it. *MADE: whether DIR was not there. */
static int make_dir(const char *dir, const char *what, bool *made, struct err *e)
{
	cleanup(buf_fini) struct buf part = BUF_INIT(4096);
	for (const char *at = dir; at != NULL && *at != '\0';) {
		at = strchr(at + 1, '/');
		buf_clear(&part);
		if (buf_add(&part, dir, at != NULL ? (size_t)(at - dir) : strlen(dir)) < 0) {
			return err_set(e, ERR_INVALID, "%s: the path is too long", what);
		}
		int r = mkdir(buf_str(&part), at == NULL ? 0700 : 0755);
		if (r < 0 && errno != EEXIST) {
			return err_set_os(e, errno, "%s %s", what, buf_str(&part));
		}
		*made = r == 0;
	}
	return 0;
}

struct user_name {
	char text[64];
};

/* Its number where user ID has no name. */
static struct user_name user_name(uid_t id)
{
	struct user_name name;
	const struct passwd *user = getpwuid(id);
	(void)snprintf(name.text, sizeof(name.text), "%u", (unsigned)id);
	if (user != NULL) {
		(void)snprintf(name.text, sizeof(name.text), "%s", user->pw_name);
	}
	return name;
}

int server_check_data_dir(const char *dir, uid_t uid, struct err *e)
{
	struct stat st;
	if (stat(dir, &st) < 0 || st.st_uid == uid) {
		return 0; /* what is not there is made, or cannot be, which is told then */
	}
	bool root = geteuid() == 0;
	if (root ? st.st_uid == 0 : access(dir, R_OK | W_OK | X_OK) == 0) {
		return 0; /* a new one, or a volume's */
	}
	struct user_name owner = user_name(st.st_uid);
	struct user_name ours = user_name(uid);
	return err_set(e, ERR_INVALID,
	    "the data directory %s belongs to %s, mode %04o, and this server's user is %s: "
	    "chown -R %s: %s, or choose another directory (--data-dir)%s",
	    dir, owner.text, st.st_mode & 07777U, ours.text, ours.text, dir,
	    root ? " or user" : "");
}

/* Each directory in it is closed to others, but they could put another in its place. */
static void tell_of_others(const char *dir)
{
	struct stat st;
	if (stat(dir, &st) == 0 && (st.st_mode & (S_IWOTH | S_ISVTX)) == S_IWOTH) {
		char mode[8];
		(void)snprintf(mode, sizeof(mode), "%04o", st.st_mode & 07777U);
		log_event(LOG_LEVEL_WARNING, "data_dir_shared", LOG_STR("directory", dir),
		    LOG_STR("mode", mode));
	}
}

/* And gives it to the server's user: always when OWN, else when it was just made. */
static int prepare_dir(
    const struct server *s, const char *dir, const char *what, bool own, struct err *e)
{
	bool made = false;
	if (make_dir(dir, what, &made, e) < 0) {
		return -1;
	}
	if (geteuid() == 0 && (own || made) && chown(dir, s->uid, s->gid) < 0) {
		return err_set_os(e, errno, "%s %s", what, dir);
	}
	return 0;
}

int server_prepare_dirs(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	const struct store_config *st = &m->store;
	/* Tools of a directory that was named are somebody else's, who makes it. */
	const char *const dirs[] = {st->dir, st->skills_dir, st->artifacts_dir, st->deps_dir,
	    st->workspaces_dir, m->runner_needed ? NULL : m->tools_dir};
	if (server_check_data_dir(s->config.data_dir, s->uid, e) < 0 ||
	    prepare_dir(s, s->config.data_dir, "the data directory", true, e) < 0) {
		return -1;
	}
	tell_of_others(s->config.data_dir);
	for (size_t i = 0; i < array_len(dirs); i++) {
		if (dirs[i] != NULL && prepare_dir(s, dirs[i], "the directory", false, e) < 0) {
			return -1;
		}
	}
	return 0;
}

int server_prepare_packages_dir(struct server *s, struct err *e)
{
	struct buf *dir = &s->packages_dir;
	*dir = BUF_INIT(4096);
	if (buf_addf(dir, "%s/packages", s->config.data_dir) < 0) {
		return err_set(e, ERR_INVALID, "the data directory's path is too long");
	}
	if (mkdir(buf_str(dir), 0700) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "the directory %s", buf_str(dir));
	}
	if (geteuid() == 0 && chown(buf_str(dir), s->uid, s->gid) < 0) {
		return err_set_os(e, errno, "the directory %s", buf_str(dir));
	}
	return 0;
}
