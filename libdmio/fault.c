/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fault rules. An operation that fails is told to its queue as done; one that is cut short is
 * submitted with fewer bytes, which its leg resumes as it does any short transfer; one that has to
 * wait is kept in a list, of its rule (hold) or of the timer thread (delay), and posted to its
 * queue when its time has come. The timer thread exists only once there is a rule that delays.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "device-internal.h"
#include "engine-internal.h"
#include "fault.h"
#include "io-internal.h"
#include "queue-internal.h"
#include "thread.h"
#include "util/clock.h"
#include "util/macros.h"

#define DELAY_MAX_US (UINT64_C(3600) * 1000000)
#define ERRNO_MAX 4095

struct dmio_fault {
        struct list link; /* faults.rules */
        struct faults *faults;
        struct dmio_fault_rule rule;
        uint64_t n_matches; /* under faults.lock, as all that follows */
        uint64_t n_hits;
        uint64_t n_held;
        struct list held; /* struct fault_state.link */
};

static unsigned int kind_of(const struct io *io, const struct dmio_op *op)
{
        if (op->type == DMIO_OP_FDATASYNC)
                return DMIO_FAULT_FLUSH;
        switch (io->op) {
        case DM_IO_READ:
                return DMIO_FAULT_READ;
        case DM_IO_WRITE:
                return DMIO_FAULT_WRITE;
        case DM_IO_DISCARD:
                return DMIO_FAULT_DISCARD;
        case DM_IO_WRITE_ZEROES:
                return DMIO_FAULT_WRITE_ZEROES;
        case DM_IO_FLUSH:
                break;
        }
        return DMIO_FAULT_FLUSH;
}

static bool op_transfers(const struct dmio_op *op)
{
        return op->type == DMIO_OP_READV || op->type == DMIO_OP_WRITEV;
}

static uint64_t op_bytes(const struct dmio_op *op)
{
        uint64_t bytes = 0;

        if (op->type == DMIO_OP_FALLOCATE || op->type == DMIO_OP_DISCARD)
                return op->length;
        if (!op_transfers(op))
                return 0;
        for (unsigned int i = 0; i < op->n_iov; i++)
                bytes += op->iov[i].iov_len;
        return bytes;
}

static void op_cut(struct dmio_op *op, struct fault_state *state, uint64_t bytes)
{
        state->cut_n_iov = op->n_iov;
        for (unsigned int i = 0; i < op->n_iov; i++) {
                if (op->iov[i].iov_len >= bytes) {
                        state->cut_length = op->iov[i].iov_len;
                        op->iov[i].iov_len = bytes;
                        op->n_iov = i + 1;
                        return;
                }
                bytes -= op->iov[i].iov_len;
        }
}

void fault_mend(struct dmio_op *op, struct fault_state *state)
{
        if (state->cut_n_iov == 0)
                return;
        op->iov[op->n_iov - 1].iov_len = state->cut_length;
        op->n_iov = state->cut_n_iov;
        state->cut_n_iov = 0;
}

/* Device, leg, kind and range; not whose turn it is. */
static bool rule_fits(const struct dmio_fault_rule *rule, const struct leg *leg,
                      const struct dmio_op *op)
{
        uint64_t begin = rule->sector << DMIO_SECTOR_SHIFT;
        uint64_t bytes = rule->count << DMIO_SECTOR_SHIFT;

        unsigned int kind = kind_of(leg->io, op);

        if (rule->ops && !(rule->ops & kind))
                return false;
        if (rule->client && rule->client != leg->io->client)
                return false;
        if (rule->bdev && rule->bdev != leg->bdev)
                return false;
        if (rule->leg >= 0 && rule->leg != leg - leg->io->legs)
                return false;
        if (rule->count > 0 && kind == DMIO_FAULT_FLUSH)
                return rule->ops & kind && leg->sector >= rule->sector &&
                       leg->sector - rule->sector < rule->count;
        return rule->count == 0 || ranges_overlap(begin, bytes, op->offset, op_bytes(op));
}

/* Bytes of the transfer that lie before the rule's range, in whole blocks of the device. */
static uint64_t bytes_before(const struct dmio_fault_rule *rule, const struct leg *leg,
                             const struct dmio_op *op)
{
        uint64_t begin = rule->sector << DMIO_SECTOR_SHIFT;

        if (rule->count == 0 || !op_transfers(op) || op->offset >= begin)
                return 0;
        return round_down(begin - op->offset, leg->bdev->logical_block);
}

static void state_go(struct dmio_task *task)
{
        struct fault_state *state = container_of(task, struct fault_state, task);

        dmio_queue_submit(state->queue, state->op);
}

/* Under the lock. */
static void state_wait(struct fault_state *state, const struct dmio_fault *fault, struct leg *leg,
                       struct dmio_op *op)
{
        state->fault = fault;
        state->task.fn = state_go;
        state->queue = leg->io->queue;
        state->op = op;
}

static void delay(struct faults *faults, struct fault_state *state, uint64_t delay_us)
{
        struct list *link = faults->delayed.prev;

        state->due_us = now_usec() + delay_us;
        while (link != &faults->delayed &&
               container_of(link, struct fault_state, link)->due_us > state->due_us)
                link = link->prev;
        list_prepend(link, &state->link);
        pthread_cond_signal(&faults->timer);
}

/* Under the lock. Returns true if the operation is taken, false if it is to be submitted now. */
static bool rule_act(struct dmio_fault *fault, struct leg *leg, struct dmio_op *op,
                     struct fault_state *state)
{
        const struct dmio_fault_rule *rule = &fault->rule;
        uint64_t block = leg->bdev->logical_block, bytes;

        fault->n_hits++;
        switch (rule->action) {
        case DMIO_FAULT_ERROR:
                state->is_refused = true;
                queue_finish(leg->io->queue, op, -rule->error);
                return true;
        case DMIO_FAULT_SHORT:
                bytes = MAX(round_down(rule->bytes, block), block);
                if (op_transfers(op) && bytes < op_bytes(op))
                        op_cut(op, state, bytes);
                return false;
        case DMIO_FAULT_DELAY:
                state_wait(state, fault, leg, op);
                delay(fault->faults, state, rule->delay_us);
                return true;
        case DMIO_FAULT_HOLD:
                state_wait(state, fault, leg, op);
                list_append(&fault->held, &state->link);
                fault->n_held++;
                return true;
        }
        return false;
}

/* Under the lock. Is it the turn of this match? */
static bool rule_has_turn(const struct dmio_fault *fault)
{
        if (fault->n_matches <= fault->rule.skip)
                return false;
        return fault->rule.times == 0 || fault->n_hits < fault->rule.times;
}

void fault_submit(struct leg *leg, struct dmio_op *op, struct fault_state *state)
{
        struct faults *faults = &leg->io->client->engine->faults;
        struct dmio_fault *fault;
        bool taken = false;
        uint64_t before;

        state->cut_n_iov = 0;
        state->is_refused = false;
        if (atomic_load_explicit(&faults->n_rules, memory_order_acquire) > 0) {
                pthread_mutex_lock(&faults->lock);
                list_for_each (fault, &faults->rules, link) {
                        if (!rule_fits(&fault->rule, leg, op))
                                continue;
                        before = bytes_before(&fault->rule, leg, op);
                        if (before > 0) {
                                op_cut(op, state, before);
                                break;
                        }
                        fault->n_matches++;
                        if (rule_has_turn(fault)) {
                                taken = rule_act(fault, leg, op, state);
                                break;
                        }
                }
                pthread_mutex_unlock(&faults->lock);
        }
        if (!taken)
                dmio_queue_submit(leg->io->queue, op);
}

/* Under the lock: post what is due, then sleep until the next one is. */
static void timer_run(struct faults *faults)
{
        struct fault_state *state = list_first(&faults->delayed, struct fault_state, link);
        uint64_t now = now_usec();
        struct timespec until;

        if (!state) {
                pthread_cond_wait(&faults->timer, &faults->lock);
        } else if (state->due_us <= now) {
                list_unlink(&state->link);
                dmio_queue_post(state->queue, &state->task);
        } else {
                until.tv_sec = (time_t)(state->due_us / 1000000);
                until.tv_nsec = (long)(state->due_us % 1000000 * 1000);
                (void)pthread_cond_timedwait(&faults->timer, &faults->lock, &until);
        }
}

static void *timer_thread(void *argument)
{
        struct faults *faults = argument;

        pthread_mutex_lock(&faults->lock);
        while (!faults->stop)
                timer_run(faults);
        pthread_mutex_unlock(&faults->lock);
        return NULL;
}

/* Under the lock. */
static int timer_start(struct faults *faults)
{
        int r;

        if (faults->has_thread)
                return 0;
        r = thread_start(&faults->thread, timer_thread, faults);
        faults->has_thread = r == 0;
        return r;
}

void faults_init(struct faults *faults)
{
        pthread_condattr_t attributes;

        *faults = (struct faults){};
        list_init(&faults->rules);
        list_init(&faults->delayed);
        pthread_mutex_init(&faults->lock, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&faults->timer, &attributes);
        pthread_condattr_destroy(&attributes);
}

void faults_deinit(struct faults *faults)
{
        struct dmio_fault *fault, *after;

        pthread_mutex_lock(&faults->lock);
        faults->stop = true;
        pthread_cond_signal(&faults->timer);
        pthread_mutex_unlock(&faults->lock);
        if (faults->has_thread)
                pthread_join(faults->thread, NULL);

        list_for_each_safe (fault, after, &faults->rules, link)
                free(fault);
        pthread_cond_destroy(&faults->timer);
        pthread_mutex_destroy(&faults->lock);
}

static bool rule_is_valid(const struct dmio_fault_rule *rule)
{
        if (rule->ops & ~DMIO_FAULT_ALL_OPS || rule->leg < -1 || rule->leg >= DM_IO_MAX_REGIONS)
                return false;
        if (rule->sector > UINT64_MAX >> DMIO_SECTOR_SHIFT ||
            rule->count > (UINT64_MAX >> DMIO_SECTOR_SHIFT) - rule->sector)
                return false;
        switch (rule->action) {
        case DMIO_FAULT_ERROR:
                /* Those that are tried again and never told would be tried for ever. */
                return rule->error > 0 && rule->error <= ERRNO_MAX &&
                       (rule->times > 0 || (rule->error != EAGAIN && rule->error != EINTR));
        case DMIO_FAULT_DELAY:
                return rule->delay_us <= DELAY_MAX_US;
        case DMIO_FAULT_SHORT:
        case DMIO_FAULT_HOLD:
                return true;
        }
        return false;
}

int dmio_fault_add(struct dmio_engine *engine, const struct dmio_fault_rule *rule,
                   struct dmio_fault **ret)
{
        struct dmio_fault *fault;
        struct faults *faults;
        int r = 0;

        if (!engine || !rule || !ret || !rule_is_valid(rule))
                return -EINVAL;
        faults = &engine->faults;
        fault = calloc(1, sizeof(*fault));
        if (!fault)
                return -ENOMEM;
        fault->faults = faults;
        fault->rule = *rule;
        list_init(&fault->held);

        pthread_mutex_lock(&faults->lock);
        if (rule->action == DMIO_FAULT_DELAY)
                r = timer_start(faults);
        if (r == 0) {
                list_append(&faults->rules, &fault->link);
                atomic_fetch_add(&faults->n_rules, 1);
        }
        pthread_mutex_unlock(&faults->lock);
        if (r < 0) {
                free(fault);
                return r;
        }
        *ret = fault;
        return 0;
}

void dmio_fault_stats(struct dmio_fault *fault, struct dmio_fault_stats *ret)
{
        pthread_mutex_lock(&fault->faults->lock);
        *ret = (struct dmio_fault_stats){
                .matches = fault->n_matches,
                .hits = fault->n_hits,
                .held = fault->n_held,
        };
        pthread_mutex_unlock(&fault->faults->lock);
}

/* Under the lock: its delays are over. */
static void end_delays(const struct dmio_fault *fault)
{
        struct fault_state *state, *after;

        list_for_each_safe (state, after, &fault->faults->delayed, link) {
                if (state->fault != fault)
                        continue;
                list_unlink(&state->link);
                dmio_queue_post(state->queue, &state->task);
        }
}

/* Under the lock. */
static uint64_t release(struct dmio_fault *fault)
{
        struct fault_state *state;
        uint64_t n = fault->n_held;

        while ((state = list_first(&fault->held, struct fault_state, link)) != NULL) {
                list_unlink(&state->link);
                dmio_queue_post(state->queue, &state->task);
        }
        fault->n_held = 0;
        return n;
}

uint64_t dmio_fault_release(struct dmio_fault *fault)
{
        uint64_t n;

        pthread_mutex_lock(&fault->faults->lock);
        n = release(fault);
        pthread_mutex_unlock(&fault->faults->lock);
        return n;
}

void dmio_fault_remove(struct dmio_fault *fault)
{
        struct faults *faults;

        if (!fault)
                return;
        faults = fault->faults;
        pthread_mutex_lock(&faults->lock);
        list_unlink(&fault->link);
        atomic_fetch_sub(&faults->n_rules, 1);
        (void)release(fault);
        end_delays(fault);
        pthread_mutex_unlock(&faults->lock);
        free(fault);
}
