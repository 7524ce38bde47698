/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 70 to 84: callbacks, threads, and the end of things. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kit.h"
#include "starve.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE
#define LIMIT_SECONDS 20

static uint64_t now_seconds(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec;
}

/* --- 70 */

struct seen {
        struct completion *all;
        unsigned int calls; /* of this one; only the engine's thread writes it */
        unsigned long bits;
};

static void seen_notify(unsigned long error, void *context)
{
        struct seen *seen = context;

        seen->calls++;
        seen->bits |= error;
        completion_notify(0, seen->all);
}

static void case_070_ten_thousand(struct kit *kit)
{
        enum { N = 10000 };
        struct completion all = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct seen *seen = calloc(N, sizeof(*seen));
        unsigned int random = 12345;
        struct disk *disks[8];

        assert_non_null(seen);
        for (unsigned int i = 0; i < 8; i++)
                disks[i] = kit_disk(kit, DISK_CACHED);
        for (unsigned int i = 0; i < N; i++) {
                struct io_region where[8];
                struct dm_io_request request = {
                        .op = DM_IO_WRITE,
                        .mem = in_vm(data),
                        .notify = { .fn = seen_notify, .context = &seen[i] },
                };
                unsigned int n;

                seen[i].all = &all;
                random = random * 1664525 + 1013904223;
                n = 1 + (random >> 16) % 8;
                for (unsigned int k = 0; k < n; k++)
                        where[k] = on_disk(disks[k], (random >> 8) % 2000 * 8, 1 + k);
                assert_int_equal(kit_io(kit, &request, n, where, NULL), 0);
        }
        completion_wait(&all, N);
        kit_settle(kit);
        assert_int_equal(kit_calls(&all), N);
        for (unsigned int i = 0; i < N; i++) {
                assert_int_equal(seen[i].calls, 1);
                assert_int_equal(seen[i].bits, 0);
        }
        free(seen);
}

/* --- 71 */

struct chain {
        struct kit *kit;
        struct completion end;
        struct dm_io_request request;
        struct io_region where;
        unsigned int left;
        int trouble;
};

static void chain_next(unsigned long error, void *context)
{
        struct chain *chain = context;

        if (error)
                chain->trouble = EIO;
        if (chain->left > 0 && !chain->trouble) {
                chain->left--;
                chain->where.sector = chain->left * 8;
                chain->trouble = -kit_io(chain->kit, &chain->request, 1, &chain->where, NULL);
                if (!chain->trouble)
                        return;
        }
        completion_notify(0, &chain->end);
}

static void case_071_a_chain_without_memory(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct chain chain = {
                .kit = kit,
                .end = COMPLETION_INIT,
                .request = { .op = DM_IO_WRITE,
                             .mem = in_vm(kit_pages(kit, 1, 1)),
                             .notify = { .fn = chain_next, .context = &chain } },
                .where = on_disk(disk, 8, 8),
                .left = 1000,
        };
        struct io_region where = on_disk(disk, 8, 8);

        if (!starve_works())
                kit_skip(kit, "allocations cannot be made to fail under this sanitizer");
        if (!kit->classic)
                assert_int_equal(dm_io_client_get(kit->client, 1), 0);
        kit_ok(kit, DM_IO_WRITE, chain.request.mem, 1, &where);
        starve_after(0);
        assert_int_equal(kit_io(kit, &chain.request, 1, &chain.where, NULL), 0);
        completion_wait(&chain.end, 1);
        (void)starve_end();
        assert_int_equal(chain.trouble, 0);
        assert_int_equal(chain.left, 0);
        disk_expect(kit, disk, 800, chain.request.mem.ptr.vma, PAGE);
}

/* --- 72, 73 */

struct nested {
        struct kit *kit;
        struct completion end;
        struct io_region where;
        void *data;
        unsigned long bits;
        int result;
};

static void sync_inside(unsigned long error, void *context)
{
        struct nested *nested = context;

        nested->result = kit_sync(nested->kit, DM_IO_WRITE, in_vm(nested->data), 1, &nested->where,
                                  &nested->bits);
        completion_notify(error, &nested->end);
}

static void case_072_sync_in_a_callback(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct nested nested = {
                .kit = kit,
                .end = COMPLETION_INIT,
                .where = on_disk(disk, 8, 8),
                .data = kit_pages(kit, 1, 1),
                .bits = KIT_UNTOUCHED,
        };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_vm(nested.data),
                .notify = { .fn = sync_inside, .context = &nested },
        };
        struct io_region where = on_disk(disk, 16, 8);

        assert_int_equal(kit_io(kit, &request, 1, &where, NULL), 0);
        kit_called(&nested.end, 0);
        assert_int_equal(nested.result, -EDEADLK);
        assert_int_equal(nested.bits, KIT_UNTOUCHED);
        disk_expect_zeroes(kit, disk, 8, PAGE);
        disk_expect(kit, disk, 16, nested.data, PAGE);
}

struct own_all {
        struct completion *end;
        void *data;
};

static void free_all(unsigned long error, void *context)
{
        struct own_all *own = context;
        struct completion *end = own->end;

        memset(own->data, 0xff, PAGE);
        free(own->data);
        free(own);
        completion_notify(error, end);
}

static void case_073_a_callback_frees_everything(struct kit *kit)
{
        struct completion end = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where[2];
        struct disk *disks[2];

        kit_disks(kit, disks, 2);
        for (unsigned int i = 0; i < 20; i++) {
                struct own_all *own = malloc(sizeof(*own));
                struct dm_io_request request = {
                        .op = DM_IO_WRITE,
                        .notify = { .fn = free_all, .context = own },
                };

                assert_non_null(own);
                *own = (struct own_all){ &end, aligned_alloc(PAGE, PAGE) };
                assert_non_null(own->data);
                memcpy(own->data, data, PAGE);
                request.mem = in_vm(own->data);
                for (unsigned int k = 0; k < 2; k++)
                        where[k] = on_disk(disks[k], 8 * i, 8);
                assert_int_equal(kit_io(kit, &request, 2, where, NULL), 0);
        }
        completion_wait(&end, 20);
        for (unsigned int i = 0; i < 20; i++)
                disk_expect(kit, disks[i % 2], 8 * i, data, PAGE);
}

/* --- 74, 75 */

static void case_074_the_faster_ends_first(struct kit *kit)
{
        struct completion slow = COMPLETION_INIT, fast = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *held = kit_disk(kit, DISK_FAULTY), *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(held, 8, 8), other = on_disk(disk, 8, 8);

        disk_holds(kit, held, FAULT_WRITE);
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, &slow), 0);
        disk_wait_held(held);
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &other, &fast), 0);
        kit_called(&fast, 0);
        assert_int_equal(kit_calls(&slow), 0);
        disk_release(held);
        kit_called(&slow, 0);
}

struct read_back {
        struct kit *kit;
        struct completion end;
        struct io_region where[2];
        struct page *found[2];
        int result[2];
};

static void read_both(unsigned long error, void *context)
{
        struct read_back *back = context;

        for (unsigned int i = 0; i < 2; i++)
                back->result[i] = kit_async(back->kit, DM_IO_READ, in_vm(back->found[i]), 1,
                                            &back->where[i], &back->end);
        completion_notify(error, &back->end);
}

static void case_075_all_legs_are_there_in_the_callback(struct kit *kit)
{
        struct page *data = kit_pages(kit, 300, 1);
        struct read_back back = { .kit = kit, .end = COMPLETION_INIT };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_vm(data),
                .notify = { .fn = read_both, .context = &back },
        };
        struct disk *disks[2];

        kit_disks(kit, disks, 2);
        for (unsigned int i = 0; i < 2; i++) {
                back.where[i] = on_disk(disks[i], 8, 2400);
                back.found[i] = kit_pages(kit, 300, 9);
        }
        assert_int_equal(kit_io(kit, &request, 2, back.where, NULL), 0);
        completion_wait(&back.end, 3);
        for (unsigned int i = 0; i < 2; i++) {
                assert_int_equal(back.result[i], 0);
                assert_memory_equal(back.found[i], data, 300 * PAGE);
        }
}

/* --- 76 */

static _Atomic(unsigned int) n_signals;

static void count_signal(int number)
{
        atomic_fetch_add(&n_signals, 1);
}

struct interrupter {
        pthread_t target;
        struct disk *disk;
        bool trouble;
};

static void *interrupt(void *argument)
{
        struct interrupter *own = argument;
        uint64_t end = now_seconds() + LIMIT_SECONDS;

        own->trouble = !disk_has_held(own->disk);
        for (unsigned int i = 1; i <= 10 && !own->trouble; i++) {
                (void)pthread_kill(own->target, SIGUSR1);
                while (atomic_load(&n_signals) < i && !own->trouble) {
                        own->trouble = now_seconds() > end;
                        (void)sched_yield();
                }
        }
        disk_release(own->disk);
        return NULL;
}

static void case_076_signals_during_a_sync_call(struct kit *kit)
{
        struct sigaction action = { .sa_handler = count_signal }, old;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct interrupter own = { .target = pthread_self(), .disk = disk };
        struct io_region where = on_disk(disk, 8, 8);
        pthread_t thread;

        atomic_store(&n_signals, 0);
        assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
        disk_holds(kit, disk, FAULT_WRITE);
        assert_int_equal(pthread_create(&thread, NULL, interrupt, &own), 0);
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
        assert_false(own.trouble);
        assert_int_equal(atomic_load(&n_signals), 10);
        disk_expect(kit, disk, 8, data, PAGE);
}

/* --- 77 */

#define THREADS 16

struct worker {
        pthread_t thread;
        struct kit *kit;
        struct disk *disk;
        unsigned int number;
        struct page *data;
        struct page *found;
        const char *trouble;
};

/* Odd workers are wrong about the second leg, every other time. */
static void *work(void *argument)
{
        struct worker *worker = argument;
        sector_t own = worker->number * 64;

        for (unsigned int i = 0; i < 60 && !worker->trouble; i++) {
                bool wrong = worker->number % 2 == 1 && i % 2 == 1;
                struct io_region where[] = {
                        on_disk(worker->disk, own, 8),
                        on_disk(worker->disk, wrong ? KIT_SECTORS : own + 16, 8),
                };
                unsigned long bits = KIT_UNTOUCHED;
                int r;

                pattern_fill(worker->data, PAGE, worker->number * 1000 + i);
                r = kit_sync(worker->kit, DM_IO_WRITE, in_vm(worker->data), 2, where, &bits);
                if (r != (wrong ? -EIO : 0) || bits != (wrong ? BIT(1) : 0))
                        worker->trouble = "bits of somebody else";
                r = kit_sync(worker->kit, DM_IO_READ, in_vm(worker->found), 1, where, &bits);
                if (r != 0 || bits != 0 || memcmp(worker->found, worker->data, PAGE) != 0)
                        worker->trouble = "bytes of somebody else";
        }
        return NULL;
}

static void case_077_sixteen_threads(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_CACHED);
        struct worker workers[THREADS];

        for (unsigned int i = 0; i < THREADS; i++)
                workers[i] = (struct worker){
                        .kit = kit,
                        .disk = disk,
                        .number = i,
                        .data = kit_pages(kit, 1, 0),
                        .found = kit_pages(kit, 1, 0),
                };
        for (unsigned int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        for (unsigned int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        for (unsigned int i = 0; i < THREADS; i++)
                assert_null(workers[i].trouble);
}

/* --- 78 to 80 */

struct closer {
        struct dm_io_client *client;
        struct disk *disk;
        struct page *data;
        struct io_region where;
        struct completion accepted;
        struct completion refused;
        unsigned int n_accepted;
        int result;
        uint64_t in_flight;
};

/*
 * Submits to the client until it is being destroyed, which then waits for what is held; lets that
 * go.
 */
static void *submit_until_closed(void *argument)
{
        struct closer *closer = argument;
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .notify = { .fn = completion_notify, .context = &closer->accepted },
                .client = closer->client,
        };
        uint64_t end = now_seconds() + LIMIT_SECONDS;
        struct dm_io_client_stats stats;

        do {
                closer->result = dm_io(&request, 0, NULL, NULL);
                closer->n_accepted += closer->result == 0;
                (void)sched_yield();
        } while (closer->result == 0 && now_seconds() < end);
        request.notify.context = &closer->refused;
        request.mem = in_vm(closer->data);
        if (closer->result < 0)
                closer->result = dm_io(&request, 1, &closer->where, NULL);
        dm_io_client_stats(closer->client, &stats);
        closer->in_flight = stats.in_flight;
        disk_release(closer->disk);
        return NULL;
}

static void destroy_while_held(struct kit *kit)
{
        struct completion held = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct closer closer = {
                .disk = disk,
                .data = data,
                .where = on_disk(disk, 16, 8),
                .accepted = COMPLETION_INIT,
                .refused = COMPLETION_INIT,
        };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_vm(data),
                .notify = { .fn = completion_notify, .context = &held },
        };
        struct io_region where = on_disk(disk, 8, 8);
        pthread_t thread;

        assert_int_equal(dm_io_client_create(kit->engine, 0, &closer.client), 0);
        request.client = closer.client;
        disk_holds(kit, disk, FAULT_WRITE);
        assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        disk_wait_held(disk);
        assert_int_equal(pthread_create(&thread, NULL, submit_until_closed, &closer), 0);
        assert_int_equal(dm_io_client_destroy(closer.client), 0);
        /* It has returned, so everything has been called back. */
        assert_int_equal(kit_calls(&held), 1);
        assert_int_equal(held.bits, 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(closer.result, -ESHUTDOWN);
        assert_true(closer.in_flight >= 1);
        assert_int_equal(kit_calls(&closer.accepted), closer.n_accepted);
        kit_settle(kit);
        assert_int_equal(kit_calls(&closer.refused), 0);
        disk_expect(kit, disk, 8, data, PAGE);
        disk_expect_zeroes(kit, disk, 16, PAGE);
}

static void case_078_destroy_waits(struct kit *kit)
{
        destroy_while_held(kit);
}

struct ending {
        struct kit *kit;
        struct completion end;
        struct dm_io_client *client;
        int result;
};

static void destroy_inside(unsigned long error, void *context)
{
        struct ending *ending = context;

        ending->result = ending->kit->classic ? dm_io_put(4) : dm_io_client_destroy(ending->client);
        completion_notify(error, &ending->end);
}

static void case_079_destroy_in_the_last_callback(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct ending ending = { .kit = kit, .end = COMPLETION_INIT };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_vm(data),
                .notify = { .fn = destroy_inside, .context = &ending },
        };
        struct io_region where = on_disk(disk, 8, 8);

        if (!kit->classic)
                assert_int_equal(dm_io_client_create(kit->engine, 0, &ending.client), 0);
        request.client = ending.client;
        assert_int_equal(kit_io(kit, &request, 1, &where, NULL), 0);
        kit_called(&ending.end, 0);
        assert_int_equal(ending.result, -EBUSY);
        /* Nothing has happened to it. */
        ending.end.calls = 0;
        assert_int_equal(kit_io(kit, &request, 1, &where, NULL), 0);
        kit_called(&ending.end, 0);
        if (!kit->classic)
                assert_int_equal(dm_io_client_destroy(ending.client), 0);
}

static void case_080_submit_to_a_closing_client(struct kit *kit)
{
        destroy_while_held(kit);
}

/* --- 81, 82 */

static void case_081_fork_meanwhile(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct io_region where = on_disk(disk, 8, 8);
        int status = -1;
        pid_t child;

        disk_holds(kit, disk, FAULT_WRITE);
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, &completion), 0);
        disk_wait_held(disk);
        child = fork();
        if (child == 0)
                _exit(0);
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(kit_calls(&completion), 0);
        disk_release(disk);
        kit_called(&completion, 0);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        disk_expect(kit, disk, 8, data, PAGE);
}

/* Nobody looks at the completions until thousands of requests have been submitted. */
static void case_082_many_completions_at_once(struct kit *kit)
{
        enum { N = 5000 };
        struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD, .depth = 2 };
        struct dmio_engine *engine = kit_engine_new(kit, &options);
        struct completion all = COMPLETION_INIT;
        struct seen *seen = calloc(N, sizeof(*seen));
        struct disk *disk = kit_disk(kit, DISK_CACHED);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_vm(kit_pages(kit, 1, 1)),
                .notify.fn = seen_notify,
        };
        uint64_t end = now_seconds() + LIMIT_SECONDS;
        struct dmio_queue *queue;

        assert_non_null(seen);
        assert_int_equal(dmio_queue_create(engine, &queue), 0);
        assert_int_equal(dm_io_client_create(engine, 0, &request.client), 0);
        for (unsigned int i = 0; i < N; i++) {
                struct io_region where = on_disk(disk, i % 2000 * 8, 8);

                seen[i].all = &all;
                request.notify.context = &seen[i];
                assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        }
        assert_int_equal(kit_calls(&all), 0);
        while (all.calls < N) {
                assert_true(dmio_queue_process(queue, 1000000, 0) >= 0);
                assert_true(now_seconds() < end);
        }
        for (unsigned int i = 0; i < N; i++)
                assert_int_equal(seen[i].calls, 1);
        assert_int_equal(dmio_queue_in_flight(queue), 0);
        assert_int_equal(dm_io_client_destroy(request.client), 0);
        assert_int_equal(dmio_queue_destroy(queue), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
        free(seen);
}

/* --- 84 */

static void pages_came(struct dmio_page_wait *wait, struct page_list *pages)
{
        dmio_pages_put(wait->client, pages);
}

static void case_084_who_waits_does_not_hold_up_others(struct kit *kit)
{
        struct dmio_engine_options options = { .floor_pages = 1 };
        struct dmio_engine *engine = kit_engine_new(kit, &options);
        struct page *data = kit_pages(kit, 70, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct dm_io_client *poor, *other;
        struct dm_io_client_stats stats;
        struct page_list *pages[3] = {};
        struct dmio_page_wait wait = { .n_pages = 256, .fn = pages_came };
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(data->bytes + 1) };
        struct io_region where = on_disk(disk, 8, 512);
        unsigned long bits = KIT_UNTOUCHED;

        assert_int_equal(dm_io_client_create(engine, 256, &poor), 0);
        assert_int_equal(dm_io_client_create(engine, 64, &other), 0);
        pages[0] = dmio_pages_get(poor, 256);
        assert_non_null(pages[0]);
        /* What is left to nobody is had, too. */
        for (unsigned int n = 128; n > 0; n /= 2) {
                struct page_list *more;

                while ((more = dmio_pages_get(poor, n)) != NULL) {
                        struct page_list **last = &pages[1];

                        while (*last)
                                last = &(*last)->next;
                        *last = more;
                }
        }
        wait.client = poor;
        wait.queue = dmio_engine_queue(engine);
        assert_int_equal(dmio_pages_wait(&wait), 0);
        dm_io_client_stats(poor, &stats);
        assert_int_equal(stats.waits, 1);

        /* The other one needs 64 pages to bring its memory into shape, and has them. */
        request.client = other;
        for (unsigned int i = 0; i < 10; i++) {
                assert_int_equal(dm_io(&request, 1, &where, &bits), 0);
                assert_int_equal(bits, 0);
        }
        pages[2] = dmio_pages_get(other, 64);
        assert_non_null(pages[2]);
        dm_io_client_stats(other, &stats);
        assert_int_equal(stats.waits, 0);

        for (unsigned int i = 0; i < 3; i++)
                dmio_pages_put(i < 2 ? poor : other, pages[i]);
        /* The wait is served on the engine's thread; until then the client is busy. */
        while (dm_io_client_destroy(poor) == -EBUSY)
                (void)sched_yield();
        assert_int_equal(dm_io_client_destroy(other), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
        disk_expect(kit, disk, 8, data->bytes + 1, 512 * DMIO_SECTOR_SIZE);
}

static const struct conformance_case cases[] = {
        CASE(70, 070_ten_thousand, ON_BOTH,
             "10000 async writes of 1 to 8 legs: each called back once", NULL),
        CASE(71, 071_a_chain_without_memory, ON_BOTH,
             "each callback submits the next of 1000, allocations fail: all complete",
             "after a first request: contexts come from memory, not from the reservation"),
        CASE(72, 072_sync_in_a_callback, ON_BOTH, "a sync call in a callback: -EDEADLK", "D3"),
        CASE(73, 073_a_callback_frees_everything, ON_BOTH,
             "a callback frees its context and the memory", "says most under a sanitizer"),
        CASE(74, 074_the_faster_ends_first, ON_BOTH,
             "a request that is done is told, whatever an earlier one waits for", NULL),
        CASE(75, 075_all_legs_are_there_in_the_callback, ON_BOTH,
             "in the callback of a 2-leg write both legs read back", NULL),
        CASE(76, 076_signals_during_a_sync_call, ON_BOTH,
             "signals during a sync call: it ends with its real result", NULL),
        CASE(77, 077_sixteen_threads, ON_BOTH,
             "16 threads of sync calls on one client: no bits or bytes of others", NULL),
        CASE(78, 078_destroy_waits, ON_MODERN,
             "a client destroyed with requests in flight: waits for all callbacks", "D4"),
        CASE(79, 079_destroy_in_the_last_callback, ON_BOTH,
             "destroy, or put to 0, in the last callback: -EBUSY, nothing changes", "D4"),
        CASE(80, 080_submit_to_a_closing_client, ON_MODERN,
             "a request to a client that is being destroyed: -ESHUTDOWN, no callback", NULL),
        CASE(81, 081_fork_meanwhile, ON_BOTH,
             "a fork during a request, the child ends: the parent's callback comes once", NULL),
        CASE(82, 082_many_completions_at_once, ON_MODERN,
             "5000 requests before anybody looks, at a depth of 2: each called back once",
             "a queue never has more in flight than its ring can tell, so the ring's own overflow "
             "cannot be brought about"),
        NOT_APPLICABLE(83, 083_the_daemon_is_killed,
                       "the daemon is killed during a write and starts again",
                       "the daemon's, not the library's: it belongs to the end-to-end tests"),
        CASE(84, 084_who_waits_does_not_hold_up_others, ON_MODERN,
             "a client waits for pages: another within its reservation does not", NULL),
};

const struct conformance_section completion_section = { "Completion, threads, lifetime", cases,
                                                        ARRAY_SIZE(cases) };
