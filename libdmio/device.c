/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices are opened once for each way of using them (for reading only or not, direct or not) and
 * shared by everyone who names the same one: a registry of the process finds them by what they are,
 * not by how they were called.
 *
 * What O_DIRECT demands is asked where the kernel tells (BLKSSZGET, STATX_DIOALIGN) and tried out
 * where it does not: a read that is aligned too little gives EINVAL and transfers nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "device-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define DEVICE_FLAGS (DMIO_DEVICE_READ_ONLY | DMIO_DEVICE_BUFFERED)

static struct {
        pthread_mutex_t lock;
        struct list devices; /* under lock */
} registry = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .devices = LIST_INIT(registry.devices),
};

/* Sectors, and how many of them are allocated. */
static int device_size(int fd, bool block, sector_t *ret, sector_t *ret_allocated)
{
        struct stat st;
        uint64_t bytes;

        if (block) {
                if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
                        return -errno;
        } else {
                if (fstat(fd, &st) < 0)
                        return -errno;
                bytes = (uint64_t)st.st_size;
        }
        *ret = bytes >> DMIO_SECTOR_SHIFT;
        /* What a file system keeps about a file may count, too. */
        *ret_allocated = block ? *ret : MIN((sector_t)st.st_blocks, *ret);
        return 0;
}

static bool device_knows_holes(const struct block_device *bdev)
{
        return !bdev->block && bdev->own && !bdev->far && !atomic_load(&bdev->ram);
}

/* The smallest alignment with which a direct read of @fd is not answered by EINVAL, or 0. */
static unsigned int probe_alignment(int fd, void *page)
{
        for (unsigned int align = DMIO_SECTOR_SIZE; align <= DMIO_PAGE_SIZE; align *= 2)
                if (pread(fd, (char *)page + align, align, (off_t)align) >= 0 || errno != EINVAL)
                        return align;
        return 0;
}

/* Fills in what direct I/O on @bdev demands, or makes it buffered where direct I/O is not had. */
static int device_find_alignment(struct block_device *bdev)
{
        DMIO_CLEANUP(freep) void *pages = NULL;
        struct statx stx = {};
        int block_size;

        bdev->logical_block = DMIO_SECTOR_SIZE;
        bdev->memory_align = 1;
        if (bdev->block) {
                if (ioctl(bdev->fd, BLKSSZGET, &block_size) < 0)
                        return -errno;
                bdev->logical_block = MAX((unsigned int)block_size, bdev->logical_block);
        }
        if (!bdev->direct)
                return 0;

        if (statx(bdev->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
            (stx.stx_mask & STATX_DIOALIGN)) {
                bdev->direct = stx.stx_dio_mem_align > 0;
                if (bdev->direct) {
                        bdev->memory_align = stx.stx_dio_mem_align;
                        bdev->logical_block = MAX(stx.stx_dio_offset_align, bdev->logical_block);
                }
        } else if (bdev->block) {
                bdev->memory_align = bdev->logical_block;
        } else {
                pages = aligned_alloc(DMIO_PAGE_SIZE, 2 * DMIO_PAGE_SIZE);
                if (!pages)
                        return -ENOMEM;
                bdev->memory_align = probe_alignment(bdev->fd, pages);
                bdev->direct = bdev->memory_align > 0;
                bdev->logical_block = MAX(bdev->memory_align, bdev->logical_block);
        }
        if (!bdev->direct) {
                bdev->memory_align = 1;
                if (fcntl(bdev->fd, F_SETFL, fcntl(bdev->fd, F_GETFL) & ~O_DIRECT) < 0)
                        return -errno;
        }
        return 0;
}

static bool file_is_on(int fd, const unsigned long *magics, size_t n_magics)
{
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return false;
        for (size_t i = 0; i < n_magics; i++)
                if ((unsigned long)fs.f_type == magics[i])
                        return true;
        return false;
}

/*
 * Requests ask for the size of a file again, on a queue's thread. Where a server elsewhere answers,
 * that could take for ever and hold up everybody, so there the size is what it was at the open.
 */
static bool file_is_far(int fd)
{
        static const unsigned long magics[] = {
                FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,
                V9FS_MAGIC,       CIFS_SUPER_MAGIC, CEPH_SUPER_MAGIC, AFS_SUPER_MAGIC,
        };

        return file_is_on(fd, magics, ARRAY_SIZE(magics));
}

/*
 * io_uring hands what is on a file without NOWAIT to a thread of the kernel's. That takes several
 * times as long as copying the bytes, if copying is all there is to it: never where a disk or a
 * server might have to be waited for.
 */
static bool file_is_in_memory(int fd)
{
        static const unsigned long magics[] = { TMPFS_MAGIC, RAMFS_MAGIC, HUGETLBFS_MAGIC };
        char byte;
        struct iovec iov = { &byte, 1 };

        return file_is_on(fd, magics, ARRAY_SIZE(magics)) &&
               preadv2(fd, &iov, 1, 0, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP;
}

/* @st: of @fd. Returns 0 or why it has no sectors. */
static int device_check_type(const struct stat *st)
{
        if (S_ISBLK(st->st_mode) || S_ISREG(st->st_mode))
                return 0;
        return S_ISDIR(st->st_mode) ? -EISDIR : -ENOTBLK;
}

/* The device of the registry that is the same as @bdev, referenced, or NULL. Under its lock. */
static struct block_device *registry_find(const struct block_device *bdev, sector_t capacity)
{
        struct block_device *other;

        if (!bdev->own)
                return NULL;
        list_for_each (other, &registry.devices, link) {
                if (other->id.device != bdev->id.device || other->id.inode != bdev->id.inode ||
                    !other->own || other->block != bdev->block ||
                    other->read_only != bdev->read_only || other->direct != bdev->direct)
                        continue;
                other->refs++;
                atomic_store(&other->capacity, capacity);
                return other;
        }
        return NULL;
}

/*
 * Find the device that @fd is in the registry or enter it there. @fd is taken in any case. Without
 * @own its open file description is somebody else's too, who can change its flags: such a device is
 * shared with nobody.
 */
static int device_enter(int fd_, bool read_only, bool direct, bool own, struct block_device **ret)
{
        DMIO_CLEANUP(close_fdp) int fd = fd_;
        DMIO_CLEANUP(freep) struct block_device *bdev = NULL;
        struct block_device *other;
        sector_t capacity, allocated;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        r = device_check_type(&st);
        if (r < 0)
                return r;

        bdev = calloc(1, sizeof(*bdev));
        if (!bdev)
                return -ENOMEM;
        bdev->refs = 1;
        bdev->fd = fd;
        bdev->read_only = read_only;
        bdev->direct = direct;
        bdev->own = own;
        bdev->block = S_ISBLK(st.st_mode);
        bdev->far = !bdev->block && file_is_far(fd);
        bdev->in_memory = !bdev->block && file_is_in_memory(fd);
        bdev->id = bdev->block ? (struct dmio_device_id){ .device = st.st_rdev }
                               : (struct dmio_device_id){ .device = st.st_dev, .inode = st.st_ino };
        r = device_size(fd, bdev->block, &capacity, &allocated);
        if (r < 0)
                return r;

        /* Whoever names a device that is open already need not be told all of it again. */
        pthread_mutex_lock(&registry.lock);
        other = registry_find(bdev, capacity);
        pthread_mutex_unlock(&registry.lock);
        if (other) {
                device_limits_outdate(other);
                *ret = other;
                return 0;
        }

        r = device_find_alignment(bdev);
        if (r < 0)
                return r;
        device_limits_init(bdev, &st);
        atomic_store(&bdev->capacity, capacity);

        /* It may have been opened by somebody else meanwhile; or is not direct, as it had to be. */
        pthread_mutex_lock(&registry.lock);
        other = registry_find(bdev, capacity);
        if (other) {
                pthread_mutex_unlock(&registry.lock);
                device_limits_outdate(other);
                *ret = other;
                return 0;
        }
        list_append(&registry.devices, &bdev->link);
        pthread_mutex_unlock(&registry.lock);

        (void)DMIO_TAKE_FD(fd);
        *ret = DMIO_TAKE(bdev);
        return 0;
}

/* io_uring answers EAGAIN on a descriptor that does not block, so the flag is only for the open. */
static int open_file(const char *path, int flags)
{
        int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return -errno;
        if (fcntl(fd, F_SETFL, flags & O_DIRECT) < 0) {
                int r = -errno;

                close_fd(fd);
                return r;
        }
        return fd;
}

int dmio_device_open(const char *path, unsigned int flags, struct block_device **ret)
{
        bool direct = !(flags & DMIO_DEVICE_BUFFERED);
        int access_mode = flags & DMIO_DEVICE_READ_ONLY ? O_RDONLY : O_RDWR;
        struct stat st;
        int fd, r;

        if (!path || !ret || flags & ~DEVICE_FLAGS)
                return -EINVAL;

        /* Opening alone has effects on some kinds of files (a tape rewinds), so ask first. */
        if (stat(path, &st) < 0)
                return -errno;
        r = device_check_type(&st);
        if (r < 0)
                return r;

        fd = open_file(path, access_mode | (direct ? O_DIRECT : 0));
        if (fd == -EINVAL && direct) {
                direct = false;
                fd = open_file(path, access_mode);
        }
        if (fd < 0)
                return fd;
        return device_enter(fd, access_mode == O_RDONLY, direct, true, ret);
}

int dmio_device_from_fd(int fd, unsigned int flags, struct block_device **ret)
{
        bool want_direct = !(flags & DMIO_DEVICE_BUFFERED), is_own = true;
        char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        int status, access_mode, own;
        struct stat st;
        int r;

        if (!ret || flags & ~DEVICE_FLAGS)
                return -EINVAL;

        status = fcntl(fd, F_GETFL);
        if (status < 0)
                return -errno;
        if (status & O_PATH || (status & O_ACCMODE) == O_WRONLY)
                return -EBADF;
        if (fstat(fd, &st) < 0)
                return -errno;
        r = device_check_type(&st);
        if (r < 0)
                return r;
        access_mode = flags & DMIO_DEVICE_READ_ONLY ? O_RDONLY : status & O_ACCMODE;

        /*
         * A description of our own is better than the shared one: it keeps its flags, and it has
         * neither O_APPEND, with which pwrite(2) ignores the offset, nor O_NONBLOCK.
         */
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        own = -EINVAL;
        if (want_direct)
                own = open_file(path, access_mode | O_DIRECT);
        if (own < 0 && !(status & O_DIRECT)) {
                want_direct = false;
                own = open_file(path, access_mode);
        }
        if (own < 0) {
                if (status & (O_APPEND | O_NONBLOCK))
                        return -EINVAL;
                is_own = false;
                want_direct = status & O_DIRECT;
                own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
                if (own < 0)
                        return -errno;
        }
        return device_enter(own, access_mode == O_RDONLY, want_direct, is_own, ret);
}

struct block_device *dmio_device_ref(struct block_device *bdev)
{
        pthread_mutex_lock(&registry.lock);
        bdev->refs++;
        pthread_mutex_unlock(&registry.lock);
        return bdev;
}

void dmio_device_close(struct block_device *bdev)
{
        bool last;

        if (!bdev)
                return;

        pthread_mutex_lock(&registry.lock);
        last = --bdev->refs == 0;
        if (last)
                list_unlink(&bdev->link);
        pthread_mutex_unlock(&registry.lock);

        if (last) {
                if (bdev->ram)
                        (void)munmap(bdev->ram, MAX(bdev->ram_bytes, UINT64_C(1)));
                close_fd(bdev->fd);
                free(bdev);
        }
}

/* Returns what is allocated. */
static sector_t device_look_again(struct block_device *bdev)
{
        sector_t capacity, allocated = 0;
        bool seen;

        seen = !bdev->far && device_size(bdev->fd, bdev->block, &capacity, &allocated) == 0;
        if (seen)
                atomic_store(&bdev->capacity, capacity);
        return seen && device_knows_holes(bdev) ? allocated : atomic_load(&bdev->capacity);
}

bool device_fits(struct block_device *bdev, sector_t sector, sector_t count, bool writes)
{
        /* A file that was cut short meanwhile would silently grow again. */
        if (!(writes && !bdev->block) && range_fits(sector, count, atomic_load(&bdev->capacity)))
                return true;
        (void)device_look_again(bdev);
        return range_fits(sector, count, atomic_load(&bdev->capacity));
}

/* Under the registry's lock. A device without a sector gets a byte, because a mapping must. */
static void *device_make_ram(struct block_device *bdev)
{
        uint64_t bytes = atomic_load(&bdev->capacity) << DMIO_SECTOR_SHIFT;
        void *ram;

        ram = mmap(NULL, MAX(bytes, UINT64_C(1)), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (ram == MAP_FAILED)
                return NULL;
        bdev->ram_bytes = bytes;
        atomic_store_explicit(&bdev->ram, ram, memory_order_release);
        return ram;
}

int device_ram(struct block_device *bdev, void **ret, uint64_t *ret_bytes)
{
        void *ram = atomic_load_explicit(&bdev->ram, memory_order_acquire);

        if (!ram) {
                pthread_mutex_lock(&registry.lock);
                ram = atomic_load(&bdev->ram) ?: device_make_ram(bdev);
                pthread_mutex_unlock(&registry.lock);
                if (!ram)
                        return -ENOMEM;
        }
        *ret = ram;
        *ret_bytes = bdev->ram_bytes;
        return 0;
}

void dmio_device_info(struct block_device *bdev, struct dmio_device_info *ret)
{
        sector_t allocated = device_look_again(bdev);

        device_limits_need(bdev);
        *ret = (struct dmio_device_info){
                .id = bdev->id,
                .allocated = allocated,
                .capacity = atomic_load(&bdev->capacity),
                .discard_max = atomic_load(&bdev->limits.discard_max),
                .write_zeroes_max = atomic_load(&bdev->limits.write_zeroes_max),
                .logical_block = bdev->logical_block,
                .memory_align = bdev->memory_align,
                .physical_block = bdev->limits.physical_block,
                .optimal_io = bdev->limits.optimal_io,
                .discard_granularity = bdev->limits.discard_granularity,
                .read_only = bdev->read_only,
                .direct = bdev->direct,
                .block = bdev->block,
        };
}

int dmio_device_seek(struct block_device *bdev, int whence, uint64_t offset, uint64_t *ret)
{
        uint64_t size = atomic_load(&bdev->capacity) << DMIO_SECTOR_SHIFT;
        off_t found;

        if (whence != SEEK_DATA && whence != SEEK_HOLE)
                return -EINVAL;
        if (offset >= size)
                return -ENXIO;

        if (!device_knows_holes(bdev)) {
                *ret = whence == SEEK_DATA ? offset : size;
                return 0;
        }

        /* Nobody depends on where the descriptor stands. */
        found = lseek(bdev->fd, (off_t)offset, whence);
        if (found < 0)
                return -errno;
        *ret = MIN((uint64_t)found, size);
        return *ret < size || whence == SEEK_HOLE ? 0 : -ENXIO;
}

sector_t dmio_device_capacity(const struct block_device *bdev)
{
        return atomic_load(&bdev->capacity);
}

unsigned int dmio_device_flush_failures(const struct block_device *bdev)
{
        return atomic_load(&bdev->flush_failures);
}

bool dmio_device_is_direct(const struct block_device *bdev)
{
        return bdev->direct;
}

bool dmio_device_is_read_only(const struct block_device *bdev)
{
        return bdev->read_only;
}

struct dmio_device_id dmio_device_id(const struct block_device *bdev)
{
        return bdev->id;
}
