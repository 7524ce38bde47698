/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "device-internal.h"
#include "op-call.h"
#include "util/macros.h"

/* From there on copying takes longer than handing over, and others can do it meanwhile. */
#define BRIEF_BYTES ((size_t)128 * 1024)

static int op_transfer(const struct dmio_op *op, int fd, int flags)
{
        int n_iov = (int)op->n_iov;
        off_t at = (off_t)op->offset;
        ssize_t n;

        for (;;) {
                n = op->type == DMIO_OP_WRITEV ? pwritev2(fd, op->iov, n_iov, at, flags)
                                               : preadv2(fd, op->iov, n_iov, at, flags);
                if (n >= 0)
                        return (int)n; /* the kernel transfers less than 2 GiB at once */
                /* What has no offsets is read and written where it stands. */
                if (errno != ESPIPE || at == -1)
                        return -errno;
                at = -1;
        }
}

static int op_discard(const struct dmio_op *op, int fd)
{
        uint64_t range[2] = { op->offset, op->length };

        if (ioctl(fd, BLKDISCARD, range) == 0)
                return 0;
        return errno == ENOTTY ? -EOPNOTSUPP : -errno;
}

int op_call(const struct dmio_op *op, int rw_flags)
{
        int fd = op->bdev ? op->bdev->fd : op->fd;

        switch (op->type) {
        case DMIO_OP_READV:
        case DMIO_OP_WRITEV:
                return op_transfer(op, fd, op->rw_flags | rw_flags);
        case DMIO_OP_FDATASYNC:
                return fdatasync(fd) < 0 ? -errno : 0;
        case DMIO_OP_FALLOCATE:
                if (fallocate(fd, op->mode, (off_t)op->offset, (off_t)op->length) < 0)
                        return -errno;
                return 0;
        case DMIO_OP_DISCARD:
                return op_discard(op, fd);
        case DMIO_OP_NOP:
                return 0;
        }
        return -EINVAL;
}

bool op_is_brief(const struct dmio_op *op)
{
        size_t bytes = 0;

        /* Touching memory that is somebody's mapping may have to wait for a file server. */
        if (!op->bdev || !op->bdev->in_memory || op->shared)
                return false;
        switch (op->type) {
        case DMIO_OP_READV:
        case DMIO_OP_WRITEV:
                for (unsigned int i = 0; i < op->n_iov && bytes <= BRIEF_BYTES; i++)
                        bytes += MIN(op->iov[i].iov_len, BRIEF_BYTES + 1);
                return bytes <= BRIEF_BYTES;
        case DMIO_OP_FALLOCATE:
                return op->length <= BRIEF_BYTES;
        case DMIO_OP_FDATASYNC:
        case DMIO_OP_NOP:
                return true;
        case DMIO_OP_DISCARD:
                break;
        }
        return false;
}
