// What an answer section says about a name.
#include <algorithm>

#include "core/status.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"

namespace tunnel::proto {
namespace {

// The least TTL seen.
class MinTtl {
 public:
  void Add(const DnsRecord& record) { least_ = std::min(least_.value_or(record.ttl_seconds), record.ttl_seconds); }
  uint32_t seconds() const { return least_.value_or(0); }

 private:
  std::optional<uint32_t> least_;
};

// Follows the CNAMEs from `name`, adding their TTLs.
absl::StatusOr<std::string> FollowCnames(const DnsResponse& response, std::string_view name, MinTtl& ttl) {
  absl::StatusOr<std::string> canonical = CanonicalDnsName(name);
  if (!canonical.ok()) return canonical.status();
  std::string owner = *std::move(canonical);
  for (int hops = 0; hops <= kDnsMaxCnames; ++hops) {
    const DnsCname* next = nullptr;
    for (const DnsRecord& record : response.answers) {
      const auto* cname = std::get_if<DnsCname>(&record.data);
      if (cname == nullptr || record.name != owner) continue;
      if (next != nullptr) return ProtocolError("DNS answer with two CNAMEs for {}", owner);
      next = cname;
      ttl.Add(record);
    }
    if (next == nullptr) return owner;
    owner = next->target;
  }
  return ProtocolError("DNS answer for {} with a loop or more than {} CNAMEs", name, kDnsMaxCnames);
}

}  // namespace

absl::Status CheckAnswers(const DnsResponse& response, std::string_view name, DnsType type, uint16_t id) {
  if (response.id != id) return ProtocolError("DNS response with another id");
  switch (response.rcode) {
    case DnsRcode::kNoError:
      break;
    case DnsRcode::kNxDomain:
      return NotFound("{} does not exist (NXDOMAIN)", name);
    default:
      return Unavailable("the resolver answered {} for {}", ToString(response.rcode), name);
  }
  if (response.truncated) return ProtocolError("truncated DNS response");
  const absl::StatusOr<std::string> canonical = CanonicalDnsName(name);
  if (!canonical.ok()) return canonical.status();
  if (response.question != DnsQuestion{.name = *canonical, .type = type}) {
    return ProtocolError("DNS response to another question");
  }
  return absl::OkStatus();
}

absl::StatusOr<HttpsAnswer> FindHttps(const DnsResponse& response, std::string_view name) {
  MinTtl ttl;
  absl::StatusOr<std::string> owner = FollowCnames(response, name, ttl);
  if (!owner.ok()) return owner.status();
  HttpsAnswer answer;
  answer.owner = *std::move(owner);
  for (const DnsRecord& record : response.answers) {
    const auto* https = std::get_if<HttpsRecord>(&record.data);
    if (https == nullptr || record.name != answer.owner) continue;
    ttl.Add(record);
    if (https->IsAlias()) {
      if (!answer.alias) answer.alias = https->target;
    } else if (https->IsUsable()) {
      const auto later =
          std::upper_bound(answer.services.begin(), answer.services.end(), *https,
                           [](const HttpsRecord& a, const HttpsRecord& b) { return a.priority < b.priority; });
      answer.services.insert(later, *https);
    }
  }
  if (answer.alias) answer.services.clear();
  answer.ttl_seconds = ttl.seconds();
  return answer;
}

absl::StatusOr<AddressAnswer> FindAddresses(const DnsResponse& response, std::string_view name) {
  MinTtl ttl;
  absl::StatusOr<std::string> owner = FollowCnames(response, name, ttl);
  if (!owner.ok()) return owner.status();
  AddressAnswer answer;
  answer.owner = *std::move(owner);
  for (const DnsRecord& record : response.answers) {
    const auto* address = std::get_if<IpAddress>(&record.data);
    if (address == nullptr || record.name != answer.owner) continue;
    ttl.Add(record);
    answer.addresses.push_back(*address);
  }
  answer.ttl_seconds = ttl.seconds();
  return answer;
}

}  // namespace tunnel::proto
