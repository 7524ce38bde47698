/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration file, from any bytes. What is accepted is complete; what is not is explained.
 */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "fuzz.h"
#include "log.h"
#include "util/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        struct config *config = NULL;
        char path[64];
        int fd, r;

        fd = memfd_create("fuzz", MFD_CLOEXEC);
        fuzz_require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        r = config_load(path, false, &config, &message);
        if (r < 0) {
                fuzz_require(!config && (r != -EINVAL || (message && *message)));
        } else {
                const struct peer nobody = { .uid = 65534, .gid = 65534 };

                fuzz_require(config->mount && config->control && config->state);
                fuzz_require(config->limit_connections > 0 && config->limit_nesting > 0);
                (void)config_find_device(config, "disk", &nobody);
        }
        (void)config_free(config);
        (void)close_fd(fd);
        return 0;
}
