#include "net/dns_publisher.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "core/check.h"
#include "proto/dns_name.h"
#include "proto/url.h"

namespace tunnel::net {
namespace {

using proto::DnsRcode;
using proto::DnsRecord;
using proto::DnsType;
using proto::IpAddress;

// FORMERR without a question, for what could not be read: the header alone (RFC 1035 section 4.1.1).
std::vector<uint8_t> FormatError(std::span<const uint8_t> query) {
  std::vector<uint8_t> response(12);
  if (query.size() >= 2) std::copy_n(query.begin(), 2, response.begin());
  response[2] = 0x80;  // a response
  response[3] = static_cast<uint8_t>(DnsRcode::kFormErr);
  return response;
}

// The PORT of `_PORT._https.`, taken off the front of `name`; nothing when it does not start so.
std::optional<uint16_t> TakePortPrefix(std::string_view& name) {
  constexpr std::string_view kService = "._https.";
  const size_t end = name.find(kService);
  if (end == std::string_view::npos || end < 2 || name[0] != '_' || name[1] == '0') return std::nullopt;
  uint16_t port = 0;
  const auto [last, error] = std::from_chars(name.data() + 1, name.data() + end, port);
  if (error != std::errc() || last != name.data() + end) return std::nullopt;
  name.remove_prefix(end + kService.size());
  return port;
}

// Nothing for an unspecified address: it is nowhere.
std::optional<IpAddress> AddressOf(const core::SocketAddress& local) {
  if (!local.valid()) return std::nullopt;
  const std::array<uint8_t, 16> bytes = local.mapped_bytes();
  const IpAddress address = proto::Unmapped(IpAddress::V6(bytes));
  if (std::all_of(address.bytes.begin(), address.bytes.end(), [](uint8_t byte) { return byte == 0; })) {
    return std::nullopt;
  }
  return address;
}

}  // namespace

DnsPublisher::DnsPublisher(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    absl::StatusOr<std::string> canonical = proto::CanonicalDnsName(name);
    if (!canonical.ok() || name.empty() || *canonical == "." || name.starts_with("*.")) continue;
    if (proto::ParseIpAddress(name).has_value() || IsOwn(*canonical)) continue;
    names_.push_back(*std::move(canonical));
  }
}

bool DnsPublisher::IsOwn(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

std::vector<uint8_t> DnsPublisher::Answer(std::span<const uint8_t> query, const core::SocketAddress& local,
                                          std::string_view ech_config_list) const {
  const absl::StatusOr<proto::DnsQuery> parsed = proto::ParseQuery(query);
  if (!parsed.ok()) return FormatError(query);
  const proto::DnsQuestion& question = parsed->question;

  std::string_view name = question.name;
  const std::optional<uint16_t> prefix_port = IsOwn(name) ? std::nullopt : TakePortPrefix(name);
  DnsRcode rcode = DnsRcode::kNoError;
  std::vector<DnsRecord> answers;
  const std::optional<IpAddress> address = AddressOf(local);
  if (parsed->edns_version != 0) {
    rcode = DnsRcode::kBadVers;
  } else if (!IsOwn(name)) {
    rcode = DnsRcode::kRefused;
  } else if (question.type == DnsType::kHttps) {
    proto::HttpsRecord record;
    record.priority = 1;
    record.alpn = {"http/1.1"};
    const uint16_t port = prefix_port.value_or(local.valid() ? local.port() : proto::kHttpsPort);
    if (port != proto::kHttpsPort && port != 0) record.port = port;
    record.ech.assign(ech_config_list.begin(), ech_config_list.end());
    // In front of "_PORT._https.", "." would be a name that has no addresses.
    if (prefix_port.has_value()) record.target = std::string(name);
    if (address.has_value()) (address->v6 ? record.ipv6hint : record.ipv4hint).push_back(*address);
    answers.push_back({.name = question.name,
                       .type = DnsType::kHttps,
                       .ttl_seconds = kPublishedTtlSeconds,
                       .data = std::move(record)});
  } else if (!prefix_port.has_value() && address.has_value() &&
             question.type == (address->v6 ? DnsType::kAaaa : DnsType::kA)) {
    answers.push_back(
        {.name = question.name, .type = question.type, .ttl_seconds = kPublishedTtlSeconds, .data = *address});
  }
  absl::StatusOr<std::vector<uint8_t>> response = proto::BuildResponse(*parsed, answers, rcode);
  if (!response.ok()) {
    // Only an ECHConfigList that is none can do this; without it there is no answer to give.
    response = proto::BuildResponse(*parsed, {}, DnsRcode::kServFail);
    TUNNEL_CHECK(response.ok());
  }
  return *std::move(response);
}

}  // namespace tunnel::net
