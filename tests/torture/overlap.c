/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Writes that overlap. Each write of a round has a byte of its own, so what lies there afterwards
 * tells whose write was the last on each byte: then all others that cover the byte came before it.
 * If these statements, and the order of each process's own writes, contradict each other, then
 * either a write was torn or two were ordered differently at different places.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "torture.h"

#define WINDOW UINT64_C(20000)
#define WRITES 4 /* of a process in a round */
#define PROCESSES_MAX 32
#define TORN_AREA UINT64_C(131072)

struct piece {
        uint64_t offset;
        uint64_t length;
};

struct overlap {
        pthread_barrier_t barrier;
        struct piece pieces[PROCESSES_MAX * WRITES]; /* of this round */
        _Atomic(bool) stop;
};

static uint64_t window_at(const struct torture *torture, uint64_t round)
{
        struct dice dice = { .state = torture->seed + round };

        return dice_below(&dice, torture->size - WINDOW);
}

/* Is @to after @from by what is known? Depth first; the marks are the caller's. */
static bool leads_to(const uint8_t *before, unsigned int n, unsigned int from, unsigned int to,
                     bool *seen)
{
        if (from == to)
                return true;
        seen[from] = true;
        for (unsigned int next = 0; next < n; next++)
                if (before[from * n + next] && !seen[next] && leads_to(before, n, next, to, seen))
                        return true;
        return false;
}

static bool judge(const struct torture *torture, const struct overlap *overlap, uint64_t round,
                  const uint8_t *got, const uint8_t *old)
{
        unsigned int n = torture->processes * WRITES;
        uint8_t *before = calloc(n, n); /* before[a * n + b]: a came before b */

        if (!before)
                die("calloc");
        for (unsigned int i = 0; i < n; i++)
                if ((i + 1) % WRITES != 0)
                        before[i * n + i + 1] = 1;

        for (uint64_t at = 0; at < WINDOW; at++) {
                bool covered = false;
                unsigned int last = got[at] - 1u;

                for (unsigned int i = 0; i < n; i++)
                        covered |= at - overlap->pieces[i].offset < overlap->pieces[i].length;
                if (!covered ? got[at] != old[at]
                             : last >= n || at - overlap->pieces[last].offset >=
                                                    overlap->pieces[last].length) {
                        fprintf(stderr, "torture: round %ju, byte %ju of the window: 0x%02x\n",
                                (uintmax_t)round, (uintmax_t)at, got[at]);
                        return false;
                }
                for (unsigned int i = 0; covered && i < n; i++)
                        if (i != last && at - overlap->pieces[i].offset < overlap->pieces[i].length)
                                before[i * n + last] = 1;
        }

        for (unsigned int a = 0; a < n; a++)
                for (unsigned int b = 0; b < n; b++) {
                        bool seen[PROCESSES_MAX * WRITES] = {};

                        if (!before[a * n + b] || !leads_to(before, n, b, a, seen))
                                continue;
                        fprintf(stderr,
                                "torture: round %ju: writes %u (%ju+%ju) and %u (%ju+%ju) both "
                                "came before the other\n",
                                (uintmax_t)round, a, (uintmax_t)overlap->pieces[a].offset,
                                (uintmax_t)overlap->pieces[a].length, b,
                                (uintmax_t)overlap->pieces[b].offset,
                                (uintmax_t)overlap->pieces[b].length);
                        return false;
                }
        free(before);
        return true;
}

static bool overlap_run(const struct torture *torture, unsigned int number, void *context)
{
        struct dice dice = { .state = torture->seed * 7919 + number };
        struct overlap *overlap = context;
        unsigned int ways[] = { WAY_BUFFERED, WAY_DIRECT, WAY_DSYNC }, n_ways = 0;
        uint8_t *data, *old = malloc(WINDOW), *got = malloc(WINDOW);
        int fds[3];

        if (!old || !got || posix_memalign((void **)&data, 4096, WINDOW))
                die("malloc");
        for (size_t i = 0; i < 3; i++)
                if (torture->ways & ways[i])
                        fds[n_ways++] = open_file(torture, ways[i]);

        for (uint64_t round = 0; round < torture->operations / WRITES; round++) {
                uint64_t at = window_at(torture, round);

                if (number == 0 && pread(fds[0], old, WINDOW, (off_t)at) != (ssize_t)WINDOW)
                        die("pread");
                for (unsigned int i = 0; i < WRITES; i++) {
                        struct piece *piece = &overlap->pieces[number * WRITES + i];

                        piece->length = 1 + dice_below(&dice, i == 0 ? WINDOW : 3000);
                        piece->offset = dice_below(&dice, WINDOW - piece->length + 1);
                        if (dice_below(&dice, 4) == 0) { /* whole blocks of the device */
                                piece->offset = (4096 - at % 4096) % 4096;
                                piece->length = 8192;
                        }
                }
                pthread_barrier_wait(&overlap->barrier);
                for (unsigned int i = 0; i < WRITES; i++) {
                        unsigned int name = number * WRITES + i;
                        const struct piece *piece = &overlap->pieces[name];

                        memset(data, (int)name + 1, piece->length);
                        if (pwrite(fds[dice_below(&dice, n_ways)], data, piece->length,
                                   (off_t)(at + piece->offset)) != (ssize_t)piece->length)
                                die("pwrite");
                }
                pthread_barrier_wait(&overlap->barrier);
                if (number == 0) {
                        if (pread(fds[n_ways - 1], got, WINDOW, (off_t)at) != (ssize_t)WINDOW)
                                die("pread");
                        if (!judge(torture, overlap, round, got, old))
                                return false;
                }
                pthread_barrier_wait(&overlap->barrier);
        }
        return true;
}

static struct overlap *overlap_new(const struct torture *torture)
{
        struct overlap *overlap = shared_memory(sizeof(*overlap));
        pthread_barrierattr_t attributes;

        if (torture->processes > PROCESSES_MAX || torture->size <= WINDOW) {
                errno = EINVAL;
                die("too many processes, or too small a file");
        }
        pthread_barrierattr_init(&attributes);
        pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_barrier_init(&overlap->barrier, &attributes, torture->processes);
        return overlap;
}

bool torture_overlap(const struct torture *torture)
{
        return run_processes(torture, overlap_run, overlap_new(torture));
}

/*
 * Half of the processes write, each block with one byte all over; the others read. Long copies are
 * the likeliest to run into each other.
 */
static bool torn_run(const struct torture *torture, unsigned int number, void *context)
{
        uint64_t block = torture->block, n_blocks = TORN_AREA / block;
        struct dice dice = { .state = torture->seed * 31 + number };
        unsigned int way = torture->ways & WAY_DIRECT ? WAY_DIRECT : WAY_BUFFERED;
        struct overlap *overlap = context;
        int fd = open_file(torture, way);
        uint8_t *data;

        if (posix_memalign((void **)&data, 4096, n_blocks * block))
                die("malloc");
        for (uint64_t i = 0; i < torture->operations; i++) {
                uint64_t at = dice_below(&dice, 4) ? 0 : dice_below(&dice, n_blocks);
                uint64_t n = at == 0 ? n_blocks : 1 + dice_below(&dice, n_blocks - at);
                ssize_t length = (ssize_t)(n * block);

                if (number % 2 == 0) {
                        memset(data, (int)dice_below(&dice, 256), (size_t)length);
                        if (pwrite(fd, data, (size_t)length, (off_t)(at * block)) != length)
                                die("pwrite");
                        continue;
                }
                if (atomic_load(&overlap->stop))
                        break;
                if (pread(fd, data, (size_t)length, (off_t)(at * block)) != length)
                        die("pread");
                for (uint64_t j = 0; j < n * block; j++) {
                        if (data[j] == data[j / block * block])
                                continue;
                        fprintf(stderr, "torture: operation %ju: block %ju is torn at byte %ju\n",
                                (uintmax_t)i, (uintmax_t)(at + j / block), (uintmax_t)(j % block));
                        return false;
                }
        }
        if (number % 2 == 0)
                atomic_store(&overlap->stop, true);
        close(fd);
        return true;
}

bool torture_torn(const struct torture *torture)
{
        uint64_t length = TORN_AREA;
        int fd = open_file(torture, WAY_BUFFERED);
        uint8_t *zeroes = calloc(1, length);

        if (!zeroes || pwrite(fd, zeroes, length, 0) != (ssize_t)length)
                die("pwrite");
        close(fd);
        free(zeroes);
        return run_processes(torture, torn_run, overlap_new(torture));
}
