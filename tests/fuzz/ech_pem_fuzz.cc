// PEM and key files: what is read survives being written and read again.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "ech/key_store.h"
#include "ech/pem.h"
#include "proto/base64.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto blocks = ech::ParsePem(text);
  if (blocks.ok()) {
    std::string written;
    for (const ech::PemBlock& block : blocks->all()) written += ech::EncodePem(block.label, block.bytes);
    const auto again = ech::ParsePem(written);
    TUNNEL_CHECK(again.ok() && again->all().size() == blocks->all().size());
    for (size_t i = 0; i < again->all().size(); ++i) {
      TUNNEL_CHECK(again->all()[i].label == blocks->all()[i].label && again->all()[i].bytes == blocks->all()[i].bytes);
    }
  }
  const auto bytes = ech::DecodeBase64(text);
  if (bytes.ok()) {
    const auto again = ech::DecodeBase64(proto::Base64Encode(*bytes));
    TUNNEL_CHECK(again.ok() && *again == *bytes);
  }
  const auto key = ech::KeyFromPem(text, {});
  if (key.ok()) {
    const auto again = ech::KeyFromPem(ech::KeyToPem(*key), {});
    TUNNEL_CHECK(again.ok() && again->private_key() == key->private_key() &&
                 again->ConfigListBytes() == key->ConfigListBytes());
  }
  return 0;
}
