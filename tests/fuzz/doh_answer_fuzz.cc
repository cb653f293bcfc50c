// What a DoH resolver may send for one question, over HTTP/1.1 and HTTP/2: whatever it is, the question ends, and what
// comes of it is within its bounds.
//
// The first byte decides: bit 0 HTTP/2 instead of HTTP/1.1, bit 1 POST instead of GET, bits 2 to 7 the size of the
// pieces in which the rest, the resolver's bytes, arrive (0: in one). Then the connection ends.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/reactor.h"
#include "net/doh_http1.h"
#include "net/doh_http2.h"
#include "tests/unit/net/memory_stream.h"

namespace {

namespace core = tunnel::core;
namespace net = tunnel::net;
using Body = absl::StatusOr<std::vector<uint8_t>>;

core::Reactor& TheReactor() {
  static const std::unique_ptr<core::Reactor> reactor = [] {
    std::string note;
    auto made = core::Reactor::Create({.backend = core::BackendChoice::kEpoll}, 0, note);
    TUNNEL_CHECK(made.ok());
    return *std::move(made);
  }();
  return *reactor;
}

// Takes what the client sends, and nothing else: the resolver's bytes are sent whatever was asked.
struct Resolver final : net::ByteStream::Handler {
  void OnData(core::Slice /*data*/) override {}
  void OnEnd() override {}
  void OnDrained() override {}
  void OnDead(absl::Status /*reason*/) override {}
};

core::Task<void> Store(core::Task<Body> task, std::optional<Body>* result) {
  Body value = co_await std::move(task);
  result->emplace(std::move(value));
}

void Turn(core::Reactor& reactor) { reactor.Turn(reactor.backend().Now()); }

// Ends in time: nothing here waits for a clock.
Body Ask(core::Task<Body> task) {
  core::Reactor& reactor = TheReactor();
  std::optional<Body> result;
  core::Scope scope(reactor);
  scope.Spawn(Store(std::move(task), &result));
  for (int turns = 0; !scope.empty(); ++turns) {
    TUNNEL_CHECK(turns < 100000);
    Turn(reactor);
  }
  return *std::move(result);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t how = data[0];
  std::string_view answer(reinterpret_cast<const char*>(data) + 1, size - 1);
  core::Reactor& reactor = TheReactor();
  const size_t piece = (how >> 2) == 0 ? SIZE_MAX : how >> 2;
  auto [client, server] = net::MemoryStream::Pair(reactor, piece);
  Resolver resolver;
  server->SetHandler(&resolver);
  for (; !answer.empty(); answer.remove_prefix(std::min<size_t>(answer.size(), 16384))) {
    server->Send(reactor.buffers().Copy(answer.substr(0, 16384)));
  }
  server->FinishSend();
  const net::DohRequest request{
      .authority = "dns.example", .path = "/dns-query", .body = (how & 2) == 0 ? "" : "the question"};
  if ((how & 1) == 0) {
    const Body body = Ask(net::FetchHttp1(*client, reactor.buffers(), request));
    TUNNEL_CHECK(!body.ok() || body->size() <= net::kDohMaxBodyBytes);
  } else {
    net::DohHttp2 session(reactor, std::move(client));
    const Body body = Ask(session.Fetch(request));
    TUNNEL_CHECK(!body.ok() || body->size() <= net::kDohMaxBodyBytes);
  }
  server->Abort();
  Turn(reactor);
  return 0;
}
