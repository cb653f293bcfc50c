// DNS messages (RFC 1035) as DoH carries them (RFC 8484): queries and responses for A, AAAA, CNAME and HTTPS records,
// with EDNS(0) (RFC 6891) and its padding (RFC 7830), for a client and for a server of its own names.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "proto/codec_limits.h"
#include "proto/https_record.h"
#include "proto/ip_address.h"

namespace tunnel::proto {

// Other types are values of this enum without a name.
enum class DnsType : uint16_t { kA = 1, kCname = 5, kAaaa = 28, kOpt = 41, kHttps = 65 };

// With the upper bits of EDNS(0); others are values without a name.
enum class DnsRcode : uint16_t {
  kNoError = 0,
  kFormErr = 1,
  kServFail = 2,
  kNxDomain = 3,
  kNotImp = 4,
  kRefused = 5,
  kBadVers = 16,
};

// `NXDOMAIN` and so on, `RCODE17` for those without a name.
std::string ToString(DnsRcode rcode);

struct DnsQuestion {
  // As ReadDnsName spells it.
  std::string name;
  DnsType type{};

  bool operator==(const DnsQuestion&) const = default;
};

struct DnsCname {
  std::string target;

  bool operator==(const DnsCname&) const = default;
};

struct DnsRecord {
  std::string name;
  DnsType type{};
  uint32_t ttl_seconds = 0;
  // IpAddress for A and AAAA. monostate for the types we do not read.
  std::variant<std::monostate, IpAddress, DnsCname, HttpsRecord> data;

  bool operator==(const DnsRecord&) const = default;
};

struct DnsQuery {
  uint16_t id = 0;
  bool recursion_desired = false;
  DnsQuestion question;
  bool has_edns = false;
  // To be answered kBadVers when it is not 0.
  uint8_t edns_version = 0;
  // The query was padded: the response is to be as well (RFC 7830 4).
  bool padded = false;
};

struct DnsResponse {
  uint16_t id = 0;
  DnsRcode rcode{};
  bool truncated = false;
  // Missing only where the server could not read the query.
  std::optional<DnsQuestion> question;
  // Class IN only, in their order. A TTL with its top bit set is 0 (RFC 2181 8).
  std::vector<DnsRecord> answers;
};

// --- client ---

// Makes a query with recursion desired and EDNS(0). `id` is 0 for DoH, so that answers can be cached (RFC 8484 4.1).
// Padded to a multiple of `pad_to` bytes; 0 for no padding. InvalidArgument when `name` is no domain name.
absl::StatusOr<std::vector<uint8_t>> BuildQuery(std::string_view name, DnsType type, uint16_t id = 0,
                                                size_t pad_to = kDnsQueryBlockBytes);

// Parses one response: the whole of `message`, nothing behind it. ProtocolError when any of it is malformed, an HTTPS
// record's parameters included, or when it is over the bounds of codec_limits.h.
absl::StatusOr<DnsResponse> ParseResponse(std::span<const uint8_t> message);

// Whether `response` is a good answer to BuildQuery(name, type, id). ProtocolError when it answers something else or
// is truncated, NotFound for NXDOMAIN, Unavailable for other rcodes. No records at all are a good answer.
absl::Status CheckAnswers(const DnsResponse& response, std::string_view name, DnsType type, uint16_t id = 0);

// What an answer says about a name, its CNAMEs followed.
struct AnswerSet {
  // Where the CNAMEs lead. When there is nothing else, this is the name to ask for next, if it is another one.
  std::string owner;
  // The least TTL of the records used, CNAMEs included; 0 when there were none.
  uint32_t ttl_seconds = 0;
};

struct HttpsAnswer : AnswerSet {
  // AliasMode: ask for the HTTPS records of this name instead; "." says that there is no service. Services are then
  // empty (RFC 9460 2.4.1). The first of several.
  std::optional<std::string> alias;
  // Usable ServiceMode records by priority, equal ones in the order they came, which is for the caller to shuffle.
  std::vector<HttpsRecord> services;
};

struct AddressAnswer : AnswerSet {
  std::vector<IpAddress> addresses;
};

// ProtocolError when the CNAMEs loop, are more than kDnsMaxCnames, or a name has two of them; InvalidArgument when
// `name` is no domain name.
absl::StatusOr<HttpsAnswer> FindHttps(const DnsResponse& response, std::string_view name);
// Addresses of both families that the response holds.
absl::StatusOr<AddressAnswer> FindAddresses(const DnsResponse& response, std::string_view name);

// --- server ---

// Parses one query: the whole of `message`. ProtocolError when it is malformed or is not exactly one standard question
// of class IN.
absl::StatusOr<DnsQuery> ParseQuery(std::span<const uint8_t> message);

// Makes the authoritative response to `query`: its question, then `answers`, whose data must be one of A, AAAA, CNAME
// or HTTPS and fit their type. With EDNS(0) when the query had it, padded when it was. InvalidArgument when a record
// cannot be encoded, ResourceExhausted when the message would be over 65,535 bytes.
absl::StatusOr<std::vector<uint8_t>> BuildResponse(const DnsQuery& query, std::span<const DnsRecord> answers,
                                                   DnsRcode rcode = DnsRcode::kNoError);

}  // namespace tunnel::proto
