/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 *      holding-file IMAGE HOLD DIR
 *
 * Serves the file DIR/leg, which is IMAGE. Writes that come while there is a file HOLD, to the
 * bytes from the number on that stands in it, are held back until there is a file HOLD.free; that
 * one has come is told by a file HOLD.OFFSET. While there is a file HOLD.emfile, opening the file
 * gives EMFILE. In the foreground; ends when DIR is unmounted.
 */

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH "/leg"
#define LOOK_USEC 5000

static const char *hold;
static int image;

static bool is_held(off_t offset)
{
        FILE *file = fopen(hold, "re");
        long long first = -1;

        if (!file)
                return false;
        if (fscanf(file, "%lld", &first) != 1)
                first = -1;
        (void)fclose(file);
        return first >= 0 && offset >= (off_t)first;
}

static bool is_free(void)
{
        char path[4096];

        (void)snprintf(path, sizeof(path), "%s.free", hold);
        return access(path, F_OK) == 0;
}

static void tell(off_t offset)
{
        char path[4096];

        (void)snprintf(path, sizeof(path), "%s.%lld", hold, (long long)offset);
        (void)close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static int file_getattr(const char *path, struct stat *stat, struct fuse_file_info *fi)
{
        if (strcmp(path, "/") == 0) {
                *stat = (struct stat){ .st_mode = S_IFDIR | 0755, .st_nlink = 2 };
                return 0;
        }
        if (strcmp(path, PATH) != 0)
                return -ENOENT;
        return fstat(image, stat) < 0 ? -errno : 0;
}

static int file_open(const char *path, struct fuse_file_info *fi)
{
        char refuses[4096];

        (void)snprintf(refuses, sizeof(refuses), "%s.emfile", hold);
        if (access(refuses, F_OK) == 0)
                return -EMFILE;
        return strcmp(path, PATH) == 0 ? 0 : -ENOENT;
}

static int file_read(const char *path, char *buffer, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
        ssize_t n = pread(image, buffer, size, offset);

        return n < 0 ? -errno : (int)n;
}

static int file_write(const char *path, const char *buffer, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
        bool held = is_held(offset);
        ssize_t n;

        tell(offset);
        while (held && !is_free())
                (void)usleep(LOOK_USEC);
        n = pwrite(image, buffer, size, offset);
        return n < 0 ? -errno : (int)n;
}

static int file_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
        return 0;
}

static int file_fallocate(const char *path, int mode, off_t offset, off_t length,
                          struct fuse_file_info *fi)
{
        return -EOPNOTSUPP;
}

static const struct fuse_operations operations = {
        .getattr = file_getattr,
        .open = file_open,
        .read = file_read,
        .write = file_write,
        .fsync = file_fsync,
        .fallocate = file_fallocate,
};

int main(int argc, char *argv[])
{
        char *arguments[] = { argv[0], (char *)"-f", NULL, NULL };

        if (argc != 4) {
                (void)fprintf(stderr, "holding-file IMAGE HOLD DIR\n");
                return 2;
        }
        image = open(argv[1], O_RDWR | O_CLOEXEC);
        if (image < 0) {
                perror(argv[1]);
                return 1;
        }
        hold = argv[2];
        arguments[2] = argv[3];
        return fuse_main(3, arguments, &operations, NULL);
}
