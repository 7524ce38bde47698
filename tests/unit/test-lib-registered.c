/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The pool's memory as registered buffers of a ring: it is registered where the lock limit allows,
 * given up when its chunk goes, and not needed. What a process has registered shows as VmPin.
 */

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

#define CHUNK DMIO_POOL_CHUNK_PAGES
#define CHUNK_KIB (CHUNK * 4)
#define NOBODY 65534

/* KiB that are pinned for the rings of this process. */
static unsigned long pinned_kib(void)
{
        FILE *file = fopen("/proc/self/status", "re");
        unsigned long kib = 0;
        char line[256];

        assert_non_null(file);
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "VmPin: %lu", &kib) == 1)
                        break;
        (void)fclose(file);
        return kib;
}

/* A ring's end is not over when its descriptor is closed. The test's own limit ends this. */
static void until_pinned(unsigned long kib)
{
        while (pinned_kib() != kib)
                (void)sched_yield();
}

struct fixture {
        struct scratch scratch;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct dm_io_client *client; /* whose reservation and the floor make two chunks */
};

/* The rings account to who makes them, so @limited is to lose its rights before. */
static void begin(struct fixture *f, enum scratch_kind kind, bool limited)
{
        const struct rlimit half_a_chunk = { CHUNK_KIB * 1024 / 2, CHUNK_KIB * 1024 / 2 };
        const struct dmio_engine_options options = {
                .backend = "uring",
                .flags = DMIO_ENGINE_NO_THREAD,
                .floor_pages = 1,
        };

        f->scratch = SCRATCH_NULL;
        scratch_init(&f->scratch, kind, 4096, 0);
        if (limited) {
                assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &half_a_chunk), 0);
                assert_int_equal(setresuid(NOBODY, NOBODY, NOBODY), 0);
        }
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(dm_io_client_create(f->engine, 2 * CHUNK - 1, &f->client), 0);
}

static void end(struct fixture *f)
{
        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        scratch_deinit(&f->scratch);
}

/* Through @page and back: a pattern of its own to a place of its own. */
static void write_and_read(struct fixture *f, struct page *page, unsigned int seed)
{
        struct io_region where = scratch_region(&f->scratch, 8 * (seed % 500), 8);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = page },
                .client = f->client,
        };
        unsigned char expected[DMIO_PAGE_SIZE];
        unsigned long bits;

        pattern_fill(expected, sizeof(expected), seed);
        memcpy(page, expected, sizeof(expected));
        assert_int_equal(dm_io(&request, 1, &where, &bits), 0);
        memset(page, 0, sizeof(*page));
        request.op = DM_IO_READ;
        assert_int_equal(dm_io(&request, 1, &where, &bits), 0);
        assert_memory_equal(page, expected, sizeof(expected));
}

/* Through a page of each chunk. */
static void use_all_chunks(struct fixture *f, struct page_list **taken, unsigned int n)
{
        for (unsigned int i = 0; i < n; i++) {
                taken[i] = dmio_pages_get(f->client, DMIO_PAGES_MAX);
                assert_non_null(taken[i]);
                write_and_read(f, taken[i]->page, i + 1);
        }
}

static void give(struct fixture *f, struct page_list **taken, unsigned int n)
{
        for (unsigned int i = 0; i < n; i++)
                dmio_pages_put(f->client, taken[i]);
}

#define TAKES (2 * CHUNK / DMIO_PAGES_MAX)

static void registered_when_used_and_given_up_when_gone(void **state)
{
        unsigned long before = pinned_kib();
        struct page_list *taken[TAKES];
        struct fixture f;

        begin(&f, SCRATCH_LOOP, false);
        assert_int_equal(pinned_kib(), before);
        use_all_chunks(&f, taken, TAKES);
        assert_int_equal(pinned_kib(), before + 2 * CHUNK_KIB);
        give(&f, taken, TAKES);
        assert_int_equal(pinned_kib(), before + 2 * CHUNK_KIB);

        /* The last chunk goes; then another takes its place, and must not be taken for it. */
        for (unsigned int i = 0; i < 3; i++) {
                assert_int_equal(dm_io_client_put(f.client, CHUNK), 0);
                assert_true(dmio_queue_process(f.queue, 0, 0) >= 0);
                assert_int_equal(pinned_kib(), before + CHUNK_KIB);
                assert_int_equal(dm_io_client_get(f.client, CHUNK), 0);
                use_all_chunks(&f, taken, TAKES);
                assert_int_equal(pinned_kib(), before + 2 * CHUNK_KIB);
                give(&f, taken, TAKES);
        }
        end(&f);
        until_pinned(before);
}

/* A chunk goes and another comes to its place before the ring has heard of either. */
static void replaced_before_anybody_looked(void **state)
{
        struct page_list *taken[TAKES];
        struct fixture f;

        begin(&f, SCRATCH_LOOP, false);
        for (unsigned int i = 0; i < 10; i++) {
                use_all_chunks(&f, taken, TAKES);
                give(&f, taken, TAKES);
                assert_int_equal(dm_io_client_put(f.client, CHUNK), 0);
                assert_int_equal(dm_io_client_get(f.client, CHUNK), 0);
        }
        end(&f);
}

/* In a child that may lock a ring and no chunk. Exits with 0 if all went well. */
static void without_limit(void)
{
        struct page_list *taken[TAKES];
        struct fixture f;

        begin(&f, SCRATCH_FILE, true);
        use_all_chunks(&f, taken, TAKES);
        if (pinned_kib() != 0)
                _exit(3);
        give(&f, taken, TAKES);
        end(&f);
        _exit(0);
}

static void not_needed(void **state)
{
        int status;
        pid_t pid;

        if (getuid() != 0)
                skip();
        pid = fork();
        if (pid == 0)
                without_limit();
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
        const struct CMUnitTest with_loop[] = {
                cmocka_unit_test(registered_when_used_and_given_up_when_gone),
                cmocka_unit_test(replaced_before_anybody_looked),
                cmocka_unit_test(not_needed),
        };

        if (!test_backend_works())
                return 77;
        if (!scratch_kind_works(SCRATCH_LOOP)) {
                (void)printf("SKIP: no loop devices\n");
                return 77;
        }
        return cmocka_run_group_tests(with_loop, NULL, NULL);
}
