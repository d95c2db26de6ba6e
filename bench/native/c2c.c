// Prints the core-to-core round trip of one cache line between CPU 0 and CPU 1, in nanoseconds (about 20 ms).
//
// On shared machines two virtual CPUs may sit on one core complex or on two; loopback benchmarks then differ by a
// factor of two while nothing else tells the states apart. bench/run.sh measures before and after each repetition and
// keeps only those taken in the fast state.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { ROUNDS = 100000, WARM_UP = ROUNDS / 10 };

static _Alignas(128) atomic_int ball;

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *return_ball(void *unused) {
    (void)unused;
    pin(1);
    for (int i = 0; i < ROUNDS; i++) {
        while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * i + 1) { }
        atomic_store_explicit(&ball, 2 * i + 2, memory_order_release);
    }
    return 0;
}

int main(void) {
    pthread_t other;
    double start = 0;
    pin(0);
    if (pthread_create(&other, 0, return_ball, 0) != 0) {
        perror("pthread_create");
        return 1;
    }
    for (int i = 0; i < ROUNDS; i++) {
        if (i == WARM_UP) start = now_ns();
        atomic_store_explicit(&ball, 2 * i + 1, memory_order_release);
        while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * i + 2) { }
    }
    printf("%.0f\n", (now_ns() - start) / (ROUNDS - WARM_UP));
    pthread_join(other, 0);
    return 0;
}
