/*
 * System calls without libc: the preloaded shim interposes read, write, close, syscall and
 * the rest, so the client library below it may call none of them. Results are the
 * kernel's: a negative errno on failure. errno is never touched. Any thread, and safe in
 * signal handlers.
 */
#ifndef WFS_SHIM_CLIENT_SYS_H
#define WFS_SHIM_CLIENT_SYS_H

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#if defined(__x86_64__)
static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
		: "=a"(result)
		: "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
		: "+r"(x0)
		: "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
		: "memory", "cc");
	return x0;
}
#else
#error "no direct system calls for this machine yet"
#endif

static inline long sys_call3(long n, long a, long b, long c)
{
	return sys_call6(n, a, b, c, 0, 0, 0);
}

static inline void *sys_mmap(size_t size_bytes, int prot, int flags, int fd)
{
	return (void *)sys_call6(SYS_mmap, 0, (long)size_bytes, prot, flags, fd, 0);
}
/* In the place of what is mapped there. */
static inline void *sys_mmap_at(void *at, size_t size_bytes, int prot, int flags, int fd)
{
	return (void *)sys_call6(SYS_mmap, (long)at, (long)size_bytes, prot,
		flags | MAP_FIXED, fd, 0);
}
static inline bool sys_mmap_failed(const void *p)
{
	return (unsigned long)p > (unsigned long)-4096L;
}
static inline long sys_sched_yield(void)
{
	return sys_call3(SYS_sched_yield, 0, 0, 0);
}
static inline long sys_munmap(void *p, size_t size_bytes)
{
	return sys_call3(SYS_munmap, (long)p, (long)size_bytes, 0);
}
static inline long sys_madvise(void *p, size_t size_bytes, int advice)
{
	return sys_call3(SYS_madvise, (long)p, (long)size_bytes, advice);
}
static inline long sys_close(int fd)
{
	return sys_call3(SYS_close, fd, 0, 0);
}
static inline long sys_openat(int dir, const char *path, int flags, unsigned mode)
{
	return sys_call6(SYS_openat, dir, (long)path, flags, (long)mode, 0, 0);
}
static inline long sys_read(int fd, void *data, size_t size_bytes)
{
	return sys_call3(SYS_read, fd, (long)data, (long)size_bytes);
}
static inline long sys_write(int fd, const void *data, size_t size_bytes)
{
	return sys_call3(SYS_write, fd, (long)data, (long)size_bytes);
}
static inline long sys_dup3(int from, int to, int flags)
{
	return sys_call3(SYS_dup3, from, to, flags);
}
static inline long sys_getpid(void)
{
	return sys_call3(SYS_getpid, 0, 0, 0);
}
/* All signals of this thread off, and as they were again. */
static inline void sys_signals_block(uint64_t *before)
{
	uint64_t all = ~0ull;

	sys_call6(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)before, sizeof(all), 0, 0);
}
static inline void sys_signals_restore(const uint64_t *before)
{
	sys_call6(SYS_rt_sigprocmask, SIG_SETMASK, (long)before, 0, sizeof(*before), 0, 0);
}
static inline long sys_fcntl(int fd, int command, long argument)
{
	return sys_call3(SYS_fcntl, fd, command, argument);
}
static inline long sys_socket(int domain, int type, int protocol)
{
	return sys_call3(SYS_socket, domain, type, protocol);
}
static inline long sys_connect(int fd, const void *address, size_t size_bytes)
{
	return sys_call3(SYS_connect, fd, (long)address, (long)size_bytes);
}
static inline long sys_setsockopt(int fd, int level, int name, const void *value,
	size_t size_bytes)
{
	return sys_call6(SYS_setsockopt, fd, level, name, (long)value, (long)size_bytes,
		0);
}
static inline long sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return sys_call3(SYS_sendmsg, fd, (long)message, flags);
}
static inline long sys_recvmsg(int fd, struct msghdr *message, int flags)
{
	return sys_call3(SYS_recvmsg, fd, (long)message, flags);
}
static inline long sys_recv(int fd, void *data, size_t size_bytes, int flags)
{
	return sys_call6(SYS_recvfrom, fd, (long)data, (long)size_bytes, flags, 0, 0);
}
static inline long sys_sched_getaffinity(void *mask, size_t size_bytes)
{
	return sys_call3(SYS_sched_getaffinity, 0, (long)size_bytes, (long)mask);
}
/* Relative timeout. -EAGAIN: the value is another; -EINTR; -ETIMEDOUT. */
static inline long sys_futex_wait(_Atomic uint32_t *word, uint32_t value,
	uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u),
	};

	return sys_call6(SYS_futex, (long)word, FUTEX_WAIT, (long)value, (long)&timeout,
		0, 0);
}
static inline long sys_futex_wake(_Atomic uint32_t *word, int count)
{
	return sys_call3(SYS_futex, (long)word, FUTEX_WAKE, count);
}

#endif
