/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The calls of the kernel's dm-io document: the same pages are written to regions of several
 * devices at once, and each region reports for itself.
 *
 *   classic TEXT DEVICE:SECTOR...
 *
 * Writes TEXT, and zeroes up to 8 KiB, to each DEVICE from SECTOR on; then reads it back from those
 * that took it. Exit status: 0 all have it, 1 some do not, 2 usage, 3 nothing was tried.
 *
 *   cc classic.c $(pkg-config --cflags --libs libdmio)
 */

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dmio/dm-io.h>

#define PAGES 2
#define SECTORS (PAGES * DMIO_PAGE_SIZE / DMIO_SECTOR_SIZE)

struct result {
        sem_t done;
        unsigned long error_bits;
};

/* On the engine's thread, once, when all regions are done. */
static void written(unsigned long error, void *context)
{
        struct result *result = context;

        result->error_bits = error;
        sem_post(&result->done);
}

static int open_region(char *argument, struct io_region *where)
{
        char *colon = strrchr(argument, ':'), *end;
        int r;

        if (!colon)
                return -1;
        *colon = '\0';
        where->sector = strtoull(colon + 1, &end, 10);
        where->count = SECTORS;
        if (end == colon + 1 || *end)
                return -1;
        r = dmio_device_open(argument, 0, &where->bdev);
        if (r < 0)
                fprintf(stderr, "%s: %s\n", argument, strerror(-r));
        return r;
}

/* The same bytes to all regions. Returns the error bits, or -1 with nothing submitted. */
static int write_all(unsigned int n, struct io_region *where, struct page *pages,
                     unsigned long *ret_error_bits)
{
        struct page_list list[PAGES];
        struct result result;
        int r;

        for (int i = 0; i < PAGES; i++)
                list[i] = (struct page_list){
                        .next = i + 1 < PAGES ? &list[i + 1] : NULL,
                        .page = &pages[i],
                };
        sem_init(&result.done, 0, 0);
        r = dm_io_async(n, where, DM_IO_WRITE, list, 0, written, &result);
        if (r < 0) {
                fprintf(stderr, "dm_io_async: %s\n", strerror(-r));
                return r;
        }
        /* A program with something else to do would do it now. */
        while (sem_wait(&result.done) < 0)
                ;
        *ret_error_bits = result.error_bits;
        return 0;
}

int main(int argc, char **argv)
{
        static struct page pages[PAGES], back[PAGES];
        struct io_region where[DM_IO_MAX_REGIONS];
        unsigned int n = 0;
        unsigned long bits;
        int status = 0, r;

        if (argc < 3 || argc - 2 > DM_IO_MAX_REGIONS || strlen(argv[1]) > sizeof(pages)) {
                fprintf(stderr, "usage: classic TEXT DEVICE:SECTOR...\n");
                return 2;
        }
        for (; n < (unsigned int)argc - 2; n++)
                if (open_region(argv[n + 2], &where[n]) < 0)
                        return 3;
        memcpy(pages, argv[1], strlen(argv[1]));

        /* As many pages as will be in flight at once: an asynchronous call needs them announced. */
        r = dm_io_get(PAGES);
        if (r < 0) {
                fprintf(stderr, "dm_io_get: %s\n", strerror(-r));
                return 3;
        }
        if (write_all(n, where, pages, &bits) < 0)
                return 3;
        for (unsigned int i = 0; i < n; i++) {
                if (bits & 1UL << i) {
                        printf("region %u, %s: failed\n", i, argv[i + 2]);
                        status = 1;
                        continue;
                }
                /* Synchronous, and from memory in one piece. */
                r = dm_io_sync_vm(1, &where[i], DM_IO_READ, back, NULL);
                if (r < 0 || memcmp(pages, back, sizeof(pages)) != 0) {
                        printf("region %u, %s: not what was written\n", i, argv[i + 2]);
                        status = 1;
                } else {
                        printf("region %u, %s: written\n", i, argv[i + 2]);
                }
        }

        /* The last page ends the engine behind these calls. */
        r = dm_io_put(PAGES);
        if (r < 0)
                fprintf(stderr, "dm_io_put: %s\n", strerror(-r));
        for (unsigned int i = 0; i < n; i++)
                dmio_device_close(where[i].bdev);
        return status;
}
