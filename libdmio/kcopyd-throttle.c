/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The throttle: for each moment with I/O in flight, a share of rest is owed.
 *
 * At p percent, busy time b owes b * (100 - p) / p of rest. What is owed may grow to BURST_US
 * before anything happens, so that chunks can overlap; then nothing more is begun until what is in
 * flight has ended and the debt has been paid by time without I/O. The worker does not sleep for
 * that: a timer calls it when the time has come.
 */
#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>

#include "kcopyd-internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

#define BURST_US 50000
#define DEBT_MAX_US UINT64_C(10000000)

int kcopyd_timer_init(struct dm_kcopyd_client *kc)
{
        kc->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        return kc->timer.fd < 0 ? -errno : 0;
}

void kcopyd_timer_deinit(struct dm_kcopyd_client *kc)
{
        kc->timer.fd = close_fd(kc->timer.fd);
}

static void timer_set(const struct kcopyd_timer *timer, uint64_t us)
{
        const struct itimerspec due = {
                .it_value = {
                        .tv_sec = (time_t)(us / 1000000),
                        .tv_nsec = (long)(us % 1000000 * 1000),
                },
        };

        (void)timerfd_settime(timer->fd, 0, &due, NULL);
}

static void timer_expired(struct dmio_op *op, int result)
{
        struct dm_kcopyd_client *kc = container_of(op, struct dm_kcopyd_client, timer.op);

        kc->timer.is_pending = false;
        kcopyd_run(kc);
        kcopyd_leave(kc, false);
}

void kcopyd_timer_arm(struct dm_kcopyd_client *kc, uint64_t us)
{
        struct kcopyd_timer *timer = &kc->timer;

        timer_set(timer, us);
        if (timer->is_pending)
                return;
        timer->is_pending = true;
        (void)kcopyd_enter(kc, false);
        timer->iov = (struct iovec){ &timer->value, sizeof(timer->value) };
        timer->op = (struct dmio_op){
                .type = DMIO_OP_READV,
                .fd = timer->fd,
                .iov = &timer->iov,
                .n_iov = 1,
                .fn = timer_expired,
        };
        dmio_queue_submit(kc->queue, &timer->op);
}

void kcopyd_timer_expire(struct dm_kcopyd_client *kc)
{
        timer_set(&kc->timer, 1);
}

/* What was owed under another percentage is forgotten. */
static void throttle_follow(struct kcopyd_throttle *throttle)
{
        unsigned int percent = atomic_load(&throttle->percent);

        if (percent == throttle->used_percent)
                return;
        throttle->used_percent = percent;
        throttle->debt_us = 0;
}

/* Book the time since the last look, in which nothing has begun or ended. */
static void throttle_book(struct kcopyd_throttle *throttle)
{
        uint64_t now = now_usec(), passed = now - throttle->last_us;
        unsigned int percent = throttle->used_percent;

        throttle->last_us = now;
        if (throttle->n_ios > 0) {
                atomic_fetch_add(&throttle->busy_us, passed);
                throttle->debt_us += MIN(passed, DEBT_MAX_US) * (100 - percent) / percent;
                throttle->debt_us = MIN(throttle->debt_us, DEBT_MAX_US);
        } else {
                passed = MIN(passed, throttle->debt_us);
                atomic_fetch_add(&throttle->idle_us, passed);
                throttle->debt_us -= passed;
        }
        throttle_follow(throttle);
        if (throttle->debt_us >= BURST_US)
                throttle->due = true;
        else if (throttle->debt_us == 0)
                throttle->due = throttle->paused = false;
}

void kcopyd_throttle_init(struct dm_kcopyd_client *kc, unsigned int percent)
{
        atomic_init(&kc->throttle.percent, percent);
        kc->throttle.used_percent = percent;
}

void kcopyd_throttle_changed(struct dm_kcopyd_client *kc)
{
        throttle_book(&kc->throttle);
}

bool kcopyd_throttle_allows(struct dm_kcopyd_client *kc)
{
        struct kcopyd_throttle *throttle = &kc->throttle;

        throttle_book(throttle);
        if (!throttle->due)
                return true;
        if (!throttle->paused)
                atomic_fetch_add(&throttle->pauses, 1);
        throttle->paused = true;
        /* With something in flight its end is the next to come, and there is nothing to pay before.
         */
        if (throttle->n_ios == 0)
                kcopyd_timer_arm(kc, throttle->debt_us);
        return false;
}

void kcopyd_throttle_begin(struct dm_kcopyd_client *kc)
{
        throttle_book(&kc->throttle);
        kc->throttle.n_ios++;
}

void kcopyd_throttle_end(struct dm_kcopyd_client *kc)
{
        throttle_book(&kc->throttle);
        kc->throttle.n_ios--;
}
