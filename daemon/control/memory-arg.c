/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "control/base64.h"
#include "control/errors.h"
#include "control/memory-arg.h"
#include "util/macros.h"

/* File systems whose server decides when, and if at all, a page is there; and those that show files
 * of others, which may be such (anybody may put an overlay over FUSE, in a namespace of his own).
 */
static const long untrusted_file_systems[] = {
        FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,      SMB_SUPER_MAGIC,       SMB2_SUPER_MAGIC,
        CIFS_SUPER_MAGIC, V9FS_MAGIC,           CEPH_SUPER_MAGIC,      AFS_FS_MAGIC,
        CODA_SUPER_MAGIC, ECRYPTFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
};

static const struct field segment_fields[] = {
        FIELD(struct segment_argument, offset, FIELD_INT, .required = true, .max = FIELD_INT_MAX),
        FIELD(struct segment_argument, length, FIELD_INT, .required = true, .max = UINT32_MAX),
        FIELD_END,
};

const struct field memory_fields[] = {
        FIELD(struct memory_argument, data, FIELD_STRING),
        FIELD(struct memory_argument, fill, FIELD_INT, .max = 255),
        FIELD(struct memory_argument, fd, FIELD_INT, .max = INT32_MAX),
        FIELD(struct memory_argument, page_list, FIELD_INTS,
              .max = FIELD_INT_MAX >> DMIO_PAGE_SHIFT),
        FIELD(struct memory_argument, page_offset, FIELD_INT, .max = DMIO_PAGE_SIZE - 1),
        FIELD(struct memory_argument, vm, FIELD_INT, .max = FIELD_INT_MAX),
        FIELD(struct memory_argument, bvec, FIELD_OBJECTS, .fields = segment_fields,
              .size = sizeof(struct segment_argument)),
        FIELD_END,
};

/* A stretch of a descriptor that is named, and what to call it. */
struct stretch {
        const char *what;
        uint64_t number;
        uint64_t start;
        uint64_t length; /* as much of it as the request uses */
};

static const struct segment_argument *segments_of(const struct memory_argument *argument)
{
        return argument->bvec.items;
}

static const int64_t *pages_of(const struct memory_argument *argument)
{
        return argument->page_list.items;
}

static size_t page_offset_of(const struct memory_argument *argument)
{
        return argument->page_offset == FIELD_ABSENT ? 0 : (size_t)argument->page_offset;
}

static json_t *check_descriptor(struct memory *memory, const struct memory_argument *argument,
                                size_t n_fds)
{
        unsigned int n_places = argument->page_list.present + argument->bvec.present +
                                (argument->vm != FIELD_ABSENT);
        uint64_t total = UINT64_MAX;

        if (n_places != 1)
                return error_invalid_memory("with fd, exactly one of page_list, bvec and vm is "
                                            "given, not %u of them",
                                            n_places);
        if ((uint64_t)argument->fd >= n_fds)
                return error_invalid_memory("fd %" PRId64 " was not sent along (%zu descriptors "
                                            "came with the message)",
                                            argument->fd, n_fds);

        if (argument->page_list.present) {
                total = argument->page_list.n * DMIO_PAGE_SIZE;
                total -= MIN(total, (uint64_t)page_offset_of(argument));
        } else if (argument->bvec.present) {
                total = 0;
                for (size_t i = 0; i < argument->bvec.n; i++)
                        total += (uint64_t)segments_of(argument)[i].length;
        }
        if (total < memory->length)
                return error_invalid_memory("%s holds %" PRIu64 " bytes, the largest region "
                                            "%" PRIu64,
                                            argument->bvec.present ? "bvec" : "page_list", total,
                                            memory->length);
        memory->kind = MEMORY_MAPPED;
        memory->fd = (unsigned int)argument->fd;
        return NULL;
}

static json_t *check_data(struct memory *memory, struct memory_argument *argument)
{
        ssize_t n = base64_decode(argument->data, strlen(argument->data), argument->data);

        if (n < 0)
                return error_invalid_memory("data is not base64");
        if ((uint64_t)n < memory->length)
                return error_invalid_memory("data holds %zd bytes, the largest region %" PRIu64, n,
                                            memory->length);
        if (memory->length > MEMORY_INLINE_MAX)
                return error_invalid_memory("data holds at most %" PRIu64 " bytes: pass a "
                                            "descriptor",
                                            (uint64_t)MEMORY_INLINE_MAX);
        memory->kind = MEMORY_DATA;
        memory->data = argument->data;
        argument->data = NULL;
        return NULL;
}

static json_t *prepare_fill(struct memory *memory, int value)
{
        memory->fill = aligned_alloc(DMIO_PAGE_SIZE, sizeof(*memory->fill));
        memory->links = calloc(1, sizeof(*memory->links));
        if (!memory->fill || !memory->links)
                return ERROR_NO_MEMORY;
        memset(memory->fill, value, sizeof(*memory->fill));
        memory->links->page = memory->fill;
        memory->links->next = memory->links;
        memory->kind = MEMORY_FILL;
        memory->io.type = DM_IO_PAGE_LIST;
        memory->io.ptr.pl = memory->links;
        return NULL;
}

json_t *memory_prepare(struct memory *memory, struct memory_argument *argument, bool takes_memory,
                       bool is_read, uint64_t length, uint64_t inline_max, size_t n_fds)
{
        unsigned int n_sources = 0;

        *memory = (struct memory){ .kind = MEMORY_NONE, .length = length, .is_read = is_read };
        if (!takes_memory)
                return argument ? error_invalid_memory("this operation takes no memory") : NULL;

        if (argument)
                n_sources = (argument->data != NULL) + (argument->fill != FIELD_ABSENT) +
                            (argument->fd != FIELD_ABSENT);
        if (n_sources > 1)
                return error_invalid_memory("exactly one of data, fill and fd is given, not %u of "
                                            "them",
                                            n_sources);
        if (argument && argument->page_offset != FIELD_ABSENT && !argument->page_list.present)
                return error_invalid_memory("page_offset belongs to a page_list");
        if (argument && argument->fd == FIELD_ABSENT &&
            (argument->page_list.present || argument->bvec.present || argument->vm != FIELD_ABSENT))
                return error_invalid_memory("page_list, bvec and vm speak of an fd");

        if (argument && argument->fd != FIELD_ABSENT)
                return check_descriptor(memory, argument, n_fds);
        if (n_sources > 0 && is_read)
                return error_invalid_memory("data and fill are for writes");
        if (n_sources > 0)
                return argument->data ? check_data(memory, argument)
                                      : prepare_fill(memory, (int)argument->fill);
        if (!is_read)
                return error_invalid_memory("a write needs one of data, fill and fd");

        if (length > MIN(inline_max, (uint64_t)MEMORY_INLINE_MAX))
                return error_invalid_memory("an answer holds at most %" PRIu64 " bytes of data, "
                                            "the region %" PRIu64 ": pass a descriptor",
                                            MIN(inline_max, (uint64_t)MEMORY_INLINE_MAX), length);
        memory->kind = MEMORY_REPLY;
        return NULL;
}

unsigned int memory_pages_needed(const struct memory *memory)
{
        if (memory->kind != MEMORY_DATA && memory->kind != MEMORY_REPLY)
                return 0;
        return (unsigned int)DIV_ROUND_UP(memory->length, DMIO_PAGE_SIZE);
}

void memory_fill(struct memory *memory)
{
        uint64_t done = 0;

        memory->io = (struct dm_io_memory){ .type = DM_IO_PAGE_LIST, .ptr.pl = memory->pages };
        for (const struct page_list *link = memory->pages;
             link && memory->kind == MEMORY_DATA && done < memory->length; link = link->next) {
                size_t n = MIN(memory->length - done, DMIO_PAGE_SIZE);

                memcpy(page_address(link->page), memory->data + done, n);
                done += n;
        }
}

json_t *memory_data(const struct memory *memory)
{
        struct base64_encoder encoder = {};
        uint64_t done = 0;
        char *text, *end;
        json_t *value;

        text = malloc(base64_encoded_length(memory->length) + 1);
        if (!text)
                return NULL;
        encoder.end = text;
        for (const struct page_list *link = memory->pages; link && done < memory->length;
             link = link->next) {
                size_t n = MIN(memory->length - done, DMIO_PAGE_SIZE);

                base64_encoder_add(&encoder, page_address(link->page), n);
                done += n;
        }
        end = base64_encoder_end(&encoder);
        value = json_stringn(text, (size_t)(end - text));
        free(text);
        return value;
}

/* The @i-th stretch that @argument names; false if there are no more. @used: bytes before it. */
static bool next_stretch(const struct memory *memory, const struct memory_argument *argument,
                         size_t i, uint64_t used, struct stretch *ret)
{
        uint64_t left = memory->length - used;

        if (argument->page_list.present) {
                size_t skip = i == 0 ? page_offset_of(argument) : 0;

                if (i >= argument->page_list.n)
                        return false;
                ret->what = "page";
                ret->number = (uint64_t)pages_of(argument)[i];
                ret->start = ret->number * DMIO_PAGE_SIZE + skip;
                ret->length = MIN(DMIO_PAGE_SIZE - skip, left);
                return true;
        }
        if (argument->bvec.present) {
                if (i >= argument->bvec.n)
                        return false;
                ret->what = "segment";
                ret->number = i;
                ret->start = (uint64_t)segments_of(argument)[i].offset;
                ret->length = MIN((uint64_t)segments_of(argument)[i].length, left);
                return true;
        }
        if (i > 0)
                return false;
        ret->what = "offset";
        ret->number = (uint64_t)argument->vm;
        ret->start = (uint64_t)argument->vm;
        ret->length = left;
        return true;
}

/* Everything named lies within @size; the first and last byte of it. */
static json_t *find_span(const struct memory *memory, const struct memory_argument *argument,
                         uint64_t size, uint64_t *ret_first, uint64_t *ret_end)
{
        uint64_t first = UINT64_MAX, end = 0, used = 0;
        struct stretch stretch;

        for (size_t i = 0; next_stretch(memory, argument, i, used, &stretch); i++) {
                if (!range_fits(stretch.start, stretch.length, size) ||
                    (argument->page_list.present && stretch.start >= size))
                        return error_invalid_memory("%s %" PRIu64 " lies beyond the descriptor's "
                                                    "end (%" PRIu64 " bytes)",
                                                    stretch.what, stretch.number, size);
                used += stretch.length;
                if (stretch.length == 0)
                        continue;
                first = MIN(first, stretch.start);
                end = MAX(end, stretch.start + stretch.length);
        }
        *ret_first = end > 0 ? first : 0;
        *ret_end = end;
        return NULL;
}

/* Can @fd be mapped, and how long is it? */
static json_t *check_file(const struct memory *memory, int fd, bool trusted, dev_t refused,
                          uint64_t *ret_size, uint64_t *ret_granule)
{
        struct statfs fs;
        struct stat st;
        int flags;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return error_invalid_memory("fd cannot be used: %s", strerror(errno));
        if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
                return error_invalid_memory("fd must be open for reading");
        if (memory->is_read && (flags & O_ACCMODE) != O_RDWR)
                return error_invalid_memory("a read needs an fd that is open for reading and "
                                            "writing");
        if (fstatfs(fd, &fs) < 0)
                return error_invalid_memory("fd cannot be used: %s", strerror(errno));
        for (size_t i = 0; !trusted && i < ARRAY_SIZE(untrusted_file_systems); i++)
                if ((uint32_t)fs.f_type == (uint32_t)untrusted_file_systems[i])
                        return error_invalid_memory("fd lies on a file system that may keep the "
                                                    "daemon waiting: use a memfd");
        if (fstat(fd, &st) < 0)
                return error_invalid_memory("fd cannot be used: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_invalid_memory("fd is neither a memfd nor a regular file");
        if (refused != 0 && st.st_dev == refused)
                return error_invalid_memory("fd lies in the daemon's own mount");

        *ret_size = (uint64_t)st.st_size;
        /* Of huge pages only whole ones can be mapped. */
        *ret_granule =
                (uint32_t)fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : DMIO_PAGE_SIZE;
        return NULL;
}

/* Describe the map, whose first byte is byte @base of the descriptor, to the engine. */
static json_t *describe(struct memory *memory, const struct memory_argument *argument,
                        uint64_t base)
{
        char *map = memory->map;
        size_t n;

        if (argument->page_list.present) {
                /* What is named beyond the need was not mapped. */
                n = MIN(argument->page_list.n,
                        (size_t)DIV_ROUND_UP(memory->length + page_offset_of(argument),
                                             DMIO_PAGE_SIZE));
                memory->links = calloc(n + 1, sizeof(*memory->links));
                if (!memory->links)
                        return ERROR_NO_MEMORY;
                for (size_t i = 0; i < n; i++) {
                        uint64_t start = (uint64_t)pages_of(argument)[i] * DMIO_PAGE_SIZE;

                        memory->links[i].page = (struct page *)(map + (start - base));
                        memory->links[i].next = i + 1 < n ? &memory->links[i + 1] : NULL;
                }
                memory->io.type = DM_IO_PAGE_LIST;
                memory->io.offset = (unsigned int)page_offset_of(argument);
                memory->io.ptr.pl = memory->links;
        } else if (argument->bvec.present) {
                uint64_t used = 0;
                struct stretch stretch;

                memory->vectors = calloc(argument->bvec.n + 1, sizeof(*memory->vectors));
                if (!memory->vectors)
                        return ERROR_NO_MEMORY;
                n = 0;
                for (size_t i = 0; next_stretch(memory, argument, i, used, &stretch); i++) {
                        char *address = map + (stretch.start - base);

                        used += stretch.length;
                        if (stretch.length > 0)
                                memory->vectors[n++] = (struct bio_vec){
                                        .bv_page = virt_to_page(address),
                                        .bv_len = (unsigned int)stretch.length,
                                        .bv_offset = (unsigned int)(stretch.start % DMIO_PAGE_SIZE),
                                };
                }
                memory->io.type = DM_IO_BVEC;
                memory->io.n_bvec = (unsigned int)n;
                memory->io.ptr.bvec = memory->vectors;
        } else {
                memory->io.type = DM_IO_VMA;
                memory->io.ptr.vma = map + ((uint64_t)argument->vm - base);
        }
        memory->io_flags = DM_IO_MEMORY_SHARED;
        return NULL;
}

json_t *memory_map(struct memory *memory, const struct memory_argument *argument, int fd,
                   bool trusted, dev_t refused)
{
        uint64_t size = 0, granule = DMIO_PAGE_SIZE, first = 0, end = 0, base;
        json_t *error;

        assert(memory->kind == MEMORY_MAPPED);
        error = check_file(memory, fd, trusted, refused, &size, &granule);
        if (!error)
                error = find_span(memory, argument, size, &first, &end);
        if (error)
                return error;
        if (end == 0)
                return NULL; /* nothing is transferred */

        base = round_down(first, granule);
        end = round_up(end, granule);
        if (end - base > MEMORY_SPAN_MAX)
                return error_invalid_memory("what is named of the descriptor lies %" PRIu64
                                            " bytes apart, at most %" PRIu64 " is possible",
                                            end - base, (uint64_t)MEMORY_SPAN_MAX);
        memory->map = mmap(NULL, end - base, PROT_READ | (memory->is_read ? PROT_WRITE : 0),
                           MAP_SHARED, fd, (off_t)base);
        /* Older kernels refuse to share what is sealed against writing, though not to read it. */
        if (memory->map == MAP_FAILED && errno == EPERM && !memory->is_read)
                memory->map = mmap(NULL, end - base, PROT_READ, MAP_PRIVATE, fd, (off_t)base);
        if (memory->map == MAP_FAILED) {
                int saved = errno;

                memory->map = NULL;
                if (saved == ENOMEM)
                        return ERROR_NO_MEMORY;
                return error_invalid_memory("fd cannot be mapped: %s", strerror(saved));
        }
        memory->map_length = end - base;
        return describe(memory, argument, base);
}

void memory_release(struct memory *memory)
{
        assert(!memory->pages);
        if (memory->map)
                (void)munmap(memory->map, memory->map_length);
        free(memory->links);
        free(memory->vectors);
        free(memory->fill);
        free(memory->data);
        *memory = (struct memory){ .kind = MEMORY_NONE };
}
