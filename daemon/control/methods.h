/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the table of methods is made of (dispatch.c): a file for each part of the interface. */

#include <stdbool.h>
#include <stdint.h>

#include "control/fields.h"

struct call;

/* methods-service.c: org.varlink.service, and the state of the daemon. */
extern const char *const service_interfaces[]; /* ended by NULL */
extern const struct field describe_interface_fields[];

struct describe_interface_arguments {
        char *interface;
};

void method_get_info(struct call *call);
void method_get_interface_description(struct call *call);
void method_status(struct call *call);

/* methods-client.c: clients and their reservations. */
struct open_client_arguments {
        char *name;
        int64_t pages;
        bool linger;
};

struct close_client_arguments {
        char *name;
};

struct pages_arguments {
        char *client;
        int64_t pages;
};

extern const struct field open_client_fields[];
extern const struct field close_client_fields[];
extern const struct field pages_fields[];

void method_open_client(struct call *call);
void method_close_client(struct call *call);
void method_list_clients(struct call *call);
void method_get(struct call *call);
void method_put(struct call *call);

/* methods-export.c */
struct create_export_arguments {
        char *client;
        char *name;
        struct field_array regions; /* struct region_argument */
        bool read_only;
        bool shared;
        int cache;
};

struct remove_export_arguments {
        char *client;
        char *name;
        bool force;
};

struct list_exports_arguments {
        char *client;
};

extern const struct field create_export_fields[];
extern const struct field remove_export_fields[];
extern const struct field list_exports_fields[];

void method_create_export(struct call *call);
void method_remove_export(struct call *call);
void method_list_exports(struct call *call);

/* methods-statistics.c */
struct statistics_arguments {
        char *client;
};

extern const struct field statistics_fields[];

void method_statistics(struct call *call);

/* methods-fault.c */
struct add_fault_arguments {
        char *client;
        char *export;
        int64_t leg;
        int action;    /* enum dmio_fault_action */
        int operation; /* number of the bit DMIO_FAULT_READ ... */
        int64_t sector;
        int64_t count;
        int64_t skip;
        int64_t times;
        char *errno_name;
        int64_t delay_us;
        int64_t bytes;
};

struct list_faults_arguments {
        char *client;
};

struct fault_arguments {
        int64_t fault;
};

extern const struct field add_fault_fields[];
extern const struct field list_faults_fields[];
extern const struct field fault_fields[];

void method_add_fault(struct call *call);
void method_list_faults(struct call *call);
void method_release_fault(struct call *call);
void method_remove_fault(struct call *call);

/* monitor.c */
void method_monitor(struct call *call);

/* methods-io.c */
struct memory_argument;

struct io_arguments {
        char *client;
        int op; /* enum io_op */
        struct field_array regions;
        struct memory_argument *memory;
        bool preflush;
        bool fua;
};

extern const struct field io_fields[];

void method_io(struct call *call);
void method_submit_io(struct call *call);

/* methods-submit.c */
struct wait_io_arguments {
        char *client;
        struct field_array ids; /* int64_t */
};

extern const struct field wait_io_fields[];

void method_wait_io(struct call *call);

/* methods-job.c */
struct region_argument;

struct copy_arguments {
        char *client;
        struct region_argument *source; /* NULL for Zero */
        struct field_array destinations;
        bool ignore_errors;
        bool sequential;
        int64_t throttle;
};

struct cancel_job_arguments {
        int64_t job;
};

extern const struct field copy_fields[];
extern const struct field zero_fields[];
extern const struct field cancel_job_fields[];

void method_copy(struct call *call);
void method_zero(struct call *call);
void method_list_jobs(struct call *call);
void method_cancel_job(struct call *call);
