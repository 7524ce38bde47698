/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The state folder: files that are always whole, and one daemon that uses them.
 *
 * A write goes to a file beside it, which is made durable, takes the name, and then the folder is
 * made durable. Whenever that is interrupted, the one file is there or the other. What must not be
 * lost is FOLDER_FILE.
 */

#include <errno.h>
#include <stddef.h>

#define FOLDER_FILE "state.json"
#define FOLDER_COUNTERS "counters.json" /* state/counters.h */
#define FOLDER_FILE_NEW "state.json.new"
#define FOLDER_LOCK "lock"

struct folder {
        char *path;
        int fd;      /* of the folder */
        int lock_fd; /* holds the lock for as long as it is open */
        unsigned long n_writes;
};

#define FOLDER_NULL ((struct folder){ .fd = -EBADF, .lock_fd = -EBADF })

/*
 * Open the folder @path, which is made if it is missing, and lock it. Returns 0;
 * -EBUSY if another process has it, and does not end within two seconds; or another negative errno.
 */
int folder_open(struct folder *folder, const char *path);

void folder_close(struct folder *folder);

/* The text of the file @name, to be freed, with a NUL behind it that does not count. -ENOENT: there
 * is none. */
int folder_read(const struct folder *folder, const char *name, char **ret, size_t *ret_length);

/*
 * Replace it. Blocks for as long as the disk takes; any thread, one at a time. After an error the
 * file is the old one; or the new one, if it is the folder that could not be made durable.
 *
 * For tests: DMIO_TEST_STATE_KILL=STEP or STEP:N kills the process (SIGKILL) at that step of the
 * Nth write of FOLDER_FILE (1), and DMIO_TEST_STATE_FAIL=STEP:N:ERRNO lets the step fail, of that
 * and all later writes. The steps: create, write-half, write, sync, rename, sync-folder, done.
 */
int folder_write(struct folder *folder, const char *name, const char *text, size_t length);
