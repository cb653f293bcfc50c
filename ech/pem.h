// PEM as keys and ECH configs are kept in: RFC 7468 text, with the blocks of RFC 9934.
//
//   -----BEGIN PRIVATE KEY-----      PKCS#8 of an X25519 key (RFC 8410 section 7)
//   -----BEGIN ECHCONFIG-----        an ECHConfigList (RFC 9934)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"

namespace tunnel::ech {

inline constexpr std::string_view kPrivateKeyLabel = "PRIVATE KEY";
inline constexpr std::string_view kEchConfigLabel = "ECHCONFIG";
inline constexpr size_t kPemBlockLimit = 1024;  // blocks in one text

struct PemBlock {
  std::string label;
  std::vector<uint8_t> bytes;
};

// Blocks that may hold a private key: what they hold is overwritten when they go.
class PemBlocks {
 public:
  PemBlocks() = default;
  ~PemBlocks();
  PemBlocks(PemBlocks&&) = default;
  PemBlocks& operator=(PemBlocks&&) = delete;
  PemBlocks(const PemBlocks&) = delete;
  PemBlocks& operator=(const PemBlocks&) = delete;

  void Add(PemBlock block) { blocks_.push_back(std::move(block)); }
  [[nodiscard]] const std::vector<PemBlock>& all() const { return blocks_; }
  // The first block with this label; nullptr when there is none.
  [[nodiscard]] const PemBlock* First(std::string_view label) const;
  [[nodiscard]] size_t Count(std::string_view label) const;

 private:
  std::vector<PemBlock> blocks_;
};

// Parses every block of `text`; text between blocks is explanation and passed over (RFC 7468 section 2). Fails with
// kInvalidArgument, saying which block and line, when a block has no end, another block's end, headers (RFC 1421) or
// bytes that are not base64. No blocks at all is not an error here.
[[nodiscard]] absl::StatusOr<PemBlocks> ParsePem(std::string_view text);

// One block in lines of 64 characters, each ended by \n.
[[nodiscard]] std::string EncodePem(std::string_view label, std::span<const uint8_t> bytes);

// Base64 as proto/base64.h reads it, but that white space is passed over: text that a person or a file hands over.
[[nodiscard]] absl::StatusOr<std::vector<uint8_t>> DecodeBase64(std::string_view text);

// An ECHConfigList as a person hands it over: base64, or PEM with exactly one ECHCONFIG block. Not validated further.
[[nodiscard]] absl::StatusOr<std::vector<uint8_t>> ConfigListFromText(std::string_view text);

}  // namespace tunnel::ech
