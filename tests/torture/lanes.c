/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Lanes in two zones: in the first they are as narrow as asked for, so that every sector is shared
 * by several; in the second they are wide, for operations of many blocks, and still begin and end
 * at odd bytes. A process reads anywhere and looks at what is its own.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "torture.h"

#define WIDE_LANE UINT64_C(150001)
#define LENGTH_MAX UINT64_C(150001)
#define IOV_MAX_HERE 5
#define TOLD 16

enum what {
        READ,
        READV,
        WRITE,
        WRITEV,
        LOAD,
        STORE,
        PUNCH,
        ZERO,
        COPY,
        COPY_RANGE,
        FSYNC,
        FDATASYNC,
        MSYNC,
        TRUNCATE,
        SEEK,
        REOPEN,
        _WHAT_MAX,
};

/* How often, compared with each other. */
static const struct {
        const char *name;
        unsigned int weight;
        bool changes;
} whats[_WHAT_MAX] = {
        [READ] = { "pread", 12, false },
        [READV] = { "preadv", 4, false },
        [WRITE] = { "pwrite", 16, true },
        [WRITEV] = { "pwritev", 6, true },
        [LOAD] = { "load", 8, false },
        [STORE] = { "store", 10, true },
        [PUNCH] = { "punch a hole", 3, true },
        [ZERO] = { "zero a range", 3, true },
        [COPY] = { "copy by pread and pwrite to", 3, true },
        [COPY_RANGE] = { "copy_file_range to", 3, true },
        [FSYNC] = { "fsync", 1, false },
        [FDATASYNC] = { "fdatasync", 1, false },
        [MSYNC] = { "msync", 1, false },
        [TRUNCATE] = { "truncate to the size or 0", 1, false },
        [SEEK] = { "lseek for data and holes", 2, false },
        [REOPEN] = { "open again", 1, false },
};

struct operation {
        enum what what;
        unsigned int way;
        uint64_t offset;
        uint64_t length;
};

struct lanes {
        const struct torture *torture;
        unsigned int number;
        struct dice dice;
        uint64_t narrow_end;   /* of the first zone */
        bool pages_are_shared; /* mapped by several processes */
        uint8_t *model;
        uint8_t *buffer;
        uint8_t *map;
        int fds[3]; /* by the bit of the way; the mapping is of the first */
        struct operation *log;
        uint64_t n_log;
};

static bool is_mine(const struct lanes *lanes, uint64_t at)
{
        uint64_t lane = at < lanes->narrow_end ? lanes->torture->lane : WIDE_LANE;

        if (at >= lanes->narrow_end)
                at -= lanes->narrow_end;
        return at / lane % lanes->torture->processes == lanes->number;
}

static int way_fd(const struct lanes *lanes, unsigned int way)
{
        return lanes->fds[way == WAY_DIRECT ? 1 : way == WAY_DSYNC ? 2 : 0];
}

static const char *way_name(unsigned int way)
{
        return way == WAY_DIRECT   ? "direct"
               : way == WAY_DSYNC  ? "dsync"
               : way == WAY_MAPPED ? "mapped"
                                   : "buffered";
}

static void tell(const struct lanes *lanes, uint64_t n)
{
        const struct operation *o = &lanes->log[n];

        fprintf(stderr, "  %ju: %s, %s, %ju+%ju\n", (uintmax_t)n, whats[o->what].name,
                way_name(o->way), (uintmax_t)o->offset, (uintmax_t)o->length);
}

/* What was done to a byte, the last operations of it. */
static void tell_history(const struct lanes *lanes, uint64_t at)
{
        uint64_t told[TOLD], n_told = 0;

        for (uint64_t n = lanes->n_log; n > 0 && n_told < TOLD; n--) {
                const struct operation *o = &lanes->log[n - 1];

                if (at >= o->offset && at - o->offset < o->length)
                        told[n_told++] = n - 1;
        }
        fprintf(stderr, "the last operations of this process on the byte:\n");
        while (n_told > 0)
                tell(lanes, told[--n_told]);
}

/* Compares what was read, in what is ours. */
static bool check(const struct lanes *lanes, const uint8_t *got, uint64_t offset, uint64_t length)
{
        for (uint64_t i = 0; i < length; i++) {
                uint64_t at = offset + i, n = 0;

                if (got[i] == lanes->model[at] || !is_mine(lanes, at))
                        continue;
                while (i + n < length && is_mine(lanes, at + n) &&
                       got[i + n] != lanes->model[at + n])
                        n++;
                fprintf(stderr,
                        "torture: process %u, operation %ju: byte %ju is 0x%02x, not 0x%02x; "
                        "%ju in a row differ\n",
                        lanes->number, (uintmax_t)lanes->n_log - 1, (uintmax_t)at, got[i],
                        lanes->model[at], (uintmax_t)n);
                tell_history(lanes, at);
                return false;
        }
        return true;
}

static bool complain(const struct lanes *lanes, const char *what)
{
        fprintf(stderr, "torture: process %u: %s: %s\n", lanes->number, what, strerror(errno));
        tell(lanes, lanes->n_log - 1);
        return false;
}

/* A part of one of our lanes, or with @any a part of the file. */
static void choose_range(struct lanes *lanes, bool any, uint64_t *ret_offset, uint64_t *ret_length)
{
        const struct torture *torture = lanes->torture;
        uint64_t lane, begin, end, at;

        if (any) {
                *ret_length = 1 + dice_below(&lanes->dice, LENGTH_MAX);
                if (dice_below(&lanes->dice, 2))
                        *ret_length = 1 + *ret_length % 5000;
                if (*ret_length > torture->size)
                        *ret_length = torture->size;
                *ret_offset = dice_below(&lanes->dice, torture->size - *ret_length + 1);
                return;
        }

        do
                at = dice_below(&lanes->dice,
                                dice_below(&lanes->dice, 3) ? lanes->narrow_end : torture->size);
        while (!is_mine(lanes, at));
        lane = at < lanes->narrow_end ? torture->lane : WIDE_LANE;
        begin = at < lanes->narrow_end ? at / lane * lane
                                       : lanes->narrow_end + (at - lanes->narrow_end) / lane * lane;
        end = begin + lane;
        if (at < lanes->narrow_end && end > lanes->narrow_end)
                end = lanes->narrow_end;
        if (end > torture->size)
                end = torture->size;

        /* Whole lanes are the likeliest to touch the neighbours'; whole blocks go without them. */
        switch (dice_below(&lanes->dice, 4)) {
        case 0:
                *ret_offset = begin;
                *ret_length = end - begin;
                break;
        case 1:
                *ret_offset = (begin + 4095) / 4096 * 4096;
                if (*ret_offset + 4096 <= end) {
                        *ret_length =
                                (1 + dice_below(&lanes->dice, (end - *ret_offset) / 4096)) * 4096;
                        break;
                }
                __attribute__((__fallthrough__));
        default:
                *ret_offset = at;
                *ret_length = 1 + dice_below(&lanes->dice, end - at);
                if (dice_below(&lanes->dice, 2) && *ret_length > 3000)
                        *ret_length = 1 + *ret_length % 3000;
        }
}

static int choose_iov(struct lanes *lanes, uint64_t length, struct iovec *iov)
{
        uint64_t done = 0;
        int n = 0;

        while (done < length) {
                uint64_t part = n == IOV_MAX_HERE - 1 ? length - done
                                                      : 1 + dice_below(&lanes->dice, length - done);

                iov[n++] = (struct iovec){ lanes->buffer + done, part };
                done += part;
        }
        return n;
}

static bool do_read(struct lanes *lanes, const struct operation *o)
{
        struct iovec iov[IOV_MAX_HERE];
        ssize_t n;

        memset(lanes->buffer, 0xa5, o->length);
        if (o->what == READ)
                n = pread(way_fd(lanes, o->way), lanes->buffer, o->length, (off_t)o->offset);
        else
                n = preadv(way_fd(lanes, o->way), iov, choose_iov(lanes, o->length, iov),
                           (off_t)o->offset);
        if (n != (ssize_t)o->length)
                return complain(lanes, "a read is short");
        return check(lanes, lanes->buffer, o->offset, o->length);
}

static bool do_write(struct lanes *lanes, const struct operation *o)
{
        struct iovec iov[IOV_MAX_HERE];
        ssize_t n;

        dice_fill(&lanes->dice, lanes->model + o->offset, o->length);
        memcpy(lanes->buffer, lanes->model + o->offset, o->length);
        if (o->what == WRITE)
                n = pwrite(way_fd(lanes, o->way), lanes->buffer, o->length, (off_t)o->offset);
        else
                n = pwritev(way_fd(lanes, o->way), iov, choose_iov(lanes, o->length, iov),
                            (off_t)o->offset);
        if (n != (ssize_t)o->length)
                return complain(lanes, "a write is short");
        return true;
}

static bool do_store(struct lanes *lanes, const struct operation *o)
{
        dice_fill(&lanes->dice, lanes->model + o->offset, o->length);
        for (uint64_t i = 0; i < o->length; i++) /* no wider stores than bytes */
                ((volatile uint8_t *)lanes->map)[o->offset + i] = lanes->model[o->offset + i];
        return true;
}

static bool do_zero(struct lanes *lanes, const struct operation *o)
{
        int mode = FALLOC_FL_KEEP_SIZE |
                   (o->what == PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

        memset(lanes->model + o->offset, 0, o->length);
        if (fallocate(lanes->fds[0], mode, (off_t)o->offset, (off_t)o->length) < 0)
                return complain(lanes, "fallocate");
        return true;
}

/*
 * Others may store to the same page while the kernel has the file changed: then it may write the
 * page back as it was before (docs/architecture.md). So such an operation is to have its pages for
 * itself: the whole ones of the range. False if there is none.
 */
static bool keep_to_whole_pages(struct operation *o)
{
        uint64_t begin = (o->offset + 4095) / 4096 * 4096;
        uint64_t end = (o->offset + o->length) / 4096 * 4096;

        if (begin >= end)
                return false;
        o->offset = begin;
        o->length = end - begin;
        return true;
}

/* From another place of ours, which is read and checked on the way. */
static bool do_copy(struct lanes *lanes, struct operation *o)
{
        uint64_t from, length;

        choose_range(lanes, false, &from, &length);
        if (length < o->length)
                o->length = length;
        if (lanes->pages_are_shared && o->what == COPY_RANGE && !keep_to_whole_pages(o))
                return true;
        if (from < o->offset + o->length && o->offset < from + o->length)
                return true; /* copy_file_range refuses what overlaps */

        if (o->what == COPY) {
                if (pread(way_fd(lanes, o->way), lanes->buffer, o->length, (off_t)from) !=
                    (ssize_t)o->length)
                        return complain(lanes, "a read is short");
                if (!check(lanes, lanes->buffer, from, o->length))
                        return false;
                if (pwrite(way_fd(lanes, o->way), lanes->buffer, o->length, (off_t)o->offset) !=
                    (ssize_t)o->length)
                        return complain(lanes, "a write is short");
        } else {
                loff_t in = (loff_t)from, out = (loff_t)o->offset;
                uint64_t left = o->length;

                while (left > 0) {
                        ssize_t n =
                                copy_file_range(lanes->fds[0], &in, lanes->fds[0], &out, left, 0);

                        if (n <= 0)
                                return complain(lanes, "copy_file_range");
                        left -= (uint64_t)n;
                }
        }
        memcpy(lanes->model + o->offset, lanes->model + from, o->length);
        return true;
}

/* What is said to be a hole has no byte of ours but zero, and the two answers fit together. */
static bool do_seek(struct lanes *lanes, const struct operation *o)
{
        off_t size = (off_t)lanes->torture->size;
        off_t data = lseek(lanes->fds[0], (off_t)o->offset, SEEK_DATA);
        off_t hole = lseek(lanes->fds[0], (off_t)o->offset, SEEK_HOLE);

        if (data < 0 && errno != ENXIO)
                return complain(lanes, "SEEK_DATA");
        if (data < 0 || data > size)
                data = size;
        if (hole < 0)
                return complain(lanes, "SEEK_HOLE");
        errno = 0;
        if (data < (off_t)o->offset || hole < (off_t)o->offset ||
            (data > (off_t)o->offset && hole != (off_t)o->offset))
                return complain(lanes, "SEEK_DATA and SEEK_HOLE do not fit together");
        for (off_t at = (off_t)o->offset; at < data; at++)
                if (is_mine(lanes, (uint64_t)at) && lanes->model[at])
                        return complain(lanes, "a hole has data");
        return true;
}

static void lanes_open(struct lanes *lanes)
{
        const struct torture *torture = lanes->torture;

        lanes->fds[0] = open_file(torture, WAY_BUFFERED);
        lanes->fds[1] = torture->ways & WAY_DIRECT ? open_file(torture, WAY_DIRECT) : -1;
        lanes->fds[2] = torture->ways & WAY_DSYNC ? open_file(torture, WAY_DSYNC) : -1;
        if (!(torture->ways & WAY_MAPPED))
                return;
        lanes->map =
                mmap(NULL, torture->size, PROT_READ | PROT_WRITE, MAP_SHARED, lanes->fds[0], 0);
        if (lanes->map == MAP_FAILED)
                die("mmap of the file");
}

static void lanes_close(struct lanes *lanes)
{
        if (lanes->map)
                munmap(lanes->map, lanes->torture->size);
        for (size_t i = 0; i < 3; i++)
                if (lanes->fds[i] >= 0)
                        close(lanes->fds[i]);
}

static bool carry_out(struct lanes *lanes, struct operation *o)
{
        int fd = lanes->fds[0];

        switch (o->what) {
        case READ:
        case READV:
                return do_read(lanes, o);
        case WRITE:
        case WRITEV:
                return do_write(lanes, o);
        case LOAD:
                return check(lanes, lanes->map + o->offset, o->offset, o->length);
        case STORE:
                return do_store(lanes, o);
        case PUNCH:
        case ZERO:
                return do_zero(lanes, o);
        case COPY:
        case COPY_RANGE:
                return do_copy(lanes, o);
        case FSYNC:
                return fsync(fd) == 0 || complain(lanes, "fsync");
        case FDATASYNC:
                return fdatasync(fd) == 0 || complain(lanes, "fdatasync");
        case MSYNC:
                return msync(lanes->map, lanes->torture->size, MS_SYNC) == 0 ||
                       complain(lanes, "msync");
        case TRUNCATE:
                return ftruncate(fd, o->offset % 2 ? (off_t)lanes->torture->size : 0) == 0 ||
                       complain(lanes, "ftruncate");
        case SEEK:
                return do_seek(lanes, o);
        default:
                lanes_close(lanes);
                lanes_open(lanes);
                return true;
        }
}

static void choose_any(struct lanes *lanes, struct operation *o)
{
        unsigned int ways = lanes->torture->ways, total = 0, pick;
        bool by_memory, by_call;

        for (size_t i = 0; i < _WHAT_MAX; i++)
                total += whats[i].weight;
        do {
                pick = (unsigned int)dice_below(&lanes->dice, total);
                for (o->what = 0; pick >= whats[o->what].weight; o->what++)
                        pick -= whats[o->what].weight;
                by_memory = o->what == LOAD || o->what == STORE || o->what == MSYNC;
                by_call = o->what <= WRITEV || o->what == PUNCH || o->what == ZERO ||
                          o->what == COPY || o->what == COPY_RANGE;
        } while ((by_memory && !(ways & WAY_MAPPED)) || (by_call && ways == WAY_MAPPED) ||
                 (o->what == COPY_RANGE && !(ways & WAY_BUFFERED)));

        o->way = WAY_MAPPED;
        while (by_call && (o->way == WAY_MAPPED || !(ways & o->way)))
                o->way = 1u << dice_below(&lanes->dice, 4);
        choose_range(lanes, !whats[o->what].changes, &o->offset, &o->length);
}

static bool is_behind_the_cache(enum what what)
{
        return what == PUNCH || what == ZERO || what == COPY_RANGE;
}

static void choose(struct lanes *lanes, struct operation *o)
{
        do
                choose_any(lanes, o);
        while (lanes->pages_are_shared && is_behind_the_cache(o->what) && !keep_to_whole_pages(o));
}

static bool lanes_run(const struct torture *torture, unsigned int number, void *context)
{
        struct lanes lanes = {
                .torture = torture,
                .number = number,
                .dice.state = torture->seed * 1000003 + number,
                .narrow_end = torture->size / 3,
                .pages_are_shared = torture->ways & WAY_MAPPED && torture->processes > 1,
                .model = malloc(torture->size),
                .log = calloc(torture->operations + 1, sizeof(*lanes.log)),
        };
        bool good = true;

        if (!lanes.model || !lanes.log ||
            posix_memalign((void **)&lanes.buffer, 4096, torture->size))
                die("malloc");
        memcpy(lanes.model, context, torture->size);
        lanes_open(&lanes);
        for (uint64_t i = 0; good && i < torture->operations; i++) {
                choose(&lanes, &lanes.log[i]);
                lanes.n_log = i + 1;
                good = carry_out(&lanes, &lanes.log[i]);
        }

        /* All of it once more, the mapped bytes written back. */
        if (good && lanes.map)
                good = msync(lanes.map, torture->size, MS_SYNC) == 0;
        lanes.log[lanes.n_log++] = (struct operation){ READ, WAY_BUFFERED, 0, torture->size };
        good = good && do_read(&lanes, &lanes.log[lanes.n_log - 1]);
        lanes_close(&lanes);
        return good;
}

bool torture_lanes(const struct torture *torture)
{
        struct dice dice = { .state = torture->seed };
        uint8_t *start = malloc(torture->size);
        uint64_t done = 0;
        bool good;
        int fd;

        if (!start)
                die("malloc");
        dice_fill(&dice, start, torture->size);
        fd = open_file(torture, WAY_BUFFERED);
        while (done < torture->size) {
                ssize_t n = pwrite(fd, start + done, torture->size - done, (off_t)done);

                if (n <= 0)
                        die("filling the file");
                done += (uint64_t)n;
        }
        close(fd);
        good = run_processes(torture, lanes_run, start);
        free(start);
        return good;
}
