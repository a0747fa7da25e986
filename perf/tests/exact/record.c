/* A program for the gate: a record of 4 KiB, durable. Slips are planted by macros. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char from[4096], buffer[4096];
static char *volatile kept;
static volatile size_t length = sizeof from; /* so that no copy is left to the compiler */
static int word;

static void record(int file) {
  memcpy(buffer, from, length);
#ifdef EXTRA_COPY
  memcpy(buffer, from, length / 16);
#endif
#ifdef EXTRA_ALLOCATION
  kept = malloc(32);
  free(kept);
#endif
#ifdef EXTRA_WAKE_UP
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
#endif
#ifdef EXTRA_INSTRUCTIONS
  for (volatile int i = 0; i < 20; i++) {}
#endif
#ifdef EXTRA_CALL
  lseek(file, 0, SEEK_CUR);
#endif
  pwrite(file, buffer, sizeof buffer, 0);
#ifndef SKIPPED_FLUSH
  fsync(file);
#endif
#ifdef EXTRA_FLUSH
  pwrite(file, buffer, sizeof buffer, 0);
  fsync(file);
#endif
  kept = NULL;
}

int main(void) {
  char line[4200], path[4200];
  int file = -1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("writeflush-gate 1");
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "list")) {
      puts("operations record");
    } else if (!strncmp(line, "begin record ", 13)) {
      snprintf(path, sizeof path, "%s/file", line + 13);
      file = open(path, O_RDWR | O_CREAT, 0666);
      pwrite(file, buffer, sizeof buffer, 0);
      fsync(file);
      puts(file < 0 ? "error the file can't be made" : "ok");
    } else if (!strncmp(line, "run ", 4)) {
      struct timespec start, end;
      long times = atol(line + 4);
      clock_gettime(CLOCK_MONOTONIC, &start);
      for (long i = 0; i < times; i++) record(file);
      clock_gettime(CLOCK_MONOTONIC, &end);
      int64_t took = (end.tv_sec - start.tv_sec) * INT64_C(1000000000) + end.tv_nsec - start.tv_nsec;
      printf("took %lld fences=%ld\n", (long long)took, times);
    } else {
      close(file);
      puts("ok");
    }
  }
  return 0;
}
