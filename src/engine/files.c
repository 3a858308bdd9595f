#include "engine/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "base/unicode.h"

/* --- names and paths ----------------------------------------------------------------------------
 */

static int add_segment(struct files_path *p, const char *segment, size_t len, struct err *e)
{
	bool dots = (len == 1 && segment[0] == '.') || (len == 2 && memcmp(segment, "..", 2) == 0);
	if (dots) {
		return err_set(e, ERR_INVALID, "a path must not have '.' or '..' segments");
	}
	if (len > FILES_NAME_MAX) {
		return err_set(e, ERR_INVALID, "a name has at most %d bytes", FILES_NAME_MAX);
	}
	size_t have = strlen(p->text);
	if (have + 1 + len > FILES_PATH_MAX) {
		return err_set(e, ERR_INVALID, "a path has at most %d bytes", FILES_PATH_MAX);
	}
	if (have > 0) {
		p->text[have++] = '/';
	}
	memcpy(p->text + have, segment, len);
	p->text[have + len] = '\0';
	return 0;
}

static unsigned depth_of(const struct files_path *p)
{
	unsigned depth = p->text[0] != '\0';
	for (const char *c = p->text; *c != '\0'; c++) {
		depth += *c == '/';
	}
	return depth;
}

int files_path_add(struct files_path *p, const char *text, struct err *e)
{
	struct files_path next = *p;
	if (*text == '/') {
		text += strspn(text, "/") - 1;
		size_t n = strlen(FILES_ROOT);
		if (strncmp(text, FILES_ROOT, n) != 0 || (text[n] != '/' && text[n] != '\0')) {
			return err_set(
			    e, ERR_INVALID, "an absolute path must begin with " FILES_ROOT);
		}
		text += n;
		next.text[0] = '\0';
	}
	while (*(text += strspn(text, "/")) != '\0') {
		size_t len = strcspn(text, "/");
		if (add_segment(&next, text, len, e) < 0) {
			return -1;
		}
		text += len;
	}
	if (depth_of(&next) > FILES_DEPTH_MAX) {
		return err_set(e, ERR_INVALID, "a path has at most %d segments", FILES_DEPTH_MAX);
	}
	*p = next;
	return 0;
}

int files_name_check(const char *name, struct err *e)
{
	size_t len = strlen(name);
	if (len == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		return err_set(e, ERR_INVALID, "the file has no usable name");
	}
	if (len > FILES_NAME_MAX) {
		return err_set(e, ERR_INVALID, "a file name has at most %d bytes; this one has %zu",
		    FILES_NAME_MAX, len);
	}
	if (text_has_prefix(name, FILES_UPLOAD_PREFIX)) {
		return err_set(e, ERR_INVALID,
		    "file names that begin with " FILES_UPLOAD_PREFIX " are the server's own");
	}
	for (size_t i = 0; i < len;) {
		uint32_t cp = 0;
		size_t n = unicode_decode(name + i, len - i, &cp);
		if (n == 0 || cp == '/' || !unicode_is_printable(cp)) {
			return err_set(e, ERR_INVALID,
			    "a file name has printable characters other than '/'; byte %zu of this "
			    "one is something else",
			    i + 1);
		}
		i += n;
	}
	return 0;
}

/* --- opening
 * --------------------------------------------------------------------------------------- */

/* In the user's terms. OS_ERRNO > 0. */
static int path_error(struct err *e, int os_errno, const char *what)
{
	switch (os_errno) {
	case ENOENT:
	case ENOTDIR:
		return err_set(e, ERR_NOT_FOUND, "there is no such %s", what);
	case ELOOP:
	case EXDEV:
		return err_set(
		    e, ERR_NOT_FOUND, "there is no such %s: links are not followed", what);
	case ENAMETOOLONG:
		return err_set(e, ERR_INVALID, "the path is too long");
	case ENXIO:
	case ENODEV:
		return err_set(e, ERR_INVALID, "this is not a regular file");
	case EISDIR:
		return err_set(e, ERR_CONFLICT, "this is a directory");
	case EACCES:
	case EPERM:
		return err_set(e, ERR_DENIED, "the session does not allow access to this %s", what);
	case ENOSPC:
	case EDQUOT:
		(void)err_set(e, ERR_TOO_LARGE, "the session has no room left for files");
		break;
	case EFBIG:
		return err_set(e, ERR_TOO_LARGE, "the file is too large");
	default:
		return err_set_os(e, os_errno, "the %s could not be reached", what);
	}
	if (e != NULL) {
		e->os_errno = os_errno;
	}
	return -1;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash == NULL ? path : slash + 1;
}

static void fill_stat(struct files_entry *out, const struct stat *st)
{
	out->is_directory = S_ISDIR(st->st_mode);
	out->size_bytes = (uint64_t)st->st_size;
	out->modified_wall_us = (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
}

static void fill_entry(struct files_entry *out, const char *path, const struct stat *st)
{
	const char *name = base_name(path);
	size_t directory = name == path ? 0 : (size_t)(name - path) - 1;
	(void)snprintf(out->name, sizeof(out->name), "%s", name);
	(void)snprintf(out->directory, sizeof(out->directory), "%.*s", (int)directory, path);
	fill_stat(out, st);
}

int files_open(
    int root_fd, const struct files_path *p, int *fd, struct files_entry *out, struct err *e)
{
	cleanup(fd_close) int file = fd_open_beneath(
	    root_fd, p->text, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (file < 0) {
		return path_error(e, -file, "file");
	}
	struct stat st;
	if (fstat(file, &st) < 0) {
		return path_error(e, errno, "file");
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, ERR_INVALID, "this is not a regular file");
	}
	fill_entry(out, p->text, &st);
	*fd = fd_take(&file);
	return 0;
}

int files_stat(int root_fd, const struct files_path *p, struct files_entry *out, struct err *e)
{
	cleanup(fd_close) int file = fd_open_beneath(root_fd, p->text, O_PATH, 0);
	if (file < 0) {
		return path_error(e, -file, "file");
	}
	struct stat st;
	if (fstat(file, &st) < 0) {
		return path_error(e, errno, "file");
	}
	if (S_ISLNK(st.st_mode)) {
		return path_error(e, ELOOP, "file");
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		return err_set(e, ERR_INVALID, "this is not a regular file");
	}
	fill_entry(out, p->text, &st);
	return 0;
}

int files_remove(int root_fd, const struct files_path *p, struct err *e)
{
	if (p->text[0] == '\0') {
		return err_set(e, ERR_INVALID, "the directory itself cannot be removed");
	}
	const char *name = base_name(p->text);
	struct files_path parent = *p;
	parent.text[name == p->text ? 0 : name - p->text - 1] = '\0';
	cleanup(fd_close) int dir = fd_open_beneath(root_fd, parent.text, O_PATH | O_DIRECTORY, 0);
	if (dir < 0) {
		return path_error(e, -dir, "file");
	}
	int r = unlinkat(dir, name, 0);
	if (r < 0 && (errno == EISDIR || errno == EPERM)) {
		r = unlinkat(dir, name, AT_REMOVEDIR);
	}
	if (r < 0 && (errno == ENOTEMPTY || errno == EEXIST)) {
		return err_set(e, ERR_CONFLICT, "the directory is not empty");
	}
	return r < 0 ? path_error(e, errno, "file") : 0;
}

/* --- uploads
 * ---------------------------------------------------------------------------------------- */

/* Opens SEGMENT in DIR_FD, making it when it is missing. A descriptor or -errno. */
static int enter_directory(int dir_fd, const char *segment)
{
	bool made = mkdirat(dir_fd, segment, 0777) == 0;
	if (!made && errno != EEXIST) {
		return -errno;
	}
	int fd = fd_open_beneath(dir_fd, segment, O_RDONLY | O_DIRECTORY, 0);
	if (made && fd >= 0) {
		/* Past our umask: it is for the session to write in. Through the descriptor, since
		 * the name may be a link by now. */
		(void)fchmod(fd, 0777);
	}
	return fd;
}

/* A descriptor of the directory, made as far as it is missing, or -errno. */
static int make_directories(int root_fd, const struct files_path *p)
{
	int dir = fd_open_beneath(root_fd, "", O_RDONLY | O_DIRECTORY, 0);
	const char *at = p->text;
	while (dir >= 0 && *at != '\0') {
		char segment[FILES_NAME_MAX + 1];
		size_t len = strcspn(at, "/");
		(void)snprintf(segment, sizeof(segment), "%.*s", (int)len, at);
		int next = enter_directory(dir, segment);
		(void)close(dir);
		dir = next;
		at += len + (at[len] == '/');
	}
	return dir;
}

static bool is_directory_at(int dir_fd, const char *name)
{
	struct stat st;
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

int files_upload_begin(struct files_upload *u, int root_fd, const struct files_path *directory,
    const char *name, uint64_t max_bytes, struct err *e)
{
	*u = FILES_UPLOAD_INIT;
	if (files_name_check(name, e) < 0) {
		return -1;
	}
	cleanup(fd_close) int dir = make_directories(root_fd, directory);
	if (dir == -ENOTDIR) {
		return err_set(e, ERR_CONFLICT, "a part of the path is a file, not a directory");
	}
	if (dir < 0) {
		return path_error(e, -dir, "directory");
	}
	if (is_directory_at(dir, name)) {
		return err_set(e, ERR_CONFLICT, "there is a directory of that name");
	}
	char guid[TEXT_GUID_BYTES];
	(void)snprintf(u->temporary, sizeof(u->temporary), FILES_UPLOAD_PREFIX "%.8s%.4s",
	    text_guid(guid), guid + 9);
	int fd = fd_open_beneath(dir, u->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
	if (fd < 0) {
		return path_error(e, -fd, "directory");
	}
	(void)fchmod(fd, 0666); /* past our umask: it is the session's file */
	u->fd = fd;
	u->dir_fd = fd_take(&dir);
	u->max_bytes = max_bytes;
	(void)snprintf(u->entry.name, sizeof(u->entry.name), "%s", name);
	(void)snprintf(u->entry.directory, sizeof(u->entry.directory), "%s", directory->text);
	return 0;
}

int files_upload_write(struct files_upload *u, const char *bytes, size_t len, struct err *e)
{
	if (len > u->max_bytes - u->bytes) {
		return err_set(e, ERR_TOO_LARGE, "the file is larger than %llu MiB",
		    (unsigned long long)(u->max_bytes >> 20));
	}
	int r = fd_write_all(u->fd, bytes, len);
	if (r < 0) {
		return path_error(e, -r, "file");
	}
	u->bytes += len;
	return 0;
}

int files_upload_commit(struct files_upload *u, struct err *e)
{
	struct stat st;
	int r = fstat(u->fd, &st);
	if (r == 0) {
		fill_stat(&u->entry, &st);
		r = renameat(u->dir_fd, u->temporary, u->dir_fd, u->entry.name);
	}
	int failed = r < 0 ? errno : 0;
	if (failed == 0) {
		u->temporary[0] = '\0';
	}
	files_upload_abort(u);
	switch (failed) {
	case 0:
		return 0;
	case EISDIR:
	case ENOTEMPTY:
	case EEXIST:
		return err_set(e, ERR_CONFLICT, "there is a directory of that name");
	case ENOENT:
		return err_set(
		    e, ERR_CONFLICT, "the session removed the file while it was uploaded");
	default:
		return path_error(e, failed, "file");
	}
}

void files_upload_abort(struct files_upload *u)
{
	if (u == NULL || u->dir_fd < 0) {
		return;
	}
	if (u->temporary[0] != '\0') {
		(void)unlinkat(u->dir_fd, u->temporary, 0);
	}
	fd_close(&u->fd);
	fd_close(&u->dir_fd);
}

/* --- listings
 * --------------------------------------------------------------------------------------- */

/* Puts the directory NAME of DIR_FD on top. 0 or -errno. */
static int push(struct files_walk *w, int dir_fd, const char *name)
{
	size_t have = strlen(w->path);
	if (w->depth == FILES_DEPTH_MAX || have + 1 + strlen(name) > FILES_PATH_MAX) {
		return -ENAMETOOLONG;
	}
	cleanup(fd_close) int fd = fd_open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		return fd;
	}
	DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		return -errno;
	}
	(void)fd_take(&fd);
	if (w->depth > 0) {
		(void)snprintf(
		    w->path + have, sizeof(w->path) - have, "%s%s", have > 0 ? "/" : "", name);
	}
	w->path_len[w->depth] = strlen(w->path);
	w->dirs[w->depth++] = dir;
	return 0;
}

static void pop(struct files_walk *w)
{
	(void)closedir(w->dirs[--w->depth]);
	w->path[w->depth > 0 ? w->path_len[w->depth - 1] : 0] = '\0';
}

int files_walk_init(
    struct files_walk *w, int root_fd, const struct files_path *p, bool recursive, struct err *e)
{
	w->depth = 0;
	w->recursive = recursive;
	w->path[0] = '\0';
	int r = push(w, root_fd, p->text);
	return r < 0 ? path_error(e, -r, "directory") : 0;
}

void files_walk_fini(struct files_walk *w)
{
	while (w != NULL && w->depth > 0) {
		pop(w);
	}
}

/* True when the entry is one to show; *OUT is then filled. */
static bool look_at(const struct files_walk *w, const char *name, struct files_entry *out)
{
	struct stat st;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    text_has_prefix(name, FILES_UPLOAD_PREFIX) || strlen(name) > FILES_NAME_MAX) {
		return false;
	}
	int dir_fd = dirfd(w->dirs[w->depth - 1]);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
		return false;
	}
	memcpy(out->name, name, strlen(name) + 1);
	memcpy(out->directory, w->path, strlen(w->path) + 1);
	fill_stat(out, &st);
	return true;
}

int files_walk_next(struct files_walk *w, unsigned *budget, struct files_entry *out)
{
	while (w->depth > 0) {
		if (*budget == 0) {
			return -EAGAIN;
		}
		--*budget;
		const struct dirent *d = readdir(w->dirs[w->depth - 1]);
		if (d == NULL) {
			pop(w);
		} else if (look_at(w, d->d_name, out)) {
			if (out->is_directory && w->recursive) {
				/* One that cannot be entered is shown without what is in it. */
				(void)push(w, dirfd(w->dirs[w->depth - 1]), out->name);
			}
			return 1;
		}
	}
	return 0;
}
