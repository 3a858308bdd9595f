#include "cli/download.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

/* The name to write, past links that exist; a name that does not exist yet stands as it is. */
static int resolve(struct download *d, const char *path, struct err *e)
{
	if (realpath(path, d->final) != NULL) {
		return 0;
	}
	if (errno != ENOENT) {
		return err_set_os(e, errno, "cannot write %s", path);
	}
	int n = snprintf(d->final, sizeof(d->final), "%s", path);
	return n < 0 || (size_t)n >= sizeof(d->final)
		   ? err_set(e, ERR_INVALID, "the name %.40s... is too long", path)
		   : 0;
}

/* Makes the file beside the final name, with the rights a new file would have. */
static int open_part(struct download *d, struct err *e)
{
	const char *slash = strrchr(d->final, '/');
	int folder = slash == NULL ? 0 : (int)(slash - d->final) + 1;
	int n = snprintf(d->part, sizeof(d->part), "%.*s.carrel-part-XXXXXX", folder, d->final);
	if (n < 0 || (size_t)n >= sizeof(d->part)) {
		d->part[0] = '\0';
		return err_set(e, ERR_INVALID, "the name %.40s... is too long", d->final);
	}
	d->fd = mkostemp(d->part, O_CLOEXEC);
	if (d->fd < 0) {
		int saved = errno;
		d->part[0] = '\0';
		return err_set_os(e, saved, "cannot write beside %s", d->final);
	}
	mode_t mask = umask(0);
	(void)umask(mask);
	if (fchmod(d->fd, 0666 & ~mask) < 0) {
		return err_set_os(e, errno, "cannot set the rights of %s", d->part);
	}
	return 0;
}

int download_open(struct download *d, const char *path, struct err *e)
{
	*d = DOWNLOAD_NONE;
	d->to_stdout = strcmp(path, "-") == 0;
	if (d->to_stdout) {
		return 0;
	}
	if (resolve(d, path, e) < 0) {
		return -1;
	}
	struct stat st;
	if (stat(d->final, &st) < 0 || S_ISREG(st.st_mode)) {
		return open_part(d, e);
	}
	if (S_ISDIR(st.st_mode)) {
		return err_set(e, ERR_INVALID, "%s is a directory", path);
	}
	d->fd = open(d->final, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return d->fd < 0 ? err_set_os(e, errno, "cannot write %s", path) : 0;
}

int download_commit(struct download *d, struct err *e)
{
	if (d->part[0] == '\0') {
		return 0;
	}
	if (rename(d->part, d->final) < 0) {
		return err_set_os(e, errno, "cannot rename to %s", d->final);
	}
	d->part[0] = '\0';
	return 0;
}

void download_fini(struct download *d)
{
	fd_close(&d->fd);
	if (d->part[0] != '\0') {
		(void)unlink(d->part);
		d->part[0] = '\0';
	}
}
