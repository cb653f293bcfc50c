#include "bench/ws_echo_client.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "bench/ws_echo_session.h"
#include "net/byte_reader.h"
#include "net/http_reader.h"
#include "net/limits.h"
#include "net/tcp_stream.h"
#include "net/tls_context.h"
#include "net/tls_stream.h"
#include "proto/http1_builder.h"
#include "proto/http1_upgrade.h"
#include "proto/websocket_handshake.h"

namespace tunnel::bench {
namespace {

// The message of a number: printable, and another one for every number and position.
std::string TestMessage(uint64_t number, size_t size) {
  std::string text(size, '\0');
  uint64_t state = number * 0x9E3779B97F4A7C15U + 1;
  for (char& c : text) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    c = static_cast<char>(' ' + (state >> 33) % 95);
  }
  return text;
}

// Sends messages and compares what comes back; or only takes what comes.
class Exchange final : public net::WebSocket::Handler {
 public:
  Exchange(core::Reactor& reactor, std::unique_ptr<net::ByteStream> stream, const EchoClientOptions& options)
      : options_(options), socket_(reactor, std::move(stream), {.role = proto::Role::kClient, .check_utf8 = true}) {}

  void Start(core::Slice received) {
    socket_.Start(this, std::move(received));
    SendMore();
  }
  [[nodiscard]] core::Event& ended() { return ended_; }
  [[nodiscard]] absl::Status status() const {
    if (!wrong_.empty()) return Internal("{}", wrong_);
    if (received_ < options_.messages) {
      return Unavailable("{} of {} messages, then: {}", received_, options_.messages, MessageOf(down_));
    }
    return closed_in_order_ ? absl::OkStatus() : down_;
  }
  [[nodiscard]] EchoCounts counts() const { return {.messages = received_, .bytes = bytes_}; }
  [[nodiscard]] uint32_t checksum() const { return checksum_; }

 private:
  [[nodiscard]] bool verifies() const { return options_.mode == EchoClientOptions::Mode::kVerify; }
  [[nodiscard]] proto::Opcode KindOf(uint64_t number) const { return options_.kinds[number % options_.kinds.size()]; }
  [[nodiscard]] size_t SizeOf(uint64_t number) const { return options_.sizes[number % options_.sizes.size()]; }

  void SendMore() {
    if (!verifies()) return;
    while (sent_ < options_.messages && sent_ - received_ < options_.window && socket_.writable()) {
      const std::string text = TestMessage(sent_, SizeOf(sent_));
      SendWhole(socket_, KindOf(sent_), {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
      ++sent_;
    }
  }
  void OnMessageBegin(proto::Opcode opcode) override {
    opcode_ = opcode;
    message_.clear();
  }
  void OnMessageData(core::Slice piece) override { message_ += piece.text(); }
  void OnMessageEnd() override {
    if (received_ == options_.messages) return;
    if (verifies()) {
      if (received_ >= sent_ || opcode_ != KindOf(received_) || message_ != TestMessage(received_, SizeOf(received_))) {
        wrong_ = fmt::format("message {} of {} bytes did not come back as it was", received_, SizeOf(received_));
        socket_.Close(proto::kClosePolicy, "not an echo");
        return;
      }
    } else {
      fmt::print("{}\n", message_);
      std::fflush(stdout);
    }
    ++received_;
    bytes_ += message_.size();
    for (const char c : message_) checksum_ = checksum_ * 16777619U ^ static_cast<uint8_t>(c);
    if (received_ == options_.messages) {
      socket_.Close(proto::kCloseNormal, "done");
      closing_ = true;
    } else {
      SendMore();
    }
  }
  void OnWritable() override { SendMore(); }
  void OnDown(const absl::Status& reason) override {
    down_ = reason;
    closed_in_order_ = closing_ && MessageOf(reason).starts_with("closed by us");
    ended_.Set();
  }

  const EchoClientOptions& options_;
  net::WebSocket socket_;
  core::Event ended_;
  proto::Opcode opcode_ = proto::Opcode::kText;
  std::string message_;
  uint64_t sent_ = 0;
  uint64_t received_ = 0;
  uint64_t bytes_ = 0;
  uint32_t checksum_ = 2166136261U;
  std::string wrong_;
  bool closing_ = false;
  bool closed_in_order_ = false;
  absl::Status down_;
};

// What an upgraded connection is made of.
struct Upgraded {
  std::unique_ptr<net::ByteStream> stream;
  core::Slice rest;
};

core::Task<absl::StatusOr<Upgraded>> Upgrade(core::Reactor& reactor, std::unique_ptr<net::ByteStream> stream,
                                             const EchoClientOptions& options) {
  std::array<uint8_t, 16> random{};
  reactor.FillRandom(random);
  const std::string key = proto::MakeWebSocketKey(random);
  const bool v6 = options.url.host.find(':') != std::string::npos;
  auto builder = proto::HttpHeadBuilder::Request("GET", options.url.path.empty() ? "/" : options.url.path);
  builder.Add("Host", fmt::format("{}{}{}:{}", v6 ? "[" : "", options.url.host, v6 ? "]" : "", *options.url.port))
      .Add("Upgrade", "websocket")
      .Add("Connection", "Upgrade")
      .Add("Sec-WebSocket-Key", key)
      .Add("Sec-WebSocket-Version", "13");
  if (!options.subprotocol.empty()) builder.Add("Sec-WebSocket-Protocol", options.subprotocol);
  auto request = builder.Finish();
  if (!request.ok()) co_return request.status();
  std::string rest;
  {
    net::ByteReader reader(*stream);
    stream->Send(reactor.buffers().Copy(*request));
    net::HttpReader http(reader);
    proto::ResponseHead response;
    absl::Status read = co_await http.ReadResponse("GET", response);
    if (!read.ok()) co_return read;
    absl::Status accepted = proto::CheckWebSocketAccept(response, proto::WebSocketAcceptFor(key), options.subprotocol);
    if (!accepted.ok()) co_return accepted;
    rest = http.TakeRest();
  }
  Upgraded result{.stream = std::move(stream), .rest = {}};
  if (!rest.empty()) result.rest = reactor.buffers().Copy(rest);
  co_return std::move(result);
}

core::Task<absl::StatusOr<Upgraded>> Dial(core::Reactor& reactor, const EchoClientOptions& options,
                                          const net::TlsClientContext* tls) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, net::kDialLimit);
  const std::string& host = options.server.empty() ? options.url.host : options.server;
  const auto address = core::SocketAddress::Parse(host == "localhost" ? "127.0.0.1" : host, *options.url.port);
  if (!address) co_return InvalidArgument("{}: expected an IP address to dial (-ip gives one for a name)", host);
  auto socket = co_await core::Connect(reactor, *address);
  if (!socket.ok()) co_return socket.status();
  std::unique_ptr<net::ByteStream> stream;
  if (tls == nullptr) {
    stream = std::make_unique<net::TcpStream>(*std::move(socket));
  } else {
    net::TlsClientHandshake handshake;
    handshake.host = options.url.host;
    auto engine = net::TlsEngine::Client(*tls, handshake);
    if (!engine.ok()) co_return engine.status();
    auto secured = std::make_unique<net::TlsStream>(reactor, *std::move(socket), *std::move(engine));
    absl::Status shaken = co_await secured->Handshake();
    if (!shaken.ok()) co_return shaken;
    stream = std::move(secured);
  }
  co_return co_await Upgrade(reactor, std::move(stream), options);
}

std::string Figures(const EchoCounts& counts, core::Duration took) {
  const double seconds = std::max(1e-6, static_cast<double>(core::ToMilliseconds(took)) / 1000);
  return fmt::format("{} messages, {} bytes, {:.3f} s, {:.0f} messages/s", counts.messages, counts.bytes, seconds,
                     static_cast<double>(counts.messages) / seconds);
}

core::Task<absl::StatusOr<std::string>> EchoUntilEnd(core::Reactor& reactor, Upgraded upgraded) {
  core::Event ended;
  absl::Status down;
  EchoSession session(reactor, std::move(upgraded.stream), proto::Role::kClient, [&](const absl::Status& reason) {
    down = reason;
    ended.Set();
  });
  const core::TimePoint start = reactor.now();
  session.Start(std::move(upgraded.rest));
  const absl::Status waited = co_await ended.Wait();
  if (!waited.ok()) co_return waited;
  fmt::print("down: {}\n", MessageOf(down));
  co_return Figures(session.counts(), reactor.now() - start);
}

}  // namespace

core::Task<absl::StatusOr<std::string>> RunEchoClient(core::Reactor& reactor, EchoClientOptions options) {
  std::unique_ptr<net::TlsClientContext> tls;
  if (options.url.scheme == "wss") {
    auto context = net::TlsClientContext::Create({.ca_file = options.ca_file, .alpn = {"http/1.1"}});
    if (!context.ok()) co_return context.status();
    tls = *std::move(context);
  }
  auto upgraded = co_await Dial(reactor, options, tls.get());
  if (!upgraded.ok()) co_return upgraded.status();
  if (options.mode == EchoClientOptions::Mode::kEcho) co_return co_await EchoUntilEnd(reactor, *std::move(upgraded));
  Exchange exchange(reactor, std::move(upgraded->stream), options);
  const core::TimePoint start = reactor.now();
  exchange.Start(std::move(upgraded->rest));
  const absl::Status waited = co_await exchange.ended().Wait();
  if (!waited.ok()) co_return waited;
  absl::Status status = exchange.status();
  if (!status.ok()) co_return status;
  co_return fmt::format("{}, checksum {:08x}", Figures(exchange.counts(), reactor.now() - start), exchange.checksum());
}

}  // namespace tunnel::bench
