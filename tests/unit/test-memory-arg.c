/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/memory-arg.h"

#define PAGES 8
#define INLINE_MAX 65536

struct fixture {
        int fd;
        unsigned char content[PAGES * 4096];
        struct memory_argument argument;
        bool has_argument;
        struct memory memory;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_true(f->fd >= 0);
        for (size_t i = 0; i < sizeof(f->content); i++)
                f->content[i] = (unsigned char)(i * 13 + i / 256);
        assert_int_equal(pwrite(f->fd, f->content, sizeof(f->content), 0), sizeof(f->content));
        *state = f;
        return 0;
}

static void forget(struct fixture *f)
{
        if (f->has_argument)
                fields_clear(memory_fields, &f->argument, sizeof(f->argument));
        f->has_argument = false;
        memory_release(&f->memory);
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        forget(f);
        close(f->fd);
        free(f);
        return 0;
}

static json_t *prepare(struct fixture *f, const char *text, bool is_read, uint64_t length)
{
        json_t *object = json_loads(text, 0, NULL);
        json_t *error;

        forget(f);
        assert_non_null(object);
        error = fields_read(memory_fields, object, &f->argument, sizeof(f->argument));
        json_decref(object);
        assert_null(error);
        f->has_argument = true;
        return memory_prepare(&f->memory, &f->argument, true, is_read, length, INLINE_MAX, 1);
}

static void expect_refusal(json_t *error, const char *part_of_reason)
{
        const char *name, *reason;

        assert_non_null(error);
        assert_int_equal(json_unpack(error, "{s:s, s:{s:s}}", "error", &name, "parameters",
                                     "reason", &reason),
                         0);
        assert_string_equal(name, "io.dmiod.InvalidMemory");
        if (!strstr(reason, part_of_reason))
                fail_msg("'%s' is not in '%s'", part_of_reason, reason);
        json_decref(error);
}

static void map(struct fixture *f, const char *text, bool is_read, uint64_t length)
{
        assert_null(prepare(f, text, is_read, length));
        assert_int_equal(f->memory.kind, MEMORY_MAPPED);
        assert_null(memory_map(&f->memory, &f->argument, f->fd, false, 0));
        assert_int_equal(f->memory.io_flags, DM_IO_MEMORY_SHARED);
}

static void expect_no_map(struct fixture *f, const char *text, bool is_read, uint64_t length,
                          const char *part_of_reason)
{
        assert_null(prepare(f, text, is_read, length));
        expect_refusal(memory_map(&f->memory, &f->argument, f->fd, false, 0), part_of_reason);
}

static void exactly_one_source(void **state)
{
        struct fixture *f = *state;

        expect_refusal(prepare(f, "{}", false, 512), "one of data, fill and fd");
        expect_refusal(prepare(f, "{\"fill\":0,\"data\":\"\"}", false, 512), "exactly one");
        expect_refusal(prepare(f, "{\"fd\":0}", false, 512), "exactly one of page_list");
        expect_refusal(prepare(f, "{\"fd\":0,\"vm\":0,\"bvec\":[]}", false, 512), "exactly one of");
        expect_refusal(prepare(f, "{\"vm\":0}", false, 512), "speak of an fd");
        expect_refusal(prepare(f, "{\"fill\":0,\"bvec\":[]}", false, 512), "speak of an fd");
        expect_refusal(prepare(f, "{\"fd\":0,\"vm\":0,\"page_offset\":1}", false, 512),
                       "page_offset");
        expect_refusal(prepare(f, "{\"fd\":1,\"vm\":0}", false, 512), "fd 1 was not sent");
        expect_refusal(prepare(f, "{\"fill\":0}", true, 512), "for writes");
        expect_refusal(prepare(f, "{\"data\":\"\"}", true, 0), "for writes");
        forget(f);
        expect_refusal(memory_prepare(&f->memory, &f->argument, false, false, 0, INLINE_MAX, 0),
                       "takes no memory");
}

static void too_little_is_told_with_both_lengths(void **state)
{
        struct fixture *f = *state;

        expect_refusal(prepare(f, "{\"data\":\"AAAA\"}", false, 512),
                       "data holds 3 bytes, the largest region 512");
        expect_refusal(prepare(f, "{\"data\":\"AAA\"}", false, 512), "base64");
        expect_refusal(prepare(f, "{\"fd\":0,\"page_list\":[]}", false, 512), "holds 0 bytes");
        expect_refusal(prepare(f, "{\"fd\":0,\"page_list\":[0,1],\"page_offset\":1}", false, 8192),
                       "holds 8191 bytes, the largest region 8192");
        expect_refusal(
                prepare(f, "{\"fd\":0,\"bvec\":[{\"offset\":0,\"length\":511}]}", false, 512),
                "bvec holds 511 bytes");
        expect_refusal(prepare(f, "{}", true, INLINE_MAX + 512), "pass a descriptor");
}

static void beyond_the_end_is_named(void **state)
{
        struct fixture *f = *state;

        expect_no_map(f, "{\"fd\":0,\"page_list\":[8]}", false, 512,
                      "page 8 lies beyond the descriptor's end (32768 bytes)");
        /* Also where it is not needed. */
        expect_no_map(f, "{\"fd\":0,\"page_list\":[0,8]}", false, 512, "page 8 lies beyond");
        expect_no_map(f, "{\"fd\":0,\"page_list\":[2199023255551]}", false, 512, "lies beyond");
        expect_no_map(f, "{\"fd\":0,\"bvec\":[{\"offset\":32768,\"length\":512}]}", false, 512,
                      "segment 0 lies beyond");
        expect_no_map(f, "{\"fd\":0,\"vm\":32257}", false, 512, "offset 32257 lies beyond");
        expect_no_map(f, "{\"fd\":0,\"vm\":9007199254740991}", false, 512, "lies beyond");
        map(f, "{\"fd\":0,\"vm\":32256}", false, 512);
}

static void pages_come_in_the_order_they_are_named(void **state)
{
        static const unsigned int order[] = { 5, 2, 7, 2 };
        struct fixture *f = *state;
        const struct page_list *link;
        size_t i = 0;

        map(f, "{\"fd\":0,\"page_list\":[5,2,7,2],\"page_offset\":4095}", false, 3 * 4096);
        assert_int_equal(f->memory.io.type, DM_IO_PAGE_LIST);
        assert_int_equal(f->memory.io.offset, 4095);
        for (link = f->memory.io.ptr.pl; link; link = link->next, i++)
                assert_memory_equal(page_address(link->page), f->content + order[i] * 4096, 4096);
        assert_int_equal(i, 4);
}

static void segments_may_be_odd(void **state)
{
        struct fixture *f = *state;
        const struct bio_vec *vectors;

        map(f,
            "{\"fd\":0,\"bvec\":[{\"offset\":4097,\"length\":1},{\"offset\":0,\"length\":0},"
            "{\"offset\":3,\"length\":9000}]}",
            false, 1024);
        assert_int_equal(f->memory.io.type, DM_IO_BVEC);
        assert_int_equal(f->memory.io.n_bvec, 2);
        vectors = f->memory.io.ptr.bvec;
        assert_int_equal(vectors[0].bv_len, 1);
        assert_memory_equal((char *)page_address(vectors[0].bv_page) + vectors[0].bv_offset,
                            f->content + 4097, 1);
        /* No more than is needed, so that the rest need not exist. */
        assert_int_equal(vectors[1].bv_len, 1023);
        assert_memory_equal((char *)page_address(vectors[1].bv_page) + vectors[1].bv_offset,
                            f->content + 3, 1023);
}

static void a_read_reaches_the_descriptor(void **state)
{
        struct fixture *f = *state;
        char byte = 0;

        map(f, "{\"fd\":0,\"vm\":777}", true, 512);
        assert_int_equal(f->memory.io.type, DM_IO_VMA);
        memset(f->memory.io.ptr.vma, 'r', 512);
        assert_int_equal(pread(f->fd, &byte, 1, 777 + 511), 1);
        assert_int_equal(byte, 'r');
        assert_int_equal(pread(f->fd, &byte, 1, 777 + 512), 1);
        assert_int_equal((unsigned char)byte, f->content[777 + 512]);
}

static void the_mode_of_the_descriptor_counts(void **state)
{
        struct fixture *f = *state;
        char path[64];
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_null(prepare(f, "{\"fd\":0,\"vm\":0}", true, 512));
        expect_refusal(memory_map(&f->memory, &f->argument, fd, false, 0), "reading and writing");
        assert_null(prepare(f, "{\"fd\":0,\"vm\":0}", false, 512));
        assert_null(memory_map(&f->memory, &f->argument, fd, false, 0));
        close(fd);

        /* What is sealed can still be written from, not read into. */
        assert_int_equal(fcntl(f->fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
        map(f, "{\"fd\":0,\"vm\":0}", false, 512);
        expect_no_map(f, "{\"fd\":0,\"vm\":0}", true, 512, "cannot be mapped");
}

static void only_files_can_be_mapped(void **state)
{
        struct fixture *f = *state;
        int fds[2], fd;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_null(prepare(f, "{\"fd\":0,\"vm\":0}", false, 512));
        expect_refusal(memory_map(&f->memory, &f->argument, fds[0], true, 0), "neither a memfd");
        close(fds[0]);
        close(fds[1]);
        fd = open("/", O_PATH | O_CLOEXEC);
        assert_null(prepare(f, "{\"fd\":0,\"vm\":0}", false, 512));
        expect_refusal(memory_map(&f->memory, &f->argument, fd, true, 0), "open for reading");
        close(fd);
}

static void a_span_is_bounded(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(ftruncate(f->fd, INT64_C(1) << 40), 0);
        expect_no_map(f, "{\"fd\":0,\"page_list\":[0,200000000]}", false, 8192, "bytes apart");
        map(f, "{\"fd\":0,\"page_list\":[200000000,200000005]}", false, 8192);
}

static void fill_is_one_page_for_ever(void **state)
{
        struct fixture *f = *state;
        const struct page_list *pages;

        assert_null(prepare(f, "{\"fill\":255}", false, UINT64_C(1) << 60));
        pages = f->memory.io.ptr.pl;
        assert_ptr_equal(pages->next, pages);
        assert_int_equal(pages->page->bytes[0], 255);
        assert_int_equal(pages->page->bytes[4095], 255);
}

/* Inline data goes through pages that need not lie behind each other. */
static void inline_data_comes_back(void **state)
{
        struct fixture *f = *state;
        struct page *pages = aligned_alloc(4096, 3 * sizeof(*pages));
        struct page_list links[2] = { { &links[1], &pages[2] }, { NULL, &pages[0] } };
        char text[16 * 1024], *end;
        json_t *data;

        assert_non_null(pages);
        memcpy(text, "{\"data\":\"", 9);
        /* 5120 is not a multiple of 3, nor is a page. */
        end = text + 9;
        for (size_t i = 0; i < 5120 / 3; i++)
                end = mempcpy(end, i % 2 ? "YWJj" : "eHl6", 4);
        end = mempcpy(end, "YWI=\"}", 7);
        assert_null(prepare(f, text, false, 5120));
        assert_int_equal(f->memory.kind, MEMORY_DATA);
        assert_int_equal(memory_pages_needed(&f->memory), 2);
        f->memory.pages = links;
        memory_fill(&f->memory);
        assert_memory_equal(pages[2].bytes, "xyzabc", 6);
        assert_int_equal(pages[0].bytes[5119 - 4096], 'b');

        data = memory_data(&f->memory);
        *strrchr(text, '"') = '\0';
        assert_string_equal(json_string_value(data), text + 9);
        json_decref(data);
        f->memory.pages = NULL;
        free(pages);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(exactly_one_source),
                TEST(too_little_is_told_with_both_lengths),
                TEST(beyond_the_end_is_named),
                TEST(pages_come_in_the_order_they_are_named),
                TEST(segments_may_be_odd),
                TEST(a_read_reaches_the_descriptor),
                TEST(the_mode_of_the_descriptor_counts),
                TEST(only_files_can_be_mapped),
                TEST(a_span_is_bounded),
                TEST(fill_is_one_page_for_ever),
                TEST(inline_data_comes_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
