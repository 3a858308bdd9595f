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
#include "keeper/arena.h"

#define PAGE_BYTES 4096UL
#define MAPS_MAX_BYTES (4U << 20)
#define PARTS_MAX 2048

/* Where something stands in memory, in whole pages. */
struct part {
	uintptr_t begin;
	uintptr_t end;
};

/* In this program's own data, which stays where it is. */
static struct part libraries[PARTS_MAX];
static size_t library_count;
static struct {
	struct part at;
	int protection;
} parts[PARTS_MAX];
static size_t part_count;

/* The pages of a library that can be written to, with those that could until it was linked. */
static int note_library(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	(void)ctx;
	if (*info->dlpi_name == '\0') {
		return 0; /* this program */
	}
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || (p->p_flags & PF_W) == 0 || library_count == PARTS_MAX) {
			continue;
		}
		uintptr_t begin = info->dlpi_addr + p->p_vaddr;
		uintptr_t end = begin + p->p_memsz + PAGE_BYTES - 1;
		libraries[library_count++] = (struct part){
		    begin - begin % PAGE_BYTES, end - end % PAGE_BYTES};
	}
	return 0;
}

static void add(struct part at, int protection)
{
	if (at.begin < at.end && part_count < PARTS_MAX) {
		parts[part_count].at = at;
		parts[part_count++].protection = protection;
	}
}

static struct part within(struct part a, struct part b)
{
	return (struct part){a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

static void take_line(const char *line)
{
	unsigned long begin;
	unsigned long end;
	char access[5];
	int name = 0;
	if (sscanf(line, "%lx-%lx %4s %*x %*s %*u %n", &begin, &end, access, &name) != 3 ||
	    access[0] != 'r' || access[2] == 'x' || access[3] != 'p') {
		return;
	}
	struct part at = {begin, end};
	int protection = PROT_READ | (access[1] == 'w' ? PROT_WRITE : 0);
	if (name > 0 && strncmp(line + name, "[heap]", 6) == 0) {
		add(at, protection);
		return;
	}
	for (size_t i = 0; i < library_count; i++) {
		add(within(at, libraries[i]), protection);
	}
}

static int find_parts(void)
{
	cleanup(buf_fini) struct buf maps = BUF_INIT(MAPS_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, "/proc/self/maps", &maps);
	if (r < 0) {
		return r;
	}
	library_count = 0;
	part_count = 0;
	(void)dl_iterate_phdr(note_library, NULL);
	for (const char *line = buf_str(&maps); line != NULL && *line != '\0';) {
		take_line(line);
		line = strchr(line, '\n');
		line = line == NULL ? NULL : line + 1;
	}
	uintptr_t arenas;
	size_t len = arena_image(&arenas);
	add((struct part){arenas, arenas + len}, PROT_READ | PROT_WRITE);
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

/* Nothing may be allocated between the copy of a part and its mapping: it would be lost. */
static long replace_parts(int fd)
{
	off_t at = 0;
	for (size_t i = 0; i < part_count; i++) {
		struct part p = parts[i].at;
		if (!copy(fd, p, at) ||
		    mmap((void *)p.begin, p.end - p.begin, parts[i].protection,
			MAP_PRIVATE | MAP_FIXED, fd, at) == MAP_FAILED) {
			return -errno;
		}
		at += (off_t)(p.end - p.begin);
	}
	return at;
}

long image_share(void)
{
	cleanup(fd_close) int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? -errno : find_parts();
	if (r < 0) {
		return r;
	}
	long bytes = replace_parts(fd);
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : bytes;
}
