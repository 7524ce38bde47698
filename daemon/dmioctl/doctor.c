/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * doctor: a table of checks, a line each. What several of them look at is gathered first; each part
 * of that may be missing.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "config.h"
#include "dmioctl/doctor.h"
#include "dmioctl/show.h"
#include "dmioctl/systemctl.h"
#include "util/macros.h"

/* How long the daemon and the service manager have for an answer. */
#define PATIENCE_MSEC 3000

#define UNIT_PROPERTIES                                                                            \
        "LoadState,ActiveState,MainPID,NFileDescriptorStore,FileDescriptorStoreMax,LimitMEMLOCK,"  \
        "LimitNOFILE"

static const struct check {
        const char *name;
        void (*look)(const struct doctor *doctor, struct finding *finding);
        bool only_user; /* with --user */
} checks[] = {
        { "kernel", check_kernel, false },
        { "fuse", check_fuse, false },
        { "fusermount", check_fusermount, true },
        { "io_uring", check_uring, false },
        { "locked memory", check_memlock, false },
        { "memory pressure", check_memory_pressure, false },
        { "open files", check_nofile, false },
        { "configuration", check_configuration, false },
        { "daemon", check_daemon, false },
        { "descriptor store", check_descriptor_store, false },
        { "mount", check_mount, false },
        { "state", check_state, false },
};

static const char *const verdict_names[] = {
        [VERDICT_OK] = "ok",
        [VERDICT_WARN] = "warn",
        [VERDICT_FAIL] = "fail",
};

char *words(const char *format, ...)
{
        va_list arguments;
        char *string;
        int n;

        va_start(arguments, format);
        n = vasprintf(&string, format, arguments);
        va_end(arguments);
        return n < 0 ? NULL : string;
}

void finding_set(struct finding *finding, enum verdict verdict, char *found, char *remedy)
{
        *finding = (struct finding){ .verdict = verdict, .found = found, .remedy = remedy };
}

static void doctor_deinit(struct doctor *doctor)
{
        free(doctor->control);
        free(doctor->unit);
        free(doctor->config_error);
        json_decref(doctor->status);
        config_free(doctor->config);
        *doctor = (struct doctor){};
}

/* Who listens is who serves, unless that was systemd. */
static pid_t pid_of(const struct control *control)
{
        struct ucred peer = {};
        socklen_t size = sizeof(peer);

        if (getsockopt(control_get_fd(control), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return 0;
        return peer.pid > 1 ? peer.pid : 0;
}

static void ask_daemon(struct doctor *doctor)
{
        bool user = doctor->invocation->given[OPTION_USER];
        DMIO_CLEANUP(control_freep) struct control *control = NULL;
        json_t *reply = NULL;
        int r;

        r = control_path(doctor->invocation, &doctor->control);
        if (r == 0 && !doctor->invocation->given[OPTION_CONTROL] &&
            systemctl_daemon_is_idle(user, PATIENCE_MSEC)) {
                doctor->daemon = DAEMON_IDLE;
                return;
        }
        if (r == 0)
                r = control_connect_within(doctor->control, PATIENCE_MSEC, &control);
        if (r < 0) {
                doctor->daemon_error = r;
                doctor->daemon = r == -EACCES || r == -EPERM ? DAEMON_DENIED
                                 : r == -EAGAIN              ? DAEMON_MUTE
                                                             : DAEMON_GONE;
                return;
        }
        doctor->pid = pid_of(control);
        r = control_call(control, "io.dmiod.Status", NULL, NULL, 0, &reply);
        doctor->status = json_incref(json_object_get(reply, "parameters"));
        json_decref(reply);
        doctor->daemon = DAEMON_RUNS;
        if (!*show_string(doctor->status, "version")) {
                doctor->daemon_error = r == -EAGAIN ? -ETIME : r < 0 ? r : -EBADMSG;
                doctor->daemon = DAEMON_MUTE;
        }
}

static void ask_systemd(struct doctor *doctor)
{
        DMIO_CLEANUP(freep) char *pid = NULL;

        doctor->unit_error = systemctl_show(doctor->invocation->given[OPTION_USER], "dmiod.service",
                                            UNIT_PROPERTIES, PATIENCE_MSEC, &doctor->unit);
        if (doctor->unit_error < 0 || doctor->pid > 0 || doctor->invocation->given[OPTION_CONTROL])
                return;
        pid = systemctl_value(doctor->unit, "MainPID");
        doctor->pid = pid ? (pid_t)strtol(pid, NULL, 10) : 0;
}

static void examine(struct doctor *doctor, const struct invocation *invocation)
{
        *doctor = (struct doctor){ .invocation = invocation };
        (void)config_load(invocation->values[OPTION_CONFIG], invocation->given[OPTION_USER],
                          &doctor->config, &doctor->config_error);
        ask_daemon(doctor);
        ask_systemd(doctor);
}

/* Takes what the finding has. */
static void add(json_t *list, unsigned int *counts, const char *name, struct finding *finding)
{
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s*}", "check", name, "state",
                                              verdict_names[finding->verdict], "found",
                                              finding->found ? finding->found : "out of memory",
                                              "remedy", finding->remedy));
        counts[finding->verdict]++;
        free(finding->found);
        free(finding->remedy);
        *finding = (struct finding){};
}

static json_t *look(const struct doctor *doctor, unsigned int *counts)
{
        const struct device_grant *grant;
        json_t *list = json_array();
        struct finding finding = {};

        for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
                if (checks[i].only_user && !doctor->invocation->given[OPTION_USER])
                        continue;
                checks[i].look(doctor, &finding);
                add(list, counts, checks[i].name, &finding);
        }
        if (doctor->config)
                list_for_each (grant, &doctor->config->devices, link) {
                        char name[128];

                        snprintf(name, sizeof(name), "device %s", grant->name);
                        check_device(doctor, grant, &finding);
                        add(list, counts, name, &finding);
                }
        return list;
}

static int show(const json_t *list)
{
        static const char *const heads[] = { "STATE", "CHECK", "FOUND", "REMEDY" };
        json_t *rows = json_array();
        const json_t *item;
        size_t i;

        json_array_foreach (list, i, item)
                json_array_append_new(rows, json_pack("[s, s, s, s]", show_string(item, "state"),
                                                      show_string(item, "check"),
                                                      show_string(item, "found"),
                                                      show_string(item, "remedy")));
        return show_list(heads, ARRAY_SIZE(heads), rows, "");
}

int verb_doctor(const struct invocation *invocation)
{
        DMIO_CLEANUP(doctor_deinit) struct doctor doctor = {};
        unsigned int counts[ARRAY_SIZE(verdict_names)] = {};
        json_t *report, *list;
        int r = STATUS_OK;

        examine(&doctor, invocation);
        list = look(&doctor, counts);
        report = json_pack("{s:o}", "checks", list);
        if (!report)
                return complain_memory();
        if (invocation->given[OPTION_JSON])
                show_json(report);
        else
                r = show(list);
        json_decref(report);
        if (r != STATUS_OK)
                return r;
        if (counts[VERDICT_FAIL] == 0)
                return STATUS_OK;
        if (show_flush() == 0)
                complain("%u check%s failed; do what stands beside %s, then run this again",
                         counts[VERDICT_FAIL], counts[VERDICT_FAIL] == 1 ? "" : "s",
                         counts[VERDICT_FAIL] == 1 ? "it" : "them");
        return STATUS_REFUSED;
}
