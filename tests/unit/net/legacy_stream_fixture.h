// One channel of the legacy protocol under test, whose peer is the test.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "legacy_ids.h"
#include "manual_backend.h"
#include "memory_stream.h"
#include "message_peer.h"
#include "net/legacy_carrier.h"
#include "net/limits.h"
#include "stream_recorder.h"

namespace tunnel::net {

// A carrier that only has streams.
class TestCarrier final : public LegacyCarrier {
 public:
  using LegacyCarrier::Find;
  using LegacyCarrier::LegacyCarrier;
  using LegacyCarrier::MakeStream;

  std::vector<std::string> unknown;
  std::vector<std::string> malformed;
  std::vector<proto::LegacyType> heads;
  std::string payload;
  int completed = 0;
  std::optional<absl::Status> channel_down;

 private:
  void OnHead(const proto::LegacyHead& head) override { heads.push_back(head.type); }
  void OnPayload(core::Slice piece) override { payload += piece.text(); }
  void OnMessageComplete() override { ++completed; }
  void OnMalformed(const proto::LegacyHead& head) override { malformed.emplace_back(head.id.view()); }
  void OnUnknownStream(const proto::LegacyHead& head) override { unknown.emplace_back(head.id.view()); }
  void OnChannelDown(const absl::Status& reason) override { channel_down = reason; }
};

class LegacyStreamTest : public ManualReactorTest, public testing::WithParamInterface<proto::Role> {
 protected:
  LegacyStreamTest() {
    const proto::Role role = GetParam();
    auto [near, far] = MemoryStream::Pair(reactor());
    socket_ = std::make_unique<WebSocket>(reactor(), std::move(near), WebSocket::Options{.role = role});
    carrier_ = std::make_unique<TestCarrier>(reactor(), *socket_, role, [this](const absl::Status& why) {
      down_ = why;
      if (on_down_) on_down_();
    });
    socket_->Start(carrier_.get(), {});
    peer_ = std::make_unique<MessagePeer>(reactor(), std::move(far), proto::PeerOf(role));
  }
  ~LegacyStreamTest() override {
    carrier_.reset();  // before its socket
    socket_.reset();
    held_.clear();
    Settle();
    EXPECT_EQ(reactor().counters().streams_open.Get(), 0);
  }

  // A stream with a recorder as its handler; both live as long as the test, or until Drop().
  struct Held {
    std::unique_ptr<LegacyStream> stream;
    StreamRecorder seen;
  };
  Held& Open(int number) {
    Held& held = held_[number];
    held.stream = carrier_->MakeStream(Id(number));
    EXPECT_NE(held.stream, nullptr);
    held.stream->SetHandler(&held.seen);
    return held;
  }
  void Drop(int number) { held_.erase(number); }

  void PeerSays(const std::string& message) {
    peer_->Say(message);
    Settle();
  }
  void PeerSendsData(int number, const std::string& payload) {
    peer_->SayBinary("DATA:" + IdText(number) + "|" + payload);
  }
  // What the peer has heard since the last call.
  std::vector<std::string> Heard() {
    Settle();
    return peer_->Take();
  }
  std::string Close(int number) { return "t CLOSE:" + IdText(number); }
  std::string Data(int number, const std::string& payload) { return "b DATA:" + IdText(number) + "|" + payload; }

  std::unique_ptr<WebSocket> socket_;
  std::unique_ptr<TestCarrier> carrier_;
  std::unique_ptr<MessagePeer> peer_;
  std::optional<absl::Status> down_;
  std::function<void()> on_down_;
  std::map<int, Held> held_;
};

inline std::string RoleName(const testing::TestParamInfo<proto::Role>& tested) {
  return tested.param == proto::Role::kClient ? "Client" : "Server";
}

}  // namespace tunnel::net
