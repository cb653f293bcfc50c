// Invariants that guard memory or keys: checked in every build, independent of NDEBUG.
#pragma once

#include <cstdio>
#include <cstdlib>

// Aborts with the place and the text of `condition` when it does not hold: our bug, and the process must not go on.
#define TUNNEL_CHECK(condition)                                                              \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
