/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The checks of "dmioctl doctor". Each looks at one thing and says what it has found, and what to
 * do if that is not right. Looking changes nothing, starts no daemon, and never touches a mount,
 * which may be one that nobody serves.
 */

#include <sys/types.h>

#include "dmioctl/request.h"

struct config;

enum verdict {
        VERDICT_OK,
        VERDICT_WARN, /* it works, but not as well as it could, or it cannot be told from here */
        VERDICT_FAIL, /* it does not work */
};

/* The texts are to be freed; NULL is none. */
struct finding {
        enum verdict verdict;
        char *found;
        char *remedy;
};

enum daemon_state {
        DAEMON_GONE,   /* nobody listens */
        DAEMON_IDLE,   /* systemd listens and starts it when it is called */
        DAEMON_MUTE,   /* somebody listens, and does not answer like dmiod */
        DAEMON_DENIED, /* we may not ask */
        DAEMON_RUNS,
};

/* What several checks look at. Pointers may be NULL: that is not known. */
struct doctor {
        const struct invocation *invocation;
        char *control;
        enum daemon_state daemon;
        int daemon_error; /* of connecting or asking; 0 or a negative errno */
        pid_t pid;        /* the daemon's own; 0: not known */
        json_t *status;   /* its answer to Status */
        char *unit;       /* properties of dmiod.service; see systemctl.h */
        int unit_error;
        struct config *config;
        char *config_error;
};

/* Fill in one finding; the texts are formats. A NULL @remedy is none. */
void finding_set(struct finding *finding, enum verdict verdict, char *found, char *remedy);
char *words(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* checks-system.c */
void check_kernel(const struct doctor *doctor, struct finding *finding);
void check_fuse(const struct doctor *doctor, struct finding *finding);
void check_fusermount(const struct doctor *doctor, struct finding *finding);
void check_uring(const struct doctor *doctor, struct finding *finding);
void check_memlock(const struct doctor *doctor, struct finding *finding);
void check_memory_pressure(const struct doctor *doctor, struct finding *finding);
void check_nofile(const struct doctor *doctor, struct finding *finding);

/* checks-daemon.c */
void check_configuration(const struct doctor *doctor, struct finding *finding);
void check_daemon(const struct doctor *doctor, struct finding *finding);
void check_descriptor_store(const struct doctor *doctor, struct finding *finding);
void check_mount(const struct doctor *doctor, struct finding *finding);
void check_state(const struct doctor *doctor, struct finding *finding);

/* One more for each device of the configuration. */
struct device_grant;
void check_device(const struct doctor *doctor, const struct device_grant *grant,
                  struct finding *finding);
