// Makes every sync to disk of one process take longer, as on a slower disk:
//
//   gcc -shared -fPIC -O2 -Wall -Wextra -Werror -o slowsync.so slowsync.c -ldl
//   SLOWSYNC_US=1000 LD_PRELOAD=slowsync.so redis-server ...
//
// The time is added behind the real call, in the calling thread. Only calls that go through the dynamic linker are
// seen: kvnode looks its sync calls up in the main program, so they are; a static Go program, such as etcd, passes by.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void delay(void) {
    const char *us = getenv("SLOWSYNC_US");
    long left = us ? atol(us) : 0;
    struct timespec time = {left / 1000000, left % 1000000 * 1000};
    int error = errno;
    while (left > 0 && nanosleep(&time, &time) != 0 && errno == EINTR) {}
    errno = error;
}

static int slow(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    delay();
    return result;
}

int fdatasync(int fd) { return slow("fdatasync", fd); }

int fsync(int fd) { return slow("fsync", fd); }
