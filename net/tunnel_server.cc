#include "net/tunnel_server.h"

#include <algorithm>
#include <atomic>

#include "core/log.h"
#include "net/doh_http2_server.h"
#include "net/limits.h"
#include "net/tcp_stream.h"
#include "net/tls_stream.h"
#include "proto/http1_builder.h"
#include "proto/http1_upgrade.h"
#include "proto/websocket_handshake.h"

namespace tunnel::net {
namespace {

// What a client may send behind its upgrade before it has the answer: nobody of ours does.
constexpr size_t kBehindUpgradeLimit = core::BufferPool::kMaxBlockBytes;

// For the log: channels count over the process, whatever core they are on.
std::atomic<uint64_t> next_channel_number{1};

std::string Answer(int status, std::string_view reason, std::string_view content_type, std::string_view body,
                   bool close) {
  auto builder = proto::HttpHeadBuilder::Response(status, reason);
  builder.Add("Content-Type", content_type).Add("Content-Length", std::to_string(body.size()));
  if (close) builder.Add("Connection", "close");
  auto head = builder.Finish();
  TUNNEL_CHECK(head.ok());
  return *head + std::string(body);
}

// What anyone sees who does not reach the tunnel: a dull web server.
std::string PlainAnswer(int status, std::string_view reason) {
  return Answer(status, reason, "text/plain; charset=utf-8", fmt::format("{} {}\n", status, reason), true);
}

// The mux/2 that a client offers, where this server speaks it.
absl::StatusOr<std::optional<proto::MuxOffer>> OfferOf(const proto::RequestHead& head, Protocol protocol) {
  const std::optional<std::string_view> field = head.fields.Find(proto::kMuxHeaderName);
  if (protocol == Protocol::kLegacy || !field.has_value()) return std::nullopt;
  if (head.fields.Count(proto::kMuxHeaderName) != 1) return InvalidArgument("{} twice", proto::kMuxHeaderName);
  return proto::ParseMuxOffer(*field);
}

bool PathMatches(const std::string& wanted, std::string_view path) {
  if (wanted.empty() || wanted == "/") return true;
  return path.substr(0, path.find('?')) == wanted;
}

// A client that was rejected may leave before or after the handshake is done, which is a matter of its library.
void CountEch(core::Counters& counters, const TlsEngine& engine, bool done) {
  if (engine.ech_offered() && !engine.ech_accepted()) {
    counters.ech_rejected.Add();
  } else if (done) {
    (engine.ech_offered() ? counters.ech_accepted : counters.ech_absent).Add();
  }
}

std::string_view EchWords(const TlsEngine& engine) {
  if (engine.ech_accepted()) return "ECH accepted";
  return engine.ech_offered() ? "ECH of no key of ours" : "without ECH";
}

}  // namespace

// One accepted connection before it is a channel. Counted as a handshake in progress while it lives.
struct TunnelServer::Connection {
  Connection(core::Reactor& r, const ListenSpec& s, const core::StreamSocket& socket)
      : reactor(&r), spec(&s), peer(socket.peer_address()), local(socket.local_address()) {
    if (local.is_unix()) local = core::SocketAddress();  // nothing that the DNS could name
    r.counters().handshakes_in_progress.Add();
  }
  Connection(Connection&& other) noexcept
      : reactor(std::exchange(other.reactor, nullptr)),
        spec(other.spec),
        peer(other.peer),
        local(other.local),
        stream(std::move(other.stream)),
        tls(other.tls),
        tcp(other.tcp),
        transport(std::move(other.transport)),
        ech_accepted(other.ech_accepted),
        lease(std::move(other.lease)) {}
  Connection& operator=(Connection&&) = delete;
  ~Connection() {
    if (reactor != nullptr) reactor->counters().handshakes_in_progress.Add(-1);
  }

  core::Reactor* reactor;
  const ListenSpec* spec;
  core::SocketAddress peer;
  core::SocketAddress local;
  // Takes the stream over, whichever it is.
  void Use(std::unique_ptr<TlsStream> stream_over_tls) {
    tls = stream_over_tls.get();
    stream = std::move(stream_over_tls);
  }
  void Use(std::unique_ptr<TcpStream> plain_stream) {
    tcp = plain_stream.get();
    stream = std::move(plain_stream);
  }

  std::unique_ptr<ByteStream> stream;
  TlsStream* tls = nullptr;  // what stream is, or ...
  TcpStream* tcp = nullptr;  // ... this
  std::string transport;     // for the log
  bool ech_accepted = false;
  SourceLimit::Lease lease;
};

struct TunnelServer::Channel {
  Channel(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, SourceLimit::Lease source, bool keep_alive)
      : lease(std::move(source)),
        socket(reactor, std::move(stream), WebSocket::Options{.role = proto::Role::kServer, .keep_alive = keep_alive}) {
  }
  SourceLimit::Lease lease;
  WebSocket socket;
  std::unique_ptr<Carrier> carrier;  // refers to socket
  MuxChannel* mux = nullptr;         // what it is where it speaks mux/2
};

TunnelServer::TunnelServer(core::Reactor& reactor, ServerParts parts, TargetConnector& connector,
                           DatagramOpener& datagrams, RelaySet& relays, core::Scope& scope)
    : reactor_(reactor),
      parts_(std::move(parts)),
      token_(parts_.config.token),
      connector_(connector),
      datagrams_(datagrams),
      relays_(relays),
      scope_(scope),
      sessions_({.reactor = reactor,
                 .budget = budget_,
                 .connector = connector,
                 .datagrams = datagrams,
                 .relays = relays,
                 .scope = scope,
                 .settled =
                     [this] {
                       if (emptied_ != nullptr) emptied_();
                     },
                 .allow_reverse = &parts_.config.allow_reverse},
                parts_.directory) {}

TunnelServer::~TunnelServer() = default;

void TunnelServer::SetTls(const TlsServerContext* tls, std::vector<uint8_t> ech_config_list) {
  parts_.tls = tls;
  parts_.ech_config_list = std::move(ech_config_list);
}

void TunnelServer::OnAccepted(const ListenSpec& spec, core::StreamSocket socket) {
  if (reactor_.counters().handshakes_in_progress.Get() >= kNegotiationsPerCore) {
    reactor_.counters().connections_refused.Add();
    socket.Reset();
    return;
  }
  scope_.Spawn(Serve(spec, std::move(socket)));
}

void TunnelServer::GoAway() {
  sessions_.StopListening();
  for (const auto& [number, channel] : channels_) {
    if (channel->mux != nullptr) channel->mux->GoAway(proto::MuxGoAwayCode::kShutdown, "the server stops");
  }
}

void TunnelServer::CloseChannels() {
  // Or clients would wait for the rest of this process's streams.
  sessions_.ResetAll("the server stops");
  closing_ = true;
  if (channels_.empty()) sessions_.Clear();
  for (const auto& [number, channel] : channels_) channel->socket.Close(proto::kCloseGoingAway, "server stops");
}

core::Task<void> TunnelServer::Serve(const ListenSpec& spec, core::StreamSocket socket) {
  Connection connection(reactor_, spec, socket);
  if (spec.kind == ListenKind::kServerPlain) {
    connection.Use(std::make_unique<TcpStream>(std::move(socket)));
    connection.transport = "plain TCP";
  } else {
    auto engine = TlsEngine::Server(*parts_.tls);
    if (!engine.ok()) {
      spdlog::error("TLS: {}", MessageOf(engine.status()));
      co_return;
    }
    auto stream = std::make_unique<TlsStream>(reactor_, std::move(socket), *std::move(engine));
    core::TaskContext& context = co_await core::CurrentTask();
    const core::DeadlineGuard deadline(context, kNegotiationLimit);
    const absl::Status shaken = co_await stream->Handshake();
    CountEch(reactor_.counters(), stream->engine(), shaken.ok());
    if (!shaken.ok()) {
      reactor_.counters().handshakes_failed.Add();
      spdlog::debug("TLS with {}: {}", stream->peer(), MessageOf(shaken));
      stream->CloseAfterSend(kCloseLimit);  // the alert
      co_return;
    }
    connection.ech_accepted = stream->engine().ech_accepted();
    connection.transport =
        fmt::format("{}, {}", stream->engine().Describe(), connection.ech_accepted ? "ECH accepted" : "without ECH");
    spdlog::debug("tls: {}, {}, {}", EchWords(stream->engine()), stream->peer(), stream->engine().Describe());
    connection.Use(std::move(stream));
    if (connection.tls->engine().alpn() == "h2") {
      co_await ServeHttp2(std::move(connection));
      co_return;
    }
  }
  co_await ServeRequests(std::move(connection));
}

void TunnelServer::Attend() {
  for (const uint64_t number : std::exchange(down_, {})) channels_.erase(number);
  if (channels_.empty() && closing_) sessions_.Clear();
  if (channels_.empty() && emptied_ != nullptr) emptied_();
}

void TunnelServer::Send(Connection& connection, std::string_view text) {
  while (!text.empty()) {
    const size_t size = std::min(text.size(), core::BufferPool::kMaxBlockBytes);
    connection.stream->Send(reactor_.buffers().Copy(text.substr(0, size)));
    text.remove_prefix(size);
  }
}

core::Task<void> TunnelServer::ServeRequests(Connection connection) {
  ByteReader reader(*connection.stream);
  HttpReader http(reader);
  const Config& config = parts_.config;
  core::TaskContext& context = co_await core::CurrentTask();
  core::Duration limit = kNegotiationLimit;
  for (;;) {
    proto::RequestHead head;
    std::string answer;
    {
      const core::DeadlineGuard deadline(context, limit);
      const bool read = co_await http.ReadRequest(head);
      if (!read) {
        if (http.error().status == 0) break;
        answer = PlainAnswer(http.error().status, http.error().reason);
      } else if (parts_.publisher != nullptr && IsDohPath(head.path)) {
        const bool another = co_await ServeDns(connection, http, head);
        if (!another) break;
        limit = kIdleRequestLimit;
        continue;
      }
    }
    // The order of the original: path, source, token, upgrade.
    if (answer.empty()) {
      const proto::IpAddress source = proto::Unmapped(proto::IpAddress::V6(connection.peer.mapped_bytes()));
      const auto upgrade = proto::CheckWebSocketUpgrade(head);
      const std::string_view given = head.fields.Find("Sec-WebSocket-Protocol").value_or(std::string_view());
      const auto offer = OfferOf(head, config.protocol);
      const auto [status, reason] = Refuse(
          connection, head.path, source, head.fields.Count("Sec-WebSocket-Protocol") > 1 ? std::string_view() : given);
      if (status != 400) {
        answer = PlainAnswer(status, reason);
      } else if (!upgrade.ok() || !offer.ok() || (config.protocol == Protocol::kNative && !offer->has_value())) {
        answer = PlainAnswer(400, "Bad Request");
      } else if (!TakeLease(connection, source)) {
        reactor_.counters().channels_refused.Add();
        answer = PlainAnswer(503, "Service Unavailable");
      } else {
        const unsigned core = offer->has_value() ? sessions_.CoreOf((*offer)->session) : reactor_.index();
        const std::string key(upgrade->key);  // which lies in what TakeRest() lets go of
        const std::string rest = http.TakeRest();
        if (core != reactor_.index()) {
          reader.Detach();
          Move(std::move(connection), core, key, **offer, rest);
          co_return;
        }
        reader.Detach();
        if (Accept(connection, key, *offer, rest)) co_return;
        answer = PlainAnswer(503, "Service Unavailable");  // too many sessions
      }
    }
    reactor_.counters().upgrades_refused.Add();
    spdlog::debug("{}: answered {}", connection.stream->peer(), std::string_view(answer).substr(9, 3));
    Send(connection, answer);
    break;
  }
  reader.Detach();
  connection.stream->CloseAfterSend(kCloseLimit);
}

std::pair<int, std::string_view> TunnelServer::Refuse(const Connection& connection, std::string_view path,
                                                      const proto::IpAddress& source, std::string_view given) const {
  const Config& config = parts_.config;
  if (!PathMatches(connection.spec->path, path) || (config.require_ech && !connection.ech_accepted)) {
    return {404, "Not Found"};
  }
  if (!connection.peer.is_unix() &&  // the mode of its file says who may connect
      std::none_of(config.admitted.begin(), config.admitted.end(),
                   [&](const proto::Cidr& range) { return range.Contains(source); })) {
    return {403, "Forbidden"};
  }
  if (!token_.empty() && !SecretEquals(token_, given)) return {401, "Unauthorized"};
  return {400, "Bad Request"};
}

bool TunnelServer::TakeLease(Connection& connection, const proto::IpAddress& source) {
  // Behind a proxy all clients have its address, and it is the proxy that counts them.
  if (connection.spec->kind == ListenKind::kServerPlain || connection.peer.is_unix()) return true;
  std::optional<SourceLimit::Lease> lease = parts_.sources.Take(source);
  if (!lease.has_value()) return false;
  connection.lease = *std::move(lease);
  return true;
}

core::Task<bool> TunnelServer::ServeDns(Connection& connection, HttpReader& http, const proto::RequestHead& head) {
  IncomingDohQuery query = ParseDohRequest(head);
  const bool head_only = head.method == "HEAD";
  bool close = !head.persistent;
  if (query.status == 200 && query.query_is_body) {
    // Chunked queries would be legal and nobody sends them: a length is asked for instead.
    if (head.framing.kind != proto::BodyFraming::Kind::kLength) {
      query.status = 411;
    } else if (head.framing.length > kMaxDohQueryBytes) {
      query.status = 413;
    } else {
      auto body = co_await http.ReadBody(static_cast<size_t>(head.framing.length));
      if (!body.ok()) co_return false;
      query.query.assign(body->begin(), body->end());
    }
  }
  // A body that was not read would be taken for the next request.
  close |= query.status != 200 || (!query.query_is_body && head.framing.kind != proto::BodyFraming::Kind::kNone);
  Send(connection, BuildDohResponse(AnswerDns(connection, query), head_only, close));
  co_return !close;
}

DohReply TunnelServer::AnswerDns(const Connection& connection, const IncomingDohQuery& query) {
  if (query.status != 200) {
    reactor_.counters().dns_queries_refused.Add();
    return {.status = query.status};
  }
  // Behind a proxy all clients have its address.
  std::optional<proto::IpAddress> source;
  if (connection.spec->kind != ListenKind::kServerPlain && !connection.peer.is_unix()) {
    source = proto::IpAddress::V6(connection.peer.mapped_bytes());
  }
  if (const auto wait_seconds = dns_limit_.Take(source, reactor_.backend().Now()); wait_seconds.has_value()) {
    reactor_.counters().dns_queries_refused.Add();
    return {.status = 429, .retry_after_seconds = *wait_seconds};
  }
  const std::string_view list(reinterpret_cast<const char*>(parts_.ech_config_list.data()),
                              parts_.ech_config_list.size());
  reactor_.counters().dns_queries_answered.Add();
  return {.body = parts_.publisher->Answer(query.query, connection.local, list)};
}

core::Task<void> TunnelServer::ServeHttp2(Connection connection) {
  auto respond = [this, &connection](const Http2Request& request) -> DohReply {
    if (IsDohPath(request.path)) {
      std::optional<uint64_t> body_bytes;
      if (request.too_long) body_bytes = kMaxDohQueryBytes + 1;
      if (!request.body.empty()) body_bytes = request.body.size();
      IncomingDohQuery query = ParseDohRequest(request.method, request.path, request.content_type, body_bytes);
      if (query.query_is_body) query.query.assign(request.body.begin(), request.body.end());
      return AnswerDns(connection, query);
    }
    // As for one who asks over HTTP/1.1 and does not upgrade.
    const proto::IpAddress source = proto::Unmapped(proto::IpAddress::V6(connection.peer.mapped_bytes()));
    const auto [status, reason] = Refuse(connection, request.path, source, request.protocol);
    const std::string text = fmt::format("{} {}\n", status, reason);
    reactor_.counters().upgrades_refused.Add();
    return {.status = status, .body = {text.begin(), text.end()}};
  };
  DohHttp2Server http2(reactor_, *connection.stream, respond);
  const bool open = co_await http2.Serve();
  if (open) connection.stream->CloseAfterSend(kCloseLimit);
}

bool TunnelServer::Accept(Connection& connection, std::string_view key, const std::optional<proto::MuxOffer>& offer,
                          std::string_view rest) {
  MuxServerSession* const session = offer.has_value() ? sessions_.Get(offer->session) : nullptr;
  if (offer.has_value() && session == nullptr) return false;
  if (rest.size() > kBehindUpgradeLimit) {
    reactor_.counters().upgrades_refused.Add();
    connection.stream->CloseAfterSend(kCloseLimit);
    return true;
  }
  auto builder = proto::HttpHeadBuilder::Response(101, "Switching Protocols");
  builder.Add("Upgrade", "websocket")
      .Add("Connection", "Upgrade")
      .Add("Sec-WebSocket-Accept", proto::WebSocketAcceptFor(key));
  if (!token_.empty()) builder.Add("Sec-WebSocket-Protocol", token_.Reveal());
  if (session != nullptr) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(kMuxResumeLimit).count();
    builder.Add(proto::kMuxHeaderName, proto::FormatMuxAnswer({.window = kMuxFirstWindowBytes,
                                                               .resume_seconds = static_cast<uint64_t>(seconds),
                                                               .epoch = session->epoch()}));
  }
  const auto accepted = builder.Finish();
  TUNNEL_CHECK(accepted.ok());
  Send(connection, *accepted);
  core::Slice received = rest.empty() ? core::Slice() : reactor_.buffers().Copy(rest);
  if (connection.tls == nullptr || connection.tls->engine().confirmed()) {
    StartChannel(std::move(connection), session, offer.has_value() ? offer->window : 0, std::move(received));
  } else {
    scope_.Spawn(
        StartConfirmed(std::move(connection), offer, session == nullptr ? 0 : session->epoch(), std::move(received)));
  }
  return true;
}

core::Task<void> TunnelServer::StartConfirmed(Connection connection, std::optional<proto::MuxOffer> offer,
                                              uint64_t epoch, core::Slice rest) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, kNegotiationLimit);
  ByteReader reader(*connection.stream);
  absl::Status confirmed = co_await connection.tls->Confirmed();
  std::string received(rest.text());
  for (const core::Slice& slice : reader.TakeReceived()) received += slice.text();
  reader.Detach();
  MuxServerSession* const session = confirmed.ok() && offer.has_value() ? sessions_.Get(offer->session) : nullptr;
  // Meanwhile the session may have ended and begun anew, which is another one than was said.
  if (confirmed.ok() && offer.has_value() && (session == nullptr || session->epoch() != epoch)) {
    confirmed = Unavailable("its session is over");
  }
  if (received.size() > kBehindUpgradeLimit) confirmed = ProtocolError("{} bytes before the answer", received.size());
  if (!confirmed.ok() || closing_) {
    reactor_.counters().handshakes_failed.Add();
    spdlog::debug("{}: not confirmed: {}", connection.stream->peer(), MessageOf(confirmed));
    connection.stream->CloseAfterSend(kCloseLimit);
    co_return;
  }
  StartChannel(std::move(connection), session, offer.has_value() ? offer->window : 0,
               received.empty() ? core::Slice() : reactor_.buffers().Copy(received));
}

void TunnelServer::Move(Connection connection, unsigned core, std::string key, const proto::MuxOffer& offer,
                        std::string rest) {
  MovedConnection moved{.spec = connection.spec,
                        .peer = connection.peer,
                        .local = connection.local,
                        .transport = connection.transport,
                        .ech_accepted = connection.ech_accepted,
                        .lease = std::move(connection.lease),
                        .rest = std::move(rest),
                        .key = std::move(key),
                        .offer = offer};
  auto forward = [this, core, moved = std::move(moved)](int descriptor, std::unique_ptr<TlsEngine> engine,
                                                        std::string received) mutable {
    moved.descriptor = descriptor;
    moved.engine = std::move(engine);
    moved.received = std::move(received);
    parts_.move(core, std::move(moved));
  };
  if (connection.tls != nullptr) {
    connection.tls->Release(std::move(forward));
  } else {
    connection.tcp->Release([forward = std::move(forward)](int descriptor, std::string received) mutable {
      forward(descriptor, nullptr, std::move(received));
    });
  }
}

void TunnelServer::OnMoved(MovedConnection moved) {
  core::StreamSocket socket(reactor_, moved.descriptor);
  Connection connection(reactor_, *moved.spec, socket);
  connection.lease = std::move(moved.lease);
  connection.transport = std::move(moved.transport);
  connection.ech_accepted = moved.ech_accepted;
  std::string rest = std::move(moved.rest);
  if (moved.engine != nullptr) {
    connection.Use(std::make_unique<TlsStream>(reactor_, std::move(socket), std::move(moved.engine), moved.received));
  } else {
    connection.Use(std::make_unique<TcpStream>(std::move(socket)));
    rest += moved.received;
  }
  if (Accept(connection, moved.key, moved.offer, rest)) return;
  reactor_.counters().upgrades_refused.Add();
  Send(connection, PlainAnswer(503, "Service Unavailable"));
  connection.stream->CloseAfterSend(kCloseLimit);
}

void TunnelServer::StartChannel(Connection connection, MuxServerSession* session, uint64_t peer_window,
                                core::Slice received) {
  const uint64_t number = next_channel_number.fetch_add(1, std::memory_order_relaxed);
  const std::string description = fmt::format("{}, {}", connection.stream->peer(), connection.transport);
  auto channel = std::make_unique<Channel>(reactor_, std::move(connection.stream), std::move(connection.lease),
                                           session == nullptr);
  Channel& started = *channel;
  auto down = [this, number, description](const absl::Status& reason) {
    reactor_.counters().channels_up.Add(-1);
    reactor_.counters().channels_lost.Add();
    spdlog::info("channel {} down: {}: {}", number, description, MessageOf(reason));
    down_.push_back(number);
    reactor_.ScheduleAttention(*this);
  };
  if (session != nullptr) {
    auto carrier = std::make_unique<MuxChannel>(
        reactor_, started.socket, *session, MuxChannel::Options{.epoch = session->epoch(), .peer_window = peer_window},
        std::move(down));
    started.mux = carrier.get();
    started.carrier = std::move(carrier);
  } else {
    started.carrier = std::make_unique<LegacyServer>(reactor_, started.socket, connector_, datagrams_, relays_, scope_,
                                                     std::move(down));
  }
  channels_.emplace(number, std::move(channel));
  reactor_.counters().channels_up.Add();
  reactor_.counters().channels_opened.Add();
  spdlog::info("channel {} up: {}, {}", number, description, started.carrier->protocol());
  if (started.mux != nullptr) started.mux->Start();
  started.socket.Start(started.carrier.get(), std::move(received));
}

}  // namespace tunnel::net
