/* Every function of the header, with good and with hostile arguments, and every status but WF_PANIC
 * and WF_TOO_MANY (capi/src/tests/table.rs). Exits 0 if all is well; else says the line. */
#ifndef _WIN32
#define _DEFAULT_SOURCE
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static void no_header(void *context, uint64_t durable, void *header) {
  (void)context, (void)durable, (void)header;
}

static void no_such_writer(wf_writer writer) {
  wf_ticket ticket = {writer, 0, 0};
  uint64_t durable = 7;
  wf_positions now;
  wf_stats stats;
  wf_facts facts;
  void *memory;
  CHECK(wf_write(writer, "x", 1, NULL) == WF_CLOSED);
  CHECK(wf_try_write(writer, "x", 1, NULL) == WF_CLOSED);
  CHECK(wf_write_flush(writer, "x", 1, &durable) == WF_CLOSED);
  CHECK(wf_patch(writer, 0, "x", 1) == WF_CLOSED);
  CHECK(wf_fence(writer, &ticket) == WF_CLOSED);
  CHECK(wf_wait(writer, ticket, -1) == WF_CLOSED);
  CHECK(wf_get_positions(writer, &now, sizeof now) == WF_CLOSED);
  CHECK(wf_get_stats(writer, &stats, sizeof stats) == WF_CLOSED);
  CHECK(wf_get_facts(writer, &facts, sizeof facts) == WF_CLOSED);
  CHECK(wf_get_overruns(writer, NULL, 0, NULL) == WF_CLOSED);
  CHECK(wf_durability(writer, NULL, 0, NULL) == WF_CLOSED);
  CHECK(wf_backend(writer, NULL, 0, NULL) == WF_CLOSED);
  CHECK(wf_fallbacks(writer, NULL, 0, NULL) == WF_CLOSED);
  CHECK(wf_path(writer, NULL, 0, NULL) == WF_CLOSED);
  CHECK(wf_error(writer) == WF_CLOSED);
  CHECK(wf_lose(writer, 1) == WF_CLOSED);
  CHECK(wf_grant_begin(writer, 1, &memory) == WF_CLOSED);
  CHECK(wf_grant_commit(writer, 1, NULL) == WF_CLOSED);
  CHECK(wf_grant_abandon(writer) == WF_CLOSED);
  CHECK(wf_checkpoint(writer, 0, 0, no_header, NULL, NULL) == WF_CLOSED);
  uint32_t is_waiting = 7;
  CHECK(wf_is_waiting_for_space(writer, &is_waiting) == WF_CLOSED && is_waiting == 7);
  CHECK(wf_stop_waiting_for_space(writer) == WF_CLOSED);
  wf_summary summary;
  CHECK(wf_close_summary(writer, &summary, sizeof summary) == WF_CLOSED);
  CHECK(wf_close(writer, &durable) == WF_CLOSED);
  CHECK(wf_close_timeout(writer, 0, &durable) == WF_CLOSED);
  CHECK(wf_close_timeout(writer, -1, &durable) == WF_CLOSED);
  CHECK(wf_flush_timeout(writer, 0, &durable) == WF_CLOSED);
  CHECK(wf_abandon(writer, &durable) == WF_CLOSED);
  CHECK(durable == 7);
}

static void options_that_cannot_be(const char *path) {
  wf_writer writer = 1;
  wf_options options;
#define WRONG(field, value)                                  \
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);              \
  options.field = value;                                     \
  CHECK(wf_open(path, &options, &writer) == WF_INVALID);     \
  CHECK(writer == 0)
  WRONG(size, 0);
  WRONG(size, sizeof options + 1);
  WRONG(size, UINT64_MAX);
  WRONG(buffer_size, 1000);
  WRONG(buffer_size, UINT64_MAX);
  WRONG(buffers, 1);
  WRONG(buffers, UINT32_MAX);
  WRONG(mode, 9);
  WRONG(backend, 9);
  WRONG(direct, 9);
  WRONG(drive, 9);
  WRONG(on_full, 9);
  WRONG(on_disk_full, 9);
  WRONG(no_inline_flush, 2);
  WRONG(preallocate, 9);
  WRONG(fence, 9);
  WRONG(fill_byte, 256);
  WRONG(permissions, 010000);
  WRONG(lock, 2);
  WRONG(producers, 2);
  WRONG(grant_limit, UINT64_MAX);
  WRONG(memory_limit, 1);
  CHECK(wf_open(NULL, NULL, &writer) == WF_INVALID);
  CHECK(wf_open(path, NULL, NULL) == WF_INVALID);
  CHECK(wf_open("/no/such/folder/file", NULL, &writer) == WF_IO);
  CHECK(wf_options_init(NULL, sizeof options) == WF_INVALID);
  CHECK(wf_options_init(&options, 0) == WF_INVALID);
  CHECK(wf_options_init(&options, (size_t)-8) == WF_INVALID);
}

static void no_such_driver(wf_driver driver, const char *path) {
  wf_driver_facts facts;
  size_t needed = 7;
  CHECK(wf_driver_close(driver) == WF_CLOSED);
  CHECK(wf_driver_get_facts(driver, &facts, sizeof facts) == WF_CLOSED);
  CHECK(wf_driver_fallback(driver, NULL, 0, &needed) == WF_CLOSED && needed == 7);
  if (driver == 0) return; /* that one is no driver */
  wf_writer writer = 1;
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  options.driver = driver;
  CHECK(wf_open(path, &options, &writer) == WF_CLOSED && writer == 0);
  CHECK(wf_mmio_settings(&options, 0, 0) == WF_CLOSED);
}

static int32_t refuses(void *calls) {
  ++*(int *)calls;
  return EINVAL;
}

static void drivers_that_cannot_be(void) {
  wf_driver driver = 1;
  wf_driver_options options;
#define WRONG_DRIVER(field, value)                                  \
  CHECK(wf_driver_options_init(&options, sizeof options) == WF_OK); \
  options.field = value;                                            \
  CHECK(wf_driver_start(&options, &driver) == WF_INVALID);          \
  CHECK(driver == 0)
  WRONG_DRIVER(size, 0);
  WRONG_DRIVER(size, sizeof options + 1);
  WRONG_DRIVER(size, UINT64_MAX);
  WRONG_DRIVER(depth, 0);
  WRONG_DRIVER(depth, 7);
  WRONG_DRIVER(depth, 4097);
  WRONG_DRIVER(depth, UINT64_MAX);
  WRONG_DRIVER(backend, 9);
  WRONG_DRIVER(drive, 9);
  CHECK(wf_driver_start(NULL, NULL) == WF_INVALID);
  CHECK(wf_driver_options_init(NULL, sizeof options) == WF_INVALID);
  CHECK(wf_driver_options_init(&options, 0) == WF_INVALID);
  CHECK(wf_driver_options_init(&options, (size_t)-8) == WF_INVALID);
  int calls = 0;
  CHECK(wf_driver_options_init(&options, sizeof options) == WF_OK);
  options.backend = WF_BACKEND_SYNC;
  options.thread_setup = refuses;
  options.thread_context = &calls;
  CHECK(wf_driver_start(&options, &driver) == WF_IO && driver == 0 && calls == 1);
  CHECK(wf_last_errno() == EINVAL); /* the set-up's, and no option that can't be */
}

/* Nothing is made for a writer whose options a driver decides. */
static void a_driver_decides(const char *path) {
  wf_driver driver = 0;
  wf_driver_facts facts;
  CHECK(wf_driver_start(NULL, &driver) == WF_OK && driver != 0);
  CHECK(wf_driver_get_facts(driver, &facts, sizeof facts) == WF_OK);
  CHECK(facts.memory == 0 && facts.backend != WF_BACKEND_AUTO && facts.is_fallback <= 1);
  CHECK(wf_driver_get_facts(driver, NULL, sizeof facts) == WF_INVALID);
  CHECK(wf_driver_get_facts(driver, &facts, 0) == WF_INVALID);
  char text[512];
  size_t needed = 0;
  CHECK(wf_driver_fallback(driver, text, sizeof text, &needed) == WF_OK);
  CHECK((needed == 1) == (facts.is_fallback == 0));
  CHECK(remove(path) == 0);
  wf_writer writer = 1;
  wf_options options;
  int calls = 0;
#define DECIDED(field, value)                                 \
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);  \
  options.driver = driver;                                    \
  options.field = value;                                      \
  CHECK(wf_open(path, &options, &writer) == WF_INVALID);      \
  CHECK(wf_last_error(text, sizeof text) > 1);                \
  CHECK(writer == 0 && strstr(text, "wf_driver_options"))
  DECIDED(backend, WF_BACKEND_SYNC);
  DECIDED(drive, WF_DRIVE_CALLER);
  DECIDED(drive, WF_DRIVE_POLL);
  DECIDED(thread_setup, refuses);
  DECIDED(fence, WF_FENCE_WRITE_THROUGH);
  CHECK(calls == 0);
  CHECK(fopen(path, "rb") == NULL);
  CHECK(wf_options_init(&options, sizeof options) == WF_OK && options.driver == 0);
  options.driver = driver;
  CHECK(wf_open(path, &options, &writer) == WF_OK);
  no_such_writer(driver);         /* a driver is no writer */
  no_such_driver(writer, path);   /* and the other way round */
  CHECK(wf_driver_get_facts(driver, &facts, sizeof facts) == WF_OK && facts.memory > 2 << 20);
  CHECK(wf_driver_close(driver) == WF_OK);
  no_such_driver(driver, path);
  CHECK(wf_write_flush(writer, "on", 2, NULL) == WF_OK); /* it keeps its driver */
  CHECK(wf_close(writer, NULL) == WF_OK);
  CHECK(wf_driver_start(NULL, &writer) == WF_OK); /* in the same place */
  no_such_driver(driver, path);
  CHECK(wf_driver_close(writer) == WF_OK);
}

static void a_whole_life(const char *path) {
  wf_writer writer;
  wf_writer second;
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(writer != 0);
  CHECK(wf_open(path, NULL, &second) == WF_LOCKED);
  CHECK(wf_write(writer, "hello ", 6, NULL) == WF_OK);
  CHECK(wf_try_write(writer, "world", 5, NULL) == WF_OK);
  CHECK(wf_write(writer, NULL, 0, NULL) == WF_OK);
  CHECK(wf_write(writer, NULL, 1, NULL) == WF_INVALID);
  CHECK(wf_write(writer, "x", (size_t)-1, NULL) == WF_INVALID);
  CHECK(wf_try_write(writer, "x", SIZE_MAX / 2 + 1, NULL) == WF_INVALID);
  CHECK(wf_write_flush(writer, NULL, 5, NULL) == WF_INVALID);
  CHECK(wf_patch(writer, 0, NULL, 5) == WF_INVALID);
  CHECK(wf_patch(writer, 8, "abcd", 4) == WF_RANGE);
  CHECK(wf_patch(writer, UINT64_MAX, "abcd", 4) == WF_RANGE);
  CHECK(wf_patch(writer, 0, "H", 1) == WF_OK);
  static char many[4 << 20];
  CHECK(wf_try_write(writer, many, sizeof many, NULL) == WF_TOO_LONG);

  wf_ticket ticket;
  CHECK(wf_fence(writer, NULL) == WF_OK);
  CHECK(wf_fence(writer, &ticket) == WF_OK);
  CHECK(ticket.position == 11);
  CHECK(wf_wait(writer, ticket, -1) == WF_OK);
  CHECK(wf_wait(writer, ticket, 0) == WF_OK);
  wf_ticket absurd = {writer, UINT64_MAX, 0};
  CHECK(wf_wait(writer, absurd, -1) == WF_INVALID);
  absurd = (wf_ticket){writer, 0, 99};
  CHECK(wf_wait(writer, absurd, -1) == WF_INVALID);
  absurd = (wf_ticket){0, 0, 0};
  CHECK(wf_wait(writer, absurd, -1) == WF_INVALID);

  char text[16];
  size_t needed = 0;
  wf_positions now;
  CHECK(wf_get_positions(writer, &now, sizeof now) == WF_OK);
  CHECK(now.accepted == 11 && now.durable == 11);
  CHECK(wf_get_positions(writer, NULL, sizeof now) == WF_INVALID);
  CHECK(wf_get_positions(writer, &now, 0) == WF_INVALID);
  CHECK(wf_get_positions(writer, &now, SIZE_MAX) == WF_INVALID);
  uint64_t durable = 0;
  CHECK(wf_write_flush(writer, "!\n", 2, &durable) == WF_OK);
  CHECK(durable == 13);
  wf_stats stats;
  CHECK(wf_get_stats(writer, &stats, sizeof stats) == WF_OK);
  CHECK(stats.bytes == 13 && stats.patches == 1 && stats.sealed > 0);
  CHECK(stats.fence.count > 0 && stats.fence.max > 0);
  CHECK(stats.device_write.count > 0 && stats.device_write.p50 <= stats.device_write.max);
  CHECK(wf_get_stats(writer, NULL, sizeof stats) == WF_INVALID);
  wf_facts facts;
  CHECK(wf_get_facts(writer, &facts, sizeof facts) == WF_OK);
  CHECK(facts.backend != WF_BACKEND_AUTO && facts.is_direct <= 1);
  CHECK(facts.medium >= WF_MEDIUM_PAGE_CACHE && facts.medium <= WF_MEDIUM_STABLE);
  CHECK(wf_error(writer) == WF_OK);
  CHECK(wf_grant_begin(writer, 1, (void **)text) == WF_INVALID); /* not for one producer */

  CHECK(wf_durability(writer, text, sizeof text, &needed) == WF_OK);
  CHECK(needed > sizeof text && strlen(text) == sizeof text - 1);
  CHECK(wf_backend(writer, text, sizeof text, NULL) == WF_OK && strlen(text) > 0);
  char whole[4096];
  CHECK(wf_path(writer, whole, sizeof whole, &needed) == WF_OK);
  CHECK(strcmp(whole, path) == 0 && needed == strlen(path) + 1);
  CHECK(wf_fallbacks(writer, whole, sizeof whole, &needed) == WF_OK);
  CHECK((needed == 1) == (facts.fallbacks == 0));
  CHECK(wf_close(writer, &durable) == WF_OK);
  CHECK(durable == 13);
  no_such_writer(writer);

  char read[32] = {0};
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL);
  CHECK(fread(read, 1, sizeof read, file) == 13);
  CHECK(memcmp(read, "Hello world!\n", 13) == 0);
  fclose(file);
}

static int32_t called_off(void *asked) {
  return ++*(int *)asked == 3;
}

/* The descriptor stays the caller's, whatever becomes of the writer. */
static void an_open_file(const char *path) {
#ifndef _WIN32
  wf_writer writer = 7;
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  FILE *file = fopen(path, "w+");
  CHECK(file && fputs("0123456789", file) != EOF && fflush(file) == 0);
  int fd = fileno(file);
  CHECK(wf_open_fd(fd, NULL, NULL) == WF_INVALID);
  CHECK(wf_open_fd(-1, NULL, &writer) == WF_INVALID && writer == 0);
  CHECK(wf_open_fd(1 << 20, NULL, &writer) == WF_IO && wf_last_errno() == EBADF);
  CHECK(wf_open_fd(fd, &options, &writer) == WF_INVALID); /* to create what is there */
  CHECK(wf_open_fd(fd, NULL, &writer) == WF_OK);
  CHECK(wf_write(writer, "ab", 2, NULL) == WF_OK && wf_close(writer, NULL) == WF_OK);
  options.mode = WF_APPEND_AT;
  options.append_at = 4;
  CHECK(wf_open_fd(fd, &options, &writer) == WF_OK);
  CHECK(wf_write(writer, "xy", 2, NULL) == WF_OK && wf_close(writer, NULL) == WF_OK);
  char found[16];
  rewind(file);
  CHECK(fread(found, 1, sizeof found, file) == 6 && memcmp(found, "0123xy", 6) == 0);
  CHECK(fclose(file) == 0);
  CHECK(remove(path) == 0);
#else
  wf_writer writer = 7;
  CHECK(wf_open_fd(1, NULL, &writer) == WF_INVALID && writer == 0);
  (void)path;
#endif
}

/* Bytes are submitted, and fences made, though nobody asks; under the time limit of the test. */
static void comes_unasked(const char *path) {
  wf_writer writer;
  wf_options options;
  wf_positions at = {0};
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  CHECK(options.submit_every_ms == 100 && !options.fence_every_ms && !options.fence_bytes);
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(wf_write(writer, "abc", 3, NULL) == WF_OK);
  while (at.written < 3) CHECK(wf_get_positions(writer, &at, sizeof at) == WF_OK);
  CHECK(at.durable == 0 && wf_close(writer, NULL) == WF_OK);
  options.submit_every_ms = 0;
  for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
    options.fence_every_ms = by_bytes ? 0 : 5;
    options.fence_bytes = by_bytes ? 4096 : 0;
    options.buffer_size = 4096;
    const char page[4096] = {0};
    memset(&at, 0, sizeof at);
    CHECK(wf_open(path, &options, &writer) == WF_OK);
    CHECK(wf_write(writer, page, sizeof page, NULL) == WF_OK);
    while (at.durable < sizeof page) CHECK(wf_get_positions(writer, &at, sizeof at) == WF_OK);
    CHECK(wf_close(writer, NULL) == WF_OK);
  }
  CHECK(remove(path) == 0);
}

/* A limit that is not met: capi/src/tests/standstill.rs. */
static void ends_with_a_limit(const char *path) {
  wf_writer writer;
  uint64_t durable = 0;
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(wf_write(writer, "abc", 3, NULL) == WF_OK);
  CHECK(wf_flush_timeout(writer, 60000, &durable) == WF_OK && durable == 3);
  CHECK(wf_flush_timeout(writer, -1, NULL) == WF_OK);
  CHECK(wf_write(writer, "d", 1, NULL) == WF_OK);
  CHECK(wf_close_timeout(writer, 60000, &durable) == WF_OK && durable == 4);
  CHECK(wf_close_timeout(writer, 0, NULL) == WF_CLOSED);
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(wf_write(writer, "abc", 3, NULL) == WF_OK && wf_write_flush(writer, "", 0, NULL) == WF_OK);
  CHECK(wf_abandon(writer, &durable) == WF_OK && durable == 3);
  CHECK(wf_abandon(writer, NULL) == WF_OK);
  CHECK(wf_write(writer, "d", 1, NULL) == WF_CLOSED && wf_error(writer) == WF_CLOSED);
  CHECK(wf_close(writer, &durable) == WF_OK && durable == 3); /* nothing was lost */
  CHECK(wf_abandon(writer, NULL) == WF_CLOSED);
  CHECK(remove(path) == 0);
}

/* A flag of the caller's, looked at while a long open goes on; the file is as if it had failed. */
static void an_open_that_is_called_off(const char *path) {
  int asked = 0;
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  options.preallocate = WF_PREALLOCATE_ZERO;
  options.preallocate_bytes = 8 << 20;
  options.cancel = called_off;
  options.cancel_context = &asked;
  wf_writer writer = 1;
  CHECK(wf_open(path, &options, &writer) == WF_CANCELLED);
  CHECK(writer == 0 && asked == 3);
  char text[256];
  CHECK(wf_last_error(text, sizeof text) > 1 && strstr(text, "called off") != NULL);
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL && fread(text, 1, sizeof text, file) == 13);
  CHECK(memcmp(text, "Hello world!\n", 13) == 0);
  fclose(file);
  asked = 3; /* never again 3 */
  CHECK(wf_open(path, &options, &writer) == WF_OK);
  CHECK(asked > 3);
  CHECK(wf_close(writer, NULL) == WF_OK);
}

static void a_summary(const char *path) {
  wf_writer writer;
  wf_summary summary;
  uint32_t is_waiting = 7;
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(wf_write(writer, "12345", 5, NULL) == WF_OK);
  CHECK(wf_is_waiting_for_space(writer, NULL) == WF_INVALID);
  CHECK(wf_is_waiting_for_space(writer, &is_waiting) == WF_OK && is_waiting == 0);
  CHECK(wf_stop_waiting_for_space(writer) == WF_OK);
  CHECK(wf_close_summary(writer, NULL, sizeof summary) == WF_INVALID);
  CHECK(wf_close_summary(writer, &summary, 7) == WF_INVALID);
  CHECK(wf_close_summary(writer, &summary, sizeof summary) == WF_OK);
  CHECK(summary.accepted == 5 && summary.submitted == 5 && summary.written == 5);
  CHECK(summary.durable == 5 && summary.file_len == 5 && WF_UNKNOWN == UINT64_MAX);
}

static wf_options two_small_buffers(void) {
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  options.buffer_size = 4096;
  options.backend = WF_BACKEND_SYNC;
  options.direct = WF_DIRECT_OFF;
  return options;
}

/* As a file is after all of it: fill bytes in the place of what was lost. */
static void full_buffers(const char *path) {
  wf_options options = two_small_buffers();
  options.drive = WF_DRIVE_CALLER; /* nobody writes unless somebody waits */
  options.on_full = WF_ON_FULL_FILL;
  options.fill_byte = 0xEE;
  wf_writer writer;
  CHECK(wf_open(path, &options, &writer) == WF_OK);
  static char block[8192], file[16384];
  CHECK(wf_write(writer, block, 4096, NULL) == WF_OK);
  CHECK(wf_write(writer, block, 4096, NULL) == WF_OK);
  CHECK(wf_try_write(writer, block, 1, NULL) == WF_FULL);
  char text[256];
  CHECK(wf_last_error(text, sizeof text) > 1 && strstr(text, "1 bytes offered") != NULL);
  CHECK(wf_last_error(NULL, 0) == strlen(text) + 1);
  CHECK(wf_write(writer, block, 100, NULL) == WF_LOST);
  CHECK(wf_lose(writer, 20) == WF_OK); /* the device had no room either */
  CHECK(wf_lose(writer, UINT64_MAX) == WF_INVALID);
  CHECK(wf_write_flush(writer, NULL, 0, NULL) == WF_OK);
  CHECK(wf_write(writer, "end", 3, NULL) == WF_OK);
  CHECK(wf_lose(writer, 5) == WF_OK);

  wf_stats stats;
  CHECK(wf_get_stats(writer, &stats, sizeof stats) == WF_OK);
  CHECK(stats.overruns == 2 && stats.overrun_bytes == 125 && stats.longest_overrun == 120);
  wf_overrun places[2] = {{0, 0}, {0, 0}};
  size_t found = 0;
  CHECK(wf_get_overruns(writer, NULL, 0, &found) == WF_OK && found == 2);
  CHECK(wf_get_overruns(writer, places, 1, &found) == WF_OK && found == 2);
  CHECK(places[0].position == 8192 && places[0].bytes == 120);
  CHECK(places[1].bytes == 0); /* there was room for one */
  CHECK(wf_get_overruns(writer, places, 2, NULL) == WF_OK);
  CHECK(places[1].position == 8192 + 120 + 3 && places[1].bytes == 5);
  CHECK(wf_get_overruns(writer, NULL, 1, &found) == WF_INVALID);
  uint64_t durable = 0;
  CHECK(wf_close(writer, &durable) == WF_OK);
  CHECK(durable == 8192 + 120 + 3 + 5);

  FILE *read = fopen(path, "rb");
  CHECK(read != NULL && fread(file, 1, sizeof file, read) == durable);
  fclose(read);
  for (int i = 8192; i < (int)durable; i++)
    CHECK(file[i] == (i < 8312 || i > 8314 ? (char)0xEE : "end"[i - 8312]));
}

/* A disk that is busy: what a call says that would have to wait for it. */
static void too_early_and_too_late(const char *path) {
  wf_options options = two_small_buffers();
  options.buffer_size = 1 << 20;
  options.on_full = WF_ON_FULL_BLOCK_FOR;
  options.block_ms = 0;
  wf_writer writer;
  CHECK(wf_open(path, &options, &writer) == WF_OK);
  static char block[64 << 10];
  int status = WF_OK; /* memory is filled faster than a file */
  while (status == WF_OK) status = wf_write(writer, block, sizeof block, NULL);
  CHECK(status == WF_DEADLINE);
  do { /* a fence over more than a megabyte takes longer than to ask for it */
    wf_ticket ticket;
    while (wf_try_write(writer, block, sizeof block, NULL) == WF_OK) {
    }
    CHECK(wf_fence(writer, &ticket) == WF_OK);
    status = wf_wait(writer, ticket, 0);
    CHECK(wf_wait(writer, ticket, 60 * 1000) == WF_OK);
  } while (status == WF_OK);
  CHECK(status == WF_PENDING);
  CHECK(wf_close(writer, NULL) == WF_OK);
}

/* One record in parts, and where every push of a writer begins. */
static void parts_and_positions(const char *path) {
  wf_options options = two_small_buffers();
  options.drive = WF_DRIVE_CALLER; /* nobody writes unless somebody waits */
  options.on_full = WF_ON_FULL_DROP;
  for (int one = 0; one < 2; one++) {
    options.producers = one ? WF_PRODUCERS_ONE : WF_PRODUCERS_MANY;
    wf_writer writer;
    CHECK(wf_open(path, &options, &writer) == WF_OK);
    uint64_t at = 77;
    CHECK(wf_write(writer, "hello ", 6, &at) == WF_OK && at == 0);
    CHECK(wf_try_write(writer, "world", 5, &at) == WF_OK && at == 6);
    wf_part parts[] = {{"a ", 2}, {NULL, 0}, {"record", 6}};
    CHECK(wf_write_parts(writer, parts, 3, &at) == WF_OK && at == 11);
    CHECK(wf_try_write_parts(writer, parts, 3, &at) == WF_OK && at == 19);
    CHECK(wf_try_write_parts(writer, parts, 1, NULL) == WF_OK);
    CHECK(wf_write_parts(writer, NULL, 0, &at) == WF_OK && at == 29);
    at = 77;
    CHECK(wf_write_parts(writer, NULL, 1, &at) == WF_INVALID);
    CHECK(wf_try_write_parts(writer, parts, SIZE_MAX, &at) == WF_INVALID);
    wf_part broken[] = {{"x", 1}, {NULL, 1}};
    CHECK(wf_write_parts(writer, broken, 2, &at) == WF_INVALID);
    wf_part absurd[] = {{"x", 1}, {"x", SIZE_MAX}};
    CHECK(wf_try_write_parts(writer, absurd, 2, &at) == WF_INVALID);
    static char block[4096];
    wf_part halves[] = {{block, 2048}, {block, 2048}};
    CHECK(wf_write_parts(writer, halves, 2, NULL) == WF_OK);
    CHECK(wf_try_write_parts(writer, halves, 2, &at) == WF_FULL); /* all of it or nothing */
    CHECK(wf_write_parts(writer, halves, 2, &at) == WF_LOST);
    CHECK(at == 77);
    wf_stats stats;
    CHECK(wf_get_stats(writer, &stats, sizeof stats) == WF_OK);
    CHECK(stats.overruns == 1 && stats.overrun_bytes == 4096 && stats.bytes == 29 + 4096);
    CHECK(wf_write_flush(writer, NULL, 0, NULL) == WF_OK);
    if (one) {
      void *memory = NULL;
      CHECK(wf_grant_begin(writer, 10, &memory) == WF_OK);
      memset(memory, '!', 10);
      CHECK(wf_grant_commit(writer, 11, &at) == WF_INVALID && at == 77);
      CHECK(wf_grant_commit(writer, 3, &at) == WF_OK && at == 29 + 4096);
    }
    CHECK(wf_close(writer, NULL) == WF_OK);
    CHECK(wf_write_parts(writer, parts, 3, NULL) == WF_CLOSED);
    char start[30] = "";
    FILE *read = fopen(path, "rb");
    CHECK(read != NULL && fread(start, 1, 29, read) == 29);
    CHECK(strcmp(start, "hello worlda recorda recorda ") == 0);
    fclose(read);
  }
}

static void grants(const char *path) {
  wf_options options = two_small_buffers();
  options.producers = WF_PRODUCERS_ONE;
  options.grant_limit = 1000;
  wf_writer writer;
  void *memory = NULL;
  CHECK(wf_open(path, &options, &writer) == WF_OK);
  CHECK(wf_grant_commit(writer, 0, NULL) == WF_INVALID);
  CHECK(wf_grant_abandon(writer) == WF_INVALID);
  CHECK(wf_grant_begin(writer, 1000, NULL) == WF_INVALID);
  CHECK(wf_grant_begin(writer, 1001, &memory) == WF_TOO_LONG);
  CHECK(wf_grant_begin(writer, SIZE_MAX, &memory) == WF_TOO_LONG);
  uint64_t number = 0;
  for (int round = 0; round < 1000; round++) { /* many times round the buffers, and across their end */
    int status = wf_grant_begin(writer, 999, &memory);
    if (status == WF_FULL) {
      CHECK(wf_write_flush(writer, NULL, 0, NULL) == WF_OK);
      status = wf_grant_begin(writer, 999, &memory);
    }
    CHECK(status == WF_OK);
    memset(memory, 1 + (int)(number % 251), 999);
    CHECK(wf_grant_begin(writer, 1, &memory) == WF_BUSY);
    CHECK(wf_try_write(writer, "x", 1, NULL) == WF_BUSY);
    CHECK(wf_write(writer, "x", 1, NULL) == WF_BUSY);
    CHECK(wf_write_flush(writer, "x", 1, NULL) == WF_BUSY);
    CHECK(wf_lose(writer, 1) == WF_BUSY);
    CHECK(wf_close(writer, NULL) == WF_BUSY);
    CHECK(wf_grant_commit(writer, 1000, NULL) == WF_INVALID);
    if (round % 5 == 0) {
      CHECK(wf_grant_abandon(writer) == WF_OK);
    } else {
      CHECK(wf_grant_commit(writer, round % 2 ? 999 : 500, NULL) == WF_OK);
      number++;
    }
  }
  wf_stats stats;
  CHECK(wf_get_stats(writer, &stats, sizeof stats) == WF_OK);
  CHECK(stats.writes == number && stats.overruns == 0);
  uint64_t durable = 0;
  CHECK(wf_close(writer, &durable) == WF_OK);
  CHECK(durable == stats.bytes);
  FILE *read = fopen(path, "rb");
  CHECK(read != NULL);
  number = 0;
  for (int round = 0; round < 1000; round++) {
    if (round % 5 == 0) continue;
    for (int left = round % 2 ? 999 : 500; left > 0; left--)
      CHECK(fgetc(read) == 1 + (int)(number % 251));
    number++;
  }
  CHECK(fgetc(read) == EOF);
  fclose(read);
}

typedef struct {
  wf_writer writer;
  uint64_t durable;
} context;

static void header_of(void *of, uint64_t durable, void *header) {
  context *it = of;
  wf_positions now; /* it may call the library */
  CHECK(wf_get_positions(it->writer, &now, sizeof now) == WF_OK);
  CHECK(now.durable >= durable);
  CHECK(wf_close(it->writer, NULL) == WF_BUSY); /* it would wait for itself */
  it->durable = durable;
  memcpy(header, &durable, sizeof durable);
}

static void checkpoints(const char *path) {
  context it = {0, 0};
  uint64_t durable = 0, header[2] = {0, 0};
  CHECK(wf_open(path, NULL, &it.writer) == WF_OK);
  CHECK(wf_checkpoint(it.writer, 0, 8, header_of, &it, &durable) == WF_RANGE);
  CHECK(wf_write(it.writer, header, sizeof header, NULL) == WF_OK);
  CHECK(wf_write(it.writer, "data", 4, NULL) == WF_OK);
  CHECK(wf_checkpoint(it.writer, 0, 8, NULL, &it, &durable) == WF_INVALID);
  CHECK(wf_checkpoint(it.writer, 0, 32769, header_of, &it, &durable) == WF_INVALID);
  CHECK(wf_checkpoint(it.writer, UINT64_MAX, 8, header_of, &it, &durable) == WF_RANGE);
  CHECK(wf_checkpoint(it.writer, 8, 8, header_of, &it, &durable) == WF_OK);
  CHECK(durable == 20 && it.durable == 20);
  FILE *read = fopen(path, "rb");
  CHECK(read != NULL && fread(header, 1, sizeof header, read) == sizeof header);
  CHECK(header[0] == 0 && header[1] == 20);
  fclose(read);
  CHECK(wf_close(it.writer, NULL) == WF_OK);
}

/* A ticket says whose it is, also where its numbers would fit. */
static void tickets_of_others(const char *path, const char *other) {
  wf_writer first, second;
  wf_ticket ticket;
  CHECK(wf_open(path, NULL, &first) == WF_OK);
  CHECK(wf_open(other, NULL, &second) == WF_OK);
  CHECK(wf_write(first, "12345", 5, NULL) == WF_OK);
  CHECK(wf_write(second, "12345", 5, NULL) == WF_OK);
  CHECK(wf_fence(first, &ticket) == WF_OK);
  CHECK(wf_wait(second, ticket, -1) == WF_INVALID);
  CHECK(wf_wait(first, ticket, -1) == WF_OK);
  CHECK(wf_close(first, NULL) == WF_OK);
  CHECK(wf_open(path, NULL, &first) == WF_OK); /* in the same place */
  CHECK(wf_wait(first, ticket, -1) == WF_INVALID);
  CHECK(wf_close(first, NULL) == WF_OK);
  CHECK(wf_close(second, NULL) == WF_OK);
}

#ifndef _WIN32
/* `_Fork` runs no handlers either, and not every C library has it. */
static pid_t fork_without_handlers(void) {
#ifdef __linux__
  return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#else
  return fork();
#endif
}
#endif

static void a_forked_child(const char *path, int without_handlers) {
#ifndef _WIN32
  wf_writer writer;
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(wf_write_flush(writer, "parent", 6, NULL) == WF_OK);
  pid_t child = without_handlers ? fork_without_handlers() : fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    CHECK(wf_write_flush(writer, "child", 5, NULL) == WF_FORKED);
    CHECK(wf_error(writer) == WF_FORKED);
    CHECK(wf_patch(writer, 0, "C", 1) == WF_FORKED);
    wf_summary summary;
    CHECK(wf_close_summary(writer, &summary, sizeof summary) == WF_FORKED);
    CHECK(summary.file_len == WF_UNKNOWN);
    no_such_writer(writer);
    _exit(0);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  uint64_t durable = 0;
  CHECK(wf_close(writer, &durable) == WF_OK);
  CHECK(durable == 6);
#else
  (void)path;
  (void)without_handlers;
#endif
}

static void many_writers(const char *folder) {
  enum { MANY = 64 };
  wf_options options;
  wf_options_init(&options, sizeof options);
  options.buffer_size = 4096;
  options.backend = WF_BACKEND_SYNC;
  options.drive = WF_DRIVE_CALLER;
  wf_writer writers[MANY];
  char path[4096];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < MANY; i++) {
      snprintf(path, sizeof path, "%s/many%d", folder, i);
      CHECK(wf_open(path, &options, &writers[i]) == WF_OK);
    }
    for (int i = 0; i < MANY; i++) CHECK(wf_write(writers[i], "x", 1, NULL) == WF_OK);
    for (int i = 0; i < MANY; i++) CHECK(wf_close(writers[i], NULL) == WF_OK);
    for (int i = 0; i < MANY; i++) CHECK(wf_close(writers[i], NULL) == WF_CLOSED);
  }
}

static intptr_t send(wf_mmioinfo *info, uint32_t message, const void *first, intptr_t second) {
  return wf_mmio_procedure(info, message, (intptr_t)first, second);
}

static void messages(const char *path) {
  char name[4200], other[4200], text[256];
  snprintf(name, sizeof name, "%s.a+", path);
  snprintf(other, sizeof other, "%s.b+", path);
  wf_mmioinfo info = {0};
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  options.lock = 2;
  CHECK(wf_mmio_settings(&options, 0, 0) == WF_INVALID);
  options.lock = 1;
  CHECK(wf_mmio_settings(&options, 0, 0) == WF_OK);
  CHECK(wf_mmio_settings(NULL, 0, 1 << 20) == WF_OK);
  info.dwFlags = WF_MMIO_CREATE | WF_MMIO_READWRITE;
  CHECK(send(&info, WF_MMIOM_OPEN, name, 0) == 0);
  CHECK(send(&info, WF_MMIOM_WRITE, "message", 7) == 7);
  CHECK(info.lDiskOffset == 7);
  CHECK(send(&info, WF_MMIOM_WRITEFLUSH, "s", 1) == 1);
  uint64_t durable = 0;
  CHECK(send(&info, WF_MMIOM_DURABLE, &durable, 0) == 0);
  CHECK(durable == 8);
  CHECK(wf_mmio_procedure(&info, WF_MMIOM_SEEK, 3, WF_MMIO_SEEK_SET) == 3);
  CHECK(wf_mmio_procedure(&info, WF_MMIOM_SEEK, 1, WF_MMIO_SEEK_CUR) == 4);
  CHECK(wf_mmio_procedure(&info, WF_MMIOM_SEEK, -1, WF_MMIO_SEEK_SET) == -1);
  CHECK(wf_mmio_procedure(&info, WF_MMIOM_SEEK, 0, 9) == -1);
  CHECK(send(&info, WF_MMIOM_READ, text, sizeof text) == -1); /* nobody knows from where */
  CHECK(wf_mmio_procedure(&info, WF_MMIOM_SEEK, 4, WF_MMIO_SEEK_SET) == 4);
  CHECK(send(&info, WF_MMIOM_READ, text, sizeof text) == 4 && memcmp(text, "ages", 4) == 0);
  CHECK(send(&info, WF_MMIOM_READ, text, sizeof text) == 0);
  CHECK(send(&info, WF_MMIOM_READ, NULL, 5) == -1);
  CHECK(wf_mmio_procedure(&info, WF_MMIOM_SEEK, 0, WF_MMIO_SEEK_END) == 8);
  CHECK(send(&info, WF_MMIOM_FENCE, NULL, 0) == 0);
  CHECK(send(&info, WF_MMIOM_WRITE, NULL, 5) == -1); /* remembered: CLOSE has to say so */
  CHECK(send(&info, WF_MMIOM_LAST_ERROR, text, sizeof text) == WF_MMIOERR_CANNOTWRITE);
  CHECK(strlen(text) > 0);
  CHECK(send(&info, WF_MMIOM_LAST_ERROR, NULL, 0) == WF_MMIOERR_CANNOTWRITE);
  CHECK(send(&info, WF_MMIOM_CLOSE, NULL, 0) == WF_MMIOERR_CANNOTWRITE);
  CHECK(send(&info, WF_MMIOM_CLOSE, NULL, 0) == WF_MMIOERR_CANNOTCLOSE);

  CHECK(send(NULL, WF_MMIOM_WRITE, "x", 1) == -1);
  CHECK(send(NULL, WF_MMIOM_RENAME, name, (intptr_t)other) == 0);
  CHECK(send(NULL, WF_MMIOM_RENAME, name, (intptr_t)other) == WF_MMIOERR_FILENOTFOUND);
  CHECK(send(NULL, WF_MMIOM_RENAME, NULL, 0) != 0);
  CHECK(send(NULL, WF_MMIOM_LAST_ERROR, text, sizeof text) != 0 && strlen(text) > 0);
  info.dwFlags = WF_MMIO_EXIST;
  CHECK(send(&info, WF_MMIOM_OPEN, other, 0) == 0);
  CHECK(send(&info, WF_MMIOM_OPEN, name, 0) == WF_MMIOERR_FILENOTFOUND);
  info.dwFlags = WF_MMIO_DELETE;
  CHECK(send(&info, WF_MMIOM_OPEN, other, 0) == 0);
  CHECK(send(&info, WF_MMIOM_OPEN, other, 0) == WF_MMIOERR_FILENOTFOUND);
}

static void what_a_status_means(const char *folder) {
  for (int status = WF_CANCELLED; status <= WF_LOST; status++) {
    CHECK(strlen(wf_status_text(status)) > 3);
    CHECK(strcmp(wf_status_text(status), wf_status_text(99)) != 0);
  }
  CHECK(wf_status_text(INT32_MIN) != NULL);
  char nowhere[4096];
  snprintf(nowhere, sizeof nowhere, "%s/nowhere/file", folder);
  wf_writer writer;
  CHECK(wf_last_errno() == 0);
  CHECK(wf_open(nowhere, NULL, &writer) == WF_IO);
#ifndef _WIN32
  CHECK(wf_last_errno() == ENOENT);
#endif
  CHECK(wf_write(writer, "x", 1, NULL) == WF_CLOSED && wf_last_errno() == 0);
}

#ifdef __linux__
/* A child that is killed with bytes that nobody has written. */
static void what_survives_a_kill(const char *path) {
  char ring[100];
  snprintf(ring, sizeof ring, "/dev/shm/writeflush-contract-%d.ring", (int)getpid());
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK && options.survive_kill == NULL);
  options.survive_kill = ring;
  options.submit_every_ms = 0;
  CHECK(wf_mmio_settings(&options, 0, 0) == WF_INVALID); /* one name for many files */
  fflush(NULL);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    wf_writer writer;
    CHECK(wf_open(path, &options, &writer) == WF_OK);
    CHECK(wf_write(writer, "accepted", 8, NULL) == WF_OK);
    kill(getpid(), SIGKILL);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
  uint64_t bytes = 7;
  wf_writer writer = 1;
  CHECK(wf_open(path, &options, &writer) == WF_INVALID && writer == 0); /* it would give that up */
  CHECK(wf_recover_ring(NULL, path, &bytes) == WF_INVALID);
  CHECK(wf_recover_ring(ring, NULL, &bytes) == WF_INVALID && bytes == 7);
  CHECK(wf_recover_ring(ring, path, &bytes) == WF_OK && bytes == 8);
  CHECK(wf_recover_ring(ring, path, &bytes) == WF_OK && bytes == 0); /* it is gone */
  FILE *file = fopen(path, "rb");
  char found[20] = {0};
  CHECK(file != NULL && fread(found, 1, sizeof found, file) == 8 && fclose(file) == 0);
  CHECK(strcmp(found, "accepted") == 0);
  CHECK(wf_recover_ring(path, path, NULL) == WF_INVALID); /* no ring file */
}
#endif

int main(int argc, char **argv) {
  CHECK(argc == 2);
  char path[4096];
  snprintf(path, sizeof path, "%s/file", argv[1]);
  CHECK(wf_last_error(NULL, 0) == 1);
  CHECK(strcmp(wf_version(), WF_VERSION) == 0);
  what_a_status_means(argv[1]);
  const wf_writer strangers[] = {0, 1, 42, UINT64_MAX, (uint64_t)1 << 32, ((uint64_t)3 << 32) | 5};
  for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
    no_such_writer(strangers[i]);
    no_such_driver(strangers[i], path);
  }
  options_that_cannot_be(path);
  an_open_file(path);
  comes_unasked(path);
  ends_with_a_limit(path);
  a_whole_life(path);
  an_open_that_is_called_off(path);
  a_summary(path);
  full_buffers(path);
  too_early_and_too_late(path);
  parts_and_positions(path);
  grants(path);
  checkpoints(path);
  char other[4096];
  snprintf(other, sizeof other, "%s/other", argv[1]);
  tickets_of_others(path, other);
  a_forked_child(path, 0);
  a_forked_child(path, 1);
  many_writers(argv[1]);
#ifdef __linux__
  what_survives_a_kill(path);
#endif
  drivers_that_cannot_be();
  a_driver_decides(path);
  messages(path);
  return 0;
}
