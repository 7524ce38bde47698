/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>

#include "log.h"
#include "model/counters-file.h"
#include "model/export.h"
#include "mount/copy-range.h"
#include "mount/mount-internal.h"
#include "mount/ops.h"
#include "mount/resume.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* What is being counted for the log. */
struct resume {
        struct mount *mount;
        int fd;
        unsigned int n_answered, n_orphans, n_lost;
};

static const void *body_of(const struct memory_slot *slot)
{
        return &slot->in + 1;
}

/* All that its operation looks at is in the slot. */
static bool is_whole(const struct memory_slot *slot)
{
        return slot->in.opcode != FUSE_WRITE && slot->in.len <= SLOT_REQUEST &&
               (slot->in.len <= SLOT_HEADER || atomic_load(&slot->whole));
}

/* The descriptor that the request was received by, or -EBADF: it has been ended with that. */
static int fd_of(const struct resume *resume, unsigned int queue)
{
        return queue == 0 ? resume->fd : resume->mount->clones[queue];
}

static void answer(struct resume *resume, unsigned int queue, struct memory_slot *slot, int error,
                   const void *data, size_t size)
{
        int r = session_answer(fd_of(resume, queue), slot->in.unique, error, data, size);

        if (r == 0)
                resume->n_answered++;
        else if (r != -ENOENT && r != -EBADF)
                log_debug_errno(r, "Cannot answer what a killed daemon had done: %m");
}

/* What a request says that changes bytes answers with: how many, or nothing. */
static void answer_result(struct resume *resume, unsigned int queue, struct memory_slot *slot,
                          int64_t result)
{
        const struct fuse_write_out out = { .size = (uint32_t)result };
        bool counts = slot->in.opcode == FUSE_WRITE || slot->in.opcode == FUSE_COPY_FILE_RANGE;

        if (result < 0)
                answer(resume, queue, slot, (int)result, NULL, 0);
        else
                answer(resume, queue, slot, 0, &out, counts ? sizeof(out) : 0);
}

/* With a reference, or NULL. */
static struct export *find_export(struct mount *mount, uint64_t id)
{
        struct export *export = NULL;
        const struct node *node;

        pthread_mutex_lock(&mount->model->lock);
        node = model_find_node(mount->model, id);
        if (node && node->type == NODE_TYPE_EXPORT)
                export = export_ref(node->export);
        pthread_mutex_unlock(&mount->model->lock);
        return export;
}

/* An export that is gone has nothing to be put in order; the request hears of ENODEV. */
static int add_orphan(struct resume *resume, enum orphan_kind kind, struct memory_slot *slot,
                      _Atomic(uint32_t) *chunk, uint64_t node, uint64_t offset, uint64_t length)
{
        struct export *export = find_export(resume->mount, node);
        uint64_t size;
        int r = -ENODEV;

        if (export) {
                size = export->sectors << DMIO_SECTOR_SHIFT;
                length = offset < size ? MIN(length, size - offset) : 0;
                r = length == 0 ? -EBADMSG
                                : orphans_add(&resume->mount->orphans, kind, slot, chunk, export,
                                              offset, length);
                export_unref(export);
        }
        if (r == 0)
                resume->n_orphans++;
        return r == -ENODEV || r == -EEXIST ? 0 : r;
}

static uint64_t chunk_length(const struct fuse_copy_file_range_in *in, uint64_t at)
{
        uint64_t length = MIN(in->len, COPY_MAX);

        return at < length ? MIN(length - at, COPY_CHUNK_BYTES) : 0;
}

/* How far a copy has come without a gap. */
static uint64_t copy_progress(const struct memory_slot *slot)
{
        const struct fuse_copy_file_range_in *in = body_of(slot);
        int64_t noted = atomic_load(&slot->result);
        uint64_t progress = noted > 0 ? (uint64_t)noted : 0;

        for (unsigned int i = 0; i < SLOT_CHUNKS; i++) {
                uint32_t next = (uint32_t)(progress / COPY_CHUNK_BYTES) + 1;

                for (unsigned int j = 0; j < SLOT_CHUNKS; j++)
                        if (atomic_load(&slot->chunks[j]) == (next | SLOT_CHUNK_DONE))
                                progress += chunk_length(in, progress);
        }
        return progress;
}

static int take_copy(struct resume *resume, unsigned int queue, struct memory_slot *slot)
{
        const struct fuse_copy_file_range_in *in = body_of(slot);
        uint64_t progress = copy_progress(slot);
        int r = 0;

        if (!is_whole(slot))
                return -EBADMSG;
        if (progress > 0) {
                atomic_store(&slot->result, (int64_t)progress);
                answer_result(resume, queue, slot, (int64_t)progress);
                memory_slot_set(slot, SLOT_ANSWERED);
        } else {
                r = orphans_add(&resume->mount->orphans, ORPHAN_COPY, slot, NULL, NULL, 0, 0);
        }

        for (unsigned int i = 0; i < SLOT_CHUNKS && r == 0; i++) {
                uint32_t chunk = atomic_load(&slot->chunks[i]);
                uint64_t at;

                if (chunk == 0 || chunk & SLOT_CHUNK_DONE)
                        continue;
                at = (uint64_t)(chunk - 1) * COPY_CHUNK_BYTES;
                r = add_orphan(resume, ORPHAN_CHUNK, slot, &slot->chunks[i], in->nodeid_out,
                               in->off_out + at, chunk_length(in, at));
        }
        return r;
}

static int take_begun(struct resume *resume, unsigned int queue, struct memory_slot *slot)
{
        const struct fuse_write_in *write = body_of(slot);
        const struct fuse_fallocate_in *fallocate = body_of(slot);

        switch (slot->in.opcode) {
        case FUSE_WRITE:
                return add_orphan(resume, ORPHAN_WRITE, slot, NULL, slot->in.nodeid, write->offset,
                                  write->size);
        case FUSE_FALLOCATE:
                return add_orphan(resume, ORPHAN_ZERO, slot, NULL, slot->in.nodeid,
                                  fallocate->offset, fallocate->length);
        case FUSE_COPY_FILE_RANGE:
                return take_copy(resume, queue, slot);
        case FUSE_FSYNC:
                return 0;
        default:
                return -EBADMSG;
        }
}

/* Where requests do not come again: what cannot be decoded from the slot. */
static bool is_lost(const struct resume *resume, unsigned int queue, const struct memory_slot *slot)
{
        return !is_whole(slot) || queue >= resume->mount->n_threads || fd_of(resume, queue) < 0;
}

/* The error that it gets is counted like any other. Of the time that it took nothing is known. */
static void count_lost(struct resume *resume, const struct memory_slot *slot)
{
        struct mount *mount = resume->mount;
        const struct counters_request request = { .slot = counted_slot(mount, slot),
                                                  .unique = memory_slot_unique(slot) };
        struct export *export;

        if (slot->in.opcode != FUSE_WRITE || counted_before(mount, request.unique, slot))
                return;
        export = find_export(mount, slot->in.nodeid);
        if (export)
                export_counters_add(&export->counters, 0, ROW_EXPORT, OPERATION_WRITE, 0, 0, true,
                                    &request);
        export_unref(export);
}

static int take_slot(struct resume *resume, unsigned int queue, struct memory_slot *slot)
{
        struct mount *mount = resume->mount;
        int64_t result = atomic_load(&slot->result);
        bool kept;
        int r;

        switch (memory_slot_state(slot)) {
        case SLOT_DONE:
                answer_result(resume, queue, slot, result);
                memory_slot_clear(slot);
                return 0;
        case SLOT_BEGUN:
        case SLOT_ANSWERED:
                r = take_begun(resume, queue, slot);
                if (r < 0)
                        return r;
                break;
        default:
                break;
        }

        if (slot->in.opcode == FUSE_OPEN && result != 0 &&
            handle_table_was_given(&mount->handles, slot->in.unique, (uint64_t)(result - 1))) {
                struct fuse_open_out out = { .fh = (uint64_t)(result - 1) };

                ops_open_flags(mount, slot->in.nodeid,
                               ((const struct fuse_open_in *)body_of(slot))->flags,
                               &out.open_flags);
                answer(resume, queue, slot, 0, &out, sizeof(out));
                memory_slot_clear(slot);
                return 0;
        }

        kept = orphans_have_slot(&mount->orphans, slot);
        if (!mount->resends && is_lost(resume, queue, slot)) {
                count_lost(resume, slot);
                answer(resume, queue, slot, -EIO, NULL, 0);
                resume->n_lost++;
                if (kept)
                        memory_slot_set(slot, SLOT_ANSWERED);
                else
                        memory_slot_clear(slot);
        } else if (mount->resends && !kept) {
                memory_slot_clear(slot);
        }
        return 0;
}

int resume_prepare(struct mount *mount, int fd)
{
        struct resume resume = { .mount = mount, .fd = fd };
        int r;

        r = counted_collect(mount);
        for (unsigned int queue = 0; queue < MEMORY_QUEUES && r == 0; queue++) {
                uint32_t used = memory_file_slots_used(&mount->memory, queue);

                for (uint32_t i = 0; i < used && r == 0; i++) {
                        struct memory_slot *slot = &mount->memory.slots[queue * MEMORY_SLOTS + i];

                        if (slot->in.unique != 0)
                                r = take_slot(&resume, queue, slot);
                }
        }
        if (r == -EBADMSG)
                log_error("A request in the memory that was kept makes no sense");
        if (r == 0 && mount->resends)
                r = session_resend(fd);
        if (r < 0)
                return log_error_errno(r, "Cannot take up the mount: %m");

        log_info("Taking up the mount: %u requests were done, %u had begun%s", resume.n_answered,
                 resume.n_orphans, mount->resends ? ", the kernel sends the others again" : "");
        if (resume.n_lost > 0)
                log_warning("%u requests could not be made again and got EIO, because this kernel "
                            "does not send them again",
                            resume.n_lost);
        return 0;
}

static bool is_left(const struct memory_slot *slot)
{
        return slot->in.unique != 0 && is_whole(slot) && memory_slot_state(slot) != SLOT_ANSWERED;
}

/*
 * The slots of the thread that are to be worked off, and those alone: what is begun meanwhile has
 * slots among them that look the same. Those of orphans are left to these.
 */
static void process_slots(struct queue_thread *thread)
{
        struct memory_file *memory = &thread->mount->memory;
        struct memory_slot *first = &memory->slots[thread->index * MEMORY_SLOTS];
        uint32_t used = memory_file_slots_used(memory, thread->index);
        DMIO_CLEANUP(freep) uint16_t *left = calloc(used + 1, sizeof(*left));
        uint32_t n = 0;

        if (!left) {
                log_error_errno(-ENOMEM, "Cannot make requests again that were left: %m");
                return;
        }
        for (uint32_t i = 0; i < used; i++)
                if (is_left(&first[i]))
                        left[n++] = (uint16_t)i;
        for (uint32_t i = 0; i < n; i++)
                queue_thread_process_slot(
                        thread, &first[left[i]],
                        orphans_have_slot(&thread->mount->orphans, &first[left[i]]));
}

void resume_receive(struct queue_thread *thread)
{
        if (!thread->mount->resends)
                process_slots(thread);
        else if (thread->index == 0)
                queue_thread_receive_resent(thread);
}
