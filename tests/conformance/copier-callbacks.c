/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 144 to 147: callbacks of the copier, and its end. */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#include "copier-kit.h"
#include "util/macros.h"

/* --- 144 to 147: callbacks and the end */

struct ending {
        pthread_t thread;
        struct dm_kcopyd_client *kc;
        _Atomic(unsigned int) n_called;
        unsigned int n_called_at_end;
        bool left_early; /* a callback was running that the client did not count any more */
        _Atomic(bool) ended;
        int result;
};

static void ending_notify(int read_err, unsigned long write_err, void *context)
{
        struct ending *ending = context;
        struct dm_kcopyd_client_stats stats;

        dm_kcopyd_client_stats(ending->kc, &stats);
        ending->left_early |= stats.jobs == 0;
        ending->n_called++;
}

static void *ending_thread(void *argument)
{
        struct ending *ending = argument;

        ending->result = dm_kcopyd_client_destroy(ending->kc);
        ending->n_called_at_end = ending->n_called;
        ending->ended = true;
        return NULL;
}

/* Begin to destroy it, and see that this has begun: it takes nothing more. */
static void ending_begin(struct kit *kit, struct ending *ending)
{
        struct io_region nothing = on_disk(&kit->disks[0], 0, 0);
        struct told told = TOLD_INIT;
        unsigned int n = 0;
        int r;

        assert_int_equal(pthread_create(&ending->thread, NULL, ending_thread, ending), 0);
        for (;; n++) {
                r = dm_kcopyd_zero(ending->kc, 1, &nothing, 0, told_notify, &told, NULL);
                if (r < 0)
                        break;
                moment();
        }
        assert_int_equal(r, -ESHUTDOWN);
        assert_null(dm_kcopyd_prepare_callback(ending->kc, told_notify, &told));
        if (n > 0)
                completion_wait(&told.completion, n);
        assert_false(ending->ended);
}

static void ending_wait(struct ending *ending)
{
        assert_int_equal(pthread_join(ending->thread, NULL), 0);
        assert_int_equal(ending->result, 0);
        assert_false(ending->left_early);
}

static void case_144_prepared_callbacks(struct kit *kit)
{
        struct told told = TOLD_INIT, copied = TOLD_INIT;
        struct ending ending = { .kc = copier_new(kit) };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region nothing = on_disk(disk, 0, 0);
        void *prepared;

        assert_int_equal(dm_kcopyd_zero(ending.kc, 1, &nothing, 0, told_notify, &copied, NULL), 0);
        copier_expect_told(kit, &copied, 0, 0);
        prepared = dm_kcopyd_prepare_callback(ending.kc, told_notify, &told);
        assert_non_null(prepared);
        dm_kcopyd_do_callback(prepared, 1, 5);
        copier_expect_told(kit, &told, 1, 5);
        assert_true(pthread_equal(told.thread, copied.thread));

        prepared = dm_kcopyd_prepare_callback(ending.kc, ending_notify, &ending);
        assert_non_null(prepared);
        ending_begin(kit, &ending);
        assert_int_equal(ending.n_called, 0);
        dm_kcopyd_do_callback(prepared, 0, 0);
        ending_wait(&ending);
        assert_int_equal(ending.n_called_at_end, 1);
}

struct watch {
        struct completion all;
        pthread_t thread;
        unsigned int n_threads;
        _Atomic(unsigned int) n_inside;
        unsigned int most_inside;
};

static void watch_notify(int read_err, unsigned long write_err, void *context)
{
        struct watch *watch = context;
        unsigned int inside = ++watch->n_inside;

        watch->most_inside = MAX(watch->most_inside, inside);
        if (watch->n_threads == 0 || !pthread_equal(watch->thread, pthread_self()))
                watch->n_threads++;
        watch->thread = pthread_self();
        (void)sched_yield();
        watch->n_inside--;
        completion_notify(write_err | (unsigned long)read_err, &watch->all);
}

static void case_145_one_worker(struct kit *kit)
{
        enum { N = 100 };
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct watch watch = { .all = COMPLETION_INIT };
        struct disk *source, *disk;
        struct io_region from, dest;

        copier_disks(kit, 16, &source, &from, &disk, &dest, 1);
        for (unsigned int i = 0; i < N; i++) {
                dest.sector = 64 + 32 * i;
                assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, watch_notify, &watch, NULL),
                                 0);
        }
        completion_wait(&watch.all, N);
        copier_end(kc);
        assert_int_equal(watch.all.calls, N);
        assert_int_equal(watch.all.bits, 0);
        assert_int_equal(watch.n_threads, 1);
        assert_int_equal(watch.most_inside, 1);
        for (unsigned int i = 0; i < N; i++) {
                dest.sector = 64 + 32 * i;
                expect_copied(kit, disk, &dest);
        }
}

static void case_146_destroy_waits(struct kit *kit)
{
        struct ending ending = { .kc = copier_new(kit) };
        struct disk *source, *disks[4];
        struct io_region from, dests[4];
        struct dmio_fault *hold;

        copier_disks(kit, 9 * CHUNK, &source, &from, disks, dests, 4);
        hold = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_READ, &from, 0, 0);
        for (unsigned int i = 0; i < 4; i++)
                assert_int_equal(dm_kcopyd_copy(ending.kc, &from, 1, &dests[i], 0, ending_notify,
                                                &ending, NULL),
                                 0);
        rule_wait_held(hold, 1);
        ending_begin(kit, &ending);
        assert_int_equal(ending.n_called, 0);
        dmio_fault_remove(hold);
        ending_wait(&ending);
        assert_int_equal(ending.n_called_at_end, 4);
        for (unsigned int i = 0; i < 4; i++)
                expect_copied(kit, disks[i], &dests[i]);
}

static void destroy_notify(int read_err, unsigned long write_err, void *context)
{
        struct ending *ending = context;

        ending->result = dm_kcopyd_client_destroy(ending->kc);
        if (dm_kcopyd_client_flush(ending->kc) != -EDEADLK)
                ending->result = 0;
        ending->ended = true;
}

static void case_147_destroy_in_a_callback(struct kit *kit)
{
        struct ending ending = { .kc = copier_new(kit) };
        struct disk *source, *disk;
        struct io_region from, dest;

        copier_disks(kit, 16, &source, &from, &disk, &dest, 1);
        assert_int_equal(
                dm_kcopyd_copy(ending.kc, &from, 1, &dest, 0, destroy_notify, &ending, NULL), 0);
        while (!ending.ended)
                moment();
        assert_int_equal(ending.result, -EDEADLK);
        /* Nothing has happened to it. */
        copier_expect(kit, ending.kc, &from, 1, &dest, 0, 0, 0);
        copier_end(ending.kc);
}

static const struct conformance_case cases[] = {
        CASE(144, 144_prepared_callbacks, ON_MODERN,
             "a prepared callback, done with (1, 5): called with that on the worker; destroy waits "
             "for it",
             NULL),
        CASE(145, 145_one_worker, ON_MODERN,
             "100 copies: callbacks on one thread, never two at once", NULL),
        CASE(146, 146_destroy_waits, ON_MODERN,
             "destroy with copies in flight: returns after the last callback", NULL),
        CASE(147, 147_destroy_in_a_callback, ON_MODERN,
             "destroy in a callback: -EDEADLK, nothing changes", NULL),
};

const struct conformance_section copier_callbacks_section = { "The copier", cases,
                                                              ARRAY_SIZE(cases) };
