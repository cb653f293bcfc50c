#include "ech/config_list.h"

#include <openssl/bytestring.h>

#include <algorithm>
#include <optional>

namespace tunnel::ech {
namespace {

// An unknown extension with this bit set makes its config unusable (RFC 9849 section 4.2).
constexpr uint16_t kMandatoryExtensionBit = 0x8000;

constexpr size_t kListLimitBytes = 65535;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool IsLetterOrDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool IsValidLabel(std::string_view label) {
  if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
  return std::ranges::all_of(label, [](char c) { return IsLetterOrDigit(c) || c == '-'; });
}

// "1", "0x7f" and "0x" as the last label make the whole name an IPv4 address to the WHATWG URL parser.
bool LooksLikeIpv4Part(std::string_view label) {
  if (std::ranges::all_of(label, IsDigit)) return true;
  if (label.size() < 2 || label[0] != '0' || (label[1] != 'x' && label[1] != 'X')) return false;
  return std::ranges::all_of(label.substr(2), IsHexDigit);
}

std::vector<uint8_t> ToVector(const CBS& cbs) { return {CBS_data(&cbs), CBS_data(&cbs) + CBS_len(&cbs)}; }

// Parses the contents of a config of our version; what is wrong with them, in words, or nothing.
std::optional<std::string_view> ParseContents(CBS contents, EchConfig& config) {
  CBS key;
  CBS suites;
  CBS name;
  CBS extensions;
  if (!CBS_get_u8(&contents, &config.config_id) || !CBS_get_u16(&contents, &config.kem_id)) {
    return "it ends before its KEM";
  }
  if (!CBS_get_u16_length_prefixed(&contents, &key) || CBS_len(&key) == 0)
    return "its public key is cut short or empty";
  if (!CBS_get_u16_length_prefixed(&contents, &suites) || CBS_len(&suites) == 0 || CBS_len(&suites) % 4 != 0) {
    return "its cipher suites are cut short or not pairs";
  }
  if (!CBS_get_u8(&contents, &config.maximum_name_length)) return "it ends before its maximum name length";
  if (!CBS_get_u8_length_prefixed(&contents, &name) || CBS_len(&name) == 0) {
    return "its public name is cut short or empty";
  }
  if (!CBS_get_u16_length_prefixed(&contents, &extensions)) return "its extensions are cut short";
  if (CBS_len(&contents) != 0) return "it has bytes after its extensions";
  config.public_key = ToVector(key);
  config.public_name.assign(reinterpret_cast<const char*>(CBS_data(&name)), CBS_len(&name));
  while (CBS_len(&suites) > 0) {
    HpkeSuite suite;
    if (!CBS_get_u16(&suites, &suite.kdf_id) || !CBS_get_u16(&suites, &suite.aead_id))
      return "its suites are cut short";
    config.cipher_suites.push_back(suite);
  }
  while (CBS_len(&extensions) > 0) {
    EchExtension extension;
    CBS data;
    if (!CBS_get_u16(&extensions, &extension.type) || !CBS_get_u16_length_prefixed(&extensions, &data)) {
      return "an extension is cut short";
    }
    extension.data = ToVector(data);
    config.extensions.push_back(std::move(extension));
  }
  return std::nullopt;
}

bool IsSupportedSuite(const HpkeSuite& suite) {
  return suite.kdf_id == kKdfHkdfSha256 &&
         (suite.aead_id == kAeadAes128Gcm || suite.aead_id == kAeadAes256Gcm || suite.aead_id == kAeadChaCha20Poly1305);
}

// A name from the wire for a log line: anything but printable ASCII is shown as a dot.
std::string Printable(std::string_view text) {
  std::string out(text);
  std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7e; }, '.');
  return out;
}

// Why a well-formed config may not be used, or nothing when it may.
std::optional<std::string> ReasonToSkip(const EchConfig& config) {
  if (config.kem_id != kKemX25519) return fmt::format("its KEM 0x{:04x} is not supported", config.kem_id);
  if (config.public_key.size() != kX25519KeyBytes) {
    return fmt::format("its X25519 key has {} bytes instead of {}", config.public_key.size(), kX25519KeyBytes);
  }
  if (std::ranges::none_of(config.cipher_suites, IsSupportedSuite)) return "none of its cipher suites is supported";
  for (size_t i = 0; i < config.extensions.size(); ++i) {
    const uint16_t type = config.extensions[i].type;
    if ((type & kMandatoryExtensionBit) != 0) return fmt::format("its mandatory extension 0x{:04x} is not known", type);
    for (size_t j = 0; j < i; ++j) {
      if (config.extensions[j].type == type) return fmt::format("its extension 0x{:04x} comes twice", type);
    }
    // No extension type is known, so a long list of them is only a quadratic search: 32 is far more than any has.
    if (i >= 32) return "it has more than 32 extensions";
  }
  if (!IsValidPublicName(config.public_name)) {
    return fmt::format("its public name '{}' is not a host name", Printable(config.public_name));
  }
  return std::nullopt;
}

std::string SuiteName(const HpkeSuite& suite) {
  if (suite.kdf_id == kKdfHkdfSha256) {
    if (suite.aead_id == kAeadAes128Gcm) return "AES-128-GCM";
    if (suite.aead_id == kAeadAes256Gcm) return "AES-256-GCM";
    if (suite.aead_id == kAeadChaCha20Poly1305) return "ChaCha20-Poly1305";
  }
  return fmt::format("0x{:04x}/0x{:04x}", suite.kdf_id, suite.aead_id);
}

}  // namespace

bool IsValidPublicName(std::string_view name) {
  if (name.empty() || name.size() > kPublicNameLimitBytes) return false;
  for (;;) {
    const size_t dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (!IsValidLabel(label)) return false;
    if (dot == std::string_view::npos) return !LooksLikeIpv4Part(label);
    name.remove_prefix(dot + 1);
  }
}

absl::StatusOr<EchConfigList> ParseConfigList(std::span<const uint8_t> bytes) {
  CBS input;
  CBS list;
  CBS_init(&input, bytes.data(), bytes.size());
  if (!CBS_get_u16_length_prefixed(&input, &list)) {
    return InvalidArgument("malformed ECHConfigList: {} bytes are less than its length says", bytes.size());
  }
  if (CBS_len(&input) != 0) {
    return InvalidArgument("malformed ECHConfigList: {} bytes after its end", CBS_len(&input));
  }
  if (CBS_len(&list) == 0) return InvalidArgument("malformed ECHConfigList: it is empty");
  EchConfigList result;
  for (size_t place = 1; CBS_len(&list) > 0; ++place) {
    const uint8_t* const start = CBS_data(&list);
    EchConfig config;
    CBS contents;
    if (!CBS_get_u16(&list, &config.version) || !CBS_get_u16_length_prefixed(&list, &contents)) {
      return InvalidArgument("malformed ECHConfigList: config {} is cut short", place);
    }
    if (config.version != kEchVersion) {
      result.skipped.push_back(fmt::format("config {}: version 0x{:04x} is not known", place, config.version));
      continue;
    }
    if (const auto wrong = ParseContents(contents, config)) {
      result.skipped.push_back(fmt::format("config {}: malformed: {}", place, *wrong));
      continue;
    }
    config.raw.assign(start, CBS_data(&list));
    if (auto reason = ReasonToSkip(config)) {
      result.skipped.push_back(fmt::format("config {}: {}", place, *reason));
      continue;
    }
    result.usable.push_back(std::move(config));
  }
  if (result.usable.empty()) {
    std::string reasons;
    constexpr size_t kShown = 4;
    for (size_t i = 0; i < std::min(result.skipped.size(), kShown); ++i) {
      if (i > 0) reasons += "; ";
      reasons += result.skipped[i];
    }
    if (result.skipped.size() > kShown) reasons += fmt::format("; and {} more", result.skipped.size() - kShown);
    return NotFound("no usable config in the ECHConfigList: {}", reasons);
  }
  return result;
}

absl::StatusOr<std::vector<uint8_t>> MarshalConfigList(std::span<const EchConfig> configs) {
  if (configs.empty()) return InvalidArgument("an ECHConfigList needs at least one config");
  std::vector<uint8_t> out(2);
  for (const EchConfig& config : configs) out.insert(out.end(), config.raw.begin(), config.raw.end());
  const size_t length = out.size() - 2;
  if (length > kListLimitBytes) return InvalidArgument("an ECHConfigList of {} bytes is over its limit", length);
  out[0] = static_cast<uint8_t>(length >> 8);
  out[1] = static_cast<uint8_t>(length & 0xff);
  return out;
}

absl::StatusOr<std::vector<uint8_t>> FilterUsable(std::span<const uint8_t> bytes) {
  const absl::StatusOr<EchConfigList> list = ParseConfigList(bytes);
  if (!list.ok()) return list.status();
  return MarshalConfigList(list->usable);
}

std::string DescribeConfig(const EchConfig& config) {
  std::string suites;
  for (const HpkeSuite& suite : config.cipher_suites) {
    if (!suites.empty()) suites += ", ";
    suites += SuiteName(suite);
  }
  const std::string kem =
      config.kem_id == kKemX25519 ? "X25519 with HKDF-SHA256" : fmt::format("KEM 0x{:04x}", config.kem_id);
  std::string text = fmt::format("id {}, public name {}, {}, {}, names padded to {}", config.config_id,
                                 Printable(config.public_name), kem, suites, config.maximum_name_length);
  if (!config.extensions.empty()) text += fmt::format(", {} optional extensions", config.extensions.size());
  return text;
}

std::string DescribeConfigList(const EchConfigList& list) {
  std::string text;
  for (const EchConfig& config : list.usable) text += DescribeConfig(config) + "\n";
  for (const std::string& reason : list.skipped) text += "skipped " + reason + "\n";
  return text;
}

}  // namespace tunnel::ech
