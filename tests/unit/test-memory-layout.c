/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What one build has left another one takes up: tables of sections that differ in everything in
 * which they may, and in what they may not.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mount/memory-layout.h"
#include "util/fnv.h"
#include "util/macros.h"

#define NAMES 17
#define ROWS 23

/* As two builds know them: what the first has, and one with more behind. */
struct name {
        uint64_t key;
        uint64_t value;
};

struct long_name {
        uint64_t key;
        uint64_t value;
        uint64_t more;
};

static const struct memory_kind first_kinds[] = {
        { .type = NAMES, .flags = MEMORY_NEEDED, .n_sections = 1, .n_items = 10, .what = "names" },
        { .type = ROWS, .flags = MEMORY_NEEDED, .n_sections = 3, .n_items = 4, .what = "rows" },
};

struct fixture {
        struct memory_kind kinds[2];
        struct memory_header *header;
};

static struct memory_header *make(const struct memory_kind *kinds, size_t n)
{
        struct memory_header *header = calloc(1, memory_layout_size(kinds, n));

        assert_non_null(header);
        memory_layout_write(kinds, n, header);
        return header;
}

/* The first build's, with records of @size bytes. */
static void setup(struct fixture *f, uint32_t size)
{
        memcpy(f->kinds, first_kinds, sizeof(first_kinds));
        for (size_t i = 0; i < ARRAY_SIZE(f->kinds); i++) {
                f->kinds[i].item_size = size;
                f->kinds[i].least = sizeof(struct name);
        }
        f->header = NULL;
}

static void *record(struct memory_header *header, size_t section, uint32_t i)
{
        const struct memory_section *at = &header->sections[section];

        return (char *)header + at->offset + (size_t)i * at->item_size;
}

static void put(struct memory_header *header, size_t section, uint32_t i, uint64_t key)
{
        struct name *name = record(header, section, i);

        *name = (struct name){ key, key + 1 };
        if (header->sections[section].used <= i)
                header->sections[section].used = i + 1;
}

static void expect_record(struct memory_header *header, size_t section, uint32_t i, uint64_t key)
{
        const struct name *name = record(header, section, i);

        assert_int_equal(name->key, key);
        assert_int_equal(name->value, key ? key + 1 : 0);
}

static void expect_copied(const struct fixture *from, const struct fixture *to)
{
        const char *why = NULL;

        assert_int_equal(memory_layout_check(from->header, from->header->size, &why), 0);
        assert_int_equal(memory_layout_copy(to->kinds, 2, from->header, to->header, &why), 0);
        assert_int_equal(memory_layout_check(to->header, to->header->size, &why), 0);
}

static void expect_refused(const struct fixture *from, const struct fixture *to, const char *word)
{
        const char *why = NULL;

        assert_int_equal(memory_layout_check(from->header, from->header->size, &why), 0);
        assert_int_equal(memory_layout_copy(to->kinds, 2, from->header, to->header, &why), -EPROTO);
        assert_non_null(strstr(why, word));
}

/* From short records to long ones, and back: with what both have in other places. */
static void records_may_grow_and_shrink(void **state)
{
        struct fixture first, second, again;
        struct long_name *longer;

        setup(&first, sizeof(struct name));
        first.header = make(first.kinds, 2);
        put(first.header, 0, 0, 100);
        put(first.header, 0, 9, 109);
        put(first.header, 1 + 2, 3, 203);

        setup(&second, sizeof(struct long_name));
        second.kinds[0].n_items = 5000;
        second.kinds[1].n_items = 7;
        second.kinds[1].n_sections = 12;
        second.header = make(second.kinds, 2);
        expect_copied(&first, &second);
        assert_false(memory_layout_equal(first.header, second.header));
        assert_int_equal(second.header->sections[0].used, 10);
        assert_int_equal(second.header->sections[1 + 2].used, 4);
        assert_int_equal(second.header->sections[1].used, 0);
        expect_record(second.header, 0, 0, 100);
        expect_record(second.header, 0, 1, 0);
        expect_record(second.header, 0, 9, 109);
        expect_record(second.header, 1 + 2, 3, 203);
        longer = record(second.header, 0, 9);
        assert_int_equal(longer->more, 0);

        /* Those beyond the place that there is are not in use any more. */
        put(second.header, 0, 4000, 4100);
        put(second.header, 0, 4000, 0);
        put(second.header, 1 + 11, 2, 0);
        longer->more = 1;
        setup(&again, sizeof(struct name));
        again.header = make(again.kinds, 2);
        expect_copied(&second, &again);
        expect_record(again.header, 0, 0, 100);
        expect_record(again.header, 0, 9, 109);
        expect_record(again.header, 1 + 2, 3, 203);
        assert_true(memory_layout_equal(first.header, again.header));
        free(first.header);
        free(second.header);
        free(again.header);
}

static void what_has_no_place_is_not_lost_in_silence(void **state)
{
        struct fixture from, to;

        setup(&to, sizeof(struct name));
        for (size_t i = 0; i < 2; i++)
                to.kinds[i].key = offsetof(struct name, key);
        to.header = make(to.kinds, 2);

        setup(&from, sizeof(struct name));
        from.kinds[0].n_items = 11;
        from.kinds[1].n_sections = 4;
        from.header = make(from.kinds, 2);
        put(from.header, 0, 10, 1);
        expect_refused(&from, &to, "more names than");
        put(from.header, 0, 10, 0);
        expect_copied(&from, &to);
        put(from.header, 1 + 3, 0, 1);
        expect_refused(&from, &to, "more rows than");

        /* Of a type whose records do not tell, all that were used are. */
        put(from.header, 1 + 3, 0, 0);
        to.kinds[1].key = MEMORY_NO_KEY;
        expect_refused(&from, &to, "more rows than");
        free(from.header);
        free(to.header);
}

static void types_that_are_not_known(void **state)
{
        struct fixture from, to;
        const char *why = NULL;

        setup(&to, sizeof(struct name));
        to.header = make(to.kinds, 2);
        setup(&from, sizeof(struct name));
        from.kinds[1].type = ROWS + 1;
        from.header = make(from.kinds, 2);
        put(from.header, 0, 0, 100);

        /* Nothing of it is used, so nobody needs it. */
        expect_copied(&from, &to);
        put(from.header, 1, 0, 300);
        expect_refused(&from, &to, "type 24");
        free(from.header);

        from.kinds[1].flags = 0;
        from.header = make(from.kinds, 2);
        put(from.header, 0, 1, 101);
        put(from.header, 1, 0, 300);
        expect_copied(&from, &to);
        expect_record(to.header, 0, 1, 101);
        assert_int_equal(to.header->sections[1].used, 0);
        free(from.header);

        /* Shorter than it has ever been. */
        setup(&from, 8);
        from.header = make(from.kinds, 2);
        assert_int_equal(memory_layout_check(from.header, from.header->size, &why), 0);
        from.header->sections[0].used = 1;
        expect_refused(&from, &to, "records of names are too short");
        free(from.header);
        free(to.header);
}

/* Header and table may become longer: an older build goes by the sizes that are there. */
static void longer_sections_can_be_read(void **state)
{
        struct long_section {
                struct memory_section section;
                uint64_t more[3];
        } * sections;
        struct fixture from, to;
        const char *why = NULL;
        uint64_t sum;

        setup(&to, sizeof(struct name));
        to.header = make(to.kinds, 2);
        setup(&from, sizeof(struct name));
        from.header = make(from.kinds, 2);
        put(from.header, 0, 3, 103);

        sections = (struct long_section *)from.header->sections;
        for (size_t i = from.header->n_sections; i-- > 0;) {
                struct memory_section section = from.header->sections[i];

                sections[i] = (struct long_section){ section, { i, i, i } };
        }
        from.header->section_size = sizeof(*sections);
        sum = fnv(FNV_START, from.header, offsetof(struct memory_header, sum));
        for (size_t i = 0; i < from.header->n_sections; i++) {
                sum = fnv(sum, &sections[i], offsetof(struct memory_section, used));
                sum = fnv(sum, sections[i].more, sizeof(sections[i].more));
        }
        assert_int_equal(memory_layout_check(from.header, from.header->size, &why), -EBADMSG);
        from.header->sum = sum;
        expect_copied(&from, &to);
        expect_record(to.header, 0, 3, 103);
        assert_false(memory_layout_equal(from.header, to.header));
        free(from.header);
        free(to.header);
}

/* With a checksum that is right: what somebody has written who had no idea. */
static void tables_that_make_no_sense(void **state)
{
        static const struct {
                uint32_t item_size, n_items;
        } cases[] = { { 0, 10 }, { 12, 10 }, { 65544, 1 } };
        struct memory_kind kind = { .type = NAMES, .n_sections = 1 };
        struct memory_header *header;
        const char *why = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                kind.item_size = cases[i].item_size;
                kind.n_items = cases[i].n_items;
                header = make(&kind, 1);
                assert_int_equal(memory_layout_check(header, header->size, &why), -EBADMSG);
                free(header);
        }

        kind = (struct memory_kind){
                .type = NAMES, .n_sections = 1, .item_size = 16, .n_items = 256
        };
        header = make(&kind, 1);
        assert_int_equal(memory_layout_check(header, header->size, &why), 0);
        assert_int_equal(memory_layout_check(header, header->size - 8, &why), -EBADMSG);
        assert_int_equal(memory_layout_check(header, header->size + 4096, &why), -EBADMSG);
        assert_int_equal(memory_layout_check(header, sizeof(*header) - 1, &why), -EBADMSG);
        header->sections[0].used = 257;
        assert_int_equal(memory_layout_check(header, header->size, &why), -EBADMSG);
        free(header);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(records_may_grow_and_shrink),
                cmocka_unit_test(what_has_no_place_is_not_lost_in_silence),
                cmocka_unit_test(types_that_are_not_known),
                cmocka_unit_test(longer_sections_can_be_read),
                cmocka_unit_test(tables_that_make_no_sense),
        };

        return cmocka_run_group_tests_name("memory-layout", tests, NULL, NULL);
}
