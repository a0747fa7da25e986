/* Recordings in segments: raw and framed, told of, rotated, pushed to from one thread and flushed from
 * another, left by a child without a close and resumed; and every wrong argument. Argument: a folder.
 * Exits 0 if all is well; else says the line. */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PATH = 4096, MESSAGES = 2000 };

static const char *folder;

static const char *named(const char *name, char path[PATH]) {
  snprintf(path, PATH, "%s/%s", folder, name);
  return path;
}

/* What was told of the segments of a recording. */
typedef struct {
  uint64_t closed, removed, bytes, file_bytes, frames, missing, next_sequence, sums;
  char last[PATH];
} log_of;

static void tell(void *context, const wf_segment_event *event) {
  log_of *log = context;
  CHECK(event->size == sizeof *event);
  switch (event->kind) {
    case WF_SEGMENT_CLOSED:
      CHECK(event->path != NULL && event->sentence == NULL && event->ended >= event->began);
      CHECK(event->position == log->bytes);
      log->closed++;
      log->bytes += event->bytes;
      log->file_bytes += event->file_len;
      log->frames += event->frames;
      log->missing += event->missing;
      log->next_sequence = event->next_sequence;
      log->sums += event->has_checksum;
      snprintf(log->last, PATH, "%s", event->path);
      break;
    case WF_SEGMENT_REMOVED:
      CHECK(event->path != NULL);
      log->removed++;
      break;
    default:
      CHECK(event->sentence != NULL && event->path == NULL);
      fprintf(stderr, "%s\n", event->sentence);
      exit(1);
  }
}

static wf_segments_options options_of(log_of *log) {
  wf_segments_options options;
  CHECK(wf_segments_options_init(&options, sizeof options) == WF_OK);
  CHECK(options.size == sizeof options && options.longest == 64 << 20);
  options.on_segment = tell;
  options.context = log;
  memset(log, 0, sizeof *log);
  return options;
}

static uint64_t length_of(const char *path) {
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
  long len = ftell(file);
  fclose(file);
  return (uint64_t)len;
}

/* ---- raw bytes ------------------------------------------------------------------------------------ */

static void records_plain_bytes(void) {
  log_of log;
  char pattern[PATH], path[PATH];
  wf_segments recording;
  wf_segments_options options = options_of(&log);
  options.segment_bytes = 10000;
  options.checksum = 1;
  CHECK(wf_segments_open(named("raw-{seq:04}", pattern), &options, NULL, &recording) == WF_OK);
  char record[700];
  uint64_t total = 0, position, durable;
  for (int number = 0; number < 100; number++) {
    memset(record, number, sizeof record);
    CHECK(wf_segments_write(recording, record, sizeof record, &position) == WF_OK);
    CHECK(position == total);
    total += sizeof record;
  }
  while (wf_segments_try_write(recording, record, 100, NULL) == WF_FULL) usleep(100);
  total += 100;
  CHECK(wf_segments_flush(recording, &durable) == WF_OK && durable == total);
  wf_positions positions;
  CHECK(wf_segments_get_positions(recording, &positions, sizeof positions) == WF_OK);
  CHECK(positions.accepted == total && positions.durable == total);
  CHECK(wf_segments_lose(recording, 5) == WF_OK);
  CHECK(wf_segments_rotate(recording) == WF_OK);
  wf_segments_stats stats;
  do { /* the next one may not be ready yet */
    CHECK(wf_segments_write(recording, "x", 1, NULL) == WF_OK);
    total++;
    CHECK(wf_segments_get_stats(recording, &stats, sizeof stats) == WF_OK);
  } while (stats.sequence == 1);
  CHECK(stats.rotations >= 1 && stats.overrun_bytes == 5);
  CHECK(wf_segments_error(recording) == WF_OK);
  CHECK(wf_segments_write_frame(recording, 0, "x", 1, NULL) == WF_INVALID);
  CHECK(wf_segments_close(recording, &durable) == WF_OK && durable == total);
  CHECK(log.closed >= 2 && log.bytes == total && log.file_bytes == total && log.removed == 0);
  CHECK(log.sums == log.closed && log.frames == 0);
  CHECK(length_of(named("raw-0001", path)) > 0 && length_of(log.last) > 0);
  CHECK(wf_segments_write(recording, "x", 1, NULL) == WF_CLOSED);
  CHECK(wf_segments_close(recording, NULL) == WF_CLOSED);
}

/* The oldest go. */
static void keeps_what_it_is_told_to(void) {
  log_of log;
  char pattern[PATH];
  wf_segments recording;
  wf_segments_stats stats;
  wf_segments_options options = options_of(&log);
  options.segment_bytes = 100;
  options.keep_count = 3;
  options.min_free = 4096;
  options.floor = WF_FLOOR_DELETE_OLDEST;
  CHECK(wf_segments_open(named("few-{seq}", pattern), &options, NULL, &recording) == WF_OK);
  do {
    CHECK(wf_segments_write(recording, pattern, 90, NULL) == WF_OK);
    CHECK(wf_segments_get_stats(recording, &stats, sizeof stats) == WF_OK);
  } while (stats.rotations < 10);
  CHECK(wf_segments_close(recording, NULL) == WF_OK);
  CHECK(log.closed == log.removed + 3);
}

/* ---- frames --------------------------------------------------------------------------------------- */

static wf_segments_options of_frames(log_of *log) {
  wf_segments_options options = options_of(log);
  options.framed = 1;
  options.segment_bytes = 5000;
  return options;
}

/* The oldest becomes the next one; what is kept has all its messages. */
static void recycles_what_it_does_not_keep(void) {
  log_of log;
  char pattern[PATH];
  wf_segments recording;
  wf_segments_stats stats;
  wf_segments_options options = of_frames(&log);
  options.keep_count = 2;
  options.recycle = 1;
  CHECK(wf_segments_open(named("again-{seq}", pattern), &options, NULL, &recording) == WF_OK);
  do {
    CHECK(wf_segments_write_frame(recording, 1, pattern, 300, NULL) == WF_OK);
    CHECK(wf_segments_get_stats(recording, &stats, sizeof stats) == WF_OK);
  } while (stats.recycled < 5);
  uint64_t last = stats.sequence, removed = stats.removed;
  CHECK(wf_segments_truncate_front(recording, last) == WF_OK);
  do { /* the one that is put by goes as well, once the next has been made of it */
    CHECK(wf_segments_write_frame(recording, 1, pattern, 300, NULL) == WF_OK);
    CHECK(wf_segments_get_stats(recording, &stats, sizeof stats) == WF_OK);
  } while (stats.removed < removed + 2);
  CHECK(wf_segments_close(recording, NULL) == WF_OK);
  CHECK(log.closed == log.removed + 2);
  CHECK(wf_segments_truncate_front(recording, 1) == WF_CLOSED);
}

static size_t message(uint64_t number, char bytes[300]) {
  size_t len = 1 + (size_t)(number * 37 % 300);
  memset(bytes, (int)(number % 251), len);
  return len;
}

static void write_messages(wf_segments recording, uint64_t from, uint64_t to) {
  for (uint64_t number = from; number < to; number++) {
    char bytes[300];
    uint64_t sequence = 0;
    size_t len = message(number, bytes);
    wf_status status = WF_FULL;
    if (number % 2) status = wf_segments_try_write_frame(recording, number, bytes, len, &sequence);
    if (status == WF_FULL) /* it waits, where the disk is slow */
      status = wf_segments_write_frame(recording, number, bytes, len, &sequence);
    CHECK(status == WF_OK && sequence == number);
  }
}

static volatile int done;

static void *flush_now_and_then(void *recording) {
  while (!done) CHECK(wf_segments_flush(*(wf_segments *)recording, NULL) == WF_OK);
  return NULL;
}

static void records_messages(void) {
  log_of log;
  char pattern[PATH];
  wf_segments recording;
  uint64_t next = 99;
  wf_segments_options options = of_frames(&log);
  options.longest = 1000;
  named("messages-{seq:04}", pattern);
  CHECK(wf_segments_resume(pattern, &options, NULL, &recording, &next) == WF_OK && next == 0);
  pthread_t other;
  CHECK(pthread_create(&other, NULL, flush_now_and_then, &recording) == 0);
  uint64_t count = 0;
  wf_segments_stats stats;
  do { /* the next segment is not always ready */
    write_messages(recording, count, count + 1);
    count++;
    CHECK(wf_segments_get_stats(recording, &stats, sizeof stats) == WF_OK);
  } while (count < MESSAGES || stats.rotations < 2);
  done = 1;
  CHECK(pthread_join(other, NULL) == 0);
  char long_message[1001] = {0};
  CHECK(wf_segments_write_frame(recording, 0, long_message, 1001, NULL) == WF_TOO_LONG);
  CHECK(wf_segments_write(recording, "x", 1, NULL) == WF_INVALID);
  CHECK(wf_segments_lose(recording, 2) == WF_OK);
  CHECK(wf_segments_write_frame(recording, 0, "end", 3, &next) == WF_OK && next == count + 2);
  CHECK(wf_segments_close(recording, NULL) == WF_OK);
  CHECK(log.frames == count + 1 && log.missing == 2 && log.next_sequence == count + 3);
  CHECK(log.closed > 1 && log.sums == 0);
  wf_recovered found;
  CHECK(wf_recover(log.last, WF_RECOVER_FRAMES, &found, sizeof found) == WF_OK);
  CHECK(found.next_sequence == count + 3 && found.cut == 0 && found.torn == 0);
}

/* A child that is gone without a close. */
static void goes_on_after_a_crash(void) {
  log_of log;
  char pattern[PATH];
  wf_segments recording;
  wf_segments_options options = of_frames(&log);
  named("crash-{seq:04}", pattern);
  fflush(NULL);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(wf_segments_open(pattern, &options, NULL, &recording) == WF_OK);
    write_messages(recording, 0, 500);
    CHECK(wf_segments_flush_with(recording, "read up to 500", 14, NULL) == WF_OK);
    write_messages(recording, 500, 501);
    CHECK(wf_segments_flush(recording, NULL) == WF_OK);
    _exit(7);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  uint64_t next = 0;
  CHECK(wf_segments_resume(pattern, &options, NULL, &recording, &next) == WF_OK && next == 501);
  char cookie[20] = {0};
  size_t len = 0;
  CHECK(wf_segments_get_cookie(recording, cookie, 7, &len, &next) == WF_OK && len == 14);
  CHECK(next == 500 && strcmp(cookie, "read up") == 0); /* and nothing behind it */
  CHECK(wf_segments_get_cookie(recording, NULL, 0, NULL, NULL) == WF_OK);
  wf_segments again = 1;
  CHECK(wf_segments_resume(pattern, &options, NULL, &again, &next) == WF_LOCKED && again == 0);
  write_messages(recording, 501, 600);
  static char long_cookie[65529];
  CHECK(wf_segments_flush_with(recording, long_cookie, sizeof long_cookie, NULL) == WF_TOO_LONG);
  CHECK(wf_segments_flush_with(recording, NULL, 1, NULL) == WF_INVALID);
  CHECK(wf_segments_close(recording, NULL) == WF_OK);
  CHECK(wf_segments_get_cookie(recording, NULL, 0, NULL, NULL) == WF_CLOSED);
  CHECK(log.frames == 99 && log.next_sequence == 600);
}

/* ---- one file ------------------------------------------------------------------------------------- */

static void recovers_a_wave_file(void) {
  char path[PATH], torn[PATH];
  static const unsigned char wave[44 + 7] = {
      'R', 'I', 'F', 'F', 0xFF, 0xFF, 0xFF, 0xFF, 'W', 'A', 'V', 'E', 'f', 'm', 't', ' ', 16,
      0,   0,   0,   1,   0,    1,    0,    0x80, 0xBB, 0, 0, 0, 0x77, 1, 0, 2, 0, 16, 0,
      'd', 'a', 't', 'a', 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5, 6, 7};
  FILE *file = fopen(named("take.wav", path), "wb");
  CHECK(file != NULL && fwrite(wave, sizeof wave, 1, file) == 1 && fclose(file) == 0);
  wf_recovered found;
  CHECK(wf_recover(path, WF_RECOVER_FRAMES, &found, sizeof found) == WF_INVALID);
  CHECK(length_of(path) == sizeof wave);
  CHECK(wf_recover(path, WF_RECOVER_WAVE, &found, sizeof found) == WF_OK);
  CHECK(found.kept == 50 && found.cut == 1 && found.torn == 1 && found.frames == 0);
  CHECK(length_of(path) == 50 && length_of(named("take.wav.torn-50", torn)) == 1);
  CHECK(wf_recover(path, WF_RECOVER_WAVE, NULL, 0) == WF_OK && length_of(path) == 50);
}

/* ---- what can't be -------------------------------------------------------------------------------- */

static void refuses(wf_segments_options options, const char *pattern, const char *why) {
  wf_segments recording = 1;
  char said[512];
  CHECK(wf_segments_open(pattern, &options, NULL, &recording) == WF_INVALID && recording == 0);
  wf_last_error(said, sizeof said);
  if (strstr(said, why) == NULL) fprintf(stderr, "%s\n", said);
  CHECK(strstr(said, why) != NULL);
}

static void refuses_what_can_t_be(void) {
  log_of log;
  char pattern[PATH], path[PATH];
  wf_segments recording = 1;
  named("wrong-{seq}", pattern);
  wf_segments_options options, plain = options_of(&log);
  refuses(plain, named("wrong", path), "put {seq} into it once");
  options = plain, options.framed = 2;
  refuses(options, pattern, "neither 0 nor 1");
  options = plain, options.recycle = 1, options.keep_count = 1;
  refuses(options, pattern, "leave recycle out");
  options = plain, options.unused = 1;
  refuses(options, pattern, "is not 0");
  options = plain, options.floor = 3;
  refuses(options, pattern, "WF_FLOOR_");
  options = plain, options.size = 7;
  refuses(options, pattern, "wf_segments_options_init");
  options = plain, options.framed = 1, options.frame_bytes = 4;
  refuses(options, pattern, "frame_bytes");
  options = plain, options.framed = 1, options.first_sequence = UINT64_MAX;
  refuses(options, pattern, "2^62");
  wf_options each;
  CHECK(wf_options_init(&each, sizeof each) == WF_OK);
  each.mode = WF_APPEND;
  CHECK(wf_segments_open(pattern, NULL, &each, &recording) == WF_INVALID);
  CHECK(wf_segments_resume(pattern, NULL, NULL, &recording, NULL) == WF_INVALID);
  CHECK(wf_segments_open(NULL, NULL, NULL, &recording) == WF_INVALID);
  CHECK(wf_segments_open(pattern, NULL, NULL, NULL) == WF_INVALID);
  CHECK(wf_segments_options_init(NULL, 8) == WF_INVALID);
  CHECK(wf_segments_options_init(&options, 3) == WF_INVALID);
  CHECK(wf_recover(NULL, WF_RECOVER_WAVE, NULL, 0) == WF_INVALID);
  CHECK(wf_recover(pattern, 9, NULL, 0) == WF_INVALID);
  CHECK(wf_recover(named("nothing", path), WF_RECOVER_FRAMES, NULL, 0) == WF_IO);
  /* A struct of a later version, which asks for nothing more than this one knows; and one that does. */
  struct { wf_segments_options known; uint64_t more; } later = {plain, 0};
  later.known.size = sizeof later;
  CHECK(wf_segments_open(pattern, &later.known, NULL, &recording) == WF_OK);
  wf_positions positions;
  CHECK(wf_segments_get_positions(recording, NULL, sizeof positions) == WF_INVALID);
  CHECK(wf_segments_get_positions(recording, &positions, 3) == WF_INVALID);
  CHECK(wf_segments_flush_with(recording, "x", 1, NULL) == WF_INVALID); /* no frames */
  size_t len = 1;
  CHECK(wf_segments_get_cookie(recording, NULL, 0, &len, NULL) == WF_OK && len == 0);
  CHECK(wf_segments_write(recording, NULL, 1, NULL) == WF_INVALID);
  CHECK(wf_segments_write(recording, NULL, 0, NULL) == WF_OK);
  CHECK(wf_segments_write(recording, pattern, SIZE_MAX, NULL) == WF_INVALID);
  CHECK(wf_write(recording, "x", 1, NULL) == WF_CLOSED); /* no writer's number */
  CHECK(wf_close(recording, NULL) == WF_CLOSED && wf_driver_close(recording) == WF_CLOSED);
  CHECK(wf_segments_close(recording, NULL) == WF_OK);
  later.more = 1;
  CHECK(wf_segments_open(pattern, &later.known, NULL, &recording) == WF_INVALID);
  for (uint64_t number = 0; number < 5; number++) {
    wf_segments none = number << 30;
    CHECK(wf_segments_flush(none, NULL) == WF_CLOSED && wf_segments_rotate(none) == WF_CLOSED);
    CHECK(wf_segments_close(none, NULL) == WF_CLOSED && wf_segments_error(none) == WF_CLOSED);
    CHECK(wf_segments_lose(none, 1) == WF_CLOSED);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  folder = argv[1];
  records_plain_bytes();
  keeps_what_it_is_told_to();
  recycles_what_it_does_not_keep();
  records_messages();
  goes_on_after_a_crash();
  recovers_a_wave_file();
  refuses_what_can_t_be();
  return 0;
}
