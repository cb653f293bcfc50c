// ECHConfigList: parsing, and which of its configs a client may use (RFC 9849 section 4).
//
//   ECHConfigList = u16 length, ECHConfig...          ECHConfig = u16 version, u16 length, contents
//   contents (version 0xfe0d) = u8 config_id, u16 kem_id, opaque public_key<1..2^16-1>,
//     (u16 kdf_id, u16 aead_id) cipher_suites<4..2^16-4>, u8 maximum_name_length, opaque public_name<1..255>,
//     (u16 type, opaque data<0..2^16-1>) extensions<0..2^16-1>
//
// Pure functions over bytes, safe on any thread. A list is at most 65,537 bytes, which bounds everything here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace tunnel::ech {

inline constexpr uint16_t kEchVersion = 0xfe0d;     // RFC 9849, the same value as its drafts from 13 on
inline constexpr uint16_t kKemX25519 = 0x0020;      // DHKEM(X25519, HKDF-SHA256), RFC 9180 section 7.1
inline constexpr uint16_t kKdfHkdfSha256 = 0x0001;  // RFC 9180 section 7.2
inline constexpr uint16_t kAeadAes128Gcm = 0x0001;  // RFC 9180 section 7.3
inline constexpr uint16_t kAeadAes256Gcm = 0x0002;
inline constexpr uint16_t kAeadChaCha20Poly1305 = 0x0003;
inline constexpr size_t kX25519KeyBytes = 32;
inline constexpr size_t kPublicNameLimitBytes = 253;  // of a DNS name in text, without the final dot

struct HpkeSuite {
  uint16_t kdf_id = 0;
  uint16_t aead_id = 0;
  bool operator==(const HpkeSuite&) const = default;
};

struct EchExtension {
  uint16_t type = 0;
  std::vector<uint8_t> data;
  bool operator==(const EchExtension&) const = default;
};

// One ECHConfig of the version this code knows.
struct EchConfig {
  uint16_t version = kEchVersion;
  uint8_t config_id = 0;
  uint16_t kem_id = 0;
  std::vector<uint8_t> public_key;
  std::vector<HpkeSuite> cipher_suites;
  uint8_t maximum_name_length = 0;
  std::string public_name;
  std::vector<EchExtension> extensions;
  std::vector<uint8_t> raw;  // the whole ECHConfig, version and length included: what keys are registered with
  bool operator==(const EchConfig&) const = default;
};

struct EchConfigList {
  std::vector<EchConfig> usable;     // in the server's order of preference; never empty
  std::vector<std::string> skipped;  // one line per config that was passed over: its place and why
};

// Parses and judges a list. A config is skipped, not an error, when its version, KEM or every suite is unknown, its
// contents are malformed, its key has the wrong length, it has an unknown mandatory extension or one type twice, or its
// public name is no host name. Fails with kInvalidArgument when the list cannot be told apart into configs, and with
// kNotFound, naming every reason, when it holds nothing this client can use.
[[nodiscard]] absl::StatusOr<EchConfigList> ParseConfigList(std::span<const uint8_t> bytes);

// The list reduced to its usable configs, in wire form. Fails as ParseConfigList does.
[[nodiscard]] absl::StatusOr<std::vector<uint8_t>> FilterUsable(std::span<const uint8_t> bytes);

// The wire form of a list of these configs, from their `raw`. Fails when they do not fit one list or are none.
[[nodiscard]] absl::StatusOr<std::vector<uint8_t>> MarshalConfigList(std::span<const EchConfig> configs);

// Whether `name` may stand as a public name: dot-separated LDH labels of 1 to 63 bytes, no final dot, and the last
// label not such that a URL parser reads an IPv4 address (RFC 9849 section 6.1.7).
[[nodiscard]] bool IsValidPublicName(std::string_view name);

// One line for people: id, public name, KEM, suites, length for padding, extensions.
[[nodiscard]] std::string DescribeConfig(const EchConfig& config);

// DescribeConfig for each usable config and the reason for each skipped one, a line each.
[[nodiscard]] std::string DescribeConfigList(const EchConfigList& list);

}  // namespace tunnel::ech
