#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "sandbox/walls.h"

/* Copies the field at *AT (up to a space or the end of the line), resolving \ooo. */
static int take_field(const char **at, char *out, size_t size)
{
	size_t n = 0;
	const char *c = *at;
	while (*c != '\0' && *c != ' ' && *c != '\n') {
		char value = *c++;
		if (value == '\\' && c[0] >= '0' && c[0] <= '3' && c[1] >= '0' && c[1] <= '7' &&
		    c[2] >= '0' && c[2] <= '7') {
			value = (char)((c[0] - '0') << 6 | (c[1] - '0') << 3 | (c[2] - '0'));
			c += 3;
		}
		if (out != NULL && n + 1 >= size) {
			return -EINVAL;
		}
		if (out != NULL) {
			out[n++] = value;
		}
	}
	if (out != NULL) {
		out[n] = '\0';
	}
	*at = *c == ' ' ? c + 1 : c;
	return 0;
}

/* Past the optional fields ("shared:1 master:2 -"), whose number is not fixed. */
static int skip_optional(const char **at)
{
	for (;;) {
		char word[64];
		int r = take_field(at, word, sizeof(word));
		if (r < 0 || word[0] == '\0') {
			return -EINVAL;
		}
		if (strcmp(word, "-") == 0) {
			return 0;
		}
	}
}

int mountinfo_next(const char **text, struct mountinfo *out)
{
	const char *at = *text;
	if (*at == '\0') {
		return 0;
	}
	const char *end = strchrnul(at, '\n');
	*text = *end == '\n' ? end + 1 : end;
	for (int i = 0; i < 3; i++) { /* mount id, parent id, device */
		(void)take_field(&at, NULL, 0);
	}
	if (take_field(&at, out->root, sizeof(out->root)) < 0 ||
	    take_field(&at, out->point, sizeof(out->point)) < 0 ||
	    take_field(&at, out->options, sizeof(out->options)) < 0 || skip_optional(&at) < 0 ||
	    take_field(&at, out->type, sizeof(out->type)) < 0 || take_field(&at, NULL, 0) < 0 ||
	    take_field(&at, out->super_options, sizeof(out->super_options)) < 0 ||
	    out->super_options[0] == '\0') {
		return -EINVAL;
	}
	return 1;
}

bool mountinfo_has_option(const char *options, const char *name)
{
	size_t len = strlen(name);
	for (const char *at = options; *at != '\0';) {
		const char *end = strchrnul(at, ',');
		if ((size_t)(end - at) == len && memcmp(at, name, len) == 0) {
			return true;
		}
		at = *end == ',' ? end + 1 : end;
	}
	return false;
}

static unsigned long flags_of(const struct mountinfo *mount, uint64_t attributes)
{
	static const struct {
		const char *option;
		uint64_t attribute;
		unsigned long flag;
	} known[] = {
	    {"ro", MOUNT_ATTR_RDONLY, MS_RDONLY},
	    {"nosuid", MOUNT_ATTR_NOSUID, MS_NOSUID},
	    {"nodev", MOUNT_ATTR_NODEV, MS_NODEV},
	    {"noexec", MOUNT_ATTR_NOEXEC, MS_NOEXEC},
	    {"noatime", 0, MS_NOATIME},
	    {"nodiratime", 0, MS_NODIRATIME},
	    {"relatime", 0, MS_RELATIME},
	};
	unsigned long flags = MS_REMOUNT | MS_BIND;
	for (size_t i = 0; i < array_len(known); i++) {
		if ((attributes & known[i].attribute) != 0 ||
		    mountinfo_has_option(mount->options, known[i].option)) {
			flags |= known[i].flag;
		}
	}
	return flags;
}

static bool is_beneath(const char *path, const char *top)
{
	size_t n = strlen(top);
	return strncmp(path, top, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* For kernels before 5.12: each mount on its own, keeping the flags it has. */
static int remount_each(const char *path, uint64_t attributes, bool recursive, struct err *e)
{
	cleanup(buf_fini) struct buf text = {.max = MOUNTINFO_MAX_BYTES};
	int r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &text);
	if (r < 0) {
		return err_set_os(e, -r, "cannot read /proc/self/mountinfo");
	}
	bool found = false;
	struct mountinfo info;
	for (const char *at = buf_str(&text); (r = mountinfo_next(&at, &info)) != 0;) {
		if (r < 0) {
			return err_set_os(e, -r, "cannot understand /proc/self/mountinfo");
		}
		if (recursive ? !is_beneath(info.point, path) : strcmp(info.point, path) != 0) {
			continue;
		}
		found = true;
		if (mount("none", info.point, NULL, flags_of(&info, attributes), NULL) < 0) {
			return err_set_os(e, errno, "cannot restrict the mount at %s", info.point);
		}
	}
	return found ? 0 : err_set(e, ERR_INTERNAL, "no mount is at %s", path);
}

int mount_restrict(const char *path, uint64_t attributes, bool recursive, struct err *e)
{
	struct mount_attr attr = {.attr_set = attributes};
	unsigned flags = recursive ? AT_RECURSIVE : 0;
	if (mount_setattr(AT_FDCWD, path, flags, &attr, sizeof(attr)) == 0) {
		return 0;
	}
	if (errno != ENOSYS) {
		return err_set_os(e, errno, "cannot restrict the mount at %s", path);
	}
	return remount_each(path, attributes, recursive, e);
}
