// What a stranger sends on an HTTP/2 connection of -serve-dns, behind the client's preface. Whatever it is, requests
// stay within their bounds and the connection comes to its end.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "core/check.h"
#include "core/reactor.h"
#include "core/task.h"
#include "net/doh_http2_server.h"

namespace {

namespace core = tunnel::core;
namespace net = tunnel::net;

// A peer that has all it says on the way at once, and forgets what it is told.
class ScriptedPeer final : public net::ByteStream {
 public:
  void SetHandler(Handler* handler) override { handler_ = handler; }
  void PauseReceive() override {}
  void ResumeReceive() override {}
  void Send(core::Slice data) override { sent_bytes_ += data.size(); }
  [[nodiscard]] bool writable() const override { return true; }
  [[nodiscard]] size_t queued_bytes() const override { return 0; }
  void FinishSend() override {}
  void CloseAfterSend(core::Duration /*limit*/) override {}
  void Abort() override {}
  [[nodiscard]] std::string peer() const override { return "script"; }

  [[nodiscard]] Handler* handler() const { return handler_; }
  [[nodiscard]] size_t sent_bytes() const { return sent_bytes_; }

 private:
  Handler* handler_ = nullptr;
  size_t sent_bytes_ = 0;
};

core::Task<void> ServeOne(core::Reactor& reactor, net::ByteStream& stream) {
  size_t requests = 0;
  net::DohHttp2Server server(reactor, stream, [&requests](const net::Http2Request& request) -> net::DohReply {
    TUNNEL_CHECK(++requests <= net::DohHttp2Server::kRequests);
    TUNNEL_CHECK(request.body.size() <= net::kMaxDohQueryBytes);
    TUNNEL_CHECK(request.method.size() + request.path.size() <= net::DohHttp2Server::kHeaderBytes);
    return {.status = request.too_long ? 413 : 200, .body = {request.body.begin(), request.body.end()}};
  });
  (void)co_await server.Serve();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  static const std::unique_ptr<core::Reactor> reactor = [] {
    std::string note;
    auto made = core::Reactor::Create({.backend = core::BackendChoice::kEpoll}, 0, note);
    TUNNEL_CHECK(made.ok());
    return *std::move(made);
  }();
  ScriptedPeer peer;
  core::Scope scope(*reactor);
  scope.Spawn(ServeOne(*reactor, peer));
  const std::string text = std::string(kPreface) + std::string(reinterpret_cast<const char*>(data), size);
  for (std::string_view rest = text; !rest.empty() && peer.handler() != nullptr;) {
    const size_t piece = std::min<size_t>(rest.size(), 4096);
    peer.handler()->OnData(reactor->buffers().Copy(rest.substr(0, piece)));
    rest.remove_prefix(piece);
  }
  if (peer.handler() != nullptr) peer.handler()->OnEnd();
  for (int turns = 0; !scope.empty(); ++turns) {
    TUNNEL_CHECK(turns < 10);
    reactor->Turn(reactor->backend().Now());
  }
  // An answer is as long as its question here: nothing else is amplified either.
  TUNNEL_CHECK(peer.sent_bytes() <= 1024 + 64 * (size + kPreface.size()));
  return 0;
}
