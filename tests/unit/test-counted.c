/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests that were counted by a process that was killed are known to those after it. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/counters-file.h"
#include "model/model.h"
#include "mount/counted.h"
#include "mount/mount-internal.h"

static struct counters_file file;
static struct model model;
static struct mount mount;

static int set_up(void **state)
{
        file = (struct counters_file)COUNTERS_FILE_NULL;
        model = (struct model){ .counters = &file };
        mount = (struct mount){ .model = &model, .memory = MEMORY_FILE_NULL };
        assert_int_equal(counters_file_new(&file), 0);
        assert_int_equal(memory_file_new(&mount.memory), 0);
        return 0;
}

static int tear_down(void **state)
{
        counted_deinit(&mount.counted);
        memory_file_close(&mount.memory);
        counters_file_close(&file);
        return 0;
}

/* The process ends, and another takes over what there is. */
static void die(void)
{
        const char *why;
        int fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 3);
        int memory_fd = fcntl(mount.memory.fd, F_DUPFD_CLOEXEC, 3);

        tear_down(NULL);
        mount.counted = (struct counted){ 0 };
        assert_int_equal(counters_file_open(&file, fd, &why), 0);
        assert_int_equal(memory_file_open(&mount.memory, memory_fd, &why), 0);
        assert_int_equal(counted_collect(&mount), 0);
}

/* A request has been received, and counted if @counts. */
static struct memory_slot *request(struct slots *slots, uint64_t unique, bool counts)
{
        struct memory_slot *slot = slots_take(slots);

        slot->in = (struct fuse_in_header){ .len = 80, .unique = unique };
        if (counts)
                file.counted[counted_slot(&mount, slot)] = unique & ~MEMORY_UNIQUE_RESENT;
        return slot;
}

/* The slots of the dead process are free for others. */
static void free_slots(void)
{
        for (uint32_t i = 0; i < memory_file_slots_used(&mount.memory, 3); i++)
                memory_slot_clear(&mount.memory.slots[3 * MEMORY_SLOTS + i]);
}

static void those_under_way_are_known(void **state)
{
        struct memory_slot *answered;
        struct slots slots;

        assert_int_equal(slots_init(&slots, &mount.memory, 3), 0);
        assert_false(counted_before(&mount, 2, NULL));
        request(&slots, 2, true);
        request(&slots, 4, false);
        answered = request(&slots, 6, true);
        request(&slots, 8 | MEMORY_UNIQUE_RESENT, true);
        slots_put(&slots, answered);
        request(&slots, 10, false); /* where that was */
        slots_deinit(&slots);

        die();
        assert_true(counted_before(&mount, 2, NULL));
        assert_true(counted_before(&mount, 2 | MEMORY_UNIQUE_RESENT, NULL));
        assert_false(counted_before(&mount, 4, NULL));
        assert_false(counted_before(&mount, 6, NULL));
        assert_true(counted_before(&mount, 8, NULL));
        assert_false(counted_before(&mount, 10, NULL));
        counted_settled(&mount);
        assert_false(counted_before(&mount, 2, NULL));
}

/* Killed again while requests come again: some have, into slots that the others had. */
static void and_after_another_kill(void **state)
{
        const uint64_t *carried;
        struct memory_slot *slot;
        struct slots slots;

        assert_int_equal(slots_init(&slots, &mount.memory, 3), 0);
        for (uint64_t unique = 2; unique <= 20; unique += 2)
                request(&slots, unique, true);
        slots_deinit(&slots);

        for (uint64_t turn = 0; turn < 5; turn++) {
                die();
                free_slots();
                for (uint64_t unique = 2; unique <= 20; unique += 2)
                        assert_true(counted_before(&mount, unique, NULL));
                assert_int_equal(counters_file_carried(&file, &carried), 10);
                assert_int_equal(slots_init(&slots, &mount.memory, 3), 0);
                slot = request(&slots, (20 - 2 * turn) | MEMORY_UNIQUE_RESENT, false);
                assert_true(counted_before(&mount, 20 - 2 * turn, slot));
                slots_deinit(&slots);
        }

        /* All have come, and two are not answered yet. */
        die();
        free_slots();
        assert_int_equal(slots_init(&slots, &mount.memory, 3), 0);
        for (uint64_t unique = 2; unique <= 20; unique += 2) {
                slot = request(&slots, unique | MEMORY_UNIQUE_RESENT, false);
                assert_true(counted_before(&mount, unique, slot));
                if (unique != 6 && unique != 12)
                        slots_put(&slots, slot);
        }
        slots_deinit(&slots);
        counted_settled(&mount);
        die();
        for (uint64_t unique = 2; unique <= 20; unique += 2)
                assert_int_equal(counted_before(&mount, unique, NULL), unique == 6 || unique == 12);
}

/* A mount that is another one has the same numbers for other requests. */
static void another_mount_begins_anew(void **state)
{
        struct slots slots;

        assert_int_equal(slots_init(&slots, &mount.memory, 3), 0);
        request(&slots, 2, true);
        slots_deinit(&slots);
        counted_none(&mount);
        die();
        assert_false(counted_before(&mount, 2, NULL));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(those_under_way_are_known, set_up, tear_down),
                cmocka_unit_test_setup_teardown(and_after_another_kill, set_up, tear_down),
                cmocka_unit_test_setup_teardown(another_mount_begins_anew, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("counted", tests, NULL, NULL);
}
