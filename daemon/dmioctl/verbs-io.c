/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * io: one dm-io request. The data travel in a memory file, in either direction: standard input is
 * read into it before a write, and after a read it is copied to standard output.
 *
 * Every region starts at the beginning of the same memory, so the largest one says how much there
 * must be.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

struct operation {
        const char *name;
        const char *method_name; /* what the control channel calls it */
        const char *done;        /* "2 of 3 regions ..." */
        bool read_only;
        bool has_data;
};

static const struct operation operations[] = {
        { "read", "read", "read", true, true },
        { "write", "write", "written", false, true },
        { "flush", "flush", "flushed", false, false },
        { "discard", "discard", "discarded", false, false },
        { "write-zeroes", "write_zeroes", "zeroed", false, false },
        { "write_zeroes", "write_zeroes", "zeroed", false, false },
};

static const struct operation *find_operation(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
                if (strcmp(operations[i].name, name) == 0)
                        return &operations[i];
        return NULL;
}

/* What can be known before anything is opened or read. */
static int check_usage(const struct request *request, const struct operation *operation,
                       uint64_t *ret_length, int *ret_fill)
{
        const struct invocation *invocation = request->invocation;
        bool write = strcmp(operation->name, "write") == 0;
        uint64_t sectors = 0;
        int fill = -1;

        if (operation->read_only && request->n_legs != 1)
                return complain_usage(invocation->verb, "a read takes one leg, not %u",
                                      request->n_legs);
        for (unsigned int i = 0; i < request->n_legs; i++)
                sectors = MAX(sectors, request->legs[i].count);
        if (operation->has_data && sectors == 0)
                return complain_usage(invocation->verb, "there is nothing to %s in 0 sectors",
                                      operation->name);

        if (!write && (invocation->given[OPTION_PREFLUSH] || invocation->given[OPTION_FUA] ||
                       invocation->given[OPTION_FILL]))
                return complain_usage(invocation->verb,
                                      "--preflush, --fua and --fill go with write only, not with "
                                      "%s",
                                      operation->name);
        if (invocation->given[OPTION_FILL]) {
                const char *text = invocation->values[OPTION_FILL];
                char *end = NULL;
                long value;

                value = strtol(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
                if (text[0] < '0' || text[0] > '9' || *end || value > 255)
                        return complain_usage(invocation->verb,
                                              "--fill is a byte, 0 to 255 (or 0x00 to 0xff), "
                                              "not '%s'",
                                              text);
                fill = (int)value;
        }
        *ret_length = sectors * DMIO_SECTOR_SIZE;
        *ret_fill = fill;
        return STATUS_OK;
}

static int memory_new(uint64_t length, int *ret)
{
        DMIO_CLEANUP(close_fdp)
        int fd = memfd_create("dmioctl-io", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        /* Sealed, because a daemon that maps it must not find it shorter one day. */
        if (fd < 0 || ftruncate(fd, (off_t)length) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
                complain("cannot make %" PRIu64 " bytes of memory: %s", length, strerror(errno));
                return STATUS_REFUSED;
        }
        *ret = DMIO_TAKE_FD(fd);
        return STATUS_OK;
}

static ssize_t read_some(int fd, void *buffer, size_t length)
{
        ssize_t n;

        do
                n = read(fd, buffer, length);
        while (n < 0 && errno == EINTR);
        return n;
}

/* Move @length bytes, or less if @from ends before; -1 with errno and whose it was. */
static int copy_bytes(int from, int to, uint64_t length, uint64_t *ret_done,
                      const char **ret_trouble)
{
        static char buffer[256 << 10];
        uint64_t done = 0;

        while (done < length) {
                ssize_t n = read_some(from, buffer, MIN(length - done, sizeof(buffer)));

                *ret_trouble = "read";
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                *ret_trouble = "write";
                for (ssize_t put = 0; put < n;) {
                        ssize_t m = write(to, buffer + put, (size_t)(n - put));

                        if (m < 0 && errno != EINTR)
                                return -errno;
                        put += m > 0 ? m : 0;
                }
                done += (uint64_t)n;
        }
        *ret_done = done;
        return 0;
}

static int read_input(const struct invocation *invocation, int memory, uint64_t length)
{
        const char *trouble;
        struct stat st;
        uint64_t done;
        char more;
        ssize_t n;
        int r;

        r = copy_bytes(STDIN_FILENO, memory, length, &done, &trouble);
        if (r < 0) {
                complain("cannot %s the data: %s", trouble, strerror(-r));
                return STATUS_REFUSED;
        }
        if (done < length)
                return complain_usage(invocation->verb,
                                      "standard input has %" PRIu64
                                      " bytes, the regions need %" PRIu64,
                                      done, length);

        n = read_some(STDIN_FILENO, &more, 1);
        if (n < 0) {
                complain("cannot read the data: %s", strerror(errno));
                return STATUS_REFUSED;
        }
        if (n == 0)
                return STATUS_OK;
        if (fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode)) {
                off_t left = st.st_size - lseek(STDIN_FILENO, 0, SEEK_CUR);

                return complain_usage(invocation->verb,
                                      "standard input has %" PRIu64
                                      " bytes, the regions need %" PRIu64,
                                      length + 1 + (uint64_t)MAX(left, (off_t)0), length);
        }
        return complain_usage(invocation->verb,
                              "standard input has more than %" PRIu64
                              " bytes, the regions need %" PRIu64,
                              length, length);
}

static int write_output(int memory, uint64_t length)
{
        const char *trouble;
        uint64_t done;
        int r;

        if (lseek(memory, 0, SEEK_SET) < 0)
                r = -errno;
        else
                r = copy_bytes(memory, STDOUT_FILENO, length, &done, &trouble);
        if (r < 0) {
                complain("cannot write the data to standard output: %s", strerror(-r));
                return STATUS_REFUSED;
        }
        return STATUS_OK;
}

/* "1 of 3 regions written; region 1 (b.img:0+8) failed: EIO; ..." */
static void show_failures(const struct request *request, const struct operation *operation,
                          uint64_t bits, const json_t *errors)
{
        unsigned int n_failed = (unsigned int)__builtin_popcountll(bits);
        DMIO_CLEANUP(freep) char *text = NULL;
        const json_t *error;
        size_t length, i;
        FILE *stream;

        stream = open_memstream(&text, &length);
        if (!stream)
                return;
        fprintf(stream, "%u of %u region%s %s", request->n_legs - n_failed, request->n_legs,
                request->n_legs == 1 ? "" : "s", operation->done);
        for (unsigned int region = 0; region < request->n_legs; region++) {
                const char *name = "";
                const json_t *sector = NULL;

                if (!(bits >> region & 1))
                        continue;
                json_array_foreach (errors, i, error)
                        if (show_integer(error, "region") == region) {
                                name = show_string(error, "errno");
                                sector = json_object_get(error, "sector");
                        }
                fprintf(stream, "; region %u (%s) failed: %s", region, request->legs[region].text,
                        *name ? name : "unknown error");
                if (json_is_integer(sector))
                        fprintf(stream, " at sector %" PRId64, (int64_t)json_integer_value(sector));
        }
        if (fclose(stream) == 0)
                complain("%s", text);
}

static int judge(const struct request *request, const struct operation *operation,
                 const json_t *result)
{
        const char *text = show_string(result, "error_bits");
        bool quiet = request->invocation->given[OPTION_JSON];
        unsigned long long bits;
        char *end = NULL;

        errno = 0;
        bits = strtoull(text, &end, 16);
        if (!*text || *end || errno || (request->n_legs < 64 && bits >> request->n_legs)) {
                complain("the daemon's error bits '%s' make no sense", text);
                return STATUS_REFUSED;
        }
        if (bits == 0) {
                if (!quiet && !operation->read_only)
                        printf("%u of %u region%s %s\n", request->n_legs, request->n_legs,
                               request->n_legs == 1 ? "" : "s", operation->done);
                return STATUS_OK;
        }
        if (!quiet)
                show_failures(request, operation, bits, json_object_get(result, "errors"));
        return (unsigned int)__builtin_popcountll(bits) < request->n_legs ? STATUS_PARTLY
                                                                          : STATUS_REFUSED;
}

int verb_io(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const struct operation *operation = find_operation(invocation->args[0]);
        json_t *regions = NULL, *memory = NULL;
        int memory_fd = -EBADF;
        const json_t *result;
        unsigned int number;
        uint64_t length = 0;
        int fill = -1, r;

        request_init(&request, invocation);
        if (!operation)
                return complain_usage(invocation->verb, "'%s' is no operation",
                                      invocation->args[0]);
        r = request_parse_legs(&request, 2);
        if (r == STATUS_OK)
                r = check_usage(&request, operation, &length, &fill);
        if (r == STATUS_OK)
                r = request_connect(&request);
        if (r == STATUS_OK)
                r = request_regions(&request, 0, request.n_legs, operation->read_only, &regions);
        if (r != STATUS_OK)
                return r;

        if (fill >= 0) {
                memory = json_pack("{s:i}", "fill", fill);
        } else if (operation->has_data &&
                   !(operation->read_only && invocation->given[OPTION_JSON])) {
                r = memory_new(length, &memory_fd);
                if (r == STATUS_OK)
                        r = devices_add(&request.devices, memory_fd, &number);
                if (r == STATUS_OK && !operation->read_only)
                        r = read_input(invocation, memory_fd, length);
                if (r != STATUS_OK) {
                        json_decref(regions);
                        return r;
                }
                memory = json_pack("{s:i, s:i}", "fd", (int)number, "vm", 0);
        }

        r = request_call(&request, "io.dmiod.Io",
                         json_pack("{s:s, s:s, s:o, s:o*, s:b, s:b}", "client", invocation->args[1],
                                   "op", operation->method_name, "regions", regions, "memory",
                                   memory, "preflush", invocation->given[OPTION_PREFLUSH], "fua",
                                   invocation->given[OPTION_FUA]),
                         &result);
        if (r != STATUS_OK)
                return r;
        r = judge(&request, operation, result);
        if (r == STATUS_OK && operation->read_only && memory_fd >= 0)
                r = write_output(memory_fd, length);
        return r;
}
