/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The memory file: what one process has stored another one finds, and what is damaged is refused.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mount/memory-file.h"
#include "util/macros.h"

static const char init_request[104] = "as the kernel sends it";

/* A duplicate of the file's descriptor, as the supervisor has one. */
static int kept(const struct memory_file *file)
{
        int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 3);

        assert_true(fd >= 0);
        return fd;
}

static void expect_refused(int fd, int error)
{
        struct memory_file file = MEMORY_FILE_NULL;
        const char *why = NULL;

        assert_int_equal(memory_file_open(&file, fd, &why), error);
        assert_non_null(why);
        assert_null(file.header);
}

static void what_is_stored_is_found(void **state)
{
        struct memory_file before = MEMORY_FILE_NULL, after = MEMORY_FILE_NULL;
        struct memory_slot *idle, *begun, *done;
        const void *init;
        const char *why;
        struct slots slots;
        int fd;

        assert_int_equal(memory_file_new(&before), 0);
        assert_int_equal(memory_file_init(&before, &init), 0);
        memory_file_set_init(&before, init_request, sizeof(init_request));
        memory_file_set_failures(&before, 12, 3);
        memory_file_set_failures(&before, 12, 2);
        memory_file_set_failures(&before, 12 + MEMORY_FAILURES, 1);
        memory_file_use_handle(&before, 41);
        assert_int_equal(slots_init(&slots, &before, 5), 0);
        idle = slots_take(&slots);
        begun = slots_take(&slots);
        done = slots_take(&slots);
        idle->in = (struct fuse_in_header){ .len = 40, .unique = 2 };
        begun->in = (struct fuse_in_header){ .len = 40, .unique = 4 | MEMORY_UNIQUE_RESENT };
        memory_slot_set(begun, SLOT_BEGUN);
        done->in = (struct fuse_in_header){ .len = 40, .unique = 6 };
        memory_slot_done(done, -EIO);
        slots_put(&slots, idle);
        slots_deinit(&slots);
        fd = kept(&before);
        memory_file_close(&before);

        assert_int_equal(memory_file_open(&after, fd, &why), 0);
        assert_int_equal(memory_file_init(&after, &init), sizeof(init_request));
        assert_memory_equal(init, init_request, sizeof(init_request));
        assert_int_equal(memory_file_failures(&after, 12), 3);
        assert_int_equal(memory_file_failures(&after, 12 + MEMORY_FAILURES), 1);
        assert_int_equal(memory_file_failures(&after, 14), 0);
        assert_int_equal(memory_file_handles_used(&after), 42);
        assert_int_equal(memory_file_slots_used(&after, 5), 3);
        assert_int_equal(memory_file_slots_used(&after, 0), 0);
        assert_int_equal(memory_slot_unique(&after.slots[5 * MEMORY_SLOTS + 1]), 4);
        assert_int_equal(memory_slot_state(&after.slots[5 * MEMORY_SLOTS + 1]), SLOT_BEGUN);
        assert_int_equal(memory_slot_state(&after.slots[5 * MEMORY_SLOTS + 2]), SLOT_DONE);
        assert_int_equal(after.slots[5 * MEMORY_SLOTS + 2].result, -EIO);

        /* What is still needed is not given to anybody. */
        assert_int_equal(slots_init(&slots, &after, 5), 0);
        assert_ptr_equal(slots_take(&slots), &after.slots[5 * MEMORY_SLOTS]);
        assert_ptr_equal(slots_take(&slots), &after.slots[5 * MEMORY_SLOTS + 3]);
        slots_deinit(&slots);
        memory_file_close(&after);
}

static void slots_end_and_come_back(void **state)
{
        struct memory_file file = MEMORY_FILE_NULL;
        struct memory_slot *first, *slot;
        struct slots slots;

        assert_int_equal(memory_file_new(&file), 0);
        assert_int_equal(slots_init(&slots, &file, MEMORY_QUEUES - 1), 0);
        first = slots_take(&slots);
        for (unsigned int i = 1; i < MEMORY_SLOTS_IN_USE; i++)
                assert_non_null(slots_take(&slots));
        assert_null(slots_take(&slots));
        assert_ptr_equal(first, &file.slots[(MEMORY_QUEUES - 1) * MEMORY_SLOTS]);
        first->in.unique = 8;
        memory_slot_done(first, 7);
        slots_put(&slots, first);
        slot = slots_take(&slots);
        assert_ptr_equal(slot, first);
        assert_int_equal(slot->in.unique, 0);
        assert_int_equal(memory_slot_state(slot), SLOT_IDLE);
        assert_int_equal(slot->result, 0);
        assert_null(slots_take(&slots));
        slots_deinit(&slots);
        memory_file_close(&file);
}

/* Without requests nobody has to know what a slot is; with one everybody has. */
static void slots_without_requests_are_given_up(void **state)
{
        struct memory_file file = MEMORY_FILE_NULL;
        struct memory_slot *slot;
        struct slots slots;

        assert_int_equal(memory_file_new(&file), 0);
        for (unsigned int queue = 0; queue < 3; queue++) {
                assert_int_equal(slots_init(&slots, &file, queue), 0);
                for (unsigned int i = 0; i < 5; i++)
                        assert_non_null(slots_take(&slots));
                slots_deinit(&slots);
        }
        slot = &file.slots[1 * MEMORY_SLOTS + 4];
        slot->in = (struct fuse_in_header){ .len = 40, .unique = 2 };
        memory_slot_set(slot, SLOT_BEGUN);
        file.slots[2].result = 7;
        memory_file_settle(&file);
        assert_int_equal(memory_file_slots_used(&file, 0), 0);
        assert_int_equal(memory_file_slots_used(&file, 1), 5);
        assert_int_equal(memory_file_slots_used(&file, 2), 0);
        assert_int_equal(file.slots[2].result, 0);
        assert_int_equal(memory_slot_state(slot), SLOT_BEGUN);
        memory_file_close(&file);

        memory_file_settle(&file); /* there is none */
}

/* What the table says of itself and of sections; not what is used, which is always changing. */
static bool is_summed(size_t at)
{
        const size_t first = sizeof(struct memory_header), size = sizeof(struct memory_section);

        return at < first || (at - first) % size < offsetof(struct memory_section, used);
}

/* Every byte of what must be as it was. */
static void a_damaged_one_is_refused(void **state)
{
        struct memory_file file = MEMORY_FILE_NULL;
        size_t version = offsetof(struct memory_header, version);
        uint8_t *bytes;
        size_t length;

        assert_int_equal(memory_file_new(&file), 0);
        memory_file_set_init(&file, init_request, sizeof(init_request));
        bytes = (uint8_t *)file.header;
        length = sizeof(*file.header) + file.header->n_sections * sizeof(struct memory_section);
        for (size_t i = 0; i < length; i++) {
                bool is_version = i >= version && i < version + sizeof(file.header->version);

                if (!is_summed(i))
                        continue;
                bytes[i] ^= 0x55;
                expect_refused(kept(&file), is_version ? -EPROTO : -EBADMSG);
                bytes[i] ^= 0x55;
        }
        bytes = (uint8_t *)file.init;
        for (size_t i = 0; i < offsetof(struct memory_init, reserved); i++) {
                bytes[i] ^= 0x55;
                expect_refused(kept(&file), -EBADMSG);
                bytes[i] ^= 0x55;
        }
        for (size_t i = 0; i < sizeof(init_request); i++) {
                file.init->bytes[i] ^= 0x55;
                expect_refused(kept(&file), -EBADMSG);
                file.init->bytes[i] ^= 0x55;
        }
        file.header->sections[0].used = 2;
        expect_refused(kept(&file), -EBADMSG);
        memory_file_close(&file);
}

static void what_is_no_memory_file_is_refused(void **state)
{
        struct memory_file file = MEMORY_FILE_NULL;
        struct stat st;
        int fds[2], fd;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        expect_refused(fds[0], -EBADMSG);
        assert_int_equal(close(fds[1]), 0);

        /* Somebody could take it away from under us. */
        assert_int_equal(memory_file_new(&file), 0);
        assert_int_equal(fstat(file.fd, &st), 0);
        fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, st.st_size), 0);
        expect_refused(fd, -EBADMSG);

        for (size_t length = 0; length <= 8192; length += 8) {
                fd = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                assert_int_equal(ftruncate(fd, (off_t)length), 0);
                assert_int_equal(pwrite(fd, file.header, length, 0), length);
                assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
                expect_refused(fd, -EBADMSG);
        }
        memory_file_close(&file);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_stored_is_found),
                cmocka_unit_test(slots_end_and_come_back),
                cmocka_unit_test(slots_without_requests_are_given_up),
                cmocka_unit_test(a_damaged_one_is_refused),
                cmocka_unit_test(what_is_no_memory_file_is_refused),
        };

        return cmocka_run_group_tests_name("memory-file", tests, NULL, NULL);
}
