/*
 * Control groups, found and prepared. Each of memory, pids and cpu is wherever the host has it: a
 * version 1 hierarchy of its own, the unified version 2 one, or nowhere that we may write.
 *
 * Our directory in each is named for this process (pid namespace, pid and start time), so that a
 * later server can tell one whose owner has died, and remove it.
 *
 *     version 1   <own group>/carrel-…/s<id>
 *     version 2   <own group, or the root's>/carrel-…/{keeper, s<id>}: a group with controllers may
 *                 hold no process itself, so the keeper moves into a leaf, and where the own group
 *                 still has to be given controllers, its other processes into another
 *
 * The keeper and the runner each have such a directory, and may make it at the same time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/cgroup_files.h"
#include "sandbox/walls.h"

#define PREFIX "carrel-"
#define V2_TOP "/sys/fs/cgroup" /* where a host has its version 2 hierarchy */
#define OTHERS_LEAF "carrel.processes"
#define LOCK_TRIES 2000
#define MOVE_ROUNDS_MAX 8
#define TEXT_MAX_BYTES (1u << 20)
#define LEFTOVERS_MAX 4096
#define NAME_BYTES 96

static const char *const kind_names[CGROUP_KINDS] = {"memory", "pids", "cpu"};

/* What the preparation of one hierarchy needs to know. */
struct plan {
	struct cgroups *cg;
	const char *test_root; /* NULL outside tests */
	uid_t uid;
	gid_t gid;
	bool as_root;
	unsigned kinds;        /* that are wanted */
	const char *leaf;      /* of version 2, for the caller itself */
	char name[NAME_BYTES]; /* of our directory */
};

static void close_dir(DIR **dir)
{
	if (*dir != NULL) {
		(void)closedir(*dir);
	}
}

/* ---- finding ---- */

/* The path of the line of /proc/self/cgroup ("number:controllers:path") that names NAME. */
static bool find_own_path(const char *text, const char *name, char *path, size_t size)
{
	while (*text != '\0') {
		const char *end = strchrnul(text, '\n');
		const char *controllers = memchr(text, ':', (size_t)(end - text));
		const char *own = controllers == NULL ? NULL
						      : memchr(controllers + 1, ':',
							    (size_t)(end - controllers - 1));
		if (own != NULL) {
			char list[256];
			int n = (int)(own - controllers - 1);
			(void)snprintf(list, sizeof(list), "%.*s", n, controllers + 1);
			bool match = name[0] == '\0' ? n == 0 && text[0] == '0'
						     : mountinfo_has_option(list, name);
			if (match && (size_t)(end - own) <= size) {
				(void)snprintf(path, size, "%.*s", (int)(end - own - 1), own + 1);
				return true;
			}
		}
		text = *end == '\n' ? end + 1 : end;
	}
	return false;
}

/* Where OWN of the hierarchy is seen through MOUNT, whose root may be a part of it. */
static int place(const struct mountinfo *mount, const char *own, char *path, size_t size)
{
	const char *rest = own;
	if (strcmp(mount->root, "/") != 0) {
		size_t n = strlen(mount->root);
		if (strncmp(own, mount->root, n) != 0 || (own[n] != '\0' && own[n] != '/')) {
			return -ENOENT;
		}
		rest = own + n;
	}
	if (strcmp(rest, "/") == 0) {
		rest = "";
	}
	/* A group outside the caller's cgroup namespace is shown as /../… */
	if (strstr(rest, "/..") != NULL) {
		return -ENOENT;
	}
	int n = snprintf(path, size, "%s%s", mount->point, rest);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int cgroup_find(const char *self_cgroup, const char *self_mountinfo, const char *name, char *path,
    size_t path_size)
{
	char own[PATH_MAX];
	struct mountinfo mount;
	bool v2 = name[0] == '\0';
	if (!find_own_path(self_cgroup, name, own, sizeof(own))) {
		return 0;
	}
	int r;
	for (const char *at = self_mountinfo; (r = mountinfo_next(&at, &mount)) != 0;) {
		if (r < 0 || strcmp(mount.type, v2 ? "cgroup2" : "cgroup") != 0 ||
		    (!v2 && !mountinfo_has_option(mount.super_options, name))) {
			continue;
		}
		r = place(&mount, own, path, path_size);
		if (r != -ENOENT) {
			return r < 0 ? r : v2 ? 2 : 1;
		}
	}
	return 0;
}

/* ---- the files of a group ---- */

int cgroup_write(const struct cgroups *cg, int dir_fd, const char *file, const char *text)
{
	if (!cg->simulated) {
		return fd_write_file(dir_fd, file, text);
	}
	/* A test's directory has no files until they are written. */
	cleanup(fd_close) int fd = openat(
	    dir_fd, file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

static bool file_has_word(int dir_fd, const char *file, const char *word)
{
	cleanup(buf_fini) struct buf text = {.max = 4096};
	if (fd_read_file(dir_fd, file, &text) < 0) {
		return false;
	}
	size_t n = strlen(word);
	const char *end;
	for (const char *at = buf_str(&text); *at != '\0'; at = *end == '\0' ? end : end + 1) {
		end = at + strcspn(at, " \n");
		if ((size_t)(end - at) == n && memcmp(at, word, n) == 0) {
			return true;
		}
	}
	return false;
}

static int open_dir(int dir_fd, const char *path)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_dir(const struct plan *plan, int parent_fd, const char *name)
{
	if (mkdirat(parent_fd, name, 0755) < 0 && errno != EEXIST) {
		return -errno;
	}
	if (plan->as_root && fchownat(parent_fd, name, plan->uid, plan->gid, 0) < 0) {
		return -errno;
	}
	return open_dir(parent_fd, name);
}

/* ---- what a dead server left ---- */

static bool is_running(int pid, uint64_t started)
{
	uint64_t now;
	return cgroup_process_start(pid, &now) == 0 && now == started;
}

static void remove_group(int parent_fd, const char *name)
{
	cleanup(fd_close) int fd = open_dir(parent_fd, name);
	int listing = fd < 0 ? -1 : dup(fd);
	cleanup(close_dir) DIR *dir = listing < 0 ? NULL : fdopendir(listing);
	struct dirent *entry;
	int seen = 0;
	while (dir != NULL && seen++ < LEFTOVERS_MAX && (entry = readdir(dir)) != NULL) {
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
			(void)unlinkat(fd, entry->d_name, AT_REMOVEDIR);
		}
	}
	(void)unlinkat(parent_fd, name, AT_REMOVEDIR);
}

/* Only those of our own pid namespace: of others' owners we cannot tell whether they live. */
static void remove_leftovers(int parent_fd)
{
	int listing = open_dir(parent_fd, ".");
	cleanup(close_dir) DIR *dir = listing < 0 ? NULL : fdopendir(listing);
	struct dirent *entry;
	int seen = 0;
	while (dir != NULL && seen++ < LEFTOVERS_MAX && (entry = readdir(dir)) != NULL) {
		uint64_t space;
		uint64_t started;
		int pid;
		if (sscanf(entry->d_name, PREFIX "%" SCNx64 "-%d-%" SCNu64, &space, &pid,
			&started) == 3 &&
		    space == cgroup_pid_namespace() && !is_running(pid, started)) {
			remove_group(parent_fd, entry->d_name);
		}
	}
}

/* ---- version 1 ---- */

static int prepare_v1(const struct plan *plan, int own_fd)
{
	remove_leftovers(own_fd);
	return make_dir(plan, own_fd, plan->name);
}

/* ---- version 2 ---- */

static bool controllers_enabled(int fd, unsigned kinds)
{
	for (int i = 0; i < CGROUP_KINDS; i++) {
		if ((kinds & 1u << i) != 0 &&
		    !file_has_word(fd, "cgroup.subtree_control", kind_names[i])) {
			return false;
		}
	}
	return true;
}

static int enable_controllers(const struct plan *plan, int fd, unsigned kinds)
{
	char text[64] = "";
	for (int i = 0; i < CGROUP_KINDS; i++) {
		if ((kinds & 1u << i) != 0) {
			size_t n = strlen(text);
			(void)snprintf(
			    text + n, sizeof(text) - n, "%s+%s", n > 0 ? " " : "", kind_names[i]);
		}
	}
	return cgroup_write(plan->cg, fd, "cgroup.subtree_control", text);
}

/* Moves what is in the group at FD into its leaf at LEAF_FD. Those we may not move stay. */
static void move_processes(const struct plan *plan, int fd, int leaf_fd)
{
	cleanup(buf_fini) struct buf text = {.max = TEXT_MAX_BYTES};
	if (fd_read_file(fd, "cgroup.procs", &text) < 0 || text.len == 0) {
		return;
	}
	for (char *pid = text.data; *pid != '\0';) {
		char *end = strchrnul(pid, '\n');
		char *next = *end == '\n' ? end + 1 : end;
		*end = '\0';
		(void)cgroup_write(plan->cg, leaf_fd, "cgroup.procs", pid);
		pid = next;
	}
}

/* Gives the group at FD its controllers for groups beneath, which it may have only while it holds
 * no process itself; new ones may come while the old are being moved. */
static int open_to_children(const struct plan *plan, int fd, unsigned kinds)
{
	int r = controllers_enabled(fd, kinds) ? 0 : enable_controllers(plan, fd, kinds);
	if (r != -EBUSY) {
		return r;
	}
	cleanup(fd_close) int leaf = make_dir(plan, fd, OTHERS_LEAF);
	if (leaf < 0) {
		return leaf;
	}
	for (int i = 0; i < MOVE_ROUNDS_MAX && r == -EBUSY; i++) {
		move_processes(plan, fd, leaf);
		r = enable_controllers(plan, fd, kinds);
	}
	return r;
}

/* Root, outside of any container, makes its groups at the top instead of tearing apart the group of
 * a login session; only the top has no cgroup.type. Elsewhere the own group is what we were given.
 */
static int open_parent(const struct plan *plan, const char *own, unsigned kinds)
{
	cleanup(fd_close) int fd = open_dir(AT_FDCWD, own);
	if (fd < 0 || controllers_enabled(fd, kinds) || !plan->as_root || plan->cg->simulated) {
		return fd_take(&fd);
	}
	int top_fd = open_dir(AT_FDCWD, V2_TOP);
	if (top_fd < 0) {
		return fd_take(&fd);
	}
	if (faccessat(top_fd, "cgroup.procs", F_OK, 0) == 0 &&
	    faccessat(top_fd, "cgroup.type", F_OK, 0) < 0) {
		return top_fd;
	}
	fd_close(&top_fd);
	return fd_take(&fd);
}

static int delegate(const struct plan *plan, int base_fd)
{
	static const char *const files[] = {
	    "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"};
	for (size_t i = 0; i < array_len(files) && plan->as_root && !plan->cg->simulated; i++) {
		if (fchownat(base_fd, files[i], plan->uid, plan->gid, 0) < 0) {
			return -errno;
		}
	}
	return 0;
}

/* Until the descriptor is closed no other process of a server's moves processes here: it could move
 * one out of the leaf that this one has just gone to. Whoever holds the lock for seconds is none.
 */
static void lock(int fd)
{
	for (int i = 0; i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		(void)poll(NULL, 0, 1);
	}
}

static int prepare_v2(const struct plan *plan, const char *own, unsigned kinds)
{
	cleanup(fd_close) int parent = open_parent(plan, own, kinds);
	if (parent < 0) {
		return parent;
	}
	lock(parent);
	remove_leftovers(parent);
	int r = open_to_children(plan, parent, kinds);
	if (r < 0) {
		return r;
	}
	cleanup(fd_close) int base = make_dir(plan, parent, plan->name);
	if (base < 0) {
		return base;
	}
	cleanup(fd_close) int leaf = make_dir(plan, base, plan->leaf);
	r = leaf < 0 ? leaf : delegate(plan, base);
	if (r == 0) {
		/* The kernel lets a process clone into a group only beneath one that is its own. */
		r = cgroup_write(plan->cg, leaf, "cgroup.procs", "0");
	}
	if (r == 0) {
		r = enable_controllers(plan, base, kinds);
	}
	return r < 0 ? r : fd_take(&base);
}

/* ---- all of them ---- */

static void set_why(struct cgroups *cg, unsigned kinds, const char *text)
{
	for (int i = 0; i < CGROUP_KINDS; i++) {
		if ((kinds & 1u << i) != 0) {
			(void)snprintf(cg->why[i], sizeof(cg->why[i]), "%s", text);
		}
	}
}

/* Prepares the hierarchy whose directory is DIR; leaves a reason for its kinds when it cannot. */
static void prepare(const struct plan *plan, const char *dir, int version, unsigned kinds)
{
	struct cgroups *cg = plan->cg;
	char path[PATH_MAX];
	char why[sizeof(cg->why[0])];
	(void)snprintf(
	    path, sizeof(path), "%s%s", plan->test_root != NULL ? plan->test_root : "", dir);
	int base;
	if (version == 1) {
		cleanup(fd_close) int own = open_dir(AT_FDCWD, path);
		base = own < 0 ? own : prepare_v1(plan, own);
	} else {
		base = prepare_v2(plan, path, kinds);
	}
	if (base < 0) {
		(void)snprintf(why, sizeof(why), "no group can be made in %.100s: %s", dir,
		    strerrordesc_np(-base));
		set_why(cg, kinds, why);
		return;
	}
	struct cgroup_hierarchy *h = &cg->hierarchies[cg->count++];
	*h = (struct cgroup_hierarchy){.base_fd = base, .version = version, .kinds = kinds};
}

/* Where KIND's controller is: as cgroup_find, and for version 2 only where it may be used. */
static int find_kind(const struct plan *plan, const char *cgroup_text, const char *mounts_text,
    int kind, char *dir, size_t size)
{
	int version = cgroup_find(cgroup_text, mounts_text, kind_names[kind], dir, size);
	if (version != 0) {
		return version;
	}
	version = cgroup_find(cgroup_text, mounts_text, "", dir, size);
	if (version != 2) {
		return 0;
	}
	/* Another process of the server's, or an earlier server, has moved us there. */
	char *leaf = strrchr(dir, '/');
	if (leaf != NULL && leaf != dir && strcmp(leaf + 1, OTHERS_LEAF) == 0) {
		*leaf = '\0';
	}
	char path[PATH_MAX];
	(void)snprintf(
	    path, sizeof(path), "%s%s", plan->test_root != NULL ? plan->test_root : "", dir);
	cleanup(fd_close) int fd = open_dir(AT_FDCWD, path);
	return fd >= 0 && file_has_word(fd, "cgroup.controllers", kind_names[kind]) ? 2 : 0;
}

static void prepare_all(const struct plan *plan, const char *cgroup_text, const char *mounts_text)
{
	char dirs[CGROUP_KINDS][1024];
	int versions[CGROUP_KINDS];
	for (int i = 0; i < CGROUP_KINDS; i++) {
		bool wanted = (plan->kinds & 1u << i) != 0;
		versions[i] = wanted ? find_kind(plan, cgroup_text, mounts_text, i, dirs[i],
					   sizeof(dirs[i]))
				     : 0;
		if (wanted && versions[i] <= 0) {
			char why[128];
			(void)snprintf(why, sizeof(why), "the host offers no %s controller here",
			    kind_names[i]);
			set_why(plan->cg, 1u << i, why);
		}
	}
	for (int i = 0; i < CGROUP_KINDS; i++) {
		if (versions[i] <= 0) {
			continue;
		}
		unsigned kinds = 0;
		for (int j = i; j < CGROUP_KINDS; j++) {
			if (versions[j] == versions[i] && strcmp(dirs[j], dirs[i]) == 0) {
				kinds |= 1u << j;
			}
		}
		prepare(plan, dirs[i], versions[i], kinds);
		for (int j = CGROUP_KINDS - 1; j >= i; j--) {
			if ((kinds & 1u << j) != 0) {
				versions[j] = 0;
			}
		}
	}
}

static int read_self(const char *test_root, const char *name, struct buf *out, struct err *e)
{
	char path[PATH_MAX];
	(void)snprintf(
	    path, sizeof(path), "%s/proc/self/%s", test_root != NULL ? test_root : "", name);
	int r = fd_read_file(AT_FDCWD, path, out);
	return r < 0 ? err_set_os(e, -r, "cannot read %s", path) : 0;
}

static int init(struct cgroups *cg, struct plan *plan, struct err *e)
{
	const char *test_root = plan->test_root;
	*cg = (struct cgroups){.simulated = test_root != NULL};
	cleanup(buf_fini) struct buf groups = {.max = TEXT_MAX_BYTES};
	cleanup(buf_fini) struct buf mounts = {.max = MOUNTINFO_MAX_BYTES};
	if (read_self(test_root, "cgroup", &groups, e) < 0 ||
	    read_self(test_root, "mountinfo", &mounts, e) < 0) {
		return -1;
	}
	plan->cg = cg;
	plan->as_root = geteuid() == 0;
	uint64_t started = 0;
	int r = cgroup_process_start(getpid(), &started);
	if (r < 0) {
		return err_set_os(e, -r, "cannot read /proc/self/stat");
	}
	(void)snprintf(plan->name, sizeof(plan->name), PREFIX "%" PRIx64 "-%d-%" PRIu64,
	    cgroup_pid_namespace(), (int)getpid(), started);
	prepare_all(plan, buf_str(&groups), buf_str(&mounts));
	return 0;
}

int cgroups_init(struct cgroups *cg, const char *test_root, uid_t uid, gid_t gid, struct err *e)
{
	struct plan plan = {.test_root = test_root,
	    .uid = uid,
	    .gid = gid,
	    .kinds = (1u << CGROUP_KINDS) - 1,
	    .leaf = "keeper"};
	return init(cg, &plan, e);
}

int cgroups_init_memory(
    struct cgroups *cg, const char *test_root, uid_t uid, gid_t gid, struct err *e)
{
	struct plan plan = {.test_root = test_root,
	    .uid = uid,
	    .gid = gid,
	    .kinds = 1u << CGROUP_MEMORY,
	    .leaf = "runner"};
	return init(cg, &plan, e);
}

void cgroups_sweep(const char *test_root)
{
	cleanup(buf_fini) struct buf groups = {.max = TEXT_MAX_BYTES};
	cleanup(buf_fini) struct buf mounts = {.max = MOUNTINFO_MAX_BYTES};
	if (read_self(test_root, "cgroup", &groups, NULL) < 0 ||
	    read_self(test_root, "mountinfo", &mounts, NULL) < 0) {
		return;
	}
	static const char *const names[] = {"memory", "pids", "cpu", ""};
	for (size_t i = 0; i <= array_len(names); i++) {
		char dir[1024] = V2_TOP;
		char path[PATH_MAX];
		if (i < array_len(names) && cgroup_find(buf_str(&groups), buf_str(&mounts),
						names[i], dir, sizeof(dir)) <= 0) {
			continue;
		}
		(void)snprintf(path, sizeof(path), "%s%s", test_root != NULL ? test_root : "", dir);
		cleanup(fd_close) int fd = open_dir(AT_FDCWD, path);
		if (fd >= 0) {
			remove_leftovers(fd);
		}
	}
}
