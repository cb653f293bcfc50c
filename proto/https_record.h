// HTTPS resource records (RFC 9460): the rdata of type 65, both ways, and as text of a zone file.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/ip_address.h"

namespace tunnel::proto {

// RFC 9460 14.3.2; ech is RFC 9848.
enum class SvcParamKey : uint16_t {
  kMandatory = 0,
  kAlpn = 1,
  kNoDefaultAlpn = 2,
  kPort = 3,
  kIpv4Hint = 4,
  kEch = 5,
  kIpv6Hint = 6,
};

struct UnknownSvcParam {
  uint16_t key = 0;
  std::vector<uint8_t> value;

  bool operator==(const UnknownSvcParam&) const = default;
};

// A parameter that is missing is empty or nullopt: none of them is allowed an empty value on the wire.
struct HttpsRecord {
  // 0: AliasMode. Otherwise ServiceMode, lower first.
  uint16_t priority = 0;
  // As ReadDnsName spells it. "." in ServiceMode is the record's owner; in AliasMode that there is no such service.
  std::string target = ".";
  // Strictly increasing, each among the parameters, never 0.
  std::vector<uint16_t> mandatory;
  std::vector<std::string> alpn;
  bool no_default_alpn = false;
  std::optional<uint16_t> port;
  std::vector<IpAddress> ipv4hint;
  // An ECHConfigList with its own length in front; only that length has been checked.
  std::vector<uint8_t> ech;
  std::vector<IpAddress> ipv6hint;
  // Keys 7 to 65534, increasing.
  std::vector<UnknownSvcParam> unknown;

  bool IsAlias() const { return priority == 0; }
  // ServiceMode, all mandatory parameters understood (RFC 9460 8), and a port that can be dialled. A record that is
  // not usable is skipped; the others of its set still count.
  bool IsUsable() const;

  bool operator==(const HttpsRecord&) const = default;
};

// Parses rdata. In AliasMode parameters are ignored (2.4.2), well-formed or not. ProtocolError on a malformed record,
// upon which the whole set of records must be rejected (2.2): truncated, compressed target, keys not strictly
// increasing, a value that breaks its key's syntax, mandatory naming itself or something absent, no-default-alpn
// without alpn.
absl::StatusOr<HttpsRecord> ParseHttpsRecord(std::span<const uint8_t> rdata);

// Writes rdata. InvalidArgument when ParseHttpsRecord would not give back `record`.
absl::StatusOr<std::vector<uint8_t>> EncodeHttpsRecord(const HttpsRecord& record);

// The rdata as a zone file has it, `1 . alpn="h2,http/1.1" port=8443 ech="AD7+..."` (RFC 9460 2.1). `ech_base64` is
// `record.ech` in base64, encoded by the caller; empty when there is none.
std::string FormatHttpsRecord(const HttpsRecord& record, std::string_view ech_base64);

}  // namespace tunnel::proto
