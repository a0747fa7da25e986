/* Loaded before the C library: every flush of take.wav fails, whatever thread asks for it. (strace
 * counts what it injects by thread.) */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int file) {
  static const char end[] = "/take.wav";
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < (ssize_t)sizeof end) return 0;
  path[length] = 0;
  return strcmp(path + length + 1 - sizeof end, end) == 0;
}

static int flush(int file, long call) {
  if (!fails(file)) return (int)syscall(call, file);
  errno = EIO;
  return -1;
}

int fsync(int file) { return flush(file, SYS_fsync); }

int fdatasync(int file) { return flush(file, SYS_fdatasync); }
