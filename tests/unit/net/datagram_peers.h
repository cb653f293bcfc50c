// What the tests of datagrams share: targets that answer, a handler that remembers, and a fixture.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/datagram_socket.h"
#include "fake_resolver.h"
#include "net/datagram_opener.h"
#include "net/target_policy.h"
#include "run_task.h"

namespace tunnel::net {

// Answers every datagram with "echo:" before it, on loopback.
class EchoTarget final : core::DatagramSocket::Handler {
 public:
  explicit EchoTarget(core::Reactor& reactor) : reactor_(reactor) {
    auto opened = core::DatagramSocket::Open(reactor, *core::SocketAddress::Parse("127.0.0.1", 0));
    EXPECT_TRUE(opened.ok());
    socket_ = *std::move(opened);
    port = socket_.local_address().port();
    socket_.Start(*this);
  }
  [[nodiscard]] proto::Target target() const { return {.host = "127.0.0.1", .port = port}; }
  void SendTo(const core::SocketAddress& to, std::string_view text) {
    socket_.SendTo(to, reactor_.buffers().Copy(text));
  }

  uint16_t port = 0;
  std::vector<std::string> received;
  std::vector<core::SocketAddress> sources;

 private:
  void OnDatagram(const core::SocketAddress& from, core::Slice data) override {
    received.emplace_back(data.text());
    sources.push_back(from);
    socket_.SendTo(from, reactor_.buffers().Copy("echo:" + std::string(data.text())));
  }
  void OnSocketError(core::IoError error) override { ADD_FAILURE() << core::ToString(error); }

  core::Reactor& reactor_;
  core::DatagramSocket socket_;
};

class DatagramRecorder final : public DatagramAssociation::Handler {
 public:
  void OnDatagram(const proto::Target& from, core::Slice payload) override {
    received.push_back(proto::ToString(from) + " " + std::string(payload.text()));
    if (on_datagram) on_datagram();
  }
  void OnTarget(const proto::Target& target, const absl::Status& status) override {
    targets.emplace_back(target.host, status);
    if (on_target) on_target();
  }
  void OnDead(const absl::Status& reason) override { dead = reason; }

  std::vector<std::string> received;
  std::vector<std::pair<std::string, absl::Status>> targets;
  std::optional<absl::Status> dead;
  std::function<void()> on_datagram;
  std::function<void()> on_target;
};

inline std::vector<TargetRule> AllowAll() {
  TargetRule v4{.kind = TargetRule::Kind::kNetwork, .network = *proto::ParseCidr("0.0.0.0/0")};
  return {v4};
}

// One association, opened by what derives from it, on a reactor of its own.
class DatagramTest : public testing::Test {
 protected:
  // What the association stands on has ended when the members that derive from here go.
  ~DatagramTest() override { EXPECT_TRUE(scope_.empty()); }

  void End() {
    association_.reset();
    scope_.Cancel();
    EXPECT_TRUE(Until([&] { return scope_.empty(); }));
  }
  // Opens `association_` on a way out.
  void OpenOn(DatagramOpener& way, SenderFilter filter) {
    auto opened = way.Open(recorder_, filter);
    ASSERT_TRUE(opened.ok());
    association_ = *std::move(opened);
  }
  void Send(const proto::Target& to, std::string_view text) { association_->Send(to, reactor_->buffers().Copy(text)); }
  bool Until(const std::function<bool()>& done) { return TurnUntil(*reactor_, done); }
  [[nodiscard]] const core::Counters& counters() const { return reactor_->counters(); }

  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  core::Scope scope_{*reactor_};
  FakeResolver resolver_;
  TargetPolicy policy_{AllowAll(), {}};
  DatagramRecorder recorder_;
  std::unique_ptr<DatagramAssociation> association_;
};

}  // namespace tunnel::net
