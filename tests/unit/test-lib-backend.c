/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What every back-end must do alike (DMIO_BACKEND names it): results, descriptors that are waited
 * for, giving up. Then what is particular: threads that come and go, RAM disks, and which one is
 * chosen where io_uring is denied.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/dm-io.h>

#include "deny.h"
#include "scratch.h"

#define LIMIT_US 20000000
#define N_PIPES 64

struct fixture {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
};

static int setup(void **state)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dmio_queue_in_flight(f->queue), 0);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        free(f);
        return 0;
}

struct test_op {
        struct dmio_op op; /* first */
        struct iovec iov;
        int result;
        unsigned int calls;
};

static void op_done(struct dmio_op *op, int result)
{
        struct test_op *test = (struct test_op *)op;

        test->result = result;
        test->calls++;
}

static void submit(struct fixture *f, struct test_op *test, enum dmio_op_type type, int fd,
                   void *data, size_t length)
{
        *test = (struct test_op){
                .op = { .type = type, .fd = fd, .n_iov = 1, .fn = op_done },
                .iov = { data, length },
        };
        test->op.iov = &test->iov;
        dmio_queue_submit(f->queue, &test->op);
        assert_int_equal(test->calls, 0);
}

static int wait_for(struct fixture *f, struct test_op *test)
{
        while (test->calls == 0)
                assert_true(dmio_queue_process(f->queue, LIMIT_US, 0) >= 0);
        assert_int_equal(test->calls, 1);
        return test->result;
}

static int run(struct fixture *f, enum dmio_op_type type, int fd, void *data, size_t length)
{
        struct test_op test;

        submit(f, &test, type, fd, data, length);
        return wait_for(f, &test);
}

/* Let come what comes by itself: a task that is posted, and back, a few times. */
struct round {
        struct dmio_task task; /* first */
        bool ran;
};

static void round_done(struct dmio_task *task)
{
        ((struct round *)task)->ran = true;
}

static void settle(struct fixture *f)
{
        for (unsigned int i = 0; i < 5; i++) {
                struct round round = { .task.fn = round_done };

                dmio_queue_post(f->queue, &round.task);
                while (!round.ran)
                        assert_true(dmio_queue_process(f->queue, LIMIT_US, 0) >= 0);
                assert_true(dmio_queue_process(f->queue, 1000, 0) >= 0);
        }
}

static int new_file(size_t bytes)
{
        const char *folder = getenv("TMPDIR");
        char path[256];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/dmio-file.XXXXXX", folder ? folder : "/tmp");
        fd = mkostemp(path, O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
        return fd;
}

/* --- all of them */

static void the_engine_says_which_it_is(void **state)
{
        struct fixture *f = *state;

        if (test_backend())
                assert_string_equal(dmio_engine_backend(f->engine), test_backend());
}

static void files_are_read_and_written_by_descriptor(void **state)
{
        struct fixture *f = *state;
        char data[4096], back[4096];
        int fd = new_file(8192);
        struct test_op test;

        pattern_fill(data, sizeof(data), 1);
        test = (struct test_op){
                .op = { .type = DMIO_OP_WRITEV, .fd = fd, .n_iov = 1, .fn = op_done },
                .iov = { data, sizeof(data) },
        };
        test.op.iov = &test.iov;
        test.op.offset = 5000;
        test.op.rw_flags = RWF_DSYNC;
        dmio_queue_submit(f->queue, &test.op);
        assert_int_equal(wait_for(f, &test), 4096);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
        assert_int_equal(lseek(fd, 0, SEEK_END), 9096);

        test.op.type = DMIO_OP_READV;
        test.op.rw_flags = 0;
        test.op.offset = 5096;
        test.iov.iov_base = back;
        test.calls = 0;
        dmio_queue_submit(f->queue, &test.op);
        assert_int_equal(wait_for(f, &test), 4000);
        assert_memory_equal(back, data + 96, 4000);

        test.op.offset = 9096;
        test.calls = 0;
        dmio_queue_submit(f->queue, &test.op);
        assert_int_equal(wait_for(f, &test), 0);

        test.op.type = DMIO_OP_FALLOCATE;
        test.op.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        test.op.offset = 4096;
        test.op.length = 4096;
        test.calls = 0;
        dmio_queue_submit(f->queue, &test.op);
        assert_int_equal(wait_for(f, &test), 0);
        assert_int_equal(pread(fd, back, 4096, 4096), 4096);
        for (unsigned int i = 0; i < 4096; i++)
                assert_int_equal(back[i], 0);
        test.op.type = DMIO_OP_DISCARD;
        test.calls = 0;
        dmio_queue_submit(f->queue, &test.op);
        assert_int_equal(wait_for(f, &test), -EOPNOTSUPP);
        assert_int_equal(run(f, DMIO_OP_FDATASYNC, fd, NULL, 0), 0);
        assert_int_equal(run(f, DMIO_OP_NOP, -1, NULL, 0), 0);
        (void)close(fd);
}

static void results_are_those_of_the_system_call(void **state)
{
        struct fixture *f = *state;
        int pipe_fds[2], dir, null, zero;
        char byte = 'x', bytes[100];

        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        assert_true(dir >= 0 && null >= 0 && zero >= 0);
        assert_int_equal(run(f, DMIO_OP_READV, dir, &byte, 1), -EISDIR);
        assert_int_equal(run(f, DMIO_OP_READV, -1, &byte, 1), -EBADF);
        assert_int_equal(run(f, DMIO_OP_FDATASYNC, -1, NULL, 0), -EBADF);
        assert_int_equal(run(f, DMIO_OP_READV, pipe_fds[1], &byte, 1), -EBADF);
        assert_int_equal(run(f, DMIO_OP_WRITEV, zero, &byte, 1), -EBADF);
        assert_int_equal(run(f, DMIO_OP_FDATASYNC, pipe_fds[1], NULL, 0), -EINVAL);
        assert_int_equal(run(f, DMIO_OP_READV, pipe_fds[0], &byte, 0), 0);
        assert_int_equal(run(f, DMIO_OP_WRITEV, pipe_fds[1], &byte, 1), 1);
        assert_int_equal(run(f, DMIO_OP_READV, pipe_fds[0], NULL, 1), -EFAULT);
        assert_int_equal(run(f, DMIO_OP_WRITEV, null, bytes, sizeof(bytes)), sizeof(bytes));
        assert_int_equal(run(f, DMIO_OP_READV, null, bytes, sizeof(bytes)), 0);
        memset(bytes, 1, sizeof(bytes));
        assert_int_equal(run(f, DMIO_OP_READV, zero, bytes, sizeof(bytes)), sizeof(bytes));
        assert_int_equal(bytes[99], 0);
        (void)close(dir);
        (void)close(null);
        (void)close(zero);
        (void)close(pipe_fds[0]);
        (void)close(pipe_fds[1]);
}

static void o_nonblock_changes_nothing(void **state)
{
        struct fixture *f = *state;
        struct test_op reading[2];
        char bytes[2];
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        submit(f, &reading[0], DMIO_OP_READV, fds[0], &bytes[0], 1);
        submit(f, &reading[1], DMIO_OP_READV, fds[0], &bytes[1], 1);
        settle(f);
        assert_int_equal(reading[0].calls + reading[1].calls, 0);
        dmio_queue_cancel(f->queue, &reading[1].op);
        assert_int_equal(wait_for(f, &reading[1]), -ECANCELED);
        assert_int_equal(write(fds[1], "b", 1), 1);
        assert_int_equal(wait_for(f, &reading[0]), 1);
        assert_int_equal(bytes[0], 'b');
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void a_hang_up_ends_the_wait(void **state)
{
        struct fixture *f = *state;
        struct test_op reading, from_socket;
        int fds[2], sockets[2];
        char bytes[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
        submit(f, &reading, DMIO_OP_READV, fds[0], &bytes[0], 1);
        submit(f, &from_socket, DMIO_OP_READV, sockets[0], &bytes[1], 1);
        settle(f);
        assert_int_equal(reading.calls + from_socket.calls, 0);
        (void)close(fds[1]);
        (void)close(sockets[1]);
        assert_int_equal(wait_for(f, &reading), 0);
        assert_int_equal(wait_for(f, &from_socket), 0);
        (void)close(fds[0]);
        (void)close(sockets[0]);
}

/* However many wait, files are read and written meanwhile, and each is served when its turn is. */
static void who_waits_holds_up_nobody(void **state)
{
        struct fixture *f = *state;
        struct test_op *reading = calloc(N_PIPES, sizeof(*reading));
        int(*fds)[2] = calloc(N_PIPES, sizeof(*fds));
        int file = new_file(4096);
        char bytes[N_PIPES];

        assert_true(reading && fds);
        for (unsigned int i = 0; i < N_PIPES; i++) {
                assert_int_equal(i % 2 ? pipe2(fds[i], O_CLOEXEC)
                                       : socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds[i]),
                                 0);
                submit(f, &reading[i], DMIO_OP_READV, fds[i][0], &bytes[i], 1);
        }
        for (unsigned int i = 0; i < 20; i++) {
                char block[512];

                assert_int_equal(run(f, DMIO_OP_WRITEV, file, block, 512), 512);
                assert_int_equal(run(f, DMIO_OP_READV, file, block, 512), 512);
                assert_int_equal(run(f, DMIO_OP_FDATASYNC, file, NULL, 0), 0);
        }
        assert_int_equal(dmio_queue_in_flight(f->queue), N_PIPES);
        for (unsigned int i = N_PIPES; i-- > 0;) {
                char byte = (char)i;

                if (i % 3 == 0)
                        dmio_queue_cancel(f->queue, &reading[i].op);
                else
                        assert_int_equal(write(fds[i][1], &byte, 1), 1);
                assert_int_equal(wait_for(f, &reading[i]), i % 3 == 0 ? -ECANCELED : 1);
                if (i % 3 != 0)
                        assert_int_equal(bytes[i], byte);
        }
        for (unsigned int i = 0; i < N_PIPES; i++) {
                assert_int_equal(reading[i].calls, 1);
                (void)close(fds[i][0]);
                (void)close(fds[i][1]);
        }
        (void)close(file);
        free(reading);
        free(fds);
}

static void several_wait_for_the_same_descriptor(void **state)
{
        enum { N = 8 };
        struct fixture *f = *state;
        struct test_op reading[N];
        unsigned int n_done;
        char bytes[N];
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        for (unsigned int i = 0; i < N; i++)
                submit(f, &reading[i], DMIO_OP_READV, fds[0], &bytes[i], 1);
        settle(f);
        dmio_queue_cancel(f->queue, &reading[3].op);
        assert_int_equal(wait_for(f, &reading[3]), -ECANCELED);
        for (unsigned int wanted = 2; wanted <= N; wanted++) {
                assert_int_equal(write(fds[1], "b", 1), 1);
                do {
                        assert_true(dmio_queue_process(f->queue, LIMIT_US, 0) >= 0);
                        n_done = 0;
                        for (unsigned int i = 0; i < N; i++)
                                n_done += reading[i].calls;
                } while (n_done < wanted);
                assert_int_equal(n_done, wanted);
        }
        for (unsigned int i = 0; i < N; i++) {
                assert_int_equal(reading[i].calls, 1);
                assert_int_equal(reading[i].result, i == 3 ? -ECANCELED : 1);
        }
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void both_directions_of_a_socket_wait(void **state)
{
        struct fixture *f = *state;
        struct test_op reading, writing;
        char *much = calloc(1, 65536), byte;
        int fds[2];

        assert_non_null(much);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        while (send(fds[0], much, 65536, MSG_DONTWAIT) > 0)
                ;
        submit(f, &writing, DMIO_OP_WRITEV, fds[0], much, 1000);
        submit(f, &reading, DMIO_OP_READV, fds[0], &byte, 1);
        settle(f);
        assert_int_equal(writing.calls + reading.calls, 0);
        assert_int_equal(write(fds[1], "r", 1), 1);
        assert_int_equal(wait_for(f, &reading), 1);
        settle(f);
        assert_int_equal(writing.calls, 0);
        while (recv(fds[1], much, 65536, MSG_DONTWAIT) > 0)
                ;
        assert_int_equal(wait_for(f, &writing), 1000);
        (void)close(fds[0]);
        (void)close(fds[1]);
        free(much);
}

/* A descriptor that blocks, of a driver that knows no other way. */
static void a_terminal_is_waited_for(void **state)
{
        struct fixture *f = *state;
        struct test_op reading[3];
        char lines[3][80];
        int master, slave, file = new_file(512);

        master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
                skip();
        /* Not by its name: where packages are built there may be no /dev/pts. */
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_true(slave >= 0);
        for (unsigned int i = 0; i < 3; i++)
                submit(f, &reading[i], DMIO_OP_READV, slave, lines[i], sizeof(lines[i]));
        settle(f);
        for (unsigned int i = 0; i < 3; i++) {
                unsigned int n_done = 0;

                assert_int_equal(write(master, "line\n", 5), 5);
                while (n_done <= i) {
                        assert_true(dmio_queue_process(f->queue, LIMIT_US, 0) >= 0);
                        n_done = reading[0].calls + reading[1].calls + reading[2].calls;
                }
                assert_int_equal(run(f, DMIO_OP_READV, file, lines[2] + 40, 1), 1);
                settle(f);
                assert_int_equal(reading[0].calls + reading[1].calls + reading[2].calls, i + 1);
        }
        for (unsigned int i = 0; i < 3; i++) {
                assert_int_equal(reading[i].result, 5);
                assert_memory_equal(lines[i], "line\n", 5);
        }

        submit(f, &reading[0], DMIO_OP_READV, slave, lines[0], sizeof(lines[0]));
        settle(f);
        dmio_queue_cancel(f->queue, &reading[0].op);
        assert_int_equal(wait_for(f, &reading[0]), -ECANCELED);
        (void)close(slave);
        (void)close(master);
        (void)close(file);
}

static void what_waits_can_be_given_up_at_any_stage(void **state)
{
        struct fixture *f = *state;
        struct test_op ops[200];
        int file = new_file(4096), fds[2];
        char bytes[200];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        for (unsigned int round = 0; round < 20; round++) {
                for (unsigned int i = 0; i < 200; i++)
                        submit(f, &ops[i], DMIO_OP_READV, i % 2 ? file : fds[0], &bytes[i], 1);
                if (round % 2)
                        settle(f);
                for (unsigned int i = 0; i < 200; i++)
                        if (ops[i].calls == 0)
                                dmio_queue_cancel(f->queue, &ops[i].op);
                for (unsigned int i = 0; i < 200; i++) {
                        int r = wait_for(f, &ops[i]);

                        assert_true(r == -ECANCELED || (i % 2 && r == 1));
                }
        }
        (void)close(file);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

/* --- threads */

/* A file of a thread of ours; false if the thread has gone meanwhile. */
static bool read_task(const char *task, const char *name, char *text, size_t size)
{
        char path[300];
        size_t n = 0;
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/%s", task, name);
        file = fopen(path, "re");
        if (file) {
                n = fread(text, 1, size - 1, file);
                (void)fclose(file);
        }
        text[n] = 0;
        return n > 0;
}

/* Threads of the back-end; *@ret_quiet tells if each of them blocks all signals that can be. */
static unsigned int count_workers(bool *ret_quiet)
{
        const unsigned long long standard = 0x7ffbfeff; /* 1 to 31, without SIGKILL and SIGSTOP */
        DIR *dir = opendir("/proc/self/task");
        const struct dirent *entry;
        unsigned int n = 0;

        assert_non_null(dir);
        *ret_quiet = true;
        while ((entry = readdir(dir)) != NULL) {
                char text[4096];
                const char *blocked;

                if (!read_task(entry->d_name, "comm", text, sizeof(text)) ||
                    strcmp(text, "dmio-worker\n") != 0)
                        continue;
                n++;
                if (!read_task(entry->d_name, "status", text, sizeof(text)))
                        continue;
                blocked = strstr(text, "SigBlk:");
                if (!blocked || (strtoull(blocked + 7, NULL, 16) & standard) != standard)
                        *ret_quiet = false;
        }
        (void)closedir(dir);
        return n;
}

/* A thread that was joined is seen for a moment longer. */
static void expect_no_workers(void)
{
        const struct timespec pause = { .tv_nsec = 1000000 };
        bool quiet;

        for (unsigned int i = 0; i < LIMIT_US / 1000 && count_workers(&quiet) > 0; i++)
                (void)nanosleep(&pause, NULL);
        assert_int_equal(count_workers(&quiet), 0);
}

static void threads_come_with_work_and_go_with_the_queue(void **state)
{
        const struct dmio_engine_options options = {
                .backend = "threads",
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct fixture f;
        struct test_op ops[100];
        char block[512] = "";
        int file = new_file(4096);
        unsigned int n;
        bool quiet;

        (void)state;
        expect_no_workers();
        for (unsigned int round = 0; round < 3; round++) {
                assert_int_equal(dmio_engine_create(&options, &f.engine), 0);
                assert_int_equal(dmio_queue_create(f.engine, &f.queue), 0);
                assert_int_equal(count_workers(&quiet), 0);
                for (unsigned int i = 0; i < 100; i++)
                        submit(&f, &ops[i], DMIO_OP_WRITEV, file, block, sizeof(block));
                for (unsigned int i = 0; i < 100; i++)
                        assert_int_equal(wait_for(&f, &ops[i]), sizeof(block));
                n = count_workers(&quiet);
                assert_true(n > 0 && n <= 8);
                assert_true(quiet);
                assert_int_equal(dmio_queue_destroy(f.queue), 0);
                expect_no_workers();
                assert_int_equal(dmio_engine_destroy(f.engine), 0);
        }
        (void)close(file);
}

/* --- memory */

static void nothing_reaches_the_device(void **state)
{
        const struct dmio_engine_options options = {
                .backend = "memory",
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct scratch disk;
        struct fixture f;
        struct test_op test;
        struct block_device *again;
        unsigned char *data = malloc(1 << 20), *back = malloc(1 << 20);
        size_t size = 1 << 20;

        (void)state;
        assert_true(data && back);
        assert_int_equal(dmio_engine_create(&options, &f.engine), 0);
        assert_int_equal(dmio_queue_create(f.engine, &f.queue), 0);
        scratch_init(&disk, SCRATCH_FILE, size / 512, 0);
        pattern_fill(data, size, 9);

        test = (struct test_op){
                .op = { .type = DMIO_OP_WRITEV, .fd = -1, .n_iov = 1, .fn = op_done },
                .iov = { data, size },
        };
        test.op.iov = &test.iov;
        test.op.bdev = disk.bdev;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(test.calls, 0);
        assert_int_equal(wait_for(&f, &test), size);
        assert_int_equal(pread(disk.image_fd, back, size, 0), size);
        for (size_t i = 0; i < size; i++)
                assert_int_equal(back[i], 0);

        /* The same device again is the same RAM disk. */
        assert_int_equal(dmio_device_open(disk.path, 0, &again), 0);
        assert_ptr_equal(again, disk.bdev);
        test.op.type = DMIO_OP_READV;
        test.op.bdev = again;
        test.op.offset = 512;
        test.iov.iov_base = back;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), size - 512);
        assert_memory_equal(back, data + 512, size - 512);
        dmio_device_close(again);

        /* Past the end. */
        test.op.offset = size;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), 0);
        test.op.type = DMIO_OP_WRITEV;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), -ENOSPC);
        test.op.offset = UINT64_MAX - 4096;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), -ENOSPC);

        /* Zeroes, in the small and in the large, from odd places. */
        static const struct {
                uint64_t offset, length;
                int mode;
        } holes[] = {
                { 1000, 24, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
                { 5000, 10000, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE },
                { 20480, 4096, 0 }, /* not a hole but a discard */
                { 100001, 500000, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
                { (1 << 20) - 70000, 70000, FALLOC_FL_ZERO_RANGE },
        };
        for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++) {
                test.op.type = holes[i].mode ? DMIO_OP_FALLOCATE : DMIO_OP_DISCARD;
                test.op.offset = holes[i].offset;
                test.op.length = holes[i].length;
                test.op.mode = holes[i].mode;
                test.calls = 0;
                dmio_queue_submit(f.queue, &test.op);
                assert_int_equal(wait_for(&f, &test), 0);
                memset(data + holes[i].offset, 0, holes[i].length);
        }
        test.op.length = 70001;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), -EINVAL);
        test.op.mode = FALLOC_FL_COLLAPSE_RANGE;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), -EOPNOTSUPP);
        test.op.type = DMIO_OP_FDATASYNC;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), 0);
        test.op.type = DMIO_OP_READV;
        test.op.offset = 0;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), size);
        assert_memory_equal(back, data, size);

        /* Memory that has vanished is an error and not the end. */
        test.op.shared = true;
        test.iov.iov_base = NULL;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), -EFAULT);

        /* Nobody has it open any more: the next one is blank. */
        dmio_device_close(disk.bdev);
        assert_int_equal(dmio_device_open(disk.path, 0, &disk.bdev), 0);
        test.op.bdev = disk.bdev;
        test.op.shared = false;
        test.iov.iov_base = back;
        test.calls = 0;
        dmio_queue_submit(f.queue, &test.op);
        assert_int_equal(wait_for(&f, &test), size);
        for (size_t i = 0; i < size; i++)
                assert_int_equal(back[i], 0);

        scratch_deinit(&disk);
        assert_int_equal(dmio_queue_destroy(f.queue), 0);
        assert_int_equal(dmio_engine_destroy(f.engine), 0);
        free(data);
        free(back);
}

/* A program whose requests are never without a result still hears from its descriptors. */
struct endless {
        struct test_op test; /* first */
        struct dmio_queue *queue;
        unsigned int n_left;
};

static void endless_done(struct dmio_op *op, int result)
{
        struct endless *endless = (struct endless *)op;

        endless->test.result = result;
        if (endless->n_left > 0) {
                endless->n_left--;
                dmio_queue_submit(endless->queue, op);
        }
}

static void ram_disks_do_not_keep_descriptors_waiting(void **state)
{
        const struct dmio_engine_options options = {
                .backend = "memory",
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct endless endless = { .n_left = 1000000 };
        struct test_op reading;
        struct scratch disk;
        struct fixture f;
        char block[512], byte;
        int fds[2];

        (void)state;
        assert_int_equal(dmio_engine_create(&options, &f.engine), 0);
        assert_int_equal(dmio_queue_create(f.engine, &f.queue), 0);
        scratch_init(&disk, SCRATCH_FILE, 8, 0);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        submit(&f, &reading, DMIO_OP_READV, fds[0], &byte, 1);
        endless.queue = f.queue;
        endless.test.iov = (struct iovec){ block, sizeof(block) };
        endless.test.op = (struct dmio_op){
                .type = DMIO_OP_READV,
                .bdev = disk.bdev,
                .iov = &endless.test.iov,
                .n_iov = 1,
                .fn = endless_done,
        };
        dmio_queue_submit(f.queue, &endless.test.op);
        assert_int_equal(write(fds[1], "b", 1), 1);
        while (reading.calls == 0)
                assert_true(dmio_queue_process(f.queue, -1, 0) > 0);
        assert_true(endless.n_left > 990000);
        endless.n_left = 0;
        while (dmio_queue_in_flight(f.queue) > 0)
                assert_true(dmio_queue_process(f.queue, -1, 0) > 0);
        assert_int_equal(endless.test.result, sizeof(block));
        (void)close(fds[0]);
        (void)close(fds[1]);
        scratch_deinit(&disk);
        assert_int_equal(dmio_queue_destroy(f.queue), 0);
        assert_int_equal(dmio_engine_destroy(f.engine), 0);
}

/* --- the choice */

#define CHECK(condition)                                                                           \
        do {                                                                                       \
                if (!(condition)) {                                                                \
                        (void)fprintf(stderr, "line %d: %s\n", __LINE__, #condition);              \
                        _exit(1);                                                                  \
                }                                                                                  \
        } while (0)

/* In a process of its own, where cmocka's assertions do not reach. */
static void use_what_is_left(int file, const char *path)
{
        struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD };
        struct dmio_engine *engine = NULL;
        struct block_device *bdev;
        struct io_region where = { .sector = 0, .count = 8 };
        char data[4096], back[4096];
        unsigned long bits = 1;

        CHECK(dmio_engine_create(&options, &engine) == 0);
        CHECK(strcmp(dmio_engine_backend(engine), "threads") == 0);
        CHECK(dmio_engine_destroy(engine) == 0);
        engine = NULL;
        options.backend = "uring";
        CHECK(dmio_engine_create(&options, &engine) == -EOPNOTSUPP);
        CHECK(!engine);
        options.backend = "memory";
        CHECK(dmio_engine_create(&options, &engine) == 0);
        CHECK(strcmp(dmio_engine_backend(engine), "memory") == 0);
        CHECK(dmio_engine_destroy(engine) == 0);

        CHECK(dmio_device_open(path, 0, &bdev) == 0);
        where.bdev = bdev;
        pattern_fill(data, sizeof(data), 3);
        CHECK(dm_io_get(8) == 0);
        CHECK(dm_io_sync_vm(1, &where, DM_IO_WRITE, data, &bits) == 0);
        CHECK(bits == 0);
        CHECK(pread(file, back, sizeof(back), 0) == sizeof(back));
        CHECK(memcmp(data, back, sizeof(data)) == 0);
        CHECK(dm_io_put(8) == 0);
        dmio_device_close(bdev);
}

static void without_uring_there_are_threads(void **state)
{
        int status, file = new_file(8192);
        char path[64];
        pid_t pid;

        (void)state;
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (deny_uring() < 0)
                        _exit(77);
                use_what_is_left(file, path);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        (void)close(file);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(threads_come_with_work_and_go_with_the_queue),
                cmocka_unit_test(without_uring_there_are_threads),
                cmocka_unit_test_setup_teardown(the_engine_says_which_it_is, setup, teardown),
                cmocka_unit_test_setup_teardown(files_are_read_and_written_by_descriptor, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(results_are_those_of_the_system_call, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(o_nonblock_changes_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(a_hang_up_ends_the_wait, setup, teardown),
                cmocka_unit_test_setup_teardown(who_waits_holds_up_nobody, setup, teardown),
                cmocka_unit_test_setup_teardown(several_wait_for_the_same_descriptor, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(both_directions_of_a_socket_wait, setup, teardown),
                cmocka_unit_test_setup_teardown(a_terminal_is_waited_for, setup, teardown),
                cmocka_unit_test_setup_teardown(what_waits_can_be_given_up_at_any_stage, setup,
                                                teardown),
                cmocka_unit_test(nothing_reaches_the_device),
                cmocka_unit_test(ram_disks_do_not_keep_descriptors_waiting),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
