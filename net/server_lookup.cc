#include "net/server_lookup.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/reactor.h"
#include "net/resolver.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"
#include "proto/url.h"

namespace tunnel::net {
namespace {

using core::SocketAddress;
using proto::DnsType;
using proto::HttpsRecord;

// What the HTTPS records of a name say, aliases followed.
struct Services {
  std::string name;                   // where the aliases lead: what "." as a service's target means
  std::vector<HttpsRecord> services;  // none: there are no records
  bool of_port = true;                // they are about the port that is dialled, and not about 443
  uint32_t ttl_seconds = UINT32_MAX;
};

struct Addresses {
  std::vector<proto::IpAddress> addresses;
  uint32_t ttl_seconds = UINT32_MAX;
};

SocketAddress WithPort(const proto::IpAddress& address, uint16_t port) {
  if (address.v6) return SocketAddress::V6(address.bytes, port);
  return SocketAddress::V4({address.bytes[0], address.bytes[1], address.bytes[2], address.bytes[3]}, port);
}

// Runs two tasks side by side and waits for both; an interruption is handed on to them.
template <typename T>
core::Task<void> Collect(core::Task<T> task, std::optional<T>* result, core::Event* changed) {
  T value = co_await std::move(task);
  result->emplace(std::move(value));
  changed->Set();
}

template <typename A, typename B>
core::Task<std::pair<A, B>> Both(core::Task<A> first, core::Task<B> second) {
  core::TaskContext& context = co_await core::CurrentTask();
  core::Scope scope(context.reactor());
  core::Event changed;
  std::optional<A> a;
  std::optional<B> b;
  scope.Spawn(Collect<A>(std::move(first), &a, &changed));
  scope.Spawn(Collect<B>(std::move(second), &b, &changed));
  while (!a.has_value() || !b.has_value()) {
    changed.Reset();
    const absl::Status waited = co_await changed.Wait();
    if (!waited.ok()) {
      scope.Cancel();
      break;
    }
  }
  co_await scope.Join();
  co_return std::pair<A, B>(*std::move(a), *std::move(b));
}

core::Task<absl::StatusOr<Services>> FindServices(ech::DohTransport* transport, std::string name) {
  Services found;
  found.name = std::move(name);
  for (int hops = 0; hops <= kMaxAliases; ++hops) {
    core::Task<absl::StatusOr<std::vector<uint8_t>>> query =
        transport->Query(found.name, static_cast<uint16_t>(DnsType::kHttps));
    const absl::StatusOr<std::vector<uint8_t>> message = co_await std::move(query);
    if (!message.ok()) co_return message.status();
    const absl::StatusOr<proto::DnsResponse> response = proto::ParseResponse(*message);
    if (!response.ok()) co_return response.status();
    absl::Status good = proto::CheckAnswers(*response, found.name, DnsType::kHttps);
    if (absl::IsNotFound(good)) co_return std::move(found);
    if (!good.ok()) co_return good;
    absl::StatusOr<proto::HttpsAnswer> answer = proto::FindHttps(*response, found.name);
    if (!answer.ok()) co_return answer.status();
    const std::string next = answer->alias.value_or(answer->owner);
    if (!answer->services.empty() || next != found.name) {
      found.ttl_seconds = std::min(found.ttl_seconds, answer->ttl_seconds);
    }
    if (!answer->services.empty()) {
      found.name = answer->owner;
      found.services = std::move(answer->services);
      co_return std::move(found);
    }
    if (next == ".") co_return NotFound("the HTTPS record of {} says that there is no such service", found.name);
    if (next == found.name) co_return std::move(found);
    found.name = next;
  }
  co_return ProtocolError("the HTTPS records of {} are over {} aliases away", found.name, kMaxAliases);
}

core::Task<absl::StatusOr<Services>> FindServicesOfPort(ech::DohTransport* transport, std::string name, uint16_t port) {
  absl::StatusOr<std::string> canonical = proto::CanonicalDnsName(name);
  if (!canonical.ok()) co_return canonical.status();
  if (port != proto::kHttpsPort) {
    core::Task<absl::StatusOr<Services>> find = FindServices(transport, fmt::format("_{}._https.{}", port, *canonical));
    absl::StatusOr<Services> prefixed = co_await std::move(find);
    if (!prefixed.ok() || !prefixed->services.empty()) co_return std::move(prefixed);
  }
  core::Task<absl::StatusOr<Services>> find = FindServices(transport, *std::move(canonical));
  absl::StatusOr<Services> plain = co_await std::move(find);
  if (plain.ok()) plain->of_port = port == proto::kHttpsPort;
  co_return std::move(plain);
}

// Addresses of one family; none is no failure.
core::Task<absl::StatusOr<Addresses>> FindFamily(ech::DohTransport* transport, std::string name, DnsType type) {
  Addresses found;
  for (int hops = 0; hops <= kMaxAliases; ++hops) {
    core::Task<absl::StatusOr<std::vector<uint8_t>>> query = transport->Query(name, static_cast<uint16_t>(type));
    const absl::StatusOr<std::vector<uint8_t>> message = co_await std::move(query);
    if (!message.ok()) co_return message.status();
    const absl::StatusOr<proto::DnsResponse> response = proto::ParseResponse(*message);
    if (!response.ok()) co_return response.status();
    absl::Status good = proto::CheckAnswers(*response, name, type);
    if (absl::IsNotFound(good)) co_return std::move(found);
    if (!good.ok()) co_return good;
    absl::StatusOr<proto::AddressAnswer> answer = proto::FindAddresses(*response, name);
    if (!answer.ok()) co_return answer.status();
    if (!answer->addresses.empty()) {
      found.ttl_seconds = std::min(found.ttl_seconds, answer->ttl_seconds);
      found.addresses = std::move(answer->addresses);
      co_return std::move(found);
    }
    if (answer->owner == name) co_return std::move(found);
    found.ttl_seconds = std::min(found.ttl_seconds, answer->ttl_seconds);
    name = answer->owner;
  }
  co_return ProtocolError("the addresses of {} are over {} aliases away", name, kMaxAliases);
}

core::Task<absl::StatusOr<Addresses>> FindAddressesOf(ech::DohTransport* transport, std::string host) {
  if (const std::optional<proto::IpAddress> literal = proto::ParseIpAddress(host)) {
    co_return Addresses{.addresses = {*literal}};
  }
  absl::StatusOr<std::string> canonical = proto::CanonicalDnsName(host);
  if (!canonical.ok()) co_return canonical.status();
  using Result = absl::StatusOr<Addresses>;
  core::Task<std::pair<Result, Result>> both =
      Both(FindFamily(transport, *canonical, DnsType::kAaaa), FindFamily(transport, *canonical, DnsType::kA));
  std::pair<Result, Result> families = co_await std::move(both);
  auto& [v6, v4] = families;
  Addresses found;
  for (const Result& family : {std::cref(v6), std::cref(v4)}) {
    if (!family.ok() || family->addresses.empty()) continue;
    found.addresses.insert(found.addresses.end(), family->addresses.begin(), family->addresses.end());
    found.ttl_seconds = std::min(found.ttl_seconds, family->ttl_seconds);
  }
  if (!found.addresses.empty()) co_return std::move(found);
  // One family failing where the other has nothing is a failure, not an answer.
  if (!v6.ok()) co_return v6.status();
  if (!v4.ok()) co_return v4.status();
  co_return NotFound("{} has neither A nor AAAA records", host);
}

// A WebSocket upgrade needs HTTP/1.1, which is the default ALPN of HTTPS records (RFC 9460 section 9.2).
bool SpeaksHttp1(const HttpsRecord& record) {
  return !record.no_default_alpn || std::find(record.alpn.begin(), record.alpn.end(), "http/1.1") != record.alpn.end();
}

// The service to use: with ech= before without, then by priority, then by lot. Null when there is none.
const HttpsRecord* Choose(const std::vector<HttpsRecord>& services, bool own, core::Reactor& reactor) {
  std::vector<const HttpsRecord*> best;
  for (const HttpsRecord& service : services) {
    if (own && !SpeaksHttp1(service)) continue;
    if (!best.empty()) {
      const bool better_ech = best[0]->ech.empty() && !service.ech.empty();
      const bool worse_ech = !best[0]->ech.empty() && service.ech.empty();
      if (worse_ech || (!better_ech && service.priority > best[0]->priority)) continue;
      if (better_ech || service.priority < best[0]->priority) best.clear();
    }
    best.push_back(&service);
  }
  return best.empty() ? nullptr : best[reactor.RandomU64() % best.size()];
}

bool SameName(const std::string& a, const std::string& b) {
  const absl::StatusOr<std::string> canonical_a = proto::CanonicalDnsName(a);
  const absl::StatusOr<std::string> canonical_b = proto::CanonicalDnsName(b);
  return canonical_a.ok() && canonical_b.ok() && *canonical_a == *canonical_b;
}

void FillAddresses(const absl::StatusOr<Addresses>& found, const HttpsRecord* service, ServerAnswer& answer) {
  std::vector<proto::IpAddress> addresses;
  if (found.ok()) {
    addresses = found->addresses;
    answer.address_ttl_seconds = found->ttl_seconds;
  } else if (service != nullptr) {
    addresses = service->ipv6hint;
    addresses.insert(addresses.end(), service->ipv4hint.begin(), service->ipv4hint.end());
    answer.address_ttl_seconds = answer.ech_ttl_seconds;
  }
  if (addresses.empty()) {
    answer.address_status = found.status();
    return;
  }
  answer.addresses.reserve(addresses.size());
  for (const proto::IpAddress& address : addresses) answer.addresses.push_back(WithPort(address, answer.port));
  answer.addresses = OrderForDialling(answer.addresses);
}

core::Task<absl::StatusOr<Services>> NoServices() { co_return Services(); }
core::Task<absl::StatusOr<Addresses>> NoAddresses() { co_return Addresses(); }

core::Task<ServerAnswer> LookUp(ech::DohTransport* transport, ServerQuestion question) {
  core::TaskContext& context = co_await core::CurrentTask();
  const bool literal_ech_name = proto::ParseIpAddress(question.ech_name).has_value();
  const bool own = SameName(question.host, question.ech_name);
  const bool ask_services = question.want_ech && !literal_ech_name;
  using Pair = std::pair<absl::StatusOr<Services>, absl::StatusOr<Addresses>>;
  core::Task<Pair> both =
      Both(ask_services ? FindServicesOfPort(transport, question.ech_name, question.port) : NoServices(),
           question.want_addresses ? FindAddressesOf(transport, question.host) : NoAddresses());
  Pair pair = co_await std::move(both);
  auto& [services, addresses] = pair;

  ServerAnswer answer;
  answer.port = question.port;
  const HttpsRecord* service = services.ok() ? Choose(services->services, own, context.reactor()) : nullptr;
  if (literal_ech_name && question.want_ech) {
    answer.ech_status = InvalidArgument("{} is an address: it has no HTTPS record for -ech", question.ech_name);
  } else if (!services.ok()) {
    answer.ech_status = services.status();
  } else if (ask_services && service == nullptr) {
    answer.ech_status = services->services.empty()
                            ? NotFound("{} has no HTTPS record", question.ech_name)
                            : NotFound("{} has no HTTPS record of a service with HTTP/1.1", question.ech_name);
  } else if (ask_services && service->ech.empty()) {
    answer.ech_status = NotFound("the HTTPS record of {} has no ech=", question.ech_name);
  } else if (ask_services) {
    answer.ech_config_list = service->ech;
    answer.ech_ttl_seconds = services->ttl_seconds;
  }
  // The records of the bare name say where the server's port 443 is; of a server on another one they tell the list
  // only.
  const bool follow = own && services.ok() && services->of_port;
  if (follow && service != nullptr && service->port.has_value()) answer.port = *service->port;
  if (!question.want_addresses) co_return std::move(answer);

  // Where the service is: aliases and the record's target move it away from the host's own addresses.
  if (follow && ask_services) {
    const std::string& target = service == nullptr || service->target == "." ? services->name : service->target;
    if (!SameName(target, question.host) &&
        !SameName(target, fmt::format("_{}._https.{}", question.port, question.host))) {
      core::Task<absl::StatusOr<Addresses>> find = FindAddressesOf(transport, target);
      addresses = co_await std::move(find);
    }
  }
  FillAddresses(addresses, own ? service : nullptr, answer);
  co_return std::move(answer);
}

}  // namespace

core::Task<ServerAnswer> LookUpServer(ech::DohTransport& transport, ServerQuestion question) {
  return LookUp(&transport, std::move(question));
}

}  // namespace tunnel::net
