/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aside.h"
#include "log.h"
#include "manager.h"
#include "options.h"
#include "util/cleanup.h"

#define EXIT_USAGE 2

static int run(const struct options *options)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        struct manager *manager;
        struct config *config;
        int r;

        r = options_load(options, &config, &message);
        if (r < 0) {
                log_error("%s", message ?: strerrordesc_np(-r));
                return EXIT_FAILURE;
        }
        if (options->check) {
                config_free(config);
                return EXIT_SUCCESS;
        }
        log_set_level(config->log_level);

        r = manager_new(options, config, &manager);
        if (r < 0)
                return r == -ECANCELED ? EXIT_SUCCESS : EXIT_FAILURE;

        r = manager_run(manager);
        manager_free(manager);
        if (r == EXIT_SUCCESS)
                log_info("Stopped");
        return r;
}

int main(int argc, char *argv[])
{
        struct options options;
        int r;

        log_open();

        r = options_init(&options, argc, argv);
        if (r == OPTIONS_RUN)
                r = run(&options);
        else
                r = r == OPTIONS_DONE ? EXIT_SUCCESS : EXIT_USAGE;

        options_deinit(&options);
        /* Devices that hang must not keep us, nor what their threads use go before them. */
        if (aside_n_threads() > 0)
                _exit(r);
        return r;
}
