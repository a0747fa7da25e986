/* An AVI file by avifil32, which records through an I/O procedure:
 *
 *   animator install|plain NAME */
#include <windows.h>
#include <vfw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writeflush.h"

#define MUST(what)                                  \
  do {                                              \
    if (!(what)) {                                  \
      fprintf(stderr, "animator: %s\n", #what);     \
      exit(1);                                      \
    }                                               \
  } while (0)

int main(int argc, char **argv) {
  enum { WIDTH = 64, HEIGHT = 48, PICTURES = 50 };
  if (argc != 3) return 2;
  if (strcmp(argv[1], "install") == 0) {
    MUST(wf_winmm_install("avi") == WF_OK);
    MUST(wf_winmm_check("avi") == WF_OK);
  }
  AVIFileInit();
  PAVIFILE file = NULL;
  PAVISTREAM stream = NULL;
  MUST(AVIFileOpenA(&file, argv[2], OF_CREATE | OF_WRITE, NULL) == 0);
  AVISTREAMINFOA info = {0};
  info.fccType = streamtypeVIDEO;
  info.dwScale = 1;
  info.dwRate = 25;
  info.dwSuggestedBufferSize = WIDTH * HEIGHT * 3;
  SetRect(&info.rcFrame, 0, 0, WIDTH, HEIGHT);
  MUST(AVIFileCreateStreamA(file, &stream, &info) == 0);
  BITMAPINFOHEADER format = {sizeof format, WIDTH, HEIGHT, 1, 24, BI_RGB, WIDTH * HEIGHT * 3, 0, 0, 0, 0};
  MUST(AVIStreamSetFormat(stream, 0, &format, sizeof format) == 0);
  static unsigned char picture[WIDTH * HEIGHT * 3];
  for (int number = 0; number < PICTURES; number++) {
    for (size_t i = 0; i < sizeof picture; i++) picture[i] = (unsigned char)(i + number * 5);
    MUST(AVIStreamWrite(stream, number, 1, picture, sizeof picture, AVIIF_KEYFRAME, NULL, NULL) == 0);
  }
  AVIStreamRelease(stream);
  AVIFileRelease(file);
  AVIFileExit();
  return 0;
}
