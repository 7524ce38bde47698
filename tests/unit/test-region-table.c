/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who holds which sectors: what overlaps, what is shared, what is one's own. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/client.h"
#include "model/region-table.h"

static const struct dmio_device_id disk = { .device = 0x800 };
static const struct dmio_device_id other_disk = { .device = 0x801 };
static const struct dmio_device_id file = { .device = 0x800, .inode = 7 };

struct fixture {
        struct model model;
        struct client alice;
        struct client bob;
        struct grant a; /* alice: sectors 100 to 199 of the disk */
        struct grant b; /* bob: sectors 300 to 399, shared */
};

/* Exports are only told apart here, never looked into. */
#define EXPORT_A ((struct export *)1)
#define EXPORT_B ((struct export *)2)

static int setup(void **state)
{
        static struct fixture f;

        f = (struct fixture){
                .alice = { .name = (char *)"alice" },
                .bob = { .name = (char *)"bob" },
                .a = { .id = disk,
                       .sector = 100,
                       .count = 100,
                       .export = EXPORT_A,
                       .client_name = "alice",
                       .export_name = "vol" },
                .b = { .id = disk,
                       .sector = 300,
                       .count = 100,
                       .export = EXPORT_B,
                       .client_name = "bob",
                       .export_name = "vol",
                       .shared = true },
        };
        list_init(&f.model.regions);
        region_table_add(&f.model, &f.a);
        region_table_add(&f.model, &f.b);
        *state = &f;
        return 0;
}

/* Whatever is in the way of somebody who holds nothing, and will not share. */
static struct grant *find(struct fixture *f, const struct dmio_device_id *id, sector_t sector,
                          sector_t count)
{
        static const struct client other = { .name = (char *)"other" };

        return region_table_find_conflict(&f->model, &other, id, sector, count, false);
}

static void touching_is_not_overlapping(void **state)
{
        struct fixture *f = *state;

        assert_null(find(f, &disk, 0, 100));
        assert_ptr_equal(find(f, &disk, 0, 101), &f->a);
        assert_ptr_equal(find(f, &disk, 199, 1), &f->a);
        assert_null(find(f, &disk, 200, 100));
        assert_ptr_equal(find(f, &disk, 150, 1), &f->a);
        assert_ptr_equal(find(f, &disk, 200, 101), &f->b);
}

static void an_empty_region_overlaps_nothing(void **state)
{
        struct fixture *f = *state;

        assert_null(find(f, &disk, 150, 0));
}

static void other_devices_do_not_matter(void **state)
{
        struct fixture *f = *state;

        assert_null(find(f, &other_disk, 100, 100));
        assert_null(find(f, &file, 100, 100));
}

static void sharing_takes_two(void **state)
{
        const struct client other = { .name = (char *)"other" };
        struct fixture *f = *state;

        assert_ptr_equal(region_table_find_conflict(&f->model, &other, &disk, 150, 1, false),
                         &f->a);
        assert_ptr_equal(region_table_find_conflict(&f->model, &other, &disk, 150, 1, true), &f->a);
        assert_ptr_equal(region_table_find_conflict(&f->model, &other, &disk, 350, 1, false),
                         &f->b);
        assert_null(region_table_find_conflict(&f->model, &other, &disk, 350, 1, true));
}

static void a_shared_one_does_not_hide_one_that_is_not(void **state)
{
        const struct client other = { .name = (char *)"other" };
        struct fixture *f = *state;
        struct grant c = { .id = disk,
                           .sector = 350,
                           .count = 10,
                           .export = EXPORT_A,
                           .client_name = "alice",
                           .export_name = "x" };

        region_table_add(&f->model, &c);
        assert_ptr_equal(region_table_find_conflict(&f->model, &other, &disk, 300, 100, true), &c);
}

/* A claim keeps others from making an export, unless it will be shared; nobody else minds it. */
static void claims_are_in_the_way_of_others_exports(void **state)
{
        const struct client alice = { .name = (char *)"alice" };
        const struct client other = { .name = (char *)"other" };
        struct fixture *f = *state;
        struct grant claim = {
                .id = disk, .sector = 5000, .count = 10, .client_name = "alice", .export_name = ""
        };

        region_table_add(&f->model, &claim);
        assert_ptr_equal(region_table_find_conflict(&f->model, &other, &disk, 5009, 1, false),
                         &claim);
        assert_null(region_table_find_conflict(&f->model, &other, &disk, 5009, 1, true));
        assert_null(region_table_find_conflict(&f->model, &other, &disk, 5010, 1, false));
        assert_null(region_table_find_conflict(&f->model, &alice, &disk, 5009, 1, false));
        assert_null(region_table_find_foreign(&f->model, &other, &disk, 5000, 10));
        list_unlink(&claim.link);
}

static void ones_own_exports_are_fair_game(void **state)
{
        struct fixture *f = *state;

        assert_null(region_table_find_foreign(&f->model, &f->alice, &disk, 100, 100));
        assert_ptr_equal(region_table_find_foreign(&f->model, &f->bob, &disk, 100, 100), &f->a);
        /* Another one's, but shared. */
        assert_null(region_table_find_foreign(&f->model, &f->alice, &disk, 300, 100));
}

static void what_is_unlinked_is_free(void **state)
{
        struct fixture *f = *state;

        list_unlink(&f->a.link);
        assert_null(find(f, &disk, 0, 300));
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(touching_is_not_overlapping),
                TEST(an_empty_region_overlaps_nothing),
                TEST(other_devices_do_not_matter),
                TEST(sharing_takes_two),
                TEST(claims_are_in_the_way_of_others_exports),
                TEST(a_shared_one_does_not_hide_one_that_is_not),
                TEST(ones_own_exports_are_fair_game),
                TEST(what_is_unlinked_is_free),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
