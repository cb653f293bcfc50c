#include "proto/https_record.h"

#include <algorithm>

#include "core/status.h"
#include "proto/dns_name.h"
#include "proto/dns_wire.h"

namespace tunnel::proto {
namespace {

// RFC 9460 14.3.2: reserved as the invalid key.
constexpr uint16_t kInvalidKey = 65535;
constexpr uint16_t kLastKnownKey = static_cast<uint16_t>(SvcParamKey::kIpv6Hint);

constexpr uint16_t Number(SvcParamKey key) { return static_cast<uint16_t>(key); }

bool ParseMandatory(std::span<const uint8_t> value, std::vector<uint16_t>& keys) {
  WireReader reader(value);
  uint16_t key = 0;
  while (reader.ReadU16(key)) {
    // Also refuses 0, mandatory itself.
    if (key <= (keys.empty() ? Number(SvcParamKey::kMandatory) : keys.back())) return false;
    keys.push_back(key);
  }
  return reader.remaining() == 0 && !keys.empty();
}

bool ParseAlpn(std::span<const uint8_t> value, std::vector<std::string>& ids) {
  WireReader reader(value);
  uint8_t size = 0;
  while (reader.ReadU8(size)) {
    std::span<const uint8_t> id;
    if (size == 0 || !reader.ReadBytes(size, id)) return false;
    ids.emplace_back(id.begin(), id.end());
  }
  return !ids.empty();
}

template <size_t N>
bool ParseHints(std::span<const uint8_t> value, std::vector<IpAddress>& hints) {
  if (value.empty() || value.size() % N != 0) return false;
  for (; !value.empty(); value = value.subspan(N)) {
    if constexpr (N == 4) {
      hints.push_back(IpAddress::V4(value.first<N>()));
    } else {
      hints.push_back(IpAddress::V6(value.first<N>()));
    }
  }
  return true;
}

bool ParseEch(std::span<const uint8_t> value, std::vector<uint8_t>& ech) {
  WireReader reader(value);
  uint16_t size = 0;
  if (!reader.ReadU16(size) || size == 0 || size != reader.remaining()) return false;
  ech.assign(value.begin(), value.end());
  return true;
}

bool ParseParam(uint16_t key, std::span<const uint8_t> value, HttpsRecord& record) {
  switch (static_cast<SvcParamKey>(key)) {
    case SvcParamKey::kMandatory:
      return ParseMandatory(value, record.mandatory);
    case SvcParamKey::kAlpn:
      return ParseAlpn(value, record.alpn);
    case SvcParamKey::kNoDefaultAlpn:
      record.no_default_alpn = true;
      return value.empty();
    case SvcParamKey::kPort: {
      uint16_t port = 0;
      if (value.size() != 2 || !WireReader(value).ReadU16(port)) return false;
      record.port = port;
      return true;
    }
    case SvcParamKey::kIpv4Hint:
      return ParseHints<4>(value, record.ipv4hint);
    case SvcParamKey::kEch:
      return ParseEch(value, record.ech);
    case SvcParamKey::kIpv6Hint:
      return ParseHints<16>(value, record.ipv6hint);
  }
  if (key == kInvalidKey) return false;
  record.unknown.push_back({.key = key, .value = {value.begin(), value.end()}});
  return true;
}

bool HasParam(const HttpsRecord& record, uint16_t key) {
  switch (static_cast<SvcParamKey>(key)) {
    case SvcParamKey::kMandatory:
      return !record.mandatory.empty();
    case SvcParamKey::kAlpn:
      return !record.alpn.empty();
    case SvcParamKey::kNoDefaultAlpn:
      return record.no_default_alpn;
    case SvcParamKey::kPort:
      return record.port.has_value();
    case SvcParamKey::kIpv4Hint:
      return !record.ipv4hint.empty();
    case SvcParamKey::kEch:
      return !record.ech.empty();
    case SvcParamKey::kIpv6Hint:
      return !record.ipv6hint.empty();
  }
  return std::any_of(record.unknown.begin(), record.unknown.end(),
                     [key](const UnknownSvcParam& param) { return param.key == key; });
}

void AppendParam(SvcParamKey key, std::span<const uint8_t> value, std::vector<uint8_t>& out) {
  AppendU16(out, Number(key));
  AppendU16(out, value.size());
  AppendBytes(out, value);
}

void AppendHints(SvcParamKey key, std::span<const IpAddress> hints, std::vector<uint8_t>& out) {
  if (hints.empty()) return;
  std::vector<uint8_t> value;
  for (const IpAddress& hint : hints) AppendBytes(value, hint.octets());
  AppendParam(key, value, out);
}

void AppendParams(const HttpsRecord& record, std::vector<uint8_t>& out) {
  std::vector<uint8_t> value;
  if (!record.mandatory.empty()) {
    for (const uint16_t key : record.mandatory) AppendU16(value, key);
    AppendParam(SvcParamKey::kMandatory, value, out);
  }
  if (!record.alpn.empty()) {
    value.clear();
    for (const std::string& id : record.alpn) {
      value.push_back(static_cast<uint8_t>(id.size()));
      value.insert(value.end(), id.begin(), id.end());
    }
    AppendParam(SvcParamKey::kAlpn, value, out);
  }
  if (record.no_default_alpn) AppendParam(SvcParamKey::kNoDefaultAlpn, {}, out);
  if (record.port) {
    value.clear();
    AppendU16(value, *record.port);
    AppendParam(SvcParamKey::kPort, value, out);
  }
  AppendHints(SvcParamKey::kIpv4Hint, record.ipv4hint, out);
  if (!record.ech.empty()) AppendParam(SvcParamKey::kEch, record.ech, out);
  AppendHints(SvcParamKey::kIpv6Hint, record.ipv6hint, out);
  for (const UnknownSvcParam& param : record.unknown) {
    AppendParam(static_cast<SvcParamKey>(param.key), param.value, out);
  }
}

std::string KeyName(uint16_t key) {
  switch (static_cast<SvcParamKey>(key)) {
    case SvcParamKey::kMandatory:
      return "mandatory";
    case SvcParamKey::kAlpn:
      return "alpn";
    case SvcParamKey::kNoDefaultAlpn:
      return "no-default-alpn";
    case SvcParamKey::kPort:
      return "port";
    case SvcParamKey::kIpv4Hint:
      return "ipv4hint";
    case SvcParamKey::kEch:
      return "ech";
    case SvcParamKey::kIpv6Hint:
      return "ipv6hint";
  }
  return fmt::format("key{}", key);
}

// The bytes of a char-string in quotes (RFC 9460 A).
template <typename Bytes>
std::string Escaped(const Bytes& bytes) {
  std::string text;
  for (const auto signed_byte : bytes) {
    const auto byte = static_cast<uint8_t>(signed_byte);
    if (byte < 0x20 || byte >= 0x7f) {
      fmt::format_to(std::back_inserter(text), "\\{:03}", byte);
    } else {
      if (byte == '"' || byte == '\\') text += '\\';
      text += static_cast<char>(byte);
    }
  }
  return text;
}

std::string Joined(std::span<const IpAddress> hints) {
  std::string text;
  for (const IpAddress& hint : hints) {
    if (!text.empty()) text += ',';
    text += ToString(hint);
  }
  return text;
}

// Elements are escaped for the list first (RFC 9460 A.1), then the list as a char-string.
std::string AlpnText(std::span<const std::string> ids) {
  std::string list;
  for (const std::string& id : ids) {
    if (!list.empty()) list += ',';
    for (const char c : id) {
      if (c == ',' || c == '\\') list += '\\';
      list += c;
    }
  }
  return Escaped(list);
}

}  // namespace

bool HttpsRecord::IsUsable() const {
  if (IsAlias() || port == 0) return false;
  return std::all_of(mandatory.begin(), mandatory.end(), [](uint16_t key) { return key <= kLastKnownKey; });
}

absl::StatusOr<HttpsRecord> ParseHttpsRecord(std::span<const uint8_t> rdata) {
  HttpsRecord record;
  WireReader header(rdata);
  if (!header.ReadU16(record.priority)) return ProtocolError("malformed HTTPS record: cut off");
  size_t offset = header.offset();
  absl::StatusOr<std::string> target = ReadDnsName(rdata, offset, NameCompression::kForbidden);
  if (!target.ok()) return Annotate(target.status(), "malformed HTTPS record");
  record.target = *std::move(target);
  if (record.IsAlias()) return record;

  WireReader reader(rdata.subspan(offset));
  int last_key = -1;
  while (reader.remaining() > 0) {
    uint16_t key = 0;
    uint16_t size = 0;
    std::span<const uint8_t> value;
    if (!reader.ReadU16(key) || !reader.ReadU16(size) || !reader.ReadBytes(size, value)) {
      return ProtocolError("malformed HTTPS record: cut off");
    }
    if (key <= last_key) return ProtocolError("malformed HTTPS record: keys repeat or are out of order");
    last_key = key;
    if (!ParseParam(key, value, record)) {
      return ProtocolError("malformed HTTPS record: malformed value of {}", KeyName(key));
    }
  }
  for (const uint16_t key : record.mandatory) {
    if (!HasParam(record, key)) {
      return ProtocolError("malformed HTTPS record: mandatory names {}, which is missing", KeyName(key));
    }
  }
  if (record.no_default_alpn && record.alpn.empty()) {
    return ProtocolError("malformed HTTPS record: no-default-alpn without alpn");
  }
  return record;
}

absl::StatusOr<std::vector<uint8_t>> EncodeHttpsRecord(const HttpsRecord& record) {
  std::vector<uint8_t> out;
  AppendU16(out, record.priority);
  TUNNEL_RETURN_IF_ERROR(AppendDnsName(record.target, out));
  if (!record.IsAlias()) AppendParams(record, out);
  // One set of rules, the reader's: it also catches an over-long value, whose 16-bit length would have wrapped.
  const absl::StatusOr<HttpsRecord> reread = ParseHttpsRecord(out);
  if (!reread.ok()) return InvalidArgument("{}", MessageOf(reread.status()));
  if (*reread != record) return InvalidArgument("an HTTPS record whose fields cannot all be encoded");
  return out;
}

std::string FormatHttpsRecord(const HttpsRecord& record, std::string_view ech_base64) {
  std::string text = fmt::format("{} {}{}", record.priority, record.target, record.target == "." ? "" : ".");
  const auto add = [&text](SvcParamKey key, std::string_view value) {
    fmt::format_to(std::back_inserter(text), " {}={}", KeyName(Number(key)), value);
  };
  if (record.IsAlias()) return text;
  if (!record.mandatory.empty()) {
    std::string keys;
    for (const uint16_t key : record.mandatory) keys += (keys.empty() ? "" : ",") + KeyName(key);
    add(SvcParamKey::kMandatory, keys);
  }
  if (!record.alpn.empty()) add(SvcParamKey::kAlpn, fmt::format("\"{}\"", AlpnText(record.alpn)));
  if (record.no_default_alpn) text += " no-default-alpn";
  if (record.port) add(SvcParamKey::kPort, fmt::format("{}", *record.port));
  if (!record.ipv4hint.empty()) add(SvcParamKey::kIpv4Hint, Joined(record.ipv4hint));
  if (!ech_base64.empty()) add(SvcParamKey::kEch, fmt::format("\"{}\"", ech_base64));
  if (!record.ipv6hint.empty()) add(SvcParamKey::kIpv6Hint, Joined(record.ipv6hint));
  for (const UnknownSvcParam& param : record.unknown) {
    add(static_cast<SvcParamKey>(param.key), fmt::format("\"{}\"", Escaped(param.value)));
  }
  return text;
}

}  // namespace tunnel::proto
