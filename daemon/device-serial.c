/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device-serial.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* The first that there is counts. A partition has none of its own. */
static const char *const attributes[] = {
        "wwid", "device/wwid", "serial", "device/serial", "dm/uuid", "loop/backing_file",
};

/*
 * One line of sysfs, fit for JSON; of what is too long, the end, which is what differs. Returns 1;
 * 0 if there is none; or a negative errno if that could not be found out.
 */
static int read_attribute(dev_t device, const char *parent, const char *name, char *ret,
                          size_t size)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        char path[96], text[4096];
        const char *from = text;
        ssize_t n;
        size_t length;

        (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s%s", major(device),
                       minor(device), parent, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 0;
        n = read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return n < 0 && errno == ENOMEM ? -errno : 0;
        text[n] = '\0';
        from += strspn(from, " \n");
        length = strcspn(from, "\n");
        while (length > 0 && from[length - 1] == ' ')
                length--;
        if (length >= size) {
                from += length - (size - 1);
                length = size - 1;
        }
        for (size_t i = 0; i < length; i++)
                ret[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
        ret[length] = '\0';
        return length > 0;
}

int device_serial(dev_t device, char ret[static DEVICE_SERIAL_SIZE])
{
        char partition[16] = "", text[DEVICE_SERIAL_SIZE - 40];
        int is_partition, r;

        ret[0] = '\0';
        is_partition = read_attribute(device, "", "partition", partition, sizeof(partition));
        if (is_partition < 0)
                return is_partition;
        for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
                r = read_attribute(device, is_partition ? "../" : "", attributes[i], text,
                                   sizeof(text));
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                (void)snprintf(ret, DEVICE_SERIAL_SIZE, "%s%s%s", text,
                               is_partition ? " part " : "", partition);
                return 0;
        }
        return 0;
}
