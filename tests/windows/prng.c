/* bcryptprimitives.dll for Wine 8.0, which has none: the one function that Rust's std takes from
 * it. For tests under Wine only. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) {
  return RtlGenRandom(bytes, (ULONG)count);
}
