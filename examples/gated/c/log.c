/* A durable log in C that a gate can compare with an older build of itself: it speaks the protocol
 * of perf/operation/PROTOCOL.md. No library.
 *
 *   cc -O2 -o log log.c
 *   cargo perf gate --base-program old/log --candidate-program ./log /data
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RECORD = 4096, LEN = 16 << 20 };

static int file = -1;
static off_t at;
static char record[RECORD];

/* The file that lies there is used again, as the gate wants it. A new one is written once. */
static int begin(const char *folder)
{
    char path[8200];
    snprintf(path, sizeof path, "%s/records", folder);
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return -1;
    if (lseek(file, 0, SEEK_END) != LEN) {
        for (at = 0; at < LEN; at += RECORD)
            if (pwrite(file, record, RECORD, at) != RECORD)
                return -1;
        if (fsync(file))
            return -1;
    }
    at = 0;
    return 0;
}

/* The operation: a record that survives a power cut. */
static int append(void)
{
    if (pwrite(file, record, RECORD, at) != RECORD || fdatasync(file))
        return -1;
    at = (at + RECORD) % LEN;
    return 0;
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void run(long long times)
{
    long long start = now();
    for (long long i = 0; i < times; i++)
        if (append()) {
            printf("error the log can't be written: %s\n", strerror(errno));
            return;
        }
    printf("took %lld fences=%lld bytes=%lld\n", now() - start, times, times * RECORD);
}

int main(void)
{
    static char line[8192];
    setvbuf(stdout, NULL, _IOLBF, 0); /* each answer at once */
    memset(record, 'r', RECORD);
    puts("writeflush-gate 1");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "list"))
            puts("operations append");
        else if (!strncmp(line, "begin append ", 13)) {
            if (begin(line + 13))
                printf("error the log can't be opened: %s\n", strerror(errno));
            else
                puts("ok");
        } else if (!strncmp(line, "run ", 4) && file >= 0)
            run(atoll(line + 4));
        else if (!strcmp(line, "end") && file >= 0) {
            close(file);
            file = -1;
            puts("ok");
        } else
            printf("error '%s' can't be done\n", line);
    }
    return 0;
}
