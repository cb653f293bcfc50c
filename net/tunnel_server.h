// One core of a tunnel server: accepts TLS (or plain) connections, answers HTTP requests, upgrades to channels.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/listener.h"
#include "core/task.h"
#include "net/byte_reader.h"
#include "net/config.h"
#include "net/dns_publisher.h"
#include "net/dns_rate_limit.h"
#include "net/doh_request.h"
#include "net/http_reader.h"
#include "net/legacy_server.h"
#include "net/mux_channel.h"
#include "net/mux_server_sessions.h"
#include "net/secret.h"
#include "net/source_limit.h"
#include "net/target_connector.h"
#include "net/tls_context.h"
#include "net/tls_engine.h"

namespace tunnel::net {

// A connection whose upgrade was asked for on one core and that belongs to the session of another.
struct MovedConnection {
  const ListenSpec* spec = nullptr;
  core::SocketAddress peer;
  core::SocketAddress local;
  std::string transport;  // for the log
  bool ech_accepted = false;
  SourceLimit::Lease lease;
  int descriptor = -1;
  std::unique_ptr<TlsEngine> engine;  // null on plain TCP
  std::string received;               // by the socket, and not read yet
  std::string rest;                   // behind the request's head
  std::string key;                    // Sec-WebSocket-Key
  proto::MuxOffer offer;
};

// What every core's server is given; constant after start, but for the ECH list behind `keys` on a reload.
struct ServerParts {
  const Config& config;
  SourceLimit& sources;
  MuxSessionDirectory& directory;
  // Hands a connection to the server of another core.
  std::function<void(unsigned core, MovedConnection connection)> move;
  const TlsServerContext* tls = nullptr;    // null when every listener is ws://
  const DnsPublisher* publisher = nullptr;  // null without -serve-dns
  std::vector<uint8_t> ech_config_list;     // what the publisher publishes
};

class TunnelServer final : core::Attention {
 public:
  // `scope` runs the connections and must have been joined before this is destroyed.
  TunnelServer(core::Reactor& reactor, ServerParts parts, TargetConnector& connector, DatagramOpener& datagrams,
               RelaySet& relays, core::Scope& scope);
  ~TunnelServer();

  // A connection of listener `spec`, which must outlive this.
  void OnAccepted(const ListenSpec& spec, core::StreamSocket socket);

  // A connection that another core has moved here.
  void OnMoved(MovedConnection moved);

  // Uses another certificate and ECH list for new connections. The old context must live on.
  void SetTls(const TlsServerContext* tls, std::vector<uint8_t> ech_config_list);
  // Publishes another ECH list.
  void SetEchConfigList(std::vector<uint8_t> list) { parts_.ech_config_list = std::move(list); }

  [[nodiscard]] size_t channels() const { return channels_.size(); }
  // As TunnelService says.
  [[nodiscard]] bool HasLingeringStreams() const { return sessions_.HasLingering(); }
  // Says to every client that nothing is to be opened any more.
  void GoAway();
  // Ends the streams that are left, and starts the closing handshake on every channel.
  void CloseChannels();
  // Called whenever the last channel, or the last lingering stream of a session, is gone.
  void SetEmptied(absl::AnyInvocable<void()> emptied) { emptied_ = std::move(emptied); }

 private:
  struct Channel;
  struct Connection;

  [[nodiscard]] core::Task<void> Serve(const ListenSpec& spec, core::StreamSocket socket);
  // Answers requests on a connection until it becomes a channel or is closed.
  [[nodiscard]] core::Task<void> ServeRequests(Connection connection);
  // Answers one DoH request; true when the connection may carry another.
  [[nodiscard]] core::Task<bool> ServeDns(Connection& connection, HttpReader& http, const proto::RequestHead& head);
  // Answers HTTP/2 until the connection is over: DNS, and to all else what HTTP/1.1 says to it.
  [[nodiscard]] core::Task<void> ServeHttp2(Connection connection);
  // The answer to a question that came by `connection`, or that there were too many.
  [[nodiscard]] DohReply AnswerDns(const Connection& connection, const IncomingDohQuery& query);
  // What a request is refused with, in the order of the original: path, source, token (`given`), upgrade. 400: the
  // upgrade alone is left to be looked at.
  [[nodiscard]] std::pair<int, std::string_view> Refuse(const Connection& connection, std::string_view path,
                                                        const proto::IpAddress& source, std::string_view given) const;
  // Counts the channel that a connection is to become; false when its source has as many as it may.
  [[nodiscard]] bool TakeLease(Connection& connection, const proto::IpAddress& source);
  // Says that the upgrade is done and makes the connection a channel: of the session of `offer`, or a legacy one. False
  // when there is no room for the session; then nothing was said.
  [[nodiscard]] bool Accept(Connection& connection, std::string_view key, const std::optional<proto::MuxOffer>& offer,
                            std::string_view rest);
  // Goes on with an upgrade that came as early data once its sender proves to be there: one who only played a recording
  // of it again gets an answer that nobody can read, and nothing else.
  [[nodiscard]] core::Task<void> StartConfirmed(Connection connection, std::optional<proto::MuxOffer> offer,
                                                uint64_t epoch, core::Slice rest);
  // Gives the connection to `core`.
  void Move(Connection connection, unsigned core, std::string key, const proto::MuxOffer& offer, std::string rest);
  void StartChannel(Connection connection, MuxServerSession* session, uint64_t peer_window, core::Slice received);
  // Destroys the channels that went down, outside their own callbacks.
  void Attend() override;
  void Send(Connection& connection, std::string_view text);

  core::Reactor& reactor_;
  ServerParts parts_;
  const Secret token_;
  TargetConnector& connector_;
  DatagramOpener& datagrams_;
  RelaySet& relays_;
  core::Scope& scope_;
  MuxBudget budget_;
  MuxServerSessions sessions_;
  DnsRateLimit dns_limit_;
  std::map<uint64_t, std::unique_ptr<Channel>> channels_;  // by number, and so closed in that order
  std::vector<uint64_t> down_;
  bool closing_ = false;  // CloseChannels() was called
  absl::AnyInvocable<void()> emptied_;
};

}  // namespace tunnel::net
