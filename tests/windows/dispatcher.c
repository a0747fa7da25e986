/* A dispatcher of its own: sends the messages of MMIO without winmm, with names in the code page and in
 * UTF-16.
 *
 *   dispatcher FILE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "writeflush_mmio.h"

static void die(const char *what) {
  char why[512] = "";
  wf_mmio_procedure(NULL, WF_MMIOM_LAST_ERROR, (intptr_t)why, sizeof why);
  fprintf(stderr, "dispatcher: %s: %s\n", what, why);
  exit(1);
}

#define MUST(what)           \
  do {                       \
    if (!(what)) die(#what); \
  } while (0)

typedef intptr_t(WF_WINAPI *procedure)(void *, uint32_t, intptr_t, intptr_t);

static void record(procedure send, const void *name) {
  wf_mmioinfo info = {0};
  uint64_t durable = 0;
  info.dwFlags = WF_MMIO_CREATE | WF_MMIO_READWRITE;
  MUST(send(&info, WF_MMIOM_OPEN, (intptr_t)name, 0) == 0);
  MUST(send(&info, WF_MMIOM_WRITE, (intptr_t)"size", 4) == 4);
  MUST(send(&info, WF_MMIOM_WRITEFLUSH, (intptr_t)" and data", 9) == 9);
  MUST(send(&info, WF_MMIOM_DURABLE, (intptr_t)&durable, 0) == 0 && durable == 13);
  MUST(info.lDiskOffset == 13);
  MUST(send(&info, WF_MMIOM_SEEK, 0, WF_MMIO_SEEK_SET) == 0);
  MUST(send(&info, WF_MMIOM_WRITE, (intptr_t)"SIZE", 4) == 4);
  MUST(send(&info, WF_MMIOM_CLOSE, 0, 0) == 0);
}

static void is_there(FILE *file) {
  char found[14] = {0};
  MUST(file && fread(found, 1, sizeof found, file) == 13);
  MUST(strcmp(found, "SIZE and data") == 0);
  fclose(file);
}

int main(int argc, char **argv) {
  char name[300];
  if (argc != 2) return 2;
  snprintf(name, sizeof name, "%s+", argv[1]);
  record(wf_mmio_procedure, name);
  is_there(fopen(argv[1], "rb"));
  record(wf_mmio_procedure_w, L"\x9332\x97f3.wav+");
  is_there(_wfopen(L"\x9332\x97f3.wav", L"rb"));
  printf("%d bits: recorded\n", (int)sizeof(void *) * 8);
  return 0;
}
