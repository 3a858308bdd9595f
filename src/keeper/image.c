#include "keeper/image.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "keeper/arena.h"

#define MAPS_MAX_BYTES (4U << 20)
#define PARTS_MAX 4096

#ifdef CARREL_SANITIZED
static const bool can_be_copied = false; /* a sanitizer's own state changes meanwhile */
#else
static const bool can_be_copied = true;
#endif

/* Whole pages. */
struct part {
	uintptr_t begin;
	uintptr_t end;
};

/* In this program's own data, which stays where it is. */
static struct part libraries[PARTS_MAX]; /* where libraries have their data */
static size_t library_count;
static struct part parts[PARTS_MAX]; /* what is put into the file, in the order of its bytes */
static size_t part_count;

static struct part segment_of(const struct dl_phdr_info *info, const ElfW(Phdr) * p)
{
	uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
	uintptr_t begin = info->dlpi_addr + p->p_vaddr;
	return (struct part){begin & ~mask, (begin + p->p_memsz + mask) & ~mask};
}

/* Code and what lies around it become one mapping, where they are one stretch of the library's
 * file. The data are noted. */
static int take_library(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	(void)ctx;
	if (*info->dlpi_name == '\0') {
		return 0; /* this program */
	}
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD) {
			continue;
		}
		struct part s = segment_of(info, p);
		if ((p->p_flags & PF_W) == 0) {
			(void)mprotect((void *)s.begin, s.end - s.begin, PROT_READ | PROT_EXEC);
		} else if (library_count < PARTS_MAX) {
			libraries[library_count++] = s;
		}
	}
	return 0;
}

static void add_part(struct part p)
{
	if (p.begin < p.end && part_count < PARTS_MAX) {
		parts[part_count++] = p;
	}
}

static struct part both(struct part a, struct part b)
{
	return (struct part){a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

/* A line of /proc/PID/maps (proc_pid_maps(5)): what may be read, not executed, and is private. */
static void take_mapping(const char *line)
{
	unsigned long begin;
	unsigned long end;
	char access[5];
	int name_at = 0;
	/* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
	if (sscanf(line, "%lx-%lx %4s %*x %*s %*u %n", &begin, &end, access, &name_at) != 3 ||
	    access[0] != 'r' || access[2] == 'x' || access[3] != 'p') {
		return;
	}
	struct part mapping = {begin, end};
	if (name_at > 0 && text_has_prefix(line + name_at, "[heap]")) {
		add_part(mapping);
		return;
	}
	for (size_t i = 0; i < library_count; i++) {
		add_part(both(mapping, libraries[i]));
	}
}

static int find_parts(void)
{
	cleanup(buf_fini) struct buf maps = BUF_INIT(MAPS_MAX_BYTES);
	(void)dl_iterate_phdr(take_library, NULL);
	int r = fd_read_file(AT_FDCWD, "/proc/self/maps", &maps);
	if (r < 0) {
		return r;
	}
	for (const char *line = buf_str(&maps); *line != '\0';) {
		take_mapping(line);
		const char *end = strchr(line, '\n');
		line = end == NULL ? "" : end + 1;
	}
	uintptr_t arenas;
	size_t bytes = arena_image(&arenas);
	add_part((struct part){arenas, arenas + bytes});
	return 0;
}

static bool copy(int fd, struct part p, off_t at)
{
	while (p.begin < p.end) {
		ssize_t n = pwrite(fd, (const void *)p.begin, p.end - p.begin, at);
		if (n <= 0) {
			return false;
		}
		p.begin += (size_t)n;
		at += n;
	}
	return true;
}

/* Nothing may be written to a part between its copy and its mapping: it would be lost. So nothing
 * is allocated here, nor kept anywhere but on the stack. */
static void replace(int fd)
{
	off_t at = 0;
	for (size_t i = 0; i < part_count; i++) {
		struct part p = parts[i];
		if (!copy(fd, p, at) ||
		    mmap((void *)p.begin, p.end - p.begin, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_FIXED, fd, at) == MAP_FAILED) {
			return;
		}
		at += (off_t)(p.end - p.begin);
	}
}

void image_share(void)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	cleanup(fd_close) int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || !can_be_copied || find_parts() < 0) {
		return;
	}
	replace(fd);
	(void)fcntl(fd, F_ADD_SEALS, seals);
}
