/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Requests as the kernel may send them, to a real queue thread whose /dev/fuse is a socket that
 * keeps messages apart. Each has to be answered, once, by an answer that says its own length.
 *
 * What is made of the bytes is what a kernel could send: libfuse, which decodes, believes that the
 * structs are whole, names have an end, and lengths are right. So those are made right here, and
 * everything inside them is as wrong as it likes: numbers of nodes and files, offsets, sizes,
 * flags, users, the order. A part is sent with lengths that are wrong all the same: our own check
 * must keep it from libfuse.
 *
 * A request of the input: operation, node and file, user (bytes), two bytes of length, the body.
 */

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "mount/mount-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"
#include "world.h"

#define REQUEST_MAX ((size_t)64 * 1024)
#define OUTSTANDING_MAX 4
#define FILES_MAX 8
#define ANSWER_MSEC 20000
#define REQUESTS_MAX 64

static const struct request_kind {
        uint32_t opcode;
        uint16_t body; /* bytes of its struct */
        uint8_t names; /* that follow it */
        bool is_unanswered;
        int16_t fh;   /* where the number of the file is, or -1 */
        int16_t size; /* where a 32-bit size is that the kernel bounds, or -1 */
} operations[] = {
        { FUSE_LOOKUP, 0, 1, false, -1, -1 },
        { FUSE_FORGET, sizeof(struct fuse_forget_in), 0, true, -1, -1 },
        { FUSE_GETATTR, sizeof(struct fuse_getattr_in), 0, false, 8, -1 },
        { FUSE_SETATTR, sizeof(struct fuse_setattr_in), 0, false, 8, -1 },
        { FUSE_READLINK, 0, 0, false, -1, -1 },
        { FUSE_SYMLINK, 0, 2, false, -1, -1 },
        { FUSE_MKNOD, sizeof(struct fuse_mknod_in), 1, false, -1, -1 },
        { FUSE_MKDIR, sizeof(struct fuse_mkdir_in), 1, false, -1, -1 },
        { FUSE_UNLINK, 0, 1, false, -1, -1 },
        { FUSE_RMDIR, 0, 1, false, -1, -1 },
        { FUSE_RENAME, sizeof(struct fuse_rename_in), 2, false, -1, -1 },
        { FUSE_RENAME2, sizeof(struct fuse_rename2_in), 2, false, -1, -1 },
        { FUSE_LINK, sizeof(struct fuse_link_in), 1, false, -1, -1 },
        { FUSE_OPEN, sizeof(struct fuse_open_in), 0, false, -1, -1 },
        { FUSE_READ, sizeof(struct fuse_read_in), 0, false, 0, 16 },
        { FUSE_WRITE, sizeof(struct fuse_write_in), 0, false, 0, 16 },
        { FUSE_STATFS, 0, 0, false, -1, -1 },
        { FUSE_RELEASE, sizeof(struct fuse_release_in), 0, false, 0, -1 },
        { FUSE_FSYNC, sizeof(struct fuse_fsync_in), 0, false, 0, -1 },
        { FUSE_SETXATTR, 8, 1, false, -1, 0 }, /* libfuse speaks of the old, short struct */
        { FUSE_GETXATTR, sizeof(struct fuse_getxattr_in), 1, false, -1, 0 },
        { FUSE_LISTXATTR, sizeof(struct fuse_getxattr_in), 0, false, -1, 0 },
        { FUSE_REMOVEXATTR, 0, 1, false, -1, -1 },
        { FUSE_FLUSH, sizeof(struct fuse_flush_in), 0, false, 0, -1 },
        { FUSE_OPENDIR, sizeof(struct fuse_open_in), 0, false, -1, -1 },
        { FUSE_READDIR, sizeof(struct fuse_read_in), 0, false, 0, 16 },
        { FUSE_READDIRPLUS, sizeof(struct fuse_read_in), 0, false, 0, 16 },
        { FUSE_RELEASEDIR, sizeof(struct fuse_release_in), 0, false, 0, -1 },
        { FUSE_FSYNCDIR, sizeof(struct fuse_fsync_in), 0, false, 0, -1 },
        { FUSE_GETLK, sizeof(struct fuse_lk_in), 0, false, 0, -1 },
        { FUSE_SETLK, sizeof(struct fuse_lk_in), 0, false, 0, -1 },
        { FUSE_ACCESS, sizeof(struct fuse_access_in), 0, false, -1, -1 },
        { FUSE_CREATE, sizeof(struct fuse_create_in), 1, false, -1, -1 },
        { FUSE_INTERRUPT, sizeof(struct fuse_interrupt_in), 0, true, -1, -1 },
        { FUSE_BMAP, sizeof(struct fuse_bmap_in), 0, false, -1, -1 },
        { FUSE_IOCTL, sizeof(struct fuse_ioctl_in), 0, false, 0, 24 },
        { FUSE_POLL, sizeof(struct fuse_poll_in), 0, false, 0, -1 },
        { FUSE_FALLOCATE, sizeof(struct fuse_fallocate_in), 0, false, 0, -1 },
        { FUSE_LSEEK, sizeof(struct fuse_lseek_in), 0, false, 0, -1 },
        { FUSE_COPY_FILE_RANGE, sizeof(struct fuse_copy_file_range_in), 0, false, 0, -1 },
        { FUSE_BATCH_FORGET, sizeof(struct fuse_batch_forget_in), 0, true, -1, -1 },
        { 4242, 0, 0, false, -1, -1 },
};

static struct mount mount;
static struct queue_thread thread;
static int kernel = -1; /* our end */
static uint64_t unique;
static uint64_t nodes[12];
static unsigned int n_nodes;

struct open_request {
        uint64_t unique;
        uint32_t opcode;
};

static struct open_request outstanding[OUTSTANDING_MAX];
static unsigned int n_outstanding;
static uint64_t files[FILES_MAX];
static unsigned int n_files;

/* Takes one answer. */
static void take_answer(void)
{
        static union {
                struct fuse_out_header out;
                char bytes[1 << 20];
        } answer;
        struct pollfd pollfd = { .fd = kernel, .events = POLLIN };
        unsigned int i;
        ssize_t n;

        fuzz_require(poll(&pollfd, 1, ANSWER_MSEC) == 1);
        n = recv(kernel, &answer, sizeof(answer), 0);
        fuzz_require(n >= (ssize_t)sizeof(answer.out) && answer.out.len == (uint32_t)n);
        fuzz_require(answer.out.error <= 0 && answer.out.error > -1000);
        for (i = 0; i < n_outstanding && outstanding[i].unique != answer.out.unique; i++)
                continue;
        fuzz_require(i < n_outstanding);
        if (outstanding[i].opcode == FUSE_OPEN && answer.out.error == 0) {
                const struct fuse_open_out *out = (const void *)(&answer.out + 1);

                fuzz_require(n_files < FILES_MAX);
                files[n_files++] = out->fh;
        }
        outstanding[i] = outstanding[--n_outstanding];
}

static void send_request(const void *request, size_t length, bool is_answered)
{
        const struct fuse_in_header *in = request;

        if (is_answered) {
                while (n_outstanding == OUTSTANDING_MAX)
                        take_answer();
                outstanding[n_outstanding++] = (struct open_request){ in->unique, in->opcode };
        }
        fuzz_require(send(kernel, request, length, 0) == (ssize_t)length);
}

static void wait_for_answers(void)
{
        while (n_outstanding > 0)
                take_answer();
}

static void release(uint64_t fh)
{
        struct {
                struct fuse_in_header in;
                struct fuse_release_in body;
        } request = {
                .in = { .len = sizeof(request),
                        .opcode = FUSE_RELEASE,
                        .unique = unique += 2,
                        .nodeid = 1 },
                .body = { .fh = fh },
        };

        send_request(&request, sizeof(request), true);
        for (unsigned int i = 0; i < n_files; i++) {
                if (files[i] != fh)
                        continue;
                files[i] = files[--n_files];
                break;
        }
}

static void say_init(void)
{
        struct {
                struct fuse_in_header in;
                struct fuse_init_in body;
        } request = {
                .in = { .len = sizeof(request), .opcode = FUSE_INIT, .unique = unique += 2 },
                .body = { .major = 7, .minor = 38, .max_readahead = 131072, .flags = UINT32_MAX },
        };

        request.body.flags &= ~(uint32_t)FUSE_SETXATTR_EXT;
        send_request(&request, sizeof(request), true);
        wait_for_answers();
        pthread_mutex_lock(&mount.start_lock);
        while (thread.state == 0)
                pthread_cond_wait(&mount.start_changed, &mount.start_lock);
        pthread_mutex_unlock(&mount.start_lock);
        fuzz_require(thread.state == 1);
}

static void make_export(struct world *world, struct client *client, const char *name,
                        unsigned int n_legs, sector_t sector, sector_t count, bool read_only)
{
        struct model_refusal refusal;
        struct leg_spec legs[WORLD_DISKS];
        struct export *export;

        for (unsigned int i = 0; i < n_legs; i++) {
                legs[i] = (struct leg_spec){ .device = strdup("disk"),
                                             .sector = sector,
                                             .count = count };
                fuzz_require(dmio_device_from_fd(world->disk_fds[i], 0, &legs[i].bdev) == 0);
        }
        fuzz_require(export_new(client, name, legs, n_legs, read_only, false, EXPORT_CACHE_MAPPED,
                                &export, &refusal) == MODEL_OK);
        nodes[n_nodes++] = export->node.id;
}

static void set_up(void)
{
        const struct peer peer = { .uid = WORLD_UID, .gid = WORLD_UID };
        struct world *world = world_get();
        struct model_refusal refusal;
        struct client *client;
        int pair[2], size = 4 << 20;

        world->model.n_lanes = 1;
        fuzz_require(client_new(&world->model, "c", &peer, 160, true, 0, &client, &refusal) == 0);
        nodes[n_nodes++] = NODE_ROOT;
        nodes[n_nodes++] = NODE_ROOT_STATUS;
        nodes[n_nodes++] = client->node.id;
        nodes[n_nodes++] = client->status_node.id;
        make_export(world, client, "one", 1, 0, 200, false);
        make_export(world, client, "two", 2, 256, 1025, false);
        make_export(world, client, "ro", 1, 1536, 64, true);

        fuzz_require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        kernel = pair[0];
        for (int i = 0; i < 2; i++)
                if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
                        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

        mount.model = &world->model;
        fuzz_require(memory_file_new(&mount.memory) == 0);
        handle_table_init(&mount.handles, &mount.memory);
        orphans_init(&mount.orphans, &mount);
        for (unsigned int i = 0; i < MEMORY_QUEUES; i++)
                mount.clones[i] = -EBADF;
        pthread_mutex_init(&mount.start_lock, NULL);
        pthread_cond_init(&mount.start_changed, NULL);
        fuzz_require(dm_io_client_create(world->engine, THREAD_PAGES, &mount.io) == 0);
        mount.n_threads = 1;
        mount.threads = &thread;
        thread.mount = &mount;
        thread.session = (struct session)SESSION_NULL;
        thread.n_windows = WINDOWS;
        interrupts_init(&thread.interrupts);
        fuzz_require(session_init(&thread.session, &thread, pair[1]) == 0);
        fuzz_require(queue_thread_start(&thread) == 0);
        say_init();
}

/* A transfer ends a moment after its answer has been read. */
static void wait_for_transfers(void)
{
        for (unsigned int i = 0; __atomic_load_n(&thread.n_transfers, __ATOMIC_RELAXED) > 0; i++) {
                fuzz_require(i < ANSWER_MSEC * 10);
                (void)usleep(100);
        }
}

/* Bound the size that stands there, as the kernel does. */
static void bound_size(char *at, uint32_t max)
{
        uint32_t size;

        memcpy(&size, at, sizeof(size));
        size %= max + 1;
        memcpy(at, &size, sizeof(size));
}

/* A request that the kernel could send, from any bytes. */
static void make_request(const struct request_kind *operation, uint8_t where, uint8_t who,
                         const uint8_t *bytes, size_t length)
{
        static union {
                struct fuse_in_header in;
                char bytes[REQUEST_MAX + 256];
        } request;
        char *body = request.bytes + sizeof(request.in), *end;
        size_t n = MIN(length, (size_t)operation->body);

        memset(&request, 0, sizeof(request.in) + operation->body);
        memcpy(body, bytes, n);
        bytes += n;
        length -= n;
        end = body + operation->body;

        if (operation->fh >= 0 && n_files > 0 && !(where & 0x80))
                memcpy(body + operation->fh, &files[where % n_files], sizeof(files[0]));
        if (operation->size >= 0)
                bound_size(body + operation->size, 32768);
        for (unsigned int i = 0; i < operation->names; i++) {
                n = strnlen((const char *)bytes, MIN(length, (size_t)255));
                memcpy(end, bytes, n);
                end[n] = '\0';
                end += n + 1;
                bytes += n;
                length -= n;
                if (length > 0) {
                        bytes++;
                        length--;
                }
        }
        if (operation->opcode == FUSE_WRITE || operation->opcode == FUSE_SETXATTR ||
            operation->opcode == FUSE_IOCTL) {
                uint32_t size = (uint32_t)MIN(length, REQUEST_MAX - 1024);

                memcpy(end, bytes, size);
                memcpy(body + operation->size, &size, sizeof(size));
                end += size;
        }

        request.in = (struct fuse_in_header){
                .len = (uint32_t)(end - request.bytes),
                .opcode = operation->opcode,
                .unique = unique += 2,
                .nodeid = where & 0x40 ? who : nodes[where % n_nodes],
                .uid = who & 1   ? WORLD_UID
                       : who & 2 ? 0
                                 : 65534,
                .pid = 1,
        };
        if (who & 0x80) {
                /* As no kernel sends it: it is dropped, and libfuse does not get to see it. */
                request.in.len += 1 + (who & 0x7f);
                send_request(&request, (size_t)(end - request.bytes) / (who & 4 ? 2 : 1), false);
                return;
        }
        if (operation->opcode == FUSE_OPEN && n_files + n_outstanding >= FILES_MAX)
                release(files[0]);
        if (operation->opcode == FUSE_RELEASE) {
                uint64_t fh;

                memcpy(&fh, body, sizeof(fh));
                for (unsigned int i = 0; i < n_files; i++)
                        if (files[i] == fh)
                                files[i] = files[--n_files];
        }
        send_request(&request, request.in.len, !operation->is_unanswered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (kernel < 0)
                set_up();

        for (unsigned int i = 0; size >= 5 && i < REQUESTS_MAX; i++) {
                const struct request_kind *operation =
                        &operations[data[0] % ARRAY_SIZE(operations)];
                size_t length = MIN(data[3] | (size_t)data[4] << 8, size - 5);

                make_request(operation, data[1], data[2], data + 5, length);
                data += 5 + length;
                size -= 5 + length;
        }
        wait_for_answers();
        while (n_files > 0) {
                release(files[0]);
                wait_for_answers();
        }
        wait_for_transfers();
        return 0;
}
