/* A recording of messages that never ends: short segments of which the newest ten stay; goes on where the
 * last run stopped, whatever became of it.
 *
 *   messages FOLDER COUNT [--crash]
 *
 * Writes COUNT messages and closes; with --crash it ends in the midst of them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "writeflush.h"

static void die(const char *what) {
  char why[512];
  wf_last_error(why, sizeof why);
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* On a thread of the recording's own: send it on, where it takes long. */
static void on_segment(void *unused, const wf_segment_event *event) {
  (void)unused;
  if (event->kind == WF_SEGMENT_CLOSED)
    printf("%s: %" PRIu64 " messages, CRC32C %08" PRIx32 "\n", event->path, event->frames,
           event->checksum);
  else if (event->kind == WF_SEGMENT_REMOVED)
    printf("%s: removed\n", event->path);
  else
    fprintf(stderr, "%s\n", event->sentence);
}

static uint64_t now(void) {
  struct timespec at;
  timespec_get(&at, TIME_UTC);
  return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "messages FOLDER COUNT [--crash]\n");
    return 2;
  }
  char pattern[4096];
  snprintf(pattern, sizeof pattern, "%s/messages-{seq:06}.frames", argv[1]);
  uint64_t count = strtoull(argv[2], NULL, 10), next, durable;
  wf_segments_options options;
  wf_segments recording;
  wf_segments_options_init(&options, sizeof options);
  options.framed = 1;
  options.checksum = 1;
  options.segment_bytes = 20000;
  options.keep_count = 10;
  options.on_segment = on_segment;
  if (wf_segments_resume(pattern, &options, NULL, &recording, &next)) die("resume");
  printf("goes on with message %" PRIu64 "\n", next);
  for (uint64_t number = next; number < next + count; number++) {
    char message[64];
    int len = snprintf(message, sizeof message, "message %" PRIu64, number);
    if (wf_segments_write_frame(recording, now(), message, (size_t)len, NULL)) die("write");
  }
  if (wf_segments_flush(recording, &durable)) die("flush"); /* from now on they survive a power cut */
  if (argc > 3 && !strcmp(argv[3], "--crash")) {
    fflush(stdout);
    abort();
  }
  if (wf_segments_close(recording, &durable)) die("close");
  printf("%" PRIu64 " bytes durable\n", durable);
  return 0;
}
