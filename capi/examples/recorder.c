/* A recorder: a capture thread with a deadline hands over a block a period and never waits for the
 * disk; the main thread makes what is there durable ten times a second, keeps the header of the file
 * true, and shows how far it is.
 *
 *   recorder FILE BLOCKS
 *
 * The blocks are numbered, so that a reader can tell that none is missing. A block for which there is
 * no room is lost and counted, and zeros take its place: the time line stays. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "writeflush.h"

enum { BLOCK = 1024, HEADER = 16, PERIOD_NS = 50 * 1000 };

static wf_writer writer;
static atomic_bool done;
static uint64_t blocks;

static void die(const char *what) {
  char why[512];
  wf_last_error(why, sizeof why);
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* Stands for the hardware: sleeps until the next period begins. */
static void next_period(struct timespec *at) {
  at->tv_nsec += PERIOD_NS;
  if (at->tv_nsec >= 1000 * 1000 * 1000) {
    at->tv_nsec -= 1000 * 1000 * 1000;
    at->tv_sec++;
  }
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at, NULL);
}

/* The deadline thread. Between two periods no call waits, takes a lock, allocates or enters the
 * kernel. */
static void *capture(void *unused) {
  (void)unused;
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  for (uint64_t number = 0; number < blocks; number++) {
    next_period(&at);
    void *block;
    if (wf_grant_begin(writer, BLOCK, &block) == WF_OK) {
      for (size_t i = 0; i < BLOCK; i += sizeof number)
        memcpy((char *)block + i, &number, sizeof number);
      wf_grant_commit(writer, BLOCK, NULL); /* a failed disk is sticky: the main thread hears of it */
    } else {
      wf_lose(writer, BLOCK);
    }
  }
  atomic_store(&done, 1);
  return NULL;
}

static void describe(void *unused, uint64_t durable, void *header) {
  (void)unused;
  const uint64_t words[2] = {0x3148535546455257, durable}; /* "WREFUSH1" */
  memcpy(header, words, sizeof words);
}

/* Makes everything so far durable, then a header that describes just that. */
static void checkpoint(void) {
  wf_positions now;
  if (wf_checkpoint(writer, 0, HEADER, describe, NULL, NULL)) die("checkpoint");
  if (wf_get_positions(writer, &now, sizeof now)) die("positions");
  fprintf(stderr, "accepted %" PRIu64 ", written %" PRIu64 ", durable %" PRIu64 "\n", now.accepted,
          now.written, now.durable);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: recorder FILE BLOCKS\n");
    return 2;
  }
  blocks = strtoull(argv[2], NULL, 10);

  wf_options options;
  wf_options_init(&options, sizeof options);
  options.buffers = 8;
  options.producers = WF_PRODUCERS_ONE; /* grants */
  options.drive = WF_DRIVE_POLL;        /* no system call to wake anybody */
  options.on_full = WF_ON_FULL_FILL;
  if (wf_open(argv[1], &options, &writer)) die("open");
  const unsigned char header[HEADER] = {0};
  if (wf_write(writer, header, sizeof header, NULL)) die("write");

  pthread_t thread;
  if (pthread_create(&thread, NULL, capture, NULL)) die("thread");
  static const struct timespec tenth = {0, 100 * 1000 * 1000};
  while (!atomic_load(&done)) {
    nanosleep(&tenth, NULL);
    checkpoint();
  }
  pthread_join(thread, NULL);
  /* Zeros that are still owed: a push of nothing lays them down, as much as has room. */
  while (wf_try_write(writer, NULL, 0, NULL) == WF_FULL) nanosleep(&tenth, NULL);
  checkpoint();

  wf_stats stats;
  if (wf_get_stats(writer, &stats, sizeof stats)) die("stats");
  uint64_t durable = 0;
  if (wf_close(writer, &durable)) die("close");
  printf("%" PRIu64 " bytes durable, %" PRIu64 " lost, %" PRIu64 " fences, median %.3f ms\n", durable,
         stats.overrun_bytes, stats.fences, (double)stats.fence.p50 / 1e6);
  return 0;
}
