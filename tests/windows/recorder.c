/* A recorder as programs for winmm are written: mmioOpen, mmioCreateChunk, mmioWrite, mmioAscend.
 *
 *   recorder install|plain NAME BUFFER HOW
 *
 * install: through writeflush's procedure (NAME ends with a plus); plain: through winmm's own.
 * BUFFER: of winmm, in bytes; 0 for none.
 * HOW: close; exit (the process ends without a close); crowd (it ends without a flush, with a second
 * thread inside an unbuffered second.wav+, whose records of 1000 bytes it prints, and a writer of the
 * C library left open in open.raw); fail (says what the close answered, whatever
 * the writes did); empty (likewise, without a write); time (prints the nanoseconds of a write of 256 bytes); cycle (prints the medians in
 * nanoseconds of an open, of an overwrite with a read of it, and of a close, of 40 new files). */
#include <windows.h>
#include <mmsystem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writeflush.h"

static void die(const char *what) {
  char why[512];
  wf_last_error(why, sizeof why);
  fprintf(stderr, "recorder: %s: %s\n", what, why);
  exit(1);
}

#define MUST(what) \
  do {             \
    if (!(what)) die(#what); \
  } while (0)

static HMMIO open_it(char *name, long buffer) {
  MMIOINFO info = {0};
  info.cchBuffer = buffer;
  DWORD flags = MMIO_CREATE | MMIO_READWRITE | (buffer ? MMIO_ALLOCBUF : 0);
  HMMIO file = mmioOpenA(name, &info, flags);
  if (!file) {
    fprintf(stderr, "recorder: open: %u\n", (unsigned)info.wErrorRet);
    exit(1);
  }
  return file;
}

/* 200,000 samples in pieces of many lengths, with flushes, a read and a patch in between. */
static void record(HMMIO file) {
  static const WAVEFORMATEX format = {WAVE_FORMAT_PCM, 2, 48000, 192000, 4, 16, 0};
  MMCKINFO riff = {0}, chunk = {0};
  riff.fccType = mmioFOURCC('W', 'A', 'V', 'E');
  MUST(mmioCreateChunk(file, &riff, MMIO_CREATERIFF) == 0);
  chunk.ckid = mmioFOURCC('f', 'm', 't', ' ');
  MUST(mmioCreateChunk(file, &chunk, 0) == 0);
  MUST(mmioWrite(file, (const char *)&format, 16) == 16);
  MUST(mmioAscend(file, &chunk, 0) == 0);
  chunk.ckid = mmioFOURCC('d', 'a', 't', 'a');
  MUST(mmioCreateChunk(file, &chunk, 0) == 0);
  static char bytes[20000];
  unsigned seed = 1;
  long total = 0;
  for (int round = 0; round < 100; round++) {
    long count = (long)((seed = seed * 1103515245 + 12345) >> 16) % (long)sizeof bytes;
    for (long i = 0; i < count; i++) bytes[i] = (char)(total + i * 7 + round);
    MUST(mmioWrite(file, bytes, count) == count);
    total += count;
    if (round % 10 == 9) MUST(mmioFlush(file, 0) == 0);
    if (round == 50) {
      char back[100];
      LONG here = mmioSeek(file, 0, SEEK_CUR);
      MUST(mmioSeek(file, here - 100, SEEK_SET) == here - 100);
      MUST(mmioRead(file, back, 100) == 100);
      MUST(memcmp(back, bytes + count - 100, 100) == 0);
      MUST(mmioSeek(file, here, SEEK_SET) == here);
    }
  }
  MUST(mmioAscend(file, &chunk, 0) == 0);
  MUST(mmioAscend(file, &riff, 0) == 0);
}

static void fence(HMMIO file) {
  uint64_t durable = 0;
  LONG end = mmioSeek(file, 0, SEEK_END);
  MUST(mmioSendMessage(file, WF_MMIOM_FENCE, 0, 0) == 0);
  MUST(mmioSendMessage(file, WF_MMIOM_DURABLE, (LPARAM)&durable, 0) == 0);
  MUST((LONG)durable == end);
}

static volatile LONG records;

static DWORD WINAPI write_on(void *file) {
  static char bytes[1000];
  memset(bytes, 's', sizeof bytes);
  while (mmioWrite(file, bytes, sizeof bytes) == sizeof bytes) InterlockedIncrement(&records);
  return 0;
}

/* Ends the process in the middle of everything. */
static void leave_a_crowd(void) {
  wf_writer writer;
  MUST(wf_open("open.raw", NULL, &writer) == WF_OK);
  MUST(wf_write(writer, "left open", 9, NULL) == WF_OK);
  HMMIO second = open_it("second.wav+", 0);
  MUST(CreateThread(NULL, 0, write_on, second, 0, NULL));
  while (records < 500) Sleep(1);
  printf("%ld\n", (long)records);
  fflush(stdout);
  ExitProcess(0);
}

static double now(void) {
  LARGE_INTEGER at, per_second;
  QueryPerformanceFrequency(&per_second);
  QueryPerformanceCounter(&at);
  return (double)at.QuadPart * 1e9 / (double)per_second.QuadPart;
}

static int upwards(const void *one, const void *other) {
  double a = *(const double *)one, b = *(const double *)other;
  return (a > b) - (a < b);
}

static double median(double *times, int count) {
  qsort(times, (size_t)count, sizeof *times, upwards);
  return (times[(count - 1) / 2] + times[count / 2]) / 2;
}

/* What a player with a small file does: it is opened, written, patched and read, and closed. */
static void cycle(const char *name) {
  enum { FILES = 40, PATCHES = 10 };
  static double opens[FILES], patches[FILES * PATCHES], closes[FILES];
  static char bytes[64 << 10], back[256];
  for (int round = 0; round < FILES; round++) {
    char path[260];
    MUST(snprintf(path, sizeof path, "%d-%s", round, name) < (int)sizeof path);
    double at = now();
    HMMIO file = open_it(path, 0);
    opens[round] = now() - at;
    MUST(mmioWrite(file, bytes, sizeof bytes) == sizeof bytes);
    for (int patch = 0; patch < PATCHES; patch++) {
      at = now();
      MUST(mmioSeek(file, 1000 * patch, SEEK_SET) == 1000 * patch);
      MUST(mmioWrite(file, bytes, sizeof back) == sizeof back);
      MUST(mmioSeek(file, 1000 * patch, SEEK_SET) == 1000 * patch);
      MUST(mmioRead(file, back, sizeof back) == sizeof back);
      patches[round * PATCHES + patch] = now() - at;
    }
    at = now();
    MUST(mmioClose(file, 0) == 0);
    closes[round] = now() - at;
    path[strcspn(path, "+")] = 0;
    MUST(DeleteFileA(path));
  }
  printf("%.0f %.0f %.0f\n", median(opens, FILES), median(patches, FILES * PATCHES),
         median(closes, FILES));
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int ours = strcmp(argv[1], "install") == 0;
  const char *how = argv[4];
  if (ours) {
    MUST(wf_winmm_check("wav") != WF_OK);
    MUST(wf_winmm_install("toolong") == WF_INVALID);
    MUST(wf_winmm_install(NULL) == WF_INVALID);
    MUST(wf_winmm_install("wav") == WF_OK);
    MUST(wf_winmm_check("wav") == WF_OK);
  }
  if (strcmp(how, "cycle") == 0) {
    cycle(argv[2]);
    return 0;
  }
  HMMIO file = open_it(argv[2], atol(argv[3]));
  if (strcmp(how, "fail") == 0 || strcmp(how, "empty") == 0) {
    static char bytes[1 << 16];
    if (strcmp(how, "fail") == 0) {
      for (int round = 0; round < 64; round++) mmioWrite(file, bytes, sizeof bytes);
      mmioFlush(file, 0);
    }
    MMRESULT answer = mmioClose(file, 0);
    printf("close answered %u\n", (unsigned)answer);
    return 0;
  }
  if (strcmp(how, "time") == 0) { /* small unbuffered writes, for a ratio */
    enum { WRITES = 20000 };
    char bytes[256] = {1};
    double at = now();
    for (int round = 0; round < WRITES; round++) MUST(mmioWrite(file, bytes, 256) == 256);
    double took = now() - at;
    MUST(mmioClose(file, 0) == 0);
    printf("%.1f\n", took / WRITES);
    return 0;
  }
  record(file);
  if (strcmp(how, "crowd") == 0) leave_a_crowd();
  if (ours && strcmp(how, "exit") != 0) {
    fence(file);
    FILE *mark = fopen("fenced", "wb"); /* shows a trace where the fence has returned */
    MUST(mark && fputs("x", mark) >= 0 && fclose(mark) == 0);
  }
  if (strcmp(how, "exit") == 0) {
    mmioFlush(file, 0);
    ExitProcess(0);
  }
  MUST(mmioClose(file, 0) == 0);
  if (ours) {
    MUST(wf_winmm_remove("wav") == WF_OK);
    MUST(wf_winmm_check("wav") != WF_OK);
  }
  return 0;
}
