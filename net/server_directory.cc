#include "net/server_directory.h"

#include <algorithm>

#include "core/log.h"
#include "net/limits.h"
#include "net/server_lookup.h"

namespace tunnel::net {
namespace {

// A short TTL would mean a lookup a dial, a long one an address that moved long ago.
constexpr core::Duration kShortestAddressTtl = std::chrono::seconds(30);
constexpr core::Duration kLongestAddressTtl = std::chrono::hours(1);

// Who was asked, for messages.
std::string Resolvers(const Config& config) {
  std::string text;
  for (const std::string& url : config.doh_urls) text += (text.empty() ? "" : ", ") + url;
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerDirectory>> ServerDirectory::Create(core::Reactor& reactor, const Config& config,
                                                                         ech::DohTransport& doh) {
  ech::ConfigSource source;
  if (!config.ech_config_list.empty()) {
    const auto* data = reinterpret_cast<const uint8_t*>(config.ech_config_list.data());
    auto given = ech::ConfigSource::Static(std::span(data, config.ech_config_list.size()));
    if (!given.ok()) return Annotate(given.status(), "-ech-config");
    source = *std::move(given);
  }
  return std::unique_ptr<ServerDirectory>(new ServerDirectory(reactor, config, doh, std::move(source)));
}

ServerDirectory::ServerDirectory(core::Reactor& reactor, const Config& config, ech::DohTransport& doh,
                                 ech::ConfigSource source)
    : reactor_(reactor), config_(config), doh_(doh), source_(std::move(source)), addresses_expire_(reactor.now()) {
  for (core::SocketAddress address : config.server_addresses) {
    if (!address.is_unix()) address.set_port(config.server_port);
    addresses_.push_back(address);
  }
  if (const auto literal = core::SocketAddress::Parse(config.server_host, config.server_port);
      addresses_.empty() && literal.has_value()) {
    addresses_.push_back(*literal);
  }
  addresses_given_ = !addresses_.empty();
}

bool ServerDirectory::NeedsLookup() const {
  if (!config_.fallback && source_.NeedsRefresh(reactor_.now())) return true;
  return !addresses_given_ && reactor_.now() >= addresses_expire_;
}

core::Task<absl::StatusOr<ServerRoute>> ServerDirectory::Route() {
  absl::Status refreshed;
  if (looking_up_) {
    while (looking_up_) {
      looked_up_.Reset();
      const absl::Status waited = co_await looked_up_.Wait();
      if (!waited.ok()) co_return waited;
    }
  } else if (NeedsLookup()) {
    looking_up_ = true;
    refreshed = co_await Refresh();
    looking_up_ = false;
    looked_up_.Set();
  }
  // What was known before the failure may still hold.
  ServerRoute route;
  if (!config_.fallback) {
    route.ech = source_.Current(reactor_.now());
    if (!route.ech.has_value()) {
      if (refreshed.ok()) refreshed = NotFound("no ECHConfigList is known for {}", config_.ech_name);
      co_return Annotate(refreshed, "no connection without ECH");
    }
  }
  route.addresses = addresses_;
  if (route.addresses.empty()) {
    if (refreshed.ok()) refreshed = NotFound("no address is known for {}", config_.server_host);
    co_return refreshed;
  }
  if (!refreshed.ok()) spdlog::warn("going on with what was looked up before: {}", MessageOf(refreshed));
  co_return std::move(route);
}

core::Task<absl::Status> ServerDirectory::Refresh() {
  ServerQuestion question;
  question.host = config_.server_host;
  question.port = config_.server_port;
  question.ech_name = config_.ech_name;
  question.want_ech = !config_.fallback && source_.NeedsRefresh(reactor_.now());
  question.want_addresses = !addresses_given_;
  const bool want_ech = question.want_ech;
  const ServerAnswer answer = co_await LookUpServer(doh_, std::move(question));
  absl::Status status;
  if (want_ech) {
    status = answer.ech_status;
    if (status.ok()) {
      status =
          source_.StoreFromDns(answer.ech_config_list, std::chrono::seconds(answer.ech_ttl_seconds), reactor_.now());
    }
    status = Annotate(status, "ECH config of {} from {}", config_.ech_name, Resolvers(config_));
  }
  if (addresses_given_) co_return status;
  if (!answer.address_status.ok()) {
    if (status.ok())
      status = Annotate(answer.address_status, "address of {} from {}", config_.server_host, Resolvers(config_));
    co_return status;
  }
  addresses_ = answer.addresses;
  const core::Duration ttl = std::clamp<core::Duration>(std::chrono::seconds(answer.address_ttl_seconds),
                                                        kShortestAddressTtl, kLongestAddressTtl);
  addresses_expire_ = reactor_.now() + ttl;
  co_return status;
}

}  // namespace tunnel::net
