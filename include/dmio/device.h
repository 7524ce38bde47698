/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Devices: an opened block device or regular file.
 *
 * Opening the same one twice gives the same object, counted, as long as the way it was opened is
 * the same; so requests, limits and identity are shared by everyone who names it.
 *
 * All functions here may be called from any thread, except dmio_device_close() while requests on
 * the device are in flight. Opening and closing touch the file system and may block for as long as
 * it does.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <dmio/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes are refused with EROFS; the file needs to be readable only. */
#define DMIO_DEVICE_READ_ONLY (1u << 0)
/*
 * Go through the page cache. Without this flag the device is opened with O_DIRECT, and where the
 * file system has no O_DIRECT the page cache is used all the same (see dmio_device_is_direct()).
 */
#define DMIO_DEVICE_BUFFERED (1u << 1)

/* What a device is, independent of how it was opened. Two devices with equal ids share sectors. */
struct dmio_device_id {
        dev_t device; /* of a block device its own number, of a file that of its file system */
        ino_t inode;  /* 0 for block devices */
};

/* Of a limit: none is known. Try it, the operation itself tells. */
#define DMIO_DEVICE_LIMIT_UNKNOWN UINT64_MAX

/*
 * The limits are those that the kernel told of at the first question since the last open. Of a
 * regular file none is known: whether its file system can punch holes is not to be found out
 * without touching the file's times. Nor is one of a block device without sysfs.
 *
 * A discard or write of zeroes where the limit is 0 fails with EOPNOTSUPP, and the device is not
 * asked. What is longer than the limit is carried out in pieces.
 */
struct dmio_device_info {
        struct dmio_device_id id;
        sector_t capacity;                /* in sectors, as found when it was opened */
        sector_t allocated;               /* in sectors, what its holes leave; see below */
        sector_t discard_max;             /* in sectors, of one operation; 0: there is no such */
        sector_t write_zeroes_max;        /* the same */
        unsigned int logical_block;       /* bytes; sector and count of a region must fit it */
        unsigned int memory_align;        /* bytes; other memory is copied by the engine */
        unsigned int physical_block;      /* bytes; writes that do not fit it may be slow */
        unsigned int optimal_io;          /* bytes; a good size of a request, or 0 */
        unsigned int discard_granularity; /* bytes; less than that may not be discarded, or 0 */
        bool read_only;
        bool direct; /* O_DIRECT */
        bool block;  /* a block device, not a regular file */
};

/*
 * Holes are known of regular files that the library has opened itself and whose file system is on
 * this machine. Of all others (block devices, files of a FUSE or network file system, descriptors
 * that could not be opened again, RAM disks in the place of a device) everything is data, and
 * allocated is the capacity.
 */

/*
 * Open the block device or regular file @path. @flags: DMIO_DEVICE_*.
 *
 * Returns 0 and a reference in *@ret, to be given back with dmio_device_close(); or
 * -ENOTBLK for what is neither a block device nor a regular file, -EINVAL for unknown flags, and
 * what open(2) and stat(2) return (-ENOENT, -EACCES, -EROFS, ...). *@ret is untouched on failure.
 */
int dmio_device_open(const char *path, unsigned int flags, struct block_device **ret);

/*
 * The same for a descriptor, which is duplicated: the caller's stays the caller's, and later
 * changes to its file status flags act on both (see fcntl(2), F_SETFL).
 *
 * O_DIRECT is used if the descriptor has it, or if DMIO_DEVICE_BUFFERED is not given and the file
 * can be opened again through /proc/self/fd with the same access mode. A descriptor that is open
 * for reading only makes a read-only device. Further errors: -EBADF for a descriptor that is not
 * open, or not open for reading (O_WRONLY, O_PATH); -EISDIR and -ENOTBLK for what has no sectors.
 */
int dmio_device_from_fd(int fd, unsigned int flags, struct block_device **ret);

/* One more reference; returns @bdev. */
struct block_device *dmio_device_ref(struct block_device *bdev);

/* Give one reference back; the last one closes the file. NULL is allowed. */
void dmio_device_close(struct block_device *bdev);

/* Fill *@ret. The capacity is looked up again, where no file server elsewhere has to be asked. */
void dmio_device_info(struct block_device *bdev, struct dmio_device_info *ret);

/*
 * Where, from byte @offset on, data (SEEK_DATA) or a hole (SEEK_HOLE) begins, as lseek(2) has it:
 * the end of the device is a hole. Of what others have mapped and changed nothing is known yet.
 * Returns 0 and the byte in *@ret; -ENXIO for an @offset at or behind the end, and for SEEK_DATA
 * where only a hole follows; -EINVAL for another @whence. May have to read from the disk.
 */
int dmio_device_seek(struct block_device *bdev, int whence, uint64_t offset, uint64_t *ret);

/*
 * How many bytes of [@sector, @sector + @count) the page cache of the machine holds, because
 * somebody has read or written them without O_DIRECT. Each page of them makes the next direct write
 * to it slow. 0 if that cannot be told: before Linux 6.5, of devices that are not direct
 * themselves, and of files that a FUSE or network file system serves.
 */
uint64_t dmio_device_cached(struct block_device *bdev, sector_t sector, sector_t count);

/*
 * Let the page cache go of [@sector, @sector + @count): what is dirty is written back, which is
 * waited for, then all is forgotten that nobody has mapped or writes to meanwhile. What the kernel
 * keeps in one piece with bytes outside (of up to some MiB) may stay. No data changes; this is not
 * a flush. Returns 0, also where dmio_device_cached() can tell nothing; or -EIO,
 * -ENOSPC, -EDQUOT if not all could be written back, which dmio_device_flush_failures() counts as
 * well, because no flush will tell of it. May block for as long as the device does.
 */
int dmio_device_uncache(struct block_device *bdev, sector_t sector, sector_t count);

/* The size in sectors, as known at the last look; a trailing part of a sector does not count. */
sector_t dmio_device_capacity(const struct block_device *bdev);

/* True if the device is used with O_DIRECT. */
bool dmio_device_is_direct(const struct block_device *bdev);

/*
 * How often the device could not flush. It says so once, to whoever asked; but what is lost may
 * have been anybody's who had written to it: they can compare. Not counted is what a fault rule
 * made up.
 */
unsigned int dmio_device_flush_failures(const struct block_device *bdev);

/* Parts of struct dmio_device_info that are known without asking the kernel again. */
bool dmio_device_is_read_only(const struct block_device *bdev);
struct dmio_device_id dmio_device_id(const struct block_device *bdev);

#ifdef __cplusplus
}
#endif
