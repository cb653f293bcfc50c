// A client's and a server's mux/2 session on one reactor, joined by channels in memory that the test makes and cuts,
// with targets on loopback.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/listener.h"
#include "fake_resolver.h"
#include "manual_backend.h"
#include "memory_stream.h"
#include "net/direct_datagrams.h"
#include "net/mux_channel.h"
#include "net/mux_client_session.h"
#include "net/mux_server_session.h"
#include "net/tcp_stream.h"
#include "run_task.h"
#include "stream_recorder.h"

namespace tunnel::net {

class MuxPairTest : public ManualReactorTest {
 protected:
  using Opened = std::optional<absl::StatusOr<std::unique_ptr<ByteStream>>>;

  // One channel, both ends.
  struct Link {
    MemoryStream* near = nullptr;  // the client's end of what is below; of client_socket
    MemoryStream* far = nullptr;
    std::unique_ptr<WebSocket> client_socket;
    std::unique_ptr<WebSocket> server_socket;
    std::unique_ptr<MuxChannel> client;
    std::unique_ptr<MuxChannel> server;
    std::optional<absl::Status> client_down;
    std::optional<absl::Status> server_down;

    ~Link() {
      client.reset();
      server.reset();
    }
  };
  // What was accepted for a target, and what it was sent.
  struct Target {
    std::unique_ptr<TcpStream> stream;
    StreamRecorder seen;
  };

  MuxPairTest() {
    auto listener = core::Listener::Open(reactor(), *core::SocketAddress::Parse("127.0.0.1", 0), false,
                                         [this](core::StreamSocket socket, const core::SocketAddress&) {
                                           targets_.push_back(std::make_unique<Target>());
                                           Target& target = *targets_.back();
                                           target.stream = std::make_unique<TcpStream>(std::move(socket));
                                           target.stream->SetHandler(&target.seen);
                                           if (on_target_) on_target_(target);
                                         });
    EXPECT_TRUE(listener.ok());
    listener_ = std::make_unique<core::Listener>(*std::move(listener));
    resolver_.names["target.test"] = {"127.0.0.1"};
    client_ = std::make_unique<MuxClientSession>(reactor(), client_budget_);
    NewServer(1);
  }
  ~MuxPairTest() override {
    links_.clear();
    opens_.Cancel();
    scope_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_.empty() && opens_.empty(); }));
    client_.reset();
    server_.reset();
    EXPECT_EQ(client_budget_.held(), 0U);
    EXPECT_EQ(client_budget_.windows(), 0U);
    EXPECT_EQ(server_budget_.windows(), 0U);
  }

  // Replaces the server's session, as another process would.
  void NewServer(uint64_t epoch) {
    server_ = std::make_unique<MuxServerSession>(MuxServerParts{.reactor = reactor(),
                                                                .budget = server_budget_,
                                                                .connector = connector_,
                                                                .datagrams = datagrams_,
                                                                .relays = relays_,
                                                                .scope = scope_,
                                                                .settled = nullptr,
                                                                .allow_reverse = &allow_reverse_},
                                                 epoch);
  }
  Link& AddLink(size_t piece = SIZE_MAX) {
    auto link = std::make_unique<Link>();
    Link& made = *link;
    auto [near, far] = MemoryStream::Pair(reactor(), piece);
    made.near = near.get();
    made.far = far.get();
    made.client_socket = std::make_unique<WebSocket>(
        reactor(), std::move(near), WebSocket::Options{.role = proto::Role::kClient, .keep_alive = false});
    made.server_socket = std::make_unique<WebSocket>(
        reactor(), std::move(far), WebSocket::Options{.role = proto::Role::kServer, .keep_alive = false});
    const MuxChannel::Options options{.epoch = server_->epoch(), .peer_window = kMuxFirstWindowBytes};
    made.client = std::make_unique<MuxChannel>(reactor(), *made.client_socket, *client_, options,
                                               [&made](const absl::Status& why) { made.client_down = why; });
    made.server = std::make_unique<MuxChannel>(reactor(), *made.server_socket, *server_, options,
                                               [&made](const absl::Status& why) { made.server_down = why; });
    made.server->Start();
    made.server_socket->Start(made.server.get(), {});
    made.client->Start();
    made.client_socket->Start(made.client.get(), {});
    links_.push_back(std::move(link));
    return made;
  }
  // The connection under `link` dies.
  void Cut(Link& link) {
    link.near->Cut();
    Settle();
    EXPECT_TRUE(link.client_down.has_value() && link.server_down.has_value());
    std::erase_if(links_, [&](const auto& held) { return held.get() == &link; });
  }

  [[nodiscard]] uint16_t port() const { return listener_->local_address().port(); }
  void Open(Opened& result, std::string_view first = {}, const std::string& host = "target.test", uint16_t to = 0) {
    MuxChannel* channel = client_->Choose();
    ASSERT_NE(channel, nullptr);
    opens_.Spawn(StoreResult(client_->Open(*channel, {.host = host, .port = to == 0 ? port() : to},
                                           first.empty() ? core::Slice() : Bytes(first)),
                             &result));
  }
  // A stream that is open, with `seen` as its handler.
  [[nodiscard]] std::unique_ptr<ByteStream> OpenStream(StreamRecorder& seen, std::string_view first = {}) {
    Opened result;
    Open(result, first);
    EXPECT_TRUE(RunUntil([&] { return result.has_value(); }));
    EXPECT_TRUE(result.has_value() && result->ok()) << result->status();
    (**result)->SetHandler(&seen);
    return **std::move(result);
  }

  MuxBudget client_budget_;
  MuxBudget server_budget_;
  FakeResolver resolver_;
  TargetPolicy policy_{{{.kind = TargetRule::Kind::kNetwork, .network = *proto::ParseCidr("127.0.0.0/8"), .name = {}}},
                       {}};
  TargetConnector connector_{reactor(), resolver_, policy_};
  std::vector<TargetRule> allow_reverse_;
  RelaySet relays_{reactor()};
  core::Scope scope_{reactor()};
  core::Scope opens_{reactor()};
  DirectDatagrams datagrams_{reactor(), resolver_, policy_, scope_};
  std::unique_ptr<core::Listener> listener_;
  std::function<void(Target&)> on_target_;
  std::vector<std::unique_ptr<Target>> targets_;
  std::unique_ptr<MuxClientSession> client_;
  std::unique_ptr<MuxServerSession> server_;
  std::vector<std::unique_ptr<Link>> links_;
};

}  // namespace tunnel::net
