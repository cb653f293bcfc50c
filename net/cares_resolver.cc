#include "net/cares_resolver.h"

// Newer versions mark as deprecated what is all that 1.18 has.
#define CARES_NO_DEPRECATED
#include <ares.h>
#include <sys/epoll.h>  // layers: allow, DescriptorWatch speaks in its event names
#include <sys/time.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace tunnel::net {
namespace {

using core::SocketAddress;

// A name with more addresses than this is dialled at its first ones.
constexpr size_t kMaxAddresses = 32;
constexpr int kTries = 2;

absl::Status InitLibrary() {
  static std::once_flag once;
  static int result = ARES_SUCCESS;
  std::call_once(once, [] { result = ares_library_init(ARES_LIB_INIT_ALL); });
  if (result != ARES_SUCCESS) return Internal("c-ares: {}", ares_strerror(result));
  return absl::OkStatus();
}

// Names compare without case. A final dot stays: it says that no search domain is to be tried.
std::string CacheKey(std::string host) {
  for (char& c : host) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return host;
}

absl::Status FailureOf(const std::string& host, int status) {
  switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME:
      return NotFound("{} has no address ({})", host, ares_strerror(status));
    default:
      return Unavailable("cannot resolve {}: {}", host, ares_strerror(status));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<CaresResolver>> CaresResolver::Create(core::Reactor& reactor, CaresOptions options) {
  TUNNEL_RETURN_IF_ERROR(InitLibrary());
  std::unique_ptr<CaresResolver> resolver(new CaresResolver(reactor, std::move(options)));
  TUNNEL_RETURN_IF_ERROR(resolver->Open());
  return resolver;
}

CaresResolver::CaresResolver(core::Reactor& reactor, CaresOptions options)
    : reactor_(reactor),
      options_(std::move(options)),
      timer_(reactor.timers(), [this] { Process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }) {}

absl::Status CaresResolver::Open() {
  ares_options wanted = {};
  wanted.timeout = static_cast<int>(options_.query_timeout.count());
  wanted.tries = kTries;
  char files_then_dns[] = "fb";
  wanted.lookups = files_then_dns;
  wanted.sock_state_cb = [](void* self, ares_socket_t descriptor, int readable, int writable) {
    static_cast<CaresResolver*>(self)->OnSocketState(descriptor, readable != 0, writable != 0);
  };
  wanted.sock_state_cb_data = this;
  int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE
  // Newer versions keep answers too, for longer than our cache_limit.
  wanted.qcache_max_ttl = 0;
  mask |= ARES_OPT_QUERY_CACHE;
#endif
  int result = ares_init_options(&channel_, &wanted, mask);
  if (result != ARES_SUCCESS) {
    channel_ = nullptr;
    return Internal("c-ares: {}", ares_strerror(result));
  }
  if (options_.servers.empty()) return absl::OkStatus();
  result = ares_set_servers_ports_csv(channel_, options_.servers.c_str());
  if (result != ARES_SUCCESS) return InvalidArgument("DNS servers {}: {}", options_.servers, ares_strerror(result));
  return absl::OkStatus();
}

CaresResolver::~CaresResolver() {
  // Ends what was abandoned: every lookup's callback is called, and the watches go before the descriptors close.
  if (channel_ != nullptr) ares_destroy(channel_);
}

core::Task<absl::StatusOr<std::vector<SocketAddress>>> CaresResolver::Resolve(std::string host, uint16_t port) {
  if (const std::optional<SocketAddress> literal = SocketAddress::Parse(host, port)) {
    co_return std::vector<SocketAddress>{*literal};
  }
  const std::string key = CacheKey(std::move(host));
  std::vector<SocketAddress> addresses;
  while (true) {
    if (const CacheEntry* entry = Cached(key)) {
      addresses = entry->addresses;
      break;
    }
    std::shared_ptr<Lookup> lookup;
    if (const auto running = lookups_.find(key); running != lookups_.end()) {
      lookup = running->second;
    } else if (lookups_.size() >= options_.max_lookups) {
      lookup_ended_.Reset();
      if (absl::Status waited = co_await lookup_ended_.Wait(); !waited.ok()) co_return waited;
      continue;
    } else {
      lookup = StartLookup(key);
    }
    if (absl::Status waited = co_await lookup->done.Wait(); !waited.ok()) co_return waited;
    if (!lookup->result.ok()) co_return lookup->result.status();
    addresses = *lookup->result;
    break;
  }
  for (SocketAddress& address : addresses) address.set_port(port);
  co_return std::move(addresses);
}

std::shared_ptr<CaresResolver::Lookup> CaresResolver::StartLookup(const std::string& host) {
  auto lookup = std::make_shared<Lookup>();
  lookup->resolver = this;
  lookup->host = host;
  lookups_.emplace(host, lookup);
  ares_addrinfo_hints hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  // Sorting by RFC 6724 costs a socket an address; an address without a route fails at once when it is dialled.
  hints.ai_flags = ARES_AI_NOSORT;
  // c-ares keeps a reference of its own until it calls back, which may be before it returns.
  ares_getaddrinfo(
      channel_, host.c_str(), nullptr, &hints,
      [](void* argument, int status, int /*timeouts*/, ares_addrinfo* result) {
        const std::unique_ptr<std::shared_ptr<Lookup>> held(static_cast<std::shared_ptr<Lookup>*>(argument));
        (*held)->resolver->OnResult(**held, status, result);
        if (result != nullptr) ares_freeaddrinfo(result);
      },
      std::make_unique<std::shared_ptr<Lookup>>(lookup).release());
  UpdateTimer();
  return lookup;
}

void CaresResolver::OnResult(Lookup& lookup, int status, const ares_addrinfo* result) {
  std::vector<SocketAddress> addresses;
  if (status == ARES_SUCCESS && result != nullptr) {
    int ttl_seconds = INT32_MAX;
    for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
      const SocketAddress address = SocketAddress::FromKernel(node->ai_addr, node->ai_addrlen);
      if (!address.valid() || addresses.size() == kMaxAddresses) continue;
      addresses.push_back(address);
      ttl_seconds = std::min(ttl_seconds, node->ai_ttl);
    }
    addresses = OrderForDialling(addresses);
    if (addresses.empty()) status = ARES_ENODATA;
    if (!addresses.empty()) Remember(lookup.host, addresses, std::chrono::seconds(ttl_seconds));
  }
  if (addresses.empty()) {
    lookup.result = FailureOf(lookup.host, status);
  } else {
    lookup.result = std::move(addresses);
  }
  lookup.done.Set();
  lookups_.erase(lookup.host);
  lookup_ended_.Set();
}

void CaresResolver::Remember(const std::string& host, const std::vector<SocketAddress>& addresses, core::Duration ttl) {
  ttl = std::min(ttl, options_.cache_limit);
  if (ttl <= core::Duration::zero() || options_.cache_names == 0) return;
  if (cache_.size() >= options_.cache_names) {
    absl::erase_if(cache_, [this](const auto& entry) { return entry.second.expires <= reactor_.now(); });
    if (cache_.size() >= options_.cache_names) cache_.erase(cache_.begin());
  }
  cache_[host] = CacheEntry{.addresses = addresses, .expires = reactor_.now() + ttl};
}

const CaresResolver::CacheEntry* CaresResolver::Cached(const std::string& host) {
  const auto found = cache_.find(host);
  if (found == cache_.end()) return nullptr;
  if (found->second.expires > reactor_.now()) return &found->second;
  cache_.erase(found);
  return nullptr;
}

void CaresResolver::OnSocketState(int descriptor, bool readable, bool writable) {
  if (!readable && !writable) {
    watches_.erase(descriptor);
    return;
  }
  std::unique_ptr<core::DescriptorWatch>& watch = watches_[descriptor];
  if (watch == nullptr) {
    watch = std::make_unique<core::DescriptorWatch>(reactor_, descriptor, [this, descriptor](uint32_t events) {
      constexpr uint32_t kFailed = EPOLLERR | EPOLLHUP;  // shows itself when the descriptor is read
      Process((events & (EPOLLIN | kFailed)) != 0 ? descriptor : ARES_SOCKET_BAD,
              (events & EPOLLOUT) != 0 ? descriptor : ARES_SOCKET_BAD);
    });
  }
  watch->Watch((readable ? uint32_t{EPOLLIN} : 0U) | (writable ? uint32_t{EPOLLOUT} : 0U));
}

void CaresResolver::Process(int readable, int writable) {
  ares_process_fd(channel_, readable, writable);
  UpdateTimer();
}

void CaresResolver::UpdateTimer() {
  timeval next = {};
  if (ares_timeout(channel_, nullptr, &next) == nullptr) {
    timer_.Cancel();
    return;
  }
  // A millisecond later than asked: c-ares truncates, and would else be called a few times for nothing.
  timer_.SetAfter(std::chrono::seconds(next.tv_sec) + std::chrono::microseconds(next.tv_usec) +
                  std::chrono::milliseconds(1));
}

}  // namespace tunnel::net
