/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dmioctl/data.h"
#include "dmioctl/errors.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"
#include "util/macros.h"

int data_new(uint64_t length, int *ret)
{
        DMIO_CLEANUP(close_fdp)
        int fd = memfd_create("dmioctl-io", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        /* Sealed, because a daemon that maps it must not find it shorter one day. */
        if (fd < 0 || ftruncate(fd, (off_t)length) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
                complain("cannot make %" PRIu64 " bytes of memory: %s; use fewer sectors at once",
                         length, strerror(errno));
                return STATUS_REFUSED;
        }
        *ret = DMIO_TAKE_FD(fd);
        return STATUS_OK;
}

static ssize_t read_some(int fd, void *buffer, size_t length)
{
        ssize_t n;

        do
                n = read(fd, buffer, length);
        while (n < 0 && errno == EINTR);
        return n;
}

/* Move @length bytes, or less if @from ends before; -1 with errno and whose it was. */
static int copy_bytes(int from, int to, uint64_t length, uint64_t *ret_done,
                      const char **ret_trouble)
{
        static char buffer[256 << 10];
        uint64_t done = 0;

        while (done < length) {
                ssize_t n = read_some(from, buffer, MIN(length - done, sizeof(buffer)));

                *ret_trouble = "read";
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                *ret_trouble = "write";
                for (ssize_t put = 0; put < n;) {
                        ssize_t m = write(to, buffer + put, (size_t)(n - put));

                        if (m < 0 && errno != EINTR)
                                return -errno;
                        put += m > 0 ? m : 0;
                }
                done += (uint64_t)n;
        }
        *ret_done = done;
        return 0;
}

int data_read_input(const struct invocation *invocation, int memory, uint64_t length)
{
        const char *trouble;
        struct stat st;
        uint64_t done;
        char more;
        ssize_t n;
        int r;

        r = copy_bytes(STDIN_FILENO, memory, length, &done, &trouble);
        if (r < 0) {
                complain("cannot %s the data: %s; nothing was asked of the daemon, try again",
                         trouble, strerror(-r));
                return STATUS_REFUSED;
        }
        if (done < length)
                return complain_usage(invocation->verb,
                                      "standard input has %" PRIu64
                                      " bytes, the regions need %" PRIu64,
                                      done, length);

        n = read_some(STDIN_FILENO, &more, 1);
        if (n < 0) {
                complain("cannot read the data: %s; nothing was asked of the daemon, try again",
                         strerror(errno));
                return STATUS_REFUSED;
        }
        if (n == 0)
                return STATUS_OK;
        if (fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode)) {
                off_t left = st.st_size - lseek(STDIN_FILENO, 0, SEEK_CUR);

                return complain_usage(invocation->verb,
                                      "standard input has %" PRIu64
                                      " bytes, the regions need %" PRIu64,
                                      length + 1 + (uint64_t)MAX(left, (off_t)0), length);
        }
        return complain_usage(invocation->verb,
                              "standard input has more than %" PRIu64
                              " bytes, the regions need %" PRIu64,
                              length, length);
}

int data_write_output(int memory, uint64_t length)
{
        const char *trouble;
        uint64_t done;
        int r;

        if (lseek(memory, 0, SEEK_SET) < 0)
                r = -errno;
        else
                r = copy_bytes(memory, STDOUT_FILENO, length, &done, &trouble);
        if (r < 0) {
                complain("cannot write the data to standard output: %s; read them again",
                         strerror(-r));
                return STATUS_REFUSED;
        }
        return STATUS_OK;
}

int data_open_output(const char *path, uint64_t length, int *ret)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;

        /* To be mapped by the daemon it must be open for reading, too, and as long as the data. */
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
        if (fd < 0 || ftruncate(fd, (off_t)length) < 0) {
                int error = errno;

                complain("cannot make '%s' %" PRIu64 " bytes long: %s; %s", path, length,
                         strerror(error), errno_advice(error));
                return STATUS_REFUSED;
        }
        *ret = DMIO_TAKE_FD(fd);
        return STATUS_OK;
}
