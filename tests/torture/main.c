/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 *      torture [OPTION...] lanes|overlap|torn FILE
 *
 *      --seed=N --operations=N --processes=N --size=BYTES --lane=BYTES --block=BYTES
 *      --ways=bdms   buffered, direct, mapped, O_DSYNC
 *
 * FILE has at least the size, which is 0 for all of it. It is written all over. The exit status is
 * 0 when everything was as it must be, 1 after a difference, which is described, 2 for an error.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "torture.h"

_Noreturn void die(const char *what)
{
        fprintf(stderr, "torture: %s: %s\n", what, strerror(errno));
        exit(2);
}

/* Steele, Lea, Flood: SplitMix64. */
uint64_t dice_roll(struct dice *dice)
{
        uint64_t z = dice->state += 0x9e3779b97f4a7c15;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
}

uint64_t dice_below(struct dice *dice, uint64_t n)
{
        return dice_roll(dice) % n;
}

void dice_fill(struct dice *dice, void *to, size_t length)
{
        uint8_t *p = to;

        for (size_t i = 0; i < length; i++)
                p[i] = (uint8_t)dice_roll(dice);
}

void *shared_memory(size_t size)
{
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                die("mmap");
        return p;
}

int open_file(const struct torture *torture, unsigned int way)
{
        int flags = O_RDWR | O_CLOEXEC, fd;

        if (way == WAY_DIRECT)
                flags |= O_DIRECT;
        if (way == WAY_DSYNC)
                flags |= O_DSYNC;
        fd = open(torture->path, flags);
        if (fd < 0)
                die(torture->path);
        return fd;
}

bool run_processes(const struct torture *torture,
                   bool (*fn)(const struct torture *torture, unsigned int number, void *context),
                   void *context)
{
        pid_t *children = calloc(torture->processes, sizeof(*children));
        bool good = true;
        pid_t parent = getpid();

        if (!children)
                die("calloc");
        fflush(NULL);
        for (unsigned int i = 0; i < torture->processes; i++) {
                children[i] = fork();
                if (children[i] < 0)
                        die("fork");
                if (children[i] == 0) {
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        if (getppid() != parent)
                                _exit(2);
                        good = fn(torture, i, context);
                        fflush(NULL);
                        _exit(good ? 0 : 1);
                }
        }

        for (unsigned int i = 0; i < torture->processes; i++) {
                int status;
                pid_t pid = wait(&status);

                if (pid < 0)
                        die("wait");
                if (good && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
                        if (!WIFEXITED(status))
                                fprintf(stderr, "torture: a process ended by signal %d\n",
                                        WTERMSIG(status));
                        good = false;
                        for (unsigned int j = 0; j < torture->processes; j++)
                                if (children[j] != pid && children[j] > 0)
                                        kill(children[j], SIGKILL);
                }
                for (unsigned int j = 0; j < torture->processes; j++)
                        if (children[j] == pid)
                                children[j] = 0;
        }
        free(children);
        return good;
}

static uint64_t number(const char *text)
{
        char *end;
        uint64_t n;

        errno = 0;
        n = strtoull(text, &end, 0);
        if (errno || end == text || *end)
                die(text);
        return n;
}

static unsigned int ways(const char *text)
{
        static const char letters[] = "bdms";
        unsigned int set = 0;

        for (; *text; text++) {
                const char *letter = strchr(letters, *text);

                if (!letter) {
                        errno = EINVAL;
                        die("--ways");
                }
                set |= 1u << (letter - letters);
        }
        return set;
}

static const struct {
        const char *name;
        bool (*run)(const struct torture *torture);
} modes[] = {
        { "lanes", torture_lanes },
        { "overlap", torture_overlap },
        { "torn", torture_torn },
};

static const struct option options[] = {
        { "seed", required_argument, NULL, 's' },
        { "operations", required_argument, NULL, 'n' },
        { "processes", required_argument, NULL, 'p' },
        { "size", required_argument, NULL, 'z' },
        { "lane", required_argument, NULL, 'l' },
        { "block", required_argument, NULL, 'b' },
        { "ways", required_argument, NULL, 'w' },
        {},
};

int main(int argc, char *argv[])
{
        struct torture torture = {
                .seed = 1,
                .operations = 1000,
                .processes = 4,
                .lane = 97,
                .ways = WAY_BUFFERED | WAY_DIRECT,
                .block = 512,
        };
        struct stat info;
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                switch (c) {
                case 's':
                        torture.seed = number(optarg);
                        break;
                case 'n':
                        torture.operations = number(optarg);
                        break;
                case 'p':
                        torture.processes = (unsigned int)number(optarg);
                        break;
                case 'z':
                        torture.size = number(optarg);
                        break;
                case 'l':
                        torture.lane = number(optarg);
                        break;
                case 'b':
                        torture.block = number(optarg);
                        break;
                case 'w':
                        torture.ways = ways(optarg);
                        break;
                default:
                        return 2;
                }
        }
        if (argc - optind != 2 || torture.ways == 0 || torture.processes == 0) {
                fprintf(stderr, "usage: torture [OPTION...] lanes|overlap|torn FILE\n");
                return 2;
        }

        torture.path = argv[optind + 1];
        if (stat(torture.path, &info) < 0)
                die(torture.path);
        if (torture.size == 0)
                torture.size = (uint64_t)info.st_size;
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
                if (strcmp(argv[optind], modes[i].name) != 0)
                        continue;
                printf("torture: %s, seed %ju, %ju operations in each of %u processes\n",
                       modes[i].name, (uintmax_t)torture.seed, (uintmax_t)torture.operations,
                       torture.processes);
                return modes[i].run(&torture) ? 0 : 1;
        }
        fprintf(stderr, "torture: no mode %s\n", argv[optind]);
        return 2;
}
