/* A recorder: a capture thread with a deadline hands over blocks, the main thread makes them
 * durable ten times a second and keeps the header of the file true.
 *
 *   recorder FILE BLOCKS
 *
 * The blocks are numbered, so that a reader can tell that none is missing. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "writeflush.h"

enum { BLOCK = 1024, HEADER = 16 };

static wf_writer writer;
static atomic_bool done;
static uint64_t blocks;

static void die(const char *what) {
  char why[512];
  wf_last_error(why, sizeof why);
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* The deadline thread: no call here waits for the disk. */
static void *capture(void *unused) {
  (void)unused;
  static const struct timespec period = {0, 100 * 1000};
  unsigned char block[BLOCK];
  for (uint64_t number = 0; number < blocks; number++) {
    for (size_t i = 0; i < BLOCK; i += sizeof number)
      memcpy(block + i, &number, sizeof number);
    int status;
    while ((status = wf_try_write(writer, block, sizeof block)) == WF_FULL)
      nanosleep(&period, NULL); /* a real device would count this block as lost */
    if (status != WF_OK) break; /* sticky: wf_close says why */
    if (number % 16 == 0) nanosleep(&period, NULL);
  }
  atomic_store(&done, 1);
  return NULL;
}

/* Makes everything so far durable, then a header that describes just that. */
static void checkpoint(void) {
  uint64_t header[2] = {0x3148535546455257, 0}; /* "WREFUSH1" */
  if (wf_write_flush(writer, NULL, 0, &header[1])) die("flush");
  if (wf_patch(writer, 0, header, sizeof header)) die("patch");
  wf_ticket ticket;
  if (wf_fence(writer, &ticket) || wf_wait(writer, ticket, -1)) die("fence");
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: recorder FILE BLOCKS\n");
    return 2;
  }
  blocks = strtoull(argv[2], NULL, 10);

  wf_options options;
  wf_options_default(&options);
  options.buffers = 8;
  if (wf_open(argv[1], &options, &writer)) die("open");
  const unsigned char header[HEADER] = {0};
  if (wf_write(writer, header, sizeof header)) die("write");

  pthread_t thread;
  if (pthread_create(&thread, NULL, capture, NULL)) die("thread");
  static const struct timespec tenth = {0, 100 * 1000 * 1000};
  while (!atomic_load(&done)) {
    nanosleep(&tenth, NULL);
    checkpoint();
  }
  pthread_join(thread, NULL);
  checkpoint();

  wf_stats stats;
  wf_get_stats(writer, &stats);
  uint64_t durable = 0;
  if (wf_close(writer, &durable)) die("close");
  printf("%" PRIu64 " bytes durable, %" PRIu64 " fences, median %.3f ms\n", durable, stats.fences,
         (double)stats.fence_p50 / 1e6);
  return 0;
}
