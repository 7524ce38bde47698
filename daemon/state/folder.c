/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "state/folder.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Two seconds. */
#define LOCK_TRIES 200
#define LOCK_PAUSE_NSEC 10000000

#define READ_STEP ((size_t)64 * 1024)

/* The steps of a write, each of which a test may let be the last one. */
enum step {
        STEP_CREATE,
        STEP_WRITE_HALF,
        STEP_WRITE,
        STEP_SYNC,
        STEP_RENAME,
        STEP_SYNC_FOLDER,
        STEP_DONE,
        _STEP_MAX,
};

static const char *const step_names[_STEP_MAX] = {
        [STEP_CREATE] = "create", [STEP_WRITE_HALF] = "write-half",
        [STEP_WRITE] = "write",   [STEP_SYNC] = "sync",
        [STEP_RENAME] = "rename", [STEP_SYNC_FOLDER] = "sync-folder",
        [STEP_DONE] = "done",
};

/* Does @variable name @step of this write? With the errno that it asks for, if it does. */
static bool fault_is_asked_for(const char *variable, enum step step, unsigned long n_write,
                               bool later, int *ret_error)
{
        const char *value = getenv(variable);
        size_t length = strlen(step_names[step]);
        unsigned long from = 1;
        char *end;

        if (!value || strncmp(value, step_names[step], length) != 0)
                return false;
        value += length;
        if (*value == ':') {
                from = strtoul(value + 1, &end, 10);
                value = end;
        }
        if (*value == ':')
                *ret_error = -(int)strtol(value + 1, &end, 10);
        else if (*value)
                return false;
        return later ? n_write >= from : n_write == from;
}

/* What a test wants to happen in place of @step, or just before it. */
static int fault(enum step step, unsigned long n_write)
{
        int error = 0;

        if (fault_is_asked_for("DMIO_TEST_STATE_KILL", step, n_write, false, &error))
                (void)kill(getpid(), SIGKILL);
        if (fault_is_asked_for("DMIO_TEST_STATE_FAIL", step, n_write, true, &error))
                return error;
        return 0;
}

/* A folder that is new is only there for good when the one above it knows. */
static int sync_parent(int fd)
{
        DMIO_CLEANUP(close_fdp) int parent = -EBADF;

        parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return parent < 0 || fsync(parent) < 0 ? -errno : 0;
}

/* With those above it, which a user who is new here may not have. Was it made? */
static int make_folder(const char *path, bool *ret_made)
{
        DMIO_CLEANUP(freep) char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdir(copy, 0700) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        *ret_made = mkdir(path, 0700) == 0;
        return *ret_made || errno == EEXIST ? 0 : -errno;
}

/* A process that was killed has it until the kernel is done with the last of its threads. */
static int lock(int fd)
{
        const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NSEC };

        for (unsigned int i = 0; i < LOCK_TRIES; i++) {
                if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                        return 0;
                if (errno != EWOULDBLOCK)
                        return -errno;
                (void)nanosleep(&pause, NULL);
        }
        errno = EWOULDBLOCK;
        return -EWOULDBLOCK;
}

int folder_open(struct folder *folder, const char *path)
{
        bool made = false;
        int r;

        *folder = FOLDER_NULL;
        folder->path = strdup(path);
        if (!folder->path)
                return -ENOMEM;

        r = make_folder(path, &made);
        if (r < 0) {
                folder_close(folder);
                return r;
        }
        folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder->fd < 0 || (made && sync_parent(folder->fd) < 0))
                goto fail;
        folder->lock_fd =
                openat(folder->fd, FOLDER_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (folder->lock_fd < 0)
                goto fail;
        if (lock(folder->lock_fd) < 0)
                goto fail;
        return 0;

fail:
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        folder_close(folder);
        return r;
}

void folder_close(struct folder *folder)
{
        close_fd(folder->lock_fd);
        close_fd(folder->fd);
        free(folder->path);
        *folder = FOLDER_NULL;
}

int folder_read(const struct folder *folder, const char *name, char **ret, size_t *ret_length)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        DMIO_CLEANUP(freep) char *text = NULL;
        size_t length = 0;

        fd = openat(folder->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        for (;;) {
                char *larger = realloc(text, length + READ_STEP + 1);
                ssize_t n;

                if (!larger)
                        return -ENOMEM;
                text = larger;
                n = read(fd, text + length, READ_STEP);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                length += n > 0 ? (size_t)n : 0;
        }
        text[length] = '\0';
        *ret = DMIO_TAKE(text);
        *ret_length = length;
        return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
        while (length > 0) {
                ssize_t n = write(fd, text, length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                text += n;
                length -= (size_t)n;
        }
        return 0;
}

/* A file of that text, durable but for its name. */
static int write_file(struct folder *folder, const char *text, size_t length, unsigned long n_write)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        int r;

        r = fault(STEP_CREATE, n_write);
        if (r < 0)
                return r;
        fd = openat(folder->fd, FOLDER_FILE_NEW,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        r = write_all(fd, text, length / 2);
        if (r == 0)
                r = fault(STEP_WRITE_HALF, n_write);
        if (r == 0)
                r = write_all(fd, text + length / 2, length - length / 2);
        if (r == 0)
                r = fault(STEP_WRITE, n_write);
        if (r == 0)
                r = fault(STEP_SYNC, n_write);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        return r;
}

int folder_write(struct folder *folder, const char *name, const char *text, size_t length)
{
        /* Faults are for the file that others wait for. */
        unsigned long n_write = strcmp(name, FOLDER_FILE) == 0 ? ++folder->n_writes : 0;
        int r;

        r = write_file(folder, text, length, n_write);
        if (r == 0)
                r = fault(STEP_RENAME, n_write);
        if (r == 0 && renameat(folder->fd, FOLDER_FILE_NEW, folder->fd, name) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlinkat(folder->fd, FOLDER_FILE_NEW, 0);
                return r;
        }

        r = fault(STEP_SYNC_FOLDER, n_write);
        if (r == 0 && fsync(folder->fd) < 0)
                r = -errno;
        if (r == 0)
                (void)fault(STEP_DONE, n_write);
        return r;
}
