/*
 * powerloss: writes down, in order, everything a process does to the files of one directory, so that a test can build
 * any disk a power failure could have left behind.
 *
 *   gcc -shared -fPIC -O2 -Wall -Wextra -Werror -o powerloss.so powerloss.c -ldl
 *   LD_PRELOAD=powerloss.so POWERLOSS_DIR=<directory> POWERLOSS_JOURNAL=<file> kvnode ...
 *
 * The journal is opened with O_APPEND and each record goes out in one writev(2), so records of several threads, and
 * those other processes append themselves (a client noting an answer it got), stand in one true order. A record, all
 * numbers little-endian:
 *
 *   u32 magic 'KVPL'   u32 kind   u64 inode   u64 offset   u64 length   u32 flags   u32 path bytes   u32 second path
 *   bytes   u32 data bytes   path   second path   data
 *
 * When a record stands where it stands:
 *   - a change is noted after the real call came back, a sync before (SYNC_BEGIN) and after (SYNC_END). A change noted
 *     before a SYNC_BEGIN had happened when the sync began, so once the SYNC_END is there the change is on the disk.
 *     All other changes may or may not be.
 *     Begin and end of one sync carry the same thread number as their offset.
 *   - nothing is noted for a call that failed.
 *
 * Memory mappings are not seen: nothing durable may be written through one (LMDB without WRITEMAP does not; its lock
 * file is rebuilt at every start).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC 0x4c50564bu
/* Fewer than IOV_MAX by the three parts of a record's head. */
#define PARTS_MAX 1021

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

enum kind {
    ROOT = 1, CREATE = 2, WRITE = 3, TRUNCATE = 4, ALLOCATE = 5, SYNC_BEGIN = 6, SYNC_END = 7, RENAME = 8, UNLINK = 9,
    LINK = 10, MAKE_DIRECTORY = 11, REMOVE_DIRECTORY = 12,
};

/* The write was made through a descriptor opened with O_DSYNC or O_SYNC: it was on the disk when it returned. */
#define FLAG_DURABLE 1u

struct record {
    uint32_t magic, kind;
    uint64_t inode, offset, length;
    uint32_t flags, path_bytes, second_bytes, data_bytes;
};

static int journal = -1;
static char root[PATH_MAX];
static size_t root_length;

static void append(struct record record, const char *path, const char *second, const struct iovec *data, int parts)
{
    struct iovec all[PARTS_MAX + 3];
    size_t total = sizeof record;
    record.magic = MAGIC;
    record.path_bytes = path ? (uint32_t)strlen(path) : 0;
    record.second_bytes = second ? (uint32_t)strlen(second) : 0;
    all[0] = (struct iovec){ &record, sizeof record };
    all[1] = (struct iovec){ (void *)path, record.path_bytes };
    all[2] = (struct iovec){ (void *)second, record.second_bytes };
    total += record.path_bytes + record.second_bytes;
    for (int i = 0; i < parts; i++) {
        all[3 + i] = data[i];
        record.data_bytes += (uint32_t)data[i].iov_len;
        total += data[i].iov_len;
    }

    /* A journal that is not whole proves nothing: stop loudly. */
    if (syscall(SYS_writev, journal, all, parts + 3) != (long)total) abort();
}

__attribute__((constructor)) static void start(void)
{
    const char *directory = getenv("POWERLOSS_DIR");
    const char *file = getenv("POWERLOSS_JOURNAL");
    struct stat status;
    if (!directory || !file || !realpath(directory, root) || stat(root, &status) != 0) return;
    root_length = strlen(root);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) abort();
    /* Out of the way of the low numbers a shell or runtime may close. */
    journal = fcntl(fd, F_DUPFD_CLOEXEC, 500);
    syscall(SYS_close, fd);
    if (journal < 0) abort();
    append((struct record){ .kind = ROOT, .inode = status.st_ino }, root, NULL, NULL, 0);
}

/* The path relative to nothing, if it lies under the directory; else null. The buffer holds PATH_MAX bytes. */
static const char *under_root(const char *path, char *buffer)
{
    if (journal < 0 || !path) return NULL;
    if (path[0] == '/') {
        snprintf(buffer, PATH_MAX, "%s", path);
    } else {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return NULL;
        if (snprintf(buffer, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return NULL;
    }

    int inside = strncmp(buffer, root, root_length) == 0 && (buffer[root_length] == '/' || buffer[root_length] == 0);
    return inside ? buffer : NULL;
}

/* Whether the descriptor is a file or directory under the root; then its inode and path. */
static int is_ours(int fd, uint64_t *inode, char *path)
{
    char link[64];
    struct stat status;
    if (journal < 0 || fd == journal) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, root, root_length) != 0 || fstat(fd, &status) != 0) return 0;
    *inode = status.st_ino;
    return 1;
}

static uint64_t inode_of(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 ? status.st_ino : 0;
}

static void note_write(int fd, const struct iovec *parts, int count, off_t offset, ssize_t written)
{
    uint64_t inode;
    char path[PATH_MAX];
    struct iovec kept[PARTS_MAX];
    if (written <= 0 || !is_ours(fd, &inode, path)) return;
    if (count > PARTS_MAX) abort();
    size_t rest = (size_t)written;
    int used = 0;
    for (; used < count && rest > 0; used++) {
        kept[used] = parts[used];
        if (kept[used].iov_len > rest) kept[used].iov_len = rest;
        rest -= kept[used].iov_len;
    }

    int flags = fcntl(fd, F_GETFL);
    uint32_t durable = flags >= 0 && (flags & O_DSYNC) ? FLAG_DURABLE : 0;
    append((struct record){ .kind = WRITE, .inode = inode, .offset = (uint64_t)offset, .flags = durable },
        NULL, NULL, kept, used);
}

/* After a write at the descriptor's own position: where it began. */
static off_t began_at(int fd, ssize_t written)
{
    off_t end = lseek(fd, 0, SEEK_CUR);
    return end < written ? 0 : end - written;
}

ssize_t write(int fd, const void *data, size_t count)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    ssize_t written = real(fd, data, count);
    int error = errno;
    struct iovec part = { (void *)data, count };
    if (written > 0) note_write(fd, &part, 1, began_at(fd, written), written);
    errno = error;
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    ssize_t written = real(fd, parts, count);
    int error = errno;
    if (written > 0) note_write(fd, parts, count, began_at(fd, written), written);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    ssize_t written = real(fd, data, count, offset);
    int error = errno;
    struct iovec part = { (void *)data, count };
    note_write(fd, &part, 1, offset, written);
    errno = error;
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset)
{
    return pwrite(fd, data, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    ssize_t written = real(fd, parts, count, offset);
    int error = errno;
    note_write(fd, parts, count, offset, written);
    errno = error;
    return written;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(fd, parts, count, offset);
}

static int note_length(int result, int fd, enum kind kind, off_t offset, off_t length)
{
    uint64_t inode;
    char path[PATH_MAX];
    int error = errno;
    if (result == 0 && is_ours(fd, &inode, path))
        append((struct record){ .kind = kind, .inode = inode, .offset = (uint64_t)offset, .length = (uint64_t)length },
            NULL, NULL, NULL, 0);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t length)
{
    REAL(int, "ftruncate", int, off_t);
    return note_length(real(fd, length), fd, TRUNCATE, 0, length);
}

int ftruncate64(int fd, off64_t length)
{
    return ftruncate(fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    REAL(int, "fallocate", int, int, off_t, off_t);
    int result = real(fd, mode, offset, length);
    /* Only the plain form changes what a reader sees; FALLOC_FL_KEEP_SIZE does not, and no other is in use. */
    return mode == 0 ? note_length(result, fd, ALLOCATE, offset, length) : result;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    return fallocate(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    REAL(int, "posix_fallocate", int, off_t, off_t);
    return note_length(real(fd, offset, length), fd, ALLOCATE, offset, length);
}

int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    return posix_fallocate(fd, offset, length);
}

static int noted_sync(int fd, int (*real)(int))
{
    uint64_t inode;
    char path[PATH_MAX];
    if (!is_ours(fd, &inode, path)) return real(fd);
    uint64_t thread = (uint64_t)syscall(SYS_gettid);
    append((struct record){ .kind = SYNC_BEGIN, .inode = inode, .offset = thread }, path, NULL, NULL, 0);
    int result = real(fd);
    int error = errno;
    if (result == 0) append((struct record){ .kind = SYNC_END, .inode = inode, .offset = thread }, path, NULL, NULL, 0);
    errno = error;
    return result;
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return noted_sync(fd, real);
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", int);
    return noted_sync(fd, real);
}

// Held from a change of names to its record: an inode that one thread frees another may get at once, and the records
// must come in the order in which that happened.
static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    char full[PATH_MAX];
    const char *ours = (flags & (O_CREAT | O_TRUNC)) ? under_root(path, full) : NULL;
    if (ours) pthread_mutex_lock(&names);
    uint64_t before = ours ? inode_of(ours) : 0;
    int fd = real(path, flags, mode);
    int error = errno;
    if (ours && fd >= 0) {
        uint64_t inode = inode_of(ours);
        if (inode != before)
            append((struct record){ .kind = CREATE, .inode = inode }, ours, NULL, NULL, 0);
        else if (flags & O_TRUNC)
            append((struct record){ .kind = TRUNCATE, .inode = inode }, NULL, NULL, NULL, 0);
    }

    if (ours) pthread_mutex_unlock(&names);
    errno = error;
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open(path, flags | O_LARGEFILE, mode);
}

// Call with names locked; unlocks it.
static int note_names(int result, enum kind kind, uint64_t inode, const char *path, const char *second)
{
    int error = errno;
    if (result == 0 && (path || second)) append((struct record){ .kind = kind, .inode = inode }, path, second, NULL, 0);
    pthread_mutex_unlock(&names);
    errno = error;
    return result;
}

int rename(const char *source, const char *target)
{
    REAL(int, "rename", const char *, const char *);
    char from[PATH_MAX], to[PATH_MAX];
    const char *old = under_root(source, from), *new = under_root(target, to);
    pthread_mutex_lock(&names);
    uint64_t inode = old ? inode_of(old) : 0;
    return note_names(real(source, target), RENAME, inode, old, new);
}

int link(const char *source, const char *target)
{
    REAL(int, "link", const char *, const char *);
    char from[PATH_MAX], to[PATH_MAX];
    const char *old = under_root(source, from), *new = under_root(target, to);
    pthread_mutex_lock(&names);
    uint64_t inode = old ? inode_of(old) : 0;
    return note_names(real(source, target), LINK, inode, old, new);
}

int unlink(const char *path)
{
    REAL(int, "unlink", const char *);
    char full[PATH_MAX];
    const char *ours = under_root(path, full);
    pthread_mutex_lock(&names);
    uint64_t inode = ours ? inode_of(ours) : 0;
    return note_names(real(path), UNLINK, inode, ours, NULL);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    char full[PATH_MAX];
    const char *ours = under_root(path, full);
    pthread_mutex_lock(&names);
    int result = real(path, mode);
    int error = errno;
    uint64_t inode = result == 0 && ours ? inode_of(ours) : 0;
    errno = error;
    return note_names(result, MAKE_DIRECTORY, inode, ours, NULL);
}

int rmdir(const char *path)
{
    REAL(int, "rmdir", const char *);
    char full[PATH_MAX];
    const char *ours = under_root(path, full);
    pthread_mutex_lock(&names);
    uint64_t inode = ours ? inode_of(ours) : 0;
    return note_names(real(path), REMOVE_DIRECTORY, inode, ours, NULL);
}
