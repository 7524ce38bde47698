/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A fuzz target without the fuzzer: runs it over the files that are named, and those of folders,
 * each in a copy of its own length, so that a sanitizer sees every byte too many.
 */

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "util/cleanup.h"

#define INPUT_MAX ((size_t)1 << 20)

static unsigned int n_inputs;

static int run_file(const char *path)
{
        static uint8_t buffer[INPUT_MAX];
        DMIO_CLEANUP(freep) uint8_t *input = NULL;
        FILE *file = fopen(path, "re");
        size_t size;

        if (!file)
                return -errno;
        size = fread(buffer, 1, sizeof(buffer), file);
        (void)fclose(file);
        input = malloc(size > 0 ? size : 1);
        if (!input)
                return -ENOMEM;
        memcpy(input, buffer, size);
        (void)LLVMFuzzerTestOneInput(input, size);
        n_inputs++;
        return 0;
}

static int run_folder(const char *path)
{
        struct dirent **entries;
        int n, r = 0;

        n = scandir(path, &entries, NULL, alphasort);
        if (n < 0)
                return -errno;
        for (int i = 0; i < n; i++) {
                char name[PATH_MAX];

                (void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
                if (r == 0 && entries[i]->d_name[0] != '.')
                        r = run_file(name);
                free(entries[i]);
        }
        free(entries);
        return r;
}

int main(int argc, char *argv[])
{
        for (int i = 1; i < argc; i++) {
                struct stat st;
                int r = stat(argv[i], &st) < 0 ? -errno : 0;

                if (r == 0)
                        r = S_ISDIR(st.st_mode) ? run_folder(argv[i]) : run_file(argv[i]);
                if (r < 0) {
                        (void)fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
                        return EXIT_FAILURE;
                }
        }
        (void)printf("%u inputs\n", n_inputs);
        return n_inputs > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
