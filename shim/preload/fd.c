/* Descriptors, placeholders and their pool; see fd.h. */
#include "shim/preload/fd.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/preload/fs.h"
#include "shim/preload/stdio.h"
#include "shim/preload/linger.h"
#include "shim/preload/map.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

enum { FD_UNKNOWN, FD_LOCAL, FD_RESERVED, FD_FIRST_FILE };
#define FILE_CLOSING  0x80000000u
#define POOL_SIZE     32
#define PLACEHOLDER   "wfs"
#define FLAGS_AT_OPEN (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)

struct slot {
	int fd;
	struct fd_record *record;
	_Atomic uint32_t used; /* 0 empty, 1 free, 2 in use */
};

static _Atomic uint32_t table[FD_TABLE_SIZE];
static struct file files[FD_FILES_MAX];
static _Atomic uint32_t file_hint; /* where to look for a free one */
static _Atomic uint32_t file_top;  /* none was ever used from here on */
static struct slot pool[POOL_SIZE];
static _Atomic uint32_t share_count;
static _Atomic int reserved_low = FD_TABLE_SIZE;
static _Atomic int reserved_high = -1;

void fd_shared(void)
{
	share_count++;
}

int64_t fd_position(int fd)
{
	return raw(SYS_lseek, fd, 0, SEEK_CUR);
}

int fd_position_set(int fd, uint64_t position)
{
	long rc = raw(SYS_lseek, fd, position, SEEK_SET);

	return rc < 0 && rc > -4096 ? (int)rc : 0;
}

/* --- reserved numbers --------------------------------------------------------------- */

int fd_reserve_base(void)
{
	struct rlimit limit = {1024, 1024};
	rlim_t top;

	(void)raw(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
	top = limit.rlim_cur > 1024 ? 1024 : limit.rlim_cur;
	return top > 256 ? (int)top - 128 : (int)top / 2;
}

void fd_reserve(int fd)
{
	if (fd < 0 || fd >= FD_TABLE_SIZE)
		return;
	table[fd] = FD_RESERVED;
	if (fd < reserved_low)
		reserved_low = fd;
	if (fd > reserved_high)
		reserved_high = fd;
}

void fd_release(int fd)
{
	if (fd >= 0 && fd < FD_TABLE_SIZE)
		table[fd] = FD_UNKNOWN;
}

bool fd_reserved(int fd)
{
	return fd >= 0 && fd < FD_TABLE_SIZE && table[fd] == FD_RESERVED;
}

int fd_reserved_next(int from)
{
	for (int fd = from < reserved_low ? reserved_low : from; fd <= reserved_high; fd++)
		if (table[fd] == FD_RESERVED)
			return fd;
	return -1;
}

/* --- placeholders ------------------------------------------------------------------- */

/* A description of its own on a fresh memfd with this record, at the lowest number. */
static int placeholder_make(const struct fd_record *record, struct fd_record **map_out)
{
	char self[32] = "/proc/self/fd/";
	char *end = self + strlen(self);
	char digits[12];
	int count = 0, value, memfd;
	long rc, map;

	memfd = (int)raw(SYS_memfd_create, PLACEHOLDER, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0)
		return memfd;
	rc = raw(SYS_pwrite64, memfd, record, sizeof(*record), 0);
	if (rc == sizeof(*record))
		rc = raw(SYS_ftruncate, memfd, FD_RECORD_SIZE);
	if (rc < 0)
		goto out;
	if (map_out) {
		map = raw(SYS_mmap, NULL, FD_RECORD_SIZE, PROT_READ | PROT_WRITE,
			MAP_SHARED, memfd, 0);
		if (map < 0 && map > -4096) {
			rc = map;
			goto out;
		}
		(void)raw(SYS_madvise, map, FD_RECORD_SIZE, MADV_DONTFORK);
		*map_out = (struct fd_record *)map;
	}
	(void)raw(SYS_fcntl, memfd, F_ADD_SEALS,
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	for (value = memfd; value || !count; value /= 10)
		digits[count++] = (char)('0' + value % 10);
	while (count)
		*end++ = digits[--count];
	*end = 0;
	rc = raw(SYS_openat, AT_FDCWD, self, O_WRONLY | O_CLOEXEC);
	if (rc < 0 && map_out)
		(void)raw(SYS_munmap, *map_out, FD_RECORD_SIZE);
out:
	(void)raw(SYS_close, memfd);
	return (int)rc;
}

/* Fill an empty slot: its descriptor goes to a high number. */
static int slot_fill(struct slot *s, const struct fd_record *record)
{
	struct fd_record *map;
	int fd, high;

	fd = placeholder_make(record, &map);
	if (fd < 0)
		return fd;
	high = (int)raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd_reserve_base());
	(void)raw(SYS_close, fd);
	if (high < 0 || high >= FD_TABLE_SIZE) {
		if (high >= 0)
			(void)raw(SYS_close, high);
		(void)raw(SYS_munmap, map, FD_RECORD_SIZE);
		return high < 0 ? high : -EMFILE;
	}
	fd_reserve(high);
	s->fd = high;
	s->record = map;
	return 0;
}

static void slot_drop(struct slot *s)
{
	fd_release(s->fd);
	(void)raw(SYS_close, s->fd);
	(void)raw(SYS_munmap, s->record, FD_RECORD_SIZE);
	s->record = NULL;
	s->used = 0;
}

static bool slot_take(struct slot *s, uint32_t from)
{
	return __atomic_compare_exchange_n((uint32_t *)&s->used, &from, 2, false,
		__ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* A slot with this record in it, or -1: the pool is full or cannot grow. */
static int pool_take(const struct fd_record *record)
{
	for (int i = 0; i < POOL_SIZE; i++)
		if (pool[i].used == 1 && slot_take(&pool[i], 1)) {
			*pool[i].record = *record;
			return i;
		}
	for (int i = 0; i < POOL_SIZE; i++)
		if (!pool[i].used && slot_take(&pool[i], 0)) {
			if (!slot_fill(&pool[i], record))
				return i;
			pool[i].used = 0;
			break;
		}
	return -1;
}

static void pool_give(int index, bool shared)
{
	struct slot *s = &pool[index];

	if (shared) {
		slot_drop(s);
		return;
	}
	(void)raw(SYS_lseek, s->fd, 0, SEEK_SET);
	if (s->record->flags & (O_APPEND | O_NONBLOCK))
		(void)raw(SYS_fcntl, s->fd, F_SETFL, 0);
	s->record->magic = 0;
	s->used = 1;
}

/* --- file objects ------------------------------------------------------------------- */

int file_new(const struct client_file *cf, uint32_t flags, uint32_t fsid,
	struct file **f_out)
{
	uint32_t start = file_hint;

	for (uint32_t n = 0; n < FD_FILES_MAX; n++) {
		struct file *f = &files[(start + n) % FD_FILES_MAX];
		uint32_t none = 0;

		if (f->refs || !__atomic_compare_exchange_n((uint32_t *)&f->refs, &none, 1,
				       false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		file_hint = (uint32_t)(f - files) + 1;
		if (file_top < file_hint)
			file_top = file_hint;
		client_file_copy(&f->cf, cf);
		f->flags = flags & ~(uint32_t)FLAGS_AT_OPEN;
		f->fsid = fsid;
		f->epoch = fs_epoch();
		f->slot = -1;
		f->shared = share_count;
		f->lock_fd = -1;
		f->guard = (struct guard){0};
		*f_out = f;
		return 0;
	}
	return -EMFILE;
}

static bool file_ref(struct file *f)
{
	uint32_t refs = f->refs;

	while (refs && !(refs & FILE_CLOSING))
		if (__atomic_compare_exchange_n((uint32_t *)&f->refs, &refs, refs + 1, true,
			    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return true;
	return false;
}

static void file_end(struct file *f)
{
	struct client *c = fs_attached();
	int lock_fd = f->lock_fd;

	if (lock_fd >= 0) {
		fd_release(lock_fd);
		(void)raw(SYS_close, lock_fd);
	}
	if (f->slot >= 0)
		pool_give(f->slot, f->shared != share_count);
	if (c && f->epoch == fs_epoch() && !(f->flags & O_PATH))
		linger_close(c, &f->cf, f->shared != share_count);
	file_hint = (uint32_t)(f - files);
	f->refs = 0;
}

void fd_put(struct file *f)
{
	uint32_t refs;

	if (!f)
		return;
	refs = f->refs;
	for (;;) {
		uint32_t next = refs == 1 ? FILE_CLOSING : refs - 1;

		if (!__atomic_compare_exchange_n((uint32_t *)&f->refs, &refs, next, true,
			    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		if (next == FILE_CLOSING)
			file_end(f);
		return;
	}
}

int file_client(struct file *f, struct client **c_out)
{
	int rc = fs_client(c_out);

	if (rc || f->epoch == fs_epoch())
		return rc;
	if (!(f->flags & O_PATH)) {
		rc = (int)fs_result(client_reopen(*c_out, f->cf.ino, &f->cf));
		if (rc)
			return rc;
	}
	f->epoch = fs_epoch();
	return 0;
}

int fd_client(int fd, struct file **f_out, struct client **c_out)
{
	int rc;

	*f_out = fd_file(fd);
	if (!*f_out)
		return 0;
	rc = file_client(*f_out, c_out);
	if (rc)
		fd_put(*f_out);
	return rc;
}

/* --- the table ---------------------------------------------------------------------- */

/* 0 and the record if fd is a placeholder; -ENOENT if not; -EBADF if not even open. */
static int fd_read_record(int fd, struct fd_record *record)
{
	static const char wanted[] = "/memfd:" PLACEHOLDER " ";
	char self[40] = "/proc/self/fd/";
	char *end = self + strlen(self);
	char link[32], digits[12];
	struct stat st;
	int count = 0, reader;
	long rc;

	if (raw(SYS_fstat, fd, &st))
		return -EBADF;
	if (!S_ISREG(st.st_mode) || st.st_nlink || st.st_size != FD_RECORD_SIZE)
		return -ENOENT;
	for (int value = fd; value || !count; value /= 10)
		digits[count++] = (char)('0' + value % 10);
	while (count)
		*end++ = digits[--count];
	rc = raw(SYS_readlinkat, AT_FDCWD, self, link, sizeof(link));
	if (rc < (long)sizeof(wanted) || strncmp(link, wanted, sizeof(wanted) - 1))
		return -ENOENT;
	reader = (int)raw(SYS_openat, AT_FDCWD, self, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return -ENOENT;
	rc = raw(SYS_pread64, reader, record, sizeof(*record), 0);
	(void)raw(SYS_close, reader);
	if (rc != sizeof(*record) || record->magic != FD_RECORD_MAGIC ||
		record->version != FD_RECORD_VERSION)
		return -ENOENT;
	return 0;
}

static struct file *fd_classify(int fd)
{
	struct fd_record record;
	struct client_file cf = {0};
	uint32_t unknown = FD_UNKNOWN, entry;
	struct file *f;
	int rc;

	rc = fd_read_record(fd, &record);
	if (rc == -EBADF)
		return NULL;
	if (rc) {
		(void)__atomic_compare_exchange_n((uint32_t *)&table[fd], &unknown, FD_LOCAL,
			false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		return NULL;
	}
	fs_watch_fork();
	cf.ino = record.ino;
	cf.generation = record.generation;
	cf.mode = record.mode;
	if (file_new(&cf, record.flags, record.fsid, &f))
		return NULL;
	f->epoch = 0;
	f->flags |= (uint32_t)raw(SYS_fcntl, fd, F_GETFL) & (O_APPEND | O_NONBLOCK);
	entry = (uint32_t)(f - files) + FD_FIRST_FILE;
	if (__atomic_compare_exchange_n((uint32_t *)&table[fd], &unknown, entry, false,
		    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		(void)file_ref(f);
	else
		f = (fd_put(f), fd_file(fd));
	return f;
}

struct file *fd_file(int fd)
{
	if (fd < 0 || fd >= FD_TABLE_SIZE || !fs_on())
		return NULL;
	for (;;) {
		uint32_t entry = table[fd];
		struct file *f;

		if (entry == FD_LOCAL || entry == FD_RESERVED)
			return NULL;
		if (entry == FD_UNKNOWN)
			return fd_classify(fd);
		fs_check_fork();
		f = &files[entry - FD_FIRST_FILE];
		if (!file_ref(f))
			continue;
		if (table[fd] == entry)
			return f;
		fd_put(f);
	}
}

int fd_install(struct file *f, bool cloexec)
{
	struct fd_record record = {
		.magic = FD_RECORD_MAGIC,
		.version = FD_RECORD_VERSION,
		.ino = f->cf.ino,
		.generation = f->cf.generation,
		.flags = f->flags,
		.mode = f->cf.mode,
		.fsid = f->fsid,
	};
	int command = cloexec ? F_DUPFD_CLOEXEC : F_DUPFD;
	int fd;

	f->slot = pool_take(&record);
	if (f->slot >= 0) {
		fd = (int)raw(SYS_fcntl, pool[f->slot].fd, command, 0);
	} else {
		fd = placeholder_make(&record, NULL);
		if (fd >= 0 && !cloexec)
			(void)raw(SYS_fcntl, fd, F_SETFD, 0);
	}
	if (fd >= FD_TABLE_SIZE) {
		(void)raw(SYS_close, fd);
		fd = -EMFILE;
	}
	if (fd < 0) {
		fd_put(f);
		return fd;
	}
	if (f->flags & (O_APPEND | O_NONBLOCK))
		(void)raw(SYS_fcntl, fd, F_SETFL, f->flags & (O_APPEND | O_NONBLOCK));
	(void)fd_closing(fd);
	table[fd] = (uint32_t)(f - files) + FD_FIRST_FILE;
	/* Streams of libc's own (dprintf, perror) do not ask us. */
	stdio_patch();
	return fd;
}

static void entry_drop(uint32_t entry)
{
	if (entry >= FD_FIRST_FILE)
		fd_put(&files[entry - FD_FIRST_FILE]);
}

bool fd_closing(int fd)
{
	uint32_t entry;

	if (fd < 0 || fd >= FD_TABLE_SIZE)
		return false;
	entry = table[fd];
	if (entry == FD_RESERVED)
		return true;
	if (entry == FD_UNKNOWN)
		return false;
	if (entry >= FD_FIRST_FILE)
		fs_check_fork();
	entry = __atomic_exchange_n((uint32_t *)&table[fd], FD_UNKNOWN, __ATOMIC_ACQ_REL);
	entry_drop(entry);
	return false;
}

void fd_closing_range(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd < FD_TABLE_SIZE; fd++)
		(void)fd_closing((int)fd);
}

void fd_unknown(int fd)
{
	(void)fd_closing(fd);
}

void fd_local(int fd)
{
	if (fd >= 0 && fd < FD_TABLE_SIZE && fs_mode == FS_ON && table[fd] != FD_LOCAL) {
		(void)fd_closing(fd);
		if (table[fd] == FD_UNKNOWN)
			table[fd] = FD_LOCAL;
	}
}

void fd_dupped(int from, int to)
{
	struct file *f = fd_file(from);

	(void)fd_closing(to);
	if (!f)
		return;
	if (to < 0 || to >= FD_TABLE_SIZE) {
		fd_put(f);
		return;
	}
	table[to] = (uint32_t)(f - files) + FD_FIRST_FILE;
	if (to < 3)
		stdio_patch();
}

void fd_forked(void)
{
	for (int i = 0; i < POOL_SIZE; i++)
		if (pool[i].used) {
			fd_release(pool[i].fd);
			(void)raw(SYS_close, pool[i].fd);
			pool[i].record = NULL;
			pool[i].used = 0;
		}
	for (uint32_t i = 0; i < file_top; i++) {
		files[i].slot = -1;
		files[i].guard = (struct guard){0};
	}
	map_forked();
	linger_forked();
}

/* --- calls -------------------------------------------------------------------------- */

int fd_close(int fd)
{
	struct file *f;

	if (fd_reserved(fd))
		return -EBADF;
	f = fd_file(fd);
	if (!f) {
		(void)fd_closing(fd);
		return REAL(close)(fd) ? -errno : 0;
	}
	map_flush_file(f);
	(void)fd_closing(fd);
	(void)raw(SYS_close, fd);
	fd_put(f);
	return 0;
}

int fd_dup(int fd, int from, bool cloexec)
{
	long to = raw(SYS_fcntl, fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, from);

	struct file *f;

	if (to < FD_TABLE_SIZE) {
		if (to >= 0)
			fd_dupped(fd, (int)to);
		return (int)to;
	}
	f = fd_file(fd);
	if (!f)
		return (int)to;
	fd_put(f);
	(void)raw(SYS_close, to);
	return -EMFILE;
}

int fd_dup_to(int from, int to, int flags)
{
	long rc;

	if (fd_reserved(to) && from != to)
		return -EBUSY;
	rc = raw(SYS_dup3, from, to, flags);
	if (rc < 0)
		return (int)rc;
	fd_dupped(from, to);
	/* The number may be a stream's, and libc does not tell us which. */
	if (to < FD_TABLE_SIZE && table[to] >= FD_FIRST_FILE)
		stdio_patch();
	return (int)rc;
}
