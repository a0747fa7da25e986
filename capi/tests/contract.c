/* Every function of the header, with good and with hostile arguments. Exits 0 if all is well; else
 * says the line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writeflush.h"

_Static_assert(sizeof(wf_mmioinfo) == (sizeof(void *) == 8 ? 100 : 72), "as in mmsystem.h");

#define CHECK(what)                                                                   \
  do {                                                                                \
    if (!(what)) {                                                                    \
      char why[512];                                                                  \
      wf_last_error(why, sizeof why);                                                 \
      fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #what, why);            \
      exit(1);                                                                        \
    }                                                                                 \
  } while (0)

static void no_such_writer(wf_writer writer) {
  wf_ticket ticket = {0, 0};
  uint64_t durable = 7;
  CHECK(wf_write(writer, "x", 1) == WF_CLOSED);
  CHECK(wf_try_write(writer, "x", 1) == WF_CLOSED);
  CHECK(wf_write_flush(writer, "x", 1, &durable) == WF_CLOSED);
  CHECK(wf_patch(writer, 0, "x", 1) == WF_CLOSED);
  CHECK(wf_fence(writer, &ticket) == WF_CLOSED);
  CHECK(wf_wait(writer, ticket, -1) == WF_CLOSED);
  CHECK(wf_get_positions(writer, NULL) == WF_CLOSED);
  CHECK(wf_get_stats(writer, NULL) == WF_CLOSED);
  CHECK(wf_durability(writer, NULL, 0, NULL) == WF_CLOSED);
  CHECK(wf_close(writer, &durable) == WF_CLOSED);
  CHECK(durable == 7);
}

static void options_that_cannot_be(const char *path) {
  wf_writer writer = 1;
  wf_options options;
#define WRONG(field, value)                                  \
  CHECK(wf_options_default(&options) == WF_OK);              \
  options.field = value;                                     \
  CHECK(wf_open(path, &options, &writer) == WF_INVALID);     \
  CHECK(writer == 0)
  WRONG(size, 0);
  WRONG(buffer_size, 1000);
  WRONG(buffer_size, UINT64_MAX);
  WRONG(buffers, 1);
  WRONG(buffers, UINT32_MAX);
  WRONG(mode, 9);
  WRONG(backend, 9);
  WRONG(direct, 9);
  WRONG(drive, 9);
  WRONG(on_full, 9);
  WRONG(preallocate, 9);
  WRONG(fence, 9);
  options.on_full = WF_ON_FULL_FILL;
  WRONG(memory_limit, 1);
  CHECK(wf_open(NULL, NULL, &writer) == WF_INVALID);
  CHECK(wf_open(path, NULL, NULL) == WF_INVALID);
  CHECK(wf_open("/no/such/folder/file", NULL, &writer) == WF_IO);
  CHECK(wf_options_default(NULL) == WF_INVALID);
}

static void a_whole_life(const char *path) {
  wf_writer writer;
  wf_writer second;
  CHECK(wf_open(path, NULL, &writer) == WF_OK);
  CHECK(writer != 0);
  CHECK(wf_open(path, NULL, &second) == WF_LOCKED);
  CHECK(wf_write(writer, "hello ", 6) == WF_OK);
  CHECK(wf_try_write(writer, "world", 5) == WF_OK);
  CHECK(wf_write(writer, NULL, 0) == WF_OK);
  CHECK(wf_write(writer, NULL, 1) == WF_INVALID);
  CHECK(wf_write(writer, "x", (size_t)-1) == WF_INVALID);
  CHECK(wf_try_write(writer, "x", SIZE_MAX / 2 + 1) == WF_INVALID);
  CHECK(wf_write_flush(writer, NULL, 5, NULL) == WF_INVALID);
  CHECK(wf_patch(writer, 0, NULL, 5) == WF_INVALID);
  CHECK(wf_patch(writer, 8, "abcd", 4) == WF_RANGE);
  CHECK(wf_patch(writer, UINT64_MAX, "abcd", 4) == WF_RANGE);
  CHECK(wf_patch(writer, 0, "H", 1) == WF_OK);
  static char many[4 << 20];
  CHECK(wf_try_write(writer, many, sizeof many) == WF_TOO_LONG);

  wf_ticket ticket;
  CHECK(wf_fence(writer, NULL) == WF_OK);
  CHECK(wf_fence(writer, &ticket) == WF_OK);
  CHECK(ticket.position == 11);
  CHECK(wf_wait(writer, ticket, -1) == WF_OK);
  CHECK(wf_wait(writer, ticket, 0) == WF_OK);
  wf_ticket absurd = {UINT64_MAX, 0};
  CHECK(wf_wait(writer, absurd, -1) == WF_INVALID);
  absurd = (wf_ticket){0, 99};
  CHECK(wf_wait(writer, absurd, -1) == WF_INVALID);

  wf_positions now;
  CHECK(wf_get_positions(writer, &now) == WF_OK);
  CHECK(now.accepted == 11 && now.durable == 11);
  CHECK(wf_get_positions(writer, NULL) == WF_OK);
  uint64_t durable = 0;
  CHECK(wf_write_flush(writer, "!\n", 2, &durable) == WF_OK);
  CHECK(durable == 13);
  wf_stats stats;
  CHECK(wf_get_stats(writer, &stats) == WF_OK);
  CHECK(stats.bytes == 13 && stats.patches == 1 && stats.fence_max > 0);

  char text[16];
  size_t needed = 0;
  CHECK(wf_durability(writer, text, sizeof text, &needed) == WF_OK);
  CHECK(needed > sizeof text && strlen(text) == sizeof text - 1);
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

static void full_buffers(const char *path) {
  wf_options options;
  wf_writer writer;
  wf_options_default(&options);
  options.buffer_size = 4096;
  options.backend = WF_BACKEND_SYNC;
  options.drive = WF_DRIVE_CALLER; /* nobody writes unless somebody waits */
  options.on_full = WF_ON_FULL_DROP;
  CHECK(wf_open(path, &options, &writer) == WF_OK);
  static char block[4096];
  CHECK(wf_write(writer, block, sizeof block) == WF_OK);
  CHECK(wf_write(writer, block, sizeof block) == WF_OK);
  CHECK(wf_try_write(writer, block, 1) == WF_FULL);
  char text[256];
  CHECK(wf_last_error(text, sizeof text) > 1 && strstr(text, "1 bytes offered") != NULL);
  CHECK(wf_last_error(NULL, 0) == strlen(text) + 1);
  CHECK(wf_write(writer, block, 100) == WF_LOST);
  wf_stats stats;
  CHECK(wf_get_stats(writer, &stats) == WF_OK);
  CHECK(stats.overrun_bytes == 100);
  CHECK(wf_close(writer, NULL) == WF_OK);
}

static void many_writers(const char *folder) {
  enum { MANY = 64 };
  wf_options options;
  wf_options_default(&options);
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
    for (int i = 0; i < MANY; i++) CHECK(wf_write(writers[i], "x", 1) == WF_OK);
    for (int i = 0; i < MANY; i++) CHECK(wf_close(writers[i], NULL) == WF_OK);
    for (int i = 0; i < MANY; i++) CHECK(wf_close(writers[i], NULL) == WF_CLOSED);
  }
}

static intptr_t send(wf_mmioinfo *info, uint32_t message, const void *first, intptr_t second) {
  return wf_mmio_procedure(info, message, (intptr_t)first, second);
}

static void messages(const char *path) {
  char name[4200];
  snprintf(name, sizeof name, "%s+", path);
  wf_mmioinfo info = {0};
  CHECK(wf_mmio_settings(NULL, 0, 1 << 20) == WF_OK);
  info.dwFlags = WF_MMIO_CREATE | WF_MMIO_WRITE;
  CHECK(send(&info, WF_MMIOM_OPEN, name, 0) == 0);
  CHECK(send(&info, WF_MMIOM_WRITE, "message", 7) == 7);
  CHECK(info.lDiskOffset == 7);
  CHECK(send(&info, WF_MMIOM_WRITEFLUSH, "s", 1) == 1);
  uint64_t durable = 0;
  CHECK(send(&info, WF_MMIOM_DURABLE, &durable, 0) == 0);
  CHECK(durable == 8);
  CHECK(send(&info, WF_MMIOM_CLOSE, NULL, 0) == 0);
  CHECK(send(&info, WF_MMIOM_CLOSE, NULL, 0) == 260);
  CHECK(send(NULL, WF_MMIOM_WRITE, "x", 1) == -1);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  char path[4096];
  snprintf(path, sizeof path, "%s/file", argv[1]);
  CHECK(wf_last_error(NULL, 0) == 1);
  CHECK(strlen(wf_version()) > 0);
  const wf_writer strangers[] = {0, 1, 42, UINT64_MAX, (uint64_t)1 << 32, ((uint64_t)3 << 32) | 5};
  for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) no_such_writer(strangers[i]);
  options_that_cannot_be(path);
  a_whole_life(path);
  full_buffers(path);
  many_writers(argv[1]);
  messages(path);
  return 0;
}
