/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faulty.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define HOLD_LIMIT_SECONDS 20
#define RULES 8
#define LOG_ENTRIES 256u
#define FIRST_INODE 2

struct disk_state {
        struct fault_rule rules[RULES];
        unsigned int n_rules;
        unsigned int n_held;
        uint64_t n_releases;
        unsigned int n_entries; /* more than the log holds are counted, not kept */
        struct fault_entry entries[LOG_ENTRIES];
        unsigned int counts[6];
};

struct shared {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        uint64_t clock;
        struct disk_state disks[FAULTY_DISKS];
};

struct faulty {
        struct shared *shared;
        unsigned char *bytes;
        int fuse_fd;
        int mount_fd;
        pid_t server;
        char paths[FAULTY_DISKS][64];
};

static struct timespec limit_from_now(void)
{
        struct timespec limit;

        (void)clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += HOLD_LIMIT_SECONDS;
        return limit;
}

/* --- the child */

static struct faulty *served;

static unsigned int disk_of(fuse_ino_t ino)
{
        return (unsigned int)(ino - FIRST_INODE);
}

/* Under the lock. */
static struct fault_rule *find_rule(struct disk_state *disk, unsigned int ops, uint64_t offset,
                                    uint64_t length)
{
        for (unsigned int i = 0; i < disk->n_rules; i++) {
                struct fault_rule *rule = &disk->rules[i];

                if (!(rule->ops & ops))
                        continue;
                if (rule->length == 0 || ranges_overlap(rule->offset, rule->length, offset, length))
                        return rule;
        }
        return NULL;
}

/* Under the lock; a rule that has acted often enough goes. */
static void rule_acted(struct disk_state *disk, struct fault_rule *rule)
{
        if (rule->times == 0 || --rule->times > 0)
                return;
        disk->n_rules--;
        for (; rule < disk->rules + disk->n_rules; rule++)
                rule[0] = rule[1];
}

static void hold(struct shared *shared, struct disk_state *disk)
{
        uint64_t releases = disk->n_releases;
        struct timespec limit = limit_from_now();

        disk->n_held++;
        pthread_cond_broadcast(&shared->changed);
        while (disk->n_releases == releases &&
               pthread_cond_timedwait(&shared->changed, &shared->lock, &limit) == 0)
                ;
        disk->n_held--;
}

/* Returns a positive errno, or 0 and the bytes to transfer in *@length. */
static int begin(unsigned int i, unsigned int ops, uint64_t offset, size_t *length,
                 unsigned int *ret_entry)
{
        struct shared *shared = served->shared;
        struct disk_state *disk = &shared->disks[i];
        struct fault_rule *rule;
        int error = 0;

        pthread_mutex_lock(&shared->lock);
        *ret_entry = disk->n_entries++;
        if (*ret_entry < LOG_ENTRIES)
                disk->entries[*ret_entry] = (struct fault_entry){
                        .ops = ops,
                        .offset = offset,
                        .length = *length,
                        .begin = ++shared->clock,
                };
        for (unsigned int k = 0; k < ARRAY_SIZE(disk->counts); k++)
                disk->counts[k] += ops >> k & 1;
        rule = find_rule(disk, ops, offset, *length);
        if (rule) {
                struct fault_rule now = *rule;

                rule_acted(disk, rule);
                if (now.action == FAULT_ERROR)
                        error = now.error;
                else if (now.action == FAULT_SHORT)
                        *length = MIN(*length, now.bytes);
                else
                        hold(shared, disk);
        }
        pthread_mutex_unlock(&shared->lock);
        return error;
}

/* Before the answer, so that what the answer brings about comes later. */
static void end(unsigned int i, unsigned int entry)
{
        struct shared *shared = served->shared;

        pthread_mutex_lock(&shared->lock);
        if (entry < LOG_ENTRIES)
                shared->disks[i].entries[entry].end = ++shared->clock;
        pthread_mutex_unlock(&shared->lock);
}

static struct stat attributes(fuse_ino_t ino)
{
        struct stat st = { .st_ino = ino, .st_nlink = 1, .st_blksize = 4096 };

        if (ino == FUSE_ROOT_ID) {
                st.st_mode = S_IFDIR | 0700;
        } else {
                st.st_mode = S_IFREG | 0600;
                st.st_size = (off_t)FAULTY_BYTES;
        }
        return st;
}

static void faulty_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct fuse_entry_param entry = { .attr_timeout = 3600, .entry_timeout = 3600 };

        if (strlen(name) != 1 || name[0] < '0' || name[0] >= '0' + FAULTY_DISKS) {
                fuse_reply_err(req, ENOENT);
                return;
        }
        entry.ino = (fuse_ino_t)(name[0] - '0' + FIRST_INODE);
        entry.attr = attributes(entry.ino);
        fuse_reply_entry(req, &entry);
}

static void faulty_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct stat st = attributes(ino);

        fuse_reply_attr(req, &st, 3600);
}

static void faulty_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        fi->direct_io = 1;
        fuse_reply_open(req, fi);
}

static unsigned char *bytes_at(unsigned int i, uint64_t offset)
{
        return served->bytes + i * FAULTY_BYTES + offset;
}

/* Under a lock, because who writes the same sectors twice at once is answered all the same. */
static void bytes_set(unsigned int i, uint64_t offset, const void *data, size_t length)
{
        pthread_mutex_lock(&served->shared->lock);
        if (data)
                memcpy(bytes_at(i, offset), data, length);
        else
                memset(bytes_at(i, offset), 0, length);
        pthread_mutex_unlock(&served->shared->lock);
}

static void faulty_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                        struct fuse_file_info *fi)
{
        uint64_t at = MIN((uint64_t)offset, FAULTY_BYTES);
        size_t length = MIN(size, FAULTY_BYTES - at);
        unsigned int i = disk_of(ino), entry;
        int error = begin(i, FAULT_READ, at, &length, &entry);

        end(i, entry);
        if (error) {
                fuse_reply_err(req, error);
                return;
        }
        pthread_mutex_lock(&served->shared->lock);
        fuse_reply_buf(req, (const char *)bytes_at(i, at), length);
        pthread_mutex_unlock(&served->shared->lock);
}

static void faulty_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size,
                         off_t offset, struct fuse_file_info *fi)
{
        unsigned int ops = FAULT_WRITE | (fi->flags & O_DSYNC ? FAULT_DURABLE : 0);
        unsigned int i = disk_of(ino), entry;
        size_t length = size;
        int error;

        if (!range_fits((uint64_t)offset, size, FAULTY_BYTES)) {
                fuse_reply_err(req, ENOSPC);
                return;
        }
        error = begin(i, ops, (uint64_t)offset, &length, &entry);
        if (!error)
                bytes_set(i, (uint64_t)offset, data, length);
        end(i, entry);
        if (error)
                fuse_reply_err(req, error);
        else
                fuse_reply_write(req, length);
}

static void faulty_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        unsigned int i = disk_of(ino), entry;
        size_t length = 0;
        int error = begin(i, FAULT_FLUSH, 0, &length, &entry);

        end(i, entry);
        fuse_reply_err(req, error);
}

static void faulty_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                             struct fuse_file_info *fi)
{
        unsigned int ops = mode & FALLOC_FL_ZERO_RANGE ? FAULT_ZEROES : FAULT_DISCARD;
        unsigned int i = disk_of(ino), entry;
        size_t bytes = (size_t)length;
        int error = EOPNOTSUPP;

        if (range_fits((uint64_t)offset, bytes, FAULTY_BYTES) &&
            mode & (FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE)) {
                error = begin(i, ops, (uint64_t)offset, &bytes, &entry);
                if (!error)
                        bytes_set(i, (uint64_t)offset, NULL, bytes);
                end(i, entry);
        }
        fuse_reply_err(req, error);
}

static const struct fuse_lowlevel_ops operations = {
        .lookup = faulty_lookup,
        .getattr = faulty_getattr,
        .open = faulty_open,
        .read = faulty_read,
        .write = faulty_write,
        .fsync = faulty_fsync,
        .fallocate = faulty_fallocate,
};

static void serve(struct faulty *faulty)
{
        char name[] = "faulty";
        char *arguments[] = { name, NULL };
        struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        struct fuse_session *session;
        char mountpoint[32];

        (void)snprintf(mountpoint, sizeof(mountpoint), "/dev/fd/%d", faulty->fuse_fd);
        served = faulty;
        session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
        if (!session || !config || fuse_session_mount(session, mountpoint) != 0)
                _exit(1);
        fuse_loop_cfg_set_max_threads(config, 32);
        (void)fuse_session_loop_mt(session, config);
        _exit(0);
}

/* --- the parent */

/* A mount that is in no folder. Returns its descriptor or -1. */
static int mount_detached(int fuse_fd)
{
        DMIO_CLEANUP(close_fdp) int context = fsopen("fuse", FSOPEN_CLOEXEC);
        char number[16];

        if (context < 0)
                return -1;
        (void)snprintf(number, sizeof(number), "%d", fuse_fd);
        if (fsconfig(context, FSCONFIG_SET_STRING, "fd", number, 0) < 0 ||
            fsconfig(context, FSCONFIG_SET_STRING, "rootmode", "40000", 0) < 0 ||
            fsconfig(context, FSCONFIG_SET_STRING, "user_id", "0", 0) < 0 ||
            fsconfig(context, FSCONFIG_SET_STRING, "group_id", "0", 0) < 0 ||
            fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -1;
        return fsmount(context, FSMOUNT_CLOEXEC, 0);
}

static void *shared_memory(size_t bytes)
{
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
}

static void shared_init(struct shared *shared)
{
        pthread_mutexattr_t mutex;
        pthread_condattr_t cond;

        pthread_mutexattr_init(&mutex);
        pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
        pthread_mutex_init(&shared->lock, &mutex);
        pthread_mutexattr_destroy(&mutex);
        pthread_condattr_init(&cond);
        pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
        pthread_cond_init(&shared->changed, &cond);
        pthread_condattr_destroy(&cond);
}

struct faulty *faulty_start(const char **ret_reason)
{
        struct faulty *faulty;
        pid_t parent = getpid();

        *ret_reason = "needs root and FUSE";
        if (geteuid() != 0)
                return NULL;
        faulty = calloc(1, sizeof(*faulty));
        if (!faulty)
                return NULL;
        faulty->mount_fd = -1;
        faulty->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        faulty->shared = shared_memory(sizeof(struct shared));
        faulty->bytes = shared_memory(FAULTY_DISKS * FAULTY_BYTES);
        if (faulty->fuse_fd < 0 || !faulty->shared || !faulty->bytes)
                goto fail;
        faulty->mount_fd = mount_detached(faulty->fuse_fd);
        if (faulty->mount_fd < 0)
                goto fail;
        shared_init(faulty->shared);
        for (unsigned int i = 0; i < FAULTY_DISKS; i++)
                (void)snprintf(faulty->paths[i], sizeof(faulty->paths[i]), "/proc/self/fd/%d/%u",
                               faulty->mount_fd, i);

        faulty->server = fork();
        if (faulty->server == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(1);
                (void)close(faulty->mount_fd);
                serve(faulty);
        }
        faulty->fuse_fd = close_fd(faulty->fuse_fd);
        if (faulty->server > 0)
                return faulty;
fail:
        faulty_stop(faulty);
        return NULL;
}

void faulty_kill(struct faulty *faulty)
{
        if (faulty->server > 0) {
                (void)kill(faulty->server, SIGKILL);
                (void)waitpid(faulty->server, NULL, 0);
        }
        faulty->server = 0;
}

void faulty_stop(struct faulty *faulty)
{
        if (!faulty)
                return;
        faulty_kill(faulty);
        close_fd(faulty->fuse_fd);
        close_fd(faulty->mount_fd);
        if (faulty->shared)
                (void)munmap(faulty->shared, sizeof(struct shared));
        if (faulty->bytes)
                (void)munmap(faulty->bytes, FAULTY_DISKS * FAULTY_BYTES);
        free(faulty);
}

const char *faulty_path(struct faulty *faulty, unsigned int i)
{
        return faulty->paths[i];
}

unsigned char *faulty_bytes(struct faulty *faulty, unsigned int i)
{
        return faulty->bytes + i * FAULTY_BYTES;
}

void faulty_forget(struct faulty *faulty, unsigned int i)
{
        struct disk_state *disk = &faulty->shared->disks[i];

        pthread_mutex_lock(&faulty->shared->lock);
        disk->n_entries = 0;
        memset(disk->counts, 0, sizeof(disk->counts));
        pthread_mutex_unlock(&faulty->shared->lock);
}

void faulty_reset(struct faulty *faulty, unsigned int i)
{
        faulty_release(faulty, i);
        faulty_forget(faulty, i);
        pthread_mutex_lock(&faulty->shared->lock);
        faulty->shared->disks[i].n_rules = 0;
        pthread_mutex_unlock(&faulty->shared->lock);
        (void)madvise(faulty_bytes(faulty, i), FAULTY_BYTES, MADV_REMOVE);
}

void faulty_add(struct faulty *faulty, unsigned int i, const struct fault_rule *rule)
{
        struct disk_state *disk = &faulty->shared->disks[i];

        pthread_mutex_lock(&faulty->shared->lock);
        if (disk->n_rules == RULES)
                abort();
        disk->rules[disk->n_rules++] = *rule;
        pthread_mutex_unlock(&faulty->shared->lock);
}

unsigned int faulty_count(struct faulty *faulty, unsigned int i, unsigned int ops)
{
        unsigned int n = 0;

        pthread_mutex_lock(&faulty->shared->lock);
        for (unsigned int k = 0; k < ARRAY_SIZE(faulty->shared->disks[i].counts); k++)
                if (ops >> k & 1)
                        n += faulty->shared->disks[i].counts[k];
        pthread_mutex_unlock(&faulty->shared->lock);
        return n;
}

bool faulty_find(struct faulty *faulty, unsigned int i, unsigned int ops, unsigned int n,
                 struct fault_entry *ret)
{
        struct disk_state *disk = &faulty->shared->disks[i];
        bool found = false;

        pthread_mutex_lock(&faulty->shared->lock);
        for (unsigned int k = 0; k < MIN(disk->n_entries, LOG_ENTRIES) && !found; k++) {
                if (!(disk->entries[k].ops & ops) || n-- > 0)
                        continue;
                *ret = disk->entries[k];
                found = true;
        }
        pthread_mutex_unlock(&faulty->shared->lock);
        return found;
}

bool faulty_wait_held(struct faulty *faulty, unsigned int i, unsigned int n)
{
        struct shared *shared = faulty->shared;
        struct timespec limit = limit_from_now();
        int r = 0;

        pthread_mutex_lock(&shared->lock);
        while (shared->disks[i].n_held < n && r == 0)
                r = pthread_cond_timedwait(&shared->changed, &shared->lock, &limit);
        pthread_mutex_unlock(&shared->lock);
        return r == 0;
}

void faulty_release(struct faulty *faulty, unsigned int i)
{
        struct disk_state *disk = &faulty->shared->disks[i];
        unsigned int kept = 0;

        pthread_mutex_lock(&faulty->shared->lock);
        for (unsigned int k = 0; k < disk->n_rules; k++)
                if (disk->rules[k].action != FAULT_HOLD)
                        disk->rules[kept++] = disk->rules[k];
        disk->n_rules = kept;
        disk->n_releases++;
        pthread_cond_broadcast(&faulty->shared->changed);
        pthread_mutex_unlock(&faulty->shared->lock);
}
