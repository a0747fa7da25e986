/* Links to Wine's test of mmio; with OURS set its files go through writeflush's procedure, which is
 * installed in place of the built-in one of plain files. */
#include <windows.h>
#include <mmsystem.h>
#include <stdio.h>
#include <stdlib.h>

#include "writeflush.h"

__attribute__((constructor)) static void install(void) {
  if (!getenv("OURS")) return;
  LPMMIOPROC ours = (LPMMIOPROC)(void *)wf_mmio_procedure;
  if (mmioInstallIOProcA(mmioFOURCC('D', 'O', 'S', ' '), ours, MMIO_INSTALLPROC) != ours) abort();
}

/* What the test asks of Wine's own libraries: keeps a text for as long as a message takes. */
const char *__wine_dbg_strdup(const char *text) {
  static char kept[16][512];
  static unsigned next;
  char *place = kept[next++ % 16];
  snprintf(place, sizeof kept[0], "%s", text);
  return place;
}
