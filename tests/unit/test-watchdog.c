/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/engine.h>

#include "util/list.h"
#include "util/macros.h"
#include "watchdog.h"

#define LIMIT_USEC 80000
#define WAIT_USEC UINT64_C(20000000)

/* A thread that drives a queue, and can be held up. */
struct driver {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        pthread_t thread;
        sem_t ready, release;
        struct dmio_task hold_task, stop_task;
        atomic_bool stopping;
};

struct fixture {
        struct driver drivers[2];
        struct dmio_engine *engine;
        sd_event *event;
        struct watchdog *watchdog;
        int socket;
};

static void *driver_main(void *userdata)
{
        struct driver *driver = userdata;

        assert_int_equal(dmio_queue_create(driver->engine, &driver->queue), 0);
        sem_post(&driver->ready);
        while (!atomic_load(&driver->stopping))
                assert_true(dmio_queue_process(driver->queue, -1, 0) >= 0);
        assert_int_equal(dmio_queue_destroy(driver->queue), 0);
        return NULL;
}

static void hold(struct dmio_task *task)
{
        while (sem_wait(&container_of(task, struct driver, hold_task)->release) < 0)
                ;
}

static void stop(struct dmio_task *task)
{
        atomic_store(&container_of(task, struct driver, stop_task)->stopping, true);
}

static int set_up(void **state)
{
        const struct dmio_engine_options options = { .backend = "memory",
                                                     .flags = DMIO_ENGINE_NO_THREAD };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct fixture *fixture = calloc(1, sizeof(*fixture));
        char usec[16];

        assert_non_null(fixture);
        assert_int_equal(dmio_engine_create(&options, &fixture->engine), 0);
        for (size_t i = 0; i < ARRAY_SIZE(fixture->drivers); i++) {
                struct driver *driver = &fixture->drivers[i];

                driver->engine = fixture->engine;
                driver->hold_task.fn = hold;
                driver->stop_task.fn = stop;
                sem_init(&driver->ready, 0, 0);
                sem_init(&driver->release, 0, 0);
                assert_int_equal(pthread_create(&driver->thread, NULL, driver_main, driver), 0);
                while (sem_wait(&driver->ready) < 0)
                        ;
        }

        /* An abstract address leaves nothing behind. */
        fixture->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fixture->socket >= 0);
        (void)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "dmio-watchdog-%d",
                       (int)getpid());
        assert_int_equal(bind(fixture->socket, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                                          strlen(address.sun_path + 1))),
                         0);
        address.sun_path[0] = '@';
        setenv("NOTIFY_SOCKET", address.sun_path, 1);
        (void)snprintf(usec, sizeof(usec), "%d", LIMIT_USEC);
        setenv("WATCHDOG_USEC", usec, 1);
        unsetenv("WATCHDOG_PID");

        assert_true(sd_event_new(&fixture->event) >= 0);
        *state = fixture;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *fixture = *state;

        for (size_t i = 0; i < ARRAY_SIZE(fixture->drivers); i++) {
                sem_post(&fixture->drivers[i].release);
                dmio_queue_post(fixture->drivers[i].queue, &fixture->drivers[i].stop_task);
                assert_int_equal(pthread_join(fixture->drivers[i].thread, NULL), 0);
        }
        watchdog_free(fixture->watchdog);
        sd_event_unref(fixture->event);
        assert_int_equal(dmio_engine_destroy(fixture->engine), 0);
        close(fixture->socket);
        free(fixture);
        return 0;
}

static void watch(struct fixture *fixture)
{
        assert_int_equal(watchdog_new(fixture->event, &fixture->watchdog), 0);
        assert_non_null(fixture->watchdog);
        for (size_t i = 0; i < ARRAY_SIZE(fixture->drivers); i++)
                assert_int_equal(watchdog_add(fixture->watchdog, fixture->drivers[i].queue), 0);
}

static unsigned int count_pings(struct fixture *fixture)
{
        unsigned int pings = 0;
        char text[64];
        ssize_t n;

        while ((n = recv(fixture->socket, text, sizeof(text) - 1, 0)) > 0) {
                text[n] = '\0';
                pings += strcmp(text, "WATCHDOG=1") == 0;
        }
        return pings;
}

/* Run the loop for @usec, or until there have been @enough pings. */
static unsigned int pings_within(struct fixture *fixture, uint64_t usec, unsigned int enough)
{
        unsigned int pings = 0;
        uint64_t now, end;

        assert_true(sd_event_now(fixture->event, CLOCK_MONOTONIC, &now) >= 0);
        end = now + usec;
        while (now < end && pings < enough) {
                assert_true(sd_event_run(fixture->event, MIN(end - now, UINT64_C(5000))) >= 0);
                pings += count_pings(fixture);
                assert_true(sd_event_now(fixture->event, CLOCK_MONOTONIC, &now) >= 0);
        }
        return pings;
}

static void test_pings_while_all_get_round(void **state)
{
        watch(*state);
        assert_int_equal(pings_within(*state, WAIT_USEC, 8), 8);
}

static void test_no_pings_for_a_stuck_thread(void **state)
{
        struct fixture *fixture = *state;

        for (size_t i = 0; i < ARRAY_SIZE(fixture->drivers); i++) {
                if (!fixture->watchdog)
                        watch(fixture);
                dmio_queue_post(fixture->drivers[i].queue, &fixture->drivers[i].hold_task);

                /* One may be on the way, and one more finds that the last task has been run. */
                assert_true(pings_within(fixture, UINT64_C(5) * LIMIT_USEC, UINT32_MAX) <= 2);
                assert_int_equal(pings_within(fixture, UINT64_C(5) * LIMIT_USEC, 1), 0);

                sem_post(&fixture->drivers[i].release);
                assert_int_equal(pings_within(fixture, WAIT_USEC, 3), 3);
        }
}

static void test_nobody_wants_to_know(void **state)
{
        struct fixture *fixture = *state;

        unsetenv("WATCHDOG_USEC");
        assert_int_equal(watchdog_new(fixture->event, &fixture->watchdog), 0);
        assert_null(fixture->watchdog);
        assert_int_equal(watchdog_add(fixture->watchdog, fixture->drivers[0].queue), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_pings_while_all_get_round, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_no_pings_for_a_stuck_thread, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_nobody_wants_to_know, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
