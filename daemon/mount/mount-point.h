/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The place in the file system where the mount goes: found, cleared of what a killed daemon left,
 * mounted on, and left as it was.
 *
 * Nothing here touches a mount that somebody may serve, or fail to serve: stat(2) and its like
 * would wait for an answer that perhaps nobody gives. The kernel's table of mounts tells as much.
 */

#include <stdbool.h>
#include <sys/types.h>

/* Most bytes of one READ, as a mount option and in the INIT reply: both must say the same. */
#define MOUNT_MAX_READ (512 * 1024)

enum mount_point_state {
        MOUNT_POINT_FREE,     /* nothing of ours on top */
        MOUNT_POINT_DEAD,     /* its daemon is gone */
        MOUNT_POINT_SERVED,   /* it answers */
        MOUNT_POINT_UNSERVED, /* a daemon has it, or its descriptor is kept, but nobody answers */
};

struct mount_point {
        char *path;    /* canonical */
        bool made;     /* the directory is ours and goes with us */
        bool attached; /* by mount_point_attach() */
};

/*
 * Make @path canonical, make the directory if it is not there, and detach what a killed daemon left
 * behind; @user: with fusermount3. Returns 0; -EBUSY if a living daemon serves there; or another
 * negative errno. All are logged.
 */
int mount_point_init(struct mount_point *point, const char *path, bool user);

/*
 * What is at @path, which is canonical: one of enum mount_point_state, or a negative errno, logged.
 * To wait for an answer takes up to a tenth of a second.
 */
int mount_point_look(const char *path);

/* The same, but it counts as unserved only after nobody has answered for three seconds. */
int mount_point_look_patiently(const char *path);

/*
 * The same when the file system with the device number @known, if that is what is there, has no
 * daemon now: then it is not given time to answer.
 */
int mount_point_look_again(const char *path, dev_t known);

/*
 * For a mount that is there already, and whose descriptor somebody else opened: make @path
 * canonical and touch nothing. It is not unmounted at the end. Returns 0 or a negative errno,
 * logged.
 */
int mount_point_adopt(struct mount_point *point, const char *path);

/* Detach a mount of ours that nobody will serve, whose descriptor was the caller's. */
void mount_point_give_up(const char *path, bool user);

/* Unmount what mount_point_attach() mounted, if it is still there. */
void mount_point_detach(struct mount_point *point);

/* The same; and remove the directory that was made. */
void mount_point_deinit(struct mount_point *point);

/* Open /dev/fuse and mount it there, as root. Returns the descriptor or a negative errno, logged.
 */
int mount_point_attach(struct mount_point *point);

/*
 * The device number of the file system there, whose /dev/fuse is @fd, without touching it; 0 if it
 * cannot be told: an older kernel does not say it of the descriptor, and the mount is hidden from
 * us.
 */
dev_t mount_point_device(const struct mount_point *point, int fd);
