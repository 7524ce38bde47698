/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The conformance cases, on one target.
 *
 *   conformance TARGET          run them on "uring", "threads", "memory" (the modern face with that
 *                               back-end) or "classic" (the classic face)
 *   conformance TARGET NAME     those whose names match, with * and ?
 *   conformance --list          all numbers, names and lines
 *
 * Results are appended as JSON lines to the file that DMIO_CONFORMANCE_RESULT names; table.py makes
 * docs/conformance.md of them. Status 77: there is no such back-end here.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* A case that hangs is a case that fails. */
#define CASE_LIMIT_SECONDS 40

static const struct conformance_section *const sections[] = {
        &arguments_section,     &memory_section,           &sizes_section,
        &error_bits_section,    &completion_section,       &flush_section,
        &pool_section,          &context_section,          &copier_section,
        &copier_errors_section, &copier_callbacks_section,
};

static struct kit kit;
static int result_fd = -EBADF;
static char hang_message[128];
static size_t hang_length;

static void json_string(FILE *file, const char *name, const char *text, const char *end)
{
        (void)fprintf(file, "\"%s\": \"", name);
        for (; *text; text++) {
                if (*text == '"' || *text == '\\')
                        (void)fputc('\\', file);
                (void)fputc(*text, file);
        }
        (void)fprintf(file, "\"%s", end);
}

/* One write for a line, because the targets run at the same time. */
static void report(const struct conformance_section *section, const struct conformance_case *which,
                   const char *target, const char *outcome, const char *note)
{
        DMIO_CLEANUP(freep) char *line = NULL;
        size_t length;
        FILE *file;

        if (result_fd < 0)
                return;
        file = open_memstream(&line, &length);
        if (!file)
                return;
        (void)fprintf(file, "{\"number\": %u, ", which->number);
        json_string(file, "name", which->name, ", ");
        json_string(file, "section", section->title, ", ");
        json_string(file, "line", which->line, ", ");
        json_string(file, "target", target, ", ");
        json_string(file, "outcome", outcome, ", ");
        json_string(file, "about", which->note ? which->note : "", ", ");
        json_string(file, "note", note, "}\n");
        if (fclose(file) == 0 && write(result_fd, line, length) != (ssize_t)length)
                (void)fputs("conformance: the result cannot be written\n", stderr);
}

static const struct conformance_section *section_of(const struct conformance_case *which)
{
        for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
                if (which >= sections[i]->cases &&
                    which < sections[i]->cases + sections[i]->n_cases)
                        return sections[i];
        return NULL;
}

static void hang(int number)
{
        (void)!write(STDERR_FILENO, hang_message, hang_length);
        _exit(1);
}

static void in_child(void **state)
{
        const struct conformance_case *which = *state;

        kit_begin(&kit, which);
        which->run(&kit);
        kit_end(&kit);
}

/* What cmocka says about one case of its own: all of it but the totals, which would be counted. */
static void show(FILE *file)
{
        char line[512];

        rewind(file);
        while (fgets(line, sizeof(line), file))
                if (strncmp(line, "[  PASSED", 9) != 0 && strncmp(line, "[  FAILED", 9) != 0 &&
                    strncmp(line, "[==", 3) != 0 && !strstr(line, "FAILED TEST"))
                        (void)fputs(line, stderr);
}

static void __attribute__((__noreturn__)) child(const struct conformance_case *which, int out)
{
        const struct CMUnitTest test = {
                .name = which->name,
                .test_func = in_child,
                .initial_state = (void *)(uintptr_t)which,
        };
        int r;

        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
        hang_length =
                (size_t)snprintf(hang_message, sizeof(hang_message), "%s did not end within %d s\n",
                                 which->name, CASE_LIMIT_SECONDS);
        (void)alarm(CASE_LIMIT_SECONDS);
        r = _cmocka_run_group_tests(which->name, &test, 1, NULL, NULL);
        /* The way out is the long one, which looks for leaks. */
        exit(r != 0);
}

static const char *outcome_of(int status)
{
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return "passed";
        return WIFEXITED(status) && WEXITSTATUS(status) == KIT_SKIPPED ? "skipped" : "failed";
}

static void run(void **state)
{
        const struct conformance_case *which = *state;
        FILE *out = tmpfile();
        const char *outcome;
        int status = -1;
        pid_t pid;

        assert_non_null(out);
        kit.note[0] = '\0';
        for (unsigned int i = 0; kit.faulty && i < FAULTY_DISKS; i++)
                faulty_reset(kit.faulty, i);
        (void)fflush(stdout);
        (void)fflush(stderr);
        pid = fork();
        if (pid == 0)
                child(which, fileno(out));
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        outcome = outcome_of(status);
        report(section_of(which), which, kit.target, outcome, kit.note);
        if (strcmp(outcome, "failed") == 0)
                show(out);
        (void)fclose(out);
        if (strcmp(outcome, "skipped") == 0) {
                print_message("[  REASON  ] %s\n", kit.note);
                skip();
        }
        if (strcmp(outcome, "failed") == 0)
                fail_msg("%s", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "see above");
}

/* The patterns have * and ? only. */
static bool matches(const char *pattern, const char *text)
{
        if (*pattern == '*')
                return matches(pattern + 1, text) || (*text && matches(pattern, text + 1));
        if (*pattern == '\0' || *text == '\0')
                return *pattern == *text;
        return (*pattern == '?' || *pattern == *text) && matches(pattern + 1, text + 1);
}

static int list(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
                for (size_t k = 0; k < sections[i]->n_cases; k++)
                        (void)printf("%u\t%s\t%s\n", sections[i]->cases[k].number,
                                     sections[i]->cases[k].name, sections[i]->cases[k].line);
        return 0;
}

static int run_all(const char *target, const char *pattern)
{
        unsigned int face = strcmp(target, "classic") == 0 ? ON_CLASSIC : ON_MODERN;
        struct CMUnitTest tests[256];
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
                for (size_t k = 0; k < sections[i]->n_cases; k++) {
                        const struct conformance_case *which = &sections[i]->cases[k];

                        if (!matches(pattern, which->name))
                                continue;
                        if (which->on == 0)
                                report(sections[i], which, "", "not applicable", "");
                        if (!(which->on & face))
                                continue;
                        assert_true(n < ARRAY_SIZE(tests));
                        tests[n++] = (struct CMUnitTest){
                                .name = which->name,
                                .test_func = run,
                                .initial_state = (void *)(uintptr_t)which,
                        };
                }
        }
        return _cmocka_run_group_tests(target, tests, n, NULL, NULL);
}

int main(int argc, char **argv)
{
        const char *path = getenv("DMIO_CONFORMANCE_RESULT");
        struct sigaction action = { .sa_handler = hang };
        int r;

        if (argc == 2 && strcmp(argv[1], "--list") == 0)
                return list();
        if (argc < 2 || argc > 3) {
                (void)fprintf(stderr, "usage: %s --list | TARGET [PATTERN]\n", argv[0]);
                return 2;
        }
        kit.target = argv[1];
        kit.classic = strcmp(kit.target, "classic") == 0;

        kit.note = mmap(NULL, KIT_NOTE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                        0);
        if (kit.note == MAP_FAILED)
                return 2;
        /* Before there are threads: they fork. */
        kit.faulty = faulty_start(&kit.faulty_reason);
        kit.mortal = faulty_start(&kit.faulty_reason);
        if (!kit_target_is_there(kit.target)) {
                (void)printf("SKIP: there is no back-end %s here\n", kit.target);
                r = KIT_SKIPPED;
        } else {
                if (path && *path) {
                        result_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
                        if (result_fd < 0) {
                                perror(path);
                                return 2;
                        }
                }
                (void)sigaction(SIGALRM, &action, NULL);
                r = run_all(kit.target, argc > 2 ? argv[2] : "*");
        }
        close_fd(result_fd);
        faulty_stop(kit.faulty);
        faulty_stop(kit.mortal);
        (void)munmap(kit.note, KIT_NOTE_SIZE);
        return r;
}
