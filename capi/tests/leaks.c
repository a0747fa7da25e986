/* Opens writers and never closes them. Arguments: a folder; with a second one, the shared library,
 * which is then loaded, used and given back by hand. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writeflush.h"

typedef wf_status open_call(const char *, const wf_options *, wf_writer *);
typedef wf_status init_call(wf_options *, size_t);
typedef wf_status driver_call(const wf_driver_options *, wf_driver *);
typedef wf_status write_call(wf_writer, const void *, size_t, uint64_t *);

static void must(int fine, const char *what) {
  if (!fine) {
    fprintf(stderr, "%s\n", what);
    exit(1);
  }
}

/* The last one shares a driver. */
static void leak(const char *folder, open_call *open, init_call *init, driver_call *driver,
                 write_call *write) {
  static const uint32_t drives[] = {WF_DRIVE_THREAD, WF_DRIVE_CALLER, WF_DRIVE_POLL, WF_DRIVE_THREAD};
  for (int i = 0; i < 4; i++) {
    char path[4096];
    wf_options options;
    wf_writer writer = 0;
    snprintf(path, sizeof path, "%s/%d", folder, i);
    must(init(&options, sizeof options) == WF_OK, "init");
    options.drive = drives[i];
    if (i == 3) must(driver(NULL, &options.driver) == WF_OK, "start");
    must(open(path, &options, &writer) == WF_OK, "open");
    for (int n = 0; n < 1000; n++)
      must(write(writer, "a line\n", 7, NULL) == WF_OK, "write");
  }
}

/* ISO C has no cast from an object's pointer to a function's. */
static void look_up(void *library, const char *name, void *call) {
  void *found = dlsym(library, name);
  must(found != NULL, name);
  memcpy(call, &found, sizeof found);
}

int main(int argc, char **argv) {
  must(argc > 1, "a folder is missing");
  if (argc == 2) {
    leak(argv[1], wf_open, wf_options_init, wf_driver_start, wf_write);
    return 0;
  }
  open_call *open;
  init_call *init;
  driver_call *driver;
  write_call *write;
  void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
  must(library != NULL, "dlopen");
  look_up(library, "wf_open", &open);
  look_up(library, "wf_options_init", &init);
  look_up(library, "wf_driver_start", &driver);
  look_up(library, "wf_write", &write);
  leak(argv[1], open, init, driver, write);
  must(dlclose(library) == 0, "dlclose");
  return 0;
}
