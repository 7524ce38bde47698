/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration: defaults, files and fragments, and that whatever is wrong is named. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"
#include "util/cleanup.h"
#include "util/macros.h"

struct fixture {
        char folder[64];
        char file[96];
        char fragments[96];
};

static void write_file(const char *path, const char *text)
{
        FILE *file = fopen(path, "we");

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
}

static void write_fragment(const struct fixture *f, const char *name, const char *text)
{
        char path[160];

        (void)mkdir(f->fragments, 0700);
        (void)snprintf(path, sizeof(path), "%s/%s", f->fragments, name);
        write_file(path, text);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        strcpy(f->folder, "/tmp/test-config-XXXXXX");
        if (!mkdtemp(f->folder))
                return -1;
        (void)snprintf(f->file, sizeof(f->file), "%s/dmiod.conf", f->folder);
        (void)snprintf(f->fragments, sizeof(f->fragments), "%s/dmiod.conf.d", f->folder);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char command[160];

        (void)snprintf(command, sizeof(command), "rm -rf -- '%s'", f->folder);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

static struct config *load(const struct fixture *f, const char *text)
{
        struct config *config = NULL;
        char *message = NULL;

        write_file(f->file, text);
        if (config_load(f->file, false, &config, &message) < 0)
                fail_msg("%s", message);
        return config;
}

/* The message must begin with the place and contain what is to be named. */
static void refuse(const struct fixture *f, const char *text, unsigned int line, const char *names)
{
        struct config *config = NULL;
        char *message = NULL;
        char place[128];

        write_file(f->file, text);
        assert_int_equal(config_load(f->file, false, &config, &message), -EINVAL);
        assert_null(config);
        assert_non_null(message);
        (void)snprintf(place, sizeof(place), "%s:%u: ", f->file, line);
        if (strncmp(message, place, strlen(place)) != 0 || !strstr(message, names))
                fail_msg("'%s' does not name %s%s", message, place, names);
        assert_null(strchr(message, '\n'));
        free(message);
}

static void an_empty_file_gives_the_defaults(void **state)
{
        struct config *config = load(*state, "");

        assert_string_equal(config->mount, "/run/dmio");
        assert_string_equal(config->control, "/run/dmiod/control");
        assert_string_equal(config->state, "/var/lib/dmiod");
        assert_null(config->backend);
        assert_int_equal(config->queues, 0);
        assert_int_equal(config->max_pages, 0);
        assert_int_equal(config->spin_usec, 50);
        assert_int_equal(config->log_level, LOG_INFO);
        assert_int_equal(config->limit_clients, 64);
        assert_int_equal(config->limit_exports, 256);
        assert_int_equal(config->limit_connections, 1024);
        assert_int_equal(config->limit_pages, 65536);
        assert_int_equal(config->limit_jobs, 32);
        assert_int_equal(config->limit_requests, 256);
        assert_int_equal(config->limit_monitors, 64);
        assert_int_equal(config->limit_faults, 32);
        assert_false(config->drills);
        assert_int_equal(config->limit_buffers, 134217728);
        assert_int_equal(config->limit_held, 4096);
        assert_int_equal(config->limit_message, 1048576);
        assert_int_equal(config->limit_nesting, 32);
        assert_int_equal(config->limit_descriptors, 64);
        assert_int_equal(config->limit_events, 256);
        assert_true(list_is_empty(&config->devices));
        config_free(config);
}

static void keys_are_read(void **state)
{
        struct config *config = load(*state, "# a comment\n"
                                             "[daemon]\n"
                                             "mount = /mnt//./x/\n"
                                             "backend=threads\n"
                                             "queues = 3\n"
                                             "log-level = debug ; the rest is a comment\n"
                                             "\n"
                                             "[limits]\n"
                                             "pages-per-uid = 12\n");

        assert_string_equal(config->mount, "/mnt/x");
        assert_string_equal(config->backend, "threads");
        assert_int_equal(config->queues, 3);
        assert_int_equal(config->log_level, LOG_DEBUG);
        assert_int_equal(config->limit_pages, 12);
        config_free(config);
}

static void wrong_values_are_named(void **state)
{
        static const struct {
                const char *section, *line, *names;
        } rows[] = {
                { "daemon", "queues = many", "queues" },
                { "daemon", "queues = 65", "queues" },
                { "daemon", "queues = -1", "queues" },
                { "daemon", "queues = 0x1", "queues" },
                { "daemon", "queues =", "queues" },
                { "daemon", "max-pages = 99999999999999999999999", "max-pages" },
                { "daemon", "mount = run", "mount" },
                { "daemon", "mount =", "mount" },
                { "daemon", "backend = floppy", "backend" },
                { "daemon", "log-level = loud", "log-level" },
                { "daemon", "color = red", "color" },
                { "daemon", "pages-per-uid = 1", "pages-per-uid" },
                { "limits", "message-bytes = 10", "message-bytes" },
                { "limits", "mount = /x", "mount" },
                { "device x", "path = x", "path" },
                { "device x", "owner = root", "owner" },
                { "device x", "users = no-such-user-here", "no-such-user-here" },
                { "device x", "users = 4294967295", "4294967295" },
                { "device x", "groups = 4294967296", "4294967296" },
                { "device x", "read-only = maybe", "read-only" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char text[256];

                (void)snprintf(text, sizeof(text), "# one\n[%s]\n%s\n# four\n", rows[i].section,
                               rows[i].line);
                refuse(*state, text, 3, rows[i].names);
        }
}

static void wrong_lines_are_named(void **state)
{
        refuse(*state, "[deamon]\n", 1, "[deamon]");
        refuse(*state, "\nmount = /x\n", 2, "mount");
        refuse(*state, "[daemon]\nmount\n", 2, "neither");
        refuse(*state, "[daemon\nmount = /x\n", 1, "neither");
        refuse(*state, "[daemon]\nwhat is this\nqueues = x\n", 2, "neither");
        refuse(*state, "[daemon]\nqueues = x\nwhat is this\n", 2, "queues");
        refuse(*state, "[daemon]\nmount = /x\n  queues = 1\n", 3, "mount");
        refuse(*state, "[device a b]\npath = /x\n", 1, "a b");
        refuse(*state, "[device .a]\npath = /x\n", 1, ".a");
        refuse(*state, "[device ]\npath = /x\n", 1, "name");
        refuse(*state, "[device]\npath = /x\n", 1, "[device]");
        refuse(*state, "[ daemon ]\n", 1, "[ daemon ]");
        refuse(*state, " [daemon]\nqueues = 1\n", 2, "first column");
        refuse(*state, "[daemon] queues = 1\n", 1, "bracket");
        refuse(*state, "[daemon]queues = 1\n", 1, "bracket");
        refuse(*state, "[daemon]\nmount = /x # a comment?\n", 2, "';'");
        refuse(*state, "[daemon]\nmount = /x\t# a comment?\n", 2, "';'");
}

static void a_key_counts_once(void **state)
{
        const struct fixture *f = *state;

        refuse(f, "[daemon]\nqueues = 1\n\nqueues = 1\n", 4, "line 2");
        refuse(f, "[daemon]\nqueues = 1\n[limits]\n[daemon]\nqueues = 2\n", 5, "line 2");
        refuse(f, "[device a]\npath = /x\nread-only = no\nread-only = yes\n", 4, "read-only");
        refuse(f, "[device a]\npath = /x\nusers = 1\nusers = 2\n", 4, "users");
        refuse(f, "[device a]\npath = /x\nusers = 1\n 2\ngroups = 1\nusers = 2\n", 6, "users");

        /* Of two sections each has its own, and a section may go on later. */
        config_free(load(f, "[device a]\npath = /x\nusers = 1\n[limits]\n[device b]\npath = /y\n"
                            "users = 1\n[limits]\npages-per-uid = 1\n"));
}

static void other_editors_are_understood(void **state)
{
        struct config *config;

        config = load(*state, "\xef\xbb\xbf[daemon]\r\nqueues = 3\r\n\r\n[limits] ; some\r\n"
                              "pages-per-uid: 7\r\n[device a] # one\r\npath=/x y\r\nusers = 1\r\n"
                              "\t2\r\n");
        assert_int_equal(config->queues, 3);
        assert_int_equal(config->limit_pages, 7);
        assert_string_equal(list_first(&config->devices, struct device_grant, link)->path, "/x y");
        assert_int_equal(list_first(&config->devices, struct device_grant, link)->n_users, 2);
        config_free(config);
        refuse(*state, "\n\xef\xbb\xbf[daemon]\n", 2, "neither");
}

static void bytes_that_are_no_text_are_refused(void **state)
{
        static const struct {
                const char *text;
                size_t length;
                unsigned int line;
        } rows[] = {
                { "[daemon]\nqueues = 1\0 2\n", 23, 2 },
                { "[daemon]\nqueues = 1\0", 20, 2 },
                { "\0", 1, 1 },
                { "[daemon]\n\0\n", 11, 2 },
        };
        const struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct config *config = NULL;
                FILE *file = fopen(f->file, "we");
                char place[128];
                char *message = NULL;

                assert_int_equal(fwrite(rows[i].text, 1, rows[i].length, file), rows[i].length);
                assert_int_equal(fclose(file), 0);
                (void)snprintf(place, sizeof(place), "%s:%u: the line has a NUL", f->file,
                               rows[i].line);
                assert_int_equal(config_load(f->file, false, &config, &message), -EINVAL);
                assert_memory_equal(message, place, strlen(place));
                free(message);
        }
}

static void a_file_that_is_too_large_is_named(void **state)
{
        const struct fixture *f = *state;
        struct config *config = NULL;
        char *message = NULL;
        FILE *file = fopen(f->file, "we");

        for (int i = 0; i < 1024 * 1024 / 16; i++)
                assert_true(fputs("# fifteen bytes\n", file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(config_load(f->file, false, &config, &message), 0);
        config_free(config);

        file = fopen(f->file, "ae");
        assert_true(fputs("#", file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(config_load(f->file, false, &config, &message), -EINVAL);
        assert_non_null(strstr(message, ":65537: the file is larger than 1048576 bytes"));
        free(message);
}

static void a_line_that_is_too_long_is_named(void **state)
{
        char text[4096] = "[daemon]\nmount = /";

        /* Of 198 bytes it is read whole, with or without an end; of one more it is not cut. */
        memset(text + strlen(text), 'x', 198 - strlen("mount = /"));
        config_free(load(*state, text));
        strcat(text, "\n");
        config_free(load(*state, text));
        strcpy(text + strlen(text) - 1, "x\n");
        refuse(*state, text, 2, "longer than 198 bytes");
        memset(text + strlen(text), 'x', 3000);
        refuse(*state, text, 2, "longer than 198 bytes");
}

static void a_socket_path_must_fit_its_address(void **state)
{
        char text[256] = "[daemon]\ncontrol = /";

        memset(text + strlen(text), 'x', 107);
        refuse(*state, text, 2, "control");
        text[strlen(text) - 1] = '\0';
        config_free(load(*state, text));
}

static void devices_are_granted_by_user_and_group(void **state)
{
        struct config *config = load(*state, "[device scratch]\n"
                                             "path = /dev/null\n"
                                             "users = root, 1001\n"
                                             "        1002,1003\n"
                                             "groups = 2001\n"
                                             "[device tape]\n"
                                             "path = /dev/zero\n"
                                             "read-only = yes\n");
        gid_t groups[] = { 5, 2001 };
        struct peer alice = { .uid = 1002, .gid = 1 };
        struct peer bob = { .uid = 1004, .gid = 2001 };
        struct peer carol = { .uid = 1005, .gid = 1, .groups = groups, .n_groups = 2 };
        struct peer dave = { .uid = 1006, .gid = 1, .groups = groups, .n_groups = 1 };
        struct peer root = { .privileged = true };
        const struct device_grant *grant;

        grant = config_find_device(config, "scratch", &alice);
        assert_non_null(grant);
        assert_string_equal(grant->path, "/dev/null");
        assert_false(grant->read_only);
        assert_int_equal(grant->n_users, 4);
        assert_ptr_equal(config_find_device(config, "scratch", &bob), grant);
        assert_ptr_equal(config_find_device(config, "scratch", &carol), grant);
        assert_null(config_find_device(config, "scratch", &dave));
        assert_ptr_equal(config_find_device(config, "scratch", &root), grant);

        assert_null(config_find_device(config, "tape", &alice));
        grant = config_find_device(config, "tape", &root);
        assert_non_null(grant);
        assert_true(grant->read_only);
        assert_null(config_find_device(config, "other", &root));
        config_free(config);
}

static void a_device_is_there_once_and_has_one_path(void **state)
{
        refuse(*state, "[device a]\npath = /x\n[device a]\npath = /y\n", 3, "[device a]");
        refuse(*state, "[device a]\npath = /x\npath = /y\n", 3, "path");
        refuse(*state, "[device a]\nusers = 1\n[daemon]\n", 1, "[device a]");
        refuse(*state, "\n[device a]\n", 2, "[device a]");
}

static void fragments_come_in_the_order_of_their_names(void **state)
{
        const struct fixture *f = *state;
        struct config *config;

        write_fragment(f, "20-b.conf", "[daemon]\nqueues = 2\n");
        write_fragment(f, "10-a.conf", "[daemon]\nqueues = 1\nspin-us = 7\n");
        write_fragment(f, "30-c.conf.off", "[daemon]\nqueues = 3\n");
        write_fragment(f, ".40-d.conf", "[daemon]\nqueues = 4\n");
        write_fragment(f, "50-e.conf~", "[daemon]\nqueues = 5\n");
        write_fragment(f, ".conf", "[daemon]\nqueues = 6\n");
        config = load(f, "[daemon]\nqueues = 9\nmax-pages = 5\n");
        assert_int_equal(config->queues, 2);
        assert_int_equal(config->spin_usec, 7);
        assert_int_equal(config->max_pages, 5);
        config_free(config);
}

static void an_error_in_a_fragment_names_the_fragment(void **state)
{
        const struct fixture *f = *state;
        struct config *config = NULL;
        char *message = NULL;

        write_fragment(f, "x.conf", "[device a]\npath = /x\n");
        write_file(f->file, "[device a]\npath = /x\n");
        assert_int_equal(config_load(f->file, false, &config, &message), -EINVAL);
        assert_non_null(strstr(message, "/x.conf:1: [device a]"));
        free(message);
}

static void a_file_that_is_asked_for_must_be_there(void **state)
{
        const struct fixture *f = *state;
        struct config *config = NULL;
        char *message = NULL;

        assert_true(config_load(f->file, false, &config, &message) < 0);
        assert_non_null(strstr(message, f->file));
        free(message);
}

static void refuse_file(const char *path, const char *names)
{
        struct config *config = NULL;
        char *message = NULL;

        assert_true(config_load(path, false, &config, &message) < 0);
        assert_null(config);
        if (!strstr(message, path) || !strstr(message, names))
                fail_msg("'%s' does not name %s and %s", message, path, names);
        free(message);
}

static void what_is_not_a_file_is_refused(void **state)
{
        const struct fixture *f = *state;
        struct config *config = NULL;
        char *message = NULL;

        refuse_file(f->folder, "folder");
        assert_int_equal(mkfifo(f->file, 0600), 0);
        refuse_file(f->file, "not a regular file"); /* and is not waited for */
        refuse_file("/dev/zero", "NUL");
        assert_int_equal(config_load("/dev/null", false, &config, &message), 0);
        config_free(config);

        /* A folder of fragments that is a file; and one that is no folder of ours. */
        assert_int_equal(unlink(f->file), 0);
        write_file(f->file, "");
        write_file(f->fragments, "");
        assert_true(config_load(f->file, false, &config, &message) < 0);
        assert_non_null(strstr(message, f->fragments));
        free(message);
}

static void links_are_followed(void **state)
{
        const struct fixture *f = *state;
        struct config *config;
        char link[160], target[160];

        write_fragment(f, "a", "[daemon]\nqueues = 5\n");
        (void)snprintf(link, sizeof(link), "%s/20.conf", f->fragments);
        assert_int_equal(symlink("a", link), 0);
        (void)snprintf(link, sizeof(link), "%s/30.conf", f->fragments);
        assert_int_equal(symlink("/dev/null", link), 0);
        config = load(f, "");
        assert_int_equal(config->queues, 5);
        config_free(config);

        (void)snprintf(target, sizeof(target), "%s/a", f->fragments);
        assert_int_equal(unlink(target), 0);
        (void)snprintf(link, sizeof(link), "%s/20.conf", f->fragments);
        config = NULL;
        {
                char *message = NULL;

                assert_true(config_load(f->file, false, &config, &message) < 0);
                assert_non_null(strstr(message, link));
                free(message);
        }
}

static void what_is_needed_for_the_mount_is_not_in_it(void **state)
{
        static const struct {
                const char *key, *value;
                int result;
        } rows[] = {
                { "control", "/m/control", -EINVAL },
                { "control", "/m", -EINVAL },
                { "control", "/mm/control", 0 },
                { "state", "/m/a/b", -EINVAL },
                { "state", "/", 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct config *config = load(*state, "[daemon]\nmount = /m\n");
                char *message = NULL;

                assert_int_equal(config_set(config, rows[i].key, rows[i].value, &message), 0);
                assert_int_equal(config_check(config, &message), rows[i].result);
                if (rows[i].result < 0)
                        assert_non_null(strstr(message, rows[i].key));
                free(message);
                config_free(config);
        }
}

static void a_user_service_lives_below_the_xdg_folders(void **state)
{
        const struct fixture *f = *state;
        struct config *config = NULL;
        char *message = NULL;

        setenv("HOME", "/home/alice", 1);
        setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
        unsetenv("XDG_STATE_HOME");
        write_file(f->file, "");
        assert_int_equal(config_load(f->file, true, &config, &message), 0);
        assert_true(config->user);
        assert_string_equal(config->mount, "/run/user/1/dmio");
        assert_string_equal(config->control, "/run/user/1/dmiod/control");
        assert_string_equal(config->state, "/home/alice/.local/state/dmiod");
        assert_int_equal(config_check(config, &message), 0);
        config_free(config);

        setenv("XDG_STATE_HOME", "/s", 1);
        unsetenv("XDG_RUNTIME_DIR");
        assert_int_equal(config_load(f->file, true, &config, &message), 0);
        assert_string_equal(config->state, "/s/dmiod");
        assert_int_equal(config_check(config, &message), -EINVAL);
        assert_non_null(strstr(message, "XDG_RUNTIME_DIR"));
        free(message);
        config_free(config);
}

static unsigned int queues_by_default(void)
{
        struct config *config = NULL;
        char *message = NULL;
        unsigned int queues;

        if (config_load(NULL, true, &config, &message) < 0)
                fail_msg("%s", message);
        queues = config->queues;
        config_free(config);
        return queues;
}

static void the_default_file_need_not_be_there(void **state)
{
        const struct fixture *f = *state;
        struct config *config = NULL;
        char folder[128], file[160];
        char *message = NULL;

        setenv("XDG_CONFIG_HOME", f->folder, 1);
        unsetenv("HOME");
        assert_int_equal(queues_by_default(), 0);

        /* Its folder of fragments may be there without it. */
        (void)snprintf(folder, sizeof(folder), "%s/dmiod", f->folder);
        assert_int_equal(mkdir(folder, 0700), 0);
        (void)snprintf(file, sizeof(file), "%s/dmiod.conf.d", folder);
        assert_int_equal(mkdir(file, 0700), 0);
        (void)snprintf(file, sizeof(file), "%s/dmiod.conf.d/a.conf", folder);
        write_file(file, "[daemon]\nqueues = 2\n");
        assert_int_equal(queues_by_default(), 2);
        assert_int_equal(unlink(file), 0);
        (void)snprintf(file, sizeof(file), "%s/dmiod.conf", folder);
        write_file(file, "[daemon]\nqueues = 3\n");
        assert_int_equal(queues_by_default(), 3);

        /* A variable that is no absolute path does not count, and without a home there is none. */
        setenv("XDG_CONFIG_HOME", "relative", 1);
        assert_int_equal(queues_by_default(), 0);
        unsetenv("XDG_CONFIG_HOME");
        assert_int_equal(queues_by_default(), 0);
        setenv("HOME", f->folder, 1);
        assert_int_equal(queues_by_default(), 0);
        (void)snprintf(file, sizeof(file), "%s/../.config", folder);
        assert_int_equal(symlink(f->folder, file), 0);
        assert_int_equal(queues_by_default(), 3);

        /* If it is there it must be a file, and be right. */
        (void)snprintf(file, sizeof(file), "%s/dmiod.conf", folder);
        write_file(file, "[daemon]\nqueues = x\n");
        assert_true(config_load(NULL, true, &config, &message) < 0);
        assert_non_null(strstr(message, "/dmiod/dmiod.conf:2: queues"));
        free(message);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(mkdir(file, 0700), 0);
        assert_true(config_load(NULL, true, &config, &message) < 0);
        assert_non_null(strstr(message, "folder"));
        free(message);
}

static void the_command_line_may_be_relative(void **state)
{
        struct config *config = NULL;
        char *message = NULL;
        char *folder = getcwd(NULL, 0);
        char expected[4200];

        assert_int_equal(config_new(false, &config), 0);
        assert_int_equal(config_set(config, "mount", "./m", &message), 0);
        (void)snprintf(expected, sizeof(expected), "%s/m", strcmp(folder, "/") ? folder : "");
        assert_string_equal(config->mount, expected);
        assert_int_equal(config_set(config, "queues", "x", &message), -EINVAL);
        assert_non_null(strstr(message, "queues"));
        free(message);
        assert_int_equal(config_set(config, "pages-per-uid", "1", &message), -EINVAL);
        assert_non_null(strstr(message, "pages-per-uid"));
        free(message);
        config_free(config);
        free(folder);
}

static void a_reload_keeps_what_is_fixed(void **state)
{
        struct config *running = load(*state, "[daemon]\nmount = /a\nqueues = 1\n");
        struct config *config = load(*state, "[daemon]\nmount = /b\nqueues = 2\nbackend = memory\n"
                                             "log-level = error\n[limits]\nclients-per-uid = 3\n");
        char *keys = NULL;

        assert_int_equal(config_keep_fixed(config, running, &keys), 0);
        assert_string_equal(keys, "mount, backend, queues");
        free(keys);
        assert_string_equal(config->mount, "/a");
        assert_int_equal(config->queues, 1);
        assert_null(config->backend);
        assert_int_equal(config->log_level, LOG_ERR);
        assert_int_equal(config->limit_clients, 3);

        assert_int_equal(config_keep_fixed(config, running, &keys), 0);
        assert_null(keys);
        config_free(config);
        config_free(running);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(an_empty_file_gives_the_defaults),
                TEST(keys_are_read),
                TEST(wrong_values_are_named),
                TEST(wrong_lines_are_named),
                TEST(a_key_counts_once),
                TEST(other_editors_are_understood),
                TEST(bytes_that_are_no_text_are_refused),
                TEST(a_file_that_is_too_large_is_named),
                TEST(a_line_that_is_too_long_is_named),
                TEST(a_socket_path_must_fit_its_address),
                TEST(devices_are_granted_by_user_and_group),
                TEST(a_device_is_there_once_and_has_one_path),
                TEST(fragments_come_in_the_order_of_their_names),
                TEST(an_error_in_a_fragment_names_the_fragment),
                TEST(a_file_that_is_asked_for_must_be_there),
                TEST(what_is_not_a_file_is_refused),
                TEST(links_are_followed),
                TEST(what_is_needed_for_the_mount_is_not_in_it),
                TEST(a_user_service_lives_below_the_xdg_folders),
                TEST(the_default_file_need_not_be_there),
                TEST(the_command_line_may_be_relative),
                TEST(a_reload_keeps_what_is_fixed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
