/*
 * kvfault: makes the disk fail, for one process, while it runs.
 *
 *   gcc -shared -fPIC -O2 -Wall -Wextra -Werror -o kvfault.so kvfault.c -ldl
 *   LD_PRELOAD=kvfault.so KVFAULT=<control file> KVFAULT_DIR=<directory> kvnode ...
 *
 * Only files under KVFAULT_DIR are touched: without that limit the .NET runtime itself, which write()s to its own
 * pipes, would die. With KVFAULT_THREAD set, only calls on threads of that name (its first 15 bytes) are touched. The control file is read again at most every 20 ms, so faults can be switched while the process
 * runs. It holds any of these words, separated by blanks or lines:
 *
 *   fsync=EIO fsync=ENOSPC       fsync and fdatasync fail
 *   fsync=delay:N                they take N ms longer
 *   write=EIO write=ENOSPC       every kind of write fails
 *   write=short                  write and pwrite take half of what they are given
 *   allocate=ENOSPC              fallocate and posix_fallocate fail
 *   ftruncate=EIO                ftruncate fails
 *   open=EMFILE                  open fails
 *   rename=EIO                   rename fails
 *   clock=+N clock=-N            CLOCK_REALTIME jumps by N seconds; the monotonic clock does not
 *
 * Each failed call appends "<call> <CLOCK_MONOTONIC in ns>\n" to KVFAULT_LOG, when that is set.
 *
 * A call made through dlsym(handle of libc.so.6, ...), as C#'s DllImport("libc") does, passes this library by; the
 * node looks its sync calls up in the main program instead.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_BYTES_MAX 512
#define CONTROL_AGE_NS_MAX 20000000LL
#define PATH_BYTES_MAX 4096
#define THREAD_NAME_BYTES 16

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

enum outcome { PASS, FAIL, SHORT };

static __thread char control[CONTROL_BYTES_MAX];
static __thread long long control_read_at = -1;

static long long now_ns(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* The control file's text; read with bare system calls, so that nothing here can be caught by our own wrappers. */
static const char *read_control(void)
{
    const char *path = getenv("KVFAULT");
    long long now = now_ns();
    if (!path || (control_read_at >= 0 && now - control_read_at < CONTROL_AGE_NS_MAX)) return path ? control : "";
    control_read_at = now;
    control[0] = 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return control;
    long length = syscall(SYS_read, fd, control, sizeof control - 1);
    control[length > 0 ? length : 0] = 0;
    syscall(SYS_close, fd);
    return control;
}

static int path_is_ours(const char *path)
{
    const char *directory = getenv("KVFAULT_DIR");
    return directory && path && strncmp(path, directory, strlen(directory)) == 0;
}

static int fd_is_ours(int fd)
{
    char link[64], path[PATH_BYTES_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path_is_ours(path);
}

static void log_failure(const char *call)
{
    const char *path = getenv("KVFAULT_LOG");
    char line[128];
    if (!path) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    int length = snprintf(line, sizeof line, "%s %lld\n", call, now_ns());
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

/* What the control file wants of this call. FAIL comes with errno set. */
static enum outcome decide(const char *word, const char *call)
{
    const char *at = strstr(read_control(), word);
    if (!at) return PASS;
    at += strlen(word);
    if (!strncmp(at, "short", 5)) return SHORT;
    if (!strncmp(at, "delay:", 6)) {
        usleep((useconds_t)atoi(at + 6) * 1000);
        return PASS;
    }

    int error = !strncmp(at, "EIO", 3) ? EIO : !strncmp(at, "ENOSPC", 6) ? ENOSPC : !strncmp(at, "EMFILE", 6) ? EMFILE : 0;
    if (!error) return PASS;
    log_failure(call);
    errno = error;
    return FAIL;
}

static int thread_is_ours(void)
{
    const char *wanted = getenv("KVFAULT_THREAD");
    char name[THREAD_NAME_BYTES] = "";
    if (!wanted) return 1;
    prctl(PR_GET_NAME, name);
    return strcmp(name, wanted) == 0;
}

static enum outcome decide_for(int fd, const char *word, const char *call)
{
    return fd_is_ours(fd) && thread_is_ours() ? decide(word, call) : PASS;
}

static size_t shortened(enum outcome outcome, size_t count)
{
    return outcome == SHORT && count > 1 ? count / 2 : count;
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return decide_for(fd, "fsync=", "fsync") == FAIL ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", int);
    return decide_for(fd, "fsync=", "fdatasync") == FAIL ? -1 : real(fd);
}

ssize_t write(int fd, const void *data, size_t count)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    enum outcome outcome = decide_for(fd, "write=", "write");
    return outcome == FAIL ? -1 : real(fd, data, shortened(outcome, count));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return decide_for(fd, "write=", "writev") == FAIL ? -1 : real(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    enum outcome outcome = decide_for(fd, "write=", "pwrite");
    return outcome == FAIL ? -1 : real(fd, data, shortened(outcome, count), offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset)
{
    return pwrite(fd, data, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    REAL(ssize_t, "pwritev64", int, const struct iovec *, int, off64_t);
    return decide_for(fd, "write=", "pwritev") == FAIL ? -1 : real(fd, parts, count, offset);
}

int ftruncate(int fd, off_t length)
{
    REAL(int, "ftruncate", int, off_t);
    return decide_for(fd, "ftruncate=", "ftruncate") == FAIL ? -1 : real(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return ftruncate(fd, length);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    REAL(int, "fallocate64", int, int, off64_t, off64_t);
    return decide_for(fd, "allocate=", "fallocate") == FAIL ? -1 : real(fd, mode, offset, length);
}

/* Unlike its relatives, posix_fallocate returns the error number and leaves errno alone. */
int posix_fallocate(int fd, off_t offset, off_t length)
{
    REAL(int, "posix_fallocate", int, off_t, off_t);
    return decide_for(fd, "allocate=", "posix_fallocate") == FAIL ? errno : real(fd, offset, length);
}

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return path_is_ours(path) && decide("open=", "open") == FAIL ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open(path, flags | O_LARGEFILE, mode);
}

int rename(const char *source, const char *target)
{
    REAL(int, "rename", const char *, const char *);
    return path_is_ours(target) && decide("rename=", "rename") == FAIL ? -1 : real(source, target);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && getenv("KVFAULT")) {
        const char *at = strstr(read_control(), "clock=");
        if (at) time->tv_sec += atol(at + 6);
    }

    return result;
}
