/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "log.h"
#include "mount/fusermount.h"
#include "mount/mount-internal.h"
#include "mount/ops.h"
#include "mount/session.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Of protocol 7.38 and later; the headers we build with may be older. */
#define INIT_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)
#define INIT_HAS_RESEND (UINT64_C(1) << 39)
#define NOTIFY_RESEND 7

/*
 * What the kernel may be told that it can rely on, of what libfuse or we would like: no more,
 * because whatever is agreed here binds all daemons that take the mount up, of newer builds and of
 * older ones. So what is in here stays, and is kept by every build from now on; what is added makes
 * older builds refuse the mount.
 */
#define AGREEABLE                                                                                  \
        (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |         \
         FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_INIT_EXT |                  \
         INIT_DIRECT_IO_ALLOW_MMAP | INIT_HAS_RESEND)

/* Where the kernel begins to hesitate. */
#define CONGESTION_THRESHOLD 192

/*
 * What the INIT reply says beyond libfuse's defaults. With libfuse's own means:
 * - max_write, max_background: see above. ASYNC_DIO and ASYNC_READ are on by themselves, when
 *   offered; without the first one asynchronous O_DIRECT requests are served one at a time.
 * - no ATOMIC_O_TRUNC: it makes the kernel believe that a file opened with O_TRUNC has size 0 until
 *   it asks again, and reads by others meanwhile end there.
 * - no AUTO_INVAL_DATA: the times of our files do not change, so they tell nothing about data.
 * - max_read only where libfuse mounts: it wants to see the mount option and this field agree, and
 *   where we mount it does not know of the option.
 */
void session_op_init(void *userdata, struct fuse_conn_info *conn)
{
        const struct queue_thread *thread = userdata;

        conn->max_write = SESSION_MAX_WRITE;
        conn->max_background = SESSION_MAX_BACKGROUND;
        conn->congestion_threshold = CONGESTION_THRESHOLD;
        conn->want &= ~(unsigned int)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA);
        if (thread->session.fusermount)
                conn->max_read = MOUNT_MAX_READ;
}

/*
 * And what libfuse 3.14 cannot say:
 * - PARALLEL_DIROPS: it may be wanted, but does not reach the wire.
 * - DIRECT_IO_ALLOW_MMAP, for shared writable mappings, and HAS_RESEND, for a daemon that takes
 *   over: flags above bit 31.
 * - max_pages: it says max_write / 4096; see SESSION_MAX_PAGES.
 */
static void init_amend(struct fuse_init_out *out, const struct fuse_init_in *in)
{
        uint64_t offered = in->flags | (uint64_t)in->flags2 << 32;
        uint64_t flags = FUSE_PARALLEL_DIROPS | INIT_DIRECT_IO_ALLOW_MMAP | INIT_HAS_RESEND;

        flags &= offered;
        out->flags = (out->flags | (uint32_t)flags) & (uint32_t)AGREEABLE;
        out->flags2 = (out->flags2 | (uint32_t)(flags >> 32)) & (uint32_t)(AGREEABLE >> 32);
        if (offered & FUSE_MAX_PAGES)
                out->max_pages = SESSION_MAX_PAGES;
}

/* Before the kernel hears of it: who comes after us finds what we have promised. */
static void init_note(struct queue_thread *thread, const struct fuse_init_out *out)
{
        memory_file_set_agreed(&thread->mount->memory, out->flags | (uint64_t)out->flags2 << 32,
                               out->max_write);
}

bool session_can_keep(const struct memory_agreed *agreed)
{
        return (agreed->flags & ~(uint64_t)AGREEABLE) == 0 &&
               agreed->max_write <= SESSION_MAX_WRITE;
}

/*
 * Every reply that libfuse makes. ENOENT is normal: the request is gone, because who asked was
 * killed or the connection was aborted. Of other errors libfuse would speak on standard error, so
 * they are logged here and hidden from it.
 */
static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
        struct queue_thread *thread = userdata;
        const struct session *session = &thread->session;
        const struct fuse_out_header *out = iov[0].iov_base;
        ssize_t n;

        if (session->swallow)
                return (ssize_t)out->len;
        if (session->init && out->error == 0 && count > 1 &&
            iov[1].iov_len >= sizeof(struct fuse_init_out)) {
                init_amend(iov[1].iov_base, session->init);
                init_note(thread, iov[1].iov_base);
        }

        n = writev(fd, iov, count);
        if (n >= 0 || errno == ENOENT)
                return n;
        log_debug_errno(-errno, "Cannot write a reply, dropping it: %m");
        return (ssize_t)out->len;
}

/* Never called: requests are received by the queue thread. */
static ssize_t session_read(int fd, void *buffer, size_t size, void *userdata)
{
        errno = EIO;
        return -1;
}

static void session_log(enum fuse_log_level level, const char *format, va_list arguments)
        __attribute__((__format__(__printf__, 2, 0)));

static void session_log(enum fuse_log_level level, const char *format, va_list arguments)
{
        char text[256];

        (void)vsnprintf(text, sizeof(text), format, arguments);
        text[strcspn(text, "\n")] = '\0';
        log_message(MIN((int)level, LOG_DEBUG), 0, "libfuse: %s", text);
}

static const struct fuse_custom_io session_io = {
        .writev = session_writev,
        .read = session_read,
};

static int session_new(struct session *session, struct queue_thread *thread, char **argv, int argc,
                       int fd)
{
        struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
        int r;

        fuse_set_log_func(session_log);
        session->fuse = fuse_session_new(&args, &ops_lowlevel, sizeof(ops_lowlevel), thread);
        fuse_opt_free_args(&args);
        if (!session->fuse) {
                log_error("libfuse refuses to make a session");
                return -ENOMEM;
        }

        r = fuse_session_custom_io(session->fuse, &session_io, fd);
        if (r < 0)
                return log_error_errno(r, "libfuse refuses our descriptor: %m");
        return 0;
}

/* The kernel waits in the ring, never in a read(2) of this thread. */
static int set_nonblocking(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return log_error_errno(-errno, "Cannot set up /dev/fuse: %m");
        return 0;
}

int session_init(struct session *session, struct queue_thread *thread, int fd)
{
        char *argv[] = { (char *)"dmiod", NULL };
        int r;

        session->fd = fd;
        r = set_nonblocking(fd);
        if (r < 0)
                return r;
        return session_new(session, thread, argv, 1, fd);
}

int session_init_fusermount(struct session *session, struct queue_thread *thread, const char *path)
{
        char options[96];
        char *argv[] = { (char *)"dmiod", (char *)"-o", options, NULL };
        DMIO_CLEANUP(close_fdp) int placeholder = -EBADF;
        int r;

        (void)snprintf(options, sizeof(options),
                       "fsname=dmiod,subtype=dmiod,default_permissions,max_read=%d",
                       MOUNT_MAX_READ);

        /* The hooks want a descriptor when they are set; mounting then replaces it. */
        placeholder = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (placeholder < 0)
                return log_error_errno(-errno, "Cannot open /dev/null: %m");
        r = session_new(session, thread, argv, 3, placeholder);
        if (r < 0) {
                session->fd = DMIO_TAKE_FD(placeholder);
                return r;
        }

        if (fuse_session_mount(session->fuse, path) < 0) {
                session->fd = DMIO_TAKE_FD(placeholder);
                log_error("Cannot mount at %s through fusermount3: %s", path, fusermount_hint());
                return -EIO;
        }
        session->fusermount = true;
        session->fd = fuse_session_fd(session->fuse);
        return set_nonblocking(session->fd);
}

int session_clone_fd(int fd)
{
        DMIO_CLEANUP(close_fdp) int clone = -EBADF;
        uint32_t source = (uint32_t)fd;

        clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (clone < 0 || ioctl(clone, FUSE_DEV_IOC_CLONE, &source) < 0)
                return -errno;
        return DMIO_TAKE_FD(clone);
}

void session_deinit(struct session *session)
{
        /* Destroying closes the descriptor, once the session has it. */
        if (session->fuse)
                fuse_session_destroy(session->fuse);
        else
                (void)close_fd(session->fd);
        *session = (struct session)SESSION_NULL;
}

void session_unmount(struct session *session)
{
        if (session->fusermount) {
                fuse_session_unmount(session->fuse);
                session->fusermount = false;
                session->fd = -EBADF;
        }
}

int session_process(struct session *session, const struct fuse_in_header *in, size_t length,
                    bool *ret_init)
{
        struct fuse_buf buffer = { .mem = (void *)in, .size = length };

        /* libfuse believes what the header says. */
        if (length < sizeof(*in) || in->len != length)
                return -EBADMSG;

        if (in->opcode != FUSE_INIT) {
                fuse_session_process_buf(session->fuse, &buffer);
                return 0;
        }

        if (length < sizeof(*in) + sizeof(*session->init))
                return -EBADMSG;
        session->init = (const struct fuse_init_in *)(in + 1);
        fuse_session_process_buf(session->fuse, &buffer);
        session->init = NULL;
        if (fuse_session_exited(session->fuse))
                return -EPROTO;
        *ret_init = true;
        return 0;
}

int session_replay_init(struct session *session, const void *init, size_t length)
{
        struct fuse_buf buffer = { .mem = (void *)init, .size = length };

        session->swallow = true;
        fuse_session_process_buf(session->fuse, &buffer);
        session->swallow = false;
        return fuse_session_exited(session->fuse) ? -EPROTO : 0;
}

/* Of the flags above bit 31. */
static bool init_offers(const void *init, size_t length, uint64_t flag)
{
        const struct fuse_init_in *in = (const void *)((const struct fuse_in_header *)init + 1);
        size_t least = sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, unused);

        if (length < least || !(in->flags & FUSE_INIT_EXT))
                return false;
        return (uint64_t)in->flags2 << 32 & flag;
}

bool session_can_resend(const void *init, size_t length)
{
        return init_offers(init, length, INIT_HAS_RESEND);
}

bool session_direct_is_coherent(const void *init, size_t length)
{
        return init_offers(init, length, INIT_DIRECT_IO_ALLOW_MMAP);
}

int session_resend(int fd)
{
        /* A notification: no request is answered, and error is its number. */
        const struct fuse_out_header header = { .len = sizeof(header), .error = NOTIFY_RESEND };

        return write(fd, &header, sizeof(header)) < 0 ? -errno : 0;
}

int session_answer(int fd, uint64_t unique, int error, const void *data, size_t size)
{
        struct fuse_out_header header = {
                .len = (uint32_t)(sizeof(header) + size),
                .error = error,
                .unique = unique,
        };
        const struct iovec iov[] = { { &header, sizeof(header) }, { (void *)data, size } };

        return writev(fd, iov, size > 0 ? 2 : 1) < 0 ? -errno : 0;
}
