/* /etc as every session sees it: a few files of our own, copies of a few of the host's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/host_paths.h"
#include "sandbox/walls.h"

#define PROC_FILES "python_proc_files.py"

extern const char proc_files[]; /* keeper/prelude/proc_files.py */

/* Every Python that a session starts runs this; it takes no time before psutil is wanted. */
static const char python_site[] = "import sys\n"
				  "class _Psutil:\n"
				  "    @staticmethod\n"
				  "    def find_spec(name, path=None, target=None):\n"
				  "        if name == 'psutil._common':\n"
				  "            import runpy\n"
				  "            sys.meta_path.remove(_Psutil)\n"
				  "            return runpy.run_path('/etc/" PROC_FILES
				  "')['spec_of'](name)\n"
				  "sys.meta_path.insert(0, _Psutil)\n";

#define ETC_FILE_MAX_BYTES (4u << 20)
#define ETC_DIR_FILES_MAX 32

static int write_file(int dir_fd, const char *name, const void *bytes, size_t len, struct err *e)
{
	cleanup(fd_close) int fd = openat(
	    dir_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
	int r = fd < 0 ? -errno : fd_write_all(fd, bytes, len);
	return r < 0 ? err_set_os(e, -r, "cannot write /etc/%s", name) : 0;
}

/* What the host lacks, or keeps from our user, sessions lack too. */
static int copy_file(int host_fd, int our_fd, const char *name, struct err *e)
{
	cleanup(buf_fini) struct buf text = {.max = ETC_FILE_MAX_BYTES};
	int r = fd_read_file(host_fd, name, &text);
	if (r == -ENOENT || r == -EACCES || r == -EISDIR) {
		return 0;
	}
	if (r < 0) {
		return err_set_os(e, -r, "cannot read /etc/%s", name);
	}
	return write_file(our_fd, name, buf_str(&text), text.len, e);
}

/* A link into what sessions see stays one; any other is copied. */
static int copy_localtime(int host_fd, int our_fd, struct err *e)
{
	char link[PATH_MAX];
	ssize_t n = readlinkat(host_fd, "localtime", link, sizeof(link) - 1);
	if (n <= 0) {
		return copy_file(host_fd, our_fd, "localtime", e);
	}
	link[n] = '\0';
	const char *at = text_has_prefix(link, "../usr/") ? link + 2 : link;
	if (!text_has_prefix(at, "/usr/share/")) {
		return 0; /* UTC, then */
	}
	return symlinkat(at, our_fd, "localtime") < 0
		   ? err_set_os(e, errno, "cannot make /etc/localtime")
		   : 0;
}

static void close_dir(DIR **dir)
{
	if (*dir != NULL) {
		(void)closedir(*dir);
	}
}

/* The plain files of one directory, none beneath it. */
static int copy_dir(int host_fd, int our_fd, const char *name, struct err *e)
{
	cleanup(fd_close) int from = openat(host_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0) {
		return 0;
	}
	if (mkdirat(our_fd, name, 0755) < 0) {
		return err_set_os(e, errno, "cannot make /etc/%s", name);
	}
	cleanup(fd_close) int to = openat(our_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup(close_dir) DIR *dir = fdopendir(dup(from));
	if (to < 0 || dir == NULL) {
		return err_set_os(e, errno, "cannot open /etc/%s", name);
	}
	int copied = 0;
	struct dirent *entry;
	while ((entry = readdir(dir)) != NULL && copied < ETC_DIR_FILES_MAX) {
		if (entry->d_name[0] == '.' || entry->d_type != DT_REG) {
			continue;
		}
		if (copy_file(from, to, entry->d_name, e) < 0) {
			return -1;
		}
		copied++;
	}
	return 0;
}

/* The host's part comes first. */
static int add_site(int our_fd, const char *name, struct err *e)
{
	if (strcmp(name, HOST_PYTHON_PREFIX) == 0) {
		return 0;
	}
	cleanup(fd_close) int dir = openat(our_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup(fd_close) int fd = openat(
	    dir, "sitecustomize.py", O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0444);
	int r = fd < 0 ? -errno : fd_write_all(fd, python_site, strlen(python_site));
	return r < 0 ? err_set_os(e, -r, "cannot write /etc/%s/sitecustomize.py", name) : 0;
}

/* /etc/python3 and /etc/python3.N: site customisation that Python itself imports. */
static int copy_python(int host_fd, int our_fd, struct err *e)
{
	cleanup(close_dir)
	    DIR *dir = fdopendir(openat(host_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (dir == NULL) {
		return err_set_os(e, errno, "cannot list /etc");
	}
	struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		if (text_has_prefix(entry->d_name, HOST_PYTHON_PREFIX) &&
		    (copy_dir(host_fd, our_fd, entry->d_name, e) < 0 ||
			add_site(our_fd, entry->d_name, e) < 0)) {
			return -1;
		}
	}
	return 0;
}

static int write_own(int our_fd, struct err *e)
{
	static const struct {
		const char *name;
		const char *text;
	} files[] = {
	    {"passwd", "root:x:0:0:root:/:/usr/sbin/nologin\n"
		       "session:x:1000:1000:session:/tmp:/bin/bash\n"
		       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	    {"group", "root:x:0:\nsession:x:1000:\nnogroup:x:65534:\n"},
	    {"hostname", SESSION_HOSTNAME "\n"},
	    {"hosts", "127.0.0.1 localhost " SESSION_HOSTNAME "\n::1 localhost\n"},
	    {"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nservices: files\n"
			      "protocols: files\n"},
	};
	for (size_t i = 0; i < array_len(files); i++) {
		const char *text = files[i].text;
		if (write_file(our_fd, files[i].name, text, strlen(text), e) < 0) {
			return -1;
		}
	}
	return 0;
}

int etc_build(int host_etc_fd, int etc_dir_fd, struct err *e)
{
	if (write_own(etc_dir_fd, e) < 0 || copy_localtime(host_etc_fd, etc_dir_fd, e) < 0 ||
	    copy_python(host_etc_fd, etc_dir_fd, e) < 0 ||
	    write_file(etc_dir_fd, PROC_FILES, proc_files, strlen(proc_files), e) < 0) {
		return -1;
	}
	for (size_t i = 0; i < array_len(host_etc_files); i++) {
		if (copy_file(host_etc_fd, etc_dir_fd, host_etc_files[i], e) < 0) {
			return -1;
		}
	}
	/* Links to /usr/lib in every distribution; Python's platform module reads it. */
	if (symlinkat("../usr/lib/os-release", etc_dir_fd, "os-release") < 0) {
		return err_set_os(e, errno, "cannot make /etc/os-release");
	}
	return 0;
}
