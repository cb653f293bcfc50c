#include "ech/boringssl_error.h"

#include <openssl/err.h>

namespace tunnel::ech {

std::string TakeBoringSslError() {
  const uint32_t packed = ERR_peek_error();
  const char* reason = packed == 0 ? nullptr : ERR_reason_error_string(packed);
  std::string text = reason == nullptr ? "no reason given" : reason;
  ERR_clear_error();
  return text;
}

}  // namespace tunnel::ech
