/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a process that takes over does with each state of a request: the memory file as a killed one
 * left it, a socket in place of /dev/fuse, and an export on RAM disks.
 */

#include <errno.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "loop.h"
#include "model/client.h"
#include "model/export.h"
#include "mount/copy-range.h"
#include "mount/mount-internal.h"
#include "mount/resume.h"
#include "util/cleanup.h"
#include "util/macros.h"
#include "worker.h"

#define SECTORS 8192
#define WAIT_USEC UINT64_C(10000000)
#define NOTIFY_RESEND 7

static const struct peer root = { .uid = 0, .privileged = true };

struct fixture {
        struct config config;
        sd_event *event;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct loop *loop;
        struct worker *worker;
        struct model model;
        struct export *export;
        struct descriptor_store *store;
        struct mount mount;
        struct slots slots;
        int fd, peer; /* in place of /dev/fuse, and the kernel's end */
};

static struct block_device *make_disk(void)
{
        struct block_device *bdev = NULL;
        int fd = memfd_create("disk", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
        assert_int_equal(dmio_device_from_fd(fd, 0, &bdev), 0);
        close_fd(fd);
        return bdev;
}

static int setup(void **state)
{
        const struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD };
        struct fixture *f = calloc(1, sizeof(*f));
        struct model_refusal refusal;
        struct leg_spec legs[2];
        struct client *client;
        int fds[2];

        assert_non_null(f);
        f->config = (struct config){ .limit_clients = 3, .limit_exports = 2, .limit_pages = 1000 };
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(loop_new(f->event, f->queue, &f->loop), 0);
        assert_int_equal(worker_new(f->event, &f->worker), 0);
        assert_int_equal(model_init(&f->model, f->engine, f->queue, &f->config, f->worker), 0);
        f->model.n_lanes = 1;
        assert_int_equal(client_new(&f->model, "alice", &root, 16, true, 0, &client, &refusal), 0);
        for (unsigned int i = 0; i < 2; i++)
                legs[i] = (struct leg_spec){ .device = strdup("disk"),
                                             .bdev = make_disk(),
                                             .count = SECTORS };
        assert_int_equal(export_new(client, "vol", legs, 2, false, false, EXPORT_CACHE_NONE,
                                    &f->export, &refusal),
                         MODEL_OK);

        f->mount = (struct mount){ .model = &f->model, .n_threads = 1, .resends = true };
        assert_int_equal(memory_file_new(&f->mount.memory), 0);
        handle_table_init(&f->mount.handles, &f->mount.memory);
        orphans_init(&f->mount.orphans, &f->mount);
        for (unsigned int i = 0; i < MEMORY_QUEUES; i++)
                f->mount.clones[i] = -EBADF;
        assert_int_equal(slots_init(&f->slots, &f->mount.memory, 0), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
                         0);
        f->fd = fds[0];
        f->peer = fds[1];
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        struct client *client;
        uint64_t now, end;

        slots_deinit(&f->slots);
        orphans_deinit(&f->mount.orphans);
        handle_table_deinit(&f->mount.handles);
        memory_file_close(&f->mount.memory);
        list_for_each (client, &f->model.clients, link)
                (void)client_close(client, NULL, NULL);
        assert_true(sd_event_now(f->event, CLOCK_MONOTONIC, &now) >= 0);
        end = now + WAIT_USEC;
        while (f->model.n_clients > 0 && now < end) {
                assert_true(sd_event_run(f->event, end - now) >= 0);
                assert_true(sd_event_now(f->event, CLOCK_MONOTONIC, &now) >= 0);
        }
        assert_int_equal(f->model.n_clients, 0);
        loop_finish(f->queue);
        worker_free(f->worker);
        model_deinit(&f->model);
        loop_free(f->loop);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        sd_event_unref(f->event);
        close_fd(f->fd);
        close_fd(f->peer);
        free(f);
        return 0;
}

/* A request as the kernel has laid it down. */
static struct memory_slot *receive(struct fixture *f, uint32_t opcode, uint64_t unique,
                                   const void *body, size_t size)
{
        struct memory_slot *slot = slots_take(&f->slots);

        slot->in = (struct fuse_in_header){
                .len = (uint32_t)(sizeof(slot->in) + size),
                .opcode = opcode,
                .unique = unique,
                .nodeid = f->export->node.id,
        };
        memcpy(&slot->in + 1, body, MIN(size, SLOT_REQUEST - sizeof(slot->in)));
        if (opcode != FUSE_WRITE)
                slot->whole = 1;
        return slot;
}

static struct memory_slot *receive_write(struct fixture *f, uint64_t unique, uint64_t offset,
                                         uint32_t size)
{
        const struct fuse_write_in in = { .offset = offset, .size = size };
        struct memory_slot *slot = receive(f, FUSE_WRITE, unique, &in, sizeof(in));

        slot->in.len += size;
        return slot;
}

struct answer {
        struct fuse_out_header header;
        struct fuse_write_out written;
};

static void expect_answer(struct fixture *f, uint64_t unique, int error, uint32_t written)
{
        struct answer answer = {};
        ssize_t n = recv(f->peer, &answer, sizeof(answer), MSG_DONTWAIT);

        assert_true(n >= (ssize_t)sizeof(answer.header));
        assert_int_equal(answer.header.len, n);
        assert_int_equal(answer.header.unique, unique);
        assert_int_equal(answer.header.error, error);
        if (written > 0)
                assert_int_equal(answer.written.size, written);
        else
                assert_int_equal(n, sizeof(answer.header));
}

static void expect_silence(struct fixture *f)
{
        char c;

        assert_true(recv(f->peer, &c, 1, MSG_DONTWAIT) < 0);
        assert_int_equal(errno, EAGAIN);
}

static void take_up(struct fixture *f)
{
        assert_int_equal(resume_prepare(&f->mount, f->fd), 0);
}

static void no_task(struct dmio_task *task)
{
}

/* Does somebody hold a part of it? */
static bool is_closed(struct fixture *f, uint64_t offset, uint64_t length)
{
        struct range range = {
                .offset = offset, .length = length, .queue = f->queue, .task.fn = no_task
        };
        bool held = range_lock_acquire(&f->export->ranges, &range);

        if (held) {
                range_lock_release(&f->export->ranges, &range);
        } else {
                /* It waits: out of the way, as if it had never been. */
                pthread_mutex_lock(&f->export->ranges.lock);
                list_unlink(&range.link);
                pthread_mutex_unlock(&f->export->ranges.lock);
        }
        return !held;
}

static void what_is_done_is_told_and_never_done_again(void **state)
{
        struct fixture *f = *state;
        struct memory_slot *written = receive_write(f, 2 | MEMORY_UNIQUE_RESENT, 4096, 8192);
        struct memory_slot *failed = receive_write(f, 4, 0, 512);
        const struct fuse_fsync_in fsync_in = {};
        struct memory_slot *flushed = receive(f, FUSE_FSYNC, 6, &fsync_in, sizeof(fsync_in));

        memory_slot_done(written, 8192);
        memory_slot_done(failed, -ENOSPC);
        memory_slot_done(flushed, -EIO);
        take_up(f);
        expect_answer(f, 2 | MEMORY_UNIQUE_RESENT, 0, 8192);
        expect_answer(f, 4, -ENOSPC, 0);
        expect_answer(f, 6, -EIO, 0);
        expect_answer(f, 0, NOTIFY_RESEND, 0);
        expect_silence(f);
        assert_int_equal(written->in.unique, 0);
        assert_false(is_closed(f, 0, SECTORS * 512));
}

static void what_had_begun_keeps_its_blocks(void **state)
{
        struct fixture *f = *state;
        const struct fuse_fallocate_in zero = { .offset = 1 << 20, .length = 1 << 19, .mode = 3 };
        struct memory_slot *begun = receive_write(f, 2, 4096 + 100, 1000);
        struct memory_slot *answered = receive_write(f, 4, 65536, 4096);
        struct memory_slot *zeroes = receive(f, FUSE_FALLOCATE, 6, &zero, sizeof(zero));
        struct memory_slot *idle = receive_write(f, 8, 0, 4096);
        struct memory_slot *again = receive_write(f, 2 | MEMORY_UNIQUE_RESENT, 4096 + 100, 1000);

        memory_slot_set(begun, SLOT_BEGUN);
        memory_slot_set(again, SLOT_BEGUN);
        memory_slot_set(answered, SLOT_ANSWERED);
        memory_slot_set(zeroes, SLOT_BEGUN);
        take_up(f);
        expect_answer(f, 0, NOTIFY_RESEND, 0);
        expect_silence(f);

        assert_true(is_closed(f, 4096, 512));
        assert_true(is_closed(f, 5120 + 511, 1));
        assert_false(is_closed(f, 5632, 512));
        assert_false(is_closed(f, 0, 4096));
        assert_true(is_closed(f, 65536, 1));
        assert_true(is_closed(f, (1 << 20) + (1 << 19) - 1, 1));
        assert_true(orphans_have_slot(&f->mount.orphans, begun));
        assert_true(orphans_have_slot(&f->mount.orphans, answered));
        assert_false(orphans_have_slot(&f->mount.orphans, idle));
        assert_int_equal(idle->in.unique, 0);
        /* The next process would still find it. */
        assert_int_equal(memory_slot_state(begun), SLOT_BEGUN);
        assert_int_equal(begun->in.unique, 2);
}

static void what_cannot_be_is_refused(void **state)
{
        struct fixture *f = *state;
        struct memory_slot *slots[2] = {
                receive_write(f, 2, 4096, 4096),
                receive_write(f, 4, 6000, 4096),
        };

        /* Two that hold the same byte. */
        memory_slot_set(slots[0], SLOT_BEGUN);
        memory_slot_set(slots[1], SLOT_BEGUN);
        assert_int_equal(resume_prepare(&f->mount, f->fd), -EBADMSG);
        expect_silence(f);
}

static struct memory_slot *receive_copy(struct fixture *f, uint64_t unique)
{
        const struct fuse_copy_file_range_in in = {
                .nodeid_out = f->export->node.id,
                .off_out = 1 << 20,
                .len = 8 * COPY_CHUNK_BYTES,
        };

        return receive(f, FUSE_COPY_FILE_RANGE, unique, &in, sizeof(in));
}

static void a_copy_is_told_as_far_as_it_has_come(void **state)
{
        struct fixture *f = *state;
        struct memory_slot *copy = receive_copy(f, 2);
        uint64_t base = 1 << 20;

        /* One chunk noted, one done but not noted; one done behind a gap; one under way. */
        copy->result = COPY_CHUNK_BYTES;
        copy->chunks[0] = 2 | SLOT_CHUNK_DONE;
        copy->chunks[1] = 3;
        copy->chunks[2] = 4 | SLOT_CHUNK_DONE;
        memory_slot_set(copy, SLOT_BEGUN);
        take_up(f);
        expect_answer(f, 2, 0, 2 * COPY_CHUNK_BYTES);
        expect_answer(f, 0, NOTIFY_RESEND, 0);
        assert_true(is_closed(f, base + 2 * COPY_CHUNK_BYTES, 1));
        assert_false(is_closed(f, base, 2 * COPY_CHUNK_BYTES));
        assert_false(is_closed(f, base + 3 * COPY_CHUNK_BYTES, 1));
        assert_false(orphan_is_copy(&f->mount.orphans, 2));
}

static void a_copy_without_a_finished_chunk_begins_with_it(void **state)
{
        struct fixture *f = *state;
        struct memory_slot *copy = receive_copy(f, 2);

        copy->chunks[0] = 1;
        copy->chunks[1] = 2 | SLOT_CHUNK_DONE;
        memory_slot_set(copy, SLOT_BEGUN);
        take_up(f);
        expect_answer(f, 0, NOTIFY_RESEND, 0);
        expect_silence(f);
        assert_true(orphan_is_copy(&f->mount.orphans, 2 | MEMORY_UNIQUE_RESENT));
        assert_true(is_closed(f, 1 << 20, 1));
}

static void an_open_is_told_its_number(void **state)
{
        struct fixture *f = *state;
        const struct fuse_open_in in = {};
        struct memory_slot *given = receive(f, FUSE_OPEN, 2, &in, sizeof(in));
        struct memory_slot *noted = receive(f, FUSE_OPEN, 4, &in, sizeof(in));
        const struct open_origin origin = { f->export->node.id, 2, 0, given };
        struct {
                struct fuse_out_header header;
                struct fuse_open_out out;
        } answer;
        uint64_t fh;

        assert_int_equal(export_open(f->export), 0);
        assert_int_equal(handle_table_add(&f->mount.handles, export_ref(f->export), true, NULL, 0,
                                          &origin, &fh),
                         0);
        assert_int_equal(given->result, (int64_t)fh + 1);
        /* The other one has not got so far: its number is nobody's. */
        noted->result = (int64_t)fh + 2;
        take_up(f);
        assert_int_equal(recv(f->peer, &answer, sizeof(answer), 0), sizeof(answer));
        assert_int_equal(answer.header.unique, 2);
        assert_int_equal(answer.out.fh, fh);
        expect_answer(f, 0, NOTIFY_RESEND, 0);
        expect_silence(f);

        /* A RELEASE may come twice, and a number never means another file. */
        handle_table_remove(&f->mount.handles, fh);
        assert_null(handle_table_get(&f->mount.handles, fh));
        assert_int_equal(export_open(f->export), 0);
        assert_int_equal(handle_table_add(&f->mount.handles, export_ref(f->export), true, NULL, 0,
                                          &origin, &fh),
                         0);
        handle_table_remove(&f->mount.handles, fh - (UINT64_C(1) << 32));
        assert_non_null(handle_table_get(&f->mount.handles, fh));
        assert_int_equal(export_n_open(f->export), 1);
}

/* Writes have lost their payload; what is whole is left for its thread. */
static void an_old_kernel_hears_of_errors(void **state)
{
        struct fixture *f = *state;
        const struct fuse_read_in in = { .size = 4096 };
        struct memory_slot *idle = receive_write(f, 2, 0, 4096);
        struct memory_slot *begun = receive_write(f, 4, 8192, 4096);
        struct memory_slot *reading = receive(f, FUSE_READ, 6, &in, sizeof(in));

        memory_slot_set(begun, SLOT_BEGUN);
        f->mount.resends = false;
        take_up(f);
        expect_answer(f, 2, -EIO, 0);
        expect_answer(f, 4, -EIO, 0);
        expect_silence(f);
        assert_int_equal(idle->in.unique, 0);
        assert_int_equal(memory_slot_state(begun), SLOT_ANSWERED);
        assert_true(is_closed(f, 8192, 4096));
        assert_int_equal(reading->in.unique, 6);
        assert_int_equal(
                export_counters_of(&f->export->counters, 0, ROW_EXPORT, OPERATION_WRITE)->errors,
                2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_done_is_told_and_never_done_again, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_had_begun_keeps_its_blocks, setup, teardown),
                cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(a_copy_is_told_as_far_as_it_has_come, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_copy_without_a_finished_chunk_begins_with_it,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(an_open_is_told_its_number, setup, teardown),
                cmocka_unit_test_setup_teardown(an_old_kernel_hears_of_errors, setup, teardown),
        };

        return cmocka_run_group_tests_name("resume", tests, NULL, NULL);
}
