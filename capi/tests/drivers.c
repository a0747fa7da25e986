/* Drivers that writers share: eight files from several threads, closed in any order; a driver that is
 * closed first; a child. Argument: a folder. Exits 0 if all is well; else says the line.
 *
 * Wrong numbers and options: contract.c. */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <signal.h>
#include <sys/syscall.h>
#endif

#include "check.h"

enum { FILES = 8, THREADS = 4, RECORDS = 40, LONGEST = 6000 };

static const char *folder;
static wf_driver driver;
static wf_writer writers[FILES];
static int written[FILES]; /* records that each file has */

static const char *path_of(int file, char path[4096]) {
  snprintf(path, 4096, "%s/shared-%d", folder, file);
  return path;
}

/* The bytes that a file has at this place, and at no other. */
static size_t record(int file, int number, char bytes[LONGEST]) {
  size_t len = 1 + (size_t)(file * 131 + number * 617) % LONGEST;
  memset(bytes, 1 + (file * RECORDS + number) % 251, len);
  return len;
}

static wf_driver started(uint32_t backend, uint32_t drive) {
  wf_driver number = 0;
  wf_driver_options options;
  CHECK(wf_driver_options_init(&options, sizeof options) == WF_OK);
  CHECK(options.depth == 256 && options.memory_limit == 1 << 30);
  options.backend = backend;
  options.drive = drive;
  CHECK(wf_driver_start(&options, &number) == WF_OK && number != 0);
  return number;
}

static wf_options sharing(wf_driver number) {
  wf_options options;
  CHECK(wf_options_init(&options, sizeof options) == WF_OK);
  options.buffer_size = 4096;
  options.driver = number;
  return options;
}

static void write_record(int file) {
  char bytes[LONGEST];
  size_t len = record(file, written[file]++, bytes);
  CHECK(wf_write(writers[file], bytes, len, NULL) == WF_OK);
}

/* Opens its files while the others are at work, and asks for fences of all. */
static void *records(void *first) {
  wf_ticket tickets[FILES];
  wf_options options = sharing(driver);
  char path[4096];
  int file = *(int *)first, end = file + FILES / THREADS;
  for (; file < end; file++) {
    CHECK(wf_open(path_of(file, path), &options, &writers[file]) == WF_OK);
    for (int number = 0; number < RECORDS; number++) {
      write_record(file);
      CHECK(wf_fence(writers[file], &tickets[number % FILES]) == WF_OK);
      if (number % FILES == FILES - 1)
        for (int i = 0; i < FILES; i++) CHECK(wf_wait(writers[file], tickets[i], -1) == WF_OK);
    }
  }
  return NULL;
}

static void on_threads(void *work(void *)) {
  pthread_t threads[THREADS];
  int firsts[THREADS];
  for (int i = 0; i < THREADS; i++) {
    firsts[i] = i * FILES / THREADS;
    CHECK(pthread_create(&threads[i], NULL, work, &firsts[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* It is exactly what was written to it. */
static void close_and_look(int file) {
  char path[4096], bytes[LONGEST], found[LONGEST];
  uint64_t durable = 0, len = 0;
  CHECK(wf_close(writers[file], &durable) == WF_OK);
  FILE *read = fopen(path_of(file, path), "rb");
  CHECK(read != NULL);
  for (int number = 0; number < written[file]; number++) {
    size_t next = record(file, number, bytes);
    CHECK(fread(found, 1, next, read) == next && memcmp(found, bytes, next) == 0);
    len += next;
  }
  CHECK(fgetc(read) == EOF && durable == len);
  fclose(read);
}

static void *closes(void *first) {
  int file = *(int *)first, end = file + FILES / THREADS;
  for (; file < end; file++) close_and_look(file);
  return NULL;
}

static uint64_t memory_of(wf_driver number) {
  wf_driver_facts facts;
  CHECK(wf_driver_get_facts(number, &facts, sizeof facts) == WF_OK);
  return facts.memory;
}

/* The order of the closes: as opened, backwards, from the middle; or each thread its own. */
static const int orders[][FILES] = {
    {0, 1, 2, 3, 4, 5, 6, 7}, {7, 6, 5, 4, 3, 2, 1, 0}, {4, 3, 6, 1, 0, 7, 2, 5}};
enum { ORDERS = sizeof orders / sizeof *orders };

static void eight_files(uint32_t backend, uint32_t drive, int order, int driver_first) {
  memset(written, 0, sizeof written);
  driver = started(backend, drive);
  on_threads(records);
  wf_facts facts;
  CHECK(wf_get_facts(writers[0], &facts, sizeof facts) == WF_OK);
  CHECK(backend == WF_BACKEND_AUTO || facts.backend == backend);
  CHECK(memory_of(driver) > FILES * 2 * 4096);
  if (driver_first) CHECK(wf_driver_close(driver) == WF_OK);
  if (order == ORDERS) {
    on_threads(closes);
  } else {
    for (int i = 0; i < FILES; i++) {
      close_and_look(orders[order][i]);
      for (int k = i + 1; k < FILES; k++) { /* the others go on */
        write_record(orders[order][k]);
        CHECK(wf_write_flush(writers[orders[order][k]], NULL, 0, NULL) == WF_OK);
      }
    }
  }
  if (driver_first) {
    CHECK(wf_driver_close(driver) == WF_CLOSED);
  } else {
    CHECK(memory_of(driver) == 0 && wf_driver_close(driver) == WF_OK);
  }
}

static void *closes_it(void *closed) {
  if (wf_driver_close(driver) == WF_OK) __atomic_fetch_add((int *)closed, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

/* Of several who close a driver, while others join it, one does. */
static void closed_once(void) {
  for (int round = 0; round < 50; round++) {
    pthread_t threads[THREADS];
    int closed = 0;
    char path[4096];
    driver = started(WF_BACKEND_SYNC, WF_DRIVE_THREAD);
    wf_options options = sharing(driver);
    for (int i = 0; i < THREADS; i++)
      CHECK(pthread_create(&threads[i], NULL, closes_it, &closed) == 0);
    wf_writer writer;
    wf_status status = wf_open(path_of(0, path), &options, &writer);
    CHECK(status == WF_OK || status == WF_CLOSED);
    if (status == WF_OK) {
      CHECK(wf_write_flush(writer, "joined", 6, NULL) == WF_OK);
      CHECK(wf_close(writer, NULL) == WF_OK);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(closed == 1);
  }
}

static void memory_together(void) {
  wf_driver_options of_driver;
  CHECK(wf_driver_options_init(&of_driver, sizeof of_driver) == WF_OK);
  of_driver.memory_limit = 1 << 20;
  CHECK(wf_driver_start(&of_driver, &driver) == WF_OK);
  wf_options options = sharing(driver);
  options.buffer_size = 256 << 10;
  wf_writer first, second = 7;
  char path[4096], text[512];
  CHECK(wf_open(path_of(0, path), &options, &first) == WF_OK);
  remove(path_of(1, path));
  CHECK(wf_open(path, &options, &second) == WF_INVALID && second == 0);
  CHECK(wf_last_error(text, sizeof text) > 1 && strstr(text, "the driver's memory limit"));
  CHECK(access(path, F_OK) != 0);
  CHECK(wf_close(first, NULL) == WF_OK && memory_of(driver) == 0);
  CHECK(wf_open(path, &options, &second) == WF_OK && wf_close(second, NULL) == WF_OK);
  CHECK(wf_driver_close(driver) == WF_OK);
}

/* `_Fork` runs no handlers either, and not every C library has it. */
static pid_t fork_without_handlers(void) {
#ifdef __linux__
  return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#else
  return fork();
#endif
}

/* The driver is the parent's: nobody waits for its thread, which is not there. */
static void a_forked_child(int without_handlers) {
  char path[4096], other[4096];
  driver = started(WF_BACKEND_AUTO, WF_DRIVE_THREAD);
  wf_options options = sharing(driver);
  wf_writer writer, none = 7;
  CHECK(wf_open(path_of(0, path), &options, &writer) == WF_OK);
  CHECK(wf_write_flush(writer, "parent", 6, NULL) == WF_OK);
  remove(path_of(1, other));
  pid_t child = without_handlers ? fork_without_handlers() : fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    CHECK(wf_write_flush(writer, "child", 5, NULL) == WF_FORKED);
    CHECK(wf_driver_close(driver) == WF_FORKED);
    CHECK(wf_open(other, &options, &none) == WF_FORKED && none == 0);
    CHECK(access(other, F_OK) != 0);
    CHECK(wf_close(writer, NULL) == WF_FORKED);
    CHECK(wf_driver_close(driver) == WF_FORKED); /* it stays the parent's */
    if (!without_handlers) {                     /* and one of its own */
      wf_driver own = started(WF_BACKEND_AUTO, WF_DRIVE_THREAD);
      options.driver = own;
      CHECK(wf_open(other, &options, &none) == WF_OK);
      CHECK(wf_write_flush(none, "own", 3, NULL) == WF_OK);
      CHECK(wf_driver_close(own) == WF_OK && wf_close(none, NULL) == WF_OK);
    }
    _exit(0);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(wf_write_flush(writer, " goes on", 8, NULL) == WF_OK);
  CHECK(wf_driver_close(driver) == WF_OK);
  uint64_t durable = 0;
  CHECK(wf_close(writer, &durable) == WF_OK && durable == 14);
}

static intptr_t send(wf_mmioinfo *info, uint32_t message, const void *first, intptr_t second) {
  return wf_mmio_procedure(info, message, (intptr_t)first, second);
}

/* The settings keep a driver whose number is closed, until others take their place. */
static void messages(void) {
  wf_mmioinfo infos[FILES];
  memset(infos, 0, sizeof infos);
  driver = started(WF_BACKEND_AUTO, WF_DRIVE_THREAD);
  wf_options options = sharing(driver);
  CHECK(wf_mmio_settings(&options, 0, 0) == WF_OK);
  char path[4096], name[4200];
  for (int file = 0; file < FILES; file++) {
    snprintf(name, sizeof name, "%s+", path_of(file, path));
    infos[file].dwFlags = WF_MMIO_CREATE | WF_MMIO_READWRITE;
    CHECK(send(&infos[file], WF_MMIOM_OPEN, name, 0) == 0);
    CHECK(send(&infos[file], WF_MMIOM_WRITE, "RIFF", 4) == 4);
    if (file == FILES / 2) {
      CHECK(memory_of(driver) > 0 && wf_driver_close(driver) == WF_OK);
      CHECK(wf_mmio_settings(&options, 0, 0) == WF_CLOSED); /* those before are in force */
    }
  }
  for (int file = FILES - 1; file >= 0; file--) {
    uint64_t durable = 0;
    CHECK(send(&infos[file], WF_MMIOM_WRITEFLUSH, "WAVE", 4) == 4);
    CHECK(send(&infos[file], WF_MMIOM_DURABLE, &durable, 0) == 0 && durable == 8);
    CHECK(send(&infos[file], WF_MMIOM_CLOSE, NULL, 0) == 0);
  }
  CHECK(wf_mmio_settings(NULL, 1000, 0) == WF_OK);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  folder = argv[1];
  static const uint32_t backends[] = {WF_BACKEND_AUTO, WF_BACKEND_SYNC};
  static const uint32_t drives[] = {WF_DRIVE_THREAD, WF_DRIVE_CALLER, WF_DRIVE_POLL};
  int turn = 0;
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < 3; k++)
      for (int driver_first = 0; driver_first < 2; driver_first++, turn++)
        eight_files(backends[i], drives[k], (turn + turn / 4) % (ORDERS + 1), driver_first);
  closed_once();
  memory_together();
  a_forked_child(0);
  a_forked_child(1);
  messages();
  return 0;
}
